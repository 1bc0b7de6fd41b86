//! `[[networks]]`: what is said of each network, and EVM networks that pixtoll doesn't know.

use alloy_primitives::Address;
use toml::Value;
use url::Url;

use super::check::Checker;
use super::fields::{self, Fields, Section, text};
use super::values::{self, Complaint};
use crate::networks::{self, Definition, Network};

const SECTION: Section = Section {
    name: "networks",
    one: "a network",
    label: "id",
    fields: &[
        "id",
        "rpc_url",
        "facilitator",
        "facilitator_url",
        "v1_name",
        "asset",
        "domain_name",
        "domain_version",
        "test",
    ],
};
/// What only a network has that isn't built in.
const DEFINING: [&str; 5] = ["v1_name", "asset", "domain_name", "domain_version", "test"];
const EXAMPLE: &str = "\"eip155:43113\"";

/// What is said of one network.
pub(super) struct Entry {
    pub(super) network: &'static Network,
    /// How it is called in problems.
    pub(super) label: String,
    pub(super) rpc_url: Option<Url>,
    pub(super) facilitator: Option<String>,
    pub(super) facilitator_url: Option<Url>,
    /// Whether it has one, be it nonsense that was reported.
    pub(super) has_url: bool,
}

/// Reads every entry. What can't be read is reported and left out.
pub(super) fn read(checker: &mut Checker<'_>) -> Vec<Entry> {
    let raw = checker.raw;
    let mut entries: Vec<Entry> = Vec::new();
    for (index, table) in raw.networks.iter().flatten().enumerate() {
        let mut fields = Fields::new(SECTION, index, table, checker.report);
        let Some(entry) = entry(&mut fields) else {
            continue;
        };
        if entries
            .iter()
            .any(|known| known.network.chain_id == entry.network.chain_id)
        {
            fields.problem("id", "is a second entry for this network", "keep one");
            continue;
        }
        entries.push(entry);
    }
    entries
}

fn entry(fields: &mut Fields<'_>) -> Option<Entry> {
    let id = fields.required("id", EXAMPLE, |value| {
        text(value, EXAMPLE).map(str::to_owned)
    });
    // Each is read in any case, so that every mistake is found.
    let rpc_url = fields.read("rpc_url", |value| {
        values::rpc_url(text(value, "\"https://rpc.example.com\"")?)
    });
    let facilitator = fields.read("facilitator", |value| {
        let name = text(value, "\"url\"")?;
        match name {
            "url" | "coinbase" => Ok(name.to_owned()),
            other => Err(Complaint::new(
                format!("`{other}` is no facilitator of a network"),
                "use \"coinbase\" or \"url\"",
            )),
        }
    });
    let facilitator_url = fields.read("facilitator_url", |value| {
        values::facilitator_url(text(value, "\"https://x402.org/facilitator\"")?)
    });
    let network = network(fields, &id?)?;
    Some(Entry {
        network,
        label: fields.label.clone(),
        rpc_url,
        facilitator,
        facilitator_url,
        has_url: fields.has("facilitator_url"),
    })
}

fn network(fields: &mut Fields<'_>, id: &str) -> Option<&'static Network> {
    let built_in = networks::BUILT_IN
        .into_iter()
        .find(|known| known.caip2 == id || known.v1_name == Some(id));
    if let Some(known) = built_in {
        for field in DEFINING {
            if fields.has(field) {
                let message = format!("is built in for {}", known.name());
                fields.problem(field, &message, "remove it");
            }
        }
        return Some(known);
    }
    let definition = definition(fields, id)?;
    match networks::add(definition) {
        Ok(network) => Some(network),
        Err(conflict) => {
            let mend = "give each network its own chain id and v1_name; restart after a change";
            fields.problem("id", &conflict.to_string(), mend);
            None
        }
    }
}

fn definition(fields: &mut Fields<'_>, id: &str) -> Option<Definition> {
    let chain_id = id
        .strip_prefix("eip155:")
        .filter(|number| !number.starts_with(['0', '+']))
        .and_then(|number| number.parse::<u64>().ok());
    if chain_id.is_none() {
        let message = format!("`{id}` is neither built in nor a CAIP-2 id of an EVM network");
        fields.problem("id", &message, &format!("write it like {EXAMPLE}"));
    }
    let asset = fields.required("asset", "\"0x…\", the USDC contract", |value| {
        contract(text(value, "\"0x…\"")?)
    });
    let mut word = |field, example: &str| {
        fields.required(field, example, |value| {
            let word = text(value, example)?.trim();
            if word.is_empty() || word.len() > 64 {
                return Err(Complaint::new(
                    "is empty or too long",
                    format!("write what the contract says, like {example}"),
                ));
            }
            Ok(word.to_owned())
        })
    };
    let domain_name = word("domain_name", "\"USD Coin\"");
    let domain_version = word("domain_version", "\"2\"");
    let test = fields.required(
        "test",
        "true where its money is worth nothing",
        fields::switch,
    );
    let has_name = fields.has("v1_name");
    let v1_name = fields.read("v1_name", v1_name);
    if has_name && v1_name.is_none() {
        return None;
    }
    Some(Definition {
        chain_id: chain_id?,
        v1_name,
        asset: asset?,
        domain_name: domain_name?,
        domain_version: domain_version?,
        test: test?,
    })
}

fn v1_name(value: &Value) -> Result<String, Complaint> {
    let example = "\"avalanche-fuji\"";
    let name = text(value, example)?;
    let is_word = name
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if is_word && (1..=32).contains(&name.len()) {
        return Ok(name.to_owned());
    }
    Err(Complaint::new(
        format!("`{name}` is no name of protocol version 1"),
        format!("write it like {example}, or leave it out"),
    ))
}

fn contract(text: &str) -> Result<Address, Complaint> {
    values::address(text, "copy the contract's address again")
}
