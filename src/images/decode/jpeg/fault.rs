//! The reasons why viewers do not show a JPEG.

use std::fmt;

/// A fault for which libjpeg-turbo, or a viewer that uses it, does not show the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::images) struct Fault {
    /// The offset of the marker. For missing data, the offset at which the data stop.
    pub offset: usize,
    /// What is wrong.
    pub reason: Reason,
}

impl Fault {
    pub(super) fn new(offset: usize, reason: Reason) -> Self {
        Self { offset, reason }
    }
}

/// What is wrong with a file; part of a [`Fault`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::images) enum Reason {
    /// The file does not start with FF D8.
    NoStart,
    /// The length of the segment does not fit its content. The value is the code of the marker.
    Length(u8),
    /// A marker that no viewer reads, or a process other than baseline, extended or progressive
    /// Huffman coding. The value is its code.
    Marker(u8),
    /// A second start of image.
    SecondStart,
    /// A second frame header.
    SecondFrame,
    /// A scan without a frame header before it, or no scan at all.
    NoFrame,
    /// The image ends without a scan.
    NoScan,
    /// The width or the height is 0 or above 65,500.
    Size(u16, u16),
    /// The sample precision is not 8 bits.
    Precision(u8),
    /// The number of components is not 1, 3 or 4.
    Components(u8),
    /// A sampling factor is not 1 to 4.
    Sampling(u8, u8),
    /// The sampling factor of a component does not divide the largest one.
    FractionalSampling,
    /// The slot of a quantization table is above 3.
    QuantizationSlot(u8),
    /// The slot of a Huffman table is above 3.
    HuffmanSlot(u8),
    /// A Huffman table with impossible codes or symbols.
    Huffman,
    /// A scan uses a Huffman table that is not defined: whether it is a DC table, and its slot.
    NoHuffman(bool, u8),
    /// A scan uses a quantization table that is not defined. The value is its slot.
    NoQuantization(u8),
    /// A scan names a component that is not in the frame, is named twice, or is out of the frame's
    /// order. The value is its id.
    ScanComponent(u8),
    /// An MCU has more than ten blocks.
    McuSize,
    /// The parameters Ss, Se, Ah and Al of a progressive scan contradict each other.
    Progression([u8; 4]),
    /// The DC differences of a progressive scan add up to more than 32 bits.
    DcOverflow,
    /// The image has more segments than the limit, which is the value.
    Segments(usize),
    /// The image has more scans than the limit, which is the value.
    Scans(u32),
    /// The file ends in a scan: number of MCUs that were read, and of MCUs in the scan.
    Truncated(u32, u32),
    /// The file ends before all scans were read.
    ScansMissing,
    /// An image of several scans has damaged data before each component was seen. Chromium does not
    /// show it.
    DamagedScan,
    /// Decoding exceeded its time limit.
    TimeLimit,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at byte {})", self.reason, self.offset)
    }
}

impl std::error::Error for Fault {}

impl Reason {
    /// The messages of the reasons without values.
    fn text(&self) -> &'static str {
        match self {
            Self::NoStart => "the file does not start with the JPEG marker FF D8",
            Self::SecondStart => "a second start of image before the end of the first",
            Self::SecondFrame => "a second frame header",
            Self::NoFrame => "a scan without a frame header",
            Self::NoScan => "the image has no scan",
            Self::FractionalSampling => "a sampling factor that does not divide the largest one",
            Self::Huffman => "a Huffman table with impossible codes",
            Self::McuSize => "more than 10 blocks in an MCU",
            Self::DcOverflow => "DC differences add up to more than 32 bits",
            Self::ScansMissing => "image data is missing: the file ends before its last scan",
            Self::DamagedScan => {
                "damaged data in an image of several scans, before every component was seen"
            }
            Self::TimeLimit => "decoding took longer than its time limit",
            _ => "the image is damaged",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(code) => write!(
                f,
                "the length of segment FF {code:02X} does not fit its contents"
            ),
            Self::Marker(code) => write!(
                f,
                "marker FF {code:02X} is not allowed in a baseline or progressive JPEG"
            ),
            Self::Size(width, height) => {
                write!(
                    f,
                    "a size of {width}x{height}, but each side must be 1 to 65500 pixels"
                )
            }
            Self::Precision(bits) => write!(f, "{bits} bits per sample, but viewers show only 8"),
            Self::Components(count) => {
                write!(f, "{count} components, but viewers show only 1, 3 or 4")
            }
            Self::Sampling(h, v) => write!(f, "sampling factors {h}x{v}, but each must be 1 to 4"),
            Self::QuantizationSlot(slot) => {
                write!(f, "quantization table {slot}, but the slots are 0 to 3")
            }
            Self::HuffmanSlot(slot) => write!(f, "Huffman table {slot}, but the slots are 0 to 3"),
            Self::NoHuffman(dc, slot) => {
                write!(
                    f,
                    "the scan uses {} Huffman table {slot}, which is missing",
                    if *dc { "DC" } else { "AC" }
                )
            }
            Self::NoQuantization(slot) => write!(
                f,
                "the scan uses quantization table {slot}, which is missing"
            ),
            Self::ScanComponent(id) => write!(
                f,
                "the scan names component {id}, which is unknown, named twice or out of the frame's order"
            ),
            Self::Progression([ss, se, ah, al]) => {
                write!(
                    f,
                    "impossible parameters of a progressive scan: Ss {ss}, Se {se}, Ah {ah}, Al {al}"
                )
            }
            Self::Segments(limit) => write!(f, "more than {limit} segments"),
            Self::Scans(limit) => write!(f, "more than {limit} scans"),
            Self::Truncated(read, all) => {
                write!(
                    f,
                    "image data is missing: the file ends after {read} of {all} MCUs of the scan"
                )
            }
            fixed => f.write_str(fixed.text()),
        }
    }
}
