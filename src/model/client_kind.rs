//! The kinds of client programs that the statistics tell apart. The `User-Agent` of a request
//! decides, and is neither stored nor logged.

/// A kind of client. The set is fixed, so that statistics stay small and name nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClientKind {
    /// A web browser, or a program that calls itself one.
    Browser,
    /// curl.
    Curl,
    /// A Go program.
    Go,
    /// A caller of the tools of `POST /mcp`.
    Mcp,
    /// A JavaScript program outside of a browser: Node.js, Deno, Bun.
    Node,
    /// `pixtoll` itself.
    Pixtoll,
    /// A Python program.
    Python,
    /// Another program in Rust.
    Rust,
    /// Any other client, and one that does not say.
    Other,
}

/// Beginnings of `User-Agent` in any case, each with what it shows.
const SIGNS: [(&str, ClientKind); 16] = [
    ("mozilla/", ClientKind::Browser),
    ("curl/", ClientKind::Curl),
    ("pixtoll/", ClientKind::Pixtoll),
    ("python", ClientKind::Python),
    ("httpx", ClientKind::Python),
    ("aiohttp", ClientKind::Python),
    ("go-http-client", ClientKind::Go),
    ("node", ClientKind::Node),
    ("undici", ClientKind::Node),
    ("axios", ClientKind::Node),
    ("got ", ClientKind::Node),
    ("deno/", ClientKind::Node),
    ("bun/", ClientKind::Node),
    ("reqwest", ClientKind::Rust),
    ("hyper/", ClientKind::Rust),
    ("ureq/", ClientKind::Rust),
];

impl ClientKind {
    /// Every kind, in the order of its declaration.
    pub const ALL: [Self; 9] = [
        Self::Browser,
        Self::Curl,
        Self::Go,
        Self::Mcp,
        Self::Node,
        Self::Pixtoll,
        Self::Python,
        Self::Rust,
        Self::Other,
    ];

    /// The kind of the client that sent this `User-Agent`.
    pub fn of(user_agent: Option<&[u8]>) -> Self {
        let agent = user_agent.unwrap_or_default();
        let begins_with = |sign: &str| {
            let head = agent.get(..sign.len());
            head.is_some_and(|head| head.eq_ignore_ascii_case(sign.as_bytes()))
        };
        let kind = SIGNS.iter().find(|(sign, _)| begins_with(sign));
        kind.map_or(Self::Other, |(_, kind)| *kind)
    }

    /// The name in the database and in statistics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Browser => "browser",
            Self::Curl => "curl",
            Self::Go => "go",
            Self::Mcp => "mcp",
            Self::Node => "node",
            Self::Pixtoll => "pixtoll",
            Self::Python => "python",
            Self::Rust => "rust",
            Self::Other => "other",
        }
    }

    /// Reads a name that [`ClientKind::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_agents_of_common_clients_are_told_apart() {
        let cases = [
            ("curl/8.5.0", ClientKind::Curl),
            ("pixtoll/0.1.0", ClientKind::Pixtoll),
            ("python-requests/2.32.3", ClientKind::Python),
            ("python-httpx/0.28.1", ClientKind::Python),
            ("Python/3.12 aiohttp/3.9.1", ClientKind::Python),
            ("Go-http-client/2.0", ClientKind::Go),
            ("node", ClientKind::Node),
            ("undici", ClientKind::Node),
            ("axios/1.7.2", ClientKind::Node),
            ("Deno/2.0.0", ClientKind::Node),
            ("Bun/1.1.30", ClientKind::Node),
            ("reqwest/0.12.5", ClientKind::Rust),
            (
                "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0",
                ClientKind::Browser,
            ),
            ("Wget/1.24", ClientKind::Other),
            ("like curl/8.5.0", ClientKind::Other),
            ("", ClientKind::Other),
        ];
        for (agent, kind) in cases {
            assert_eq!(ClientKind::of(Some(agent.as_bytes())), kind, "{agent}");
        }
        assert_eq!(ClientKind::of(None), ClientKind::Other);
        assert_eq!(ClientKind::of(Some(&[0xff; 300])), ClientKind::Other);
    }

    #[test]
    fn names_are_read_back() {
        for (index, kind) in ClientKind::ALL.into_iter().enumerate() {
            assert_eq!(ClientKind::parse(kind.as_str()), Some(kind));
            assert_eq!(kind as usize, index);
        }
        assert_eq!(ClientKind::parse("lynx"), None);
    }
}
