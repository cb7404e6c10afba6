//! Every limit of the wire formats. A decoder refuses what exceeds them before it allocates.

/// The largest integer the protocols carry: 2^53 − 1, the largest that JSON readers agree on (RFC 8259, section 6).
pub const INT_MAX: u64 = (1 << 53) - 1;
/// Longest device id, in bytes.
pub const DEVICE_ID_BYTES_MAX: usize = 64;
/// Longest channel name, in bytes.
pub const CHANNEL_BYTES_MAX: usize = 64;
/// Longest content type that is not one of the coded ones, in bytes.
pub const CONTENT_TYPE_BYTES_MAX: usize = 127;
/// Largest payload of one frame that any deployment may allow, in bytes. The default limit is
/// [`FRAME_BYTES_DEFAULT`].
pub const FRAME_BYTES_MAX: usize = 1024 * 1024;
/// Default largest payload of one frame, in bytes.
pub const FRAME_BYTES_DEFAULT: usize = 64 * 1024;
/// Largest batch, in bytes: header, directory and data together.
pub const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most runs in one batch.
pub const BATCH_RUNS_MAX: usize = 16 * 1024;
/// Largest link message, in bytes, without its length prefix: one largest batch and its envelope.
pub const LINK_MESSAGE_BYTES_MAX: usize = BATCH_BYTES_MAX + 64;
/// Largest link message that is not a FEED, in bytes.
pub const LINK_CONTROL_BYTES_MAX: usize = 1024;
/// Longest human-readable text in a control message, in bytes, as one byte holds its length; longer ones are cut
/// by the sender.
pub const TEXT_BYTES_MAX: usize = 255;
/// Deepest nesting of a `json` payload of `trough.v1.json`, in levels of arrays and objects: readers get it inside
/// another document, and common parsers give up at 128 levels.
pub const JSON_DEPTH_MAX: usize = 100;
/// Largest payload of a command, in bytes.
pub const COMMAND_BYTES_MAX: usize = 16 * 1024;
/// Largest payload of a device's answer to a command, in bytes.
pub const COMMAND_RESULT_BYTES_MAX: usize = 4 * 1024;
/// Most bytes in the reason of a WebSocket close frame (RFC 6455, section 5.5).
pub const CLOSE_REASON_BYTES_MAX: usize = 123;
