//! Real data, unharmed.
//!
//! 1. `trough demo --json --exit` replays the buses, finds 45,377 positions durable, and ends with code 0.
//! 2. The buses, sent by the client library, come back per bus in order and equal to the file.
//! 3. What 115 receivers said, text and binary, comes back byte for byte as JSON, NDJSON and CSV, whether it was
//!    sent in the binary form or in the JSON form.
//! 4. The same in raw mode, where text and binary messages keep their kind.

use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;
use trough_device::Mode;
use trough_tests::admin::run;
use trough_tests::cluster::{Cluster, Shape};
use trough_tests::data::{self, BUS_POSITIONS, BUSES};
use trough_tests::fleet::Fleet;
use trough_tests::ledger::{Track, assert_all_readable};
use trough_tests::poll::{LATER, ends, until};
use trough_tests::process::command;
use trough_tests::reader::ReadFrame;
use trough_tests::upgrade::Ask;
use trough_tests::wire::{Form, Wire};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_stores_every_position() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = command();
    command.args(["demo", "--json", "--exit"]).current_dir(dir.path());
    let output = ends("the demo ends", LATER, run(command, "")).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.trim_end().lines().count(), 1, "one JSON object and nothing else: {text}");
    let report: Value = serde_json::from_str(&text).unwrap();
    let numbers: Vec<u64> = report.as_object().unwrap().values().filter_map(Value::as_u64).collect();
    assert!(numbers.contains(&(BUS_POSITIONS as u64)) && numbers.contains(&(BUSES as u64)), "{report}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "it leaves nothing behind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buses_come_back_as_they_were_sent() {
    let cluster = Cluster::start(Shape::Up).await;
    let mut fleet = Fleet::start(&cluster, data::buses(), Mode::Binary).await;
    fleet.finish().await;
    assert_eq!(fleet.acked(), BUS_POSITIONS as u64);
    assert_all_readable(&cluster.reader(), &fleet.tracks).await;

    // The file itself, row by row, against what is read.
    let reader = cluster.reader();
    let mut read: std::collections::BTreeMap<String, std::vec::IntoIter<ReadFrame>> = Default::default();
    for track in fleet.tracks.iter() {
        read.insert(track.device.clone(), reader.frames(&track.device).await.into_iter());
    }
    for row in data::positions() {
        let frame = read.get_mut(&format!("bus-{}", row.vehicle_id)).unwrap().next().unwrap();
        let value: Value = serde_json::from_slice(&frame.payload).unwrap();
        assert_eq!((value["lat"].as_f64(), value["lon"].as_f64()), (Some(row.latitude), Some(row.longitude)));
        assert_eq!(value["at"], row.timestamp);
    }
    assert!(read.values_mut().all(|rest| rest.next().is_none()), "no more than the file has");
}

async fn receivers_round_trip(mode: Mode, shape: Shape) {
    let cluster = Cluster::start(shape).await;
    let mut fleet = Fleet::start(&cluster, data::gpsd(), mode).await;
    fleet.finish().await;
    let reader = cluster.reader();
    assert_all_readable(&reader, &fleet.tracks).await;
    for track in fleet.tracks.iter() {
        track.assert_read(1, &reader.frames_by_page(&track.device, 777).await);
        track.assert_read(1, &reader.frames_by_csv(&track.device).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receivers_come_back_byte_for_byte_from_the_binary_form() {
    receivers_round_trip(Mode::Binary, Shape::Split).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receivers_come_back_byte_for_byte_from_the_json_form() {
    receivers_round_trip(Mode::Json, Shape::Up).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receivers_come_back_byte_for_byte_from_raw_mode() {
    let cluster = Cluster::start(Shape::Up).await;
    let tracks = data::gpsd();
    let tokens = cluster.import_devices(tracks.iter().map(|track| &*track.device)).await;
    for track in &tracks {
        let ask = Ask::new(cluster.at.devices, "/v1/raw?channel=gnss").token(&tokens[&track.device]);
        let mut wire = Wire::from_socket(ask.send().await.unwrap(), Form::Binary);
        for sent in &track.sent {
            let message = match sent.content_type.starts_with("text/") {
                true => Message::text(String::from_utf8(sent.payload.clone()).unwrap()),
                false => Message::binary(sent.payload.clone()),
            };
            wire.put(message).await.unwrap();
        }
        wire.close().await;
    }
    let reader = cluster.reader();
    for track in &tracks {
        let count = track.sent.len() as u64;
        until("all raw frames are durable", LATER, async || {
            (reader.head(&track.device).await?.1 == count).then_some(())
        })
        .await;
        assert_same_but_for_time(track, &reader.frames(&track.device).await);
    }
}

/// Raw frames get the feeder's time.
fn assert_same_but_for_time(track: &Track, read: &[ReadFrame]) {
    let timeless = |mut frame: ReadFrame| {
        frame.ts = 0;
        frame
    };
    let read: Vec<ReadFrame> = read.iter().cloned().map(timeless).collect();
    let mut track = track.clone();
    track.sent.iter_mut().for_each(|sent| sent.ts = 0);
    track.assert_read(1, &read);
}
