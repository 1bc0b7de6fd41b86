//! `images.store`: a directory, or a bucket and the keys that describe it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::check::warn_without_tls;
use super::keys::S3Keys;
use super::read::{Reader, refuse};

/// The store of the objects of images.
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
    /// The name of the bucket.
    pub bucket: String,
    /// The prefix of every key, without slashes around it; may be empty.
    pub prefix: String,
    /// The region that requests are signed for.
    pub region: String,
    /// The address of the API, without a trailing slash; with [`Addressing::Virtual`] the host holds the
    /// name of the bucket. `None`: Amazon S3.
    pub endpoint: Option<String>,
    /// Where requests name the bucket.
    pub addressing: Addressing,
    /// The credentials that sign requests.
    pub credentials: S3Credentials,
    /// How the store encrypts objects.
    pub encryption: Encryption,
    /// Whether objects are sent with a checksum that the store keeps. The signature holds one in any
    /// case.
    pub checksum: bool,
    /// Whether the store deletes many objects in one request.
    pub bulk_delete: bool,
    /// How long one operation may take, retries included.
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

/// The credentials of a store. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub enum S3Credentials {
    /// An access key.
    Key(S3Key),
    /// Credentials from the cloud: by these variables of it, or else from its metadata service.
    Cloud(BTreeMap<String, String>),
}

/// An access key of an S3 API.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Key {
    /// The id, which is no secret.
    pub id: String,
    /// The secret.
    pub secret: String,
    /// The session token of a temporary key.
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

/// How a store is asked to encrypt objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// As the bucket is set up.
    Default,
    /// With keys of the store (SSE-S3).
    Aes256,
    /// With this key of the cloud's key service, or the bucket's (SSE-KMS).
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

/// A parsed `images.store`.
pub(super) enum StoreLocation {
    Directory(PathBuf),
    Bucket { bucket: String, prefix: String },
}

/// A directory, or `s3://bucket/prefix`. Buckets have 3 to 63 lower-case letters, digits, dots and
/// hyphens.
pub(super) fn place(text: &str) -> Result<StoreLocation, String> {
    let Some(rest) = text.strip_prefix("s3://") else {
        if text.contains("://") {
            return Err("is a URL, but neither a directory nor a bucket".to_owned());
        }
        return Ok(StoreLocation::Directory(PathBuf::from(text)));
    };
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let is_name = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'.' || byte == b'-'
    };
    if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(is_name) {
        return Err(format!("`{bucket}` is not the name of a bucket"));
    }
    let prefix = prefix.trim_matches('/');
    let is_key = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    let has_holes = |part: &str| part.is_empty() || part == "." || part == "..";
    if !prefix.bytes().all(is_key) || (!prefix.is_empty() && prefix.split('/').any(has_holes)) {
        return Err(format!(
            "`{prefix}` is not a prefix of keys: letters, digits, `-`, `_` and `.` between single slashes"
        ));
    }
    let (bucket, prefix) = (bucket.to_owned(), prefix.to_owned());
    Ok(StoreLocation::Bucket { bucket, prefix })
}

/// The store, with the keys of its bucket.
pub(super) fn check(reader: &mut Reader<'_>, place: StoreLocation) -> StorePlace {
    let (bucket, prefix) = match place {
        StoreLocation::Directory(path) => return StorePlace::Directory(path),
        StoreLocation::Bucket { bucket, prefix } => (bucket, prefix),
    };
    let mut keys = S3Keys::read(reader);
    if let Some(url) = &keys.s3_endpoint {
        warn_without_tls(reader, "images.s3_endpoint", url);
    }
    refuse!(reader, "images.s3_region", keys.s3_endpoint.is_none() && keys.s3_region.is_none(),
        "is missing: each bucket of Amazon S3 is in one region" =>
        "write the region of the bucket, like eu-central-1, or set images.s3_endpoint for another store");
    // Amazon S3 wants the host; other stores take the path, and not all of them have such hosts.
    let addressing = keys.s3_addressing.unwrap_or(match keys.s3_endpoint {
        Some(_) => Addressing::Path,
        None => Addressing::Virtual,
    });
    // Stores without regions take this one.
    let region = keys.s3_region.take().unwrap_or_else(|| "auto".to_owned());
    reader.shows("images.s3_region", &region);
    reader.shows(
        "images.s3_addressing",
        match addressing {
            Addressing::Path => "path",
            Addressing::Virtual => "virtual",
        },
    );
    let endpoint = keys.s3_endpoint.take().map(|url| match addressing {
        Addressing::Path => url,
        Addressing::Virtual => url.replacen("://", &format!("://{bucket}."), 1),
    });
    StorePlace::S3(Box::new(S3Store {
        region,
        endpoint,
        addressing,
        encryption: keys.s3_encryption.clone(),
        checksum: keys.s3_checksum,
        bulk_delete: keys.s3_bulk_delete,
        timeout: keys.s3_timeout,
        credentials: credentials(reader, keys),
        bucket,
        prefix,
    }))
}

fn credentials(reader: &mut Reader<'_>, keys: S3Keys) -> S3Credentials {
    const ID: &str = "images.s3_access_key_id";
    const SECRET: &str = "images.s3_secret_access_key";
    let (has_id, has_secret) = (reader.has(ID), reader.has(SECRET));
    refuse!(reader, SECRET, has_id && !has_secret, "is missing beside images.s3_access_key_id" =>
        "set it, or images.s3_secret_access_key_file");
    refuse!(reader, ID, has_secret && !has_id, "is missing beside images.s3_secret_access_key" =>
        "set it to the id of the access key");
    let session_token = keys.s3_session_token;
    if let (Some(id), Some(secret)) = (keys.s3_access_key_id, keys.s3_secret_access_key) {
        return S3Credentials::Key(S3Key {
            id,
            secret,
            session_token,
        });
    }
    let cloud = reader.given.cloud.clone();
    let source = if cloud.is_empty() {
        "the metadata service of the machine"
    } else {
        "the cloud, as its AWS_ variables say"
    };
    reader.notes(ID, &format!("from {source}"));
    S3Credentials::Cloud(cloud)
}
