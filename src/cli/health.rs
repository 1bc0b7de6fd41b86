//! `pixtoll health`: asks the server on this machine for its health, for container engines and scripts.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use serde::Deserialize;

use super::ServeArgs;
use crate::config::load;

/// How long the command waits for a response. A server whose database or store hangs may take longer, and counts
/// as not ready.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The most bytes of a response that are read; both routes send less.
const MAX_ANSWER_BYTES: usize = 4096;

/// The arguments of `pixtoll health`, which asks `http.admin_listen` of the same settings on this machine.
#[derive(Debug, clap::Args)]
pub struct HealthArgs {
    /// The settings, which name the admin address.
    #[command(flatten)]
    pub place: ServeArgs,
    /// Only ask whether the process runs (/healthz), not whether its database and store answer (/readyz).
    #[arg(long)]
    pub alive: bool,
}

/// The part of the server's response that the command prints.
#[derive(Default, Deserialize)]
struct Said {
    problem: Option<String>,
}

/// Runs the command. Returns exit code 1 when the server doesn't respond or isn't ready, and writes the reason
/// to `out`.
///
/// # Errors
/// When the settings are invalid, or the output can't be written.
pub async fn run(args: &HealthArgs, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let config = load(&args.place.sources())?.config;
    let address = on_this_machine(config.http.admin_listen);
    let path = if args.alive { "healthz" } else { "readyz" };
    let (is_well, said) = match ask(&format!("http://{address}/{path}")).await {
        Ok((status, said)) if status.is_success() => (true, said.problem),
        Ok((status, said)) => (
            false,
            Some(said.problem.unwrap_or_else(|| status.to_string())),
        ),
        Err(_) => (
            false,
            Some(format!(
                "no server responds at {address} (http.admin_listen)"
            )),
        ),
    };
    let verdict = match (is_well, args.alive) {
        (true, true) => "alive",
        (true, false) => "ready",
        (false, true) => "not alive",
        (false, false) => "not ready",
    };
    match said {
        Some(said) => writeln!(out, "{verdict}: {said}")?,
        None => writeln!(out, "{verdict}")?,
    }
    Ok(if is_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Asks one route and returns its status and body. A body that can't be read counts as an empty one.
///
/// # Errors
/// When the server can't be reached or doesn't respond within [`TIMEOUT`].
async fn ask(url: &str) -> Result<(reqwest::StatusCode, Said), reqwest::Error> {
    // No proxy: it would look for the server on its own loopback address.
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    let mut response = client.get(url).send().await?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER_BYTES {
            break;
        }
    }
    Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
}

/// The address at which this machine reaches a listener: loopback for a listener on all addresses.
fn on_this_machine(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_all_addresses_is_asked_on_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:4021", "127.0.0.1:4021"),
            ("[::]:4021", "[::1]:4021"),
            ("127.0.0.1:4021", "127.0.0.1:4021"),
            ("10.1.2.3:99", "10.1.2.3:99"),
        ] {
            let found = on_this_machine(listen.parse().unwrap());
            assert_eq!(found, asked.parse().unwrap(), "{listen}");
        }
    }
}
