//! Parses links to images as people and programs pass them on: with tracking parameters, in upper
//! case, or with a bracket or full stop at the end. Each image has one canonical link, and its
//! other links redirect to it.

use actix_web::HttpRequest;
use url::form_urlencoded::{Serializer, parse};

use crate::model::ids::ImageId;
use crate::model::image::Format;
use crate::model::signed_link::SignedLink;

/// The query parameters that select a variant of an image. There are none yet. Such a parameter
/// stays in the target of a redirect, and the variant checks its value.
const PARAMETERS: &[&str] = &[];
/// Characters that chat programs, Markdown and sentences leave at the end of a link. None of them
/// can be part of a link.
pub(super) const TRAILING: &str = ")]}>.,:;!?\"'`*_~|\\<([{»”’›…。，、）】」』〉》";

/// The parsed path of a link.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// The id of the image.
    pub(super) id: ImageId,
    /// The extension as it was written, without the dot.
    extension: Option<String>,
    /// Whether characters of [`TRAILING`] follow.
    has_trailing: bool,
}

/// How the path of a link compares with the canonical one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// The path is canonical, or has no extension or an alternative one of the format.
    Canonical,
    /// The path means the image, and redirects to the canonical link.
    Redirect,
    /// The extension is that of another format, so the path names no image.
    OtherFormat,
}

impl Link {
    /// Parses the path of a request without decoding it. The router decodes paths, so `%69` would
    /// become a second address of `i`. `None`: the path can't name an image.
    pub(super) fn of(request: &HttpRequest) -> Option<Self> {
        let (folder, file) = request.uri().path().rsplit_once('/')?;
        if folder.contains('%') {
            return None;
        }
        Self::parse(file)
    }

    /// Parses the last segment of a path.
    pub(super) fn parse(file: &str) -> Option<Self> {
        let (id, rest) = file.split_at_checked(ImageId::LENGTH)?;
        let id = ImageId::parse(id)?;
        let (extension, trailing) = match rest.strip_prefix('.') {
            Some(rest) => {
                let is_letter = |byte: &u8| byte.is_ascii_alphanumeric();
                let length = rest.bytes().take_while(is_letter).count();
                let (extension, trailing) = rest.split_at_checked(length)?;
                // A dot without an extension is a trailing character.
                (Some(extension).filter(|it| !it.is_empty()), trailing)
            }
            None => (None, rest),
        };
        let has_trailing = rest.len() > extension.map_or(0, |it| it.len() + 1);
        let trailing = percent_decoded(trailing)?;
        trailing
            .chars()
            .all(|character| TRAILING.contains(character))
            .then(|| Self {
                id,
                extension: extension.map(str::to_owned),
                has_trailing,
            })
    }

    /// How the path is spelled, for an image of `format`.
    pub(super) fn spelling(&self, format: Format) -> Spelling {
        let is = |extension: &str| format.accepts_extension(extension);
        match &self.extension {
            Some(extension) if !is(&extension.to_ascii_lowercase()) => Spelling::OtherFormat,
            Some(extension) if !is(extension) => Spelling::Redirect,
            _ if self.has_trailing => Spelling::Redirect,
            _ => Spelling::Canonical,
        }
    }
}

/// The canonical form of `query`: without parameters that select nothing. That of a private image
/// is its signature alone. `None`: `query` is absent or already canonical.
pub(super) fn canonical_query(query: Option<&str>, signed: Option<SignedLink>) -> Option<String> {
    match signed {
        None => kept_parameters(query?, PARAMETERS),
        Some(signed) => Some(signed.query()).filter(|canonical| query != Some(canonical)),
    }
}

/// The parameters of `query` that are in `known`. `None`: it has no others and is not empty.
fn kept_parameters(query: &str, known: &[&str]) -> Option<String> {
    let is_known = |name: &str| known.contains(&name);
    if !query.is_empty() && parse(query.as_bytes()).all(|(name, _)| is_known(&name)) {
        return None;
    }
    let kept = parse(query.as_bytes()).filter(|(name, _)| is_known(name));
    Some(Serializer::new(String::new()).extend_pairs(kept).finish())
}

/// Decodes percent-encoded bytes. `None`: an escape is invalid, or the result is not UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let byte;
        (byte, rest) = match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                let mut byte = [0];
                hex::decode_to_slice([*high, *low], &mut byte).ok()?;
                (byte, after)
            }
            (b'%', _) => return None,
            (plain, after) => ([*plain], after),
        };
        decoded.extend_from_slice(&byte);
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelling(file: &str) -> Option<Spelling> {
        Some(Link::parse(file)?.spelling(Format::Jpeg))
    }

    #[test]
    fn altered_links_are_recognised() {
        for right in ["k3v9Qw2mZr7T", "k3v9Qw2mZr7T.jpg", "k3v9Qw2mZr7T.jpeg"] {
            assert_eq!(spelling(right), Some(Spelling::Canonical), "{right}");
        }
        for redirected in [
            "k3v9Qw2mZr7T.JPG",
            "k3v9Qw2mZr7T.Jpeg",
            "k3v9Qw2mZr7T.jpg)",
            "k3v9Qw2mZr7T.jpg).",
            "k3v9Qw2mZr7T.JPG%22%3E",
            "k3v9Qw2mZr7T.jpg%29%2c",
            "k3v9Qw2mZr7T.jpg'];!*",
            "k3v9Qw2mZr7T.jpg%E2%80%9D",
            "k3v9Qw2mZr7T.",
            "k3v9Qw2mZr7T,",
        ] {
            assert_eq!(
                spelling(redirected),
                Some(Spelling::Redirect),
                "{redirected}"
            );
        }
        for wrong in ["k3v9Qw2mZr7T.png", "k3v9Qw2mZr7T.PNG)", "k3v9Qw2mZr7T.jp"] {
            assert_eq!(spelling(wrong), Some(Spelling::OtherFormat), "{wrong}");
        }
        for other in [
            "",
            "k3v9Qw2mZr7",
            "%6b3v9Qw2mZr7T.jpg",
            "k3v9Qw2mZr7T%2ejpg",
            "k3v9Qw2mZr7T..jpg",
            "k3v9Qw2mZr7T.jpg.png",
            "k3v9Qw2mZr7T.jpg;a",
            "k3v9Qw2mZr7T.jpg%00",
            "k3v9Qw2mZr7T.jpg%20",
            "k3v9Qw2mZr7T.jpg%2f",
            "k3v9Qw2mZr7T.jpg%2",
            "k3v9Qw2mZr7T.jpg%zz",
            "k3v9Qw2mZr7T.jpg%80",
            "k3v9Qw2mZr7Té.jpg",
        ] {
            assert_eq!(spelling(other), None, "{other}");
        }
    }

    #[test]
    fn unknown_query_parameters_are_removed() {
        let known = ["w", "fm"];
        assert_eq!(kept_parameters("w=10&fm=webp", &known), None);
        for (query, right) in [
            ("", ""),
            ("fbclid=a", ""),
            ("utm_source=x&w=10&v=1&fm=webp", "w=10&fm=webp"),
            ("W=10", ""),
        ] {
            assert_eq!(
                kept_parameters(query, &known).as_deref(),
                Some(right),
                "{query}"
            );
        }
        assert_eq!(canonical_query(None, None), None);
        assert_eq!(canonical_query(Some("w=10"), None).as_deref(), Some(""));
        // A signature selects nothing of a public image.
        let query = "exp=1&sig=0123456789abcdef0123456789abcdef";
        assert_eq!(canonical_query(Some(query), None).as_deref(), Some(""));
    }

    #[test]
    fn the_query_of_a_private_image_is_its_signature_alone() {
        let sig = "0123456789abcdef0123456789abcdef";
        let signed = SignedLink::parse("1", sig);
        let canonical = format!("exp=1&sig={sig}");
        assert_eq!(canonical_query(Some(&canonical), signed), None);
        for other in [
            format!("sig={sig}&exp=1"),
            format!("{canonical}&fbclid=x"),
            format!("exp=%31&sig={sig}"),
        ] {
            let found = canonical_query(Some(&other), signed);
            assert_eq!(found.as_deref(), Some(&*canonical), "{other}");
        }
    }
}
