//! `images.store`: a directory, or a bucket and what is said of it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::check::Checker;
use super::hosts;
use super::values::{self, Complaint};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(1);
const LONGEST_TIMEOUT: Duration = Duration::from_mins(1);
/// What stores that have no regions are asked with.
const NO_REGION: &str = "auto";
const MEND: &str = "name a directory, or a bucket like s3://bucket/prefix";

/// Where the bytes of images are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorePlace {
    /// A directory of this machine.
    Directory(PathBuf),
    /// A bucket.
    S3(Box<S3Store>),
}

impl fmt::Display for StorePlace {
    /// As `images.store` is written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(f),
            Self::S3(s3) if s3.prefix.is_empty() => write!(f, "s3://{}", s3.bucket),
            Self::S3(s3) => write!(f, "s3://{}/{}", s3.bucket, s3.prefix),
        }
    }
}

/// A bucket behind an S3 API, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Store {
    /// Its name.
    pub bucket: String,
    /// What every key begins with, without slashes around it; empty: nothing.
    pub prefix: String,
    /// The region that requests are signed for.
    pub region: String,
    /// Where the API is, without a trailing slash, the bucket's name in it where `addressing` says so. `None`: at
    /// Amazon's.
    pub endpoint: Option<String>,
    /// Where a request names the bucket.
    pub addressing: Addressing,
    /// Who asks.
    pub credentials: S3Credentials,
    /// What the store is told about encryption.
    pub encryption: Encryption,
    /// Whether objects are sent with a checksum that the store keeps. The signature holds one in any case.
    pub checksum: bool,
    /// Whether the store deletes many objects in one request.
    pub bulk_delete: bool,
    /// For how long anything is waited for, all tries together.
    pub timeout: Duration,
}

/// Where a request names its bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// In the path: `https://s3.example.com/bucket/key`.
    Path,
    /// In the host: `https://bucket.s3.example.com/key`.
    Virtual,
}

/// Who asks a store. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub enum S3Credentials {
    /// A key.
    Key(S3Key),
    /// Whatever the cloud says to its machines: by these variables of its, or else its metadata service.
    Cloud(BTreeMap<String, String>),
}

/// A key of an S3 API.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Key {
    /// Its public half.
    pub id: String,
    /// Its secret half.
    pub secret: String,
    /// What goes with a key that was lent for a while.
    pub session_token: Option<String>,
}

impl fmt::Debug for S3Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => write!(f, "Key({}, [secret])", key.id),
            Self::Cloud(_) => f.write_str("Cloud"),
        }
    }
}

/// How a store is asked to encrypt what it keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// As the bucket is set up.
    Default,
    /// With keys of the store's own (SSE-S3).
    Aes256,
    /// With a key of the cloud's key service (SSE-KMS): this one, or the bucket's.
    Kms(Option<String>),
}

impl fmt::Display for Encryption {
    /// As `images.s3_encryption` is written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Aes256 => f.write_str("AES256"),
            Self::Kms(None) => f.write_str("aws:kms"),
            Self::Kms(Some(key)) => write!(f, "aws:kms:{key}"),
        }
    }
}

/// A bucket by its name, and what its keys begin with.
struct Place {
    bucket: String,
    prefix: String,
}

/// The store. `None` where it is not set, or was reported.
pub(super) fn check(checker: &mut Checker<'_>) -> Option<StorePlace> {
    let text = checker.raw.text("images.store")?;
    if text.starts_with("s3://") {
        let place = checker.value("images.store", place)?;
        return Some(StorePlace::S3(Box::new(s3(checker, place))));
    }
    checker
        .value("images.store", directory)
        .map(StorePlace::Directory)
}

fn directory(text: &str) -> Result<PathBuf, Complaint> {
    if text.contains("://") {
        return Err(Complaint::new(
            "is an address, and neither a directory nor a bucket",
            MEND,
        ));
    }
    Ok(PathBuf::from(text))
}

/// Names as S3 has them: 3 to 63 of lower case letters, digits, dots and hyphens.
fn place(text: &str) -> Result<Place, Complaint> {
    let rest = text.strip_prefix("s3://").unwrap_or(text);
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let is_name = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'.' || byte == b'-'
    };
    if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(is_name) {
        let message = format!("`{bucket}` is no name of a bucket");
        return Err(Complaint::new(message, MEND));
    }
    let prefix = prefix.trim_matches('/');
    let is_key = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    let has_holes = |part: &str| part.is_empty() || part == "." || part == "..";
    if !prefix.bytes().all(is_key) || (!prefix.is_empty() && prefix.split('/').any(has_holes)) {
        let message = format!("`{prefix}` is not what keys may begin with");
        let mend = "use letters, digits, hyphens, underscores and dots between single slashes";
        return Err(Complaint::new(message, mend));
    }
    Ok(Place {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
    })
}

fn s3(checker: &mut Checker<'_>, place: Place) -> S3Store {
    let endpoint = checker.value("images.s3_endpoint", values::origin);
    if let Some(url) = &endpoint
        && url.scheme() == "http"
        && hosts::is_public(url)
    {
        checker.warn(
            "images.s3_endpoint",
            format!("`{url}` is without TLS on a public host: images can be read on their way"),
            "write it with https://",
        );
    }
    let addressing = checker.value("images.s3_addressing", addressing);
    // Amazon asks for the host; everybody else takes the path, and not all of them have the host's name.
    let addressing = addressing.unwrap_or(match endpoint {
        Some(_) => Addressing::Path,
        None => Addressing::Virtual,
    });
    let encryption = checker.value("images.s3_encryption", encryption);
    let checksum = checker.value("images.s3_checksum", values::switch);
    let bulk_delete = checker.value("images.s3_bulk_delete", values::switch);
    let timeout = checker.value("images.s3_timeout", |text| {
        values::duration_within(text, SHORTEST_TIMEOUT, LONGEST_TIMEOUT)
    });
    S3Store {
        region: region(checker, endpoint.is_some()),
        endpoint: endpoint.map(|url| endpoint_of(&url, &place.bucket, addressing)),
        addressing,
        credentials: credentials(checker),
        encryption: encryption.unwrap_or(Encryption::Default),
        checksum: checksum.unwrap_or(true),
        bulk_delete: bulk_delete.unwrap_or(true),
        timeout: timeout.unwrap_or(DEFAULT_TIMEOUT),
        bucket: place.bucket,
        prefix: place.prefix,
    }
}

fn region(checker: &mut Checker<'_>, has_endpoint: bool) -> String {
    if let Some(region) = checker.raw.text("images.s3_region") {
        return region.to_owned();
    }
    if !has_endpoint {
        checker.problem(
            "images.s3_region",
            "is missing: Amazon's buckets lie in one region each",
            "name the bucket's, like eu-central-1, or set images.s3_endpoint for another store",
        );
    }
    NO_REGION.to_owned()
}

/// Where requests go: with virtual addressing, to a host of the bucket's own.
fn endpoint_of(url: &Url, bucket: &str, addressing: Addressing) -> String {
    let whole = values::without_slash(url);
    match addressing {
        Addressing::Path => whole,
        Addressing::Virtual => whole.replacen("://", &format!("://{bucket}."), 1),
    }
}

fn credentials(checker: &mut Checker<'_>) -> S3Credentials {
    let text = |key: &str| checker.raw.text(key).map(str::to_owned);
    let id = text("images.s3_access_key_id");
    let secret = text("images.s3_secret_access_key");
    match (id, secret) {
        (Some(id), Some(secret)) => S3Credentials::Key(S3Key {
            id,
            secret,
            session_token: text("images.s3_session_token"),
        }),
        (None, None) => S3Credentials::Cloud(checker.raw.cloud.clone()),
        (Some(_), None) => {
            let mend = "set it, or images.s3_secret_access_key_file";
            checker.problem("images.s3_secret_access_key", "is missing", mend);
            S3Credentials::Cloud(checker.raw.cloud.clone())
        }
        (None, Some(_)) => {
            let mend = "set the public half of the key";
            checker.problem("images.s3_access_key_id", "is missing", mend);
            S3Credentials::Cloud(checker.raw.cloud.clone())
        }
    }
}

fn addressing(text: &str) -> Result<Addressing, Complaint> {
    match text {
        "path" => Ok(Addressing::Path),
        "virtual" => Ok(Addressing::Virtual),
        _ => Err(Complaint::new(
            format!("`{text}` is neither path nor virtual"),
            "write path for https://host/bucket, virtual for https://bucket.host",
        )),
    }
}

fn encryption(text: &str) -> Result<Encryption, Complaint> {
    match text {
        "default" => Ok(Encryption::Default),
        "AES256" => Ok(Encryption::Aes256),
        "aws:kms" => Ok(Encryption::Kms(None)),
        _ => match text.strip_prefix("aws:kms:") {
            Some(key) if !key.is_empty() => Ok(Encryption::Kms(Some(key.to_owned()))),
            _ => Err(Complaint::new(
                format!("`{text}` is no way to encrypt"),
                "write default (as the bucket is set up), AES256, aws:kms or aws:kms:KEY",
            )),
        },
    }
}
