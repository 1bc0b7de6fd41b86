//! File, environment and secret files.

use super::*;

#[test]
fn a_secret_key_comes_from_the_file_the_environment_or_a_file_of_its_own() {
    let given = |examined| match config(examined).secrets_key {
        SecretKeySource::Given(keys) => keys.current().fingerprint(),
        SecretKeySource::FileUnderData(path) => panic!("{}", path.display()),
    };
    let expected = crate::keys::secrets::SecretKey::from_bytes([0xab; 32]).fingerprint();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    std::fs::write(&path, format!("{KEY}\n")).unwrap();
    let path = path.to_str().unwrap();
    let file = format!("secrets.key = '{KEY}'");
    for examined in [
        of(&file),
        of_env(&[("PIXTOLL_SECRETS__KEY", KEY)]),
        of(&format!("secrets.key_file = '{path}'")),
        of_env(&[("PIXTOLL_SECRETS__KEY_FILE", path)]),
    ] {
        assert_eq!(given(examined), expected);
    }
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
fn every_secret_may_come_from_a_file_and_from_one_place_alone() {
    for info in describe::all() {
        let (name, is_secret) = (info.name, info.secrecy != describe::Secrecy::Open);
        let examined = of(&format!("{name} = 'a'\n{name}_file = 'b'"));
        let key = format!("{name}_file");
        let problem = examined.problems.iter().find(|problem| problem.key == key);
        let expected = if is_secret {
            "is set beside"
        } else {
            "is an unknown key"
        };
        assert_says(problem.expect(name), expected);
    }
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
fn every_key_has_a_variable_and_lists_are_split_at_commas() {
    for info in describe::all() {
        let examined = of_env(&[(&describe::variable(info.name), "\u{1}")]);
        assert!(
            !format!("{:?}", examined.warnings).contains("sets nothing"),
            "{}",
            info.name
        );
    }
    let env = [("PIXTOLL_PAYMENTS__NETWORKS", "base-sepolia,")];
    assert_eq!(
        config(examine_with(REAL, false, &env)).mode,
        Some(Mode::Test)
    );
    let env = [("PIXTOLL_PAYMENTS__NETWORKS", "base, base-sepolia")];
    let examined = examine_with(REAL, false, &env);
    assert_refused(
        &examined,
        "payments.networks",
        "(from PIXTOLL_PAYMENTS__NETWORKS)",
    );
    for value in ["false", "true"] {
        let config = config(of_env(&[("PIXTOLL_IMAGES__CLEAN", value)]));
        assert_eq!(config.images.clean.to_string(), value);
    }
}

#[test]
fn unknown_variables_are_warned_of_with_the_nearest() {
    let env = [
        ("PIXTOLL_HTTP__LISTN", "x"),
        ("HTTP__LISTEN", "x"),
        ("HOME", "x"),
        ("PIXTOLL_SERVER", "x"),
        ("PIXTOLL_VERSION", "x"),
        ("PIXTOLL_WALLET", "x"),
        ("PIXTOLL_LOG_FORMAT", "x"),
    ];
    let examined = of_env(&env);
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
fn tables_are_for_the_file_only() {
    for (name, section) in [
        ("PIXTOLL_TIERS", "tiers"),
        ("PIXTOLL_TIERS__YEAR__PRICE", "tiers"),
        ("PIXTOLL_NETWORKS__BASE", "networks"),
    ] {
        assert_refused(
            &of_env(&[(name, "0.02")]),
            section,
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
    for (name, near) in [
        ("http.base-url", Some("http.base_url")),
        ("http.token_ttl", Some("payments.token_ttl")),
        ("secrets.key_fil", Some("secrets.key_file")),
        ("weather.forecast", None),
    ] {
        assert_eq!(describe::nearest(name).as_deref(), near);
    }
}

#[test]
fn a_broken_file_is_named_by_its_line_and_never_repeated() {
    let examined = of("[secrets]\nkey = 'HIDDEN\n");
    assert_refused(&examined, "--config", "in line 2");
    assert!(!Problems(examined.problems).to_string().contains("HIDDEN"));
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
fn problems_are_listed_with_key_and_fix() {
    let one = Problem::new("http.listen", "is odd", "make it even");
    let text = Problems(vec![one.clone()]).to_string();
    assert_eq!(
        text,
        "the configuration has a problem\nhttp.listen: is odd\n  fix: make it even"
    );
    let text = Problems(vec![one.clone(), one]).to_string();
    assert!(
        text.starts_with("the configuration has 2 problems\nhttp.listen: is odd\n"),
        "{text}"
    );
}
