//! The settings in force as text, secrets hidden, for `pixtoll config check`.

use toml::Value;

use super::{
    Addressing, Config, DatabaseUrl, FacilitatorChoice, Limits, Mode, NetworkConfig,
    PaymentsConfig, Retention, S3Credentials, S3Store, SandboxConfig, SecretKeySource, StorePlace,
    database, hosts,
};
use crate::tiers::{Keep, SizeText, Tier, TierTable};

/// What is in force, written like the file: TOML, with what can't be set as comments.
pub fn show(config: &Config) -> String {
    let mut lines = Lines(vec![mode_line(config.mode)]);
    lines.section("http");
    lines.text("listen", &config.http.listen);
    lines.text("admin_listen", &config.http.admin_listen);
    lines.text("base_url", &config.http.base_url);
    lines.list("trusted_proxies", &config.http.trusted_proxies);
    lines.section("database");
    lines.text("url", &database_url(&config.database));
    if matches!(config.database, DatabaseUrl::Postgres(_)) {
        database::show(&mut lines, &config.connections);
    }
    lines.section("images");
    lines.text("store", &config.images.store);
    if let StorePlace::S3(s3) = &config.images.store {
        show_s3(&mut lines, s3);
    }
    lines.text("base_url", &config.images.base_url);
    lines.0.push(format!("clean = {}", config.images.clean));
    lines.size("min_free", config.images.min_free);
    lines.size("cache_bytes", config.images.cache_bytes);
    let limits = config.images.limits;
    lines.number("max_pixels", limits.max_pixels);
    lines.number("max_total_pixels", limits.max_total_pixels);
    lines.section("payments");
    match &config.payments {
        None => lines.comment("no facilitator is set, or nothing has a price"),
        Some(payments) => show_payments(&mut lines, payments, config.sandbox.as_ref()),
    }
    lines.text("token_ttl", &humantime::format_duration(config.token_ttl));
    show_retention(&mut lines, &config.retention);
    lines.section("secrets");
    match &config.secrets_key {
        SecretKeySource::Given(keys) => {
            lines.text("key", "[secret]");
            if keys.count_older() > 0 {
                lines.comment(&format!("key: and {} older", keys.count_older()));
            }
        }
        SecretKeySource::FileUnderData(path) => {
            lines.comment(&format!(
                "key: in {}, made at the first start",
                path.display()
            ));
        }
    }
    show_limits(&mut lines, &config.limits);
    for tier in &config.tiers {
        show_tier(&mut lines, tier, &config.tiers);
    }
    if let Some(payments) = &config.payments {
        for network in &payments.networks {
            show_network(&mut lines, network);
        }
    }
    lines.0.join("\n") + "\n"
}

fn show_limits(lines: &mut Lines, limits: &Limits) {
    lines.section("limits");
    lines.number("free_per_day", limits.free_per_day);
    lines.number("free_before_noon_percent", limits.free_before_noon_percent);
    lines.number(
        "free_per_address_per_hour",
        limits.free_per_address_per_hour,
    );
    lines.number(
        "free_per_network_per_hour",
        limits.free_per_network_per_hour,
    );
    lines.number("free_refusals_per_upload", limits.free_refusals_per_upload);
    lines.number(
        "payments_per_address_per_minute",
        limits.payments_per_address_per_minute,
    );
    lines.text(
        "body_timeout",
        &humantime::format_duration(limits.body_timeout),
    );
    lines.size("body_bytes", limits.body_bytes);
}

fn mode_line(mode: Option<Mode>) -> String {
    match mode {
        None => "# no payments: paid tiers are off".to_owned(),
        Some(Mode::Sandbox) => "# sandbox: play money".to_owned(),
        Some(Mode::Test) => "# test: a network whose money is worth nothing".to_owned(),
        Some(Mode::Real) => "# real: money".to_owned(),
    }
}

fn database_url(url: &DatabaseUrl) -> String {
    match url {
        DatabaseUrl::Sqlite(path) => format!("sqlite:{}", path.display()),
        DatabaseUrl::Postgres(url) => hosts::redacted(url),
    }
}

fn show_s3(lines: &mut Lines, s3: &S3Store) {
    if let Some(endpoint) = &s3.endpoint {
        lines.text("s3_endpoint", endpoint);
    }
    lines.text("s3_region", &s3.region);
    let addressing = match s3.addressing {
        Addressing::Path => "path",
        Addressing::Virtual => "virtual",
    };
    lines.text("s3_addressing", addressing);
    match &s3.credentials {
        S3Credentials::Key(key) => {
            lines.text("s3_access_key_id", &key.id);
            lines.text("s3_secret_access_key", "[secret]");
        }
        S3Credentials::Cloud(variables) if variables.is_empty() => {
            lines.comment("keys of the store: from the cloud's metadata service");
        }
        S3Credentials::Cloud(_) => {
            lines.comment("keys of the store: from the cloud, as the AWS_ variables say");
        }
    }
    lines.text("s3_encryption", &s3.encryption);
    lines.0.push(format!("s3_checksum = {}", s3.checksum));
    lines.0.push(format!("s3_bulk_delete = {}", s3.bulk_delete));
    lines.text("s3_timeout", &humantime::format_duration(s3.timeout));
}

fn show_retention(lines: &mut Lines, retention: &Retention) {
    lines.section("retention");
    lines.text("schedule", &retention.schedule);
    lines.text("records", &Keep::For(retention.records));
    match &retention.clocks {
        Some(clocks) => {
            let names: Vec<&str> = clocks.iter().map(|kind| kind.as_str()).collect();
            lines.list("clocks", &names);
        }
        None => lines.comment("clocks: each that is not on this machine"),
    }
}

fn show_payments(lines: &mut Lines, payments: &PaymentsConfig, sandbox: Option<&SandboxConfig>) {
    if let Some(sandbox) = sandbox {
        lines.text("facilitator", "sandbox");
        show_sandbox(lines, sandbox);
    }
    let names: Vec<_> = payments
        .networks
        .iter()
        .map(|known| known.network.name())
        .collect();
    lines.list("networks", &names);
    match payments.pay_to {
        Some(address) => lines.text("pay_to", &address.to_checksum(None)),
        None => lines.comment("pay_to: made by the sandbox, and kept in its database"),
    }
    lines.comment("one pay_to belongs to one deployment: two can't tell their payments apart");
    lines.text("timeout", &humantime::format_duration(payments.timeout));
}

/// Whole, whatever came from `payments`: who settles, and where the chain is read.
fn show_network(lines: &mut Lines, known: &NetworkConfig) {
    let (facilitator, secret) = match &known.facilitator {
        FacilitatorChoice::Sandbox => return,
        FacilitatorChoice::Url { url, bearer } => {
            let secret = bearer.as_ref().map(|_| "with a token [secret]".to_owned());
            (("url", url), secret)
        }
        FacilitatorChoice::Coinbase { url, key } => {
            let secret = format!("signed with the API key {}, [secret]", key.id());
            (("coinbase", url), Some(secret))
        }
    };
    lines.0.extend([String::new(), "[[networks]]".to_owned()]);
    lines.text("id", known.network.name());
    lines.text("facilitator", facilitator.0);
    lines.text("facilitator_url", facilitator.1);
    if let Some(secret) = secret {
        lines.comment(&secret);
    }
    if let Some(url) = &known.rpc_url {
        lines.text("rpc_url", &hosts::redacted(url));
    }
}

fn show_sandbox(lines: &mut Lines, sandbox: &SandboxConfig) {
    if let Some(separate) = &sandbox.separate {
        lines.comment("the sandbox runs in a process of its own");
        lines.text("facilitator_url", &separate.facilitator_url);
        lines.text("rpc_url", &hosts::redacted(&separate.rpc_url));
    } else {
        lines.comment(&format!("the sandbox keeps {}", sandbox.database.display()));
        lines.text("sandbox_listen", &sandbox.listen);
        lines.text("sandbox_rpc_listen", &sandbox.rpc_listen);
    }
}

fn show_tier(lines: &mut Lines, tier: &Tier, tiers: &TierTable) {
    lines.0.extend([String::new(), "[[tiers]]".to_owned()]);
    lines.text("name", &tier.name);
    lines.text("price", &tier.price.to_decimal_usd());
    lines.size("max_bytes", tier.max_bytes);
    lines.text("keep", &tier.keep);
    lines
        .0
        .push(format!("confirmations = {}", tier.confirmations));
    if tiers.default_paid() == Some(tier) {
        lines.0.push("default = true".to_owned());
    }
}

pub(super) struct Lines(Vec<String>);

impl Lines {
    fn section(&mut self, name: &str) {
        self.0.extend([String::new(), format!("[{name}]")]);
    }

    pub(super) fn text(&mut self, key: &str, value: &(impl ToString + ?Sized)) {
        self.0
            .push(format!("{key} = {}", quoted(&value.to_string())));
    }

    pub(super) fn number(&mut self, key: &str, value: u64) {
        self.0.push(format!("{key} = {value}"));
    }

    /// Bytes that are no whole KiB go as a number: "1000 bytes" is for people only.
    fn size(&mut self, key: &str, bytes: u64) {
        if bytes != 0 && bytes.is_multiple_of(1024) {
            self.text(key, &SizeText(bytes));
        } else {
            self.number(key, bytes);
        }
    }

    fn list(&mut self, key: &str, values: &[impl ToString]) {
        let values: Vec<String> = values
            .iter()
            .map(|value| quoted(&value.to_string()))
            .collect();
        self.0.push(format!("{key} = [{}]", values.join(", ")));
    }

    fn comment(&mut self, text: &str) {
        self.0.push(format!("# {text}"));
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
