//! `pixtoll --version`.

use std::process::Command;

#[test]
fn the_version_names_the_package_and_its_commit_where_known() {
    let program = env!("CARGO_BIN_EXE_pixtoll");
    let output = Command::new(program).arg("--version").output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let rest = text
        .strip_prefix(concat!("pixtoll ", env!("CARGO_PKG_VERSION")))
        .and_then(|rest| rest.strip_suffix('\n'))
        .unwrap_or_else(|| panic!("{text}"));
    if rest.is_empty() {
        return;
    }
    let (commit, date) = rest
        .strip_prefix(" (")
        .and_then(|rest| rest.strip_suffix(')'))
        .and_then(|rest| rest.split_once(' '))
        .unwrap_or_else(|| panic!("{text}"));
    assert!((7..=40).contains(&commit.len()), "{text}");
    assert!(commit.bytes().all(|b| b.is_ascii_hexdigit()), "{text}");
    assert_eq!(date.len(), "2026-11-28".len(), "{text}");
}
