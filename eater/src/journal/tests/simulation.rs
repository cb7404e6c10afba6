//! The journal on a disk that fails, tears and forgets, in a process that dies at any moment.
//!
//! 1. Whatever happens, a reopened journal shows all that was acknowledged, each frame once, in order, with the
//!    bytes that were sent, and nothing that was never sent.
//! 2. What it shows is durable: it is still there after the next power loss.
//! 3. Before a batch is acknowledged, nothing of it is visible; at once afterwards, all of it is.
//! 4. Nothing submitted is dropped: once the disk works again, all of it is acknowledged.
//! 5. A flipped bit is refused at start, or reported on read, or answered from a copy; never wrong data.

use super::world::{DEVICES, Model, World};
use crate::journal::ReadError;
use crate::journal::committer::Step;
use crate::journal::disk::sim::Faults;
use crate::journal::error::JournalError;
use crate::journal::names;
use crate::journal::scan::Scan;
use crate::journal::{Order, ScanRange};

/// Seeds of a usual run; `TROUGH_SIM_SEEDS` at build time asks for more.
const SEEDS: u64 = match option_env!("TROUGH_SIM_SEEDS") {
    Some(text) => parse(text),
    None => 100,
};

const fn parse(text: &str) -> u64 {
    let (mut value, mut at) = (0, 0);
    while at < text.len() {
        value = value * 10 + (text.as_bytes()[at] - b'0') as u64;
        at += 1;
    }
    value
}

/// Runs a session: random work under random faults, until it dies or is closed.
fn session(world: &mut World) {
    if world.rng.percent(50) {
        let operations = world.rng.below(120);
        world.disk.light_fuse(operations);
    }
    for _ in 0..world.rng.below(80) {
        match world.rng.below(20) {
            0..8 => world.submit(),
            8..13 => drop(world.step()),
            13..15 => drop(world.core.as_mut().unwrap().background.step()),
            15 => world.core.as_mut().unwrap().background.retry(),
            16 => world.core.as_mut().unwrap().committer.mark(),
            17 => {
                let faults = Faults {
                    write: world.rng.below(30),
                    sync: world.rng.below(30),
                    names: world.rng.below(30),
                    capacity: world.rng.percent(30).then(|| world.rng.below(20_000) as usize),
                };
                world.disk.set_faults(if world.rng.percent(50) { faults } else { Faults::default() });
                let refuses = world.rng.percent(20);
                world.catalog.refuse(refuses);
            }
            18 if world.rng.percent(20) => world.check(),
            _ => {}
        }
        if world.disk.stopped() {
            return world.die();
        }
    }
    match world.rng.below(4) {
        0 => {
            world.disk.set_faults(Faults::default());
            world.die();
        }
        1 if !world.disk.stopped() => {
            // No fuse burns any more.
            world.disk.light_fuse(u64::MAX);
            world.close();
        }
        _ => {
            world.disk.light_fuse(u64::MAX);
            world.settle();
            world.check();
            world.die();
        }
    }
}

#[test]
fn acknowledged_is_readable_whatever_happens() {
    let mut commits = 0;
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        for _ in 0..6 {
            world.disk.set_faults(Faults::default());
            world.catalog.refuse(false);
            world.open();
            session(&mut world);
        }
        world.disk.set_faults(Faults::default());
        world.catalog.refuse(false);
        world.open();
        world.settle();
        world.check();
        commits += world.model.frames.len();
    }
    assert!(commits > SEEDS as usize * 50, "the simulation did something: {commits} frames");
}

/// A journal with all kinds of files, closed properly.
pub fn closed_world(seed: u64) -> World {
    let mut world = World::new(seed);
    world.conflicts = false;
    for _ in 0..3 {
        world.open();
        for _ in 0..30 {
            world.submit();
            if world.rng.percent(60) {
                assert!(matches!(world.step(), Step::Committed | Step::Full));
            }
            if world.rng.percent(30) {
                world.core.as_mut().unwrap().background.step();
            }
        }
        world.close();
    }
    world
}

/// What is readable, and whether something was reported damaged.
pub fn read_all(world: &World, order: Order) -> (Model, bool) {
    let core = world.core.as_ref().unwrap();
    let (mut model, mut damaged) = (Model::default(), false);
    for device in DEVICES {
        for chunk in Scan::new(core.shared.clone(), device, ScanRange { order, ..ScanRange::default() }) {
            match chunk {
                Ok(chunk) => {
                    let mut rest = &chunk.bytes[..];
                    for seq in chunk.first.0..=chunk.last().0 {
                        let len = 4 + u32::from_le_bytes(rest[..4].try_into().unwrap()) as usize;
                        let number = (device, chunk.epoch.0, seq);
                        let known = model.frames.insert(number, rest[..len].to_vec());
                        assert!(known.is_none(), "seed {}: {number:?} twice", world.seed);
                        rest = &rest[len..];
                    }
                }
                Err(ReadError::Damaged { .. } | ReadError::Index { .. }) => damaged = true,
                Err(error) => panic!("seed {}: {error}", world.seed),
            }
        }
    }
    (model, damaged)
}

#[test]
fn a_flipped_bit_is_never_wrong_data() {
    let (mut refused, mut reported, mut harmless) = (0, 0, 0);
    let mut whole_world = closed_world(0);
    for seed in 0..5 * SEEDS {
        if seed % 25 == 0 {
            whole_world = closed_world(seed);
        }
        let mut world = whole_world.fork(seed);
        let names = names_of(&world);
        let name = &names[world.rng.below(names.len() as u64) as usize];
        let size = world.disk.bytes(name).len() as u64;
        let (offset, bit) = (world.rng.below(size) as usize, world.rng.below(8) as u8);
        world.disk.flip(name, offset, bit);
        let context = format!("seed {seed}: bit {bit} of byte {offset} of {name}");
        match world.try_open() {
            Err(JournalError::Corrupt { .. }) => refused += 1,
            // Only a damaged index is met as an error of reading.
            Err(JournalError::Io { .. }) if name.ends_with(".tri") => refused += 1,
            Err(JournalError::TooNew { .. }) => panic!("{context}: a checksum must be looked at first"),
            Err(error) => panic!("{context}: {error}"),
            Ok(core) => {
                world.core = Some(core);
                for order in [Order::Asc, Order::Desc] {
                    let (model, damaged) = read_all(&world, order);
                    for (number, frame) in &model.frames {
                        assert_eq!(world.model.frames.get(number), Some(frame), "{context}: {number:?}");
                    }
                    let whole = model.frames == world.model.frames;
                    assert!(whole || damaged, "{context}: frames are missing and nobody said so");
                    if damaged { reported += 1 } else { harmless += 1 }
                }
            }
        }
    }
    println!("refused {refused}, reported {reported}, harmless {harmless}");
    assert!(refused > 0 && reported > 0 && harmless > 0);
}

pub fn names_of(world: &World) -> Vec<String> {
    use crate::journal::disk::Disk;
    let mut names = world.disk.list().unwrap();
    names.retain(|name| names::parse(name).is_some());
    names.sort();
    names
}
