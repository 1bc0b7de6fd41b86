//! The record that is stored beside an image's object, from which its row can be restored if the
//! database is lost. It holds no secrets, and of the uploader at most its wallet; delete tokens and
//! signed links are derived from the master key.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::image::{Format, Image};
use super::look::Look;
use super::owner::Owner;
use super::payment::PaymentId;
use super::visibility::Visibility;
use crate::pricing::tiers::Keep;

const VERSION: u32 = 1;

/// The record beside an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sidecar {
    version: u32,
    id: String,
    format: String,
    size_bytes: u64,
    width: u32,
    height: u32,
    sha256: String,
    upload_sha256: String,
    tier: String,
    /// The ledger id of the image's payment, which can also be computed from the authorization on
    /// the chain.
    payment_id: Option<String>,
    /// The wallet that owns an image without a payment. The payer owns an image with one, and is
    /// read from the payment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    /// The network on which the owner may be a contract, as a CAIP-2 id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner_network: Option<String>,
    created_at: String,
    /// How long the image is kept after its publication, in milliseconds; null: for ever.
    keep_ms: Option<u64>,
    /// `private`; absent for public images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    visibility: Option<String>,
    /// The wallet that may make signed links; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    viewer: Option<String>,
    /// How often the signed links were ended; absent if never.
    #[serde(default, skip_serializing_if = "is_zero")]
    link_serial: u32,
    /// The `ThumbHash`, base64; absent for images that were uploaded before it was computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    thumbhash: Option<String>,
    /// The dominant colour, as `#rrggbb`; absent like the `ThumbHash`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dominant_color: Option<String>,
    /// The number of the content that this record describes, which is part of the key of its
    /// object; absent for content 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    content: u32,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
const fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Sidecar {
    /// The record of an image that is not published yet and will be kept for `keep`.
    pub fn new(image: &Image, keep: Keep) -> Self {
        let owner = image.owner.as_ref().filter(|_| image.payment_id.is_none());
        Self {
            version: VERSION,
            id: image.id.to_string(),
            format: image.format.as_str().to_owned(),
            size_bytes: image.size_bytes,
            width: image.width,
            height: image.height,
            sha256: image.sha256.clone(),
            upload_sha256: image.upload_sha256.clone(),
            tier: image.tier.clone(),
            payment_id: image
                .payment_id
                .as_ref()
                .map(PaymentId::as_str)
                .map(str::to_owned),
            owner: owner.map(|owner| owner.wallet.to_checksum(None)),
            owner_network: owner.and_then(|Owner { network, .. }| network.clone()),
            created_at: image.created_at.to_string(),
            keep_ms: match keep {
                Keep::For(time) => Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
                Keep::Forever => None,
            },
            visibility: image
                .visibility
                .is_private()
                .then(|| Visibility::PRIVATE.to_owned()),
            viewer: image.visibility.viewer().map(|wallet| wallet.to_string()),
            link_serial: image.link_serial,
            thumbhash: image.look.as_ref().map(Look::thumbhash_text),
            dominant_color: image.look.as_ref().map(Look::dominant_text),
            content: image.version,
        }
    }

    /// The record of a published image.
    pub fn of(image: &Image) -> Self {
        let keep = match (image.published_at, image.expires_at) {
            (Some(start), Some(end)) => Keep::For(end.since(start)),
            (None, Some(_)) => Keep::For(Duration::ZERO),
            (_, None) => Keep::Forever,
        };
        Self::new(image, keep)
    }

    /// How long, by this record, `image` is kept after its publication. `None`: the record belongs
    /// to another image.
    pub fn keep_of(&self, image: &Image) -> Option<Keep> {
        self.is_of(image).then(|| match self.keep_ms {
            Some(time) => Keep::For(Duration::from_millis(time)),
            None => Keep::Forever,
        })
    }

    /// How often, by this record, the signed links of `image` were ended. `None`: the record belongs
    /// to another image.
    pub fn link_serial_of(&self, image: &Image) -> Option<u32> {
        self.is_of(image).then_some(self.link_serial)
    }

    fn is_of(&self, image: &Image) -> bool {
        self.is_of_any(image) && self.content == image.version && self.sha256 == image.sha256
    }

    /// Whether the record belongs to some content of this image.
    fn is_of_any(&self, image: &Image) -> bool {
        self.version == VERSION
            && self.id == image.id.as_str()
            && self.created_at == image.created_at.to_string()
    }

    /// `image` with the content of this record, if the record belongs to a later one.
    pub fn later_content_of(&self, image: &Image) -> Option<Image> {
        if !self.is_of_any(image) || self.content <= image.version {
            return None;
        }
        let look = match (&self.thumbhash, &self.dominant_color) {
            (Some(thumbhash), Some(dominant)) => Look::parse(thumbhash, dominant),
            _ => None,
        };
        Some(Image {
            format: Format::parse(&self.format)?,
            size_bytes: self.size_bytes,
            width: self.width,
            height: self.height,
            metadata: None,
            look,
            sha256: self.sha256.clone(),
            upload_sha256: self.upload_sha256.clone(),
            version: self.content,
            ..image.clone()
        })
    }

    /// The record as it is stored: one line of JSON.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec(self).unwrap_or_default();
        text.push(b'\n');
        text
    }

    /// Reads what [`Sidecar::to_bytes`] wrote.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::Address;

    use super::*;
    use crate::model::ids::ImageId;
    use crate::model::image::{Format, ImageState};
    use crate::system::clock::Timestamp;

    fn draft() -> Image {
        Image {
            id: ImageId::parse("k3v9Qw2mZr7T").unwrap(),
            state: ImageState::Pending,
            format: Format::Png,
            size_bytes: 70,
            width: 8,
            height: 9,
            metadata: None,
            look: None,
            sha256: "ab".repeat(32),
            upload_sha256: "cd".repeat(32),
            tier: "free".to_owned(),
            payment_id: None,
            owner: None,
            created_at: Timestamp::from_seconds(1_800_000_000),
            published_at: None,
            expires_at: None,
            visibility: Visibility::Public,
            link_serial: 0,
            version: 0,
            refresh: None,
        }
    }

    #[test]
    fn a_record_is_the_same_before_and_after_publication() {
        let keep = Keep::For(Duration::from_hours(24));
        let draft = draft();
        let start = draft.created_at;
        let before = Sidecar::new(&draft, keep);
        let published = start.plus(Duration::from_secs(3));
        let live = Image {
            state: ImageState::Live,
            published_at: Some(published),
            expires_at: keep.end(published),
            ..draft
        };
        assert_eq!(Sidecar::of(&live), before);
        assert_eq!(Sidecar::parse(&before.to_bytes()).unwrap(), before);
        let text = String::from_utf8(before.to_bytes()).unwrap();
        assert_eq!(
            text,
            format!(
                "{{\"version\":1,\"id\":\"k3v9Qw2mZr7T\",\"format\":\"png\",\"sizeBytes\":70,\"width\":8,\
                 \"height\":9,\"sha256\":\"{}\",\"uploadSha256\":\"{}\",\"tier\":\"free\",\
                 \"paymentId\":null,\"createdAt\":\"2027-01-15T08:00:00.000Z\",\"keepMs\":86400000}}\n",
                "ab".repeat(32),
                "cd".repeat(32)
            )
        );
        assert_eq!(Sidecar::parse(b"{}"), None);
        let owned = Image {
            owner: Some(Owner {
                wallet: Address::repeat_byte(0x11),
                network: Some("eip155:8453".to_owned()),
            }),
            ..live.clone()
        };
        let text = String::from_utf8(Sidecar::of(&owned).to_bytes()).unwrap();
        let fields = "\"owner\":\"0x1111111111111111111111111111111111111111\",\"ownerNetwork\":\"eip155:8453\"";
        assert!(text.contains(fields), "{text}");
        // The payment says who owns a paid image, so that its record is the same before the
        // database has filled the owner in.
        let paid = Image {
            payment_id: PaymentId::parse(&"ab".repeat(32)),
            ..owned
        };
        let draft = Image {
            owner: None,
            ..paid.clone()
        };
        assert!(paid.payment_id.is_some());
        assert_eq!(Sidecar::of(&paid), Sidecar::of(&draft));

        assert_eq!(before.keep_of(&live), Some(keep));
        let forever = Sidecar::new(&live, Keep::Forever);
        assert_eq!(forever.keep_of(&live), Some(Keep::Forever));
        let other = Image {
            sha256: "ef".repeat(32),
            ..live
        };
        assert_eq!(before.keep_of(&other), None);
    }

    #[test]
    fn the_record_of_a_private_image_holds_its_viewer_and_the_serial_of_its_links() {
        let viewer = Address::repeat_byte(0xab);
        let image = Image {
            visibility: Visibility::Private {
                viewer: Some(viewer),
            },
            link_serial: 2,
            ..draft()
        };
        let record = Sidecar::of(&image);
        let text = String::from_utf8(record.to_bytes()).unwrap();
        let end =
            format!(",\"visibility\":\"private\",\"viewer\":\"{viewer}\",\"linkSerial\":2}}\n");
        assert!(text.ends_with(&end), "{text}");
        assert_eq!(Sidecar::parse(text.as_bytes()), Some(record.clone()));
        assert_eq!(record.link_serial_of(&image), Some(2));
        let other = Image {
            sha256: "ef".repeat(32),
            ..image
        };
        assert_eq!(record.link_serial_of(&other), None);
    }
}
