//! The tools of `pixtoll mcp` as clients see them.

use rmcp::model::Tool;
use serde_json::{Map, Value, json};

use crate::mcp::{Effect, tool};

pub(super) const LIST_TIERS: &str = "list_tiers";
pub(super) const CHECK_IMAGE: &str = "check_image";
pub(super) const IMAGE_INFO: &str = "image_info";
pub(super) const UPLOAD_IMAGE: &str = "upload_image";
pub(super) const CREATE_UPLOAD_LINK: &str = "create_upload_link";
pub(super) const LIST_MY_IMAGES: &str = "list_my_images";
pub(super) const RENEW_IMAGE: &str = "renew_image";
pub(super) const DELETE_IMAGE: &str = "delete_image";

/// What the tools are for, for a model that has just connected.
pub(super) const INSTRUCTIONS: &str = "pixtoll uploads images from this machine and returns public links. Name files by \
    path, never by their bytes. The tier `free` costs nothing and is the default; other tiers are paid by the user's wallet \
    within the user's limits. If a result says that the outcome of a payment is unknown, call the same tool with the same \
    arguments again: it sends the same payment and never pays twice.";

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
            "Lists the server's tiers with price, size limit and storage time.",
            Effect::Reads,
            &json!({}),
            &[],
        ),
        tool(
            CHECK_IMAGE,
            "Check an image",
            "Sends an image to the server to be checked, without storing or paying anything: its format, its size, and which \
             tiers take it at which price.",
            Effect::Reads,
            &Value::Object(source()),
            &[],
        ),
        tool(
            UPLOAD_IMAGE,
            "Upload an image",
            "Uploads an image from this machine and returns its link. Name exactly one of path, url and clipboard. The server \
             removes metadata such as the position of a photo.",
            Effect::Adds,
            &upload(),
            &[],
        ),
        tool(
            CREATE_UPLOAD_LINK,
            "Create an upload link",
            "Returns a URL that takes images until it ends. Whoever has it uploads with `curl -T FILE URL`: a script, another \
             agent or a person.",
            Effect::Adds,
            &json!({
                "images": {"type": "integer", "minimum": 1, "maximum": 100, "default": 1, "description": "How many uploads it takes."},
                "days": {"type": "integer", "minimum": 1, "default": 30, "description": "For how many days it is valid."},
                "tier": tier(),
            }),
            &[],
        ),
    ]
}

/// The tools about images that are uploaded.
fn for_images() -> Vec<Tool> {
    vec![
        tool(
            IMAGE_INFO,
            "Show an image's facts",
            "Shows the facts about an image: link, type, size, tier and when it is deleted.",
            Effect::Reads,
            &json!({"image": image()}),
            &["image"],
        ),
        tool(
            LIST_MY_IMAGES,
            "List the wallet's images",
            "Lists the images that the user's wallet paid for, the newest first. The wallet signs in, which costs nothing.",
            Effect::Reads,
            &json!({
                "limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 50},
                "after": {"type": "string", "description": "`next` of the page before, within 10 minutes."},
            }),
            &[],
        ),
        tool(
            RENEW_IMAGE,
            "Buy more time for an image",
            "Extends the time for which an image is kept, by the time of its tier or of another one. The user's wallet pays.",
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
            "Deletes an image for good: one that was uploaded from this machine, or that the user's wallet paid for.",
            Effect::Deletes,
            &json!({"image": image()}),
            &["image"],
        ),
    ]
}

/// Where an image comes from.
fn source() -> Map<String, Value> {
    let source = json!({
        "path": {"type": "string", "description": "The path of a file in an allowed folder."},
        "url": {"type": "string", "description": "The https address of an image, which this machine fetches."},
        "clipboard": {"type": "boolean", "description": "Take the image from the clipboard."},
    });
    source.as_object().cloned().unwrap_or_default()
}

fn upload() -> Value {
    let mut properties = source();
    properties.insert("tier".to_owned(), tier());
    properties.insert(
        "private".to_owned(),
        json!({"type": "boolean", "description": "Show the image by signed links only, which end."}),
    );
    Value::Object(properties)
}

fn tier() -> Value {
    json!({"type": "string", "default": "free", "description": "The tier, by a name that list_tiers returns."})
}

fn image() -> Value {
    json!({"type": "string", "description": "The id of the image (12 letters and digits), or its link."})
}
