//! `pixtoll sandbox`: runs the play-money facilitator and chain as a process of their own.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::sandbox::{Listening, Location, Sandbox};
use crate::system::clock::SystemClock;
use crate::system::random::Randomness;

/// The arguments of `pixtoll sandbox`.
#[derive(Debug, Clone, Args)]
pub struct SandboxArgs {
    /// The facilitator's address; loopback only.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4022")]
    pub facilitator: SocketAddr,
    /// The address of the chain's JSON-RPC; loopback only.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4023")]
    pub rpc: SocketAddr,
    /// The file with the chain's state; created if it doesn't exist.
    #[arg(long, value_name = "FILE", default_value = "data/sandbox.db")]
    pub data: PathBuf,
}

/// Serves the sandbox until SIGINT or SIGTERM.
///
/// # Errors
/// When the state can't be opened, or an address can't be listened on.
pub async fn run(args: SandboxArgs) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("can't wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("can't wait for SIGINT")?;
    let location = Location::File(args.data);
    let sandbox = Sandbox::open(
        location.clone(),
        Arc::new(SystemClock),
        &Randomness::system(),
    )
    .await?;
    let listening = sandbox.listen(args.facilitator, args.rpc)?;
    announce(&mut io::stdout().lock(), &sandbox, &listening, &location)
        .context("can't write to standard output")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    listening.stop().await;
    Ok(())
}

fn announce(
    out: &mut impl Write,
    sandbox: &Sandbox,
    listening: &Listening,
    location: &Location,
) -> io::Result<()> {
    let network = sandbox.network();
    writeln!(
        out,
        "pixtoll sandbox: PLAY MONEY, worth nothing, for development only."
    )?;
    writeln!(out, "  facilitator  {}", listening.facilitator_url)?;
    writeln!(
        out,
        "  rpc          {}  (chain id of {})",
        listening.rpc_url,
        network.name()
    )?;
    writeln!(
        out,
        "  recipient    {}",
        sandbox.recipient().to_checksum(None)
    )?;
    writeln!(out, "  state        {location}")?;
    writeln!(
        out,
        "Every account begins with 100 play USDC. Stop with Ctrl-C."
    )?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: SandboxArgs,
    }

    #[tokio::test]
    async fn the_first_lines_name_the_urls_the_recipient_and_play_money() {
        let args = Command::parse_from(["sandbox", "--facilitator", "127.0.0.1:0"]).args;
        assert_eq!(args.rpc, "127.0.0.1:4023".parse().unwrap());
        assert_eq!(args.data, PathBuf::from("data/sandbox.db"));
        let sandbox = Sandbox::open(
            Location::Memory,
            Arc::new(SystemClock),
            &Randomness::seeded(1),
        )
        .await
        .unwrap();
        let listening = sandbox
            .listen(args.facilitator, "[::1]:0".parse().unwrap())
            .unwrap();
        let mut out = Vec::new();
        announce(&mut out, &sandbox, &listening, &Location::Memory).unwrap();
        let text = String::from_utf8(out).unwrap();
        let recipient = sandbox.recipient().to_checksum(None);
        for part in [
            "PLAY MONEY",
            &listening.facilitator_url,
            &listening.rpc_url,
            &recipient,
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        listening.stop().await;
    }
}
