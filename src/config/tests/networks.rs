//! `payments.networks` and `[[networks]]`.

use super::*;

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

#[test]
fn a_test_network_makes_the_mode_test() {
    for name in ["base-sepolia", "eip155:84532"] {
        let config = config(of(&format!("{REAL}\nnetworks = ['{name}']")));
        assert_eq!(config.mode, Some(Mode::Test));
        let networks = config.payments.unwrap().networks;
        assert_eq!(networks.len(), 1);
        assert_eq!(networks[0].network, &known_networks::BASE_SEPOLIA);
        assert_eq!(
            networks[0].rpc_url.as_deref(),
            Some("https://sepolia.base.org")
        );
    }
}

#[test]
fn any_evm_network_is_offered_beside_another_each_with_its_own_node() {
    let text = format!(
        "{REAL}networks = ['eip155:910001', 'base']\nrpc_url = 'base=https://rpc.example.com/KEY'\n{OTHER}"
    );
    let config = config(of(&text));
    assert_eq!(config.mode, Some(Mode::Real));
    let networks = &config.payments.as_ref().unwrap().networks;
    let found: Vec<_> = networks
        .iter()
        .map(|known| (known.network.name(), known.rpc_url.as_deref().unwrap()))
        .collect();
    let expected = [
        ("eip155:910001", "https://rpc.other.example/KEY"),
        ("base", "https://rpc.example.com/KEY"),
    ];
    assert_eq!(found, expected);
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
    for (from, to, field, part) in [
        ("asset =", "# =", "asset", "is missing"),
        ("833589fCD6", "833589FCD6", "asset", "wrong checksum"),
        ("domain_name =", "# =", "domain_name", "is missing"),
        ("'USD Coin'", "''", "domain_name", "empty"),
        ("test = false", "", "test", "is missing"),
        ("test = false", "test = 'no'", "test", "not true or false"),
        (
            "test = false",
            "test = false\nv1_name = 'A B'",
            "v1_name",
            "is not a network name",
        ),
        (
            "test = false",
            "test = false\ncolour = 1",
            "colour",
            "unknown key",
        ),
        ("https://rpc", "http://rpc", "rpc_url", "without TLS"),
        (
            "rpc_url",
            "facilitator = 'sandbox'\n#",
            "facilitator",
            "single network",
        ),
    ] {
        let examined = with(from, to);
        let key = format!("networks.eip155:910001.{field}");
        let problem = examined.problems.iter().find(|problem| problem.key == key);
        assert_says(
            problem.unwrap_or_else(|| panic!("{to}: {:?}", examined.problems)),
            part,
        );
    }
    assert_refused(
        &with("rpc_url =", "# ="),
        "payments.rpc_url",
        "has none built in",
    );
    assert_eq!(with("test = false", "test = false").problems, []);
}

#[test]
fn tables_of_networks_that_make_no_sense_are_refused() {
    let only = REAL
        .replace("facilitator = 'url'", "")
        .replace("facilitator_url", "#");
    let examine = |text: &str| {
        let (before, after) = text.split_once("OTHER").unwrap_or((text, ""));
        let other = if text.contains("OTHER") { OTHER } else { "" };
        let real = if text.contains("f.example/own") {
            &only
        } else {
            REAL
        };
        of(&format!("{real}\n{before}{other}{after}"))
    };
    assert_all_refused(
        examine,
        "
        [[networks]]; id = 'base'; test = true                 | networks.base.test           | built in
        [[networks]]; id = 'base'; [[networks]]; id = 'eip155:8453' | networks.eip155:8453.id | second entry
        [[networks]]; id = 'base'; facilitator_url = 'https://f.example' | networks.base.facilitator | is missing
        [[networks]]; id = 'base'; facilitator = 'url'         | networks.base.facilitator_url | is missing
        networks = ['base', 'eip155:910001']; rpc_url = 'https://rpc.example.com/HIDDEN'; OTHER | payments.rpc_url | there are several
        networks = ['base', 'eip155:910001']; OTHER; facilitator = 'url'; facilitator_url = 'https://f.example/own' | payments.facilitator | names none for base
        ",
    );
    let solana = format!("{REAL}{}", OTHER.replace("eip155:910001", "solana"));
    assert_refused(&of(&solana), "networks.solana.id", "CAIP-2");
    let examined = of(&format!("{REAL}\n[[networks]]\nid = 'base-sepolia'"));
    assert_warned(&examined, "networks.base-sepolia", "not offered");
}

#[test]
fn more_networks_than_a_challenge_holds_are_refused() {
    let mut text = String::new();
    let ids: Vec<String> = (910_011..910_016)
        .map(|id| format!("eip155:{id}"))
        .collect();
    for id in &ids {
        text.push_str(&OTHER.replace("eip155:910001", id));
    }
    let examined = of(&format!("{REAL}networks = '{}'\n{text}", ids.join(",")));
    assert_refused(&examined, "payments.networks", "a challenge holds 4");
}
