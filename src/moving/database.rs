//! Moves a SQLite database to PostgreSQL in four steps: fence, copy, compare, hand over. A move
//! that was killed at any point continues when it is run again.

use anyhow::{Context, bail};

use super::NOTICE;
use crate::db::copying::{self, Compared};
use crate::db::layout::Value;
use crate::db::layout::{self, Table};
use crate::db::moves::{self, Reception, Stamp};
use crate::db::{Db, DbError};
use crate::system::clock::Clock;
use crate::system::kill::kill_point;
use crate::system::random::Randomness;

/// How many rows are copied at a time, in memory and in one transaction.
const PAGE: usize = 1000;

/// A progress event of a move, for display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice<'a> {
    /// The source rejects every change from now on.
    Fenced,
    /// Rows of a table were copied.
    Copied {
        /// The table.
        table: &'a str,
        /// How many rows are copied.
        rows: u64,
        /// How many rows the table has.
        of: u64,
    },
    /// Rows of a table were compared.
    Compared {
        /// The table.
        table: &'a str,
        /// How many rows are compared.
        rows: u64,
        /// How many rows the table has.
        of: u64,
    },
    /// The source is marked as moved. The move waits until its servers have noticed.
    Left,
}

/// How a move ended.
#[derive(Debug)]
pub enum Outcome {
    /// The deployment uses the target now. Contains the comparison of each table.
    Moved(Vec<(String, Compared)>),
    /// An earlier run had finished the move.
    MovedBefore,
    /// The copy differs from the source. Nothing was handed over, and the source still rejects
    /// changes.
    Different(Vec<(String, Compared)>),
}

/// The two sides of a move.
pub struct Move<'a> {
    /// The SQLite database that is moved.
    pub source: &'a Db,
    /// The PostgreSQL database that it moves to.
    pub target: &'a Db,
    /// Host and name of the target.
    pub place: &'a str,
    /// The source's name, for messages.
    pub origin: &'a str,
    /// The source of time.
    pub clock: &'a dyn Clock,
}

impl std::fmt::Debug for Move<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Move({} to {})", self.origin, self.place)
    }
}

impl Move<'_> {
    /// Moves the database, or continues an earlier move.
    ///
    /// # Errors
    /// When one of the databases doesn't answer, or the target is occupied. The source then rejects
    /// changes only if it did so before, and it remains the deployment's database.
    pub async fn run(
        &self,
        randomness: &Randomness,
        mut tell: impl FnMut(Notice<'_>),
    ) -> anyhow::Result<Outcome> {
        let tables = layout::read(self.source).await?;
        self.target.migrate().await?;
        if let Some(difference) = layout::find_difference(self.target, &tables).await? {
            bail!("{} has another schema: {difference}", self.place);
        }
        self.refuse_occupied(&tables).await?;
        let id = hex::encode(randomness.bytes::<8>());
        kill_point!("move.fence.before");
        let now = self.clock.now();
        let source = moves::fence(self.source, &tables, (&id, self.place), now).await?;
        kill_point!("move.fence.after");
        if source.place != self.place {
            let other = &source.place;
            bail!(
                "this database is being moved to {other}. Name that target, or cancel that move by pixtoll migrate --cancel"
            );
        }
        tell(Notice::Fenced);
        let copy = self.receive(&tables, &source).await?;
        kill_point!("move.receive.after");
        if copy.is_open() {
            self.leave(&source, &mut tell).await?;
            return Ok(Outcome::MovedBefore);
        }
        if source.is_moved() && !copy.is_ready() {
            bail!(
                "this database has moved to {} already, but the database there is not that copy. Restore that copy, and don't \
                 start again with the outdated database here",
                source.place
            );
        }
        let mut compared = Vec::new();
        if !copy.is_ready() {
            self.copy(&tables, &copy, &mut tell).await?;
            compared = self.compare(&tables, &mut tell).await?;
            if compared.iter().any(|(_, compared)| !compared.is_equal()) {
                return Ok(Outcome::Different(compared));
            }
            kill_point!("move.ready.before");
            moves::make_ready(self.target, &source.id, self.clock.now()).await?;
            kill_point!("move.ready.after");
        }
        self.leave(&source, &mut tell).await?;
        kill_point!("move.open.before");
        moves::open(self.target, &source.id, self.clock.now()).await?;
        kill_point!("move.open.after");
        Ok(Outcome::Moved(compared))
    }

    /// Checks the target before the source is fenced, so that an unsuitable target causes no
    /// downtime.
    async fn refuse_occupied(&self, tables: &[Table]) -> anyhow::Result<()> {
        if let Some(copy) = moves::find_from(self.target).await?
            && moves::is_copy_of(self.source, &copy).await?
        {
            return Ok(());
        }
        for table in tables {
            if copying::count(self.target, table).await? > 0 {
                return Err(occupied(self.place, &table.name));
            }
        }
        Ok(())
    }

    async fn receive(&self, tables: &[Table], source: &Stamp) -> anyhow::Result<Stamp> {
        let now = self.clock.now();
        match moves::receive(self.target, tables, source, self.origin, now).await? {
            Reception::Taken(stamp) => Ok(stamp),
            Reception::Occupied { table } => Err(occupied(self.place, &table)),
        }
    }

    async fn copy(
        &self,
        tables: &[Table],
        copy: &Stamp,
        tell: &mut impl FnMut(Notice<'_>),
    ) -> anyhow::Result<()> {
        let begin = copy.progress();
        let done = |name: &str| tables.iter().position(|table| table.name == name);
        let (done, mut after): (usize, Option<Vec<Value>>) = match begin {
            Some((name, key)) => (done(&name).context("the copy has other tables")?, Some(key)),
            None => (0, None),
        };
        for table in tables.iter().skip(done) {
            let of = copying::count(self.source, table).await?;
            let mut rows = copying::count(self.target, table).await?;
            let table_name = table.name.as_str();
            loop {
                tell(Notice::Copied {
                    table: table_name,
                    rows,
                    of,
                });
                let page = self.page(table, after.as_deref()).await?;
                let Some(last) = page.last() else { break };
                after = Some(copying::key_of(table, last));
                rows += u64::try_from(page.len()).unwrap_or(u64::MAX);
                kill_point!("move.page.before");
                copying::write(self.target, table, page, &copy.id, self.clock.now())
                    .await
                    .with_context(|| format!("rows of {table_name} could not be written"))?;
                kill_point!("move.page.after");
            }
            after = None;
        }
        copying::set_sequences(self.target, tables).await?;
        Ok(())
    }

    async fn page(
        &self,
        table: &Table,
        after: Option<&[Value]>,
    ) -> anyhow::Result<Vec<Vec<Value>>> {
        copying::page(self.source, table, after, PAGE)
            .await
            .with_context(|| format!("rows of {} could not be read", table.name))
    }

    async fn compare(
        &self,
        tables: &[Table],
        tell: &mut impl FnMut(Notice<'_>),
    ) -> Result<Vec<(String, Compared)>, DbError> {
        let mut all = Vec::new();
        for table in tables {
            kill_point!("move.compare.before");
            let of = copying::count(self.source, table).await?;
            let name = table.name.as_str();
            let told = |rows| {
                tell(Notice::Compared {
                    table: name,
                    rows,
                    of,
                });
            };
            let compared = copying::compare(self.source, self.target, table, told).await?;
            all.push((table.name.clone(), compared));
        }
        Ok(all)
    }

    /// From here on the deployment has no usable database until the copy is opened. By then every
    /// server on the source has noticed, so that none serves images that a server on the copy
    /// deletes.
    async fn leave(&self, source: &Stamp, tell: &mut impl FnMut(Notice<'_>)) -> anyhow::Result<()> {
        kill_point!("move.leave.before");
        moves::leave(self.source, &source.id, self.clock.now()).await?;
        kill_point!("move.leave.after");
        let left = moves::find_to(self.source).await?;
        if !left.is_some_and(|left| left.is_moved() && left.id == source.id) {
            bail!("the move was cancelled meanwhile, so nothing was handed over");
        }
        tell(Notice::Left);
        tokio::time::sleep(NOTICE).await;
        Ok(())
    }
}

fn occupied(place: &str, table: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "{place} is not empty: its table {table} has rows, which are no unfinished copy of this database. Name an \
         empty database"
    )
}
