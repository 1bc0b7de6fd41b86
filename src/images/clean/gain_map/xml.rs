//! Reads the part of XML that XMP packets need: elements, attributes and text, with names resolved
//! to the namespaces that gain maps use.
//!
//! Only numbers and fixed words are read from a packet, so a general XML reader is not needed. A
//! packet with entities, character data sections or a document type is ignored, like a malformed
//! one.

/// A namespace that gain maps use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Space {
    Rdf,
    GainMap,
    Container,
    Item,
    AppleGainMap,
    ApplePixels,
    Other,
}

pub(super) const RDF_URI: &str = "http://www.w3.org/1999/02/22-rdf-syntax-ns#";
pub(super) const GAIN_MAP_URI: &str = "http://ns.adobe.com/hdr-gain-map/1.0/";
pub(super) const CONTAINER_URI: &str = "http://ns.google.com/photos/1.0/container/";
pub(super) const ITEM_URI: &str = "http://ns.google.com/photos/1.0/container/item/";
pub(super) const APPLE_GAIN_MAP_URI: &str = "http://ns.apple.com/HDRGainMap/1.0/";
pub(super) const APPLE_PIXELS_URI: &str = "http://ns.apple.com/pixeldatainfo/1.0/";

impl Space {
    fn of(uri: &str) -> Self {
        match uri {
            RDF_URI => Self::Rdf,
            GAIN_MAP_URI => Self::GainMap,
            CONTAINER_URI => Self::Container,
            ITEM_URI => Self::Item,
            APPLE_GAIN_MAP_URI => Self::AppleGainMap,
            APPLE_PIXELS_URI => Self::ApplePixels,
            _ => Self::Other,
        }
    }
}

/// A name without its prefix, in its namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name<'a>(pub(super) Space, pub(super) &'a str);

#[derive(Debug)]
pub(super) struct Element<'a> {
    pub(super) name: Name<'a>,
    /// The index of the parent element.
    pub(super) parent: Option<usize>,
    pub(super) attributes: Vec<(Name<'a>, &'a str)>,
    /// The first text in the element, without white space around it.
    pub(super) text: &'a str,
}

/// All elements, in the order of their start tags.
#[derive(Debug, Default)]
pub(super) struct Document<'a> {
    pub(super) elements: Vec<Element<'a>>,
}

// Limits of time and memory. Real packets stay far below.
const MAX_ELEMENTS: usize = 4096;
const MAX_DEPTH: usize = 32;
const MAX_PREFIXES: usize = 128;

impl<'a> Document<'a> {
    /// Parses a packet. Returns `None` if it is malformed, too large, or uses unsupported parts of
    /// XML.
    pub(super) fn read(packet: &'a [u8]) -> Option<Self> {
        // Writers pad packets, some with zeros.
        let end = packet.iter().rposition(|byte| *byte == b'>')?;
        let text = std::str::from_utf8(packet.get(..=end)?).ok()?;
        let mut reader = Reader::default();
        let mut rest = text.trim_start_matches('\u{feff}');
        while let Some((before, tag)) = rest.split_once('<') {
            reader.text(before);
            rest = if let Some(comment) = tag.strip_prefix("!--") {
                comment.split_once("-->")?.1
            } else if let Some(instruction) = tag.strip_prefix('?') {
                instruction.split_once("?>")?.1
            } else {
                let (tag, rest) = split_tag(tag)?;
                reader.tag(tag)?;
                rest
            };
        }
        reader.open.is_empty().then_some(reader.document)
    }
}

/// Splits the text behind the `>` that ends this tag. A `>` in quotes does not count.
fn split_tag(text: &str) -> Option<(&str, &str)> {
    let mut quote = None;
    let end = text.find(|letter| match (quote, letter) {
        (Some(open), _) => {
            if letter == open {
                quote = None;
            }
            false
        }
        (None, '"' | '\'') => {
            quote = Some(letter);
            false
        }
        (None, _) => letter == '>',
    })?;
    Some((text.get(..end)?, text.get(end + 1..)?))
}

#[derive(Default)]
struct Reader<'a> {
    document: Document<'a>,
    /// Elements whose end tag has not come yet: the index, and the name as it is written.
    open: Vec<(usize, &'a str)>,
    /// Prefixes, with the depth at which they were declared.
    prefixes: Vec<(usize, &'a str, Space)>,
}

impl<'a> Reader<'a> {
    fn text(&mut self, text: &'a str) {
        let text = text.trim();
        if let Some((index, _)) = self.open.last()
            && let Some(element) = self.document.elements.get_mut(*index)
            && element.text.is_empty()
        {
            element.text = text;
        }
    }

    fn tag(&mut self, tag: &'a str) -> Option<()> {
        if let Some(name) = tag.strip_prefix('/') {
            let (_, opened) = self.open.pop()?;
            let depth = self.open.len();
            self.prefixes.retain(|(declared, ..)| *declared <= depth);
            return (opened == name.trim_end()).then_some(());
        }
        let (tag, is_empty) = match tag.strip_suffix('/') {
            Some(tag) => (tag, true),
            None => (tag, false),
        };
        let name_end = tag.find(char::is_whitespace).unwrap_or(tag.len());
        let (name, attributes) = tag.split_at_checked(name_end)?;
        // A declaration or a section of character data.
        if name.is_empty() || name.starts_with('!') || self.open.len() == MAX_DEPTH {
            return None;
        }
        self.element(name, attributes)?;
        if is_empty {
            self.open.pop();
            let depth = self.open.len();
            self.prefixes.retain(|(declared, ..)| *declared <= depth);
        }
        Some(())
    }

    fn element(&mut self, name: &'a str, attributes: &'a str) -> Option<()> {
        let attributes = split_attributes(attributes)?;
        let depth = self.open.len() + 1;
        for (name, value) in &attributes {
            let prefix = match name.strip_prefix("xmlns") {
                Some("") => "",
                Some(prefix) => prefix.strip_prefix(':')?,
                None => continue,
            };
            self.prefixes.push((depth, prefix, Space::of(value)));
        }
        let index = self.document.elements.len();
        if self.prefixes.len() > MAX_PREFIXES || index == MAX_ELEMENTS {
            return None;
        }
        let element = Element {
            name: self.resolve(name),
            parent: self.open.last().map(|(index, _)| *index),
            attributes: attributes
                .into_iter()
                // The default namespace does not apply to attributes.
                .filter(|(name, _)| name.contains(':') && !name.starts_with("xmlns"))
                .map(|(name, value)| (self.resolve(name), value))
                .collect(),
            text: "",
        };
        self.document.elements.push(element);
        self.open.push((index, name));
        Some(())
    }

    fn resolve(&self, name: &'a str) -> Name<'a> {
        let (prefix, local) = name.split_once(':').unwrap_or(("", name));
        let mut declared = self.prefixes.iter().rev();
        let space = declared.find(|(_, found, _)| *found == prefix);
        Name(space.map_or(Space::Other, |(.., space)| *space), local)
    }
}

fn split_attributes(text: &str) -> Option<Vec<(&str, &str)>> {
    let mut attributes = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (name, value) = rest.split_once('=')?;
        let value = value.trim_start();
        let quote = value
            .chars()
            .next()
            .filter(|letter| matches!(letter, '"' | '\''))?;
        let (value, behind) = value.get(1..)?.split_once(quote)?;
        attributes.push((name.trim(), value));
        rest = behind.trim_start();
    }
    Some(attributes)
}
