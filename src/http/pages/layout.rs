//! What every page shows: its title and address, the name of the service, the ways to other pages, and who operates it.

use super::Assets;
use crate::app::App;

/// A link to another page.
pub(in crate::http) struct PageLink {
    /// The path of the page.
    pub(in crate::http) path: &'static str,
    /// What the link says.
    pub(in crate::http) text: &'static str,
}

/// The links at the head of each page.
const HEAD: [PageLink; 5] = [
    PageLink {
        path: "/",
        text: "Upload",
    },
    PageLink {
        path: "/mine",
        text: "My uploads",
    },
    PageLink {
        path: "/tools",
        text: "Tools",
    },
    PageLink {
        path: "/docs",
        text: "Docs",
    },
    PageLink {
        path: "/proof",
        text: "Proof",
    },
];
/// The links at the foot of each page.
const FOOT: [PageLink; 5] = [
    PageLink {
        path: "/security",
        text: "Security",
    },
    PageLink {
        path: "/privacy",
        text: "Privacy",
    },
    PageLink {
        path: "/terms",
        text: "Terms",
    },
    PageLink {
        path: "/abuse",
        text: "Report abuse",
    },
    PageLink {
        path: "/llms.txt",
        text: "For agents",
    },
];

/// Pages with links that search engines don't list: they show what a browser or a wallet has.
const OWN: [&str; 3] = ["/mine", "/wallet", "/llms.txt"];

/// The paths of the pages that search engines may list, as far as other pages link to them.
pub(in crate::http) fn listed() -> impl Iterator<Item = &'static str> {
    let links = HEAD.iter().chain(&FOOT);
    links
        .map(|link| link.path)
        .filter(|path| !OWN.contains(path))
}

/// What templates/base.html shows.
pub(in crate::http) struct Layout<'a> {
    /// The title of the page, with the name of the service.
    pub(in crate::http) title: String,
    /// What the page is about, in a sentence.
    pub(in crate::http) description: String,
    /// The address of the page for search engines; `None`: they don't list it.
    pub(in crate::http) canonical: Option<String>,
    /// What stands before the paths of links and assets: nothing, or the address of this server.
    pub(in crate::http) root: &'a str,
    /// The folder of the assets, as a path without a slash at the end.
    pub(in crate::http) assets: &'a str,
    /// The public address of the server, for links that other servers follow.
    pub(in crate::http) base: &'a str,
    /// The name of the service.
    pub(in crate::http) name: &'a str,
    /// Who operates the service.
    pub(in crate::http) operator: Option<&'a str>,
    /// A URL that reaches the operator.
    pub(in crate::http) contact: Option<&'a str>,
    /// The links at the head.
    pub(in crate::http) head: &'static [PageLink],
    /// The links at the foot.
    pub(in crate::http) foot: &'static [PageLink],
    path: &'static str,
}

impl<'a> Layout<'a> {
    /// The layout of a page that search engines may list, at `path`.
    pub(in crate::http) fn listed(
        app: &'a App,
        assets: &'a Assets,
        path: &'static str,
        title: &str,
        description: impl Into<String>,
    ) -> Self {
        let base = &app.config.http.base_url;
        Self {
            canonical: Some(format!("{base}{path}")),
            path,
            ..Self::unlisted(app, assets, title, description)
        }
    }

    /// The layout of a page that is about one image, or about nothing that others look for.
    pub(in crate::http) fn unlisted(
        app: &'a App,
        assets: &'a Assets,
        title: &str,
        description: impl Into<String>,
    ) -> Self {
        let name = &app.config.site.name;
        Self {
            title: format!("{title} · {name}"),
            description: description.into(),
            canonical: None,
            root: "",
            assets: assets.folder(),
            base: &app.config.http.base_url,
            name,
            operator: app.config.operator.name.as_deref(),
            contact: app.config.operator.contact.as_deref(),
            head: &HEAD,
            foot: &FOOT,
            path: "",
        }
    }

    /// The layout of a page that may be served at the address of images. Its links are whole URLs.
    pub(in crate::http) fn at_any_host(
        app: &'a App,
        assets: &'a Assets,
        title: &str,
        description: impl Into<String>,
    ) -> Self {
        Self {
            root: &app.config.http.base_url,
            ..Self::unlisted(app, assets, title, description)
        }
    }

    /// This layout for the page at `path`, which a link at the head may name.
    pub(in crate::http) fn at(self, path: &'static str) -> Self {
        Self { path, ..self }
    }

    /// Whether the page is the one at `path`.
    pub(in crate::http) fn is_here(&self, path: &str) -> bool {
        self.path == path
    }
}

/// The origin of a URL: scheme, host and port.
pub(in crate::http) fn origin_of(url: &str) -> String {
    url::Url::parse(url).map_or_else(|_| String::new(), |url| url.origin().ascii_serialization())
}

/// The host of a URL, for people. A text that is no URL is shown as it is.
pub(in crate::http) fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host)
}
