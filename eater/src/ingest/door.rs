//! What a connection must pass before it is a link: TLS, if this eater has it, and inside the handshake the shared
//! key.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use trough_protocol::LinkId;
use trough_protocol::link::{self, Challenge, LinkCode, LinkKey, LinkMessage, Opening, Proof, Side};
use trough_runtime::random::random_bytes;
use trough_runtime::tls::ServerTls;
use trough_runtime::tls::accept::{AcceptError, TLS_FIRST_BYTE, TlsStream, accept, first_byte};

/// How long the first byte, and TLS, may take.
const TLS_TIMEOUT: Duration = Duration::from_secs(5);
/// When a feeder that was refused may come back: somebody has to change its configuration first.
const RETRY_MS: u32 = 1000;

const TLS_NEEDED: &str = "this eater takes links over TLS only: start the feeder with --link-tls-cert, --link-tls-key and --link-tls-ca";
const NO_TLS: &str = "a feeder speaks TLS, and this eater does not: start both sides with --link-tls-cert, \
                      --link-tls-key and --link-tls-ca, or neither";
const KEY_NEEDED: &str =
    "this eater takes links with a shared key only: start the feeder with --link-key-file";
const WRONG_KEY: &str = "the feeder has another key: give both sides the same --link-key-file";

/// How links are secured; by default not at all.
#[derive(Debug, Clone, Default)]
pub struct LinkSecurity {
    /// Both sides show certificates.
    pub tls: Option<ServerTls>,
    /// Both sides show that they know a key.
    pub key: Option<LinkKey>,
}

/// A connection that may become a link.
pub enum Admitted {
    /// As it came.
    Plain(TcpStream),
    /// With TLS around it.
    Tls(Box<TlsStream>),
}

impl LinkSecurity {
    /// Lets a connection in; says in the log why not. Cancel-safe: dropping it closes the connection.
    pub async fn admit(&self, stream: TcpStream, peer: &str) -> Option<Admitted> {
        let Some(tls) = &self.tls else { return self.admit_plain(stream, peer).await };
        let shake = async {
            let first = first_byte(&stream).await.map_err(|error| AcceptError::Failed(error.to_string()))?;
            if first.is_some_and(|byte| byte != TLS_FIRST_BYTE) {
                say_goodbye(stream, TLS_NEEDED).await;
                return Err(AcceptError::Failed(TLS_NEEDED.into()));
            }
            accept(tls, stream, TLS_TIMEOUT).await
        };
        let shaken = tokio::time::timeout(TLS_TIMEOUT, shake).await;
        match shaken.unwrap_or(Err(AcceptError::Timeout(TLS_TIMEOUT))) {
            Ok(stream) => Some(Admitted::Tls(Box::new(stream))),
            Err(error) => {
                tracing::warn!(peer, %error, "link refused");
                None
            }
        }
    }

    async fn admit_plain(&self, stream: TcpStream, peer: &str) -> Option<Admitted> {
        let first = tokio::time::timeout(TLS_TIMEOUT, first_byte(&stream)).await;
        match first {
            Ok(Ok(Some(TLS_FIRST_BYTE))) => tracing::warn!(peer, error = NO_TLS, "link refused"),
            Ok(_) => return Some(Admitted::Plain(stream)),
            Err(_) => tracing::info!(peer, "connection closed, it said nothing"),
        }
        None
    }

    /// What to answer to a HELLO before WELCOME; `None` if links have no key.
    ///
    /// # Errors
    /// What to tell a feeder that has no key.
    pub fn challenge(
        &self,
        feeder: LinkId,
        eater: LinkId,
        theirs: Option<Challenge>,
    ) -> Result<Option<Pending<'_>>, &'static str> {
        let Some(key) = &self.key else { return Ok(None) };
        let feeder_challenge = theirs.ok_or(KEY_NEEDED)?;
        let opening = Opening { feeder, eater, feeder_challenge, eater_challenge: random_bytes() };
        Ok(Some(Pending { key, opening }))
    }
}

/// A feeder that has not proven yet that it knows the key.
pub struct Pending<'a> {
    key: &'a LinkKey,
    opening: Opening,
}

impl Pending<'_> {
    /// What it is asked, and our own proof.
    pub fn message(&self) -> LinkMessage<'static> {
        let Opening { eater, eater_challenge, .. } = self.opening;
        let proof = self.key.prove(Side::Eater, &self.opening);
        LinkMessage::Challenge { eater, challenge: eater_challenge, proof }
    }

    /// Checks its answer.
    ///
    /// # Errors
    /// What to tell it if that is wrong.
    pub fn check(&self, proof: &Proof) -> Result<(), &'static str> {
        self.key.verify(Side::Feeder, &self.opening, proof).then_some(()).ok_or(WRONG_KEY)
    }
}

/// Says in plain bytes why there will be no link.
async fn say_goodbye(mut stream: TcpStream, text: &str) {
    let mut bytes = Vec::new();
    let code = LinkCode::UNAUTHORIZED;
    link::encode(&LinkMessage::Goaway { code, retry_after_ms: RETRY_MS, text: text.to_owned() }, &mut bytes);
    if stream.write_all(&bytes).await.is_err() || stream.shutdown().await.is_err() {
        return;
    }
    // Closing with unread bytes would reset the connection, and the goodbye might be lost.
    let mut sink = [0; 1024];
    while matches!(tokio::io::AsyncReadExt::read(&mut stream, &mut sink).await, Ok(read) if read > 0) {}
}
