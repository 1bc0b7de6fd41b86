//! Finds images for the operator: lists by state, and searches by what a letter names.

use alloy_primitives::Address;

use super::facts::ImageView;
use super::{ActError, Trust};
use crate::db::images;
use crate::db::searches::{self, Kind};
use crate::model::ids::ImageId;
use crate::model::image::Image;

/// The most images of one page or search.
pub const MOST: u32 = 200;

/// What a list shows, and from where on.
#[derive(Debug, Clone)]
pub struct Page {
    kind: Kind,
    after: Option<ImageId>,
    most: u32,
}

impl Page {
    /// The names of lists, as `--state` takes them.
    pub const STATES: [&'static str; 4] = ["all", "removed", "held", "waiting"];

    /// Reads what a list shows: the name of a state, the id of the last image of the page before,
    /// and how many images to list.
    ///
    /// # Errors
    /// [`ActError::Bad`].
    pub fn parse(state: &str, after: Option<&str>, most: u32) -> Result<Self, ActError> {
        let kind = match state {
            "all" => Kind::All,
            "removed" => Kind::Removed,
            "held" => Kind::Held,
            "waiting" => Kind::Waiting,
            other => {
                let excerpt: String = other.chars().take(40).collect();
                return Err(ActError::Bad(format!(
                    "There is no list \"{excerpt}\". Send one of: {}.",
                    Self::STATES.join(", ")
                )));
            }
        };
        if most == 0 || most > MOST {
            return Err(ActError::Bad(format!(
                "A page of {most} images was asked for, and 1 to {MOST} are allowed. Send a limit in that range."
            )));
        }
        Ok(Self {
            kind,
            after: after.map(image_id).transpose()?,
            most,
        })
    }
}

/// Reads an image's id, or a link to it.
///
/// # Errors
/// [`ActError::Bad`].
pub fn image_id(text: &str) -> Result<ImageId, ActError> {
    ImageId::in_link(text.trim()).ok_or_else(|| {
        let excerpt: String = text.chars().take(80).collect();
        ActError::Bad(format!(
            "\"{excerpt}\" names no image. Send the 12 letters and digits of its id, or its link."
        ))
    })
}

impl Trust {
    /// Lists images, newest first.
    ///
    /// # Errors
    /// [`ActError::Database`].
    pub async fn list(&self, page: &Page) -> Result<Vec<ImageView>, ActError> {
        let after = page.after.as_ref().map_or("", ImageId::as_str);
        let found = searches::list(&self.db, page.kind, after, self.clock.now(), page.most).await?;
        self.views(&found).await
    }

    /// Finds images by an id, a link, a wallet, a transaction hash or a payment's ledger id, newest
    /// first: at most [`MOST`].
    ///
    /// # Errors
    /// [`ActError`].
    pub async fn find(&self, what: &str) -> Result<Vec<ImageView>, ActError> {
        let what = what.trim();
        let found = match searched(what) {
            Searched::Text(text) => searches::find_by(&self.db, &text, MOST).await?,
            Searched::Image => {
                let id = image_id(what).map_err(|_| {
                    let excerpt: String = what.chars().take(80).collect();
                    ActError::Bad(format!(
                        "\"{excerpt}\" can't be searched for. Send the id or the link of an image, a wallet's address, the hash of a \
                         transaction, or the ledger id of a payment."
                    ))
                })?;
                images::find(&self.db, &id).await?.into_iter().collect()
            }
        };
        self.views(&found).await
    }

    async fn views(&self, found: &[Image]) -> Result<Vec<ImageView>, ActError> {
        let mut views = Vec::new();
        for image in found {
            views.push(self.view(image).await?);
        }
        Ok(views)
    }
}

enum Searched {
    /// A wallet, a transaction or a payment, as the database writes it.
    Text(String),
    Image,
}

fn searched(what: &str) -> Searched {
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match what.strip_prefix("0x") {
        Some(digits) if digits.len() == 40 && is_hex(digits) => match what.parse::<Address>() {
            // The database holds addresses in EIP-55.
            Ok(wallet) => Searched::Text(wallet.to_string()),
            Err(_) => Searched::Image,
        },
        Some(digits) if digits.len() == 64 && is_hex(digits) => {
            Searched::Text(what.to_ascii_lowercase())
        }
        None if what.len() == 64 && is_hex(what) => Searched::Text(what.to_ascii_lowercase()),
        _ => Searched::Image,
    }
}
