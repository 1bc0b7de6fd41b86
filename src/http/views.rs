//! The bodies of the API, as types: what each route reads and what it answers. The OpenAPI document is made from them, so
//! their doc comments are read by clients.
//!
//! The order of fields is the order on the wire, which clients may have come to rely on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::metadata::Metadata as Outcome;

/// The facts about an image with which answers to uploads and questions begin.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImageFacts {
    /// The link of the image. That of a private image is signed: `?exp=<unix seconds>&sig=<digits>`.
    #[schemars(url)]
    pub(super) url: String,
    /// The id of the image: 12 letters and digits.
    #[schemars(regex(pattern = "^[0-9A-Za-z]{12}$"))]
    pub(super) id: String,
    /// The media type of the stored file, by its bytes.
    pub(super) content_type: &'static str,
    /// The size of the stored file in bytes.
    pub(super) size_bytes: u64,
    /// When the image is deleted (RFC 3339, UTC). Null: when the service ends.
    #[schemars(extend("format" = "date-time"))]
    pub(super) expires_at: Option<String>,
    /// The width that browsers show, in pixels.
    pub(super) width: u32,
    /// The height that browsers show, in pixels.
    pub(super) height: u32,
    /// The SHA-256 of the stored file, in hexadecimal digits.
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    pub(super) sha256: String,
    /// The tier of the image.
    pub(super) tier: String,
    /// `public`: everybody who has the link sees the image. `private`: only signed links show it.
    #[schemars(extend("enum" = ["public", "private"]))]
    pub(super) visibility: &'static str,
    /// When the link in `url` ends. Private images only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub(super) link_expires_at: Option<String>,
    /// The page for people that shows the image, signed as `url` is. Chats show a preview of its link.
    #[schemars(url)]
    pub(super) page_url: String,
    /// The links of smaller variants, which are made when they are first asked for.
    pub(super) sizes: SizesView,
    /// A blurred preview of at most 25 bytes, base64: a `ThumbHash`. It is missing for images that were uploaded before the
    /// server computed it, and for those of more than 64 megapixels that are no JPEG.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) thumbhash: Option<String>,
    /// The most frequent colour, as `#rrggbb`. It is missing where `thumbhash` is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^#[0-9a-f]{6}$"))]
    pub(super) dominant_color: Option<String>,
    /// How often the image is compared with the URL that it was imported from. It is missing where
    /// the image never changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refresh_seconds: Option<u64>,
    /// When that URL last had the image that is served now. It is missing where `refreshSeconds`
    /// is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub(super) refreshed_at: Option<String>,
}

/// The links of an image's variants with a name. Those of a private image are signed as its own link.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct SizesView {
    /// At most 320 pixels wide, WebP.
    #[schemars(url)]
    pub(super) s: String,
    /// At most 800 pixels wide, WebP.
    #[schemars(url)]
    pub(super) m: String,
    /// At most 1600 pixels wide, WebP.
    #[schemars(url)]
    pub(super) l: String,
    /// 1200 by 630 pixels for previews of links, JPEG.
    #[schemars(url)]
    pub(super) social: String,
}

/// An uploaded image, as its uploader sees it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct UploadAnswer {
    #[serde(flatten)]
    pub(super) facts: ImageFacts,
    /// The secret that deletes the image and shows its receipts: 40 hexadecimal digits. It is missing where the same bytes
    /// came again by an upload link or an API key: several people may have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", regex(pattern = "^[0-9a-f]{40}$"))]
    pub(super) delete_token: Option<String>,
    /// The page for people that deletes the image, after it has asked. It holds the delete token behind `#`, so keep it as
    /// secret. It is missing where `deleteToken` is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", url)]
    pub(super) delete_url: Option<String>,
    /// The image as Markdown.
    pub(super) markdown: String,
    #[serde(flatten)]
    pub(super) metadata: MetadataAnswer,
}

/// What became of the metadata of an upload.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct MetadataAnswer {
    /// `removed` or `kept`.
    #[schemars(extend("enum" = ["removed", "kept"]))]
    metadata: &'static str,
    /// The kinds of metadata that were removed and the repairs that were made. Empty: the file is stored as it was sent. Null:
    /// the image was uploaded before the server recorded this.
    removed: Option<Vec<&'static str>>,
    /// The kinds of metadata in the stored file, where the request asked to keep them.
    #[serde(skip_serializing_if = "Option::is_none")]
    contains: Option<Vec<&'static str>>,
}

impl MetadataAnswer {
    pub(super) fn of(metadata: Option<Outcome>) -> Self {
        let (metadata, removed, contains) = match metadata {
            None => ("removed", None, None),
            Some(Outcome::Removed(kinds)) => ("removed", Some(kinds.words()), None),
            Some(Outcome::Kept(kinds)) => ("kept", Some(Vec::new()), Some(kinds.words())),
        };
        Self {
            metadata,
            removed,
            contains,
        }
    }
}

/// The facts about an image.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImageAnswer {
    #[serde(flatten)]
    pub(super) facts: ImageFacts,
    /// When the image was published.
    #[schemars(extend("format" = "date-time"))]
    pub(super) created_at: Option<String>,
}

/// The images of a wallet.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ImagesAnswer {
    /// The images, newest first.
    pub(super) images: Vec<ImageAnswer>,
    /// Where more images follow: send the request again with `?after=` this value. It needs no new sign-in within 10 minutes
    /// of the last one. Null: these are all.
    pub(super) next: Option<String>,
}

/// A renewed image. It states what this payment did, whatever later renewals did. Anybody who sees an image may renew it, so
/// there is no delete token.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RenewalAnswer {
    /// The link of the image. That of a private image is signed anew for its owner; others receive the link that they sent.
    #[schemars(url)]
    pub(super) url: String,
    /// The id of the image.
    #[schemars(regex(pattern = "^[0-9A-Za-z]{12}$"))]
    pub(super) id: String,
    /// The media type of the stored file.
    pub(super) content_type: &'static str,
    /// The size of the stored file in bytes.
    pub(super) size_bytes: u64,
    /// When the image is deleted after this renewal. Null: when the service ends.
    #[schemars(extend("format" = "date-time"))]
    pub(super) expires_at: Option<String>,
    /// When the image would have been deleted without it.
    #[schemars(extend("format" = "date-time"))]
    pub(super) previous_expires_at: String,
    /// The width that browsers show, in pixels.
    pub(super) width: u32,
    /// The height that browsers show, in pixels.
    pub(super) height: u32,
    /// The SHA-256 of the stored file, in hexadecimal digits.
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    pub(super) sha256: String,
    /// The tier of the image after this renewal.
    pub(super) tier: String,
    /// `public`: everybody who has the link sees the image. `private`: only signed links show it.
    #[schemars(extend("enum" = ["public", "private"]))]
    pub(super) visibility: &'static str,
    /// When the link in `url` ends. Private images only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub(super) link_expires_at: Option<String>,
}

/// A request for a signed link to a private image.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SignedLinkRequest {
    /// How long the link lasts, in seconds: up to a year, and never longer than the image. The default is the operator's,
    /// usually 7 days.
    #[schemars(range(min = 1, max = 31_536_000))]
    pub(super) expires_in_seconds: Option<u64>,
}

/// A signed link to a private image.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SignedLinkAnswer {
    /// The link. Whoever has it sees the image until it ends.
    #[schemars(url)]
    pub(super) url: String,
    /// When the link ends.
    #[schemars(extend("format" = "date-time"))]
    pub(super) expires_at: String,
}

/// The signed links of a private image were ended.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct LinksEndedAnswer {
    /// The id of the image.
    #[schemars(regex(pattern = "^[0-9A-Za-z]{12}$"))]
    pub(super) id: String,
    /// From when on no earlier link shows the image.
    #[schemars(extend("format" = "date-time"))]
    pub(super) links_ended_at: String,
}

/// An upload token that was bought.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TokenAnswer {
    /// When the token expires.
    #[schemars(extend("format" = "date-time"))]
    pub(super) expires_at: String,
    /// The tier of images that it uploads.
    pub(super) tier: String,
    /// The token, for the header `X-Upload-Token`: 40 hexadecimal digits.
    #[schemars(regex(pattern = "^[0-9a-f]{40}$"))]
    pub(super) token: String,
    /// Where to upload: `POST` the image there with the token.
    #[schemars(url)]
    pub(super) upload_url: String,
    /// How many uploads the token has left.
    pub(super) uploads: u32,
}

/// An upload link: a URL that takes images until it ends.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct LinkAnswer {
    /// The name of the link, for `DELETE /api/links/{id}`. It is no secret.
    #[schemars(regex(pattern = "^([0-9a-f]{32}|[0-9a-f]{64})$"))]
    pub(super) id: String,
    /// The link. Whoever has it may upload. Null: the server's key that made it was removed.
    #[schemars(extend("format" = "uri"))]
    pub(super) url: Option<String>,
    /// The tier of images that it uploads.
    pub(super) tier: String,
    /// How many uploads the link takes in all.
    pub(super) uploads: u32,
    /// How many uploads were published.
    pub(super) used: u32,
    /// When the link ends.
    #[schemars(extend("format" = "date-time"))]
    pub(super) expires_at: String,
    /// When the link was made.
    #[schemars(extend("format" = "date-time"))]
    pub(super) created_at: String,
    /// When the link was revoked. Null: it is not revoked.
    #[schemars(extend("format" = "date-time"))]
    pub(super) revoked_at: Option<String>,
    /// A command that uploads an image.
    pub(super) curl: Option<String>,
}

/// The upload links of a wallet.
#[derive(Serialize, JsonSchema)]
pub(super) struct LinksAnswer {
    /// The links, newest first.
    pub(super) links: Vec<LinkAnswer>,
    /// Where more links follow: send `?after=` this value. It needs no other sign-in for 10 minutes.
    /// Null: these are all.
    pub(super) next: Option<String>,
}

/// An API key of a wallet.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ApiKeyAnswer {
    /// The name of the key in routes. It is no secret.
    #[schemars(regex(pattern = "^[0-9a-f]{16}$"))]
    pub(super) id: String,
    /// The secret, for `Authorization: Bearer …`. It is shown once, when the key is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^pixtoll_[0-9A-Za-z]{40}$"))]
    pub(super) key: Option<String>,
    /// The wallet in whose name the key uploads (EIP-55).
    pub(super) wallet: String,
    /// What the wallet calls the key.
    pub(super) name: Option<String>,
    /// When the key was made.
    #[schemars(extend("format" = "date-time"))]
    pub(super) created_at: String,
    /// Since when the key is suspended. Null: it is not.
    #[schemars(extend("format" = "date-time"))]
    pub(super) suspended_at: Option<String>,
    /// When the key was revoked. Null: it is not.
    #[schemars(extend("format" = "date-time"))]
    pub(super) revoked_at: Option<String>,
    /// What the key may do.
    pub(super) limits: KeyLimits,
    /// What the key did.
    pub(super) usage: KeyUsage,
}

/// The limits of an API key.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct KeyLimits {
    /// How many uploads the key may make in a UTC day.
    pub(super) uploads_per_day: u64,
}

/// The usage of an API key.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct KeyUsage {
    /// How many uploads the key made today (UTC).
    pub(super) uploads_today: u64,
    /// How many uploads the key made in all.
    pub(super) uploads: u64,
    /// The sum of the sizes of their stored files, in bytes.
    pub(super) bytes: u64,
    /// When the key last uploaded. Null: never.
    #[schemars(extend("format" = "date-time"))]
    pub(super) last_used_at: Option<String>,
}

/// The API keys of a wallet.
#[derive(Serialize, JsonSchema)]
pub(super) struct ApiKeysAnswer {
    /// The keys, newest first, also revoked ones. At most 1000.
    pub(super) keys: Vec<ApiKeyAnswer>,
}

/// An API key to make.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewKeyRequest {
    /// What you call the key: 1 to 64 characters.
    #[schemars(length(min = 1, max = 64))]
    pub(super) name: Option<String>,
    /// How many uploads the key may make in a UTC day: at most, and by default, as many as the
    /// operator allows.
    #[schemars(range(min = 1))]
    pub(super) uploads_per_day: Option<u64>,
}

/// An image to import.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ImportRequest {
    /// The image's own address: http or https, with a public host.
    #[schemars(length(max = 2048), regex(pattern = "^https?://"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) url: Option<String>,
    /// The tier of the image; by default the server's default tier. Not with an upload token, which
    /// has its own.
    #[schemars(regex(pattern = "^[a-z0-9-]{1,32}$"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tier: Option<String>,
    /// What becomes of metadata. The default is the operator's, usually `remove`.
    #[schemars(extend("enum" = ["remove", "keep"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) metadata: Option<String>,
    /// `public`, which is the default, or `private`: only signed links show the image.
    #[schemars(extend("enum" = ["public", "private"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) visibility: Option<String>,
    /// The wallet that may make signed links to a private image beside its owner.
    #[schemars(regex(pattern = "^0x[0-9a-fA-F]{40}$"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) viewer: Option<String>,
    /// Keeps the image up to date: how often the server compares it with the URL, such as `6h` or
    /// `1day`, until it expires. At most `30days`, and usually at least `1h`. By default the image
    /// never changes.
    #[schemars(length(min = 2, max = 40))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refresh: Option<String>,
}

/// A report of an image.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReportRequest {
    /// The image: its link or its id. A private image needs its signed link.
    #[schemars(length(min = 1, max = 2048))]
    pub(super) image: String,
    /// Why you report it.
    #[schemars(extend("enum" = ["illegal", "csam", "ncii", "copyright", "malware", "phishing", "doxxing", "deepfake",
        "harassment", "terrorism", "other"]))]
    pub(super) reason: String,
    /// What the operator should know: at most 4000 characters.
    #[schemars(length(max = 4000))]
    pub(super) details: Option<String>,
    /// How the operator can reach you. It is kept with the case.
    #[schemars(length(min = 3, max = 254))]
    pub(super) contact: Option<String>,
    /// Makes a report of copyright a formal notice (17 U.S.C. § 512(c)(3)).
    pub(super) notice: Option<NoticeRequest>,
}

/// A statement under penalty of perjury that an image infringes copyright.
#[derive(Debug, Default, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct NoticeRequest {
    /// Your full name, which is your signature.
    #[schemars(length(min = 1, max = 200))]
    pub(super) name: String,
    /// The work that is infringed.
    #[schemars(length(min = 1, max = 1000))]
    pub(super) work: String,
    /// Your postal address.
    #[schemars(length(min = 1, max = 500))]
    pub(super) address: String,
    /// `true`: under penalty of perjury, this notice is accurate, you own the right or act for its owner, and you believe in
    /// good faith that the use is not authorised.
    pub(super) sworn: bool,
}

/// An uploader's objection to a removal for copyright (17 U.S.C. § 512(g)(3)).
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ObjectionRequest {
    /// Your full name, which is your signature.
    #[schemars(length(min = 1, max = 200))]
    pub(super) name: String,
    /// Your postal address.
    #[schemars(length(min = 1, max = 500))]
    pub(super) address: String,
    /// How the operator can reach you.
    #[schemars(length(min = 3, max = 254))]
    pub(super) contact: String,
    /// What the operator should know: at most 4000 characters.
    #[schemars(length(max = 4000))]
    pub(super) details: Option<String>,
    /// `true`: under penalty of perjury, you believe in good faith that the image was removed by mistake, and you accept the
    /// jurisdiction of the court of your district and service of process by the person who sent the notice.
    pub(super) sworn: bool,
}

/// A case: all reports of one image until the operator decides.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct CaseAnswer {
    /// The case number.
    #[schemars(regex(pattern = "^[0-9a-f]{16}$"))]
    pub(super) case: String,
    /// The id of the image.
    pub(super) image: String,
    /// Whether the operator has decided, and how.
    #[schemars(extend("enum" = ["open", "upheld", "dismissed"]))]
    pub(super) state: &'static str,
    /// What has become of the image: a removed one may be restored, and a deleted one never comes back.
    #[schemars(extend("enum" = ["served", "removed", "deleted"]))]
    pub(super) image_state: &'static str,
    /// When the first report came in.
    #[schemars(extend("format" = "date-time"))]
    pub(super) opened_at: String,
    /// When the operator decided. Null: not yet.
    #[schemars(extend("format" = "date-time"))]
    pub(super) decided_at: Option<String>,
    /// When the uploader objected to the removal. Null: the uploader did not.
    #[schemars(extend("format" = "date-time"))]
    pub(super) objected_at: Option<String>,
    /// What happens next.
    pub(super) next: String,
}

/// What a payer paid for and may not have received.
#[derive(Serialize, JsonSchema)]
pub(super) struct ClaimsAnswer {
    /// The settled payments with uploads left, or with a live image of a direct upload, in the order of their ledger ids. At
    /// most 100.
    pub(super) payments: Vec<ClaimView>,
    /// Where more payments follow: sign in again with `?after=` this value. Null: these are all.
    pub(super) next: Option<String>,
    /// How many further payments of this payer may have moved money, which is not known yet. Sign in again later.
    pub(super) open: u64,
}

/// A settled payment and what it bought: `token`, `link` or `image`, the others are null.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ClaimView {
    /// What was bought: an upload token, a direct upload, a renewal or an upload link.
    #[schemars(extend("enum" = ["token", "upload", "renewal", "link"]))]
    pub(super) bought: &'static str,
    /// The image of a direct upload.
    pub(super) image: Option<UploadAnswer>,
    /// The upload link. It is the same as before while it takes uploads; one that ended or was
    /// revoked is replaced.
    pub(super) link: Option<LinkAnswer>,
    /// The name of the payment in the server's ledger, for questions to the operator.
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    pub(super) ledger_id: String,
    /// The network of the payment, as a CAIP-2 id.
    pub(super) network: &'static str,
    /// The nonce of the payment's authorization.
    pub(super) nonce: String,
    /// What was paid.
    pub(super) price: PriceView,
    /// When the transfer was proven.
    #[schemars(extend("format" = "date-time"))]
    pub(super) settled_at: Option<String>,
    /// The tier that was bought.
    pub(super) tier: String,
    /// The upload token. It is the same as before while it is valid; an expired one is replaced.
    pub(super) token: Option<TokenAnswer>,
    /// The transaction that moved the money.
    pub(super) transaction: String,
}

/// The price table.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct TiersAnswer {
    /// How payments are made. Null: the server sells nothing.
    pub(super) payments: Option<PaymentsView>,
    /// Every tier, in the operator's order.
    pub(super) tiers: Vec<TierView>,
}

/// How payments are made.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct PaymentsView {
    /// The token contract on the first network (EIP-55).
    pub(super) asset: Option<String>,
    /// The first network, as a CAIP-2 id.
    pub(super) network: Option<&'static str>,
    /// Every network that payments are taken on, best first.
    pub(super) networks: Vec<NetworkView>,
    /// The recipient of payments (EIP-55).
    pub(super) pay_to: String,
    /// Whether the money is worth nothing: a sandbox, where every wallet has play USDC.
    pub(super) play_money: bool,
}

/// A network that payments are taken on.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct NetworkView {
    /// The token contract (EIP-55).
    pub(super) asset: String,
    /// The CAIP-2 id.
    pub(super) network: &'static str,
}

/// A tier: what an upload costs, how large it may be and how long it is kept.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TierView {
    /// Whether an image as large as the one that was sent fits. Only in answers of `/api/check`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) accepted: Option<bool>,
    /// Whether the tier can be bought now.
    pub(super) available: bool,
    /// Whether paid routes sell this tier when they name none.
    pub(super) default: bool,
    /// The price of the image that was sent, or of one of its size. Only in answers of checks, where
    /// the tier accepts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) image_price: Option<PriceView>,
    /// How long an image is kept, in seconds. Null: until the service ends.
    pub(super) keep_seconds: Option<u64>,
    /// The largest upload in bytes.
    pub(super) max_bytes: u64,
    /// The name of the tier.
    pub(super) name: String,
    /// The price of one upload. With `pricePerMib`, it is the part that doesn't depend on the size.
    pub(super) price: PriceView,
    /// What each started MiB of the image costs beside `price`. Absent: the size doesn't matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) price_per_mib: Option<PriceView>,
    /// The routes that take uploads to this tier.
    pub(super) routes: TierRoutes,
}

/// A price.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct PriceView {
    /// The price in atomic units of the currency, as decimal digits.
    pub(super) amount: String,
    /// The name of the currency.
    pub(super) currency: &'static str,
    /// How many decimals the currency has.
    pub(super) decimals: usize,
    /// The price in US dollars, as a decimal number.
    pub(super) usd: String,
}

/// The routes of a tier.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct TierRoutes {
    /// Sells an upload token. Tiers with a price only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<String>,
    /// Takes an upload directly.
    pub(super) upload: String,
}

/// What an upload of these bytes would do.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct CheckAnswer {
    /// The kinds of metadata in the stored file, where the request asked to keep them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) contains: Option<Vec<&'static str>>,
    /// The media type, by the bytes.
    pub(super) content_type: &'static str,
    /// The number of frames: 1 for a still image.
    pub(super) frames: u32,
    /// The height that browsers show, in pixels.
    pub(super) height: u32,
    /// `removed` or `kept`: what an upload would do with metadata.
    #[schemars(extend("enum" = ["removed", "kept"]))]
    pub(super) metadata: &'static str,
    /// The kinds of metadata that would be removed and the repairs that would be made.
    pub(super) removed: Option<Vec<&'static str>>,
    /// The SHA-256 of the file that would be stored.
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    pub(super) sha256: String,
    /// The size of the file that would be stored, in bytes.
    pub(super) size_bytes: u64,
    /// Every tier, with whether it takes this upload.
    pub(super) tiers: Vec<TierView>,
    /// The size of the upload in bytes, which the limits of tiers count.
    pub(super) upload_bytes: u64,
    /// The SHA-256 of the upload.
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    pub(super) upload_sha256: String,
    /// The width that browsers show, in pixels.
    pub(super) width: u32,
}

impl MetadataAnswer {
    /// The three fields: what becomes of metadata, what is removed, what the stored file holds.
    pub(super) fn into_fields(
        self,
    ) -> (
        &'static str,
        Option<Vec<&'static str>>,
        Option<Vec<&'static str>>,
    ) {
        (self.metadata, self.removed, self.contains)
    }
}

/// Images that are deleted.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct DeletedAnswer {
    /// The ids, in the order of the request.
    pub(super) deleted: Vec<String>,
}

/// Up to 100 images to delete, in one of two forms: `images`, as uploads returned them, or `ids` with `deleteTokens` in the
/// same order. The token of a single id may be in the header `X-Delete-Token`. An entry without a token needs a sign-in with
/// the wallet that owns the image.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("anyOf" = [
    {"required": ["images"], "properties": {"images": {"minItems": 1}}},
    {"required": ["ids"], "properties": {"ids": {"minItems": 1}}},
]))]
pub(super) struct DeleteRequest {
    /// The images with their delete tokens.
    #[serde(default)]
    #[schemars(length(max = 100))]
    pub(super) images: Vec<ImageToDelete>,
    /// The ids of the images.
    #[serde(default)]
    #[schemars(length(max = 100), inner(regex(pattern = "^[0-9A-Za-z]{12}$")))]
    pub(super) ids: Vec<String>,
    /// The delete tokens, in the order of `ids`.
    pub(super) delete_tokens: Option<Vec<String>>,
}

/// An image with its delete token.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImageToDelete {
    /// The id.
    #[schemars(regex(pattern = "^[0-9A-Za-z]{12}$"))]
    pub(super) id: String,
    /// The delete token.
    pub(super) delete_token: Option<String>,
}

/// The receipts of an image.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReceiptsAnswer {
    /// Where the keys are that the receipts are signed with.
    #[schemars(url)]
    pub(super) keys_url: String,
    /// Where payers claim what they paid for and did not receive: `POST /api/claims`.
    #[schemars(url)]
    pub(super) claims_url: String,
    /// One receipt for each payment that stands on the chain, the oldest first.
    pub(super) receipts: Vec<ReceiptView>,
}

/// A receipt as it is shown: its claims, and the same claims signed.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ReceiptView {
    #[serde(flatten)]
    pub(super) receipt: crate::model::receipt::Receipt,
    /// The claims as a JSON Web Signature (RFC 7515, compact form, Ed25519).
    pub(super) jws: String,
}

/// The public proof: its claims, and the same claims signed.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProofAnswer<'a> {
    #[serde(flatten)]
    pub(super) proof: &'a crate::model::proof::Proof,
    /// The claims as a JSON Web Signature (RFC 7515, compact form, Ed25519, type `pixtoll-proof`).
    pub(super) jws: &'a str,
    /// Where the keys are that the proof is signed with.
    #[schemars(url)]
    pub(super) keys_url: String,
}

/// The keys that receipts and offers are signed with (RFC 7517).
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct KeysAnswer {
    /// The keys, those of today first.
    pub(super) keys: Vec<KeyView>,
}

/// A public key, as a JSON Web Key.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct KeyView {
    /// The members of the key: `kty`, `crv`, `x`, `kid` and so on.
    #[serde(flatten)]
    pub(super) key: serde_json::Map<String, serde_json::Value>,
    /// When the key was first used.
    #[schemars(extend("format" = "date-time"))]
    pub(super) first_used_at: String,
    /// When the key was retired. Null: it is in use.
    #[schemars(extend("format" = "date-time"))]
    pub(super) retired_at: Option<String>,
}

/// A signed message of the x402 extension `sign-in-with-x`: `info` of the challenge, and who signed it.
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes what x402/siwx.rs reads")]
pub(super) struct SignedMessageBody {
    /// `info.domain` of the challenge.
    domain: String,
    /// The wallet's address, with its checksum (EIP-55).
    #[schemars(regex(pattern = "^0x[0-9a-fA-F]{40}$"))]
    address: String,
    /// `info.statement` of the challenge.
    statement: Option<String>,
    /// `info.uri` of the challenge.
    #[schemars(url)]
    uri: String,
    /// `1`.
    #[schemars(extend("const" = "1"))]
    version: String,
    /// One of the `supportedChains`, as a CAIP-2 id. It matters for contract wallets only.
    chain_id: String,
    /// `eip191`, also for contract wallets.
    #[serde(rename = "type")]
    #[schemars(extend("const" = "eip191"))]
    kind: String,
    /// `info.nonce` of the challenge.
    nonce: String,
    /// `info.issuedAt` of the challenge.
    #[schemars(extend("format" = "date-time"))]
    issued_at: String,
    /// `info.expirationTime` of the challenge.
    #[schemars(extend("format" = "date-time"))]
    expiration_time: Option<String>,
    /// From when on the message is valid.
    #[schemars(extend("format" = "date-time"))]
    not_before: Option<String>,
    /// An id of the client's.
    request_id: Option<String>,
    /// `info.resources` of the challenge.
    resources: Option<Vec<String>>,
    /// The signature of the text by `personal_sign`: hexadecimal digits after `0x`.
    #[schemars(regex(pattern = "^0x([0-9a-fA-F]{2})*$"))]
    signature: String,
}

/// An image in a JSON body. `file` is another name for `image`.
#[derive(Debug, JsonSchema)]
#[expect(dead_code, reason = "describes what base64_body.rs reads as a stream")]
pub(super) struct JsonUpload {
    /// The bytes of the image in base64, or a `data:` URL with base64.
    #[schemars(length(min = 1), extend("contentEncoding" = "base64"))]
    image: String,
    /// What becomes of metadata. The default is the operator's, usually `remove`.
    #[schemars(extend("enum" = ["remove", "keep"]))]
    metadata: Option<String>,
    /// `public`, which is the default, or `private`: only signed links show the image.
    #[schemars(extend("enum" = ["public", "private"]))]
    visibility: Option<String>,
    /// The wallet that may make signed links to a private image beside its owner.
    #[schemars(regex(pattern = "^0x[0-9a-fA-F]{40}$"))]
    viewer: Option<String>,
}

/// An image in a multipart form. The image is the field `image`, else `file`, else the only part that is a file.
#[derive(Debug, JsonSchema)]
#[expect(dead_code, reason = "describes what form.rs reads")]
pub(super) struct FormUpload {
    /// The image.
    #[schemars(length(min = 1), extend("contentMediaType" = "application/octet-stream"))]
    image: String,
    /// What becomes of metadata. The default is the operator's, usually `remove`.
    #[schemars(extend("enum" = ["remove", "keep"]))]
    metadata: Option<String>,
    /// `public`, which is the default, or `private`: only signed links show the image.
    #[schemars(extend("enum" = ["public", "private"]))]
    visibility: Option<String>,
    /// The wallet that may make signed links to a private image beside its owner.
    #[schemars(regex(pattern = "^0x[0-9a-fA-F]{40}$"))]
    viewer: Option<String>,
}

/// An error. A 402 also holds the offers, as version 1 of x402 defines them; version 2 is in the header `PAYMENT-REQUIRED`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ErrorBody {
    /// The offers of a 402 (x402 version 1).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<OfferV1>>")]
    pub(super) accepts: Option<Vec<serde_json::Value>>,
    /// What to do next.
    pub(super) action: ActionView,
    /// Whether the payment that the request carried moved money: true, false, or null where nobody knows yet. False where the
    /// request carried none.
    pub(super) charged: Option<bool>,
    /// A stable code.
    pub(super) error: &'static str,
    /// The challenge to sign in with a wallet (x402 extension `sign-in-with-x`), where `action.type` is `claim`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pub(super) extensions: Option<serde_json::Value>,
    /// What is wrong, what the limit is, and what to send instead.
    pub(super) message: String,
    /// True in a sandbox, whose money is worth nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) play_money: Option<bool>,
    /// 1, where `accepts` is present.
    #[serde(rename = "x402Version", skip_serializing_if = "Option::is_none")]
    pub(super) x402_version: Option<u8>,
}

/// What to do after an error.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ActionView {
    /// A command that shows how to go on. It reads the signed payment from `$PAYMENT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) curl: Option<String>,
    /// How long to wait before the next request. `Retry-After` says the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) retry_after_seconds: Option<u32>,
    /// The kind of step.
    #[serde(rename = "type")]
    #[schemars(extend("enum" = ["wait", "retry", "pay", "claim", "resize", "fix_request", "contact"]))]
    pub(super) kind: &'static str,
    /// The route to go on at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) url: Option<String>,
}

/// An offer of x402 version 1.
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes what x402/wire.rs writes")]
pub(super) struct OfferV1 {
    /// The token contract (EIP-55).
    asset: String,
    /// What is sold.
    description: String,
    /// The name and version of the token's EIP-712 domain.
    extra: serde_json::Map<String, serde_json::Value>,
    /// The price in atomic units, as decimal digits.
    max_amount_required: String,
    /// Sign `validBefore` = now + this.
    max_timeout_seconds: u64,
    /// The media type of the answer.
    mime_type: String,
    /// The network's name in version 1.
    network: String,
    /// What to send and what is returned.
    output_schema: serde_json::Map<String, serde_json::Value>,
    /// The recipient (EIP-55).
    pay_to: String,
    /// The absolute URL of the route.
    resource: String,
    /// Always `exact`.
    scheme: String,
}

/// The routes of the API.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct IndexAnswer {
    /// The name of the software.
    pub(super) name: &'static str,
    /// The version of the software.
    pub(super) version: &'static str,
    /// The OpenAPI document.
    #[schemars(url)]
    pub(super) openapi: String,
    /// The documentation for readers.
    #[schemars(url)]
    pub(super) documentation: String,
    /// An overview for language models.
    #[schemars(url)]
    pub(super) llms: String,
    /// Every route.
    pub(super) routes: Vec<RouteView>,
}

/// A route.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct RouteView {
    /// The methods that the route takes.
    pub(super) methods: Vec<&'static str>,
    /// The URL, with `{names}` for its parts that vary.
    pub(super) url: String,
    /// What the route does.
    pub(super) summary: &'static str,
}
