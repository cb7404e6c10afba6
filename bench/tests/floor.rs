//! The load generator against the floor:
//! 1. a closed loop stores exactly what was acknowledged, in whole messages and over several threads;
//! 2. so does an open loop, and each of its frames is measured once;
//! 3. a floor that stores nothing acknowledges all the same;
//! 4. a fixed number of frames ends by itself.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

use std::fs::OpenOptions;
use std::net::TcpListener;
use std::time::Duration;

use tokio::sync::oneshot;
use trough_bench::floor;
use trough_bench::load::{Arrivals, CHANNEL, Credentials, Crew, Load, Outcome, Pace, Target};
use trough_bench::payload::PayloadKind;
use trough_protocol::ContentType;
use trough_protocol::frame::FrameRef;

const SESSIONS: usize = 5;
const PAYLOAD_BYTES: usize = 100;

fn load(pace: Pace, frames_per_message: u32) -> Load {
    Load {
        payload_bytes: PAYLOAD_BYTES,
        payload: PayloadKind::Binary,
        frames_per_message,
        pace,
        warmup: Duration::from_millis(50),
        duration: Duration::from_millis(250),
        threads: 2,
    }
}

/// Runs the traffic; gives its outcome and the frames in the file, if there is to be one.
async fn against_floor(load: Load, durable: bool) -> (Outcome, Option<u64>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("floor");
    let file = durable.then(|| OpenOptions::new().append(true).create_new(true).open(&path).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    let floor = std::thread::spawn(|| floor::run(listener, file, async { drop(stopped.await) }));
    let devices =
        (0..SESSIONS).map(|index| Credentials { device: format!("d{index}"), token: "any".into() }).collect();
    let crew = Crew::connect(&Target { url, devices }, &load).await.unwrap();
    let (_, outcome) = crew.go(&load);
    let outcome = outcome.await.unwrap();
    stop.send(()).unwrap();
    floor.join().unwrap().unwrap();
    assert_eq!((outcome.reconnects, outcome.acked.len()), (0, SESSIONS));
    let payload = [0; PAYLOAD_BYTES];
    let frame = FrameRef { ts: 1, channel: CHANNEL, content_type: ContentType::Bytes, payload: &payload };
    let frame_bytes = frame.encoded_len() as u64;
    let stored = durable.then(|| {
        let bytes = path.metadata().unwrap().len();
        assert_eq!(bytes % frame_bytes, 0);
        bytes / frame_bytes
    });
    (outcome, stored)
}

fn acked(outcome: &Outcome) -> u64 {
    outcome.acked.iter().map(|(_, frames)| frames).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_loop_stores_what_is_acknowledged() {
    let (outcome, stored) = against_floor(load(Pace::Closed { window: 20, frames: None }, 8), true).await;
    assert_eq!(stored, Some(acked(&outcome)));
    assert!(outcome.acked.iter().all(|(_, frames)| *frames > 0 && frames % 8 == 0), "{:?}", outcome.acked);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_loop_stores_what_is_acknowledged() {
    for arrivals in [Arrivals::Poisson, Arrivals::Even] {
        let (outcome, stored) = against_floor(load(Pace::Open { rate: 4000.0, arrivals }, 1), true).await;
        assert_eq!(stored, Some(acked(&outcome)));
        let measured = outcome.ack_ns.len();
        assert!(measured > 0 && measured < acked(&outcome), "the warm-up does not count");
        assert_eq!(outcome.late_ns.len(), measured);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_stored_is_acknowledged_too() {
    let (outcome, _) = against_floor(load(Pace::Closed { window: 4, frames: None }, 1), false).await;
    assert!(acked(&outcome) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fixed_number_of_frames_ends_by_itself() {
    let long = Load {
        duration: Duration::from_secs(3600),
        ..load(Pace::Closed { window: 64, frames: Some(1001) }, 16)
    };
    let (outcome, stored) = against_floor(long, true).await;
    assert!(outcome.acked.iter().all(|(_, frames)| *frames == 1001));
    assert_eq!(stored, Some(1001 * SESSIONS as u64));
}
