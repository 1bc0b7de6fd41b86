//! Links to images as people and programs pass them on: with tracking parameters, in capitals, with a bracket or a full stop
//! glued to the end. What such a link means is read here; each image has one link, which the others redirect to.

use actix_web::HttpRequest;
use url::form_urlencoded::{Serializer, parse};

use crate::ids::ImageId;
use crate::model::image::Format;

/// The query parameters that choose a variant of an image. None is registered yet; a registered one stays in a redirect's
/// target, and its value is for the variant to judge.
const PARAMETERS: &[&str] = &[];
/// What chat programs, Markdown and sentences leave at the end of a link. None of it can be a part of one.
const GLUED: &str = ")]}>.,:;!?\"'`*_~|\\<([{»”’›…。，、）】」』〉》";

/// A link, as far as its path can tell.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// The image that it names.
    pub(super) id: ImageId,
    /// Its extension, as it was written.
    extension: Option<String>,
    /// Whether something is glued to its end.
    is_glued: bool,
}

/// Whether a link is the one of its image.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// It is.
    Right,
    /// It means that one.
    Bent,
    /// It names another format.
    Wrong,
}

impl Link {
    /// Reads the path of a request as it stands: the router decodes paths, and then `%69` would be another address of `i`.
    pub(super) fn of(request: &HttpRequest) -> Option<Self> {
        let (folder, file) = request.uri().path().rsplit_once('/')?;
        if folder.contains('%') {
            return None;
        }
        Self::parse(file)
    }

    fn parse(file: &str) -> Option<Self> {
        let (id, rest) = file.split_at_checked(ImageId::LENGTH)?;
        let id = ImageId::parse(id)?;
        let (extension, glued) = match rest.strip_prefix('.') {
            Some(rest) => {
                let is_letter = |byte: &u8| byte.is_ascii_alphanumeric();
                let length = rest.bytes().take_while(is_letter).count();
                let (extension, glued) = rest.split_at_checked(length)?;
                // A dot alone is glued on.
                (Some(extension).filter(|it| !it.is_empty()), glued)
            }
            None => (None, rest),
        };
        let is_glued = rest.len() > extension.map_or(0, |it| it.len() + 1);
        let glued = percent_decoded(glued)?;
        glued
            .chars()
            .all(|glue| GLUED.contains(glue))
            .then(|| Self {
                id,
                extension: extension.map(str::to_owned),
                is_glued,
            })
    }

    /// How the link is spelled, for an image of this format.
    pub(super) fn spelling(&self, format: Format) -> Spelling {
        let is = |extension: &str| format.accepts_extension(extension);
        match &self.extension {
            Some(extension) if !is(&extension.to_ascii_lowercase()) => Spelling::Wrong,
            Some(extension) if !is(extension) => Spelling::Bent,
            _ if self.is_glued => Spelling::Bent,
            _ => Spelling::Right,
        }
    }
}

/// The query that a link has to have instead of this one: without parameters that choose nothing. `None`: it is right.
pub(super) fn right_query(query: Option<&str>) -> Option<String> {
    registered(query?, PARAMETERS)
}

/// The registered parameters of a query; `None` where there are no others.
fn registered(query: &str, known: &[&str]) -> Option<String> {
    let is_known = |name: &str| known.contains(&name);
    if !query.is_empty() && parse(query.as_bytes()).all(|(name, _)| is_known(&name)) {
        return None;
    }
    let kept = parse(query.as_bytes()).filter(|(name, _)| is_known(name));
    Some(Serializer::new(String::new()).extend_pairs(kept).finish())
}

/// What a text says whose bytes may be percent-encoded.
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
    fn a_link_is_read_through_what_was_done_to_it() {
        for right in ["k3v9Qw2mZr7T", "k3v9Qw2mZr7T.jpg", "k3v9Qw2mZr7T.jpeg"] {
            assert_eq!(spelling(right), Some(Spelling::Right), "{right}");
        }
        for bent in [
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
            assert_eq!(spelling(bent), Some(Spelling::Bent), "{bent}");
        }
        for wrong in ["k3v9Qw2mZr7T.png", "k3v9Qw2mZr7T.PNG)", "k3v9Qw2mZr7T.jp"] {
            assert_eq!(spelling(wrong), Some(Spelling::Wrong), "{wrong}");
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
    fn parameters_that_choose_nothing_are_left_out() {
        let known = ["w", "fm"];
        assert_eq!(registered("w=10&fm=webp", &known), None);
        for (query, right) in [
            ("", ""),
            ("fbclid=a", ""),
            ("utm_source=x&w=10&v=1&fm=webp", "w=10&fm=webp"),
            ("W=10", ""),
        ] {
            assert_eq!(registered(query, &known).as_deref(), Some(right), "{query}");
        }
        assert_eq!(right_query(None), None);
        assert_eq!(right_query(Some("w=10")).as_deref(), Some(""));
    }
}
