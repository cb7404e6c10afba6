//! What holds for every value and every damage, not only for the samples.
//!
//! 1. What is encoded is decoded to the same value, in every form.
//! 2. Every truncation of a message is an error.
//! 3. Every flipped bit of a batch, and of a link message with its batch, is an error.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use common::{RunContent, RunValue, Value, build, samples};
use trough_protocol::batch::{Batch, RunKind};
use trough_protocol::close::{self, Advice, CloseCode};
use trough_protocol::device::{
    ClientMessage, Command, CommandId, CommandResult, CommandStatus, Features, Hello, ServerMessage, Skip,
    SkipReason, Welcome, binary, json,
};
use trough_protocol::frame::{FrameRef, check_frames, frames};
use trough_protocol::limits::{CLOSE_REASON_BYTES_MAX, FRAME_BYTES_MAX, INT_MAX};
use trough_protocol::link::{self, LinkCode, LinkMessage, Versions};
use trough_protocol::{ContentType, Epoch, LinkId, Micros, Seq};

#[derive(Debug, Clone)]
struct OwnedFrame {
    ts: Micros,
    channel: String,
    content_type: String,
    payload: Vec<u8>,
}

impl OwnedFrame {
    fn borrow(&self) -> FrameRef<'_> {
        FrameRef {
            ts: self.ts,
            channel: &self.channel,
            content_type: ContentType::parse(&self.content_type).unwrap(),
            payload: &self.payload,
        }
    }
}

/// Integers of every size, the ends of the range included.
fn int(min: u64) -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(min),
        Just(INT_MAX),
        min..=300,
        (0..53_u32).prop_map(move |b| (1 << b).max(min)),
        min..=INT_MAX
    ]
}

fn content_type() -> impl Strategy<Value = String> {
    let coded = select(vec!["application/octet-stream", "application/json", "text/plain; charset=utf-8"]);
    prop_oneof![3 => coded.prop_map(str::to_owned), 1 => "[!-~]([ -~]{0,125}[!-~])?"]
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..200),
        ".{0,40}".prop_map(String::into_bytes),
        r#"[\[\]{}:,"0-9a-e\\u \n]{0,30}"#.prop_map(String::into_bytes),
        r#"\{"[a-z"\\é]{1,8}": ?-?[1-9]\.[0-9]{1,3}\}"#.prop_map(String::into_bytes),
    ]
}

prop_compose! {
    fn frame()(
        ts in int(1),
        channel in "[A-Za-z0-9._:~+@=/-]{1,64}",
        content_type in content_type(),
        payload in payload(),
    ) -> OwnedFrame {
        OwnedFrame { ts, channel, content_type, payload }
    }
}

fn encode_frames(frames: &[OwnedFrame]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in frames {
        frame.borrow().encode(&mut bytes).unwrap();
    }
    bytes
}

/// A device's message; the frames of `data`, if it is one with frames.
fn device_message<'a>(data: &'a [u8], seed: (u8, u64, u64, u64, u64, u8), json: bool) -> ClientMessage<'a> {
    let (kind, a, b, c, d, reason) = seed;
    let (low, high) = (a.min(b).max(1), a.max(b).max(1));
    match kind % 5 {
        0 => ClientMessage::Hello(Hello {
            epoch: Epoch(c),
            oldest: Seq(low),
            next: Seq(high),
            acked: Seq(d % high),
            // JSON has names for the features that this release knows.
            features: Features(if json { u32::from(reason) % 2 } else { c as u32 }),
        }),
        1 => ClientMessage::Frames { first: Seq(low.min(INT_MAX - 1000)), data },
        2 => {
            // JSON has names for the reasons that this release knows.
            let reason = SkipReason(if json { reason % 4 } else { reason });
            ClientMessage::Skip(Skip { first: Seq(low), last: Seq(high), reason })
        }
        3 => {
            let content_type =
                [ContentType::Bytes, ContentType::Json, ContentType::Text, ContentType::Other("a/b")]
                    [usize::from(reason) % 4];
            let status = CommandStatus::of_number(reason >> 7).unwrap();
            let payload = &data[..data.len().min(4096).min(c as usize)];
            ClientMessage::CommandResult(CommandResult {
                id: CommandId([reason; 16]),
                status,
                content_type,
                payload,
            })
        }
        _ => ClientMessage::Rewind(Seq(high)),
    }
}

fn server_message(seed: (u8, u64, u64, u64, [u8; 16])) -> ServerMessage {
    let (kind, a, b, c, session) = seed;
    match kind % 4 {
        0 => ServerMessage::Welcome(Welcome {
            epoch: Epoch(a),
            resume: Seq(b),
            time: c,
            window_bytes: a as u32,
            frame_bytes_max: b as u32,
            message_bytes_max: c as u32,
            session,
        }),
        1 => ServerMessage::Ack(Seq(a - 1)),
        2 => ServerMessage::Command(Box::new(Command {
            id: CommandId(session),
            expires: b,
            content_type: ["application/json", "text/plain; charset=utf-8", "a/b"][a as usize % 3].into(),
            payload: session[..(c as usize) % 17].to_vec(),
        })),
        _ => ServerMessage::Rewind(Seq(a)),
    }
}

fn runs() -> impl Strategy<Value = Vec<RunValue>> {
    let device = select(vec!["d", "bus-2034", common::LONGEST_DEVICE]);
    let content = prop_oneof![
        vec(frame(), 1..4).prop_map(|frames| RunContent::Frames(encode_frames(&frames))),
        (int(1), any::<u8>()).prop_map(|(count, reason)| RunContent::Skip { count, reason }),
    ];
    let run = (device, int(1), int(1), content).prop_map(|(device, epoch, first, content)| {
        let count = match &content {
            RunContent::Frames(data) => frames(data).count() as u64,
            RunContent::Skip { count, .. } => *count,
        };
        RunValue { device, epoch: Epoch(epoch), first: Seq(first.min(INT_MAX - (count - 1)).max(1)), content }
    });
    vec(run, 1..5)
}

fn link_message<'a>(seed: (u8, u64, u32, u16, u16, [u8; 16], &'a str), batch: &'a [u8]) -> LinkMessage<'a> {
    let (kind, number, small, low, high, id, text) = seed;
    let text = text.to_owned();
    match kind % 12 {
        0 => LinkMessage::Hello {
            versions: Versions { min: low, max: high },
            feeder: LinkId(id),
            software: text,
            challenge: (small % 2 == 0).then_some([kind; 32]),
        },
        1 => LinkMessage::Welcome { version: low, eater: LinkId(id), credit: number, software: text },
        2 => LinkMessage::Feed { number, batch },
        3 => LinkMessage::Ate { number },
        4 => LinkMessage::Reject { number, code: LinkCode(low), text },
        5 => LinkMessage::Ping { nonce: number },
        6 => LinkMessage::Pong { nonce: number },
        7 => LinkMessage::Goaway { code: LinkCode(low), retry_after_ms: small, text },
        8 => LinkMessage::Locate { query: small, epoch: Epoch(number.clamp(1, INT_MAX)), device: "bus-2034" },
        9 => LinkMessage::Challenge { eater: LinkId(id), challenge: [kind; 32], proof: [!kind; 32] },
        10 => LinkMessage::Proof { proof: [kind; 32] },
        _ => LinkMessage::Head { query: small, seq: Seq(number.min(INT_MAX)) },
    }
}

/// Reads a link message as an eater does: envelope, and the batch of a FEED.
fn read_link(bytes: &[u8]) -> Result<(), String> {
    match link::message_len(bytes).map_err(|error| error.to_string())? {
        Some(len) if len <= bytes.len() => {
            let message = link::decode(&bytes[..len]).map_err(|error| error.to_string())?;
            if let LinkMessage::Feed { batch, .. } = message {
                Batch::check(batch).map_err(|error| error.to_string())?;
            }
            Ok(())
        }
        _ => Err("more bytes are due".into()),
    }
}

proptest! {
    // Each case flips or cuts thousands of times.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn frames_come_back(given in vec(frame(), 1..6)) {
        let bytes = encode_frames(&given);
        let read: Vec<_> = frames(&bytes).collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(&read, &given.iter().map(OwnedFrame::borrow).collect::<Vec<_>>());
        prop_assert_eq!(bytes.len(), read.iter().map(FrameRef::encoded_len).sum::<usize>());
        let summary = check_frames(&bytes, 200).unwrap();
        prop_assert_eq!(summary.count, given.len() as u64);
        prop_assert_eq!(Some(summary.min_ts), given.iter().map(|frame| frame.ts).min());
        prop_assert_eq!(Some(summary.max_ts), given.iter().map(|frame| frame.ts).max());
    }

    #[test]
    fn device_messages_come_back(
        given in vec(frame(), 1..4),
        seed in (any::<u8>(), int(0), int(0), int(0), int(0), any::<u8>()),
    ) {
        let data = encode_frames(&given);
        let message = device_message(&data, seed, false);
        let mut bytes = Vec::new();
        binary::encode_client(&message, &mut bytes);
        prop_assert_eq!(binary::decode_client(&bytes).unwrap(), message);
        let message = device_message(&data, seed, true);
        let text = json::encode_client(&message).unwrap();
        let mut scratch = vec![1, 2, 3];
        prop_assert_eq!(json::decode_client(&text, &mut scratch, 200).unwrap(), message, "{}", text);
    }

    #[test]
    fn server_messages_come_back(seed in (any::<u8>(), int(1), int(1), int(1), any::<[u8; 16]>())) {
        let message = server_message(seed);
        let mut bytes = Vec::new();
        binary::encode_server(&message, &mut bytes);
        prop_assert_eq!(&binary::decode_server(&bytes).unwrap(), &message);
        prop_assert_eq!(&json::decode_server(&json::encode_server(&message)).unwrap(), &message);
        for end in 0..bytes.len() {
            prop_assert!(binary::decode_server(&bytes[..end]).is_err());
        }
    }

    #[test]
    fn batches_come_back(given in runs()) {
        let bytes = build(&given);
        let batch = Batch::check(&bytes).unwrap();
        prop_assert_eq!(Batch::peek_len(&bytes[..24]), Ok(bytes.len()));
        prop_assert_eq!(batch.run_count() as usize, given.len());
        for (run, value) in batch.runs().zip(&given) {
            prop_assert_eq!((run.device, run.epoch, run.first), (value.device, value.epoch, value.first));
            match &value.content {
                RunContent::Frames(data) => {
                    prop_assert_eq!(run.kind, RunKind::Frames);
                    let summary = check_frames(data, FRAME_BYTES_MAX).unwrap();
                    prop_assert_eq!((run.min_ts, run.max_ts), (summary.min_ts, summary.max_ts));
                    prop_assert_eq!((run.count, batch.data(&run)), (summary.count, &data[..]));
                }
                RunContent::Skip { count, reason } => {
                    prop_assert_eq!((run.kind, run.min_ts, run.max_ts), (RunKind::Skip, 0, 0));
                    prop_assert_eq!((run.count, batch.data(&run)), (*count, &[*reason][..]));
                }
            }
        }
    }

    #[test]
    fn link_messages_come_back(
        seed in (any::<u8>(), any::<u64>(), any::<u32>(), any::<u16>(), any::<u16>(), any::<[u8; 16]>()),
        text in ".{0,63}",
        runs in runs(),
    ) {
        let batch = build(&runs);
        let (kind, number, small, low, high, id) = seed;
        let message = link_message((kind, number, small, low, high, id, &text), &batch);
        let mut bytes = b"before".to_vec();
        link::encode(&message, &mut bytes);
        let bytes = &bytes[6..];
        prop_assert_eq!(link::message_len(bytes), Ok(Some(bytes.len())));
        prop_assert_eq!(link::decode(bytes).unwrap(), message);
        prop_assert!(read_link(bytes).is_ok());
        // A stream that ends anywhere, and a message that was cut and says so.
        for end in 0..bytes.len() {
            prop_assert!(read_link(&bytes[..end]).is_err());
            let mut cut = bytes[..end].to_vec();
            if let Some(prefix) = cut.first_chunk_mut::<4>() {
                *prefix = u32::try_from(end - 4).unwrap().to_le_bytes();
                prop_assert!(read_link(&cut).is_err(), "cut to {} bytes", end);
            }
        }
    }

    #[test]
    fn a_flipped_bit_of_a_link_message_is_found(
        seed in (any::<u8>(), any::<u64>(), any::<u32>(), any::<u16>(), any::<u16>(), any::<[u8; 16]>()),
        text in ".{0,20}",
        runs in runs(),
    ) {
        let batch = build(&runs);
        let (kind, number, small, low, high, id) = seed;
        let message = link_message((kind, number, small, low, high, id, &text), &batch);
        let mut bytes = Vec::new();
        link::encode(&message, &mut bytes);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(read_link(&bytes).is_err(), "bit {} of {:?}", bit, message);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn damage_to_a_batch_is_found(runs in runs(), seed in any::<u64>()) {
        let mut bytes = build(&runs);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Batch::check(&bytes).is_err(), "bit {}", bit);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for end in 0..bytes.len() {
            prop_assert!(Batch::check(&bytes[..end]).is_err(), "cut to {} bytes", end);
            prop_assert!(Batch::check_directory(&bytes[..end]).is_err(), "cut to {} bytes", end);
        }
        // What looks at the directory alone finds all damage to it, and the run finds its own.
        let data_at = Batch::check(&bytes).unwrap().runs().next().unwrap().offset as usize;
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            match Batch::check_directory(&bytes) {
                Err(_) => prop_assert!(bit / 8 < data_at, "bit {}", bit),
                Ok(batch) => {
                    let damaged = batch.runs().filter(|run| run.check(batch.data(run)).is_err()).count();
                    prop_assert!(bit / 8 >= data_at && damaged == 1, "bit {}", bit);
                }
            }
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        // A burst of damage in one place, as a disk leaves it.
        let at = (seed % bytes.len() as u64) as usize;
        let end = (at + 1 + (seed >> 32) as usize % 512).min(bytes.len());
        let before = bytes[at..end].to_vec();
        bytes[at..end].iter_mut().enumerate().for_each(|(i, b)| *b = (seed >> (i % 64)) as u8);
        prop_assert!(bytes[at..end] == before || Batch::check(&bytes).is_err());
        bytes[at..end].copy_from_slice(&before);
        bytes.push(0);
        prop_assert!(Batch::check(&bytes).is_err(), "a byte too many");
    }

    #[test]
    fn a_close_reason_fits_and_gives_its_delay(
        code in select(CloseCode::ALL),
        delay in proptest::option::of(0..3_600_000_u64),
        text in ".{0,200}",
    ) {
        let reason = close::reason(code, delay, &text);
        prop_assert!(reason.len() <= CLOSE_REASON_BYTES_MAX && reason.starts_with(code.name()));
        let advice = close::advice(Some((code.code(), &reason)));
        if let (Advice::ReconnectAfter(told), Some(delay)) = (advice, delay) {
            prop_assert_eq!(told, delay);
        }
    }
}

#[test]
fn every_truncation_of_a_device_message_is_an_error() {
    for (name, value) in samples() {
        let mut bytes = Vec::new();
        match value {
            Value::Device(message) => {
                binary::encode_client(&message, &mut bytes);
                // A message with frames may end after any frame, so there the frames are checked too.
                let whole = |bytes: &[u8]| match binary::decode_client(bytes) {
                    Ok(ClientMessage::Frames { data, .. }) => {
                        check_frames(data, FRAME_BYTES_MAX).map(|s| s.count)
                    }
                    other => other.map(|_| 0),
                };
                let count = whole(&bytes).unwrap();
                for end in 0..bytes.len() {
                    // A hello may also end before what the device can do besides.
                    let is_older = name == "device/hello-commands" && end == bytes.len() - 4;
                    assert!(
                        whole(&bytes[..end]).is_ok_and(|fewer| fewer < count)
                            || whole(&bytes[..end]).is_err()
                            || is_older
                    );
                }
                let text = json::encode_client(&message).unwrap();
                let ends = (0..text.len()).filter(|end| text.is_char_boundary(*end));
                for end in ends {
                    let mut scratch = Vec::new();
                    let read = json::decode_client(&text[..end], &mut scratch, FRAME_BYTES_MAX);
                    assert!(read.is_err(), "{name} cut to {end} bytes");
                }
            }
            Value::Server(message) => {
                let text = json::encode_server(&message);
                for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
                    assert!(json::decode_server(&text[..end]).is_err(), "{name} cut to {end} bytes");
                }
            }
            Value::Frame(frame) => {
                frame.encode(&mut bytes).unwrap();
                for end in 0..bytes.len() {
                    assert!(
                        check_frames(&bytes[..end], FRAME_BYTES_MAX).is_err(),
                        "{name} cut to {end} bytes"
                    );
                }
            }
            Value::Batch(_) | Value::Link(_) => {}
        }
    }
}
