//! The commands, one file each. A command parses its arguments, calls the library and prints the result.
//! It holds no business rules of its own.

use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Sources, process_env};
use crate::system::clock::SystemClock;
use crate::system::logs::LogFormat;
use crate::system::random::Randomness;

pub mod admin;
pub mod backup;
pub mod claim;
pub mod config;
mod console;
pub mod delete;
pub mod health;
pub mod import;
pub mod info;
pub mod key;
pub mod ledger;
pub mod link;
pub mod list;
pub mod manual;
pub mod mcp;
pub mod migrate;
mod progress;
pub mod proof;
pub mod reap;
pub mod receipt;
pub mod renew;
pub mod sandbox;
pub mod serve;
pub mod share;
pub mod stats;
pub mod store;
pub mod upload;

const LOG_FORMAT_HELP: &str = "\
How log lines are written to standard error. A server takes log.format of its settings by default.
With json, each line is one flat object: timestamp, level, target and message, then its fields.
Lines of a request have request.id (the client's X-Request-Id), lines of a payment
payment.ledger_id, and lines of a background job job.name.";

const AFTER_HELP: &str = "\
Examples:
  pixtoll serve --sandbox                  run a server with play money on this machine
  pixtoll upload photo.jpg                 upload for free and print the link
  pixtoll upload --tier year photo.jpg     pay with USDC, then upload
  pixtoll upload -                         upload what a pipe delivers
  pixtoll list                             list what this wallet uploaded

Run pixtoll COMMAND --help for the options and exit codes of a command. Every command exits with 0 on
success; unless its help says otherwise, 1 means that it failed and 2 that the command line is wrong.";

/// The command line of the binary.
#[derive(Debug, Parser)]
#[command(name = "pixtoll", version = env!("PIXTOLL_VERSION"), about, after_help = AFTER_HELP)]
pub struct Cli {
    /// Log level on standard error: error, warn, info, debug or trace.
    #[arg(
        long,
        global = true,
        default_value = "info",
        value_name = "LEVEL",
        env = "PIXTOLL_LOG",
        hide_env_values = true
    )]
    pub log: tracing::Level,
    /// Form of log lines on standard error: text, or JSON objects.
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        env = "PIXTOLL_LOG_FORMAT",
        hide_env_values = true,
        long_help = LOG_FORMAT_HELP
    )]
    pub log_format: Option<LogFormat>,
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands of the binary.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server: serve images and accept free and paid uploads
    ///
    /// Prints its address and its prices, then runs until SIGINT (Ctrl-C) or SIGTERM; requests in
    /// flight may finish. SIGHUP reloads the tiers, the limits and the blocks. Exits with 1 when it
    /// can't start, for example because of an invalid setting or a port that is in use.
    #[command(verbatim_doc_comment)]
    Serve(ServeArgs),
    /// A command of a client.
    #[command(flatten)]
    Client(ClientCommand),
    /// Check, search and repair the ledger of payments
    ///
    /// These commands read the server's settings and database, and may run beside the server.
    #[command(verbatim_doc_comment)]
    Ledger(ledger::LedgerArgs),
    /// Print statistics: uploads, sales, the sales funnel and storage
    ///
    /// The funnel counts requests that were asked to pay (challenged) and that carried a new payment
    /// (presented), payments that settled, and those of which something was used (delivered). Clients are
    /// told apart by kind only. May run beside the server, and changes nothing.
    #[command(verbatim_doc_comment)]
    Stats(stats::StatsArgs),
    /// Remove, hold, restore and find images, block content and wallets, and show who did what
    ///
    /// These commands work on the database and the image store directly, and may run beside the
    /// server. Each act is written into a log with who acted and why. docs/trust.md explains them.
    #[command(verbatim_doc_comment)]
    Admin(admin::AdminArgs),
    /// Delete expired images once, then exit
    ///
    /// A running server does this by itself. Use the command for a schedule of your own, or to
    /// delete now. It may run beside the server. Exits with 1 when the store could not delete
    /// some images; they remain due for the next run.
    #[command(verbatim_doc_comment)]
    Reap(reap::ReapArgs),
    /// Back up a SQLite deployment into a folder
    ///
    /// Copies the database and the images, may run beside the server, and checks the ledger in the
    /// copy. Exits with 1 when the copy is complete but a ledger rule is broken or an image has
    /// lost its file; with 2 when the database is PostgreSQL, which has backup tools of its own.
    #[command(verbatim_doc_comment)]
    Backup(backup::BackupArgs),
    /// Restore a backup that pixtoll backup made
    ///
    /// The server must be stopped, and no database may exist at database.url. Nothing is put in
    /// place when the backup is damaged. Exits with 1 when the restore is complete but a ledger rule
    /// is broken or an image has lost its file; with 2 when database.url names PostgreSQL.
    #[command(verbatim_doc_comment)]
    Restore(backup::RestoreArgs),
    /// Move the database from SQLite to PostgreSQL
    ///
    /// Stops changes to the SQLite database, copies it, compares both and marks the old one as
    /// moved. A server that runs meanwhile serves images but takes no uploads. Afterwards, start the
    /// server with database.url set to the new database. Exits with 1 when the copy differs.
    #[command(verbatim_doc_comment)]
    Migrate(migrate::MigrateArgs),
    /// Compare the image store with the database, or copy it
    ///
    /// These commands read the server's settings, and may run beside the server.
    #[command(verbatim_doc_comment)]
    Store(store::StoreArgs),
    /// Fetch the receipts of an image, or check receipts offline.
    Receipt(receipt::ReceiptArgs),
    /// Verify the public proof of a server: its totals, and its ledger's balance against the chain.
    Proof(proof::ProofArgs),
    /// Check the settings.
    Config(ConfigArgs),
    /// Serve MCP tools to an agent on this machine, on standard input and output
    ///
    /// The tools take file paths, web addresses and the clipboard, and pay with the wallet within two
    /// limits. docs/mcp.md shows how to add it to common clients.
    #[command(verbatim_doc_comment)]
    Mcp(mcp::McpArgs),
    /// Ask the running server whether it is ready; exits with 1 when it isn't
    ///
    /// Asks `http.admin_listen` of the same settings on this machine, for container engines and
    /// scripts. Waits at most 5 seconds.
    #[command(verbatim_doc_comment)]
    Health(health::HealthArgs),
    /// Run a test facilitator and a test chain with play money, for development
    ///
    /// pixtoll serve --sandbox runs both by itself. Use this command to share them between several
    /// servers, or to test another x402 server. Every account begins with 100 play USDC. Runs until
    /// SIGINT (Ctrl-C) or SIGTERM.
    #[command(verbatim_doc_comment)]
    Sandbox(sandbox::SandboxArgs),
    /// Print the completions of a shell
    ///
    /// For bash: pixtoll completions bash >~/.local/share/bash-completion/completions/pixtoll
    /// For zsh, into a folder of $fpath: pixtoll completions zsh >FOLDER/_pixtoll
    /// For fish: pixtoll completions fish >~/.config/fish/completions/pixtoll.fish
    #[command(verbatim_doc_comment)]
    Completions(manual::CompletionsArgs),
    /// Print the manual page
    ///
    /// With --dir it writes a page for each command: pixtoll man --dir ~/.local/share/man/man1
    #[command(verbatim_doc_comment)]
    Man(manual::ManArgs),
}

/// The commands of a client, which know a server over HTTP only.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Upload images to a pixtoll server and print their links
    ///
    /// Prints one line per image on standard output and everything else on standard error. The
    /// tier free costs nothing. For any other tier the command pays the server's price in USDC.
    #[command(verbatim_doc_comment)]
    Upload(upload::UploadArgs),
    /// Have the server fetch an image from a URL and print its link
    ///
    /// This machine does not connect to the URL. The tier free costs nothing; for any other tier the
    /// command pays the server's price in USDC, and nothing where the URL yields no image.
    #[command(verbatim_doc_comment)]
    Import(import::ImportArgs),
    /// Pay to keep images longer
    ///
    /// Pays the price of a tier for each image, which extends its expiry, and prints its link.
    #[command(verbatim_doc_comment)]
    Renew(renew::RenewArgs),
    /// List the images that a wallet uploaded, the newest first
    ///
    /// Signs in with the wallet and pays nothing. Prints one image per line, its link first.
    #[command(verbatim_doc_comment)]
    List(list::ListArgs),
    /// Show the facts about images
    ///
    /// Needs no wallet. A private image is named by its signed link, or was uploaded from here.
    #[command(verbatim_doc_comment)]
    Info(info::InfoArgs),
    /// Delete images
    ///
    /// An image that pixtoll upload uploaded from here is deleted by its delete token, which was kept
    /// in ~/.local/share/pixtoll/uploads; any other image as the wallet that paid for it. Images of
    /// the wallet are deleted together, at most 100 a request: if one of them isn't the wallet's,
    /// none of that request is deleted.
    #[command(verbatim_doc_comment)]
    Delete(delete::DeleteArgs),
    /// Make a link of a private image that ends, or end all its links
    ///
    /// The owner may do both; the wallet that the upload named as viewer may make links.
    #[command(verbatim_doc_comment)]
    Share(share::ShareArgs),
    /// Buy, list, show and revoke upload links
    ///
    /// An upload link is paid once, and takes uploads by anybody who has it: curl -T image.png LINK.
    #[command(verbatim_doc_comment)]
    Link(link::LinkArgs),
    /// Create, list, suspend, resume and revoke API keys
    ///
    /// An API key uploads on behalf of a wallet, within limits of its own.
    #[command(verbatim_doc_comment)]
    Key(key::KeyArgs),
    /// Sign in with a wallet, and print what it paid for and did not receive
    ///
    /// Pays nothing. Prints upload tokens with uploads left, and links of paid images.
    #[command(verbatim_doc_comment)]
    Claim(claim::ClaimArgs),
}

/// The options that every command with settings takes. The environment is read as well.
#[derive(Debug, Clone, clap::Args)]
pub struct ServeArgs {
    /// Use play money: a built-in test facilitator and chain; no payment is real.
    #[arg(long, global = true)]
    pub sandbox: bool,
    /// Read the settings from this file instead of ./pixtoll.toml.
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

/// The arguments of `pixtoll config`.
#[derive(Debug, clap::Args)]
pub struct ConfigArgs {
    /// The subcommand.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// The subcommands of `pixtoll config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the settings in force, without secrets, and every problem. Exits with 1 on a problem.
    Check(CheckArgs),
}

/// The arguments of `pixtoll config check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// The settings to check.
    #[command(flatten)]
    pub place: ServeArgs,
    /// Also ask the facilitators and the chains' nodes, without paying. Exits with 1 when one can't be used.
    #[arg(long)]
    pub online: bool,
}

/// Runs a command and returns its exit code.
///
/// # Errors
/// When the command fails. The message is for the user; the process exits with 1.
pub fn run(cli: Cli) -> Pin<Box<dyn Future<Output = anyhow::Result<ExitCode>>>> {
    // Boxed, so that the asynchronous code is compiled with this library, not with each program.
    Box::pin(dispatch(cli))
}

async fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Serve(args) => serve::run(&args, cli.log, cli.log_format)
            .await
            .map(|()| ExitCode::SUCCESS),
        Command::Client(command) => Ok(run_client(&command).await.into()),
        Command::Ledger(args) => ledger::run(args, &mut std::io::stdout()).await,
        Command::Stats(args) => stats::run(&args, &mut std::io::stdout()).await,
        Command::Admin(args) => admin::run(&args, &mut std::io::stdout()).await,
        Command::Reap(args) => reap::run(&args, &mut std::io::stdout()).await,
        Command::Backup(args) => backup::back_up(&args, &mut std::io::stdout()).await,
        Command::Restore(args) => backup::restore(&args, &mut std::io::stdout()).await,
        Command::Migrate(args) => migrate::run(&args, &mut std::io::stdout()).await,
        Command::Store(args) => store::run(&args, &mut std::io::stdout()).await,
        Command::Receipt(args) => receipt::run(&args, &process_env(), &mut std::io::stdout()).await,
        Command::Proof(args) => proof::run(&args, &process_env(), &mut std::io::stdout()).await,
        Command::Completions(args) => manual::completions(&args, &mut std::io::stdout()),
        Command::Man(args) => manual::man(&args, &mut std::io::stdout()),
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
        Command::Mcp(args) => mcp::run(args, process_env()).await,
        Command::Health(args) => health::run(&args, &mut std::io::stdout()).await,
        Command::Sandbox(args) => sandbox::run(args).await.map(|()| ExitCode::SUCCESS),
    }
}

async fn run_client(command: &ClientCommand) -> console::Exit {
    let (env, out) = (&process_env(), &mut std::io::stdout());
    let (clock, randomness) = (&SystemClock, &Randomness::system());
    match command {
        ClientCommand::Upload(args) => upload::run(args, env, clock, randomness, out).await,
        ClientCommand::Import(args) => import::run(args, env, clock, randomness, out).await,
        ClientCommand::Renew(args) => renew::run(args, env, clock, randomness, out).await,
        ClientCommand::Link(args) => link::run(args, env, clock, randomness, out).await,
        ClientCommand::List(args) => list::run(args, env, out).await,
        ClientCommand::Info(args) => info::run(args, env, out).await,
        ClientCommand::Delete(args) => delete::run(args, env, out).await,
        ClientCommand::Share(args) => share::run(args, env, out).await,
        ClientCommand::Key(args) => key::run(args, env, out).await,
        ClientCommand::Claim(args) => claim::run(args, env, out).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// The commands without subcommands, by their names in full.
    fn leaves(command: &clap::Command, before: &str) -> Vec<(String, clap::Command)> {
        let name = format!("{before} {}", command.get_name());
        let mut inner = command.get_subcommands().peekable();
        if inner.peek().is_none() {
            return vec![(name, command.clone())];
        }
        inner.flat_map(|command| leaves(command, &name)).collect()
    }

    fn client() -> Vec<(String, clap::Command)> {
        let command = ClientCommand::augment_subcommands(clap::Command::new("pixtoll"));
        let mut all = leaves(&command, "");
        all.extend(
            leaves(&Cli::command(), "")
                .into_iter()
                .filter(|(name, _)| name.ends_with("receipt get")),
        );
        all
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_client_command_prints_json_and_is_documented() {
        let document = include_str!("../../docs/cli.md");
        let commands = client();
        assert!(commands.len() >= 16, "{}", commands.len());
        for (name, command) in commands {
            let json = command.get_arguments().find(|it| it.get_id() == "json");
            assert!(json.is_some(), "{name}");
            assert!(document.contains(&format!("`{}", name.trim())), "{name}");
        }
    }

    #[test]
    fn the_document_has_the_exit_codes_of_the_help() {
        let document = include_str!("../../docs/cli.md");
        for code in 0..=7 {
            assert!(document.contains(&format!("\n| {code} |")), "{code}");
        }
    }
}
