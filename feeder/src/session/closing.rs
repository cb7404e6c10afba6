//! The end of a session: the close frame, and what a device that said goodbye left behind.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use trough_protocol::close::reason;

use super::Ended;
use super::socket::Socket;
use crate::flow::Flow;
use crate::shard::Shard;

/// How long the device may take to answer a close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long frames that a device left behind may take to become durable; in raw mode nobody else has them, so
/// there is no limit but the feeder's own end.
const LEFT_BEHIND_TIMEOUT: Duration = Duration::from_secs(5);

/// Closes the socket and sees off what is still on its way.
pub async fn close<S>(shard: &Shard, ended: &Ended, flow: Option<&Flow>, socket: &mut Socket<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match ended {
        Ended::Ours(ending) => {
            let delay = ending.retry_after.map(|delay| delay.as_millis() as u64);
            let reason = reason(ending.code, delay, &ending.text);
            if socket.close(ending.code.code(), reason).is_ok() {
                let _ = tokio::time::timeout(CLOSE_TIMEOUT, read_to_end(socket)).await;
            }
        }
        Ended::Theirs => {
            // tungstenite has the answer ready; reading on sends it.
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, read_to_end(socket)).await;
        }
        Ended::Lost(_) => {}
    }
    let Some(flow) = flow else { return };
    let seen_off = async {
        left_behind(flow, matches!(ended, Ended::Theirs)).await;
        flow.abandon();
        // The device's next session asks for its head: what is in flight must have landed by then.
        until(flow, Flow::has_landed).await;
    };
    tokio::select! {
        () = seen_off => {}
        () = shard.context.shutdown.killed.cancelled() => {}
    }
}

async fn until(flow: &Flow, holds: impl Fn(&Flow) -> bool) {
    poll_fn(|cx| {
        flow.set_waker(cx.waker());
        if holds(flow) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Reads and drops what still comes until the connection ends. Closing with unread bytes would reset it, and the
/// device might never see the close frame.
async fn read_to_end<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut Socket<S>) {
    poll_fn(|cx| {
        socket.set_waker(cx.waker());
        if socket.flush().is_err() {
            return Poll::Ready(());
        }
        if socket.is_broken() {
            // The rest of a message that was too large, or worse.
            return if socket.is_blocked() { Poll::Pending } else { socket.poll_drain(cx) };
        }
        loop {
            match socket.read() {
                Ok(Some(_)) => {}
                Ok(None) => return Poll::Pending,
                Err(_) => return Poll::Ready(()),
            }
        }
    })
    .await;
}

async fn left_behind(flow: &Flow, said_goodbye: bool) {
    let settled = until(flow, Flow::is_settled);
    if flow.keeps {
        settled.await;
    } else if said_goodbye {
        let _ = tokio::time::timeout(LEFT_BEHIND_TIMEOUT, settled).await;
    }
}
