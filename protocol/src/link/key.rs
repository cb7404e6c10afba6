//! The shared key of links: each side shows that it knows it, and neither sends it.
//!
//! A proof is HMAC-SHA256 (RFC 2104) with the key over
//! ```text
//! "trough link feeder v1" or "trough link eater v1": who proves, and a zero byte
//! 16 feeder id   16 eater id   32 challenge of HELLO   32 challenge of CHALLENGE
//! ```
//! Whose proof it is stands in it, and both ids and both challenges do: a proof is good for one side of one opening,
//! so it can be neither reflected nor repeated.

use std::fmt;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::words::LinkId;

/// Bytes of a challenge, which are random.
pub const CHALLENGE_BYTES: usize = 32;
/// Bytes of a proof.
pub const PROOF_BYTES: usize = 32;
/// Shortest key, in bytes.
pub const KEY_BYTES_MIN: usize = 32;

/// Random bytes that a proof must be made for.
pub type Challenge = [u8; CHALLENGE_BYTES];
/// Shows that the sender knows the key.
pub type Proof = [u8; PROOF_BYTES];

/// Who proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// In PROOF.
    Feeder,
    /// In CHALLENGE.
    Eater,
}

/// What a proof is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// The id of HELLO.
    pub feeder: LinkId,
    /// The id of CHALLENGE.
    pub eater: LinkId,
    /// That of HELLO.
    pub feeder_challenge: Challenge,
    /// That of CHALLENGE.
    pub eater_challenge: Challenge,
}

/// The key. It is never shown: `Debug` prints `***`.
#[derive(Clone)]
pub struct LinkKey(Vec<u8>);

impl fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl LinkKey {
    /// A key of [`KEY_BYTES_MIN`] bytes or more; `None` if it is shorter.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (bytes.len() >= KEY_BYTES_MIN).then(|| Self(bytes.to_vec()))
    }

    fn mac(&self, side: Side, opening: &Opening) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of every length");
        mac.update(match side {
            Side::Feeder => b"trough link feeder v1\0",
            Side::Eater => b"trough link eater v1\0",
        });
        mac.update(&opening.feeder.0);
        mac.update(&opening.eater.0);
        mac.update(&opening.feeder_challenge);
        mac.update(&opening.eater_challenge);
        mac
    }

    /// The proof of one side.
    pub fn prove(&self, side: Side, opening: &Opening) -> Proof {
        self.mac(side, opening).finalize().into_bytes().into()
    }

    /// Whether a proof of one side is right. Takes the same time for every wrong one.
    pub fn verify(&self, side: Side, opening: &Opening, proof: &Proof) -> bool {
        self.mac(side, opening).verify_slice(proof).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_good_for_one_side_of_one_opening() {
        let key = LinkKey::new(&[7; 32]).unwrap();
        let opening = Opening {
            feeder: LinkId([1; 16]),
            eater: LinkId([2; 16]),
            feeder_challenge: [3; 32],
            eater_challenge: [4; 32],
        };
        let proof = key.prove(Side::Feeder, &opening);
        assert!(key.verify(Side::Feeder, &opening, &proof));
        assert!(!key.verify(Side::Eater, &opening, &proof), "it cannot be reflected");
        let others = [
            Opening { feeder: LinkId([9; 16]), ..opening },
            Opening { eater: LinkId([9; 16]), ..opening },
            Opening { feeder_challenge: [9; 32], ..opening },
            Opening { eater_challenge: [9; 32], ..opening },
        ];
        assert!(others.iter().all(|other| !key.verify(Side::Feeder, other, &proof)), "nor repeated");
        assert!(!LinkKey::new(&[8; 32]).unwrap().verify(Side::Feeder, &opening, &proof));
    }

    #[test]
    fn short_keys_are_refused_and_none_is_shown() {
        assert!(LinkKey::new(&[7; 31]).is_none());
        assert_eq!(format!("{:?}", LinkKey::new(&[7; 32]).unwrap()), "***");
    }
}
