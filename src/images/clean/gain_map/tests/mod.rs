//! Builds photographs with gain maps and cleans them as the JPEG cleaner does.

mod damaged;
mod parameters;
mod places;

use super::*;
use crate::images::clean::exif::tests::camera_exif;
use crate::images::clean::icc::tests::sample;
use crate::images::clean::{GROWTH, clean, clean_base};
use crate::model::image::Format;
use crate::model::metadata::Kind;

const GAIN_MAP: &str = r#"xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/""#;
const CONTAINER: &str = r#"xmlns:C="http://ns.google.com/photos/1.0/container/" xmlns:I="http://ns.google.com/photos/1.0/container/item/""#;
const APPLE: &str = r#"xmlns:HDRGainMap="http://ns.apple.com/HDRGainMap/1.0/" xmlns:apdi="http://ns.apple.com/pixeldatainfo/1.0/""#;
const APPLE_MAP: &str =
    "<apdi:AuxiliaryImageType>urn:com:apple:photo:2020:aux:hdrgainmap</apdi:AuxiliaryImageType>";
const VERSION: &str = r#"hdrgm:Version="1.0""#;
const PARAMETERS: &str = r#"hdrgm:Version="1.0" hdrgm:GainMapMin="-0.5" hdrgm:GainMapMax="2.250" hdrgm:Gamma="1" hdrgm:OffsetSDR="1.5625e-2" hdrgm:HDRCapacityMax=" 2.25 " hdrgm:BaseRenditionIsHDR="False""#;

fn segment(code: u8, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len() + 2).unwrap().to_be_bytes();
    [[0xff, code].as_slice(), &len, body].concat()
}

fn xmp(attributes: &str, elements: &str) -> Vec<u8> {
    let packet = format!(
        r#"<?xpacket begin="{}" id="SECRET"?><!-- SECRET > --><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:creator='"SECRET" > <' {attributes}>{elements}<dc:title>SECRET &amp;</dc:title></rdf:Description></rdf:RDF></x:xmpmeta>   <?xpacket end="w"?>"#,
        '\u{feff}'
    );
    let packet = packet.replace("> <'", ">'");
    segment(
        0xe1,
        &[
            b"http://ns.adobe.com/xap/1.0/\0",
            packet.as_bytes(),
            b"\0\0",
        ]
        .concat(),
    )
}

/// A JPEG image that begins with these segments. Its data contain restart markers, escaped bytes
/// and two scans.
fn jpeg(front: &[Vec<u8>], components: u8) -> Vec<u8> {
    let mut frame = vec![8, 0, 8, 0, 8, components];
    frame.extend((0..components).flat_map(|component| [component, 0x11, 0]));
    [
        [0xff, 0xd8].to_vec(),
        front.concat(),
        segment(0xdb, &[1; 65]),
        segment(0xc2, &frame),
        segment(0xda, &[1, 0, 0, 0, 63, 0]),
        b"data\xff\0\xff\xd0more".to_vec(),
        b"\xff".to_vec(),
        segment(0xc4, &[0; 20]),
        segment(0xda, &[1, 0, 0, 0, 63, 0]),
        b"\xff\xd9".to_vec(),
    ]
    .concat()
}

fn gray(front: &[Vec<u8>]) -> Vec<u8> {
    jpeg(front, 1)
}

/// The bytes of an MPF index, for the first image and others with their offset and length.
fn index(images: &[(usize, usize)]) -> Vec<u8> {
    let mut index =
        b"II*\0\x08\0\0\0\x02\0\x01\xb0\x04\0\x01\0\0\0\x02\0\0\0\x02\xb0\x07\0".to_vec();
    index.extend_from_slice(&low_first(16 * (images.len() + 1)));
    index.extend_from_slice(b"\x32\0\0\0");
    index.resize(INDEX_HEAD_LEN + 16, 0);
    for (offset, len) in images {
        index.extend_from_slice(&[0, *len, *offset, 0].map(low_first).concat());
    }
    segment(0xe2, &[b"MPF\0", index.as_slice()].concat())
}

const INDEX_HEAD_LEN: usize = 50;

fn low_first(number: usize) -> [u8; 4] {
    u32::try_from(number).unwrap().to_le_bytes()
}

/// A photograph with an MPF index of these further images, which follow it.
fn photo(front: &[Vec<u8>], images: &[&[u8]]) -> Vec<u8> {
    let with_index = |places: &[(usize, usize)]| jpeg(&[front, &[index(places)]].concat(), 3);
    let mut at = with_index(&vec![(0, 0); images.len()]).len() - index_base(front);
    let mut places = Vec::new();
    for image in images {
        places.push((at, image.len()));
        at += image.len();
    }
    [with_index(&places), images.concat()].concat()
}

/// The offset from which the index counts, if it follows these segments.
fn index_base(front: &[Vec<u8>]) -> usize {
    2 + front.concat().len() + 8
}

/// The segments of the first image, and the offset behind it.
fn walk(file: &[u8]) -> (Headers<'_>, usize) {
    let image = Image::open(file).unwrap();
    let end = image.whole().unwrap().len();
    (image.headers, end)
}

fn found(file: &[u8]) -> Option<GainMap<'_>> {
    let (headers, end) = walk(file);
    find(&headers, file, end)
}

/// The file as the JPEG cleaner writes it.
fn cleaned(file: &[u8]) -> Vec<u8> {
    let Ok(cleaned) = clean(file, Format::Jpeg) else {
        return file.to_vec();
    };
    assert!(cleaned.bytes.len() <= file.len() + GROWTH);
    if let Some(map) = found(file) {
        let segments = [
            map.primary_segments(map.image().len()),
            map.image_segments(),
        ];
        assert!(segments.concat().len() <= MAX_SEGMENTS_LEN);
    }
    cleaned.bytes.to_vec()
}

/// All segments up to the first scan but application segments, and everything from that scan on.
fn picture_of(image: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 2;
    while let Some(segment) = segments::Segment::read(image, at) {
        if segment.code == 0xda {
            break;
        }
        if !matches!(segment.code, 0xe0..=0xef) {
            out.extend_from_slice(&image[at..segment.end]);
        }
        at = segment.end;
    }
    out.extend_from_slice(&image[at..]);
    out
}

/// Cleans a file with a gain map, and checks what must hold for every result.
fn kept(file: &[u8], gain_map: &[u8]) -> Vec<u8> {
    let map = found(file).expect("no gain map found");
    assert_eq!(map.image(), gain_map);
    assert_eq!(&file[map.place()], gain_map);
    let out = cleaned(file);
    assert!(!contains(&out, "SECRET"));
    assert_eq!(cleaned(&out), out);
    let again = found(&out).expect("no gain map found in the result");
    assert_eq!(picture_of(again.image()), picture_of(gain_map));
    assert_eq!(again.place().end, out.len());
    let (headers, end) = walk(&out);
    if let Some(pictures) = headers.pictures {
        assert_eq!(pictures.starts().collect::<Vec<_>>(), [end]);
    }
    // Bytes behind the file must have no influence.
    for tail in [
        b"SECRET".to_vec(),
        b"\0\0\0\x18ftypmp42\xff\xd8\xff\xe0SECRET".to_vec(),
        jpeg(&[], 3),
    ] {
        assert_eq!(cleaned(&[file, &tail].concat()), out);
    }
    out
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

fn count(bytes: &[u8], text: &str) -> usize {
    bytes
        .windows(text.len())
        .filter(|window| *window == text.as_bytes())
        .count()
}

fn directory(items: &[(&str, usize)]) -> String {
    let item = |(semantic, len): &(&str, usize)| {
        format!(
            r#"<rdf:li rdf:parseType="Resource"><C:Item I:Semantic="{semantic}" I:Mime="image/jpeg" I:Length="{len}" I:Note="SECRET"/></rdf:li>"#
        )
    };
    let items: String = items.iter().map(item).collect();
    format!("<C:Directory><rdf:Seq>{items}</rdf:Seq></C:Directory>")
}

fn iso_parameters(flags: u8, words: usize) -> Vec<u8> {
    let mut data = b"urn:iso:std:iso:ts:21496:-1\0\0\0\0\x05".to_vec();
    data.push(flags);
    data.extend((1..=words).flat_map(|word| u32::try_from(word).unwrap().to_be_bytes()));
    data
}

/// Exif as Apple writes it, with names and a date around the two numbers.
fn apple_exif(headroom: [u8; 8], note_signature: &[u8; 14]) -> Vec<u8> {
    let mut exif =
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x1a\0\0\0\0\0\0\0".to_vec();
    exif.extend_from_slice(b"\x01\0\x7c\x92\x07\0\x4e\0\0\0\x2c\0\0\0\0\0\0\0");
    exif.extend_from_slice(note_signature);
    exif.extend_from_slice(b"\0\x03\0\x11\0\x02\0\0\0\x06\0\0\0\x38");
    exif.extend_from_slice(
        b"\0\x21\0\x0a\0\0\0\x01\0\0\0\x3e\0\x30\0\x0a\0\0\0\x01\0\0\0\x46\0\0\0\0",
    );
    exif.extend_from_slice(b"SECRET");
    exif.extend_from_slice(&headroom);
    exif.extend_from_slice(b"\0\0\0\x07\0\0\0\x09");
    assert_eq!(exif.len(), 6 + 0x2c + 0x4e);
    segment(0xe1, &exif)
}
