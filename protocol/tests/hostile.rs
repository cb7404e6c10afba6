//! Bytes that nobody meant: no decoder panics, and none allocates more than a small multiple of what it was given.
//!
//! The allocator of this test binary counts, so every check here runs on one thread of its own.
#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(unsafe_code, reason = "a counting allocator has to implement an unsafe trait")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use common::{Value, build, samples};
use trough_protocol::batch::Batch;
use trough_protocol::device::{ClientMessage, binary, json};
use trough_protocol::frame::{check_frames, frames};
use trough_protocol::limits::FRAME_BYTES_MAX;
use trough_protocol::link::{self, LinkMessage};
use trough_protocol::{Seq, close};

thread_local! {
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

fn grow(bytes: usize) {
    LIVE.set(LIVE.get().saturating_add(bytes));
    PEAK.set(PEAK.get().max(LIVE.get()));
}

fn shrink(bytes: usize) {
    LIVE.set(LIVE.get().saturating_sub(bytes));
}

// SAFETY: every call goes on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        shrink(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // Both may exist while the bytes are copied.
        grow(new_size);
        shrink(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Most bytes that `work` had allocated at once.
fn peak_of<T>(work: impl FnOnce() -> T) -> usize {
    let before = LIVE.get();
    PEAK.set(before);
    drop(black_box(work()));
    PEAK.get() - before
}

/// Errors hold a few short texts.
const ERROR_BYTES_MAX: usize = 4096;

/// Runs every decoder over `bytes`; gives the most that one of them allocated, with its name.
fn decode_all(bytes: &[u8]) -> Vec<(&'static str, usize, usize)> {
    let (none, some, json) =
        (ERROR_BYTES_MAX, ERROR_BYTES_MAX + 3 * bytes.len(), ERROR_BYTES_MAX + 16 * bytes.len());
    let text = String::from_utf8_lossy(bytes).into_owned();
    vec![
        ("device, binary", none, peak_of(|| binary::decode_client(bytes).is_ok())),
        ("server, binary", none, peak_of(|| binary::decode_server(bytes).is_ok())),
        (
            "check_frames",
            none,
            peak_of(|| check_frames(bytes, FRAME_BYTES_MAX).map_err(|error| error.to_string())),
        ),
        ("frames", none, peak_of(|| frames(bytes).filter(Result::is_ok).count())),
        ("batch", none, peak_of(|| Batch::check(bytes).map(|batch| batch.runs().map(|run| run.count).max()))),
        ("peek_len", none, peak_of(|| Batch::peek_len(bytes))),
        ("link, length", none, peak_of(|| link::message_len(bytes))),
        // What is not UTF-8 in a text becomes three bytes for one.
        ("link", some, peak_of(|| link::decode(bytes).map_err(|error| error.to_string()).map(|_| ()))),
        ("device, JSON", json, peak_of(|| decode_json(&text))),
        ("server, JSON", json, peak_of(|| json::decode_server(&text).map_err(|error| error.to_string()))),
        ("close reason", none, peak_of(|| close::advice(Some((1012, &text))))),
    ]
}

fn decode_json(text: &str) -> Result<usize, String> {
    let mut scratch = Vec::new();
    match json::decode_client(text, &mut scratch, FRAME_BYTES_MAX).map_err(|error| error.to_string())? {
        ClientMessage::Frames { data, .. } => Ok(data.len()),
        _ => Ok(0),
    }
}

#[track_caller]
fn assert_modest(bytes: &[u8]) {
    for (name, most, peak) in decode_all(bytes) {
        assert!(peak <= most, "{name} allocated {peak} bytes for {} of input; at most {most}", bytes.len());
    }
}

fn sample_bytes() -> Vec<Vec<u8>> {
    let binary = samples().into_iter().map(|(_, value)| {
        let mut bytes = Vec::new();
        match value {
            Value::Frame(frame) => frame.encode(&mut bytes).unwrap(),
            Value::Device(message) => binary::encode_client(&message, &mut bytes),
            Value::Server(message) => binary::encode_server(&message, &mut bytes),
            Value::Batch(runs) => bytes = build(&runs),
            Value::Link(message) => link::encode(&message, &mut bytes),
        }
        bytes
    });
    let json = samples().into_iter().filter_map(|(_, value)| match value {
        Value::Device(message) => Some(json::encode_client(&message).unwrap().into_bytes()),
        Value::Server(message) => Some(json::encode_server(&message).into_bytes()),
        _ => None,
    });
    binary.chain(json).collect()
}

/// A link message or batch whose checksums are good whatever its fields say, so that damage gets past them.
fn resealed(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() >= 24 && bytes.starts_with(b"TRBA") {
        let directory_len = u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]) as usize;
        let end = directory_len.saturating_add(24).min(bytes.len());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..20]), &bytes[24..end]);
        bytes[20..24].copy_from_slice(&crc.to_le_bytes());
    } else if bytes.len() >= 9 {
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..5]), &bytes[9..]);
        bytes[5..9].copy_from_slice(&crc.to_le_bytes());
    }
    bytes
}

#[derive(Debug, Clone)]
enum Edit {
    Set(Index, u8),
    Cut(Index),
    Insert(Index, Vec<u8>),
    Int(Index, u64),
}

fn edit() -> impl Strategy<Value = Edit> {
    let int = select(vec![0, 1, 255, 1 << 16, u64::from(u32::MAX), (1 << 53) - 1, 1 << 53, u64::MAX]);
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        any::<Index>().prop_map(Edit::Cut),
        (any::<Index>(), vec(any::<u8>(), 1..40)).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        (any::<Index>(), int).prop_map(|(at, value)| Edit::Int(at, value)),
    ]
}

fn apply(bytes: &mut Vec<u8>, edit: &Edit) {
    if bytes.is_empty() {
        return;
    }
    match edit {
        Edit::Set(at, byte) => {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        Edit::Cut(at) => bytes.truncate(at.index(bytes.len())),
        Edit::Insert(at, more) => {
            let at = at.index(bytes.len());
            bytes.splice(at..at, more.iter().copied());
        }
        Edit::Int(at, value) => {
            let at = at.index(bytes.len());
            let end = (at + 8).min(bytes.len());
            bytes[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn arbitrary_bytes(bytes in vec(any::<u8>(), 0..600)) {
        assert_modest(&bytes);
    }

    #[test]
    fn damaged_messages(base in select(sample_bytes()), edits in vec(edit(), 1..6)) {
        let mut bytes = base;
        for edit in &edits {
            apply(&mut bytes, edit);
        }
        assert_modest(&bytes);
        let bytes = resealed(bytes);
        assert_modest(&bytes);
        // What still passes can be used without a panic.
        if let Ok(batch) = Batch::check(&bytes) {
            for run in batch.runs() {
                prop_assert!(run.last() >= run.first);
                prop_assert_eq!(batch.data(&run).len(), run.len as usize);
            }
        }
        if let Ok(message @ LinkMessage::Locate { .. }) = link::decode(&bytes) {
            let mut again = Vec::new();
            link::encode(&message, &mut again);
            prop_assert_eq!(link::decode(&again), Ok(message));
        }
    }

    #[test]
    fn json_like_texts(text in r#"[\[\]{}:,"0-9a-f\\/u\.eE+ \n\-]{0,200}"#, in_payload in any::<bool>()) {
        let message = if in_payload {
            format!(r#"{{"type":"frame","seq":1,"ts":2,"channel":"c","json":{text}}}"#)
        } else {
            text
        };
        assert_modest(message.as_bytes());
    }

    #[test]
    fn frames_whose_bytes_are_shown_in_json(payload in vec(any::<u8>(), 0..300), kind in 0..3_u8) {
        use trough_protocol::{ContentType, frame::FrameRef};
        let content_type = [ContentType::Bytes, ContentType::Json, ContentType::Text][usize::from(kind)];
        let frame = FrameRef { ts: 1, channel: "c", content_type, payload: &payload };
        // One byte is six in an escape, and the text is put together from its parts.
        let peak = peak_of(|| json::frame_members(Seq(1), &frame));
        prop_assert!(peak <= ERROR_BYTES_MAX + 24 * payload.len(), "{} bytes", peak);
    }
}

#[test]
fn lengths_that_claim_much_allocate_nothing() {
    let much = u32::MAX.to_le_bytes();
    let mut feed_of_4_mib = (4_u32 * 1024 * 1024).to_le_bytes().to_vec();
    feed_of_4_mib.push(3);
    let mut many_runs = b"TRBA\x01\0\0\0".to_vec();
    many_runs.extend([16_384_u32.to_le_bytes(), 819_200_u32.to_le_bytes(), much, much].concat());
    let frames = [&[2, 1, 0, 0, 0, 0, 0, 0, 0][..], &much].concat();
    for bytes in [&much[..], &feed_of_4_mib, &many_runs, &frames] {
        for (name, _, peak) in decode_all(bytes).into_iter().filter(|(name, ..)| !name.contains("JSON")) {
            assert!(peak <= ERROR_BYTES_MAX, "{name} allocated {peak} bytes");
        }
    }
}

#[test]
fn the_worst_json_of_its_size_costs_a_small_multiple() {
    let many = |element: &str, count: usize| {
        let list = vec![element; count].join(",");
        format!(r#"{{"type":"frames","frames":[{list}]}}"#)
    };
    let smallest: Vec<String> =
        (1..10_000).map(|seq| format!(r#"{{"seq":{seq},"ts":1,"channel":"c","json":1}}"#)).collect();
    let texts = [
        format!(r#"{{"type":"frames","frames":[{}]}}"#, smallest.join(",")),
        many("{}", 100_000),
        many("[]", 100_000),
        many("0", 100_000),
        format!("{{\"type\":\"frames\",\"frames\":{}", "[".repeat(300_000)),
        format!("{{\"x\":{}", "{\"x\":".repeat(100_000)),
        format!(r#"{{"type":"frame","seq":1,"ts":1,"channel":"c","b64":"{}"}}"#, "A".repeat(300_000)),
        format!(r#"{{"type":"frame","seq":1,"ts":1,"channel":"c","text":"{}"}}"#, "\\u0001".repeat(50_000)),
        format!(r#"{{"type":"frame","seq":1,"ts":1,"channel":"{}","json":1}}"#, "\\u0001".repeat(50_000)),
        format!(r#"{{"type":"hello","epoch":"{}"}}"#, "\\u0001".repeat(50_000)),
        format!(r#"{{"type":"{}"}}"#, "\\u0001".repeat(50_000)),
    ];
    for text in texts {
        assert_modest(text.as_bytes());
    }
}

#[test]
fn the_allocator_counts() {
    assert!((100_000..200_000).contains(&peak_of(|| vec![1_u8; 100_000])));
    assert!(peak_of(|| (0..50_000_u32).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>()) >= 200_000);
    assert_eq!(peak_of(|| 1), 0);
}
