//! Every public route, described once: the router takes its methods from this table, and the OpenAPI document, `GET /api`,
//! docs/api.md and the suggestions for unknown paths are made from it.

use actix_web::http::Method;

use super::error::Code;

mod routes;

pub(super) use routes::{EVERYWHERE, IMAGE_PATH, ROUTES};

/// A path and what may be done there.
#[derive(Debug)]
pub(super) struct Route {
    /// The path, with `{names}` for the parts that vary.
    pub(super) path: &'static str,
    /// What the methods of the path do.
    pub(super) operations: &'static [Operation],
}

/// What one or several methods of a path do.
#[derive(Debug)]
pub(super) struct Operation {
    /// The methods that do the same, the usual one first.
    pub(super) methods: &'static [&'static str],
    /// The operation's id in the OpenAPI document.
    pub(super) id: &'static str,
    /// What the operation does, in one line.
    pub(super) summary: &'static str,
    /// What a client has to know beside that.
    pub(super) description: &'static str,
    /// Query parameters and headers. Those in the path follow from the path.
    pub(super) parameters: &'static [Parameter],
    /// The body of the request.
    pub(super) body: Body,
    /// The response to a request that succeeds.
    pub(super) success: Success,
    /// Whether it asks for a payment.
    pub(super) price: Price,
    /// The errors that it may return, beside those of every route.
    pub(super) errors: &'static [&'static [Code]],
}

/// A parameter that is not in the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parameter {
    /// `?metadata=remove|keep`.
    Metadata,
    /// `?visibility=public|private` and `?viewer=ADDRESS`.
    Visibility,
    /// `?exp=` and `?sig=` of a signed link.
    Signature,
    /// `?w=`, `?h=`, `?fit=`, `?q=` and `?size=` of a variant.
    Variant,
    /// `?url=`, `?format=`, `?maxwidth=` and `?maxheight=` of oEmbed.
    Embed,
    /// `?images=N`.
    Images,
    /// `?tier=NAME`, for renewals.
    Tier,
    /// `?days=D` and `?tier=NAME`, for links.
    Link,
    /// `?bytes=N`.
    Bytes,
    /// `PAYMENT-SIGNATURE`, `X-PAYMENT` and `Idempotency-Key`.
    Payment,
    /// `?after=LEDGER_ID`.
    After,
    /// `?limit=N` and `?after=CURSOR`.
    Page,
    /// `SIGN-IN-WITH-X`, or the body, for claims.
    SignIn,
    /// `SIGN-IN-WITH-X`, beside other credentials or as the only one.
    Wallet,
    /// `X-Upload-Token`.
    UploadToken,
    /// `Authorization: Bearer` with an API key.
    ApiKey,
    /// `X-Delete-Token`.
    DeleteToken,
    /// `X-Delete-Token`, where the route works without it.
    AnyDeleteToken,
    /// `Range`, `If-None-Match` and the other conditional headers.
    Conditions,
}

/// The body of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// None is read.
    None,
    /// An image: a form, JSON, or its bytes. With PUT, its bytes.
    Image,
    /// The list of images to delete.
    Delete,
    /// A signed message, or none.
    SignIn,
    /// The URL of an image to import.
    Import,
    /// The API key to make, or none.
    ApiKey,
    /// How long a signed link is to last, or none.
    SignedLink,
    /// A report of an image.
    Report,
    /// An objection to a removal.
    Objection,
    /// A JSON-RPC message of the Model Context Protocol.
    Rpc,
}

/// The body of a response with status 200.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Success {
    /// `UploadAnswer`.
    Upload,
    /// `TokenAnswer`.
    Token,
    /// `RenewalAnswer`.
    Renewal,
    /// `LinksAnswer`.
    Links,
    /// `LinkAnswer`, as JSON only or also as text and as a page.
    Link {
        /// Whether `Accept` chooses the form.
        in_forms: bool,
    },
    /// `UploadAnswer` as JSON, or the link of the image as text or in a page.
    LinkUpload,
    /// `ApiKeyAnswer`.
    ApiKey,
    /// `ApiKeysAnswer`.
    ApiKeys,
    /// `CheckAnswer`.
    Check,
    /// `TiersAnswer`.
    Tiers,
    /// `ImageAnswer`.
    Image,
    /// `ImagesAnswer`.
    Images,
    /// `DeletedAnswer`.
    Deleted,
    /// `SignedLinkAnswer`.
    SignedLink,
    /// `CaseAnswer`.
    Case,
    /// `LinksEndedAnswer`.
    LinksEnded,
    /// `ClaimsAnswer`.
    Claims,
    /// `ReceiptsAnswer`.
    Receipts,
    /// `ProofAnswer`.
    Proof,
    /// `KeysAnswer`.
    Keys,
    /// `IndexAnswer`.
    Index,
    /// Any other JSON document of this media type.
    Document(&'static str),
    /// What oEmbed says, as JSON or XML.
    Embed,
    /// Text of this media type.
    Text(&'static str),
    /// The bytes of an image.
    Bytes,
}

/// What an operation costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Price {
    /// Nothing.
    Free,
    /// The price of the default tier.
    Default,
    /// The price of the tier that the request names.
    OfTier,
}

/// The methods that the table gives a path, for the router.
pub(super) fn methods(path: &str) -> Vec<Method> {
    let route = ROUTES.iter().find(|route| route.path == path);
    let operations = route.map_or(&[][..], |route| route.operations);
    operations
        .iter()
        .flat_map(|operation| operation.methods)
        .filter_map(|method| Method::from_bytes(method.as_bytes()).ok())
        .collect()
}

/// The routes whose paths are nearest to an unknown one, the best first, as `METHOD PATH`.
pub(super) fn nearest(path: &str) -> Vec<String> {
    const MOST: usize = 3;
    const LONGEST: usize = 128;
    let path: String = path.chars().take(LONGEST).collect();
    let mut scored: Vec<((usize, usize), &Route)> = ROUTES
        .iter()
        .map(|route| (distance(&path, route.path), route))
        .collect();
    scored.sort_by_key(|(distance, _)| *distance);
    scored
        .into_iter()
        .take(MOST)
        .map(|(_, route)| {
            let method = route
                .operations
                .first()
                .and_then(|operation| operation.methods.first());
            format!("{} {}", method.unwrap_or(&"GET"), route.path)
        })
        .collect()
}

/// How far a path is from a route, and the same without a look at single words, to break ties: edits, with the parts that vary counting as equal. A path that shares its last word with
/// a route (`/upload` and `/api/upload`) is near.
fn distance(path: &str, route: &str) -> (usize, usize) {
    let given: Vec<&str> = path.trim_matches('/').split('/').collect();
    let known: Vec<&str> = route.trim_matches('/').split('/').collect();
    let filled: Vec<&str> = known
        .iter()
        .enumerate()
        .map(|(index, part)| match given.get(index) {
            Some(given) if part.starts_with('{') => *given,
            _ => *part,
        })
        .collect();
    let whole = strsim::damerau_levenshtein(&given.join("/"), &filled.join("/"));
    // The last part that does not vary, such as `renew`.
    let literal = |parts: &[&str]| {
        let fixed = parts.iter().rev().find(|part| !part.starts_with('{'));
        fixed.copied().unwrap_or_default().to_ascii_lowercase()
    };
    let known_word = literal(&known);
    let words = given.iter().filter(|part| **part != "api");
    let word = words
        .map(|part| strsim::damerau_levenshtein(&part.to_ascii_lowercase(), &known_word) + 1)
        .min()
        .unwrap_or(usize::MAX / 2);
    let by_word = word + known.len().abs_diff(given.len());
    (whole.min(by_word), whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_path_is_near_to_the_route_that_was_meant() {
        for (path, expected) in [
            ("/upload", "POST /api/upload"),
            ("/api/uploads", "POST /api/upload"),
            ("/v1/tiers", "GET /api/tiers"),
            ("/api/image/k3v9Qw2mZr7T", "GET /api/images/{id}"),
            (
                "/api/images/k3v9Qw2mZr7T/renewal",
                "POST /api/images/{id}/renew",
            ),
            ("/free", "POST /api/free"),
            ("/openapi.yaml", "GET /openapi.json"),
            ("/api/renew/k3v9Qw2mZr7T", "POST /api/images/{id}/renew"),
        ] {
            assert_eq!(
                nearest(path).first().map(String::as_str),
                Some(expected),
                "{path}"
            );
        }
        assert_eq!(nearest(&"/x".repeat(10_000)).len(), 3);
    }

    #[test]
    fn paths_and_operation_ids_are_unique() {
        let mut paths: Vec<&str> = ROUTES.iter().map(|route| route.path).collect();
        let mut ids: Vec<&str> = ROUTES
            .iter()
            .flat_map(|route| route.operations)
            .map(|it| it.id)
            .collect();
        for list in [&mut paths, &mut ids] {
            let count = list.len();
            list.sort_unstable();
            list.dedup();
            assert_eq!(list.len(), count);
        }
    }
}
