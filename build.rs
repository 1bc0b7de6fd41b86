//! Tells the compiler the text that `pixtoll --version` prints, in the variable `PIXTOLL_VERSION`: the version and, where it
//! is known, the commit and its date, such as `0.1.0 (abc1234 2026-11-28)`.
//!
//! The commit comes from the variable `PIXTOLL_COMMIT` ("abc1234 2026-11-28", for builds without a repository, such
//! as the container image), otherwise from git. Debug builds do not ask git: each commit would compile the crate again.

#![expect(
    clippy::disallowed_methods,
    reason = "a build script is told everything by the environment"
)]

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=PIXTOLL_COMMIT");
    let version = env!("CARGO_PKG_VERSION");
    let text = match find_commit() {
        Some(commit) => format!("{version} ({commit})"),
        None => version.to_owned(),
    };
    println!("cargo::rustc-env=PIXTOLL_VERSION={text}");
}

fn find_commit() -> Option<String> {
    match std::env::var("PIXTOLL_COMMIT") {
        Ok(commit) if !commit.trim().is_empty() => {
            let commit = commit.trim().to_owned();
            if !is_commit(&commit) {
                println!(
                    "cargo::error=PIXTOLL_COMMIT is {commit:?}; set it to a commit and its date, such as \"abc1234 2026-11-28\""
                );
            }
            Some(commit)
        }
        _ if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") => commit_of_git(),
        _ => None,
    }
}

/// Whether `text` is a commit's hash of 7 to 40 hex digits, alone or followed by a date.
fn is_commit(text: &str) -> bool {
    let (hash, date) = text.split_once(' ').unwrap_or((text, "2000-01-01"));
    let is_hash = (7..=40).contains(&hash.len())
        && hash
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let is_date = date.len() == 10
        && date.bytes().enumerate().all(|(place, b)| match place {
            4 | 7 => b == b'-',
            _ => b.is_ascii_digit(),
        });
    is_hash && is_date
}

/// The commit that is checked out. `None`: there is no git, or no repository of this project: a source archive may lie
/// inside another project's repository.
fn commit_of_git() -> Option<String> {
    let root = Path::new(&git(&["rev-parse", "--show-toplevel"])?)
        .canonicalize()
        .ok()?;
    if root != Path::new(".").canonicalize().ok()? {
        return None;
    }
    // The log of HEAD grows with each commit, checkout and rebase; the other files change where there is no log. Cargo
    // would run this script at every build for a file that doesn't exist.
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    for name in ["HEAD", "logs/HEAD", "packed-refs"]
        .into_iter()
        .chain(branch.as_deref())
    {
        let path = git(&["rev-parse", "--git-path", name])?;
        if Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&[
        "log",
        "-1",
        "--date=format-local:%Y-%m-%d",
        "--format=%h %cd",
    ])
    .filter(|commit| is_commit(commit))
}

/// What git prints, without the line's end; `None` when it fails.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .args(arguments)
        .env("TZ", "UTC")
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim_end().to_owned())
}
