//! `pixtoll store copy`: the objects go to another store.

use std::io::Write;
use std::process::ExitCode;

use anyhow::bail;

use crate::app::open_database_beside;
use crate::cli::ServeArgs;
use crate::cli::backup::{lost_line, print_sum};
use crate::cli::ledger::recover::warn;
use crate::cli::progress::Progress;
use crate::cli::reap::open_new_store;
use crate::clock::SystemClock;
use crate::config::{Config, load};
use crate::db::Db;
use crate::moving::objects::Sum;
use crate::moving::store::{Copied, Finding, StoreCopy};
use crate::store::Store;

/// `pixtoll store copy`.
#[derive(Debug, clap::Args)]
pub struct CopyArgs {
    /// The other store: a directory, or a bucket, of which `images.s3_…` say more.
    #[arg(long, value_name = "STORE")]
    pub to: String,
}

pub(super) async fn run(
    place: &ServeArgs,
    config: &Config,
    from: &Store,
    args: &CopyArgs,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let mut sources = place.sources();
    let key = "PIXTOLL_IMAGES__STORE".to_owned();
    sources.env.insert(key, args.to.clone());
    let other = load(&sources)?.config.images.store;
    if other == config.images.store {
        bail!("--to names the store that images.store names");
    }
    let to = open_new_store(&other).await?;
    let db = open_database_beside(&config.database).await?;
    warn(config, &db, out).await?;
    let done = copy(&db, from, &to, out).await;
    db.close().await;
    done
}

async fn copy(db: &Db, from: &Store, to: &Store, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let copy = StoreCopy {
        db,
        from,
        to,
        clock: &SystemClock,
    };
    let mut progress = Progress::new();
    let mut trouble = None;
    let told = |sum: &Sum, all| progress.step("copying objects", sum.images, all);
    let name = |finding: Finding<'_>| {
        let written = writeln!(out, "{}", line(finding));
        trouble = trouble.take().or(written.err());
    };
    let copied = copy.run(told, name).await;
    progress.end();
    let copied = copied?;
    if let Some(error) = trouble {
        return Err(error.into());
    }
    report(&copied, out)?;
    Ok(if copied.is_whole() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn line(finding: Finding<'_>) -> String {
    match finding {
        Finding::Lost(image, how) => lost_line(image, how),
        Finding::Rowless(id) => format!("ROWLESS: object {id} has no row; not copied"),
    }
}

fn report(copied: &Copied, out: &mut impl Write) -> std::io::Result<()> {
    print_sum(&copied.sum, out)?;
    writeln!(
        out,
        "{} pieces in quarantine; the other store has {} objects of images; {} objects have no row, and weren't copied",
        copied.quarantined, copied.there, copied.rowless
    )
}
