//! Coinbase, several networks, and networks from configuration.

use super::*;

/// RFC 8032, section 7.1, test 1: a key that everybody knows, as Coinbase writes Ed25519 keys.
pub(super) const CDP_SECRET: &str =
    "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2DXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGg==";

const COINBASE: &str = "
    [http]
    base_url = 'https://example.com'
    [images]
    base_url = 'https://i.example.com/'
    [payments]
    facilitator = 'coinbase'
    pay_to = '0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A'
";

/// An EVM network that isn't built in. Its chain id is nobody else's in these tests.
const OTHER: &str = "
    [[networks]]
    id = 'eip155:910001'
    asset = '0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913'
    domain_name = 'USD Coin'
    domain_version = '2'
    test = false
    rpc_url = 'https://rpc.other.example/KEY'
";

fn networks_of(examined: Examined) -> Vec<NetworkConfig> {
    config(examined).payments.unwrap().networks
}

#[test]
fn coinbase_takes_its_key_from_either_name_and_hides_it() {
    let secret = ("CDP_API_KEY_SECRET", CDP_SECRET);
    let ours = [
        ("PIXTOLL_PAYMENTS__CDP_KEY_ID", "the-id"),
        ("PIXTOLL_PAYMENTS__CDP_KEY_SECRET", CDP_SECRET),
        // Ours win.
        ("CDP_API_KEY_ID", "another"),
    ];
    for env in [&[("CDP_API_KEY_ID", "the-id"), secret][..], &ours] {
        let config = config(examine_with(COINBASE, false, env));
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
}

#[test]
fn coinbase_without_a_whole_key_does_not_start() {
    assert_refused(&of(COINBASE), "payments.cdp_key_id", "CDP_API_KEY_ID");
    let with = |env| examine_with(COINBASE, false, env);
    let examined = with(&[("CDP_API_KEY_ID", "a")]);
    assert_refused(&examined, "payments.cdp_key_secret", "is missing");
    let examined = with(&[("CDP_API_KEY_SECRET", CDP_SECRET)]);
    assert_refused(&examined, "payments.cdp_key_id", "is missing");
    let env = [("CDP_API_KEY_ID", "a"), ("CDP_API_KEY_SECRET", "no-KEY")];
    let examined = with(&env);
    assert_refused(&examined, "payments.cdp_key_secret", "Ed25519");
    assert!(!Problems(examined.problems).to_string().contains("no-KEY"));
}

#[test]
fn a_facilitators_token_is_sent_to_no_other_and_never_shown() {
    let text = format!("{REAL}facilitator_token = 'TOKEN'");
    let config = config(of(&text));
    let url = "https://facilitator.example.com/x402".to_owned();
    let bearer = Some("TOKEN".to_owned());
    let networks = &config.payments.as_ref().unwrap().networks;
    assert_eq!(
        networks[0].facilitator,
        FacilitatorChoice::Url { url, bearer }
    );
    assert!(!format!("{config:?}{}", show(&config)).contains("TOKEN"));
    let own =
        "[[networks]]\nid = 'base'\nfacilitator = 'url'\nfacilitator_url = 'https://own.example'";
    let networks = networks_of(of(&format!("{text}\n{own}")));
    let url = "https://own.example".to_owned();
    assert_eq!(
        networks[0].facilitator,
        FacilitatorChoice::Url { url, bearer: None }
    );
    let broken = format!("{REAL}facilitator_token = 'TO KEN'");
    let examined = of(&broken);
    assert_refused(&examined, "payments.facilitator_token", "no header");
    assert!(!Problems(examined.problems).to_string().contains("KEN"));
}

#[test]
fn any_evm_network_is_offered_beside_another_each_with_its_own() {
    let text = format!(
        "{REAL}networks = ['eip155:910001', 'base']\nrpc_url = 'base=https://rpc.example.com/KEY'\n{OTHER}"
    );
    let config = config(of(&text));
    assert_eq!(config.mode, Some(Mode::Real));
    let networks = &config.payments.as_ref().unwrap().networks;
    let names: Vec<_> = networks.iter().map(|known| known.network.name()).collect();
    assert_eq!(names, ["eip155:910001", "base"]);
    assert_eq!(
        networks[0].rpc_url.as_deref(),
        Some("https://rpc.other.example/KEY")
    );
    assert_eq!(
        networks[1].rpc_url.as_deref(),
        Some("https://rpc.example.com/KEY")
    );
    let other = networks[0].network;
    assert_eq!((other.domain_name, other.domain_version), ("USD Coin", "2"));
    assert!(other.v1_name.is_none() && !other.is_test);
    assert!(!format!("{config:?}{}", show(&config)).contains("KEY"));
}

#[test]
fn a_network_of_its_own_is_whole_and_says_what_it_is() {
    let with = |from: &str, to: &str| {
        let networks = "networks = ['eip155:910001']";
        of(&format!("{REAL}{networks}\n{}", OTHER.replace(from, to)))
    };
    let key = |field: &str| format!("networks.eip155:910001.{field}");
    for (from, to, field, part) in [
        ("asset =", "# =", "asset", "is missing"),
        ("833589fCD6", "833589FCD6", "asset", "wrong checksum"),
        ("domain_name =", "# =", "domain_name", "is missing"),
        ("'USD Coin'", "''", "domain_name", "empty"),
        ("test = false", "", "test", "is missing"),
        (
            "test = false",
            "test = 'no'",
            "test",
            "neither true nor false",
        ),
        (
            "test = false",
            "test = false\nv1_name = 'A B'",
            "v1_name",
            "no name",
        ),
        (
            "test = false",
            "test = false\ncolour = 1",
            "colour",
            "unknown key",
        ),
        ("https://rpc", "http://rpc", "rpc_url", "without TLS"),
    ] {
        let examined = with(from, to);
        let problem = examined
            .problems
            .iter()
            .find(|problem| problem.key == key(field));
        assert_says(
            problem.unwrap_or_else(|| panic!("{to}: {:?}", examined.problems)),
            part,
        );
    }
    let missing = with("rpc_url =", "# =");
    assert_refused(&missing, "payments.rpc_url", "has none built in");
    assert_eq!(with("test = false", "test = false").problems, []);
}

#[test]
fn what_is_said_of_networks_makes_sense() {
    let known = "[[networks]]\nid = 'base'\ntest = true";
    let examined = of(&format!("{REAL}\n{known}"));
    assert_refused(&examined, "networks.base.test", "built in");
    let twice = "[[networks]]\nid = 'base'\n[[networks]]\nid = 'eip155:8453'";
    let examined = of(&format!("{REAL}\n{twice}"));
    assert_refused(&examined, "networks.eip155:8453.id", "second entry");
    let examined = of(&format!(
        "{REAL}\n[[networks]]\nid = 'solana'\n{}",
        &OTHER[OTHER.find("asset").unwrap()..]
    ));
    assert_refused(&examined, "networks.solana.id", "CAIP-2");
    let examined = of(&format!("{REAL}\n[[networks]]\nid = 'base-sepolia'"));
    assert_warned(&examined, "networks.base-sepolia", "not offered");
    let beside = "[[networks]]\nid = 'base'\nfacilitator_url = 'https://f.example'";
    let examined = of(&format!("{REAL}\n{beside}"));
    assert_refused(&examined, "networks.base.facilitator", "is missing");
    let without = "[[networks]]\nid = 'base'\nfacilitator = 'url'";
    let examined = of(&format!("{REAL}\n{without}"));
    assert_refused(&examined, "networks.base.facilitator_url", "is missing");
    let examined = sandboxed("[[networks]]\nid = 'base-sepolia'");
    assert_refused(&examined, "networks.base-sepolia", "beside the sandbox");
    let several = format!(
        "{REAL}networks = ['base', 'eip155:910001']\nrpc_url = 'https://rpc.example.com'\n{OTHER}"
    );
    assert_refused(&of(&several), "payments.rpc_url", "there are several");
    let only = REAL
        .replace("facilitator = 'url'", "")
        .replace("facilitator_url", "#");
    let examined = of(&format!(
        "{only}networks = ['base', 'eip155:910001']\n{OTHER}facilitator = 'url'\nfacilitator_url = 'https://f.example'"
    ));
    assert_refused(&examined, "payments.facilitator", "names none for base");
    let examined = of_env(&[("PIXTOLL_NETWORKS__BASE", "x")]);
    assert_refused(&examined, "networks", "[[networks]]");
}
