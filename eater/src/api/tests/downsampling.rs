//! Buckets in place of frames.
//!
//! 1. They are what a simple model says, of any page size and in every format, though device time jumps.
//! 2. Streams have them all, whatever fits into one pass.
//! 3. Damage is told, with a way round it.
//! 4. A page that would take too long is refused, or ends early.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use trough_protocol::ContentType;
use trough_protocol::frame::FrameRef;

use super::shapes::{ARROW, PARQUET, batches};
use super::support::{Server, TS};
use crate::api::ApiLimits;
use crate::journal::testing::Rng;

const NDJSON: &str = "application/x-ndjson";
const EVERY: u64 = 60_000_000;

/// (device, bucket) → count, skipped, values in order of the frames.
type Model = BTreeMap<(String, u64), (u64, Vec<f64>)>;

/// Two devices whose clocks jump, and what they sent.
async fn filled(frames: u64) -> (Server, String, Model) {
    let mut server = Server::start().await;
    let token = server.device_and_reader("bus-1").await;
    server.add_device("bus-2", &[]).await;
    let (mut random, mut model) = (Rng::new(42), Model::new());
    for name in ["bus-1", "bus-2"] {
        for (epoch, first) in [(1, 1), (1, frames + 1), (2, 1)] {
            let sent: Vec<(u64, String)> = (0..frames)
                .map(|_| {
                    // Within three hours; not in order.
                    let ts = TS + random.below(3 * 3600) * 1_000_000 + random.below(1_000_000);
                    let bucket = model.entry((name.to_owned(), ts / EVERY * EVERY)).or_default();
                    let payload = if random.below(5) == 0 {
                        bucket.0 += 1;
                        "{\"speed\":\"fast\"}".to_owned()
                    } else {
                        let speed = random.below(1000) as f64 / 8.0;
                        bucket.1.push(speed);
                        format!("{{\"speed\":{speed:?}}}")
                    };
                    (ts, payload)
                })
                .collect();
            let sent: Vec<FrameRef<'_>> = sent
                .iter()
                .map(|(ts, payload)| FrameRef {
                    ts: *ts,
                    channel: "position",
                    content_type: ContentType::Json,
                    payload: payload.as_bytes(),
                })
                .collect();
            server.write(name, epoch, first, &sent).await;
        }
    }
    (server, token, model)
}

/// What rows must be.
fn expected(model: &Model, agg: &str, device: Option<&str>) -> Vec<Value> {
    let mut rows = Vec::new();
    for ((name, ts), (skipped, values)) in model {
        if device.is_some_and(|device| device != name) {
            continue;
        }
        let value = match agg {
            "min" => values.iter().copied().reduce(f64::min),
            "max" => values.iter().copied().reduce(f64::max),
            _ => (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64),
        };
        rows.push((name, ts, values.len(), skipped, value));
    }
    let row = |(name, ts, count, skipped, value): (&String, &u64, usize, &u64, Option<f64>)| {
        let mut row =
            json!({"ts": ts, "count": count, "skipped": skipped, "value": value.map_or(Value::Null, number)});
        if device.is_none() {
            row["device"] = json!(name);
        }
        row
    };
    rows.into_iter().map(row).collect()
}

/// As it is written, whole numbers without a fraction, and as serde_json reads that, which is sometimes next to it.
fn number(value: f64) -> Value {
    serde_json::from_str(&value.to_string()).unwrap()
}

/// Without the time, which must be the same as `ts`.
fn without_time(mut row: Value) -> Value {
    let time: jiff::Timestamp = row["time"].as_str().unwrap().parse().unwrap();
    assert_eq!(time.as_microsecond(), row["ts"].as_i64().unwrap());
    row.as_object_mut().unwrap().remove("time");
    row
}

#[tokio::test]
async fn buckets_are_what_the_model_says_in_pages_of_any_size() {
    let (server, token, model) = filled(150).await;
    for agg in ["min", "max", "mean"] {
        for (path, device) in [("/v1/devices/bus-1/frames", Some("bus-1")), ("/v1/frames", None)] {
            let rows = expected(&model, agg, device);
            let target = format!("{path}?every=60s&agg={agg}&value=/speed");
            for limit in [1, 7, 100, 500] {
                let (mut joined, mut cursor) = (Vec::new(), String::new());
                loop {
                    let target = format!("{target}&limit={limit}{cursor}");
                    let page = server.get(&target).token(&token).send().await.json();
                    let buckets = page["buckets"].as_array().unwrap().clone();
                    assert!(!buckets.is_empty() && buckets.len() <= limit);
                    joined.extend(buckets.into_iter().map(without_time));
                    let Some(next) = page["next_cursor"].as_str() else { break };
                    cursor = format!("&cursor={next}");
                }
                assert_eq!(joined, rows, "{agg}, {path}, limit {limit}");
            }
            let lines = server.get(&target).token(&token).header("accept", NDJSON).send().await;
            let lines: Vec<Value> =
                lines.text().lines().map(|line| without_time(serde_json::from_str(line).unwrap())).collect();
            assert_eq!(lines, rows);
        }
    }
    let from = TS + 1_000_000_000;
    let target =
        format!("/v1/devices/bus-1/frames?every=1h&agg=count&from={from}&to={}", from + 3_600_000_000);
    let page = server.get(&target).token(&token).send().await.json();
    let buckets = page["buckets"].as_array().unwrap();
    assert_eq!(page["device"], "bus-1");
    assert_eq!(buckets.len(), 2, "an hour from {from} on is in two hours of the clock: {page}");
    assert!(buckets.iter().all(|row| row["count"] == row["value"] && row["skipped"] == 0));
    assert_eq!(buckets[0]["ts"], from / 3_600_000_000 * 3_600_000_000, "aligned to 1970");
    let none =
        server.get("/v1/devices/bus-1/frames?every=1h&agg=count&channel=none").token(&token).send().await;
    assert_eq!(none.json(), json!({"device": "bus-1", "buckets": [], "next_cursor": null}));
}

#[tokio::test]
async fn tables_and_csv_have_the_same_rows() {
    let (server, token, model) = filled(40).await;
    let rows = expected(&model, "mean", None);
    let target = "/v1/frames?every=1m&agg=mean&value=/speed";
    for accept in [PARQUET, ARROW] {
        let table = server.get(target).token(&token).header("accept", accept).send().await;
        let mut found = Vec::new();
        for batch in batches(accept, &table.body) {
            let ints = |name: &str| batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().clone();
            let (count, skipped) = (ints("count"), ints("skipped"));
            let ts = batch.column_by_name("ts").unwrap().as_primitive::<TimestampMicrosecondType>();
            let value = batch.column_by_name("value").unwrap().as_primitive::<Float64Type>();
            for row in 0..batch.num_rows() {
                let device = batch.column(0).as_string::<i32>().value(row);
                let value = value.is_valid(row).then(|| number(value.value(row)));
                found.push(json!({
                    "device": device, "ts": ts.value(row), "count": count.value(row), "skipped": skipped.value(row),
                    "value": value,
                }));
            }
        }
        assert_eq!(found, rows, "{accept}");
    }
    let csv = server.get(target).token(&token).header("accept", "text/csv").send().await;
    let mut reader = csv::Reader::from_reader(&csv.body[..]);
    assert_eq!(reader.headers().unwrap(), &["device", "time", "ts", "count", "skipped", "value"][..]);
    let records: Vec<_> = reader.records().map(Result::unwrap).collect();
    assert_eq!(records.len(), rows.len());
    for (record, row) in records.iter().zip(&rows) {
        assert_eq!(
            (&record[0], &record[2]),
            (row["device"].as_str().unwrap(), row["ts"].to_string().as_str())
        );
        let value =
            if record[5].is_empty() { Value::Null } else { serde_json::from_str(&record[5]).unwrap() };
        assert_eq!(value, row["value"]);
    }
    let last =
        server.get("/v1/devices/bus-1/frames?every=1d&agg=last&value=/speed").token(&token).send().await;
    let newest = server.get("/v1/devices/bus-1/frames?order=desc&limit=1").token(&token).send().await.json();
    assert_eq!(last.json()["buckets"][0]["value"], newest["frames"][0]["json"]["speed"]);
}

/// One frame for each of so many milliseconds, in no order.
async fn one_a_millisecond(server: &mut Server, count: u64) {
    let (mut random, mut order) = (Rng::new(3), (0..count).collect::<Vec<u64>>());
    for at in (1..order.len()).rev() {
        order.swap(at, random.below(at as u64 + 1) as usize);
    }
    for (batch, part) in (0_u64..).zip(order.chunks(10_000)) {
        let payloads: Vec<(u64, String)> =
            part.iter().map(|n| (TS / 1000 * 1000 + n * 1000, n.to_string())).collect();
        let frames: Vec<FrameRef<'_>> = payloads
            .iter()
            .map(|(ts, payload)| FrameRef {
                ts: *ts,
                channel: "c",
                content_type: ContentType::Json,
                payload: payload.as_bytes(),
            })
            .collect();
        server.write("bus-1", 1, batch * 10_000 + 1, &frames).await;
    }
}

/// A stream has more buckets than fit into one pass.
#[tokio::test]
async fn a_stream_goes_on_where_a_pass_had_no_more_room() {
    let limits = ApiLimits { passes_max: 3, ..ApiLimits::default() };
    let mut server = Server::with(limits).await;
    let token = server.device_and_reader("bus-1").await;
    let count = 50_000;
    one_a_millisecond(&mut server, count).await;
    let target = "/v1/devices/bus-1/frames?every=1ms&agg=count";
    let lines = server.get(target).token(&token).header("accept", NDJSON).send().await;
    let starts: Vec<u64> = lines
        .text()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["ts"].as_u64().unwrap())
        .collect();
    assert_eq!(starts, (0..count).map(|n| TS / 1000 * 1000 + n * 1000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_stream_that_needs_too_many_passes_is_broken_off() {
    for (passes_max, begun) in [(0, false), (1, true)] {
        let limits = ApiLimits { passes_max, ..ApiLimits::default() };
        let mut server = Server::with(limits).await;
        let token = server.device_and_reader("bus-1").await;
        one_a_millisecond(&mut server, 20_001).await;
        let target = "/v1/devices/bus-1/frames?every=1ms&agg=count";
        let request = server.get(target).token(&token).header("accept", NDJSON);
        if !begun {
            let (status, code, detail) = request.send().await.problem();
            assert_eq!((status, code.as_str()), (400, "bad_parameter"));
            assert!(detail.contains("bus-1") && detail.contains("a larger every"), "{detail}");
            continue;
        }
        let answer = request.begin().await;
        assert_eq!(answer.status(), 200);
        assert!(answer.into_body().collect().await.is_err(), "it must not look like the end of the data");
    }
}

#[tokio::test]
async fn damage_is_told() {
    let (server, token, _) = filled(400).await;
    super::streams::damage(&server);
    let target = "/v1/frames?every=1h&agg=max&value=/speed";
    let first = server.get(target).token(&token).send().await.json();
    assert!(first["buckets"].as_array().unwrap().iter().all(|row| row["device"] == "bus-1"), "whole ones");
    let next = format!("{target}&cursor={}", first["next_cursor"].as_str().unwrap());
    for (target, accept) in [(next.as_str(), "application/json"), (target, NDJSON)] {
        let (status, code, detail) =
            server.get(target).token(&token).header("accept", accept).send().await.problem();
        assert_eq!((status, code.as_str()), (500, "frames_damaged"));
        assert!(detail.contains("leave them out with from and to"), "{detail}");
    }
    let (_, code, detail) =
        server.get("/v1/frames?device=bus-2&channel=none").token(&token).send().await.problem();
    assert_eq!(code, "frames_damaged");
    assert!(detail.contains("after=bus-2:1:"), "{detail}");
}

#[tokio::test]
async fn what_takes_too_long_is_refused() {
    let limits = ApiLimits { query_deadline: Duration::ZERO, ..ApiLimits::default() };
    let mut server = Server::with(limits).await;
    let token = server.device_and_reader("bus-1").await;
    server.write_texts("bus-1", 1, 1, 3).await;
    for target in ["/v1/devices/bus-1/frames", "/v1/frames?limit=1", "/v1/frames?every=1h&agg=count"] {
        let refused = server.get(target).token(&token).send().await;
        assert_eq!(refused.header("retry-after"), "10");
        let (status, code, detail) = refused.problem();
        assert_eq!((status, code.as_str()), (503, "deadline"), "{target}");
        assert!(detail.contains("ask for less"), "{detail}");
    }
    let stream = server.get("/v1/devices/bus-1/frames").token(&token).header("accept", NDJSON).send().await;
    assert_eq!(stream.text().lines().count(), 3, "streams go on while their clients read");
}
