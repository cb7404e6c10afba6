//! `trough fsck` and `trough export`: what is stored, looked at by an operator.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::harness::{Place, Up, eventually};

/// The files of a directory and below that end so.
fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let (dirs, mut found): (Vec<_>, Vec<_>) =
        entries.flatten().map(|entry| entry.path()).partition(|path| path.is_dir());
    found.retain(|path| path.to_string_lossy().ends_with(ending));
    dirs.iter().for_each(|dir| found.extend(files(dir, ending)));
    found
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn storage_is_checked_damaged_exported_lost_and_rebuilt() {
    let place = Place::new();
    let stderr = place.run("fsck").failed(2);
    assert!(stderr.contains("./trough-data"), "{stderr}");
    let mut up = Up::listen(&place, "127.0.0.1:0", &["--compact-after", "1"]);
    let (token, reader) =
        (place.run("devices add bus-1 --group north").ok(), place.run("readers add me").ok());
    let lines: String = (1..=500).map(|n| format!("line {n}\n")).collect();
    place.pipe(&format!("send --state s --url {} --token {token}", up.devices), lines.as_str()).ok();
    let store = place.join("trough-data/store");
    eventually("the frames are compacted", || !files(&store, ".json").is_empty());

    // Beside the server.
    let whole = json(&place.run("fsck --json").ok());
    assert_eq!(
        (&whole["segment_frames"], &whole["findings"]),
        (&500.into(), &serde_json::json!([])),
        "{whole}"
    );
    let in_use = place.run("fsck --rebuild").failed(1);
    assert!(in_use.contains("in use by process"), "{in_use}");
    let in_use = place.run("export --out a.csv").failed(1);
    assert!(in_use.contains("--url"), "{in_use}");
    let api = &up.api;
    place.run(&format!("export --out http.csv --group north --url {api} --token {reader}")).ok();
    up.process.signal(Signal::TERM);
    up.process.wait();

    // Without it: the same, in every format.
    let exported = place.run("export --out direct.csv").ok();
    assert!(exported.contains("500 frames"), "{exported}");
    let [http, direct] = ["http.csv", "direct.csv"].map(|name| fs::read_to_string(place.join(name)).unwrap());
    assert_eq!(http, direct);
    assert!(direct.starts_with("device,epoch,seq,") && direct.contains("line 500"), "{direct}");
    place.run("export --out b.ndjson --device bus-1 --from 2020-01-01T00:00:00Z").ok();
    assert_eq!(fs::read_to_string(place.join("b.ndjson")).unwrap().lines().count(), 500);
    let again = place.run("export --out direct.csv").failed(1);
    assert!(again.contains("is there already"), "{again}");
    fs::create_dir(place.join("each")).unwrap();
    place.run("export --out each --format parquet").ok();
    assert!(place.join("each/bus-1.parquet").exists());
    let unknown = place.run("export --out c.csv --device bus-2").failed(1);
    assert!(unknown.contains("bus-2"), "{unknown}");

    let segment = files(&store, ".parquet").pop().unwrap();
    let bytes = fs::read(&segment).unwrap();
    let mut damaged = bytes.clone();
    damaged[100] ^= 1;
    fs::write(&segment, &damaged).unwrap();
    let check = place.run("fsck");
    assert!(check.stdout.contains("at offset 0: expected CRC32C"), "{check:#?}");
    assert!(check.stdout.contains("restore the object from a copy"), "{check:#?}");
    assert!(check.failed(1).contains("1 fault"));
    let refused = place.run("export --out d.csv").failed(1);
    assert!(refused.contains("goes on where it was") && refused.contains(".parquet"), "{refused}");
    fs::write(&segment, &bytes).unwrap();
    place.run("export --out d.csv").ok();
    assert_eq!(fs::read_to_string(place.join("d.csv")).unwrap(), direct);

    for name in files(&place.join("trough-data"), "") {
        let lost = name.file_name().unwrap().to_string_lossy().into_owned();
        if lost.starts_with("segments.sqlite") || lost.starts_with("catalog.sqlite") {
            fs::remove_file(name).unwrap();
        }
    }
    let check = place.run("fsck");
    assert!(check.stdout.contains("trough fsck --rebuild"), "{check:#?}");
    check.failed(1);
    assert!(!place.join("trough-data/segments.sqlite").exists(), "a check makes nothing");
    let rebuilt = place.run("fsck --rebuild").ok();
    assert!(rebuilt.contains("500 frames"), "{rebuilt}");
    place.run("fsck").ok();
    place.run("export --out e.csv").ok();
    assert_eq!(fs::read_to_string(place.join("e.csv")).unwrap(), direct);
    assert!(place.run("fsck --rebuild").ok().contains("stays as it is"));
}
