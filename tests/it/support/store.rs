//! A fresh image store for each test: a directory, or a new prefix of the bucket that
//! `PIXTOLL_TEST_S3_…` name.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use pixtoll::config::{Sources, load};
use pixtoll::store::Store;

/// The settings of a store: keys and values.
pub(crate) type Settings = Vec<(&'static str, String)>;

/// A store below `folder`, or in the test bucket if there is one.
pub(crate) fn fresh(folder: &Path) -> Settings {
    bucket().unwrap_or_else(|| vec![("images.store", folder.join("images").display().to_string())])
}

/// A new prefix of the test bucket. With the feature `test-s3`, the bucket is required.
pub(crate) fn bucket() -> Option<Settings> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let variable = |name: &str| {
        let value = std::env::var(format!("PIXTOLL_TEST_S3_{name}")).ok();
        value.filter(|value| !value.is_empty())
    };
    let endpoint = variable("ENDPOINT");
    assert!(
        endpoint.is_some() || !cfg!(feature = "test-s3"),
        "the feature test-s3 needs PIXTOLL_TEST_S3_ENDPOINT and the other PIXTOLL_TEST_S3_… variables; scripts/with-garage sets them"
    );
    let endpoint = endpoint?;
    let need = |name: &str| variable(name).unwrap_or_else(|| panic!("PIXTOLL_TEST_S3_{name}"));
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let prefix = format!("{}-{count}", std::process::id());
    Some(vec![
        ("images.store", format!("s3://{}/{prefix}", need("BUCKET"))),
        ("images.s3_endpoint", endpoint),
        ("images.s3_region", need("REGION")),
        ("images.s3_access_key_id", need("ACCESS_KEY_ID")),
        ("images.s3_secret_access_key", need("SECRET_ACCESS_KEY")),
        ("images.s3_timeout", "20s".to_owned()),
    ])
}

/// Opens the store of these settings.
pub(crate) fn open(settings: &Settings) -> Store {
    super::install_tls();
    let env = settings.iter().map(|(key, value)| {
        let name = format!("PIXTOLL_{}", key.to_uppercase().replace('.', "__"));
        (name, value.clone())
    });
    let sources = Sources {
        env: env.collect(),
        ..Sources::default()
    };
    let config = load(&sources).unwrap_or_else(|problems| panic!("{problems}"));
    Store::at(&config.config.images.store).unwrap()
}
