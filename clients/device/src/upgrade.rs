//! The HTTP request that becomes a WebSocket (RFC 6455, section 4.1).
//!
//! It is written here and not by tungstenite, which logs the whole request, token included, at level trace.

use std::time::Duration;

use http::HeaderValue;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::handshake::client::{Response, generate_key};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::handshake::machine::TryParse as _;

use crate::dial::{Stream, Target};

/// Largest head of an answer.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How much of the body of a refusal is read.
const BODY_BYTES_MAX: usize = 4 * 1024;
/// How much of it is shown.
const DETAIL_CHARS_MAX: usize = 300;

/// Why there is no WebSocket.
#[derive(Debug)]
pub(crate) enum UpgradeError {
    /// Another status than 101.
    Refused { status: u16, retry_after: Option<Duration>, detail: String },
    /// No answer, or none of a WebSocket server.
    Failed(String),
}

impl From<std::io::Error> for UpgradeError {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// What is asked for.
pub(crate) struct Request<'a> {
    pub target: &'a Target,
    pub subprotocol: &'static str,
    pub authorization: &'a HeaderValue,
    pub user_agent: &'a HeaderValue,
}

/// Asks, and returns the bytes that came after the answer. No deadline of its own.
pub(crate) async fn upgrade(io: &mut dyn Stream, request: &Request<'_>) -> Result<Vec<u8>, UpgradeError> {
    let key = generate_key();
    io.write_all(&head(request, &key)).await?;
    io.flush().await?;
    let mut bytes = Vec::new();
    let (size, response) = loop {
        if io.take(4096).read_buf(&mut bytes).await? == 0 {
            return Err(UpgradeError::Failed("the connection ended before the answer to the upgrade".into()));
        }
        match Response::try_parse(&bytes) {
            Ok(Some(parsed)) => break parsed,
            Ok(None) if bytes.len() < HEAD_BYTES_MAX => {}
            Ok(None) => return Err(UpgradeError::Failed("the answer's head is over 16 KiB".into())),
            Err(error) => return Err(UpgradeError::Failed(format!("the answer is not HTTP/1.1: {error}"))),
        }
    };
    let rest = bytes.split_off(size);
    if response.status().as_u16() != 101 {
        return Err(refusal(io, &response, rest).await);
    }
    check(&response, &key, request.subprotocol)?;
    Ok(rest)
}

fn head(request: &Request<'_>, key: &str) -> Vec<u8> {
    let path = request.target.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut head = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: {}\r\n",
        request.target.authority(),
        request.subprotocol
    )
    .into_bytes();
    for (name, value) in [("Authorization", request.authorization), ("User-Agent", request.user_agent)] {
        head.extend_from_slice(name.as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}

fn check(response: &Response, key: &str, subprotocol: &str) -> Result<(), UpgradeError> {
    let upgraded = header(response, "upgrade").eq_ignore_ascii_case("websocket");
    if !upgraded || header(response, "sec-websocket-accept") != derive_accept_key(key.as_bytes()) {
        return Err(UpgradeError::Failed("the answer is 101, but not to this WebSocket request".into()));
    }
    let answered = header(response, "sec-websocket-protocol");
    if answered != subprotocol {
        let answered = show(answered);
        let text = format!("the server chose subprotocol {answered:?}, asked was {subprotocol:?}");
        return Err(UpgradeError::Failed(text));
    }
    Ok(())
}

/// Reads as much of the body as is worth showing.
async fn refusal(io: &mut dyn Stream, response: &Response, mut body: Vec<u8>) -> UpgradeError {
    let length = header(response, "content-length").parse().unwrap_or(0_usize).min(BODY_BYTES_MAX);
    while body.len() < length {
        match io.take(4096).read_buf(&mut body).await {
            Ok(read) if read > 0 => {}
            _ => break,
        }
    }
    let status = response.status();
    let retry_after = header(response, "retry-after").trim().parse().ok().map(Duration::from_secs);
    let detail = match detail(&body) {
        text if text.is_empty() => status.to_string(),
        text => format!("{status}: {text}"),
    };
    UpgradeError::Refused { status: status.as_u16(), retry_after, detail }
}

/// The sentence in a problem+json (RFC 9457), or the body's first characters.
fn detail(body: &[u8]) -> String {
    let problem: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let member = |name| problem.as_ref().and_then(|problem| problem.get(name)).and_then(|text| text.as_str());
    match member("detail").or_else(|| member("title")) {
        Some(text) => show(text),
        None => show(&String::from_utf8_lossy(body)),
    }
}

fn show(text: &str) -> String {
    text.trim().chars().filter(|c| !c.is_control()).take(DETAIL_CHARS_MAX).collect()
}
