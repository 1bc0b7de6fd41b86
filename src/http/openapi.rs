//! The OpenAPI 3.1 document, made from the table of routes, the types of bodies, the error codes and the price table.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::api::{
    Body, EVERYWHERE, IMAGE_PATH, Operation, Parameter, Price, ROUTES, Route, Success,
};
use super::error::{Action, Code};
use super::oembed;
use super::views::{
    ApiKeyAnswer, ApiKeysAnswer, CaseAnswer, CheckAnswer, ClaimsAnswer, DeleteRequest,
    DeletedAnswer, ErrorBody, FormUpload, ImageAnswer, ImagesAnswer, ImportRequest, IndexAnswer,
    JsonUpload, KeysAnswer, LinkAnswer, LinksAnswer, LinksEndedAnswer, NewKeyRequest,
    ObjectionRequest, ProofAnswer, ReceiptsAnswer, RenewalAnswer, ReportRequest, SignedLinkAnswer,
    SignedLinkRequest, SignedMessageBody, TiersAnswer, TokenAnswer, UploadAnswer,
};
use crate::images::MOST_OWNED;
use crate::model::image::Format;
use crate::model::variant::{Fit, Output, Size, Variant};
use crate::pricing::tiers::{LARGEST_MAX_BYTES, Tier, TierTable};

/// What the document says of one deployment.
#[derive(Debug, Clone)]
pub(super) struct Deployment<'a> {
    /// Origin of the API, without a trailing slash.
    pub(super) base_url: &'a str,
    /// Origin of images, without a trailing slash.
    pub(super) images_url: &'a str,
    /// The price table.
    pub(super) tiers: &'a TierTable,
    /// Whether the server sells anything.
    pub(super) sells: bool,
}

/// Codes of JSON answers and media types of images.
const JSON: &str = "application/json";
const ID: &str = "^[0-9A-Za-z]{12}$";
const LEDGER_ID: &str = "^[0-9a-f]{64}$";
const BASE64: &str = "^[A-Za-z0-9+/]+={0,2}$";
const KEY_ID: &str = "^[0-9a-f]{16}$";
const SECRET: &str = "^([0-9a-fA-F]{40}|pixtoll_[0-9A-Za-z]{40})$";
const ADDRESS: &str = "^0x[0-9a-fA-F]{40}$";
const TOKEN: &str = "^[0-9a-fA-F]{40}$";
/// The name of the security scheme of uploads by API key.
const API_KEY: &str = "apiKey";
/// The names of the security schemes of requests about one's own image.
const DELETE_TOKEN: &str = "deleteToken";
const SIGN_IN: &str = "signIn";

/// The document.
pub(super) fn document(of: &Deployment<'_>) -> Value {
    let mut types = Types::new();
    let mut paths = Map::new();
    for route in ROUTES {
        paths.insert(path_of(of, route), path_item(of, route, &mut types));
    }
    let codes: Vec<Value> = Code::ALL.iter().map(|code| describe_code(*code)).collect();
    json!({
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "pixtoll",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "An image host where the payment is the login.",
            "description": "Upload an image and get a link. Free uploads need nothing. Paid uploads answer 402 Payment Required \
                with x402 offers (USDC); a request that carries a signed payment returns the goods. There are no accounts.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": of.base_url}],
        "externalDocs": {"url": format!("{}/docs", of.base_url), "description": "The API for readers, with examples."},
        "x-discovery": {"ownershipProofs": [], "llmsTxtUrl": format!("{}/llms.txt", of.base_url)},
        "x-service-info": {"categories": ["storage", "images"], "docs": {"llms": format!("{}/llms.txt", of.base_url)}},
        "x-error-codes": codes,
        "paths": paths,
        "components": {
            "schemas": types.definitions(),
            "securitySchemes": {
                (DELETE_TOKEN): {
                    "type": "apiKey", "in": "header", "name": "X-Delete-Token",
                    "description": "The `deleteToken` that the upload returned.",
                },
                (API_KEY): {
                    "type": "http", "scheme": "bearer",
                    "description": "An API key of a wallet, from `POST /api/keys`: it begins with `pixtoll_`.",
                },
                (SIGN_IN): {
                    "type": "apiKey", "in": "header", "name": "SIGN-IN-WITH-X",
                    "description": "A signed message of the x402 extension `sign-in-with-x`: base64 of JSON. It signs in once. The same \
                        request without a credential returns the challenge to sign.",
                },
            },
        },
    })
}

/// The path below the origin. Images may have an origin of their own.
fn path_of(of: &Deployment<'_>, route: &Route) -> String {
    if route.path != IMAGE_PATH {
        return route.path.to_owned();
    }
    let below = of.images_url.strip_prefix(of.base_url).unwrap_or_default();
    format!("{below}/{{file}}")
}

fn describe_code(code: Code) -> Value {
    let facts = code.facts();
    let actions: Vec<&str> = facts.actions.iter().map(|action| action.name()).collect();
    json!({
        "code": facts.name,
        "status": facts.status,
        "charged": facts.charged.values(),
        "actions": actions,
        "description": facts.when,
    })
}

/// The schemas of bodies, each once. A field with a default may be absent from a request, and is present in each response.
struct Types {
    responses: SchemaGenerator,
    requests: SchemaGenerator,
}

impl Types {
    fn new() -> Self {
        let generator = |settings: SchemaSettings| {
            settings
                .with(|settings| settings.definitions_path = "/components/schemas".into())
                .into_generator()
        };
        Self {
            responses: generator(SchemaSettings::draft2020_12().for_serialize()),
            requests: generator(SchemaSettings::draft2020_12().for_deserialize()),
        }
    }

    fn of<T: JsonSchema>(&mut self) -> Value {
        self.responses.subschema_for::<T>().to_value()
    }

    fn request<T: JsonSchema>(&mut self) -> Value {
        self.requests.subschema_for::<T>().to_value()
    }

    fn definitions(mut self) -> Map<String, Value> {
        let mut definitions = self.responses.take_definitions(true);
        definitions.extend(self.requests.take_definitions(true));
        definitions
    }
}

fn path_item(of: &Deployment<'_>, route: &Route, types: &mut Types) -> Value {
    let mut item = Map::new();
    if route.path == IMAGE_PATH && !of.images_url.starts_with(of.base_url) {
        item.insert("servers".to_owned(), json!([{"url": of.images_url}]));
    }
    let in_path: Vec<Value> = names_in(route.path)
        .map(|name| path_parameter(of, route, name))
        .collect();
    if !in_path.is_empty() {
        item.insert("parameters".to_owned(), Value::Array(in_path));
    }
    for operation in route.operations {
        for (index, method) in operation.methods.iter().enumerate() {
            let described = describe(of, operation, method, index == 0, types);
            item.insert(method.to_ascii_lowercase(), described);
        }
    }
    Value::Object(item)
}

fn names_in(path: &str) -> impl Iterator<Item = &str> {
    path.split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn path_parameter(of: &Deployment<'_>, route: &Route, name: &str) -> Value {
    let (description, schema) = match name {
        "id" if route.path.starts_with("/api/links/") => (
            "The id of an upload link that was bought.",
            json!({"type": "string", "pattern": LEDGER_ID}),
        ),
        "id" if route.path.starts_with("/api/keys/") => (
            "The id of an API key.",
            json!({"type": "string", "pattern": KEY_ID}),
        ),
        "id" => (
            "The id of an image.",
            json!({"type": "string", "pattern": ID, "examples": ["k3v9Qw2mZr7T"]}),
        ),
        "secret" => (
            "The secret of an upload link, as its URL has it: 40 hexadecimal digits. An API key in its place uploads in the name of its wallet.",
            json!({"type": "string", "pattern": SECRET}),
        ),
        "tier" => (
            "The name of a tier with a price.",
            json!({"type": "string", "enum": paid_names(of)}),
        ),
        _ if route.path == IMAGE_PATH => (
            "The id of an image, with or without the extension of its format.",
            json!({"type": "string", "minLength": 1, "maxLength": 255, "examples": ["k3v9Qw2mZr7T.png"]}),
        ),
        "page" => (
            "The name of a document.",
            json!({"type": "string", "enum": ["api.md", "cli.md", "configuration.md", "deploy.md", "images.md", "mcp.md", "operations.md", "payments.md", "wallet.md", "x402.md"]}),
        ),
        _ => (
            "The name of a file.",
            json!({"type": "string", "minLength": 1, "maxLength": 255, "examples": ["photo.png"]}),
        ),
    };
    json!({"name": name, "in": "path", "required": true, "description": description, "schema": schema})
}

fn paid_names(of: &Deployment<'_>) -> Vec<String> {
    of.tiers.paid().map(|tier| tier.name.to_string()).collect()
}

fn all_names(of: &Deployment<'_>) -> Vec<String> {
    of.tiers.iter().map(|tier| tier.name.to_string()).collect()
}

fn describe(
    of: &Deployment<'_>,
    operation: &Operation,
    method: &str,
    is_first: bool,
    types: &mut Types,
) -> Value {
    let id = if is_first {
        operation.id.to_owned()
    } else {
        format!("{}By{}", operation.id, capitalised(method))
    };
    let parameters: Vec<Value> = operation
        .parameters
        .iter()
        .filter(|it| match it {
            Parameter::DeleteToken | Parameter::Wallet => !is_owners(operation),
            // GET and HEAD upload nothing.
            Parameter::UploadToken | Parameter::ApiKey => matches!(method, "POST" | "PUT"),
            _ => true,
        })
        .flat_map(|it| parameter(of, *it))
        .collect();
    let mut described = json!({
        "operationId": id,
        "summary": operation.summary,
        "tags": [tag(operation)],
        "parameters": parameters,
        "responses": responses(operation, method, types),
    });
    if let Some(fields) = described.as_object_mut() {
        if is_owners(operation) {
            let either = json!([{(DELETE_TOKEN): []}, {(SIGN_IN): []}]);
            fields.insert("security".to_owned(), either);
        }
        if operation.parameters.contains(&Parameter::ApiKey) && matches!(method, "POST" | "PUT") {
            // None is required: a payment or an upload token stands in its place.
            fields.insert("security".to_owned(), json!([{}, {(API_KEY): []}]));
        }
        if !operation.description.is_empty() {
            fields.insert("description".to_owned(), json!(operation.description));
        }
        if let Some(body) = request_body(operation, method, types) {
            fields.insert("requestBody".to_owned(), body);
        }
        if let Some(info) = payment_info(of, operation.price).filter(|_| method != "HEAD") {
            fields.insert("x-payment-info".to_owned(), info);
        }
    }
    described
}

/// Whether the operation is for the owner of an image, whose delete token or sign-in is in a header.
/// A body may hold delete tokens too.
fn is_owners(operation: &Operation) -> bool {
    operation.parameters.contains(&Parameter::DeleteToken) && operation.body == Body::None
}

fn capitalised(method: &str) -> String {
    let (first, rest) = method.split_at(1);
    format!("{first}{}", rest.to_ascii_lowercase())
}

const fn tag(operation: &Operation) -> &'static str {
    match operation.success {
        Success::Upload
        | Success::Token
        | Success::Link { .. }
        | Success::LinkUpload
        | Success::Links
        | Success::Check => "uploads",
        Success::Renewal
        | Success::Image
        | Success::Images
        | Success::Deleted
        | Success::SignedLink
        | Success::LinksEnded
        | Success::Receipts
        | Success::Bytes => "images",
        Success::Claims => "payments",
        Success::Case => "reports",
        Success::ApiKey | Success::ApiKeys => "keys",
        _ => "discovery",
    }
}

fn parameter(of: &Deployment<'_>, parameter: Parameter) -> Vec<Value> {
    match parameter {
        Parameter::Metadata => vec![query(
            "metadata",
            "`remove` stores the image without metadata; `keep` stores the file as it is.",
            &json!({"type": "string", "enum": ["remove", "keep"]}),
        )],
        Parameter::Visibility => visibility_parameters(),
        Parameter::Signature => signature_parameters(),
        Parameter::Variant => variant_parameters(),
        Parameter::Embed => embed_parameters(),
        Parameter::Images => vec![images_parameter()],
        Parameter::Bytes => vec![query(
            "bytes",
            "The size of the image, for a request without it that asks for the price. It counts only for tiers with a price \
                by size.",
            &json!({"type": "integer", "minimum": 1, "maximum": LARGEST_MAX_BYTES}),
        )],
        Parameter::Tier => vec![query(
            "tier",
            "The tier whose time is bought. The default is the tier of the image.",
            &json!({"type": "string", "enum": paid_names(of)}),
        )],
        Parameter::Link => link_parameters(of),
        Parameter::Payment => payment_parameters(),
        Parameter::SignIn => vec![header_of(
            "SIGN-IN-WITH-X",
            "A signed message of the x402 extension `sign-in-with-x`: base64 of JSON. The body may hold the same JSON instead.",
            &json!({"type": "string", "pattern": BASE64}),
        )],
        Parameter::Wallet => vec![header_of(
            "SIGN-IN-WITH-X",
            "A signed message of the x402 extension `sign-in-with-x`: base64 of JSON. The same request without it returns the challenge to sign.",
            &json!({"type": "string", "pattern": BASE64}),
        )],
        Parameter::Page => vec![
            query(
                "limit",
                "The most images on a page.",
                &json!({"type": "integer", "minimum": 1, "maximum": MOST_OWNED, "default": 50}),
            ),
            query(
                "after",
                "`next` of the response before: the next page. It needs no new sign-in within 10 minutes of the last one.",
                &json!({"type": "string", "minLength": 1, "maxLength": 1024}),
            ),
        ],
        Parameter::After => vec![query(
            "after",
            "`next` of the response before: the next page.",
            &json!({"type": "string", "pattern": LEDGER_ID}),
        )],
        Parameter::UploadToken => vec![header_of(
            "X-Upload-Token",
            "An upload token: 40 hexadecimal digits.",
            &json!({"type": "string", "pattern": TOKEN}),
        )],
        // The security scheme describes it. OpenAPI can't say that `?tier=` needs it.
        Parameter::ApiKey => Vec::new(),
        Parameter::DeleteToken => vec![header(
            "X-Delete-Token",
            "The `deleteToken` that the upload returned. It is for the ids that come without one.",
        )],
        Parameter::AnyDeleteToken => vec![header(
            "X-Delete-Token",
            "The `deleteToken` that the upload returned, where a request about a private image shows its right in no other way.",
        )],
        Parameter::Conditions => condition_headers(),
    }
}

/// A query parameter.
fn query(name: &str, description: &str, schema: &Value) -> Value {
    json!({"name": name, "in": "query", "description": description, "schema": schema})
}

/// A header.
fn header_of(name: &str, description: &str, schema: &Value) -> Value {
    json!({"name": name, "in": "header", "description": description, "schema": schema})
}

/// A header of any text.
fn header(name: &str, description: &str) -> Value {
    header_of(name, description, &json!({"type": "string"}))
}

fn condition_headers() -> Vec<Value> {
    vec![
        header("Range", "A single range of bytes."),
        header("If-Range", "An ETag or a date."),
        header("If-Match", "ETags."),
        header("If-None-Match", "ETags."),
        header("If-Modified-Since", "A date."),
        header("If-Unmodified-Since", "A date."),
    ]
}

fn visibility_parameters() -> Vec<Value> {
    vec![
        query(
            "visibility",
            "`public`, which is the default, shows the image to everybody who has its link; `private` only to whoever has a signed link.",
            &json!({"type": "string", "enum": ["public", "private"]}),
        ),
        query(
            "viewer",
            "The wallet that may make signed links to a private image beside its owner.",
            &json!({"type": "string", "pattern": ADDRESS}),
        ),
    ]
}

fn variant_parameters() -> Vec<Value> {
    let side = json!({"type": "integer", "minimum": 1, "maximum": Variant::LONGEST_SIDE});
    vec![
        query("w", "The width of the variant's box in pixels.", &side),
        query("h", "The height of the variant's box in pixels.", &side),
        query(
            "fit",
            "How the image is placed in the box of `w` and `h`.",
            &json!({"type": "string", "enum": Fit::ALL.map(Fit::as_str), "default": Fit::default().as_str()}),
        ),
        query(
            "q",
            "The quality of the variant. PNG has none.",
            &json!({"type": "integer", "minimum": 1, "maximum": 100}),
        ),
        query(
            "size",
            "A box with a name, in place of `w`, `h` and `fit`.",
            &json!({"type": "string", "enum": Size::ALL.map(Size::as_str)}),
        ),
    ]
}

fn images_parameter() -> Value {
    query(
        "images",
        "How many uploads the token or link is for. The price is multiplied by it.",
        &json!({"type": "integer", "minimum": 1, "maximum": 100, "default": 1}),
    )
}

fn embed_parameters() -> Vec<Value> {
    let side = json!({"type": "integer", "minimum": 1});
    let url = query(
        oembed::URL,
        "The link to an image of this server, or to its page.",
        &json!({"type": "string", "format": "uri"}),
    );
    let [json, _] = oembed::FORMATS;
    vec![
        required(url),
        query(
            oembed::FORMAT,
            "The format of the response.",
            &json!({"type": "string", "enum": oembed::FORMATS, "default": json}),
        ),
        query(oembed::MAX_WIDTH, "The greatest width in pixels.", &side),
        query(oembed::MAX_HEIGHT, "The greatest height in pixels.", &side),
    ]
}

/// The parameter, which every request needs.
fn required(mut parameter: Value) -> Value {
    if let Some(fields) = parameter.as_object_mut() {
        fields.insert("required".to_owned(), Value::Bool(true));
    }
    parameter
}

fn signature_parameters() -> Vec<Value> {
    vec![
        query(
            "exp",
            "The end of a signed link to a private image, in seconds since 1970.",
            &json!({"type": "string", "pattern": "^[0-9]{1,10}$"}),
        ),
        query(
            "sig",
            "The signature of a signed link to a private image.",
            &json!({"type": "string", "pattern": "^[0-9a-f]{32}$"}),
        ),
    ]
}

fn link_parameters(of: &Deployment<'_>) -> Vec<Value> {
    vec![
        query(
            "days",
            "For how many days the link is valid: at most as many as the operator allows. The price does not depend on it.",
            &json!({"type": "integer", "minimum": 1, "default": 30}),
        ),
        query(
            "tier",
            "The tier that the link uploads to: `free` for a link without a payment. The default is the tier that \
                 `POST /api/upload` sells.",
            &json!({"type": "string", "enum": all_names(of)}),
        ),
    ]
}

fn payment_parameters() -> Vec<Value> {
    vec![
        header_of(
            "PAYMENT-SIGNATURE",
            "A signed payment of x402 version 2: base64 of JSON.",
            &json!({"type": "string", "pattern": BASE64}),
        ),
        header_of(
            "X-PAYMENT",
            "A signed payment of x402 version 1: base64 of JSON.",
            &json!({"type": "string", "pattern": BASE64}),
        ),
        header_of(
            "Idempotency-Key",
            "1 to 255 visible ASCII characters of your choice, such as a UUID. A repeated request with the same key is never charged twice. A key of at least 16 characters also proves that the payment is yours.",
            &json!({"type": "string", "minLength": 1, "pattern": "^[!-~]+$"}),
        ),
    ]
}

fn request_body(operation: &Operation, method: &str, types: &mut Types) -> Option<Value> {
    let content = match operation.body {
        Body::None => return None,
        Body::Import => json!({JSON: {"schema": types.request::<ImportRequest>()}}),
        Body::ApiKey => json!({JSON: {"schema": types.request::<NewKeyRequest>()}}),
        Body::SignedLink => json!({JSON: {"schema": types.request::<SignedLinkRequest>()}}),
        Body::SignIn => json!({JSON: {"schema": types.request::<SignedMessageBody>()}}),
        Body::Report => json!({JSON: {"schema": types.request::<ReportRequest>()}}),
        Body::Objection => json!({JSON: {"schema": types.request::<ObjectionRequest>()}}),
        Body::Rpc => json!({JSON: {"schema": rpc_message()}}),
        Body::Delete => json!({JSON: {"schema": types.request::<DeleteRequest>()}}),
        // GET and HEAD ask for the price alone.
        Body::Image if matches!(method, "GET" | "HEAD") => return None,
        Body::Image => {
            let binary = json!({"schema": {"type": "string", "contentMediaType": "application/octet-stream", "minLength": 1}});
            let mut content = Map::new();
            if method == "POST" {
                content.insert(
                    "multipart/form-data".to_owned(),
                    json!({"schema": types.request::<FormUpload>(), "encoding": {"image": {"contentType": "image/*"}}}),
                );
                content.insert(
                    JSON.to_owned(),
                    json!({"schema": types.request::<JsonUpload>()}),
                );
            }
            for format in Format::ALL {
                content.insert(format.content_type().to_owned(), binary.clone());
            }
            content.insert("application/octet-stream".to_owned(), binary);
            Value::Object(content)
        }
    };
    // A request to a route that sells may come without a body: it asks for the price.
    let required = operation.price == Price::Free
        && !matches!(
            operation.body,
            Body::SignIn | Body::ApiKey | Body::SignedLink
        );
    Some(json!({"required": required, "content": content}))
}

fn responses(operation: &Operation, method: &str, types: &mut Types) -> Value {
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    let codes = operation
        .errors
        .iter()
        .chain([&EVERYWHERE])
        .flat_map(|group| group.iter());
    for code in codes {
        let listed = by_status.entry(code.facts().status).or_default();
        if !listed.contains(code) {
            listed.push(*code);
        }
    }
    let is_head = method == "HEAD";
    let mut responses = Map::new();
    responses.insert("200".to_owned(), success(operation, is_head, types));
    if operation.success == Success::Bytes {
        let bytes = image_content(is_head);
        responses.insert("206".to_owned(), with_content("The range of bytes.", bytes));
        responses.insert(
            "304".to_owned(),
            json!({"description": "The image has not changed."}),
        );
        responses.insert(
            "308".to_owned(),
            json!({
                "description": "The image has another link.",
                "headers": {"Location": {"required": true, "schema": {"type": "string", "format": "uri"}}},
            }),
        );
    }
    for (status, codes) in by_status {
        responses.insert(
            status.to_string(),
            error_response(status, &codes, is_head, types),
        );
    }
    if operation.body == Body::Rpc {
        describe_rpc(&mut responses);
    }
    Value::Object(responses)
}

/// The form of a JSON-RPC message. The protocol itself is described by its own specification.
fn rpc_message() -> Value {
    json!({
        "type": "object",
        "required": ["jsonrpc", "method"],
        "properties": {
            "jsonrpc": {"const": "2.0"},
            "id": {"type": ["string", "integer"]},
            "method": {"type": "string", "examples": ["tools/list"]},
            "params": {"type": "object"},
        },
    })
}

/// Adds the responses of the protocol to those of the API.
fn describe_rpc(responses: &mut Map<String, Value>) {
    let failed = || json!({JSON: {"schema": {"type": "object", "required": ["jsonrpc", "error"]}}});
    let mut either = responses
        .get("400")
        .and_then(|it| it.get("content"))
        .cloned();
    if let Some(content) = either.as_mut().and_then(Value::as_object_mut) {
        let ours = content
            .remove(JSON)
            .and_then(|mut it| it.get_mut("schema").map(Value::take));
        let rpc = json!({"type": "object", "required": ["jsonrpc", "error"]});
        content.insert(
            JSON.to_owned(),
            json!({"schema": {"anyOf": [ours, rpc.clone()]}}),
        );
        let unknown = json!({JSON: {"schema": rpc}});
        responses.insert(
            "404".to_owned(),
            with_content("The method is unknown.", Some(unknown)),
        );
    }
    let bad = "The request, a header or its version is refused, by this API or by the protocol.";
    responses.insert("400".to_owned(), with_content(bad, either));
    responses.insert(
        "202".to_owned(),
        json!({"description": "The notification was received."}),
    );
    for (status, description) in [
        (
            "406",
            "Accept has to name application/json and text/event-stream.",
        ),
        ("415", "The body has to be application/json."),
    ] {
        responses.insert(status.to_owned(), with_content(description, Some(failed())));
    }
}

fn with_content(description: &str, content: Option<Value>) -> Value {
    let mut response = json!({"description": description});
    if let (Some(content), Some(fields)) = (content, response.as_object_mut()) {
        fields.insert("content".to_owned(), content);
    }
    response
}

fn image_content(is_head: bool) -> Option<Value> {
    let binary =
        json!({"schema": {"type": "string", "contentMediaType": "application/octet-stream"}});
    let originals = Format::ALL.map(Format::content_type);
    let variants = Output::all().map(Output::content_type);
    let content: Map<String, Value> = originals
        .into_iter()
        .chain(variants)
        .map(|content_type| (content_type.to_owned(), binary.clone()))
        .collect();
    (!is_head).then_some(Value::Object(content))
}

fn success(operation: &Operation, is_head: bool, types: &mut Types) -> Value {
    let json_of = |schema: Value| Some(json!({JSON: {"schema": schema}}));
    let content = match operation.success {
        Success::Upload => json_of(types.of::<UploadAnswer>()),
        Success::Token => json_of(types.of::<TokenAnswer>()),
        Success::Renewal => json_of(types.of::<RenewalAnswer>()),
        Success::ApiKey => json_of(types.of::<ApiKeyAnswer>()),
        Success::ApiKeys => json_of(types.of::<ApiKeysAnswer>()),
        Success::Links => json_of(types.of::<LinksAnswer>()),
        Success::Link { in_forms: false } => json_of(types.of::<LinkAnswer>()),
        Success::Link { in_forms: true } => Some(in_forms(&types.of::<LinkAnswer>())),
        Success::LinkUpload => Some(in_forms(&types.of::<UploadAnswer>())),
        Success::Check => json_of(types.of::<CheckAnswer>()),
        Success::Tiers => json_of(types.of::<TiersAnswer>()),
        Success::Image => json_of(types.of::<ImageAnswer>()),
        Success::Images => json_of(types.of::<ImagesAnswer>()),
        Success::Deleted => json_of(types.of::<DeletedAnswer>()),
        Success::SignedLink => json_of(types.of::<SignedLinkAnswer>()),
        Success::Case => json_of(types.of::<CaseAnswer>()),
        Success::LinksEnded => json_of(types.of::<LinksEndedAnswer>()),
        Success::Claims => json_of(types.of::<ClaimsAnswer>()),
        Success::Receipts => json_of(types.of::<ReceiptsAnswer>()),
        Success::Proof => json_of(types.of::<ProofAnswer<'_>>()),
        Success::Index => json_of(types.of::<IndexAnswer>()),
        Success::Keys => {
            Some(json!({"application/jwk-set+json": {"schema": types.of::<KeysAnswer>()}}))
        }
        Success::Document(media) => Some(json!({media: {"schema": {"type": "object"}}})),
        Success::Embed => Some(json!({
            "application/json": {"schema": {"type": "object"}},
            "text/xml": {"schema": {"type": "string"}},
        })),
        Success::Text(media) => Some(json!({media: {"schema": {"type": "string"}}})),
        Success::Bytes => image_content(false),
    };
    let mut response = with_content("Success.", content.filter(|_| !is_head));
    let mut headers = Map::new();
    if matches!(operation.success, Success::Upload | Success::LinkUpload) {
        headers.insert(
            "Location".to_owned(),
            json!({"description": "The link of the image.", "required": true, "schema": {"type": "string", "format": "uri"}}),
        );
    }
    if operation.price != Price::Free {
        for name in ["PAYMENT-RESPONSE", "X-PAYMENT-RESPONSE"] {
            headers.insert(
                name.to_owned(),
                json!({"description": "The settlement, as base64 of JSON (x402).", "schema": {"type": "string"}}),
            );
        }
    }
    if let Some(fields) = response.as_object_mut() {
        if !headers.is_empty() {
            fields.insert("headers".to_owned(), Value::Object(headers));
        }
        if let Some(links) = links(operation.success).filter(|_| !is_head) {
            fields.insert("links".to_owned(), links);
        }
    }
    response
}

/// Content in the form that `Accept` names.
fn in_forms(schema: &Value) -> Value {
    json!({
        "text/plain": {"schema": {"type": "string"}},
        JSON: {"schema": schema},
        "text/html": {"schema": {"type": "string"}},
    })
}

/// What the response is good for at other operations.
fn links(success: Success) -> Option<Value> {
    let id = "$response.body#/id";
    match success {
        Success::Upload => Some(json!({
            "getImage": {"operationId": "getImage", "parameters": {"path.id": id}},
            "showImage": {"operationId": "showImage", "parameters": {"path.file": id}},
            "renew": {"operationId": "renew", "parameters": {"path.id": id}},
            "deleteImage": {
                "operationId": "deleteImage",
                "parameters": {"path.id": id},
                "description": "Send `deleteToken` in `X-Delete-Token`.",
            },
            "getReceipts": {
                "operationId": "getReceipts",
                "parameters": {"path.id": id},
                "description": "Send `deleteToken` in `X-Delete-Token`.",
            },
        })),
        Success::Token => Some(json!({
            "upload": {"operationId": "upload", "parameters": {"header.X-Upload-Token": "$response.body#/token"}},
        })),
        _ => None,
    }
}

fn error_response(status: u16, codes: &[Code], is_head: bool, types: &mut Types) -> Value {
    let names: Vec<&str> = codes.iter().map(|code| code.facts().name).collect();
    let lines: Vec<String> = codes
        .iter()
        .map(|code| {
            let facts = code.facts();
            let actions: Vec<&str> = facts.actions.iter().map(|action| action.name()).collect();
            format!(
                "- `{}` (action {}): {}",
                facts.name,
                actions.join(" or "),
                facts.when
            )
        })
        .collect();
    let schema =
        json!({"allOf": [types.of::<ErrorBody>(), {"properties": {"error": {"enum": names}}}]});
    let content = json!({JSON: {"schema": schema}});
    let mut response = with_content(&lines.join("\n"), Some(content).filter(|_| !is_head));
    let waits = |action: &Action| matches!(action, Action::Wait | Action::Retry);
    let mut headers = Map::new();
    if codes
        .iter()
        .any(|code| code.facts().actions.iter().any(waits))
    {
        let mut header = json!({"description": "Seconds to wait.", "schema": {"type": "integer"}});
        let is_always_there = codes
            .iter()
            .all(|code| code.facts().actions.iter().all(waits));
        if let (true, Some(fields)) = (is_always_there, header.as_object_mut()) {
            fields.insert("required".to_owned(), json!(true));
        }
        headers.insert("Retry-After".to_owned(), header);
    }
    if status == 402 {
        headers.insert(
            "PAYMENT-REQUIRED".to_owned(),
            json!({
                "description": "The offers, or the challenge to sign in, as base64 of JSON (x402 version 2).", "required": true, "schema": {"type": "string"},
            }),
        );
    }
    if let (false, Some(fields)) = (headers.is_empty(), response.as_object_mut()) {
        fields.insert("headers".to_owned(), Value::Object(headers));
    }
    response
}

/// The price, as catalogues of paid APIs read it. `None`: the operation is free, or nothing is sold.
fn payment_info(of: &Deployment<'_>, price: Price) -> Option<Value> {
    let range = |least: &Tier, most: &Tier| {
        json!({
            "protocols": ["x402"], "pricingMode": "range",
            "minPrice": least.least_price().to_decimal_usd(), "maxPrice": most.most_price().to_decimal_usd(),
        })
    };
    if !of.sells {
        return None;
    }
    match price {
        Price::Free => None,
        Price::Default => {
            let tier = of.tiers.default_paid()?;
            if tier.is_by_size() {
                return Some(range(tier, tier));
            }
            let price = tier.price.to_decimal_usd();
            Some(json!({"protocols": ["x402"], "pricingMode": "fixed", "price": price}))
        }
        Price::OfTier => {
            let least = of.tiers.paid().min_by_key(|tier| tier.least_price())?;
            let most = of.tiers.paid().max_by_key(|tier| tier.most_price())?;
            Some(range(least, most))
        }
    }
}
