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
//!  1 HELLO  feeder  4 magic "TRLK"; u16 lowest, highest version; 16 feeder id; u8 n, n software
//!  2 WELCOME eater  4 magic "TRLK"; u16 version; 16 eater id; u64 credit bytes; u8 n, n software
//!  3 FEED   feeder  u64 batch number, batch
//!  4 ATE    eater   u64 batch number: this one and all before it on this link are durable
//!  5 REJECT eater   u64 batch number; u16 code; u8 n, n text: never to be sent again; GOAWAY follows
//!  6 PING   both    u64 nonce
//!  7 PONG   both    u64 nonce
//!  8 GOAWAY both    u16 code; u32 retry after, ms; u8 n, n text
//!  9 LOCATE feeder  u32 query; u64 epoch; u8 n, n device: which is its head?
//! 10 HEAD   eater   u32 query; u64 seq
//! ```

use crate::limits::{LINK_CONTROL_BYTES_MAX, LINK_MESSAGE_BYTES_MAX};
use crate::wire::{Reader, WireError, put_text};
use crate::words::{DeviceId, Epoch, LinkId, Seq};

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
}

/// Bytes of the first message in `bytes`, envelope included, as soon as its length can be read.
///
/// # Errors
/// A length over the limit: the stream cannot be read any further.
pub fn message_len(bytes: &[u8]) -> Result<Option<usize>, WireError> {
    let Some(prefix) = bytes.first_chunk::<4>() else { return Ok(None) };
    let len = u32::from_le_bytes(*prefix) as usize;
    let kind = bytes.get(4).copied();
    let max = match kind {
        Some(FEED) | None => LINK_MESSAGE_BYTES_MAX,
        Some(_) => LINK_CONTROL_BYTES_MAX,
    };
    if len > max {
        return Err(WireError::TooLarge { what: "link message bytes", value: len as u64, max: max as u64 });
    }
    if len < ENVELOPE_BYTES - 4 {
        return Err(WireError::Invalid { what: "link message bytes", value: len as u64, rule: "5 at least" });
    }
    Ok(Some(4 + len))
}

const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const FEED: u8 = 3;
const ATE: u8 = 4;
const REJECT: u8 = 5;
const PING: u8 = 6;
const PONG: u8 = 7;
const GOAWAY: u8 = 8;
const LOCATE: u8 = 9;
const HEAD: u8 = 10;

/// Reads one whole message: `bytes` has the length that [`message_len`] gave.
///
/// # Errors
/// Malformed or damaged: the link is to be closed.
pub fn decode(bytes: &[u8]) -> Result<LinkMessage<'_>, WireError> {
    let mut reader = Reader::new(bytes);
    let len = reader.u32("link message length")? as usize;
    if len != bytes.len() - 4 {
        let had = bytes.len() - 4;
        return Err(WireError::Truncated { what: "link message", needed: len, had });
    }
    let kind = reader.u8("link message type")?;
    let found = reader.u32("link message checksum")?;
    let covered = if kind == FEED { &reader.rest()[..reader.rest().len().min(8)] } else { reader.rest() };
    let computed = crc32c::crc32c_append(crc32c::crc32c(&bytes[..5]), covered);
    if found != computed {
        return Err(WireError::Checksum { what: "link message", found, computed });
    }
    Ok(match kind {
        HELLO => {
            check_magic(reader.array("HELLO magic")?)?;
            LinkMessage::Hello {
                versions: Versions {
                    min: reader.u16("lowest version")?,
                    max: reader.u16("highest version")?,
                },
                feeder: LinkId(reader.array("feeder id")?),
                software: reader.text("software")?,
            }
        }
        WELCOME => {
            check_magic(reader.array("WELCOME magic")?)?;
            LinkMessage::Welcome {
                version: reader.u16("version")?,
                eater: LinkId(reader.array("eater id")?),
                credit: reader.u64("credit")?,
                software: reader.text("software")?,
            }
        }
        FEED => LinkMessage::Feed { number: reader.u64("batch number")?, batch: reader.rest() },
        ATE => LinkMessage::Ate { number: reader.u64("batch number")? },
        REJECT => LinkMessage::Reject {
            number: reader.u64("batch number")?,
            code: LinkCode(reader.u16("code")?),
            text: reader.text("text")?,
        },
        PING => LinkMessage::Ping { nonce: reader.u64("nonce")? },
        PONG => LinkMessage::Pong { nonce: reader.u64("nonce")? },
        GOAWAY => LinkMessage::Goaway {
            code: LinkCode(reader.u16("code")?),
            retry_after_ms: reader.u32("retry after")?,
            text: reader.text("text")?,
        },
        LOCATE => {
            let query = reader.u32("query")?;
            let epoch = Epoch(reader.int("epoch", 1)?);
            let device_len = reader.u8("device id length")?;
            let device = DeviceId::check(reader.bytes("device id", usize::from(device_len))?)?;
            LinkMessage::Locate { query, epoch, device }
        }
        HEAD => LinkMessage::Head { query: reader.u32("query")?, seq: Seq(reader.int("seq", 0)?) },
        value => {
            let value = value.into();
            return Err(WireError::Unsupported { what: "link message type", value, known: "1 to 10" });
        }
    })
}

fn check_magic(found: [u8; 4]) -> Result<(), WireError> {
    if found == MAGIC { Ok(()) } else { Err(WireError::Magic { what: "link of Trough", found }) }
}

/// Appends a message to `out`. A FEED is better sent in parts: see [`feed_header`].
pub fn encode(message: &LinkMessage<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; ENVELOPE_BYTES]);
    let kind = match message {
        LinkMessage::Hello { versions, feeder, software } => {
            out.extend_from_slice(&MAGIC);
            out.extend_from_slice(&versions.min.to_le_bytes());
            out.extend_from_slice(&versions.max.to_le_bytes());
            out.extend_from_slice(&feeder.0);
            put_text(out, software);
            HELLO
        }
        LinkMessage::Welcome { version, eater, credit, software } => {
            out.extend_from_slice(&MAGIC);
            out.extend_from_slice(&version.to_le_bytes());
            out.extend_from_slice(&eater.0);
            out.extend_from_slice(&credit.to_le_bytes());
            put_text(out, software);
            WELCOME
        }
        LinkMessage::Feed { number, batch } => {
            out.truncate(start);
            out.extend_from_slice(&feed_header(*number, batch.len()));
            out.extend_from_slice(batch);
            return;
        }
        LinkMessage::Ate { number } => {
            out.extend_from_slice(&number.to_le_bytes());
            ATE
        }
        LinkMessage::Reject { number, code, text } => {
            out.extend_from_slice(&number.to_le_bytes());
            out.extend_from_slice(&code.0.to_le_bytes());
            put_text(out, text);
            REJECT
        }
        LinkMessage::Ping { nonce } => {
            out.extend_from_slice(&nonce.to_le_bytes());
            PING
        }
        LinkMessage::Pong { nonce } => {
            out.extend_from_slice(&nonce.to_le_bytes());
            PONG
        }
        LinkMessage::Goaway { code, retry_after_ms, text } => {
            out.extend_from_slice(&code.0.to_le_bytes());
            out.extend_from_slice(&retry_after_ms.to_le_bytes());
            put_text(out, text);
            GOAWAY
        }
        LinkMessage::Locate { query, epoch, device } => {
            out.extend_from_slice(&query.to_le_bytes());
            out.extend_from_slice(&epoch.0.to_le_bytes());
            put_text(out, device);
            LOCATE
        }
        LinkMessage::Head { query, seq } => {
            out.extend_from_slice(&query.to_le_bytes());
            out.extend_from_slice(&seq.0.to_le_bytes());
            HEAD
        }
    };
    let len = u32::try_from(out.len() - start - 4).expect("a control message is at most 1 KiB");
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    out[start + 4] = kind;
    let crc = crc32c::crc32c(&out[start..start + 5]);
    let crc = crc32c::crc32c_append(crc, &out[start + ENVELOPE_BYTES..]);
    out[start + 5..start + 9].copy_from_slice(&crc.to_le_bytes());
}

/// The bytes of a FEED that stand before its batch of `batch_len` bytes.
pub fn feed_header(number: u64, batch_len: usize) -> [u8; FEED_HEADER_BYTES] {
    let len = u32::try_from(FEED_HEADER_BYTES - 4 + batch_len).expect("a batch is at most 4 MiB");
    let mut header = [0; FEED_HEADER_BYTES];
    header[..4].copy_from_slice(&len.to_le_bytes());
    header[4] = FEED;
    header[9..].copy_from_slice(&number.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&header[..5]), &header[9..]);
    header[5..9].copy_from_slice(&crc.to_le_bytes());
    header
}
