//! The table against its own rules and against docs/x402.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use super::*;

/// The classes in the order of the document, each with its heading.
const CLASSES: [(Proves, &str); 5] = [
    (Proves::NothingMoved, "#### Refusals that moved nothing"),
    (Proves::TransferFailed, "#### Refusals after a transaction"),
    (Proves::NonceUsed, "#### Refusals for a used nonce"),
    (Proves::Pending, "#### Refusals without an outcome"),
    (Proves::Unclear, "#### Refusals that prove nothing"),
];

fn name(source: Source) -> &'static str {
    match source {
        Source::Coinbase => "Coinbase",
        Source::Npm => "x402",
        Source::Both => "Coinbase, x402",
        Source::NpmV1 => "x402 version 1",
        Source::Pixtoll => "pixtoll",
    }
}

/// The rows of one class: the codes of each meaning in one row.
fn rows(proves: Proves) -> String {
    let mut order = Vec::new();
    let mut codes: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let of_facilitators = REFUSALS
        .iter()
        .filter(|known| known.proves == proves && known.source != Source::Pixtoll);
    for known in of_facilitators {
        let code = format!("`{}` ({})", known.code, name(known.source));
        if !order.contains(&known.meaning) {
            order.push(known.meaning);
        }
        codes.entry(known.meaning).or_default().push(code);
    }
    let mut text = String::from("| codes | message |\n| --- | --- |\n");
    for meaning in order {
        writeln!(text, "| {} | {meaning} |", codes[meaning].join(", ")).unwrap();
    }
    text
}

#[test]
fn the_tables_of_the_document_are_these() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/x402.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut fresh = text.clone();
    for (proves, heading) in CLASSES {
        let section = fresh.find(heading).expect(heading) + heading.len();
        let start = section + fresh[section..].find("| codes | message |").expect(heading);
        let end = start + fresh[start..].find("\n\n").expect(heading) + 1;
        fresh.replace_range(start..end, &rows(proves));
    }
    if crate::config::process_env().contains_key("UPDATE_DOCS") {
        std::fs::write(&path, &fresh).unwrap();
        return;
    }
    assert!(
        text == fresh,
        "docs/x402.md is out of date: run UPDATE_DOCS=1 cargo test --lib refusals"
    );
    let others = format!("{} codes", OTHER_SCHEMES.len());
    assert!(text.contains(&others), "docs/x402.md must name {others}");
}

#[test]
fn every_code_is_listed_once_and_has_a_sentence() {
    let mut seen = BTreeSet::new();
    let codes = REFUSALS.iter().map(|known| known.code);
    for code in codes.chain(OTHER_SCHEMES.iter().map(|(code, _)| *code)) {
        assert!(seen.insert(code), "{code} is listed twice");
        assert!(meaning(code).ends_with('.'), "{code}");
        assert!(is_known(code), "{code}");
    }
    for unknown in ["", "the_moon_is_full", "transaction_simulation"] {
        assert!(!is_known(unknown), "{unknown}");
        assert!(meaning(unknown).ends_with('.'), "{unknown}");
    }
}

#[test]
fn codes_that_differ_in_the_prefix_alone_prove_the_same() {
    let mut proven = BTreeMap::new();
    for known in REFUSALS {
        let other = proven.insert(bare(known.code), known.proves);
        assert!(
            other.is_none_or(|other| other == known.proves),
            "{}",
            known.code
        );
    }
    for (short, code) in [
        ("nonce_already_used", "invalid_exact_evm_nonce_already_used"),
        (
            "exact_evm_payload_authorization_valid_before",
            "invalid_exact_evm_payload_authorization_valid_before",
        ),
        (
            "insufficient_balance",
            "invalid_exact_evm_insufficient_balance",
        ),
        (
            "invalid_recipient_mismatch",
            "invalid_exact_evm_payload_recipient_mismatch",
        ),
        (
            "authorization_value",
            "invalid_exact_evm_authorization_value",
        ),
        ("invalid_exact_evm_kyt_risk_detected", "kyt_risk_detected"),
    ] {
        assert_eq!(find(short).unwrap().code, code, "{short}");
    }
}

/// Codes that are returned for payments that may have moved money must never be listed as harmless.
#[test]
fn what_may_have_moved_money_is_not_listed_as_harmless() {
    for code in [
        "settlement_pending",
        "invalid_exact_evm_nonce_already_used",
        "invalid_exact_evm_transaction_failed",
        "invalid_exact_evm_transfer_event_mismatch",
        "invalid_exact_evm_failed_to_execute_transfer",
        "invalid_exact_evm_failed_to_get_receipt",
        "settle_exact_failed_onchain",
        "settle_exact_node_failure",
        "settle_exact_evm_transaction_confirmation_timed_out",
        "invalid_transaction_state",
        "smart_wallet_deployment_failed",
        "duplicate_settlement",
        "unexpected_settle_error",
        "unknown_error",
    ] {
        assert_ne!(find(code).unwrap().proves, Proves::NothingMoved, "{code}");
    }
}
