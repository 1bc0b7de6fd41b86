//! The parts of docs/api.md that are made from the code, and docs/openapi.json. A test compares both with the repository.

use super::api::ROUTES;
use super::error::{Action, Charged, Code};

/// All actions, in the order in which docs/api.md explains them.
const ACTIONS: [Action; 7] = [
    Action::Wait,
    Action::Retry,
    Action::Pay,
    Action::Claim,
    Action::Resize,
    Action::FixRequest,
    Action::Contact,
];

/// What the action asks of the client.
const fn meaning(action: Action) -> &'static str {
    match action {
        Action::Wait => "Wait for `retryAfterSeconds`, then repeat the same request.",
        Action::Retry => {
            "Repeat the same request after `retryAfterSeconds`. Nothing has to change."
        }
        Action::Pay => "Pay. `url` and `curl`, where present, name the route.",
        Action::Claim => {
            "Sign in with a wallet at `url`. Where an error is about a payment, that is `POST /api/claims`, which returns what the payer's wallet paid for."
        }
        Action::Resize => {
            "Send a smaller image: fewer bytes, pixels or frames, as the message says."
        }
        Action::FixRequest => "Change the request as the message says, then send it.",
        Action::Contact => "Ask the operator of the server. Repeating the request does not help.",
    }
}

/// Whether the same request may be repeated.
const fn repeat(action: Action) -> &'static str {
    match action {
        Action::Wait | Action::Retry => "yes",
        Action::Pay => "no, pay first",
        Action::Claim => "no, sign in first",
        Action::Resize | Action::FixRequest => "no, change it first",
        Action::Contact => "no",
    }
}

const fn charged(charged: Charged) -> &'static str {
    match charged {
        Charged::No => "`false`",
        Charged::Yes => "`true`",
        Charged::Unknown => "`null`",
        Charged::Varies => "`true`, `false` or `null`",
    }
}

/// The table of routes.
fn routes() -> String {
    let mut rows = vec![
        "| route | what it does |".to_owned(),
        "| --- | --- |".to_owned(),
    ];
    for route in ROUTES {
        for operation in route.operations {
            rows.push(format!(
                "| `{} {}` | {} |",
                operation.methods.join(", "),
                route.path,
                operation.summary
            ));
        }
    }
    rows.join("\n")
}

/// The table of actions.
fn actions() -> String {
    let mut rows = vec![
        "| `action.type` | what to do |".to_owned(),
        "| --- | --- |".to_owned(),
    ];
    rows.extend(ACTIONS.map(|it| format!("| `{}` | {} |", it.name(), meaning(it))));
    rows.join("\n")
}

/// The table of error codes.
fn codes() -> String {
    let mut rows = vec![
        "| status | `error` | when | `charged` | `action` | repeat the same request |".to_owned(),
        "| --- | --- | --- | --- | --- | --- |".to_owned(),
    ];
    for code in Code::ALL {
        let facts = code.facts();
        let actions: Vec<String> = facts
            .actions
            .iter()
            .map(|it| format!("`{}`", it.name()))
            .collect();
        let repeat = facts.actions.first().map_or("no", |it| repeat(*it));
        rows.push(format!(
            "| {} | `{}` | {} | {} | {} | {repeat} |",
            facts.status,
            facts.name,
            facts.when,
            charged(facts.charged),
            actions.join(" or "),
        ));
    }
    rows.join("\n")
}

/// `text` with its generated parts made anew. A part stands between `<!-- generated: NAME -->` and `<!-- end -->`.
fn with_generated(text: &str) -> String {
    let mut made = text.to_owned();
    for (name, part) in [
        ("routes", routes()),
        ("actions", actions()),
        ("codes", codes()),
    ] {
        let begin = format!("<!-- generated: {name} -->\n");
        let Some((before, rest)) = made.split_once(&begin) else {
            continue;
        };
        let Some((_, after)) = rest.split_once("<!-- end -->") else {
            continue;
        };
        made = format!("{before}{begin}{part}\n<!-- end -->{after}");
    }
    made
}

mod tests {
    use std::path::Path;

    use super::*;
    use crate::http::openapi::{Deployment, document};
    use crate::pricing::tiers::TierTable;

    /// Compares a document of the repository with what the code makes, or writes it when `UPDATE_DOCS` is set.
    fn compare(name: &str, made: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("docs")
            .join(name);
        if crate::config::process_env().contains_key("UPDATE_DOCS") {
            std::fs::write(&path, made).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == made,
            "docs/{name} is out of date: run UPDATE_DOCS=1 cargo test --lib documents"
        );
    }

    #[test]
    fn the_api_document_has_the_routes_and_codes_of_the_code() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/api.md");
        let text = std::fs::read_to_string(path).unwrap();
        for name in ["routes", "actions", "codes"] {
            assert!(
                text.contains(&format!("<!-- generated: {name} -->")),
                "{name}"
            );
        }
        compare("api.md", &with_generated(&text));
    }

    #[test]
    fn the_openapi_document_is_the_committed_one() {
        let tiers = TierTable::default();
        let document = document(&Deployment {
            base_url: "http://127.0.0.1:4020",
            images_url: "http://127.0.0.1:4020/i",
            tiers: &tiers,
            sells: true,
        });
        let made = serde_json::to_string_pretty(&document).unwrap() + "\n";
        compare("openapi.json", &made);
    }
}
