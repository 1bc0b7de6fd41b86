//! The frame of messages: JSON-RPC 2.0 with one request a message. What is none is answered here, in words that say what
//! to send, before the crate rmcp reads it.

use serde_json::{Value, json};

use rmcp::model::ProtocolVersion;

use super::{REVISIONS, plain};

/// The bytes are no JSON.
const PARSE_ERROR: i64 = -32700;
/// The JSON is no request.
pub const INVALID_REQUEST: i64 = -32600;
/// There is no such method.
const METHOD_NOT_FOUND: i64 = -32601;
/// The parameters are not those of the method.
const INVALID_PARAMS: i64 = -32602;
/// The server doesn't speak this revision.
const UNSUPPORTED_REVISION: i64 = -32022;
/// The requests that are answered.
const METHODS: [&str; 5] = [
    "server/discover",
    "initialize",
    "ping",
    "tools/list",
    "tools/call",
];
/// The most characters of a client's text in a message.
const MOST_CHARS: usize = 80;

/// An error as JSON-RPC writes it.
pub fn error(id: &Value, code: i64, message: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})
}

/// The error for a revision that the server doesn't speak.
pub fn unsupported(id: &Value, asked: &str) -> Value {
    let known: Vec<&str> = REVISIONS.iter().map(ProtocolVersion::as_str).collect();
    let asked = plain(asked, MOST_CHARS);
    let message = format!(
        "The header MCP-Protocol-Version is \"{asked}\", which this server does not speak. Send one of: {}.",
        known.join(", ")
    );
    let mut error = error(id, UNSUPPORTED_REVISION, &message);
    if let Some(fields) = error.get_mut("error").and_then(Value::as_object_mut) {
        let data = json!({"supported": known, "requested": asked});
        fields.insert("data".to_owned(), data);
    }
    error
}

/// The id of a message, which is null for a notification.
///
/// # Errors
/// The answer to what is no message.
pub fn check(message: &[u8]) -> Result<Value, Value> {
    let nobody = Value::Null;
    let message: Value = serde_json::from_slice(message).map_err(|_| {
        let text = "The message is not JSON. Send one JSON-RPC 2.0 request, such as \
            {\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"tools/list\"}.";
        error(&nobody, PARSE_ERROR, text)
    })?;
    let wrong = |id: &Value, text: &str| Err(error(id, INVALID_REQUEST, text));
    let fields = match &message {
        Value::Object(fields) => fields,
        Value::Array(_) => {
            return wrong(
                &nobody,
                "The message is a list, and this server takes no batches. Send each request as a message of its own.",
            );
        }
        _ => {
            return wrong(
                &nobody,
                "The message is no JSON object. Send one with jsonrpc, id and method.",
            );
        }
    };
    let id = match fields.get("id") {
        None => Value::Null,
        Some(id) if id.is_string() || id.is_i64() || id.is_u64() => id.clone(),
        Some(_) => {
            return wrong(
                &nobody,
                "id is neither a string nor a whole number. Send one of them; a notification has no id.",
            );
        }
    };
    if fields.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return wrong(
            &id,
            "jsonrpc is missing or no version that is spoken here. Send \"jsonrpc\": \"2.0\".",
        );
    }
    let is_answer = fields.contains_key("result") || fields.contains_key("error");
    match fields.get("method") {
        Some(Value::String(_)) => {}
        None if is_answer => return Ok(id),
        _ => {
            let text = format!(
                "method is missing or no string. Send one of: {}.",
                METHODS.join(", ")
            );
            return wrong(&id, &text);
        }
    }
    match fields.get("params") {
        None | Some(Value::Object(_)) => Ok(id),
        Some(_) => {
            let text = "params is no JSON object. Send an object, such as {\"name\": \"list_tiers\", \"arguments\": {}}.";
            Err(error(&id, INVALID_PARAMS, text))
        }
    }
}

/// An answer of rmcp in words that help, where its own are the name of the method alone. `None`: it may stay.
pub fn explained(answer: &[u8]) -> Option<Value> {
    let code = METHOD_NOT_FOUND.to_string();
    if !answer
        .windows(code.len())
        .any(|bytes| bytes == code.as_bytes())
    {
        return None;
    }
    let answer: Value = serde_json::from_slice(answer).ok()?;
    if answer.pointer("/error/code")?.as_i64()? != METHOD_NOT_FOUND {
        return None;
    }
    let method = answer.pointer("/error/message")?.as_str()?;
    let id = answer.get("id").cloned().unwrap_or_default();
    if METHODS.contains(&method) {
        let text = format!(
            "The params are not those of {method}. tools/call takes {{\"name\": \"…\", \"arguments\": {{…}}}}; the name \
             is one that tools/list returns."
        );
        return Some(error(&id, INVALID_PARAMS, &text));
    }
    let text = format!(
        "There is no method \"{}\". Call one of: {}.",
        plain(method, MOST_CHARS),
        METHODS.join(", ")
    );
    Some(error(&id, METHOD_NOT_FOUND, &text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_message_is_answered_by_a_code_and_by_what_to_send() {
        for (sent, code, id, said) in [
            ("{", PARSE_ERROR, json!(null), "not JSON"),
            ("", PARSE_ERROR, json!(null), "not JSON"),
            ("[]", INVALID_REQUEST, json!(null), "no batches"),
            ("7", INVALID_REQUEST, json!(null), "no JSON object"),
            (
                "{\"id\":1,\"method\":\"ping\"}",
                INVALID_REQUEST,
                json!(1),
                "\"jsonrpc\": \"2.0\"",
            ),
            (
                "{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"ping\"}",
                INVALID_REQUEST,
                json!(null),
                "neither a string",
            ),
            (
                "{\"jsonrpc\":\"2.0\",\"id\":\"a\"}",
                INVALID_REQUEST,
                json!("a"),
                "method",
            ),
            (
                "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":[]}",
                INVALID_PARAMS,
                json!(1),
                "params",
            ),
        ] {
            let refused = check(sent.as_bytes()).unwrap_err();
            assert_eq!(refused["error"]["code"], code, "{sent}");
            assert_eq!(refused["id"], id, "{sent}");
            let text = refused["error"]["message"].as_str().unwrap();
            assert!(text.contains(said), "{sent}: {text}");
        }
        for sent in [
            "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}",
            "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}",
            "{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"result\":{}}",
        ] {
            assert!(check(sent.as_bytes()).is_ok(), "{sent}");
        }
    }

    #[test]
    fn an_unknown_method_is_told_which_there_are() {
        let unknown = error(&json!(3), METHOD_NOT_FOUND, "tools/everything");
        let shown = explained(unknown.to_string().as_bytes()).unwrap();
        assert_eq!(
            (&shown["id"], &shown["error"]["code"]),
            (&json!(3), &json!(METHOD_NOT_FOUND))
        );
        let text = shown["error"]["message"].as_str().unwrap();
        assert!(
            text.contains("tools/everything") && text.contains("tools/list"),
            "{text}"
        );
        let form = error(&json!(3), METHOD_NOT_FOUND, "tools/call");
        let shown = explained(form.to_string().as_bytes()).unwrap();
        assert_eq!(shown["error"]["code"], INVALID_PARAMS);
        for other in [
            json!({"result": {"text": "-32601"}}),
            error(&json!(1), INVALID_PARAMS, "-32601"),
        ] {
            assert_eq!(explained(other.to_string().as_bytes()), None);
        }
    }
}
