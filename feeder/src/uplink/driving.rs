//! What happens on a link while it is up: batches go out, answers come in, and somebody listens for silence.

use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;
use trough_protocol::batch::BatchBuilder;
use trough_protocol::link::{self, LinkCode, LinkMessage};

use super::Uplink;
use super::connection::{Connection, LinkEnd, read_message};
use super::link::Link;

const PING_EVERY: Duration = Duration::from_secs(1);
const SILENCE_MAX: Duration = Duration::from_secs(4);
/// A builder keeps this much between batches.
const BUILDER_KEEPS_BYTES: usize = 1024 * 1024;

/// Carries batches and acks until the link ends. Dropping it ends the link.
pub async fn drive(uplink: &Uplink, link: &Rc<Link>, connection: Connection) -> LinkEnd {
    let Connection { mut reader, mut writer, mut buffer, .. } = connection;
    let reading = async {
        let mut landed = Vec::new();
        loop {
            let len = read_message(&mut reader, &mut buffer).await?;
            let bytes = buffer.split_to(len);
            let was_open = link.is_open();
            link.receive(link::decode(&bytes)?, &uplink.context.metrics, &mut landed)?;
            for flow in landed.drain(..) {
                uplink.place(&flow);
            }
            if was_open && !link.is_open() {
                uplink.evacuate(link, "goaway");
            }
        }
    };
    let result: Result<Infallible, LinkEnd> = tokio::select! {
        result = reading => result,
        result = write_batches(uplink, link, &mut writer) => result,
        result = watch(link) => result,
    };
    match result {
        Err(end) => {
            // The eater's goodbye says more than the end that followed.
            let goodbye = link.take_farewell().filter(|farewell| matches!(farewell, LinkEnd::Goaway { .. }));
            let end = goodbye.unwrap_or(end);
            say_goodbye(&mut writer, &end).await;
            end
        }
    }
}

/// Tells the eater why, if the end is this side's.
pub async fn say_goodbye(writer: &mut (impl AsyncWrite + Unpin), end: &LinkEnd) {
    let code = match end {
        LinkEnd::Protocol(_) | LinkEnd::Unexpected(_) => LinkCode::PROTOCOL,
        LinkEnd::Aged | LinkEnd::AddressGone | LinkEnd::Duplicate => LinkCode::AGED,
        LinkEnd::Io(_)
        | LinkEnd::Tls(_)
        | LinkEnd::Unauthorized(_)
        | LinkEnd::Closed
        | LinkEnd::Silence(_)
        | LinkEnd::Goaway { .. } => return,
    };
    let mut bytes = Vec::new();
    link::encode(&LinkMessage::Goaway { code, retry_after_ms: 0, text: end.to_string() }, &mut bytes);
    let say = async {
        writer.write_all(&bytes).await?;
        writer.flush().await
    };
    // The link is over either way; the eater's log is better off with the reason.
    let _ = tokio::time::timeout(Duration::from_millis(100), say).await;
}

/// Pings while anything is unacknowledged, and finds the link dead after a silence.
async fn watch(link: &Link) -> Result<Infallible, LinkEnd> {
    let mut nonce = 0;
    let mut ping_at = Instant::now() + PING_EVERY;
    loop {
        let silent_at = link.live.borrow().last_heard + SILENCE_MAX;
        tokio::time::sleep_until(ping_at.min(silent_at)).await;
        let now = Instant::now();
        let mut live = link.live.borrow_mut();
        let waits = !live.in_flight.is_empty() || !live.locates.is_empty();
        if !waits {
            live.last_heard = now;
        } else if now >= live.last_heard + SILENCE_MAX {
            return Err(LinkEnd::Silence(SILENCE_MAX));
        }
        if now >= ping_at {
            ping_at = now + PING_EVERY;
            if waits {
                nonce += 1;
                link::encode(&LinkMessage::Ping { nonce }, &mut live.control);
                link.work.notify_one();
            }
        }
    }
}

/// Sends control messages and batches as credit allows. The link's own end comes from here, where no message is
/// half written.
async fn write_batches(
    uplink: &Uplink,
    link: &Link,
    writer: &mut (impl AsyncWrite + Unpin),
) -> Result<Infallible, LinkEnd> {
    let mut builder = BatchBuilder::new();
    loop {
        let control = link.take_control();
        if !control.is_empty() {
            writer.write_all(&control).await?;
            writer.flush().await?;
        }
        if let Some(end) = link.served() {
            return Err(end);
        }
        match link.next_batch(&mut builder, uplink.batch_sizes) {
            Some(number) => {
                let len = builder.len();
                uplink.context.metrics.in_flight_bytes.inc_by(len as i64);
                let (head, data) = builder.finish();
                write_all_vectored(writer, [&link::feed_header(number, len), head, data]).await?;
                // TLS keeps what the socket does not take at once.
                writer.flush().await?;
                builder.clear(BUILDER_KEEPS_BYTES);
            }
            None => link.work.notified().await,
        }
    }
}

async fn write_all_vectored(writer: &mut (impl AsyncWrite + Unpin), parts: [&[u8]; 3]) -> io::Result<()> {
    let mut slices = parts.map(IoSlice::new);
    let mut slices = &mut slices[..];
    while slices.iter().any(|slice| !slice.is_empty()) {
        let written = writer.write_vectored(slices).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut slices, written);
    }
    Ok(())
}
