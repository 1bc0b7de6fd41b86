//! `pixtoll migrate`: the database goes to PostgreSQL.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};

use super::ServeArgs;
use super::progress::Progress;
use crate::app::open_source;
use crate::clock::SystemClock;
use crate::config::{Connections, DatabaseUrl, Elsewhere, load, parse_elsewhere};
use crate::db::Db;
use crate::db::copying::Compared;
use crate::db::moves::{self, Standing};
use crate::moving::cancel;
use crate::moving::database::{Move, Notice, Outcome};
use crate::random::Randomness;

/// `pixtoll migrate …`. Works beside a running server, which goes on serving images.
#[derive(Debug, clap::Args)]
pub struct MigrateArgs {
    /// Where the database is.
    #[command(flatten)]
    pub place: ServeArgs,
    /// The empty PostgreSQL database that it goes to. Killed at any point, the same command goes on. Without a
    /// password, that is looked for in the file `~/.pgpass`.
    // A parser of its own would have its text repeated in errors, password and all.
    #[arg(long, value_name = "URL", required_unless_present = "cancel")]
    pub to: Option<String>,
    /// Give up a move that isn't through: the database takes changes again.
    #[arg(long, conflicts_with = "to")]
    pub cancel: bool,
}

/// Runs the command. Exit code 1: the copy differs, and nothing was handed over.
///
/// # Errors
/// When a database doesn't answer, or can't be moved.
pub async fn run(args: &MigrateArgs, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let config = load(&args.place.sources())?.config;
    let DatabaseUrl::Sqlite(path) = &config.database else {
        bail!(
            "database.url names a PostgreSQL database already. Use the means of PostgreSQL to move that: pg_dump, or \
             a replica that is promoted"
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
            "the move is given up: the database takes changes again"
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    match moves::standing(source).await? {
        Standing::Moved { to } => bail!("the database has moved to {to}: that can't be given up"),
        _ => bail!("the database isn't being moved"),
    }
}

async fn go(
    source: &Db,
    path: &Path,
    to: &Elsewhere,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let DatabaseUrl::Postgres(url) = &to.url else {
        bail!("a database moves to PostgreSQL");
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
            if let Ok(Standing::Moving { .. }) = moves::standing(source).await {
                progress.say(
                    "The database takes no changes. Run the same command again, which goes on where this one ended, \
                     or give the move up: pixtoll migrate --cancel",
                );
            }
            Err(error)
        }
    }
}

fn tell(progress: &mut Progress, notice: &Notice<'_>) {
    match notice {
        Notice::Fenced => progress
            .say("The database takes no changes from now on; a server that runs on it serves images alone."),
        Notice::Copied { table, rows, of } => progress.step(&format!("copying {table}"), *rows, *of),
        Notice::Compared { table, rows, of } => {
            progress.step(&format!("comparing {table}"), *rows, *of);
        }
        Notice::Left => progress
            .say("The copy is the same. The database is stamped as moved; servers on it are given two seconds to stop answering."),
    }
}

fn report(outcome: &Outcome, place: &str, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let tables = match outcome {
        Outcome::Moved(tables) | Outcome::Different(tables) => tables.as_slice(),
        Outcome::MovedBefore => {
            writeln!(out, "the database had moved to {place} already")?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    for (name, compared) in tables {
        print_table(name, compared, out)?;
    }
    if let Outcome::Different(_) = outcome {
        writeln!(
            out,
            "the copy in {place} differs, so nothing was handed over. Give the move up by pixtoll migrate --cancel, \
             and find out who wrote there"
        )?;
        return Ok(ExitCode::FAILURE);
    }
    writeln!(
        out,
        "moved to {place}: start the server with database.url naming that one, the same secrets.key and the same \
         images.store"
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
