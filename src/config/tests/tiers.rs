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
    assert_eq!(
        tiers.free().unwrap().describe(),
        "one image up to 512 KiB, kept 1 day"
    );
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
    assert_eq!(
        keys(&examined.problems),
        [
            "tiers.year.prise",
            "tiers.year.price",
            "tiers.year.keep",
            "tiers.Bad Name.default",
            "tiers.Bad Name.name",
            "tiers.Bad Name.price",
            "tiers.Bad Name.max_bytes",
            "tiers.year.max_bytes",
            "tiers.year.confirmations",
        ],
        "{:?}",
        examined.problems
    );
    assert_says(&examined.problems[0], "did you mean `price`?");
    assert_says(&examined.problems[8], "at most 60");
}

#[test]
fn only_the_tier_called_free_may_leave_its_price_out() {
    let with = |name: &str, line: &str| {
        of(&format!(
            "[[tiers]]\nname = '{name}'\nmax_bytes = 1\nkeep = '7d'\n{line}"
        ))
    };
    assert_eq!(with("free", "").problems, []);
    assert_eq!(with("trial", "price = '0'").problems, []);
    assert_refused(&with("year", ""), "tiers.year.price", "is missing");
    assert_refused(
        &with("free", "price = '1'"),
        "tiers.free.name",
        "give it another name",
    );
    assert_refused(&with("year", "price = 1"), "tiers.year.price", "in quotes");
    assert_refused(
        &with("year", "price = '-1'"),
        "tiers.year.price",
        "no price",
    );
    assert_refused(
        &with("year", "price = '1'\nconfirmations = -1"),
        "tiers.year.confirmations",
        "",
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
