//! `trough devices` and `trough readers`.

use crate::harness::Place;

fn is_token(text: &str, prefix: &str) -> bool {
    text.starts_with(prefix) && text.len() == 61 && text.lines().count() == 1
}

#[test]
fn a_token_is_alone_on_standard_output_and_shown_once() {
    let place = Place::new();
    let added = place.run("devices add bus-1 --group north --group depot,spare");
    assert!(added.stderr.contains("bus-1 was added"), "{added:#?}");
    let token = added.ok();
    assert!(is_token(&token, "tdev_"), "{token:?}");
    let reader = place.run("readers add me").ok();
    assert!(is_token(&reader, "trdr_"), "{reader:?}");
    for listed in ["devices list", "devices list --json", "readers list", "readers list --json"] {
        let text = place.run(listed).ok();
        assert!(!text.contains("tdev_") && !text.contains("trdr_"), "{text}");
    }
    for file in std::fs::read_dir(place.join("trough-data")).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let secret = &token[token.len() - 43..];
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "the secret lies in clear in {}", path.display());
    }
}

#[test]
fn devices_are_listed_as_a_table_and_as_json() {
    let place = Place::new();
    place.run("devices add bus-2 --group a,b --token-in-url").ok();
    place.run("devices add bus-1").ok();
    let table = place.run("devices list").ok();
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("DEVICE  GROUPS"), "{table}");
    assert!(lines[1].starts_with("bus-1 ") && lines[2].starts_with("bus-2   a,b"), "{table}");
    let json: serde_json::Value = serde_json::from_str(&place.run("devices list --json").ok()).unwrap();
    assert_eq!(json[0]["id"], "bus-1");
    assert_eq!(json[1]["groups"], serde_json::json!(["a", "b"]));
    assert_eq!((&json[1]["token_in_url"], &json[1]["revoked_at"]), (&true.into(), &serde_json::Value::Null));
    let only = place.run("devices list --json --group b").ok();
    assert!(only.contains("bus-2") && !only.contains("bus-1"), "{only}");
}

#[test]
fn an_import_is_all_or_nothing() {
    let place = Place::new();
    let csv = place.pipe("devices import", "id,groups\nbus-1,a;b\nbus-2,\nbus-3\n").ok();
    let lines: Vec<_> = csv.lines().collect();
    assert_eq!(lines.len(), 4, "{csv}");
    assert_eq!(lines[0], "id,token");
    for (line, id) in lines[1..].iter().zip(["bus-1", "bus-2", "bus-3"]) {
        let (name, token) = line.split_once(',').unwrap();
        assert!(name == id && is_token(token, "tdev_"), "{line}");
    }
    std::fs::write(place.join("more.csv"), "bus-4\nbus-2\n").unwrap();
    let stderr = place.run("devices import more.csv").failed(1);
    assert!(stderr.contains("\"bus-2\" exists already"), "{stderr}");
    let stderr = place.pipe("devices import", "bus-5\nbus 6\nbus-5\n").failed(1);
    assert!(stderr.contains("line 2: device id \"bus 6\"") && stderr.contains("line 3: "), "{stderr}");
    assert!(!place.run("devices list").ok().contains("bus-4"));
}

#[test]
fn names_that_are_wrong_or_unknown_are_told() {
    let place = Place::new();
    let stderr = place.run("devices list").failed(1);
    assert!(stderr.contains("no registry in ./trough-data") && stderr.contains("--data-dir"), "{stderr}");
    assert!(!place.join("trough-data").exists(), "a mistyped directory is not made");
    place.run("devices add bus-1").ok();
    assert!(place.run("devices add bus-1").failed(1).contains("exists already"));
    assert!(place.run("devices rotate bus-2").failed(1).contains("no device \"bus-2\""));
    assert!(place.run("devices add bus/1 --group ,").failed(2).contains("DEVICE is \"bus/1\""));
    assert!(place.run("readers add me --scope all").failed(2).contains("devices:read or frames:read"));
    assert!(place.run("readers revoke me").failed(1).contains("no reader \"me\""));
}

#[test]
fn a_revoked_device_stays_taken_and_a_reader_s_name_does_not() {
    let place = Place::new();
    let first = place.run("devices add bus-1").ok();
    let second = place.run("devices rotate bus-1 --keep-old 60").ok();
    assert!(is_token(&second, "tdev_") && second != first);
    place.run("devices revoke bus-1").ok();
    place.run("devices revoke bus-1").ok();
    assert!(place.run("devices rotate bus-1").failed(1).contains("revoked"));
    assert!(place.run("devices add bus-1").failed(1).contains("stay taken"));
    assert!(place.run("devices list").ok().contains("revoked 20"));
    place.run("readers add me --group a --scope frames:read").ok();
    place.run("readers revoke me").ok();
    place.run("readers add me").ok();
    let readers = place.run("readers list --json").ok();
    assert!(readers.contains("\"groups\":null") && readers.contains("\"revoked_at\":null"), "{readers}");
}
