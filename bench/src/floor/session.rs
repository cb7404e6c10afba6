//! One WebSocket of the floor.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};
use trough_protocol::device::{ClientMessage, SUBPROTOCOL_BINARY, ServerMessage, Welcome, binary};
use trough_protocol::limits::{FRAME_BYTES_MAX, INT_MAX};
use trough_protocol::{Epoch, Seq};

use super::commit::{Committer, Progress};

/// 4 to 8 KiB measured best: more is zeroed for every read, less needs more reads.
const READ_BUFFER_BYTES: usize = 8 * 1024;
/// Messages handled before other sessions get their turn.
const MESSAGES_PER_POLL: usize = 256;

/// Serves one connection until it ends.
///
/// # Errors
/// What tungstenite says; a message that is not due reads as an end.
pub async fn serve(stream: TcpStream, committer: Option<Rc<Committer>>) -> Result<(), Error> {
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES).write_buffer_size(0);
    let mut socket = accept_hdr_async_with_config(stream, Choose, Some(config)).await?;
    let Some(hello) = socket.next().await.transpose()? else { return Ok(()) };
    if !matches!(binary::decode_client(&hello.into_data()), Ok(ClientMessage::Hello(_))) {
        return Ok(());
    }
    socket.send(encode(&welcome())).await?;
    let mut session = Session { socket, committer, progress: Rc::default(), received: 0, told: 0 };
    poll_fn(|cx| session.poll(cx)).await
}

/// Agrees to the one subprotocol.
struct Choose;

impl tokio_tungstenite::tungstenite::handshake::server::Callback for Choose {
    fn on_request(
        self,
        _request: &Request,
        mut response: Response,
    ) -> Result<Response, tokio_tungstenite::tungstenite::handshake::server::ErrorResponse> {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL_BINARY));
        Ok(response)
    }
}

fn welcome() -> ServerMessage {
    ServerMessage::Welcome(Welcome {
        epoch: Epoch(1),
        resume: Seq::FIRST,
        time: INT_MAX,
        window_bytes: u32::MAX,
        frame_bytes_max: FRAME_BYTES_MAX as u32,
        message_bytes_max: 2 * FRAME_BYTES_MAX as u32,
        session: [0; 16],
    })
}

fn encode(message: &ServerMessage) -> Message {
    let mut bytes = Vec::with_capacity(16);
    binary::encode_server(message, &mut bytes);
    Message::Binary(bytes.into())
}

struct Session {
    socket: WebSocketStream<TcpStream>,
    committer: Option<Rc<Committer>>,
    progress: Rc<Progress>,
    received: u64,
    told: u64,
}

impl Session {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.committer.is_some() {
            self.progress.set_waker(cx.waker());
        }
        if let Poll::Ready(result) = self.read(cx) {
            return Poll::Ready(result);
        }
        let durable = match &self.committer {
            Some(committer) => {
                committer.submit();
                self.progress.durable()
            }
            None => self.received,
        };
        let mut socket = Pin::new(&mut self.socket);
        if durable > self.told && socket.as_mut().poll_ready(cx)?.is_ready() {
            socket.as_mut().start_send(encode(&ServerMessage::Ack(Seq(durable))))?;
            self.told = durable;
        }
        // What is not written now is written by a later poll.
        let _ = socket.poll_flush(cx)?;
        Poll::Pending
    }

    /// Ready when the session ends.
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        for _ in 0..MESSAGES_PER_POLL {
            match Pin::new(&mut self.socket).poll_next(cx) {
                Poll::Ready(Some(Ok(Message::Binary(bytes)))) => match binary::decode_client(&bytes) {
                    Ok(ClientMessage::Frames { first, data }) => self.receive(first, data),
                    _ => return Poll::Ready(Ok(())),
                },
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn receive(&mut self, first: Seq, data: &[u8]) {
        self.received = first.0 + count(data) - 1;
        if let Some(committer) = &self.committer {
            committer.append(&self.progress, self.received, data);
        }
    }
}

/// Frames in a message, by their lengths alone.
fn count(mut data: &[u8]) -> u64 {
    let mut count = 0;
    while let Some((len, rest)) = data.split_first_chunk() {
        data = rest.get(u32::from_le_bytes(*len) as usize..).unwrap_or_default();
        count += 1;
    }
    count
}
