//! Events as text: WHATWG HTML, section 9.2 (server-sent events).

use serde::Serialize;
use trough_protocol::device::SkipReason;
use trough_protocol::frame::FrameRef;
use trough_protocol::{DeviceId, Epoch, Micros, Seq};

use crate::api::encode::{FrameEncoder, FrameFormat, push_json_string, time_text};
use crate::journal::run::Kind;

/// What a client waits before it connects again, in milliseconds, if the connection breaks.
const BEGINNING: &[u8] = b"retry: 1000\n\n";

/// Writes events into a buffer of its own.
#[derive(Debug)]
pub(super) struct EventEncoder {
    out: Vec<u8>,
    frame: FrameEncoder,
}

#[derive(Serialize)]
struct GapJson<'a> {
    device: &'a str,
    epoch: u64,
    first: u64,
    last: u64,
    count: u64,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    received_at: String,
}

impl EventEncoder {
    /// One whose stream begins.
    pub fn new() -> Self {
        Self { out: BEGINNING.to_vec(), frame: FrameEncoder::new(FrameFormat::NdJson, 512) }
    }

    /// The frames that follow are of this epoch, and came at this time.
    pub fn begin_run(&mut self, epoch: Epoch, received_at: Micros) {
        self.frame.begin_run(epoch, received_at);
    }

    /// `event: frame`.
    pub fn frame(&mut self, id: &str, device: &DeviceId, seq: Seq, frame: &FrameRef<'_>) {
        self.begin("frame", Some(id));
        self.out.extend_from_slice(b"{\"device\":");
        push_json_string(&mut self.out, device.as_str());
        self.out.push(b',');
        self.frame.push(seq, frame);
        // An object on one line, the opening brace of which stands there already.
        let object = self.frame.take();
        self.out.extend_from_slice(&object[1..]);
        self.out.push(b'\n');
    }

    /// `event: gap`: numbers that have no frames.
    pub fn gap(
        &mut self,
        id: &str,
        device: &DeviceId,
        (epoch, first, last): (Epoch, Seq, Seq),
        (kind, received_at): (Kind, Micros),
    ) {
        let (kind, reason) = match kind {
            Kind::Skip(reason) => ("skipped", Some(SkipReason(reason).name())),
            Kind::Damaged | Kind::Frames => ("damaged", None),
        };
        let gap = GapJson {
            device: device.as_str(),
            epoch: epoch.0,
            first: first.0,
            last: last.0,
            count: last.0 - first.0 + 1,
            kind,
            reason,
            received_at: time_text(received_at),
        };
        self.begin("gap", Some(id));
        let json = serde_json::to_vec(&gap).expect("strings and numbers always serialise");
        self.out.extend_from_slice(&json);
        self.out.extend_from_slice(b"\n\n");
    }

    /// Shows that the connection lives, and where the stream stands: an id without data is no event, but the client
    /// comes back with it.
    pub fn heartbeat(&mut self, id: &str) {
        self.out.extend_from_slice(b": alive\n");
        self.field("id", id);
        self.out.push(b'\n');
    }

    /// `event: end`, as bytes of its own.
    pub fn end(reason: &str) -> Vec<u8> {
        format!("event: end\ndata: {{\"reason\":\"{reason}\"}}\n\n").into_bytes()
    }

    fn begin(&mut self, event: &str, id: Option<&str>) {
        self.field("event", event);
        if let Some(id) = id {
            self.field("id", id);
        }
        self.out.extend_from_slice(b"data: ");
    }

    fn field(&mut self, name: &str, value: &str) {
        for part in [name, ": ", value, "\n"] {
            self.out.extend_from_slice(part.as_bytes());
        }
    }

    /// Bytes in the buffer.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// The bytes written since the last time.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trough_protocol::ContentType;

    #[test]
    fn events_are_written_like_this() {
        let device = DeviceId::new("bus-1").unwrap();
        let mut events = EventEncoder::new();
        events.begin_run(Epoch(1), 1_700_000_000_000_000);
        let payload = b"{\"a\":\n1}";
        let frame = FrameRef { ts: 5, channel: "c", content_type: ContentType::Json, payload };
        events.frame("ID", &device, Seq(7), &frame);
        events.gap("ID2", &device, (Epoch(1), Seq(8), Seq(9)), (Kind::Skip(1), 1_700_000_000_000_000));
        events.heartbeat("ID3");
        let text = String::from_utf8(events.take()).unwrap();
        let expected = "retry: 1000\n\n\
            event: frame\nid: ID\ndata: {\"device\":\"bus-1\",\"epoch\":1,\"seq\":7,\"ts\":5,\
            \"time\":\"1970-01-01T00:00:00.000005Z\",\"received_at\":\"2023-11-14T22:13:20.000000Z\",\
            \"channel\":\"c\",\"json\":{\"a\": 1}}\n\n\
            event: gap\nid: ID2\ndata: {\"device\":\"bus-1\",\"epoch\":1,\"first\":8,\"last\":9,\"count\":2,\
            \"kind\":\"skipped\",\"reason\":\"overflow\",\"received_at\":\"2023-11-14T22:13:20.000000Z\"}\n\n\
            : alive\nid: ID3\n\n";
        assert_eq!(text, expected);
        assert_eq!(EventEncoder::end("slow"), b"event: end\ndata: {\"reason\":\"slow\"}\n\n");
        assert_eq!(events.len(), 0);
    }
}
