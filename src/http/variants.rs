//! Variants of images, as links ask for them: by an extension of another format, and by the
//! parameters `w`, `h`, `fit`, `q` and `size`.

use actix_web::HttpRequest;

use super::error::{ApiError, Code};
use super::link::{self, Asked, FIT, HEIGHT, QUALITY, SIZE, WIDTH};
use super::{Site, extract, query};
use crate::images::hot::Served;
use crate::model::image::{Format, Image};
use crate::model::signed_link::SignedLink;
use crate::model::variant::{Fit, Output, Size, Variant};

/// The parameters of a link that select a variant.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters {
    width: Option<u32>,
    height: Option<u32>,
    fit: Option<Fit>,
    quality: Option<u8>,
    size: Option<Size>,
}

/// What a link shows of its image.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The image itself.
    Original,
    /// A variant, simplified.
    Variant(Variant),
}

impl Parameters {
    /// Reads the parameters of a query.
    ///
    /// # Errors
    /// 400 if one has a value that is not allowed, or was sent more than once, or doesn't go with
    /// another one. The message says what is allowed.
    pub(super) fn read(query: &str) -> Result<Self, ApiError> {
        let mut found = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let is_first = match &*name {
                WIDTH => set(&mut found.width, side(WIDTH, &value)?),
                HEIGHT => set(&mut found.height, side(HEIGHT, &value)?),
                FIT => set(&mut found.fit, fit(&value)?),
                QUALITY => set(&mut found.quality, quality(&value)?),
                SIZE => set(&mut found.size, size(&value)?),
                _ => true,
            };
            if !is_first {
                return Err(bad(format!(
                    "The query parameter {name} was sent more than once. Send it once."
                )));
            }
        }
        let has_box = found.width.is_some() || found.height.is_some();
        if found.size.is_some() && (has_box || found.fit.is_some()) {
            return Err(bad(
                "size names a whole box, so w, h and fit don't go with it. Send size alone, or w, h and fit."
                    .to_owned(),
            ));
        }
        if found.fit.is_some() && !has_box {
            return Err(bad(
                "fit says how the image fits into a box, but the link names none. Send w or h with it, or no fit."
                    .to_owned(),
            ));
        }
        Ok(found)
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn variant(&self, output: Output) -> Variant {
        let variant = match self.size {
            Some(size) => size.variant(output),
            None => Variant {
                width: self.width,
                height: self.height,
                fit: self.fit.unwrap_or_default(),
                quality: None,
                output,
            },
        };
        Variant {
            quality: self.quality,
            ..variant
        }
    }
}

/// What a link with this extension and these parameters shows of an image.
///
/// # Errors
/// 404 for an extension that names no format of the image, 400 for parameters of a GIF.
pub(super) fn wanted(
    asked: Asked,
    parameters: &Parameters,
    image: &Image,
) -> Result<Wanted, ApiError> {
    let output = match asked {
        Asked::Nothing => return Err(ApiError::NotFound),
        Asked::Gif => {
            let message = "Images are not converted to GIF. Send the link with .webp, which keeps an animation, or \
                           with .png, .jpg or .avif.";
            return Err(ApiError::bad(Code::NotFound, message));
        }
        Asked::Any | Asked::Own if parameters.is_empty() => return Ok(Wanted::Original),
        Asked::Own if image.format == Format::Gif => {
            return Err(bad(
                "The link asks for a GIF of another size, and variants have no GIF. Send it with .webp, which keeps \
                 an animation, or with .png, .jpg or .avif."
                    .to_owned(),
            ));
        }
        Asked::Any | Asked::Own => Output::of(image.format),
        Asked::Other(output) => output,
    };
    let variant = parameters.variant(output);
    let variant = variant.simplified(image.width, image.height);
    if variant.is_original(image.format) {
        return Ok(Wanted::Original);
    }
    Ok(Wanted::Variant(variant))
}

/// The variant of an image that was found on this request. It is found again afterwards: the image may
/// have ended while the variant was made.
pub(super) async fn find(
    site: &Site,
    request: &HttpRequest,
    served: &Served,
    variant: Variant,
) -> Result<Served, ApiError> {
    let address = extract::client_address(request, &site.config.http);
    let found = site.variants.find(served, variant, address).await;
    found.map_err(ApiError::Variant)
}

/// The link of a variant with a name, with a signature if the image is private.
pub(super) fn url(site: &Site, image: &Image, link: Option<SignedLink>, named: Size) -> String {
    let base = &site.config.images.base_url;
    let (id, extension) = (&image.id, named.output().extension());
    let signature = link.map(|link| link.query()).unwrap_or_default();
    let query = link::joined(&signature, &format!("{SIZE}={}", named.as_str()));
    format!("{base}/{id}.{extension}?{query}")
}

/// Sets a parameter. `false`: it was sent before.
fn set<T>(slot: &mut Option<T>, value: T) -> bool {
    slot.replace(value).is_none()
}

fn side(name: &str, text: &str) -> Result<u32, ApiError> {
    let most = Variant::LONGEST_SIDE;
    let side = whole(text).filter(|side| (1..=most).contains(side));
    side.ok_or_else(|| {
        let text = query::excerpt(text);
        bad(format!(
            "{name} is \"{text}\", but a variant's side has 1 to {most} pixels. Send a whole number in this range."
        ))
    })
}

fn quality(text: &str) -> Result<u8, ApiError> {
    let quality = whole(text).filter(|quality| (1..=100).contains(quality));
    let quality = quality.and_then(|quality| u8::try_from(quality).ok());
    quality.ok_or_else(|| {
        let text = query::excerpt(text);
        bad(format!(
            "q is \"{text}\", but the quality is from 1 to 100. Send a whole number in this range."
        ))
    })
}

fn fit(text: &str) -> Result<Fit, ApiError> {
    Fit::parse(text).ok_or_else(|| no_such(FIT, text, &Fit::ALL.map(Fit::as_str)))
}

fn size(text: &str) -> Result<Size, ApiError> {
    Size::parse(text).ok_or_else(|| no_such(SIZE, text, &Size::ALL.map(Size::as_str)))
}

fn no_such(name: &str, text: &str, allowed: &[&str]) -> ApiError {
    let (text, allowed) = (query::excerpt(text), allowed.join(", "));
    bad(format!(
        "{name} is \"{text}\", which is not a known value. Send one of: {allowed}."
    ))
}

/// Reads decimal digits without a sign or leading zeros, so that a number has one spelling.
fn whole(text: &str) -> Option<u32> {
    let number: u32 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

fn bad(message: String) -> ApiError {
    ApiError::Bad(Code::InvalidParameter, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_in_any_order_and_others_are_skipped() {
        let expected = Parameters {
            width: Some(1),
            height: Some(4096),
            fit: Some(Fit::Cover),
            quality: Some(100),
            size: None,
        };
        for query in [
            "w=1&h=4096&fit=cover&q=100",
            "q=100&fit=cover&h=4096&w=1",
            "exp=1&sig=2&q=100&fit=cover&h=4096&w=1&utm=x",
        ] {
            assert_eq!(Parameters::read(query).unwrap(), expected, "{query}");
        }
        assert!(Parameters::read("").unwrap().is_empty());
        let size = Parameters::read("size=social&q=1").unwrap();
        assert_eq!((size.size, size.quality), (Some(Size::Social), Some(1)));
    }

    #[test]
    fn bad_values_are_refused_with_what_is_allowed() {
        for (query, allowed) in [
            ("w=0", "1 to 4096"),
            ("w=4097", "1 to 4096"),
            ("h=", "1 to 4096"),
            ("h=-1", "1 to 4096"),
            ("h=+1", "1 to 4096"),
            ("h=01", "1 to 4096"),
            ("w=10px", "1 to 4096"),
            ("w=99999999999", "1 to 4096"),
            ("q=0", "1 to 100"),
            ("q=101", "1 to 100"),
            ("q=high", "1 to 100"),
            ("w=1&fit=fill", "scale-down, contain, cover, pad"),
            ("size=xl", "s, m, l, social"),
            ("w=1&w=1", "Send it once"),
            ("size=s&size=m", "Send it once"),
            ("size=s&w=1", "Send size alone"),
            ("size=s&h=1", "Send size alone"),
            ("size=s&fit=pad", "Send size alone"),
            ("fit=cover", "Send w or h"),
        ] {
            let error = Parameters::read(query).unwrap_err();
            let ApiError::Bad(Code::InvalidParameter, message) = error else {
                panic!("{query}: {error:?}");
            };
            assert!(message.contains(allowed), "{query}: {message}");
        }
    }
}
