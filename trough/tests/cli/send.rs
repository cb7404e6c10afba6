//! `trough send`: every line exactly once, whatever is killed and however often.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::Stdio;

use rustix::process::Signal;

use crate::harness::{Place, Running, Up, finish, lines_of, metric};

/// The text of every frame of a device, in order, with its place.
fn stored(place: &Place, up: &Up, device: &str, reader: &str, count: usize) -> Vec<(u64, u64, String)> {
    let args = ["tail", device, "--from", "start", "--api", &up.api, "--token", reader];
    let mut tail = Running(place.command(args).spawn().unwrap());
    let lines = lines_of(tail.0.stdout.take().unwrap());
    let mut frames = Vec::new();
    for _ in 0..count {
        let line = lines.recv_timeout(crate::harness::DEADLINE).unwrap_or_else(|_| {
            panic!("{} of {count} frames came, the last {:?}", frames.len(), frames.last())
        });
        let frame: serde_json::Value = serde_json::from_str(&line).unwrap();
        let text = frame["text"].as_str().unwrap().to_owned();
        frames.push((frame["epoch"].as_u64().unwrap(), frame["seq"].as_u64().unwrap(), text));
    }
    frames
}

/// The token of a new device, and of a new reader.
fn devices(place: &Place) -> (String, String) {
    (place.run("devices add bus-1").ok(), place.run("readers add me").ok())
}

#[test]
fn lines_arrive_as_they_are_and_the_command_ends_when_they_are_durable() {
    let place = Place::new();
    let up = Up::start(&place);
    let (token, reader) = devices(&place);
    let output = place.pipe(&format!("send --url {} --token {token}", up.devices), "a\n\nä \"b\"\r\nlast");
    assert!(output.stderr.contains("4 lines, all durable"), "{output:#?}");
    output.ok();
    let texts: Vec<_> =
        stored(&place, &up, "bus-1", &reader, 4).into_iter().map(|(_, _, text)| text).collect();
    assert_eq!(texts, ["a", "", "ä \"b\"\r", "last"]);
}

#[test]
fn a_sender_that_is_killed_again_and_again_sends_every_line_once() {
    const LINES: u64 = 60_000;
    let place = Place::new();
    let up = Up::start(&place);
    let (token, reader) = devices(&place);
    let input: Vec<u8> = (1..=LINES).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
    let state = place.join("state");
    let args = ["send", "--url", &up.devices, "--token", &token, "--state", state.to_str().unwrap()];

    let mut kills = 0;
    for round in 1..=8 {
        let mut sender = Running(place.command(args).stdin(Stdio::piped()).spawn().unwrap());
        let mut stdin = sender.0.stdin.take().unwrap();
        // The input comes in pieces, so that the kill finds it in the middle.
        let (pace, begun) = std::sync::mpsc::sync_channel(0);
        let bytes = input.clone();
        std::thread::spawn(move || {
            for piece in bytes.chunks(8 * 1024) {
                if stdin.write_all(piece).is_err() || pace.send(()).is_err() {
                    return;
                }
            }
        });
        let pieces = round * 9;
        let written = begun.iter().take(pieces).count();
        if written == pieces {
            // SIGKILL: nothing of the sender gets to run again.
            sender.signal(Signal::KILL);
            kills += u32::from(sender.wait().code().is_none());
        }
    }
    assert!(kills >= 5, "{kills} kills found a sender at work");
    let output = finish(place.command(args), input.clone());
    assert!(output.stderr.contains("60,000 lines, all durable"), "{output:#?}");
    let again = finish(place.command(args), input);
    assert!(again.stderr.contains("0 now, 60,000 before"), "{again:#?}");

    let frames = stored(&place, &up, "bus-1", &reader, LINES as usize);
    let epochs: BTreeSet<_> = frames.iter().map(|(epoch, _, _)| *epoch).collect();
    assert_eq!(epochs.len(), 1, "{epochs:?}");
    for (n, (_, seq, text)) in (1..).zip(&frames) {
        assert_eq!((*seq, text), (n, &format!("line {n}")));
    }
    // What was sent again had the same bytes, time stamps included.
    assert_eq!(metric(&up.admin, "trough_journal_conflicts_total"), 0.0);
}

#[test]
fn a_server_that_is_killed_again_and_again_has_every_line_once() {
    const LINES: usize = 20_000;
    const KILLS: usize = 5;
    let place = Place::new();
    let mut up = Up::start(&place);
    let (token, reader) = devices(&place);
    let port = up.devices.trim_start_matches("ws://").to_owned();
    let mut sender = place.command(["send", "--url", &up.devices, "--token", &token]);
    let mut sender = Running(sender.stdin(Stdio::piped()).spawn().unwrap());
    let mut stdin = sender.0.stdin.take().unwrap();
    for n in 1..=LINES {
        writeln!(stdin, "line {n}").unwrap();
        if n % (LINES / KILLS) == LINES / KILLS / 2 {
            up.process.signal(Signal::KILL);
            up.process.wait();
            up = Up::listen(&place, &port, &[]);
        }
    }
    drop(stdin);
    assert!(sender.wait().success());
    let frames = stored(&place, &up, "bus-1", &reader, LINES);
    for (n, (_, seq, text)) in (1..).zip(&frames) {
        assert_eq!((*seq, text), (n, &format!("line {n}")));
    }
}

#[test]
fn a_server_restored_from_an_older_copy_gets_the_rest_again() {
    let place = Place::new();
    let copy = |from: &str, to: &str| {
        assert!(
            std::process::Command::new("cp")
                .arg("-a")
                .args([place.join(from), place.join(to)])
                .status()
                .unwrap()
                .success()
        );
    };
    let stop = |mut up: Up| {
        up.process.signal(Signal::TERM);
        up.process.wait();
    };
    let up = Up::start(&place);
    let (token, reader) = devices(&place);
    let send =
        |up: &Up, lines| place.pipe(&format!("send --url {} --token {token} --state s", up.devices), lines);
    send(&up, "1\n2\n").ok();
    stop(up);
    copy("trough-data", "older");
    let up = Up::start(&place);
    send(&up, "1\n2\n3\n4\n").ok();
    stop(up);
    std::fs::remove_dir_all(place.join("trough-data")).unwrap();
    copy("older", "trough-data");

    let up = Up::start(&place);
    let output = send(&up, "1\n2\n3\n4\n5\n");
    assert!(output.stderr.contains("4 lines were durable, and the server has 2"), "{output:#?}");
    output.ok();
    let texts: Vec<_> =
        stored(&place, &up, "bus-1", &reader, 5).into_iter().map(|(_, _, text)| text).collect();
    assert_eq!(texts, ["1", "2", "3", "4", "5"]);
}

#[test]
fn a_state_of_another_epoch_is_refused() {
    let place = Place::new();
    let up = Up::start(&place);
    let (token, _) = devices(&place);
    let send = format!("send --url {} --token {token}", up.devices);
    place.pipe(&format!("{send} --state s"), "a\nb\n").ok();
    // Without the state every run is an epoch of its own.
    place.pipe(&send, "c\n").ok();
    let stderr = place.pipe(&format!("{send} --state s"), "a\nb\nd\n").failed(1);
    assert!(stderr.contains("epoch") && stderr.contains("remove the file"), "{stderr}");
}

#[test]
fn a_shorter_input_and_a_second_sender_are_noticed() {
    let place = Place::new();
    let up = Up::start(&place);
    let (token, reader) = devices(&place);
    let send = format!("send --url {} --token {token} --state s", up.devices);
    place.pipe(&send, "a\nb\nc\n").ok();
    let stderr = place.pipe(&send, "a\n").failed(1);
    assert!(stderr.contains("has 1 line, and 3 were sent before"), "{stderr}");

    let mut first = Running(place.command(send.split(' ')).stdin(Stdio::piped()).spawn().unwrap());
    let mut stdin = first.0.stdin.take().unwrap();
    stdin.write_all(b"a\nb\nc\nd\n").unwrap();
    // When the new line is there, the first sender has the file.
    stored(&place, &up, "bus-1", &reader, 4);
    let stderr = place.pipe(&send, "a\nb\nc\nd\n").failed(1);
    assert!(stderr.contains("in use by another sender"), "{stderr}");
    drop(stdin);
    assert!(first.wait().success());
}

#[test]
fn a_refused_token_ends_it_with_what_to_do() {
    let place = Place::new();
    let up = Up::start(&place);
    let (token, _) = devices(&place);
    place.run("devices revoke bus-1").ok();
    let stderr = place.pipe(&format!("send --url {} --token {token}", up.devices), "a\n").failed(1);
    assert!(stderr.contains("the token was revoked"), "{stderr}");
    assert!(!stderr.contains(&token), "{stderr}");
}
