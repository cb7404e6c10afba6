//! What is acknowledged is visible to the very next request, whichever eater is asked.
//!
//! 1. A frame is acknowledged by one eater; the next thing that happens are questions to both: the device's head, and
//!    what there is behind the frame before. Devices of both eaters, through both feeders, a hundred times.

use futures_util::future::{join, join_all};
use trough_tests::cluster::Role;
use trough_tests::faults::FEEDERS;
use trough_tests::stage::Stage;
use trough_tests::wire::{Form, Wire};

const ROUNDS: u64 = 25;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn either_eater_shows_what_was_just_acknowledged() {
    let stage = Stage::start().await;
    let readers = stage.cluster.readers();
    // Which eater a device belongs to is chance: of four, some belong to each, and both are asked anyway.
    let devices: Vec<String> = (0..4).map(|n| format!("d-{n}")).collect();
    let tokens = stage.cluster.import_devices(devices.iter().map(String::as_str)).await;
    let mut wires = Vec::new();
    for (n, device) in devices.iter().enumerate() {
        wires.push(Wire::begin(stage.feeder(n % FEEDERS), Form::Binary, &tokens[device]).await.0);
    }
    for seq in 1..=ROUNDS {
        for (device, wire) in devices.iter().zip(&mut wires) {
            let payload = format!("{device}: {seq}").into_bytes();
            wire.frames(seq, &[&payload]).await;
            wire.acked(seq).await;
            let query = if seq == 1 { "limit=10".to_owned() } else { format!("after=1:{}", seq - 1) };
            let asked = readers.iter().map(|reader| join(reader.page(device, &query), reader.head(device)));
            for (eater, (page, head)) in join_all(asked).await.into_iter().enumerate() {
                let read: Vec<_> = page.frames.iter().map(|frame| (frame.seq, &frame.payload)).collect();
                assert_eq!(read, [(seq, &payload)], "{device}, frame {seq}, at eater {eater}");
                assert_eq!(head, Some((1, seq)), "{device}, at eater {eater}");
            }
        }
    }
    for role in [Role::Eater(0), Role::Eater(1)] {
        let frames = stage.cluster.metric(role, "trough_journal_frames_total").await;
        println!("{role:?} has stored {frames} frames");
    }
}
