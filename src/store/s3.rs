//! A store behind an S3 API: its client, and the checks that a bucket must pass at start.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::path::Path as Key;
use object_store::prefix::PrefixStore;
use object_store::signer::Signer;
use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig,
};
use reqwest::header::CACHE_CONTROL;
use reqwest::{Method, StatusCode, redirect};
use url::Url;

use super::keys::IMAGES;
use super::{StoreError, Unfit, said};
use crate::config::{Addressing, Encryption, S3Credentials, S3Store};
use crate::system::clock::Timestamp;
use crate::system::date_header::{cause_of, date_of};

/// The timeout of an attempt to connect.
const CONNECT: Duration = Duration::from_secs(3);
/// The first and the longest pause between retries.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
const TRIES: usize = 10;
/// The lifetime of the signed URL from which an unsigned URL is made. The signature is never used.
const SIGNED_FOR: Duration = Duration::from_mins(1);

/// Settings of the bucket that are needed after the client is built.
#[derive(Debug)]
pub(super) struct Bucket {
    signer: AmazonS3,
    prefix: Key,
    name: String,
    anonymous: reqwest::Client,
    timeout: Duration,
}

/// Opens a bucket, or a prefix of it. Sends no request.
///
/// # Errors
/// When no client can be built from the settings.
pub(super) fn open(settings: &S3Store) -> anyhow::Result<(Arc<dyn ObjectStore>, Bucket)> {
    let client = builder(settings)?.build()?;
    let prefix = Key::parse(&settings.prefix)?;
    let bucket = Bucket {
        signer: client.clone(),
        prefix: prefix.clone(),
        name: settings.bucket.clone(),
        anonymous: reqwest::Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT)
            .timeout(settings.timeout)
            .build()?,
        timeout: settings.timeout,
    };
    Ok((Arc::new(PrefixStore::new(client, prefix)), bucket))
}

fn builder(settings: &S3Store) -> Result<AmazonS3Builder, object_store::Error> {
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&settings.bucket)
        .with_region(&settings.region)
        .with_virtual_hosted_style_request(settings.addressing == Addressing::Virtual)
        .with_disable_bulk_delete(!settings.bulk_delete)
        .with_retry(retries(settings.timeout))
        .with_client_options(client_options(settings));
    if let Some(endpoint) = &settings.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if settings.checksum {
        builder = builder.with_checksum_algorithm(Checksum::SHA256);
    }
    builder = with_encryption(builder, &settings.encryption)?;
    Ok(match &settings.credentials {
        S3Credentials::Key(key) => {
            builder = builder
                .with_access_key_id(&key.id)
                .with_secret_access_key(&key.secret);
            match &key.session_token {
                Some(token) => builder.with_token(token),
                None => builder,
            }
        }
        // From the cloud's environment variables, or else from its metadata service.
        S3Credentials::Cloud(variables) => variables
            .iter()
            .filter_map(|(name, value)| {
                let key: AmazonS3ConfigKey = name.to_ascii_lowercase().parse().ok()?;
                Some((key, value))
            })
            .fold(builder, |builder, (key, value)| {
                builder.with_config(key, value)
            }),
    })
}

fn with_encryption(
    builder: AmazonS3Builder,
    encryption: &Encryption,
) -> Result<AmazonS3Builder, object_store::Error> {
    let kind = match encryption {
        Encryption::Default => return Ok(builder),
        Encryption::Kms(Some(key)) => return Ok(builder.with_sse_kms_encryption(key)),
        Encryption::Aes256 => "AES256",
        Encryption::Kms(None) => "aws:kms",
    };
    // The type of this key is not public, so the key is parsed from its name.
    Ok(builder.with_config("server_side_encryption".parse()?, kind))
}

/// Each request is retried until the deadline, also after a 5xx response. All requests are safe to
/// repeat: objects are written whole, under keys of their own.
fn retries(timeout: Duration) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: FIRST_PAUSE,
            max_backoff: LONGEST_PAUSE,
            base: 2.0,
        },
        max_retries: TRIES,
        retry_timeout: timeout,
    }
}

fn client_options(settings: &S3Store) -> ClientOptions {
    let is_plain = settings
        .endpoint
        .as_ref()
        .is_some_and(|endpoint| endpoint.starts_with("http://"));
    ClientOptions::new()
        .with_allow_http(is_plain)
        .with_connect_timeout(CONNECT)
        // The whole request has no deadline, since a client may read an image slowly. Only silence
        // does.
        .with_timeout_disabled()
        .with_read_timeout(settings.timeout)
}

impl Bucket {
    /// How long a request may take, with all retries.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Checks that the bucket works and shows nothing to a stranger. Writes and reads an object,
    /// requests it and a listing without a signature, and deletes it.
    ///
    /// # Errors
    /// [`Unfit`].
    pub(super) async fn check(&self, objects: &dyn ObjectStore, name: &str) -> Result<(), Unfit> {
        // Under the prefix of images: a bucket may be public in part.
        let probe = Key::from(format!("{IMAGES}/0/0/check-{name}"));
        let bytes = name.as_bytes().to_vec();
        let put = objects.put(&probe, PutPayload::from(bytes.clone())).await;
        put.map_err(|error| self.unfit("written", error))?;
        let looked = self.look(objects, &probe, &bytes).await;
        let deleted = objects.delete(&probe).await;
        looked?;
        deleted.map_err(|error| self.unfit("deleted", error))
    }

    async fn look(
        &self,
        objects: &dyn ObjectStore,
        probe: &Key,
        bytes: &[u8],
    ) -> Result<(), Unfit> {
        let found = async { objects.get(probe).await?.bytes().await };
        let found = found.await.map_err(|error| self.unfit("read", error))?;
        if found != bytes {
            return Err(Unfit::Refused(format!(
                "the bucket {} returns other bytes than were written",
                self.name
            )));
        }
        let addresses = self.of_strangers(probe).await;
        let [object, listings @ ..] = addresses.map_err(|error| self.unfit("addressed", error))?;
        if self.shows(object).await? {
            return Err(Unfit::Public(format!(
                "anybody can read the objects of the bucket {} without a key",
                self.name
            )));
        }
        for listing in listings {
            if self.shows(listing).await? {
                return Err(Unfit::Public(format!(
                    "anybody can list the bucket {} without a key",
                    self.name
                )));
            }
        }
        Ok(())
    }

    /// The time of the store's server, from the `Date` header of its response to an unsigned
    /// request. The server also responds, with an error, when a wrong clock makes every signature
    /// invalid.
    pub(super) async fn date(&self) -> Result<Timestamp, String> {
        let addresses = self.of_strangers(&Key::from("probe/clock")).await;
        let [object, ..] = addresses.map_err(|error| said(&error.to_string()))?;
        let request = self.anonymous.get(object).header(CACHE_CONTROL, "no-cache");
        let answer = request.send().await.map_err(|error| cause_of(&error))?;
        date_of(&answer)
    }

    /// The unsigned URLs of this object, of a listing of the bucket, and of a listing of this
    /// prefix.
    pub(super) async fn of_strangers(&self, object: &Key) -> Result<[Url; 3], object_store::Error> {
        let place: Key = self.prefix.parts().chain(object.parts()).collect();
        let mut object = self
            .signer
            .signed_url(Method::GET, &place, SIGNED_FOR)
            .await?;
        object.set_query(None);
        let mut listing = object.clone();
        let bucket = object.path().strip_suffix(place.as_ref());
        listing.set_path(bucket.unwrap_or("/"));
        listing.set_query(Some("list-type=2&max-keys=1"));
        let mut part = listing.clone();
        part.query_pairs_mut()
            .append_pair("prefix", &format!("{}/", self.prefix));
        Ok([object, listing, part])
    }

    /// Whether an unsigned request succeeds.
    async fn shows(&self, url: Url) -> Result<bool, Unfit> {
        let answer = self.anonymous.get(url).send().await;
        let status = answer
            .map_err(|error| {
                Unfit::Unknown(StoreError::Remote(format!(
                    "no response to a request without a key: {}",
                    error.without_url()
                )))
            })?
            .status();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            let why = format!("status {status} in response to a request without a key");
            return Err(Unfit::Unknown(StoreError::Remote(why)));
        }
        Ok(status.is_success())
    }

    /// Translates an error: the bucket's setup is wrong, or the bucket doesn't answer at the
    /// moment.
    fn unfit(&self, what: &str, error: object_store::Error) -> Unfit {
        use object_store::Error;
        match error {
            Error::NotFound { .. } => Unfit::Refused(format!(
                "there is no bucket {}: create it, or correct images.store, images.s3_endpoint or \
                 images.s3_addressing",
                self.name
            )),
            Error::PermissionDenied { source, .. } | Error::Unauthenticated { source, .. } => {
                Unfit::Refused(format!(
                    "in the bucket {} nothing can be {what}: its keys need GetObject, PutObject, DeleteObject \
                     and ListBucket ({})",
                    self.name,
                    said(&source.to_string())
                ))
            }
            error => Unfit::Unknown(StoreError::of(error, true)),
        }
    }
}
