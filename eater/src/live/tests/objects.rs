//! What many eaters have committed, walked through from any place on while rows are removed: whatever the clocks of the
//! eaters say, whatever devices sent again and however long ago they sent it first, each device's numbers come in order and
//! none is left out, and a walk holds little however far behind it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trough_protocol::{DeviceId, Epoch, Micros, Seq};
use trough_store::object_catalog::*;
use trough_store::segment_catalog::Through;
use trough_store::{BoxFuture, CatalogError, ObjectCatalog};

use crate::compaction::tests::each_seed_paused;
use crate::doorbell::{Doorbell, Others};
use crate::journal::testing::Rng;
use crate::live::commit::Content;
use crate::live::walk::Lots;
use crate::live::{Commit, Live, Next, ObjectsSource, Place, Source as _, Vector, Walk as _};
use crate::objects::tests::world::{Line, World};

const EATERS: u64 = 3;
const DEVICES: [&str; 5] = ["a", "b", "c", "d", LATE];
/// Begins when somebody is walking.
const LATE: &str = "e";
const LOTS: Lots = Lots { rows: 3, spans: 8 };

/// By device, the last number.
type Heads = BTreeMap<&'static str, u64>;

fn eater(number: u64) -> Incarnation {
    Incarnation([u8::try_from(number).unwrap() + 1; 16])
}

/// Eaters that only enter rows.
struct Fleet {
    world: Arc<World>,
    line: Arc<Line>,
    ends: BTreeMap<Incarnation, u64>,
    heads: Heads,
    now: Micros,
    /// How many there are.
    eaters: u64,
    /// Somebody is walking.
    is_walked: bool,
}

impl Fleet {
    async fn start() -> Self {
        let world = Arc::<World>::default();
        let line = Line::new(&world, 0, (0, 0));
        let (ends, heads, now) = (BTreeMap::new(), Heads::new(), 1_000_000_000);
        let mut fleet = Self { world, line, ends, heads, now, eaters: 0, is_walked: false };
        for _ in 0..EATERS {
            fleet.open().await;
        }
        fleet
    }

    /// One eater more.
    async fn open(&mut self) {
        self.line.open(eater(self.eaters)).await.unwrap();
        self.eaters += 1;
    }

    /// An eater's next object, with these numbers of devices.
    async fn enter(&mut self, of: Incarnation, received_at: Micros, numbers: &[(&'static str, u64, u64)]) {
        enter(&self.world, &self.line, &mut self.ends, of, received_at, numbers).await;
        for (device, first, last) in numbers {
            let head = self.heads.entry(device).or_default();
            assert!(*first <= *head + 1, "what is durable is a prefix");
            *head = (*last).max(*head);
        }
    }

    /// Some eater's next object, by its own clock.
    async fn enter_some(&mut self, rng: &mut Rng) {
        let number = rng.below(self.eaters);
        self.now += rng.below(2_000_000);
        // Clocks are up to a minute apart.
        let received_at = self.now + number * 30_000_000;
        let mut numbers = Vec::new();
        for device in DEVICES {
            // The last ones are silent for long.
            let often = if device < "c" || device == LATE { 60 } else { 8 };
            if !rng.percent(often) || (device == LATE && !self.is_walked) {
                continue;
            }
            let head = self.heads.get(device).copied().unwrap_or_default();
            let back = if rng.percent(40) { rng.below(9).min(head) } else { 0 };
            let count = rng.below(6) + u64::from(back == 0);
            // A copy of something older beside it, with a hole between the two.
            if back == 0 && head > 6 && rng.percent(10) {
                let first = 1 + rng.below(head - 5);
                numbers.push((device, first, first + rng.below(3)));
            }
            numbers.push((device, head + 1 - back, (head + count).max(head - back + 1)));
        }
        if !numbers.is_empty() {
            self.enter(eater(number), received_at, &numbers).await;
        }
    }

    /// Removes the first rows of some journal, up to where all of these have come.
    async fn remove_some(&self, rng: &mut Rng, points: &mut Vec<Point>) {
        let incarnation = eater(rng.below(self.eaters));
        let end = self.ends.get(&incarnation).copied().unwrap_or_default();
        let n = end.saturating_sub(rng.below(8));
        points.retain(|point| point.vector.place(incarnation).whole() >= n);
        while self.line.remove_through(Through { incarnation, n }, 10).await.unwrap() > 0 {}
    }
}

async fn enter(
    world: &World,
    line: &Line,
    ends: &mut BTreeMap<Incarnation, u64>,
    incarnation: Incarnation,
    received_at: Micros,
    numbers: &[(&'static str, u64, u64)],
) {
    let end = ends.entry(incarnation).or_default();
    *end += 1;
    let id = ObjectId { incarnation, n: *end };
    let mut spans: Vec<DeviceSpan> = Vec::new();
    for (device, first, last) in numbers {
        let (device, epoch) = (DeviceId::new(device).unwrap(), Epoch(1));
        let (first, last, frames) = (Seq(*first), Seq(*last), last - first + 1);
        spans.push(DeviceSpan { device, epoch, first, last, frames, ts: (1, 1) });
    }
    let key = crate::objects::object_key(id).to_string();
    world.objects.lock().unwrap().insert(key, bytes::Bytes::new());
    let crc = crc32c::crc32c(&[]);
    line.append(&ObjectRow { id, bytes: 0, crc, received_at, spans, wide: false }).await.unwrap();
}

/// A place to go on from, and what was given until then.
#[derive(Clone)]
struct Point {
    vector: Vector,
    given: Heads,
}

/// Takes note of what a commit shows; `given` is before and after it, `walked` is of this walk alone.
fn show(commit: &Commit, given: &mut Heads, walked: &mut Heads) {
    let Content::Object { spans, .. } = &commit.content else { panic!("an object") };
    for span in spans.iter().filter(|span| span.fresh <= span.last) {
        let device = DEVICES.into_iter().find(|device| *device == span.device.as_str()).unwrap();
        let last = given.entry(device).or_default();
        assert!(span.fresh.0 <= *last + 1, "behind {last} comes {span:?} of {:?}", commit.id);
        *last = span.last.0.max(*last);
        let last = walked.entry(device).or_default();
        assert!(span.fresh.0 > *last, "{last} was shown, and then comes {span:?} of {:?}", commit.id);
        *last = span.last.0;
    }
}

/// Walks to the end, and notes points on the way.
async fn walk(source: &ObjectsSource, point: Point, points: &mut Vec<Point>) -> Heads {
    let Point { vector, mut given } = point;
    let (mut walk, mut walked) = (source.objects_walk(vector), Heads::new());
    loop {
        let found = walk.step(None).await.unwrap();
        let most = LOTS.spans + DEVICES.len() * 2;
        assert!(found.commits.len() <= most, "{} at a time", found.commits.len());
        found.commits.iter().for_each(|commit| show(commit, &mut given, &mut walked));
        points.push(Point { vector: walk.vector().clone(), given: given.clone() });
        if !found.more {
            return given;
        }
    }
}

#[test]
fn numbers_come_in_order_from_any_place_on() {
    each_seed_paused(300, async |seed| {
        let mut rng = Rng::new(seed);
        let mut fleet = Fleet::start().await;
        let source = ObjectsSource::in_lots(LOTS, fleet.line.clone(), fleet.line.clone());
        let mut points = vec![Point { vector: Vector::default(), given: Heads::new() }];
        for _ in 0..150 {
            fleet.enter_some(&mut rng).await;
            if rng.percent(6) && !points.is_empty() {
                let point = points[rng.below(points.len() as u64) as usize].clone();
                let mut more = Vec::new();
                assert_eq!(walk(&source, point, &mut more).await, fleet.heads, "seed {seed}");
                points.extend(more);
            }
            if rng.percent(4) {
                fleet.remove_some(&mut rng, &mut points).await;
            }
        }
        for point in points {
            assert_eq!(walk(&source, point, &mut Vec::new()).await, fleet.heads, "seed {seed}");
        }
    });
}

#[test]
fn numbers_come_in_order_while_eaters_go_on() {
    each_seed_paused(300, async |seed| {
        let mut rng = Rng::new(seed);
        let mut fleet = Fleet::start().await;
        let source = ObjectsSource::in_lots(LOTS, fleet.line.clone(), fleet.line.clone());
        for _ in 0..rng.below(60) {
            fleet.enter_some(&mut rng).await;
        }
        // Where all that is known of silent devices has left the journals.
        let from = Point { vector: source.end().await.unwrap(), given: fleet.heads.clone() };
        for (incarnation, place) in &from.vector.places {
            let through = Through { incarnation: *incarnation, n: place.whole() };
            while fleet.line.remove_through(through, 10).await.unwrap() > 0 {}
        }
        for _ in 0..rng.below(60) {
            fleet.enter_some(&mut rng).await;
        }
        fleet.is_walked = true;
        let Point { vector, mut given } = from;
        let (mut walk, mut walked, mut rest) = (source.objects_walk(vector), Heads::new(), 60);
        loop {
            let found = walk.step(None).await.unwrap();
            found.commits.iter().for_each(|commit| show(commit, &mut given, &mut walked));
            if rest == 0 && !found.more {
                break;
            }
            for _ in 0..rng.below(5).min(rest) {
                fleet.enter_some(&mut rng).await;
                rest -= 1;
            }
            if rng.percent(10) && fleet.eaters < 2 * EATERS {
                fleet.open().await;
            }
        }
        assert_eq!(given, fleet.heads, "seed {seed}");
    });
}

/// All that is known of where `c` stands is behind the walk's beginning, and left the journals long ago.
#[tokio::test(start_paused = true)]
async fn a_walk_that_is_far_behind_holds_little() {
    let mut fleet = Fleet::start().await;
    let (a, b) = (eater(0), eater(1));
    fleet.enter(a, 1, &[("c", 1, 5)]).await;
    let mut vector = Vector::default();
    vector.advance(a, Place::behind(1));
    fleet.line.remove_through(Through { incarnation: a, n: 1 }, 1).await.unwrap();
    for n in 0..200 {
        let of = if n % 2 == 0 { a } else { b };
        fleet.enter(of, 10 + n, &[("a", n + 1, n + 1)]).await;
        if n == 1 {
            fleet.enter(a, 10, &[("c", 6, 8)]).await;
            fleet.enter(b, 11, &[("c", 9, 9)]).await;
        }
    }
    let source = ObjectsSource::in_lots(LOTS, fleet.line.clone(), fleet.line.clone());
    let mut walk = source.objects_walk(vector.clone());
    let (mut given, mut walked) = (Heads::from([("c", 5)]), Heads::new());
    let mut steps = 0;
    loop {
        let found = walk.step(None).await.unwrap();
        assert!(walk.waiting() <= 2 * LOTS.rows, "{} objects wait", walk.waiting());
        found.commits.iter().for_each(|commit| show(commit, &mut given, &mut walked));
        if !found.more {
            break;
        }
        steps += 1;
        assert!(steps < 1000, "it comes to an end");
        // It goes on from here if it is cut.
        if steps % 50 == 0 {
            walk = source.objects_walk(walk.vector().clone());
        }
    }
    assert!(steps > 20, "{steps} steps");
    assert_eq!(given, fleet.heads);
}

/// A catalog in which a device moves while its journals are listed, one after the other.
struct Torn(Arc<Line>, std::sync::Mutex<Option<Fleet>>);

impl Torn {
    async fn states(&self) -> Result<Vec<IncarnationState>, CatalogError> {
        let mut states = self.0.incarnations().await?;
        let fleet = self.1.lock().unwrap().take();
        if let Some(mut fleet) = fleet {
            fleet.enter(eater(0), 200, &[("a", 6, 9)]).await;
            fleet.enter(eater(1), 100, &[("a", 10, 12)]).await;
            states[1..].copy_from_slice(&self.0.incarnations().await?[1..]);
        }
        Ok(states)
    }
}

impl ObjectCatalog for Torn {
    fn incarnations(&self) -> BoxFuture<'_, Result<Vec<IncarnationState>, CatalogError>> {
        Box::pin(self.states())
    }

    fn rows<'a>(
        &'a self,
        of: Incarnation,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<ObjectRow>, CatalogError>> {
        self.0.rows(of, after, limit)
    }

    fn spans<'a>(&'a self, query: &'a SpanQuery) -> BoxFuture<'a, Result<Vec<Found>, CatalogError>> {
        self.0.spans(query)
    }

    fn open<'a>(&'a self, of: Incarnation) -> BoxFuture<'a, Result<(), CatalogError>> {
        self.0.open(of)
    }

    fn heartbeat<'a>(&'a self, of: Incarnation) -> BoxFuture<'a, Result<(), AppendError>> {
        self.0.heartbeat(of)
    }

    fn append<'a>(&'a self, row: &'a ObjectRow) -> BoxFuture<'a, Result<(), AppendError>> {
        self.0.append(row)
    }

    fn close<'a>(&'a self, of: Incarnation) -> BoxFuture<'a, Result<u64, CatalogError>> {
        self.0.close(of)
    }

    fn remove_through(&self, through: Through, limit: usize) -> BoxFuture<'_, Result<u64, CatalogError>> {
        self.0.remove_through(through, limit)
    }

    fn restore<'a>(&'a self, life: &'a LostLife) -> BoxFuture<'a, Result<bool, CatalogError>> {
        self.0.restore(life)
    }

    fn note_heads<'a>(&'a self, heads: &'a [DeviceHead]) -> BoxFuture<'a, Result<(), CatalogError>> {
        self.0.note_heads(heads)
    }

    fn heads<'a>(&'a self, device: &'a DeviceId) -> BoxFuture<'a, Result<Vec<DeviceHead>, CatalogError>> {
        self.0.heads(device)
    }

    fn device_heads(
        &self,
        after: Option<DeviceId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<DeviceHead>, CatalogError>> {
        self.0.device_heads(after, limit)
    }
}

/// Whoever begins now does so behind all that a device sent before one of its numbers, not in between.
#[tokio::test(start_paused = true)]
async fn the_list_begins_between_two_numbers_of_each_device() {
    let mut fleet = Fleet::start().await;
    fleet.enter(eater(0), 100, &[("a", 1, 5)]).await;
    let (world, line, mut ends) = (fleet.world.clone(), fleet.line.clone(), BTreeMap::new());
    let torn = Arc::new(Torn(line.clone(), std::sync::Mutex::new(Some(fleet))));
    let source = Arc::new(ObjectsSource::new(torn, line.clone()));
    let stopped = CancellationToken::new();
    let live = Live::start(source, Doorbell::start(Others::None(None), stopped.clone()), stopped);
    let mut follower = live.follow();
    let soon = || Instant::now() + Duration::from_secs(5);
    let (end, vector) = follower.end(soon()).await.unwrap();
    let places = [0, 1].map(|number| vector.place(eater(number)).whole());
    assert_eq!(places, [2, 1], "10 to 12 are done, and 6 to 9 are");
    assert!(matches!(follower.next(end), Next::Nothing(_)));
    // Nobody rings: all that is durable is looked at because somebody asks.
    ends.insert(eater(0), 2);
    enter(&world, &line, &mut ends, eater(0), 300, &[("a", 13, 14)]).await;
    let (now, vector) = follower.now(soon()).await.unwrap();
    assert_eq!((now, vector.place(eater(0)).whole()), (end + 1, 3));
    let Next::Commit(commit) = follower.next(end) else { panic!("a commit") };
    show(&commit, &mut Heads::from([("a", 12)]), &mut Heads::new());
}
