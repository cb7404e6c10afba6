//! A client of a live stream that goes on behind its last event whenever it is cut, and checks that each device's frames
//! come once and in order.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use reqwest::{Response, StatusCode};
use tokio::task::JoinHandle;

use crate::ledger::Track;
use crate::poll::{LATER, ends, until};
use crate::reader::{ReadFrame, Reader, live_frame};

/// Most frames between two cuts of a stream of many devices, and of one.
const FRAMES_MAX: u64 = 300;
const FRAMES_OF_ONE_MAX: u64 = 30;
/// Between tries to reach an eater that does not answer.
const RETRY: Duration = Duration::from_millis(20);

/// A client. Dropping it ends it.
#[derive(Debug)]
pub struct Follower {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

/// What has come.
#[derive(Debug, Default)]
struct Seen {
    frames: BTreeMap<String, Vec<ReadFrame>>,
    /// How often it was connected.
    connected: u64,
    /// Why the server ended streams.
    ends: Vec<String>,
}

/// One connection, read by hand.
#[derive(Debug)]
pub struct Tail {
    /// The last id.
    pub id: Option<String>,
    path: String,
    response: Response,
    text: String,
}

impl Tail {
    /// Opens a stream, and waits until it has begun.
    pub async fn start(reader: Reader, path: &str) -> Self {
        let mut tail = Self::open(reader, path, None).await;
        while tail.id.is_none() {
            tail.event().await;
        }
        tail
    }

    /// The same stream behind its last event.
    pub async fn again(self, reader: Reader) -> Self {
        Self::open(reader, &self.path, self.id.as_deref()).await
    }

    async fn open(reader: Reader, path: &str, id: Option<&str>) -> Self {
        let response = reader.live(path, id).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        Self { id: None, path: path.to_owned(), response, text: String::new() }
    }

    async fn event(&mut self) -> String {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                if let Some((_, id)) = event.split_once("id: ") {
                    self.id = id.lines().next().map(str::to_owned);
                }
                return event;
            }
            let chunk = ends("something comes", LATER, self.response.chunk()).await.unwrap();
            self.text += std::str::from_utf8(&chunk.expect("the stream goes on")).unwrap();
        }
    }

    /// The numbers of the next frames.
    pub async fn seqs(&mut self, count: usize) -> Vec<u64> {
        let mut seqs = Vec::new();
        while seqs.len() < count {
            let event = self.event().await;
            if let Some((_, data)) = event.split_once("event: frame").and(event.split_once("data: ")) {
                seqs.push(live_frame(data).1.seq);
            }
        }
        seqs
    }
}

struct Client {
    readers: Vec<Reader>,
    path: String,
    cuts: Option<StdRng>,
    id: Option<String>,
    seen: Arc<Mutex<Seen>>,
}

impl Follower {
    /// Opens a stream at the first of these eaters, and waits until it has begun. With `cuts` it leaves now and then, and
    /// comes back to any of them.
    pub async fn start(readers: Vec<Reader>, path: &str, cuts: Option<StdRng>) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let mut client = Client { readers, path: path.to_owned(), cuts, id: None, seen: seen.clone() };
        let (mut events, mut response) = (String::new(), client.open(0).await.expect("an eater answers"));
        until("a stream has begun", LATER, async || {
            client.take(&mut events, &mut response).await.expect("the stream goes on");
            client.id.clone()
        })
        .await;
        Self { seen, task: tokio::spawn(client.run(events, response)) }
    }

    /// Waits until all of these have come, each frame once and in order.
    ///
    /// # Panics
    /// If they do not.
    pub async fn has(&self, tracks: &[&Track]) {
        let all: usize = tracks.iter().map(|track| track.sent.len()).sum();
        until("all frames have come", LATER, async || {
            assert!(!self.task.is_finished(), "the client failed: its message stands above");
            let seen = self.seen.lock().unwrap();
            (seen.frames.values().map(Vec::len).sum::<usize>() >= all).then_some(())
        })
        .await;
        let seen = self.seen.lock().unwrap();
        for track in tracks {
            track.assert_read(1, seen.frames.get(&track.device).map_or(&[], Vec::as_slice));
        }
        assert_eq!(seen.frames.len(), tracks.len(), "devices");
    }

    /// How often it was connected.
    pub fn connected(&self) -> u64 {
        self.seen.lock().unwrap().connected
    }

    /// How many frames have come.
    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().frames.values().map(Vec::len).sum()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    async fn run(mut self, mut events: String, mut response: Response) {
        let most = if self.path.starts_with("/v1/live") { FRAMES_MAX } else { FRAMES_OF_ONE_MAX };
        loop {
            let mut left = self.cuts.as_mut().map_or(u64::MAX, |rng| rng.random_range(0..most));
            while left > 0
                && let Some(frames) = self.take(&mut events, &mut response).await
            {
                left = left.saturating_sub(frames);
            }
            events.clear();
            response = loop {
                let at = self.cuts.as_mut().map_or(0, |rng| rng.random_range(0..self.readers.len()));
                match self.open(at).await {
                    Some(response) => break response,
                    None => tokio::time::sleep(RETRY).await,
                }
                self.readers.rotate_left(1);
            };
        }
    }

    async fn open(&mut self, at: usize) -> Option<Response> {
        let response = self.readers[at].live(&self.path, self.id.as_deref()).await.ok()?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY => return None,
            status => panic!("{}: {status}", self.path),
        }
        self.seen.lock().unwrap().connected += 1;
        Some(response)
    }

    /// Takes what comes next; how many frames that were, or `None` at the end of the stream.
    async fn take(&mut self, events: &mut String, response: &mut Response) -> Option<u64> {
        let chunk = response.chunk().await.ok()??;
        // Cut in the middle of a character, it is put together again by the next chunk: payloads here are ASCII.
        events.push_str(std::str::from_utf8(&chunk).unwrap());
        let mut frames = 0;
        while let Some((event, rest)) = events.split_once("\n\n") {
            frames += self.event(event);
            *events = rest.to_owned();
        }
        Some(frames)
    }

    fn event(&mut self, event: &str) -> u64 {
        let field = |name: &str| {
            event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_owned)
        };
        let mut seen = self.seen.lock().unwrap();
        let frames = match (field("event").as_deref(), field("data")) {
            (Some("frame"), Some(data)) => {
                let (device, frame) = live_frame(&data);
                let frames = seen.frames.entry(device.clone()).or_default();
                let due = frames.last().map_or(1, |last| last.seq + 1);
                if (frame.epoch, frame.seq) != (1, due) {
                    let id = self.id.as_deref().unwrap_or_default();
                    panic!("{}: {device}: {due} was due, {} came, behind {id}", self.path, frame.seq);
                }
                frames.push(frame);
                1
            }
            (Some("end"), Some(reason)) => {
                seen.ends.push(reason);
                0
            }
            (None, None) => 0,
            other => panic!("{}: {other:?}", self.path),
        };
        if let Some(id) = field("id") {
            self.id = Some(id);
        }
        frames
    }
}
