//! docs/configuration.md holds the descriptions of the keys: `UPDATE_DOCS=1 cargo test docs` writes
//! its tables anew.

use std::path::Path;

use super::*;
use crate::config::describe::{self, Info, Secrecy};
use crate::config::keys::{DefinitionKeys, NetworkKeys, SECTIONS, TierKeys};

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md")
}

/// The rows of some keys, each under the name that `name` gives it.
fn table<'a>(keys: impl Iterator<Item = &'a Info>, name: fn(&Info) -> &str) -> String {
    let rows = keys.map(|info| {
        let bounds = info
            .bounds
            .map(|(least, most)| format!(", {least} to {most}"));
        let list = if info.is_list { "list: " } else { "" };
        let default = match (info.default, info.required, info.when_unset) {
            (Some(""), ..) | (None, None, "") => "none".to_owned(),
            (Some(default), ..) => format!("`{default}`"),
            (None, Some(_), _) => "required".to_owned(),
            (None, None, unset) => unset.to_owned(),
        };
        let also: Vec<String> = info.also.iter().map(|name| format!("`{name}`")).collect();
        let also = format!(" Also set by {}.", also.join(" or "));
        let secret = format!(" Secret; also from a file, by `{}_file`.", info.name);
        let more = [
            (!info.also.is_empty()).then_some(also.as_str()),
            (info.secrecy != Secrecy::Open).then_some(secret.as_str()),
            info.is_live.then_some(" Reloaded at SIGHUP."),
        ];
        let meaning = info.doc.concat() + &more.into_iter().flatten().collect::<String>();
        let (name, kind, bounds) = (name(info), info.kind, bounds.unwrap_or_default());
        format!("| `{name}` | {list}{kind}{bounds} | {default} |{meaning} |\n")
    });
    let head = "| key | type | default | meaning |\n| --- | --- | --- | --- |\n";
    rows.fold(head.to_owned(), |text, row| text + &row)
}

/// The types with how each is written.
fn types() -> String {
    let lists = [TierKeys::KEYS, NetworkKeys::KEYS, DefinitionKeys::KEYS];
    let all = describe::all().chain(lists.into_iter().flatten());
    let mut types = BTreeMap::new();
    for info in all {
        types.entry(info.kind).or_insert(info.fix);
    }
    let rows = types
        .iter()
        .map(|(kind, fix)| format!("| {kind} | {fix} |\n"));
    "| type | how to write it |\n| --- | --- |\n".to_owned() + &rows.collect::<String>()
}

#[test]
fn the_document_holds_every_key_as_it_is_described() {
    let text = std::fs::read_to_string(path()).unwrap();
    let mut tables = BTreeMap::from([
        ("types", types()),
        ("tiers", table(TierKeys::KEYS.iter(), Info::field)),
        (
            "networks",
            table(
                NetworkKeys::KEYS.iter().chain(DefinitionKeys::KEYS),
                Info::field,
            ),
        ),
    ]);
    for info in SECTIONS.iter().copied().flatten() {
        let (section, _) = info.parts();
        let keys = describe::all().filter(|info| info.parts().0 == section);
        tables.insert(section, table(keys, |info| info.name));
    }
    // A table that stood twice would be written anew in its first place alone.
    let mut places: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("<!-- generated: ")?.strip_suffix(" -->"))
        .collect();
    places.sort_unstable();
    assert!(
        places.iter().eq(tables.keys()),
        "docs/configuration.md has a place for each table once, and for no other: {places:?}"
    );
    let mut fresh = text.clone();
    for (name, table) in tables {
        let begin = format!("<!-- generated: {name} -->\n");
        let (before, rest) = fresh.split_once(&begin).expect(&begin);
        let (_, after) = rest.split_once("<!-- end -->").expect(&begin);
        fresh = format!("{before}{begin}{table}<!-- end -->{after}");
    }
    if process_env().contains_key("UPDATE_DOCS") {
        std::fs::write(path(), &fresh).unwrap();
    }
    let difference = text
        .lines()
        .zip(fresh.lines())
        .find(|(old, new)| old != new);
    assert!(
        text == fresh,
        "set UPDATE_DOCS=1 to write docs/configuration.md anew: {difference:?}"
    );
}

#[test]
fn every_example_of_the_document_may_start() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = [
        (
            "database_url",
            "postgres://pixtoll:password@db.internal/pixtoll",
        ),
        ("secrets_key", KEY),
    ];
    for (name, secret) in secrets {
        std::fs::write(folder.path().join(name), secret).unwrap();
    }
    let text = std::fs::read_to_string(path()).unwrap();
    let blocks = text.split("```toml\n").skip(1);
    let blocks: Vec<&str> = blocks
        .map(|rest| rest.split_once("```").unwrap().0)
        .collect();
    assert!(blocks.len() >= 5, "{blocks:?}");
    for block in blocks {
        let block = block.replace("/run/secrets", folder.path().to_str().unwrap());
        let key = [
            ("CDP_API_KEY_ID", "a"),
            ("CDP_API_KEY_SECRET", payments::CDP_SECRET),
        ];
        let examined = examine_with(&block, false, &key);
        assert_eq!(examined.problems, [], "{block}");
        assert!(
            examined
                .warnings
                .iter()
                .all(|known| known.key == "payments.facilitator"),
            "{examined:?}"
        );
    }
}

#[test]
fn descriptions_are_sentences_and_defaults_are_within_bounds() {
    for info in describe::all() {
        let meaning = info.doc.concat();
        assert!(meaning.trim().ends_with('.'), "{}", info.name);
        assert!(
            info.default.is_some() || info.required.is_some() || examples_say(info),
            "{}",
            info.name
        );
        let Some(default) = info.default else {
            continue;
        };
        let examined = of_env(&[(&describe::variable(info.name), default)]);
        assert_eq!(examined.problems, [], "{}", info.name);
    }
}

/// Without a default, the document says what holds, unless the key belongs to another one.
fn examples_say(info: &Info) -> bool {
    let beside = [
        "images.s3_",
        "payments.cdp_key_",
        "payments.facilitator_token",
    ];
    !info.when_unset.is_empty() || beside.iter().any(|name| info.name.starts_with(name))
}
