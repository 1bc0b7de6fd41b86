//! `pixtoll config check`: prints the settings in force and every problem.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use super::ledger::recover::warn;
use crate::app::{open_access, open_database_beside};
use crate::config::{self, Config, Examined, NetworkConfig, Sources};
use crate::evm::chain::Chain;
use crate::evm::chain::probe::{Finding, Outcome, probe};
use crate::evm::chain::rpc::RpcChain;
use crate::moving::Gone;
use crate::payments::access::NetworkAccess;
use crate::system::clock::{Clock, SystemClock, Timestamp};
use crate::system::random::Randomness;
use crate::trust::csam::{self, State};

/// How long `--online` waits for the answer of a facilitator.
const ONLINE_TIMEOUT: Duration = Duration::from_secs(10);

/// Prints the settings in force (if there is no problem), the warnings and the problems. Returns
/// whether the server may start.
pub fn check(sources: &Sources, out: &mut impl Write) -> anyhow::Result<bool> {
    let Examined {
        config,
        warnings,
        problems,
    } = config::examine(sources);
    if let Some(config) = &config {
        writeln!(out, "{}", config::show(config))?;
    }
    for warning in &warnings {
        writeln!(out, "warning: {warning}")?;
    }
    for problem in &problems {
        writeln!(out, "problem: {problem}")?;
    }
    let verdict = if config.is_some() {
        "ok: the server may start"
    } else {
        "the server would not start"
    };
    writeln!(
        out,
        "{verdict}; problems: {}, warnings: {}",
        problems.len(),
        warnings.len()
    )?;
    Ok(config.is_some())
}

/// Asks the CDN, facilitators and nodes, without paying: whether the CDN's scanner is on, whether each
/// facilitator accepts our credentials and supports the network, and whether each node shows the right
/// chain, keeps up and answers every kind of reading. Returns whether payments work.
///
/// # Errors
/// When the configuration has a problem, or the output can't be written.
pub async fn check_online(sources: &Sources, out: &mut impl Write) -> anyhow::Result<bool> {
    let config = config::load(sources)?.config;
    let mut all_fine = is_current(&config, out).await?;
    if let Some(cdn) = &config.cdn {
        tell_scanner(cdn, out).await?;
    }
    let Some(payments) = config.payments.filter(|_| config.sandbox.is_none()) else {
        writeln!(
            out,
            "online: nothing to ask, since no payments are taken on a network"
        )?;
        return Ok(all_fine);
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    for known in &payments.networks {
        let access = open_access(known, &clock, &Randomness::system())?;
        let name = known.network.name();
        match ask_facilitator(&access).await {
            Ok(answer) => writeln!(out, "online: {name}: facilitator: {answer}")?,
            Err(problem) => {
                all_fine = false;
                writeln!(out, "problem: {name}: facilitator: {problem}")?;
            }
        }
        if known.is_public_node() {
            writeln!(
                out,
                "warning: {name}: chain: payments.rpc_url is not set: the built-in endpoint is public, refuses busy \
                 callers, and is not for production"
            )?;
        }
        all_fine &= check_nodes(known, clock.now(), out).await?;
    }
    Ok(all_fine)
}

/// Says whether the CDN scans what it caches for known child sexual abuse material.
async fn tell_scanner(cdn: &config::CdnConfig, out: &mut impl Write) -> std::io::Result<()> {
    let scanner = "cdn: the CSAM scanner";
    match csam::state(&cdn.api_url, &cdn.zone, &cdn.token).await {
        Ok(State::On) => writeln!(out, "online: {scanner} is on"),
        Ok(State::Unconfirmed) => writeln!(
            out,
            "warning: {scanner} is on, but its reports reach nobody: confirm their address at Cloudflare"
        ),
        Ok(State::Off) => writeln!(
            out,
            "warning: {scanner} is off: switch it on in the zone's settings at Cloudflare"
        ),
        Err(why) => writeln!(out, "warning: {scanner} can't be asked: {why}"),
    }
}

/// Whether the database, if there is one, is not older than the mark in its store.
async fn is_current(config: &Config, out: &mut impl Write) -> anyhow::Result<bool> {
    let db = match open_database_beside(&config.database).await {
        Ok(db) => db,
        Err(error) if error.is::<Gone>() => {
            writeln!(out, "problem: database.url: {error}")?;
            return Ok(false);
        }
        Err(_) => return Ok(true),
    };
    let is_stale = warn(config, &db, out).await;
    db.close().await;
    Ok(!is_stale?)
}

async fn ask_facilitator(access: &NetworkAccess) -> Result<String, String> {
    if access.ask_supported(ONLINE_TIMEOUT).await? {
        return Ok(format!("{} settles on it", access.facilitator.name()));
    }
    Err(format!(
        "{} answers, but doesn't support the scheme `exact` on this network",
        access.facilitator.name()
    ))
}

/// Tries every kind of reading at the nodes of a network. Returns whether payments work.
async fn check_nodes(
    known: &NetworkConfig,
    now: Timestamp,
    out: &mut impl Write,
) -> anyhow::Result<bool> {
    let (name, mut all_fine) = (known.network.name(), true);
    let urls = known.rpc_urls();
    let mut is_reached = false;
    for (index, url) in urls.iter().enumerate() {
        let node = if index == 0 { "chain" } else { "second chain" };
        let chain = RpcChain::new(known.network, &[url])?;
        match chain.chain_id().await {
            Ok(id) if id == known.network.chain_id => {}
            Ok(id) => {
                all_fine = false;
                writeln!(
                    out,
                    "problem: {name}: {node}: the node is on chain {id}, but should be on chain {}; set another rpc_url",
                    known.network.chain_id
                )?;
                continue;
            }
            Err(error) => {
                all_fine = false;
                writeln!(out, "problem: {name}: {node}: {error}")?;
                continue;
            }
        }
        is_reached = true;
        for Finding { what, result } in probe(&chain, now).await.into_iter().flatten() {
            match result {
                Outcome::Well(text) => writeln!(out, "online: {name}: {node}: {what}: {text}")?,
                Outcome::Costs(text) => writeln!(out, "warning: {name}: {node}: {what}: {text}")?,
                Outcome::Fails(text) => {
                    all_fine = false;
                    writeln!(out, "problem: {name}: {node}: {what}: {text}")?;
                }
            }
        }
    }
    Ok(all_fine && is_reached)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str, sandbox: bool) -> (bool, String) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pixtoll.toml");
        std::fs::write(&file, text).unwrap();
        let sources = Sources {
            file: Some(file),
            sandbox,
            ..Sources::default()
        };
        let mut out = Vec::new();
        let may_start = check(&sources, &mut out).unwrap();
        (may_start, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_good_configuration_is_shown_and_may_start() {
        let (may_start, text) = checked("", true);
        assert!(may_start);
        assert!(text.starts_with("# sandbox: play money\n"), "{text}");
        assert!(
            text.ends_with("ok: the server may start; problems: 0, warnings: 0\n"),
            "{text}"
        );
    }

    #[test]
    fn every_problem_and_warning_is_listed_at_once() {
        let (may_start, text) = checked(
            "[http]\nlisten = 'nowhere'\nadmin_listen = '0.0.0.0:4021'\nlisen = 'x'\n\
             [secrets]\nkey = 'hunter2'\n",
            true,
        );
        assert!(!may_start);
        for expected in [
            "warning: http.admin_listen: 0.0.0.0:4021 is not on loopback",
            "problem: http.listen: `nowhere` is not an IP address with a port\n  fix: write it",
            "problem: http.lisen: is an unknown key\n  fix: did you mean `listen` under [http]?",
            "problem: secrets.key: is not 32 bytes",
            "the server would not start; problems: 3, warnings: 1\n",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
        assert!(!text.contains("hunter2"), "{text}");
    }
}
