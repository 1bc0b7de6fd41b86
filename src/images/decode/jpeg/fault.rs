//! Why a JPEG can't be shown.

use std::fmt;

/// A fault that keeps libjpeg-turbo, or one of the viewers that use it, from showing the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::images::decode) struct Fault {
    /// The offset of the marker or, for missing data, of the byte where the data stops.
    pub offset: usize,
    /// What is wrong.
    pub reason: Reason,
}

impl Fault {
    pub(super) fn new(offset: usize, reason: Reason) -> Self {
        Self { offset, reason }
    }
}

/// What is wrong, see [`Fault`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::images::decode) enum Reason {
    /// The file does not start with FF D8.
    NoStart,
    /// The length of a segment doesn't fit its contents. The value is the marker's code.
    Length(u8),
    /// A marker that no viewer reads, or a compression other than baseline, extended or progressive
    /// Huffman.
    Marker(u8),
    /// A second start of image.
    SecondStart,
    /// A second frame header.
    SecondFrame,
    /// A scan without a frame header before it, or no scan at all.
    NoFrame,
    /// No scan before the end of the image.
    NoScan,
    /// Width or height is 0, or above 65,500.
    Size(u16, u16),
    /// A sample precision other than 8 bits.
    Precision(u8),
    /// A number of components other than 1, 3 and 4.
    Components(u8),
    /// A sampling factor outside 1 to 4.
    Sampling(u8, u8),
    /// A component's sampling factor doesn't divide the largest one.
    FractionalSampling,
    /// A quantization table's slot above 3.
    QuantizationSlot(u8),
    /// A Huffman table's slot above 3.
    HuffmanSlot(u8),
    /// A Huffman table with impossible codes or symbols.
    Huffman,
    /// A scan uses a Huffman table that isn't defined: whether it is a DC table, and its slot.
    NoHuffman(bool, u8),
    /// A scan uses a quantization table that isn't defined.
    NoQuantization(u8),
    /// A scan names a component that the frame doesn't have, names it twice, or not in the frame's
    /// order.
    ScanComponent(u8),
    /// More than ten blocks in an MCU.
    McuSize,
    /// Ss, Se, Ah and Al of a progressive scan don't fit together.
    Progression([u8; 4]),
    /// DC differences of a progressive scan that add up to more than 32 bits.
    DcOverflow,
    /// More segments than the limit.
    Segments(usize),
    /// More scans than the limit.
    Scans(u32),
    /// The file ends in a scan: MCUs that were read, and MCUs of the scan.
    Truncated(u32, u32),
    /// The file ends before all scans were read.
    ScansMissing,
    /// An image of several scans with damaged data, before each component was seen. Chromium
    /// doesn't show it.
    DamagedScan,
    /// The time limit has passed.
    TimeLimit,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at byte {})", self.reason, self.offset)
    }
}

impl std::error::Error for Fault {}

impl Reason {
    /// The text of the reasons that carry no values.
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
                "marker FF {code:02X} is none of baseline or progressive JPEG"
            ),
            Self::Size(width, height) => {
                write!(
                    f,
                    "a size of {width}x{height}, but each side must be 1 to 65500 pixels"
                )
            }
            Self::Precision(bits) => write!(f, "{bits} bits per sample, but viewers show 8 only"),
            Self::Components(count) => {
                write!(f, "{count} components, but viewers show 1, 3 or 4 only")
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
