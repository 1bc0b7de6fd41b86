//! What the server says about itself: the list of routes, the OpenAPI document, texts for language models and agents, and the
//! well-known documents. All of it is made from the price table and the table of routes.

use std::sync::{Arc, Mutex, PoisonError};

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, LINK, VARY, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use bytes::Bytes;
use serde_json::{Value, json};

use super::api::{IMAGE_PATH, Price, ROUTES};
use super::error::{ApiError, Code};
use super::openapi::{self, Deployment};
use super::pages::{self, Assets};
use super::views::{IndexAnswer, RouteView};
use super::{Site, resource};
use crate::keys::secrets::sha256_hex;
use crate::pricing::tiers::{Tier, TierTable};

mod documents;
mod tools;

pub(super) use documents::{DOCUMENTS, Document, Reader, find};

const LLMS: &str = include_str!("llms.txt");
const SKILL: &str = include_str!("SKILL.md");
const SKILL_NAME: &str = "pixtoll-image-hosting";
/// How long caches may keep these documents: prices may change.
const CACHING: &str = "public, max-age=300";
/// How long the contact in security.txt counts (RFC 9116 asks for less than a year).
const SECURITY_TXT_DAYS: u64 = 90;

/// The OpenAPI document of a price table, made once: making it costs a millisecond, and anybody may ask for it.
#[derive(Default)]
pub(super) struct MadeOnce(Mutex<Option<(Arc<TierTable>, Bytes)>>);

impl MadeOnce {
    fn of(&self, site: &Site) -> Bytes {
        let tiers = site.tiers.now();
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*made {
            Some((of, document)) if Arc::ptr_eq(of, &tiers) => document.clone(),
            _ => {
                let document = openapi::document(&Deployment {
                    base_url: &site.config.http.base_url,
                    images_url: &site.config.images.base_url,
                    tiers: &tiers,
                    sells: site.checkout.is_some(),
                });
                let document = Bytes::from(document.to_string());
                *made = Some((tiers, document.clone()));
                document
            }
        }
    }
}

/// The routes of these documents.
pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(resource("/", overview))
        .service(resource("/docs", documents::docs))
        .service(resource("/docs/{page}", documents::page))
        .service(resource("/tools", tools::tools))
        .service(resource("/tools/pixtoll.sxcu", tools::sharex))
        .service(resource("/llms.txt", llms))
        .service(resource("/SKILL.md", skill))
        .service(resource("/openapi.json", open_api))
        .service(resource("/robots.txt", robots))
        .service(resource("/sitemap.xml", sitemap))
        .service(resource("/.well-known/x402", paid_routes))
        .service(resource("/.well-known/api-catalog", catalog))
        .service(resource("/.well-known/agent-skills/index.json", skills))
        .service(resource("/.well-known/security.txt", security));
}

/// `GET /api`.
pub(super) async fn index(site: Site) -> HttpResponse {
    let base = &site.config.http.base_url;
    let routes = ROUTES
        .iter()
        .flat_map(|route| {
            route
                .operations
                .iter()
                .map(move |operation| (route, operation))
        })
        .map(|(route, operation)| RouteView {
            methods: operation.methods.to_vec(),
            url: match route.path {
                IMAGE_PATH => format!("{}/{{file}}", site.config.images.base_url),
                path => format!("{base}{path}"),
            },
            summary: operation.summary,
        })
        .collect();
    let mut response = HttpResponse::Ok();
    link(&mut response, base);
    response.json(IndexAnswer {
        name: "pixtoll",
        version: env!("CARGO_PKG_VERSION"),
        openapi: format!("{base}/openapi.json"),
        documentation: format!("{base}/docs"),
        llms: format!("{base}/llms.txt"),
        routes,
    })
}

/// `GET /`: the front page, or the text for language models and agents.
async fn overview(site: Site, assets: web::Data<Assets>, request: HttpRequest) -> HttpResponse {
    if pages::wants_page(&request) {
        return pages::home(&site, &assets).await;
    }
    markdown(&site, &request, fill(&site, LLMS))
}

async fn llms(site: Site, request: HttpRequest) -> HttpResponse {
    markdown(&site, &request, fill(&site, LLMS))
}

async fn skill(site: Site, request: HttpRequest) -> HttpResponse {
    markdown(&site, &request, fill(&site, SKILL))
}

async fn open_api(site: Site, made: web::Data<MadeOnce>) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    describe(&mut response, &site.config.http.base_url);
    response
        .content_type("application/json")
        .body(made.of(&site))
}

async fn robots(site: Site) -> HttpResponse {
    let base = &site.config.http.base_url;
    let text = format!(
        "User-agent: *\nAllow: /\nDisallow: /api/images/\nDisallow: /api/receipts/\nDisallow: /u/\nDisallow: /delete/\n\n\
         Sitemap: {base}/sitemap.xml\n# For agents: {base}/llms.txt\n"
    );
    plain(&site, text)
}

/// `GET /sitemap.xml`: the pages that search engines may list.
async fn sitemap(site: Site) -> HttpResponse {
    let base = &site.config.http.base_url;
    let documents = DOCUMENTS.iter().map(Document::address);
    let mut paths: Vec<&str> = pages::listed().chain(documents).collect();
    paths.sort_unstable();
    paths.dedup();
    let entries: Vec<String> = paths
        .into_iter()
        .map(|path| format!("<url><loc>{base}{path}</loc></url>\n"))
        .collect();
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<urlset xmlns=\"http://www.sitemaps.org/schemas/sitemap/0.9\">\n{}</urlset>\n",
        entries.concat()
    );
    let mut response = HttpResponse::Ok();
    describe(&mut response, base);
    response.content_type("application/xml").body(text)
}

async fn paid_routes(site: Site) -> HttpResponse {
    let tiers = site.tiers.now();
    let resources = if site.checkout.is_some() {
        paid_urls(&site.config.http.base_url, &tiers)
    } else {
        Vec::new()
    };
    document(
        &site,
        "application/json",
        &json!({
            "version": 1,
            "resources": resources,
            "ownershipProofs": [],
            "instructions": format!("{}/llms.txt", site.config.http.base_url),
        }),
    )
}

async fn catalog(site: Site) -> HttpResponse {
    let base = &site.config.http.base_url;
    let body = json!({"linkset": [{
        "anchor": format!("{base}/api"),
        "service-desc": [{"href": format!("{base}/openapi.json"), "type": "application/vnd.oai.openapi+json;version=3.1"}],
        "service-doc": [
            {"href": format!("{base}/docs"), "type": "text/markdown"},
            {"href": format!("{base}/llms.txt"), "type": "text/markdown"},
        ],
        "item": [{"href": format!("{base}/mcp"), "type": "application/json", "title": "Model Context Protocol"}],
        "status": [{"href": format!("{base}/api/tiers"), "type": "application/json"}],
    }]});
    document(
        &site,
        "application/linkset+json; profile=\"https://www.rfc-editor.org/info/rfc9727\"",
        &body,
    )
}

async fn skills(site: Site) -> HttpResponse {
    let skill = fill(&site, SKILL);
    let description = skill
        .split_once("description: >-")
        .and_then(|(_, rest)| rest.split_once("---"))
        .map(|(text, _)| text.split_whitespace().collect::<Vec<_>>().join(" "))
        .unwrap_or_default();
    let body = json!({
        "$schema": "https://schemas.agentskills.io/discovery/0.2.0/schema.json",
        "skills": [{
            "name": SKILL_NAME,
            "type": "skill-md",
            "description": description,
            "url": format!("{}/SKILL.md", site.config.http.base_url),
            "digest": format!("sha256:{}", sha256_hex(skill.as_bytes())),
        }],
    });
    document(&site, "application/json", &body)
}

/// `GET /.well-known/security.txt` (RFC 9116), where the operator has named a contact.
async fn security(site: Site) -> Result<HttpResponse, ApiError> {
    let contact = site.config.operator.security_contact.as_deref();
    let contact = contact.ok_or_else(|| {
        let message = "The operator of this server has named no contact for security reports.";
        ApiError::bad(Code::NotFound, message)
    })?;
    let base = &site.config.http.base_url;
    let end = site.clock.now().plus(std::time::Duration::from_secs(
        SECURITY_TXT_DAYS * 24 * 3600,
    ));
    let text = format!(
        "Contact: {contact}\nExpires: {end}\nPreferred-Languages: en\nCanonical: {base}/.well-known/security.txt\n"
    );
    Ok(plain(&site, text))
}

/// Every URL that sells something, with tiers in the place of their names. Renewals are left out: they need an image.
fn paid_urls(base: &str, tiers: &TierTable) -> Vec<String> {
    let paid = ROUTES
        .iter()
        .filter(|route| !route.path.contains("{id}") && !route.path.contains("{file}"))
        .filter(|route| route.operations.iter().any(|it| it.price != Price::Free));
    paid.flat_map(|route| {
        let names: Vec<String> = if route.path.contains("{tier}") {
            tiers
                .paid()
                .map(|tier| route.path.replace("{tier}", tier.name.as_str()))
                .collect()
        } else {
            vec![route.path.to_owned()]
        };
        names.into_iter().map(|path| format!("{base}{path}"))
    })
    .collect()
}

/// A template with what this deployment says in the place of its `{{names}}`.
fn fill(site: &Site, template: &str) -> String {
    let table = site.tiers.now();
    let sells = site.checkout.as_ref();
    let cheapest = table
        .paid()
        .min_by_key(|tier| tier.least_price())
        .filter(|_| sells.is_some());
    let tier = cheapest.map_or("NAME", |tier| tier.name.as_str());
    let price = cheapest.map_or_else(|| "0".to_owned(), |tier| tier.most_price().to_decimal_usd());
    let prices: Vec<String> = table
        .paid()
        .map(|tier| format!("{} costs {}", tier.name, tier.price_in_words()))
        .collect();
    let free = table
        .free()
        .map_or_else(|| "nothing".to_owned(), Tier::describe);
    let money = match sells {
        None => "- This server sells nothing now: paid tiers are off.",
        Some(checkout) if checkout.catalog.is_play_money() => {
            "- This server is a sandbox: its USDC is play money. Any fresh key works, and every wallet has 100 play USDC."
        }
        Some(_) => "- Payments are real USDC. A refused request is never charged.",
    };
    template
        .replace("{{base}}", &site.config.http.base_url)
        .replace("{{tiers}}", &tier_table(&table))
        .replace("{{free}}", &free)
        .replace("{{tier}}", tier)
        .replace("{{price}}", &price)
        .replace("{{prices}}", &prices.join(", "))
        .replace("{{money}}", money)
}

fn tier_table(table: &TierTable) -> String {
    let mut rows = vec![
        "| tier | price | one upload | route |".to_owned(),
        "| --- | --- | --- | --- |".to_owned(),
    ];
    rows.extend(table.iter().map(|tier| {
        let route = if tier.is_free() {
            "POST /api/free".to_owned()
        } else {
            format!("POST /api/upload/{}", tier.name)
        };
        format!(
            "| `{}` | {} | {} | `{route}` |",
            tier.name,
            tier.price_in_words(),
            tier.describe()
        )
    }));
    rows.join("\n")
}

/// Markdown, for whoever asks for it; as plain text, which every browser shows, to the others.
fn markdown(site: &Site, request: &HttpRequest, text: String) -> HttpResponse {
    let media = if pages::wants_page(request) {
        "text/plain; charset=utf-8"
    } else {
        "text/markdown; charset=utf-8"
    };
    let mut response = HttpResponse::Ok();
    describe(&mut response, &site.config.http.base_url);
    response
        .insert_header((VARY, "Accept"))
        .content_type(media)
        .body(text)
}

fn plain(site: &Site, text: String) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    describe(&mut response, &site.config.http.base_url);
    response
        .content_type("text/plain; charset=utf-8")
        .body(text)
}

fn document(site: &Site, media: &str, body: &Value) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    describe(&mut response, &site.config.http.base_url);
    response.content_type(media).body(body.to_string())
}

fn describe(response: &mut HttpResponseBuilder, base: &str) {
    link(response, base);
    response
        .insert_header((CACHE_CONTROL, CACHING))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"));
}

/// Links to the descriptions of the API (RFC 8288, RFC 8631, RFC 9727).
fn link(response: &mut HttpResponseBuilder, base: &str) {
    let links = format!(
        "<{base}/openapi.json>; rel=\"service-desc\"; type=\"application/json\", \
         <{base}/docs>; rel=\"service-doc\"; type=\"text/markdown\", \
         <{base}/llms.txt>; rel=\"describedby\"; type=\"text/markdown\", \
         <{base}/.well-known/api-catalog>; rel=\"api-catalog\""
    );
    response.insert_header((LINK, links));
}
