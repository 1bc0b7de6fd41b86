//! Facilitator, recipient, sandbox.

use super::*;

/// RFC 8032, section 7.1, test 1: a key that everybody knows, as Coinbase writes Ed25519 keys.
pub(super) const CDP_SECRET: &str =
    "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2DXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGg==";

fn real(more: &str) -> Examined {
    of(&format!("{REAL}\n{more}"))
}

#[test]
fn a_recipient_and_a_facilitator_take_real_money_on_base() {
    let examined = of(REAL);
    assert_eq!(examined.warnings, []);
    let config = config(examined);
    assert_eq!(config.mode, Some(Mode::Real));
    assert_eq!(config.http.base_url, "https://example.com");
    assert_eq!(config.images.base_url, "https://i.example.com");
    assert!(config.sandbox.is_none());
    let payments = config.payments.unwrap();
    let url = "https://facilitator.example.com/x402".to_owned();
    let base = NetworkConfig {
        network: &known_networks::BASE,
        facilitator: FacilitatorChoice::Url { url, bearer: None },
        rpc_url: Some("https://mainnet.base.org".to_owned()),
        second_rpc_url: None,
    };
    assert_eq!(payments.networks, [base]);
    assert_eq!(payments.pay_to.unwrap().to_checksum(None), PAY_TO);
    assert_eq!(payments.timeout, Duration::from_secs(15));
}

#[test]
fn payments_that_could_not_be_taken_are_refused() {
    assert_all_refused(
        real,
        "
        networks = ['base', 'base-sepolia']            | payments.networks | worth nothing
        networks = 'base, base-sepolia'                | payments.networks | worth nothing
        networks = ['base', 'eip155:8453']             | payments.networks | twice
        networks = ['solana']                          | payments.networks | `solana` is not a known network
        networks = []                                  | payments.networks | names no network
        networks = [1.5]                               | payments.networks | not a list of texts
        rpc_url = 'http://rpc.example.com/HIDDEN'      | payments.rpc_url  | without TLS
        rpc_url = 'wss://rpc.example.com/HIDDEN'       | payments.rpc_url  | not an http
        rpc_url = 'HIDDEN'                             | payments.rpc_url  | not an http
        rpc_url = 'base=https://a,HIDDEN'              | payments.rpc_url  | name of a known network
        second_rpc_url = 'wss://rpc.example.com/HIDDEN' | payments.second_rpc_url | not an http
        second_rpc_url = 'https://mainnet.base.org'    | payments.second_rpc_url | is the same
        facilitator_token = 'HID DEN'                  | payments.facilitator_token | no header
        cdp_key_id = 'a'                               | payments.cdp_key_secret | is missing
        cdp_key_secret = 'HIDDEN'                      | payments.cdp_key_id | is missing
        ",
    );
    let change = |change: &str| {
        let (from, to) = change.split_once(" => ").unwrap();
        of(&REAL.replace(from, to))
    };
    assert_all_refused(
        change,
        "
        pay_to => #                             | payments.pay_to          | is missing
        facilitator_url => #                    | payments.facilitator_url | is missing
        https://facilitator => http://facilitator | payments.facilitator_url | without TLS
        'url' => 'x'                            | payments.facilitator     | \"sandbox\"
        ",
    );
    let loopback = REAL.replace("https://facilitator.example.com", "http://127.0.0.1:9");
    assert_eq!(of(&loopback).problems, []);
    let free = format!(
        "{}[[tiers]]\nname = 'free'\nmax_bytes = 1\nkeep = '7d'",
        REAL.replace("pay_to", "#")
    );
    let config = config(of(&free));
    assert!(config.payments.is_none() && config.mode.is_none());
}

#[test]
fn a_recipient_in_lower_case_has_no_checksum() {
    let lower = REAL.replace(PAY_TO, &PAY_TO.to_ascii_lowercase());
    assert_eq!(
        config(of(&lower)).payments.unwrap().pay_to,
        Some(PAY_TO.parse().unwrap())
    );
}

#[test]
fn the_sandbox_needs_nothing_by_flag_or_by_key() {
    for examined in [sandboxed(""), of("payments.facilitator = 'sandbox'")] {
        assert_eq!(examined.warnings, []);
        let config = config(examined);
        assert_eq!(config.mode, Some(Mode::Sandbox));
        let payments = config.payments.unwrap();
        let known = NetworkConfig {
            network: &known_networks::BASE_SEPOLIA,
            facilitator: FacilitatorChoice::Sandbox,
            rpc_url: None,
            second_rpc_url: None,
        };
        assert_eq!((payments.networks, payments.pay_to), (vec![known], None));
        let sandbox = config.sandbox.unwrap();
        assert_eq!(sandbox.listen.to_string(), "127.0.0.1:4022");
        assert_eq!(sandbox.rpc_listen.to_string(), "127.0.0.1:4023");
        assert_eq!(sandbox.database, PathBuf::from("data/sandbox.db"));
        assert_eq!(sandbox.separate, None);
    }
    let ipv6 = config(sandboxed("payments.sandbox_listen = '[::1]:0'"));
    assert_eq!(ipv6.sandbox.unwrap().listen.to_string(), "[::1]:0");
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
fn the_sandbox_stays_on_loopback_and_away_from_real_networks() {
    let here = "payments.facilitator_url = 'http://[::1]:1'";
    assert_all_refused(
        |text| sandboxed(&text.replace("HERE", here)),
        "
        payments.sandbox_listen = '0.0.0.0:4022'          | payments.sandbox_listen     | is not on loopback
        payments.sandbox_rpc_listen = '10.0.0.1:4023'     | payments.sandbox_rpc_listen | is not on loopback
        payments.sandbox_rpc_listen = '127.0.0.1:4022'    | payments.sandbox_rpc_listen | `payments.sandbox_listen`
        payments.networks = ['base']                      | payments.networks | `base`, but the sandbox imitates
        payments.networks = ['eip155:8453']               | payments.networks | `base`, but the sandbox imitates
        HERE                                              | payments.rpc_url  | is missing beside `payments.facilitator_url`
        payments.rpc_url = 'http://127.0.0.1:1'           | payments.facilitator_url | is missing beside
        HERE; payments.rpc_url = 'https://rpc.example.com/?k=HIDDEN' | payments.rpc_url | loopback
        HERE; payments.rpc_url = 'http://127.0.0.1/?k=HIDDEN'        | payments.rpc_url | plain
        HERE; payments.rpc_url = 'base=http://127.0.0.1/HIDDEN'      | payments.rpc_url | loopback
        payments.facilitator = 'url'                      | payments.facilitator | beside --sandbox
        [[networks]]; id = 'base-sepolia'                 | networks.base-sepolia | beside the sandbox
        ",
    );
    assert_eq!(
        sandboxed("payments.networks = ['base-sepolia']").problems,
        []
    );
    let both = "[payments]\nfacilitator_url = 'https://x402.org/f'\nrpc_url = 'https://rpc.example.com/HIDDEN'";
    let examined = sandboxed(both);
    assert_eq!(
        keys(&examined.problems),
        ["payments.facilitator_url", "payments.rpc_url"]
    );
    assert!(!Problems(examined.problems).to_string().contains("HIDDEN"));
}

#[test]
fn coinbase_takes_its_key_from_either_name_and_hides_it() {
    let coinbase = REAL
        .replace("'url'", "'coinbase'")
        .replace("facilitator_url", "#");
    let secret = ("CDP_API_KEY_SECRET", CDP_SECRET);
    let ours = [
        ("PIXTOLL_PAYMENTS__CDP_KEY_ID", "the-id"),
        ("PIXTOLL_PAYMENTS__CDP_KEY_SECRET", CDP_SECRET),
        // Ours win.
        ("CDP_API_KEY_ID", "another"),
    ];
    for env in [&[("CDP_API_KEY_ID", "the-id"), secret][..], &ours] {
        let config = config(examine_with(&coinbase, false, env));
        assert_eq!(config.mode, Some(Mode::Real));
        let networks = &config.payments.as_ref().unwrap().networks;
        let FacilitatorChoice::Coinbase { url, key } = &networks[0].facilitator else {
            panic!("{networks:?}")
        };
        assert_eq!(url, "https://api.cdp.coinbase.com/platform/v2/x402");
        assert_eq!(key.id(), "the-id");
        let shown = format!("{config:?}{}", show(&config));
        assert!(shown.contains("the-id") && !shown.contains(&CDP_SECRET[..8]));
    }
    assert_refused(&of(&coinbase), "payments.cdp_key_id", "CDP_API_KEY_ID");
    let env = [("CDP_API_KEY_ID", "a"), ("CDP_API_KEY_SECRET", "HIDDEN")];
    let examined = examine_with(&coinbase, false, &env);
    assert_refused(&examined, "payments.cdp_key_secret", "Ed25519");
    assert!(!Problems(examined.problems).to_string().contains("HIDDEN"));
}

#[test]
fn a_facilitators_token_is_sent_to_no_other_and_never_shown() {
    let text = format!("{REAL}facilitator_token = 'TOKEN'");
    let own =
        "[[networks]]\nid = 'base'\nfacilitator = 'url'\nfacilitator_url = 'https://own.example'";
    for (text, url, bearer) in [
        (
            text.clone(),
            "https://facilitator.example.com/x402",
            Some("TOKEN".to_owned()),
        ),
        (format!("{text}\n{own}"), "https://own.example", None),
    ] {
        let config = config(of(&text));
        let url = url.to_owned();
        let networks = &config.payments.as_ref().unwrap().networks;
        assert_eq!(
            networks[0].facilitator,
            FacilitatorChoice::Url { url, bearer }
        );
        assert!(!format!("{config:?}{}", show(&config)).contains("TOKEN"));
    }
}

#[test]
fn the_key_in_a_rpc_url_is_never_shown() {
    let config = config(real("rpc_url = 'https://rpc.example.com/v2/HIDDEN'"));
    let url = config.payments.as_ref().unwrap().networks[0]
        .rpc_url
        .as_deref();
    assert_eq!(url, Some("https://rpc.example.com/v2/HIDDEN"));
    assert!(!format!("{config:?}{}", show(&config)).contains("HIDDEN"));
    assert_eq!(real("rpc_url = 'http://geth:8545'").problems, []);
}
