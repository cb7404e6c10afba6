//! One loud device and fifty quiet ones.
//!
//! 1. While the loud one streams as fast as it is let, a quiet one's frame waits behind a bounded number of loud
//!    bytes: what the loud one's window holds, not what it has to send. Counted in bytes, not in time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use trough_device::Device;
use trough_tests::cluster::{Cluster, Shape};
use trough_tests::fleet::config;
use trough_tests::ledger::Sent;
use trough_tests::poll::{LATER, ends, until};

const QUIET: usize = 50;
const ROUNDS: usize = 20;
const LOUD_PAYLOAD: usize = 8 * 1024;
/// The feeder's default window.
const WINDOW_BYTES: usize = 256 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quiet_devices_do_not_wait_for_a_loud_one() {
    let cluster = Cluster::start(Shape::Split).await;
    let ids: Vec<String> = (0..QUIET).map(|n| format!("quiet-{n}")).chain(["loud".to_owned()]).collect();
    let tokens = cluster.import_devices(ids.iter().map(String::as_str)).await;
    let loud = Arc::new(Device::connect(config(&cluster, &tokens["loud"])).await.unwrap());
    let over = Arc::new(AtomicBool::new(false));
    let streaming = tokio::spawn({
        let (loud, over) = (loud.clone(), over.clone());
        async move {
            let frame = Sent::on_wire(1, &vec![b'x'; LOUD_PAYLOAD]);
            while !over.load(Ordering::Relaxed) {
                loud.send(frame.frame()).await.unwrap();
            }
        }
    });
    until("the loud one is in full swing", LATER, async || (loud.acked().0 > 200).then_some(())).await;

    let mut waits = Vec::new();
    for id in &ids[..QUIET] {
        let quiet = Device::connect(config(&cluster, &tokens[id])).await.unwrap();
        for _ in 0..ROUNDS {
            let before = loud.acked().0;
            quiet.send(Sent::on_wire(1, b"quiet").frame()).await.unwrap();
            ends("a quiet frame is acknowledged", LATER, quiet.flush()).await.unwrap();
            waits.push((loud.acked().0 - before) as usize * LOUD_PAYLOAD);
        }
        quiet.close().await.unwrap();
    }
    let streamed = loud.acked().0 as usize * LOUD_PAYLOAD;
    over.store(true, Ordering::Relaxed);
    streaming.await.unwrap();
    waits.sort_unstable();
    let at = |share: usize| waits[(waits.len() - 1) * share / 100];
    println!(
        "loud bytes before a quiet ack: p50 {}, p90 {}, most {}; {streamed} in all",
        at(50),
        at(90),
        at(100)
    );
    assert!(streamed > 10 * WINDOW_BYTES, "the loud one was loud: {streamed} bytes");
    // What was on its way, and what is let in while the answer comes back: a window each.
    assert!(at(50) <= 2 * WINDOW_BYTES, "half of the quiet frames waited for more than {} bytes", at(50));
    assert!(at(90) <= 4 * WINDOW_BYTES, "a tenth of the quiet frames waited for more than {} bytes", at(90));
}
