//! What the operator decides about cases. An upheld case removes its image; a wallet whose images were
//! removed in several cases is blocked.

use std::time::Duration;

use alloy_primitives::Address;
use serde::Serialize;
use serde_json::json;

use super::{ActError, BlockOf, By, Trust, blocks};
use crate::db::reports as rows;
use crate::model::admin_log::{Act, Entry};
use crate::model::block::{Block, Target};
use crate::model::image::ImageState;
use crate::model::removal::Ground;
use crate::model::report::{Case, CaseState, Reason, Report};
use crate::system::clock::Timestamp;

/// The most cases on one page.
pub const MOST_CASES: u32 = 1000;
/// The fewest and the most business days after an objection within which the image is restored,
/// unless a court is asked (17 U.S.C. § 512(g)(2)(C)).
const RESTORED_AFTER: [u32; 2] = [10, 14];
const DAY: Duration = Duration::from_hours(24);

/// A case with what people wrote, as the operator sees it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CaseView {
    /// The case number.
    pub case: String,
    /// The id of the image.
    pub image: String,
    /// `open`, `upheld` or `dismissed`.
    pub state: &'static str,
    /// What has become of the image: `served`, `removed` or `deleted`.
    pub image_state: &'static str,
    /// The gravest reason among the reports.
    pub reason: &'static str,
    /// The wallet that uploaded the image.
    pub wallet: Option<String>,
    /// How many reports came in.
    pub reports: u64,
    /// From how many networks.
    pub networks: u64,
    /// When the first report came in.
    pub opened_at: Timestamp,
    /// When it was decided.
    pub decided_at: Option<Timestamp>,
    /// Who decided it.
    pub decided_by: Option<String>,
    /// Why it was decided so.
    pub decision: Option<String>,
    /// When the uploader objected.
    pub objected_at: Option<Timestamp>,
    /// The first and the last day on which the image is restored after an objection. `None`: nobody
    /// objected, or the image is not removed for copyright because of this case any more.
    pub restore_between: Option<[Timestamp; 2]>,
    /// What people wrote; only where one case is shown.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<WordsView>,
}

/// A report or an objection.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WordsView {
    /// `report` or `counter_notice`.
    pub kind: &'static str,
    /// The reason of a report.
    pub reason: Option<&'static str>,
    /// What the sender wrote.
    pub details: String,
    /// How the sender can be reached.
    pub contact: Option<String>,
    /// What the sender swore to.
    pub statement: Option<serde_json::Value>,
    /// When it came in.
    pub received_at: Timestamp,
}

impl CaseView {
    fn new(case: Case, words: Vec<Report>) -> Self {
        let between = |at: Timestamp| RESTORED_AFTER.map(|count| business_days_after(at, count));
        let image_state = case.image_now().as_str();
        let waiting_since = case.countered_at.filter(|_| case.is_objectable());
        Self {
            case: case.id,
            image: case.image.to_string(),
            state: case.state.as_str(),
            image_state,
            reason: case.reason.as_str(),
            wallet: case.wallet,
            reports: case.reports,
            networks: case.networks,
            opened_at: case.opened_at,
            decided_at: case.decided_at,
            decided_by: case.decided_by,
            decision: case.decision,
            objected_at: case.countered_at,
            restore_between: waiting_since.map(between),
            words: words.into_iter().map(WordsView::new).collect(),
        }
    }
}

impl WordsView {
    fn new(report: Report) -> Self {
        let statement = report.statement.as_deref();
        Self {
            kind: report.kind.as_str(),
            reason: report.kind.reason().map(Reason::as_str),
            details: report.details,
            contact: report.contact,
            statement: statement.and_then(|text| serde_json::from_str(text).ok()),
            received_at: report.received_at,
        }
    }
}

/// The instant `count` business days after `at`, at the same time of day. Business days are Monday to
/// Friday in UTC, and public holidays count as well. The day of `at` itself doesn't count.
fn business_days_after(at: Timestamp, count: u32) -> Timestamp {
    (0..count).fold(at, |day, _| {
        let mut next = day.plus(DAY);
        if weekday(next) == 5 {
            next = next.plus(DAY);
        }
        if weekday(next) == 6 {
            next = next.plus(DAY);
        }
        next
    })
}

/// The day of the week in UTC: 0 is Monday, 6 is Sunday.
const fn weekday(at: Timestamp) -> i64 {
    // 1 January 1970 was a Thursday.
    (at.seconds().div_euclid(24 * 60 * 60) + 3).rem_euclid(7)
}

impl Trust {
    /// The open cases, those to be looked at first in front, or with `all` the newest of all cases.
    ///
    /// # Errors
    /// [`ActError::Database`].
    pub async fn cases(&self, all: bool, most: u32) -> Result<Vec<CaseView>, ActError> {
        let most = most.clamp(1, MOST_CASES);
        let cases = if all {
            let now = self.clock.now().plus(Duration::from_secs(1));
            rows::page_before(&self.db, now, most).await?
        } else {
            rows::queue(&self.db, most).await?
        };
        let views = cases
            .into_iter()
            .map(|case| CaseView::new(case, Vec::new()));
        Ok(views.collect())
    }

    /// A case with what people wrote.
    ///
    /// # Errors
    /// [`ActError::NoCase`] and [`ActError::Database`].
    pub async fn reported(&self, case: &str) -> Result<CaseView, ActError> {
        let found = self.open_or_decided(case).await?;
        let words = rows::reports_of(&self.db, case).await?;
        Ok(CaseView::new(found, words))
    }

    /// Upholds an open case: its image is removed, with a hold if one is named, and with these blocks.
    /// An image that is removed already by law stays removed by law.
    /// The wallet of the image is blocked if this is its last case that `trust.strikes` allows.
    ///
    /// # Errors
    /// [`ActError`]. If the image can't be removed, the case stays open.
    pub async fn uphold(
        &self,
        case: &str,
        ground: Ground,
        hold: Option<Duration>,
        block: &[BlockOf],
        by: &By,
    ) -> Result<(), ActError> {
        let found = self.undecided(case).await?;
        match self
            .remove_upheld(&found.image, ground, hold, block, by)
            .await
        {
            // The uploader, the expiry or the operator was faster.
            Ok(())
            | Err(
                ActError::Unknown(_)
                | ActError::Unfit {
                    state: ImageState::Discarded | ImageState::Deleting | ImageState::Deleted,
                    ..
                },
            ) => {}
            Err(error) => return Err(error),
        }
        self.decide(&found, CaseState::Upheld, by).await?;
        self.count_strike(&found, by).await
    }

    /// Dismisses an open case: its image stays as it is.
    ///
    /// # Errors
    /// [`ActError`].
    pub async fn dismiss(&self, case: &str, by: &By) -> Result<(), ActError> {
        let found = self.undecided(case).await?;
        self.decide(&found, CaseState::Dismissed, by).await
    }

    async fn open_or_decided(&self, case: &str) -> Result<Case, ActError> {
        let found = rows::find(&self.db, case).await?;
        found.ok_or_else(|| ActError::NoCase(case.to_owned()))
    }

    async fn undecided(&self, case: &str) -> Result<Case, ActError> {
        let found = self.open_or_decided(case).await?;
        if found.state == CaseState::Open {
            Ok(found)
        } else {
            Err(ActError::Decided(found.id))
        }
    }

    async fn decide(&self, case: &Case, state: CaseState, by: &By) -> Result<(), ActError> {
        let act = match state {
            CaseState::Upheld => Act::Uphold,
            CaseState::Open | CaseState::Dismissed => Act::Dismiss,
        };
        let entry = Entry {
            actor: by.actor.clone(),
            act,
            subject: case.image.to_string(),
            reason: by.reason.clone(),
            details: json!({"case": case.id, "reported": case.reason.as_str()}),
        };
        let now = self.clock.now();
        if rows::decide(&self.db, &case.id, state, &entry, now).await? {
            Ok(())
        } else {
            Err(ActError::Decided(case.id.clone()))
        }
    }

    /// Blocks the wallet of an upheld case once enough of its images were removed.
    async fn count_strike(&self, case: &Case, by: &By) -> Result<(), ActError> {
        let wallet = case.wallet.as_deref();
        let Some(wallet) = wallet.and_then(|wallet| wallet.parse::<Address>().ok()) else {
            return Ok(());
        };
        let strikes = u64::from(self.settings.strikes);
        let upheld = rows::count_upheld(&self.db, &wallet.to_checksum(None)).await?;
        if strikes == 0 || upheld < strikes {
            return Ok(());
        }
        let now = self.clock.now();
        let reason = format!("{upheld} cases upheld, the last one {}", case.id);
        let block = Block::by_operator(Target::Wallet(wallet), &reason, now, None);
        tracing::warn!(
            case = case.id,
            upheld,
            "a wallet is blocked for repeated cases"
        );
        Ok(blocks::block(&self.db, &by.actor, &[block], now).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn business_days_are_monday_to_friday() {
        for (objected, first, last) in [
            // Sunday, and then each day of the week.
            ("2026-11-29", "2026-12-11", "2026-12-17"),
            ("2026-11-30", "2026-12-14", "2026-12-18"),
            ("2026-12-01", "2026-12-15", "2026-12-21"),
            ("2026-12-02", "2026-12-16", "2026-12-22"),
            ("2026-12-03", "2026-12-17", "2026-12-23"),
            ("2026-12-04", "2026-12-18", "2026-12-24"),
            ("2026-12-05", "2026-12-18", "2026-12-24"),
            ("2026-12-06", "2026-12-18", "2026-12-24"),
        ] {
            for time in ["00:00:00.000Z", "12:30:00.000Z", "23:59:59.999Z"] {
                let at = |day: &str| Timestamp::parse(&format!("{day}T{time}")).unwrap();
                let found = RESTORED_AFTER.map(|count| business_days_after(at(objected), count));
                assert_eq!(found, [at(first), at(last)], "{objected}T{time}");
            }
        }
    }

    #[test]
    fn a_week_begins_on_monday() {
        for (day, expected) in [
            ("1970-01-01", 3),
            ("1969-12-31", 2),
            ("2026-11-29", 6),
            ("2026-11-30", 0),
        ] {
            let at = Timestamp::parse(&format!("{day}T00:00:00Z")).unwrap();
            assert_eq!(weekday(at), expected, "{day}");
        }
    }
}
