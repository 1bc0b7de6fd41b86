//! What the two MCP servers share: `POST /mcp` of the service (`http/mcp`) and `pixtoll mcp` on the user's machine
//! (`cli/mcp`). Revisions of the protocol, the form of tools and of their results. It knows no tool.
//!
//! No tool takes or returns the bytes of an image. Everything in a result is fixed text or JSON, whose strings
//! [`plain`] has cleaned where they come from somebody else.

pub mod frame;

use std::borrow::Cow;
use std::sync::Arc;

use rmcp::ErrorData;
use rmcp::model::{
    CacheScope, CallToolResult, ContentBlock, Implementation, JsonObject, ListToolsResult,
    ProtocolVersion, ServerCapabilities, ServerConfig, Tool, ToolAnnotations,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The revisions of the protocol that both servers speak, the oldest first. The newest has no handshake.
const REVISIONS: &[ProtocolVersion] = &[
    ProtocolVersion::V_2025_06_18,
    ProtocolVersion::V_2025_11_25,
    ProtocolVersion::V_2026_07_28,
];
/// How long clients may use a list of tools, in milliseconds. It changes only when the server is replaced.
const LIST_TTL_MS: u64 = 300_000;

/// The revisions of the protocol, for `server/discover` and the handshake of older ones.
pub fn revisions() -> Cow<'static, [ProtocolVersion]> {
    Cow::Borrowed(REVISIONS)
}

/// How a server introduces itself. `instructions` tell a model what the tools are for.
pub fn introduction(instructions: String) -> ServerConfig {
    let about = Implementation::new("pixtoll", env!("CARGO_PKG_VERSION")).with_title("pixtoll");
    ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
        .with_server_info(about)
        .with_instructions(instructions)
}

/// What a tool does to the world, for clients that ask their user first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It changes nothing.
    Reads,
    /// It adds something, and may cost money.
    Adds,
    /// It deletes something.
    Deletes,
}

/// A tool. `properties` and `required` are those of the JSON Schema of its arguments; other arguments are refused.
pub fn tool(
    name: &'static str,
    title: &'static str,
    description: impl Into<Cow<'static, str>>,
    effect: Effect,
    properties: &Value,
    required: &[&str],
) -> Tool {
    let schema = json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    });
    let schema: JsonObject = match schema {
        Value::Object(fields) => fields,
        _ => JsonObject::new(),
    };
    let hints = ToolAnnotations::with_title(title)
        .read_only(effect == Effect::Reads)
        .destructive(effect == Effect::Deletes)
        .idempotent(effect != Effect::Adds)
        .open_world(true);
    Tool::new(name, description, Arc::new(schema))
        .with_title(title)
        .with_annotations(hints)
}

/// The list of all tools, which is the same for everybody.
pub fn list(tools: Vec<Tool>) -> ListToolsResult {
    ListToolsResult::with_all_items(tools)
        .with_ttl_ms(LIST_TTL_MS)
        .with_cache_scope(CacheScope::Public)
}

/// The error for a tool that doesn't exist.
pub fn unknown_tool(name: &str, tools: &[Tool]) -> ErrorData {
    let known: Vec<&str> = tools.iter().map(|tool| tool.name.as_ref()).collect();
    let message = format!(
        "There is no tool \"{}\". Call one of: {}.",
        plain(name, 40),
        known.join(", ")
    );
    ErrorData::invalid_params(message, None)
}

/// The arguments of a call.
///
/// # Errors
/// A sentence for the model that says what is wrong and what to send.
pub fn arguments<T: DeserializeOwned>(sent: Option<JsonObject>) -> Result<T, String> {
    let sent = Value::Object(sent.unwrap_or_default());
    serde_json::from_value(sent).map_err(|error| {
        format!(
            "The arguments are not those of the tool: {}. Send the arguments that its inputSchema describes.",
            plain(&error.to_string(), 200)
        )
    })
}

/// The result of a call that succeeded: the JSON as text, for old clients, and as structured content.
pub fn succeeded(value: Value) -> CallToolResult {
    CallToolResult::structured(value)
}

/// The result of a call that failed. The first block of text is the JSON; a message follows for clients whose models
/// see no structured content.
pub fn failed(value: Value, message: Option<&str>) -> CallToolResult {
    let mut result = CallToolResult::structured_error(value);
    if let Some(message) = message {
        result.content.push(ContentBlock::text(message.to_owned()));
    }
    result
}

/// Text of somebody else, such as a file name or a server's message, for a result or an error: without control
/// characters and marks that reorder or hide text, and with at most `most` characters.
pub fn plain(text: &str, most: usize) -> String {
    let is_shown = |letter: &char| {
        !letter.is_control()
            && !matches!(
                u32::from(*letter),
                // Zero-width and bidirectional marks, line separators, and tags, which carry invisible text.
                0x00AD | 0x061C | 0x180E | 0x200B..=0x200F | 0x2028..=0x202E | 0x2060..=0x206F
                    | 0xFE00..=0xFE0F | 0xFEFF | 0xFFF9..=0xFFFB | 0xE0000..=0xE0FFF
            )
    };
    let mut letters = text.chars().filter(is_shown);
    let mut kept: String = letters.by_ref().take(most).collect();
    if letters.next().is_some() {
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[test]
    fn foreign_text_loses_what_is_invisible_and_what_is_too_long() {
        for (text, most, shown) in [
            ("photo.png", 40, "photo.png"),
            ("a\u{1b}[2Jb\r\nc\0", 40, "a[2Jbc"),
            ("evil\u{202e}gnp.exe", 40, "evilgnp.exe"),
            ("a\u{e0041}\u{200b}b", 40, "ab"),
            ("abcdef", 3, "abc…"),
            ("abc", 3, "abc"),
            ("ümlaut", 2, "üm…"),
        ] {
            assert_eq!(plain(text, most), shown, "{text:?}");
        }
    }

    #[test]
    fn unknown_arguments_are_refused_by_name() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Wanted {
            #[expect(dead_code, reason = "only its presence counts")]
            image: String,
        }
        let sent = |value: Value| value.as_object().cloned();
        assert!(arguments::<Wanted>(sent(json!({"image": "a"}))).is_ok());
        let extra = arguments::<Wanted>(sent(json!({"image": "a", "bytes": "iVBO"})));
        assert!(extra.unwrap_err().contains("`bytes`"));
        let missing = arguments::<Wanted>(None).unwrap_err();
        assert!(missing.contains("`image`") && missing.contains("inputSchema"));
    }

    #[test]
    fn only_a_tool_that_deletes_is_called_destructive() {
        for (effect, reads, deletes) in [
            (Effect::Reads, true, false),
            (Effect::Adds, false, false),
            (Effect::Deletes, false, true),
        ] {
            let made = tool("a", "A", "Does a.", effect, &json!({}), &[]);
            let hints = made.annotations.unwrap();
            assert_eq!(hints.read_only_hint, Some(reads));
            assert_eq!(hints.destructive_hint, Some(deletes));
            assert_eq!(made.input_schema["additionalProperties"], false);
        }
    }
}
