//! The documents of the repository, as the server shows them: to browsers as pages, to everybody else as Markdown.

use actix_web::{HttpRequest, HttpResponse, web};

use super::super::Site;
use super::super::error::{ApiError, Code};
use super::super::pages::{self, Assets, Library};
use super::markdown;

/// Whom a document is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Reader {
    /// People and programs that use the service.
    Client,
    /// Who operates a server.
    Operator,
}

/// A document.
#[derive(Debug)]
pub(in crate::http) struct Document {
    /// The name of its file without the extension.
    pub(in crate::http) name: &'static str,
    /// The path of its page.
    pub(in crate::http) path: &'static str,
    /// Whom it is for.
    pub(in crate::http) reader: Reader,
    text: &'static str,
}

macro_rules! documents {
    ($($reader:ident: $($name:literal)+;)+) => {
        [$($(Document {
            name: $name,
            path: concat!("/docs/", $name),
            reader: Reader::$reader,
            text: include_str!(concat!("../../../docs/", $name, ".md")),
        },)+)+]
    };
}

/// The documents, in the order in which pages list them. They describe a server at [`DOCUMENTED_BASE`].
pub(in crate::http) static DOCUMENTS: [Document; 16] = documents! {
    Client: "api" "images" "payments" "wallet" "x402" "cli" "mcp";
    Operator: "deploy" "configuration" "operations" "pages" "money" "trust" "blocks" "metrics" "benchmarks";
};
const DOCUMENTED_BASE: &str = "http://127.0.0.1:4020";
/// The document of the API, which `/docs` shows.
const API: &str = "api";

impl Document {
    /// The path of the page for readers.
    pub(in crate::http) fn address(&self) -> &'static str {
        if self.name == API { "/docs" } else { self.path }
    }

    /// The text with the address of this server, without the marks of generated parts. Its links are those of the repository.
    pub(in crate::http) fn text_for(&self, site: &Site) -> String {
        let text = self
            .text
            .replace(DOCUMENTED_BASE, &site.config.http.base_url);
        let lines = text.lines().filter(|line| !line.starts_with("<!--"));
        lines.collect::<Vec<_>>().join("\n") + "\n"
    }

    /// The text with links to this server's own copies.
    fn markdown(&self, site: &Site) -> String {
        let base = &site.config.http.base_url;
        DOCUMENTS.iter().fold(self.text_for(site), |text, other| {
            let file = format!("]({}.md", other.name);
            text.replace(&file, &format!("]({base}{}.md", other.path))
        })
    }
}

/// The document with this name.
pub(in crate::http) fn find(name: &str) -> Option<&'static Document> {
    DOCUMENTS.iter().find(|document| document.name == name)
}

/// `GET /docs`: the document of the API.
pub(super) async fn docs(
    site: Site,
    assets: web::Data<Assets>,
    library: web::Data<Library>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    show(&site, &assets, &library, &request, API)
}

/// `GET /docs/{page}`: one of the documents. With the extension `.md` it is Markdown for everybody.
pub(super) async fn page(
    site: Site,
    assets: web::Data<Assets>,
    library: web::Data<Library>,
    request: HttpRequest,
    name: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    show(&site, &assets, &library, &request, &name)
}

fn show(
    site: &Site,
    assets: &Assets,
    library: &Library,
    request: &HttpRequest,
    name: &str,
) -> Result<HttpResponse, ApiError> {
    let bare = name.strip_suffix(".md");
    let Some(document) = find(bare.unwrap_or(name)) else {
        let known: Vec<&str> = DOCUMENTS.iter().map(|document| document.name).collect();
        let message = format!(
            "There is no document of this name. Ask for one of: {}.",
            known.join(", ")
        );
        return Err(ApiError::bad(Code::UnknownRoute, message));
    };
    if bare.is_none() && pages::wants_page(request) {
        return Ok(pages::document(site, assets, library, document));
    }
    Ok(markdown(site, request, document.markdown(site)))
}
