//! `images.store`.

use super::*;
use crate::config::{Addressing, Encryption, S3Credentials, S3Key, S3Store, StorePlace};

const PLACE: &str = "[images]\nstore = 's3://pictures'\n";
const KEYS: &str = "s3_access_key_id = 'GK1'\ns3_secret_access_key = 'HIDDEN'\n";

/// With a bucket, a key and these settings of `images`.
fn examined(more: &str) -> Examined {
    of(&format!("{PLACE}{KEYS}{more}"))
}

fn s3(examined: Examined) -> S3Store {
    match config(examined).images.store {
        StorePlace::S3(s3) => *s3,
        StorePlace::Directory(path) => panic!("{path:?}"),
    }
}

#[test]
fn a_store_is_a_directory_or_a_bucket() {
    let directory = config(of("images.store = '/srv/i'")).images.store;
    assert_eq!(directory, StorePlace::Directory("/srv/i".into()));
    assert_all_refused(
        of,
        "
        images.store = 'file:///a'                              | images.store | a directory, or a bucket
        images.s3_region = 'x'; images.store = 's3://'          | images.store | not the name of a bucket
        images.s3_region = 'x'; images.store = 's3://ab'        | images.store | not the name of a bucket
        images.s3_region = 'x'; images.store = 's3://My-Bucket' | images.store | not the name of a bucket
        images.s3_region = 'x'; images.store = 's3://bücket/a'  | images.store | not the name of a bucket
        images.store = 's3://bucket/a//b'                       | images.store | not a prefix of keys
        images.store = 's3://bucket/../b'                       | images.store | not a prefix of keys
        images.store = 's3://bucket/a b'                        | images.store | not a prefix of keys
        ",
    );
    assert_all_refused(
        examined,
        "
                                                      | images.s3_region     | in one region
        s3_region = 'x'; s3_addressing = 'dns'        | images.s3_addressing | neither path nor virtual
        s3_region = 'x'; s3_encryption = 'aes'        | images.s3_encryption | not a known encryption
        s3_region = 'x'; s3_timeout = '5m'            | images.s3_timeout    | out of bounds
        ",
    );
}

#[test]
fn a_bucket_of_amazon_needs_its_region_and_is_asked_by_its_host() {
    let text = "images.store = 's3://pictures/prod/a/'\nimages.s3_region = 'eu-central-1'\n";
    let keys = KEYS.replace("s3_", "images.s3_");
    let key = S3Key {
        id: "GK1".to_owned(),
        secret: "HIDDEN".to_owned(),
        session_token: None,
    };
    let expected = S3Store {
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
    };
    assert_eq!(s3(of(&format!("{text}{keys}"))), expected);
}

#[test]
fn another_store_is_asked_by_its_path_unless_its_hosts_have_names() {
    let by_path = s3(examined("s3_endpoint = 'https://s3.example.com'"));
    assert_eq!(by_path.endpoint.unwrap(), "https://s3.example.com");
    assert_eq!(by_path.region, "auto");
    let by_host = s3(examined(
        "s3_endpoint = 'https://s3.example.com'\ns3_addressing = 'virtual'",
    ));
    assert_eq!(by_host.endpoint.unwrap(), "https://pictures.s3.example.com");
    let plain = examined("s3_endpoint = 'http://s3.example.com'");
    assert_warned(&plain, "images.s3_endpoint", "without TLS on a public host");
}

#[test]
fn encryption_checksums_bulk_deletes_and_the_deadline_are_settings() {
    for (text, expected) in [
        ("default", Encryption::Default),
        ("AES256", Encryption::Aes256),
        ("aws:kms", Encryption::Kms(None)),
        ("aws:kms:arn:1", Encryption::Kms(Some("arn:1".to_owned()))),
    ] {
        let found = s3(examined(&format!(
            "s3_region = 'x'\ns3_encryption = '{text}'"
        )))
        .encryption;
        assert_eq!(found.to_string(), text);
        assert_eq!(found, expected);
    }
    let off = s3(examined(
        "s3_region = 'x'\ns3_checksum = false\ns3_bulk_delete = false\ns3_timeout = '3s'",
    ));
    assert!(!off.checksum && !off.bulk_delete);
    assert_eq!(off.timeout, Duration::from_secs(3));
}

#[test]
fn credentials_come_from_settings_aws_variables_or_the_cloud() {
    let from = |variables: &[(&str, &str)]| {
        let region = [("AWS_REGION", "eu-west-1")];
        s3(examine_with(PLACE, false, &[variables, &region].concat())).credentials
    };
    let lent = from(&[
        ("AWS_ACCESS_KEY_ID", "ASIA1"),
        ("AWS_SECRET_ACCESS_KEY", "HIDDEN"),
        ("AWS_SESSION_TOKEN", "hunter3"),
    ]);
    assert_eq!(format!("{lent:?}"), "Key(ASIA1, [secret])");
    let key = S3Key {
        id: "ASIA1".to_owned(),
        secret: "HIDDEN".to_owned(),
        session_token: Some("hunter3".to_owned()),
    };
    assert_eq!(lent, S3Credentials::Key(key));
    let pod = [
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/a"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/token"),
    ];
    let owned = pod.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(from(&pod), S3Credentials::Cloud(owned.into()));
    assert_eq!(from(&[]), S3Credentials::Cloud([].into()));
    let half = |line: &str| of(&format!("{PLACE}s3_region = 'x'\n{line}"));
    let examined = half("s3_access_key_id = 'GK1'");
    assert_refused(&examined, "images.s3_secret_access_key", "is missing");
    let examined = half("s3_secret_access_key = 'HIDDEN'");
    assert_refused(&examined, "images.s3_access_key_id", "is missing");
}

#[test]
fn what_is_in_force_of_a_bucket_is_shown_without_its_secret() {
    let shown = show(&config(examined("s3_endpoint = 'http://127.0.0.1:3900'")));
    for line in [
        "store = \"s3://pictures\"",
        "s3_endpoint = \"http://127.0.0.1:3900\"",
        "s3_region = \"auto\"",
        "s3_addressing = \"path\"",
        "s3_access_key_id = \"GK1\"",
        "s3_secret_access_key = \"[secret]\"",
        "s3_encryption = \"default\"",
        "s3_timeout = \"10s\"",
    ] {
        assert!(shown.contains(line), "{line} in {shown}");
    }
    assert!(!shown.contains("HIDDEN"), "{shown}");
}
