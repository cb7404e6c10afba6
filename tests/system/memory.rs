//! An eater's memory while its object store swallows everything.
//!
//! 1. Devices stream as fast as they are let, and other feeders use up all the credit that they are given, in batches
//!    of every size. The store takes connections and bytes and answers nothing, for 10 s (60 s in the long
//!    form). The eater stays below 256 MiB all the time, and while it catches up; nothing is acknowledged meanwhile;
//!    in the end everything is, and is read once and in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};
use trough_device::Mode;
use trough_protocol::link::{LinkMessage, Versions};
use trough_tests::cluster::{Cluster, Options, Role, Shape};
use trough_tests::fleet::Fleet;
use trough_tests::ledger::{Sent, Track, assert_all_readable};
use trough_tests::peer::{Heard, Peer, batch};
use trough_tests::poll::{LATER, SOON, until};
use trough_tests::process::rss_bytes;
use trough_tests::seed;
use trough_tests::servers::proxy::Proxy;
use trough_tests::servers::seaweed::{self, Seaweed};

const MIB: u64 = 1 << 20;
const RSS_MAX: u64 = 256 * MIB;
/// What an eater with an object store gives unless it is told otherwise.
const CREDIT: u64 = 96 * MIB;
const DEVICES: usize = 20;
const FRAMES: usize = 256;
/// The feeder has a link for each core, and must leave most of the credit to others.
const CORES_MAX: usize = 8;
const PAYLOAD: usize = 4 * 1024;
/// Frames in one batch after another: what fits into a shared block of the link's buffer many times, badly, and not
/// at all.
const BATCHES: [usize; 7] = [1, 2, 9, 5, 15, 60, 300];
/// How often a feeder says that it is there.
const PING_EVERY: Duration = Duration::from_secs(5);

fn sent(seq: usize) -> Sent {
    let mut payload = format!("{seq} ").into_bytes();
    payload.resize(PAYLOAD, b'x');
    Sent::on_wire(seq as u64, &payload)
}

/// A feeder that uses all of its credit at once.
struct Greedy {
    peer: Peer,
    track: Track,
    batches: u64,
    fed: u64,
    credit: u64,
}

impl Greedy {
    /// The next one, unless the eater has no credit left.
    async fn greet(cluster: &Cluster, index: usize) -> Option<Self> {
        let mut peer = Peer::greet(cluster.at.links, Versions::OURS).await;
        match peer.hear().await {
            Heard::Welcome { credit, .. } => {
                let track = Track { device: format!("greedy-{index}"), sent: Vec::new() };
                Some(Self { peer, track, batches: 0, fed: 0, credit })
            }
            Heard::Goaway { code: "full", .. } => None,
            other => panic!("a WELCOME or a GOAWAY was due: {other:?}"),
        }
    }

    /// Sends until not even one frame fits.
    async fn fill(&mut self) {
        let mut sizes = BATCHES.iter().cycle();
        while let Some(batch) = self.next(*sizes.next().unwrap()).or_else(|| self.next(1)) {
            self.batches += 1;
            self.fed += batch.len() as u64;
            self.peer.say(&LinkMessage::Feed { number: self.batches, batch: &batch }).await;
        }
    }

    /// A batch of so many frames, if it fits.
    fn next(&mut self, frames: usize) -> Option<Vec<u8>> {
        let first = self.track.sent.len() + 1;
        let frames: Vec<Sent> = (first..first + frames).map(sent).collect();
        let payloads: Vec<&[u8]> = frames.iter().map(|frame| &frame.payload[..]).collect();
        let batch = batch(&self.track.device, first as u64, &payloads);
        (self.fed + batch.len() as u64 <= self.credit).then(|| {
            self.track.sent.extend(frames);
            batch
        })
    }

    /// Hears until everything is durable.
    async fn finish(&mut self) {
        loop {
            match self.peer.hear().await {
                Heard::Ate(number) if number == self.batches => return,
                Heard::Ate(_) | Heard::Pong(_) => {}
                // It asks whether this feeder lives.
                Heard::Other(_) => self.ping().await,
                other => panic!("an ATE was due: {other:?}"),
            }
        }
    }

    async fn ping(&mut self) {
        self.peer.say(&LinkMessage::Ping { nonce: 1 }).await;
    }
}

/// Looks at a process's memory every 100 ms.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Watch {
    fn start(pid: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut peak = 0;
            while !stopped.load(Ordering::Relaxed) {
                peak = rss_bytes(pid).max(peak);
                std::thread::sleep(Duration::from_millis(100));
            }
            peak
        });
        Self { stop, thread }
    }

    fn peak(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_black_hole_for_a_store_costs_bounded_memory() {
    let outage = if seed::long("60 s without a store") { 60 } else { 10 };
    let store = Seaweed::start().await;
    let mut proxy = Proxy::start(store.at).await;
    let url = store.url("memory").replace(&store.at.to_string(), &proxy.at.to_string());
    let options = Options {
        eater_args: vec!["--store".into(), url],
        env: vec![
            ("AWS_ACCESS_KEY_ID", seaweed::ACCESS.access_key),
            ("AWS_SECRET_ACCESS_KEY", seaweed::ACCESS.secret_key),
        ],
        ..Options::default()
    };
    let mut cluster = Cluster::prepare(Shape::Split, options).await;
    let eater = Role::Eater(0);
    cluster.spawn(eater);
    until("the eater is ready", LATER, async || {
        cluster.readiness(eater).await.filter(|(status, _)| *status == 200).map(drop)
    })
    .await;
    let given = cluster.metric(eater, "trough_eater_budget_bytes").await as u64;
    assert_eq!(given, CREDIT);
    let mut greedy = Vec::new();
    while let Some(one) = Greedy::greet(&cluster, greedy.len()).await {
        greedy.push(one);
    }
    let links = greedy.len();
    // The devices' feeder needs some.
    let cores = std::thread::available_parallelism().unwrap().get();
    let devices = if cores <= CORES_MAX { DEVICES } else { 0 };
    greedy.truncate(links - cores.min(CORES_MAX));
    cluster.import_devices(greedy.iter().map(|one| &*one.track.device)).await;
    cluster.spawn(Role::Feeder(0));
    let track = |device| Track { device, sent: (1..=FRAMES).map(sent).collect() };
    let tracks = (0..devices).map(|device| track(format!("device-{device}"))).collect();
    let mut fleet = Fleet::start(&cluster, tracks, Mode::Binary).await;
    fleet.let_go(40);
    until("every device has frames acknowledged", LATER, async || {
        fleet.devices.iter().all(|device| device.acked().0 > 0).then_some(())
    })
    .await;
    let before = cluster.rss_bytes(eater);

    proxy.black_hole();
    let watch = Watch::start(cluster.process(eater).id());
    fleet.let_go(1000);
    for one in &mut greedy {
        one.fill().await;
    }
    let fed: u64 = greedy.iter().map(|one| one.fed).sum();
    let waiting = until("everything waits", SOON, async || {
        let waiting = cluster.metric(eater, "trough_eater_waiting_bytes").await as u64;
        (waiting >= fed).then_some(waiting)
    })
    .await;
    let acked = fleet.acked();
    let end = Instant::now() + Duration::from_secs(outage);
    while Instant::now() < end {
        for one in &mut greedy {
            one.ping().await;
        }
        sleep(PING_EVERY.min(end - Instant::now())).await;
    }
    assert_eq!(fleet.acked(), acked, "nothing is acknowledged while nothing can be stored");
    let during = cluster.rss_bytes(eater);

    proxy.heal().await;
    tokio::join!(fleet.finish(), join_all(greedy.iter_mut().map(Greedy::finish)));
    let peak = watch.peak();
    println!(
        "RSS of the eater: {} MiB before, {} MiB after {outage} s without a store, {} MiB at most; \
         {} of {} MiB of credit in use, {links} links",
        before / MIB,
        during / MIB,
        peak / MIB,
        waiting / MIB,
        CREDIT / MIB
    );
    assert!(peak < RSS_MAX, "the eater had {peak} bytes in memory");
    cluster.ready().await;
    assert_all_readable(&cluster.reader(), &fleet.tracks).await;
    for Greedy { track, .. } in &greedy {
        track.assert_read(1, &cluster.reader().frames(&track.device).await);
    }
}
