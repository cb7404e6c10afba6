//! `trough journal`: a disk that damages what was durable.

use std::fs;

use rustix::process::Signal;

use crate::harness::{Place, Up};

#[test]
fn objects_of_a_store_are_repaired_with_its_catalogs() {
    let place = Place::new();
    place.run("devices add bus-1").ok();
    let words = format!("journal repair --store file://{}", place.join("frames").display());
    let repair = place.run(&words);
    assert!(repair.stderr.contains("nothing to repair"), "{repair:#?}");
    repair.ok();
    assert_eq!(place.run(&format!("{words} --json")).ok(), r#"{"given_up":[]}"#);
}

#[test]
fn damage_is_found_refused_set_aside_and_told_to_readers() {
    let place = Place::new();
    let stderr = place.run("journal check").failed(1);
    assert!(stderr.contains("no journal in ./trough-data"), "{stderr}");
    let mut up = Up::start(&place);
    let (token, reader) = (place.run("devices add bus-1").ok(), place.run("readers add me").ok());
    let send = |up: &Up, line: &str| {
        place.pipe(&format!("send --state s --url {} --token {token}", up.devices), line).ok();
    };
    send(&up, "an early line\n");
    send(&up, "an early line\nthe line that is hit\n");
    send(&up, "an early line\nthe line that is hit\na late line\n");
    assert!(place.run("journal check").failed(1).contains("in use by process"));
    up.process.signal(Signal::TERM);
    up.process.wait();
    let whole: serde_json::Value = serde_json::from_str(&place.run("journal check --json").ok()).unwrap();
    assert_eq!((&whole["frames"], &whole["damage"]), (&3.into(), &serde_json::json!([])));

    let hit = fs::read_dir(place.join("trough-data/journal")).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        let found = bytes.windows(20).position(|window| window == b"the line that is hit");
        if let Some(at) = found {
            bytes[at] ^= 0x10;
            fs::write(&path, bytes).unwrap();
        }
        found.is_some()
    });
    assert!(hit, "the line lies in the journal as it was sent");

    let check = place.run("journal check");
    assert!(check.stdout.contains("lost: frames 2 to 2 of bus-1, epoch 1"), "{check:#?}");
    assert!(check.failed(1).contains("trough journal repair"));
    let repair = place.run("journal repair");
    assert!(repair.stderr.contains("the eater can be started"), "{repair:#?}");
    repair.ok();
    place.run("journal check").ok();

    let up = Up::start(&place);
    send(&up, "an early line\nthe line that is hit\na late line\nthe last line\n");
    let script = format!(
        "curl -sf -H 'Authorization: Bearer {reader}' {api}/v1/devices/bus-1/frames -H 'Accept: text/csv'
         curl -sf -H 'Authorization: Bearer {reader}' {api}/v1/devices/bus-1/gaps",
        api = up.api
    );
    let output = std::process::Command::new("sh").args(["-e", "-c", &script]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    for wanted in ["an early line", "a late line", "the last line", "\"damaged\""] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    assert!(!text.contains("is hit"), "{text}");
}
