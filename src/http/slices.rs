//! The body of a response whose bytes are in memory.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;

/// The most bytes that are given to actix at once. actix copies them into the connection's buffer,
/// so a slow client holds this many bytes and not a whole image.
const SLICE: usize = 120 << 10;

/// Bytes in memory as the body of a response, in slices that share them.
pub(super) struct Slices {
    /// What is left to send.
    rest: Bytes,
    /// The length that the response announces.
    length: u64,
    /// Whether the next slice may be sent.
    may_go_on: Box<dyn Fn() -> bool>,
}

impl Slices {
    /// The body that consists of these bytes. It breaks off before a slice when `may_go_on` says no.
    pub(super) fn of(bytes: Bytes, may_go_on: impl Fn() -> bool + 'static) -> Self {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Self {
            rest: bytes,
            length,
            may_go_on: Box::new(may_go_on),
        }
    }

    /// The body of a response to HEAD: empty, but announced with this length. With an empty body actix
    /// would send `Content-Length: 0`, and HEAD must send the length that GET sends.
    pub(super) fn announced(length: u64) -> Self {
        Self {
            rest: Bytes::new(),
            length,
            may_go_on: Box::new(|| true),
        }
    }
}

impl MessageBody for Slices {
    type Error = io::Error;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.length)
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        if !(self.may_go_on)() {
            let gone = "the image expired while it was sent";
            return Poll::Ready(Some(Err(io::Error::other(gone))));
        }
        let length = self.rest.len().min(SLICE);
        Poll::Ready(Some(Ok(self.rest.split_to(length))))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    fn next(body: &mut Slices) -> Option<io::Result<Bytes>> {
        let mut context = Context::from_waker(std::task::Waker::noop());
        match Pin::new(body).poll_next(&mut context) {
            Poll::Ready(item) => item,
            Poll::Pending => panic!("bytes in memory are never awaited"),
        }
    }

    #[test]
    fn slices_add_up_to_the_bytes_and_are_bounded() {
        for length in [0, 1, SLICE, SLICE + 1, 3 * SLICE] {
            let bytes: Vec<u8> = (0..=250).cycle().take(length).collect();
            let mut body = Slices::of(bytes.clone().into(), || true);
            assert_eq!(body.size(), BodySize::Sized(length as u64));
            let mut sent = Vec::new();
            while let Some(slice) = next(&mut body) {
                let slice = slice.unwrap();
                assert!((1..=SLICE).contains(&slice.len()));
                sent.extend_from_slice(&slice);
            }
            assert_eq!(sent, bytes);
        }
    }

    #[test]
    fn a_body_breaks_off_when_it_may_not_go_on() {
        let may = Rc::new(Cell::new(true));
        let asked = Rc::clone(&may);
        let mut body = Slices::of(vec![0; SLICE + 1].into(), move || asked.get());
        assert!(next(&mut body).unwrap().is_ok());
        may.set(false);
        assert!(next(&mut body).unwrap().is_err());
    }

    #[test]
    fn the_response_to_head_announces_a_length_and_sends_nothing() {
        let mut body = Slices::announced(5);
        assert_eq!(body.size(), BodySize::Sized(5));
        assert!(next(&mut body).is_none());
    }
}
