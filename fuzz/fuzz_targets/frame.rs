//! Frames: what is read is written again and is read as the same, and shown in JSON it is the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trough_protocol::Seq;
use trough_protocol::device::ClientMessage;
use trough_protocol::device::json::{decode_client, frame_members};
use trough_protocol::frame::{FrameRef, check_frames, frames};
use trough_protocol::limits::FRAME_BYTES_DEFAULT;

fuzz_target!(|bytes: &[u8]| {
    let Ok(summary) = check_frames(bytes, FRAME_BYTES_DEFAULT) else {
        frames(bytes).for_each(drop);
        return;
    };
    let mut count = 0;
    let (mut again, mut scratch) = (Vec::new(), Vec::new());
    for frame in frames(bytes) {
        let frame = frame.expect("check_frames accepted it");
        count += 1;
        assert!((summary.min_ts..=summary.max_ts).contains(&frame.ts));
        again.clear();
        frame.encode(&mut again).expect("what was read can be written");
        assert_eq!(again.len(), frame.encoded_len());
        assert_eq!(FrameRef::decode(&mut &again[..], FRAME_BYTES_DEFAULT), Ok(frame));
        let text = format!("{{\"type\":\"frame\",{}}}", frame_members(Seq(1), &frame));
        let shown = decode_client(&text, &mut scratch, FRAME_BYTES_DEFAULT).expect(&text);
        assert_eq!(shown, ClientMessage::Frames { first: Seq(1), data: &again });
    }
    assert_eq!(count, summary.count);
});
