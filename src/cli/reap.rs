//! `pixtoll reap`: runs the reaper once, for an external scheduler or by hand.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};

use super::ServeArgs;
use crate::app::{independent_clocks, open_database_beside, open_rails_beside, reaper_lock};
use crate::config::{Config, StorePlace, load};
use crate::db::Db;
use crate::retention::{End, LEASE, Reaped, Retention};
use crate::store::Store;
use crate::system::clock::{Clock, SystemClock, Timestamp};
use crate::system::random::Randomness;

/// The most images that a dry run lists.
const NAMED: u32 = 20;
/// How often to try again while another reaper holds the lease. A reaper that died holds it for up to [`LEASE`].
const LOOK: Duration = Duration::from_millis(500);

/// The arguments of `pixtoll reap`, which may run beside the server.
#[derive(Debug, clap::Args)]
pub struct ReapArgs {
    /// The settings, which name the database and the store.
    #[command(flatten)]
    pub place: ServeArgs,
    /// Print what would be deleted, and delete nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Confirm that this machine's clock is right. Needed when the reaper has not run for more than a day and no
    /// other clock confirms the time: a wrong clock would delete images too early.
    #[arg(long, conflicts_with = "dry_run")]
    pub accept_clock: bool,
}

/// Runs the command. Returns exit code 1 when the store could not delete some images; they remain due.
///
/// # Errors
/// When the database or the store can't be opened, or when no other clock confirms the time of this machine.
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

/// Builds the reaper with the settings of the server, for a command that runs beside it.
pub(super) fn open_retention(config: &Config, db: Db, store: Store) -> anyhow::Result<Retention> {
    let randomness = Randomness::system();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let networks = open_rails_beside(config, &clock)?;
    let clocks = independent_clocks(config, Some(&networks), &db, &store);
    let retention = Retention::new(db, store, clock, &randomness, config.retention.records)
        .restorable_for(config.trust.restorable)
        .checked_by(clocks)
        .locked_by(reaper_lock(&config.database));
    Ok(retention)
}

/// Opens the store of a server.
///
/// # Errors
/// When its directory doesn't exist. An empty store must not be created instead: every image would count as
/// deleted.
pub(super) fn open_store_beside(place: &StorePlace) -> anyhow::Result<Store> {
    if let StorePlace::Directory(root) = place
        && !root.is_dir()
    {
        bail!(
            "there is no image store at {place}: set images.store to the directory that the server uses"
        );
    }
    Store::at(place)
}

/// Opens a store to copy into; a directory is created when it doesn't exist.
///
/// # Errors
/// When the store can't be opened or written.
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
        "would delete {} images of {} bytes, finish {} interrupted deletes, discard {} abandoned uploads, delete leftovers \
         of {} discarded uploads, erase {} rows",
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
        "deleted {} images, discarded {} abandoned uploads, erased {} rows and {} payments",
        reaped.images, reaped.lapsed, reaped.erased_images, reaped.erased_payments
    )?;
    match reaped.end {
        End::Done => Ok(()),
        End::Elsewhere => writeln!(out, "another reaper is running and does the rest"),
        End::StoreFailed => writeln!(
            out,
            "the store could not delete {} images; they remain due for the next run",
            reaped.failed
        ),
    }
}
