//! How a connection becomes a link: versions, the shared key, and credit.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use trough_protocol::LinkId;
use trough_protocol::link::{self, Challenge, LinkCode, LinkMessage, Versions};

use super::end::{LinkEnd, protocol};
use super::{EMPTIED, EMPTIED_RETRY_MS, Grant, Link};

/// How long a feeder may take for its hello.
pub(super) const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// When a feeder that was refused for want of credit may come back.
const FULL_RETRY_MS: u32 = 2000;
/// When a feeder without the key may come back: somebody has to change its configuration first.
const UNAUTHORIZED_RETRY_MS: u32 = 1000;

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    /// From HELLO to WELCOME. What the link may have waiting.
    pub(super) async fn shake_hands(&mut self) -> Result<Grant, LinkEnd> {
        let bytes = self.next_message().await?;
        let LinkMessage::Hello { versions, feeder, software, challenge } = link::decode(&bytes)? else {
            return Err(protocol("HELLO was due".into()));
        };
        let version = Versions::OURS.negotiate(versions).map_err(|text| LinkEnd::Goodbye {
            code: LinkCode::VERSION,
            retry_after_ms: 10_000,
            text,
        })?;
        self.check_key(feeder, challenge).await?;
        if self.around.shutdown.drain.is_on() {
            let (code, retry_after_ms) = (LinkCode::DRAINING, EMPTIED_RETRY_MS);
            return Err(LinkEnd::Goodbye { code, retry_after_ms, text: EMPTIED.into() });
        }
        let grant = self.around.budget.grant().ok_or_else(|| LinkEnd::Goodbye {
            code: LinkCode::FULL,
            retry_after_ms: FULL_RETRY_MS,
            text: "this eater has no credit left to give: start another, or raise --credit-bytes-max".into(),
        })?;
        let software_here = concat!("trough ", env!("CARGO_PKG_VERSION")).to_owned();
        let eater = self.around.eater;
        self.put(&LinkMessage::Welcome { version, eater, credit: grant.bytes, software: software_here });
        self.write_out().await?;
        tracing::info!(%feeder, %software, version, credit = grant.bytes, "link up");
        Ok(grant)
    }

    /// Has the feeder prove that it knows the shared key, if links have one.
    async fn check_key(&mut self, feeder: LinkId, challenge: Option<Challenge>) -> Result<(), LinkEnd> {
        let security = self.around.security.clone();
        let unauthorized = |text: &str| LinkEnd::Goodbye {
            code: LinkCode::UNAUTHORIZED,
            retry_after_ms: UNAUTHORIZED_RETRY_MS,
            text: text.to_owned(),
        };
        let pending = security.challenge(feeder, self.around.eater, challenge).map_err(unauthorized)?;
        let Some(pending) = pending else { return Ok(()) };
        self.put(&pending.message());
        self.write_out().await?;
        let bytes = self.next_message().await?;
        match link::decode(&bytes)? {
            LinkMessage::Proof { proof } => pending.check(&proof).map_err(unauthorized),
            LinkMessage::Goaway { text, .. } => Err(LinkEnd::Refused(text)),
            other => Err(protocol(format!("PROOF was due, it sent {other:?}"))),
        }
    }

    async fn next_message(&mut self) -> Result<BytesMut, LinkEnd> {
        loop {
            if let Some(len) = self.whole_message()? {
                return Ok(self.buffer.split_to(len));
            }
            self.make_room()?;
            if self.socket.read_buf(&mut self.buffer).await? == 0 {
                return Err(LinkEnd::Closed);
            }
        }
    }
}
