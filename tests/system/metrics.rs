//! `docs/metrics.md` and `/metrics` agree.
//!
//! 1. Every metric that the code registers is in the document, and every one in the document is registered.
//! 2. What running processes show is in the document, under the same name and of the same kind.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use trough_tests::cluster::{Cluster, Shape};
use trough_tests::reader::client;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Names and kinds of the document's tables.
fn documented() -> BTreeMap<String, String> {
    let text = fs::read_to_string(repository().join("docs/metrics.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let known = ["counter", "gauge", "histogram", "info"];
    let kind = |rest: &str| rest.split(" |").next().filter(|kind| known.contains(kind)).map(str::to_owned);
    rows.filter_map(|(name, rest)| Some((name.to_owned(), kind(rest)?))).collect()
}

/// As it is registered: what the format adds to a name is not in the code.
fn registered_name(name: &str) -> &str {
    let name = name.strip_suffix("_total").unwrap_or(name);
    name.strip_suffix("_info").unwrap_or(name)
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            sources(&entry, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
}

fn without_tests(source: &str) -> &str {
    source.split("#[cfg(test)]").next().unwrap_or_default()
}

/// The texts that begin a call's or a tuple's parentheses, and have something behind them.
fn first_texts(source: &str) -> impl Iterator<Item = &str> {
    let calls = source.split('(').filter_map(|call| call.trim_start().strip_prefix('"'));
    let texts = calls.filter_map(|call| call.split_once('"'));
    texts.filter(|(_, rest)| rest.trim_start().starts_with(',')).map(|(text, _)| text)
}

/// The names that a source registers under a prefix, in its `fn register`.
fn names_in(source: &str) -> BTreeSet<String> {
    let source = without_tests(source);
    let prefix =
        source.split_once("sub_registry_with_prefix(\"").and_then(|(_, rest)| rest.split('"').next());
    let body = source.split_once("fn register(").and_then(|(_, rest)| rest.split("\n    }\n").next());
    let (Some(prefix), Some(body)) = (prefix, body) else { return BTreeSet::new() };
    first_texts(body).map(|name| format!("{prefix}_{name}")).collect()
}

/// Those that it registers by their whole names.
fn whole_names_in(source: &str) -> impl Iterator<Item = String> {
    let calls = without_tests(source).split(".register(").skip(1);
    let names = calls.filter_map(|call| call.trim_start().strip_prefix('"')?.split('"').next());
    names.filter(|name| name.starts_with("trough_")).map(str::to_owned)
}

#[test]
fn the_document_has_what_the_code_registers_and_nothing_else() {
    let mut files = Vec::new();
    for part in ["feeder", "eater", "notifier", "store", "bus", "runtime", "trough"] {
        sources(&repository().join(part).join("src"), &mut files);
    }
    let texts: Vec<String> = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let mut registered: BTreeSet<String> = texts.iter().flat_map(|text| names_in(text)).collect();
    registered.extend(texts.iter().flat_map(|text| whole_names_in(text)));
    assert!(registered.len() > 90, "{registered:?}");
    let registrations = texts.iter().filter(|text| text.contains("sub_registry_with_prefix(\"")).count();
    let found = texts.iter().filter(|text| !names_in(text).is_empty()).count();
    assert_eq!(
        found, registrations,
        "metrics are registered in a function `register`, where they are looked for"
    );
    let documented = documented();
    // A collector says these itself.
    let ours = |name: &&str| !name.starts_with("process_");
    let documented: BTreeSet<&str> =
        documented.keys().map(|name| registered_name(name)).filter(ours).collect();
    let registered: BTreeSet<&str> = registered.iter().map(String::as_str).collect();
    let missing: Vec<_> = registered.difference(&documented).collect();
    let gone: Vec<_> = documented.difference(&registered).collect();
    assert!(missing.is_empty() && gone.is_empty(), "not documented: {missing:?}; not registered: {gone:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_processes_show_is_in_the_document() {
    let cluster = Cluster::start(Shape::Objects).await;
    let documented = documented();
    let mut shown = BTreeSet::new();
    for admin in [cluster.at.admin, cluster.at.eater_admin] {
        let text =
            client().get(format!("http://{admin}/metrics")).send().await.unwrap().text().await.unwrap();
        for (name, kind) in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')) {
            let suffix = match kind {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            let name = format!("{name}{suffix}");
            assert_eq!(
                documented.get(&name).map(String::as_str),
                Some(kind),
                "{name} is not in docs/metrics.md"
            );
            shown.insert(name);
        }
    }
    assert!(shown.len() > 60, "{shown:?}");
}
