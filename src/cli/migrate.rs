//! `pixtoll migrate`: moves the database from SQLite to PostgreSQL.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};

use super::ServeArgs;
use super::progress::Progress;
use crate::app::open_source;
use crate::config::{Connections, DatabaseUrl, Elsewhere, load, parse_elsewhere};
use crate::db::Db;
use crate::db::copying::Compared;
use crate::db::moves::{self, MoveState};
use crate::moving::cancel;
use crate::moving::database::{Move, Notice, Outcome};
use crate::system::clock::SystemClock;
use crate::system::random::Randomness;

/// The arguments of `pixtoll migrate`. It may run beside the server, which keeps serving images.
#[derive(Debug, clap::Args)]
pub struct MigrateArgs {
    /// The settings, which name the SQLite database.
    #[command(flatten)]
    pub place: ServeArgs,
    /// The empty PostgreSQL database to move to. A URL without a password uses the one in `~/.pgpass`. When the
    /// command was interrupted, run it again with the same URL: it continues.
    // Not a value parser: clap would repeat the value in its errors, with the password.
    #[arg(long, value_name = "URL", required_unless_present = "cancel")]
    pub to: Option<String>,
    /// Cancel an unfinished move: the SQLite database takes changes again.
    #[arg(long, conflicts_with = "to")]
    pub cancel: bool,
}

/// Runs the command. Returns exit code 1 when the copy differs; the SQLite database then remains the current one.
///
/// # Errors
/// When a database doesn't answer, or can't be moved.
pub async fn run(args: &MigrateArgs, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let config = load(&args.place.sources())?.config;
    let DatabaseUrl::Sqlite(path) = &config.database else {
        bail!(
            "database.url names a PostgreSQL database already, and this command moves SQLite databases only. Use the \
             tools of PostgreSQL: pg_dump, or a replica that is promoted"
        );
    };
    let to = args.to.as_deref().map(parse_elsewhere).transpose();
    let to = to.map_err(|why| anyhow::anyhow!("--to {why}"))?;
    // The lock is held until the command ends.
    let (source, _lock) = open_source(path).await?;
    let done = match &to {
        Some(to) => go(&source, path, to, out).await,
        None => give_up(&source, out).await,
    };
    source.close().await;
    done
}

async fn give_up(source: &Db, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    if cancel(source).await? {
        writeln!(
            out,
            "the move is cancelled: the SQLite database takes changes again"
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    match moves::standing(source).await? {
        MoveState::Moved { to } => {
            bail!("the database has moved to {to} already, and a finished move can't be cancelled")
        }
        _ => bail!("the database is not being moved, so there is nothing to cancel"),
    }
}

async fn go(
    source: &Db,
    path: &Path,
    to: &Elsewhere,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let DatabaseUrl::Postgres(url) = &to.url else {
        bail!("--to must name a PostgreSQL database, such as postgres://user@host/database");
    };
    let target = Db::connect_postgres_with(url, &Connections::of_a_command())
        .await
        .with_context(|| format!("{} can't be used", to.place))?;
    let mut progress = Progress::new();
    let origin = format!("sqlite:{}", path.display());
    let the_move = Move {
        source,
        target: &target,
        place: &to.place,
        origin: &origin,
        clock: &SystemClock,
    };
    let told = |notice: Notice<'_>| tell(&mut progress, &notice);
    let outcome = the_move.run(&Randomness::system(), told).await;
    progress.end();
    target.close().await;
    match outcome {
        Ok(outcome) => report(&outcome, &to.place, out),
        Err(error) => {
            if let Ok(MoveState::Moving { .. }) = moves::standing(source).await {
                progress.say(
                    "The database takes no changes until the move ends. Run the same command again to continue, or \
                     cancel the move: pixtoll migrate --cancel",
                );
            }
            Err(error)
        }
    }
}

fn tell(progress: &mut Progress, notice: &Notice<'_>) {
    match notice {
        Notice::Fenced => progress
            .say("The SQLite database takes no changes from now on. A server that runs on it only serves images."),
        Notice::Copied { table, rows, of } => progress.step(&format!("copying {table}"), *rows, *of),
        Notice::Compared { table, rows, of } => {
            progress.step(&format!("comparing {table}"), *rows, *of);
        }
        Notice::Left => progress
            .say("The copy is identical. The SQLite database is marked as moved; waiting 2 s for its servers to stop."),
    }
}

fn report(outcome: &Outcome, place: &str, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let tables = match outcome {
        Outcome::Moved(tables) | Outcome::Different(tables) => tables.as_slice(),
        Outcome::MovedBefore => {
            writeln!(
                out,
                "the database was moved to {place} earlier; nothing to do"
            )?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    for (name, compared) in tables {
        print_table(name, compared, out)?;
    }
    if let Outcome::Different(_) = outcome {
        writeln!(
            out,
            "the copy in {place} differs, so the SQLite database stays the current one. Run pixtoll migrate --cancel, \
             find out what else writes to {place}, and start again with an empty database"
        )?;
        return Ok(ExitCode::FAILURE);
    }
    writeln!(
        out,
        "moved to {place}: set database.url to it and start the server, with the same secrets.key and images.store"
    )?;
    Ok(ExitCode::SUCCESS)
}

fn print_table(name: &str, compared: &Compared, out: &mut impl Write) -> std::io::Result<()> {
    let [rows, copied] = compared.rows;
    let [sha256, of_copy] = &compared.sha256;
    if compared.is_equal() {
        return writeln!(out, "{name}: {rows} rows, sha256 {sha256}");
    }
    writeln!(
        out,
        "DIFFERENT: {name}: {rows} rows, sha256 {sha256}; in the copy {copied}, sha256 {of_copy}"
    )?;
    for (key, how) in &compared.differences {
        writeln!(out, "DIFFERENT: {name}: {key} {how}")?;
    }
    Ok(())
}
