//! Finds the payloads of a multipart form in memory, without copying them.
//!
//! multer reads forms as streams: it copies its input, and returns further copies. So it receives
//! the form in pieces and reads the headers of the parts. The payloads are slices of the form
//! itself. Both must find the same bytes, else the form is refused.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use memchr::memmem;

/// How many bytes multer receives at a time.
const PIECE: usize = 64 * 1024;
/// The line break of multipart forms.
const END_OF_LINE: &[u8] = b"\r\n";
/// The end of a part's headers: an empty line.
const END_OF_HEADERS: &[u8] = b"\r\n\r\n";

/// A form as a stream of pieces. It pauses after each piece, because multer would read on as long
/// as there is data.
pub(super) struct Pieces {
    /// The bytes that multer has not received yet.
    rest: Bytes,
    /// Whether the next poll returns a piece, and not a pause.
    is_next: bool,
}

impl Pieces {
    /// The stream of `form`.
    pub(super) const fn of(form: Bytes) -> Self {
        Self {
            rest: form,
            is_next: true,
        }
    }
}

impl Stream for Pieces {
    type Item = Result<Bytes, std::io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        if !std::mem::replace(&mut self.is_next, false) {
            self.is_next = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let length = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(self.rest.split_to(length))))
    }
}

/// The payloads of a form's parts, in the order of the parts.
pub(super) struct Payloads {
    form: Bytes,
    /// The delimiter between two parts, with the line break before it.
    delimiter: Vec<u8>,
    /// The offset after the last delimiter that was found.
    at: Option<usize>,
}

impl Payloads {
    /// The payloads of `form`, whose parts `boundary` separates.
    pub(super) fn of(form: Bytes, boundary: &str) -> Self {
        let delimiter = [END_OF_LINE, b"--", boundary.as_bytes()].concat();
        // The first delimiter may be at the start of the form, without a line break before it.
        let first = delimiter.get(END_OF_LINE.len()..).unwrap_or_default();
        let at = memmem::find(&form, first).map(|found| found + first.len());
        Self {
            form,
            delimiter,
            at,
        }
    }

    /// The payload of the next part, which multer reads as `field`. `None`: the part is incomplete,
    /// or multer reads other bytes.
    pub(super) async fn next(&mut self, mut field: multer::Field<'_>) -> Option<Bytes> {
        let payload = self.find_next()?;
        let mut rest = &*payload;
        while let Some(read) = field.chunk().await.ok()? {
            rest = rest.strip_prefix(&*read)?;
        }
        rest.is_empty().then_some(payload)
    }

    /// Finds the payload of the next part. `None`: the part is incomplete.
    fn find_next(&mut self) -> Option<Bytes> {
        // If a part has no headers, the line break after its delimiter is the first half of the
        // empty line.
        let headers = self.find(END_OF_HEADERS, self.at?)?;
        let start = headers + END_OF_HEADERS.len();
        let end = self.find(&self.delimiter, start)?;
        self.at = Some(end + self.delimiter.len());
        Some(self.form.slice(start..end))
    }

    /// The offset of `what` at or after `from`.
    fn find(&self, what: &[u8], from: usize) -> Option<usize> {
        memmem::find(self.form.get(from..)?, what).map(|found| from + found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The payloads that multer reads. Checks that each of them is a slice of the form.
    async fn read(form: &Bytes) -> Option<Vec<Bytes>> {
        let mut multipart = multer::Multipart::new(Pieces::of(form.clone()), "XX");
        let mut payloads = Payloads::of(form.clone(), "XX");
        let mut found = Vec::new();
        while let Some(field) = multipart.next_field().await.ok()? {
            let payload = payloads.next(field).await?;
            let place = payload.as_ptr().addr().checked_sub(form.as_ptr().addr());
            assert!(payload.is_empty() || place.is_some_and(|place| place < form.len()));
            found.push(payload);
        }
        Some(found)
    }

    fn form(parts: &[Vec<u8>]) -> Bytes {
        let mut form = b"preamble\r\n".to_vec();
        for part in parts {
            form.extend(b"--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n");
            form.extend(part);
            form.extend(b"\r\n");
        }
        form.extend(b"--XX--\r\n");
        form.into()
    }

    #[tokio::test]
    async fn payloads_are_slices_of_the_form() {
        let large: Vec<u8> = b"\r\n--X\r\n\r"
            .iter()
            .copied()
            .cycle()
            .take(200_000)
            .collect();
        for parts in [
            vec![],
            vec![vec![]],
            vec![b"one".to_vec(), vec![], b"\r\n\r\n--X".to_vec()],
            vec![large.clone(), b"\r".to_vec(), large],
        ] {
            let found = read(&form(&parts)).await.unwrap();
            assert_eq!(found, parts);
        }
    }

    #[tokio::test]
    async fn an_incomplete_part_has_no_payload() {
        let whole = form(&[b"one".to_vec()]);
        for cut in [b"--XX\r\n".len(), whole.len() - b"\r\n--XX--\r\n".len()] {
            assert_eq!(read(&whole.slice(..cut)).await, None);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_parts_are_read_back(parts in proptest::collection::vec(
            proptest::collection::vec(prop::sample::select(b"\r\n-Xa".to_vec()), 0..40), 0..5,
        )) {
            let is_one = |part: &Vec<u8>| memmem::find(&[b"\r\n", &part[..]].concat(), b"\r\n--XX").is_some();
            prop_assume!(!parts.iter().any(is_one));
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let found = runtime.block_on(read(&form(&parts)));
            prop_assert_eq!(found, Some(parts.into_iter().map(Bytes::from).collect()));
        }
    }
}
