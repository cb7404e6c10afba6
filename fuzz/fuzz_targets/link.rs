//! A stream of link messages, as it is and with lengths and checksums made good.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trough_protocol::batch::Batch;
use trough_protocol::limits::{LINK_CONTROL_BYTES_MAX, LINK_MESSAGE_BYTES_MAX};
use trough_protocol::link::{self, ENVELOPE_BYTES, LinkMessage, Versions};

fuzz_target!(|bytes: &[u8]| {
    stream(bytes);
    let mut bytes = bytes.to_vec();
    if bytes.len() >= ENVELOPE_BYTES {
        reseal(&mut bytes);
        stream(&bytes);
    }
});

fn stream(mut bytes: &[u8]) {
    while let Ok(Some(len)) = link::message_len(bytes) {
        assert!((ENVELOPE_BYTES..=4 + LINK_MESSAGE_BYTES_MAX).contains(&len));
        assert!(len <= 4 + LINK_CONTROL_BYTES_MAX || bytes[4] == 3, "only a FEED may be large");
        let Some((first, rest)) = bytes.split_at_checked(len) else { return };
        message(first);
        bytes = rest;
    }
}

fn message(bytes: &[u8]) {
    let Ok(message) = link::decode(bytes) else { return };
    match &message {
        LinkMessage::Feed { batch, .. } => drop(Batch::check(batch)),
        LinkMessage::Hello { versions, .. } => drop(Versions::OURS.negotiate(*versions)),
        _ => {}
    }
    let mut again = Vec::new();
    link::encode(&message, &mut again);
    // A text that was not UTF-8 has become longer, and may be cut; everything else is read as it was.
    let read = link::decode(&again).expect("what was written is read");
    assert_eq!(std::mem::discriminant(&read), std::mem::discriminant(&message));
    let mut third = Vec::new();
    link::encode(&read, &mut third);
    assert_eq!(third, again);
}

fn reseal(bytes: &mut [u8]) {
    let Ok(len) = u32::try_from(bytes.len() - 4) else { return };
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    let end = if bytes[4] == 3 { bytes.len().min(ENVELOPE_BYTES + 8) } else { bytes.len() };
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..5]), &bytes[ENVELOPE_BYTES..end]);
    bytes[5..9].copy_from_slice(&crc.to_le_bytes());
}
