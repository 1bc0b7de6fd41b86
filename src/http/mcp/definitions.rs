//! The tools of `POST /mcp` as clients see them: names, descriptions for models, and schemas of arguments.

use rmcp::model::Tool;
use serde_json::{Value, json};

use super::super::list::USUAL;
use crate::catalog::MOST_USES;
use crate::images::MOST_OWNED;
use crate::mcp::{Effect, tool};

pub(super) const LIST_TIERS: &str = "list_tiers";
pub(super) const IMAGE_INFO: &str = "image_info";
pub(super) const CHECK_IMAGE: &str = "check_image";
pub(super) const UPLOAD_IMAGE: &str = "upload_image";
pub(super) const IMPORT_IMAGE: &str = "import_image";
pub(super) const CREATE_UPLOAD_LINK: &str = "create_upload_link";
pub(super) const LIST_MY_IMAGES: &str = "list_my_images";
pub(super) const RENEW_IMAGE: &str = "renew_image";
pub(super) const DELETE_IMAGE: &str = "delete_image";

/// What the tools are for, for a model that has just connected.
pub(super) const INSTRUCTIONS: &str = "pixtoll stores images and returns public links. No tool takes the bytes of an image: \
    upload a file with the curl command that a tool returns, store one that is on the web with import_image, or connect `pixtoll mcp` on the user's machine, whose tools \
    take file paths. Paid tools answer without a payment with isError and an x402 PaymentRequired object; repeat the call \
    with the signed payment in _meta[\"x402/payment\"]. The same payment presented again returns the same goods and is \
    never charged twice. Call list_tiers first for prices and limits.";

/// Every tool.
pub(super) fn all() -> Vec<Tool> {
    let mut tools = for_uploads();
    tools.extend(for_images());
    tools
}

/// The tools about tiers and uploads.
fn for_uploads() -> Vec<Tool> {
    vec![
        tool(
            LIST_TIERS,
            "List tiers",
            "Lists the tiers with price, size limit and storage time, and says how payments are made.",
            Effect::Reads,
            &json!({}),
            &[],
        ),
        tool(
            CHECK_IMAGE,
            "Check what an image would cost",
            "Says which tiers take an image of this size and type, and at which price. It takes no bytes: the answer has a \
             curl command that checks the file itself, for free and without storing it.",
            Effect::Reads,
            &json!({
                "sizeBytes": {"type": "integer", "minimum": 1, "description": "The size of the file in bytes."},
                "contentType": {"type": "string", "description": "The media type, such as image/png."},
            }),
            &[],
        ),
        tool(
            UPLOAD_IMAGE,
            "Upload an image",
            "Returns an upload link for one image, and the curl command in `curl` that uploads the file with it and prints \
             the image's link. Run that command with the path of the file; never send the file's bytes in a tool call. \
             Free with the tier `free`, otherwise paid by x402: call it without a payment for the offers.",
            Effect::Adds,
            &json!({"tier": tier()}),
            &[],
        ),
        import(),
        tool(
            CREATE_UPLOAD_LINK,
            "Create an upload link",
            "Returns a URL that takes images until it ends. Whoever has it uploads with `curl -T FILE URL`, without a wallet \
             or a token: give it to a script, another agent or a person. Free with the tier `free`, otherwise paid by x402 \
             for all of its images: call it without a payment for the offers.",
            Effect::Adds,
            &json!({
                "images": {
                    "type": "integer", "minimum": 1, "maximum": MOST_USES, "default": 1,
                    "description": "How many uploads the link takes. The price is multiplied by it.",
                },
                "days": {"type": "integer", "minimum": 1, "description": "For how many days the link is valid."},
                "tier": tier(),
            }),
            &[],
        ),
    ]
}

/// The tool that imports an image.
fn import() -> Tool {
    tool(
        IMPORT_IMAGE,
        "Import an image from a URL",
        "Stores an image that this server fetches from a public http or https URL, and returns its link. Free with the \
         tier `free`, otherwise paid by x402: call it without a payment for the offers. The image is fetched after the \
         payment is verified and before it is settled, so that a URL without an image costs nothing.",
        Effect::Adds,
        &json!({
            "url": {"type": "string", "maxLength": 2048, "description": "The image's own address."},
            "tier": tier(),
            "metadata": {
                "type": "string", "enum": ["remove", "keep"],
                "description": "What happens to place, camera, author and the like in the file.",
            },
            "visibility": {
                "type": "string", "enum": ["public", "private"],
                "description": "Who sees the image: everybody with the link, or only holders of signed links.",
            },
            "viewer": {
                "type": "string",
                "description": "A wallet that may make signed links to a private image beside its owner.",
            },
            "refresh": {
                "type": "string", "maxLength": 40,
                "description": "Keeps the image up to date: how often the server compares it with the URL, such as 6h or \
                 1day. By default the image never changes.",
            },
        }),
        &["url"],
    )
}

/// The tools about images that are uploaded.
fn for_images() -> Vec<Tool> {
    vec![
        tool(
            IMAGE_INFO,
            "Show an image's facts",
            "Shows the public facts about an image: link, type, size, tier and when it is deleted.",
            Effect::Reads,
            &json!({"image": image()}),
            &["image"],
        ),
        tool(
            LIST_MY_IMAGES,
            "List a wallet's images",
            "Lists the images that a wallet paid for, the newest first. The wallet signs in: call it without signIn for the \
             message to sign (x402 extension sign-in-with-x, ERC-4361), which costs nothing.",
            Effect::Reads,
            &json!({
                "signIn": sign_in(),
                "limit": {"type": "integer", "minimum": 1, "maximum": MOST_OWNED, "default": USUAL},
                "after": {
                    "type": "string",
                    "description": "`next` of the page before. Within 10 minutes it needs no other sign-in.",
                },
            }),
            &[],
        ),
        tool(
            RENEW_IMAGE,
            "Buy more time for an image",
            "Extends the time for which an image is kept, by the time of its tier or of another tier. Anybody may pay. \
             Paid by x402: call it without a payment for the offers.",
            Effect::Adds,
            &json!({
                "image": image(),
                "tier": {"type": "string", "description": "Move the image to this tier and pay its price."},
            }),
            &["image"],
        ),
        tool(
            DELETE_IMAGE,
            "Delete an image",
            "Deletes an image for good. It needs the deleteToken that the upload returned, or a sign-in of the wallet that \
             paid for it: call it without both for the message to sign.",
            Effect::Deletes,
            &json!({
                "image": image(),
                "deleteToken": {
                    "type": "string",
                    "description": "The deleteToken of the upload: 40 hexadecimal digits.",
                },
                "signIn": sign_in(),
            }),
            &["image"],
        ),
    ]
}

fn tier() -> Value {
    json!({
        "type": "string",
        "description": "The tier of the image, by a name that list_tiers returns; by default the server's default tier.",
    })
}

fn sign_in() -> Value {
    json!({
        "type": ["object", "string"],
        "description": "The signed message, as an object or as base64 of its JSON. Each challenge signs in once.",
    })
}

fn image() -> Value {
    json!({"type": "string", "description": "The id of the image (12 letters and digits), or its link."})
}
