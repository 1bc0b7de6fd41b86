use super::*;
use crate::config::{Addressing, Encryption, S3Credentials, S3Key, S3Store, StorePlace};

const KEYS: &str = "images.s3_access_key_id = 'GK1'\nimages.s3_secret_access_key = 'hunter2'\n";

fn s3(text: &str) -> S3Store {
    match config(of(text)).images.store {
        StorePlace::S3(s3) => *s3,
        StorePlace::Directory(path) => panic!("{path:?}"),
    }
}

#[test]
fn a_store_is_a_directory_or_a_bucket() {
    assert_eq!(
        config(of("images.store = '/srv/i'")).images.store,
        StorePlace::Directory("/srv/i".into())
    );
    assert_refused(
        &of("images.store = 'file:///a'"),
        "images.store",
        "name a directory, or a bucket",
    );
    for name in ["s3://", "s3://ab", "s3://My-Bucket", "s3://bücket/a"] {
        let examined = of(&format!(
            "images.store = '{name}'\n{KEYS}images.s3_region = 'x'"
        ));
        assert_refused(&examined, "images.store", "is no name of a bucket");
    }
    for name in ["s3://bucket/a//b", "s3://bucket/../b", "s3://bucket/a b"] {
        let examined = of(&format!(
            "images.store = '{name}'\n{KEYS}images.s3_region = 'x'"
        ));
        assert_refused(&examined, "images.store", "keys may begin with");
    }
}

#[test]
fn a_bucket_of_amazon_needs_its_region_and_is_asked_by_its_host() {
    let found = s3(&format!(
        "images.store = 's3://pictures/prod/a/'\nimages.s3_region = 'eu-central-1'\n{KEYS}"
    ));
    let key = S3Key {
        id: "GK1".to_owned(),
        secret: "hunter2".to_owned(),
        session_token: None,
    };
    assert_eq!(
        found,
        S3Store {
            bucket: "pictures".to_owned(),
            prefix: "prod/a".to_owned(),
            region: "eu-central-1".to_owned(),
            endpoint: None,
            addressing: Addressing::Virtual,
            credentials: S3Credentials::Key(key),
            encryption: Encryption::Default,
            checksum: true,
            bulk_delete: true,
            timeout: Duration::from_secs(10),
        }
    );
    assert_refused(
        &of(&format!("images.store = 's3://pictures'\n{KEYS}")),
        "images.s3_region",
        "one region each",
    );
}

#[test]
fn another_store_is_asked_by_its_path_unless_its_hosts_have_names() {
    let place = "images.store = 's3://pictures'\nimages.s3_endpoint = 'https://s3.example.com'\n";
    let by_path = s3(&format!("{place}{KEYS}"));
    assert_eq!(by_path.endpoint.unwrap(), "https://s3.example.com");
    assert_eq!(by_path.region, "auto");
    let by_host = s3(&format!("{place}{KEYS}images.s3_addressing = 'virtual'"));
    assert_eq!(by_host.endpoint.unwrap(), "https://pictures.s3.example.com");
    assert_refused(
        &of(&format!("{place}{KEYS}images.s3_addressing = 'dns'")),
        "images.s3_addressing",
        "neither path nor virtual",
    );
    let plain = place.replace("https", "http");
    assert_warned(
        &of(&format!("{plain}{KEYS}")),
        "images.s3_endpoint",
        "without TLS on a public host",
    );
}

#[test]
fn encryption_checksums_bulk_deletes_and_the_deadline_are_settings() {
    let place = "images.store = 's3://pictures'\nimages.s3_region = 'x'\n";
    let set = |line: &str| s3(&format!("{place}{KEYS}{line}"));
    for (text, expected) in [
        ("default", Encryption::Default),
        ("AES256", Encryption::Aes256),
        ("aws:kms", Encryption::Kms(None)),
        ("aws:kms:arn:1", Encryption::Kms(Some("arn:1".to_owned()))),
    ] {
        let found = set(&format!("images.s3_encryption = '{text}'")).encryption;
        assert_eq!(found.to_string(), text);
        assert_eq!(found, expected);
    }
    assert_refused(
        &of(&format!("{place}{KEYS}images.s3_encryption = 'aes'")),
        "images.s3_encryption",
        "no way to encrypt",
    );
    let off =
        set("images.s3_checksum = false\nimages.s3_bulk_delete = false\nimages.s3_timeout = '3s'");
    assert!(!off.checksum && !off.bulk_delete);
    assert_eq!(off.timeout, Duration::from_secs(3));
    assert_refused(
        &of(&format!("{place}{KEYS}images.s3_timeout = '5m'")),
        "images.s3_timeout",
        "out of bounds",
    );
}

#[test]
fn keys_come_from_settings_from_the_tools_of_amazon_or_from_the_cloud_and_never_by_half() {
    let place = "images.store = 's3://pictures'\n";
    let from = |variables: &[(&str, &str)]| {
        let mut variables = variables.to_vec();
        variables.push(("AWS_REGION", "eu-west-1"));
        match config(examine_with(place, false, &variables)).images.store {
            StorePlace::S3(s3) => s3.credentials,
            StorePlace::Directory(_) => panic!("a directory"),
        }
    };
    let lent = from(&[
        ("AWS_ACCESS_KEY_ID", "ASIA1"),
        ("AWS_SECRET_ACCESS_KEY", "hunter2"),
        ("AWS_SESSION_TOKEN", "hunter3"),
    ]);
    assert_eq!(format!("{lent:?}"), "Key(ASIA1, [secret])");
    let key = S3Key {
        id: "ASIA1".to_owned(),
        secret: "hunter2".to_owned(),
        session_token: Some("hunter3".to_owned()),
    };
    assert_eq!(lent, S3Credentials::Key(key));
    let role = ("AWS_ROLE_ARN", "arn:aws:iam::1:role/a");
    let file = ("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/token");
    let pod = [
        (role.0.to_owned(), role.1.to_owned()),
        (file.0.to_owned(), file.1.to_owned()),
    ];
    assert_eq!(from(&[role, file]), S3Credentials::Cloud(pod.into()));
    assert_eq!(from(&[]), S3Credentials::Cloud([].into()));
    let half = "images.s3_region = 'x'\nimages.s3_access_key_id = 'GK1'";
    assert_refused(
        &of(&format!("{place}{half}")),
        "images.s3_secret_access_key",
        "is missing",
    );
}

#[test]
fn what_is_in_force_of_a_bucket_is_shown_without_its_secret() {
    let shown = show(&config(of(&format!(
        "images.store = 's3://pictures/a'\nimages.s3_endpoint = 'http://127.0.0.1:3900'\n{KEYS}"
    ))));
    for line in [
        "store = \"s3://pictures/a\"",
        "s3_endpoint = \"http://127.0.0.1:3900\"",
        "s3_addressing = \"path\"",
        "s3_access_key_id = \"GK1\"",
        "s3_secret_access_key = \"[secret]\"",
        "s3_encryption = \"default\"",
        "s3_timeout = \"10s\"",
    ] {
        assert!(shown.contains(line), "{line} in {shown}");
    }
    assert!(!shown.contains("hunter2"), "{shown}");
}
