//! What the pages say about this service, as it is configured. docs/pages.md lists each promise with the setting or the code that
//! makes it true.

use std::sync::Arc;

use super::layout::host_of;
use crate::app::App;
use crate::config::{
    Config, DatabaseUrl, Encryption, FacilitatorChoice, NetworkConfig, StorePlace,
};
use crate::pricing::tiers::{Keep, TierTable, time_in_words};

/// The facts of the service.
pub(super) struct Service<'a> {
    config: &'a Config,
    tiers: Arc<TierTable>,
}

impl<'a> Service<'a> {
    /// The facts as they are now.
    pub(super) fn of(app: &'a App) -> Self {
        Self {
            config: &app.config,
            tiers: app.tiers.now(),
        }
    }

    /// The public address.
    pub(super) fn base(&self) -> &str {
        &self.config.http.base_url
    }

    /// The name of the service.
    pub(super) fn name(&self) -> &str {
        &self.config.site.name
    }

    /// Whether clients reach the service and its images over HTTPS alone.
    pub(super) fn is_https(&self) -> bool {
        are_https([&self.config.http.base_url, &self.config.images.base_url])
    }

    /// Whether uploads may be private.
    pub(super) fn has_private(&self) -> bool {
        self.config.images.private
    }

    /// Whether metadata is removed from uploads.
    pub(super) fn cleans(&self) -> bool {
        self.config.images.clean
    }

    /// The tiers.
    pub(super) fn tiers(&self) -> &TierTable {
        &self.tiers
    }

    /// Whether a tier keeps images until the service ends.
    pub(super) fn has_permanent(&self) -> bool {
        self.tiers.iter().any(|tier| tier.keep == Keep::Forever)
    }

    /// Whether the service sells uploads.
    pub(super) fn sells(&self) -> bool {
        self.config.payments.is_some()
    }

    /// Each network with the facilitator that verifies and settles on it:
    /// `base, by the Coinbase facilitator (api.cdp.coinbase.com)`.
    pub(super) fn rails(&self) -> Vec<String> {
        let payments = self.config.payments.iter();
        payments
            .flat_map(|payments| &payments.networks)
            .map(rail)
            .collect()
    }

    /// Where objects are stored, and whether they are encrypted there.
    pub(super) fn store(&self) -> String {
        match &self.config.images.store {
            StorePlace::Directory(_) => {
                format!("Images lie in a folder of the server. {}", self.disks())
            }
            StorePlace::S3(store) => {
                let place = store.endpoint.as_deref().map_or("Amazon S3", host_of);
                let encryption = match &store.encryption {
                    Encryption::Default => "as the bucket is set up there",
                    Encryption::Aes256 => "with keys of the store (SSE-S3)",
                    Encryption::Kms(_) => "with a key of a key management service (SSE-KMS)",
                };
                format!("Images lie in a bucket of {place}, encrypted at rest {encryption}.")
            }
        }
    }

    /// Where the records are, and whether they are encrypted there.
    pub(super) fn database(&self) -> String {
        let place = match &self.config.database {
            DatabaseUrl::Sqlite(_) => "Records lie in a SQLite file of the server.",
            DatabaseUrl::Postgres(_) => "Records lie in a PostgreSQL database.",
        };
        format!("{place} {}", self.disks())
    }

    fn disks(&self) -> &'static str {
        if self.config.operator.encrypted_disks {
            "The operator states that its disks are encrypted."
        } else {
            "The operator has not stated that its disks are encrypted, so assume that they are not."
        }
    }

    /// Whether Cloudflare is in front of the images.
    pub(super) fn has_cdn(&self) -> bool {
        self.config.cdn.is_some()
    }

    /// Whether Cloudflare scans for known child sexual abuse material.
    pub(super) fn has_csam_scanner(&self) -> bool {
        self.config.cdn.as_ref().is_some_and(|cdn| cdn.csam_scanner)
    }

    /// Whether clients may have images fetched from a URL.
    pub(super) fn imports(&self) -> bool {
        self.config.import.enabled
    }

    /// Whether a scanner of the operator sees each image before it is published.
    pub(super) fn has_scanner(&self) -> bool {
        self.config.screening.scanner.is_some()
    }

    /// Whether wallets of a sanctions list are refused.
    pub(super) fn has_sanctions(&self) -> bool {
        !self.config.screening.sanctioned.is_empty()
    }

    /// How long records are kept after their image.
    pub(super) fn records(&self) -> String {
        time_in_words(self.config.retention.records)
    }

    /// How long a removed image can be restored.
    pub(super) fn restorable(&self) -> String {
        time_in_words(self.config.trust.restorable)
    }

    /// How long a legal hold preserves content.
    pub(super) fn preserved(&self) -> String {
        time_in_words(self.config.trust.preserve)
    }

    /// After how many upheld cases a wallet is blocked; 0: never.
    pub(super) fn strikes(&self) -> u32 {
        self.config.trust.strikes
    }

    /// Whether each request has a line in the log.
    pub(super) fn has_access_log(&self) -> bool {
        self.config.log.access
    }

    /// How many free uploads an address may make in an hour; 0: any number.
    pub(super) fn free_per_hour(&self) -> u64 {
        self.config.limits.free_per_address_per_hour
    }

    /// The law that applies.
    pub(super) fn jurisdiction(&self) -> Option<&str> {
        self.config.operator.jurisdiction.as_deref()
    }

    /// To whom sexual abuse of children is reported.
    pub(super) fn authority(&self) -> &str {
        let named = self.config.operator.csam_authority.as_deref();
        named.unwrap_or("the responsible authority")
    }

    /// The age from which people may upload.
    pub(super) fn age(&self) -> u32 {
        self.config.operator.minimum_age
    }

    /// Who operates the service.
    pub(super) fn operator(&self) -> Option<&str> {
        self.config.operator.name.as_deref()
    }

    /// A URL that reaches the operator.
    pub(super) fn contact(&self) -> Option<&str> {
        self.config.operator.contact.as_deref()
    }

    /// A URL where images are reported, beside the form.
    pub(super) fn abuse_contact(&self) -> Option<&str> {
        self.config
            .operator
            .abuse_contact
            .as_deref()
            .or_else(|| self.contact())
    }

    /// A URL for reports of vulnerabilities.
    pub(super) fn security_contact(&self) -> Option<&str> {
        self.config.operator.security_contact.as_deref()
    }
}

fn rail(network: &NetworkConfig) -> String {
    let facilitator = match &network.facilitator {
        FacilitatorChoice::Url { url, .. } => format!("the facilitator {}", host_of(url)),
        FacilitatorChoice::Coinbase { url, .. } => {
            format!("the Coinbase facilitator ({})", host_of(url))
        }
        FacilitatorChoice::Sandbox => "the sandbox of this server, with play money".to_owned(),
    };
    let name = network.network.v1_name.unwrap_or(network.network.caip2);
    format!("{name}, by {facilitator}")
}

fn are_https(urls: [&str; 2]) -> bool {
    urls.iter().all(|url| url.starts_with("https://"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_without_encryption_is_too_many() {
        assert!(are_https(["https://a.example", "https://b.example"]));
        assert!(!are_https(["https://a.example", "http://b.example"]));
        assert!(!are_https(["http://a.example", "https://b.example"]));
    }
}
