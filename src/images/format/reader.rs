//! A cursor over untrusted bytes. Each read names what it reads, so that an error at the end of the
//! bytes names the field and its offset. No read can panic or leave its bounds.

use std::fmt;

use super::FormatError;
use crate::model::image::Format;

/// Reads forward only. Offsets in messages count from the start of the file.
pub(in crate::images) struct Reader<'a> {
    format: Format,
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    pub(in crate::images) const fn new(format: Format, bytes: &'a [u8]) -> Self {
        Self {
            format,
            bytes,
            offset: 0,
        }
    }

    /// Where the next read begins, in bytes from the start of the file.
    pub(in crate::images) const fn offset(&self) -> usize {
        self.offset
    }

    /// How many bytes are left in the file, or in the section that this reader covers.
    pub(in crate::images) const fn left(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes that are left, without moving.
    pub(in crate::images) const fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// A [`FormatError::Corrupt`] of this format with the given reason.
    pub(in crate::images) fn corrupt(&self, what: fmt::Arguments<'_>) -> FormatError {
        FormatError::Corrupt {
            format: self.format,
            what: what.to_string(),
        }
    }

    /// Reads the next `len` bytes.
    pub(in crate::images) fn take(
        &mut self,
        len: usize,
        what: impl fmt::Display,
    ) -> Result<&'a [u8], FormatError> {
        let Some((taken, rest)) = self.bytes.split_at_checked(len) else {
            let (offset, left) = (self.offset, self.left());
            return Err(self.corrupt(format_args!(
                "the {what} at byte {offset} needs {len} bytes and {left} are left"
            )));
        };
        self.bytes = rest;
        self.offset = self.offset.saturating_add(len);
        Ok(taken)
    }

    /// Returns a reader that covers the next `len` bytes alone, and moves behind them.
    pub(in crate::images) fn section(
        &mut self,
        len: usize,
        what: impl fmt::Display,
    ) -> Result<Self, FormatError> {
        let offset = self.offset;
        let bytes = self.take(len, what)?;
        Ok(Self {
            format: self.format,
            bytes,
            offset,
        })
    }

    /// Reads the next `N` bytes as an array.
    pub(in crate::images) fn array<const N: usize>(
        &mut self,
        what: impl fmt::Display,
    ) -> Result<[u8; N], FormatError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    /// Reads one byte.
    pub(in crate::images) fn u8(&mut self, what: impl fmt::Display) -> Result<u8, FormatError> {
        self.array(what).map(u8::from_be_bytes)
    }

    /// Reads two bytes, the high one first.
    pub(in crate::images) fn u16_be(
        &mut self,
        what: impl fmt::Display,
    ) -> Result<u16, FormatError> {
        self.array(what).map(u16::from_be_bytes)
    }

    /// Reads two bytes, the low one first.
    pub(in crate::images) fn u16_le(
        &mut self,
        what: impl fmt::Display,
    ) -> Result<u16, FormatError> {
        self.array(what).map(u16::from_le_bytes)
    }

    /// Reads three bytes, the low one first.
    pub(in crate::images) fn u24_le(
        &mut self,
        what: impl fmt::Display,
    ) -> Result<u32, FormatError> {
        self.array(what)
            .map(|[low, middle, high]| u32::from_le_bytes([low, middle, high, 0]))
    }

    /// Reads four bytes, the high one first.
    pub(in crate::images) fn u32_be(
        &mut self,
        what: impl fmt::Display,
    ) -> Result<u32, FormatError> {
        self.array(what).map(u32::from_be_bytes)
    }

    /// Reads four bytes, the low one first.
    pub(in crate::images) fn u32_le(
        &mut self,
        what: impl fmt::Display,
    ) -> Result<u32, FormatError> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// Returns the byte at `ahead` places behind the next one, without moving.
    pub(in crate::images) fn peek(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(ahead).copied()
    }

    /// Moves to the next `byte`. Without one, returns `false` and moves to the end.
    pub(in crate::images) fn skip_to(&mut self, byte: u8) -> bool {
        let found = self.bytes.iter().position(|candidate| *candidate == byte);
        let distance = found.unwrap_or(self.bytes.len());
        self.bytes = self.bytes.get(distance..).unwrap_or_default();
        self.offset = self.offset.saturating_add(distance);
        found.is_some()
    }

    /// Checks that no bytes are left.
    pub(in crate::images) fn finish(&self, what: impl fmt::Display) -> Result<(), FormatError> {
        let (offset, left) = (self.offset, self.left());
        if left > 0 {
            return Err(self.corrupt(format_args!(
                "the {what} has {left} bytes too many at byte {offset}"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_the_requested_byte_order() {
        let mut reader = Reader::new(Format::Png, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
        assert_eq!(reader.u16_be("a"), Ok(0x0102));
        assert_eq!(reader.u16_le("b"), Ok(0x0403));
        assert_eq!(reader.u32_be("c"), Ok(0x0506_0708));
        assert_eq!(reader.u24_le("d"), Ok(0x000b_0a09));
        assert_eq!((reader.offset(), reader.left()), (11, 2));
        assert_eq!((reader.peek(1), reader.peek(2)), (Some(13), None));
        assert!(reader.u32_le("e").is_err());
        assert_eq!(
            reader.u8("f"),
            Ok(12),
            "a failed read must not move the cursor"
        );
    }

    #[test]
    fn a_section_ends_at_its_length_and_keeps_file_offsets() {
        let mut reader = Reader::new(Format::Gif, &[0; 10]);
        reader.take(4, "head").unwrap();
        let mut section = reader.section(3, "block").unwrap();
        assert_eq!(section.offset(), 4);
        assert!(section.finish("block").is_err());
        let error = section.take(4, "name").unwrap_err();
        assert_eq!(
            error.to_string(),
            "The GIF image is corrupt: the name at byte 4 needs 4 bytes and 3 are left. Open it in an image program, save it as a new file and send that."
        );
        assert!(reader.section(usize::MAX, "block").is_err());
    }

    #[test]
    fn skip_to_stops_at_the_byte_or_at_the_end() {
        let mut reader = Reader::new(Format::Jpeg, &[1, 2, 0xff, 3]);
        assert!(reader.skip_to(0xff));
        assert_eq!(reader.offset(), 2);
        reader.take(1, "marker").unwrap();
        assert!(!reader.skip_to(0xff));
        assert_eq!((reader.offset(), reader.left()), (4, 0));
    }
}
