//! What the HTTP clients of both ways have in common.

use std::sync::Once;

use reqwest::{Client, ClientBuilder, Response};

/// Most of an answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Most of it that is kept.
const KEPT_BYTES_MAX: usize = 200;

/// A client that goes straight to where it is sent: no proxy of the environment, which would look names up by itself.
pub(crate) fn builder() -> ClientBuilder {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // It fails only if the process has decided already.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    Client::builder().no_proxy().user_agent(concat!("trough/", env!("CARGO_PKG_VERSION")))
}

/// What a failed request comes down to; the layers above it say nothing that helps, and name the URL.
pub(crate) fn plain(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it did not answer in time".into();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    if error.is_connect() { format!("it cannot be connected to: {cause}") } else { cause.to_string() }
}

/// The body of an answer, up to a limit: what is longer is left where it is, with its connection.
pub(crate) async fn bytes(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = ANSWER_BYTES_MAX - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() >= room {
            break;
        }
    }
    body
}

/// The beginning of an answer's body, as text.
pub(crate) async fn said(response: Response) -> String {
    let body = bytes(response).await;
    let shown = &body[..body.len().min(KEPT_BYTES_MAX)];
    let mut text = String::from_utf8_lossy(shown).trim().to_owned();
    if body.len() > KEPT_BYTES_MAX {
        text.push('…');
    }
    text
}
