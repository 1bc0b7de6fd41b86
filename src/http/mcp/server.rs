//! The MCP server for one request: lists the tools, calls one, and turns what it returns into a result.

use std::borrow::Cow;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, JsonObject, ListToolsResult,
    MetaObject, PaginatedRequestParams, ProtocolVersion, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde::Serialize;
use serde_json::Value;
use tracing::{Instrument, Span};

use super::super::Site;
use super::super::error::{ApiError, Code};
use super::{Caller, definitions};
use crate::images::UploadError;
use crate::mcp;
use crate::x402::header;
use crate::x402::wire::SettlementResponse;

/// Where a call carries its payment (x402 over MCP).
const PAYMENT: &str = "x402/payment";
/// Where a result carries the settlement.
const PAYMENT_RESPONSE: &str = "x402/payment-response";

/// The tools, for one request.
#[derive(Clone)]
pub(super) struct Tools {
    pub(super) site: Site,
    pub(super) caller: Caller,
    /// The span of the request. rmcp runs calls in tasks of its own.
    span: Span,
}

/// A call of a tool.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) arguments: Option<JsonObject>,
    /// The payment document of the client.
    pub(super) payment: Option<Value>,
}

/// What a tool returns.
#[derive(Debug)]
pub(super) struct Returned {
    body: Value,
    settlement: Option<SettlementResponse>,
}

impl Returned {
    /// A result without a payment.
    ///
    /// # Errors
    /// None for the types of the API, which all have a form in JSON.
    pub(super) fn free(body: &impl Serialize) -> Result<Self, ApiError> {
        Self::paid(body, None)
    }

    /// A result with what became of the payment.
    ///
    /// # Errors
    /// None for the types of the API, which all have a form in JSON.
    pub(super) fn paid(
        body: &impl Serialize,
        settlement: Option<SettlementResponse>,
    ) -> Result<Self, ApiError> {
        let body = serde_json::to_value(body);
        Ok(Self {
            body: body.map_err(|_| ApiError::Upload(UploadError::Interrupted))?,
            settlement,
        })
    }
}

impl Tools {
    pub(super) fn of(site: &Site, caller: Caller) -> Self {
        Self {
            site: site.clone(),
            caller,
            span: Span::current(),
        }
    }

    /// Calls a tool. A client that goes away cancels nothing: its payment may have been sent already.
    async fn call(&self, call: Call) -> CallToolResult {
        let has_payment = call.payment.is_some();
        let tools = self.clone();
        let work = async move { tools.run(call).await };
        let running = self.span.in_scope(|| tokio::spawn(work.in_current_span()));
        let returned = running.await;
        let returned = returned.unwrap_or_else(|_| Err(ApiError::Upload(UploadError::Interrupted)));
        self.span.in_scope(|| match returned {
            Ok(returned) => {
                let mut result = mcp::succeeded(returned.body);
                result.meta = returned.settlement.as_ref().map(settled);
                result
            }
            Err(error) => self.failed(&error.beside(has_payment)),
        })
    }

    /// The result of a call that was refused. A 402 has the form that clients of x402 over MCP read: the challenge of
    /// version 2, then the message.
    fn failed(&self, error: &ApiError) -> CallToolResult {
        error.log();
        let mut body = error.taught_body(&self.site);
        body.message = in_arguments(body.message);
        let challenge = error.challenge();
        let challenge = challenge.and_then(|text| header::decode(text.as_bytes()).ok());
        let mut result = match challenge {
            Some(challenge) => mcp::failed(challenge, Some(&body.message)),
            None => mcp::failed(serde_json::to_value(&body).unwrap_or_default(), None),
        };
        result.meta = error.failed_settlement().as_ref().map(settled);
        result
    }
}

/// What the messages of the API call by the words of HTTP, and what the tools call it.
const ARGUMENTS: [(&str, &str); 5] = [
    (
        "repeat the request with the signed message in the header SIGN-IN-WITH-X",
        "call the tool again with the signed message as the argument signIn",
    ),
    (
        ", in the header X-Delete-Token; a list of images may hold it beside the id",
        ", as the argument deleteToken",
    ),
    (
        ", in the header X-Delete-Token",
        ", as the argument deleteToken",
    ),
    (
        "send the image's delete token in X-Delete-Token",
        "send the image's delete token as the argument deleteToken",
    ),
    ("Send ?after= once", "Send the argument after"),
];

/// A message of the API in the words of the tools.
fn in_arguments(message: String) -> String {
    ARGUMENTS
        .iter()
        .fold(message, |text, (http, words)| text.replace(http, words))
}

/// The metadata of a result that says what became of the payment.
fn settled(settlement: &SettlementResponse) -> MetaObject {
    let mut meta = MetaObject::new();
    let settlement = serde_json::to_value(settlement).unwrap_or_default();
    meta.insert(PAYMENT_RESPONSE.to_owned(), settlement);
    meta
}

/// The error for arguments that are not those of the tool.
pub(super) fn bad_arguments(message: String) -> ApiError {
    ApiError::Bad(Code::InvalidArguments, message)
}

impl ServerHandler for Tools {
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

    fn get_tool(&self, name: &str) -> Option<Tool> {
        definitions::all()
            .into_iter()
            .find(|tool| tool.name == name)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let tools = definitions::all();
        if !tools.iter().any(|tool| tool.name == request.name) {
            return Err(mcp::unknown_tool(&request.name, &tools));
        }
        let payment = context.meta.get(PAYMENT).cloned().or_else(|| {
            let meta = request.meta.as_ref()?;
            meta.get(PAYMENT).cloned()
        });
        let call = Call {
            name: request.name.into_owned(),
            arguments: request.arguments,
            payment,
        };
        Ok(self.call(call).await.into())
    }
}
