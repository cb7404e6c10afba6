//! `trough.v1.json` at its edges: what is taken, byte for byte, and what is refused with which words.
#![allow(clippy::unwrap_used, reason = "a test")]

use trough_protocol::device::ClientMessage;
use trough_protocol::device::json::{decode_client, decode_server, frame_members};
use trough_protocol::frame::{FrameRef, frames};
use trough_protocol::limits::{FRAME_BYTES_MAX, INT_MAX, JSON_DEPTH_MAX, TEXT_BYTES_MAX};
use trough_protocol::wire::WireError;
use trough_protocol::{ContentType, Seq};

/// A frame with the given members after `ts`.
fn message(members: &str) -> String {
    format!(r#"{{"type":"frame","seq":1,"ts":2,"channel":"c",{members}}}"#)
}

/// Content type and payload of the one frame of `text`.
fn frame_of(text: &str) -> Result<(String, Vec<u8>), WireError> {
    let mut scratch = Vec::new();
    match decode_client(text, &mut scratch, FRAME_BYTES_MAX)? {
        ClientMessage::Frames { first: Seq(1), data } => {
            let all: Vec<_> = frames(data).collect::<Result<_, _>>()?;
            let [frame] = all[..] else { panic!("one frame was sent: {text}") };
            assert_eq!((frame.ts, frame.channel), (2, "c"));
            Ok((frame.content_type.as_str().to_owned(), frame.payload.to_vec()))
        }
        other => panic!("a frame was sent: {other:?}"),
    }
}

fn payload_of(members: &str) -> Vec<u8> {
    frame_of(&message(members)).unwrap_or_else(|error| panic!("{members}: {error}")).1
}

/// Asserts that the message is refused, with these words.
fn refused(text: &str, words: &str) {
    let mut scratch = Vec::new();
    let error = decode_client(text, &mut scratch, FRAME_BYTES_MAX).expect_err(text).to_string();
    assert!(error.contains(words), "{text}\n  gives: {error}\n  without: {words}");
    assert!(error.len() < 2 * TEXT_BYTES_MAX, "{} bytes of error", error.len());
}

#[test]
fn json_is_kept_byte_for_byte() {
    for json in [
        "null",
        "true",
        "-0.0",
        "1e400",
        "12345678901234567890123456789",
        r#""a\u0000\/é""#,
        "{\"b\" :\t1 ,\r\n \"a\": [ ] , \"b\":2}",
        r#""\ud83d\ude00""#,
    ] {
        assert_eq!(payload_of(&format!("\"json\":{json}")), json.as_bytes());
        assert_eq!(
            payload_of(&format!("\"json\" \n:\t{json} ")),
            json.as_bytes(),
            "white space around it is not"
        );
    }
}

#[test]
fn text_and_b64_are_decoded() {
    assert_eq!(payload_of(r#""text":"a\u00e4\ud83d\ude00\n""#), "aä😀\n".as_bytes());
    assert_eq!(payload_of(r#""text":"""#), b"");
    assert_eq!(payload_of(r#""b64":"AP\/+""#), [0, 0xFF, 0xFE], "an escaped slash is a slash");
    let other = frame_of(&message(r#""b64":"","content_type":"image\/png""#)).unwrap();
    assert_eq!(other, ("image/png".to_owned(), vec![]));
}

#[test]
fn exactly_one_payload_is_due_and_null_is_one() {
    let words = "exactly one of json, text and b64";
    for members in [
        r#""x":1"#,
        r#""json":null,"text":"""#,
        r#""json":1,"b64":"""#,
        r#""text":"","b64":"""#,
        r#""json":null,"text":"","b64":"""#,
    ] {
        refused(&message(members), words);
    }
    // Absent means absent: a null where a string is due would be a guess.
    refused(&message(r#""json":1,"text":null"#), "expected a string");
    refused(&message(r#""b64":"","content_type":null"#), "expected a string");
    refused(&message(r#""text":"1,2","content_type":"text/csv""#), "goes only with b64");
    refused(&message(r#""json":1,"content_type":"application/json""#), "goes only with b64");
}

#[test]
fn integers_are_written_as_integers() {
    for seq in ["1.0", "1e0", "-1", "-0", "\"1\"", "null", "true", "18446744073709551616", "1E400"] {
        refused(
            &format!(r#"{{"type":"frame","seq":{seq},"ts":2,"channel":"c","json":1}}"#),
            "trough.v1.json",
        );
    }
    refused(r#"{"type":"rewind","seq":1.0}"#, "an integer from 0 to 9007199254740991 without fraction");
    refused(r#"{"type":"rewind","seq":01}"#, "invalid number");
    refused(r#"{"type":"rewind","seq":0}"#, "rewind.seq 0 is out of range: use 1 to");
    refused(r#"{"type":"rewind","seq":9007199254740992}"#, "rewind.seq 9007199254740992 is out of range");
    refused(
        r#"{"type":"frame","seq":1,"ts":0,"channel":"c","json":1}"#,
        "ts (µs since 1970) 0 is out of range",
    );
    refused(r#"{"type":"frame","seq":1,"ts":9007199254740992,"channel":"c","json":1}"#, "out of range");
}

#[test]
fn numbers_within_a_message_follow_one_another() {
    let two = |first: u64, second: u64| {
        let frame = |seq| format!(r#"{{"seq":{seq},"ts":1,"channel":"c","text":""}}"#);
        format!(r#"{{"type":"frames","frames":[{},{}]}}"#, frame(first), frame(second))
    };
    let mut scratch = Vec::new();
    assert!(decode_client(&two(INT_MAX - 1, INT_MAX), &mut scratch, 0).is_ok());
    refused(&two(1, 3), "must be consecutive: 2 is due, seq is 3");
    refused(&two(1, 1), "must be consecutive: 2 is due, seq is 1");
    refused(&two(INT_MAX, INT_MAX + 1), "seq 9007199254740992 is out of range");
    refused(r#"{"type":"frames","frames":[]}"#, "frames is empty");
}

#[test]
fn a_known_member_may_not_occur_twice() {
    for text in [
        r#"{"type":"rewind","type":"rewind","seq":1}"#,
        r#"{"type":"rewind","seq":1,"seq":1}"#,
        r#"{"type":"rewind","seq":1,"\u0073eq":2}"#,
        &message(r#""json":1,"json":1"#),
        &message(r#""text":"","channel":"d""#),
    ] {
        refused(text, "duplicate field");
    }
}

#[test]
fn an_object_is_not_an_array_of_its_values() {
    refused(r#"["rewind"]"#, "expected an object");
    refused(r#"{"type":"frames","frames":[[1,2,"c",{}]]}"#, "expected an object");
    refused(r#"{"type":"frames","frames":{"0":{}}}"#, "expected a sequence");
    refused(r#"{"type":"frames","frames":[null]}"#, "expected an object");
}

#[test]
fn what_is_no_message_is_refused_in_few_words() {
    let long = "x".repeat(100_000);
    refused("", "EOF");
    refused("{}", "missing field `type`");
    refused("null", "expected an object");
    refused("\u{FEFF}{\"type\":\"rewind\",\"seq\":1}", "expected value");
    refused(r#"{"type":"rewind","seq":1} {}"#, "trailing characters");
    refused(r#"{"type":"rewind","seq":1,}"#, "trailing comma");
    refused(&format!(r#"{{"type":"{long}"}}"#), "use hello, frame, frames, skip, rewind or command_result");
    refused(&format!(r#"{{"type":"rewind","seq":"{long}"}}"#), "invalid type: string");
    refused(
        &format!(r#"{{"type":"skip","first":1,"last":1,"reason":"{long}"}}"#),
        "use unspecified, overflow",
    );
    refused(r#"{"type":"skip","first":1,"last":1,"reason":null}"#, "expected a string");
    refused(r#"{"type":"skip","first":2,"last":1}"#, "skip.last 1 is out of range: use 2 to");
    refused(
        r#"{"type":"hello","epoch":1,"oldest":3,"next":2,"ack":0}"#,
        "hello.oldest is 3: it must not be above",
    );
    refused(
        r#"{"type":"hello","epoch":1,"oldest":2,"next":2,"ack":2}"#,
        "hello.ack is 2: it must be below next",
    );
    let channel = format!(r#"{{"type":"frame","seq":1,"ts":2,"channel":"{long}","json":1}}"#);
    refused(&channel, "use 1 to 64 of");
    refused(r#"{"type":"frame","seq":1,"ts":2,"channel":"a b","json":1}"#, r#"channel "a b" is not valid"#);
    refused(&message(r#""b64":"AA""#), "b64 of seq 1");
    refused(&message(r#""b64":"A_-A""#), "use RFC 4648 base64 with padding");
    refused(&message(r#""b64":"AA\n==""#), "b64 of seq 1");
    refused(&message(r#""b64":"","content_type":"""#), "content type \"\" is not valid");
    refused(&message(r#""b64":"","content_type":"a\nb""#), "is not valid");
    let error = decode_server(&format!(r#"{{"type":"{long}"}}"#)).unwrap_err().to_string();
    assert!(error.contains("use welcome, ack, rewind or command") && error.len() < TEXT_BYTES_MAX, "{error}");
}

#[test]
fn json_that_readers_cannot_take_is_refused() {
    refused(&message(r#""text":"\ud800""#), "hex escape");
    refused(&message(r#""json":"\ud800""#), "half of a \\u surrogate pair");
    let nested = |depth: usize| format!("\"json\":{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(payload_of(&nested(JSON_DEPTH_MAX)).len(), 2 * JSON_DEPTH_MAX);
    refused(&message(&nested(JSON_DEPTH_MAX + 1)), "nesting of json is 101, over the limit of 100");
    refused(&message(&nested(400_000)), "nesting of json");
    // In a member that nobody reads, nesting costs nothing but its bytes.
    let ignored = format!("\"text\":\"\",\"later\":{}{}", "[".repeat(400_000), "]".repeat(400_000));
    assert_eq!(payload_of(&ignored), b"");
}

#[test]
fn the_limit_counts_the_payload_that_is_stored() {
    let mut scratch = Vec::new();
    let mut take = |members: &str, max| decode_client(&message(members), &mut scratch, max).map(|_| ());
    assert_eq!(take(r#""text":"\u0041\u0042""#, 2), Ok(()));
    assert_eq!(take(r#""b64":"AAA=""#, 2), Ok(()));
    for members in [r#""text":"ABC""#, r#""b64":"AAAA""#, r#""json":123"#] {
        assert_eq!(take(members, 2), Err(WireError::TooLarge { what: "frame payload", value: 3, max: 2 }));
    }
}

#[test]
fn members_give_every_payload_back() {
    let nested = format!("{}{}", "[".repeat(JSON_DEPTH_MAX + 1), "]".repeat(JSON_DEPTH_MAX + 1));
    let payloads: [(&[u8], ContentType<'_>, &str); 11] = [
        (b"null", ContentType::Json, "\"json\":null"),
        (b"{ }", ContentType::Json, "\"json\":{ }"),
        (b" 1", ContentType::Json, "b64"),
        (b"1\n", ContentType::Json, "b64"),
        (b"1,\"seq\":2", ContentType::Json, "b64"),
        (b"", ContentType::Json, "b64"),
        (br#""\udc00""#, ContentType::Json, "b64"),
        (nested.as_bytes(), ContentType::Json, "b64"),
        ("\u{0}\"\\é".as_bytes(), ContentType::Text, "\"text\":"),
        (b"\xC3", ContentType::Text, "b64"),
        (b"", ContentType::Other("a/b"), "b64"),
    ];
    for (payload, content_type, words) in payloads {
        let frame = FrameRef { ts: 2, channel: "c", content_type, payload };
        let members = frame_members(Seq(1), &frame);
        assert!(members.contains(words), "{members}");
        let back = frame_of(&format!("{{\"type\":\"frame\",{members}}}")).unwrap();
        assert_eq!(back, (content_type.as_str().to_owned(), payload.to_vec()), "{members}");
    }
}
