//! What is between a stream's task and its connection: a bounded channel, and a clock that the task watches.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use hyper::body::Frame;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

use super::events::EventEncoder;
use crate::api::reads::ReadPermit;
use crate::api::stream::BrokenOff;

/// Chunks that wait to be sent.
const QUEUED_CHUNKS: usize = 2;

/// Why a stream ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The eater stops: connect again at once, with the last id.
    Draining,
    /// The client did not take what was there.
    Slow,
    /// What comes next was compacted before the client took it.
    Expired,
    /// What comes next cannot be read just now.
    Unavailable,
    /// Nobody reads any more.
    Gone,
}

impl End {
    /// In events and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::Slow => "slow",
            Self::Expired => "cursor_expired",
            Self::Unavailable => "unavailable",
            Self::Gone => "gone",
        }
    }
}

/// The task's side.
pub(super) struct EventWriter {
    /// What is written next.
    pub events: EventEncoder,
    chunks: mpsc::Sender<Bytes>,
    end: Arc<OnceLock<End>>,
    chunk_bytes: usize,
    patience: Duration,
}

/// The connection's side.
pub(super) struct LiveBody {
    chunks: mpsc::Receiver<Bytes>,
    end: Arc<OnceLock<End>>,
    revoked: Pin<Box<WaitForCancellationFutureOwned>>,
    done: bool,
    /// Ends the task that watches the reader's rights.
    _watch: DropGuard,
    /// One of the streams that may be open at a time.
    _permit: ReadPermit,
}

/// The two sides. `revoked` breaks the body off; `watch` is cancelled when the body is dropped. A client that takes
/// nothing for `patience` though something is there is slow.
pub(super) fn live_body(
    (chunk_bytes, patience): (usize, Duration),
    revoked: CancellationToken,
    watch: CancellationToken,
    permit: ReadPermit,
) -> (EventWriter, LiveBody) {
    let (sender, chunks) = mpsc::channel(QUEUED_CHUNKS);
    let end = Arc::new(OnceLock::new());
    let body = LiveBody {
        chunks,
        end: end.clone(),
        revoked: Box::pin(revoked.cancelled_owned()),
        done: false,
        _watch: watch.drop_guard(),
        _permit: permit,
    };
    (EventWriter { events: EventEncoder::new(), chunks: sender, end, chunk_bytes, patience }, body)
}

impl EventWriter {
    /// Whether there is enough for a chunk.
    pub fn is_full(&self) -> bool {
        self.events.len() >= self.chunk_bytes
    }

    /// Hands over what was written, unless the connection is behind. Whether it did.
    pub fn try_send(&mut self) -> bool {
        if self.events.len() == 0 {
            return true;
        }
        match self.chunks.try_reserve() {
            Ok(room) => {
                room.send(self.events.take().into());
                true
            }
            Err(_) => false,
        }
    }

    /// Hands over what was written, and waits for the connection.
    ///
    /// # Errors
    /// [`End::Slow`], [`End::Gone`].
    pub async fn send(&mut self) -> Result<(), End> {
        if self.events.len() == 0 {
            return Ok(());
        }
        match timeout(self.patience, self.chunks.reserve()).await {
            Ok(Ok(room)) => {
                room.send(self.events.take().into());
                Ok(())
            }
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(End::Slow),
        }
    }

    /// Returns when nobody reads any more. Cancel-safe.
    pub async fn closed(&self) {
        self.chunks.closed().await;
    }

    /// Ends the stream, behind what was written before, if that can be handed over.
    pub fn finish(mut self, end: End) {
        let _ = self.try_send();
        // It was not set before: the writer is consumed.
        let _ = self.end.set(end);
    }
}

impl HttpBody for LiveBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if self.done {
            return Poll::Ready(None);
        }
        if self.revoked.as_mut().poll(context).is_ready() {
            self.done = true;
            return Poll::Ready(Some(Err(BrokenOff::Revoked)));
        }
        let Some(chunk) = ready!(self.chunks.poll_recv(context)) else {
            self.done = true;
            // Without a word the task died.
            let end = self.end.get().map(|end| EventEncoder::end(end.name()));
            return Poll::Ready(Some(end.map(|end| Frame::data(end.into())).ok_or(BrokenOff::Unreadable)));
        };
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.done
    }
}
