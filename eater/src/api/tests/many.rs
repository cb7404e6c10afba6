//! Frames of many devices at once.
//!
//! 1. They come by device, epoch and seq, each once, whatever the size of pages and in every format.
//! 2. A reader gets what it may see, and nobody learns of other devices.
//! 3. More devices than are listed at a time are gone through to the last one.
//! 4. A stream follows what its reader may see while it goes on.

use http::Method;
use http_body_util::BodyExt;
use serde_json::Value;
use trough_protocol::frame::check_frames;
use trough_protocol::limits::FRAME_BYTES_MAX;
use trough_protocol::{Epoch, Seq};
use trough_store::{Registry as _, Scope};

use super::support::{SOON, Server, TS, device, groups, text_frame};

const NDJSON: &str = "application/x-ndjson";

type Place = (String, u64, u64);

fn place(frame: &Value) -> Place {
    let number = |name: &str| frame[name].as_u64().unwrap();
    (frame["device"].as_str().unwrap().to_owned(), number("epoch"), number("seq"))
}

fn places(page: &Value) -> Vec<Place> {
    page["frames"].as_array().unwrap().iter().map(place).collect()
}

fn lines(text: &str) -> Vec<Place> {
    text.lines().map(|line| place(&serde_json::from_str(line).unwrap())).collect()
}

/// `a` to `e`, of which `c` has no frames; `b` and `d` are in the south, too.
async fn five() -> (Server, String) {
    let mut server = Server::start().await;
    for (name, names) in
        [("a", &["north"][..]), ("b", &["north", "south"]), ("c", &["north"]), ("d", &["south"]), ("e", &[])]
    {
        server.add_device(name, names).await;
    }
    for (name, epoch, first, count) in
        [("e", 1, 1, 2), ("b", 1, 1, 7), ("a", 1, 1, 3), ("d", 2, 1, 5), ("b", 3, 1, 4), ("a", 1, 4, 1)]
    {
        server.write_texts(name, epoch, first, count).await;
    }
    let token = server.reader().await;
    (server, token)
}

fn expected(runs: &[(&str, u64, u64)]) -> Vec<Place> {
    let frames = runs
        .iter()
        .flat_map(|(name, epoch, count)| (1..=*count).map(move |seq| ((*name).to_owned(), *epoch, seq)));
    frames.collect()
}

/// All pages of a query, joined.
async fn joined(server: &Server, token: &str, query: &str, limit: usize, accept: &str) -> Vec<Place> {
    let (mut all, mut target) = (Vec::new(), format!("/v1/frames?{query}&limit={limit}"));
    loop {
        let reply = server.get(&target).token(token).header("accept", accept).send().await;
        assert_eq!(reply.status, 200, "{target}: {}", reply.text());
        all.extend(if accept == NDJSON { lines(reply.text()) } else { places(&reply.json()) });
        let link = reply.header("link");
        let Some(next) = link.strip_prefix('<').and_then(|link| link.split_once(">; rel=\"next\"")) else {
            return all;
        };
        assert!(next.0.starts_with("/v1/frames?"), "{link}");
        target = next.0.to_owned();
    }
}

#[tokio::test]
async fn frames_come_by_device_whatever_the_page() {
    let (server, token) = five().await;
    let whole = expected(&[("a", 1, 4), ("b", 1, 7), ("b", 3, 4), ("d", 2, 5), ("e", 1, 2)]);
    let stream = server.get("/v1/frames").token(&token).header("accept", NDJSON).send().await;
    assert_eq!(lines(stream.text()), whole);
    let page = server.get("/v1/frames").token(&token).send().await.json();
    assert_eq!(places(&page), whole);
    assert!(
        page["next_cursor"].is_null() && page.get("resume_cursor").is_none() && page.get("device").is_none()
    );
    let csv = server.get("/v1/frames?device=b,d").token(&token).header("accept", "text/csv").send().await;
    assert!(csv.text().starts_with("device,epoch,seq,ts,time,"), "{}", csv.text());
    assert!(csv.text().contains("\r\nd,2,5,") && csv.text().lines().count() == 17, "{}", csv.text());
    for limit in [1, 2, 3, 7, 21, 22, 23] {
        for accept in ["application/json", NDJSON] {
            assert_eq!(joined(&server, &token, "", limit, accept).await, whole, "limit {limit}");
        }
        let some = expected(&[("a", 1, 4), ("d", 2, 5)]);
        assert_eq!(joined(&server, &token, "device=d,c&device=a", limit, NDJSON).await, some);
        // Devices rise, and each of them falls.
        let mut falling: Vec<Place> = Vec::new();
        for name in ["a", "b", "d", "e"] {
            falling.extend(whole.iter().rev().filter(|place| place.0 == name).cloned());
        }
        assert_eq!(joined(&server, &token, "order=desc", limit, NDJSON).await, falling);
    }
    let behind = server.get("/v1/frames?after=b:3:2&device=a,b,d").token(&token).send().await.json();
    assert_eq!(places(&behind), expected(&[("b", 3, 4), ("d", 2, 5)])[2..].to_vec());
    let dense = server.get(&format!("/v1/frames?from={}", TS + 4_000_000)).token(&token).send().await.json();
    assert_eq!(
        places(&dense),
        [("b", 1, 5), ("b", 1, 6), ("b", 1, 7), ("d", 2, 5)].map(|(d, e, s)| (d.to_owned(), e, s))
    );
    let none = server.get("/v1/frames?to=0").token(&token).send().await.json();
    assert_eq!((places(&none).len(), &none["next_cursor"]), (0, &Value::Null));
}

#[tokio::test]
async fn a_reader_gets_what_it_may_see() {
    let (server, all) = five().await;
    let north = server.add_reader("north", &[Scope::FramesRead], &["north"]).await;
    let names = async |token: &str, query: &str| -> String {
        let page = server.get(&format!("/v1/frames?{query}")).token(token).send().await.json();
        let mut names: Vec<String> = places(&page).into_iter().map(|place| place.0).collect();
        names.dedup();
        names.concat()
    };
    for (token, query, seen) in [
        (&all, "", "abde"),
        (&all, "group=north", "ab"),
        (&all, "group=south", "bd"),
        (&all, "group=nobody", ""),
        (&all, "group=south&device=a,b", "b"),
        (&north, "", "ab"),
        (&north, "group=north", "ab"),
        (&north, "group=south", ""),
        (&north, "group=south&device=b", ""),
        (&north, "device=b,a", "ab"),
    ] {
        assert_eq!(names(token, query).await, seen, "{query}");
    }
    for (query, first) in [("device=b,d,e", "d"), ("device=x,a", "x"), ("device=d&group=north", "d")] {
        let refused = server.get(&format!("/v1/frames?{query}")).token(&north).send().await;
        let (status, code, detail) = refused.problem();
        assert_eq!((status, code.as_str()), (404, "no_such_device"), "{query}");
        assert!(detail.contains(&format!("{first:?}")), "{detail}");
    }
    let lists = server.add_reader("lists", &[Scope::DevicesRead], &[]).await;
    assert_eq!(server.get("/v1/frames").token(&lists).send().await.problem().1, "scope_missing");
    assert_eq!(server.get("/v1/frames").send().await.problem().1, "token_missing");
    for (query, named) in
        [("device=a%20b", "\"a b\""), ("fields=lat", "JSON pointer"), ("after=1:1", "bus-1:1:4711")]
    {
        let (status, code, detail) =
            server.get(&format!("/v1/frames?{query}")).token(&all).send().await.problem();
        assert_eq!((status, code.as_str()), (400, "bad_parameter"));
        assert!(detail.contains(named), "{detail}");
    }
}

#[tokio::test]
async fn tags_are_of_all_devices_and_only_of_a_few() {
    let (mut server, token) = five().await;
    let target = "/v1/frames?group=north&limit=3";
    let tag = async |server: &Server| {
        let reply = server.get(target).token(&token).send().await;
        reply.header("etag").to_owned()
    };
    let mut tags = vec![tag(&server).await];
    let known = server.get(target).token(&token).header("if-none-match", &tags[0]).send().await;
    assert_eq!(known.status, 304);
    server.write_texts("e", 1, 3, 1).await;
    assert_eq!(tag(&server).await, tags[0], "a device of nobody's concern");
    server.write_texts("c", 1, 1, 1).await;
    tags.push(tag(&server).await);
    server.registry.set_groups(&device("d"), groups(&["north"])).await.unwrap();
    tags.push(tag(&server).await);
    let other = server.get("/v1/frames?group=north&limit=4").token(&token).send().await;
    tags.push(other.header("etag").to_owned());
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), 4);
    for n in 0..70 {
        server.add_device(&format!("many-{n}"), &["many"]).await;
    }
    let many = server.get("/v1/frames?group=many").token(&token).send().await;
    assert_eq!((many.status.as_u16(), many.header("etag")), (200, ""));
    let head = server.ask(Method::HEAD, "/v1/frames").token(&token).header("accept", NDJSON).send().await;
    assert!(head.status == 200 && head.body.is_empty());
}

#[tokio::test]
async fn more_devices_than_are_listed_at_a_time() {
    let mut server = Server::start().await;
    let names: Vec<String> = (0..600).map(|n| format!("bus-{n:03}")).collect();
    for name in &names {
        server.add_device(name, &["all"]).await;
    }
    // Every third one has sent something.
    let sent: Vec<&String> = names.iter().step_by(3).collect();
    server
        .write_batch(|batch| {
            for name in &sent {
                let mut data = Vec::new();
                text_frame(TS, "c", name).encode(&mut data).unwrap();
                let summary = check_frames(&data, FRAME_BYTES_MAX).unwrap();
                batch.push_frames(&device(name), Epoch(1), Seq(1), summary, &data);
            }
        })
        .await;
    let token = server.reader().await;
    let whole: Vec<Place> = sent.iter().map(|name| ((*name).clone(), 1, 1)).collect();
    for query in ["", "?group=all"] {
        let stream = server.get(&format!("/v1/frames{query}")).token(&token).header("accept", NDJSON);
        assert_eq!(lines(stream.send().await.text()), whole);
    }
    assert_eq!(joined(&server, &token, "group=all", 7, NDJSON).await, whole);
}

#[tokio::test]
async fn a_stream_follows_what_its_reader_may_see() {
    let mut server = Server::start().await;
    let text = "x".repeat(1000);
    let frames = vec![text_frame(TS, "c", &text); 2000];
    for name in ["a", "b", "c"] {
        server.add_device(name, &["north"]).await;
        for batch in 0..8 {
            server.write(name, 1, batch * 2000 + 1, &frames).await;
        }
    }
    let token = server.add_reader("north", &[Scope::FramesRead], &["north"]).await;
    for (regrouped, cut) in [("b", false), ("a", true)] {
        let answer =
            server.get("/v1/frames?group=north").token(&token).header("accept", NDJSON).begin().await;
        let mut body = answer.into_body();
        let mut received = body.frame().await.unwrap().unwrap().into_data().unwrap().to_vec();
        server.registry.set_groups(&device(regrouped), groups(&["south"])).await.unwrap();
        let gone = format!("/v1/devices/{regrouped}/gaps");
        let refused = async { while server.get(&gone).token(&token).send().await.status == 200 {} };
        tokio::time::timeout(SOON, refused).await.expect("refused in time");
        let broken = loop {
            match body.frame().await {
                Some(Ok(frame)) => received.extend_from_slice(&frame.into_data().unwrap()),
                Some(Err(_)) => break true,
                None => break false,
            }
        };
        assert_eq!(broken, cut, "{regrouped}");
        if !cut {
            let mut seen: Vec<String> =
                lines(std::str::from_utf8(&received).unwrap()).into_iter().map(|place| place.0).collect();
            assert_eq!(seen.len(), 32_000);
            seen.dedup();
            assert_eq!(seen, ["a", "c"], "the one that was not begun is left out");
        }
    }
}
