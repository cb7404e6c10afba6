//! A store and a catalog in memory, seen by each eater through a line of its own that can be cut or stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use trough_protocol::{DeviceId, Epoch, Seq};
use trough_runtime::clock::{Clock, micros};
use trough_runtime::health::Health;
use trough_runtime::metrics::Registry;
use trough_store::object_catalog::*;
use trough_store::objects::{ObjectEntry, ObjectError};
use trough_store::segment_catalog::Through;
use trough_store::{BoxFuture, CatalogError, ObjectCatalog, ObjectKey, ObjectStore};

use crate::journal::testing::{Rng, frame};
use crate::journal::{JournalMetrics, Order, ReadError, ScanRange};
use crate::objects::read::Scan;
use crate::objects::{ObjectJournal, ObjectMetrics, ObjectsConfig, ObjectsParts};

/// What all eaters share.
#[derive(Default)]
pub struct World {
    pub objects: Mutex<BTreeMap<String, Bytes>>,
    pub rows: Mutex<BTreeMap<ObjectId, ObjectRow>>,
    /// The highest row of each incarnation that was removed.
    removed: Mutex<BTreeMap<Incarnation, ObjectRow>>,
    pub lives: Mutex<BTreeMap<Incarnation, (u64, bool)>>,
    pub heads: Mutex<BTreeMap<(DeviceId, Epoch), DeviceHead>>,
    began: Mutex<Option<Instant>>,
}

impl World {
    /// The catalog is lost; objects stay.
    pub fn forget(&self) {
        self.rows.lock().unwrap().clear();
        self.removed.lock().unwrap().clear();
        self.lives.lock().unwrap().clear();
        self.heads.lock().unwrap().clear();
    }
}

/// How one eater reaches the world.
pub struct Line {
    pub world: Arc<World>,
    rng: Mutex<Rng>,
    /// Of a hundred calls, how many fail; and the longest a call takes, in milliseconds.
    pub trouble: Mutex<(u64, u64)>,
    /// While it is set nothing moves, as for a process that was stopped.
    pub stopped: watch::Sender<bool>,
    pub puts: Mutex<Vec<String>>,
    pub gets: Mutex<u64>,
    /// How often it was asked what objects hold of a device.
    pub asked: Mutex<u64>,
}

enum Fate {
    Fine,
    /// It happens, and nobody is told.
    Silent,
    Fails,
}

impl Line {
    pub fn new(world: &Arc<World>, seed: u64, trouble: (u64, u64)) -> Arc<Self> {
        Arc::new(Self {
            world: world.clone(),
            rng: Mutex::new(Rng::new(seed)),
            trouble: Mutex::new(trouble),
            stopped: watch::Sender::new(false),
            puts: Mutex::default(),
            gets: Mutex::default(),
            asked: Mutex::default(),
        })
    }

    async fn travel(&self) -> Fate {
        let (fate, delay) = {
            let (percent, longest) = *self.trouble.lock().unwrap();
            let mut rng = self.rng.lock().unwrap();
            let fate = match rng.percent(percent) {
                true if rng.percent(50) => Fate::Silent,
                true => Fate::Fails,
                false => Fate::Fine,
            };
            (fate, rng.below(longest + 1))
        };
        sleep(Duration::from_millis(delay)).await;
        let mut stopped = self.stopped.subscribe();
        let _ = stopped.wait_for(|stopped| !stopped).await;
        fate
    }

    /// Does `act` in the world, or not, or without telling.
    async fn call<T>(&self, act: impl FnOnce(&World) -> T) -> Option<T> {
        let fate = self.travel().await;
        if matches!(fate, Fate::Fails) {
            return None;
        }
        let done = act(&self.world);
        (!matches!(fate, Fate::Silent)).then_some(done)
    }

    async fn ask<T>(&self, act: impl FnOnce(&World) -> Result<T, CatalogError>) -> Result<T, CatalogError> {
        self.call(act).await.unwrap_or_else(|| Err(catalog_down()))
    }
}

fn catalog_down() -> CatalogError {
    CatalogError::Unavailable { reason: "told to fail".into(), retry_after: Duration::from_millis(1) }
}

fn store_down() -> ObjectError {
    ObjectError::Unavailable { reason: "told to fail".into(), retry_after: Duration::from_millis(1) }
}

impl ObjectStore for Line {
    fn put<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes) -> BoxFuture<'a, Result<(), ObjectError>> {
        Box::pin(async move {
            self.puts.lock().unwrap().push(key.to_string());
            // Some arrive only after their eater has given up or is gone.
            let (late, after) = {
                let mut rng = self.rng.lock().unwrap();
                (self.trouble.lock().unwrap().0 > 0 && rng.percent(10), rng.below(5000))
            };
            let store = {
                let (world, key, bytes) = (self.world.clone(), key.to_string(), bytes);
                move || {
                    let before = world.objects.lock().unwrap().insert(key.clone(), bytes.clone());
                    assert!(before.is_none_or(|before| before == bytes), "{key} was stored with other bytes");
                }
            };
            if late {
                tokio::spawn(async move {
                    sleep(Duration::from_millis(after)).await;
                    store();
                });
                self.travel().await;
                return Err(store_down());
            }
            self.call(|_| store()).await.ok_or_else(store_down)
        })
    }

    fn get<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<Bytes, ObjectError>> {
        self.get_range(key, 0..u64::MAX)
    }

    fn get_range<'a>(
        &'a self,
        key: &'a ObjectKey,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, ObjectError>> {
        Box::pin(async move {
            *self.gets.lock().unwrap() += 1;
            let found = self.call(|world| world.objects.lock().unwrap().get(key.as_str()).cloned());
            let bytes =
                found.await.ok_or_else(store_down)?.ok_or_else(|| ObjectError::NotFound(key.clone()))?;
            if range.end != u64::MAX && range.end > bytes.len() as u64 {
                return Err(ObjectError::Invalid(format!("{key} has {} bytes", bytes.len())));
            }
            let end = bytes.len().min(range.end.try_into().unwrap());
            Ok(bytes.slice(range.start as usize..end))
        })
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<(), ObjectError>> {
        Box::pin(async move {
            let delete = |world: &World| drop(world.objects.lock().unwrap().remove(key.as_str()));
            self.call(delete).await.ok_or_else(store_down)
        })
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a ObjectKey>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<ObjectEntry>, ObjectError>> {
        Box::pin(async move {
            let list = |world: &World| {
                let objects = world.objects.lock().unwrap();
                let behind = |key: &str| after.is_none_or(|after| key > after.as_str());
                let found = objects.iter().filter(|(key, _)| key.starts_with(prefix) && behind(key));
                let entry = |(key, bytes): (&String, &Bytes)| ObjectEntry {
                    key: ObjectKey::new(key).unwrap(),
                    bytes: bytes.len() as u64,
                };
                found.map(entry).take(limit).collect()
            };
            self.call(list).await.ok_or_else(store_down)
        })
    }
}

impl World {
    fn now(&self) -> u64 {
        let began = *self.began.lock().unwrap().get_or_insert_with(Instant::now);
        // The clocks of eaters stand still there.
        1_700_000_000_000_000 + micros(began.elapsed())
    }

    fn last(&self, incarnation: Incarnation) -> u64 {
        let range = ObjectId { incarnation, n: 0 }..=ObjectId { incarnation, n: u64::MAX };
        let removed = self.removed.lock().unwrap().get(&incarnation).map_or(0, |row| row.id.n);
        self.rows.lock().unwrap().range(range).next_back().map_or(removed, |(id, _)| id.n)
    }

    fn append(&self, row: &ObjectRow) -> Result<(), AppendError> {
        if let Some(known) = self.rows.lock().unwrap().get(&row.id) {
            return if known == row { Ok(()) } else { Err(AppendError::Taken(row.id)) };
        }
        if row.id.n <= self.last(row.id.incarnation) {
            let same = self.removed.lock().unwrap().get(&row.id.incarnation) == Some(row);
            return if same { Ok(()) } else { Err(AppendError::Removed(row.id)) };
        }
        if self.lives.lock().unwrap().get(&row.id.incarnation).is_some_and(|life| life.1) {
            return Err(AppendError::Closed(row.id.incarnation));
        }
        assert_eq!(self.last(row.id.incarnation) + 1, row.id.n, "rows are entered in order");
        let key = crate::objects::names::key(row.id);
        let stored = self.objects.lock().unwrap().get(key.as_str()).map(|bytes| crc32c::crc32c(bytes));
        assert_eq!(stored, Some(row.crc), "{key} is entered and was not stored before");
        self.rows.lock().unwrap().insert(row.id, row.clone());
        Ok(())
    }

    fn spans(&self, query: &SpanQuery) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::new();
        for row in self.rows.lock().unwrap().values() {
            let of = |span: Option<DeviceSpan>| Found {
                id: row.id,
                bytes: row.bytes,
                received_at: row.received_at,
                span,
            };
            if row.wide {
                found.push(of(None));
            }
            let fits = |span: &&DeviceSpan| {
                span.device == query.device
                    && query.after.is_none_or(|after| (span.epoch, span.last) > after)
                    && query.before.is_none_or(|before| (span.epoch, span.first) < before)
            };
            found.extend(row.spans.iter().filter(fits).map(|span| of(Some(span.clone()))));
        }
        found.sort_by_key(|f| (f.span.as_ref().map(|span| (span.epoch, span.first)), f.received_at, f.id));
        found.truncate(query.limit.min(SPANS_MAX));
        found
    }
}

impl ObjectCatalog for Line {
    fn open<'a>(&'a self, incarnation: Incarnation) -> BoxFuture<'a, Result<(), CatalogError>> {
        Box::pin(self.ask(move |world| {
            let now = world.now();
            world.lives.lock().unwrap().entry(incarnation).or_insert((now, false));
            Ok(())
        }))
    }

    fn heartbeat<'a>(&'a self, incarnation: Incarnation) -> BoxFuture<'a, Result<(), AppendError>> {
        Box::pin(async move {
            let beat = |world: &World| {
                let now = world.now();
                match world.lives.lock().unwrap().get_mut(&incarnation) {
                    Some((_, true)) => return Err(AppendError::Closed(incarnation)),
                    Some((at, false)) => *at = now,
                    None => {
                        let unknown =
                            CatalogError::Invalid(format!("incarnation {incarnation} was never opened"));
                        return Err(unknown.into());
                    }
                }
                Ok(())
            };
            self.call(beat).await.unwrap_or_else(|| Err(catalog_down().into()))
        })
    }

    fn append<'a>(&'a self, row: &'a ObjectRow) -> BoxFuture<'a, Result<(), AppendError>> {
        let append = move |world: &World| world.append(row);
        Box::pin(async move { self.call(append).await.unwrap_or_else(|| Err(catalog_down().into())) })
    }

    fn close<'a>(&'a self, incarnation: Incarnation) -> BoxFuture<'a, Result<u64, CatalogError>> {
        Box::pin(self.ask(move |world| {
            let now = world.now();
            world.lives.lock().unwrap().entry(incarnation).or_insert((now, true)).1 = true;
            Ok(world.last(incarnation))
        }))
    }

    fn restore<'a>(&'a self, life: &'a LostLife) -> BoxFuture<'a, Result<bool, CatalogError>> {
        Box::pin(self.ask(move |world| {
            let mut lives = world.lives.lock().unwrap();
            if lives.contains_key(&life.incarnation) {
                return Ok(false);
            }
            lives.insert(life.incarnation, (0, true));
            if life.removed > 0 {
                let id = ObjectId { incarnation: life.incarnation, n: life.removed };
                let (spans, wide) = (Vec::new(), false);
                let stub = ObjectRow { id, bytes: 0, crc: 0, received_at: 0, spans, wide };
                world.removed.lock().unwrap().insert(life.incarnation, stub);
            }
            world.rows.lock().unwrap().extend(life.rows.iter().map(|row| (row.id, row.clone())));
            Ok(true)
        }))
    }

    fn incarnations(&self) -> BoxFuture<'_, Result<Vec<IncarnationState>, CatalogError>> {
        Box::pin(self.ask(|world| {
            let (now, lives) = (world.now(), world.lives.lock().unwrap());
            let state = |(incarnation, (heartbeat_at, closed)): (&Incarnation, &(u64, bool))| {
                let (incarnation, heartbeat_at, closed) = (*incarnation, *heartbeat_at, *closed);
                let last = world.last(incarnation);
                IncarnationState { incarnation, heartbeat_at, now, last, closed }
            };
            Ok(lives.iter().map(state).collect())
        }))
    }

    fn spans<'a>(&'a self, query: &'a SpanQuery) -> BoxFuture<'a, Result<Vec<Found>, CatalogError>> {
        *self.asked.lock().unwrap() += 1;
        Box::pin(self.ask(move |world| Ok(world.spans(query))))
    }

    fn rows<'a>(
        &'a self,
        incarnation: Incarnation,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<ObjectRow>, CatalogError>> {
        Box::pin(self.ask(move |world| {
            let rows = world.rows.lock().unwrap();
            let of = rows.values().filter(|row| row.id.incarnation == incarnation && row.id.n > after);
            Ok(of.take(limit).cloned().collect())
        }))
    }

    fn remove_through(&self, through: Through, limit: usize) -> BoxFuture<'_, Result<u64, CatalogError>> {
        Box::pin(self.ask(move |world| {
            let Through { incarnation, n } = through;
            let range = ObjectId { incarnation, n: 0 }..=ObjectId { incarnation, n };
            let ids: Vec<_> =
                world.rows.lock().unwrap().range(range).map(|(id, _)| *id).take(limit).collect();
            for id in &ids {
                let row = world.rows.lock().unwrap().remove(id).unwrap();
                world.removed.lock().unwrap().insert(incarnation, row);
            }
            Ok(ids.len() as u64)
        }))
    }

    fn note_heads<'a>(&'a self, heads: &'a [DeviceHead]) -> BoxFuture<'a, Result<(), CatalogError>> {
        Box::pin(self.ask(move |world| {
            let mut known = world.heads.lock().unwrap();
            for head in heads {
                let held = known.entry((head.device.clone(), head.epoch)).or_insert_with(|| head.clone());
                if held.head < head.head {
                    *held = head.clone();
                }
            }
            Ok(())
        }))
    }

    fn heads<'a>(&'a self, device: &'a DeviceId) -> BoxFuture<'a, Result<Vec<DeviceHead>, CatalogError>> {
        Box::pin(self.ask(move |world| {
            let known = world.heads.lock().unwrap();
            Ok(known.values().filter(|head| head.device == *device).cloned().collect())
        }))
    }

    fn device_heads(
        &self,
        _: Option<DeviceId>,
        _: usize,
    ) -> BoxFuture<'_, Result<Vec<DeviceHead>, CatalogError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
}

/// An eater's journal over a line.
pub struct Eater {
    pub line: Arc<Line>,
    pub journal: ObjectJournal,
    pub health: Health,
    pub metrics: ObjectMetrics,
    pub killed: CancellationToken,
}

pub fn config() -> ObjectsConfig {
    ObjectsConfig { retry_every: Duration::from_millis(20), ..ObjectsConfig::default() }
}

impl Eater {
    pub fn new(line: &Arc<Line>, name: u64, config: ObjectsConfig) -> Self {
        let (health, killed) = (Health::new(), CancellationToken::new());
        let metrics = ObjectMetrics::register(&mut Registry::default());
        let mut incarnation = [0; 16];
        incarnation[..8].copy_from_slice(&name.to_be_bytes());
        let parts = ObjectsParts {
            store: line.clone(),
            catalog: line.clone(),
            incarnation: Incarnation(incarnation),
            clock: Clock::manual(1_700_000_000_000_000),
            health: health.clone(),
            journal_metrics: JournalMetrics::register(&mut Registry::default()),
            metrics: metrics.clone(),
            doorbell: None,
            killed: killed.clone(),
        };
        Self { line: line.clone(), journal: ObjectJournal::open(config, parts), health, metrics, killed }
    }

    /// An eater of a world without trouble.
    pub fn calm(world: &Arc<World>, name: u64) -> Self {
        Self::new(&Line::new(world, name, (0, 0)), name, config())
    }

    pub(in crate::objects) fn scan(&self, device: &str, range: ScanRange) -> Scan {
        Scan::new(self.journal.reader.clone(), DeviceId::new(device).unwrap(), range)
    }

    /// The numbers of a scan in its order, each frame compared with the one that belongs there.
    pub async fn numbers(&self, device: &str, range: ScanRange) -> Result<Vec<(u64, u64)>, ReadError> {
        let (mut scan, mut all) = (self.scan(device, range.clone()), Vec::new());
        while let Some(chunk) = scan.next().await {
            let chunk = chunk?;
            let seqs: Vec<u64> = (chunk.first.0..=chunk.last().0).collect();
            let expected: Vec<u8> = seqs.iter().flat_map(|seq| frame(device, chunk.epoch.0, *seq)).collect();
            assert_eq!(chunk.bytes, expected, "{device} {} {seqs:?}", chunk.epoch);
            match range.order {
                Order::Asc => all.extend(seqs.iter().map(|seq| (chunk.epoch.0, *seq))),
                Order::Desc => all.extend(seqs.iter().rev().map(|seq| (chunk.epoch.0, *seq))),
            }
        }
        Ok(all)
    }

    pub async fn head(&self, device: &str, epoch: u64) -> Seq {
        let device = DeviceId::new(device).unwrap();
        self.journal.reader.head(&device, Epoch(epoch)).await.unwrap()
    }
}

/// Waits, with a deadline, until something holds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(3600);
    while !holds() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Keys of objects that have a row.
pub fn entered(world: &World) -> BTreeSet<String> {
    world.rows.lock().unwrap().keys().map(|id| crate::objects::names::key(*id).to_string()).collect()
}
