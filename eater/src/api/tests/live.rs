//! Live streams over a local journal.
//!
//! 1. What becomes durable while a client reads comes once each, in order; of one device, of all, of a channel.
//! 2. History first, then live: nothing is lost or doubled in between.
//! 3. A client that is cut anywhere goes on with the id of its last event: together everything once, also what devices
//!    sent twice, what comes late of an older epoch, and whatever files the journal has. It does so while nothing is for it.
//! 4. A client that does not read is told so and ended; others go on.
//! 5. Rights that are taken away cut a stream; devices enter and leave a group, also in the middle of a commit.
//! 6. A registry that does not answer leaves nothing out: the stream ends, and goes on where it was.
//! 7. What has left the journal is refused; a process that stops or is emptied says so; places are limited.

use std::collections::BTreeMap;
use std::time::Duration;

use http_body_util::BodyExt;
use serde_json::Value;
use trough_protocol::{ContentType, frame::FrameRef};
use trough_store::{ReaderName, Registry as _, Scope};

use super::client::Ask;
use super::support::{SOON, Server, TS, device, eventually, groups, text_frame};
use crate::api::ApiLimits;
use crate::api::metrics::EndLabels;
use crate::api::reads::ReadKind;
use crate::journal::testing::Rng;

/// An event as a client sees it.
#[derive(Debug, Clone)]
pub(super) struct Event {
    name: String,
    pub id: String,
    data: Value,
}

impl Event {
    fn place(&self) -> (String, u64, u64) {
        let number = |name: &str| self.data[name].as_u64().unwrap();
        (self.data["device"].as_str().unwrap().to_owned(), number("epoch"), number("seq"))
    }
}

/// A client that reads events.
pub(super) struct Client {
    body: hyper::body::Incoming,
    text: String,
    /// The last id, of an event or by itself.
    pub id: String,
}

impl Client {
    pub(super) async fn begin(ask: Ask) -> Self {
        let answer = ask.begin().await;
        assert_eq!(answer.status(), 200);
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), "text/event-stream");
        assert_eq!((header("cache-control"), header("x-accel-buffering")), ("no-store".into(), "no".into()));
        Self { body: answer.into_body(), text: String::new(), id: String::new() }
    }

    /// The next event; `None` when the stream has broken off or ended.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.block().await? {
                return Some(event);
            }
        }
    }

    /// The next event, or `None` in its place if only an id comes.
    pub(super) async fn block(&mut self) -> Option<Option<Event>> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                let (mut name, mut data) = (String::new(), None);
                for line in block.lines() {
                    match line.split_once(": ") {
                        Some(("event", value)) => name = value.to_owned(),
                        Some(("id", value)) => self.id = value.to_owned(),
                        Some(("data", value)) => data = Some(serde_json::from_str(value).unwrap()),
                        Some(("", _) | ("retry", _)) => {}
                        _ => panic!("{block}"),
                    }
                }
                if block.contains("data: ") || block.contains("id: ") {
                    return Some(data.map(|data| Event { name, id: self.id.clone(), data }));
                }
            }
            let frame = tokio::time::timeout(SOON, self.body.frame()).await.expect("an event in time");
            match frame {
                Some(Ok(frame)) => self.text += std::str::from_utf8(frame.data_ref().unwrap()).unwrap(),
                Some(Err(_)) | None => return None,
            }
        }
    }

    pub(super) async fn frames(&mut self, count: usize) -> Vec<(String, u64, u64)> {
        let mut places = Vec::new();
        while places.len() < count {
            let event = self.next().await.expect("the stream goes on");
            assert_eq!(event.name, "frame", "{event:?}");
            places.push(event.place());
        }
        places
    }
}

pub(super) fn places(device: &str, range: std::ops::RangeInclusive<u64>) -> Vec<(String, u64, u64)> {
    range.map(|seq| (device.to_owned(), 1, seq)).collect()
}

#[tokio::test]
async fn what_becomes_durable_comes_once_and_in_order() {
    let mut server = Server::start().await;
    let token = server.device_and_reader("a").await;
    server.add_device("b", &[]).await;
    server.write_texts("a", 1, 1, 5).await;
    let of = |path: &str| Client::begin(server.get(path).token(&token));
    let mut one = of("/v1/devices/a/live").await;
    let mut all = of("/v1/live").await;
    let mut channel = of("/v1/live?channel=d").await;
    server.write_texts("a", 1, 6, 3).await;
    server.write("b", 1, 1, &[text_frame(TS, "d", "x"), text_frame(TS, "c", "y")]).await;
    server.write_texts("a", 1, 7, 4).await;
    assert_eq!(one.frames(5).await, places("a", 6..=10));
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for place in all.frames(7).await {
        if place.0 == "a" { a.push(place) } else { b.push(place) }
    }
    assert_eq!((a, b), (places("a", 6..=10), places("b", 1..=2)));
    let event = channel.next().await.unwrap();
    assert_eq!((event.data["text"].as_str(), event.data["device"].as_str()), (Some("x"), Some("b")));
    server.skip("a", 1, 11, 3, 1).await;
    let gap = one.next().await.unwrap();
    assert_eq!(
        (gap.name.as_str(), gap.data["first"].as_u64(), gap.data["last"].as_u64()),
        ("gap", Some(11), Some(13))
    );
    assert_eq!((gap.data["kind"].as_str(), gap.data["reason"].as_str()), (Some("skipped"), Some("overflow")));
    server.write_texts("a", 1, 14, 1).await;
    assert_eq!(one.frames(1).await, places("a", 14..=14));
    eventually("three are open", || server.metrics.live_streams.get() == 3).await;
    drop((one, all, channel));
    server.write_texts("a", 1, 15, 1).await;
    eventually("none is open", || server.metrics.live_streams.get() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_goes_over_into_what_is_new() {
    let mut server = Server::start().await;
    let token = server.device_and_reader("a").await;
    for begin in 0..20 {
        server.write_texts("a", 1, begin * 50 + 1, 50).await;
    }
    let page = server.get("/v1/devices/a/frames?limit=7").token(&token).send().await.json();
    let cursor = page["resume_cursor"].as_str().unwrap().to_owned();
    let ask = |query: &str| server.get(&format!("/v1/devices/a/live?{query}")).token(&token);
    let from = TS + 10 * 1_000_000;
    let asked =
        [("after=1:3", 4), ("after=0:0", 1), (&format!("cursor={cursor}"), 8), (&format!("from={from}"), 11)];
    let asked: Vec<(Ask, u64)> = asked.map(|(query, first)| (ask(query), first)).into();
    let readers: Vec<_> = asked
        .into_iter()
        .map(|(ask, first)| {
            tokio::spawn(async move {
                let mut client = Client::begin(ask).await;
                let count = usize::try_from(2000 - first + 1).unwrap();
                assert_eq!(client.frames(count).await, places("a", first..=2000));
            })
        })
        .collect();
    for begin in 20..40 {
        server.write_texts("a", 1, begin * 50 + 1, 50).await;
    }
    for reader in readers {
        reader.await.unwrap();
    }
}

/// An id of history stands for numbers of all epochs before, not only of its own.
#[tokio::test]
async fn history_that_is_cut_behind_a_new_epoch_doubles_nothing() {
    let mut server = Server::start().await;
    let token = server.device_and_reader("a").await;
    server.write_texts("a", 1, 1, 3).await;
    let mut client = Client::begin(server.get("/v1/devices/a/live?after=0:0").token(&token)).await;
    let mut id = String::new();
    for seq in 1..=3 {
        let event = client.next().await.unwrap();
        assert_eq!(event.place().2, seq);
        id = event.id;
    }
    server.write_texts("a", 1, 4, 2).await;
    server.write_texts("a", 2, 1, 2).await;
    let target = "/v1/devices/a/live?after=0:0";
    let mut client = Client::begin(server.get(target).token(&token).header("last-event-id", &id)).await;
    assert_eq!(client.frames(2).await, places("a", 4..=5));
    let event = client.next().await.unwrap();
    assert_eq!(event.place(), ("a".to_owned(), 2, 1));
    let mut client = Client::begin(server.get(target).token(&token).header("last-event-id", &event.id)).await;
    server.write_texts("a", 2, 3, 1).await;
    let rest = [2, 3].map(|seq| ("a".to_owned(), 2, seq));
    assert_eq!(client.frames(2).await, rest);
}

fn of_epoch(epoch: u64, range: std::ops::RangeInclusive<u64>) -> Vec<(String, u64, u64)> {
    range.map(|seq| ("a".to_owned(), epoch, seq)).collect()
}

/// Frames of an epoch that is no longer the newest are committed while nobody listens.
#[tokio::test]
async fn what_comes_late_of_an_older_epoch_comes_after_a_cut_in_history() {
    let mut server = Server::start().await;
    let token = server.device_and_reader("a").await;
    server.write_texts("a", 1, 1, 3).await;
    server.write_texts("a", 3, 1, 4).await;
    let target = "/v1/devices/a/live?after=0:0";
    let mut client = Client::begin(server.get(target).token(&token)).await;
    assert_eq!(client.frames(5).await, [of_epoch(1, 1..=3), of_epoch(3, 1..=2)].concat());
    let id = client.id.clone();
    server.write_texts("a", 1, 4, 2).await;
    server.write_texts("a", 2, 1, 2).await;
    let again = |id: &str| Client::begin(server.get(target).token(&token).header("last-event-id", id));
    let mut client = again(&id).await;
    assert_eq!(client.frames(1).await, of_epoch(1, 4..=4));
    // Cut once more, in what is late.
    let mut client = again(&client.id.clone()).await;
    assert_eq!(client.frames(5).await, [of_epoch(1, 5..=5), of_epoch(2, 1..=2), of_epoch(3, 3..=4)].concat());
    server.write_texts("a", 1, 6, 1).await;
    assert_eq!(client.frames(1).await, of_epoch(1, 6..=6));
}

/// Of epochs that an id does not tell of, what was given is told by the files where it lies.
#[tokio::test]
async fn an_epoch_that_is_not_remembered_is_not_given_again() {
    let mut server = Server::with_files_of(Some(4096), ApiLimits::default()).await;
    let token = server.device_and_reader("a").await;
    for epoch in 1..=12 {
        for n in 0..8 {
            server.write_texts("a", epoch, 1 + n * 20, 20).await;
        }
    }
    let journal = server.journal.clone();
    eventually("files are sealed", || journal.sealed_files().len() >= 3).await;
    let target = "/v1/devices/a/live?after=0:0";
    let mut client = Client::begin(server.get(target).token(&token)).await;
    let all: Vec<_> = (1..=12).flat_map(|epoch| of_epoch(epoch, 1..=160)).collect();
    assert_eq!(client.frames(all.len() - 1).await, all[..all.len() - 1]);
    let id = client.id.clone();
    server.write_texts("a", 2, 161, 1).await;
    let mut client = Client::begin(server.get(target).token(&token).header("last-event-id", &id)).await;
    assert_eq!(client.frames(2).await, [of_epoch(2, 161..=161), of_epoch(12, 160..=160)].concat());
}

/// The same when the journal does not have any more what comes next; with more epochs than an id tells of.
#[tokio::test]
async fn what_comes_late_of_an_older_epoch_comes_from_history() {
    let mut server = Server::with_files_of(Some(4096), ApiLimits::default()).await;
    let token = server.device_and_reader("a").await;
    let target = "/v1/devices/a/live";
    for epoch in 1..=12 {
        server.write_texts("a", epoch, 1, 2).await;
    }
    let mut client = Client::begin(server.get(target).token(&token)).await;
    server.write_texts("a", 12, 3, 1).await;
    assert_eq!(client.frames(1).await, of_epoch(12, 3..=3));
    let id = client.id.clone();
    drop(client);
    let journal = server.journal.clone();
    // Into the next file and further.
    server.add_device("b", &[]).await;
    for n in 0..40 {
        server.write_texts("b", 1, 1 + n * 20, 20).await;
    }
    eventually("files are sealed", || journal.sealed_files().len() >= 3).await;
    for epoch in [2, 11] {
        server.write_texts("a", epoch, 3, 2).await;
    }
    server.write_texts("a", 12, 4, 1).await;
    let through = journal.sealed_files()[1].file_id;
    tokio::task::spawn_blocking(move || journal.remove_through(through).unwrap()).await.unwrap();
    let mut client = Client::begin(server.get(target).token(&token).header("last-event-id", &id)).await;
    let late = [of_epoch(2, 3..=4), of_epoch(11, 3..=4), of_epoch(12, 4..=4)].concat();
    assert_eq!(client.frames(5).await, late);
    server.write_texts("a", 2, 5, 1).await;
    server.write_texts("a", 12, 5, 1).await;
    assert_eq!(client.frames(2).await, [of_epoch(2, 5..=5), of_epoch(12, 5..=5)].concat());
}

/// A client that is cut again and again before there is anything for it gets there all the same.
#[tokio::test]
async fn looking_through_what_came_since_goes_on_where_it_was() {
    let mut server = Server::with_files_of(Some(4096), ApiLimits::default()).await;
    let token = server.device_and_reader("a").await;
    let target = "/v1/live?channel=rare";
    let mut client = Client::begin(server.get(target).token(&token)).await;
    server.write("a", 1, 1, &[text_frame(TS, "rare", "x")]).await;
    let mut id = client.next().await.unwrap().id;
    for n in 0..40 {
        server.write_texts("a", 1, 2 + n * 20, 20).await;
    }
    let journal = server.journal.clone();
    eventually("files are sealed", || journal.sealed_files().len() >= 3).await;
    server.write("a", 1, 802, &[text_frame(TS, "rare", "y")]).await;
    let mut cuts = 0;
    let event = loop {
        let ask = server.get(target).token(&token).header("last-event-id", &id);
        let mut client = Client::begin(ask).await;
        match client.block().await.expect("the stream goes on") {
            Some(event) => break event,
            None => {
                assert_ne!(client.id, id, "it is further");
                id = client.id;
                cuts += 1;
            }
        }
    };
    assert_eq!(event.place(), ("a".to_owned(), 1, 802));
    assert!(cuts >= 3, "{cuts} cuts");
}

/// Writes what devices send, some of it twice, and reads it with a client that is cut again and again.
async fn resumed(seed: u64, path: &str, roll_bytes: Option<u64>) {
    let mut rng = Rng::new(seed);
    let mut server = Server::with_files_of(roll_bytes, ApiLimits::default()).await;
    let token = server.device_and_reader("d0").await;
    for name in ["d1", "d2"] {
        server.add_device(name, &[]).await;
    }
    let names: &[&str] = if path == "/v1/live" { &["d0", "d1", "d2"] } else { &["d0"] };
    let mut client = Client::begin(server.get(path).token(&token)).await;
    // The first id comes by itself.
    let mut sent = [0_u64; 3];
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let mut id = String::new();
    for _ in 0..60 {
        for _ in 0..rng.below(6) {
            let of = usize::try_from(rng.below(3)).unwrap();
            let back = rng.below(4).min(sent[of]);
            let count = back + rng.below(8);
            if count > 0 {
                server.write_texts(&format!("d{of}"), 1, sent[of] + 1 - back, count).await;
                sent[of] = sent[of].max(sent[of] + count - back);
            }
        }
        let there: u64 = names.iter().map(|name| sent[name[1..].parse::<usize>().unwrap()]).sum();
        let unseen = there - seen.values().sum::<u64>();
        for _ in 0..rng.below(unseen + 1) {
            let event = client.next().await.expect("the stream goes on");
            let (name, _, seq) = event.place();
            let last = seen.entry(name).or_default();
            assert_eq!(seq, *last + 1, "seed {seed}: {event:?}");
            *last = seq;
            id = event.id;
        }
        if rng.percent(50) && !id.is_empty() {
            client = Client::begin(server.get(path).token(&token).header("last-event-id", &id)).await;
        }
    }
    let there = |name: &&str| sent[name[1..].parse::<usize>().unwrap()];
    while seen.values().sum::<u64>() < names.iter().map(there).sum::<u64>() {
        let event = client.next().await.expect("the stream goes on");
        let (name, _, seq) = event.place();
        let last = seen.entry(name).or_default();
        assert_eq!(seq, *last + 1, "seed {seed}: {event:?}");
        *last = seq;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_cut_goes_on_where_it_was() {
    for seed in 0..6 {
        resumed(seed, "/v1/live", None).await;
        resumed(seed, "/v1/devices/d0/live", None).await;
        resumed(seed, "/v1/live", Some(4096)).await;
        resumed(seed, "/v1/devices/d0/live", Some(4096)).await;
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_ended_and_others_go_on() {
    let limits = ApiLimits { live_patience: Duration::from_millis(300), ..ApiLimits::default() };
    let mut server = Server::with(limits).await;
    let token = server.device_and_reader("a").await;
    let mut slow = Client::begin(server.get("/v1/live").token(&token)).await;
    let mut other = Client::begin(server.get("/v1/live").token(&token)).await;
    let payload = vec![b'x'; 1000];
    let frame = FrameRef { ts: TS, channel: "c", content_type: ContentType::Text, payload: &payload };
    let frames = vec![frame; 1000];
    let mut sent = 0;
    let ends = server.metrics.live_ends.clone();
    let ended = || ends.get_or_create(&EndLabels { reason: "slow" }).get();
    while ended() == 0 {
        server.write("a", 1, sent + 1, &frames).await;
        sent += 1000;
        assert_eq!(other.frames(1000).await, places("a", sent - 999..=sent));
    }
    let (mut seen, mut last) = (0, None);
    while let Some(event) = slow.next().await {
        if event.name == "frame" {
            seen += 1;
            assert_eq!(event.place().2, seen, "nothing is left out");
        }
        last = Some(event);
    }
    let last = last.unwrap();
    assert_eq!((last.name.as_str(), last.data["reason"].as_str()), ("end", Some("slow")));
    assert!(seen < sent);
    // It goes on where it was.
    let mut again =
        Client::begin(server.get("/v1/live").token(&token).header("last-event-id", &last.id)).await;
    assert_eq!(again.frames(1).await, places("a", seen + 1..=seen + 1));
    assert_eq!(ended(), 1);
}

#[tokio::test]
async fn rights_and_groups_count_at_once() {
    let mut server = Server::start().await;
    server.add_device("a", &["north"]).await;
    server.add_device("b", &["south"]).await;
    let token = server.add_reader("me", &[Scope::FramesRead], &["north", "east"]).await;
    let all = server.add_reader("all", &[Scope::FramesRead], &[]).await;
    let mut mine = Client::begin(server.get("/v1/live").token(&token)).await;
    let mut south = Client::begin(server.get("/v1/live?group=south").token(&all)).await;
    let mut none = Client::begin(server.get("/v1/live?group=south").token(&token)).await;
    let mut one = Client::begin(server.get("/v1/devices/a/live").token(&token)).await;
    // It is in a group of mine and in another one: who may see one is not told who is in the other.
    server.add_device("both", &["north", "south"]).await;
    server.write_texts("both", 1, 1, 1).await;
    assert_eq!(mine.frames(1).await, places("both", 1..=1));
    assert_eq!(south.frames(1).await, places("both", 1..=1));
    server.write_texts("a", 1, 1, 1).await;
    server.write_texts("b", 1, 1, 1).await;
    assert_eq!(mine.frames(1).await, places("a", 1..=1));
    assert_eq!(south.frames(1).await, places("b", 1..=1));
    // A new one, at once.
    server.add_device("c", &["east"]).await;
    server.write_texts("c", 1, 1, 1).await;
    assert_eq!(mine.frames(1).await, places("c", 1..=1));
    // One that changes.
    let mut changes = server.registry.changes();
    changes.mark_unchanged();
    server.registry.set_groups(&device("a"), groups(&["south"])).await.unwrap();
    tokio::time::timeout(SOON, changes.changed()).await.unwrap().unwrap();
    server.write_texts("a", 1, 2, 1).await;
    server.write_texts("c", 1, 2, 1).await;
    assert_eq!(mine.frames(1).await, places("c", 2..=2), "a has left");
    assert_eq!(south.frames(1).await, places("a", 2..=2), "and is there");
    assert!(one.next().await.is_some_and(|event| event.place().2 == 1));
    assert!(one.next().await.is_none(), "the right to the device is gone");
    server.registry.revoke_reader(&ReaderName::new("me").unwrap()).await.unwrap();
    assert!(mine.next().await.is_none() && none.next().await.is_none(), "cut, without a word");
    server.write_texts("b", 1, 2, 1).await;
    assert_eq!(south.frames(1).await, places("b", 2..=2));
}

#[tokio::test]
async fn a_device_that_leaves_a_group_stops_in_the_middle_of_a_commit() {
    let mut server = Server::start().await;
    server.add_device("a", &["north"]).await;
    server.add_device("b", &["north"]).await;
    let token = server.add_reader("all", &[Scope::FramesRead], &[]).await;
    let mut client = Client::begin(server.get("/v1/live?group=north").token(&token)).await;
    server.write_texts("a", 1, 1, 1).await;
    let id = client.next().await.unwrap().id;
    // More than all buffers between have room for, in one commit: that of a walk.
    let payload = vec![b'x'; 100_000];
    let frame = FrameRef { ts: TS, channel: "c", content_type: ContentType::Text, payload: &payload };
    let (batches, of) = (40, vec![frame; 20]);
    for batch in 0..batches {
        server.write("a", 1, 2 + batch * 20, &of).await;
    }
    let ask = server.get("/v1/live?group=north").token(&token).header("last-event-id", &id);
    let mut client = Client::begin(ask).await;
    client.frames(1).await;
    let mut changes = server.registry.changes();
    changes.mark_unchanged();
    server.registry.set_groups(&device("a"), groups(&["south"])).await.unwrap();
    tokio::time::timeout(SOON, changes.changed()).await.unwrap().unwrap();
    server.write_texts("b", 1, 1, 1).await;
    let mut seen = 1;
    while client.next().await.expect("the stream goes on").place().0 == "a" {
        seen += 1;
    }
    assert!(seen < batches * 20, "{seen} were shown");
}

#[tokio::test]
async fn a_registry_that_does_not_answer_leaves_nothing_out() {
    let mut server = Server::start().await;
    server.add_device("a", &["north"]).await;
    let token = server.add_reader("all", &[Scope::FramesRead], &[]).await;
    let mut client = Client::begin(server.get("/v1/live?group=north").token(&token)).await;
    let database = rusqlite::Connection::open(server.registry_file()).unwrap();
    database.execute_batch("ALTER TABLE devices RENAME TO hidden").unwrap();
    server.write_texts("a", 1, 1, 1).await;
    let end = client.next().await.unwrap();
    assert_eq!((end.name.as_str(), end.data["reason"].as_str()), ("end", Some("unavailable")));
    database.execute_batch("ALTER TABLE hidden RENAME TO devices").unwrap();
    let ask = server.get("/v1/live?group=north").token(&token).header("last-event-id", &end.id);
    assert_eq!(Client::begin(ask).await.frames(1).await, places("a", 1..=1));
}

#[tokio::test]
async fn what_has_left_the_journal_is_refused() {
    let mut server = Server::with_files_of(Some(4096), ApiLimits::default()).await;
    let token = server.device_and_reader("a").await;
    let mut client = Client::begin(server.get("/v1/live").token(&token)).await;
    server.write_texts("a", 1, 1, 2).await;
    let id = client.next().await.unwrap().id;
    for n in 0..40 {
        server.write_texts("a", 1, 3 + n * 20, 20).await;
    }
    let journal = server.journal.clone();
    eventually("files are sealed", || journal.sealed_files().len() >= 3).await;
    let last = journal.sealed_files().last().unwrap().file_id;
    let ask = || server.get("/v1/live").token(&token).header("last-event-id", &id);
    drop(Client::begin(ask()).await);
    tokio::task::spawn_blocking(move || journal.remove_through(last).unwrap()).await.unwrap();
    let (status, code, detail) = ask().send().await.problem();
    assert_eq!((status, code.as_str()), (410, "cursor_expired"));
    assert!(detail.contains("without Last-Event-ID"), "{detail}");
    // A device's stream goes back to history, which is not here in this test.
    let mut one = Client::begin(server.get("/v1/devices/a/live?after=1:1").token(&token)).await;
    assert!(one.next().await.is_some());
    let target = "/v1/live?group=north";
    let (status, code, _) =
        server.get(target).token(&token).header("last-event-id", &id).send().await.problem();
    assert_eq!((status, code.as_str()), (400, "cursor_of_other_query"));
    let accept = server.get("/v1/live").token(&token).header("accept", "application/json");
    assert_eq!(accept.send().await.problem().1, "not_acceptable");
}

#[tokio::test]
async fn history_needs_a_place_among_streams() {
    let limits = ApiLimits { streams_max: 0, ..ApiLimits::default() };
    let mut server = Server::with(limits).await;
    let token = server.device_and_reader("a").await;
    let refused = server.get("/v1/devices/a/live?after=0:0").token(&token).send().await;
    assert_eq!(refused.header("retry-after"), "1");
    let (status, code, detail) = refused.problem();
    assert_eq!((status, code.as_str()), (503, "busy"));
    assert!(detail.contains("streams"), "{detail}");
    let mut client = Client::begin(server.get("/v1/devices/a/live").token(&token)).await;
    server.write_texts("a", 1, 1, 1).await;
    assert_eq!(client.frames(1).await, places("a", 1..=1));
}

#[tokio::test]
async fn looking_through_what_came_since_has_a_deadline() {
    let mut server = Server::with(ApiLimits { query_deadline: Duration::ZERO, ..ApiLimits::default() }).await;
    let token = server.device_and_reader("a").await;
    let mut client = Client::begin(server.get("/v1/live").token(&token)).await;
    server.write_texts("a", 1, 1, 1).await;
    let id = client.next().await.unwrap().id;
    // Now and then a look may be faster than no time.
    for _ in 0..1000 {
        let answer = server.get("/v1/live").token(&token).header("last-event-id", &id).begin().await;
        if answer.status() == 503 {
            return;
        }
    }
    panic!("it is never refused");
}

#[tokio::test]
async fn a_process_that_stops_says_so_and_places_are_limited() {
    let limits = ApiLimits { live_max: 2, ..ApiLimits::default() };
    let mut server = Server::with(limits).await;
    let token = server.device_and_reader("a").await;
    let mut first = Client::begin(server.get("/v1/live").token(&token)).await;
    let mut second = Client::begin(server.get("/v1/devices/a/live").token(&token)).await;
    let refused = server.get("/v1/live").token(&token).send().await;
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(refused.problem().1, "busy");
    assert_eq!(server.metrics.reads_of(ReadKind::Streams).get(), 0, "other reads have places of their own");
    server.write_texts("a", 1, 1, 1).await;
    let id = second.next().await.unwrap().id;
    first.frames(1).await;
    server.shutdown.begin();
    for client in [&mut first, &mut second] {
        let end = client.next().await.unwrap();
        assert_eq!((end.name.as_str(), end.data["reason"].as_str()), ("end", Some("draining")));
        assert_eq!(end.id, id.clone().max(end.id.clone()));
        assert!(client.next().await.is_none());
    }
    assert!(server.shutdown.clone().finish().await.is_clean());
}

#[tokio::test]
async fn an_eater_that_is_emptied_ends_its_streams_and_begins_none() {
    let mut server = Server::start().await;
    let token = server.device_and_reader("a").await;
    let mut client = Client::begin(server.get("/v1/live").token(&token)).await;
    server.write_texts("a", 1, 1, 1).await;
    client.frames(1).await;
    server.shutdown.drain.begin(Some(Duration::ZERO));
    let end = client.next().await.unwrap();
    assert_eq!((end.name.as_str(), end.data["reason"].as_str()), ("end", Some("draining")));
    assert!(client.next().await.is_none());
    let refused = server.get("/v1/live").token(&token).send().await;
    assert_eq!(refused.header("retry-after"), "2");
    assert_eq!(refused.problem().1, "busy");
    assert_eq!(
        server.get("/v1/devices").token(&token).send().await.status,
        200,
        "other requests are answered"
    );
    server.shutdown.drain.undo();
    Client::begin(server.get("/v1/live").token(&token)).await;
}
