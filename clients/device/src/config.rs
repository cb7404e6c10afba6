//! What a device is told at its start.

use std::fmt;
use std::time::Duration;

use http::HeaderValue;
use trough_protocol::device::{SUBPROTOCOL_BINARY, SUBPROTOCOL_JSON};

use crate::dial::Dialer;
use crate::error::ConfigError;
use crate::outbox::{Cut, ResumeState};
use crate::tls::Tls;

/// Which of the two forms of the protocol is spoken. They carry the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// `trough.v1`: small and cheap.
    #[default]
    Binary,
    /// `trough.v1.json`: readable, for looking at what goes over the wire.
    Json,
}

impl Mode {
    pub(crate) fn subprotocol(self) -> &'static str {
        match self {
            Self::Binary => SUBPROTOCOL_BINARY,
            Self::Json => SUBPROTOCOL_JSON,
        }
    }
}

/// A device's bearer token. It is never shown: `Debug` prints `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Takes a token as it is; [`Config::new`] and [`Device::restart`](crate::Device::restart) check it.
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }

    /// The value of the `Authorization` header.
    pub(crate) fn header(&self) -> Result<HeaderValue, ConfigError> {
        if self.0.is_empty() {
            return Err(ConfigError::Token("it is empty"));
        }
        if !self.0.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ConfigError::Token("it has a character that no token has"));
        }
        let mut value = HeaderValue::try_from(format!("Bearer {}", self.0))
            .map_err(|_| ConfigError::Token("it has a character that no header can carry"))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<T: Into<String>> From<T> for Token {
    fn from(token: T) -> Self {
        Self::new(token)
    }
}

/// How a device connects and buffers. Make one with [`Config::new`] and change what differs.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// The feeder: `ws://` or `wss://` (`http://` and `https://` mean the same), a host, and optionally a port
    /// and a path. Without a path it is `/v1/stream`.
    pub url: String,
    /// The device's token.
    pub token: Token,
    /// Default: binary.
    pub mode: Mode,
    /// Bytes of frames that are held until they are acknowledged; a caller of `send` waits while it is full.
    /// Default: 1 MiB. Memory is taken as needed.
    pub buffer_bytes: usize,
    /// Where the last run of the program stood. Default: nowhere, a new epoch is asked for.
    pub resume: Option<ResumeState>,
    /// Whether the program takes commands: [`Device::next_command`](crate::Device::next_command). Default: it does not, and
    /// the feeder sends none.
    pub commands: bool,
    /// Most frames in one message. Default: 256. Frames are never held back to fill a message.
    pub frames_per_message: u32,
    /// A message takes no further frame beyond so many bytes. Default: 16 KiB. The feeder's own limit holds too.
    pub message_bytes: usize,
    /// The shortest delay before connecting again. Default: 100 ms.
    pub backoff_min: Duration,
    /// The longest delay before connecting again, unless the feeder asks for a longer one. Default: 30 s.
    pub backoff_max: Duration,
    /// For name resolution, TCP, TLS and the upgrade together. Default: 10 s.
    pub connect_timeout: Duration,
    /// A connection is dead when nothing has come for so long; the feeder pings every 20 s. Default: 30 s.
    pub silence_timeout: Duration,
    /// Who the device says it is. Default: `trough-device/` and the version.
    pub user_agent: String,
    /// For `wss://`. Default: the compiled-in root certificates (those of Mozilla).
    pub tls: Option<Tls>,
    /// Replaces how the connection is made: a proxy, a tunnel, memory in a test. It is responsible for TLS too.
    pub dialer: Option<Dialer>,
    /// Makes the delays and masks repeatable, for tests. Default: from the operating system.
    pub seed: Option<u64>,
}

impl Config {
    /// The defaults for this feeder and token.
    pub fn new(url: impl Into<String>, token: impl Into<Token>) -> Self {
        Self {
            url: url.into(),
            token: token.into(),
            mode: Mode::Binary,
            buffer_bytes: 1024 * 1024,
            resume: None,
            commands: false,
            frames_per_message: 256,
            message_bytes: 16 * 1024,
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            silence_timeout: Duration::from_secs(30),
            user_agent: concat!("trough-device/", env!("CARGO_PKG_VERSION")).into(),
            tls: None,
            dialer: None,
            seed: None,
        }
    }

    /// Every value that is checked here and not by its own type.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let invalid = |field, value: String, accepted| Err(ConfigError::Value { field, value, accepted });
        if self.buffer_bytes < 1024 {
            return invalid("buffer_bytes", self.buffer_bytes.to_string(), "1024 or more");
        }
        if self.frames_per_message == 0 {
            return invalid("frames_per_message", "0".into(), "1 or more");
        }
        if self.message_bytes == 0 {
            return invalid("message_bytes", "0".into(), "1 or more");
        }
        if self.backoff_min.is_zero() || self.backoff_min > self.backoff_max {
            let value = format!("{:?}", self.backoff_min);
            return invalid("backoff_min", value, "more than 0 and at most backoff_max");
        }
        for (field, value) in
            [("connect_timeout", self.connect_timeout), ("silence_timeout", self.silence_timeout)]
        {
            if value.is_zero() {
                return invalid(field, format!("{value:?}"), "more than 0");
            }
        }
        let resume = self.resume.unwrap_or_default();
        if resume.acked > resume.sent {
            let value = format!("{resume:?}");
            return invalid("resume", value, "a state whose acked is at most its sent");
        }
        Ok(())
    }

    pub(crate) fn cut(&self) -> Cut {
        Cut {
            buffer_bytes: self.buffer_bytes,
            frames_per_message: self.frames_per_message.into(),
            message_bytes: self.message_bytes,
        }
    }
}
