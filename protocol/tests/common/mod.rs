//! What the tests of the wire formats share: one sample of every message, and hexadecimal digits.
#![allow(dead_code, reason = "each test binary uses its own part")]

use trough_protocol::batch::BatchBuilder;
use trough_protocol::device::{
    ClientMessage, Command, CommandId, CommandResult, CommandStatus, Features, Hello, ServerMessage, Skip,
    SkipReason, Welcome,
};
use trough_protocol::frame::{FrameRef, FramesSummary, check_frames};
use trough_protocol::limits::{FRAME_BYTES_MAX, INT_MAX};
use trough_protocol::link::{LinkCode, LinkKey, LinkMessage, Opening, Side, Versions};
use trough_protocol::{ContentType, DeviceId, Epoch, LinkId, Seq};

/// One value of a wire format.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Frame(FrameRef<'static>),
    Device(ClientMessage<'static>),
    Server(ServerMessage),
    Batch(Vec<RunValue>),
    Link(LinkMessage<'static>),
}

/// One run of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct RunValue {
    pub device: &'static str,
    pub epoch: Epoch,
    pub first: Seq,
    pub content: RunContent,
}

#[derive(Debug, Clone, PartialEq)]
pub enum RunContent {
    Frames(Vec<u8>),
    Skip { count: u64, reason: u8 },
}

/// 2017-03-21T05:00:02Z, a moment of the demo's data.
pub const TS: u64 = 1_490_072_402_000_000;

pub fn frame(
    channel: &'static str,
    content_type: ContentType<'static>,
    payload: &'static [u8],
) -> FrameRef<'static> {
    FrameRef { ts: TS, channel, content_type, payload }
}

/// The encoded frames, for as long as the test runs.
pub fn encoded(frames: &[FrameRef<'_>]) -> &'static [u8] {
    let mut bytes = Vec::new();
    for frame in frames {
        frame.encode(&mut bytes).expect("a sample is valid");
    }
    bytes.leak()
}

pub fn position() -> FrameRef<'static> {
    frame("position", ContentType::Json, br#"{"lat":30.41,"lon":-97.68}"#)
}

fn bytes_frame() -> FrameRef<'static> {
    frame("raw/nmea:1", ContentType::Bytes, &[0, 1, 0x7F, 0x80, 0xFF])
}

fn text_frame() -> FrameRef<'static> {
    frame("log", ContentType::Text, "Tür offen 🚪".as_bytes())
}

fn csv_frame() -> FrameRef<'static> {
    frame("t", ContentType::Other("text/csv; header=absent"), b"1,2\r\n")
}

fn empty_frame() -> FrameRef<'static> {
    FrameRef { ts: 1, channel: "x", content_type: ContentType::Bytes, payload: b"" }
}

fn latest_frame() -> FrameRef<'static> {
    FrameRef { ts: INT_MAX, channel: "A.b_c-d:e~f+g@h=i/0", content_type: ContentType::Text, payload: b"\n" }
}

fn all_frames() -> &'static [u8] {
    encoded(&[position(), bytes_frame(), text_frame(), csv_frame(), empty_frame(), latest_frame()])
}

fn session() -> [u8; 16] {
    [0, 17, 34, 51, 68, 85, 102, 119, 136, 153, 170, 187, 204, 221, 238, 255]
}

fn command_id() -> CommandId {
    CommandId::new(TS, *b"\x00\x11\x22\x33\x44\x55\x66\x77")
}

fn frames_run(device: &'static str, epoch: u64, first: u64, data: &[u8]) -> RunValue {
    RunValue { device, epoch: Epoch(epoch), first: Seq(first), content: RunContent::Frames(data.to_vec()) }
}

fn skip_run(device: &'static str, epoch: u64, first: u64, count: u64, reason: u8) -> RunValue {
    RunValue { device, epoch: Epoch(epoch), first: Seq(first), content: RunContent::Skip { count, reason } }
}

/// The longest device id, with every kind of character.
pub const LONGEST_DEVICE: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ.abcdefghijklmnopqrstuvwxyz_01-:~+@=89";

/// One sample of every message of every kind, with its name in the golden files.
pub fn samples() -> Vec<(&'static str, Value)> {
    let mut samples = frame_samples();
    samples.extend(device_samples());
    samples.extend(server_samples());
    samples.extend(batch_samples());
    samples.extend(link_samples());
    samples
}

fn frame_samples() -> Vec<(&'static str, Value)> {
    vec![
        ("frame/json", Value::Frame(position())),
        ("frame/bytes", Value::Frame(bytes_frame())),
        ("frame/text", Value::Frame(text_frame())),
        ("frame/media-type", Value::Frame(csv_frame())),
        ("frame/smallest", Value::Frame(empty_frame())),
        ("frame/latest-ts", Value::Frame(latest_frame())),
        ("frame/json-null", Value::Frame(frame("n", ContentType::Json, b"null"))),
        ("frame/json-that-is-none", Value::Frame(frame("n", ContentType::Json, b"{"))),
        ("frame/text-that-is-none", Value::Frame(frame("n", ContentType::Text, b"\xFF"))),
    ]
}

fn device_samples() -> Vec<(&'static str, Value)> {
    use ClientMessage as C;
    let hello = |epoch, oldest, next, acked| {
        let (epoch, oldest, next, acked) = (Epoch(epoch), Seq(oldest), Seq(next), Seq(acked));
        C::Hello(Hello { epoch, oldest, next, acked, features: Features::NONE })
    };
    let result = |status, content_type, payload| {
        C::CommandResult(CommandResult { id: command_id(), status, content_type, payload })
    };
    let skip = |first, last, reason| C::Skip(Skip { first: Seq(first), last: Seq(last), reason });
    let messages = [
        ("device/hello-new", C::Hello(Hello::NEW)),
        ("device/hello-resume", hello(7, 1001, 1065, 1000)),
        ("device/hello-highest", hello(INT_MAX, INT_MAX, INT_MAX, INT_MAX - 1)),
        ("device/frames-one", C::Frames { first: Seq(1), data: encoded(&[position()]) }),
        ("device/frames-all-kinds", C::Frames { first: Seq(1001), data: all_frames() }),
        ("device/skip-one", skip(5, 5, SkipReason(0))),
        ("device/skip-overflow", skip(3, 9, SkipReason::OVERFLOW)),
        ("device/skip-storage-lost", skip(1, 1_000_000, SkipReason::STORAGE_LOST)),
        ("device/skip-discarded", skip(1, INT_MAX, SkipReason::DISCARDED)),
        ("device/rewind", C::Rewind(Seq(43))),
        ("device/hello-commands", C::Hello(Hello { features: Features::COMMANDS, ..Hello::NEW })),
        ("device/result-empty", result(CommandStatus::Done, ContentType::Bytes, b"")),
        ("device/result-json", result(CommandStatus::Done, ContentType::Json, br#"{"took":3}"#)),
        ("device/result-rejected", result(CommandStatus::Rejected, ContentType::Text, b"too hot")),
        ("device/result-type", result(CommandStatus::Done, ContentType::Other("text/csv"), b"1\n")),
    ];
    messages.map(|(name, message)| (name, Value::Device(message))).into()
}

fn server_samples() -> Vec<(&'static str, Value)> {
    use ServerMessage as S;
    let command = |content_type: &str, payload: &[u8]| {
        let (id, expires) = (command_id(), TS);
        let (content_type, payload) = (content_type.to_owned(), payload.to_vec());
        S::Command(Box::new(Command { id, expires, content_type, payload }))
    };
    let welcome = Welcome {
        epoch: Epoch(7),
        resume: Seq(1001),
        time: TS,
        window_bytes: 262_144,
        frame_bytes_max: 65_536,
        message_bytes_max: 131_072,
        session: session(),
    };
    let messages = [
        ("server/welcome", S::Welcome(welcome)),
        ("server/ack-nothing", S::Ack(Seq::ZERO)),
        ("server/ack", S::Ack(Seq(1064))),
        ("server/ack-highest", S::Ack(Seq(INT_MAX))),
        ("server/rewind", S::Rewind(Seq(43))),
        ("server/command-json", command("application/json", br#"{"lock":true}"#)),
        ("server/command-text", command("text/plain; charset=utf-8", "Tür zu".as_bytes())),
        ("server/command-bytes", command("application/octet-stream", &[0, 255])),
        ("server/command-type", command("text/csv", b"")),
    ];
    messages.map(|(name, message)| (name, Value::Server(message))).into()
}

fn batch_samples() -> Vec<(&'static str, Value)> {
    let one = vec![frames_run("bus-2034", 1, 1, encoded(&[position()]))];
    let many = vec![
        frames_run("bus-2034", 7, 1001, all_frames()),
        skip_run("bus-2034", 7, 1007, 7, 1),
        frames_run("bus-2034", 7, 1014, encoded(&[position(), position()])),
        frames_run("d", 1, INT_MAX, encoded(&[empty_frame()])),
        skip_run(LONGEST_DEVICE, INT_MAX, 1, INT_MAX, 255),
    ];
    vec![("batch/one-frame", Value::Batch(one)), ("batch/many-runs", Value::Batch(many))]
}

/// The shared key of the samples.
pub fn key() -> LinkKey {
    LinkKey::new(b"0123456789abcdef0123456789abcdef").expect("32 bytes")
}

/// What the proofs of the samples are over.
pub fn opening() -> Opening {
    Opening {
        feeder: LinkId(session()),
        eater: LinkId([0xEA; 16]),
        feeder_challenge: [0xF0; 32],
        eater_challenge: [0xE0; 32],
    }
}

fn link_samples() -> Vec<(&'static str, Value)> {
    use LinkMessage as L;
    let id = LinkId(session());
    let software = || "trough 0.1.0".to_owned();
    let batch = build(&[frames_run("bus-2034", 1, 1, encoded(&[position()]))]).leak();
    let hello = |challenge| L::Hello {
        versions: Versions { min: 1, max: 1 },
        feeder: id,
        software: software(),
        challenge,
    };
    let (key, opening) = (key(), opening());
    let messages = [
        ("link/hello", hello(None)),
        ("link/hello-challenge", hello(Some(opening.feeder_challenge))),
        ("link/welcome", L::Welcome { version: 1, eater: id, credit: 16_777_216, software: software() }),
        ("link/feed", L::Feed { number: 1, batch }),
        ("link/ate", L::Ate { number: 258 }),
        (
            "link/reject",
            L::Reject { number: 3, code: LinkCode::DAMAGED, text: "run data is damaged".to_owned() },
        ),
        ("link/ping", L::Ping { nonce: 0x0102_0304_0506_0708 }),
        ("link/pong", L::Pong { nonce: u64::MAX }),
        (
            "link/goaway",
            L::Goaway { code: LinkCode::DRAINING, retry_after_ms: 1500, text: "stopping – bye".to_owned() },
        ),
        ("link/goaway-silent", L::Goaway { code: LinkCode(999), retry_after_ms: 0, text: String::new() }),
        ("link/locate", L::Locate { query: 9, epoch: Epoch(7), device: "bus-2034" }),
        ("link/head", L::Head { query: 9, seq: Seq(1064) }),
        ("link/head-nothing", L::Head { query: u32::MAX, seq: Seq::ZERO }),
        (
            "link/challenge",
            L::Challenge {
                eater: opening.eater,
                challenge: opening.eater_challenge,
                proof: key.prove(Side::Eater, &opening),
            },
        ),
        ("link/proof", L::Proof { proof: key.prove(Side::Feeder, &opening) }),
    ];
    messages.map(|(name, message)| (name, Value::Link(message))).into()
}

/// The bytes of a batch with these runs.
pub fn build(runs: &[RunValue]) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for run in runs {
        let device = DeviceId::new(run.device).expect("a sample is valid");
        match &run.content {
            RunContent::Frames(data) => {
                let summary: FramesSummary = check_frames(data, FRAME_BYTES_MAX).expect("a sample is valid");
                builder.push_frames(&device, run.epoch, run.first, summary, data);
            }
            RunContent::Skip { count, reason } => {
                builder.push_skip(&device, run.epoch, run.first, *count, *reason);
            }
        }
    }
    let (head, data) = builder.finish();
    [head, data].concat()
}

pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn from_hex(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2), "an odd number of hexadecimal digits: {hex}");
    let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("ASCII"));
    pairs
        .map(|pair| u8::from_str_radix(pair, 16).unwrap_or_else(|_| panic!("not hexadecimal: {pair}")))
        .collect()
}
