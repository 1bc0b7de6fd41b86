//! The cleaned bytes. They are copied only from the first difference from the source on.

use std::ops::Range;

use super::{Cleaned, Content, GROWTH};
use crate::model::metadata::{Kind, Kinds};
use crate::system::pages::Buffer;

/// Builds the cleaned bytes. Ranges of the source are kept in order; bytes between them are
/// removed.
pub(super) struct Output<'a> {
    source: &'a [u8],
    /// How many bytes from the start of the source are kept, as long as there is no other change.
    prefix: usize,
    changed: Option<Buffer>,
}

impl<'a> Output<'a> {
    pub(super) const fn new(source: &'a [u8]) -> Self {
        Self {
            source,
            prefix: 0,
            changed: None,
        }
    }

    /// Length of the result so far.
    pub(super) fn len(&self) -> usize {
        self.changed.as_deref().map_or(self.prefix, <[u8]>::len)
    }

    /// Keeps this range of the source.
    pub(super) fn keep(&mut self, part: Range<usize>) {
        if self.changed.is_none() && part.start == self.prefix {
            self.prefix = part.end;
            return;
        }
        let kept = self.source.get(part).unwrap_or_default();
        self.written().append(kept);
    }

    /// Appends bytes that are not part of the source.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.written().append(bytes);
    }

    /// Overwrites bytes of the result, if they differ.
    pub(super) fn patch(&mut self, at: usize, bytes: &[u8]) {
        let place = at..at.saturating_add(bytes.len());
        let found = self.changed.as_deref().unwrap_or(self.source);
        if found.get(place.clone()) == Some(bytes) {
            return;
        }
        if let Some(place) = self.written().get_mut(place) {
            place.copy_from_slice(bytes);
        }
    }

    /// All bytes. They are unchanged if they equal the whole source.
    pub(super) fn finish(mut self) -> Content<'a> {
        if self.changed.is_none() && self.prefix < self.source.len() {
            self.written();
        }
        match self.changed {
            // Rewritten parts may equal the original ones.
            Some(changed) if *changed != *self.source => Content::Changed(changed),
            _ => Content::Unchanged(self.source),
        }
    }

    /// The cleaned image, with the kinds of metadata that were removed. A change without a removal
    /// counts as a repair.
    pub(super) fn cleaned(self, mut removed: Kinds, orientation: u8) -> Cleaned<'a> {
        let bytes = self.finish();
        match &bytes {
            Content::Unchanged(_) => removed = Kinds::default(),
            Content::Changed(_) if removed.is_empty() => removed.add(Kind::Damage),
            Content::Changed(_) => {}
        }
        Cleaned {
            bytes,
            removed,
            orientation,
            is_open: false,
            gain_map_at: None,
            is_moved: false,
            small: None,
        }
    }

    fn kept_prefix(&self) -> &'a [u8] {
        self.source.get(..self.prefix).unwrap_or_default()
    }

    fn written(&mut self) -> &mut Buffer {
        let prefix = self.kept_prefix();
        self.changed.get_or_insert_with(|| {
            // Never moves again, so the memory of an upload is bounded: twice its length.
            let longest = self.source.len().saturating_add(GROWTH);
            let mut bytes = Buffer::with_length_or_heap(longest);
            bytes.append(prefix);
            bytes
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_source_is_unchanged() {
        let mut whole = Output::new(b"abcdef");
        whole.keep(0..4);
        whole.keep(4..6);
        whole.patch(2, b"cd");
        assert!(matches!(whole.finish(), Content::Unchanged(b"abcdef")));

        let mut cut = Output::new(b"abcdef");
        cut.keep(0..4);
        assert_eq!(cut.len(), 4);
        assert!(matches!(cut.finish(), Content::Changed(bytes) if *bytes == *b"abcd"));
    }

    #[test]
    fn parts_can_be_left_out_added_and_overwritten() {
        let mut output = Output::new(b"abcdef");
        output.keep(0..2);
        output.keep(4..5);
        output.write(b"--");
        output.keep(5..6);
        output.patch(1, b"B");
        assert_eq!(output.len(), 6);
        assert_eq!(*output.finish(), *b"aBe--f");
    }
}
