//! `trough.v1` in both directions: what is read is written again as the same bytes, less fields of later releases.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trough_protocol::device::{ClientMessage, binary, json};
use trough_protocol::frame::check_frames;
use trough_protocol::limits::FRAME_BYTES_DEFAULT;

fuzz_target!(|bytes: &[u8]| {
    let mut again = Vec::new();
    if let Ok(message) = binary::decode_client(bytes) {
        binary::encode_client(&message, &mut again);
        assert!(bytes.starts_with(&again));
        if let ClientMessage::Frames { first, data } = message
            && let Ok(summary) = check_frames(data, FRAME_BYTES_DEFAULT)
            && first.last_of(summary.count).is_ok()
        {
            in_json(&message);
        }
        if let ClientMessage::CommandResult(_) = message {
            let text = json::encode_client(&message).expect("only frames can fail to encode");
            let mut scratch = Vec::new();
            assert_eq!(json::decode_client(&text, &mut scratch, 0).as_ref(), Ok(&message));
        }
    }
    if let Ok(message) = binary::decode_server(bytes) {
        again.clear();
        binary::encode_server(&message, &mut again);
        assert!(bytes.starts_with(&again));
        assert_eq!(json::decode_server(&json::encode_server(&message)), Ok(message));
    }
});

/// Whatever may be sent in binary messages can be said in JSON, and means the same.
fn in_json(message: &ClientMessage<'_>) {
    let text = json::encode_client(message).expect("the frames were checked");
    let mut scratch = Vec::new();
    let read =
        json::decode_client(&text, &mut scratch, FRAME_BYTES_DEFAULT).expect("what was written is read");
    let (ClientMessage::Frames { data: given, .. }, ClientMessage::Frames { data: read, .. }) =
        (message, &read)
    else {
        panic!("frames became {read:?}");
    };
    let frames = |data| trough_protocol::frame::frames(data).map(|frame| frame.expect("checked"));
    assert!(frames(given).eq(frames(read)));
}
