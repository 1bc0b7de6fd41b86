//! The commands of a client, as a user runs them: what is uploaded, what a wallet owns, and exit codes.

use std::process::Stdio;

use alloy_primitives::B256;
use alloy_signer_local::PrivateKeySigner;
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::support::pictures;
use crate::support::process::{Deployment, Ran, Request};

/// A user with an empty home directory and two wallets, and a server that accepts play money.
struct User {
    deployment: Deployment,
}

impl User {
    fn new() -> Self {
        let user = Self {
            deployment: Deployment::alone(),
        };
        for (name, digit) in [("mine.key", "1"), ("other.key", "2")] {
            user.write(name, digit.repeat(64).as_bytes());
        }
        user
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.deployment.folder().join(name), bytes).unwrap();
    }

    /// Runs `pixtoll …`, with these bytes on its standard input.
    async fn pipe(&self, arguments: &str, input: &[u8]) -> Ran {
        let words: Vec<&str> = arguments.split_whitespace().collect();
        let mut command = self.deployment.bare(&words);
        command
            .env("HOME", self.deployment.folder())
            .env("PIXTOLL_SERVER", &self.deployment.base)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A command that reads nothing closes its end.
        drop(stdin.write_all(input).await);
        drop(stdin);
        Ran::of(child.wait_with_output().await.unwrap())
    }

    async fn run(&self, arguments: &str) -> Ran {
        self.pipe(arguments, b"").await
    }

    /// Runs a command that succeeds, and returns the only line that it prints.
    async fn line(&self, arguments: &str) -> String {
        let ran = self.run(arguments).await;
        assert_eq!(ran.code, Some(0), "{arguments}: {ran:?}");
        assert_eq!(ran.out.lines().count(), 1, "{arguments}: {ran:?}");
        ran.out.trim_end().to_owned()
    }

    /// Runs a command that fails with this exit code, and returns its message.
    async fn fails(&self, code: i32, arguments: &str) -> String {
        let ran = self.run(arguments).await;
        assert_eq!(
            (ran.code, &*ran.out),
            (Some(code), ""),
            "{arguments}: {ran:?}"
        );
        assert!(!ran.err.trim().is_empty(), "{arguments}");
        ran.err
    }

    async fn json(&self, arguments: &str) -> Value {
        let line = self.line(&format!("{arguments} --json")).await;
        serde_json::from_str(&line).unwrap()
    }

    async fn status(&self, link: &str) -> u16 {
        self.deployment.answer(&Request::get(link)).await.status
    }

    /// Uploads with an upload link, as `curl -T` does.
    async fn put(&self, link: &str, width: u32) -> u16 {
        let image = pictures::png(width, 8);
        let request = Request::post(link).with_image(&image);
        self.deployment.answer(&request).await.status
    }
}

#[tokio::test]
async fn a_pipe_and_an_address_are_uploaded() {
    let user = User::new();
    let _server = user.deployment.start().await;
    let picture = pictures::png(9, 8);
    let piped = user.pipe("upload -", &picture).await;
    assert_eq!(piped.code, Some(0), "{piped:?}");
    let first = piped.out.trim_end();
    let again = user.line(&format!("upload {first}")).await;
    assert_ne!(again, first);
    for link in [first, &again] {
        let served = user.deployment.answer(&Request::get(link)).await;
        assert_eq!((served.status, served.bytes), (200, picture.clone()));
    }
    let empty = user.fails(2, "upload -").await;
    assert!(empty.contains("Standard input is empty"), "{empty}");
    let large = user.pipe("upload -", &vec![0; 1024 * 1024 + 1]).await;
    assert_eq!(large.code, Some(2));
    let expected = "larger than 1048576 bytes, the limit of the tier free";
    assert!(large.err.contains(expected), "{large:?}");
    let no_image = user.pipe("upload -", b"no image").await;
    assert_eq!(no_image.code, Some(3), "{no_image:?}");
    let gone = format!("upload {}/i/neverexisted.png", user.deployment.base);
    let gone = user.fails(2, &gone).await;
    assert!(gone.contains("has status 404"), "{gone}");
    let closed = user.fails(7, "upload http://127.0.0.1:9/a.png").await;
    assert!(closed.contains("no connection"), "{closed}");
}

#[tokio::test]
async fn an_upload_from_here_is_shown_and_deleted_without_a_wallet() {
    let user = User::new();
    let _server = user.deployment.start().await;
    user.write("a.png", &pictures::png(8, 8));
    let link = user.line("upload a.png").await;
    let shown = user.run(&format!("info {link}")).await;
    assert_eq!(shown.code, Some(0), "{shown:?}");
    for fact in [&link, "tier      free", "image/png", "8×8", "until 20"] {
        assert!(shown.out.contains(fact), "{fact}: {shown:?}");
    }
    let json = user.json(&format!("info {link}")).await;
    assert_eq!(json["url"], link.as_str());
    let id = json["id"].as_str().unwrap();
    let deleted = user.line(&format!("delete {link}")).await;
    assert_eq!(deleted, format!("{id}  deleted"));
    assert_eq!(user.status(&link).await, 404);
    user.fails(2, &format!("info {id}")).await;
    // The token is forgotten, and there is no wallet.
    let again = user.fails(2, &format!("delete {id}")).await;
    assert!(again.contains("--wallet FILE"), "{again}");

    // Elsewhere the delete token is given.
    let json = user.json("upload a.png").await;
    let (id, token) = (
        json["id"].as_str().unwrap(),
        json["deleteToken"].as_str().unwrap(),
    );
    let kept = user
        .deployment
        .folder()
        .join(".local/share/pixtoll/uploads");
    std::fs::remove_dir_all(kept).unwrap();
    user.fails(2, &format!("delete {id} --token {}", "0".repeat(40)))
        .await;
    user.fails(2, &format!("delete {id} {id} --token {token}"))
        .await;
    let deleted = user.json(&format!("delete {id} --token {token}")).await;
    assert_eq!(deleted["deleted"], id);
}

#[tokio::test]
async fn a_wallet_lists_and_deletes_its_images() {
    let user = User::new();
    let _server = user.deployment.start().await;
    let mut links = Vec::new();
    for (width, name) in (8..).zip(["a.png", "b.png", "c.png"]) {
        user.write(name, &pictures::png(width, 8));
        let upload = format!("upload {name} --tier year --wallet mine.key");
        links.push(user.line(&upload).await);
    }
    let free = user.line("upload a.png").await;
    let all = user.run("list --wallet mine.key").await;
    assert_eq!((all.code, &*all.err), (Some(0), ""), "{all:?}");
    let first = |text: &str| -> Vec<String> {
        let words = text.lines().map(|line| line.split(' ').next());
        words.map(|word| word.unwrap().to_owned()).collect()
    };
    let newest: Vec<String> = links.iter().rev().cloned().collect();
    assert_eq!(first(&all.out), newest);
    assert!(all.out.contains("  year  image/png  10×8  "), "{all:?}");
    let page = user.run("list --wallet mine.key --limit 2").await;
    assert_eq!(first(&page.out), newest[..2]);
    let cursor = page.err.trim_end().rsplit(' ').next().unwrap();
    // The cursor signs in as well, so no wallet is named.
    let rest = user.line(&format!("list --after {cursor}")).await;
    assert_eq!(first(&rest), newest[2..]);
    let json = user.run("list --wallet mine.key --all --json").await;
    let urls = json.out.lines().map(|line| {
        let image: Value = serde_json::from_str(line).unwrap();
        image["url"].as_str().unwrap().to_owned()
    });
    assert_eq!(urls.collect::<Vec<_>>(), newest);
    let nothing = user.run("list --wallet other.key").await;
    assert_eq!((nothing.code, &*nothing.out), (Some(0), ""), "{nothing:?}");
    assert!(nothing.err.contains("no images"), "{nothing:?}");

    // As on another machine: no delete token is kept.
    let kept = user
        .deployment
        .folder()
        .join(".local/share/pixtoll/uploads");
    std::fs::remove_dir_all(kept).unwrap();
    let foreign = format!("delete {} --wallet other.key", links[0]);
    user.fails(2, &foreign).await;
    let mixed = format!("delete {} {free} --wallet mine.key", links[0]);
    user.fails(2, &mixed).await;
    for link in links.iter().chain([&free]) {
        assert_eq!(user.status(link).await, 200, "{link}");
    }
    let both = format!("delete {} {} --wallet mine.key", links[0], links[1]);
    let deleted = user.run(&both).await;
    assert_eq!(
        (deleted.code, deleted.out.lines().count()),
        (Some(0), 2),
        "{deleted:?}"
    );
    let one = format!("receipt get {} --wallet mine.key", links[2]);
    assert!(user.line(&one).await.starts_with("upload  "));
    user.fails(2, &one.replace("mine", "other")).await;
    let last = format!("delete {} --wallet mine.key", links[2]);
    user.line(&last).await;
    for link in &links {
        assert_eq!(user.status(link).await, 404, "{link}");
    }
    assert_eq!(user.status(&free).await, 200);
}

#[tokio::test]
async fn receipts_are_fetched_and_verified() {
    let user = User::new();
    let _server = user.deployment.start().await;
    user.write("a.png", &pictures::png(8, 8));
    let wallet = "--wallet mine.key";
    let link = user
        .line(&format!("upload a.png --tier year {wallet}"))
        .await;
    let shown = user.line(&format!("receipt get {link}")).await;
    assert!(
        shown.starts_with("upload  0.01 USDC on eip155:84532  "),
        "{shown}"
    );
    assert!(shown.contains("tier year"), "{shown}");
    let document = user.json(&format!("receipt get {link}")).await;
    user.write("receipt.json", document.to_string().as_bytes());
    let keys = Request::get("/.well-known/jwks.json");
    let keys = user.deployment.answer(&keys).await;
    user.write("keys.json", &keys.bytes);
    let verify = "receipt verify receipt.json --keys keys.json";
    let verified = user.run(verify).await;
    assert_eq!(verified.code, Some(0), "{verified:?}");
    assert!(verified.out.starts_with("GOOD"), "{verified:?}");
    let free = user.line("upload a.png").await;
    user.fails(2, &format!("receipt get {free}")).await;
}

#[tokio::test]
async fn an_upload_link_is_bought_shown_used_and_revoked() {
    let user = User::new();
    let _server = user.deployment.start().await;
    let create = "link create --images 2 --days 7 --tier year --wallet mine.key";
    let dear = user.fails(4, &format!("{create} --max-price 0.009")).await;
    assert!(dear.contains("--max-price 0.01."), "{dear}");
    let dry = user.run(&format!("{create} --dry-run")).await;
    assert_eq!((dry.code, &*dry.out), (Some(0), ""), "{dry:?}");
    assert!(dry.err.contains("would pay 0.02 USDC"), "{dry:?}");
    let link = user.line(create).await;
    assert_eq!(user.put(&link, 8).await, 200);
    let shown = user.line(&format!("link show {link}")).await;
    assert!(shown.contains("year  1 of 2 uploads used"), "{shown}");
    let json = user.json(&format!("link show {link}")).await;
    assert_eq!((&json["used"], &json["uploads"]), (&1.into(), &2.into()));
    // The same command buys another link, since the first one arrived.
    let other = user.line(&create.replace("create", "buy")).await;
    assert_ne!(other, link);
    let revoked = user.line(&format!("link revoke {link}")).await;
    assert_eq!(revoked, format!("{link}  revoked"));
    assert_eq!(user.put(&link, 9).await, 410);
    assert_eq!(user.put(&other, 9).await, 200);
    // The wallet finds both again, and revokes by the id.
    let list = user.run("link list --wallet mine.key").await;
    let lines: Vec<&str> = list.out.lines().collect();
    assert_eq!((list.code, lines.len()), (Some(0), 2), "{list:?}");
    assert!(
        lines[0].contains(&other) && lines[1].contains(&link),
        "{list:?}"
    );
    assert!(lines[1].contains("  revoked 20"), "{list:?}");
    let id = lines[0].split(' ').next().unwrap();
    let nobody = user.run("link list --wallet other.key").await;
    assert_eq!((nobody.code, &*nobody.out), (Some(0), ""), "{nobody:?}");
    user.fails(2, &format!("link revoke {id} --wallet other.key"))
        .await;
    user.line(&format!("link revoke {id} --wallet mine.key"))
        .await;
    assert_eq!(user.put(&other, 10).await, 410);
    let free = user.line("link create --images 1").await;
    assert_eq!(user.put(&free, 8).await, 200);
    let wrong = format!("{}/u/{}", user.deployment.base, "0".repeat(40));
    let unknown = user.fails(2, &format!("link show {wrong}")).await;
    assert!(!unknown.contains(&"0".repeat(40)), "{unknown}");
    user.fails(2, "link create --images 101 --tier year --wallet mine.key")
        .await;
    user.fails(2, "link create --images 1 --tier never --wallet mine.key")
        .await;
    user.deployment.check_ledger().await;
}

#[tokio::test]
async fn api_keys_are_made_listed_suspended_and_revoked() {
    let user = User::new();
    let _server = user.deployment.start().await;
    let made = user
        .run("key create --name laptop --uploads-per-day 2 --wallet mine.key")
        .await;
    assert_eq!(made.code, Some(0), "{made:?}");
    let key = made.out.trim_end().to_owned();
    assert!(
        key.starts_with("pixtoll_") && !made.err.contains(&key),
        "{made:?}"
    );
    let upload = async |width: u32| {
        let request = Request::post("/api/upload").with_image(&pictures::png(width, 8));
        let request = request.with("authorization", &format!("Bearer {key}"));
        user.deployment.answer(&request).await.status
    };
    assert_eq!(upload(8).await, 200);
    let listed = user.line("key list --wallet mine.key").await;
    for fact in ["  laptop  in use  ", "1 of 2 uploads today", "1 uploads, "] {
        assert!(listed.contains(fact), "{fact}: {listed}");
    }
    assert!(!listed.contains(&key), "{listed}");
    // What a key uploads is the wallet's.
    assert_eq!(
        user.run("list --wallet mine.key").await.out.lines().count(),
        1
    );
    let id = listed.split(' ').next().unwrap();
    user.fails(2, &format!("key suspend {id} --wallet other.key"))
        .await;
    let suspended = user
        .line(&format!("key suspend {id} --wallet mine.key"))
        .await;
    assert_eq!(suspended, format!("{id}  suspended"));
    assert_eq!(upload(9).await, 403);
    user.line(&format!("key resume {id} --wallet mine.key"))
        .await;
    assert_eq!(upload(9).await, 200);
    assert_eq!(upload(10).await, 429);
    let revoked = user
        .json(&format!("key revoke {id} --wallet mine.key"))
        .await;
    assert_eq!(revoked["revoked"], id);
    assert_eq!(upload(11).await, 401);
    let json = user.json("key list --wallet mine.key").await;
    assert!(
        json["revokedAt"].is_string() && json.get("key").is_none(),
        "{json}"
    );
    let none = user.run("key list --wallet other.key").await;
    assert!(
        none.out.is_empty() && none.err.contains("no API keys"),
        "{none:?}"
    );
}

#[tokio::test]
async fn a_private_image_is_shared_until_its_links_end() {
    let user = User::new();
    let _server = user.deployment.start().await;
    user.write("a.png", &pictures::png(8, 8));
    user.write("stranger.key", "3".repeat(64).as_bytes());
    let viewer = PrivateKeySigner::from_bytes(&B256::repeat_byte(0x22));
    let upload = format!(
        "upload a.png --tier year --private --viewer {} --wallet mine.key",
        viewer.unwrap().address()
    );
    let link = user.line(&upload).await;
    let (bare, _) = link.split_once("?exp=").unwrap();
    assert_eq!(
        (user.status(&link).await, user.status(bare).await),
        (200, 404)
    );
    let id = bare.rsplit('/').next().unwrap().trim_end_matches(".png");
    // By the signed link, and by the delete token that the upload left here.
    for named in [link.as_str(), id] {
        let shown = user.run(&format!("info {named}")).await;
        assert_eq!(shown.code, Some(0), "{shown:?}");
        assert!(shown.out.contains("holders of a signed link"), "{shown:?}");
    }
    let kept = user
        .deployment
        .folder()
        .join(".local/share/pixtoll/uploads");
    std::fs::remove_dir_all(kept).unwrap();
    user.fails(2, &format!("info {id}")).await;

    let mut links = vec![link.clone()];
    for wallet in ["mine", "other"] {
        let share = format!("share {bare} --for 1h --wallet {wallet}.key");
        links.push(user.line(&share).await);
    }
    let json = user.json(&format!("share {id} --wallet mine.key")).await;
    links.push(json["url"].as_str().unwrap().to_owned());
    assert!(json["expiresAt"].is_string(), "{json}");
    for link in &links {
        assert_eq!(user.status(link).await, 200, "{link}");
    }
    let listed = user.line("list --wallet mine.key").await;
    assert!(listed.ends_with("  private"), "{listed}");
    user.fails(2, &format!("share {id} --wallet stranger.key"))
        .await;
    user.fails(2, &format!("share {id} --revoke --wallet other.key"))
        .await;
    user.line(&format!("share {id} --revoke --wallet mine.key"))
        .await;
    for link in &links {
        assert_eq!(user.status(link).await, 404, "{link}");
    }

    let link = user.line(&format!("share {id} --wallet mine.key")).await;
    let unproven = user
        .fails(2, &format!("renew {id} --wallet mine.key"))
        .await;
    assert!(unproven.contains("has no image"), "{unproven}");
    let renewed = user.line(&format!("renew {link} --wallet mine.key")).await;
    assert!(renewed.starts_with(bare), "{renewed}");
    let public = user.line("upload a.png").await;
    user.fails(2, &format!("share {public}")).await;
    user.line(&format!("delete {link} --wallet mine.key")).await;
    assert_eq!(user.status(&link).await, 404);
    user.deployment.check_ledger().await;
}

#[tokio::test]
async fn a_server_that_is_away_is_no_wrong_option() {
    let user = User::new();
    for arguments in [
        "list --wallet mine.key",
        "info k3v9Qw2mZr7T",
        "delete k3v9Qw2mZr7T --token t",
        "receipt get k3v9Qw2mZr7T --token t",
        "share k3v9Qw2mZr7T --token t",
        "link list --wallet mine.key",
        "key list --wallet mine.key",
        "key revoke k1 --wallet mine.key",
        "claim --wallet mine.key",
    ] {
        let said = user.fails(7, arguments).await;
        assert!(said.contains(&user.deployment.base), "{arguments}: {said}");
    }
    let secret = format!("{}/u/secret", user.deployment.base);
    for command in ["show", "revoke"] {
        let said = user.fails(7, &format!("link {command} {secret}")).await;
        assert!(!said.contains("secret"), "{said}");
    }
    for arguments in [
        "info nonsense",
        "list --limit 0",
        "share k3v9Qw2mZr7T --for ever",
        "key revoke pixtoll_0123456789012345678901234567890123456789",
        "link create --images 0",
        "list --server http://img.example.com --wallet mine.key",
    ] {
        user.fails(2, arguments).await;
    }
}

#[tokio::test]
async fn completions_and_manual_pages_name_every_command() {
    let user = User::new();
    let commands = [
        "upload", "import", "renew", "list", "info", "delete", "share", "link", "key", "claim",
        "receipt",
    ];
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = user.run(&format!("completions {shell}")).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        for command in commands {
            assert!(ran.out.contains(command), "{shell}: {command}");
        }
    }
    let script = user.run("completions bash").await.out;
    user.write("complete.bash", script.as_bytes());
    // bash itself completes the name of a command.
    let ask = "source ./complete.bash; COMP_WORDS=(pixtoll lis); COMP_CWORD=1; _pixtoll pixtoll lis pixtoll; \
               echo ${COMPREPLY[@]}";
    let asked = tokio::process::Command::new("bash")
        .args(["-c", ask])
        .current_dir(user.deployment.folder())
        .output();
    assert_eq!(Ran::of(asked.await.unwrap()).out, "list\n");

    let page = user.run("man").await;
    assert!(page.out.contains(".TH pixtoll 1"), "{page:?}");
    let ran = user.run("man --dir pages/man1").await;
    assert_eq!((ran.code, &*ran.out), (Some(0), ""), "{ran:?}");
    for command in commands {
        let path = format!("pages/man1/pixtoll-{command}.1");
        assert!(user.deployment.folder().join(&path).exists(), "{path}");
        assert!(page.out.contains(command), "{command}");
    }
    let nested = user
        .deployment
        .folder()
        .join("pages/man1/pixtoll-link-create.1");
    let nested = std::fs::read_to_string(nested).unwrap();
    assert!(nested.contains("Exit codes") || nested.contains("exit codes"));
    user.write("file", b"");
    let ran = user.run("man --dir file/x").await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
}

#[tokio::test]
async fn a_link_of_another_host_is_refused_by_every_command() {
    let user = User::new();
    let _server = user.deployment.start().await;
    user.write("a.png", &pictures::png(9, 8));
    let link = user.line("upload a.png").await;
    let strange = link.replace(&user.deployment.base, "http://example.com");
    assert_ne!(strange, link);
    for command in ["info", "delete", "share", "receipt get", "renew"] {
        let said = user.fails(2, &format!("{command} {strange}")).await;
        assert!(
            said.contains("The link is of http://example.com"),
            "{command}: {said}"
        );
    }
    assert_eq!(user.status(&link).await, 200);
    user.line(&format!("delete {link}")).await;
}

#[tokio::test]
async fn images_at_a_host_of_their_own_are_named_by_their_links() {
    let User { deployment } = User::new();
    let user = User {
        deployment: deployment.set("images.base_url", "http://127.0.0.9:1/pictures"),
    };
    let _server = user.deployment.start().await;
    user.write("a.png", &pictures::png(9, 8));
    let link = user.line("upload a.png").await;
    assert!(link.starts_with("http://127.0.0.9:1/pictures/"), "{link}");
    let info = user.run(&format!("info {link}")).await;
    assert_eq!(info.code, Some(0), "{info:?}");
    user.line(&format!("delete {link}")).await;
}

#[tokio::test]
async fn a_failure_names_its_image_and_the_others_are_shown() {
    let user = User::new();
    let _server = user.deployment.start().await;
    user.write("a.png", &pictures::png(9, 8));
    let link = user.line("upload a.png").await;
    let shown = user.run(&format!("info k3v9Qw2mZr7T {link}")).await;
    assert_eq!(shown.code, Some(2), "{shown:?}");
    assert!(shown.err.contains("k3v9Qw2mZr7T: "), "{shown:?}");
    assert!(shown.out.contains(&link), "{shown:?}");
    let deleted = user
        .run(&format!("delete {link} k3v9Qw2mZr7T --wallet mine.key"))
        .await;
    assert_eq!(deleted.code, Some(2), "{deleted:?}");
    assert!(deleted.out.contains("deleted"), "{deleted:?}");
    assert!(
        deleted.err.contains("Not deleted: k3v9Qw2mZr7T."),
        "{deleted:?}"
    );
    assert!(!deleted.err.contains("X-Delete-Token"), "{deleted:?}");
}

#[tokio::test]
async fn a_reader_that_closes_the_pipe_is_no_failure() {
    let user = User::new();
    for command in ["man", "completions bash"] {
        let words: Vec<&str> = command.split(' ').collect();
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = user.deployment.bare(&words);
        command.stdout(writer).stderr(Stdio::piped());
        let ran = Ran::of(command.output().await.unwrap());
        assert_eq!((ran.code, &*ran.err), (Some(0), ""), "{words:?}");
    }
}

#[tokio::test]
async fn what_is_no_upload_link_is_said_before_anything_is_sent() {
    let user = User::new();
    let image = format!("{}/i/k3v9Qw2mZr7T.png", user.deployment.base);
    for (command, said) in [
        (
            format!("link show {}", "a".repeat(64)),
            "only the link itself",
        ),
        (format!("link show {image}"), "no upload link"),
        (format!("link revoke {image}"), "no upload link"),
        ("link revoke k3v9Qw2mZr7T".to_owned(), "hexadecimal digits"),
    ] {
        let refused = user.fails(2, &command).await;
        assert!(refused.contains(said), "{command}: {refused}");
    }
}
