use super::*;
use proptest::prelude::*;
use trough_protocol::device::json::frame_members;
use trough_protocol::frame::FrameRef;
use trough_protocol::{ContentType, Seq};

fn accepts(text: &str) -> bool {
    check_json(text.as_bytes()).is_some()
}

#[test]
fn accepts_json() {
    for text in [
        "0",
        "-0",
        "-0.5e+10",
        "1E3",
        "12345678901234567890123",
        "\"\"",
        "\"\\u00e9\\ud83d\\ude8c\\n\"",
        "\"ü\"",
        "[]",
        "[ ]",
        "{}",
        "{ }",
        "[1,[2,{\"a\":[]}],null,true,false]",
        "{\"a\":{\"b\":{}},\"c\":\"d\"}",
        "[ 1 , 2 ]",
        "{\t\"a\"\n: 1\r}",
        "1.7976931348623157e308",
    ] {
        assert!(accepts(text), "{text}");
        assert!(serde_json::from_str::<serde_json::Value>(text).is_ok(), "{text}");
    }
}

#[test]
fn refuses_what_is_not_json_and_what_parsers_disagree_on() {
    for text in [
        "",
        " ",
        " 1",
        "1\n",
        "\t[]",
        "{}\r",
        "01",
        "1.",
        ".5",
        "-",
        "+1",
        "1e",
        "1e+",
        "0x1",
        "nul",
        "truee",
        "NaN",
        "'a'",
        "\"",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"\t\"",
        "\"\n\"",
        "[",
        "]",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "{1:2}",
        "{\"a\":1]",
        "[1}",
        "1 2",
        "{} {}",
        "\u{feff}1",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800\\u0041\"",
        "\"\\ud800x\"",
        "1e309",
        "-1e400",
        "\0",
        "// c\n1",
        "\u{a0}1",
    ] {
        assert!(!accepts(text), "{text:?}");
    }
    assert!(check_json(b"\"\xff\"").is_none());
    assert!(!accepts(&"9".repeat(310)));
}

#[test]
fn nesting_has_a_limit_in_every_mix() {
    const DEPTH_MAX: usize = JSON_DEPTH_MAX;
    let nest = |depth, open: &str, close: &str| format!("{}1{}", open.repeat(depth), close.repeat(depth));
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        assert!(accepts(&nest(DEPTH_MAX, open, close)));
        assert!(!accepts(&nest(DEPTH_MAX + 1, open, close)));
        assert!(!accepts(&open.repeat(1_000_000)));
    }
    assert!(accepts(&nest(DEPTH_MAX / 2, "[{\"a\":", "}]")));
    assert!(!accepts(&nest(DEPTH_MAX / 2, "[{\"a\":", "]}")));
}

#[test]
fn line_breaks_are_seen_outside_of_strings() {
    let has = |text: &str| check_json(text.as_bytes()).unwrap().has_line_breaks;
    assert!(has("[1,\n2]") && has("[\r]") && has("[[]\n]") && has("{\"a\"\n:1}"));
    assert!(!has("[\"\\n\\r\", 1]"));
}

fn json_like() -> impl Strategy<Value = String> {
    let tokens = prop::sample::select(vec![
        "{", "}", "[", "]", ",", ":", "\"a\"", "\"", "\\", "1", "-", "0", ".5", "e9", "true", "null", " ",
        "\n", "\\u12ab", "\"\\n\"", "\\ud83d", "\\ude8c",
    ]);
    prop::collection::vec(tokens, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn agrees_with_the_device_protocol(text in json_like()) {
        let frame =
            FrameRef { ts: 1, channel: "c", content_type: ContentType::Json, payload: text.as_bytes() };
        let members = frame_members(Seq(1), &frame);
        prop_assert_eq!(accepts(&text), members.contains(",\"json\":"), "{:?}", text);
    }

    #[test]
    fn never_accepts_what_serde_json_refuses(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        if check_json(&bytes).is_some() {
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_ok());
        }
    }
}
