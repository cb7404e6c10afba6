//! A simulated deployment: devices that send, a disk that fails, a process that dies, and a model of what must
//! be readable.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use trough_protocol::{Epoch, Seq};
use trough_runtime::clock::Clock;

use crate::journal::committer::Step;
use crate::journal::disk::sim::{Faults, SimDisk};
use crate::journal::error::JournalError;
use crate::journal::open::Core;
use crate::journal::scan::Scan;
use crate::journal::testing::*;
use crate::journal::{JournalConfig, Order, ScanRange, Submission, gaps};

pub const DEVICES: [&str; 4] = ["anna", "bert", "carl", "dora"];

/// What a device may send under a number: decided once, and sent again as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    Frame,
    Skip,
}

/// Device, epoch, seq.
pub type Number = (&'static str, u64, u64);

/// What must be readable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Model {
    pub frames: BTreeMap<Number, Vec<u8>>,
    pub skips: BTreeSet<Number>,
}

impl Model {
    pub fn head(&self, device: &'static str, epoch: u64) -> u64 {
        let has = |seq: &u64| {
            let number = (device, epoch, *seq);
            self.frames.contains_key(&number) || self.skips.contains(&number)
        };
        (1..).take_while(has).last().unwrap_or(0)
    }

    pub fn of(&self, device: &'static str) -> Vec<((u64, u64), Vec<u8>)> {
        let range = (device, 0, 0)..=(device, u64::MAX, u64::MAX);
        self.frames.range(range).map(|((_, epoch, seq), frame)| ((*epoch, *seq), frame.clone())).collect()
    }

    fn take(&mut self, run: &TestRun) {
        match run {
            TestRun::Frames { device, epoch, first, count } => {
                for seq in *first..first + count {
                    self.frames.entry((device, *epoch, seq)).or_insert_with(|| frame(device, *epoch, seq));
                }
            }
            TestRun::Own { device, epoch, first, channel, payloads } => {
                for (seq, payload) in (*first..).zip(payloads) {
                    let frame = || encode(1_000_000 + seq, channel, payload);
                    self.frames.entry((device, *epoch, seq)).or_insert_with(frame);
                }
            }
            TestRun::Skip { device, epoch, first, count } => {
                self.skips.extend((*first..first + count).map(|seq| (*device, *epoch, seq)));
            }
        }
    }
}

struct Device {
    epoch: u64,
    /// The next number to send.
    next: u64,
    /// The highest number sent in this epoch.
    known: u64,
    plans: HashMap<u64, Plan>,
}

pub struct World {
    pub seed: u64,
    pub rng: Rng,
    pub disk: SimDisk,
    pub catalog: Arc<MemoryCatalog>,
    pub clock: Clock,
    devices: Vec<Device>,
    pub core: Option<Core>,
    /// Durable, and therefore visible: exactly this must be readable.
    pub model: Model,
    /// All that was ever submitted; of frames, every content.
    submitted: BTreeSet<(Number, Option<Vec<u8>>)>,
    sink: Arc<TestSink>,
    in_flight: BTreeMap<u64, Vec<TestRun>>,
    sent: u64,
    opened: u64,
    /// Whether devices sometimes send other content under an old number.
    pub conflicts: bool,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let device = || Device { epoch: 1, next: 1, known: 0, plans: HashMap::new() };
        Self {
            seed,
            rng: Rng::new(seed),
            disk: SimDisk::new(seed),
            catalog: Arc::default(),
            clock: Clock::manual(1_000_000),
            devices: DEVICES.iter().map(|_| device()).collect(),
            core: None,
            model: Model::default(),
            submitted: BTreeSet::new(),
            sink: Arc::default(),
            in_flight: BTreeMap::new(),
            sent: 0,
            opened: 0,
            conflicts: true,
        }
    }

    /// Another world, with what is on the disk now, and no process.
    pub fn fork(&self, seed: u64) -> Self {
        let (disk, catalog) = (self.disk.fork(seed), Arc::new(self.catalog.fork()));
        Self { disk, catalog, model: self.model.clone(), ..Self::new(seed) }
    }

    pub fn try_open(&mut self) -> Result<Core, JournalError> {
        self.opened += 1;
        let mut nonces = Rng::new(self.seed * 1_000 + self.opened);
        // Files of a few groups, groups of a few batches.
        let config = JournalConfig { group_bytes_max: 2048, ..config("/simulated/journal") };
        let parts = parts(self.catalog.clone(), self.clock.clone());
        Core::open(config, parts, Arc::new(self.disk.clone()), Box::new(move || nonces.next()))
    }

    /// Starts the process. What it shows must be all that was durable, and nothing that was never sent; from
    /// now on it counts as durable.
    pub fn open(&mut self) {
        if self.rng.percent(20) {
            self.disk.set_faults(Faults { write: 5, sync: 20, names: 5, capacity: None });
            match self.try_open() {
                Ok(core) => self.core = Some(core),
                Err(JournalError::Io { .. }) => {}
                Err(error) => panic!("seed {}: {error}", self.seed),
            }
            self.disk.set_faults(Faults::default());
            if self.disk.stopped() {
                self.die();
            }
        }
        if self.core.is_none() {
            let core = self.try_open().unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
            self.core = Some(core);
        }
        self.sink = Arc::default();
        self.in_flight.clear();
        self.sent = 0;
        let shown = self.shown();
        for (number, frame) in &self.model.frames {
            assert_eq!(shown.frames.get(number), Some(frame), "seed {}: {number:?}", self.seed);
        }
        for (number, frame) in &shown.frames {
            let sent = self.submitted.contains(&(*number, Some(frame.clone())));
            assert!(sent, "seed {}: {number:?} was never sent", self.seed);
        }
        assert!(shown.skips.is_superset(&self.model.skips), "seed {}", self.seed);
        for number in &shown.skips {
            assert!(self.submitted.contains(&(*number, None)), "seed {}: {number:?}", self.seed);
        }
        self.model = shown;
        self.check();
        for (device, id) in self.devices.iter_mut().zip(DEVICES) {
            // As after a welcome: the device goes on behind the head.
            device.next = self.model.head(id, device.epoch) + 1;
        }
    }

    /// All that readers see.
    fn shown(&mut self) -> Model {
        let core = self.core.as_mut().unwrap();
        let mut shown = Model::default();
        for device in DEVICES {
            let scan = Scan::new(core.shared.clone(), device, ScanRange::default());
            let frames = frames_of(scan, false);
            assert!(frames.is_sorted_by(|a, b| a.0 < b.0), "seed {}: once and in order", self.seed);
            shown
                .frames
                .extend(frames.into_iter().map(|((epoch, seq), frame)| ((device, epoch, seq), frame)));
            for gap in gaps::page(&core.shared, device, None, usize::MAX).unwrap() {
                shown.skips.extend((gap.first.0..=gap.last.0).map(|seq| (device, gap.epoch.0, seq)));
            }
        }
        shown
    }

    /// Compares all that readers see with the model.
    pub fn check(&mut self) {
        let shown = self.shown();
        assert_eq!(shown, self.model, "seed {}", self.seed);
        let seed = self.seed;
        let core = self.core.as_ref().unwrap();
        for device in DEVICES {
            let frames = self.model.of(device);
            let count = core.shared.read().devices.get(device).map_or(0, |device| device.state().frames);
            assert_eq!(count, frames.len() as u64, "seed {seed}: {device}");
            for epoch in 1..=frames.last().map_or(1, |((epoch, _), _)| *epoch) {
                let head = core.shared.head(device, Epoch(epoch));
                assert_eq!(head, Seq(self.model.head(device, epoch)), "seed {seed}: {device} {epoch}");
            }
            let (at, order) = match frames.get(self.rng.below(frames.len() as u64) as usize) {
                Some((at, _)) if self.rng.percent(50) => (*at, Order::Asc),
                Some((at, _)) => (*at, Order::Desc),
                None => continue,
            };
            let range = ScanRange { after: Some((Epoch(at.0), Seq(at.1))), ts: None, order };
            let found = frames_of(Scan::new(core.shared.clone(), device, range), order == Order::Desc);
            let expected: Vec<_> = match order {
                Order::Asc => frames.into_iter().filter(|(key, _)| *key > at).collect(),
                Order::Desc => frames.into_iter().rev().filter(|(key, _)| *key < at).collect(),
            };
            assert_eq!(found, expected, "seed {seed}: {device} {order:?} after {at:?}");
        }
    }

    /// A random batch of what devices send next, or send again.
    pub fn submit(&mut self) {
        let runs: Vec<TestRun> = (0..=self.rng.below(3)).flat_map(|_| self.some_run()).collect();
        if runs.is_empty() {
            return;
        }
        for run in &runs {
            let mut all = Model::default();
            all.take(run);
            self.submitted.extend(all.frames.into_iter().map(|(number, frame)| (number, Some(frame))));
            self.submitted.extend(all.skips.into_iter().map(|number| (number, None)));
        }
        self.sent += 1;
        let submission = Submission { batch: batch(&runs), number: self.sent, sink: self.sink.clone() };
        self.core.as_ref().unwrap().shared.queue.push(submission).unwrap();
        self.in_flight.insert(self.sent, runs);
        self.clock.advance(std::time::Duration::from_micros(self.rng.below(3)));
    }

    fn some_run(&mut self) -> Option<TestRun> {
        let which = self.rng.below(DEVICES.len() as u64) as usize;
        let (id, rng, device) = (DEVICES[which], &mut self.rng, &mut self.devices[which]);
        if rng.percent(3) {
            (device.epoch, device.next, device.known) = (device.epoch + 1, 1, 0);
            device.plans.clear();
        }
        if rng.percent(8) {
            device.next = device.next.saturating_sub(rng.below(12)).max(1);
        }
        let (epoch, first) = (device.epoch, device.next);
        let mut plan = |rng: &mut Rng, seq: u64| {
            *device.plans.entry(seq).or_insert(if rng.percent(10) { Plan::Skip } else { Plan::Frame })
        };
        let again = device.known >= first;
        let kind = plan(rng, first);
        let mut count = 1;
        while count < 6 && rng.percent(75) && plan(rng, first + count) == kind {
            count += 1;
        }
        device.next = first + count;
        device.known = device.known.max(first + count - 1);
        Some(match kind {
            Plan::Skip => TestRun::Skip { device: id, epoch, first, count },
            // Now and then a device that does not keep to its own past.
            Plan::Frame if self.conflicts && again && rng.percent(25) => {
                let payloads = (0..count).map(|_| vec![rng.next() as u8; 9]).collect();
                TestRun::Own { device: id, epoch, first, channel: "own", payloads }
            }
            Plan::Frame => TestRun::Frames { device: id, epoch, first, count },
        })
    }

    /// One turn of the committer. What it acknowledges becomes part of the model.
    pub fn step(&mut self) -> Step {
        let step = self.core.as_mut().unwrap().committer.step();
        let highest = self.sink.highest();
        let waiting = self.in_flight.split_off(&(highest + 1));
        for runs in std::mem::replace(&mut self.in_flight, waiting).values() {
            runs.iter().for_each(|run| self.model.take(run));
        }
        step
    }

    /// Works until all that was submitted is durable, which it must become once nothing fails.
    pub fn settle(&mut self) {
        self.disk.set_faults(Faults::default());
        self.catalog.refuse(false);
        for _ in 0..10_000 {
            let step = self.step();
            let background = &mut self.core.as_mut().unwrap().background;
            background.retry();
            let busy = background.step();
            if step == Step::Idle && !busy {
                assert!(self.in_flight.is_empty(), "seed {}: dropped {:?}", self.seed, self.in_flight);
                return;
            }
        }
        panic!("seed {}: it does not settle", self.seed);
    }

    /// The process ends, one way or another.
    pub fn die(&mut self) {
        self.core = None;
        if self.rng.percent(50) {
            self.disk.kill();
        } else {
            self.disk.power_loss();
        }
    }

    /// The process ends as it should.
    pub fn close(&mut self) {
        self.settle();
        self.core.as_mut().unwrap().committer.finish().unwrap();
        self.core = None;
    }
}
