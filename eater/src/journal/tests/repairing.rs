//! Repairing what a bad disk left, simulated.
//!
//! 1. After a repair the journal opens, whatever was damaged, and reads without an error.
//! 2. What is read is right, and what is missing is a gap of the kind `damaged`, or lies behind the head.
//! 3. A second look finds nothing more.
//! 4. The next session goes on as if nothing had happened.

use std::collections::BTreeSet;
use std::io::IoSlice;

use super::simulation::{closed_world, names_of, read_all};
use super::world::{DEVICES, World};
use crate::journal::catalog::CatalogLink;
use crate::journal::disk::Disk;
use crate::journal::repair::repair_on;
use crate::journal::testing::Rng;
use crate::journal::{GapKind, Order, gaps};

/// Damages a file of the journal, one way or another. What was done.
fn damage(world: &mut World) -> String {
    let names = names_of(world);
    let rng = &mut world.rng;
    let name = &names[rng.below(names.len() as u64) as usize];
    let size = world.disk.bytes(name).len() as u64;
    let from = rng.below(size);
    match rng.below(10) {
        0..4 => {
            world.disk.flip(name, from as usize, rng.below(8) as u8);
            format!("flipped a bit of byte {from} of {name}")
        }
        4..8 => {
            let bytes: Vec<u8> = (0..1 + rng.below(size - from).min(700)).map(|_| rng.next() as u8).collect();
            let file = world.disk.open(name).unwrap();
            file.write_at(&mut [IoSlice::new(&bytes)], from).unwrap();
            format!("overwrote {} bytes from {from} of {name}", bytes.len())
        }
        8 => {
            world.disk.open(name).unwrap().truncate(from).unwrap();
            format!("cut {name} to {from} bytes")
        }
        _ => {
            world.disk.remove(name).unwrap();
            format!("removed {name}")
        }
    }
}

#[test]
fn a_repaired_journal_has_all_that_is_whole_and_says_what_is_not() {
    let (mut whole_world, mut lost, mut listed) = (closed_world(0), 0, 0);
    for seed in 0..400 {
        if seed % 20 == 0 {
            whole_world = closed_world(seed + 1000);
        }
        let mut world = whole_world.fork(seed);
        let done: Vec<String> = (0..=Rng::new(seed).below(3)).map(|_| damage(&mut world)).collect();
        let context = format!("seed {seed}: {}", done.join(", "));
        println!("{context}");
        let catalog = CatalogLink::new(world.catalog.clone()).unwrap();
        // A newest file that is gone, or has no group left, leaves no trace but in the catalog.
        repair_on(&world.disk, &catalog).unwrap_or_else(|error| panic!("{context}: {error}"));
        let again = repair_on(&world.disk, &catalog).unwrap();
        assert_eq!(again.damage, [], "{context}");
        let core = world.try_open().unwrap_or_else(|error| panic!("{context}: {error}"));
        world.core = Some(core);
        let (model, damaged) = read_all(&world, Order::Asc);
        assert!(!damaged, "{context}");
        assert_eq!(read_all(&world, Order::Desc).0, model, "{context}");
        let shared = world.core.as_ref().unwrap().shared.clone();
        let mut gone = BTreeSet::new();
        for device in DEVICES {
            for gap in gaps::page(&shared, device, None, usize::MAX).unwrap() {
                if gap.kind == GapKind::Damaged {
                    gone.extend((gap.first.0..=gap.last.0).map(|seq| (device, gap.epoch.0, seq)));
                }
            }
        }
        for (number, frame) in &world.model.frames {
            match model.frames.get(number) {
                Some(found) => assert_eq!(found, frame, "{context}: {number:?}"),
                None => {
                    let head = shared.head(number.0, trough_protocol::Epoch(number.1));
                    let known = gone.contains(number) || number.2 > head.0;
                    assert!(known, "{context}: {number:?} vanished, head {head}");
                    lost += 1;
                    listed += usize::from(gone.contains(number));
                }
            }
        }
        let sent = |number| world.model.frames.contains_key(number);
        assert!(model.frames.keys().all(sent), "{context}");
        drop(shared);
        world.close();
    }
    println!("{lost} frames lost, {listed} of them listed");
    assert!(lost > 0 && listed * 10 > lost * 7);
}
