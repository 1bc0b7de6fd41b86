//! The settings in force as text, secrets hidden, for `pixtoll config check`.

use toml::Value;

use super::describe;
use super::{Config, FacilitatorChoice, Mode, hosts};
use crate::pricing::tiers::SizeText;

const ONE_DEPLOYMENT: &str = "# one pay_to belongs to one deployment: two ledgers on one address cannot tell their payments apart";

/// The settings in force, written like the file, with comments for what no key sets.
pub fn show(config: &Config) -> String {
    let mode = match config.mode {
        None => "# no payments: paid tiers are off",
        Some(Mode::Sandbox) => "# sandbox: play money",
        Some(Mode::Test) => "# test: a network whose money is worth nothing",
        Some(Mode::Real) => "# real: money",
    };
    let mut lines = vec![mode.to_owned()];
    let mut current = "";
    for info in describe::all() {
        let Some(line) = config.lines.get(info.name) else {
            continue;
        };
        let (section, _) = info.parts();
        if section != current {
            lines.extend([String::new(), format!("[{section}]")]);
            current = section;
        }
        lines.push(line.clone());
        if info.name == "payments.pay_to" {
            lines.push(ONE_DEPLOYMENT.to_owned());
        }
    }
    lines.extend(tiers(config));
    lines.extend(networks(config));
    lines.join("\n") + "\n"
}

fn tiers(config: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    for tier in &config.tiers {
        // Bytes that are no whole KiB go as a number: "1000 bytes" is for people only.
        let size = if tier.max_bytes.is_multiple_of(1024) {
            quoted(&SizeText(tier.max_bytes).to_string())
        } else {
            tier.max_bytes.to_string()
        };
        lines.extend([
            String::new(),
            "[[tiers]]".to_owned(),
            format!("name = {}", quoted(tier.name.as_str())),
            format!("price = {}", quoted(&tier.price.to_decimal_usd())),
        ]);
        if tier.is_by_size() {
            let price = quoted(&tier.price_per_mib.to_decimal_usd());
            lines.push(format!("price_per_mib = {price}"));
        }
        lines.extend([
            format!("max_bytes = {size}"),
            format!("keep = {}", quoted(&tier.keep.to_string())),
            format!("confirmations = {}", tier.confirmations),
        ]);
        if config.tiers.default_paid() == Some(tier) {
            lines.push("default = true".to_owned());
        }
    }
    lines
}

/// The networks with everything in force, whether from `[[networks]]` or from `payments`.
pub(super) fn networks(config: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    let offered = config.payments.iter();
    for known in offered.flat_map(|payments| &payments.networks) {
        let (facilitator, url, secret) = match &known.facilitator {
            FacilitatorChoice::Sandbox => continue,
            FacilitatorChoice::Url { url, bearer } => {
                let secret = bearer
                    .as_ref()
                    .map(|_| "# with a token [secret]".to_owned());
                ("url", url, secret)
            }
            FacilitatorChoice::Coinbase { url, key } => {
                let secret = format!("# signed with the API key {}, [secret]", key.id());
                ("coinbase", url, Some(secret))
            }
        };
        lines.extend([
            String::new(),
            "[[networks]]".to_owned(),
            format!("id = {}", quoted(known.network.name())),
            format!("facilitator = {}", quoted(facilitator)),
            format!("facilitator_url = {}", quoted(url)),
        ]);
        lines.extend(secret);
        let node = known.rpc_url.as_deref().map(hosts::redacted);
        lines.extend(node.map(|url| format!("rpc_url = {}", quoted(&url))));
        let second = known.second_rpc_url.as_deref().map(hosts::redacted);
        lines.extend(second.map(|url| format!("second_rpc_url = {}", quoted(&url))));
    }
    lines
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
