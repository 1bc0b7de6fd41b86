//! Payments: facilitators, networks (`[[networks]]` as well), recipient, sandbox.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::keys::{DefinitionKeys, NetworkKeys, PaymentKeys, SandboxKeys};
use super::read::{Reader, refuse};
use super::values::RPC_URL;
use super::{
    FacilitatorChoice, NetworkConfig, PaymentsConfig, SandboxConfig, SeparateSandbox, hosts,
};
use crate::facilitator::coinbase::{self, CdpKey};
use crate::pricing::networks::{self, BASE, BASE_SEPOLIA, BUILT_IN, Definition, Network};
use crate::pricing::tiers::TierTable;

/// With more networks, a challenge would outgrow the headers that proxies take (docs/x402.md).
const MOST_NETWORKS: usize = 4;
const FACILITATOR: &str = "payments.facilitator";
const FACILITATOR_URL: &str = "payments.facilitator_url";
const RPC: &str = "payments.rpc_url";
const SECOND_RPC: &str = "payments.second_rpc_url";
const NETWORKS: &str = "payments.networks";
const PAY_TO: &str = "payments.pay_to";
const CDP_ID: &str = "payments.cdp_key_id";
const CDP_SECRET: &str = "payments.cdp_key_secret";

/// A parsed `facilitator`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Facilitator {
    Coinbase,
    Url,
    Sandbox,
}

/// A parsed `payments.rpc_url`: an endpoint for each network, or one without a network.
pub(super) type RpcUrls = Vec<(Option<&'static Network>, String)>;

/// Parses a URL, or `network=URL` items separated by commas. No error repeats a part of a URL.
pub(super) fn rpc_urls(text: &str) -> Result<RpcUrls, String> {
    let named = |item: &str| {
        let (name, url) = item.split_once('=')?;
        Some((networks::find(name.trim())?, url.trim().to_owned()))
    };
    if named(text).is_none() {
        return (RPC_URL.parse)(text).map(|url| vec![(None, url)]);
    }
    let items = text.split(',').map(|item| {
        let (network, url) =
            named(item).ok_or("has an item without the name of a known network")?;
        Ok((Some(network), (RPC_URL.parse)(&url)?))
    });
    items.collect()
}

/// A table of `[[networks]]`.
struct Entry {
    network: &'static Network,
    /// The key of the table in problems.
    key: String,
    keys: NetworkKeys,
    has_url: bool,
}

/// The keys of payments, each parsed.
struct Said {
    keys: PaymentKeys,
    networks: Vec<&'static Network>,
    entries: Vec<Entry>,
    cdp_key: Option<Arc<CdpKey>>,
    /// Whether a tier has a price.
    is_selling: bool,
}

/// Checks payments: `None` where paid tiers are off. The last value is `payments.token_ttl`.
pub(super) fn check(
    reader: &mut Reader<'_>,
    sandbox_flag: bool,
    tiers: &TierTable,
    data: &Path,
) -> (Option<PaymentsConfig>, Option<SandboxConfig>, Duration) {
    // Before the keys that name these networks.
    let entries = entries(reader);
    let mut keys = PaymentKeys::read(reader);
    let ports = SandboxKeys::read(reader);
    let token_ttl = keys.token_ttl;
    let is_other = keys
        .facilitator
        .is_some_and(|named| named != Facilitator::Sandbox);
    refuse!(reader, FACILITATOR, sandbox_flag && is_other,
        "is set beside --sandbox, and not to `sandbox`" => "start without --sandbox, or with another file");
    if reader.has(FACILITATOR) && (keys.facilitator.is_none() || sandbox_flag && is_other) {
        return (None, None, token_ttl);
    }
    let facilitator = keys
        .facilitator
        .or(sandbox_flag.then_some(Facilitator::Sandbox));
    let is_sandbox = facilitator == Some(Facilitator::Sandbox);
    let said = Said {
        networks: offered(reader, std::mem::take(&mut keys.networks), is_sandbox),
        cdp_key: cdp_key(reader, &keys),
        is_selling: tiers.paid().next().is_some(),
        entries,
        keys,
    };
    if is_sandbox {
        let (payments, sandbox) = by_sandbox(reader, said, &ports, data);
        return (Some(payments), Some(sandbox), token_ttl);
    }
    reader.hides(SandboxKeys::KEYS);
    for (key, urls) in [
        (RPC, &said.keys.rpc_url),
        (SECOND_RPC, &said.keys.second_rpc_url),
    ] {
        let is_one = matches!(urls.as_deref(), Some([(None, _)]));
        refuse!(reader, key, is_one && said.networks.len() > 1,
            "is one URL, but there are several networks" =>
            "write name=URL for each, separated by commas, or rpc_url under [[networks]]");
    }
    let mut entries = said.entries.iter();
    if facilitator.is_some() || entries.any(|entry| entry.keys.facilitator.is_some()) {
        return (by_networks(reader, facilitator, &said), None, token_ttl);
    }
    let names: Vec<_> = tiers.paid().map(|tier| tier.name.as_str()).collect();
    if said.is_selling {
        reader.warn(
            FACILITATOR,
            format!("is not set: paid tiers are off ({})", names.join(", ")),
            "set it to \"coinbase\" or \"url\"; for play money to \"sandbox\", or start with --sandbox",
        );
    }
    (None, None, token_ttl)
}

/// Reads `[[networks]]`. A table that can't be read is reported and left out.
fn entries(reader: &mut Reader<'_>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let known = [NetworkKeys::KEYS, DefinitionKeys::KEYS];
    reader.for_each_table("networks", &known, |fields| {
        let keys = NetworkKeys::read(fields);
        let Some(network) = keys.id.as_deref().and_then(|id| network(fields, id)) else {
            return;
        };
        let is_second = entries.iter().any(|known| known.network == network);
        refuse!(fields, "networks.id", is_second, "is a second entry for this network" => "remove one");
        entries.push(Entry {
            network,
            key: format!("networks.{}", fields.label.as_deref().unwrap_or_default()),
            has_url: fields.has("networks.facilitator_url"),
            keys,
        });
    });
    entries
}

/// The network of a table: built in, or defined by it.
fn network(fields: &mut Reader<'_>, id: &str) -> Option<&'static Network> {
    let is_id = |known: &&Network| known.caip2 == id || known.v1_name == Some(id);
    if let Some(known) = BUILT_IN.into_iter().find(is_id) {
        for info in DefinitionKeys::KEYS {
            let name = known.name();
            refuse!(fields, info.name, fields.has(info.name), "is built in for {name}" => "remove it");
        }
        return Some(known);
    }
    let number = id
        .strip_prefix("eip155:")
        .filter(|text| !text.starts_with(['0', '+']));
    let chain_id = number.and_then(|text| text.parse::<u64>().ok());
    refuse!(fields, "networks.id", chain_id.is_none(),
        "`{id}` is neither built in nor a CAIP-2 id of an EVM network" => "write it like \"eip155:43113\"");
    let keys = DefinitionKeys::read(fields);
    if fields.has("networks.v1_name") && keys.v1_name.is_none() {
        return None;
    }
    let added = networks::add(Definition {
        chain_id: chain_id?,
        v1_name: keys.v1_name,
        asset: keys.asset?,
        domain_name: keys.domain_name?,
        domain_version: keys.domain_version?,
        test: keys.test?,
    });
    if let Err(conflict) = &added {
        refuse!(fields, "networks.id", true,
            "{conflict}" => "give each network its own chain id and v1_name; restart after a change");
    }
    added.ok()
}

/// The networks that are offered; never empty.
fn offered(
    reader: &mut Reader<'_>,
    named: Vec<&'static Network>,
    is_sandbox: bool,
) -> Vec<&'static Network> {
    let default = if is_sandbox { &BASE_SEPOLIA } else { &BASE };
    if !reader.has(NETWORKS) {
        reader.shows(NETWORKS, default.name());
        return vec![default];
    }
    let is_empty = reader.texts(NETWORKS).is_some_and(<[String]>::is_empty);
    refuse!(reader, NETWORKS, is_empty, "names no network" => "name one, like [\"base\"]");
    let mut found: Vec<&'static Network> = Vec::new();
    for network in named {
        let (is_second, name) = (found.contains(&network), network.name());
        refuse!(reader, NETWORKS, is_second, "names `{name}` twice" => "name it once");
        found.extend((!is_second).then_some(network));
    }
    let count = found.len();
    refuse!(reader, NETWORKS, count > MOST_NETWORKS,
        "names {count} networks, but a challenge holds {MOST_NETWORKS}" => "name at most {MOST_NETWORKS}");
    let tests = found.iter().filter(|network| network.is_test).count();
    refuse!(reader, NETWORKS, tests > 0 && tests < count,
        "mixes test networks, whose money is worth nothing, with real ones" =>
        "run a deployment of its own for each kind");
    let mut others = found
        .iter()
        .filter(|network| is_sandbox && **network != default);
    if let Some(name) = others.next().map(|other| other.name()) {
        refuse!(reader, NETWORKS, true,
            "is `{name}`, but the sandbox imitates base-sepolia only" =>
            "write [\"base-sepolia\"] or remove it; never use play money beside a real network");
    }
    if found.is_empty() {
        found.push(default);
    }
    found
}

/// The API key of Coinbase; `None` where it is not set, or was reported.
fn cdp_key(reader: &mut Reader<'_>, keys: &PaymentKeys) -> Option<Arc<CdpKey>> {
    let (has_id, has_secret) = (reader.has(CDP_ID), reader.has(CDP_SECRET));
    refuse!(reader, CDP_ID, has_secret && !has_id, "is missing beside its secret" =>
        "write the id that belongs to the secret (CDP_API_KEY_ID)");
    refuse!(reader, CDP_SECRET, has_id && !has_secret, "is missing beside its id" =>
        "write the secret that belongs to the id (CDP_API_KEY_SECRET), or name its file");
    let parsed = CdpKey::parse(keys.cdp_key_id.as_ref()?, keys.cdp_key_secret.as_ref()?);
    if let Err(error) = &parsed {
        refuse!(reader, CDP_SECRET, true, "{error}" => "copy it again as Coinbase gave it");
    }
    parsed.ok().map(Arc::new)
}

fn by_networks(
    reader: &mut Reader<'_>,
    default: Option<Facilitator>,
    said: &Said,
) -> Option<PaymentsConfig> {
    let is_idle = |entry: &&Entry| !said.networks.contains(&entry.network);
    for entry in said.entries.iter().filter(is_idle) {
        let fix = "name it in payments.networks, or remove it";
        reader.warn(&entry.key, "is described, but not offered", fix);
    }
    let offers = said.networks.iter().map(|network| {
        let entry = said.entries.iter().find(|entry| entry.network == *network);
        let facilitator = choice(reader, default, said, network, entry);
        let rpc_url = rpc_url(reader, said, network, entry);
        let second_rpc_url = second_rpc_url(reader, said, network, entry, rpc_url.as_deref());
        Some(NetworkConfig {
            network,
            facilitator: facilitator?,
            rpc_url: Some(rpc_url?),
            second_rpc_url,
        })
    });
    let offers: Vec<Option<NetworkConfig>> = offers.collect();
    refuse!(reader, PAY_TO, said.is_selling && !reader.has(PAY_TO),
        "is missing: tiers with a price have no recipient" =>
        "set it to an address of yours that no other deployment uses");
    Some(PaymentsConfig {
        networks: offers.into_iter().collect::<Option<_>>()?,
        // Without recipient and without prices there is nothing to be paid for.
        pay_to: Some(said.keys.pay_to?),
        timeout: said.keys.timeout,
    })
}

/// The facilitator of a network: from its table, or else from `payments`.
fn choice(
    reader: &mut Reader<'_>,
    default: Option<Facilitator>,
    said: &Said,
    network: &Network,
    entry: Option<&Entry>,
) -> Option<FacilitatorChoice> {
    let own = entry.filter(|entry| entry.keys.facilitator.is_some());
    if let Some(entry) = entry.filter(|entry| entry.has_url) {
        refuse!(reader, &format!("{}.facilitator", entry.key), own.is_none(),
            "is missing beside its facilitator_url" => "write facilitator = \"url\"");
    }
    let keys = &said.keys;
    let (kind, url, section, has_url) = own.map_or_else(
        || {
            (
                default,
                &keys.facilitator_url,
                "payments",
                reader.has(FACILITATOR_URL),
            )
        },
        |entry| {
            (
                entry.keys.facilitator,
                &entry.keys.facilitator_url,
                entry.key.as_str(),
                entry.has_url,
            )
        },
    );
    match kind {
        Some(Facilitator::Coinbase) => {
            refuse!(reader, CDP_ID, !reader.has(CDP_ID) && !reader.has(CDP_SECRET),
                "is missing: Coinbase requires an API key" =>
                "make one at portal.cdp.coinbase.com and set CDP_API_KEY_ID and CDP_API_KEY_SECRET");
            Some(FacilitatorChoice::Coinbase {
                url: url.clone().unwrap_or_else(|| coinbase::BASE_URL.to_owned()),
                key: said.cdp_key.clone()?,
            })
        }
        Some(Facilitator::Url) => {
            refuse!(reader, &format!("{section}.facilitator_url"), !has_url, "is missing" =>
                "name the facilitator, like https://x402.org/facilitator for Base Sepolia");
            // The token belongs to the facilitator of `payments`, not to those of single networks.
            let bearer = keys.facilitator_token.clone().filter(|_| own.is_none());
            url.clone()
                .map(|url| FacilitatorChoice::Url { url, bearer })
        }
        Some(Facilitator::Sandbox) | None => {
            let name = network.name();
            refuse!(reader, FACILITATOR, true,
                "is not set, and [[networks]] names none for {name}" =>
                "set it to \"coinbase\" or \"url\", or name one for that network");
            None
        }
    }
}

fn rpc_url(
    reader: &mut Reader<'_>,
    said: &Said,
    network: &'static Network,
    entry: Option<&Entry>,
) -> Option<String> {
    let own = entry.and_then(|entry| entry.keys.rpc_url.clone());
    let url = own.or_else(|| given(said.keys.rpc_url.as_ref(), network));
    let name = network.name();
    let url = url.or_else(|| network.default_rpc_url.map(str::to_owned));
    refuse!(reader, RPC, url.is_none() && said.is_selling,
        "is missing, and {name} has none built in" =>
        "set it to a JSON-RPC endpoint of the network: the chain decides what is paid");
    url
}

/// The endpoint that `payments` names for a network.
fn given(urls: Option<&RpcUrls>, network: &Network) -> Option<String> {
    let mut given = urls.into_iter().flatten();
    let given = given.find(|(named, _)| named.is_none_or(|named| named == network));
    given.map(|(_, url)| url.clone())
}

fn second_rpc_url(
    reader: &mut Reader<'_>,
    said: &Said,
    network: &Network,
    entry: Option<&Entry>,
    first: Option<&str>,
) -> Option<String> {
    let own = entry.and_then(|entry| entry.keys.second_rpc_url.clone());
    let url = own.or_else(|| given(said.keys.second_rpc_url.as_ref(), network));
    let bare = |url: &str| url.trim_end_matches('/').to_owned();
    let is_same = url.is_some() && url.as_deref().map(bare) == first.map(bare);
    refuse!(reader, SECOND_RPC, is_same,
        "is the same as `payments.rpc_url`" => "name an endpoint of another provider, or remove it");
    url
}

/// A URL of another process on this machine: play money never leaves it. The URL isn't repeated: it
/// may be the endpoint of a real network, with its key.
fn loopback(reader: &mut Reader<'_>, key: &str, url: Option<String>) -> Option<String> {
    let url = url?;
    let is_here =
        Url::parse(&url).is_ok_and(|url| hosts::is_loopback(&url) && url.query().is_none());
    refuse!(reader, key, !is_here, "is not a plain loopback URL, where the sandbox is" =>
        "remove it, or name the loopback address of a `pixtoll sandbox`");
    is_here.then(|| url.trim_end_matches('/').to_owned())
}

fn by_sandbox(
    reader: &mut Reader<'_>,
    said: Said,
    ports: &SandboxKeys,
    data: &Path,
) -> (PaymentsConfig, SandboxConfig) {
    for (key, other) in [(FACILITATOR_URL, RPC), (RPC, FACILITATOR_URL)] {
        refuse!(reader, other, reader.has(key) && !reader.has(other),
            "is missing beside `{key}`: a sandbox in another process has both" =>
            "set both, or none for a sandbox in this process");
    }
    if let Some(entry) = said.entries.first() {
        refuse!(reader, &entry.key, true, "is set beside the sandbox, which is a network of its own" =>
            "remove it, or start with another file");
    }
    let facilitator_url = loopback(reader, FACILITATOR_URL, said.keys.facilitator_url);
    let mut node = |key: &str, urls: Option<RpcUrls>| {
        let url = urls.and_then(|urls| urls.into_iter().next());
        // A URL with the name of a network is not the sandbox's.
        let url = url.map(|(named, url)| named.map_or(url, |_| String::new()));
        loopback(reader, key, url)
    };
    let rpc_url = node(RPC, said.keys.rpc_url);
    let second_rpc_url = node(SECOND_RPC, said.keys.second_rpc_url);
    let both = facilitator_url.zip(rpc_url);
    let separate = both.map(|(facilitator_url, rpc_url)| SeparateSandbox {
        facilitator_url,
        rpc_url,
        second_rpc_url,
    });
    reader.shows(FACILITATOR, "sandbox");
    if separate.is_some() {
        reader.hides(SandboxKeys::KEYS);
    }
    if said.keys.pay_to.is_none() {
        reader.notes(PAY_TO, "made by the sandbox, and kept in its database");
    }
    let network = NetworkConfig {
        network: &BASE_SEPOLIA,
        facilitator: FacilitatorChoice::Sandbox,
        rpc_url: separate.as_ref().map(|separate| separate.rpc_url.clone()),
        second_rpc_url: separate
            .as_ref()
            .and_then(|separate| separate.second_rpc_url.clone()),
    };
    let payments = PaymentsConfig {
        networks: vec![network],
        pay_to: said.keys.pay_to,
        timeout: said.keys.timeout,
    };
    let sandbox = SandboxConfig {
        listen: ports.sandbox_listen,
        rpc_listen: ports.sandbox_rpc_listen,
        database: data.join("sandbox.db"),
        separate,
    };
    (payments, sandbox)
}
