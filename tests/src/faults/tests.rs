use rand::SeedableRng as _;

use super::*;

fn schedule(seed: u64, count: usize) -> Schedule {
    Schedule::new(&mut StdRng::seed_from_u64(seed), count)
}

#[test]
fn the_seed_decides() {
    assert_eq!(schedule(7, 100), schedule(7, 100));
    assert_eq!(schedule(7, 100).to_string().lines().count(), 100);
    assert_ne!(schedule(7, 100), schedule(8, 100));
}

#[test]
fn a_place_has_one_fault_at_a_time_and_every_fault_ends() {
    for seed in 0..20 {
        let mut struck = Vec::new();
        let steps = schedule(seed, 260).steps();
        assert_eq!(steps.len(), 520);
        for Step { at, begins, fault } in steps {
            let here = struck.iter().position(|place| *place == fault.place());
            match (begins, here) {
                (true, None) => struck.push(fault.place()),
                (false, Some(here)) => drop(struck.remove(here)),
                _ => panic!("seed {seed}, {at:?}: {fault:?} meets another"),
            }
        }
        assert!(struck.is_empty(), "seed {seed}: {struck:?}");
    }
}

#[test]
fn faults_overlap_and_a_long_schedule_has_every_kind() {
    let long = schedule(1, 100);
    let steps = long.steps();
    let mut open = 0;
    let most = steps.iter().map(|step| {
        open = if step.begins { open + 1 } else { open - 1 };
        open
    });
    assert!(most.max() > Some(2), "several at once:\n{long}");
    for victim in [Victim::Process(Role::Feeder(1)), Victim::Process(Role::Eater(0)), Victim::Database] {
        for fault in [Fault::Kill(victim), Fault::Stop(victim)] {
            assert!(steps.iter().any(|step| step.fault == fault), "{fault:?}");
        }
    }
    for hop in Hop::all() {
        let same = |step: &&Step| matches!(step.fault, Fault::Cut(cut, _) if kind(cut) == kind(hop));
        assert!(steps.iter().filter(same).count() >= 2 * 4 * 2, "each way of cutting {hop:?}, twice");
    }
}
