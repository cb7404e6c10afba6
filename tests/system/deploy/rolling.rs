//! A rolling update of all services under load: the pods of the manifests, NGINX in front of the feeders, and devices that
//! stream all the time.
//!
//! 1. Feeders, notifiers and eaters are stopped and started again, one after another, and one feeder is emptied by hand
//!    before that. Everything that was sent is read once, from each eater. No device is disconnected more often than a
//!    feeder went; each is told when to come back, and they do not come back at once. An eater goes only
//!    while another is there: devices that come just then are let in, and nobody is told that there is none.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::Rng as _;
use rand::seq::SliceRandom as _;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, sleep};
use trough_device::{Config, Device, Event, Tls};
use trough_tests::ledger::{Sent, Track, assert_all_frames_readable, assert_all_readable};
use trough_tests::poll::{LATER, ends, until};
use trough_tests::reader::Reader;
use trough_tests::seed;
use trough_tests::servers::nginx::Nginx;

use super::namespace::{EACH, Namespace};

const DEVICES: usize = 30;
/// Each sends in its own part of this time, so that few devices are in one object: the test's database is written in Python,
/// reads all of a row to find one device in it, and enters it with up to the square of its devices in keys.
const FRAME_EVERY: Duration = Duration::from_secs(1);

/// A device that streams.
struct Streamer {
    device: Arc<Device>,
    task: JoinHandle<Track>,
    /// When it came back, after the first time.
    back: Arc<Mutex<Vec<Instant>>>,
    /// What it heard of missing eaters.
    missed: Arc<Mutex<Vec<String>>>,
    watching: AbortHandle,
}

impl Streamer {
    fn start(config: Config, id: &str, phase: Duration, stop: watch::Receiver<bool>) -> Self {
        let device = Arc::new(Device::start(config).unwrap());
        let back = Arc::<Mutex<Vec<Instant>>>::default();
        let missed = Arc::<Mutex<Vec<String>>>::default();
        let (mut events, seen, id) = (device.events(), back.clone(), id.to_owned());
        let (name, misses) = (id.clone(), missed.clone());
        let watching = tokio::spawn(async move {
            let mut is_first = true;
            while let Ok(event) = events.recv().await {
                match event {
                    Event::Connected { .. } if std::mem::take(&mut is_first) => {}
                    Event::Connected { .. } => seen.lock().unwrap().push(Instant::now()),
                    // As each feeder closes its sessions.
                    Event::Disconnected { code, reason, .. } => {
                        println!("{name}: {code:?} {reason}");
                        if is_without_eater(&reason) {
                            misses.lock().unwrap().push(reason);
                        }
                    }
                    Event::EpochChanged { .. } => panic!("{name} has another epoch"),
                    Event::Rewound(_) => {}
                }
            }
        });
        let task = tokio::spawn(stream(device.clone(), id, phase, stop));
        Self { device, task, back, missed, watching: watching.abort_handle() }
    }
}

fn is_without_eater(reason: &str) -> bool {
    reason.contains("no_eater") || reason.contains("no eater can be reached")
}

/// A device comes, is let in, and goes.
async fn visit(config: Config) {
    let device = Device::start(config).unwrap();
    let mut events = device.events();
    let let_in = async {
        while let Ok(event) = events.recv().await {
            match event {
                Event::Connected { .. } => return,
                Event::Disconnected { reason, .. } => assert!(!is_without_eater(&reason), "{reason}"),
                Event::EpochChanged { .. } | Event::Rewound(_) => {}
            }
        }
    };
    ends("a device that comes now is let in", LATER, let_in).await;
    ends("it goes", LATER, device.close()).await.unwrap();
}

async fn stream(device: Arc<Device>, id: String, phase: Duration, stop: watch::Receiver<bool>) -> Track {
    let mut sent = Vec::new();
    sleep(phase).await;
    while !*stop.borrow() {
        let number = sent.len() + 1;
        let frame = Sent {
            ts: 1_700_000_000_000_000 + number as u64 * 1_000_000,
            channel: "can".into(),
            content_type: "application/json".into(),
            payload: json!({"n": number}).to_string().into_bytes(),
        };
        device.send(frame.frame()).await.unwrap();
        sent.push(frame);
        sleep(FRAME_EVERY).await;
    }
    device.close().await.unwrap();
    Track { device: id, sent }
}

/// That those who came back since did so over a part of the spread.
fn assert_no_burst(streamers: &[Streamer], since: Instant, spread: Duration, what: &str) {
    let mut back: Vec<Duration> = streamers
        .iter()
        .flat_map(|streamer| streamer.back.lock().unwrap().clone())
        .filter_map(|at| at.checked_duration_since(since))
        .collect();
    back.sort_unstable();
    assert!(back.len() >= DEVICES / 4, "{what}: {} devices came back", back.len());
    let (tenth, nine_tenths) = (back[back.len() / 10], back[back.len() * 9 / 10]);
    println!(
        "{what}: {} devices came back from {:?} to {:?}, nine in ten of them from {tenth:?} to {nine_tenths:?}",
        back.len(),
        back[0],
        back[back.len() - 1]
    );
    assert!(nine_tenths - tenth > spread / 3, "{what}: they came back in a burst");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_update_of_everything_under_load() {
    let mut rng = seed::rng("rolling");
    let mut namespace = Namespace::start().await;
    let each = |pod: &str, port: &str| {
        (0..EACH).map(|n| namespace.at(&format!("{pod}-{n}"), port)).collect::<Vec<_>>()
    };
    let nginx = Nginx::start(&each("feeder", "http"), &each("eater", "http")).await;
    let tls = Tls::with_roots_pem(nginx.certificate_pem.as_bytes()).unwrap();
    let environment = namespace.manifests.pod("feeder").environment();
    let spread = Duration::from_secs(super::names::number(&environment, "TROUGH_DRAIN_SPREAD"));

    let reader = namespace.exec(&["readers", "add", "all"], "").await;
    let ids: String = (0..DEVICES).map(|n| format!("roll-{n},\n")).collect();
    let tokens = namespace.exec(&["devices", "import", "-"], &ids).await;
    let (stop, stopped) = watch::channel(false);
    let config = |token: &str| {
        let mut config = Config::new(format!("wss://{}", nginx.at), token);
        config.tls = Some(tls.clone());
        (config.backoff_min, config.backoff_max) = (Duration::from_millis(20), Duration::from_millis(500));
        config
    };
    let visitor = config(&namespace.exec(&["devices", "add", "visitor"], "").await);
    let streamers: Vec<Streamer> = tokens
        .lines()
        .skip(1)
        .map(|line| {
            let (id, token) = line.split_once(',').unwrap();
            let config = config(token);
            Streamer::start(config, id, rng.random_range(Duration::ZERO..FRAME_EVERY), stopped.clone())
        })
        .collect();
    let acked = || streamers.iter().map(|streamer| streamer.device.acked().0).sum::<u64>();
    let began = Instant::now();
    let goes_on = async |what: &str| {
        let goal = acked() + 2 * DEVICES as u64;
        until(&format!("all stream on after {what}"), LATER, async || (acked() >= goal).then_some(())).await;
        println!("at {:?} all stream on after {what}", began.elapsed());
    };
    goes_on("the start").await;

    let all_are_back = async || {
        for streamer in &streamers {
            ends("every device is back", LATER, streamer.device.connected()).await.unwrap();
        }
    };

    let rolled = Instant::now();
    namespace.roll("feeder", 0).await;
    all_are_back().await;
    assert_no_burst(&streamers, rolled, spread, "feeder-0 rolled");
    goes_on("feeder-0").await;
    let mut pods = [("notifier", 0), ("notifier", 1), ("eater", 0), ("eater", 1)];
    pods.shuffle(&mut rng);
    for (name, index) in pods {
        let mut visits = 0;
        let visiting = async {
            loop {
                visit(visitor.clone()).await;
                visits += 1;
            }
        };
        tokio::select! {
            () = namespace.roll(name, index) => {}
            () = visiting => {}
        }
        // A notifier goes in no time.
        assert!(visits > 0 || name == "notifier", "nobody came while {name}-{index} went");
        goes_on(&format!("{name}-{index} and {visits} visits")).await;
    }
    let emptied = Instant::now();
    let left = namespace.exec_in("feeder-1", &["drain", "--wait"], "").await;
    assert_eq!(left, "left: 0 sessions");
    all_are_back().await;
    assert_no_burst(&streamers, emptied, spread, "feeder-1 emptied");
    namespace.roll("feeder", 1).await;
    goes_on("feeder-1").await;

    stop.send_replace(true);
    let mut tracks = Vec::new();
    let mut most = 0;
    for streamer in streamers {
        tracks.push(ends("all is acknowledged", LATER, streamer.task).await.unwrap());
        streamer.watching.abort();
        most = most.max(streamer.back.lock().unwrap().len());
        assert_eq!(*streamer.missed.lock().unwrap(), [""; 0], "an eater was there all the time");
    }
    let frames: usize = tracks.iter().map(|track| track.sent.len()).sum();
    println!("{DEVICES} devices sent {frames} frames; none was disconnected more than {most} times");
    assert!(most <= EACH, "a device was disconnected {most} times by {EACH} feeders that went");
    let reader = |eater: &str| Reader::new(format!("http://{}", namespace.at(eater, "http")), reader.clone());
    assert_all_readable(&reader("eater-0").patient(), &tracks).await;
    println!("at {:?} all was read from eater-0", began.elapsed());
    // What is said of devices and gaps comes from the same rows.
    assert_all_frames_readable(&reader("eater-1").patient(), &tracks).await;
    println!("at {:?} all was read from eater-1", began.elapsed());
}
