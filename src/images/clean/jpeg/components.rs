//! Repairs names of components. Some programs give all components the same name. Decoders then use
//! their order (libjpeg's `get_sos`), and the stored file names them 1, 2, 3.

use super::parts::{Part, is_frame};
use crate::images::clean::output::Output;
use crate::images::format::jpeg::SOS;

/// Whether the components need new names.
pub(super) struct Ids {
    are_equal: bool,
    count: u8,
}

impl Ids {
    /// Decides by the frame header and the scans. Decoders use the order only if each scan contains
    /// all components.
    pub(super) fn of(parts: &[Part<'_>]) -> Self {
        let header = parts.iter().find(|part| is_frame(part.code));
        let ids: Vec<u8> = header
            .and_then(|part| part.body.get(6..))
            .map(|rest| {
                rest.chunks_exact(3)
                    .filter_map(|one| one.first().copied())
                    .collect()
            })
            .unwrap_or_default();
        let are_equal = ids.len() > 1 && ids.windows(2).all(|two| two.first() == two.last());
        let count = u8::try_from(ids.len()).unwrap_or_default();
        let mut scans = parts.iter().filter(|part| part.code == SOS);
        Self {
            are_equal: are_equal && scans.all(|scan| scan.body.first() == Some(&count)),
            count,
        }
    }

    /// Replaces the names of components in the part that was just written.
    pub(super) fn patch(&self, part: &Part<'_>, output: &mut Output<'_>) {
        let (first, step) = match part.code {
            SOS => (1, 2),
            code if is_frame(code) => (6, 3),
            _ => return,
        };
        if !self.are_equal {
            return;
        }
        let body_at = output.len() - (part.whole.end - part.body_at);
        for (place, id) in (body_at + first..).step_by(step).zip(1..=self.count) {
            output.patch(place, &[id]);
        }
    }
}
