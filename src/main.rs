//! The binary: parse, start logging, run, turn the result into an exit code.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use pixtoll::cli::{Cli, run};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    start_logging(cli.log);
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        tracing::warn!("another TLS provider was installed before ours");
    }
    // Only builds for tests have kill points to set up.
    let _scenario = fail::has_failpoints().then(fail::FailScenario::setup);
    match Box::pin(run(cli)).await {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Logs go to stderr. Libraries are held to warnings at every level: below that they print headers
/// and statements, which may hold what no log may hold.
fn start_logging(level: tracing::Level) {
    let filter = Targets::new()
        .with_default(LevelFilter::WARN.min(level.into()))
        // Calls every connection that speaks no HTTP an error; nobody has to act on that.
        .with_target("actix_http::h1::dispatcher", LevelFilter::OFF)
        .with_target("pixtoll", level);
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .init();
}
