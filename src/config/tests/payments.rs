//! Facilitator, network, recipient, sandbox.

use super::*;

#[test]
fn a_test_network_makes_the_mode_test() {
    for name in ["base-sepolia", "eip155:84532"] {
        let config = config(of(&format!("{REAL}\nnetworks = ['{name}']")));
        assert_eq!(config.mode, Some(Mode::Test));
        let networks = config.payments.unwrap().networks;
        assert_eq!(networks.len(), 1);
        assert_eq!(networks[0].network, &networks::BASE_SEPOLIA);
        assert_eq!(
            networks[0].rpc_url.as_deref(),
            Some("https://sepolia.base.org")
        );
    }
}

#[test]
fn the_sandbox_needs_nothing_by_flag_or_by_key() {
    for examined in [sandboxed(""), of("payments.facilitator = 'sandbox'")] {
        assert_eq!(examined.warnings, []);
        let config = config(examined);
        assert_eq!(config.mode, Some(Mode::Sandbox));
        let payments = config.payments.unwrap();
        let known = NetworkConfig {
            network: &networks::BASE_SEPOLIA,
            facilitator: FacilitatorChoice::Sandbox,
            rpc_url: None,
        };
        assert_eq!((payments.networks, payments.pay_to), (vec![known], None));
        let sandbox = config.sandbox.unwrap();
        assert_eq!(sandbox.listen.to_string(), "127.0.0.1:4022");
        assert_eq!(sandbox.rpc_listen.to_string(), "127.0.0.1:4023");
        assert_eq!(sandbox.database, PathBuf::from("data/sandbox.db"));
        assert_eq!(sandbox.separate, None);
    }
}

#[test]
fn the_sandbox_takes_a_recipient_and_stays_beside_the_database() {
    let text = format!("database.url = 'sqlite:/srv/a.db'\npayments.pay_to = '{PAY_TO}'");
    let config = config(sandboxed(&text));
    assert!(config.payments.unwrap().pay_to.is_some());
    assert_eq!(
        config.sandbox.unwrap().database,
        PathBuf::from("/srv/sandbox.db")
    );
    let SecretKeySource::FileUnderData(path) = config.secrets_key else {
        panic!("a file")
    };
    assert_eq!(path, PathBuf::from("/srv/secrets.key"));
}

#[test]
fn the_sandbox_may_run_in_a_process_of_its_own() {
    let text = "
        [payments]
        facilitator = 'sandbox'
        facilitator_url = 'http://127.0.0.1:5022/'
        rpc_url = 'http://localhost:5023'
    ";
    let config = config(of(text));
    let separate = config.sandbox.unwrap().separate.unwrap();
    assert_eq!(separate.facilitator_url, "http://127.0.0.1:5022");
    assert_eq!(separate.rpc_url, "http://localhost:5023");
    assert_eq!(
        config.payments.unwrap().networks[0].rpc_url,
        Some(separate.rpc_url)
    );
}

#[test]
fn a_sandbox_of_its_own_has_both_addresses_on_loopback() {
    let with = |line: &str| sandboxed(&format!("[payments]\n{line}"));
    let examined = with("facilitator_url = 'http://127.0.0.1:1'");
    assert_refused(
        &examined,
        "payments.rpc_url",
        "is missing beside `payments.facilitator_url`",
    );
    let examined = with("rpc_url = 'http://127.0.0.1:1'");
    assert_refused(&examined, "payments.facilitator_url", "is missing beside");
    let both = "facilitator_url = 'https://x402.org/f'\nrpc_url = 'https://rpc.example.com/KEY'";
    let examined = with(both);
    assert_eq!(
        keys(&examined.problems),
        ["payments.facilitator_url", "payments.rpc_url"]
    );
    assert!(!Problems(examined.problems).to_string().contains("KEY"));
    let query = "facilitator_url = 'http://[::1]:1'\nrpc_url = 'https://rpc.example.com/?k=KEY'";
    let examined = with(query);
    assert_refused(&examined, "payments.rpc_url", "query");
    assert!(!examined.problems[0].message.contains("KEY"));
}

#[test]
fn play_money_never_stands_beside_a_real_network_or_another_facilitator() {
    for networks in ["['base']", "['eip155:8453']"] {
        let examined = sandboxed(&format!("payments.networks = {networks}"));
        assert_refused(
            &examined,
            "payments.networks",
            "`base`, and the sandbox imitates",
        );
    }
    assert_eq!(
        sandboxed("payments.networks = ['base-sepolia']").problems,
        []
    );
    let examined = examine_with(REAL, true, &[]);
    assert_refused(&examined, "payments.facilitator", "`url`, beside --sandbox");
}

#[test]
fn the_sandbox_listens_on_loopback_only() {
    let examined = sandboxed("payments.sandbox_listen = '0.0.0.0:4022'");
    assert_refused(&examined, "payments.sandbox_listen", "is not on loopback");
    let examined = sandboxed("payments.sandbox_rpc_listen = '10.0.0.1:4023'");
    assert_refused(
        &examined,
        "payments.sandbox_rpc_listen",
        "is not on loopback",
    );
    let config = config(sandboxed("payments.sandbox_listen = '[::1]:0'"));
    assert_eq!(config.sandbox.unwrap().listen.to_string(), "[::1]:0");
}

#[test]
fn what_has_a_price_needs_somebody_to_pay() {
    let without = REAL.replace("pay_to", "#");
    assert_refused(&of(&without), "payments.pay_to", "is missing");
    let free = format!("{without}\n[[tiers]]\nname = 'free'\nmax_bytes = 1\nkeep = '7d'");
    let config = config(of(&free));
    assert!(config.payments.is_none() && config.mode.is_none());
}

#[test]
fn a_recipient_with_a_wrong_checksum_is_refused() {
    let mistyped = REAL.replace("0x19E7", "0x19e7");
    assert_refused(&of(&mistyped), "payments.pay_to", "wrong checksum");
    let lower = REAL.replace(PAY_TO, &PAY_TO.to_ascii_lowercase());
    assert_eq!(
        config(of(&lower)).payments.unwrap().pay_to,
        Some(PAY_TO.parse().unwrap())
    );
}

#[test]
fn a_facilitator_is_known_and_has_an_address_over_tls() {
    assert_refused(
        &of("payments.facilitator = 'x'"),
        "payments.facilitator",
        "\"sandbox\"",
    );
    let examined = of(&REAL.replace("facilitator_url", "#"));
    assert_refused(&examined, "payments.facilitator_url", "is missing");
    let plain = REAL.replace("https://facilitator", "http://facilitator");
    assert_refused(&of(&plain), "payments.facilitator_url", "without TLS");
    let loopback = REAL.replace("https://facilitator.example.com", "http://127.0.0.1:9");
    assert_eq!(of(&loopback).problems, []);
}

#[test]
fn known_networks_of_one_kind_are_offered() {
    let with = |networks: &str| of(&format!("{REAL}\nnetworks = {networks}"));
    let key = "payments.networks";
    assert_refused(&with("['base', 'base-sepolia']"), key, "worth nothing");
    assert_refused(&with("'base, base-sepolia'"), key, "worth nothing");
    assert_refused(&with("['base', 'eip155:8453']"), key, "twice");
    assert_refused(&with("['solana']"), key, "`solana` is not a known network");
    assert_refused(&with("[]"), key, "names no network");
    assert_refused(&with("[1]"), key, "not a list of texts");
}

#[test]
fn an_rpc_endpoint_on_a_public_host_has_tls_and_its_key_is_never_said() {
    let with = |url: &str| of(&format!("{REAL}\nrpc_url = '{url}'"));
    for url in [
        "http://rpc.example.com/KEY",
        "wss://rpc.example.com/KEY",
        "KEY",
    ] {
        let examined = with(url);
        assert_refused(&examined, "payments.rpc_url", "");
        assert!(!Problems(examined.problems).to_string().contains("KEY"));
    }
    let config = config(with("https://rpc.example.com/v2/KEY"));
    let url = config.payments.as_ref().unwrap().networks[0]
        .rpc_url
        .as_deref();
    assert_eq!(url, Some("https://rpc.example.com/v2/KEY"));
    assert!(!format!("{config:?}{}", show(&config)).contains("KEY"));
    assert_eq!(with("http://geth:8545").problems, []);
}

#[test]
fn times_of_payments_have_bounds() {
    for (key, good, bad) in [
        ("timeout", ["100ms", "90s"], ["99ms", "91s"]),
        ("token_ttl", ["1s", "7d"], ["999ms", "604801s"]),
    ] {
        for text in good {
            assert_eq!(
                of(&format!("payments.{key} = '{text}'")).problems,
                [],
                "{text}"
            );
        }
        for text in bad {
            let examined = of(&format!("payments.{key} = '{text}'"));
            assert_refused(&examined, &format!("payments.{key}"), "out of bounds");
        }
    }
    assert_eq!(
        config(of("payments.token_ttl = '90s'")).token_ttl,
        Duration::from_secs(90)
    );
    assert_refused(
        &of("payments.timeout = 15"),
        "payments.timeout",
        "write it like 90s",
    );
}
