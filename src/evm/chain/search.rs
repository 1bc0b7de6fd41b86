//! Searches for logs, in ranges that are halved while the node refuses them, and the safe block of
//! nodes that know no `safe` tag.

use std::time::Instant;

use alloy_primitives::{Address, B256};
use alloy_rpc_types_eth::Log;
use serde_json::{Value, json};

use super::Block;
use super::memory::{MOST_BLOCKS, TAGS};
use super::node::{Bounds, Call, Node};
use super::refusal::{Failure, Kind};

/// The most queries of one search.
const MOST_QUERIES: u32 = 1_000;
/// How far behind the newest block a block counts as safe where a node knows neither `safe` nor
/// `finalized`: ten minutes on Base, and twice the deepest reorganisation of a large chain with blocks
/// of two seconds (157 blocks, Polygon, 2023).
pub(super) const SAFE_DEPTH: u64 = 300;

/// A search for logs of one contract.
#[derive(Debug, Clone)]
pub(super) struct Search {
    pub(super) contract: Address,
    /// The topics; null matches any.
    pub(super) topics: Value,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) order: Order,
}

/// Where a search begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    OldestFirst,
    NewestFirst,
}

/// The blocks that a search has not seen yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rest {
    first: u64,
    last: u64,
    order: Order,
}

impl Rest {
    /// The next range of at most this many blocks.
    fn next(self, blocks: u64) -> Option<(u64, u64)> {
        let more = blocks.max(1) - 1;
        (self.first <= self.last).then(|| match self.order {
            Order::OldestFirst => (self.first, self.last.min(self.first.saturating_add(more))),
            Order::NewestFirst => (self.first.max(self.last.saturating_sub(more)), self.last),
        })
    }

    /// What is left after a range of [`Self::next`]; `None`: nothing.
    fn after(self, (first, last): (u64, u64)) -> Option<Self> {
        let rest = match self.order {
            Order::OldestFirst => Self {
                first: last.checked_add(1)?,
                ..self
            },
            Order::NewestFirst => Self {
                last: first.checked_sub(1)?,
                ..self
            },
        };
        (rest.first <= rest.last).then_some(rest)
    }
}

impl Node {
    /// Searches until logs are found, or everywhere with `all`.
    pub(super) async fn search(
        &self,
        bounds: Bounds,
        search: &Search,
        all: bool,
    ) -> Result<Vec<Log>, Failure> {
        let mut found = Vec::new();
        let mut blocks = self.search.most_blocks();
        let mut refused = None;
        let mut rest = Some(Rest {
            first: search.first,
            last: search.last,
            order: search.order,
        });
        for _ in 0..MOST_QUERIES {
            let Some((left, range)) = rest.and_then(|left| Some((left, left.next(blocks)?))) else {
                return Ok(found);
            };
            match self.logs(bounds, search, range).await {
                Ok(logs) => {
                    found.extend(logs);
                    // Only a range that the node answers shows that a larger one was the reason.
                    if let Some(blocks) = refused.take() {
                        self.search.note_blocks(blocks);
                    }
                    if !all && !found.is_empty() {
                        return Ok(found);
                    }
                    rest = left.after(range);
                }
                Err(failure) => {
                    let asked = range.1 - range.0 + 1;
                    if asked == 1 || failure.is_limit() || Instant::now() >= bounds.until {
                        return Err(failure);
                    }
                    blocks = asked / 2;
                    refused = (failure.kind == Kind::Refused).then_some(blocks);
                }
            }
        }
        Err(Failure::refused(format!(
            "it answers logs of {blocks} blocks a query, which is too few to search {} blocks",
            search.last.saturating_sub(search.first)
        )))
    }

    async fn logs(
        &self,
        bounds: Bounds,
        search: &Search,
        (first, last): (u64, u64),
    ) -> Result<Vec<Log>, Failure> {
        let filter = json!({
            "address": search.contract,
            "topics": search.topics,
            "fromBlock": format!("{first:#x}"),
            "toBlock": format!("{last:#x}"),
        });
        let logs: Vec<Log> = self.read(bounds, Call::logs(&filter, first < last)).await?;
        // A node that ignores the filter must not settle a payment.
        Ok(logs
            .into_iter()
            .filter(|log| !log.removed && log.address() == search.contract)
            .collect())
    }

    /// The newest block that won't be replaced: `safe`, else `finalized`, else the block
    /// [`SAFE_DEPTH`] blocks behind the newest.
    pub(super) async fn safe(&self, bounds: Bounds) -> Result<Block, Failure> {
        let known = self.search.tag().map_or(TAGS.len(), |(index, _)| index);
        for (index, tag) in TAGS.iter().enumerate().skip(known) {
            match self.block(bounds, tag).await {
                Ok(Some(block)) => return Ok(block),
                Err(failure) if failure.is_limit() => return Err(failure),
                // The node is in trouble, so this says nothing about the tag.
                Err(failure) if failure.kind == Kind::Passing && !failure.is_of_call => {}
                Ok(None) | Err(_) => {
                    tracing::info!(tag, "the node does not know this tag of blocks");
                    self.search.note_unknown_tag(index);
                }
            }
        }
        let head = self.head(bounds).await?;
        let number = head.number.saturating_sub(SAFE_DEPTH);
        let block = self.block(bounds, &format!("{number:#x}")).await?;
        block.ok_or_else(|| Failure::passing("it does not know an old block"))
    }

    /// The tag of blocks that won't be replaced; `None`: the node is known to have none.
    pub(super) fn safe_tag(&self) -> Option<&'static str> {
        self.search.tag().map(|(_, tag)| tag)
    }

    /// How many blocks a query for logs may span.
    pub(super) fn blocks_a_query(&self) -> u64 {
        self.search.most_blocks()
    }

    /// How the node tells safe blocks: by a tag, or by their depth.
    pub(super) fn safe_by(&self) -> String {
        self.safe_tag().map_or_else(
            || format!("{SAFE_DEPTH} blocks behind the newest"),
            str::to_owned,
        )
    }
}

/// Splits blocks `first..=last` into spans, each of which is searched by itself: a search has a limit
/// of time and queries.
pub(super) fn spans(first: u64, last: u64) -> impl Iterator<Item = (u64, u64)> {
    let mut next = Some(first);
    std::iter::from_fn(move || {
        let start = next.filter(|start| *start <= last)?;
        let end = last.min(start.saturating_add(MOST_BLOCKS - 1));
        next = end.checked_add(1);
        Some((start, end))
    })
}

/// A topic that matches one of these.
pub(super) fn any_of(topics: &[B256]) -> Value {
    json!(topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(first: u64, last: u64, order: Order, blocks: u64) -> Vec<(u64, u64)> {
        let mut rest = Some(Rest { first, last, order });
        let mut ranges = Vec::new();
        while let Some((left, range)) = rest.and_then(|left| Some((left, left.next(blocks)?))) {
            ranges.push(range);
            rest = left.after(range);
        }
        ranges
    }

    #[test]
    fn ranges_cover_every_block_once() {
        use Order::{NewestFirst, OldestFirst};
        assert_eq!(ranges(5, 4, OldestFirst, 10), []);
        assert_eq!(ranges(5, 5, OldestFirst, 10), [(5, 5)]);
        assert_eq!(ranges(0, 25, OldestFirst, 10), [(0, 9), (10, 19), (20, 25)]);
        assert_eq!(ranges(0, 25, NewestFirst, 10), [(16, 25), (6, 15), (0, 5)]);
        assert_eq!(ranges(0, 2, NewestFirst, 1), [(2, 2), (1, 1), (0, 0)]);
        assert_eq!(ranges(3, 3, NewestFirst, 0), [(3, 3)]);
        let last = u64::MAX;
        assert_eq!(ranges(last - 1, last, OldestFirst, 1).len(), 2);
    }

    #[test]
    fn spans_cover_every_block_once() {
        assert_eq!(spans(5, 4).count(), 0);
        assert_eq!(spans(5, 5).collect::<Vec<_>>(), [(5, 5)]);
        assert_eq!(
            spans(10, 4_009).collect::<Vec<_>>(),
            [(10, 2009), (2010, 4009)]
        );
        assert_eq!(spans(u64::MAX, u64::MAX).count(), 1);
    }
}
