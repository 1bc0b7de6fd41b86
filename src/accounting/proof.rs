//! The public proof at `/proof`: totals and the ledger's balance, signed with the key of receipts.
//!
//! It is made at most once a minute in each process, so that its readers cost the database nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use super::balance;
use super::stats::date;
use super::totals::DailyTotals;
use crate::db::limits::day_of;
use crate::db::{Db, DbError};
use crate::keys::signing::SigningKeys;
use crate::model::proof::{Day, PROOF_TYPE, Proof};
use crate::system::clock::{Clock, Timestamp};

/// How long a proof is shown before the next one is made.
pub const KEPT: Duration = Duration::from_mins(1);
/// The number of days that a proof lists, today included.
const DAYS: i64 = 30;

/// A proof together with its signed form.
#[derive(Debug)]
pub struct SignedProof {
    /// The proof.
    pub proof: Proof,
    /// The proof as a compact JWS.
    pub jws: String,
}

/// What a proof says of the server, and the keys that sign it.
#[derive(Debug)]
pub struct Issuer {
    /// The issuer: `http.base_url`.
    pub name: String,
    /// Whether the money is that of the sandbox.
    pub has_play_money: bool,
    /// The keys of receipts.
    pub keys: Arc<SigningKeys>,
}

/// Makes the proofs of a deployment.
#[derive(Debug)]
pub struct Proofs {
    db: Db,
    clock: Arc<dyn Clock>,
    totals: DailyTotals,
    issuer: Issuer,
    last: Mutex<Option<Arc<SignedProof>>>,
}

impl Proofs {
    /// Makes proofs of what is in `db`.
    pub fn new(db: Db, clock: Arc<dyn Clock>, issuer: Issuer) -> Self {
        Self {
            totals: DailyTotals::new(db.clone(), Arc::clone(&clock)),
            db,
            clock,
            issuer,
            last: Mutex::default(),
        }
    }

    /// The totals by day, which a job records.
    pub const fn totals(&self) -> &DailyTotals {
        &self.totals
    }

    /// The current proof: at most a minute old. Callers at the same time wait for one query.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn current(&self) -> Result<Arc<SignedProof>, DbError> {
        let mut last = self.last.lock().await;
        let now = self.clock.now();
        // A time in the future comes from a clock that has been corrected since.
        let is_fresh = |signed: &&Arc<SignedProof>| {
            let at = signed.proof.issued_at;
            at <= now && now < at.plus(KEPT)
        };
        if let Some(fresh) = last.as_ref().filter(is_fresh) {
            return Ok(Arc::clone(fresh));
        }
        let proof = self.make(now).await?;
        let claims = serde_json::to_vec(&proof).unwrap_or_default();
        let jws = self.issuer.keys.sign_claims(PROOF_TYPE, &claims);
        let made = Arc::new(SignedProof { proof, jws });
        *last = Some(Arc::clone(&made));
        Ok(made)
    }

    async fn make(&self, now: Timestamp) -> Result<Proof, DbError> {
        let today = day_of(now);
        let first = today - DAYS + 1;
        let summary = self.totals.load(first, now).await?;
        let days = (first..=today).map(|day| Day {
            day: date(day),
            totals: summary.days.get(&day).copied().unwrap_or_default(),
        });
        Ok(Proof {
            iss: self.issuer.name.clone(),
            issued_at: now,
            play_money: self.issuer.has_play_money,
            since: date(summary.since),
            totals: summary.all,
            days: days.collect(),
            ledger: balance::load(&self.db).await?,
        })
    }
}
