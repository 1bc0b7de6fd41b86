//! The `pixtoll` binary: parses the command line, starts logging, and runs the command.

use std::process::ExitCode;

use clap::Parser;
use pixtoll::cli::{Cli, Command, run};
use pixtoll::system::logs;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    // The server starts it by itself, since its settings say how.
    let is_server = matches!(cli.command, Command::Serve(_));
    let _lines =
        (!is_server).then(|| logs::start(cli.log, cli.log_format.unwrap_or_default(), None));
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        tracing::warn!("another TLS provider is installed already; it is used instead of ring");
    }
    // Only test builds have failpoints, which kill the process at a named step.
    let _scenario = fail::has_failpoints().then(fail::FailScenario::setup);
    match Box::pin(run(cli)).await {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
