use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use proptest::prelude::*;
use serde_json::value::RawValue;

const AT: Micros = 1_490_072_402_000_001;

#[derive(serde::Deserialize)]
struct Object<'a> {
    epoch: u64,
    seq: u64,
    ts: u64,
    time: String,
    received_at: String,
    channel: String,
    #[serde(borrow)]
    json: Option<&'a RawValue>,
    text: Option<String>,
    content_type: Option<String>,
    b64: Option<String>,
}

fn encode(format: FrameFormat, frames: &[FrameRef<'_>]) -> Vec<u8> {
    let mut encoder = FrameEncoder::new(format, 16);
    encoder.begin_run(Epoch(3), AT + 5);
    for (seq, frame) in (7..).zip(frames) {
        encoder.push(Seq(seq), frame);
    }
    assert_eq!(encoder.frames(), frames.len() as u64);
    encoder.take()
}

fn frame<'a>(content_type: ContentType<'a>, payload: &'a [u8]) -> FrameRef<'a> {
    FrameRef { ts: AT, channel: "a/b:c~+@=", content_type, payload }
}

#[test]
fn the_three_formats_are_these() {
    let frames = [
        frame(ContentType::Json, b"{\"a\":\n1}"),
        frame(ContentType::Text, b"say \"hi\",\nthere"),
        frame(ContentType::Other("a/\"b\""), b"\xff\x00"),
    ];
    let lines = concat!(
        r#"{"epoch":3,"seq":7,"ts":1490072402000001,"time":"2017-03-21T05:00:02.000001Z","#,
        r#""received_at":"2017-03-21T05:00:02.000006Z","channel":"a/b:c~+@=","json":{"a": 1}}"#,
        "\n",
        r#"{"epoch":3,"seq":8,"ts":1490072402000001,"time":"2017-03-21T05:00:02.000001Z","#,
        r#""received_at":"2017-03-21T05:00:02.000006Z","channel":"a/b:c~+@=","text":"say \"hi\",\nthere"}"#,
        "\n",
        r#"{"epoch":3,"seq":9,"ts":1490072402000001,"time":"2017-03-21T05:00:02.000001Z","#,
        r#""received_at":"2017-03-21T05:00:02.000006Z","channel":"a/b:c~+@=","#,
        r#""content_type":"a/\"b\"","b64":"/wA="}"#,
        "\n",
    );
    assert_eq!(String::from_utf8(encode(FrameFormat::NdJson, &frames)).unwrap(), lines);
    let array = lines.trim_end().replace("}\n{", "},\n{").replace("\"a\": 1", "\"a\":\n1");
    assert_eq!(String::from_utf8(encode(FrameFormat::Json, &frames)).unwrap(), array);
    let prefix = "1490072402000001,2017-03-21T05:00:02.000001Z,2017-03-21T05:00:02.000006Z,a/b:c~+@=";
    let csv = [
        "epoch,seq,ts,time,received_at,channel,content_type,encoding,payload\r\n".to_owned(),
        format!("3,7,{prefix},application/json,json,\"{{\"\"a\"\":\n1}}\"\r\n"),
        format!("3,8,{prefix},text/plain; charset=utf-8,text,\"say \"\"hi\"\",\nthere\"\r\n"),
        format!("3,9,{prefix},\"a/\"\"b\"\"\",b64,/wA=\r\n"),
    ];
    assert_eq!(String::from_utf8(encode(FrameFormat::Csv, &frames)).unwrap(), csv.concat());
}

#[test]
fn what_is_not_what_it_claims_is_given_as_base64() {
    let wrong: [(ContentType<'_>, &[u8]); 4] = [
        (ContentType::Json, b"{\"a\":}"),
        (ContentType::Json, b"{} "),
        (ContentType::Json, b""),
        (ContentType::Text, b"\xc3"),
    ];
    for (claimed, payload) in wrong {
        let line = encode(FrameFormat::NdJson, &[frame(claimed, payload)]);
        let object: Object<'_> = serde_json::from_slice(&line).unwrap();
        assert_eq!(object.content_type.as_deref(), Some(claimed.as_str()));
        assert_eq!(BASE64.decode(object.b64.unwrap()).unwrap(), payload);
    }
}

/// Members and payload must be those of the device protocol, so that what was sent is what is read.
fn assert_as_sent(object: &Object<'_>, sent: &FrameRef<'_>) {
    let members = trough_protocol::device::json::frame_members(Seq(object.seq), sent);
    let expected: String = format!("{{\"epoch\":3,\"time\":\"\",\"received_at\":\"\",{members}}}");
    let expected: Object<'_> = serde_json::from_str(&expected).unwrap();
    assert_eq!((object.epoch, object.seq, object.ts), (3, expected.seq, expected.ts));
    assert_eq!(object.channel, expected.channel);
    assert_eq!(object.received_at, "2017-03-21T05:00:02.000006Z");
    assert_eq!(object.time, "2017-03-21T05:00:02.000001Z");
    let payload: &[u8] = match (object.json, &object.text, &object.b64) {
        (Some(json), None, None) => {
            assert_eq!(expected.json.unwrap().get().as_bytes(), sent.payload);
            assert_eq!(json.get(), expected.json.unwrap().get().replace(['\n', '\r'], " "));
            return;
        }
        (None, Some(text), None) => text.as_bytes(),
        (None, None, Some(b64)) => &BASE64.decode(b64).unwrap(),
        _ => panic!("exactly one of json, text and b64"),
    };
    assert_eq!(payload, sent.payload);
    let content_type = object.content_type.as_deref().unwrap_or(ContentType::Text.as_str());
    assert_eq!(content_type, sent.content_type.as_str());
}

fn content_type() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("application/json".to_owned()),
        Just("text/plain; charset=utf-8".to_owned()),
        Just("application/octet-stream".to_owned()),
        "[!-~]([ -~]{0,125}[!-~])?",
    ]
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    let json = prop::collection::vec(
        prop::sample::select(vec![
            "[", "]", "{", "}", "\"a\":", "1", ",", "\n", "\r\n", " ", "\"\\n\"", "\"",
        ]),
        0..10,
    );
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        any::<String>().prop_map(String::into_bytes),
        json.prop_map(|parts| parts.concat().into_bytes()),
        any::<String>().prop_map(|text| serde_json::to_vec_pretty(&vec![text]).unwrap()),
    ]
}

proptest! {
    #[test]
    fn every_payload_comes_back(frames in prop::collection::vec((content_type(), payload()), 1..5)) {
        let sent: Vec<_> =
            frames.iter().map(|(name, bytes)| frame(ContentType::parse(name).unwrap(), bytes)).collect();

        let lines = encode(FrameFormat::NdJson, &sent);
        let lines: Vec<_> = lines.strip_suffix(b"\n").unwrap().split(|b| *b == b'\n').collect();
        prop_assert_eq!(lines.len(), sent.len());
        for (line, sent) in lines.iter().zip(&sent) {
            assert_as_sent(&serde_json::from_slice(line).unwrap(), sent);
        }

        let array = [&b"["[..], &encode(FrameFormat::Json, &sent), b"]"].concat();
        let objects: Vec<&RawValue> = serde_json::from_slice(&array).unwrap();
        prop_assert_eq!(objects.len(), sent.len());

        let csv = encode(FrameFormat::Csv, &sent);
        let mut reader = csv::Reader::from_reader(&csv[..]);
        let records: Vec<_> = reader.byte_records().collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(records.len(), sent.len());
        for (record, sent) in records.iter().zip(&sent) {
            prop_assert_eq!(&record[6], sent.content_type.as_str().as_bytes());
            match &record[7] {
                b"b64" => prop_assert_eq!(BASE64.decode(&record[8]).unwrap(), sent.payload),
                b"json" | b"text" => prop_assert_eq!(&record[8], sent.payload),
                other => panic!("{other:?}"),
            }
        }
    }
}
