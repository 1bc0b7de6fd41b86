//! What a node has refused, so that it is not asked again at once.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The most blocks in one query for logs.
pub(super) const MOST_BLOCKS: u64 = 2_000;
/// How long a range that the node refused is remembered before a range of twice its size is tried.
const RANGE_REMEMBERED: Duration = Duration::from_mins(1);
/// How long it is remembered that a node does not know a tag.
const TAG_REMEMBERED: Duration = Duration::from_mins(10);

/// What a node has refused.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The most blocks of a query that it answered, and when that became known.
    blocks: Mutex<Option<(u64, Instant)>>,
    /// The first of the tags that it knows, and when that became known.
    tag: Mutex<Option<(usize, Instant)>>,
}

/// The tags of blocks that won't be replaced, the best first.
pub(super) const TAGS: [&str; 2] = ["safe", "finalized"];

impl Memory {
    pub(super) fn most_blocks(&self) -> u64 {
        let mut known = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((blocks, at)) = known.as_mut() else {
            return MOST_BLOCKS;
        };
        if at.elapsed() >= RANGE_REMEMBERED {
            *blocks = blocks.saturating_mul(2).min(MOST_BLOCKS);
            *at = Instant::now();
        }
        *blocks
    }

    pub(super) fn note_blocks(&self, blocks: u64) {
        let mut known = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some((blocks, Instant::now()));
    }

    /// The tag to ask for; `None`: the node knows none.
    pub(super) fn tag(&self) -> Option<(usize, &'static str)> {
        let known = self.tag.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.filter(|(_, at)| at.elapsed() < TAG_REMEMBERED);
        let index = known.map_or(0, |(index, _)| index);
        TAGS.get(index).map(|tag| (index, *tag))
    }

    pub(super) fn note_unknown_tag(&self, index: usize) {
        let mut known = self.tag.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some((index + 1, Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_refused_is_remembered() {
        let memory = Memory::default();
        assert_eq!(memory.most_blocks(), MOST_BLOCKS);
        memory.note_blocks(7);
        assert_eq!(memory.most_blocks(), 7);
        assert_eq!(memory.tag(), Some((0, "safe")));
        memory.note_unknown_tag(0);
        assert_eq!(memory.tag(), Some((1, "finalized")));
        memory.note_unknown_tag(1);
        assert_eq!(memory.tag(), None);
    }
}
