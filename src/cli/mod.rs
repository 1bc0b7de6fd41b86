//! The commands, one a file. They translate arguments and print; they decide nothing.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Sources, process_env};

pub mod backup;
pub mod config;
mod console;
pub mod health;
pub mod ledger;
pub mod migrate;
mod progress;
pub mod reap;
pub mod receipt;
pub mod renew;
pub mod sandbox;
pub mod serve;
pub mod store;
pub mod upload;

/// An image host where the payment is the login.
#[derive(Debug, Parser)]
#[command(name = "pixtoll", version, about)]
pub struct Cli {
    /// How much is logged: error, warn, info, debug or trace.
    #[arg(long, global = true, default_value = "info", value_name = "LEVEL")]
    pub log: tracing::Level,
    /// What is done.
    #[command(subcommand)]
    pub command: Command,
}

/// What is done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve images, and sell their uploads.
    Serve(ServeArgs),
    /// Upload images to a pixtoll server, paying where that is asked.
    Upload(upload::UploadArgs),
    /// Pay for more time of images.
    Renew(renew::RenewArgs),
    /// Look at the ledger of payments.
    Ledger(ledger::LedgerArgs),
    /// Delete what has expired, once: for an outside scheduler, or by hand.
    Reap(reap::ReapArgs),
    /// Copy a SQLite deployment into a folder, while it runs.
    Backup(backup::BackupArgs),
    /// Put such a copy into an empty place.
    Restore(backup::RestoreArgs),
    /// Move the database to PostgreSQL.
    Migrate(migrate::MigrateArgs),
    /// Look at the store of images.
    Store(store::StoreArgs),
    /// Check receipts, offline.
    Receipt(receipt::ReceiptArgs),
    /// Look at the configuration.
    Config(ConfigArgs),
    /// Ask the running server whether it is ready. Exit code 1 when it isn't.
    Health(health::HealthArgs),
    /// Run a facilitator and a chain of play money in a process of their own.
    Sandbox(sandbox::SandboxArgs),
}

/// Where settings come from, beside the environment.
#[derive(Debug, Clone, clap::Args)]
pub struct ServeArgs {
    /// Play money: everything works, and nothing costs.
    #[arg(long, global = true)]
    pub sandbox: bool,
    /// Read settings from this file instead of ./pixtoll.toml.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl ServeArgs {
    fn sources(&self) -> Sources {
        Sources {
            file: self.config.clone(),
            sandbox: self.sandbox,
            env: process_env(),
        }
    }
}

/// `pixtoll config …`.
#[derive(Debug, clap::Args)]
pub struct ConfigArgs {
    /// What is done.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// `pixtoll config …`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print what is in force, secrets hidden, and every problem at once. Exit code 1 when it may not start.
    Check(CheckArgs),
}

/// `pixtoll config check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// What is checked.
    #[command(flatten)]
    pub place: ServeArgs,
    /// Ask facilitators and chains as well, without paying. Exit code 1 when one of them won't do.
    #[arg(long)]
    pub online: bool,
}

/// Runs a command to its end.
///
/// # Errors
/// What went wrong, for a person.
pub async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Serve(args) => serve::run(&args).await.map(|()| ExitCode::SUCCESS),
        Command::Upload(args) => {
            let mut out = std::io::stdout();
            let randomness = crate::random::Randomness::system();
            let exit = upload::run(
                &args,
                &process_env(),
                &crate::clock::SystemClock,
                &randomness,
                &mut out,
            )
            .await;
            Ok(exit.into())
        }
        Command::Renew(args) => {
            let exit = renew::run(
                &args,
                &process_env(),
                &crate::clock::SystemClock,
                &crate::random::Randomness::system(),
                &mut std::io::stdout(),
            )
            .await;
            Ok(exit.into())
        }
        Command::Ledger(args) => ledger::run(args, &mut std::io::stdout()).await,
        Command::Reap(args) => reap::run(&args, &mut std::io::stdout()).await,
        Command::Backup(args) => backup::back_up(&args, &mut std::io::stdout()).await,
        Command::Restore(args) => backup::restore(&args, &mut std::io::stdout()).await,
        Command::Migrate(args) => migrate::run(&args, &mut std::io::stdout()).await,
        Command::Store(args) => store::run(&args, &mut std::io::stdout()).await,
        Command::Receipt(args) => receipt::run(&args, &mut std::io::stdout()),
        Command::Config(ConfigArgs {
            command: ConfigCommand::Check(args),
        }) => {
            let mut out = std::io::stdout();
            let sources = args.place.sources();
            let mut fine = config::check(&sources, &mut out)?;
            if fine && args.online {
                fine = config::check_online(&sources, &mut out).await?;
            }
            Ok(if fine {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        Command::Health(args) => health::run(&args, &mut std::io::stdout()).await,
        Command::Sandbox(args) => sandbox::run(args).await.map(|()| ExitCode::SUCCESS),
    }
}
