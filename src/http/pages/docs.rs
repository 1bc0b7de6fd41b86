//! The pages of documents: each with the list of all of them, and of its own parts.

use std::collections::HashMap;
use std::sync::OnceLock;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use askama::Template;

use super::super::Site;
use super::super::discovery::{DOCUMENTS, Document, Reader, find};
use super::markdown::{Rendered, Section, render};
use super::{Assets, Layout, respond};

/// The documents as HTML. They are made when the first one is asked for, which takes some milliseconds.
#[derive(Default)]
pub(in crate::http) struct Library(OnceLock<HashMap<&'static str, Rendered>>);

impl Library {
    fn of(&self, site: &Site) -> &HashMap<&'static str, Rendered> {
        self.0.get_or_init(|| {
            let documents = DOCUMENTS.iter();
            documents
                .map(|document| (document.name, render(&document.text_for(site), resolve)))
                .collect()
        })
    }
}

/// The address of a link in a document. Links to files of the repository that the server does not show have none.
fn resolve(target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with(['#', '/']) || target.starts_with("mailto:") {
        return Some(target.to_owned());
    }
    let (file, anchor) = match target.split_once('#') {
        Some((file, anchor)) => (file, format!("#{anchor}")),
        None => (target, String::new()),
    };
    let document = find(file.strip_suffix(".md")?)?;
    Some(format!("{}{anchor}", document.address()))
}

/// A text with a list beside it.
#[derive(Template)]
#[template(path = "text.html")]
pub(super) struct Text<'a> {
    pub(super) layout: Layout<'a>,
    pub(super) html: &'a str,
    /// What the list is of, for its link at the top of narrow pages.
    pub(super) contents: &'static str,
    pub(super) groups: Vec<Group<'a>>,
}

/// A part of the list beside a text.
pub(super) struct Group<'a> {
    pub(super) title: &'static str,
    pub(super) entries: Vec<Entry<'a>>,
}

/// A link of the list.
pub(super) struct Entry<'a> {
    pub(super) address: String,
    pub(super) title: &'a str,
    pub(super) is_here: bool,
    /// The parts of the text, if it is the one that is shown.
    pub(super) sections: &'a [Section],
}

/// The page of a document.
pub(in crate::http) fn document(
    site: &Site,
    assets: &Assets,
    library: &Library,
    document: &Document,
) -> HttpResponse {
    let made = library.of(site);
    let Some(shown) = made.get(document.name) else {
        tracing::error!(document.name, "a document was not rendered");
        return HttpResponse::InternalServerError().finish();
    };
    let group = |title, reader| {
        let documents = DOCUMENTS.iter().filter(|other| other.reader == reader);
        let entries = documents.filter_map(|other| {
            let is_here = other.name == document.name;
            let made = made.get(other.name)?;
            let sections = if is_here {
                made.sections.as_slice()
            } else {
                &[]
            };
            Some(Entry {
                address: other.address().to_owned(),
                title: &made.title,
                is_here,
                sections,
            })
        });
        Group {
            title,
            entries: entries.collect(),
        }
    };
    let mut layout = Layout::listed(site, assets, "/docs", &shown.title, &*shown.description);
    let base = &site.config.http.base_url;
    layout.canonical = Some(format!("{base}{}", document.address()));
    let page = Text {
        layout,
        html: &shown.html,
        contents: "All documents and sections",
        groups: vec![
            group("Use the service", Reader::Client),
            group("Run a server", Reader::Operator),
        ],
    };
    respond(site, StatusCode::OK, &page)
}

/// The page about programs that people have, whose text is Markdown.
pub(in crate::http) fn tools(site: &Site, assets: &Assets, text: &str) -> HttpResponse {
    let shown = render(text, resolve);
    let path = "/tools";
    let page = Text {
        layout: Layout::listed(site, assets, path, &shown.title, &*shown.description),
        html: &shown.html,
        contents: "All tools",
        groups: vec![Group {
            title: "On this page",
            entries: vec![Entry {
                address: path.to_owned(),
                title: &shown.title,
                is_here: true,
                sections: &shown.sections,
            }],
        }],
    };
    respond(site, StatusCode::OK, &page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_between_documents_lead_to_pages() {
        for (target, address) in [
            ("images.md", Some("/docs/images")),
            ("images.md#variants", Some("/docs/images#variants")),
            ("api.md", Some("/docs")),
            ("api.md#errors", Some("/docs#errors")),
            ("#here", Some("#here")),
            ("https://example.com/a", Some("https://example.com/a")),
            ("../deploy/Caddyfile", None),
            ("none.md", None),
            ("javascript:alert(1)", None),
        ] {
            assert_eq!(resolve(target).as_deref(), address, "{target}");
        }
    }
}
