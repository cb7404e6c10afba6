//! A WebSocket upgrade by hand: what a refusal says, byte by byte, is what is tested.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::poll::{SOON, ends};

/// An answer that is not 101.
#[derive(Debug)]
pub struct Refused {
    /// The status.
    pub status: u16,
    /// The head as it came.
    pub head: String,
    /// The problem in the body.
    pub problem: Value,
}

impl Refused {
    /// The problem's code.
    pub fn code(&self) -> &str {
        self.problem["code"].as_str().unwrap_or_default()
    }

    /// What it says to people.
    pub fn detail(&self) -> &str {
        self.problem["detail"].as_str().unwrap_or_default()
    }
}

/// A request for an upgrade.
#[derive(Debug, Clone)]
pub struct Ask {
    at: SocketAddr,
    path: String,
    headers: Vec<(String, String)>,
    receive_buffer: Option<u32>,
}

impl Ask {
    /// For a path of a feeder, without token and subprotocol.
    pub fn new(at: SocketAddr, path: &str) -> Self {
        Self { at, path: path.to_owned(), headers: Vec::new(), receive_buffer: None }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this token.
    #[must_use]
    pub fn token(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    /// With this subprotocol.
    #[must_use]
    pub fn speaks(self, subprotocol: &str) -> Self {
        self.header("Sec-WebSocket-Protocol", subprotocol)
    }

    /// With room for so few bytes that are not read.
    #[must_use]
    pub fn receive_buffer(mut self, bytes: u32) -> Self {
        self.receive_buffer = Some(bytes);
        self
    }

    /// Sends it.
    ///
    /// # Errors
    /// A refusal.
    pub async fn send(self) -> Result<WebSocketStream<TcpStream>, Refused> {
        ends("the upgrade is answered", SOON, async { self.answer(self.connect().await).await }).await
    }

    /// Sends it by TLS to a server with this certificate.
    ///
    /// # Errors
    /// A refusal.
    pub async fn send_by_tls(
        self,
        certificate_pem: &str,
    ) -> Result<WebSocketStream<TlsStream<TcpStream>>, Refused> {
        let connector = connector(certificate_pem);
        ends("the upgrade is answered", SOON, async {
            let stream = self.connect().await;
            let stream = connector.connect(self.at.ip().into(), stream).await.unwrap();
            self.answer(stream).await
        })
        .await
    }

    async fn connect(&self) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        let stream = socket.connect(self.at).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    async fn answer<S>(&self, mut stream: S) -> Result<WebSocketStream<S>, Refused>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            self.path, self.at
        );
        self.headers.iter().for_each(|(name, value)| request.push_str(&format!("{name}: {value}\r\n")));
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let (head, rest) = read_head(&mut stream).await;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
        if status == 101 {
            assert!(
                head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
                "the key is answered as RFC 6455 says: {head}"
            );
            return Ok(WebSocketStream::from_partially_read(stream, rest, Role::Client, None).await);
        }
        let mut body = rest;
        // A proxy keeps the connection; then the length is said.
        let length =
            head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        while body.len() < length.unwrap_or(usize::MAX) && stream.read_buf(&mut body).await.unwrap() > 0 {}
        let problem = serde_json::from_slice(&body).unwrap_or_default();
        Err(Refused { status, head, problem })
    }
}

fn connector(certificate_pem: &str) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate_pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth()).into()
}

/// Reads up to the empty line; gives what came after it, too.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return (String::from_utf8(bytes).unwrap(), rest);
        }
        assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0, "the connection ended before the answer");
    }
}
