//! Each default, each refusal and each warning. No test reads the environment of the process or the
//! working directory.

mod docs;
mod networks;
mod payments;
mod sources;
mod store;
mod tiers;
mod trust;

use super::*;
use crate::pricing::networks::{self as known_networks};
use crate::retention::clock_kind::ClockKind;
use crate::retention::schedule::Schedule;

const PAY_TO: &str = "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A";
const KEY: &str = "abababababababababababababababababababababababababababababababab";

/// A configuration that takes money. More keys of `payments` may follow.
const REAL: &str = "
    [http]
    base_url = 'https://example.com'
    [images]
    base_url = 'https://i.example.com/'
    [operator]
    contact = 'mailto:ada@example.com'
    [payments]
    facilitator = 'url'
    facilitator_url = 'https://facilitator.example.com/x402/'
    pay_to = '0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A'
";

fn examine_with(text: &str, sandbox: bool, env: &[(&str, &str)]) -> Examined {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let sources = Sources {
        file: None,
        sandbox,
        env: env.iter().map(owned).collect(),
    };
    examine_text(text, &sources, Report::default())
}

fn of(text: &str) -> Examined {
    examine_with(text, false, &[])
}

fn of_env(env: &[(&str, &str)]) -> Examined {
    examine_with("", false, env)
}

fn sandboxed(text: &str) -> Examined {
    examine_with(text, true, &[])
}

#[track_caller]
fn config(examined: Examined) -> Config {
    assert_eq!(examined.problems, []);
    examined.config.unwrap()
}

fn keys(problems: &[Problem]) -> Vec<&str> {
    problems
        .iter()
        .map(|problem| problem.key.as_str())
        .collect()
}

/// Asserts that there is exactly one problem, about `key` and saying `part`.
#[track_caller]
fn assert_refused(examined: &Examined, key: &str, part: &str) {
    assert_eq!(keys(&examined.problems), [key], "{:?}", examined.problems);
    assert_says(&examined.problems[0], part);
    assert!(examined.config.is_none());
}

/// The same for each line of a table: settings, key and part, with `|` between them. `;` ends a line
/// of TOML. No message repeats `HIDDEN`.
#[track_caller]
fn assert_all_refused(examine: impl Fn(&str) -> Examined, table: &str) {
    for line in table.lines().filter(|line| !line.trim().is_empty()) {
        let [text, key, part] = line.split('|').map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let examined = examine(&text.replace("; ", "\n"));
        println!("{line}");
        assert_refused(&examined, key, part);
        assert!(!format!("{:?}", examined.problems).contains("HIDDEN"));
    }
}

/// Asserts that nothing is refused, and that `key` has a warning saying `part`.
#[track_caller]
fn assert_warned(examined: &Examined, key: &str, part: &str) {
    assert_eq!(examined.problems, []);
    let warning = examined.warnings.iter().find(|warning| warning.key == key);
    let warning = warning.unwrap_or_else(|| panic!("{:?}", examined.warnings));
    assert_says(warning, part);
}

#[track_caller]
fn assert_says(problem: &Problem, part: &str) {
    let says = problem.message.contains(part) || problem.fix.contains(part);
    assert!(says, "{part}: {problem:?}");
    assert!(!problem.fix.is_empty(), "{problem:?}");
}

#[track_caller]
fn assert_not_warned(examined: &Examined, key: &str) {
    assert!(
        !keys(&examined.warnings).contains(&key),
        "{:?}",
        examined.warnings
    );
}

#[test]
fn nothing_set_gives_the_defaults_with_paid_tiers_off() {
    let examined = of("");
    assert_eq!(keys(&examined.warnings), ["payments.facilitator"]);
    assert_warned(
        &examined,
        "payments.facilitator",
        "paid tiers are off (year, permanent)",
    );
    let config = config(examined);
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:4020");
    assert_eq!(config.http.admin_listen.to_string(), "127.0.0.1:4021");
    assert_eq!(config.http.base_url, "http://127.0.0.1:4020");
    assert_eq!(
        config.database,
        DatabaseUrl::Sqlite("data/pixtoll.db".into())
    );
    assert_eq!(config.connections, Connections::default());
    assert_eq!(
        config.images.store,
        StorePlace::Directory("data/images".into())
    );
    assert_eq!(config.images.base_url, "http://127.0.0.1:4020/i");
    assert_eq!(
        (config.images.clean, config.images.min_free),
        (true, 1 << 30)
    );
    assert_eq!(config.images.cache_bytes, 256 << 20);
    assert_eq!(
        config.images.limits,
        crate::images::format::PixelLimits::default()
    );
    assert!(config.payments.is_none() && config.sandbox.is_none() && config.mode.is_none());
    assert_eq!(config.token_ttl, Duration::from_mins(10));
    assert_eq!(config.tiers, TierTable::default());
    assert_eq!(config.retention.schedule.to_string(), "* * * * *");
    assert_eq!(config.retention.records, Duration::from_hours(365 * 24));
    assert_eq!(config.retention.clocks, None);
    assert_eq!(config.limits, Limits::default());
    let SecretKeySource::FileUnderData(path) = config.secrets_key else {
        panic!("a file")
    };
    assert_eq!(path, PathBuf::from("data/secrets.key"));
}

#[test]
fn a_value_that_makes_no_sense_is_refused() {
    assert_all_refused(
        of,
        "
        http.listen = 'localhost:4020'                | http.listen             | not an IP address
        http.listen = 4020                            | http.listen             | not an IP address
        http.listen = true                            | http.listen             | write it like
        http.listen = ['a']                           | http.listen             | in quotes
        http.admin_listen = '127.0.0.1:4020'          | http.admin_listen       | the address of `http.listen`
        http.listen = '0.0.0.0:4021'                  | http.admin_listen       | the address of `http.listen`
        http.base_url = 'https://example.com/prefix'  | http.base_url           | has a path
        http.base_url = 'https://u:HIDDEN@example.com'| http.base_url           | password
        http.base_url = 'example.com'                 | http.base_url           | not an http
        http.trusted_proxies = '0.0.0.0/0'            | http.trusted_proxies    | trusts everybody
        http.trusted_proxies = '10.0.0.0/8,lan'       | http.trusted_proxies    | `lan`
        http = 'x'                                    | http                    | unknown key
        database.url = 'postgress://u:HIDDEN@db'      | database.url            | neither
        database.max_connections = 2                  | database.max_connections | from 3 to 1000
        database.max_connections = 1001               | database.max_connections | from 3 to 1000
        database.statement_timeout = '0s'             | database.statement_timeout | from 1s to 1h
        database.statement_timeout = '2h'             | database.statement_timeout | out of bounds
        database.acquire_timeout = '900ms'            | database.acquire_timeout | out of bounds
        database.max_lifetime = '2days'               | database.max_lifetime   | out of bounds
        images.base_url = 'https://a/?b'              | images.base_url         | query
        images.clean = 'no'                           | images.clean            | not true or false
        images.clean = 0                              | images.clean            | not true or false
        images.clean = 'True'                         | images.clean            | not true or false
        images.clean = [true]                         | images.clean            | is not
        images.cache_bytes = '3 MiB'                  | images.cache_bytes      | hardly an image
        images.min_free = '10%'                       | images.min_free         | not a size
        images.max_pixels = 0                         | images.max_pixels       | from 1 to 500000000
        images.max_total_pixels = 10000000001         | images.max_total_pixels | from 1 to 10000000000
        payments.pay_to = '0x19e7E376E7C213B7E7e7e46cc70A5dD086DAff2A' | payments.pay_to | wrong checksum
        payments.timeout = '99ms'                     | payments.timeout        | from 100ms to 90s
        payments.timeout = '91s'                      | payments.timeout        | out of bounds
        payments.timeout = 15                         | payments.timeout        | not a duration
        payments.token_ttl = '999ms'                  | payments.token_ttl      | out of bounds
        payments.token_ttl = '604801s'                | payments.token_ttl      | out of bounds
        retention.schedule = 'hourly'                 | retention.schedule      | no cron expression
        retention.records = '1h'                      | retention.records       | out of bounds
        retention.clocks = ['chain', 'none']          | retention.clocks        | is no clock
        retention.clocks = ['sundial']                | retention.clocks        | or none alone
        retention.clocks = 'Chain'                    | retention.clocks        | is no clock
        limits.free_per_day = -1                      | limits.free_per_day     | 0 means no limit
        limits.free_per_address_per_hour = -1         | limits.free_per_address_per_hour | 0 means no limit
        limits.free_per_network_per_hour = -1         | limits.free_per_network_per_hour | 0 means no limit
        limits.payments_per_address_per_minute = -1   | limits.payments_per_address_per_minute | 0 means no limit
        limits.free_before_noon_percent = 0           | limits.free_before_noon_percent | from 1 to 100
        limits.free_before_noon_percent = 101         | limits.free_before_noon_percent | from 1 to 100
        limits.free_before_noon_percent = -1          | limits.free_before_noon_percent | from 1 to 100
        limits.free_refusals_per_upload = 0           | limits.free_refusals_per_upload | from 1 to 1000
        limits.free_refusals_per_upload = 1001        | limits.free_refusals_per_upload | from 1 to 1000
        limits.body_timeout = '2h'                    | limits.body_timeout     | to 1h
        limits.body_bytes = '5 MiB'                   | limits.body_bytes       | one upload
        limits.body_bytes = '20 MiB'                  | limits.body_bytes       | cleaned copy
        secrets.key = 'HIDDEN'                        | secrets.key             | is not 32 bytes
        operator.security_contact = 'me@example.com'  | operator.security_contact | mailto:
        tiers = 'year'                                | tiers                   | [[tiers]]
        tiers = [1]                                   | tiers                   | [[tiers]]
        ",
    );
    let ports = "http.listen = '127.0.0.1:0'\nhttp.admin_listen = '127.0.0.1:0'";
    assert_eq!(of(ports).problems, []);
}

#[test]
fn values_at_the_bounds_are_taken() {
    let set = config(of("
        retention = { schedule = 'off', records = '1d', clocks = 'chain, facilitator, database, store' }
        limits = { free_per_day = 0, free_before_noon_percent = 100, free_refusals_per_upload = 1, \
                   body_timeout = '90s', body_bytes = '21 MiB' }
        payments = { timeout = '90s', token_ttl = '7d' }
        images = { min_free = 0, cache_bytes = '4 MiB', clean = 'false' }
        http.trusted_proxies = ['10.1.2.3/8', '192.0.2.7', 'fd00::/8']
    "));
    assert_eq!(set.retention.schedule, Schedule::Off);
    assert_eq!(set.retention.records, Duration::from_hours(24));
    assert_eq!(set.retention.clocks, Some(ClockKind::ALL.to_vec()));
    assert_eq!(set.limits.free_per_day, 0);
    assert_eq!(set.limits.free_before_noon_percent, 100);
    assert_eq!(set.limits.free_refusals_per_upload, 1);
    assert_eq!(set.limits.body_timeout, Duration::from_secs(90));
    assert_eq!(set.limits.body_bytes, 21 << 20);
    assert_eq!(set.token_ttl, Duration::from_hours(7 * 24));
    let images = &set.images;
    assert_eq!(
        (images.min_free, images.cache_bytes, images.clean),
        (0, 4 << 20, false)
    );
    let ranges = set.http.trusted_proxies.iter().map(ToString::to_string);
    assert_eq!(
        ranges.collect::<Vec<_>>(),
        ["10.0.0.0/8", "192.0.2.7/32", "fd00::/8"]
    );
    assert!(show(&set).contains("\nclean = false\n"));
    for none in ["[]", "['none']", "'none'"] {
        let clocks = config(of(&format!("retention.clocks = {none}")))
            .retention
            .clocks;
        assert_eq!(clocks, Some(Vec::new()));
    }
    assert_eq!(config(of("images.cache_bytes = '0'")).images.cache_bytes, 0);
}

#[test]
fn a_listener_that_others_reach_or_that_links_do_not_name_is_warned_of() {
    let examined = of("http.admin_listen = '0.0.0.0:4021'");
    assert_warned(&examined, "http.admin_listen", "not on loopback");
    assert_not_warned(&of("http.admin_listen = '[::1]:9'"), "http.admin_listen");
    for listen in ["0.0.0.0:4020", "127.0.0.1:5000"] {
        let examined = of(&format!("http.listen = '{listen}'"));
        assert_warned(&examined, "http.base_url", "is not set");
    }
    assert_not_warned(&of("http.listen = '127.0.0.1:4020'"), "http.base_url");
    let both = "http.listen = '0.0.0.0:5000'\nhttp.base_url = 'http://nas.local:5000'";
    assert_not_warned(&of(both), "http.base_url");
}

#[test]
fn a_public_address_without_tls_is_warned_of() {
    let plain = REAL
        .replace("https://", "http://")
        .replace("http://facil", "https://facil");
    let examined = of(&plain);
    assert_eq!(
        keys(&examined.warnings),
        ["http.base_url", "images.base_url"]
    );
    assert_warned(&examined, "http.base_url", "without TLS");
    assert_not_warned(&of("http.base_url = 'http://192.168.1.2'"), "http.base_url");
}

#[test]
fn a_public_service_that_nobody_can_reach_is_warned_of() {
    let silent = REAL.replace("contact = 'mailto:ada@example.com'", "");
    assert_warned(
        &of(&silent),
        "operator.contact",
        "tell nobody how to reach you",
    );
    assert_not_warned(&of(REAL), "operator.contact");
    assert_not_warned(&of(""), "operator.contact");
}

#[test]
fn images_on_the_origin_of_a_public_api_are_refused() {
    let api = "http.base_url = 'https://example.com'";
    for images in [
        "",
        "images.base_url = 'https://example.com:443/images'",
        "images.base_url = 'https://EXAMPLE.com'",
    ] {
        let examined = of(&format!("{api}\n{images}"));
        assert_refused(&examined, "images.base_url", "has the origin of the API");
    }
    let port = format!("{api}\nimages.base_url = 'https://example.com:8443'");
    assert_eq!(of(&port).problems, []);
    let config = config(of("http.base_url = 'http://nas.local:80'"));
    assert_eq!(config.images.base_url, "http://nas.local/i");
}

#[test]
fn a_network_gets_four_times_the_free_uploads_of_an_address() {
    for (text, address, network) in [
        ("", 50, 200),
        ("free_per_address_per_hour = 7", 7, 28),
        ("free_per_address_per_hour = 0", 0, 0),
        ("free_per_network_per_hour = 9", 50, 9),
        (
            "free_per_address_per_hour = 7\nfree_per_network_per_hour = 0",
            7,
            0,
        ),
    ] {
        let config = config(of(&format!("[limits]\n{text}")));
        let limits = config.limits;
        assert_eq!(
            (
                limits.free_per_address_per_hour,
                limits.free_per_network_per_hour
            ),
            (address, network),
            "{text}"
        );
        assert!(show(&config).contains(&format!("free_per_network_per_hour = {network}\n")));
    }
}

#[test]
fn the_memory_for_bodies_grows_with_the_tiers() {
    let tier = "[[tiers]]\nname = 'huge'\nprice = '1'\nkeep = '7d'\ndefault = true\n";
    let huge = config(of(&format!("{tier}max_bytes = '64 MiB'")));
    assert!(huge.limits.body_bytes > 4 * (64 << 20));
    assert!(show(&huge).contains(&format!("body_bytes = {}\n", huge.limits.body_bytes)));
}

#[test]
fn tiers_and_counts_may_change_while_a_server_runs_and_nothing_else() {
    let before = config(of(REAL));
    for key in super::describe::all() {
        let other = match key.kind {
            "count" | "number" => "77",
            "duration" => "'77s'",
            "size" => "'300 MiB'",
            _ => continue,
        };
        let text = REAL.replace("[http]", &format!("{} = {other}\n[http]", key.name));
        let Some(after) = of(&text).config else {
            continue;
        };
        let is_limit =
            key.name.starts_with("limits.") && key.kind != "duration" && key.kind != "size";
        let is_live = is_limit || key.name.starts_with("trust.pdq_");
        // On SQLite the connections don't count.
        let is_same = is_live || key.name.starts_with("database.");
        assert_eq!(
            before.is_same_until_restart(&after),
            is_same,
            "{}",
            key.name
        );
        assert_eq!(key.is_live, is_live, "{}", key.name);
        let taken = before.limits.with_counts_of(after.limits);
        assert_eq!(taken == before.limits, !is_limit, "{}", key.name);
    }
    let tier = "[[tiers]]\nname = 'a'\nprice = '2'\nmax_bytes = 1\nkeep = '7d'";
    assert!(before.is_same_until_restart(&config(of(&format!("{REAL}{tier}")))));
    let node = "rpc_url = 'https://other.example'";
    assert!(!before.is_same_until_restart(&config(of(&format!("{REAL}{node}")))));
}

#[test]
fn connections_are_for_postgres() {
    let postgres = format!(
        "secrets.key = '{KEY}'\n[database]\nurl = 'postgres://pixtoll:HIDDEN@db/pixtoll?sslmode=verify-full'\n"
    );
    let set = "max_connections = 40\nstatement_timeout = '5s'\nacquire_timeout = '3s'\n\
               idle_timeout = '1m'\nmax_lifetime = '1h'";
    let set = config(of(&format!("{postgres}{set}")));
    let expected = Connections {
        max_connections: 40,
        acquire_timeout: Duration::from_secs(3),
        statement_timeout: Some(Duration::from_secs(5)),
        idle_timeout: Duration::from_mins(1),
        max_lifetime: Duration::from_hours(1),
    };
    assert_eq!(set.connections, expected);
    let shown = show(&set);
    assert!(
        shown.contains("max_connections = 40\n") && shown.contains("statement_timeout = \"5s\"\n")
    );
    assert_eq!(config(of(&postgres)).connections, Connections::default());
    let examined = of("database.max_connections = 40");
    assert_warned(&examined, "database.max_connections", "no effect on SQLite");
    assert!(!show(&config(examined)).contains("max_connections"));
}

#[test]
fn postgres_needs_a_secret_key_and_shows_no_password() {
    let database = "database.url = 'postgres://pixtoll:HIDDEN@db/pixtoll'";
    assert_refused(&of(database), "secrets.key", "every replica needs the same");
    let examined = sandboxed(&format!(
        "{database}\nsecrets.key = '{KEY},{}'",
        "cd".repeat(32)
    ));
    let config = config(examined);
    assert_eq!(
        config.sandbox.as_ref().unwrap().database,
        PathBuf::from("data/sandbox.db")
    );
    let said = format!("{config:?}{}", show(&config));
    assert!(!said.contains("HIDDEN") && !said.contains("abab"), "{said}");
    assert!(
        said.contains("key = \"[secret]\" # and 1 older\n"),
        "{said}"
    );
    assert!(said.contains("postgres://db/[hidden]"), "{said}");
    for (from, to) in [
        ("/pixtoll'", "/pixtoll?pasword=HIDDEN'"),
        ("@db", "@d b"),
        ("postgres:", "mysql:"),
    ] {
        let examined = of(&database.replace(from, to));
        assert_eq!(examined.problems[0].key, "database.url", "{examined:?}");
        assert!(!format!("{examined:?}").contains("HIDDEN"), "{examined:?}");
    }
}

#[test]
fn what_is_shown_can_be_read_again() {
    let tiers = "
        [[tiers]]
        name = 'odd'
        price = '0.10'
        max_bytes = 1000
        keep = '90s'";
    for (text, sandbox) in [("", false), ("", true), (REAL, false), (tiers, true)] {
        let config = config(examine_with(text, sandbox, &[]));
        let shown = show(&config);
        let again = of(&shown);
        assert_eq!(again.problems, [], "{shown}");
        assert_eq!(show(&again.config.unwrap()), shown);
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "most of them are one document")]
fn what_is_in_force_is_shown_whole() {
    let shown = show(&config(of(&format!("{REAL}\nnetworks = 'base-sepolia'"))));
    let (head, tiers) = shown.split_once("\n[[tiers]]").unwrap();
    assert_eq!(
        head,
        r##"# test: a network whose money is worth nothing

[http]
listen = "127.0.0.1:4020"
admin_listen = "127.0.0.1:4021"
base_url = "https://example.com"
trusted_proxies = []

[database]
url = "sqlite:data/pixtoll.db"

[images]
store = "data/images"
base_url = "https://i.example.com"
clean = true
private = true
link_ttl = "7d"
min_free = "1 GiB"
cache_bytes = "256 MiB"
max_pixels = 100000000
max_total_pixels = 300000000

[variants]
per_image = 32
timeout = "10s"
memory_bytes = "256 MiB"

[payments]
facilitator = "url"
facilitator_url = "https://facilitator.example.com/x402/"
pay_to = "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A"
# one pay_to belongs to one deployment: two ledgers on one address cannot tell their payments apart
networks = ["base-sepolia"]
timeout = "15s"
token_ttl = "10m"

[retention]
schedule = "* * * * *"
records = "365d"
# clocks: each that is not on this machine

[secrets]
# key: in data/secrets.key, made at the first start

[money]
facilitator_fee = "0"
free_settlements = 0

[limits]
free_per_day = 1000
free_before_noon_percent = 50
free_per_address_per_hour = 50
free_per_network_per_hour = 200
free_refusals_per_upload = 10
payments_per_address_per_minute = 120
imports_per_address_per_minute = 30
variants_per_address_per_minute = 600
body_timeout = "1m"
body_bytes = "256 MiB"

[import]
enabled = true
ports = ["80", "443"]
allow = []
per_host_per_minute = 60
min_refresh = "1h"

[links]
max_days = 90

[keys]
uploads_per_day = 100
per_wallet = 10

[mcp]
origins = []

[log]
format = "text"
access = true

[metrics]
enabled = true

[traces]
sample_percent = 100

[site]
name = "pixtoll"
accent = "#b93a12"
accent_dark = "#ff9166"

[operator]
contact = "mailto:ada@example.com"
minimum_age = 16
encrypted_disks = false

[trust]
restorable = "30d"
preserve = "365d"
strikes = 3
pdq_distance = 31
pdq_quality = 50
scanner_timeout = "5s"
scanner_on_silence = "refuse"
"##
    );
    let year = r#"
name = "year"
price = "0.01"
max_bytes = "5 MiB"
keep = "365d"
confirmations = 0
default = true
"#;
    assert!(tiers.contains(year), "{tiers}");
    let network = r#"
[[networks]]
id = "base-sepolia"
facilitator = "url"
facilitator_url = "https://facilitator.example.com/x402"
rpc_url = "https://sepolia.base.org"
"#;
    assert!(tiers.ends_with(network), "{tiers}");
}
