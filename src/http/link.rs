//! Parses links to images as people and programs pass them on: with tracking parameters, in upper
//! case, or with a bracket or full stop at the end. Each image has one canonical link, and its
//! other links redirect to it.

use actix_web::HttpRequest;
use url::form_urlencoded::{Serializer, parse};

use crate::model::ids::ImageId;
use crate::model::image::Format;
use crate::model::signed_link::SignedLink;
use crate::model::variant::Output;

/// The query parameters that select a variant of an image. Such a parameter stays in the target of a
/// redirect, and `variants` checks its value.
const PARAMETERS: &[&str] = &[WIDTH, HEIGHT, FIT, QUALITY, SIZE];
/// The parameter for the width of a variant's box.
pub(super) const WIDTH: &str = "w";
/// The parameter for the height of a variant's box.
pub(super) const HEIGHT: &str = "h";
/// The parameter for how a variant fits into its box.
pub(super) const FIT: &str = "fit";
/// The parameter for the quality of a variant.
pub(super) const QUALITY: &str = "q";
/// The parameter for a size that has a name.
pub(super) const SIZE: &str = "size";
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

/// The format that a link asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// The link has no extension: the format of the image, or the one that is nearest to it.
    Any,
    /// The format of the image.
    Own,
    /// Another format, which variants have.
    Other(Output),
    /// GIF, which neither the image nor any variant has.
    Gif,
    /// The extension is none of an image, so the link names no image.
    Nothing,
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
        is_trailing(&trailing).then(|| Self {
            id,
            extension: extension.map(str::to_owned),
            has_trailing,
        })
    }

    /// The format that the link asks for, of an image of `format`.
    pub(super) fn asked(&self, format: Format) -> Asked {
        let Some(extension) = &self.extension else {
            return Asked::Any;
        };
        let extension = extension.to_ascii_lowercase();
        if format.accepts_extension(&extension) {
            return Asked::Own;
        }
        match Output::parse(&extension) {
            Some(output) => Asked::Other(output),
            None if extension == Format::Gif.extension() => Asked::Gif,
            None => Asked::Nothing,
        }
    }

    /// Whether the path is spelled as links are: with an extension in lower case or without one, and
    /// without trailing characters. Other spellings are redirected.
    pub(super) fn is_canonical(&self) -> bool {
        let is_lower =
            |extension: &String| !extension.bytes().any(|byte| byte.is_ascii_uppercase());
        !self.has_trailing && self.extension.as_ref().is_none_or(is_lower)
    }
}

/// The canonical form of `query`: without parameters that select nothing, and for a private image with
/// its signature at first. `None`: `query` is absent or already canonical.
pub(super) fn canonical_query(query: Option<&str>, signed: Option<SignedLink>) -> Option<String> {
    let Some(signed) = signed else {
        return kept_parameters(query?, PARAMETERS);
    };
    let signature = signed.query();
    let sent = query.unwrap_or_default();
    let rest = match sent.strip_prefix(&signature) {
        Some("") => return None,
        Some(rest) => rest.strip_prefix('&'),
        None => None,
    };
    if rest.is_some_and(|rest| kept_parameters(rest, PARAMETERS).is_none()) {
        return None;
    }
    let kept = kept_parameters(sent, PARAMETERS).unwrap_or_else(|| sent.to_owned());
    Some(joined(&signature, &kept))
}

/// Two parts of a query as one.
pub(super) fn joined(first: &str, second: &str) -> String {
    let separator = if first.is_empty() || second.is_empty() {
        ""
    } else {
        "&"
    };
    format!("{first}{separator}{second}")
}

/// The parameters of `query` that are in `known`, without punctuation at the end of the last one.
/// `None`: it has no others, ends without punctuation, and is not empty.
fn kept_parameters(query: &str, known: &[&str]) -> Option<String> {
    let whole = trimmed(query);
    let is_known = |name: &str| known.contains(&name);
    let has_others = || parse(query.as_bytes()).any(|(name, _)| !is_known(&name));
    if whole.len() == query.len() && !query.is_empty() && !has_others() {
        return None;
    }
    let kept = parse(whole.as_bytes()).filter(|(name, _)| is_known(name));
    Some(Serializer::new(String::new()).extend_pairs(kept).finish())
}

/// `query` without characters of [`TRAILING`] at its end. Programs escape some of them.
fn trimmed(query: &str) -> &str {
    let mut rest = query;
    loop {
        let plain = rest.trim_end_matches(|character| TRAILING.contains(character));
        let escape = plain
            .len()
            .checked_sub(3)
            .and_then(|at| plain.split_at_checked(at));
        let shorter = match escape {
            Some((before, escape)) => match percent_decoded(escape) {
                Some(text) if escape.starts_with('%') && is_trailing(&text) => before,
                _ => plain,
            },
            None => plain,
        };
        if shorter.len() == rest.len() {
            return rest;
        }
        rest = shorter;
    }
}

fn is_trailing(text: &str) -> bool {
    text.chars().all(|character| TRAILING.contains(character))
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

    fn spelling(file: &str) -> Option<(Asked, bool)> {
        let link = Link::parse(file)?;
        Some((link.asked(Format::Jpeg), link.is_canonical()))
    }

    #[test]
    fn altered_links_are_recognised() {
        for (right, asked) in [
            ("k3v9Qw2mZr7T", Asked::Any),
            ("k3v9Qw2mZr7T.jpg", Asked::Own),
            ("k3v9Qw2mZr7T.jpeg", Asked::Own),
            ("k3v9Qw2mZr7T.png", Asked::Other(Output::Png)),
            ("k3v9Qw2mZr7T.webp", Asked::Other(Output::WebP)),
            ("k3v9Qw2mZr7T.avif", Asked::Other(Output::Avif)),
            ("k3v9Qw2mZr7T.gif", Asked::Gif),
            ("k3v9Qw2mZr7T.jp", Asked::Nothing),
        ] {
            assert_eq!(spelling(right), Some((asked, true)), "{right}");
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
        ] {
            assert_eq!(
                spelling(redirected),
                Some((Asked::Own, false)),
                "{redirected}"
            );
        }
        for redirected in ["k3v9Qw2mZr7T.", "k3v9Qw2mZr7T,"] {
            assert_eq!(spelling(redirected), Some((Asked::Any, false)));
        }
        let other = Some((Asked::Other(Output::Png), false));
        assert_eq!(spelling("k3v9Qw2mZr7T.PNG)"), other);
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
            ("w=10).", "w=10"),
            ("fm=webp&w=10%29%22", "fm=webp&w=10"),
            ("w=).", "w="),
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
        assert_eq!(canonical_query(Some("h=9&w=10"), None), None);
        assert_eq!(canonical_query(Some("fm=png"), None).as_deref(), Some(""));
        // A signature selects nothing of a public image.
        let query = "exp=1&sig=0123456789abcdef0123456789abcdef";
        assert_eq!(canonical_query(Some(query), None).as_deref(), Some(""));
    }

    #[test]
    fn the_query_of_a_private_image_begins_with_its_signature() {
        let sig = "0123456789abcdef0123456789abcdef";
        let signed = SignedLink::parse("1", sig);
        let canonical = format!("exp=1&sig={sig}");
        assert_eq!(canonical_query(Some(&canonical), signed), None);
        let variant = format!("{canonical}&w=10&h=9");
        assert_eq!(canonical_query(Some(&variant), signed), None);
        for other in [
            format!("w=10&h=9&{canonical}"),
            format!("w=10&{canonical}&utm=x&h=9"),
            format!("{canonical}&w=10&h=9)"),
            format!("{canonical}&w=10&utm=x&h=9"),
        ] {
            let found = canonical_query(Some(&other), signed);
            assert_eq!(found.as_deref(), Some(&*variant), "{other}");
        }
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
