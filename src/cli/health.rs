//! `pixtoll health`: asks the server beside it how it is, for container engines and scripts.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use serde::Deserialize;

use super::ServeArgs;
use crate::config::load;

/// Ready or not, an answer takes no longer; the probe of a store or a database that hangs would.
const TIMEOUT: Duration = Duration::from_secs(5);
/// More than either route ever says.
const MAX_ANSWER_BYTES: usize = 4096;

/// `pixtoll health …`. Asks `http.admin_listen` of the same configuration, on this machine.
#[derive(Debug, clap::Args)]
pub struct HealthArgs {
    /// Where the server listens.
    #[command(flatten)]
    pub place: ServeArgs,
    /// Only whether the process lives, not whether database and store answer.
    #[arg(long)]
    pub alive: bool,
}

/// What the listener says of itself, as far as it is of interest.
#[derive(Default, Deserialize)]
struct Said {
    problem: Option<String>,
}

/// Runs the command. Exit code 1: nobody answers, or not well; what is the matter is written to `out`.
///
/// # Errors
/// When the configuration may not start, or the output can't be written.
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
        Err(_) => (false, Some(format!("nobody answers at {address}"))),
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

/// Status and words. The error says nothing that a person could use beyond that there is none.
async fn ask(url: &str) -> Result<(reqwest::StatusCode, Said), reqwest::Error> {
    // No proxy: it would be asked for its own loopback.
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

/// Where a listener on every address is reached from here.
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
    fn a_listener_on_every_address_is_asked_on_loopback() {
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
