//! Checks which module may use which, as ARCHITECTURE.md says.

use std::path::{Path, PathBuf};

pub(crate) fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found
}

/// Asserts that `what` occurs only in files whose path below `src/` begins with one of `rooms`.
fn only_in(what: &str, rooms: &[&str]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = sources(&root);
    assert!(files.len() > 40, "the sources were not found");
    for (path, text) in files {
        let name = path
            .strip_prefix(&root)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let line = text.lines().position(|line| {
            let code = line.trim_start();
            !code.starts_with("//") && code.contains(what)
        });
        if let Some(line) = line {
            let allowed = rooms.iter().any(|room| name.starts_with(room));
            assert!(
                allowed,
                "src/{name}:{}: {what} belongs in {rooms:?}",
                line + 1
            );
        }
    }
}

#[test]
fn libraries_stay_in_their_rooms() {
    only_in("sqlx::", &["db/", "sandbox/"]);
    only_in("actix_web::", &["http/", "sandbox/", "client/scripted.rs"]);
    only_in("use actix_http::", &["http/"]);
    only_in("use actix_service::", &["http/"]);
    only_in("object_store::", &["store/"]);
    only_in("alloy_provider::", &["sandbox/rpc/tests.rs"]);
    only_in("alloy_json_rpc::", &["evm/chain/"]);
    only_in("rmcp::", &["mcp/", "http/mcp/", "cli/mcp/"]);
    only_in("prometheus_client::", &["system/metrics/"]);
    only_in("quick_cache::", &["images/hot.rs"]);
    only_in("std::env::", &["config/"]);
}

#[test]
fn dependencies_point_one_way() {
    only_in("crate::http::", &["http/", "cli/"]);
    only_in("crate::cli::", &["cli/", "main.rs"]);
    only_in("crate::app", &["app/", "http/", "cli/"]);
    only_in("crate::checkout", &["app/", "http/", "cli/", "checkout/"]);
    only_in(
        "crate::payments",
        &[
            "app/",
            "http/",
            "cli/",
            "checkout/",
            "monitoring/",
            "payments/",
        ],
    );
    only_in(
        "crate::catalog",
        &["app/", "http/", "checkout/", "payments/", "catalog/"],
    );
    only_in(
        "crate::accounting",
        &[
            "app/",
            "http/",
            "cli/",
            "checkout/",
            "monitoring/",
            "payments/",
            "accounting/",
        ],
    );
    only_in("crate::monitoring", &["app/", "http/", "monitoring/"]);
    only_in("crate::signin", &["app/", "http/", "signin/"]);
    only_in("crate::sandbox", &["app/", "cli/", "sandbox/"]);
    only_in(
        "crate::facilitator",
        &["app/", "config/", "payments/", "facilitator/", "retention/"],
    );
    only_in("crate::client", &["cli/", "client/"]);
    only_in("crate::mcp", &["http/mcp/", "cli/mcp/", "mcp/"]);
}
