//! `trough.v1.json` in both directions: what is read can be written, and is read again as the same message.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trough_protocol::device::json;
use trough_protocol::frame::check_frames;
use trough_protocol::limits::FRAME_BYTES_DEFAULT;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (mut scratch, mut scratch_again) = (Vec::new(), Vec::new());
    if let Ok(message) = json::decode_client(text, &mut scratch, FRAME_BYTES_DEFAULT) {
        if let trough_protocol::device::ClientMessage::Frames { first, data } = message {
            let summary = check_frames(data, FRAME_BYTES_DEFAULT).expect("what JSON mode makes are frames");
            first.last_of(summary.count).expect("every seq was checked");
        }
        let again = json::encode_client(&message).expect("what was read can be written");
        let read = json::decode_client(&again, &mut scratch_again, FRAME_BYTES_DEFAULT);
        assert_eq!(read, Ok(message), "{again}");
    }
    if let Ok(message) = json::decode_server(text) {
        assert_eq!(json::decode_server(&json::encode_server(&message)), Ok(message));
    }
});
