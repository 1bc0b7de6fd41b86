//! The settings of payments: facilitators, networks, recipient, sandbox.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::Address;
use url::Url;

use super::check::Checker;
use super::networks::{self as entries, Entry};
use super::values::{self, Complaint};
use super::{
    FacilitatorChoice, NetworkConfig, PaymentsConfig, SandboxConfig, SeparateSandbox, hosts,
};
use crate::coinbase::{self, CdpKey};
use crate::networks::{self, Network};
use crate::tiers::TierTable;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(100);
/// As long as a settle call lives: no request waits longer for it.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(90);
/// With more, a challenge would outgrow what proxies take as a header (x402.md, section 2).
const MOST_NETWORKS: usize = 4;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Facilitator {
    Unset,
    /// Set to what can't be had, and reported.
    Refused,
    Url,
    Coinbase,
    Sandbox,
}

/// What was said under `payments` and `[[networks]]`, each value by itself in order.
struct Said {
    networks: Vec<&'static Network>,
    entries: Vec<Entry>,
    pay_to: Option<Address>,
    facilitator_url: Option<Url>,
    bearer: Option<String>,
    cdp_key: Option<Arc<CdpKey>>,
    rpc_urls: RpcUrls,
    timeout: Duration,
    listen: SocketAddr,
    rpc_listen: SocketAddr,
}

/// `payments.rpc_url`: one address, or one for each network.
enum RpcUrls {
    Unset,
    One(Url),
    Each(Vec<(&'static Network, Url)>),
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
    let said = read(checker, facilitator == Facilitator::Sandbox);
    match facilitator {
        Facilitator::Unset if said.entries.iter().all(|entry| entry.facilitator.is_none()) => {
            warn_that_paid_tiers_are_off(checker, tiers);
            (None, None)
        }
        Facilitator::Refused => (None, None),
        Facilitator::Sandbox => {
            let (payments, sandbox) = by_sandbox(checker, &said, data);
            (Some(payments), Some(sandbox))
        }
        other => (by_networks(checker, other, &said, tiers), None),
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
        Some("coinbase") => Facilitator::Coinbase,
        Some(other) => {
            let message = format!("`{other}` is not a known facilitator");
            let mend = "use \"coinbase\", \"url\" or \"sandbox\"";
            checker.problem(KEY, message, mend);
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
            "set it to \"coinbase\" or \"url\", or to \"sandbox\" (or start with --sandbox) for play money",
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
    // Before the list that names them.
    let entries = entries::read(checker);
    let networks = networks(checker, is_sandbox);
    Said {
        pay_to: checker.value("payments.pay_to", values::recipient),
        facilitator_url: checker.value("payments.facilitator_url", url),
        bearer: checker.value("payments.facilitator_token", bearer),
        cdp_key: cdp_key(checker),
        rpc_urls: rpc_urls(checker, is_sandbox, &networks),
        timeout: timeout.unwrap_or(DEFAULT_TIMEOUT),
        listen,
        rpc_listen,
        networks,
        entries,
    }
}

/// A word for the header `Authorization`. Never repeated.
fn bearer(text: &str) -> Result<String, Complaint> {
    if text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    Err(Complaint::new(
        "holds what no header can carry",
        "write the token alone, in one line of ASCII without blanks",
    ))
}

/// The API key of Coinbase; `None` where there is none, or it was reported.
fn cdp_key(checker: &mut Checker<'_>) -> Option<Arc<CdpKey>> {
    const SECRET: &str = "payments.cdp_key_secret";
    let id = checker.raw.text("payments.cdp_key_id").map(str::to_owned);
    let Some(id) = id else {
        if checker.raw.has(SECRET) {
            let mend = "write the id that belongs to the secret (CDP_API_KEY_ID)";
            checker.problem("payments.cdp_key_id", "is missing beside its secret", mend);
        }
        return None;
    };
    if !checker.raw.has(SECRET) && !checker.raw.has("payments.cdp_key_secret_file") {
        let mend = "write the secret that belongs to the id (CDP_API_KEY_SECRET), or name its file";
        checker.problem(SECRET, "is missing beside its id", mend);
    }
    checker
        .value(SECRET, |secret| {
            CdpKey::parse(&id, secret).map_err(|error| {
                Complaint::new(error.to_string(), "copy it again as Coinbase gave it")
            })
        })
        .map(Arc::new)
}

fn networks(checker: &mut Checker<'_>, is_sandbox: bool) -> Vec<&'static Network> {
    const KEY: &str = "payments.networks";
    let default = if is_sandbox {
        &networks::BASE_SEPOLIA
    } else {
        &networks::BASE
    };
    let Some(names) = checker.raw.list(KEY) else {
        return vec![default];
    };
    let mut found: Vec<&'static Network> = Vec::new();
    for name in names {
        match networks::find(name) {
            Some(network) if found.contains(&network) => {
                checker.problem(KEY, format!("names `{name}` twice"), "name it once");
            }
            Some(network) => found.push(network),
            None => {
                let known: Vec<_> = networks::BUILT_IN
                    .iter()
                    .map(|network| format!("{} ({})", network.name(), network.caip2))
                    .collect();
                let mend = format!(
                    "use {}, or define it under [[networks]] by its CAIP-2 id",
                    known.join(" or ")
                );
                checker.problem(KEY, format!("`{name}` is not a known network"), mend);
            }
        }
    }
    if names.is_empty() {
        checker.problem(KEY, "names no network", "name one, like [\"base\"]");
    }
    if found.len() > MOST_NETWORKS {
        let message = format!("names more than {MOST_NETWORKS} networks, which no challenge holds");
        checker.problem(KEY, message, "name fewer");
    }
    if found.iter().any(|network| network.is_test) && !found.iter().all(|network| network.is_test) {
        let message = "mixes networks whose money is worth nothing with others";
        checker.problem(KEY, message, "run a deployment of its own for each kind");
    }
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
    if found.is_empty() {
        found.push(default);
    }
    found
}

/// `payments.rpc_url`. No part of an address is ever repeated: it may be a key.
fn rpc_urls(checker: &mut Checker<'_>, is_sandbox: bool, offered: &[&'static Network]) -> RpcUrls {
    const KEY: &str = "payments.rpc_url";
    if is_sandbox {
        return checker
            .value(KEY, loopback_url)
            .map_or(RpcUrls::Unset, RpcUrls::One);
    }
    let is_list = checker.raw.text(KEY).is_some_and(|text| {
        text.split_once('=')
            .is_some_and(|(name, _)| networks::find(name.trim()).is_some())
    });
    if is_list {
        return checker
            .value(KEY, |text| text.split(',').map(named_rpc_url).collect())
            .map_or(RpcUrls::Unset, RpcUrls::Each);
    }
    let url = checker.value(KEY, values::rpc_url);
    if url.is_some() && offered.len() > 1 {
        let message = "is one address, and there are several networks";
        let mend = "write name=address for each, by commas, or rpc_url under [[networks]]";
        checker.problem(KEY, message, mend);
    }
    url.map_or(RpcUrls::Unset, RpcUrls::One)
}

fn named_rpc_url(item: &str) -> Result<(&'static Network, Url), Complaint> {
    let named = item
        .split_once('=')
        .and_then(|(name, url)| Some((networks::find(name.trim())?, url.trim())));
    let Some((network, url)) = named else {
        return Err(Complaint::new(
            "holds an item that doesn't begin with the name of a network",
            "write it like base=https://rpc.example.com,base-sepolia=https://other.example.com",
        ));
    };
    Ok((network, values::rpc_url(url)?))
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

fn by_networks(
    checker: &mut Checker<'_>,
    default: Facilitator,
    said: &Said,
    tiers: &TierTable,
) -> Option<PaymentsConfig> {
    let is_selling = tiers.paid().next().is_some();
    for entry in &said.entries {
        if !said.networks.contains(&entry.network) {
            checker.warn(
                &format!("networks.{}", entry.label),
                "is described, and not offered",
                "name it in payments.networks, or remove it",
            );
        }
    }
    let networks: Vec<Option<NetworkConfig>> = said
        .networks
        .iter()
        .map(|network| by_network(checker, default, said, network, is_selling))
        .collect();
    if is_selling && !checker.raw.has("payments.pay_to") {
        checker.problem(
            "payments.pay_to",
            "is missing: tiers with a price have nobody to pay",
            "set it to an address of yours, one that no other deployment uses",
        );
    }
    Some(PaymentsConfig {
        networks: networks.into_iter().collect::<Option<_>>()?,
        // Without recipient and without prices there is nothing to be paid for.
        pay_to: Some(said.pay_to?),
        timeout: said.timeout,
    })
}

fn by_network(
    checker: &mut Checker<'_>,
    default: Facilitator,
    said: &Said,
    network: &'static Network,
    is_selling: bool,
) -> Option<NetworkConfig> {
    let entry = said.entries.iter().find(|entry| entry.network == network);
    let facilitator = choice(checker, default, said, network, entry);
    let rpc_url = rpc_url(checker, said, network, entry, is_selling);
    Some(NetworkConfig {
        network,
        facilitator: facilitator?,
        rpc_url: Some(rpc_url?),
    })
}

/// Who settles on a network: what its entry says, else what `payments` says.
fn choice(
    checker: &mut Checker<'_>,
    default: Facilitator,
    said: &Said,
    network: &Network,
    entry: Option<&Entry>,
) -> Option<FacilitatorChoice> {
    let own = entry.and_then(|entry| entry.facilitator.as_deref().map(|name| (entry, name)));
    let (kind, url, key, has_url) = if let Some((entry, name)) = own {
        let kind = match name {
            "coinbase" => Facilitator::Coinbase,
            _ => Facilitator::Url,
        };
        let key = format!("networks.{}.facilitator_url", entry.label);
        (kind, entry.facilitator_url.as_ref(), key, entry.has_url)
    } else {
        if let Some(entry) = entry.filter(|entry| entry.has_url) {
            let key = format!("networks.{}.facilitator", entry.label);
            let message = "is missing beside its facilitator_url";
            checker.problem(&key, message, "write facilitator = \"url\"");
        }
        let key = "payments.facilitator_url";
        let url = said.facilitator_url.as_ref();
        (default, url, key.to_owned(), checker.raw.has(key))
    };
    match kind {
        Facilitator::Coinbase => coinbase_choice(checker, said, url),
        Facilitator::Url => {
            // Already reported where it was set to nonsense.
            if !has_url {
                let mend =
                    "name the facilitator, like https://x402.org/facilitator for Base Sepolia";
                checker.problem(&key, "is missing", mend);
            }
            Some(FacilitatorChoice::Url {
                url: values::without_slash(url?),
                // The token was given for the one facilitator, not for those of single networks.
                bearer: said.bearer.clone().filter(|_| own.is_none()),
            })
        }
        Facilitator::Unset | Facilitator::Refused | Facilitator::Sandbox => {
            checker.problem(
                "payments.facilitator",
                format!(
                    "is not set, and [[networks]] names none for {}",
                    network.name()
                ),
                "set it to \"coinbase\" or \"url\", or name one for that network",
            );
            None
        }
    }
}

fn coinbase_choice(
    checker: &mut Checker<'_>,
    said: &Said,
    url: Option<&Url>,
) -> Option<FacilitatorChoice> {
    let was_given = ["cdp_key_id", "cdp_key_secret", "cdp_key_secret_file"]
        .iter()
        .any(|key| checker.raw.has(&format!("payments.{key}")));
    if said.cdp_key.is_none() && !was_given {
        checker.problem(
            "payments.cdp_key_id",
            "is missing: Coinbase asks for an API key",
            "make one at portal.cdp.coinbase.com and set CDP_API_KEY_ID and CDP_API_KEY_SECRET",
        );
    }
    let url = url.map_or_else(|| coinbase::BASE_URL.to_owned(), values::without_slash);
    Some(FacilitatorChoice::Coinbase {
        url,
        key: said.cdp_key.clone()?,
    })
}

fn rpc_url(
    checker: &mut Checker<'_>,
    said: &Said,
    network: &'static Network,
    entry: Option<&Entry>,
    is_selling: bool,
) -> Option<String> {
    let own = entry.and_then(|entry| entry.rpc_url.as_ref());
    let given = own.or_else(|| match &said.rpc_urls {
        RpcUrls::Unset => None,
        RpcUrls::One(url) => Some(url),
        RpcUrls::Each(urls) => urls
            .iter()
            .find(|(named, _)| *named == network)
            .map(|(_, url)| url),
    });
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
    let separate = match (&said.facilitator_url, &said.rpc_urls) {
        (Some(facilitator_url), RpcUrls::One(rpc_url)) => Some(SeparateSandbox {
            facilitator_url: values::without_slash(facilitator_url),
            rpc_url: values::without_slash(rpc_url),
        }),
        _ => None,
    };
    if let Some(entry) = said.entries.first() {
        checker.problem(
            &format!("networks.{}", entry.label),
            "stands beside the sandbox, which is a network of its own",
            "remove it, or start with another file",
        );
    }
    let network = NetworkConfig {
        network: &networks::BASE_SEPOLIA,
        facilitator: FacilitatorChoice::Sandbox,
        rpc_url: separate.as_ref().map(|separate| separate.rpc_url.clone()),
    };
    let payments = PaymentsConfig {
        networks: vec![network],
        pay_to: said.pay_to,
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
