//! Other shapes of the same frames: chosen fields, tables.
//!
//! 1. Chosen fields are as they were sent, in every format; frames that have none say so.
//! 2. Tables have the frames that JSON shows, in pages and streams, and page cursors go on across formats.
//! 3. A table that breaks off does not look whole.

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_ipc::reader::StreamReader;
use axum::body::Bytes;
use http_body_util::BodyExt;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::{Value, json};
use trough_protocol::ContentType;
use trough_protocol::frame::FrameRef;

use super::client::Reply;
use super::support::{NOW, Server, TS, text_frame};
use crate::api::ApiLimits;

const NDJSON: &str = "application/x-ndjson";
pub(super) const PARQUET: &str = "application/vnd.apache.parquet";
pub(super) const ARROW: &str = "application/vnd.apache.arrow.stream";

/// The batches of a table.
pub(super) fn batches(content_type: &str, body: &Bytes) -> Vec<RecordBatch> {
    match content_type {
        PARQUET => {
            let reader = ParquetRecordBatchReaderBuilder::try_new(body.clone()).unwrap().build().unwrap();
            reader.map(Result::unwrap).collect()
        }
        _ => StreamReader::try_new(&body[..], None).unwrap().map(Result::unwrap).collect(),
    }
}

/// (device, epoch, seq, ts, channel, content_type, payload)
type FrameOf = (String, i64, i64, i64, String, String, Vec<u8>);

fn frames(reply: &Reply) -> Vec<FrameOf> {
    let mut frames = Vec::new();
    for batch in batches(reply.header("content-type"), &reply.body) {
        let names: Vec<String> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(
            names,
            ["device", "epoch", "seq", "ts", "received_at", "channel", "content_type", "payload"]
        );
        let text = |at: usize, row| batch.column(at).as_string::<i32>().value(row).to_owned();
        let int = |at: usize, row| batch.column(at).as_primitive::<Int64Type>().value(row);
        let time = |at: usize, row| batch.column(at).as_primitive::<TimestampMicrosecondType>().value(row);
        for row in 0..batch.num_rows() {
            // Each commit is a microsecond later than the one before.
            assert!((NOW..NOW + 10).contains(&(time(4, row) as u64)));
            let payload = batch.column(7).as_binary::<i32>().value(row).to_vec();
            frames.push((
                text(0, row),
                int(1, row),
                int(2, row),
                time(3, row),
                text(5, row),
                text(6, row),
                payload,
            ));
        }
    }
    frames
}

/// Shows the first difference only.
fn assert_same(found: &[FrameOf], expected: &[FrameOf]) {
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found, expected, "at {at}");
    }
    assert_eq!(found.len(), expected.len());
}

async fn positions() -> (Server, String) {
    let mut server = Server::start().await;
    let token = server.device_and_reader("bus-1").await;
    let frame = |content_type, payload| FrameRef { ts: TS, channel: "position", content_type, payload };
    let sent = [
        frame(ContentType::Json, b"{\"lat\":30.410,\"speed\":{\"kmh\":\n[1,\n2]},\"name\":\"a,\\\"b\\\"\"}"),
        frame(ContentType::Json, b"{\"lat\":null}"),
        frame(ContentType::Text, b"{\"lat\":1}"),
        frame(ContentType::Json, b"{\"lat\":"),
        frame(ContentType::Json, b"17"),
    ];
    server.write("bus-1", 1, 1, &sent).await;
    (server, token)
}

#[tokio::test]
async fn chosen_fields_are_as_they_were_sent() {
    let (server, token) = positions().await;
    let target = "/v1/devices/bus-1/frames?fields=/lat,/speed/kmh,/name";
    let page = server.get(target).token(&token).send().await;
    let shown: Vec<(Value, Value)> = page.json()["frames"]
        .as_array()
        .unwrap()
        .iter()
        .map(|frame| (frame["json"].clone(), frame["content_type"].clone()))
        .collect();
    assert_eq!(
        shown,
        [
            (json!({"/lat": 30.41, "/speed/kmh": [1, 2], "/name": "a,\"b\""}), Value::Null),
            (json!({"/lat": null}), Value::Null),
            (json!({}), json!("text/plain; charset=utf-8")),
            (json!({}), json!("application/json")),
            (json!({}), Value::Null),
        ]
    );
    assert!(
        page.text().contains("\"json\":{\"/lat\":30.410,\"/speed/kmh\":[1,\n2],\"/name\":\"a,\\\"b\\\"\"}}"),
        "byte for byte"
    );
    let lines = server.get(target).token(&token).header("accept", NDJSON).send().await;
    let objects: Vec<Value> = lines.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(Value::Array(objects), page.json()["frames"]);
    let csv = server.get(target).token(&token).header("accept", "text/csv").send().await;
    let mut reader = csv::Reader::from_reader(&csv.body[..]);
    let header: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
    assert_eq!(header[5..], ["channel", "content_type", "/lat", "/speed/kmh", "/name"]);
    let records: Vec<Vec<String>> =
        reader.records().map(|record| record.unwrap().iter().skip(7).map(str::to_owned).collect()).collect();
    assert_eq!(records[0], ["30.410", "[1,\n2]", "\"a,\\\"b\\\"\""]);
    assert_eq!(records[1], ["null", "", ""]);
    assert_eq!(records[2..], [["", "", ""], ["", "", ""], ["", "", ""]]);
    for accept in [PARQUET, ARROW] {
        let table = server.get(target).token(&token).header("accept", accept).send().await;
        let batch = &batches(accept, &table.body)[0];
        let column = |name: &str| -> Vec<Option<String>> {
            let column = batch.column_by_name(name).unwrap().as_string::<i32>();
            column.iter().map(|value| value.map(str::to_owned)).collect()
        };
        assert!(batch.column_by_name("payload").is_none());
        assert_eq!(column("/lat"), [Some("30.410".to_owned()), Some("null".to_owned()), None, None, None]);
        assert_eq!(column("/speed/kmh")[0].as_deref(), Some("[1,\n2]"));
        assert_eq!(column("/speed/kmh").iter().flatten().count(), 1);
    }
}

#[tokio::test]
async fn tables_have_the_frames_that_json_shows() {
    let mut server = Server::start().await;
    let token = server.device_and_reader("a").await;
    server.add_device("b", &[]).await;
    let every_byte: Vec<u8> = (0..=255).collect();
    let mut expected: Vec<FrameOf> = Vec::new();
    for (name, epoch, count) in [("a", 1, 5000_u64), ("a", 2, 3), ("b", 1, 10)] {
        let payloads: Vec<Vec<u8>> =
            (0..count).map(|n| [&n.to_le_bytes()[..], &every_byte].concat()).collect();
        let sent: Vec<FrameRef<'_>> = (0..)
            .zip(&payloads)
            .map(|(n, payload)| FrameRef {
                ts: TS + n * 1000,
                channel: if n % 2 == 0 { "even" } else { "odd" },
                content_type: ContentType::Other("a/b"),
                payload,
            })
            .collect();
        server.write(name, epoch, 1, &sent).await;
        for (seq, frame) in (1..).zip(&sent) {
            expected.push((
                name.to_owned(),
                epoch as i64,
                seq,
                frame.ts as i64,
                frame.channel.to_owned(),
                "a/b".to_owned(),
                frame.payload.to_vec(),
            ));
        }
    }
    for accept in [PARQUET, ARROW] {
        let ask = async |target: &str| {
            let reply = server.get(target).token(&token).header("accept", accept).send().await;
            assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, accept));
            reply
        };
        assert_same(&frames(&ask("/v1/frames").await), &expected);
        assert_same(&frames(&ask("/v1/devices/a/frames").await), &expected[..5003]);
        let odd = ask("/v1/devices/b/frames?channel=odd&order=desc").await;
        assert_eq!(frames(&odd).iter().map(|frame| frame.2).collect::<Vec<_>>(), [10, 8, 6, 4, 2]);
        assert!(frames(&ask("/v1/devices/b/frames?channel=none").await).is_empty());
        assert!(frames(&ask("/v1/devices/b/frames?channel=none&limit=1").await).is_empty());
        // From page to page, of which each is a table of its own.
        let (mut joined, mut target) = (Vec::new(), "/v1/frames?limit=999".to_owned());
        loop {
            let page = ask(&target).await;
            joined.extend(frames(&page));
            let link = page.header("link");
            let Some((next, _)) = link.trim_start_matches('<').split_once('>') else { break };
            target = next.to_owned();
        }
        assert_same(&joined, &expected);
        let first = ask("/v1/frames?limit=5002").await;
        let next = first.header("link").split('>').next().unwrap().trim_start_matches('<').to_owned();
        let rest = server.get(&next).token(&token).send().await.json();
        assert_eq!(rest["frames"][0]["seq"], 3, "cursors do not care for formats");
    }
}

#[tokio::test]
async fn parquet_comes_in_row_groups_and_nothing_that_breaks_off_looks_whole() {
    let limits = ApiLimits { chunk_bytes: 4096, ..ApiLimits::default() };
    let mut server = Server::with(limits).await;
    let token = server.device_and_reader("bus-1").await;
    let mut random = crate::journal::testing::Rng::new(7);
    for batch in 0..40 {
        // What cannot be compressed.
        let texts: Vec<String> =
            (0..200).map(|_| (0..125).map(|_| format!("{:08x}", random.below(1 << 32))).collect()).collect();
        let frames: Vec<FrameRef<'_>> = texts.iter().map(|text| text_frame(TS, "c", text)).collect();
        server.write("bus-1", 1, batch * 200 + 1, &frames).await;
    }
    let whole = server.get("/v1/devices/bus-1/frames").token(&token).header("accept", PARQUET).send().await;
    let reader = SerializedFileReader::new(whole.body.clone()).unwrap();
    let metadata = reader.metadata();
    assert!(metadata.num_row_groups() > 1 && metadata.file_metadata().num_rows() == 8000);
    for group in metadata.row_groups() {
        assert!(group.compressed_size() < 8 << 20, "{}", group.compressed_size());
    }
    super::streams::damage(&server);
    for accept in [PARQUET, ARROW] {
        let answer =
            server.get("/v1/devices/bus-1/frames").token(&token).header("accept", accept).begin().await;
        if answer.status() != 200 {
            // Nothing was ready before the damage was met.
            assert_eq!((accept, answer.status().as_u16()), (PARQUET, 500));
            continue;
        }
        let (mut body, mut received) = (answer.into_body(), Vec::new());
        let broken = loop {
            match body.frame().await {
                Some(Ok(frame)) => received.extend_from_slice(&frame.into_data().unwrap()),
                Some(Err(_)) => break true,
                None => break false,
            }
        };
        assert!(broken, "{accept}");
        assert!(accept == ARROW || SerializedFileReader::new(Bytes::from(received)).is_err());
    }
}
