//! The bench itself.
//!
//! 1. `trough bench history`: answers have the frames that they must have, and are the same before and after compaction; a
//!    device's hour reads little. `TROUGH_TEST_BENCH_FRAMES` says how many frames; the long form takes a million.
//! 2. `trough bench --backlog`: what is acknowledged while older frames are compacted is stored.
//! 3. `trough bench notify`: as many deliveries as there were matches, in both of its parts.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use trough_tests::admin::run;
use trough_tests::poll::ends;
use trough_tests::process::command;

const FRAMES: &str = "200000";
/// Both start a server many times over.
const MUCH_LATER: Duration = Duration::from_secs(3600);

/// Where a disk is not waited for, if there is such a place: no figure is looked at.
fn place() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

async fn bench(args: &[&str]) -> Value {
    let dir = place();
    let mut command = command();
    command.args(["bench"]).args(args).args(["--json", "--dir"]).arg(dir.path());
    let output = ends("the bench ends", MUCH_LATER, run(command, "")).await;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "it leaves nothing behind");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_year_is_the_same_before_and_after_compaction() {
    let frames = std::env::var_os("TROUGH_TEST_BENCH_FRAMES");
    let frames = frames.map_or(FRAMES.to_owned(), |frames| frames.into_string().unwrap());
    let report = bench(&["history", "--devices", "50", "--frames", &frames]).await;
    let size = &report["sizes"][0];
    let all: u64 = frames.parse().unwrap();
    assert_eq!(size["compacted"]["frames"], all);
    // The first and the last day have a part of their frames each.
    let segments = size["compacted"]["segments"].as_u64().unwrap();
    assert!((365..3 * 366).contains(&segments), "{segments} segments of 366 days");
    for (when, elsewhere) in [("before", "segment_bytes"), ("after", "journal_bytes")] {
        let phase = size[when].as_array().unwrap();
        let counts = phase.iter().map(|query| query["frames"].as_u64().unwrap());
        let expected = [all / 8760 / 50, all / 50, all / 8760];
        for (count, expected) in counts.zip(expected) {
            assert!((expected..=expected + 1).contains(&count), "{when}: {report}");
        }
        let cold = phase.iter().map(|query| &query["cold_read"]);
        for read in cold {
            assert_eq!(read[elsewhere], 0, "{when}: {report}");
        }
    }
    let hour = &size["after"][0]["cold_read"]["segment_bytes"];
    assert!((1..4 << 20).contains(&hour.as_u64().unwrap()), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_during_compaction_is_stored() {
    let traffic = ["--rate", "200", "--sessions", "20", "--duration", "2"];
    let backlog = ["--backlog", "100000", "--embedded"];
    let report = bench(&[traffic.as_slice(), &backlog].concat()).await;
    let run = &report["runs"][0];
    assert_eq!((&run["kind"], run["backlog"].as_u64()), (&Value::from("compacting"), Some(100_000)));
    for which in ["without", "with"] {
        let stored = &run[which]["stored"];
        assert!(stored["acked"].as_u64() > Some(0) && stored["acked"] == stored["found"], "{report}");
    }
    assert_eq!(run["without"]["compaction"]["frames"], 0, "{report}");
    assert!(run["with"]["compaction"]["frames"].as_u64().is_some(), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_is_to_be_told_is_told() {
    let few = ["--devices", "8", "--subscriptions", "3", "--rate", "200", "--every", "10", "--duration", "2"];
    let report = bench(&[&["notify"], few.as_slice(), &["--deliveries", "400"]].concat()).await;
    // One in ten of two seconds' frames, by the clock of the devices.
    let told = report["told_of"].as_u64().unwrap();
    assert!((30..=60).contains(&told) && report["told"]["frames"] == told, "{report}");
    assert_eq!(report["work"]["deliveries"], 400, "{report}");
    assert!(report["work"]["cpu_seconds"].as_f64() > Some(0.0), "{report}");
}
