//! A device that changes feeder and eater while its frames are in flight.
//!
//! 1. Its frames are with the first eater, which cannot store them, or cannot enter them. It comes back through the
//!    other feeder to the other eater and sends them again, and more. The first eater goes on, before or after that. Both
//!    eaters show each frame once, in order, and no gap.

use trough_protocol::Seq;
use trough_protocol::device::Hello;
use trough_tests::cluster::Role;
use trough_tests::faults::{Cut, Fault, Hop};
use trough_tests::ledger::{Sent, Track};
use trough_tests::poll::{LATER, until};
use trough_tests::stage::Stage;
use trough_tests::wire::{Form, Wire};

const FIRST: Role = Role::Eater(0);
/// Acknowledged before anything happens, in flight when the device leaves, and sent in the end.
const ACKED: u64 = 20;
const IN_FLIGHT: u64 = 60;
const ALL: u64 = 80;

fn payload(device: &str, seq: u64) -> Vec<u8> {
    format!("{device}: {seq}").into_bytes()
}

async fn send(wire: &mut Wire, device: &str, first: u64, last: u64) {
    for seq in first..=last {
        wire.frames(seq, &[&payload(device, seq)]).await;
    }
}

async fn waiting(stage: &Stage) -> bool {
    stage.cluster.metric(FIRST, "trough_journal_queued_bytes").await > 0.0
}

async fn roam(stage: &mut Stage, device: &str, hop: Hop, heals_first: bool) {
    let hold = Fault::Cut(hop, Cut::BlackHole);
    let token = stage.cluster.add_device(device).await;
    let (mut wire, welcome) = Wire::begin(stage.feeder(0), Form::Binary, &token).await;
    send(&mut wire, device, 1, ACKED).await;
    wire.acked(ACKED).await;
    stage.begin(hold).await;
    send(&mut wire, device, ACKED + 1, IN_FLIGHT).await;
    until("frames are with the first eater", LATER, async || waiting(stage).await.then_some(())).await;
    // Another network: no word of farewell.
    drop(wire.into_socket());
    if heals_first {
        stage.end(hold).await;
    }

    let (oldest, next, acked) = (Seq(ACKED + 1), Seq(IN_FLIGHT + 1), Seq(ACKED));
    let hello = Hello { epoch: welcome.epoch, oldest, next, acked, ..Hello::NEW };
    let (mut wire, welcome) = Wire::resume(stage.feeder(1), Form::Binary, &token, hello).await;
    assert_eq!(welcome.epoch, hello.epoch, "{device} vouches for what it holds");
    send(&mut wire, device, welcome.resume.0, ALL).await;
    wire.acked(ALL).await;
    let sent = (1..=ALL).map(|seq| Sent::on_wire(seq, &payload(device, seq))).collect();
    let track = Track { device: device.to_owned(), sent };
    let readers = stage.cluster.readers();
    track.assert_readable(&readers[1], 1).await;
    if !heals_first {
        stage.end(hold).await;
    }
    until("the first eater has nothing in flight", LATER, async || (!waiting(stage).await).then_some(()))
        .await;
    for reader in readers {
        track.assert_readable(&reader, 1).await;
    }
    wire.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_comes_back_elsewhere_with_frames_in_flight() {
    let mut stage = Stage::start().await;
    // The first feeder knows the first eater only, the second the second.
    for (feeder, eater) in [(0, 1), (1, 0)] {
        stage.begin(Fault::Cut(Hop::Link { feeder, eater }, Cut::Refuse)).await;
    }
    for (name, hop) in [("store", Hop::Store(0)), ("entry", Hop::Database(FIRST))] {
        for heals_first in [false, true] {
            let device = format!("{name}-{heals_first}");
            roam(&mut stage, &device, hop, heals_first).await;
        }
    }
}
