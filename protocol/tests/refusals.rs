//! What the binary decoders refuse, each with the words that name the fault.
//!
//! 1. Frames that break the rules of their fields.
//! 2. Device messages out of range.
//! 3. Batches with a correct checksum whose directory does not hold together: a feeder's fault, not a damaged byte.
//! 4. Link messages over their limits.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Value, build, from_hex, position, samples, to_hex};
use trough_protocol::batch::{Batch, BatchBuilder, HEADER_BYTES};
use trough_protocol::device::binary;
use trough_protocol::frame::{FRAME_BYTES_MIN, FrameRef, OVERHEAD_BYTES_MAX, check_frames};
use trough_protocol::limits::{
    BATCH_BYTES_MAX, BATCH_RUNS_MAX, FRAME_BYTES_MAX, INT_MAX, LINK_CONTROL_BYTES_MAX, LINK_MESSAGE_BYTES_MAX,
};
use trough_protocol::link::{self, LinkCode, LinkMessage};
use trough_protocol::wire::{WireError, cut_text};
use trough_protocol::{ContentType, DeviceId, Epoch, Seq};

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, impl ToString>, words: &str) {
    let error = result.expect_err(words).to_string();
    assert!(error.contains(words), "{error}\n  without: {words}");
}

fn frame_bytes(ts: u64, channel: &[u8], code: u8, rest: &[u8]) -> Vec<u8> {
    let mut body = ts.to_le_bytes().to_vec();
    body.extend([u8::try_from(channel.len()).unwrap(), code]);
    body.extend(channel);
    body.extend(rest);
    [&u32::try_from(body.len()).unwrap().to_le_bytes(), &body[..]].concat()
}

#[test]
fn frames_that_break_a_rule() {
    let check = |bytes: &[u8]| check_frames(bytes, 8);
    assert_eq!(check(&frame_bytes(1, b"c", 0, b"12345678")).unwrap().count, 1);
    refused(check(b""), "truncated: frame length needs 4 bytes and 0 are left");
    refused(check(&frame_bytes(0, b"c", 0, b"")), "ts (µs since 1970) 0 is out of range");
    refused(check(&frame_bytes(INT_MAX + 1, b"c", 0, b"")), "is out of range: use 1 to");
    refused(check(&frame_bytes(1, b"", 0, b"")), "channel \"\" is not valid");
    refused(check(&frame_bytes(1, b"a b", 0, b"")), "channel \"a b\" is not valid");
    refused(check(&frame_bytes(1, &[b'x'; 65], 0, b"")), "use 1 to 64");
    refused(
        check(&frame_bytes(1, b"c", 3, b"")),
        "content type 3 is not supported by this release, which knows 0",
    );
    refused(check(&frame_bytes(1, b"c", 128, b"")), "content type 128 is not supported");
    refused(check(&frame_bytes(1, b"c", 130, b"x")), "truncated: content type needs 2 bytes and 1 are left");
    refused(check(&frame_bytes(1, b"c", 130, b" x")), "content type \" x\" is not valid");
    refused(check(&frame_bytes(1, b"c", 130, "ä".as_bytes())), "content type \"ä\" is not valid");
    refused(check(&frame_bytes(1, b"c", 0, b"123456789")), "frame payload is 9, over the limit of 8");
    refused(check(&u32::MAX.to_le_bytes()), "over the limit of 8");
    refused(check(&200_u32.to_le_bytes()), "truncated: frame needs 200 bytes and 0 are left");
    let short = [&9_u32.to_le_bytes()[..], &1_u64.to_le_bytes(), &[1]].concat();
    refused(check(&short), "truncated: content type needs 1 bytes and 0 are left");
}

#[test]
fn a_refused_frame_stays_at_the_front() {
    let bytes = frame_bytes(1, b"c", 0, b"123456789");
    let mut rest = &bytes[..];
    assert!(FrameRef::decode(&mut rest, 8).is_err());
    assert_eq!(rest, &bytes[..]);
}

#[test]
fn a_frame_has_one_encoding() {
    let mut as_code = Vec::new();
    position().encode(&mut as_code).unwrap();
    let mut as_name = Vec::new();
    let named = FrameRef { content_type: ContentType::Other("application/json"), ..position() };
    named.encode(&mut as_name).unwrap();
    assert_eq!(to_hex(&as_name), to_hex(&as_code));
    assert_eq!(named.encoded_len(), as_name.len());
    // Another implementation may write the name; it means the same.
    let foreign = frame_bytes(1, b"c", 128 + 16, b"application/jsonX");
    let frame = FrameRef::decode(&mut &foreign[..], 8).unwrap();
    assert_eq!((frame.content_type, frame.payload), (ContentType::Json, &b"X"[..]));
}

#[test]
fn a_frame_that_cannot_be_written_leaves_no_trace() {
    let big = vec![0; FRAME_BYTES_MAX + 1];
    let bad = [
        FrameRef { ts: 0, ..position() },
        FrameRef { ts: INT_MAX + 1, ..position() },
        FrameRef { channel: "a b", ..position() },
        FrameRef { content_type: ContentType::Other(""), ..position() },
        FrameRef { content_type: ContentType::Other("a\nb"), ..position() },
        FrameRef { payload: &big, ..position() },
    ];
    for frame in bad {
        let mut out = vec![7];
        assert!(frame.encode(&mut out).is_err());
        assert_eq!(out, [7]);
    }
    let most = FrameRef {
        ts: 1,
        channel: &"c".repeat(64),
        content_type: ContentType::Other(&"t".repeat(127)),
        payload: b"",
    };
    assert_eq!(most.encoded_len(), OVERHEAD_BYTES_MAX);
    let least = FrameRef { ts: 1, channel: "c", content_type: ContentType::Bytes, payload: b"" };
    assert_eq!(least.encoded_len(), FRAME_BYTES_MIN);
}

#[test]
fn device_messages_out_of_range() {
    let client = |hex: &str| binary::decode_client(from_hex(hex).leak());
    let zero = "00".repeat(8);
    let one = "0100000000000000";
    let above = "0000000000002000";
    refused(client(""), "truncated: message type");
    refused(client("06"), "message type 6 is not supported by this release, which knows 1 (hello)");
    refused(client("81"), "message type 129 is not supported");
    refused(client(&format!("01{zero}{zero}{one}{zero}")), "hello.oldest 0 is out of range");
    refused(client(&format!("01{above}{one}{one}{zero}")), "hello.epoch 9007199254740992 is out of range");
    refused(client(&format!("01{zero}{one}{one}{one}")), "hello.ack is 1: it must be below next");
    refused(client(&format!("02{zero}")), "first seq 0 is out of range");
    refused(
        client(&format!("0302000000000000 00{one}00").replace(' ', "")),
        "skip.last 1 is out of range: use 2",
    );
    refused(client(&format!("03{one}{one}0000")), "1 bytes follow the end of skip");
    refused(client(&format!("04{zero}")), "rewind.seq 0 is out of range");
    refused(client(&format!("04{one}00")), "1 bytes follow the end of rewind");
    let id = "11".repeat(16);
    refused(client(&format!("05{id}02")), "command_result.status 2 is not supported");
    refused(client(&format!("05{id}00000110")), "command result is 4097, over the limit of 4096");
    refused(client(&format!("05{id}00030000")), "content type 3 is not supported");
    refused(client(&format!("05{id}00000200aa")), "truncated: payload needs 2 bytes and 1 are left");
    refused(client(&format!("05{id}00000000aa")), "1 bytes follow the end of command result");
    let server = |hex: &str| binary::decode_server(&from_hex(hex));
    refused(server(&format!("84{id}{above}000000")), "command.expires 9007199254740992 is out of range");
    refused(server(&format!("84{id}{one}000140")), "command is 16385, over the limit of 16384");
    refused(server(&format!("84{id}{one}00000011")), "1 bytes follow the end of command");
    refused(server("01"), "message type 1 is not supported by this release, which knows 129 (welcome)");
    refused(server(&format!("82{above}")), "ack.seq 9007199254740992 is out of range");
    refused(server(&format!("83{zero}")), "rewind.seq 0 is out of range: use 1");
    refused(server(&format!("82{one}00")), "1 bytes follow the end of ack");
}

/// Where the fields of the first run stand, with a device id of one byte.
const EPOCH_AT: usize = HEADER_BYTES + 3;
const FIRST_AT: usize = EPOCH_AT + 8;
const COUNT_AT: usize = FIRST_AT + 8;
const MIN_TS_AT: usize = COUNT_AT + 8;
const MAX_TS_AT: usize = MIN_TS_AT + 8;
const LEN_AT: usize = MAX_TS_AT + 8;
const RUN_END: usize = LEN_AT + 8;

/// A batch of one run of device `d`, in which `bytes` stand at `at`, with the checksum made good.
fn forged(kind: u8, edits: &[(usize, &[u8])]) -> Result<u32, WireError> {
    let mut builder = BatchBuilder::new();
    let device = DeviceId::new("d").unwrap();
    if kind == 0 {
        let data = common::encoded(&[FrameRef {
            ts: 5,
            channel: "c",
            content_type: ContentType::Bytes,
            payload: b"",
        }]);
        builder.push_frames(&device, Epoch(1), Seq(1), check_frames(data, 8).unwrap(), data);
    } else {
        builder.push_skip(&device, Epoch(1), Seq(1), 3, 1);
    }
    let (head, data) = builder.finish();
    let (mut head, data) = (head.to_vec(), data.to_vec());
    for (at, bytes) in edits {
        head[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    let crc = crc32c::crc32c_append(crc32c::crc32c(&head[..20]), &head[HEADER_BYTES..RUN_END]);
    head[20..24].copy_from_slice(&crc.to_le_bytes());
    Batch::check(&[head, data].concat()).map(|batch| batch.run_count())
}

#[test]
fn batches_that_do_not_hold_together() {
    let le = |value: u64| value.to_le_bytes();
    assert_eq!(forged(0, &[]), Ok(1));
    assert_eq!(forged(1, &[]), Ok(1));
    assert_eq!(forged(0, &[(7, &[0xFF])]), Ok(1), "flags that are not critical are ignored");
    refused(forged(0, &[(0, b"X")]), "not a batch: the first bytes are [58, 52, 42, 41]");
    refused(forged(0, &[(4, &[2])]), "batch version 2 is not supported by this release, which knows 1");
    refused(forged(0, &[(5, &[1])]), "batch codec 1 is not supported");
    refused(forged(0, &[(6, &[1])]), "batch critical flags 1 is not supported");
    refused(forged(0, &[(8, &[0])]), "number of runs is 0: a batch has at least one");
    refused(forged(0, &[(8, &[2])]), "truncated: run kind");
    let runs = u32::try_from(BATCH_RUNS_MAX + 1).unwrap().to_le_bytes();
    refused(forged(0, &[(8, &runs)]), "number of runs is 16385, over the limit of 16384");
    refused(forged(0, &[(16, &u32::MAX.to_le_bytes())]), "over the limit of 4194304");
    refused(forged(0, &[(HEADER_BYTES, &[2])]), "run kind 2 is not supported");
    refused(forged(0, &[(HEADER_BYTES + 1, &[0])]), "device id \"\" is not valid");
    refused(forged(0, &[(HEADER_BYTES + 2, b"/")]), "device id \"/\" is not valid");
    refused(forged(0, &[(EPOCH_AT, &le(0))]), "epoch 0 is out of range");
    refused(forged(0, &[(FIRST_AT, &le(0))]), "first seq 0 is out of range");
    refused(forged(0, &[(COUNT_AT, &le(0))]), "count 0 is out of range");
    refused(forged(0, &[(COUNT_AT, &le(2))]), "count is 2: the run's data is too short for so many frames");
    refused(forged(1, &[(FIRST_AT, &le(INT_MAX))]), "last seq 9007199254740993 is out of range");
    refused(forged(1, &[(COUNT_AT, &le(INT_MAX + 1))]), "count 9007199254740992 is out of range");
    refused(forged(0, &[(MIN_TS_AT, &le(6))]), "lowest ts is 6: it must not be above the highest ts");
    refused(forged(0, &[(MIN_TS_AT, &le(0))]), "lowest ts is 0: frames have a ts of 1 at least");
    refused(forged(1, &[(MAX_TS_AT, &le(1))]), "highest ts is 1: it must be 0 in a skip");
    refused(forged(1, &[(HEADER_BYTES, &[0])]), "lowest ts is 0: frames have a ts");
    refused(forged(0, &[(HEADER_BYTES, &[1])]), "highest ts is 5: it must be 0 in a skip");
    refused(forged(0, &[(LEN_AT, &14_u32.to_le_bytes())]), "the run's data is too short");
    refused(forged(0, &[(LEN_AT, &u32::MAX.to_le_bytes())]), "truncated: run data needs 4294967295 bytes");
    refused(forged(0, &[(LEN_AT + 4, &[0; 4])]), "run data is damaged: checksum 00000000");
    refused(forged(1, &[(LEN_AT, &2_u32.to_le_bytes())]), "a skip has one, the reason");
}

#[test]
fn an_empty_batch_is_none() {
    let mut builder = BatchBuilder::new();
    assert!(builder.is_empty());
    let bytes = {
        let (head, data) = builder.finish();
        [head, data].concat()
    };
    refused(Batch::check(&bytes), "a batch has at least one");
    refused(Batch::peek_len(&bytes), "a batch has at least one");
}

#[test]
fn a_builder_is_full_at_the_limits() {
    let device = DeviceId::new("d").unwrap();
    let mut builder = BatchBuilder::new();
    let most = BATCH_BYTES_MAX - HEADER_BYTES - 51;
    assert!(builder.fits(&device, most) && !builder.fits(&device, most + 1));
    while builder.fits(&device, 1) {
        builder.push_skip(&device, Epoch(1), Seq(1), 1, 0);
    }
    let bytes = {
        let (head, data) = builder.finish();
        [head, data].concat()
    };
    assert_eq!(bytes.len(), builder.len());
    assert_eq!(Batch::check(&bytes).unwrap().run_count() as usize, BATCH_RUNS_MAX);
    builder.clear(0);
    assert!(builder.is_empty() && builder.len() == HEADER_BYTES);
    let frame = FrameRef { payload: &vec![1; FRAME_BYTES_MAX], ..position() };
    let data = common::encoded(&[frame, frame, frame]);
    builder.push_frames(&device, Epoch(1), Seq(1), check_frames(data, FRAME_BYTES_MAX).unwrap(), data);
    let bytes = {
        let (head, data) = builder.finish();
        [head, data].concat()
    };
    assert_eq!(Batch::check(&bytes).unwrap().runs().next().unwrap().last(), Seq(3));
    assert_eq!(
        link::feed_header(1, BATCH_BYTES_MAX).len() - 4 + BATCH_BYTES_MAX,
        LINK_MESSAGE_BYTES_MAX - 51
    );
}

#[test]
fn a_run_ends_within_the_numbers() {
    assert_eq!(Seq(1).last_of(1), Ok(Seq(1)));
    assert_eq!(Seq(INT_MAX - 1).last_of(2), Ok(Seq(INT_MAX)));
    refused(Seq(INT_MAX).last_of(2), "last seq 9007199254740992 is out of range");
    refused(Seq(INT_MAX).last_of(u64::MAX), "last seq 18446744073709551615 is out of range");
}

fn link_bytes(kind: u8, len: u32) -> [u8; 5] {
    let [a, b, c, d] = len.to_le_bytes();
    [a, b, c, d, kind]
}

#[test]
fn link_messages_over_their_limits() {
    let control = u32::try_from(LINK_CONTROL_BYTES_MAX).unwrap();
    let feed = u32::try_from(LINK_MESSAGE_BYTES_MAX).unwrap();
    assert_eq!(link::message_len(&[]), Ok(None));
    assert_eq!(link::message_len(&feed.to_le_bytes()), Ok(None), "its type decides");
    assert_eq!(link::message_len(&link_bytes(3, feed)), Ok(Some(4 + LINK_MESSAGE_BYTES_MAX)));
    assert_eq!(link::message_len(&link_bytes(6, control)), Ok(Some(4 + LINK_CONTROL_BYTES_MAX)));
    refused(
        link::message_len(&link_bytes(6, control + 1)),
        "link message bytes is 1025, over the limit of 1024",
    );
    refused(link::message_len(&link_bytes(99, control + 1)), "over the limit of 1024");
    refused(link::message_len(&(feed + 1).to_le_bytes()), "over the limit of 4194368");
    refused(link::message_len(&4_u32.to_le_bytes()), "link message bytes is 4: 5 at least");
    refused(link::decode(b""), "truncated: link message length");
    let ping = |extra: &[u8]| {
        let mut bytes = Vec::new();
        link::encode(&LinkMessage::Ping { nonce: 1 }, &mut bytes);
        bytes.extend(extra);
        link::decode(bytes.leak())
    };
    refused(ping(b"xy"), "2 bytes follow the end of link message");
}

#[test]
fn texts_are_cut_where_their_length_byte_ends() {
    let text = "ä".repeat(200);
    assert_eq!(cut_text(&text, 1000).len(), 254, "at a character's boundary");
    let mut bytes = Vec::new();
    let code = LinkCode::STORAGE;
    link::encode(&LinkMessage::Goaway { code, retry_after_ms: 1, text: text.clone() }, &mut bytes);
    let LinkMessage::Goaway { text: read, .. } = link::decode(&bytes).unwrap() else { panic!() };
    assert_eq!(read, text[..254]);
}

#[test]
fn device_ids_are_never_cut() {
    for (_, value) in samples() {
        let Value::Batch(runs) = value else { continue };
        let bytes = build(&runs);
        let read: Vec<_> = Batch::check(&bytes).unwrap().runs().map(|run| run.device.to_owned()).collect();
        assert_eq!(read, runs.iter().map(|run| run.device).collect::<Vec<_>>());
    }
    assert_eq!(common::LONGEST_DEVICE.len(), trough_protocol::limits::DEVICE_ID_BYTES_MAX);
    let device = common::LONGEST_DEVICE;
    let mut bytes = Vec::new();
    link::encode(&LinkMessage::Locate { query: 1, epoch: Epoch(1), device }, &mut bytes);
    assert_eq!(link::decode(&bytes), Ok(LinkMessage::Locate { query: 1, epoch: Epoch(1), device }));
}
