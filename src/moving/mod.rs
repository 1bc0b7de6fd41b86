//! Moves and copies of a deployment: its database to PostgreSQL ([`database`]), its objects to
//! another store ([`store`]), all of it into a backup folder and back ([`backup`], [`restore`]).
//!
//! A database move has three phases. First, triggers make the source reject every change, so that
//! no change of a running server is lost. Then everything is copied and compared. Then the source
//! is marked as moved, and the copy is opened only after every server has had time to notice. So a
//! deployment never uses two databases at once. [`Moving`] is how a running server notices.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::db::moves::{self, MoveState};
use crate::db::{Db, DbError};

pub mod backup;
pub mod database;
pub mod epoch;
mod files;
pub mod objects;
pub mod restore;
pub mod store;
pub mod survived;

/// How often a server checks whether its database is being moved.
const LOOK: Duration = Duration::from_millis(500);
/// Within this time every server has noticed that its database is moved.
pub const NOTICE: Duration = Duration::from_secs(2);

/// What a server may do while its database is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Everything.
    Full,
    /// Only requests that change nothing, because the rows are being copied.
    Reads,
    /// Nothing: another database has replaced its own, and may have deleted images that this one
    /// still has.
    Nothing,
}

/// What a running server knows about the move of its database.
#[derive(Debug)]
pub struct Moving {
    db: Db,
    service: watch::Sender<Service>,
}

impl Moving {
    /// Watches this database. At start, no move is under way.
    pub fn new(db: Db) -> Self {
        let (service, _) = watch::channel(Service::Full);
        Self { db, service }
    }

    /// What the server may do.
    pub fn service(&self) -> Service {
        *self.service.borrow()
    }

    /// Reads the state of the move from the database. The last known state stands while it can't be
    /// read.
    pub async fn look(&self) {
        let service = match moves::find_to(&self.db).await {
            Ok(None) => Service::Full,
            Ok(Some(stamp)) if stamp.is_moved() => Service::Nothing,
            Ok(Some(_)) => Service::Reads,
            Err(error) => {
                tracing::warn!(%error, "the state of a database move could not be read");
                return;
            }
        };
        if self.service.send_replace(service) == service {
            return;
        }
        match service {
            Service::Full => {
                tracing::info!(
                    "the move of the database was cancelled; all requests are accepted again"
                );
            }
            Service::Reads => tracing::warn!(
                "the database is being moved: images are served, but payments, uploads and deletes are rejected"
            ),
            Service::Nothing => tracing::error!(
                "the database has moved, so this server rejects all requests; stop it and start a server on the new database"
            ),
        }
    }

    /// Reads the state again and again, until the future is dropped. Only a SQLite database is
    /// moved.
    pub async fn watch_forever(self: Arc<Self>) {
        if matches!(self.db, Db::Postgres(_)) {
            return;
        }
        loop {
            self.look().await;
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Runs a job that changes data. The job is dropped when a move begins, and started again if
    /// the move is cancelled.
    pub async fn run_while_open<F: Future<Output = ()>>(self: Arc<Self>, begin: impl Fn() -> F) {
        let mut service = self.service.subscribe();
        loop {
            // The sender lives as long as `self`.
            if service.wait_for(|now| *now == Service::Full).await.is_err() {
                return;
            }
            tokio::select! {
                () = begin() => return,
                _ = service.wait_for(|now| *now != Service::Full) => {}
            }
        }
    }
}

/// Why a database must not be used.
#[derive(Debug, thiserror::Error)]
pub enum Gone {
    /// Another database has replaced it.
    #[error("this database has moved to {0}: set database.url to that database")]
    Moved(String),
    /// It is an unfinished copy.
    #[error(
        "this database is an unfinished copy of {0}: run pixtoll migrate on that database again, until it is finished"
    )]
    Unfinished(String),
    /// It rejects every change.
    #[error(
        "this database is being moved to {0} and rejects changes: finish it by pixtoll migrate --to, or \
         cancel it by pixtoll migrate --cancel"
    )]
    Moving(String),
}

/// Rejects a database that has moved, and a copy that is unfinished.
///
/// # Errors
/// [`Gone`], with what to do.
pub async fn refuse_gone(db: &Db) -> anyhow::Result<()> {
    match moves::standing(db).await? {
        MoveState::Open | MoveState::Moving { .. } => Ok(()),
        MoveState::Moved { to } => Err(Gone::Moved(to).into()),
        MoveState::Unfinished { from } => Err(Gone::Unfinished(from).into()),
    }
}

/// Like [`refuse_gone`], and also rejects a database that is being moved. For a server, which needs
/// to make changes.
///
/// # Errors
/// [`Gone`], with what to do.
pub async fn refuse_closed(db: &Db) -> anyhow::Result<()> {
    refuse_gone(db).await?;
    match moves::standing(db).await? {
        MoveState::Moving { to } => Err(Gone::Moving(to).into()),
        _ => Ok(()),
    }
}

/// Cancels an unfinished move, so that the database can be used again. `false`: no move is under
/// way.
///
/// # Errors
/// [`DbError`].
pub async fn cancel(db: &Db) -> Result<bool, DbError> {
    moves::lift(db, &crate::db::layout::read(db).await?).await
}
