//! A WebSocket that is polled by hand: tungstenite over a non-blocking stream, with one waker.
//!
//! `tokio_tungstenite::WebSocketStream` keeps two wakers behind two reference counts for a reader and a writer
//! in different tasks. A session is one task, and ten thousand of them are idle: this saves a quarter of their
//! memory and four atomic operations per message.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode as WireCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, WebSocket};

use super::blocks::{BLOCK_BYTES, Block};

/// tungstenite's own buffer, which it keeps for every session, also the idle ones, and zeroes before every read:
/// its default of 128 KiB costs most of the time of sparse traffic. It needs no more than a few small messages,
/// as the socket is read in shared [`Block`]s.
const READ_BUFFER_BYTES: usize = 1024;
/// A read of at least this much goes past the block: the rest of a large message.
const DIRECT_BYTES: usize = BLOCK_BYTES / 2;
/// What may wait to be written: a few acks and a ping, and the commands of one moment (four of 16 KiB, in JSON up to
/// six times that). More means that the device does not read.
const WRITE_BUFFER_BYTES_MAX: usize = 512 * 1024;

struct Polled<S> {
    stream: S,
    waker: Waker,
    /// What was read ahead.
    ahead: Option<Block>,
}

impl<S: AsyncRead + Unpin> Polled<S> {
    fn read_stream(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut into = ReadBuf::new(into);
        let mut cx = Context::from_waker(&self.waker);
        or_would_block(Pin::new(&mut self.stream).poll_read(&mut cx, &mut into))?;
        Ok(into.filled().len())
    }
}

fn or_would_block<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl<S: AsyncRead + Unpin> Read for Polled<S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.ahead.is_none() {
            if into.len() >= DIRECT_BYTES {
                return self.read_stream(into);
            }
            let mut block = Block::take();
            let len = self.read_stream(block.space())?;
            block.filled(len);
            self.ahead = Some(block);
        }
        let block = self.ahead.as_mut().expect("it was there or has just been read");
        let len = block.copy_out(into);
        if block.is_empty() {
            self.ahead = None;
        }
        Ok(len)
    }
}

impl<S: AsyncWrite + Unpin> Write for Polled<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut cx = Context::from_waker(&self.waker);
        or_would_block(Pin::new(&mut self.stream).poll_write(&mut cx, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut cx = Context::from_waker(&self.waker);
        or_would_block(Pin::new(&mut self.stream).poll_flush(&mut cx))
    }
}

/// A WebSocket of one task.
pub struct Socket<S> {
    inner: WebSocket<Polled<S>>,
    blocked: bool,
    broken: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// Takes over a stream after its handshake; `read` is what came with it already.
    pub fn new(stream: S, read: Bytes, message_bytes_max: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
            .max_message_size(Some(message_bytes_max))
            .max_frame_size(Some(message_bytes_max));
        let polled = Polled { stream, waker: Waker::noop().clone(), ahead: None };
        // A copy, as it would drag the whole buffer of the handshake along.
        let inner = WebSocket::from_partially_read(polled, read.to_vec(), Role::Server, Some(config));
        Self { inner, blocked: false, broken: false }
    }

    /// Who is woken when the stream can be read or written again. To be called before the other functions in
    /// every poll.
    pub fn set_waker(&mut self, waker: &Waker) {
        self.inner.get_mut().waker.clone_from(waker);
    }

    /// The next message; `None` when there is none yet.
    ///
    /// # Errors
    /// What tungstenite says; the socket is of no use after it.
    pub fn read(&mut self) -> Result<Option<Message>, Error> {
        match self.inner.read() {
            Ok(message) => Ok(Some(message)),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => {
                self.broken = true;
                Err(error)
            }
        }
    }

    /// Whether reading has failed: what still comes cannot be understood, and tungstenite must not be asked to.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Says that nothing more will be written, and drops what still comes until the device closes.
    pub fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let stream = &mut self.inner.get_mut().stream;
        // A device that has closed already cannot be told, which is no news.
        let _ = Pin::new(&mut *stream).poll_shutdown(cx);
        let mut sink = [0; READ_BUFFER_BYTES];
        loop {
            let mut buffer = ReadBuf::new(&mut sink);
            let read = std::task::ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                return Poll::Ready(());
            }
        }
    }

    /// Sends a message, or keeps it until [`Socket::flush`] succeeds.
    ///
    /// # Errors
    /// As [`Socket::read`].
    pub fn send(&mut self, message: Message) -> Result<(), Error> {
        // TLS keeps what the socket does not take at once; plain TCP has nothing to flush.
        let result = self.inner.write(message).and_then(|()| self.inner.flush());
        self.note_blocked(result)
    }

    /// Tries to write what is kept.
    ///
    /// # Errors
    /// As [`Socket::read`].
    pub fn flush(&mut self) -> Result<(), Error> {
        let result = self.inner.flush();
        self.note_blocked(result)
    }

    /// Queues a close frame.
    ///
    /// # Errors
    /// As [`Socket::read`].
    pub fn close(&mut self, code: u16, reason: String) -> Result<(), Error> {
        let frame = CloseFrame { code: WireCode::from(code), reason: reason.into() };
        let result = self.inner.close(Some(frame));
        self.note_blocked(result)
    }

    /// Whether something is kept because the device does not read.
    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    fn note_blocked(&mut self, result: Result<(), Error>) -> Result<(), Error> {
        self.blocked = false;
        match result {
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                self.blocked = true;
                Ok(())
            }
            other => other,
        }
    }
}
