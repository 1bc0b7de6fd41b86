//! `pixtoll reap`: deletes what is due, once, for an outside scheduler or by hand.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};

use super::ServeArgs;
use crate::app::{independent_clocks, open_database_beside, open_rails_beside, reaper_lock};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::config::{Config, StorePlace, load};
use crate::db::Db;
use crate::random::Randomness;
use crate::retention::{End, LEASE, Reaped, Retention};
use crate::store::Store;

/// How many images a dry run names.
const NAMED: u32 = 20;
/// How often another reaper is looked for. One that died holds its lease on for a while.
const LOOK: Duration = Duration::from_millis(500);

/// `pixtoll reap …`. Works beside a running server.
#[derive(Debug, clap::Args)]
pub struct ReapArgs {
    /// Where database and store are.
    #[command(flatten)]
    pub place: ServeArgs,
    /// Say what would go, and delete nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Say that this machine's clock is right: the reaper deletes what is due by it, although it has not run for more
    /// than a day and no other clock agrees.
    #[arg(long, conflicts_with = "dry_run")]
    pub accept_clock: bool,
}

/// Runs the command. Exit code 1: the store failed, and what is left stays due.
///
/// # Errors
/// When database or store can't be opened, and when the clock of this machine isn't believed.
pub async fn run(args: &ReapArgs, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let config = load(&args.place.sources())?.config;
    let store = open_store_beside(&config.images.store)?;
    let db = open_database_beside(&config.database).await?;
    let retention = open_retention(&config, db.clone(), store)?;
    let done = if args.dry_run {
        preview(&retention, out).await
    } else {
        reap(&retention, args.accept_clock, out).await
    };
    db.close().await;
    done
}

/// The retention of a server, for a command beside it.
pub(super) fn open_retention(config: &Config, db: Db, store: Store) -> anyhow::Result<Retention> {
    let randomness = Randomness::system();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let rails = open_rails_beside(config, &clock)?;
    let clocks = independent_clocks(config, Some(&rails), &db, &store);
    let retention = Retention::new(db, store, clock, &randomness, config.retention.records)
        .checked_by(clocks)
        .locked_by(reaper_lock(&config.database));
    Ok(retention)
}

/// Opens the store of a server. One that isn't there is a mistake, and not an empty one: everything due
/// would count as gone.
pub(super) fn open_store_beside(place: &StorePlace) -> anyhow::Result<Store> {
    if let StorePlace::Directory(root) = place
        && !root.is_dir()
    {
        bail!("there is no image store at {place}: set images.store as the server has it");
    }
    Store::at(place)
}

/// Opens a store that something is copied into, and that need not be there yet.
pub(super) async fn open_new_store(place: &StorePlace) -> anyhow::Result<Store> {
    let store = Store::at(place).with_context(|| format!("{place} can't be opened"))?;
    if store.is_unchecked() {
        let name = hex::encode(Randomness::system().bytes::<16>());
        store
            .check(&name)
            .await
            .with_context(|| format!("{place} can't be used"))?;
    }
    Ok(store)
}

async fn preview(retention: &Retention, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let (due, first) = retention.preview(NAMED).await?;
    for (id, expired) in &first {
        let expired = Timestamp::from_millis(*expired);
        writeln!(out, "would delete {id}, expired {expired}")?;
    }
    writeln!(
        out,
        "would delete {} images of {} bytes, finish {}, give up {} uploads, look after {} that were given up, erase {} rows",
        due.expired, due.expired_bytes, due.unfinished, due.lapsed, due.discarded, due.erasable
    )?;
    Ok(ExitCode::SUCCESS)
}

async fn reap(
    retention: &Retention,
    accept_clock: bool,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    if accept_clock {
        retention.accept_clock().await?;
    }
    let began = tokio::time::Instant::now();
    loop {
        let reaped = retention.reap().await?;
        let nothing = Reaped {
            end: End::Elsewhere,
            ..Reaped::default()
        };
        if reaped == nothing && began.elapsed() <= LEASE {
            tokio::time::sleep(LOOK).await;
            continue;
        }
        report(&reaped, out)?;
        return Ok(match reaped.end {
            End::Done | End::Elsewhere => ExitCode::SUCCESS,
            End::StoreFailed => ExitCode::FAILURE,
        });
    }
}

fn report(reaped: &Reaped, out: &mut impl Write) -> std::io::Result<()> {
    writeln!(
        out,
        "deleted {} images, gave up {} uploads, erased {} rows and {} payments",
        reaped.images, reaped.lapsed, reaped.erased_images, reaped.erased_payments
    )?;
    match reaped.end {
        End::Done => Ok(()),
        End::Elsewhere => writeln!(out, "another reaper is at work"),
        End::StoreFailed => writeln!(out, "the store failed for {}; they stay due", reaped.failed),
    }
}
