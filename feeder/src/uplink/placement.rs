//! Which eater a device belongs to: rendezvous hashing (Thaler and Ravishankar, 1998). Every feeder that knows the
//! same eaters chooses the same one; when an eater goes, only its devices move, and a new one takes its share and
//! nothing else.

use sha2::{Digest, Sha256};
use trough_protocol::{DeviceId, LinkId};

/// An eater as a choice: its id is hashed already.
#[derive(Debug, Clone)]
pub struct Candidate(Sha256);

impl Candidate {
    /// The eater with this id.
    pub fn new(eater: LinkId) -> Self {
        Self(Sha256::new_with_prefix(eater.0))
    }

    /// How well it suits `device`; the highest score has it.
    pub fn score(&self, device: &DeviceId) -> u64 {
        let mut hash = self.0.clone();
        hash.update(device.as_str());
        let digest = hash.finalize();
        u64::from_be_bytes(*digest.first_chunk().expect("a SHA-256 has 32 bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICES: usize = 10_000;

    fn candidates(eaters: u8) -> Vec<Candidate> {
        (1..=eaters).map(|id| Candidate::new(LinkId([id; 16]))).collect()
    }

    fn choices(candidates: &[Candidate]) -> Vec<usize> {
        (0..DEVICES)
            .map(|n| {
                let device = DeviceId::new(&format!("bus-{n}")).unwrap();
                (0..candidates.len()).max_by_key(|index| candidates[*index].score(&device)).unwrap()
            })
            .collect()
    }

    #[test]
    fn every_eater_gets_its_share() {
        for eaters in [2, 3, 8] {
            let chosen = choices(&candidates(eaters));
            let fair = DEVICES / usize::from(eaters);
            for index in 0..usize::from(eaters) {
                let share = chosen.iter().filter(|chosen| **chosen == index).count();
                assert!(share.abs_diff(fair) < fair / 8, "eater {index} of {eaters} has {share}");
            }
        }
    }

    #[test]
    fn only_the_devices_of_an_eater_that_comes_or_goes_move() {
        let (four, five) = (choices(&candidates(4)), choices(&candidates(5)));
        let mut moved = 0;
        for (before, after) in four.iter().zip(&five) {
            assert!(before == after || *after == 4, "it moved from {before} to {after}");
            moved += usize::from(before != after);
        }
        assert!(moved.abs_diff(DEVICES / 5) < DEVICES / 40, "{moved} moved");
    }

    #[test]
    fn the_choice_is_the_same_in_every_release() {
        let device = DeviceId::new("bus-2034").unwrap();
        // SHA-256 of 16 bytes of 7 and "bus-2034".
        assert_eq!(Candidate::new(LinkId([7; 16])).score(&device), 0xf934_18da_3cdc_8701);
    }
}
