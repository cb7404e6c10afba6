//! The feeder–eater protocol: batches up, acknowledgements down, over one TCP connection.
//!
//! Every message is
//! ```text
//! u32 length of all that follows   u8 type   u32 CRC32C   body
//! ```
//! little-endian. The checksum is over length, type and body; of a FEED, over length, type and the batch number
//! only, as the batch has checksums of its own ([`crate::batch`]). The feeder speaks first, with HELLO; the
//! eater answers with WELCOME or GOAWAY. What follows the known fields of a control message is ignored, so that
//! later releases can append some.
//!
//! ```text
//! type  from    body
//!  1 HELLO  feeder  4 magic "TRLK"; u16 lowest, highest version; 16 feeder id; u8 n, n software;
//!                  with a shared key: u8 32, 32 challenge
//!  2 WELCOME eater  4 magic "TRLK"; u16 version; 16 eater id; u64 credit bytes; u8 n, n software
//!  3 FEED   feeder  u64 batch number, batch
//!  4 ATE    eater   u64 batch number: this one and all before it on this link are durable
//!  5 REJECT eater   u64 batch number; u16 code; u8 n, n text: never to be sent again; GOAWAY follows
//!  6 PING   both    u64 nonce
//!  7 PONG   both    u64 nonce
//!  8 GOAWAY both    u16 code; u32 retry after, ms; u8 n, n text
//!  9 LOCATE feeder  u32 query; u64 epoch; u8 n, n device: which is its head?
//! 10 HEAD   eater   u32 query; u64 seq
//! 11 CHALLENGE eater  16 eater id; 32 challenge; 32 proof: only to a HELLO with a challenge
//! 12 PROOF  feeder  32 proof: the answer to CHALLENGE
//! ```

mod codec;
mod key;

pub use key::{CHALLENGE_BYTES, Challenge, KEY_BYTES_MIN, LinkKey, Opening, PROOF_BYTES, Proof, Side};

pub use codec::{decode, encode, feed_header, message_len};

use crate::words::{Epoch, LinkId, Seq};

/// The first bytes of HELLO and WELCOME.
pub const MAGIC: [u8; 4] = *b"TRLK";
/// The lowest version that this release speaks.
pub const VERSION_MIN: u16 = 1;
/// The highest version that this release speaks.
pub const VERSION_MAX: u16 = 1;
/// Bytes before a message's body: length, type, checksum.
pub const ENVELOPE_BYTES: usize = 9;
/// Bytes before a FEED's batch.
pub const FEED_HEADER_BYTES: usize = ENVELOPE_BYTES + 8;

/// The versions that one side speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// The lowest.
    pub min: u16,
    /// The highest.
    pub max: u16,
}

impl Versions {
    /// Those of this release.
    pub const OURS: Self = Self { min: VERSION_MIN, max: VERSION_MAX };

    /// The highest version that both speak.
    ///
    /// # Errors
    /// A message that names both ranges, if they have none in common.
    pub fn negotiate(self, peer: Self) -> Result<u16, String> {
        let version = self.max.min(peer.max);
        if version >= self.min.max(peer.min) {
            return Ok(version);
        }
        Err(format!(
            "no common version of the feeder–eater protocol: this side speaks {} to {}, the peer {} to {}; \
             upgrade the older one first",
            self.min, self.max, peer.min, peer.max
        ))
    }
}

/// Why a side ends the link, or a batch is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkCode(pub u16);

impl LinkCode {
    /// The eater is stopping.
    pub const DRAINING: Self = Self(1);
    /// The eater has no credit left to give.
    pub const FULL: Self = Self(2);
    /// The peer broke the protocol.
    pub const PROTOCOL: Self = Self(3);
    /// No common version.
    pub const VERSION: Self = Self(4);
    /// The link has reached its age.
    pub const AGED: Self = Self(5);
    /// A batch's checksum or directory is wrong.
    pub const DAMAGED: Self = Self(6);
    /// The eater cannot store anything now.
    pub const STORAGE: Self = Self(7);
    /// The peer has no TLS, or has not shown that it knows the shared key.
    pub const UNAUTHORIZED: Self = Self(8);

    /// The name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self.0 {
            1 => "draining",
            2 => "full",
            3 => "protocol",
            4 => "version",
            5 => "aged",
            6 => "damaged",
            7 => "storage",
            8 => "unauthorized",
            _ => "unknown",
        }
    }
}

/// A message that borrows its batch and names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkMessage<'a> {
    /// A feeder's first message.
    Hello {
        /// What it speaks.
        versions: Versions,
        /// Which feeder, for logs.
        feeder: LinkId,
        /// Its release, for logs.
        software: String,
        /// What the eater must answer, if the feeder has a shared key.
        challenge: Option<Challenge>,
    },
    /// An eater's first message.
    Welcome {
        /// The version that both will speak.
        version: u16,
        /// Which eater.
        eater: LinkId,
        /// Bytes of batches that may be on their way without an ATE, counted as the length of each batch.
        credit: u64,
        /// Its release, for logs.
        software: String,
    },
    /// A batch to store.
    Feed {
        /// Counts up from 1 on each link.
        number: u64,
        /// Not checked yet: see [`crate::batch::Batch::check`].
        batch: &'a [u8],
    },
    /// This batch and all before it are durable.
    Ate {
        /// Its number.
        number: u64,
    },
    /// This batch was refused and is not to be sent again.
    Reject {
        /// Its number.
        number: u64,
        /// Why.
        code: LinkCode,
        /// For people.
        text: String,
    },
    /// Are you there?
    Ping {
        /// To be repeated in the pong.
        nonce: u64,
    },
    /// I am.
    Pong {
        /// That of the ping.
        nonce: u64,
    },
    /// The sender is about to close. What it received before is still answered.
    Goaway {
        /// Why.
        code: LinkCode,
        /// When to try again, in ms.
        retry_after_ms: u32,
        /// For people.
        text: String,
    },
    /// Which head has this device?
    Locate {
        /// To be repeated in the answer.
        query: u32,
        /// In this epoch.
        epoch: Epoch,
        /// Whose.
        device: &'a str,
    },
    /// The answer to a LOCATE: the highest contiguous durable seq known here.
    Head {
        /// That of the question.
        query: u32,
        /// [`Seq::ZERO`] if there is none.
        seq: Seq,
    },
    /// The eater knows the shared key, and wants to see that the feeder does.
    Challenge {
        /// Which eater.
        eater: LinkId,
        /// What the feeder must answer.
        challenge: Challenge,
        /// The eater's answer to the challenge of HELLO.
        proof: Proof,
    },
    /// The feeder knows the shared key, too.
    Proof {
        /// Its answer to CHALLENGE.
        proof: Proof,
    },
}
