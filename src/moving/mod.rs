//! A deployment, or a copy of it, that goes elsewhere: its database to PostgreSQL ([`database`]), its objects to
//! another store ([`store`]), all of it into a folder and back ([`backup`], [`restore`]).
//!
//! Of a database that moves, first the source takes no changes any more, by triggers of its own, so that nothing
//! which an old server still does can be lost. Then everything is copied and compared. Then the source is stamped as
//! moved, and only after every server on it has had time to notice may the copy be used: at no time do two databases stand
//! for one deployment. [`Moving`] is how a running server notices.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::db::moves::{self, Standing};
use crate::db::{Db, DbError};

pub mod backup;
pub mod database;
mod files;
pub mod objects;
pub mod restore;
pub mod store;
pub mod survived;

/// How often a server looks whether its database is being moved.
const LOOK: Duration = Duration::from_millis(500);
/// Within this time every server has noticed that its database is moved.
pub const NOTICE: Duration = Duration::from_secs(2);

/// What a server may do while its database is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Everything.
    Full,
    /// What changes nothing: the rows are being copied.
    Reads,
    /// Nothing: another database stands in the place of its own, and may have deleted what this one has.
    Nothing,
}

/// What a running server knows of the move of its database.
#[derive(Debug)]
pub struct Moving {
    db: Db,
    service: watch::Sender<Service>,
}

impl Moving {
    /// Of this database, which is nobody's but the deployment's when the server starts.
    pub fn new(db: Db) -> Self {
        let (service, _) = watch::channel(Service::Full);
        Self { db, service }
    }

    /// What the server may do.
    pub fn service(&self) -> Service {
        *self.service.borrow()
    }

    /// Looks at the database's stamp. While that can't be read, what was known stands.
    pub async fn look(&self) {
        let service = match moves::find_to(&self.db).await {
            Ok(None) => Service::Full,
            Ok(Some(stamp)) if stamp.is_moved() => Service::Nothing,
            Ok(Some(_)) => Service::Reads,
            Err(error) => {
                tracing::warn!(%error, "whether the database is being moved could not be read");
                return;
            }
        };
        if self.service.send_replace(service) == service {
            return;
        }
        match service {
            Service::Full => {
                tracing::info!("the database isn't moved any more: everything goes on");
            }
            Service::Reads => tracing::warn!(
                "the database is being moved: images are served, and nothing is sold, uploaded or deleted"
            ),
            Service::Nothing => tracing::error!(
                "the database has moved: nothing is served here any more; stop this server, and start one on the new database"
            ),
        }
    }

    /// Looks again and again, until it is dropped. Only a SQLite database moves.
    pub async fn watch_forever(self: Arc<Self>) {
        if matches!(self.db, Db::Postgres(_)) {
            return;
        }
        loop {
            self.look().await;
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Runs a job that changes things while it may, until the job ends. It is dropped when the database begins to
    /// move, and begun anew should that be given up.
    pub async fn run_while_open<F: Future<Output = ()>>(self: Arc<Self>, begin: impl Fn() -> F) {
        let mut service = self.service.subscribe();
        loop {
            // Its sender lives as long as `self`.
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

/// Why a database isn't the one to use.
#[derive(Debug, thiserror::Error)]
pub enum Gone {
    /// Another one stands in its place.
    #[error("this database has moved to {0}: name that one in database.url")]
    Moved(String),
    /// It is a copy that nobody has finished.
    #[error(
        "this database is an unfinished copy of {0}: run pixtoll migrate there again, to its end"
    )]
    Unfinished(String),
    /// It takes no changes.
    #[error(
        "this database is being moved to {0}, and takes no changes: run pixtoll migrate --to again to its end, or \
         pixtoll migrate --cancel to give it up"
    )]
    Moving(String),
}

/// Refuses a database that isn't the deployment's: one that has moved, or a copy that nobody has finished.
///
/// # Errors
/// What it is ([`Gone`]), and what to do.
pub async fn refuse_gone(db: &Db) -> anyhow::Result<()> {
    match moves::standing(db).await? {
        Standing::Open | Standing::Moving { .. } => Ok(()),
        Standing::Moved { to } => Err(Gone::Moved(to).into()),
        Standing::Unfinished { from } => Err(Gone::Unfinished(from).into()),
    }
}

/// The same for a server, which would have to change what takes no changes.
///
/// # Errors
/// What it is ([`Gone`]), and what to do.
pub async fn refuse_closed(db: &Db) -> anyhow::Result<()> {
    refuse_gone(db).await?;
    match moves::standing(db).await? {
        Standing::Moving { to } => Err(Gone::Moving(to).into()),
        _ => Ok(()),
    }
}

/// Lets a database be used again whose move wasn't finished. `false`: it isn't on its way.
///
/// # Errors
/// [`DbError`].
pub async fn cancel(db: &Db) -> Result<bool, DbError> {
    moves::lift(db, &crate::db::layout::read(db).await?).await
}
