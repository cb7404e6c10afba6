//! Scale on paper.
//!
//! 1. The table of `docs/scale.md` is what `trough bench scale` prints.
//! 2. What a real feeder and a real eater make of the same traffic: objects (which are PUTs and rows alike), spans and bytes
//!    are those of the simulation, within a fifth.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::time::{Instant, MissedTickBehavior};
use trough_bench::scale::sealing::{Traffic, simulate};
use trough_device::{Config, Device};
use trough_protocol::ContentType;
use trough_protocol::frame::FrameRef;
use trough_tests::admin::run;
use trough_tests::cluster::{Cluster, Options, Shape};
use trough_tests::poll::{LATER, ends, until};
use trough_tests::process::command;
use trough_tests::reader::client;

#[tokio::test]
async fn the_table_in_the_document_is_what_the_command_prints() {
    let mut scale = command();
    scale.args(["bench", "scale"]);
    let output = run(scale, "").await;
    assert!(output.status.success());
    let printed = String::from_utf8(output.stdout).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/scale.md");
    let document = fs::read_to_string(path).unwrap();
    assert!(document.contains(&printed), "put this into docs/scale.md:\n{printed}");
}

const DEVICES: usize = 20;
const PAYLOAD: usize = 256;
/// Frames of each device.
const FRAMES: u64 = 30;
/// Between two of them.
const EVERY: Duration = Duration::from_millis(500);
/// How long an object gathers: so long that a busy machine is not what decides.
const FLUSH_MS: u64 = 400;

/// A counter of a process.
async fn counter(admin: std::net::SocketAddr, name: &str) -> f64 {
    let text = client().get(format!("http://{admin}/metrics")).send().await.unwrap().text().await.unwrap();
    let value = |line: &str| line.strip_prefix(name)?.trim().parse::<f64>().ok();
    text.lines().find_map(value).unwrap_or_else(|| panic!("no {name} in {text}"))
}

fn files(dir: &Path) -> f64 {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { files(&path) } else { 1.0 }).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_eater_makes_as_many_objects_as_the_simulated_one() {
    let flush = FLUSH_MS.to_string();
    // Nothing is compacted: what is counted are the journal's objects.
    let args = ["--flush-after", &flush, "--compact-after", "3600"].map(str::to_owned);
    let options = Options { eater_args: args.into(), ..Options::default() };
    let cluster = Cluster::start_with(Shape::Objects, options).await;
    let names: Vec<String> = (0..DEVICES).map(|n| format!("device-{n}")).collect();
    let tokens = cluster.import_devices(names.iter().map(String::as_str)).await;
    let devices: Vec<Arc<Device>> = tokens
        .values()
        .map(|token| Arc::new(Device::start(Config::new(cluster.url(), token)).unwrap()))
        .collect();
    for device in &devices {
        ends("it is connected", LATER, device.connected()).await.unwrap();
    }
    let began = Instant::now();
    let mut sending = tokio::task::JoinSet::new();
    for (index, device) in devices.iter().cloned().enumerate() {
        sending.spawn(async move {
            // The devices' frames are spread over the time between two of one.
            let first = began + EVERY * index as u32 / DEVICES as u32;
            let mut ticks = tokio::time::interval_at(first, EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            for ts in 1..=FRAMES {
                ticks.tick().await;
                let frame = FrameRef {
                    ts,
                    channel: "position",
                    content_type: ContentType::Bytes,
                    payload: &[7; PAYLOAD],
                };
                device.send(frame).await.unwrap();
            }
        });
    }
    sending.join_all().await;
    let seconds = began.elapsed().as_secs_f64();
    let all = (DEVICES as u64 * FRAMES) as f64;
    let admin = cluster.at.eater_admin;
    until("all is durable", LATER, async || {
        (counter(admin, "trough_journal_frames_total").await >= all).then_some(())
    })
    .await;
    let objects = counter(admin, "trough_journal_groups_total").await;
    let bytes = counter(admin, "trough_journal_written_bytes_total").await;
    // Each PUT to a directory is a file.
    let puts = files(&cluster.path().join("store/journal"));
    let traffic = Traffic {
        flush_s: FLUSH_MS as f64 / 1000.0,
        ..Traffic::new(DEVICES as f64, all / seconds, PAYLOAD as f64)
    };
    let simulated = simulate(&traffic, seconds, &mut StdRng::seed_from_u64(1));
    println!("in {seconds:.1} s: {objects} objects, {bytes} bytes, {puts} PUTs; simulated {simulated:?}");
    let near = |real: f64, simulated: f64, what: &str| {
        assert!((real / simulated - 1.0).abs() < 0.2, "{what}: {real}, simulated {simulated}");
    };
    near(objects, simulated.objects, "objects");
    assert!(puts == objects, "a PUT for each object: {puts} for {objects}");
    near(bytes / all, simulated.bytes / simulated.frames, "bytes of a frame");
}
