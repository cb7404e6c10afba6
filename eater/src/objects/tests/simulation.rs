//! Many eaters that fail, stop, die and come back, over a store and a catalog that do too; devices that send again what
//! was not acknowledged, to another eater. Whatever happens: what was acknowledged can be read on any eater at once, each
//! number once, in order, and nobody acknowledges after having been declared dead. Whoever follows all of them is given
//! each device's numbers in order, and none is left out.
//!
//! `TROUGH_TEST_SEED` in a failure's message reproduces it: time is paused, and everything runs on one thread.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use trough_protocol::Seq;

use super::world::*;
use crate::compaction::tests::each_seed_paused;
use crate::frames::Frames;
use crate::journal::testing::{Rng, TestRun, TestSink, batch};
use crate::journal::{Order, ScanRange, Submission};
use crate::live::tests::watcher::Watcher;
use crate::objects::ObjectsConfig;

const DEVICES: [&str; 3] = ["a", "b", "c"];

/// A device: the frames up to `acked` are acknowledged, those up to `sent` are on their way.
struct Device {
    name: &'static str,
    epoch: u64,
    sent: u64,
    acked: u64,
    eater: usize,
    /// Its link: the sink, the last batch's number, and where each batch ends.
    sink: Arc<TestSink>,
    ends: Vec<u64>,
}

impl Device {
    fn learn(&mut self) {
        if let Some(batch) = self.sink.highest().checked_sub(1) {
            self.acked = self.acked.max(self.ends[batch as usize]);
        }
    }

    /// A new link, to some eater, and all that was not acknowledged again.
    fn rewind(&mut self, eater: usize) {
        self.learn();
        (self.eater, self.sent) = (eater, self.acked);
        (self.sink, self.ends) = (Arc::new(TestSink::default()), Vec::new());
    }
}

struct Sim {
    rng: Rng,
    world: Arc<World>,
    eaters: Vec<Eater>,
    devices: Vec<Device>,
    /// One that walks on and on, and one that begins anew where it is.
    watchers: [Watcher; 2],
    names: u64,
}

impl Sim {
    fn config() -> ObjectsConfig {
        ObjectsConfig {
            in_flight_max: 4,
            dead_after: Duration::from_secs(8),
            heartbeat_every: Duration::from_secs(2),
            sweep_every: Duration::from_secs(2),
            ..config()
        }
    }

    fn new(seed: u64) -> Self {
        let device = |name| Device {
            name,
            epoch: 1,
            sent: 0,
            acked: 0,
            eater: 0,
            sink: Arc::default(),
            ends: Vec::new(),
        };
        let devices = DEVICES.into_iter().map(device).collect();
        let world = Arc::<World>::default();
        let watchers = [false, true]
            .map(|resumes| Watcher::new(&Line::new(&world, seed ^ u64::from(resumes), (20, 300)), resumes));
        let (rng, eaters) = (Rng::new(seed), Vec::new());
        let mut sim = Self { rng, world, eaters, devices, watchers, names: 0 };
        for _ in 0..3 {
            let eater = sim.eater();
            sim.eaters.push(eater);
        }
        sim
    }

    fn eater(&mut self) -> Eater {
        self.names += 1;
        let line = Line::new(&self.world, self.rng.next(), (self.rng.below(30), self.rng.below(400)));
        Eater::new(&line, self.names, Self::config())
    }

    fn send(&mut self, at: usize) {
        let count = 1 + self.rng.below(6);
        let device = &mut self.devices[at];
        if device.sent - device.acked > 60 {
            return;
        }
        let (name, epoch, first) = (device.name, device.epoch, device.sent + 1);
        let runs = [TestRun::Frames { device: name, epoch, first, count }];
        let number = device.ends.len() as u64 + 1;
        let submission = Submission { batch: batch(&runs), number, sink: device.sink.clone() };
        match self.eaters[device.eater].journal.submit(submission) {
            Ok(()) => {
                device.sent += count;
                device.ends.push(device.sent);
            }
            Err(_) => {
                let eater = self.rng.below(self.eaters.len() as u64) as usize;
                device.rewind(eater);
            }
        }
    }

    /// One eater goes without a word, and another one takes its place. Some of what it did happens later all the same.
    fn crash(&mut self, at: usize) {
        let eater = self.eater();
        self.eaters[at] = eater;
        self.leave(at);
    }

    /// The devices of an eater go to others.
    fn leave(&mut self, at: usize) {
        for device in 0..self.devices.len() {
            if self.devices[device].eater == at {
                let to = self.rng.below(self.eaters.len() as u64) as usize;
                self.devices[device].rewind(to);
            }
        }
    }

    async fn step(&mut self) {
        let eater = self.rng.below(self.eaters.len() as u64) as usize;
        let device = self.rng.below(self.devices.len() as u64) as usize;
        match self.rng.below(1000) {
            0..10 => self.crash(eater),
            10..20 => {
                self.eaters[eater].line.stopped.send_replace(true);
                self.leave(eater);
            }
            20..40 => drop(self.eaters[eater].line.stopped.send_replace(false)),
            40..60 => {
                let trouble = (self.rng.below(60), self.rng.below(2000));
                *self.eaters[eater].line.trouble.lock().unwrap() = trouble;
            }
            60..70 => self.devices[device].rewind(eater),
            70..75 => self.bury(eater).await,
            75..78 => sleep(Duration::from_secs(30)).await,
            78..83 => {
                // It lost its memory.
                let device = &mut self.devices[device];
                device.rewind(eater);
                (device.epoch, device.sent, device.acked) = (device.epoch + 1, 0, 0);
            }
            83..130 => self.check(device).await,
            130..230 => self.watch(eater).await,
            _ => self.send(device),
        }
        sleep(Duration::from_millis(self.rng.below(60))).await;
    }

    /// An eater that was declared dead is replaced, as a supervisor would.
    async fn bury(&mut self, _: usize) {
        for at in 0..self.eaters.len() {
            if self.eaters[at].journal.life.dead.is_cancelled() {
                self.crash(at);
            }
        }
    }

    /// The watchers look, told by an eater or not.
    async fn watch(&mut self, eater: usize) {
        let of = self.rng.percent(70).then(|| self.eaters[eater].journal.life.parts.incarnation);
        for watcher in &mut self.watchers {
            watcher.look(&mut self.rng, of).await;
        }
    }

    /// What a device knows to be durable is found through a line without trouble.
    async fn check(&mut self, at: usize) {
        self.devices[at].learn();
        let device = &self.devices[at];
        let calm = Eater::calm(&self.world, u64::MAX);
        let head = calm.head(device.name, device.epoch).await;
        assert!(head >= Seq(device.acked), "{}: {head} found, {} acknowledged", device.name, device.acked);
        let mut of_epoch = Vec::new();
        for order in [Order::Asc, Order::Desc] {
            let mut all =
                calm.numbers(device.name, ScanRange { order, ..ScanRange::default() }).await.unwrap();
            if order == Order::Desc {
                all.reverse();
            }
            assert!(all.is_sorted_by(|a, b| a < b), "each once, in order");
            of_epoch = all.iter().filter(|(epoch, _)| *epoch == device.epoch).map(|(_, seq)| *seq).collect();
        }
        // What is durable is a prefix: the head is the number of frames.
        assert!(of_epoch.len() as u64 >= device.acked);
        assert_eq!(of_epoch, (1..=of_epoch.len() as u64).collect::<Vec<_>>());
    }

    async fn end(mut self) {
        for eater in &self.eaters {
            eater.line.stopped.send_replace(false);
            *eater.line.trouble.lock().unwrap() = (0, 1);
        }
        sleep(Duration::from_secs(120)).await;
        self.bury(0).await;
        for at in 0..self.devices.len() {
            self.devices[at].rewind(0);
        }
        *self.eaters[0].line.trouble.lock().unwrap() = (0, 1);
        for at in 0..self.devices.len() {
            self.send(at);
            let device = &self.devices[at];
            until("the last frames are durable", || device.sink.highest() == 1).await;
            self.check(at).await;
        }
        for watcher in &mut self.watchers {
            while !watcher.look(&mut self.rng, None).await {}
            for device in &self.devices {
                let calm = Eater::calm(&self.world, u64::MAX);
                let head = calm.head(device.name, device.epoch).await;
                watcher.assert_has(device.name, device.epoch, head.0);
            }
        }
        for eater in &self.eaters {
            eater.journal.close().await.unwrap();
        }
        // What nobody entered is gone in the end, and nothing that somebody did.
        let calm = Eater::new(&Line::new(&self.world, 0, (0, 0)), u64::MAX, Self::config());
        sleep(Duration::from_secs(200)).await;
        let left: Vec<String> = self.world.objects.lock().unwrap().keys().cloned().collect();
        assert_eq!(left, entered(&self.world).into_iter().collect::<Vec<_>>());
        drop(calm);
    }
}

async fn simulate(seed: u64) {
    let mut sim = Sim::new(seed);
    for _ in 0..800 {
        sim.step().await;
    }
    sim.end().await;
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_shown_twice() {
    each_seed_paused(6, simulate);
}
