//! Which devices were near one another: 329 buses of a morning, against an answer that was found by comparing each position
//! with each other one.
//!
//! 1. All pairs, and how near they came, as the API says it; from the journal and, compacted, from segments.
//! 2. Of one bus, its own pairs. Of a part of the morning, fewer.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use flate2::read::GzDecoder;
use serde_json::Value;
use trough_device::Mode;
use trough_tests::cluster::{Cluster, Options, Shape};
use trough_tests::data;
use trough_tests::duckdb::Manifest;
use trough_tests::fleet::Fleet;
use trough_tests::ledger::Track;
use trough_tests::poll::{LATER, until};

/// What is said of a pair at 50 m and 60 s: the least distance in metres, and whether it is a matter of the formula.
type Expected = BTreeMap<(String, String), (f64, bool)>;

fn expected() -> Expected {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/austin-buses/encounters.csv.gz");
    let mut text = String::new();
    GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    let mut rows = csv::Reader::from_reader(text.as_bytes());
    let rows = rows.deserialize().map(|row| {
        let (a, b, metres, borderline): (String, String, f64, u8) = row.unwrap();
        ((format!("bus-{a}"), format!("bus-{b}")), (metres, borderline == 1))
    });
    let all: Expected = rows.collect();
    let sure = all.values().filter(|(metres, _)| *metres <= 50.0).count();
    assert_eq!((all.len(), sure), (2924, 2919));
    all
}

/// The buses, at the times when they really were there.
fn buses() -> Vec<Track> {
    let mut times: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for row in data::positions() {
        let at: jiff::Timestamp = row.timestamp.parse().unwrap();
        let ts = u64::try_from(at.as_microsecond()).unwrap();
        times.entry(format!("bus-{}", row.vehicle_id)).or_default().push(ts);
    }
    let mut tracks = data::buses();
    for track in &mut tracks {
        for (sent, ts) in track.sent.iter_mut().zip(&times[&track.device]) {
            sent.ts = *ts;
        }
    }
    tracks
}

async fn encounters(cluster: &Cluster, path: &str) -> BTreeMap<(String, String), Value> {
    let answer = cluster.reader().get(path, "application/json").await.unwrap();
    assert_eq!(answer.status(), 200, "{path}");
    let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    let pairs = answer["encounters"].as_array().unwrap().iter().map(|one| {
        let name = |at: usize| one["devices"][at].as_str().unwrap().to_owned();
        ((name(0), name(1)), one.clone())
    });
    pairs.collect()
}

fn assert_all(found: &BTreeMap<(String, String), Value>, expected: &Expected) {
    for (pair, (metres, borderline)) in expected {
        let Some(one) = found.get(pair) else {
            assert!(borderline, "{pair:?} were {metres} m apart");
            continue;
        };
        let apart = one["metres"].as_f64().unwrap();
        assert!((apart - metres).abs() < 0.01 || *borderline, "{pair:?} were {metres} m apart: {one}");
        let [first, last] = ["first_ts", "last_ts"].map(|name| one[name].as_u64().unwrap());
        let closest = [0, 1].map(|at| one["closest"][at]["ts"].as_u64().unwrap());
        assert!(closest[0].abs_diff(closest[1]) <= 60_000_000, "{one}");
        assert!(closest.iter().all(|ts| (first..=last).contains(ts)), "{one}");
    }
    for pair in found.keys() {
        assert!(expected.contains_key(pair), "{pair:?} were not near one another");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buses_meet_as_comparing_all_says() {
    let args: Vec<String> = ["--compact-after", "1"].map(str::to_owned).into();
    let cluster = Cluster::start_with(Shape::Up, Options { feeder_args: args, ..Options::default() }).await;
    let expected = expected();
    let mut fleet = Fleet::start(&cluster, buses(), Mode::Binary).await;
    fleet.finish().await;
    let undeclared = encounters(&cluster, "/v1/encounters").await;
    assert!(undeclared.is_empty(), "nobody has said which channel has positions");
    cluster.admin(&["channels", "position", "position"], "").await;
    let all = "/v1/encounters?within=50m&during=60s";
    assert_all(&encounters(&cluster, all).await, &expected);

    let store = cluster.data_dir().join("store");
    let frames = data::frames(&fleet.tracks) as u64;
    until("all of it is compacted", LATER, async || {
        Manifest::newest(&store).filter(|manifest| manifest.frames() >= frames)
    })
    .await;
    let found = encounters(&cluster, all).await;
    assert_all(&found, &expected);

    let bus = "bus-2501";
    let own = encounters(&cluster, &format!("/v1/devices/{bus}/encounters")).await;
    let with_it = found.iter().filter(|((a, b), _)| [a.as_str(), b].contains(&bus));
    assert_eq!(own, with_it.map(|(pair, one)| (pair.clone(), one.clone())).collect());
    assert!(!own.is_empty());
    let hour = "/v1/encounters?from=2017-03-21T12:00:00Z&to=2017-03-21T13:00:00Z";
    let some = encounters(&cluster, hour).await;
    assert!(!some.is_empty() && some.len() < found.len() && some.keys().all(|pair| found.contains_key(pair)));
    let near = encounters(&cluster, "/v1/encounters?within=10m&during=60s").await;
    // The same comparison of all finds so many at ten metres.
    assert_eq!(near.len(), 457);
}
