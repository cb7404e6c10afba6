//! Frames in every format, chosen in every way; gaps.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::Method;
use serde_json::{Value, json};
use trough_protocol::ContentType;
use trough_protocol::frame::FrameRef;

use super::support::{NOW, Server, TS, text_frame};

fn seqs(page: &Value) -> Vec<u64> {
    page["frames"].as_array().unwrap().iter().map(|frame| frame["seq"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn what_was_sent_is_what_is_read_in_every_format() {
    let mut server = Server::start().await;
    let token = server.device_and_reader("gps-1").await;
    let every_byte: Vec<u8> = (0..=255).collect();
    let frame = |content_type, payload| FrameRef { ts: TS, channel: "raw", content_type, payload };
    let sent = [
        frame(ContentType::Json, b"{\"a\":[1,2.50],\"b\":\"\\u00e9\"}"),
        frame(ContentType::Json, b"{\"a\":\n1}"),
        frame(ContentType::Json, b"{broken"),
        frame(ContentType::Text, "$GPGGA,1*2a\r\n\"quoted\", ü".as_bytes()),
        frame(ContentType::Text, b"\xff\xfe"),
        frame(ContentType::Bytes, &every_byte),
        frame(ContentType::Other("image/png"), b""),
    ];
    server.write("gps-1", 1, 1, &sent).await;

    let page = server.get("/v1/devices/gps-1/frames").token(&token).send().await;
    assert_eq!(page.header("content-type"), "application/json");
    assert_eq!(page.header("cache-control"), "private, no-cache");
    assert_eq!(page.header("vary"), "accept, authorization");
    let json = page.json();
    assert_eq!(json["device"], "gps-1");
    assert_eq!(json["next_cursor"], Value::Null);
    assert!(page.text().contains("\"json\":{\"a\":[1,2.50],\"b\":\"\\u00e9\"}"), "byte for byte");

    let lines = server.get("/v1/devices/gps-1/frames").token(&token).header("accept", "application/x-ndjson");
    let lines = lines.send().await;
    assert_eq!(lines.header("content-type"), "application/x-ndjson");
    let objects: Vec<Value> = lines.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(Value::Array(objects.clone()), json["frames"]);
    assert_eq!(objects.len(), sent.len());
    for (object, sent) in objects.iter().zip(&sent) {
        let payload = match (object.get("json"), object.get("text"), object.get("b64")) {
            (Some(json), None, None) => {
                assert_eq!(*json, serde_json::from_slice::<Value>(sent.payload).unwrap());
                continue;
            }
            (None, Some(text), None) => text.as_str().unwrap().as_bytes().to_vec(),
            (None, None, Some(b64)) => BASE64.decode(b64.as_str().unwrap()).unwrap(),
            _ => panic!("{object}"),
        };
        assert_eq!(payload, sent.payload);
    }

    let csv = server.get("/v1/devices/gps-1/frames").token(&token).header("accept", "text/csv").send().await;
    assert_eq!(csv.header("content-type"), "text/csv; charset=utf-8; header=present");
    let mut reader = csv::Reader::from_reader(&csv.body[..]);
    assert_eq!(reader.byte_headers().unwrap().iter().next_back(), Some(&b"payload"[..]));
    let records: Vec<_> = reader.byte_records().map(Result::unwrap).collect();
    assert_eq!(records.len(), sent.len());
    for (record, sent) in records.iter().zip(&sent) {
        let payload = match &record[7] {
            b"b64" => BASE64.decode(&record[8]).unwrap(),
            _ => record[8].to_vec(),
        };
        assert_eq!(payload, sent.payload);
        assert_eq!(&record[6], sent.content_type.as_str().as_bytes());
    }
}

#[tokio::test]
async fn frames_are_chosen_by_time_channel_order_and_place() {
    let mut server = Server::start().await;
    let token = server.device_and_reader("bus-1").await;
    let at = |n: u64| TS + n * 1_000_000;
    let frames: Vec<_> =
        (0..6).map(|n| text_frame(at(n), if n % 2 == 0 { "even" } else { "odd" }, "x")).collect();
    server.write("bus-1", 1, 1, &frames[..4]).await;
    server.write("bus-1", 1, 5, &frames[4..]).await;
    for (query, expected) in [
        (String::new(), vec![1, 2, 3, 4, 5, 6]),
        ("order=asc".into(), vec![1, 2, 3, 4, 5, 6]),
        ("order=desc".into(), vec![6, 5, 4, 3, 2, 1]),
        (format!("from={}", at(2)), vec![3, 4, 5, 6]),
        ("from=2017-03-21T05:00:04Z&to=2017-03-21T06:00:06%2B01:00".into(), vec![3, 4]),
        (format!("from={}&to={}&order=desc", at(1), at(5)), vec![5, 4, 3, 2]),
        (format!("from={}&to={}", at(2), at(2)), vec![]),
        ("to=0".into(), vec![]),
        ("channel=odd".into(), vec![2, 4, 6]),
        ("channel=odd,even".into(), vec![1, 2, 3, 4, 5, 6]),
        ("channel=odd&channel=none&order=desc".into(), vec![6, 4, 2]),
        ("channel=none".into(), vec![]),
        ("after=1:4".into(), vec![5, 6]),
        ("after=1:4&order=desc".into(), vec![3, 2, 1]),
        ("after=0:0".into(), vec![1, 2, 3, 4, 5, 6]),
        ("after=1:6".into(), vec![]),
        ("limit=2".into(), vec![1, 2]),
        (format!("order=desc&channel=even&to={}&limit=1", at(4)), vec![3]),
    ] {
        let target = format!("/v1/devices/bus-1/frames?{query}");
        let page = server.get(&target).token(&token).send().await.json();
        assert_eq!(seqs(&page), expected, "{query}");
        let lines = server.get(&target).token(&token).header("accept", "application/x-ndjson").send().await;
        let lines: Vec<Value> =
            lines.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(Value::Array(lines), page["frames"], "{query}");
    }
}

#[tokio::test]
async fn epochs_follow_one_another_and_copies_are_shown_once() {
    let mut server = Server::start().await;
    let token = server.device_and_reader("bus-1").await;
    server.write_texts("bus-1", 1, 1, 3).await;
    server.clock.set(NOW + 1);
    server.write_texts("bus-1", 1, 2, 3).await; // 2 and 3 came before
    server.write_texts("bus-1", 4, 1, 2).await;
    let page = server.get("/v1/devices/bus-1/frames").token(&token).send().await.json();
    let places: Vec<_> =
        page["frames"].as_array().unwrap().iter().map(|f| (f["epoch"].as_u64(), f["seq"].as_u64())).collect();
    let expected = [(1, 1), (1, 2), (1, 3), (1, 4), (4, 1), (4, 2)].map(|(e, s)| (Some(e), Some(s)));
    assert_eq!(places, expected);
    assert_eq!(page["frames"][2]["received_at"], "2023-11-14T22:13:20.000000Z", "the first copy");
    assert_eq!(page["frames"][3]["received_at"], "2023-11-14T22:13:20.000001Z");
}

#[tokio::test]
async fn tags_stay_until_something_changes() {
    let mut server = Server::start().await;
    let token = server.device_and_reader("bus-1").await;
    server.add_device("bus-2", &[]).await;
    server.write_texts("bus-1", 1, 1, 3).await;
    let target = "/v1/devices/bus-1/frames?limit=2";
    let mut tags = Vec::new();
    for (target, accept) in [
        (target, "application/json"),
        (target, "text/csv"),
        ("/v1/devices/bus-1/frames", "text/csv"),
        ("/v1/devices/bus-1/frames?limit=2&order=desc", "application/json"),
        ("/v1/devices/bus-1/frames?limit=2&after=1:1", "application/json"),
        ("/v1/devices/bus-1/gaps", "application/json"),
    ] {
        let ask = || server.get(target).token(&token).header("accept", accept);
        let tag = ask().send().await.header("etag").to_owned();
        assert!(tag.starts_with("W/\""), "{tag}");
        let known = ask().header("if-none-match", &format!("\"other\", {tag}")).send().await;
        assert_eq!((known.status.as_u16(), known.header("etag")), (304, tag.as_str()));
        assert!(known.body.is_empty() && known.header("content-type").is_empty());
        assert!(!tags.contains(&tag), "every answer has its own");
        tags.push(tag);
    }
    for (name, first, status) in [("bus-2", 1, 304), ("bus-1", 4, 200)] {
        server.write_texts(name, 1, first, 1).await;
        let reply = server.get(target).token(&token).header("if-none-match", &tags[0]).send().await;
        assert_eq!(reply.status, status, "after a frame of {name}");
    }
}

#[tokio::test]
async fn head_tells_the_same_without_a_body() {
    let mut server = Server::start().await;
    let token = server.device_and_reader("bus-1").await;
    server.write_texts("bus-1", 1, 1, 3).await;
    for accept in ["application/json", "application/x-ndjson", "text/csv"] {
        let target = "/v1/devices/bus-1/frames";
        let get = server.get(target).token(&token).header("accept", accept).send().await;
        let head = server.ask(Method::HEAD, target).token(&token).header("accept", accept).send().await;
        assert_eq!(head.status, 200);
        assert!(head.body.is_empty());
        assert_eq!(head.header("etag"), get.header("etag"));
        assert_eq!(head.header("content-type"), get.header("content-type"));
    }
}

#[tokio::test]
async fn gaps_say_what_is_missing_and_why() {
    let mut server = Server::start().await;
    let token = server.device_and_reader("bus-1").await;
    let none = server.get("/v1/devices/bus-1/gaps").token(&token).send().await.json();
    assert_eq!(none, json!({"device": "bus-1", "gaps": [], "next_cursor": null}));
    server.write_texts("bus-1", 1, 1, 2).await;
    server.clock.set(NOW + 1_000_000);
    server.skip("bus-1", 1, 3, 5, 1).await;
    server.write_texts("bus-1", 1, 8, 1).await;
    server.clock.set(NOW + 2_000_000);
    server.skip("bus-1", 2, 1, 1, 3).await;
    let expected = [
        json!({
            "epoch": 1, "first": 3, "last": 7, "count": 5, "kind": "skipped", "reason": "overflow",
            "received_at": "2023-11-14T22:13:21.000000Z",
        }),
        json!({
            "epoch": 2, "first": 1, "last": 1, "count": 1, "kind": "skipped", "reason": "discarded",
            "received_at": "2023-11-14T22:13:22.000000Z",
        }),
    ];
    let all = server.get("/v1/devices/bus-1/gaps").token(&token).send().await.json();
    assert_eq!(all, json!({"device": "bus-1", "gaps": expected, "next_cursor": null}));
    let first = server.get("/v1/devices/bus-1/gaps?limit=1").token(&token).send().await.json();
    assert_eq!(first["gaps"], json!([expected[0]]));
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = server.get(&format!("/v1/devices/bus-1/gaps?limit=1&cursor={cursor}")).token(&token);
    let second = second.send().await.json();
    assert_eq!((&second["gaps"], &second["next_cursor"]), (&json!([expected[1]]), &Value::Null));
    let frames = server.get("/v1/devices/bus-1/frames").token(&token).send().await.json();
    assert_eq!(seqs(&frames), [1, 2, 8]);
}
