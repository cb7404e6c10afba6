//! Questions to history, answered by the API and, over the same frames, by a stranger.
//!
//! 1. All buses as one Parquet answer, half of them out of segments: DuckDB finds in it what was sent, frame by frame.
//! 2. Chosen fields and buckets of all devices are what DuckDB makes of those frames.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use trough_device::Mode;
use trough_tests::cluster::{Cluster, Options, Shape};
use trough_tests::data;
use trough_tests::duckdb::{self, Manifest};
use trough_tests::fleet::Fleet;
use trough_tests::ledger::Track;
use trough_tests::poll::{LATER, until};
use trough_tests::reader::ReadFrame;

const PARQUET: &str = "application/vnd.apache.parquet";
/// Buses that stream, besides all receivers.
const SOME_BUSES: usize = 60;

async fn download(cluster: &Cluster, path: &str, file: &Path) {
    let answer = cluster.reader().get(path, PARQUET).await.unwrap();
    assert_eq!(answer.status().as_u16(), 200, "{path}");
    std::fs::write(file, answer.bytes().await.unwrap()).unwrap();
}

/// The frames in a Parquet answer, as DuckDB finds them.
async fn frames(file: &Path) -> BTreeMap<String, Vec<ReadFrame>> {
    let statement = format!(
        "SELECT device, epoch, seq, epoch_us(ts), channel, content_type, base64(payload) FROM '{}'",
        file.display()
    );
    let mut frames: BTreeMap<String, Vec<ReadFrame>> = BTreeMap::new();
    for row in duckdb::sql(&statement).await {
        let text = |at: usize| row[at].as_str().unwrap().to_owned();
        let number = |at: usize| row[at].as_u64().unwrap();
        frames.entry(text(0)).or_default().push(ReadFrame {
            epoch: number(1),
            seq: number(2),
            ts: number(3),
            channel: text(4),
            content_type: text(5),
            payload: BASE64.decode(text(6)).unwrap(),
        });
    }
    frames
}

async fn lines(cluster: &Cluster, path: &str) -> Vec<Value> {
    let answer = cluster.reader().get(path, "application/x-ndjson").await.unwrap();
    let text = answer.error_for_status().unwrap().text().await.unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_finds_the_same_in_what_the_api_gives() {
    let args: Vec<String> = ["--compact-after", "1"].map(str::to_owned).into();
    let options = Options { feeder_args: args.clone(), eater_args: args, ..Options::default() };
    let cluster = Cluster::start_with(Shape::Up, options).await;
    let store = cluster.data_dir().join("store");
    let tracks: Vec<Track> = data::buses().into_iter().take(SOME_BUSES).chain(data::gpsd()).collect();
    let mut fleet = Fleet::start(&cluster, tracks, Mode::Binary).await;
    fleet.let_go(500);
    until("some of it is compacted", LATER, async || Manifest::newest(&store).map(drop)).await;
    fleet.finish().await;

    let file = cluster.path().join("all.parquet");
    download(&cluster, "/v1/frames", &file).await;
    let found = frames(&file).await;
    assert_eq!(found.len(), fleet.tracks.len());
    for track in fleet.tracks.iter() {
        track.assert_read(1, &found[&track.device]);
    }
    let order = format!(
        "SELECT count(*) FROM (SELECT (device, epoch, seq) AS place, \
         lag((device, epoch, seq)) OVER (ORDER BY file_row_number) AS before \
         FROM read_parquet('{}', file_row_number = true)) WHERE before >= place",
        file.display()
    );
    assert_eq!(duckdb::sql(&order).await, [[Value::from(0)]], "by device, epoch and seq");

    let chosen = cluster.path().join("chosen.parquet");
    download(&cluster, "/v1/frames?channel=position&fields=/lat,/at", &chosen).await;
    let differing = format!(
        "SELECT count(*), count(*) FILTER (WHERE c.\"/lat\"::DOUBLE IS DISTINCT FROM (a.j->>'$.lat')::DOUBLE \
         OR c.\"/at\" IS DISTINCT FROM (a.j->'$.at')::VARCHAR) \
         FROM '{}' c JOIN (SELECT device, epoch, seq, decode(payload)::JSON AS j FROM '{}' WHERE channel = 'position') a \
         USING (device, epoch, seq)",
        chosen.display(),
        file.display()
    );
    let buses: usize =
        fleet.tracks.iter().filter(|track| track.device.starts_with("bus-")).map(|t| t.sent.len()).sum();
    assert_eq!(duckdb::sql(&differing).await, [[Value::from(buses), Value::from(0)]]);

    for (agg, sql) in [("min", "min(lat)"), ("max", "max(lat)"), ("count", "count(lat)::DOUBLE")] {
        let rows =
            lines(&cluster, &format!("/v1/frames?channel=position&every=5ms&agg={agg}&value=/lat")).await;
        let expected = format!(
            "SELECT device, epoch_us(ts) // 5000 * 5000 AS bucket, count(*), {sql} \
             FROM (SELECT *, (decode(payload)::JSON->>'$.lat')::DOUBLE AS lat FROM '{}' WHERE channel = 'position') \
             GROUP BY ALL ORDER BY device, bucket",
            file.display()
        );
        let expected = duckdb::sql(&expected).await;
        assert_eq!(rows.len(), expected.len(), "{agg}");
        for (row, expected) in rows.iter().zip(&expected) {
            let found = [&row["device"], &row["ts"], &row["count"]];
            assert_eq!(found, [&expected[0], &expected[1], &expected[2]], "{agg}: {row}");
            assert_eq!(row["value"].as_f64(), expected[3].as_f64(), "{agg}: {row}");
            assert_eq!(row["skipped"], 0);
        }
    }
}
