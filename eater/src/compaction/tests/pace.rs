//! Steps that take long, and many of them.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use trough_store::objects::{ObjectEntry, ObjectError};
use trough_store::{BoxFuture, ObjectKey};

use super::objects::Eater;
use super::*;
use crate::journal::testing::TestRun;
use crate::objects::tests::world::{Line, World};

const TTL: Duration = Duration::from_secs(2);
/// How long a request takes: eight of them take longer than a claim lives.
const SLOW: Duration = Duration::from_millis(300);

/// A bucket that is far away; with each object that is read from it, somebody else tries to take the claim over.
struct Far {
    near: Arc<Line>,
    segments: Arc<dyn SegmentCatalog>,
    taken: AtomicU64,
}

impl Far {
    async fn travel(&self) {
        tokio::time::sleep(SLOW).await;
        let claimed = self.segments.claim(TTL).await.unwrap();
        self.taken.fetch_add(u64::from(claimed.is_some()), Ordering::Relaxed);
    }
}

impl ObjectStore for Far {
    fn put<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes) -> BoxFuture<'a, Result<(), ObjectError>> {
        self.near.put(key, bytes)
    }

    fn get<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<Bytes, ObjectError>> {
        Box::pin(async move {
            self.travel().await;
            self.near.get(key).await
        })
    }

    fn get_range<'a>(
        &'a self,
        key: &'a ObjectKey,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, ObjectError>> {
        Box::pin(async move {
            self.travel().await;
            self.near.get_range(key, range).await
        })
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<(), ObjectError>> {
        self.near.delete(key)
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a ObjectKey>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<ObjectEntry>, ObjectError>> {
        self.near.list(prefix, after, limit)
    }
}

/// Objects of an eater, each with a frame.
fn objects(ground: &Ground, world: &Arc<World>, name: u64, count: u64) -> Eater {
    let mut eater = Eater::open(ground, world, name);
    for first in 1..=count {
        eater.send(&TestRun::Frames { device: "a", epoch: 1, first, count: 1 });
        eater.acknowledged();
    }
    // Objects that were sealed at one moment have times that rise all the same.
    ground.clock.advance(Duration::from_secs(1));
    eater
}

#[test]
fn a_step_that_takes_longer_than_the_claim_is_made() {
    let mut ground = Ground::new(1);
    let world = Arc::new(World::default());
    let _eater = objects(&ground, &world, 1, 160);
    // By the clock on the wall, as the step is.
    let file = ground.dir.path().join("segments.sqlite");
    ground.segments = Arc::new(SqliteSegmentCatalog::open(&file, Clock::system()).unwrap());
    let line = Line::new(&world, 1, (0, 0));
    let far =
        Arc::new(Far { near: line.clone(), segments: ground.segments.clone(), taken: AtomicU64::new(0) });
    let mut compactor = ground.compactor(far.clone(), Journals::Objects(line));
    compactor.config.claim_ttl = TTL;
    compactor.config.input_bytes = u64::MAX;
    assert_eq!(compactor.pass().unwrap(), 1);
    assert_eq!(compactor.parts.metrics.frames.get(), 160);
    assert_eq!(far.taken.load(Ordering::Relaxed), 0, "the claim was taken over within a step");
}

fn manifests(world: &World) -> usize {
    world.objects.lock().unwrap().keys().filter(|key| key.starts_with("manifests/")).count()
}

#[test]
fn it_is_cleaned_up_between_the_steps_of_a_backlog() {
    let ground = Ground::new(1);
    let world = Arc::new(World::default());
    let _eaters: Vec<Eater> = (1..=4).map(|name| objects(&ground, &world, name, 3)).collect();
    let line = Line::new(&world, 1, (0, 0));
    let mut compactor = ground.compactor(line.clone(), Journals::Objects(line));
    compactor.config.input_bytes = 1;
    compactor.config.tidy_every = Duration::ZERO;
    let steps = compactor.pass().unwrap();
    assert!(steps >= 4 && manifests(&world) as u64 >= steps, "{steps} steps, one of each eater");
}

#[test]
fn a_step_that_fails_keeps_nothing_from_being_cleaned_up() {
    let ground = Ground::new(1);
    let world = Arc::new(World::default());
    let _eaters = [1, 2].map(|name| objects(&ground, &world, name, 3));
    let journals = || {
        let objects = world.objects.lock().unwrap();
        objects.keys().filter(|key| key.starts_with("journal/")).cloned().collect::<Vec<_>>()
    };
    let (all, line) = (journals(), Line::new(&world, 1, (0, 0)));
    world.objects.lock().unwrap().remove(&all[3]);
    let mut compactor = ground.compactor(line.clone(), Journals::Objects(line));
    // One eater's at a time.
    compactor.config.input_bytes = 1;
    compactor.pass().unwrap_err();
    assert_eq!(journals(), all[4..], "those of the first are compacted, and removed");
    assert_eq!(manifests(&world), 1);
}
