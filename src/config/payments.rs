//! The settings of payments: facilitator, network, recipient, sandbox.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use alloy_primitives::Address;
use url::Url;

use super::check::Checker;
use super::values::{self, Complaint};
use super::{FacilitatorChoice, PaymentsConfig, SandboxConfig, SeparateSandbox, hosts};
use crate::networks::{self, Network};
use crate::tiers::TierTable;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(100);
/// As long as a settle call lives: no request waits longer for it.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(90);

enum Facilitator {
    Unset,
    /// Set to what can't be had, and reported.
    Refused,
    Url,
    Sandbox,
}

/// What was said under `payments`, each value by itself in order.
struct Said {
    network: &'static Network,
    pay_to: Option<Address>,
    facilitator_url: Option<Url>,
    rpc_url: Option<Url>,
    timeout: Duration,
    listen: SocketAddr,
    rpc_listen: SocketAddr,
}

/// Checks payments: `None` where paid tiers are off.
pub(super) fn check(
    checker: &mut Checker<'_>,
    sandbox_flag: bool,
    tiers: &TierTable,
    data: &Path,
) -> (Option<PaymentsConfig>, Option<SandboxConfig>) {
    let facilitator = facilitator(checker, sandbox_flag);
    // Read in any case, so that a mistake is found before the day payments are switched on.
    let said = read(checker, matches!(facilitator, Facilitator::Sandbox));
    match facilitator {
        Facilitator::Unset => {
            warn_that_paid_tiers_are_off(checker, tiers);
            (None, None)
        }
        Facilitator::Refused => (None, None),
        Facilitator::Url => (by_url(checker, said, tiers), None),
        Facilitator::Sandbox => {
            let (payments, sandbox) = by_sandbox(checker, &said, data);
            (Some(payments), Some(sandbox))
        }
    }
}

fn facilitator(checker: &mut Checker<'_>, sandbox_flag: bool) -> Facilitator {
    const KEY: &str = "payments.facilitator";
    match checker.raw.text(KEY).map(str::to_owned).as_deref() {
        Some("sandbox") => Facilitator::Sandbox,
        Some(other) if sandbox_flag => {
            let message = format!("is `{other}`, beside --sandbox");
            checker.problem(
                KEY,
                message,
                "start without --sandbox, or with another file",
            );
            Facilitator::Refused
        }
        None if sandbox_flag => Facilitator::Sandbox,
        None => Facilitator::Unset,
        Some("url") => Facilitator::Url,
        Some("coinbase") => {
            let mend = "use \"url\" with the payments.facilitator_url of another facilitator";
            checker.problem(KEY, "`coinbase` is not built yet", mend);
            Facilitator::Refused
        }
        Some(other) => {
            let message = format!("`{other}` is not a known facilitator");
            checker.problem(KEY, message, "use \"url\" or \"sandbox\"");
            Facilitator::Refused
        }
    }
}

fn warn_that_paid_tiers_are_off(checker: &mut Checker<'_>, tiers: &TierTable) {
    let names: Vec<_> = tiers.paid().map(|tier| tier.name.as_str()).collect();
    if !names.is_empty() {
        checker.warn(
            "payments.facilitator",
            format!("is not set: paid tiers are off ({})", names.join(", ")),
            "set it to \"url\", or to \"sandbox\" (or start with --sandbox) for play money",
        );
    }
}

fn read(checker: &mut Checker<'_>, is_sandbox: bool) -> Said {
    let timeout = checker.value("payments.timeout", |text| {
        values::duration_within(text, SHORTEST_TIMEOUT, LONGEST_TIMEOUT)
    });
    let mut listener = |key, port| {
        let address = checker.value(key, values::loopback_socket);
        address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], port)))
    };
    let listen = listener("payments.sandbox_listen", 4022);
    let rpc_listen = listener("payments.sandbox_rpc_listen", 4023);
    let url = if is_sandbox {
        loopback_url
    } else {
        values::facilitator_url
    };
    let rpc = if is_sandbox {
        loopback_url
    } else {
        values::rpc_url
    };
    Said {
        network: network(checker, is_sandbox),
        pay_to: checker.value("payments.pay_to", values::recipient),
        facilitator_url: checker.value("payments.facilitator_url", url),
        rpc_url: checker.value("payments.rpc_url", rpc),
        timeout: timeout.unwrap_or(DEFAULT_TIMEOUT),
        listen,
        rpc_listen,
    }
}

fn network(checker: &mut Checker<'_>, is_sandbox: bool) -> &'static Network {
    const KEY: &str = "payments.networks";
    let default = if is_sandbox {
        &networks::BASE_SEPOLIA
    } else {
        &networks::BASE
    };
    let Some(names) = checker.raw.list(KEY) else {
        return default;
    };
    let (found, unknown): (Vec<_>, Vec<_>) = names
        .iter()
        .map(|name| values::network(name))
        .partition(Result::is_ok);
    for complaint in unknown.into_iter().filter_map(Result::err) {
        checker.problem(KEY, complaint.message, complaint.mend);
    }
    if names.is_empty() {
        checker.problem(KEY, "names no network", "name one, like [\"base\"]");
    }
    if names.len() > 1 {
        checker.problem(KEY, "several networks are not built yet", "name one");
    }
    let found: Vec<_> = found.into_iter().filter_map(Result::ok).collect();
    if let Some(other) = found
        .iter()
        .find(|network| is_sandbox && **network != default)
    {
        checker.problem(
            KEY,
            format!(
                "is `{}`, and the sandbox imitates base-sepolia only",
                other.name()
            ),
            "use [\"base-sepolia\"] or remove it; never play money beside a real network",
        );
    }
    found.into_iter().next().unwrap_or(default)
}

/// Where another process of this machine is reached: with play money, nothing else is sent to.
fn loopback_url(text: &str) -> Result<Url, Complaint> {
    // Not repeated in the message: it may be the RPC endpoint of a real network, with its key.
    let url = values::http_url(text)?;
    if hosts::is_loopback(&url) {
        return Ok(url);
    }
    Err(Complaint::new(
        "is not on loopback, where the sandbox is",
        "remove it, or name the loopback address of a `pixtoll sandbox`",
    ))
}

fn by_url(checker: &mut Checker<'_>, said: Said, tiers: &TierTable) -> Option<PaymentsConfig> {
    let is_selling = tiers.paid().next().is_some();
    if !checker.raw.has("payments.facilitator_url") {
        let mend = "name the facilitator, like https://x402.org/facilitator for Base Sepolia";
        checker.problem("payments.facilitator_url", "is missing", mend);
    }
    let rpc_url = rpc_url(checker, said.rpc_url.as_ref(), said.network, is_selling);
    if is_selling && !checker.raw.has("payments.pay_to") {
        checker.problem(
            "payments.pay_to",
            "is missing: tiers with a price have nobody to pay",
            "set it to an address of yours, one that no other deployment uses",
        );
    }
    Some(PaymentsConfig {
        facilitator: FacilitatorChoice::Url(values::without_slash(&said.facilitator_url?)),
        network: said.network,
        // Without recipient and without prices there is nothing to be paid for.
        pay_to: Some(said.pay_to?),
        rpc_url: Some(rpc_url?),
        timeout: said.timeout,
    })
}

fn rpc_url(
    checker: &mut Checker<'_>,
    given: Option<&Url>,
    network: &Network,
    is_selling: bool,
) -> Option<String> {
    // As it was given: an endpoint's path and its slash are the provider's business.
    let url = given.map(|url| url.as_str().to_owned());
    let url = url.or_else(|| network.default_rpc_url.map(str::to_owned));
    if url.is_none() && is_selling {
        checker.problem(
            "payments.rpc_url",
            format!("is missing, and {} has none built in", network.name()),
            "set it to a JSON-RPC endpoint of the network: the chain decides what is paid",
        );
    }
    url
}

fn by_sandbox(
    checker: &mut Checker<'_>,
    said: &Said,
    data: &Path,
) -> (PaymentsConfig, SandboxConfig) {
    let pair = ["payments.facilitator_url", "payments.rpc_url"];
    for (key, other) in pair.into_iter().zip(pair.into_iter().rev()) {
        if checker.raw.has(key) && !checker.raw.has(other) {
            checker.problem(
                other,
                format!("is missing beside `{key}`: a sandbox in another process has both"),
                "set both, or none for a sandbox in this process",
            );
        }
    }
    let separate = match (&said.facilitator_url, &said.rpc_url) {
        (Some(facilitator_url), Some(rpc_url)) => Some(SeparateSandbox {
            facilitator_url: values::without_slash(facilitator_url),
            rpc_url: values::without_slash(rpc_url),
        }),
        _ => None,
    };
    let payments = PaymentsConfig {
        facilitator: FacilitatorChoice::Sandbox,
        network: said.network,
        pay_to: said.pay_to,
        rpc_url: separate.as_ref().map(|separate| separate.rpc_url.clone()),
        timeout: said.timeout,
    };
    let sandbox = SandboxConfig {
        listen: said.listen,
        rpc_listen: said.rpc_listen,
        database: data.join("sandbox.db"),
        separate,
    };
    (payments, sandbox)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Report;
    use crate::config::raw::RawConfig;

    #[test]
    fn a_network_without_built_in_rpc_needs_one_to_sell() {
        let network = Network {
            default_rpc_url: None,
            ..networks::BASE.clone()
        };
        let mut report = Report::default();
        let mut checker = Checker {
            raw: &RawConfig::default(),
            report: &mut report,
        };
        assert_eq!(rpc_url(&mut checker, None, &network, false), None);
        assert!(checker.report.problems.is_empty());
        assert_eq!(rpc_url(&mut checker, None, &network, true), None);
        assert_eq!(checker.report.problems[0].key, "payments.rpc_url");
        let given = Url::parse("https://rpc.example.com/v2/").unwrap();
        let url = rpc_url(&mut checker, Some(&given), &network, true);
        assert_eq!(url.as_deref(), Some("https://rpc.example.com/v2/"));
        assert_eq!(report.problems.len(), 1);
    }
}
