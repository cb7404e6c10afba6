//! docs/protocol.md says what the code does: its examples are read and written, its tables compared.
//!
//! 1. Every block marked `hex`, `json` or `text version-refusal` is decoded by the code and encoded again.
//! 2. The tables of close codes, link codes, skip reasons, message types and limits are those of the code.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::BTreeMap;

use common::from_hex;
use trough_protocol::batch::Batch;
use trough_protocol::close::{Advice, CloseCode, advice};
use trough_protocol::device::{ClientMessage, Features, Hello, SkipReason, binary, json};
use trough_protocol::frame::{FRAME_BYTES_MIN, check_frames};
use trough_protocol::limits::*;
use trough_protocol::link::{self, LinkCode, LinkMessage, Versions};
use trough_protocol::{Epoch, Seq};

const DOCUMENT: &str = include_str!("../../docs/protocol.md");
const LIMITS_SOURCE: &str = include_str!("../src/limits.rs");

/// The lines of every block with this mark.
fn blocks(mark: &str) -> Vec<Vec<&'static str>> {
    let mut blocks = Vec::new();
    let mut lines = DOCUMENT.lines();
    while let Some(line) = lines.next() {
        if line.strip_prefix("```") == Some(mark) {
            blocks.push(lines.by_ref().take_while(|line| *line != "```").collect());
        }
    }
    assert!(!blocks.is_empty(), "no block is marked {mark}");
    blocks
}

/// The bytes of a block: on each line two digits a byte, then two spaces and an explanation.
fn bytes_of(block: &[&str]) -> &'static [u8] {
    let hex: String = block.iter().map(|line| line.split("  ").next().unwrap().replace(' ', "")).collect();
    from_hex(&hex).leak()
}

/// The cells of the rows of the table whose head begins with these.
fn table(head: &str) -> Vec<Vec<&'static str>> {
    let mut lines = DOCUMENT.lines().skip_while(|line| !line.starts_with(head));
    assert!(lines.next().is_some(), "no table begins with {head}");
    let rows = lines.skip(1).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect())
        .collect()
}

#[test]
fn hexadecimal_examples_are_what_their_explanations_say() {
    let [hello, frames, _result] = &blocks("hex device")[..] else { panic!("three blocks are due") };
    let hello = binary::decode_client(bytes_of(hello)).unwrap();
    let said = Hello {
        epoch: Epoch(7),
        oldest: Seq(1001),
        next: Seq(1065),
        acked: Seq(1000),
        features: Features::NONE,
    };
    assert_eq!(hello, ClientMessage::Hello(said));
    let ClientMessage::Frames { first: Seq(1), data } = binary::decode_client(bytes_of(frames)).unwrap()
    else {
        panic!("frames are due");
    };
    assert_eq!(check_frames(data, FRAME_BYTES_DEFAULT).unwrap().count, 2);
    let read: Vec<_> = trough_protocol::frame::frames(data).map(Result::unwrap).collect();
    assert_eq!((read[0].channel, read[0].payload), ("position", &br#"{"lat":30.41,"lon":-97.68}"#[..]));
    assert_eq!((read[1].ts, read[1].content_type.as_str()), (1_490_072_403_000_000, "text/csv"));
    assert_eq!((read[1].channel, read[1].payload), ("t", &b"1\n"[..]));
    for message in blocks("hex device").iter().map(|block| bytes_of(block)) {
        let mut again = Vec::new();
        binary::encode_client(&binary::decode_client(message).unwrap(), &mut again);
        assert_eq!(again, message);
    }
    for message in blocks("hex feeder").iter().map(|block| bytes_of(block)) {
        let mut again = Vec::new();
        binary::encode_server(&binary::decode_server(message).unwrap(), &mut again);
        assert_eq!(again, message);
    }
    for message in blocks("hex link").iter().map(|block| bytes_of(block)) {
        let read = link::decode(message).unwrap();
        if let LinkMessage::Feed { batch, .. } = read {
            assert_eq!(Batch::check(batch).unwrap().run_count(), 1);
        }
        let mut again = Vec::new();
        link::encode(&read, &mut again);
        assert_eq!(again, message);
    }
}

/// Every explanation of a number in a hexadecimal example gives the number that stands there.
#[test]
fn explained_numbers_are_the_numbers() {
    let mut checked = 0;
    for line in ["hex device", "hex feeder", "hex link"].iter().flat_map(|mark| blocks(mark)).flatten() {
        let (hex, explanation) = line.split_once("  ").unwrap_or((line, ""));
        let bytes = from_hex(&hex.replace(' ', ""));
        if !matches!(bytes.len(), 4 | 8) || explanation.contains(['"', '{', 'x']) {
            continue;
        }
        let mut wide = [0; 8];
        wide[..bytes.len()].copy_from_slice(&bytes);
        let value = u64::from_le_bytes(wide).to_string();
        let numbers: Vec<&str> =
            explanation.split(|c: char| !c.is_ascii_digit()).filter(|word| !word.is_empty()).collect();
        if !numbers.is_empty() && !explanation.contains("CRC32C") && !explanation.contains("version") {
            assert!(numbers.contains(&value.as_str()), "{line}: it is {value}");
            checked += 1;
        }
    }
    assert!(checked >= 15, "{checked} lines");
}

#[test]
fn json_examples_are_messages() {
    let mut scratch = Vec::new();
    for text in blocks("json device").into_iter().flatten() {
        json::decode_client(text, &mut scratch, FRAME_BYTES_DEFAULT)
            .unwrap_or_else(|error| panic!("{text}: {error}"));
    }
    for text in blocks("json feeder").into_iter().flatten() {
        let message = json::decode_server(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(json::encode_server(&message), text);
    }
    for line in blocks("json refused").into_iter().flatten() {
        let (text, words) = line.split_once('\t').unwrap();
        let error = json::decode_client(text, &mut scratch, FRAME_BYTES_DEFAULT).expect_err(text).to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
    for problem in blocks("json problem").into_iter().flatten() {
        let problem: BTreeMap<String, serde_json::Value> = serde_json::from_str(problem).unwrap();
        assert!(problem.contains_key("code") && problem.contains_key("detail"));
    }
}

#[test]
fn the_refusal_of_a_version_reads_as_printed() {
    let refusal = Versions { min: 1, max: 1 }.negotiate(Versions { min: 2, max: 3 }).unwrap_err();
    assert_eq!(blocks("text version-refusal"), [[refusal.as_str()]]);
    assert_eq!(Versions::OURS, Versions { min: 1, max: 1 }, "2.2 says which versions this release speaks");
}

#[test]
fn close_codes_are_those_of_the_code() {
    let rows = table("| code | name | why |");
    let listed: Vec<(u16, &str)> = rows.iter().map(|row| (row[0].parse().unwrap(), row[1])).collect();
    let known: Vec<(u16, &str)> = CloseCode::ALL.iter().map(|code| (code.code(), code.name())).collect();
    assert_eq!(listed, known);
    for row in rows {
        let due = match advice(Some((row[0].parse().unwrap(), ""))) {
            Advice::Reconnect => "connects again with its back-off",
            Advice::ReconnectAfter(10_000) => "connects again after `retry_after_ms",
            Advice::NewEpoch => "connects again with `epoch` 0",
            Advice::Stop => "stops",
            Advice::ReconnectAfter(other) => panic!("the document says 10000, not {other}"),
        };
        assert!(row[3].contains(due), "{}: {} should say: {due}", row[0], row[3]);
    }
    let Advice::ReconnectAfter(most) = advice(Some((4100, "x retry_after_ms=99999999999"))) else { panic!() };
    assert_eq!(most, 3_600_000, "the document says: an hour");
    for (range, due) in
        [(4099, Advice::Reconnect), (4299, Advice::NewEpoch), (4399, Advice::Stop), (4499, Advice::Stop)]
    {
        assert_eq!(advice(Some((range, ""))), due);
    }
    assert_eq!(advice(Some((4500, ""))), Advice::Reconnect);
}

#[test]
fn link_codes_and_skip_reasons_are_those_of_the_code() {
    let rows = table("| code | name | meaning |");
    for row in &rows {
        assert_eq!(LinkCode(row[0].parse().unwrap()).name(), row[1]);
    }
    assert_eq!(LinkCode(u16::try_from(rows.len() + 1).unwrap()).name(), "unknown", "the table has them all");
    let rows = table("| number | name in JSON | meaning |");
    for row in &rows {
        assert_eq!(SkipReason::parse(row[1]), Some(SkipReason(row[0].parse().unwrap())));
    }
    assert_eq!(SkipReason(u8::try_from(rows.len()).unwrap()).name(), "unspecified", "the table has them all");
}

/// Bytes of the fields that a row describes, as far as their sizes are fixed.
fn fixed_bytes(fields: &str) -> usize {
    let mut sizes = 0;
    for field in fields.split(", ") {
        for word in field.split(" and ") {
            sizes += match word.split(' ').next().unwrap() {
                "u8" => 1,
                "u16" => 2,
                "u32" => 4,
                "u64" => 8,
                "4" => 4,
                "16" => 16,
                "32" => 32,
                "text" => 1,
                _ => 0,
            };
        }
    }
    sizes
}

#[test]
fn message_tables_have_every_kind_and_size() {
    let samples: Vec<(u8, usize)> = common::samples()
        .into_iter()
        .filter_map(|(_, value)| {
            let mut bytes = Vec::new();
            match value {
                common::Value::Device(message) => binary::encode_client(&message, &mut bytes),
                common::Value::Server(message) => binary::encode_server(&message, &mut bytes),
                _ => return None,
            }
            Some((bytes[0], bytes.len()))
        })
        .collect();
    let rows = table("| type | name | from | fields after the type |");
    assert_eq!(rows.len(), 9);
    for row in rows {
        let kind: u8 = row[0].parse().unwrap();
        let smallest = samples.iter().filter(|sample| sample.0 == kind).map(|sample| sample.1).min();
        let listed = 1 + fixed_bytes(row[3]);
        let smallest = smallest.unwrap_or_else(|| panic!("{kind} is no message"));
        assert!(
            if matches!(row[1], "frames" | "command") { smallest > listed } else { smallest == listed },
            "{row:?}: {smallest}"
        );
    }
    let rows = table("| type | name | from | body |");
    assert_eq!(rows.len(), 12);
    for row in rows {
        let kind: u8 = row[0].parse().unwrap();
        // A body of zeros is malformed for some, but it is one of that size exactly.
        let (least, name) = (fixed_bytes(row[3]), row[1]);
        let read = |len: usize| {
            let mut body = vec![0; len];
            if matches!(kind, 1 | 2) && len >= 4 {
                body[..4].copy_from_slice(&link::MAGIC);
            }
            let mut bytes = u32::try_from(5 + len).unwrap().to_le_bytes().to_vec();
            bytes.push(kind);
            let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes), &body);
            bytes.extend(crc.to_le_bytes());
            bytes.extend(body);
            link::decode(&bytes).err().map(|error| error.to_string())
        };
        assert!(
            read(least - 1).is_some_and(|error| error.contains("truncated") || error.contains("range")),
            "{name}"
        );
        assert!(!read(least).is_some_and(|error| error.contains("truncated")), "{name}");
    }
}

#[test]
fn limits_are_those_of_the_code() {
    let known: BTreeMap<&str, u64> = [
        ("INT_MAX", INT_MAX),
        ("DEVICE_ID_BYTES_MAX", DEVICE_ID_BYTES_MAX as u64),
        ("CHANNEL_BYTES_MAX", CHANNEL_BYTES_MAX as u64),
        ("CONTENT_TYPE_BYTES_MAX", CONTENT_TYPE_BYTES_MAX as u64),
        ("FRAME_BYTES_MAX", FRAME_BYTES_MAX as u64),
        ("FRAME_BYTES_DEFAULT", FRAME_BYTES_DEFAULT as u64),
        ("JSON_DEPTH_MAX", JSON_DEPTH_MAX as u64),
        ("CLOSE_REASON_BYTES_MAX", CLOSE_REASON_BYTES_MAX as u64),
        ("BATCH_BYTES_MAX", BATCH_BYTES_MAX as u64),
        ("BATCH_RUNS_MAX", BATCH_RUNS_MAX as u64),
        ("LINK_MESSAGE_BYTES_MAX", LINK_MESSAGE_BYTES_MAX as u64),
        ("LINK_CONTROL_BYTES_MAX", LINK_CONTROL_BYTES_MAX as u64),
        ("TEXT_BYTES_MAX", TEXT_BYTES_MAX as u64),
        ("COMMAND_BYTES_MAX", COMMAND_BYTES_MAX as u64),
        ("COMMAND_RESULT_BYTES_MAX", COMMAND_RESULT_BYTES_MAX as u64),
    ]
    .into();
    let in_source =
        LIMITS_SOURCE.lines().filter_map(|line| line.strip_prefix("pub const ")?.split(':').next());
    assert_eq!(in_source.collect::<std::collections::BTreeSet<_>>(), known.keys().copied().collect());
    let listed: BTreeMap<&str, u64> =
        table("| limit | value | of |").iter().map(|row| (row[0], row[1].parse().unwrap())).collect();
    assert_eq!(listed, known);
    let text = DOCUMENT.split_whitespace().collect::<Vec<_>>().join(" ");
    for (words, value) in [
        ("9007199254740991 (2^53 − 1)", INT_MAX),
        ("one largest batch, 4194304 bytes", BATCH_BYTES_MAX as u64),
        ("at least 15 bytes for each of its count", FRAME_BYTES_MIN as u64),
        ("nested deeper than 100 levels", JSON_DEPTH_MAX as u64),
        ("header, 24 bytes", trough_protocol::batch::HEADER_BYTES as u64),
        ("50 bytes and the device id", trough_protocol::batch::RUN_BYTES as u64),
    ] {
        assert!(text.contains(words) && words.contains(&value.to_string()), "{words}: {value}");
    }
}

#[test]
fn references_within_the_document_lead_somewhere() {
    let anchor = |title: &str| -> String {
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
    };
    let anchors: Vec<String> = DOCUMENT
        .lines()
        .filter_map(|line| Some(anchor(line.trim_start_matches('#').strip_prefix(' ')?)))
        .collect();
    let references = DOCUMENT.split("](#").skip(1).map(|rest| rest.split(')').next().unwrap());
    for reference in references {
        assert!(anchors.iter().any(|known| known == reference), "#{reference} is no section");
    }
}
