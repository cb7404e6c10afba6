//! Against a server that says what the test tells it to: how answers are understood, and what is tried again.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use trough_runtime::clock::Clock;
use trough_runtime::health::Health;

use super::*;
use crate::objects::{Limits, ObjectMetrics, Opening, open};

/// One answer: a status line and a body; or the connection just ends.
#[derive(Clone, Copy)]
enum Says {
    Status(&'static str, &'static str),
    Closes,
    /// Promises more bytes than it sends.
    Breaks,
}

use Says::{Breaks, Closes, Status};

struct Server {
    at: SocketAddr,
    answers: Arc<Mutex<VecDeque<Says>>>,
    /// The request lines that came.
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(answers: &[Says]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let answers = Arc::new(Mutex::new(answers.iter().copied().collect::<VecDeque<_>>()));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (to_say, heard) = (Arc::clone(&answers), Arc::clone(&requests));
        tokio::spawn(async move {
            // Connections one after another: each request gets the next answer and ends its connection.
            while let Ok((stream, _)) = listener.accept().await {
                let Some(line) = hear(stream, &to_say).await else { continue };
                heard.lock().unwrap().push(line);
            }
        });
        Self { at, answers, requests }
    }

    fn store(&self, health: &Health) -> Arc<dyn ObjectStore> {
        let limits = Limits {
            backoff_min: Duration::from_millis(1),
            backoff_max: Duration::from_millis(2),
            call: Duration::from_secs(30),
            ..Limits::default()
        };
        let url = format!("s3://bucket/p/q?endpoint=http://{}&region=here", self.at);
        open(&url, opening(limits, health)).unwrap()
    }

    fn requests(&self) -> Vec<String> {
        assert!(self.answers.lock().unwrap().is_empty(), "fewer requests came than were due");
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

fn opening(limits: Limits, health: &Health) -> Opening {
    Opening {
        credentials: Some(credentials()),
        limits,
        metrics: ObjectMetrics::default(),
        health: health.clone(),
        clock: Clock::manual(0),
    }
}

fn credentials() -> Credentials {
    Credentials { access_key: Secret::new("AKHUNTER".into()), secret_key: Secret::new("hunter2".into()) }
}

async fn hear(mut stream: TcpStream, answers: &Mutex<VecDeque<Says>>) -> Option<String> {
    let mut bytes = Vec::new();
    let (head, len) = loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let head = head.to_lowercase();
            let len = head.split_once("\r\ncontent-length: ").map_or("0", |(_, rest)| rest);
            let len: usize = len.lines().next().unwrap().parse().unwrap();
            break (text.lines().next().unwrap().to_owned(), head.len() + 4 + len);
        }
    };
    while bytes.len() < len {
        stream.read_buf(&mut bytes).await.ok()?;
    }
    let says = answers.lock().unwrap().pop_front().unwrap_or(Status("599 Unexpected", ""));
    let (status, body, promised) = match says {
        Status(status, body) => (status, body, body.len()),
        Breaks => ("200 OK", "half", 8),
        Closes => return Some(head),
    };
    let answer =
        format!("HTTP/1.1 {status}\r\ncontent-length: {promised}\r\nconnection: close\r\n\r\n{body}");
    stream.write_all(answer.as_bytes()).await.ok()?;
    Some(head)
}

fn key() -> ObjectKey {
    ObjectKey::new("k").unwrap()
}

const SLOW: Says = Status("503 Slow Down", "<Error><Code>SlowDown</Code></Error>");
const NO_BUCKET: Says = Status("404 Not Found", "<Error><Code>NoSuchBucket</Code></Error>");
const NO_KEY: Says = Status("404 Not Found", "<Error><Code>NoSuchKey</Code></Error>");
const DENIED: Says = Status("403 Forbidden", "<Error><Code>AccessDenied</Code></Error>");

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    let late = Status("400 Bad Request", "<Error><Code>RequestTimeout</Code></Error>");
    let busy = Status("429 Too Many Requests", "");
    let server = Server::start(&[SLOW, Closes, late, busy, Status("200 OK", "")]).await;
    let health = Health::new();
    server.store(&health).put(&key(), Bytes::from_static(b"bytes")).await.unwrap();
    assert_eq!(server.requests(), ["PUT /bucket/p/q/k HTTP/1.1"; 5]);
    assert!(health.degraded().is_empty(), "it works again");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_asked_for_again() {
    let server = Server::start(&[Breaks, Status("200 OK", "complete")]).await;
    assert_eq!(server.store(&Health::new()).get(&key()).await.unwrap(), "complete");
    assert_eq!(server.requests(), ["GET /bucket/p/q/k HTTP/1.1"; 2]);
}

#[tokio::test]
async fn what_will_not_change_is_refused_at_once() {
    let odd = Status("400 Bad Request", "<html>");
    for says in [DENIED, NO_BUCKET, odd, Status("501 Not Implemented", ""), Status("301 Moved", "")] {
        let health = Health::new();
        let server = Server::start(&[says; 4]).await;
        let store = server.store(&health);
        let answers = [
            store.put(&key(), Bytes::new()).await,
            store.get(&key()).await.map(drop),
            store.delete(&key()).await,
            store.list("", None, 1).await.map(drop),
        ];
        for answer in answers {
            let Err(ObjectError::Refused(text)) = answer else { panic!("{answer:?}") };
            assert!(text.contains("check bucket") && !text.contains("unter"), "{text}");
        }
        assert_eq!(server.requests().len(), 4);
        assert_eq!(health.degraded()[0].0, "store");
    }
}

#[tokio::test]
async fn a_missing_object_is_no_failure() {
    let server = Server::start(&[NO_KEY; 3]).await;
    let health = Health::new();
    let store = server.store(&health);
    assert_eq!(store.get(&key()).await, Err(ObjectError::NotFound(key())));
    assert_eq!(store.get_range(&key(), 0..3).await, Err(ObjectError::NotFound(key())));
    store.delete(&key()).await.unwrap();
    assert_eq!(server.requests().len(), 3);
    assert!(health.degraded().is_empty());
}

#[tokio::test]
async fn ranges_that_are_not_what_was_asked_for_are_not_taken() {
    let whole = Status("200 OK", "0123456789");
    let server = Server::start(&[whole, Status("206 Partial Content", "23"), Status("416 No", "")]).await;
    let store = server.store(&Health::new());
    let ignored = store.get_range(&key(), 2..5).await;
    assert!(matches!(ignored, Err(ObjectError::Refused(_))), "{ignored:?}");
    for _ in 0..2 {
        let short = store.get_range(&key(), 2..5).await;
        assert!(matches!(short, Err(ObjectError::Invalid(_))), "{short:?}");
    }
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn a_listing_passes_over_what_is_not_ours() {
    let foreign = Status(
        "200 OK",
        "<ListBucketResult><Name>b</Name><IsTruncated>true</IsTruncated><Contents><Key>p/q/not ours</Key>\
         <LastModified>x</LastModified><Size>1</Size></Contents></ListBucketResult>",
    );
    let ours = Status(
        "200 OK",
        "<ListBucketResult><Name>b</Name><IsTruncated>true</IsTruncated><Contents><Key>p/q/ours</Key>\
         <LastModified>x</LastModified><Size>5</Size></Contents></ListBucketResult>",
    );
    let server = Server::start(&[foreign, ours]).await;
    let entry = ObjectEntry { key: ObjectKey::new("ours").unwrap(), bytes: 5 };
    assert_eq!(server.store(&Health::new()).list("", None, 1).await.unwrap(), [entry]);
    assert!(server.requests()[1].contains("start-after=p%2Fq%2Fnot"));
}

#[tokio::test]
async fn a_store_that_says_nothing_is_unavailable_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("s3://b/p?endpoint=http://{}", silent.local_addr().unwrap());
    let limits = Limits {
        attempt: Duration::from_millis(50),
        call: Duration::from_millis(400),
        backoff_min: Duration::from_millis(1),
        requests: 1,
        ..Limits::default()
    };
    let health = Health::new();
    let store = open(&url, opening(limits, &health)).unwrap();
    // The second waits for the first, and no longer than its own deadline.
    let (key, bytes) = (key(), Bytes::from_static(b"x"));
    let (first, second) = tokio::join!(store.put(&key, bytes.clone()), store.put(&key, bytes));
    for answer in [first, second] {
        assert!(matches!(answer, Err(ObjectError::Unavailable { .. })), "{answer:?}");
    }
    assert_eq!(health.degraded()[0].0, "store");
}

#[tokio::test]
async fn opening_asks_nobody_and_needs_credentials() {
    let health = Health::new();
    let url = "s3://b/p?endpoint=http://no.such.host.invalid:1";
    open(url, opening(Limits::default(), &health)).unwrap();
    let none = Opening { credentials: None, ..opening(Limits::default(), &health) };
    let Err(ObjectError::Invalid(text)) = open(url, none) else { panic!("opened without credentials") };
    assert!(text.contains("AWS_ACCESS_KEY_ID"), "{text}");
    let location = S3Location {
        bucket: "b".into(),
        prefix: String::new(),
        endpoint: "http://h".into(),
        region: "r".into(),
    };
    let shown = format!("{:?} {:?}", credentials(), S3Store::new(&location, &credentials()).unwrap());
    assert!(!shown.to_lowercase().contains("hunter"), "{shown}");
}
