//! Each default, each refusal and each warning. No test reads the process's environment or the
//! working directory.

mod payments;
mod rails;
mod store;
mod tiers;

use super::*;
use crate::networks;
use crate::retention::independent::ClockKind;
use crate::retention::schedule::Schedule;

const PAY_TO: &str = "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A";
const KEY: &str = "abababababababababababababababababababababababababababababababab";

/// A configuration that takes money.
const REAL: &str = "
    [http]
    base_url = 'https://example.com'
    [images]
    base_url = 'https://i.example.com/'
    [payments]
    facilitator = 'url'
    facilitator_url = 'https://facilitator.example.com/x402/'
    pay_to = '0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A'
";

fn examine_with(text: &str, sandbox: bool, env: &[(&str, &str)]) -> Examined {
    let env = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let sources = Sources {
        file: None,
        sandbox,
        env,
    };
    examine_text(text, &sources, Report::default())
}

fn of(text: &str) -> Examined {
    examine_with(text, false, &[])
}

fn of_env(env: &[(&str, &str)]) -> Examined {
    examine_with("", false, env)
}

fn sandboxed(text: &str) -> Examined {
    examine_with(text, true, &[])
}

fn config(examined: Examined) -> Config {
    assert_eq!(examined.problems, []);
    examined.config.unwrap()
}

fn keys(problems: &[Problem]) -> Vec<&str> {
    problems
        .iter()
        .map(|problem| problem.key.as_str())
        .collect()
}

/// Asserts that there is exactly this one problem, about `key` and saying `part`.
#[track_caller]
fn assert_refused(examined: &Examined, key: &str, part: &str) {
    assert_eq!(keys(&examined.problems), [key], "{:?}", examined.problems);
    assert_says(&examined.problems[0], part);
    assert!(examined.config.is_none());
}

/// Asserts that nothing is refused, and that `key` has a warning saying `part`.
#[track_caller]
fn assert_warned(examined: &Examined, key: &str, part: &str) {
    assert_eq!(examined.problems, []);
    let warning = examined.warnings.iter().find(|warning| warning.key == key);
    assert_says(
        warning.unwrap_or_else(|| panic!("{:?}", examined.warnings)),
        part,
    );
}

#[track_caller]
fn assert_says(problem: &Problem, part: &str) {
    assert!(
        problem.message.contains(part) || problem.mend.contains(part),
        "{problem:?}"
    );
    assert!(!problem.mend.is_empty(), "{problem:?}");
}

#[track_caller]
fn assert_not_warned(examined: &Examined, key: &str) {
    assert!(
        !keys(&examined.warnings).contains(&key),
        "{:?}",
        examined.warnings
    );
}

#[test]
fn nothing_set_gives_the_defaults_with_paid_tiers_off() {
    let examined = of("");
    assert_eq!(keys(&examined.warnings), ["payments.facilitator"]);
    assert_warned(
        &examined,
        "payments.facilitator",
        "paid tiers are off (year, permanent)",
    );
    let config = config(examined);
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:4020");
    assert_eq!(config.http.admin_listen.to_string(), "127.0.0.1:4021");
    assert_eq!(config.http.base_url, "http://127.0.0.1:4020");
    assert_eq!(
        config.database,
        DatabaseUrl::Sqlite("data/pixtoll.db".into())
    );
    assert_eq!(
        config.images.store,
        StorePlace::Directory("data/images".into())
    );
    assert_eq!(config.images.base_url, "http://127.0.0.1:4020/i");
    assert!(config.payments.is_none() && config.sandbox.is_none() && config.mode.is_none());
    assert_eq!(config.token_ttl, Duration::from_mins(10));
    assert_eq!(config.tiers, TierTable::default());
    let SecretKeySource::FileUnderData(path) = config.secrets_key else {
        panic!("a file")
    };
    assert_eq!(path, PathBuf::from("data/secrets.key"));
}

#[test]
fn what_expires_is_deleted_every_minute_and_its_row_a_year_later() {
    let defaults = config(of("")).retention;
    assert_eq!(defaults.schedule.to_string(), "* * * * *");
    assert_eq!(defaults.records, Duration::from_hours(365 * 24));
    let set = of("retention = { schedule = 'off', records = '30d' }");
    let set = config(set).retention;
    assert_eq!(set.schedule, Schedule::Off);
    assert_eq!(set.records, Duration::from_hours(30 * 24));
    assert_refused(
        &of("retention.schedule = 'hourly'"),
        "retention.schedule",
        "no cron expression",
    );
    assert_refused(
        &of("retention.records = '1h'"),
        "retention.records",
        "out of bounds",
    );
}

#[test]
fn clocks_that_are_named_are_known_ones_or_none() {
    let clocks = |text: &str| config(of(text)).retention.clocks;
    assert_eq!(clocks(""), None);
    assert_eq!(clocks("retention.clocks = []"), Some(Vec::new()));
    assert_eq!(clocks("retention.clocks = ['none']"), Some(Vec::new()));
    assert_eq!(clocks("retention.clocks = 'none'"), Some(Vec::new()));
    let named = "retention.clocks = 'chain, facilitator, database, store'";
    assert_eq!(clocks(named), Some(ClockKind::ALL.to_vec()));
    for wrong in ["['chain', 'none']", "['sundial']", "'Chain'"] {
        let examined = of(&format!("retention.clocks = {wrong}"));
        assert_refused(&examined, "retention.clocks", "is no clock");
    }
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
        network: &networks::BASE,
        facilitator: FacilitatorChoice::Url { url, bearer: None },
        rpc_url: Some("https://mainnet.base.org".to_owned()),
    };
    assert_eq!(payments.networks, [base]);
    assert_eq!(payments.pay_to.unwrap().to_checksum(None), PAY_TO);
    assert_eq!(payments.timeout, Duration::from_secs(15));
}

#[test]
fn listeners_are_addresses_and_stand_apart() {
    assert_refused(
        &of("http.listen = 'localhost:4020'"),
        "http.listen",
        "not an IP address",
    );
    assert_refused(
        &of("http.listen = 4020"),
        "http.listen",
        "not an IP address",
    );
    let examined = of("http.admin_listen = '127.0.0.1:4020'");
    assert_refused(
        &examined,
        "http.admin_listen",
        "the address of `http.listen`",
    );
    let examined = of("http.listen = '0.0.0.0:4021'");
    assert_refused(
        &examined,
        "http.admin_listen",
        "the address of `http.listen`",
    );
    let examined = sandboxed("payments.sandbox_rpc_listen = '127.0.0.1:4022'");
    assert_refused(
        &examined,
        "payments.sandbox_rpc_listen",
        "`payments.sandbox_listen`",
    );
    let ports = "http.listen = '127.0.0.1:0'\nhttp.admin_listen = '127.0.0.1:0'";
    assert_eq!(of(ports).problems, []);
}

#[test]
fn an_admin_listener_off_loopback_is_warned_of() {
    let examined = of("http.admin_listen = '0.0.0.0:4021'");
    assert_warned(&examined, "http.admin_listen", "not on loopback");
    assert_not_warned(&of("http.admin_listen = '[::1]:9'"), "http.admin_listen");
}

#[test]
fn a_listener_that_the_default_base_url_does_not_name_is_warned_of() {
    for listen in ["0.0.0.0:4020", "127.0.0.1:5000"] {
        let examined = of(&format!("http.listen = '{listen}'"));
        assert_warned(&examined, "http.base_url", "is not set");
    }
    assert_not_warned(&of("http.listen = '127.0.0.1:4020'"), "http.base_url");
    let both = "http.listen = '0.0.0.0:5000'\nhttp.base_url = 'http://nas.local:5000'";
    assert_not_warned(&of(both), "http.base_url");
}

#[test]
fn a_public_address_without_tls_is_warned_of() {
    let plain = REAL
        .replace("https://", "http://")
        .replace("http://facil", "https://facil");
    let examined = of(&plain);
    assert_eq!(
        keys(&examined.warnings),
        ["http.base_url", "images.base_url"]
    );
    assert_warned(&examined, "http.base_url", "without TLS");
    assert_not_warned(&of("http.base_url = 'http://192.168.1.2'"), "http.base_url");
}

#[test]
fn a_base_url_is_an_origin() {
    for url in [
        "https://example.com/prefix",
        "https://u:p@example.com",
        "example.com",
    ] {
        let examined = of(&format!("http.base_url = '{url}'"));
        assert_refused(&examined, "http.base_url", "");
        assert!(!examined.problems[0].message.contains("u:p"));
    }
    assert_refused(
        &of("images.base_url = 'https://a/?b'"),
        "images.base_url",
        "query",
    );
}

#[test]
fn images_on_the_origin_of_a_public_api_are_refused() {
    let api = "http.base_url = 'https://example.com'";
    assert_refused(&of(api), "images.base_url", "has the origin of the API");
    for same in ["https://example.com:443/images", "https://EXAMPLE.com"] {
        let examined = of(&format!("{api}\nimages.base_url = '{same}'"));
        assert_refused(&examined, "images.base_url", "has the origin of the API");
    }
    let port = format!("{api}\nimages.base_url = 'https://example.com:8443'");
    assert_eq!(of(&port).problems, []);
    let config = config(of("http.base_url = 'http://nas.local:80'"));
    assert_eq!(config.images.base_url, "http://nas.local/i");
}

#[test]
fn each_trusted_proxy_is_a_range_of_addresses() {
    let config = config(of(
        "http.trusted_proxies = ['10.1.2.3/8', '192.0.2.7', 'fd00::/8']",
    ));
    let ranges = config.http.trusted_proxies.iter().map(ToString::to_string);
    let ranges: Vec<String> = ranges.collect();
    assert_eq!(ranges, ["10.0.0.0/8", "192.0.2.7/32", "fd00::/8"]);
    assert!(show(&config).contains("trusted_proxies = [\"10.0.0.0/8\", \"192.0.2.7/32\", "));
    let key = "http.trusted_proxies";
    assert_refused(
        &of_env(&[("PIXTOLL_HTTP__TRUSTED_PROXIES", "10.0.0.0/8,lan")]),
        key,
        "`lan`",
    );
    assert_refused(
        &of("http.trusted_proxies = '0.0.0.0/0'"),
        key,
        "trusts everybody",
    );
}

#[test]
fn limits_are_counts_and_zero_means_none() {
    assert_eq!(config(of("")).limits, Limits::default());
    let set = config(of("[limits]\nfree_per_day = 0\nbody_timeout = '90s'"));
    assert_eq!(set.limits.free_per_day, 0);
    assert_eq!(set.limits.body_timeout, Duration::from_secs(90));
    for key in [
        "limits.free_per_day",
        "limits.free_per_address_per_hour",
        "limits.free_per_network_per_hour",
        "limits.payments_per_address_per_minute",
    ] {
        assert_refused(&of(&format!("{key} = -1")), key, "0 means no limit");
    }
    assert_refused(
        &of("limits.body_timeout = '2h'"),
        "limits.body_timeout",
        "1h",
    );
}

#[test]
fn all_counts_may_change_while_a_server_runs() {
    let other = Limits {
        free_per_day: 1,
        free_before_noon_percent: 2,
        free_per_address_per_hour: 3,
        free_per_network_per_hour: 4,
        free_refusals_per_upload: 5,
        payments_per_address_per_minute: 6,
        body_timeout: Duration::from_secs(7),
        body_bytes: 8,
    };
    let default = Limits::default();
    let expected = Limits {
        body_timeout: default.body_timeout,
        body_bytes: default.body_bytes,
        ..other
    };
    assert_eq!(default.with_counts_of(other), expected);
}

#[test]
fn a_network_has_four_times_the_free_uploads_of_an_address_unless_it_is_set() {
    for (text, address, network) in [
        ("", 50, 200),
        ("free_per_address_per_hour = 7", 7, 28),
        ("free_per_address_per_hour = 0", 0, 0),
        ("free_per_network_per_hour = 9", 50, 9),
        (
            "free_per_address_per_hour = 7\nfree_per_network_per_hour = 0",
            7,
            0,
        ),
    ] {
        let limits = config(of(&format!("[limits]\n{text}"))).limits;
        let found = (
            limits.free_per_address_per_hour,
            limits.free_per_network_per_hour,
        );
        assert_eq!(found, (address, network), "{text}");
    }
}

#[test]
fn the_share_before_noon_and_the_cost_of_a_refused_file_have_bounds() {
    let set = config(of(
        "[limits]\nfree_before_noon_percent = 100\nfree_refusals_per_upload = 1",
    ));
    assert_eq!(set.limits.free_before_noon_percent, 100);
    assert_eq!(set.limits.free_refusals_per_upload, 1);
    for (key, most) in [
        ("limits.free_before_noon_percent", 100),
        ("limits.free_refusals_per_upload", 1000),
    ] {
        for value in ["0".to_owned(), (most + 1).to_string(), "-1".to_owned()] {
            let range = format!("from 1 to {most}");
            assert_refused(&of(&format!("{key} = {value}")), key, &range);
        }
    }
}

#[test]
fn the_memory_for_bodies_holds_the_longest_one() {
    let set = config(of("limits.body_bytes = '64 MiB'"));
    assert_eq!(set.limits.body_bytes, 64 << 20);
    let key = "limits.body_bytes";
    assert_refused(&of("limits.body_bytes = '5 MiB'"), key, "one upload");
    // A quarter of it has to hold a copy of the largest image.
    assert_refused(&of("limits.body_bytes = '20 MiB'"), key, "cleaned copy");
    config(of("limits.body_bytes = '21 MiB'"));
    // Larger tiers have more without a setting.
    let tier = "[[tiers]]\nname = 'huge'\nprice = '1'\nkeep = '7d'\ndefault = true\n";
    let huge = config(of(&format!("{tier}max_bytes = '64 MiB'")));
    assert!(huge.limits.body_bytes > 4 * (64 << 20));
}

#[test]
fn the_free_space_that_must_stay_is_a_size() {
    assert_eq!(config(of("")).images.min_free, 1 << 30);
    assert_eq!(
        config(of("images.min_free = '50 MB'")).images.min_free,
        50_000_000
    );
    assert_eq!(config(of("images.min_free = 0")).images.min_free, 0);
    assert_refused(
        &of("images.min_free = '10%'"),
        "images.min_free",
        "not a size",
    );
}

#[test]
fn postgres_needs_a_secret_key_and_shows_no_password() {
    let database = "database.url = 'postgres://pixtoll:hunter2@db/pixtoll'";
    assert_refused(&of(database), "secrets.key", "every replica needs the same");
    let config = config(sandboxed(&format!("{database}\nsecrets.key = '{KEY}'")));
    assert_eq!(
        config.sandbox.as_ref().unwrap().database,
        PathBuf::from("data/sandbox.db")
    );
    let said = format!("{config:?}{}", show(&config));
    assert!(
        !said.contains("hunter2") && !said.contains("abab"),
        "{said}"
    );
    assert!(
        said.contains("[secret]") && said.contains("postgres://db/[hidden]"),
        "{said}"
    );
    let examined = of("database.url = 'postgress://u:hunter2@db'");
    assert_refused(&examined, "database.url", "neither");
    assert!(!examined.problems[0].message.contains("hunter2"));
}

#[test]
fn a_secret_key_comes_from_the_file_the_environment_or_a_file_of_its_own() {
    let given = |examined| match config(examined).secrets_key {
        SecretKeySource::Given(keys) => keys.current().fingerprint(),
        SecretKeySource::FileUnderData(path) => panic!("{}", path.display()),
    };
    let expected = crate::secrets::SecretKey::from_bytes([0xab; 32]).fingerprint();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    std::fs::write(&path, format!("{KEY}\n")).unwrap();
    let path = path.to_str().unwrap();
    assert_eq!(given(of(&format!("secrets.key = '{KEY}'"))), expected);
    assert_eq!(given(of_env(&[("PIXTOLL_SECRETS__KEY", KEY)])), expected);
    assert_eq!(given(of(&format!("secrets.key_file = '{path}'"))), expected);
    assert_eq!(
        given(of_env(&[("PIXTOLL_SECRETS__KEY_FILE", path)])),
        expected
    );

    let file = format!("secrets.key = '{KEY}'");
    let both = examine_with(&file, false, &[("PIXTOLL_SECRETS__KEY_FILE", path)]);
    assert_refused(&both, "secrets.key_file", "is set beside `secrets.key`");
    let missing = of("database.url = 'postgres://db'\nsecrets.key_file = '/nowhere/key'");
    assert_refused(&missing, "secrets.key_file", "can't be read");
    std::fs::write(path, "hunter2").unwrap();
    let bad = of_env(&[("PIXTOLL_SECRETS__KEY_FILE", path)]);
    assert_refused(&bad, "secrets.key", "(from PIXTOLL_SECRETS__KEY_FILE)");
    assert!(!bad.problems[0].message.contains("hunter2"));
}

#[test]
fn a_coinbase_secret_given_twice_is_refused() {
    let examined = of(&format!(
        "[payments]\ncdp_key_id = 'a'\ncdp_key_secret = '{}'\ncdp_key_secret_file = 'b'",
        rails::CDP_SECRET
    ));
    assert_refused(&examined, "payments.cdp_key_secret_file", "is set beside");
}

#[test]
fn the_environment_overrides_the_file_and_empty_means_unset() {
    let file = "http.base_url = 'http://nas.local'\nhttp.listen = '127.0.0.1:1'";
    let env = [
        ("PIXTOLL_HTTP__LISTEN", " 127.0.0.1:2 "),
        ("PIXTOLL_HTTP__BASE_URL", ""),
    ];
    let config = config(examine_with(file, false, &env));
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:2");
    assert_eq!(config.http.base_url, "http://nas.local");
    assert_eq!(of("payments.pay_to = ''\nhttp.listen = ''").problems, []);
}

#[test]
fn lists_in_the_environment_are_split_at_commas() {
    let env = [("PIXTOLL_PAYMENTS__NETWORKS", "base-sepolia,")];
    let config = config(examine_with(REAL, false, &env));
    assert_eq!(config.mode, Some(Mode::Test));
    let env = [("PIXTOLL_PAYMENTS__NETWORKS", "base, base-sepolia")];
    let examined = examine_with(REAL, false, &env);
    assert_refused(
        &examined,
        "payments.networks",
        "(from PIXTOLL_PAYMENTS__NETWORKS)",
    );
}

#[test]
fn unknown_variables_of_ours_are_warned_of_with_the_nearest() {
    let examined = of_env(&[
        ("PIXTOLL_HTTP__LISTN", "x"),
        ("HTTP__LISTEN", "x"),
        ("HOME", "x"),
    ]);
    assert_warned(
        &examined,
        "PIXTOLL_HTTP__LISTN",
        "did you mean PIXTOLL_HTTP__LISTEN?",
    );
    assert_eq!(
        examined.warnings.len(),
        2,
        "the variable and the facilitator"
    );
    for name in [
        "PIXTOLL_WEATHER",
        "PIXTOLL_http__listen",
        "PIXTOLL_HTTP_LISTEN",
    ] {
        assert_warned(&of_env(&[(name, "x")]), name, "sets nothing");
    }
}

#[test]
fn tiers_are_for_the_file_only() {
    for name in ["PIXTOLL_TIERS", "PIXTOLL_TIERS__YEAR__PRICE"] {
        assert_refused(
            &of_env(&[(name, "0.02")]),
            "tiers",
            "can't be set by the environment",
        );
    }
}

#[test]
fn unknown_keys_are_refused_with_the_nearest() {
    let examined = of("[http]\nlisten_adress = 'x'\n[htpp]\nlisten = 'x'\n[weather]\nrain = 1");
    assert_eq!(
        keys(&examined.problems),
        ["htpp.listen", "http.listen_adress", "weather.rain"]
    );
    assert_says(&examined.problems[0], "did you mean `listen` under [http]?");
    assert_says(&examined.problems[2], "remove it");
    assert_refused(
        &of("pay_to = 'x'"),
        "pay_to",
        "did you mean `pay_to` under [payments]?",
    );
    assert_refused(&of("http = 'x'"), "http", "unknown key");
}

#[test]
fn images_are_cleaned_unless_the_operator_says_no() {
    assert!(config(of("")).images.clean);
    for no in ["images.clean = false", "images.clean = 'false'"] {
        let config = config(of(no));
        assert!(!config.images.clean, "{no}");
        assert!(show(&config).contains("\nclean = false\n"));
    }
    for (value, clean) in [("false", false), ("true", true)] {
        let examined = of_env(&[("PIXTOLL_IMAGES__CLEAN", value)]);
        assert_eq!(config(examined).images.clean, clean);
    }
    for odd in ["'no'", "0", "'True'"] {
        let examined = of(&format!("images.clean = {odd}"));
        assert_refused(&examined, "images.clean", "is neither true nor false");
    }
    assert_refused(&of("images.clean = [true]"), "images.clean", "is not");
}

#[test]
fn the_memory_for_images_has_a_size_or_is_none() {
    for (value, bytes) in [("'0'", 0), ("'4 MiB'", 4 << 20), ("'1 GiB'", 1 << 30)] {
        let examined = of(&format!("images.cache_bytes = {value}"));
        assert_eq!(config(examined).images.cache_bytes, bytes);
    }
    assert_eq!(config(of("")).images.cache_bytes, 256 << 20);
    let small = of("images.cache_bytes = '3 MiB'");
    assert_refused(&small, "images.cache_bytes", "hardly an image");
}

#[test]
fn what_is_not_built_yet_is_accepted_with_a_warning() {
    let examined = of("
        [http]
        trusted_proxies = ['10.0.0.0/8']
        [images]
        cache_bytes = '256 MiB'
        min_free = 1073741824
        [limits]
        free_per_day = 1000
        free_per_address_per_hour = 50
        payments_per_address_per_minute = 120
        [operator]
        name = 'x'
    ");
    assert_eq!(examined.warnings.len(), 1 + 1, "operator, facilitator");
    assert_warned(&examined, "operator", "not built yet");
    let examined = of_env(&[("PIXTOLL_OPERATOR__NAME", "x")]);
    assert_warned(&examined, "operator.name", "not built yet");
}

#[test]
fn values_of_the_wrong_kind_are_refused() {
    assert_refused(
        &of("http.listen = true"),
        "http.listen",
        "write it in quotes",
    );
    assert_refused(
        &of("http.listen = ['a']"),
        "http.listen",
        "write it in quotes",
    );
    assert_refused(&of("tiers = 'year'"), "tiers", "[[tiers]]");
    assert_refused(&of("tiers = [1]"), "tiers", "[[tiers]]");
}

#[test]
fn a_broken_file_is_named_by_its_line_and_never_repeated() {
    let examined = of("[secrets]\nkey = 'hunter2\n");
    assert_refused(&examined, "--config", "in line 2");
    assert!(!Problems(examined.problems).to_string().contains("hunter2"));
}

#[test]
fn a_named_file_has_to_exist() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.toml");
    let sources = Sources {
        file: Some(file.clone()),
        ..Sources::default()
    };
    let problems = load(&sources).unwrap_err();
    assert_eq!(keys(&problems.0), ["--config"]);
    std::fs::write(&file, "http.base_url = 'http://nas.local'").unwrap();
    assert_eq!(
        load(&sources).unwrap().config.http.base_url,
        "http://nas.local"
    );
}

#[test]
fn problems_are_listed_with_key_and_mend() {
    let one = Problem::new("http.listen", "is odd", "make it even");
    let text = Problems(vec![one.clone()]).to_string();
    assert_eq!(
        text,
        "the configuration has a problem\nhttp.listen: is odd\n  mend: make it even"
    );
    let text = Problems(vec![one.clone(), one]).to_string();
    assert!(
        text.starts_with("the configuration has 2 problems\nhttp.listen: is odd\n"),
        "{text}"
    );
}

#[test]
fn what_is_shown_can_be_read_again() {
    let tiers = "
        [[tiers]]
        name = 'odd'
        price = '0.10'
        max_bytes = 1000
        keep = '90s'";
    for (text, sandbox) in [("", false), ("", true), (REAL, false), (tiers, true)] {
        let config = config(examine_with(text, sandbox, &[]));
        let shown = show(&config);
        let again = of(&shown);
        assert_eq!(again.problems, [], "{shown}");
        assert_eq!(show(&again.config.unwrap()), shown);
    }
}

#[test]
fn what_is_in_force_is_shown_whole() {
    let shown = show(&config(of(&format!("{REAL}\nnetworks = 'base-sepolia'"))));
    let (head, tiers) = shown.split_once("\n[[tiers]]").unwrap();
    assert_eq!(
        head,
        "# test: a network whose money is worth nothing

[http]
listen = \"127.0.0.1:4020\"
admin_listen = \"127.0.0.1:4021\"
base_url = \"https://example.com\"
trusted_proxies = []

[database]
url = \"sqlite:data/pixtoll.db\"

[images]
store = \"data/images\"
base_url = \"https://i.example.com\"
clean = true
min_free = \"1024 MiB\"
cache_bytes = \"256 MiB\"
max_pixels = 100000000
max_total_pixels = 300000000

[payments]
networks = [\"base-sepolia\"]
pay_to = \"0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A\"
# one pay_to belongs to one deployment: two can't tell their payments apart
timeout = \"15s\"
token_ttl = \"10m\"

[retention]
schedule = \"* * * * *\"
records = \"365d\"
# clocks: each that is not on this machine

[secrets]
# key: in data/secrets.key, made at the first start

[limits]
free_per_day = 1000
free_before_noon_percent = 50
free_per_address_per_hour = 50
free_per_network_per_hour = 200
free_refusals_per_upload = 10
payments_per_address_per_minute = 120
body_timeout = \"1m\"
body_bytes = \"256 MiB\"
"
    );
    let year = "
name = \"year\"
price = \"0.01\"
max_bytes = \"5 MiB\"
keep = \"365d\"
confirmations = 0
default = true
";
    assert!(tiers.contains(year), "{tiers}");
    let network = "
[[networks]]
id = \"base-sepolia\"
facilitator = \"url\"
facilitator_url = \"https://facilitator.example.com/x402\"
rpc_url = \"https://sepolia.base.org\"
";
    assert!(tiers.ends_with(network), "{tiers}");
}
