//! The golden vectors: bytes that every release must read and write alike.
//!
//! `golden/binary.txt` and `golden/json.txt` are **append-only**: lines may be added, never changed or removed. A
//! test that fails here is a break of wire compatibility, to be mended in the code. Devices in the field and the
//! journals on disk have these bytes.
//!
//! A line is `name TAB bytes TAB meaning`; bytes are hexadecimal digits or JSON. The value that belongs to a name
//! is in `common::samples`; for a new one, add the value and take its lines from
//! `cargo test -p trough-protocol --test golden -- --ignored --nocapture`.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::BTreeMap;

use common::{RunContent, RunValue, Value, build, from_hex, samples, to_hex};
use trough_protocol::ContentType;
use trough_protocol::batch::{Batch, RunKind};
use trough_protocol::device::{ClientMessage, CommandResult, binary, json};
use trough_protocol::frame::FrameRef;
use trough_protocol::limits::{BATCH_BYTES_MAX, FRAME_BYTES_MAX};
use trough_protocol::link;

const BINARY: &str = include_str!("golden/binary.txt");
const JSON: &str = include_str!("golden/json.txt");
/// Other ways to write a message in JSON: name of the value TAB JSON TAB meaning.
const JSON_ALSO: &str = include_str!("golden/json-also-read.txt");

fn lines(file: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    file.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(|line| {
        let mut columns = line.split('\t');
        let (name, bytes, meaning) = (columns.next(), columns.next(), columns.next());
        assert!(meaning.is_some_and(|meaning| !meaning.is_empty()), "three columns are due: {line}");
        assert_eq!(columns.next(), None, "three columns are due: {line}");
        (name.expect("three columns"), bytes.expect("three columns"))
    })
}

fn by_name(file: &'static str) -> BTreeMap<&'static str, &'static str> {
    let mut map = BTreeMap::new();
    for (name, bytes) in lines(file) {
        assert_eq!(map.insert(name, bytes), None, "{name} stands there twice");
    }
    map
}

fn encode(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    match value {
        Value::Frame(frame) => frame.encode(&mut bytes).unwrap(),
        Value::Device(message) => binary::encode_client(message, &mut bytes),
        Value::Server(message) => binary::encode_server(message, &mut bytes),
        Value::Batch(runs) => bytes = build(runs),
        Value::Link(message) => link::encode(message, &mut bytes),
    }
    bytes
}

/// Reads what `like` is one of.
fn decode(like: &Value, bytes: Vec<u8>) -> Value {
    let bytes: &'static [u8] = bytes.leak();
    match like {
        Value::Frame(_) => {
            let mut rest = bytes;
            let frame = FrameRef::decode(&mut rest, FRAME_BYTES_MAX).unwrap();
            assert!(rest.is_empty());
            Value::Frame(frame)
        }
        Value::Device(_) => Value::Device(binary::decode_client(bytes).unwrap()),
        Value::Server(_) => Value::Server(binary::decode_server(bytes).unwrap()),
        Value::Batch(_) => Value::Batch(runs_of(&Batch::check(bytes).unwrap())),
        Value::Link(_) => {
            assert_eq!(link::message_len(bytes), Ok(Some(bytes.len())));
            Value::Link(link::decode(bytes).unwrap())
        }
    }
}

fn runs_of(batch: &Batch<'static>) -> Vec<RunValue> {
    assert_eq!(Batch::peek_len(batch.bytes()), Ok(batch.bytes().len()));
    let runs = batch.runs().map(|run| RunValue {
        device: run.device,
        epoch: run.epoch,
        first: run.first,
        content: match run.kind {
            RunKind::Frames => RunContent::Frames(batch.data(&run).to_vec()),
            RunKind::Skip => RunContent::Skip { count: run.count, reason: batch.data(&run)[0] },
        },
    });
    runs.collect()
}

/// The value in JSON; `None` for what has no JSON form.
fn encode_json(value: &Value) -> Option<String> {
    match value {
        Value::Device(message) => Some(json::encode_client(message).unwrap()),
        Value::Server(message) => Some(json::encode_server(message)),
        _ => None,
    }
}

fn decode_json(like: &Value, text: &str) -> Value {
    match like {
        Value::Server(_) => Value::Server(json::decode_server(text).unwrap()),
        _ => {
            let mut scratch = Vec::new();
            let message = json::decode_client(text, &mut scratch, FRAME_BYTES_MAX);
            Value::Device(match message.unwrap_or_else(|error| panic!("{text}: {error}")) {
                ClientMessage::Frames { first, data } => {
                    ClientMessage::Frames { first, data: data.to_vec().leak() }
                }
                ClientMessage::Hello(hello) => ClientMessage::Hello(hello),
                ClientMessage::Skip(skip) => ClientMessage::Skip(skip),
                ClientMessage::Rewind(seq) => ClientMessage::Rewind(seq),
                ClientMessage::CommandResult(result) => {
                    let payload = result.payload.to_vec().leak();
                    let name = result.content_type.as_str().to_owned().leak();
                    let content_type = ContentType::parse(name).unwrap();
                    let (id, status) = (result.id, result.status);
                    ClientMessage::CommandResult(CommandResult { id, status, content_type, payload })
                }
            })
        }
    }
}

#[test]
fn binary_vectors_are_read_and_written_as_ever() {
    let mut golden = by_name(BINARY);
    for (name, value) in samples() {
        let hex = golden.remove(name).unwrap_or_else(|| panic!("{name} has no line in golden/binary.txt"));
        assert_eq!(to_hex(&encode(&value)), hex, "{name} is written differently");
        assert_eq!(decode(&value, from_hex(hex)), value, "{name} is read differently");
    }
    assert!(golden.is_empty(), "these lines have no value in common::samples: {:?}", golden.keys());
}

#[test]
fn json_vectors_are_read_and_written_as_ever() {
    let mut golden = by_name(JSON);
    for (name, value) in samples() {
        let Some(text) = encode_json(&value) else { continue };
        let line = golden.remove(name).unwrap_or_else(|| panic!("{name} has no line in golden/json.txt"));
        assert_eq!(text, line, "{name} is written differently");
        assert_eq!(decode_json(&value, line), value, "{name} is read differently");
    }
    assert!(golden.is_empty(), "these lines have no value in common::samples: {:?}", golden.keys());
}

#[test]
fn other_ways_to_write_json_are_read_as_ever() {
    let values: BTreeMap<_, _> = samples().into_iter().collect();
    let mut count = 0;
    for (name, text) in lines(JSON_ALSO) {
        let value = values.get(name).unwrap_or_else(|| panic!("no value is named {name}"));
        assert_eq!(&decode_json(value, text), value, "{text}");
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn the_samples_have_every_kind() {
    let bytes: Vec<_> = samples().into_iter().map(|(name, value)| (name, encode(&value))).collect();
    let kinds = |prefix: &str, at: usize| -> Vec<u8> {
        let mut kinds: Vec<u8> =
            bytes.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, bytes)| bytes[at]).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    };
    assert_eq!(kinds("device/", 0), [1, 2, 3, 4, 5]);
    assert_eq!(kinds("server/", 0), [129, 130, 131, 132]);
    assert_eq!(kinds("link/", 4), (1..=12).collect::<Vec<u8>>());
    assert!(bytes.iter().all(|(_, bytes)| bytes.len() <= BATCH_BYTES_MAX));
}

#[test]
#[ignore = "prints the lines of samples that have none yet"]
fn print_missing_lines() {
    let (binary, json) = (by_name(BINARY), by_name(JSON));
    for (name, value) in samples() {
        if !binary.contains_key(name) {
            println!("{name}\t{}\tMEANING", to_hex(&encode(&value)));
        }
        if let Some(text) = encode_json(&value).filter(|_| !json.contains_key(name)) {
            println!("{name}\t{text}\tMEANING");
        }
    }
}
