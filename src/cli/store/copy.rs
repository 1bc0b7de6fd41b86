//! `pixtoll store copy`: copies the objects to another store.

use std::io::Write;
use std::process::ExitCode;

use anyhow::bail;

use crate::app::open_database_beside;
use crate::cli::ServeArgs;
use crate::cli::backup::{lost_line, print_sum};
use crate::cli::ledger::recover::warn;
use crate::cli::progress::Progress;
use crate::cli::reap::open_new_store;
use crate::config::{Config, load};
use crate::db::Db;
use crate::moving::objects::Sum;
use crate::moving::store::{Copied, Problem, StoreCopy};
use crate::store::Store;
use crate::system::clock::SystemClock;

/// The arguments of `pixtoll store copy`.
#[derive(Debug, clap::Args)]
pub struct CopyArgs {
    /// The store to copy to: a directory, or a bucket such as `s3://NAME`, with the settings `images.s3_…`.
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
        bail!("--to names the same store as images.store: give another one");
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
    let name = |finding: Problem<'_>| {
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

fn line(finding: Problem<'_>) -> String {
    match finding {
        Problem::Lost(image, how) => lost_line(image, how),
        Problem::Rowless(id) => {
            format!("ROWLESS: object {id} has no row in the database; not copied")
        }
    }
}

fn report(copied: &Copied, out: &mut impl Write) -> std::io::Result<()> {
    print_sum(&copied.sum, out)?;
    writeln!(
        out,
        "{} objects in quarantine; the other store has {} objects of images; {} objects without a row were not copied",
        copied.quarantined, copied.there, copied.rowless
    )
}
