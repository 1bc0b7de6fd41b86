//! `pixtoll mcp`: an MCP server on standard input and output, for the agents of the user's machine. Its tools take file
//! paths, web addresses and the clipboard, and pay with the user's wallet within two limits. Standard output holds the
//! protocol alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use rmcp::ServiceExt;
use rmcp::service::ServerInitializeError;
use url::Url;

use super::console::usd;
use crate::client::wallet::WalletSource;
use crate::pricing::money::AtomicAmount;

mod definitions;
mod files;
mod lines;
mod server;
mod tools;

use files::Roots;
use lines::Lines;
use server::Local;

const AFTER_HELP: &str = "\
The wallet is found as by pixtoll upload: --wallet FILE, PIXTOLL_WALLET_KEY, PIXTOLL_WALLET, or
~/.local/share/pixtoll/wallet.key. Free uploads need none.

Payments of all processes with the same ~/.local/state/pixtoll count together for --max-per-day: the
payments of the last 24 hours, also those that a server refused. A payment whose outcome is unknown is
sent again by the same call; no second one is signed for it. The same call within 10 minutes of its
success returns the same result and pays nothing.

Tools read regular files below --root that are PNG, JPEG, GIF or WebP. A symbolic link counts as what it
points to. No tool call holds the bytes of an image.";

/// The options of `pixtoll mcp`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct McpArgs {
    /// The server's base URL
    #[arg(
        long,
        value_name = "URL",
        env = "PIXTOLL_SERVER",
        default_value = "http://127.0.0.1:4020"
    )]
    server: Url,
    /// A file with the private key of the paying account, in hex
    #[arg(long, value_name = "FILE")]
    wallet: Option<PathBuf>,
    /// The most that one tool call pays, in USD
    #[arg(long, value_name = "USD", default_value = "0.05", value_parser = usd)]
    max_per_call: AtomicAmount,
    /// The most that all tool calls pay in 24 hours, in USD
    #[arg(long, value_name = "USD", default_value = "0.50", value_parser = usd)]
    max_per_day: AtomicAmount,
    /// Folders whose files may be uploaded; by default the working directory
    #[arg(long = "root", value_name = "DIR", num_args = 1..)]
    roots: Vec<PathBuf>,
}

impl McpArgs {
    /// The key file that the user named. Installers pass an empty name where the user chose none.
    fn wallet(&self) -> Option<&Path> {
        let named = self.wallet.as_deref();
        named.filter(|path| !path.as_os_str().is_empty())
    }
}

/// Serves until standard input ends. `env` names the wallet, the home directory, the desktop and a proxy for https.
///
/// # Errors
/// If a folder of `--root` or the key file can't be used, or the client breaks the protocol.
pub async fn run(args: McpArgs, env: BTreeMap<String, String>) -> anyhow::Result<ExitCode> {
    let roots = Roots::open(&args.roots)?;
    // A key that can't be read is found now, and not by the first agent that pays.
    WalletSource::new(args.wallet(), &env).find()?;
    let local = Local::new(args, roots, env);
    let (lines, input, output) = Lines::between(tokio::io::stdin(), tokio::io::stdout());
    let served = match local.clone().serve((input, output)).await {
        Ok(running) => running.waiting().await.map(drop).context("a task failed"),
        // The client went away before it said anything.
        Err(ServerInitializeError::ConnectionClosed(_)) => Ok(()),
        Err(error) => Err(error).context("the client did not begin as the protocol asks"),
    };
    local.end().await;
    lines.end().await;
    served.map(|()| ExitCode::SUCCESS)
}
