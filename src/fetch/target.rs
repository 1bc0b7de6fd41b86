//! The URL of an image to fetch, after every check that needs no network.

use std::net::IpAddr;

use url::{Host, Position, Url};

use super::error::NotAllowed;

/// The longest URL, in bytes.
pub(super) const LONGEST: usize = 2048;

/// A URL that may be fetched, as far as its text shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target(Url);

impl Target {
    /// Parses a URL. `ports` are the allowed ports.
    pub(super) fn parse(text: &str, ports: &[u16]) -> Result<Self, NotAllowed> {
        if text.len() > LONGEST {
            return Err(NotAllowed::Malformed);
        }
        let url = Url::parse(text).map_err(|_| NotAllowed::Malformed)?;
        Self::check(url, ports)
    }

    /// The target of a redirect from this one.
    pub(super) fn join(&self, location: &str, ports: &[u16]) -> Result<Self, NotAllowed> {
        if location.len() > LONGEST {
            return Err(NotAllowed::Malformed);
        }
        let url = self.0.join(location).map_err(|_| NotAllowed::Malformed)?;
        let next = Self::check(url, ports)?;
        if self.is_tls() && !next.is_tls() {
            return Err(NotAllowed::Downgrade);
        }
        Ok(next)
    }

    fn check(mut url: Url, ports: &[u16]) -> Result<Self, NotAllowed> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(NotAllowed::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(NotAllowed::Credentials);
        }
        let port = url.port_or_known_default().unwrap_or_default();
        if !ports.contains(&port) {
            let allowed: Vec<String> = ports.iter().map(u16::to_string).collect();
            let allowed = match ports.len() {
                1 => format!("port {}", allowed.concat()),
                _ => format!("the ports {}", allowed.join(", ")),
            };
            return Err(NotAllowed::Port { port, allowed });
        }
        url.set_fragment(None);
        // Longer than it was sent, where characters had to be escaped.
        if url.as_str().len() > LONGEST * 3 {
            return Err(NotAllowed::Malformed);
        }
        Ok(Self(url))
    }

    /// The URL in its canonical form, without a fragment. Equal forms are one URL.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub(super) fn is_tls(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// The host as a name to resolve, or as its address.
    pub(super) fn host(&self) -> Result<IpAddr, &str> {
        match self.0.host() {
            Some(Host::Ipv4(address)) => Ok(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Ok(IpAddr::V6(address)),
            Some(Host::Domain(name)) => Err(name),
            None => Err(""),
        }
    }

    pub(super) fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or_default()
    }

    /// The value of the header `Host`.
    pub(super) fn authority(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        match self.0.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// Path and query.
    pub(super) fn path(&self) -> &str {
        &self.0[Position::BeforePath..Position::AfterQuery]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORTS: &[u16] = &[80, 443];

    fn parse(text: &str) -> Result<Target, NotAllowed> {
        Target::parse(text, PORTS)
    }

    #[test]
    fn a_url_is_brought_into_one_form() {
        let target = parse("HTTPS://Example.com:443/a b?c#d").unwrap();
        assert_eq!(target.as_str(), "https://example.com/a%20b?c");
        assert_eq!(target.path(), "/a%20b?c");
        assert_eq!(target.authority(), "example.com");
        assert_eq!(target.host(), Err("example.com"));
        let target = Target::parse("http://[::1]:8080", &[8080]).unwrap();
        assert_eq!(target.authority(), "[::1]:8080");
        assert_eq!(target.path(), "/");
        assert_eq!(parse("http://a/").unwrap().port(), 80);
        assert_eq!(parse("https://a/").unwrap().port(), 443);
    }

    #[test]
    fn every_notation_of_an_address_is_recognised_as_one() {
        let local: IpAddr = "127.0.0.1".parse().unwrap();
        for text in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://127.0.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0x7f.0.0.1/",
            "http://0177.0.0.1/",
            "http://0177.0.0x0.1/",
            "http://017700000001/",
            "http://127.0.0.1./",
            "http:127.0.0.1/",
            "http:\\\\127.0.0.1\\",
            "http://\u{ff11}\u{ff12}\u{ff17}.0.0.1/",
            "http://127\u{3002}0\u{3002}0\u{3002}1/",
            "http://%31%32%37.0.0.1/",
            "http://127.0.0.\t1/",
        ] {
            assert_eq!(parse(text).unwrap().host(), Ok(local), "{text}");
        }
        for text in [
            "http://256.0.0.1/",
            "http://1.2.3.4.5/",
            "http://0x100000000/",
        ] {
            assert_eq!(parse(text), Err(NotAllowed::Malformed), "{text}");
        }
        for text in [
            "http://[::ffff:127.0.0.1]/",
            "http://[0:0:0:0:0:ffff:7f00:1]/",
        ] {
            let host = parse(text).unwrap();
            assert_eq!(host.host(), Ok("::ffff:7f00:1".parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn a_url_that_is_not_plain_http_is_refused() {
        for text in ["", "image.png", "//example.com/a", "http://", "http://a b/"] {
            assert_eq!(parse(text), Err(NotAllowed::Malformed), "{text}");
        }
        for text in [
            "ftp://a/",
            "file:///etc/passwd",
            "data:image/png,",
            "gopher://a:80/",
        ] {
            assert_eq!(parse(text), Err(NotAllowed::Scheme), "{text}");
        }
        for text in ["http://u@a/", "http://u:p@a/", "http://:p@a/"] {
            assert_eq!(parse(text), Err(NotAllowed::Credentials), "{text}");
        }
        for text in ["http://a:22/", "https://a:8443/", "http://a:0/"] {
            assert!(
                matches!(parse(text), Err(NotAllowed::Port { .. })),
                "{text}"
            );
        }
        let long = |length: usize| format!("http://a/{}", "x".repeat(length - 9));
        assert!(parse(&long(LONGEST)).is_ok());
        assert_eq!(parse(&long(LONGEST + 1)), Err(NotAllowed::Malformed));
    }

    #[test]
    fn a_redirect_is_checked_like_a_url_and_never_leaves_tls() {
        let plain = parse("http://a/b/c").unwrap();
        assert_eq!(plain.join("d", PORTS).unwrap().as_str(), "http://a/b/d");
        assert_eq!(
            plain.join("https://d", PORTS).unwrap().as_str(),
            "https://d/"
        );
        assert_eq!(plain.join("ftp://d", PORTS), Err(NotAllowed::Scheme));
        assert_eq!(plain.join("//u@d", PORTS), Err(NotAllowed::Credentials));
        let safe = parse("https://a/").unwrap();
        assert_eq!(safe.join("http://a/", PORTS), Err(NotAllowed::Downgrade));
        assert!(safe.join("//d/", PORTS).unwrap().is_tls());
    }
}
