//! Cases: what people reported, what uploaders objected, and what the operator decided.

use super::admin_log::append_entry;
use super::rows::Field;
use super::{Db, DbError, from_row, in_tx, read_db, write_db};
use crate::model::admin_log::Entry;
use crate::model::ids::ImageId;
use crate::model::image::ImageState;
use crate::model::report::{Case, CaseState, Kind, MOST_KEPT, Reason, Report};
use crate::system::clock::Timestamp;

/// The most reports of one network whose words a case keeps.
const MOST_OF_NETWORK: i64 = 3;

/// Files a report with the open case of its image, and opens a case if there is none. `id` is the
/// number of a new case, `network` a hash under a key of the day. Returns the number of the case.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn file_report(
    db: &Db,
    id: &str,
    image: &ImageId,
    reason: Reason,
    report: &Report,
    network: &str,
) -> Result<String, DbError> {
    Ok(in_tx!(db, |tx| {
        // The row is locked from here on, so reports of one case follow each other.
        let (case, number): (String, i64) = sqlx::query_as(OPEN_OR_COUNT)
            .bind(id)
            .bind(image.as_str())
            .bind(reason.as_str())
            .bind(i64::from(reason.rank()))
            .bind(report.received_at.millis())
            .fetch_one(&mut *tx)
            .await?;
        let of_network: i64 = sqlx::query_scalar(COUNT_OF_NETWORK)
            .bind(&case)
            .bind(network)
            .fetch_one(&mut *tx)
            .await?;
        if number <= i64::from(MOST_KEPT) && of_network < MOST_OF_NETWORK {
            sqlx::query(KEEP_REPORT)
                .bind(&case)
                .bind(number)
                .bind(report.kind.as_str())
                .bind(report.kind.reason().map(Reason::as_str))
                .bind(&report.details)
                .bind(report.contact.as_deref())
                .bind(report.statement.as_deref())
                .bind(network)
                .bind(report.received_at.millis())
                .execute(&mut *tx)
                .await?;
            if of_network == 0 {
                sqlx::query(COUNT_NETWORK)
                    .bind(&case)
                    .execute(&mut *tx)
                    .await?;
            }
        }
        case
    }))
}

const OPEN_OR_COUNT: &str = "INSERT INTO cases (id, image_id, state, reason, rank, wallet, reports, networks, \
    opened_ms) VALUES ($1, $2, 'open', $3, $4, (SELECT owner FROM images WHERE images.id = $2), 1, 0, $5) \
    ON CONFLICT (image_id) WHERE state = 'open' DO UPDATE SET reports = cases.reports + 1, \
    reason = CASE WHEN excluded.rank < cases.rank THEN excluded.reason ELSE cases.reason END, \
    rank = CASE WHEN excluded.rank < cases.rank THEN excluded.rank ELSE cases.rank END RETURNING id, reports";
const COUNT_OF_NETWORK: &str = "SELECT COUNT(*) FROM reports WHERE case_id = $1 AND network = $2";
const KEEP_REPORT: &str = "INSERT INTO reports (case_id, number, kind, reason, details, contact, statement, network, \
    received_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
const COUNT_NETWORK: &str = "UPDATE cases SET networks = networks + 1 WHERE id = $1";

/// Files the uploader's objection to a case that was upheld for copyright, and whose image is still
/// removed because of it ([`Case::is_objectable`]). `false`: the case is another one, or has an
/// objection already.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn file_counter_notice(db: &Db, case: &str, notice: &Report) -> Result<bool, DbError> {
    Ok(in_tx!(db, |tx| {
        let number: Option<i64> = sqlx::query_scalar(MARK_COUNTERED)
            .bind(case)
            .bind(notice.received_at.millis())
            .fetch_optional(&mut *tx)
            .await?;
        let Some(number) = number else {
            return Ok(false);
        };
        sqlx::query(KEEP_REPORT)
            .bind(case)
            .bind(number)
            .bind(notice.kind.as_str())
            .bind(None::<&str>)
            .bind(&notice.details)
            .bind(notice.contact.as_deref())
            .bind(notice.statement.as_deref())
            .bind(None::<&str>)
            .bind(notice.received_at.millis())
            .execute(&mut *tx)
            .await?;
        true
    }))
}

// The number of the objection follows those of the reports.
const MARK_COUNTERED: &str = "UPDATE cases SET countered_ms = $2, reports = reports + 1 WHERE id = $1 \
    AND state = 'upheld' AND reason = 'copyright' AND countered_ms IS NULL \
    AND EXISTS (SELECT 1 FROM images i JOIN removals r ON r.image_id = i.id \
    WHERE i.id = cases.image_id AND i.state = 'removed' AND r.removed_ms <= cases.decided_ms) \
    RETURNING reports";

/// Decides an open case, and writes the entry in the operator's log with it. `false`: the case is
/// not open.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn decide(
    db: &Db,
    case: &str,
    state: CaseState,
    entry: &Entry,
    now: Timestamp,
) -> Result<bool, DbError> {
    Ok(in_tx!(db, |tx| {
        let decided = sqlx::query(DECIDE)
            .bind(case)
            .bind(state.as_str())
            .bind(now.millis())
            .bind(&entry.actor)
            .bind(&entry.reason)
            .execute(&mut *tx)
            .await?
            .rows_affected();
        if decided == 0 {
            return Ok(false);
        }
        append_entry!(tx, entry, now);
        true
    }))
}

const DECIDE: &str = "UPDATE cases SET state = $2, decided_ms = $3, decided_by = $4, decision = $5 \
    WHERE id = $1 AND state = 'open'";

/// Counts the upheld cases of a wallet's images, each image once.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn count_upheld(db: &Db, wallet: &str) -> Result<u64, DbError> {
    let count: i64 = read_db!(db, |pool| sqlx::query_scalar(COUNT_UPHELD)
        .bind(wallet)
        .fetch_one(pool)
        .await)?;
    Ok(u64::try_from(count).unwrap_or(0))
}

const COUNT_UPHELD: &str =
    "SELECT COUNT(DISTINCT image_id) FROM cases WHERE wallet = $1 AND state = 'upheld'";

macro_rules! case_columns {
    () => {
        "id, image_id, state, reason, wallet, reports, networks, opened_ms, decided_ms, decided_by, decision, countered_ms, \
         (SELECT i.state FROM images i WHERE i.id = cases.image_id) AS image_state, \
         (SELECT r.removed_ms FROM removals r WHERE r.image_id = cases.image_id) AS removed_ms"
    };
}

/// Finds a case by its number.
///
/// # Errors
/// [`DbError`].
pub async fn find(db: &Db, case: &str) -> Result<Option<Case>, DbError> {
    let row: Option<CaseRow> = read_db!(db, |pool| sqlx::query_as(FIND)
        .bind(case)
        .fetch_optional(pool)
        .await)?;
    row.map(Case::try_from).transpose()
}

const FIND: &str = concat!("SELECT ", case_columns!(), " FROM cases WHERE id = $1");

/// Returns the open cases in the order in which they should be looked at: by rank, then by how many
/// networks reported, then the oldest first.
///
/// # Errors
/// [`DbError`].
pub async fn queue(db: &Db, most: u32) -> Result<Vec<Case>, DbError> {
    let rows: Vec<CaseRow> = read_db!(db, |pool| sqlx::query_as(QUEUE)
        .bind(i64::from(most))
        .fetch_all(pool)
        .await)?;
    rows.into_iter().map(Case::try_from).collect()
}

const QUEUE: &str = concat!(
    "SELECT ",
    case_columns!(),
    " FROM cases WHERE state = 'open' ORDER BY rank, networks DESC, opened_ms, id LIMIT $1"
);

/// Returns the cases that were opened before `before`, newest first, open and decided ones.
///
/// # Errors
/// [`DbError`].
pub async fn page_before(db: &Db, before: Timestamp, most: u32) -> Result<Vec<Case>, DbError> {
    let rows: Vec<CaseRow> = read_db!(db, |pool| sqlx::query_as(PAGE_BEFORE)
        .bind(before.millis())
        .bind(i64::from(most))
        .fetch_all(pool)
        .await)?;
    rows.into_iter().map(Case::try_from).collect()
}

const PAGE_BEFORE: &str = concat!(
    "SELECT ",
    case_columns!(),
    " FROM cases WHERE opened_ms < $1 ORDER BY opened_ms DESC, id LIMIT $2"
);

/// Returns what was kept of the reports and objections of a case, in their order.
///
/// # Errors
/// [`DbError`].
pub async fn reports_of(db: &Db, case: &str) -> Result<Vec<Report>, DbError> {
    let rows: Vec<ReportRow> = read_db!(db, |pool| sqlx::query_as(REPORTS_OF)
        .bind(case)
        .fetch_all(pool)
        .await)?;
    rows.into_iter().map(Report::try_from).collect()
}

const REPORTS_OF: &str = "SELECT case_id, kind, reason, details, contact, statement, received_ms FROM reports \
    WHERE case_id = $1 ORDER BY number";

/// Erases cases that were decided before `before`, with all that people wrote, and the hashes of
/// networks that reported before `networks_before`. Returns how many cases were erased.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn erase(db: &Db, before: Timestamp, networks_before: Timestamp) -> Result<u64, DbError> {
    write_db!(db, |pool| sqlx::query(FORGET_NETWORKS)
        .bind(networks_before.millis())
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(in_tx!(db, |tx| {
        sqlx::query(ERASE_REPORTS)
            .bind(before.millis())
            .execute(&mut *tx)
            .await?;
        sqlx::query(ERASE_CASES)
            .bind(before.millis())
            .execute(&mut *tx)
            .await?
            .rows_affected()
    }))
}

const FORGET_NETWORKS: &str =
    "UPDATE reports SET network = NULL WHERE network IS NOT NULL AND received_ms < $1";
const ERASE_REPORTS: &str =
    "DELETE FROM reports WHERE case_id IN (SELECT id FROM cases WHERE decided_ms <= $1)";
const ERASE_CASES: &str = "DELETE FROM cases WHERE decided_ms <= $1";

struct CaseRow {
    id: String,
    image_id: String,
    state: String,
    reason: String,
    wallet: Option<String>,
    reports: i64,
    networks: i64,
    opened_ms: i64,
    decided_ms: Option<i64>,
    decided_by: Option<String>,
    decision: Option<String>,
    countered_ms: Option<i64>,
    image_state: Option<String>,
    removed_ms: Option<i64>,
}
from_row!(CaseRow: id, image_id, state, reason, wallet, reports, networks, opened_ms, decided_ms, decided_by, decision, countered_ms, image_state, removed_ms);

impl TryFrom<CaseRow> for Case {
    type Error = DbError;

    fn try_from(row: CaseRow) -> Result<Self, DbError> {
        let field = Field {
            table: "cases",
            row: &row.id,
        };
        let image_state = match row.image_state.as_deref() {
            None => None,
            Some(state) => Some(field.with("image_state", ImageState::parse(state))?),
        };
        Ok(Self {
            image: field.with("image_id", ImageId::parse(&row.image_id))?,
            state: field.with("state", CaseState::parse(&row.state))?,
            reason: field.with("reason", Reason::parse(&row.reason))?,
            reports: field.count("reports", row.reports)?,
            networks: field.count("networks", row.networks)?,
            wallet: row.wallet,
            opened_at: Timestamp::from_millis(row.opened_ms),
            decided_at: row.decided_ms.map(Timestamp::from_millis),
            decided_by: row.decided_by,
            decision: row.decision,
            countered_at: row.countered_ms.map(Timestamp::from_millis),
            image_state,
            removed_at: row.removed_ms.map(Timestamp::from_millis),
            id: row.id,
        })
    }
}

struct ReportRow {
    case_id: String,
    kind: String,
    reason: Option<String>,
    details: String,
    contact: Option<String>,
    statement: Option<String>,
    received_ms: i64,
}
from_row!(ReportRow: case_id, kind, reason, details, contact, statement, received_ms);

impl TryFrom<ReportRow> for Report {
    type Error = DbError;

    fn try_from(row: ReportRow) -> Result<Self, DbError> {
        let field = Field {
            table: "reports",
            row: &row.case_id,
        };
        let kind = match (row.kind.as_str(), row.reason.as_deref()) {
            ("report", Some(reason)) => Reason::parse(reason).map(Kind::Report),
            ("counter_notice", None) => Some(Kind::CounterNotice),
            _ => None,
        };
        Ok(Self {
            kind: field.with("kind", kind)?,
            details: row.details,
            contact: row.contact,
            statement: row.statement,
            received_at: Timestamp::from_millis(row.received_ms),
        })
    }
}

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("reports::OPEN_OR_COUNT", OPEN_OR_COUNT),
    ("reports::COUNT_OF_NETWORK", COUNT_OF_NETWORK),
    ("reports::KEEP_REPORT", KEEP_REPORT),
    ("reports::COUNT_NETWORK", COUNT_NETWORK),
    ("reports::MARK_COUNTERED", MARK_COUNTERED),
    ("reports::DECIDE", DECIDE),
    ("reports::COUNT_UPHELD", COUNT_UPHELD),
    ("reports::FIND", FIND),
    ("reports::QUEUE", QUEUE),
    ("reports::PAGE_BEFORE", PAGE_BEFORE),
    ("reports::REPORTS_OF", REPORTS_OF),
    ("reports::FORGET_NETWORKS", FORGET_NETWORKS),
    ("reports::ERASE_REPORTS", ERASE_REPORTS),
    ("reports::ERASE_CASES", ERASE_CASES),
];
