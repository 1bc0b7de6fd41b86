//! `[[tiers]]`.

use super::*;

#[test]
fn tiers_are_read_from_the_file() {
    let text = format!(
        "{REAL}
        [[tiers]]
        name = 'free'
        max_bytes = '512 KiB'
        keep = '1d'
        [[tiers]]
        name = 'big'
        price = '0.25'
        max_bytes = 10485760
        keep = 'forever'
        confirmations = 0
        [[tiers]]
        name = 'month'
        price = '0.10'
        max_bytes = '5 MiB'
        keep = '30d'
        default = true"
    );
    let tiers = config(of(&text)).tiers;
    let free = tiers.free().unwrap();
    assert_eq!(free.describe(), "one image up to 512 KiB, kept 1 day");
    let big = tiers.find("big").unwrap();
    assert_eq!(big.price.units(), 250_000);
    assert_eq!((big.max_bytes, big.confirmations), (10_485_760, 0));
    let month = tiers.default_paid().unwrap();
    assert_eq!((month.name.as_str(), month.confirmations), ("month", 1));
}

#[test]
fn every_fault_of_a_tier_is_found_at_once() {
    let examined = of("
        [[tiers]]
        name = 'year'
        price = 0.01
        max_bytes = '65 MiB'
        keep = 'long'
        confirmations = 61
        prise = '1'
        [[tiers]]
        name = 'Bad Name'
        price = '1e3'
        keep = '0s'
        default = 'yes'
    ");
    let expected = [
        ("tiers.year.price", "in quotes"),
        ("tiers.year.prise", "did you mean `price`?"),
        ("tiers.year.keep", "not a duration"),
        ("tiers.year.confirmations", "from 0 to 60"),
        ("tiers.Bad Name.name", "lower-case"),
        ("tiers.Bad Name.price", "not a price"),
        ("tiers.Bad Name.max_bytes", "is missing"),
        ("tiers.Bad Name.default", "not true or false"),
        ("tiers.year.max_bytes", "64 MiB"),
    ];
    let found = keys(&examined.problems);
    assert_eq!(
        found,
        expected.map(|(key, _)| key),
        "{:?}",
        examined.problems
    );
    for (problem, (_, part)) in examined.problems.iter().zip(expected) {
        assert_says(problem, part);
    }
}

#[test]
fn only_the_tier_called_free_may_leave_its_price_out() {
    let with = |text: &str| {
        let (name, line) = text.split_once('\n').unwrap_or((text, ""));
        of(&format!(
            "[[tiers]]\nname = '{name}'\nmax_bytes = 1\nkeep = '7d'\n{line}"
        ))
    };
    assert_eq!(with("free").problems, []);
    assert_eq!(with("trial\nprice = '0'").problems, []);
    assert_all_refused(
        with,
        "
        year                                  | tiers.year.price         | is missing
        free; price = '1'                     | tiers.free.name          | give it another name
        year; price = 1                       | tiers.year.price         | in quotes
        year; price = '-1'                    | tiers.year.price         | not a price
        year; price = '1'; confirmations = -1 | tiers.year.confirmations | from 0 to 60
        ",
    );
}

#[test]
fn the_table_of_tiers_has_one_default_with_a_price() {
    let tier = |name: &str, price: &str, line: &str| {
        format!(
            "[[tiers]]\nname = '{name}'\nprice = '{price}'\nmax_bytes = 1\nkeep = '7d'\n{line}\n"
        )
    };
    let default = "default = true";
    let two = tier("a", "1", "") + &tier("b", "1", "");
    assert_refused(&of(&two), "tiers", "none is the default");
    let both = tier("a", "1", default) + &tier("b", "1", default);
    assert_refused(&of(&both), "tiers.b.default", "mark one tier only");
    let free = tier("a", "0", default) + &tier("b", "1", "");
    assert_refused(&of(&free), "tiers.a.default", "has no price");
    assert_refused(&of("tiers = []"), "tiers", "the table is empty");
}
