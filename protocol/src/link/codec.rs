//! The bytes of the link messages.

use super::{CHALLENGE_BYTES, ENVELOPE_BYTES, FEED_HEADER_BYTES, LinkCode, LinkMessage, MAGIC, Versions};
use crate::limits::{LINK_CONTROL_BYTES_MAX, LINK_MESSAGE_BYTES_MAX};
use crate::wire::{Reader, WireError, put_text};
use crate::words::{DeviceId, Epoch, LinkId, Seq};

/// Bytes of the first message in `bytes`, envelope included, as soon as its length and type can be read: the limit
/// depends on the type, and nobody is to make room for a PING of 4 MiB.
///
/// # Errors
/// A length over the limit: the stream cannot be read any further.
pub fn message_len(bytes: &[u8]) -> Result<Option<usize>, WireError> {
    let Some(prefix) = bytes.first_chunk::<4>() else { return Ok(None) };
    let len = u32::from_le_bytes(*prefix) as usize;
    let kind = bytes.get(4).copied();
    let max = if matches!(kind, Some(FEED) | None) { LINK_MESSAGE_BYTES_MAX } else { LINK_CONTROL_BYTES_MAX };
    if len > max {
        return Err(WireError::TooLarge { what: "link message bytes", value: len as u64, max: max as u64 });
    }
    if len < ENVELOPE_BYTES - 4 {
        return Err(WireError::Invalid { what: "link message bytes", value: len as u64, rule: "5 at least" });
    }
    Ok(kind.map(|_| 4 + len))
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
const CHALLENGE: u8 = 11;
const PROOF: u8 = 12;

/// Reads one whole message: `bytes` has the length that [`message_len`] gave.
///
/// # Errors
/// Malformed or damaged: the link is to be closed.
pub fn decode(bytes: &[u8]) -> Result<LinkMessage<'_>, WireError> {
    let mut reader = Reader::new(bytes);
    let len = reader.u32("link message length")? as usize;
    let had = bytes.len() - 4;
    if len > had {
        return Err(WireError::Truncated { what: "link message", needed: len, had });
    }
    if len < had {
        return Err(WireError::Trailing { what: "link message", left: had - len });
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
                challenge: appended_challenge(&mut reader)?,
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
        CHALLENGE => LinkMessage::Challenge {
            eater: LinkId(reader.array("eater id")?),
            challenge: reader.array("challenge")?,
            proof: reader.array("proof")?,
        },
        PROOF => LinkMessage::Proof { proof: reader.array("proof")? },
        value => {
            let value = value.into();
            return Err(WireError::Unsupported { what: "link message type", value, known: "1 to 12" });
        }
    })
}

/// A field that was appended to HELLO. One of another length is of a later release, or none.
fn appended_challenge(reader: &mut Reader<'_>) -> Result<Option<[u8; CHALLENGE_BYTES]>, WireError> {
    if reader.rest().first().copied().map(usize::from) != Some(CHALLENGE_BYTES) {
        return Ok(None);
    }
    reader.u8("challenge length")?;
    reader.array("challenge").map(Some)
}

fn check_magic(found: [u8; 4]) -> Result<(), WireError> {
    if found == MAGIC { Ok(()) } else { Err(WireError::Magic { what: "link of Trough", found }) }
}

/// Appends a message to `out`. A FEED is better sent in parts: see [`feed_header`].
pub fn encode(message: &LinkMessage<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; ENVELOPE_BYTES]);
    let kind = match message {
        LinkMessage::Hello { versions, feeder, software, challenge } => {
            out.extend_from_slice(&MAGIC);
            out.extend_from_slice(&versions.min.to_le_bytes());
            out.extend_from_slice(&versions.max.to_le_bytes());
            out.extend_from_slice(&feeder.0);
            put_text(out, software);
            if let Some(challenge) = challenge {
                out.push(u8::try_from(CHALLENGE_BYTES).expect("32 fits"));
                out.extend_from_slice(challenge);
            }
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
            debug_assert!(DeviceId::check(device.as_bytes()).is_ok(), "the caller has it from a DeviceId");
            put_text(out, device);
            LOCATE
        }
        LinkMessage::Head { query, seq } => {
            out.extend_from_slice(&query.to_le_bytes());
            out.extend_from_slice(&seq.0.to_le_bytes());
            HEAD
        }
        LinkMessage::Challenge { eater, challenge, proof } => {
            out.extend_from_slice(&eater.0);
            out.extend_from_slice(challenge);
            out.extend_from_slice(proof);
            CHALLENGE
        }
        LinkMessage::Proof { proof } => {
            out.extend_from_slice(proof);
            PROOF
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
