//! The server's side of a handshake.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::explain::explain;
use super::reloading::ServerTls;

/// A connection after its handshake.
pub type TlsStream = tokio_rustls::server::TlsStream<TcpStream>;

/// The first byte of every TLS connection: a handshake record (RFC 8446, section 5.1).
pub const TLS_FIRST_BYTE: u8 = 22;

/// What plain HTTP gets on a port with TLS.
const NOT_TLS: &str = "\
HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\nConnection: close\r\n\r\n\
{\"status\":400,\"code\":\"tls_needed\",\"detail\":\"this port speaks TLS: use https:// or wss://\"}";
/// How long a client may take to read why it is refused.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// Too slow.
    #[error("the TLS handshake was not over within {} s", .0.as_secs_f64())]
    Timeout(Duration),
    /// The client speaks plain HTTP, and was told.
    #[error("the client does not speak TLS: use https:// or wss://")]
    Plain,
    /// It broke, or one side refused the other.
    #[error("the TLS handshake failed: {0}")]
    Failed(String),
}

/// Shakes hands within `limit`, and tells a client that speaks plain HTTP that this is the wrong way.
///
/// Cancel-safe: dropping it closes the connection.
///
/// # Errors
/// [`AcceptError`]; the connection is closed.
pub async fn accept(tls: &ServerTls, stream: TcpStream, limit: Duration) -> Result<TlsStream, AcceptError> {
    let shake = async {
        let first = first_byte(&stream).await.map_err(|error| AcceptError::Failed(error.to_string()))?;
        if first.is_some_and(|byte| byte.is_ascii_uppercase()) {
            let _ = tokio::time::timeout(FAREWELL, say_not_tls(stream)).await;
            return Err(AcceptError::Plain);
        }
        let accepted = TlsAcceptor::from(tls.config()).accept(stream).into_fallible().await;
        match accepted {
            Ok(stream) => Ok(stream),
            Err((error, stream)) => {
                // The alert that tells the client why is on its way.
                let _ = tokio::time::timeout(FAREWELL, see_off(stream)).await;
                Err(AcceptError::Failed(explain(&error)))
            }
        }
    };
    tokio::time::timeout(limit, shake).await.unwrap_or(Err(AcceptError::Timeout(limit)))
}

/// The first byte that the other side sends, which stays to be read; `None` if it closes before.
///
/// # Errors
/// The connection broke.
pub async fn first_byte(stream: &TcpStream) -> io::Result<Option<u8>> {
    let mut byte = [0];
    let read = stream.peek(&mut byte).await?;
    Ok((read > 0).then_some(byte[0]))
}

async fn say_not_tls(mut stream: TcpStream) {
    if stream.write_all(NOT_TLS.as_bytes()).await.is_ok() {
        see_off(stream).await;
    }
}

/// Closes once the client has: closing with unread bytes would reset the connection, and what was said last might be
/// lost.
async fn see_off(mut stream: TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut sink = [0; 1024];
    while matches!(stream.read(&mut sink).await, Ok(read) if read > 0) {}
}
