//! `trough demo`: the real data through the whole system, compared with the file.

use std::collections::BTreeMap;
use std::process::Stdio;

use rustix::process::Signal;

use crate::harness::{DEADLINE, Place, Running, lines_of};

#[test]
fn every_position_is_durable_and_equal_to_the_file() {
    let place = Place::new();
    let json = place.run("demo --json --data-dir kept").ok();
    let figures: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(figures["buses"], 329);
    assert_eq!(figures["positions"], 45_377);
    assert_eq!(figures["frames_durable"], 45_377);
    assert_eq!(figures["equal_to_file"], true);
    for figure in ["connect_seconds", "replay_seconds", "ack_p50_ms", "ack_p99_ms", "journal_bytes"] {
        assert!(figures[figure].as_f64().is_some_and(|value| value > 0.0), "{figure}: {json}");
    }
    let stderr = place.run("demo --json --data-dir kept").failed(1);
    assert!(stderr.contains("has devices already"), "{stderr}");
}

#[test]
fn the_commands_it_shows_work() {
    let place = Place::new();
    let mut command = place.command(["demo"]);
    command.stderr(Stdio::inherit());
    let mut demo = Running(command.spawn().unwrap());
    let lines = lines_of(demo.0.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains("Ctrl-C ends the demo") {
        text.push_str(&lines.recv_timeout(DEADLINE).expect("the demo says what to try"));
        text.push('\n');
    }
    assert!(text.contains("45,377 positions of 329 buses are durable, and equal to the file"), "{text}");
    let shown: BTreeMap<&str, &str> = text
        .lines()
        .map(str::trim)
        .filter_map(|line| {
            let kind = ["/frames", " tail ", "/metrics"].into_iter().find(|kind| line.contains(kind))?;
            Some((kind, line))
        })
        .collect();
    let shell = |line: &str| {
        let output = std::process::Command::new("sh").arg("-c").arg(line).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let track = shell(shown["/frames"]);
    assert!(track.lines().count() > 100 && track.contains("801 TECH RIDGE"), "{track}");
    assert!(shell(shown["/metrics"]).contains("trough_feeder_frames_total 45"));
    // `head` ends after two lines, and the tail with it.
    let live = shell(&format!("{} | head -n 2", shown[" tail "]));
    assert!(live.lines().count() == 2 && live.lines().all(|line| line.contains("\"position\"")), "{live}");

    let dir = text.split_once("data in ").unwrap().1.lines().next().unwrap().to_owned();
    assert!(std::path::Path::new(&dir).exists());
    demo.signal(Signal::INT);
    assert_eq!(demo.wait().code(), Some(0));
    assert!(!std::path::Path::new(&dir).exists(), "the temporary data is removed");
}
