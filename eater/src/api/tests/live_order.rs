//! A stream over what is committed in another order than it found itself, and in parts.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use trough_protocol::frame::FrameRef;
use trough_protocol::{ContentType, DeviceId, Seq};
use trough_store::BoxFuture;
use trough_store::object_catalog::{Incarnation, ObjectId};

use super::live::{Client, places};
use super::support::{Server, TS};
use crate::journal::{Arrival, Arrivals, Heads, Journal, Lot};
use crate::live::{Commit, Done, Found, LiveError, LiveRun, Source, Vector, Walk};

const A: Incarnation = Incarnation([0xa; 16]);
const B: Incarnation = Incarnation([0xb; 16]);

type Steps = Mutex<VecDeque<Vec<Arc<Commit>>>>;

/// What walks find is told beforehand: the first one is that for all, which goes a step further with each that is let go.
struct Script {
    journal: Journal,
    hub: Arc<Steps>,
    own: Arc<Steps>,
    walks: Mutex<u64>,
}

struct Told(Arc<Steps>, Vector);

impl Walk for Told {
    fn vector(&self) -> &Vector {
        &self.1
    }

    fn step(&mut self, _: Option<Incarnation>) -> BoxFuture<'_, Result<Found, LiveError>> {
        let commits = self.0.lock().unwrap().pop_front().unwrap_or_default();
        let whole = commits.iter().filter(|commit| !commit.is_part);
        whole.for_each(|commit| self.1.advance(commit.id.incarnation, commit.through));
        Box::pin(async move { Ok(Found { commits, more: false }) })
    }
}

impl Source for Script {
    fn end(&self) -> BoxFuture<'_, Result<Vector, LiveError>> {
        Box::pin(async { Ok(Vector::default()) })
    }

    fn done(&self, vector: Vector) -> BoxFuture<'_, Result<Done, LiveError>> {
        Box::pin(async move { Ok(Done { vector, local_before: 0 }) })
    }

    fn walk(&self, from: Vector, _: Option<DeviceId>) -> Box<dyn Walk> {
        let mut walks = self.walks.lock().unwrap();
        *walks += 1;
        let steps = if *walks == 1 { &self.hub } else { &self.own };
        Box::new(Told(steps.clone(), from))
    }

    fn runs<'a>(
        &'a self,
        commit: &'a Commit,
        devices: &'a [DeviceId],
        from: u32,
    ) -> BoxFuture<'a, Result<Vec<LiveRun>, LiveError>> {
        self.journal.runs(commit, devices, from)
    }

    fn data<'a>(
        &'a self,
        commit: &'a Commit,
        runs: &'a [LiveRun],
    ) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, LiveError>> {
        self.journal.data(commit, runs)
    }
}

struct Stage {
    server: Server,
    hub: Arc<Steps>,
    own: Arc<Steps>,
}

async fn start() -> Stage {
    let (hub, own) = (Arc::<Steps>::default(), Arc::<Steps>::default());
    let (to_hub, to_own) = (hub.clone(), own.clone());
    let source = |journal| -> Arc<dyn Source> {
        Arc::new(Script { journal, hub: to_hub, own: to_own, walks: Mutex::default() })
    };
    Stage { server: Server::following(source).await, hub, own }
}

impl Stage {
    /// The runs of `a`, in the order in which they were written.
    fn runs(&self) -> Vec<Arrival> {
        let lot = Lot { open: 1000, sealed: 1000 };
        let found = self.server.journal.arrivals((1, 0), None, lot, &mut Heads::default()).unwrap();
        let Arrivals::Runs { runs, .. } = found else { panic!("runs") };
        runs.into_iter().filter(|arrival| arrival.device.as_str() == "a").collect()
    }

    /// Has the one who walks for all look.
    async fn ring(&mut self) {
        self.server.write_texts("bell", 1, 1, 1).await;
    }
}

// Numbers of objects are those of the file where their runs lie.
fn commit(of: Incarnation, is_part: bool, runs: &[Arrival]) -> Arc<Commit> {
    Arc::new(Commit::of_runs(ObjectId { incarnation: of, n: 1 }, is_part, runs.to_vec()))
}

/// A stream finds 6 to 9 by itself. Then it goes on in the list, which found a copy of 6 to 8 in another journal first.
#[tokio::test]
async fn what_the_list_found_in_another_order_is_not_shown_again() {
    let mut told = start().await;
    let token = told.server.device_and_reader("a").await;
    for (first, count) in [(1, 5), (6, 4), (4, 5), (10, 1)] {
        told.server.write_texts("a", 1, first, count).await;
    }
    let mut runs = told.runs();
    let mut client = Client::begin(told.server.get("/v1/live").token(&token)).await;
    assert!(client.block().await.unwrap().is_none());
    let id = client.id.clone();
    told.own.lock().unwrap().push_back(vec![commit(A, false, &runs[1..2])]);
    let mut client =
        Client::begin(told.server.get("/v1/live").token(&token).header("last-event-id", &id)).await;
    assert_eq!(client.frames(4).await, places("a", 6..=9));
    runs[2].fresh = Seq(6);
    let mut later = runs[1].clone();
    later.fresh = Seq(9);
    told.hub.lock().unwrap().push_back(vec![commit(B, false, &runs[2..3]), commit(A, false, &[later])]);
    let last = ObjectId { incarnation: Incarnation([0xc; 16]), n: 1 };
    let last = Arc::new(Commit::of_runs(last, false, runs[3..].to_vec()));
    told.hub.lock().unwrap()[0].push(last);
    told.ring().await;
    assert_eq!(client.frames(1).await, places("a", 10..=10));
}

/// More than all buffers between have room for.
#[tokio::test]
async fn a_part_of_a_commit_is_shown_once_however_slow_the_client_is() {
    let mut told = start().await;
    let token = told.server.device_and_reader("a").await;
    let payload = vec![b'x'; 100_000];
    let frame = FrameRef { ts: TS, channel: "c", content_type: ContentType::Text, payload: &payload };
    for n in 0..12 {
        told.server.write("a", 1, 1 + n * 20, &vec![frame; 20]).await;
    }
    let runs = told.runs();
    let target = ["/v1/live", "/v1/devices/a/live?after=9:9"];
    let ask = |at: usize| told.server.get(target[at]).token(&token);
    let mut clients = [Client::begin(ask(0)).await, Client::begin(ask(1)).await];
    for client in &mut clients {
        assert!(client.block().await.unwrap().is_none());
    }
    let mut whole = runs.clone();
    whole.iter_mut().for_each(|arrival| arrival.fresh = arrival.run.last().next());
    told.hub.lock().unwrap().push_back(vec![commit(A, true, &runs), commit(A, false, &whole)]);
    told.ring().await;
    for client in &mut clients {
        assert_eq!(client.frames(240).await, places("a", 1..=240));
    }
}
