//! 1. Pages joined together are what one read gives, whatever their size, in both orders and every format.
//! 2. Frames that are added between pages are neither lost nor shown twice.
//! 3. A cursor belongs to its query, but not to its limit or format.
//! 4. A page that would cost too much ends early and says how to go on.

use std::collections::BTreeSet;

use serde_json::Value;

use super::support::{Server, TS, text_frame};
use crate::api::ApiLimits;

type Place = (u64, u64);

fn places(page: &Value) -> Vec<Place> {
    let place = |frame: &Value| (frame["epoch"].as_u64().unwrap(), frame["seq"].as_u64().unwrap());
    page["frames"].as_array().unwrap().iter().map(place).collect()
}

#[tokio::test]
async fn pages_of_any_size_join_to_the_whole() {
    let mut server = Server::start().await;
    let token = server.device_and_reader("bus-1").await;
    for (epoch, first, count) in [(1, 1, 7), (1, 8, 1), (1, 9, 20), (2, 1, 3), (5, 1, 9)] {
        server.write_texts("bus-1", epoch, first, count).await;
    }
    for order in ["asc", "desc"] {
        let whole = server.get(&format!("/v1/devices/bus-1/frames?order={order}")).token(&token).send().await;
        let whole = places(&whole.json());
        assert_eq!(whole.len(), 40);
        for limit in [1, 2, 3, 7, 39, 40, 41] {
            let mut joined = Vec::new();
            let mut cursor = String::new();
            loop {
                let target = format!("/v1/devices/bus-1/frames?order={order}&limit={limit}{cursor}");
                let reply = server.get(&target).token(&token).send().await;
                let page = reply.json();
                let found = places(&page);
                assert!(!found.is_empty(), "a page before the end, or an end that was announced");
                joined.extend(found);
                assert_eq!(reply.header("link").is_empty(), page["next_cursor"].is_null());
                match page["next_cursor"].as_str() {
                    Some(next) => cursor = format!("&cursor={next}"),
                    None => break,
                }
            }
            assert_eq!(joined, whole, "order {order}, limit {limit}");
        }
    }
}

#[tokio::test]
async fn growth_between_pages_loses_and_doubles_nothing() {
    let mut server = Server::start().await;
    let token = server.device_and_reader("bus-1").await;
    server.write_texts("bus-1", 1, 1, 10).await;
    let (mut seq, mut seen, mut cursor) = (10, Vec::new(), String::new());
    for _ in 0..12 {
        let target = format!("/v1/devices/bus-1/frames?limit=4{cursor}");
        let page = server.get(&target).token(&token).send().await.json();
        seen.extend(places(&page));
        // Also at the end there is a place to go on from.
        cursor = format!("&cursor={}", page["resume_cursor"].as_str().unwrap());
        if seq < 31 {
            server.write_texts("bus-1", 1, seq + 1, 3).await;
            seq += 3;
        }
    }
    assert_eq!(seen, (1..=seq).map(|seq| (1, seq)).collect::<Vec<_>>());

    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let target = format!("/v1/devices/bus-1/frames?order=desc&limit=4{cursor}");
        let page = server.get(&target).token(&token).send().await.json();
        seen.extend(places(&page));
        assert!(page.get("resume_cursor").is_none());
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
        server.write_texts("bus-1", 1, seq + 1, 1).await;
        seq += 1;
    }
    let newest = seen[0].1;
    assert_eq!(seen, (1..=newest).rev().map(|seq| (1, seq)).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_device_that_sent_nothing_yet_can_be_followed() {
    let mut server = Server::start().await;
    let token = server.device_and_reader("bus-1").await;
    let empty = server.get("/v1/devices/bus-1/frames").token(&token).send().await.json();
    assert!(places(&empty).is_empty() && empty["next_cursor"].is_null());
    let resume = empty["resume_cursor"].as_str().unwrap();
    server.write_texts("bus-1", 1, 1, 2).await;
    let target = format!("/v1/devices/bus-1/frames?cursor={resume}");
    let page = server.get(&target).token(&token).send().await.json();
    assert_eq!(places(&page), [(1, 1), (1, 2)]);
}

#[tokio::test]
async fn links_lead_through_every_format() {
    let mut server = Server::start().await;
    let token = server.device_and_reader("bus-1").await;
    server.write_texts("bus-1", 1, 1, 10).await;
    let mut target = "/v1/devices/bus-1/frames?limit=4&from=2017-03-21T05:00:03Z&channel=c".to_owned();
    let mut seen = Vec::new();
    for accept in ["application/x-ndjson", "text/csv", "application/json"] {
        let reply = server.get(&target).token(&token).header("accept", accept).send().await;
        match accept {
            "application/x-ndjson" => {
                let lines = reply.text().lines().map(|l| serde_json::from_str::<Value>(l).unwrap());
                seen.extend(lines.map(|frame| frame["seq"].as_u64().unwrap()));
            }
            "text/csv" => {
                let lines = reply.text().lines().skip(1);
                seen.extend(lines.map(|line| line.split(',').nth(1).unwrap().parse::<u64>().unwrap()));
            }
            _ => seen.extend(places(&reply.json()).iter().map(|place| place.1)),
        }
        let link = reply.header("link");
        let next = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\""));
        assert_eq!(next.is_some(), accept != "application/json", "{link}");
        target = next.unwrap_or_default().to_owned();
    }
    assert_eq!(seen, (2..=10).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_cursor_is_refused_with_another_query() {
    let mut server = Server::start().await;
    let token = server.device_and_reader("bus-1").await;
    server.add_device("bus-2", &[]).await;
    server.write_texts("bus-1", 1, 1, 3).await;
    let page = server.get("/v1/devices/bus-1/frames?limit=1&channel=c").token(&token).send().await.json();
    let cursor = page["next_cursor"].as_str().unwrap();
    for (device, query) in [("bus-1", "channel=d"), ("bus-1", "order=desc&channel=c"), ("bus-2", "channel=c")]
    {
        let target = format!("/v1/devices/{device}/frames?{query}&cursor={cursor}");
        let (status, code, detail) = server.get(&target).token(&token).send().await.problem();
        assert_eq!((status, code.as_str()), (400, "cursor_of_other_query"));
        assert!(detail.contains("another query"), "{detail}");
    }
    let target = format!("/v1/devices/bus-1/frames?channel=c&limit=9&cursor={cursor}");
    let page = server.get(&target).token(&token).send().await.json();
    assert_eq!(places(&page), [(1, 2), (1, 3)]);
}

#[tokio::test]
async fn costly_pages_end_early_and_miss_nothing() {
    let limits = ApiLimits { page_bytes: 1000, page_read_bytes: 4000, ..ApiLimits::default() };
    let mut server = Server::with(limits).await;
    let token = server.device_and_reader("bus-1").await;
    let text = "x".repeat(300);
    for n in 1..=60 {
        let channel = if n % 20 == 0 { "rare" } else { "common" };
        server.write("bus-1", 1, n, &[text_frame(TS + n, channel, &text)]).await;
    }
    for (channel, expected) in [("rare", 3), ("common", 57)] {
        for order in ["asc", "desc"] {
            let (mut seen, mut pages, mut cursor) = (Vec::new(), 0, String::new());
            loop {
                let target = format!("/v1/devices/bus-1/frames?order={order}&channel={channel}{cursor}");
                let page = server.get(&target).token(&token).send().await.json();
                seen.extend(places(&page));
                pages += 1;
                let Some(next) = page["next_cursor"].as_str() else { break };
                cursor = format!("&cursor={next}");
            }
            assert_eq!(seen.len(), expected, "{channel} {order}");
            assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), expected);
            assert!(pages >= 4, "{pages} pages");
        }
    }
}
