#![doc = include_str!("../README.md")]

mod backoff;
mod commands;
mod config;
mod connection;
mod device;
mod dial;
mod driver;
mod error;
mod frames;
mod held;
mod message;
mod outbox;
mod session;
mod shared;
mod status;
mod tls;
mod upgrade;

pub use commands::Command;
pub use config::{Config, Mode, Token};
pub use device::Device;
pub use dial::{Dialer, Stream};
pub use error::{ConfigError, SendError, StartError, Stopped, WaitError};
pub use frames::FrameBuf;
pub use outbox::ResumeState;
pub use status::{Acked, Event, Status};
pub use tls::Tls;

pub use trough_protocol::close::Advice;
pub use trough_protocol::device::{CommandId, CommandStatus, SkipReason};
pub use trough_protocol::frame::FrameRef as Frame;
pub use trough_protocol::{ContentType, Epoch, Micros, Seq};
