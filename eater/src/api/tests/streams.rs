//! 1. A long answer is whole, in order, and needs flat memory.
//! 2. What goes wrong in the middle breaks the connection off, before it can look like the end.
//! 3. A client that is gone, or does not read, frees its place and its thread.
//! 4. A stream of a reader who loses the right to it is cut.

use std::time::Duration;

use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use trough_protocol::{ContentType, frame::FrameRef};
use trough_runtime::process::resident_bytes;
use trough_store::{ReaderName, Registry as _, Scope};

use super::shapes::{ARROW, PARQUET};
use super::support::{SOON, Server, TS, device, eventually, groups};
use crate::api::ApiLimits;
use crate::api::reads::ReadKind;

const NDJSON: &str = "application/x-ndjson";

/// Stores `batches` batches of `count` frames of 1000 bytes.
async fn fill(server: &mut Server, name: &str, batches: u64, count: u64) {
    let payload = vec![b'x'; 1000];
    let frame = FrameRef { ts: TS, channel: "c", content_type: ContentType::Text, payload: &payload };
    let frames = vec![frame; usize::try_from(count).unwrap()];
    for batch in 0..batches {
        server.write(name, 1, batch * count + 1, &frames).await;
    }
}

/// Reads a body and checks that it has the frames from 1 on, in order; gives the last.
async fn follow(body: &mut hyper::body::Incoming) -> Result<u64, hyper::Error> {
    let (mut last, mut line) = (0, Vec::new());
    while let Some(frame) = body.frame().await {
        let data = frame?.into_data().unwrap();
        for piece in data.split_inclusive(|b| *b == b'\n') {
            line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let start = format!("{{\"epoch\":1,\"seq\":{},", last + 1);
                assert!(line.starts_with(start.as_bytes()), "{}", String::from_utf8_lossy(&line));
                last += 1;
                line.clear();
            }
        }
    }
    assert!(line.is_empty(), "a line was cut");
    Ok(last)
}

/// In a process of its own, as resident memory is that of all tests together otherwise.
#[test]
fn a_large_range_streams_in_flat_memory() {
    let alone = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "api::tests::streams::flat_memory_alone"])
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&alone.stdout), String::from_utf8_lossy(&alone.stderr));
    assert!(alone.status.success() && out.contains("1 passed"), "{out}\n{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the test above"]
async fn flat_memory_alone() {
    let mut server = Server::start().await;
    let token = server.device_and_reader("bus-1").await;
    let (batches, count) = (96, 2000);
    fill(&mut server, "bus-1", batches, count).await;
    let before = resident_bytes().unwrap();
    let answer = server.get("/v1/devices/bus-1/frames").token(&token).header("accept", NDJSON).begin().await;
    assert_eq!(answer.headers()["transfer-encoding"], "chunked");
    let mut body = answer.into_body();
    let reading = tokio::spawn(async move { follow(&mut body).await });
    let mut peak = before;
    while !reading.is_finished() {
        peak = peak.max(resident_bytes().unwrap());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(reading.await.unwrap().unwrap(), batches * count);
    let grown = peak - before;
    assert!(grown < 16 * 1024 * 1024, "memory grew by {grown} bytes while 220 MB were read");
    assert_eq!(server.metrics.frames.get(), batches * count);
    for accept in [PARQUET, ARROW] {
        let answer = server.get("/v1/frames").token(&token).header("accept", accept).begin().await;
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            frame.unwrap();
            peak = peak.max(resident_bytes().unwrap());
        }
        // One row group of a Parquet answer waits for its end.
        let grown = peak - before;
        assert!(grown < 32 * 1024 * 1024, "memory grew by {grown} bytes as {accept}");
    }
    assert_eq!(server.metrics.frames.get(), 3 * batches * count);
    eventually("the place is free again", || server.metrics.reads_of(ReadKind::Streams).get() == 0).await;
}

#[tokio::test]
async fn damage_breaks_a_stream_off_and_the_way_round_it_is_told() {
    let mut server = Server::start().await;
    let token = server.device_and_reader("bus-1").await;
    fill(&mut server, "bus-1", 40, 100).await;
    damage(&server);
    let answer = server.get("/v1/devices/bus-1/frames").token(&token).header("accept", NDJSON).begin().await;
    assert_eq!(answer.status(), 200);
    let mut body = answer.into_body();
    let mut received = Vec::new();
    let broken = loop {
        match body.frame().await {
            Some(Ok(frame)) => received.extend_from_slice(&frame.into_data().unwrap()),
            Some(Err(_)) => break true,
            None => break false,
        }
    };
    assert!(broken, "the end of the body must not look like the end of the data");
    let whole_lines = received.iter().filter(|b| **b == b'\n').count();
    assert!(
        received.ends_with(b"\n") && whole_lines % 100 == 0,
        "everything before the damage: {whole_lines}"
    );

    let target = format!("/v1/devices/bus-1/frames?after=1:{whole_lines}");
    for accept in [NDJSON, "text/csv", "application/json"] {
        let (status, code, detail) =
            server.get(&target).token(&token).header("accept", accept).send().await.problem();
        assert_eq!((status, code.as_str()), (500, "frames_damaged"));
        let first = whole_lines + 1;
        let behind = whole_lines + 100;
        assert!(detail.contains(&format!("frames {first} to {behind} of epoch 1")), "{detail}");
        assert!(detail.contains(&format!("after=1:{behind}")), "{detail}");
        assert!(!detail.contains("journal/"), "file names are for the log: {detail}");
    }
    let target = format!("/v1/devices/bus-1/frames?limit=10000&after=1:{}", whole_lines + 100);
    let rest = server.get(&target).token(&token).send().await.json();
    assert_eq!(rest["frames"].as_array().unwrap().len(), 4000 - whole_lines - 100);

    let page = server.get("/v1/devices/bus-1/frames?limit=10000").token(&token).send().await.json();
    assert_eq!(page["frames"].as_array().unwrap().len(), whole_lines);
    let cursor = page["next_cursor"].as_str().expect("the next page says what is wrong");
    let next = server.get(&format!("/v1/devices/bus-1/frames?cursor={cursor}")).token(&token).send().await;
    assert_eq!(next.problem().1, "frames_damaged");
}

/// Flips one bit in the middle of what the journal has on disk.
pub(super) fn damage(server: &Server) {
    use std::os::unix::fs::FileExt;
    let largest = std::fs::read_dir(server.journal_dir())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .max_by_key(|path| path.metadata().unwrap().len())
        .unwrap();
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&largest).unwrap();
    let at = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[tokio::test]
async fn a_client_that_goes_away_frees_its_place() {
    let limits = ApiLimits { streams_max: 1, ..ApiLimits::default() };
    let mut server = Server::with(limits).await;
    let token = server.device_and_reader("bus-1").await;
    fill(&mut server, "bus-1", 16, 2000).await;
    let ask = || server.get("/v1/devices/bus-1/frames").token(&token).header("accept", NDJSON);
    let first = ask().begin().await;
    assert_eq!(server.metrics.reads_of(ReadKind::Streams).get(), 1);
    let (_, code, _) = ask().send().await.problem();
    assert_eq!(code, "busy");
    let page = server.get("/v1/devices/bus-1/frames").token(&token).send().await;
    assert_eq!(page.status, 200, "pages have their own places");
    drop(first);
    eventually("the place is free again", || server.metrics.reads_of(ReadKind::Streams).get() == 0).await;
    let mut body = ask().begin().await.into_body();
    assert_eq!(follow(&mut body).await.unwrap(), 32_000);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut() {
    let limits = ApiLimits { write_timeout: Duration::from_millis(200), ..ApiLimits::default() };
    let mut server = Server::with(limits).await;
    let token = server.device_and_reader("bus-1").await;
    // More than the socket buffers of both sides hold.
    fill(&mut server, "bus-1", 16, 2000).await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "GET /v1/devices/bus-1/frames HTTP/1.1\r\nHost: x\r\nAccept: {NDJSON}\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    eventually("the stream began", || server.metrics.reads_of(ReadKind::Streams).get() == 1).await;
    eventually("the stream was cut", || server.metrics.reads_of(ReadKind::Streams).get() == 0).await;
    eventually("the connection was closed", || server.metrics.connections.get() == 0).await;
    let mut rest = Vec::new();
    // A reset or an end: but never the chunk that ends a body.
    let _ = tokio::time::timeout(SOON, socket.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.starts_with(b"HTTP/1.1 200") && !rest.ends_with(b"\r\n0\r\n\r\n"));
}

#[tokio::test]
async fn a_reader_who_loses_the_right_is_cut() {
    let mut server = Server::start().await;
    server.add_device("bus-1", &["north"]).await;
    fill(&mut server, "bus-1", 16, 2000).await;
    for case in ["reader revoked", "device regrouped"] {
        let token = server.add_reader("north", &[Scope::FramesRead], &["north"]).await;
        let answer =
            server.get("/v1/devices/bus-1/frames").token(&token).header("accept", NDJSON).begin().await;
        let mut body = answer.into_body();
        body.frame().await.unwrap().unwrap();
        match case {
            "reader revoked" => {
                server.registry.revoke_reader(&ReaderName::new("north").unwrap()).await.unwrap();
            }
            _ => server.registry.set_groups(&device("bus-1"), groups(&["south"])).await.unwrap(),
        }
        let refused =
            async { while server.get("/v1/devices/bus-1/gaps").token(&token).send().await.status == 200 {} };
        tokio::time::timeout(SOON, refused).await.unwrap_or_else(|_| panic!("{case}: refused in time"));
        // What is in the sockets still comes, the rest does not.
        let cut = async { while let Some(Ok(_)) = body.frame().await {} };
        tokio::time::timeout(SOON, cut).await.unwrap_or_else(|_| panic!("{case}: cut in time"));
        let log = server.metrics.requests.clone();
        let aborted =
            crate::api::metrics::RequestLabels { route: "/v1/devices/{id}/frames", status: "aborted" };
        let expected = if case == "reader revoked" { 1 } else { 2 };
        eventually("the request was logged as aborted", || log.get_or_create(&aborted).get() == expected)
            .await;
    }
}
