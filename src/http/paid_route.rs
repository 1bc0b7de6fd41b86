//! How to pay at a route, for people who read the error.

use super::Site;
use crate::catalog::Catalog;
use crate::images::Metadata;
use crate::model::payment::ProductKind;
use crate::model::visibility::Visibility;

/// What the query of a request says of the upload that it buys.
#[derive(Debug, Clone, Default)]
pub(super) struct Fields {
    /// What becomes of the image's metadata.
    pub(super) metadata: Option<Metadata>,
    /// The visibility of the image: public, or private with the wallet that may make links.
    pub(super) visibility: Option<Visibility>,
    /// The body that orders an import, in JSON.
    pub(super) import: Option<String>,
}

impl Fields {
    /// The same as form fields of curl. The URL is that of the offer, which has no query of this
    /// kind.
    fn form(&self) -> String {
        let mut fields = String::new();
        match self.metadata {
            None => {}
            Some(Metadata::Remove) => fields.push_str(" -F metadata=remove"),
            Some(Metadata::Keep) => fields.push_str(" -F metadata=keep"),
        }
        if let Some(visibility) = self.visibility {
            fields.push_str(" -F visibility=");
            fields.push_str(visibility.as_str());
            if let Some(viewer) = visibility.viewer() {
                fields.push_str(" -F viewer=");
                fields.push_str(&viewer.to_string());
            }
        }
        fields
    }
}

/// A route that sells, and how to pay there.
#[derive(Debug)]
pub(super) struct PaidRoute {
    /// The route's URL.
    pub(super) url: String,
    /// A curl command that pays there with the payment in `$PAYMENT`.
    pub(super) curl: String,
}

impl PaidRoute {
    /// The route at `path`, which sells products of this kind.
    pub(super) fn at(catalog: &Catalog, kind: ProductKind, path: &str, fields: Fields) -> Self {
        let url = catalog.url(path);
        let form = fields.form();
        let sent = match (kind, fields.import) {
            // A quote would end the argument of the shell.
            (ProductKind::Upload, Some(json)) => {
                format!("--json '{}'", json.replace('\'', "\\u0027"))
            }
            (ProductKind::Upload, None) => format!("-F image=@image.png{form}"),
            (ProductKind::Token | ProductKind::Renewal | ProductKind::Link, _) => {
                "-X POST".to_owned()
            }
        };
        let curl = format!("curl {sent} -H \"PAYMENT-SIGNATURE: $PAYMENT\" '{url}'");
        Self { url, curl }
    }

    /// The route of a direct upload to the cheapest tier with a price, or to the first one of
    /// several. `None`: nothing is sold now.
    pub(super) fn cheapest(site: &Site) -> Option<Self> {
        let checkout = site.checkout.as_ref()?;
        checkout.is_open().ok()?;
        let tiers = checkout.catalog.tiers();
        let paid = tiers.iter().filter(|tier| !tier.is_free());
        let cheapest = paid.min_by_key(|tier| tier.least_price())?;
        Some(Self::at(
            &checkout.catalog,
            ProductKind::Upload,
            &format!("/api/upload/{}", cheapest.name.as_str()),
            Fields::default(),
        ))
    }
}
