//! The bytes and words of Trough: what devices, feeders and eaters say to one another.
//!
//! Nothing in this crate does I/O, reads a clock or draws a random number. Every decoder bounds what it
//! reads before it allocates, and answers malformed input with an error, never with a panic.
//!
//! - [`words`]: device ids, channels, epochs, sequence numbers.
//! - [`frame`]: one frame in its binary form, the same on the wire and on disk.
//! - [`device`]: the device protocol, `trough.v1` and `trough.v1.json`.
//! - [`batch`]: frames of many devices with a directory of runs; travels from feeder to journal unchanged.
//! - [`link`]: the feeder–eater protocol.
//! - [`close`]: WebSocket close codes and the advice they carry.
//! - [`limits`]: every limit, in one place.
//!
//! The prose is in `docs/protocol.md`.

pub mod batch;
pub mod close;
pub mod device;
pub mod frame;
pub mod limits;
pub mod link;
pub mod wire;
pub mod words;

pub use words::{Channel, ContentType, DeviceId, Epoch, LinkId, Micros, Seq};
