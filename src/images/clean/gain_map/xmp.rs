//! XMP packets that describe gain maps: Adobe's (`hdrgm`, also used by Android's Ultra HDR),
//! Apple's, and Google's directory of files (`GContainer`).
//!
//! A packet is never copied. Its numbers are parsed, and a new packet is written from them.

use std::fmt::Write;

use super::xml::{
    APPLE_GAIN_MAP_URI, APPLE_PIXELS_URI, CONTAINER_URI, Document, Element, GAIN_MAP_URI, ITEM_URI,
    Name, RDF_URI, Space,
};

const VERSION: &str = "1.0";
const APPLE_TYPE: &str = "urn:com:apple:photo:2020:aux:hdrgainmap";

/// A number in XMP. Its text is written anew, so that only the value is kept.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Real(f64);

impl Real {
    /// The largest accepted value. Real parameters are logarithms of brightness, gammas, and small
    /// offsets.
    const LIMIT: f64 = 100_000.0;
    /// Smaller values are written as zero. Viewers treat them as zero, and their texts would be
    /// long.
    const SMALLEST: f64 = 1e-12;

    fn parse(text: &str) -> Option<Self> {
        // Rust's parser also accepts infinities and "nan".
        let is_number = text.len() <= 40
            && text
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
        let value: f64 = is_number.then(|| text.parse().ok())??;
        match value.abs() {
            size if size < Self::SMALLEST => Some(Self(0.0)),
            size => (size < Self::LIMIT).then_some(Self(value)),
        }
    }
}

/// One number for all channels, or one for each channel.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Channels {
    One(Real),
    Three([Real; 3]),
}

const CHANNEL_FIELDS: [&str; 5] = [
    "GainMapMin",
    "GainMapMax",
    "Gamma",
    "OffsetSDR",
    "OffsetHDR",
];
const SCALAR_FIELDS: [&str; 2] = ["HDRCapacityMin", "HDRCapacityMax"];
/// The only parameter without a default value in Android's rules.
const REQUIRED_FIELD: &str = "GainMapMax";
const GAMMA_FIELD: &str = "Gamma";

/// Adobe's parameters of a gain map.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Adobe {
    fields: Vec<(&'static str, Channels)>,
    base_is_hdr: Option<bool>,
}

/// Apple's parameters of a gain map.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Apple {
    version: u32,
    headroom: Option<Real>,
    /// Codes of pixel formats.
    native_format: Option<u32>,
    stored_format: Option<u32>,
}

/// The contents of a packet.
#[derive(Debug, Default)]
pub(super) struct Packet {
    /// Whether it names the version of Adobe's gain maps that viewers support.
    pub(super) has_version: bool,
    pub(super) adobe: Option<Adobe>,
    pub(super) apple: Option<Apple>,
    /// Whether it has a directory of pictures, as the first picture of a file does.
    pub(super) has_directory: bool,
    /// How far behind the end of the first picture the directory places the gain map, in bytes.
    pub(super) gain_map_at: Option<usize>,
}

impl Packet {
    pub(super) fn read(packet: &[u8]) -> Self {
        let Some(document) = Document::read(packet) else {
            return Self::default();
        };
        let view = View(&document);
        let adobe = view.adobe();
        Self {
            has_version: adobe.is_some(),
            adobe,
            apple: view.apple(),
            has_directory: view
                .named(Name(Space::Container, "Directory"))
                .next()
                .is_some(),
            gain_map_at: view.gain_map_at(),
        }
    }
}

/// Looks up properties in a document.
#[derive(Clone, Copy)]
struct View<'a>(&'a Document<'a>);

impl<'a> View<'a> {
    fn element(self, index: usize) -> Option<&'a Element<'a>> {
        self.0.elements.get(index)
    }

    fn named(self, name: Name<'a>) -> impl Iterator<Item = usize> + 'a {
        let elements = self.0.elements.iter().enumerate();
        elements.filter_map(move |(index, element)| (element.name == name).then_some(index))
    }

    /// The elements that hold properties.
    fn descriptions(self) -> impl Iterator<Item = usize> + 'a {
        self.named(Name(Space::Rdf, "Description"))
            .filter(move |index| {
                let parent = self.element(*index).and_then(|element| element.parent);
                parent
                    .and_then(|parent| self.element(parent))
                    .is_some_and(|parent| parent.name == Name(Space::Rdf, "RDF"))
            })
    }

    fn children(self, parent: usize) -> impl Iterator<Item = (usize, &'a Element<'a>)> + 'a {
        // Children come after their parent.
        let elements = self.0.elements.iter().enumerate().skip(parent + 1);
        elements.filter(move |(_, element)| element.parent == Some(parent))
    }

    fn child(self, parent: usize, name: Name<'a>) -> Option<(usize, &'a Element<'a>)> {
        self.children(parent)
            .find(|(_, element)| element.name == name)
    }

    /// A property of text: an attribute or an element.
    fn text(self, index: usize, name: Name<'a>) -> Option<&'a str> {
        let mut attributes = self.element(index)?.attributes.iter();
        let attribute = attributes.find(|(found, _)| *found == name);
        let text = attribute.map(|(_, value)| value.trim());
        text.or_else(|| self.child(index, name).map(|(_, element)| element.text))
    }

    /// A property of three numbers or of one.
    fn channels(self, index: usize, name: Name<'a>) -> Option<Channels> {
        let list = self
            .child(index, name)
            .and_then(|(child, _)| self.child(child, Name(Space::Rdf, "Seq")));
        let Some((list, _)) = list else {
            return self
                .text(index, name)
                .and_then(Real::parse)
                .map(Channels::One);
        };
        let mut items = self.children(list).map(|(_, item)| Real::parse(item.text));
        let three = [items.next()??, items.next()??, items.next()??];
        items.next().is_none().then_some(Channels::Three(three))
    }

    /// Reads Adobe's parameters. Viewers replace an unreadable parameter by its default value, so
    /// it is dropped.
    fn adobe(self) -> Option<Adobe> {
        let index = self
            .descriptions()
            .find(|index| self.text(*index, Name(Space::GainMap, "Version")) == Some(VERSION))?;
        let channels = CHANNEL_FIELDS.into_iter().filter_map(|field| {
            let value = self.channels(index, Name(Space::GainMap, field))?;
            (field != GAMMA_FIELD || value.all_positive()).then_some((field, value))
        });
        let scalars = SCALAR_FIELDS.into_iter().filter_map(|field| {
            let value = self.text(index, Name(Space::GainMap, field))?;
            Some((field, Channels::One(Real::parse(value)?)))
        });
        let base_is_hdr = match self.text(index, Name(Space::GainMap, "BaseRenditionIsHDR")) {
            Some("True") => Some(true),
            Some("False") => Some(false),
            _ => None,
        };
        Some(Adobe {
            fields: channels.chain(scalars).collect(),
            base_is_hdr,
        })
    }

    fn apple(self) -> Option<Apple> {
        self.descriptions().find_map(|index| {
            let kind = self.text(index, Name(Space::ApplePixels, "AuxiliaryImageType"))?;
            if kind != APPLE_TYPE {
                return None;
            }
            let of_map = |field| self.text(index, Name(Space::AppleGainMap, field));
            let of_pixels = |field| self.text(index, Name(Space::ApplePixels, field));
            Some(Apple {
                version: of_map("HDRGainMapVersion").and_then(whole)?,
                headroom: of_map("HDRGainMapHeadroom").and_then(Real::parse),
                native_format: of_pixels("NativeFormat").and_then(whole),
                stored_format: of_pixels("StoredFormat").and_then(whole),
            })
        })
    }

    /// Adds up the bytes before the gain map: padding of the first picture, and other items.
    fn gain_map_at(self) -> Option<usize> {
        self.named(Name(Space::Container, "Directory")).next()?;
        let of_item = |index, field| self.text(index, Name(Space::Item, field));
        let number = |index, field| of_item(index, field).and_then(whole);
        let mut items =
            (0..self.0.elements.len()).filter(|index| of_item(*index, "Semantic").is_some());
        let first = items.next()?;
        let padding = number(first, "Padding").unwrap_or(0);
        let mut at = usize::try_from(padding).ok()?;
        for index in items {
            if of_item(index, "Semantic") == Some("GainMap") {
                return Some(at);
            }
            at = at.checked_add(usize::try_from(number(index, "Length")?).ok()?)?;
        }
        None
    }
}

impl Channels {
    fn all_positive(self) -> bool {
        match self {
            Self::One(value) => value.0 > 0.0,
            Self::Three(values) => values.iter().all(|value| value.0 > 0.0),
        }
    }
}

/// A whole number that consists of digits alone.
fn whole(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

/// Writes the packet of the first picture: it announces a gain map and its length.
pub(super) fn write_directory(gain_map_len: usize) -> Option<String> {
    let mut body = String::new();
    write!(
        body,
        r#" xmlns:hdrgm="{GAIN_MAP_URI}" xmlns:Container="{CONTAINER_URI}" xmlns:Item="{ITEM_URI}" hdrgm:Version="{VERSION}"><Container:Directory><rdf:Seq><rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="Primary" Item:Mime="image/jpeg"/></rdf:li><rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="GainMap" Item:Mime="image/jpeg" Item:Length="{gain_map_len}"/></rdf:li></rdf:Seq></Container:Directory>"#
    )
    .ok()?;
    Some(packet(&body))
}

/// Writes the packet of a gain map with its parameters.
pub(super) fn write_parameters(adobe: Option<&Adobe>, apple: Option<&Apple>) -> Option<String> {
    let (mut spaces, mut elements) = (String::new(), String::new());
    if let Some(adobe) = adobe {
        adobe.write(&mut spaces, &mut elements).ok()?;
    }
    if let Some(apple) = apple {
        apple.write(&mut spaces, &mut elements).ok()?;
    }
    Some(packet(&format!("{spaces}>{elements}")))
}

impl Adobe {
    /// Whether the required parameter is there.
    pub(super) fn is_complete(&self) -> bool {
        self.fields
            .iter()
            .any(|(field, _)| *field == REQUIRED_FIELD)
    }

    /// A single number is written as an attribute, because libultrahdr reads no other form.
    fn write(&self, attributes: &mut String, elements: &mut String) -> std::fmt::Result {
        write!(
            attributes,
            r#" xmlns:hdrgm="{GAIN_MAP_URI}" hdrgm:Version="{VERSION}""#
        )?;
        for (field, value) in &self.fields {
            match value {
                Channels::One(Real(value)) => write!(attributes, r#" hdrgm:{field}="{value}""#)?,
                Channels::Three([Real(red), Real(green), Real(blue)]) => write!(
                    elements,
                    "<hdrgm:{field}><rdf:Seq><rdf:li>{red}</rdf:li><rdf:li>{green}</rdf:li><rdf:li>{blue}</rdf:li></rdf:Seq></hdrgm:{field}>"
                )?,
            }
        }
        match self.base_is_hdr {
            Some(true) => attributes.write_str(r#" hdrgm:BaseRenditionIsHDR="True""#),
            Some(false) => attributes.write_str(r#" hdrgm:BaseRenditionIsHDR="False""#),
            None => Ok(()),
        }
    }
}

impl Apple {
    fn write(&self, attributes: &mut String, elements: &mut String) -> std::fmt::Result {
        write!(
            attributes,
            r#" xmlns:HDRGainMap="{APPLE_GAIN_MAP_URI}" xmlns:apdi="{APPLE_PIXELS_URI}""#
        )?;
        write!(
            elements,
            "<apdi:AuxiliaryImageType>{APPLE_TYPE}</apdi:AuxiliaryImageType><HDRGainMap:HDRGainMapVersion>{}</HDRGainMap:HDRGainMapVersion>",
            self.version
        )?;
        if let Some(Real(headroom)) = self.headroom {
            write!(
                elements,
                "<HDRGainMap:HDRGainMapHeadroom>{headroom}</HDRGainMap:HDRGainMapHeadroom>"
            )?;
        }
        let formats = [
            ("NativeFormat", self.native_format),
            ("StoredFormat", self.stored_format),
        ];
        for (field, code) in formats {
            if let Some(code) = code {
                write!(elements, "<apdi:{field}>{code}</apdi:{field}>")?;
            }
        }
        Ok(())
    }
}

/// Puts the attributes and elements of one description into a packet.
fn packet(body: &str) -> String {
    format!(
        r#"<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF_URI}"><rdf:Description rdf:about=""{body}</rdf:Description></rdf:RDF></x:xmpmeta>"#
    )
}
