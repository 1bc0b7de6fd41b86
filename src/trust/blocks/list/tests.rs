use super::*;

const HASH: &str = "f8f8f0cee0f4a84f06370a22038f63f0b36e2ed596621e1d33e6b39c4e9c9b22";
const WALLET: &str = "0x52908400098527886E0F7030069857D2E4169EE7";

fn other() -> String {
    "d".repeat(64)
}

/// The targets of a list, as texts.
fn all(text: &str, kind: Option<Kind>) -> Vec<String> {
    let list = read(text, kind).unwrap_or_else(|error| panic!("{text}: {error}"));
    list.targets.iter().map(|(it, _)| it.to_string()).collect()
}

fn one(text: &str, kind: Option<Kind>) -> String {
    let all = all(text, kind);
    assert_eq!(all.len(), 1, "{text}");
    all[0].clone()
}

fn block(target: &str, reason: &str) -> Block {
    Block {
        target: target.parse().unwrap(),
        source: "ncmec".to_owned(),
        reason: reason.to_owned(),
        created_at: Timestamp::from_seconds(0),
        expires_at: None,
    }
}

fn export(blocks: &[Block]) -> String {
    let rows: Vec<String> = blocks.iter().map(csv_row).collect();
    format!("{CSV_HEAD}{}", rows.concat())
}

#[test]
fn the_formats_in_use_are_understood() {
    let pdq = format!("pdq:{HASH}");
    assert_eq!(one(HASH, Some(Kind::Pdq)), pdq);
    assert_eq!(
        one(&HASH.to_uppercase(), Some(Kind::Sha256)),
        format!("sha256:{HASH}")
    );
    // ThreatExchange: the fields of an indicator, and the index of the PDQ tools.
    let threat = format!("id,indicator,type,status\n30580,{HASH},HASH_PDQ,MALICIOUS\n");
    assert_eq!(one(&threat, None), pdq);
    assert_eq!(
        one(&format!("{HASH},100,picture.jpg"), Some(Kind::Pdq)),
        pdq
    );
    // `threatexchange dataset --print-records`.
    assert_eq!(one(&format!("pdq {HASH} - (collab) tag"), None), pdq);
    assert_eq!(one(&format!("pdq {HASH} - (collab) tag, md"), None), pdq);
    assert_eq!(one(&format!("{HASH} pdq"), None), pdq);
    assert_eq!(one(&pdq, None), pdq);
    // `pixtoll admin blocks`, and `sha256sum`.
    let listed = format!("{pdq}  ncmec  since 1970-01-01T00:00:00.000Z  like sha256:{HASH}, \"x\"");
    assert_eq!(one(&listed, None), pdq);
    assert_eq!(one(&format!("{HASH}  a, b.jpg"), Some(Kind::Pdq)), pdq);
    for row in [
        format!("\u{feff}\"HASH_PDQ\";\"{HASH}\"\r\n"),
        format!("\"HASH_PDQ\"; \"{HASH}\""),
        format!("HASH_PDQ\t{HASH}\ta; b, c"),
        format!("pdq\n{HASH}\n"),
        format!(",Indicator,Type\r\n0,{HASH},HASH_PDQ\r\n"),
    ] {
        assert_eq!(one(&row, None), pdq, "{row}");
    }
    assert_eq!(
        one(&format!("# mine\n\n{WALLET}\n{WALLET}"), Some(Kind::Pdq)),
        format!("wallet:{WALLET}")
    );
}

#[test]
fn other_types_are_counted_and_other_lines_refused() {
    let text = format!("type,hash\nHASH_MD5,acbd18db4cc2f85cedef654fccc4a4d8\nHASH_PDQ,{HASH}\n");
    let list = read(&text, None).unwrap();
    assert_eq!((list.targets.len(), list.skipped), (1, 1));
    let text = format!("md5 acbd18db4cc2f85cedef654fccc4a4d8 - tag\npdq:{HASH}\n");
    let list = read(&text, None).unwrap();
    assert_eq!((list.targets.len(), list.skipped), (1, 1));
    assert_eq!(read(HASH, None), Err(BadList::NoKind { line: 1 }));
    let broken = format!("{HASH}\n{}\n", &HASH[1..]);
    assert_eq!(
        read(&broken, Some(Kind::Pdq)),
        Err(BadList::Line { line: 2 })
    );
    let unknown = format!("type,indicator\nURI,{HASH}\n");
    assert_eq!(
        read(&unknown, Some(Kind::Pdq)),
        Err(BadList::Line { line: 2 })
    );
}

#[test]
fn a_first_line_that_is_no_head_is_refused() {
    for first in [
        r#"{"error":"rate limited"}"#,
        r#"{"hash":"rate limited"}"#,
        "<!DOCTYPE html><html><title>Too many requests, try later</title></html>",
        "Too many requests",
        &HASH[1..],
        &format!("{},100,picture.jpg", &HASH[1..]),
        &format!("hash,{}", &HASH[1..]),
        "0x52908400098527886E0F7030069857D2E4169EE",
    ] {
        for rest in ["", &format!("\n{HASH}\n")] {
            let bad = read(&format!("{first}{rest}"), Some(Kind::Pdq));
            assert_eq!(bad, Err(BadList::Line { line: 1 }), "{first}{rest}");
        }
    }
    // The names of columns are looked for in the first row alone.
    let late = format!("{HASH}\nhash,type\n");
    assert_eq!(read(&late, Some(Kind::Pdq)), Err(BadList::Line { line: 2 }));
}

#[test]
fn a_list_that_blocks_nothing_is_refused_unless_it_is_an_export() {
    let harmless = format!("indicator,type,status\n{HASH},HASH_PDQ,NON_MALICIOUS\n");
    for text in [
        "",
        "\u{feff}\r\n",
        "# nothing\n\n",
        "type,hash\n",
        "indicator\n# nothing\n",
        "HASH_MD5,00\n",
        "type,indicator,source,reason,created,expires\nHASH_MD5,00,,,,\n",
        &harmless,
    ] {
        assert_eq!(read(text, None), Err(BadList::Empty), "{text}");
    }
    assert!(BadList::Empty.to_string().ends_with(CSV_HEAD.trim_end()));
    assert_eq!(read(&export(&[]), None), Ok(Read::default()));
}

#[test]
fn a_harmless_value_is_skipped() {
    let head = "id,indicator,type,status\n";
    let rows = format!(
        "1,{HASH},HASH_PDQ,MALICIOUS\n2,{},HASH_PDQ,NON_MALICIOUS\n",
        other()
    );
    for text in [format!("{head}{rows}"), rows] {
        let list = read(&text, None).unwrap();
        assert_eq!((list.targets.len(), list.skipped), (1, 1), "{text}");
        assert_eq!(list.targets[0].0.value(), HASH);
    }
    // A description of that name is no status.
    let named = format!("type,indicator,reason\npdq,{HASH},NON_MALICIOUS\n");
    assert_eq!(one(&named, None), format!("pdq:{HASH}"));
}

#[test]
fn words_of_a_description_are_no_values_and_no_types() {
    let (pdq, other) = (format!("pdq:{HASH}"), other());
    for row in [
        format!("HASH_PDQ,{HASH},\"uploaded by {WALLET} (a wallet)\""),
        format!("\"said to be md5 of\",\"{HASH}\",\"HASH_PDQ\""),
        format!("said to be md5 of,{HASH},HASH_PDQ"),
        format!("md5 of something,{HASH},HASH_PDQ"),
        format!("\"{other} is like it\",{HASH},pdq"),
        format!("pdq:{HASH} same as sha256:{other}"),
        format!("HASH_PDQ,{HASH},{WALLET}"),
    ] {
        assert_eq!(one(&row, None), pdq, "{row}");
    }
    let lone = [
        format!("uploaded by {WALLET}"),
        "md5 of something".to_owned(),
        format!("\"{HASH} is bad\""),
        format!("pdq,\"{HASH} is bad\""),
    ];
    for row in lone {
        let bad = read(&row, Some(Kind::Pdq));
        assert_eq!(bad, Err(BadList::Line { line: 1 }), "{row}");
    }
}

#[test]
fn a_row_that_can_be_read_in_two_ways_needs_a_head() {
    let other = other();
    for row in [
        format!("HASH_PDQ,{HASH},{other}"),
        format!("{HASH},{WALLET}"),
        format!("HASH_PDQ,{HASH},md5"),
        format!("{HASH} is a copy,{other},HASH_PDQ"),
        format!("pdq:{HASH}  mine  like, {WALLET}"),
    ] {
        let bad = read(&row, Some(Kind::Pdq));
        assert_eq!(bad, Err(BadList::Several { line: 1 }), "{row}");
    }
    let text = format!("reason,indicator,type\n{other},{HASH},HASH_PDQ\nmd5,{other},sha256\n");
    assert_eq!(
        all(&text, None),
        [format!("pdq:{HASH}"), format!("sha256:{other}")]
    );
}

#[test]
fn broken_rows_of_csv_are_refused() {
    for row in [
        format!("pdq,{HASH},\"a quote without an end\npdq,{}\n", other()),
        format!("pdq,{HASH},\"a \"quoted\" word\""),
    ] {
        let bad = read(&row, None);
        assert_eq!(bad, Err(BadList::Row { line: 1 }), "{row}");
    }
    // A comma outside of quotes would move the columns.
    let moved = format!("# mine\nreason,indicator,type\nx, y,{HASH},pdq\n");
    assert_eq!(read(&moved, None), Err(BadList::Row { line: 3 }));
    // The lines of a quoted cell are counted.
    let late = format!("pdq,{HASH},\"two\n# lines\"\nodd\n");
    assert_eq!(read(&late, None), Err(BadList::Line { line: 3 }));
}

#[test]
fn an_export_is_read_back() {
    let row = csv_row(&block(&format!("pdq:{HASH}"), "=SUM(1) \"quoted\", sha256"));
    assert_eq!(
        row,
        format!(
            "HASH_PDQ,{HASH},ncmec,\"'=SUM(1) \"\"quoted\"\", sha256\",1970-01-01T00:00:00.000Z,\n"
        )
    );
    assert_eq!(
        one(&format!("{CSV_HEAD}{row}"), None),
        format!("pdq:{HASH}")
    );
}

#[test]
fn an_export_imported_and_exported_again_is_the_same() {
    let other = other();
    let reasons = [
        String::new(),
        "\"".to_owned(),
        "a \"quoted\" word, and\r\nanother line\n\n# and a third; \"".to_owned(),
        format!("uploaded by {WALLET} (a wallet)"),
        WALLET.to_owned(),
        format!("same as sha256:{other}"),
        format!("sha256:{other}"),
        other.clone(),
        format!("\"\n{other}\n\",{other},\n\"HASH_SHA256\",\"{other}\""),
        "md5".to_owned(),
        "NON_MALICIOUS".to_owned(),
        CSV_HEAD.to_owned(),
        "=1+1\t'".to_owned(),
    ];
    let mut blocks = vec![block(WALLET, "of nobody else")];
    for (number, reason) in (1..).zip(&reasons) {
        for kind in ["sha256", "pdq"] {
            blocks.push(block(&format!("{kind}:{number:064x}"), reason));
        }
    }
    blocks[1].expires_at = Some(Timestamp::from_seconds(7));
    blocks[2].source = other;
    let first = export(&blocks);
    let list = read(&first, None).unwrap();
    assert_eq!(list.skipped, 0);
    assert_eq!(list.targets.len(), blocks.len());
    let imported = list.targets.iter().zip(&blocks);
    let imported = imported.map(|((target, expires_at), block)| Block {
        target: *target,
        expires_at: *expires_at,
        ..block.clone()
    });
    assert_eq!(export(&imported.collect::<Vec<_>>()), first);
}

#[test]
fn of_two_rows_about_a_target_the_longer_block_counts() {
    let made = block(&format!("pdq:{HASH}"), "");
    let until = |seconds: Option<i64>| Block {
        expires_at: seconds.map(Timestamp::from_seconds),
        ..made.clone()
    };
    for (ends, expected) in [
        ([Some(7), Some(9)], Some(9)),
        ([Some(9), Some(7)], Some(9)),
        ([Some(7), None], None),
        ([None, Some(7)], None),
    ] {
        let list = read(&export(&ends.map(until)), None).unwrap();
        let expected = expected.map(Timestamp::from_seconds);
        assert_eq!(list.targets, [(made.target, expected)]);
    }
}
