//! A long answer: a thread reads and encodes, a bounded channel carries the chunks, the connection sends them.
//!
//! Memory stays flat however much is read: [`QUEUED_CHUNKS`] chunks wait at most, and the thread waits for the
//! connection. When the client goes away the receiver is dropped, and the thread ends at its next chunk.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use hyper::body::Frame;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

use super::encode::FrameWriter;
use super::fault::ReadFault;
use super::frames_query::FramesQuery;
use super::page::FaultOf;
use super::reads::ReadPermit;
use super::refusal::Refusal;
use super::run::RunReader;
use super::walk::Step;

/// Chunks that wait to be sent; one more is being filled and one is with the connection.
const QUEUED_CHUNKS: usize = 2;

/// What the thread says to the connection. A channel that ends without [`Piece::End`] means that the thread died:
/// that must not look like the end of the data.
#[derive(Debug)]
enum Piece {
    Data(Bytes),
    Failed(Refusal),
    End,
}

/// The thread's side.
#[derive(Debug)]
pub(super) struct StreamWriter {
    pieces: mpsc::Sender<Piece>,
    chunk_bytes: usize,
}

/// How a stream ended on the thread's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Everything was handed over.
    Complete,
    /// Nobody wants the rest.
    ClientGone,
}

/// Why a body breaks off. The connection is then closed without the mark that ends a chunked body, so that the
/// client cannot take what it has for the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BrokenOff {
    /// The journal could not be read; the log says what and where.
    #[error("the journal could not be read to the end")]
    Unreadable,
    /// The reader lost its rights.
    #[error("the reader's rights were withdrawn")]
    Revoked,
}

/// The connection's side.
pub(super) struct StreamBody {
    pieces: mpsc::Receiver<Piece>,
    /// Taken out of the channel by [`StreamBody::begin`].
    first: Option<Piece>,
    revoked: Pin<Box<WaitForCancellationFutureOwned>>,
    done: bool,
    /// Ends the task that watches the reader's rights.
    _watch: DropGuard,
    /// One of the reads that may go on at a time.
    _permit: ReadPermit,
}

/// The two sides. `revoked` breaks the body off; `watch` is cancelled when the body is dropped.
pub(super) fn stream(
    chunk_bytes: usize,
    revoked: CancellationToken,
    watch: CancellationToken,
    permit: ReadPermit,
) -> (StreamWriter, StreamBody) {
    let (sender, receiver) = mpsc::channel(QUEUED_CHUNKS);
    let body = StreamBody {
        pieces: receiver,
        first: None,
        revoked: Box::pin(revoked.cancelled_owned()),
        done: false,
        _watch: watch.drop_guard(),
        _permit: permit,
    };
    (StreamWriter { pieces: sender, chunk_bytes }, body)
}

impl StreamWriter {
    /// Sends what the query asks for of `steps`. Blocks while the client is slower than the journal.
    ///
    /// # Errors
    /// The first fault; the body breaks off then.
    pub(super) fn run(
        self,
        steps: impl Iterator<Item = Result<Step, ReadFault>>,
        query: &FramesQuery,
        mut writer: FrameWriter,
        frames: &Counter,
    ) -> Result<Ended, FaultOf> {
        let (mut runs, mut device) = (RunReader::default(), None);
        for step in steps {
            let before = writer.frames();
            let went = step.and_then(|step| {
                match step {
                    Step::Device(next) => {
                        writer.begin_device(&next);
                        device = Some(next);
                    }
                    Step::Chunk(chunk) => {
                        writer.begin_run(chunk.epoch, chunk.received_at);
                        runs.for_each(&chunk, query.order, |seq, frame| {
                            if query.wants(frame) {
                                writer.push(seq, frame);
                            }
                            writer.ready() < self.chunk_bytes || self.send(writer.take())
                        })?;
                    }
                    Step::End => {}
                }
                Ok(())
            });
            frames.inc_by(writer.frames() - before);
            if let Err(fault) = went {
                // What stands before the fault is good, and tells the client how far it came.
                if writer.frames() > 0 && writer.ready() > 0 {
                    self.send(writer.take());
                }
                self.fail(fault.refusal_of(query, device.as_ref()));
                return Err((fault, device));
            }
            // Also noticed where nothing matches, and so nothing is sent.
            if !self.is_wanted() {
                return Ok(Ended::ClientGone);
            }
        }
        writer.finish();
        Ok(self.end(writer.take()))
    }

    /// Whether anybody is still there.
    pub(super) fn is_wanted(&self) -> bool {
        !self.pieces.is_closed()
    }

    /// When so much is ready, it is sent, in bytes.
    pub(super) fn chunk_bytes(&self) -> usize {
        self.chunk_bytes
    }

    /// Sends some bytes, and waits until there is room for them. Whether anybody is still there.
    pub(super) fn send(&self, bytes: Vec<u8>) -> bool {
        let mut bytes = Bytes::from(bytes);
        // A row group of Parquet comes at once.
        while bytes.len() > 2 * self.chunk_bytes {
            if self.pieces.blocking_send(Piece::Data(bytes.split_to(self.chunk_bytes))).is_err() {
                return false;
            }
        }
        bytes.is_empty() || self.pieces.blocking_send(Piece::Data(bytes)).is_ok()
    }

    /// Sends the last bytes and the end.
    pub(super) fn end(&self, bytes: Vec<u8>) -> Ended {
        let ended = self.send(bytes) && self.pieces.blocking_send(Piece::End).is_ok();
        if ended { Ended::Complete } else { Ended::ClientGone }
    }

    /// Breaks the body off. Whether the client is still there does not matter any more.
    pub(super) fn fail(&self, refusal: Refusal) {
        let _ = self.pieces.blocking_send(Piece::Failed(refusal));
    }
}

impl StreamBody {
    /// Waits a little for the thread's first word, so that what cannot be read at all is refused with a status
    /// and a reason. After `wait` the answer begins without it.
    ///
    /// # Errors
    /// What the thread met before its first frame.
    pub(super) async fn begin(&mut self, wait: Duration) -> Result<(), Refusal> {
        match timeout(wait, self.pieces.recv()).await {
            Ok(Some(Piece::Failed(refusal))) => Err(refusal),
            Ok(None) => Err(Refusal::Broken("reading broke off; the server's log says why".to_owned())),
            Ok(Some(piece)) => {
                self.first = Some(piece);
                Ok(())
            }
            Err(_) => Ok(()),
        }
    }
}

impl HttpBody for StreamBody {
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
        let piece = match self.first.take() {
            Some(first) => Some(first),
            None => ready!(self.pieces.poll_recv(context)),
        };
        Poll::Ready(match piece {
            Some(Piece::Data(bytes)) => Some(Ok(Frame::data(bytes))),
            Some(Piece::End) => {
                self.done = true;
                None
            }
            Some(Piece::Failed(_)) | None => {
                self.done = true;
                Some(Err(BrokenOff::Unreadable))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::encode::FrameFormat;
    use crate::api::metrics::ApiMetrics;
    use crate::api::reads::{ReadKind, Reads};
    use crate::api::tests::support::{chunk, damaged, device, steps};
    use crate::journal::{Chunk, ReadError};
    use http_body_util::BodyExt;

    fn sides() -> (StreamWriter, StreamBody, CancellationToken) {
        let metrics = ApiMetrics::register(&mut prometheus_client::registry::Registry::default());
        let revoked = CancellationToken::new();
        let permit = Reads::new(ReadKind::Streams, 1, &metrics).permit().unwrap();
        let (writer, body) = stream(64, revoked.clone(), CancellationToken::new(), permit);
        (writer, body, revoked)
    }

    fn start(
        writer: StreamWriter,
        chunks: Vec<Result<Chunk, ReadError>>,
    ) -> std::thread::JoinHandle<Option<Ended>> {
        std::thread::spawn(move || {
            let query = FramesQuery::parse(device("bus-1"), None).unwrap();
            let lines = FrameWriter::text(FrameFormat::NdJson, 64);
            writer.run(steps("bus-1", chunks), &query, lines, &Counter::default()).ok()
        })
    }

    /// Lines received, and how the body ended.
    async fn read(body: &mut StreamBody) -> (usize, Option<BrokenOff>) {
        let mut lines = 0;
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => lines += frame.data_ref().unwrap().iter().filter(|b| **b == b'\n').count(),
                Err(broken) => return (lines, Some(broken)),
            }
        }
        (lines, None)
    }

    #[tokio::test]
    async fn the_end_is_told_apart_from_every_failure() {
        let (writer, mut body, _revoked) = sides();
        let thread = start(writer, vec![Ok(chunk(1, 1, 9, "c")), Ok(chunk(1, 10, 1, "c"))]);
        body.begin(Duration::from_secs(30)).await.unwrap();
        assert_eq!(read(&mut body).await, (10, None));
        assert_eq!(thread.join().unwrap(), Some(Ended::Complete));

        let (writer, mut body, _revoked) = sides();
        let thread = start(writer, vec![Ok(chunk(1, 1, 9, "c")), Err(damaged(10, 10))]);
        assert_eq!(
            read(&mut body).await,
            (9, Some(BrokenOff::Unreadable)),
            "all that came before the damage"
        );
        assert_eq!(thread.join().unwrap(), None);

        let (writer, mut body, _revoked) = sides();
        start(writer, vec![Err(damaged(1, 9))]).join().unwrap();
        let refusal = body.begin(Duration::from_secs(30)).await.unwrap_err();
        assert!(refusal.to_string().contains("after=1:9"), "{refusal}");

        let (writer, mut body, _revoked) = sides();
        std::thread::spawn(move || {
            let _dies_with_it = writer;
            panic!("expected by the test");
        });
        assert_eq!(read(&mut body).await, (0, Some(BrokenOff::Unreadable)), "a thread that died");

        let (writer, mut body, revoked) = sides();
        let thread = start(writer, vec![Ok(chunk(1, 1, 900, "c"))]);
        body.begin(Duration::from_secs(30)).await.unwrap();
        revoked.cancel();
        assert_eq!(read(&mut body).await, (0, Some(BrokenOff::Revoked)), "also what was read already");
        drop(body);
        assert_eq!(thread.join().unwrap(), Some(Ended::ClientGone));
    }
}
