use std::fmt::Write;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::*;

#[derive(Debug, Clone, PartialEq, Eq, Hash, prometheus_client::encoding::EncodeLabelSet)]
struct Of {
    route: &'static str,
}

#[test]
fn the_shards_of_a_series_are_summed() {
    let latencies: Sharded<Of, Latency> = Sharded::default();
    let counts: Sharded<Of, Count> = Sharded::default();
    let mut registry = Registry::default();
    registry.register("took", "Time", latencies.clone());
    registry.register("seen", "Count", counts.clone());
    let route = Of { route: "/a" };
    let own = latencies.own(&route);
    own.observe(Duration::from_micros(100));
    own.observe(Duration::from_micros(101));
    latencies.shared(&route).observe(Duration::from_secs(31));
    let [one, other] = [(); 2].map(|()| counts.own(&route));
    one.increase();
    other.increase();
    counts.shared(&route).increase();
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    for line in [
        "took_bucket{le=\"0.0001\",route=\"/a\"} 1",
        "took_bucket{le=\"0.0005\",route=\"/a\"} 2",
        "took_bucket{le=\"30.0\",route=\"/a\"} 2",
        "took_bucket{le=\"+Inf\",route=\"/a\"} 3",
        "took_count{route=\"/a\"} 3",
        "took_sum{route=\"/a\"} 31.000201",
        "seen_total{route=\"/a\"} 3",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
fn labels_take_no_value_of_a_client() {
    assert_eq!(method("GET"), "GET");
    assert_eq!(method("get"), OTHER);
    assert_eq!(method("MKCOL-someone@example.com"), OTHER);
    assert_eq!(
        &*host_of("https://key:secret@node.example:8545/v2/key"),
        "node.example:8545"
    );
    assert_eq!(&*host_of("https://node.example/key"), "node.example");
    assert_eq!(&*host_of("no URL"), OTHER);
}

/// docs/metrics.md lists every metric: `UPDATE_DOCS=1 cargo test --lib metrics` writes it.
#[test]
fn the_document_lists_every_metric() {
    const BEGIN: &str = "<!-- written by cargo test -->\n";
    const END: &str = "<!-- end -->\n";
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = document.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let mut table =
        "\n| metric | kind | labels | meaning |\n| --- | --- | --- | --- |\n".to_owned();
    for described in DESCRIBED {
        let Described {
            name,
            kind,
            labels,
            help,
        } = described;
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = labels.join(", ");
        writeln!(table, "| `{name}` | {kind} | {labels} | {help}. |").unwrap();
    }
    let current = format!("{before}{BEGIN}{table}\n{END}{after}");
    if crate::config::process_env().contains_key("UPDATE_DOCS") {
        std::fs::write(&path, &current).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap() == current,
        "docs/metrics.md is out of date: run UPDATE_DOCS=1 cargo test --lib metrics"
    );
}
