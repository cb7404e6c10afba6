//! Old and new releases talk to each other, or say why they cannot.
//!
//! 1. Ranges of link versions that overlap: the highest common one.
//! 2. Ranges that do not: a refusal that names both.
//! 3. Fields that a later release appends to a control message: ignored, whichever side is the older one.
//! 4. Members and codes that a later release adds: ignored, or obeyed by their range.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Value, samples};
use trough_protocol::close::{Advice, CloseCode, advice};
use trough_protocol::device::{ClientMessage, Features, binary, json};
use trough_protocol::limits::{FRAME_BYTES_MAX, LINK_CONTROL_BYTES_MAX};
use trough_protocol::link::{self, LinkCode, LinkMessage, Versions};

fn versions(min: u16, max: u16) -> Versions {
    Versions { min, max }
}

#[test]
fn the_highest_common_version_is_spoken() {
    for (ours, theirs, common) in [
        ((1, 1), (1, 1), 1),
        ((1, 1), (1, 9), 1),
        ((1, 9), (1, 1), 1),
        ((2, 5), (4, 9), 5),
        ((4, 9), (2, 5), 5),
        ((3, 3), (1, 3), 3),
        ((3, 7), (7, u16::MAX), 7),
        ((0, u16::MAX), (0, u16::MAX), u16::MAX),
    ] {
        let (ours, theirs) = (versions(ours.0, ours.1), versions(theirs.0, theirs.1));
        assert_eq!(ours.negotiate(theirs), Ok(common), "{ours:?} {theirs:?}");
        assert_eq!(theirs.negotiate(ours), Ok(common), "the same from the other side");
    }
}

#[test]
fn every_pair_of_ranges_agrees_from_both_sides() {
    let ranges = || (0..6).flat_map(|min| (min..6).map(move |max| versions(min, max)));
    for (ours, theirs) in ranges().flat_map(|ours| ranges().map(move |theirs| (ours, theirs))) {
        let common =
            (0..6).rfind(|v| (ours.min..=ours.max).contains(v) && (theirs.min..=theirs.max).contains(v));
        assert_eq!(ours.negotiate(theirs).ok(), common, "{ours:?} {theirs:?}");
        assert_eq!(theirs.negotiate(ours).ok(), common, "{ours:?} {theirs:?}");
    }
}

#[test]
fn disjoint_ranges_are_refused_with_both_named() {
    let error = versions(1, 2).negotiate(versions(4, 7)).unwrap_err();
    assert!(error.contains("this side speaks 1 to 2, the peer 4 to 7"), "{error}");
    assert!(error.contains("upgrade the older one first"), "{error}");
    let error = versions(4, 7).negotiate(versions(1, 2)).unwrap_err();
    assert!(error.contains("this side speaks 4 to 7, the peer 1 to 2"), "{error}");
    // A range that is upside down has nothing in common with any.
    assert!(versions(1, 9).negotiate(versions(5, 3)).is_err());
    assert!(versions(5, 3).negotiate(versions(5, 3)).is_err());
}

#[test]
fn the_refusal_fits_into_a_goaway() {
    let text = versions(65_530, 65_531).negotiate(versions(65_532, 65_535)).unwrap_err();
    let mut bytes = Vec::new();
    let code = LinkCode::VERSION;
    link::encode(&LinkMessage::Goaway { code, retry_after_ms: 60_000, text: text.clone() }, &mut bytes);
    let read = link::decode(&bytes).unwrap();
    assert_eq!(read, LinkMessage::Goaway { code, retry_after_ms: 60_000, text });
}

/// The message with fields that only a later release knows, as that release would send it.
fn with_later_fields(bytes: &[u8], later: &[u8]) -> Vec<u8> {
    let mut bytes = [bytes, later].concat();
    let len = u32::try_from(bytes.len() - 4).unwrap();
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..5]), &bytes[link::ENVELOPE_BYTES..]);
    bytes[5..9].copy_from_slice(&crc.to_le_bytes());
    bytes
}

#[test]
fn later_fields_of_link_control_messages_are_ignored() {
    let mut count = 0;
    for (name, value) in samples() {
        let Value::Link(message) = value else { continue };
        if matches!(message, LinkMessage::Feed { .. }) {
            continue;
        }
        let mut bytes = Vec::new();
        link::encode(&message, &mut bytes);
        let room = 4 + LINK_CONTROL_BYTES_MAX - bytes.len();
        for later in [&[0][..], &[0xFF; 17], &vec![7; room]] {
            let bytes = with_later_fields(&bytes, later);
            assert_eq!(link::message_len(&bytes), Ok(Some(bytes.len())), "{name}");
            assert_eq!(link::decode(&bytes).as_ref(), Ok(&message), "{name}");
        }
        count += 1;
    }
    assert!(count >= 9, "{count} kinds");
}

#[test]
fn later_fields_of_hello_and_welcome_are_ignored() {
    for (name, value) in samples() {
        let mut bytes = Vec::new();
        match value {
            Value::Device(message) if name.contains("hello") => {
                binary::encode_client(&message, &mut bytes);
                if matches!(message, ClientMessage::Hello(hello) if hello.features == Features::NONE) {
                    // Behind a field that this release knows, and need not be there.
                    bytes.extend(0_u32.to_le_bytes());
                }
                bytes.extend(b"later");
                assert_eq!(binary::decode_client(&bytes), Ok(message));
            }
            Value::Server(message) if name.contains("welcome") => {
                binary::encode_server(&message, &mut bytes);
                bytes.extend(b"later");
                assert_eq!(binary::decode_server(&bytes), Ok(message));
            }
            _ => {}
        }
    }
}

#[test]
fn later_members_of_json_messages_are_ignored() {
    let later = |text: &str| text.replacen('{', r#"{"later":[{"type":"x","seq":"y"}],"#, 1);
    for (_, value) in samples() {
        match value {
            Value::Device(message) => {
                let text = later(&json::encode_client(&message).unwrap());
                let mut scratch = Vec::new();
                assert_eq!(json::decode_client(&text, &mut scratch, FRAME_BYTES_MAX), Ok(message));
            }
            Value::Server(message) => {
                assert_eq!(json::decode_server(&later(&json::encode_server(&message))), Ok(message));
            }
            _ => {}
        }
    }
}

#[test]
fn a_close_code_of_a_later_release_is_obeyed_by_its_range() {
    assert!(CloseCode::ALL.iter().all(|code| ![4050, 4150, 4250, 4350, 4450].contains(&code.code())));
    assert_eq!(advice(Some((4050, "later"))), Advice::Reconnect);
    assert_eq!(advice(Some((4150, "later retry_after_ms=7000 text"))), Advice::ReconnectAfter(7_000));
    assert_eq!(advice(Some((4250, ""))), Advice::NewEpoch);
    assert_eq!(advice(Some((4350, ""))), Advice::Stop);
    assert_eq!(advice(Some((4450, ""))), Advice::Stop);
    assert_eq!(LinkCode(999).name(), "unknown");
}
