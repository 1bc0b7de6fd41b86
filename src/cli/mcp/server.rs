//! The MCP server on the user's machine: lists the tools, calls one, and turns what it returns into a result.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, JsonObject, ListToolsResult,
    PaginatedRequestParams, ProtocolVersion, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::files::Roots;
use super::{McpArgs, definitions};
use crate::client::budget::Budget;
use crate::client::wallet::state_dir;
use crate::client::{Failure, HeldPayment};
use crate::mcp::{self, plain};
use crate::system::clock::{Clock, SystemClock, Timestamp};

/// How long the payment of a call that succeeded is kept: a client that lost the result calls again.
const HELD_FOR: Duration = Duration::from_mins(10);
/// The most tools that run at a time, since each may hold an image in memory.
const MOST_AT_ONCE: usize = 4;
/// The most characters of a message.
const MAX_MESSAGE_CHARS: usize = 1000;
/// The most characters of one text of the server's JSON.
const MAX_TEXT_CHARS: usize = 400;
/// The deepest JSON of the server that is passed on.
const MAX_DEPTH: usize = 6;

/// The server, which its clones share.
#[derive(Clone)]
pub(super) struct Local {
    pub(super) shared: Arc<Shared>,
    places: Arc<Semaphore>,
}

/// What all calls use.
pub(super) struct Shared {
    pub(super) args: McpArgs,
    pub(super) roots: Roots,
    pub(super) env: BTreeMap<String, String>,
    /// `None` if no directory for its file is known: nothing is paid then.
    pub(super) budget: Option<Budget>,
    /// Saved payments of calls that succeeded, with the time of their success.
    held: Mutex<Vec<(HeldPayment, Timestamp)>>,
}

impl Shared {
    /// Keeps the saved payment of a call that succeeded for a while.
    pub(super) fn hold(&self, payment: HeldPayment) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.push((payment, SystemClock.now()));
    }

    /// Forgets the saved payments that were kept long enough, or all of them.
    fn forget(&self, all: bool) {
        let now = SystemClock.now();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let (due, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut *held)
            .into_iter()
            .partition(|(_, since)| all || now.since(*since) >= HELD_FOR);
        *held = kept;
        drop(held);
        for (payment, _) in due {
            if let Err(failure) = payment.forget() {
                tracing::warn!(%failure, "a saved payment could not be removed");
            }
        }
    }
}

impl Local {
    pub(super) fn new(args: McpArgs, roots: Roots, env: BTreeMap<String, String>) -> Self {
        let budget = state_dir(&env).map(|dir| Budget::new(&dir, args.max_per_day));
        Self {
            shared: Arc::new(Shared {
                args,
                roots,
                env,
                budget,
                held: Mutex::new(Vec::new()),
            }),
            places: Arc::new(Semaphore::new(MOST_AT_ONCE)),
        }
    }

    /// Waits for the calls that still run, and forgets the payments of all that succeeded.
    pub(super) async fn end(&self) {
        let most = u32::try_from(MOST_AT_ONCE).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        if self.places.acquire_many(most).await.is_ok() {
            self.shared.forget(true);
        }
    }

    /// Calls a tool in a thread of its own, since the client works in one thread. A call that its client cancels goes
    /// on: its payment may have been sent.
    async fn call(&self, name: String, arguments: Option<JsonObject>) -> CallToolResult {
        let (shared, runtime) = (Arc::clone(&self.shared), Handle::current());
        let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
            return failed(&Failure::Unexpected("The server has stopped.".to_owned()));
        };
        let work = move || {
            let returned = runtime.block_on(async {
                shared.forget(false);
                shared.run(&name, arguments).await
            });
            drop(place);
            returned
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(value)) => mcp::succeeded(value),
            Ok(Err(failure)) => failed(&failure),
            Err(_) => failed(&Failure::Unexpected(
                "The tool stopped unexpectedly. Call it again with the same arguments: it never pays twice."
                    .to_owned(),
            )),
        }
    }
}

/// The result of a call that failed.
fn failed(failure: &Failure) -> CallToolResult {
    const AGAIN: &str = "Call the tool again with the same arguments: it sends the same payment and never pays twice.";
    let (error, charged, message) = match failure {
        Failure::Unexpected(text) => ("unexpected", None, text.clone()),
        Failure::Usage(text) => ("invalid_arguments", Some(false), text.clone()),
        Failure::Refused { code, text, .. } => (code.as_str(), Some(false), text.clone()),
        Failure::FileRefused(text) => (
            "file_refused",
            Some(false),
            format!("{text} Nothing was charged."),
        ),
        Failure::NotPayable(text) => ("not_payable", Some(false), text.clone()),
        Failure::PaymentRefused(text) => (
            "payment_refused",
            Some(false),
            format!("{text} Nothing was charged."),
        ),
        Failure::OutcomeUnknown(text) => (
            "outcome_unknown",
            None,
            format!("{text} Whether the payment went through is not known yet. {AGAIN}"),
        ),
        Failure::Unproven { text, .. } => (
            "outcome_unknown",
            Some(true),
            format!(
                "{text} Ask the user to run pixtoll claim, which shows what the wallet paid for."
            ),
        ),
        Failure::Unfinished(text) => (
            "unfinished",
            Some(true),
            format!("{text} The upload is paid for. {AGAIN}"),
        ),
        Failure::Unavailable(text) => (
            "unavailable",
            Some(false),
            format!("{text} Nothing was charged; call the tool again later."),
        ),
    };
    let message = plain(&message, MAX_MESSAGE_CHARS);
    let action = match failure {
        Failure::Refused { action, .. } => action.as_ref().map(tidy),
        _ => None,
    };
    let action = action.unwrap_or_else(|| json!({"type": next(failure)}));
    mcp::failed(
        json!({"error": error, "charged": charged, "message": message, "action": action}),
        None,
    )
}

/// What to do after a failure, by the names of the API.
fn next(failure: &Failure) -> &'static str {
    match failure {
        Failure::Usage(_)
        | Failure::Refused { .. }
        | Failure::FileRefused(_)
        | Failure::NotPayable(_)
        | Failure::PaymentRefused(_) => "fix_request",
        Failure::Unexpected(_) | Failure::OutcomeUnknown(_) | Failure::Unfinished(_) => "retry",
        Failure::Unproven { .. } => "claim",
        Failure::Unavailable(_) => "wait",
    }
}

/// The server's JSON as data for a model: its texts without control characters and not longer than they need to be, and
/// without the secret that deletes an image.
pub(super) fn tidy(value: &Value) -> Value {
    tidy_below(value, MAX_DEPTH)
}

fn tidy_below(value: &Value, depth: usize) -> Value {
    match value {
        Value::String(text) => Value::String(plain(text, MAX_TEXT_CHARS)),
        Value::Array(_) | Value::Object(_) if depth == 0 => Value::Null,
        Value::Array(items) => items
            .iter()
            .map(|item| tidy_below(item, depth - 1))
            .collect(),
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| !["deleteToken", "deleteUrl"].contains(&name.as_str()))
            .map(|(name, value)| (plain(name, MAX_TEXT_CHARS), tidy_below(value, depth - 1)))
            .collect(),
        other => other.clone(),
    }
}

impl ServerHandler for Local {
    fn get_info(&self) -> ServerConfig {
        mcp::introduction(definitions::INSTRUCTIONS.to_owned())
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        mcp::revisions()
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(mcp::list(definitions::all()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let tools = definitions::all();
        if !tools.iter().any(|tool| tool.name == request.name) {
            return Err(mcp::unknown_tool(&request.name, &tools));
        }
        let result = self
            .call(request.name.into_owned(), request.arguments)
            .await;
        Ok(result.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_json_is_data_without_secrets() {
        let sent = json!({
            "url": "https://i.example.com/a.png", "deleteToken": "0123", "sizeBytes": 7,
            "tier": "a\u{1b}[2J\u{202e}b", "note": "x".repeat(1000), "inner": [{"deleteToken": "4567"}],
            "deleteUrl": "https://example.com/delete/a#0123",
        });
        let shown = tidy(&sent);
        assert_eq!(shown["url"], sent["url"]);
        assert_eq!(shown["sizeBytes"], 7);
        assert_eq!(shown["tier"], "a[2Jb");
        assert_eq!(
            shown["note"].as_str().unwrap().chars().count(),
            MAX_TEXT_CHARS + 1
        );
        for secret in ["deleteToken", "deleteUrl", "0123", "4567"] {
            assert!(!shown.to_string().contains(secret), "{shown}");
        }
        let deep = (0..50).fold(json!("end"), |inner, _| json!([inner]));
        assert!(!tidy(&deep).to_string().contains("end"));
    }

    #[test]
    fn every_failure_says_whether_money_moved() {
        let text = || "Why.\u{7}".to_owned();
        for (failure, error, charged) in [
            (Failure::Unexpected(text()), "unexpected", Value::Null),
            (Failure::NotPayable(text()), "not_payable", json!(false)),
            (
                Failure::OutcomeUnknown(text()),
                "outcome_unknown",
                Value::Null,
            ),
            (Failure::Unfinished(text()), "unfinished", json!(true)),
            (Failure::Unavailable(text()), "unavailable", json!(false)),
        ] {
            let result = failed(&failure);
            assert_eq!(result.is_error, Some(true));
            let shown = result.structured_content.unwrap();
            assert_eq!(
                (&shown["error"], &shown["charged"]),
                (&json!(error), &charged)
            );
            let message = shown["message"].as_str().unwrap();
            assert!(
                message.starts_with("Why.") && !message.contains('\u{7}'),
                "{message}"
            );
        }
    }
}
