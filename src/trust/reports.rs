//! Reports and cases. Reports never remove anything by themselves, however many there are: a person
//! decides.

use std::sync::Arc;

use crate::db::{Db, DbError, reports as rows};
use crate::model::ids::ImageId;
use crate::model::report::{Case, Kind, Reason, Report};
use crate::system::clock::Clock;
use crate::system::random::Randomness;

/// What somebody reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// Why.
    pub reason: Reason,
    /// What the sender says about it; may be empty.
    pub details: String,
    /// How the sender can be reached.
    pub contact: Option<String>,
    /// What the sender swears to: a JSON object.
    pub statement: Option<String>,
}

/// An uploader's objection to a removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objection {
    /// What the uploader says about it; may be empty.
    pub details: String,
    /// How the uploader can be reached.
    pub contact: String,
    /// What the uploader swears to: a JSON object.
    pub statement: String,
}

/// The reports of a deployment, and the cases that they become.
#[derive(Debug)]
pub struct Reports {
    db: Db,
    clock: Arc<dyn Clock>,
    randomness: Randomness,
}

impl Reports {
    /// Reports in this database.
    pub const fn new(db: Db, clock: Arc<dyn Clock>, randomness: Randomness) -> Self {
        Self {
            db,
            clock,
            randomness,
        }
    }

    /// Files a report of an image. `network` is the hash of the sender's network under a key of the
    /// day.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn report(
        &self,
        image: &ImageId,
        complaint: Complaint,
        network: &str,
    ) -> Result<Case, DbError> {
        let id = hex::encode(self.randomness.bytes::<8>());
        let report = Report {
            kind: Kind::Report(complaint.reason),
            details: complaint.details,
            contact: complaint.contact,
            statement: complaint.statement,
            received_at: self.clock.now(),
        };
        let filed =
            rows::file_report(&self.db, &id, image, complaint.reason, &report, network).await?;
        let case = rows::find(&self.db, &filed).await?;
        case.ok_or_else(|| DbError::Corrupt {
            table: "cases",
            column: "id",
            row: filed,
        })
    }

    /// Finds a case by its number.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn find(&self, id: &str) -> Result<Option<Case>, DbError> {
        rows::find(&self.db, id).await
    }

    /// Files the uploader's objection. `false`: the case takes none ([`Case::is_objectable`]), or has
    /// one already.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn object(&self, case: &Case, objection: Objection) -> Result<bool, DbError> {
        let notice = Report {
            kind: Kind::CounterNotice,
            details: objection.details,
            contact: Some(objection.contact),
            statement: Some(objection.statement),
            received_at: self.clock.now(),
        };
        rows::file_counter_notice(&self.db, &case.id, &notice).await
    }
}
