//! One link: batches in, acknowledgements out.
//!
//! One task does both, and never waits for storage: the journal is told of a batch and answers through the
//! [`LinkSink`], so a ping is answered while a disk is stuck. Most acknowledgements do not even pass through the task
//! ([`super::direct`]); it takes note of them when it wakes for something else, or a little later.

mod end;
mod handshake;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::Instant;
use trough_protocol::batch::Batch;
use trough_protocol::limits::BATCH_BYTES_MAX;
use trough_protocol::link::{self, LinkCode, LinkMessage};
use trough_protocol::wire::WireError;
use trough_protocol::{DeviceId, LinkId, Seq};
use trough_runtime::shutdown::Shutdown;
use trough_runtime::trace::Tracer;

use super::budget::{Budget, Grant};
use super::door::LinkSecurity;
use super::questions::{LastSubmitted, Questions};
use super::sink::{LinkSink, Rejection};
use super::traces::Traces;
use crate::frames::AnyJournal;
use crate::journal::{Closed, Submission};
use crate::metrics::IngestMetrics;
use end::{LinkEnd, protocol};
use handshake::HELLO_TIMEOUT;

/// How long a feeder may leave what is sent to it unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// A feeder that says nothing for this long is asked whether it lives, and given up after twice this long.
const QUIET_MAX: Duration = Duration::from_secs(30);
/// Read at once; batches up to this size are kept in shared blocks.
const READ_BYTES: usize = 64 * 1024;

/// When a feeder may come back to an eater that stops: another may have its address by then.
const STOPPED_RETRY_MS: u32 = 100;
/// To one that is emptied by hand: as soon as it may take links again, more or less.
const EMPTIED_RETRY_MS: u32 = 5000;
const EMPTIED: &str = "this eater is emptied";
/// Over how long links end when the eater is emptied by hand and nobody says how long it may take.
pub const LEAVE_SPREAD: Duration = Duration::from_secs(5);

/// What a link's task needs from around it.
#[derive(Clone)]
pub struct Surroundings {
    /// This eater.
    pub eater: LinkId,
    /// Where batches go.
    pub journal: AnyJournal,
    /// Counters.
    pub metrics: IngestMetrics,
    /// When to stop.
    pub shutdown: Shutdown,
    /// What may be on its way, over all links.
    pub budget: std::rc::Rc<Budget>,
    /// The batch that was submitted last, over all links.
    pub last: LastSubmitted,
    /// What a feeder must show.
    pub security: std::rc::Rc<LinkSecurity>,
    /// Where traces of runs go.
    pub tracer: Tracer,
}

struct Link<S> {
    socket: S,
    buffer: BytesMut,
    /// Messages to be written.
    out: Vec<u8>,
    around: Surroundings,
    sink: Arc<LinkSink>,
    /// Batches submitted and not answered: number and bytes.
    waiting: VecDeque<(u64, usize)>,
    waiting_bytes: u64,
    last_number: u64,
    /// What it may have waiting; kept until nothing waits any more, whatever becomes of the connection.
    grant: Option<Grant>,
    questions: Questions,
    /// Heads that the journal is looking for: the query, and what it found.
    heads: JoinSet<(u32, Option<Seq>)>,
    /// When a feeder that says nothing is asked, or given up.
    look_again: Instant,
    asked: bool,
}

/// Serves one link to its end, which it logs. Dropping it drops the connection; what was submitted is committed
/// all the same. `plain` is a second handle of the socket, if what is written goes out as it is.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    socket: S,
    plain: Option<OwnedFd>,
    peer: String,
    around: Surroundings,
) {
    let began = Instant::now();
    let shutdown = around.shutdown.clone();
    let metrics = around.metrics.clone();
    let traces = Traces::new(around.tracer.clone());
    let mut link = Link {
        socket,
        buffer: BytesMut::with_capacity(READ_BYTES),
        out: Vec::new(),
        around,
        sink: LinkSink::new(traces),
        waiting: VecDeque::new(),
        waiting_bytes: 0,
        last_number: 0,
        grant: None,
        questions: Questions::default(),
        heads: JoinSet::new(),
        look_again: began + QUIET_MAX,
        asked: false,
    };
    metrics.links.inc();
    let serving = async {
        let Err(end) = link.run(plain).await;
        // What comes now is told by the task, or to nobody.
        link.sink.direct.close();
        link.say_goodbye(&end).await;
        tracing::info!(
            %peer,
            batches = link.last_number,
            duration_ms = began.elapsed().as_millis() as u64,
            reason = %end,
            "link ended"
        );
        metrics.links.dec();
        // A feeder that comes again gets new credit only besides what is still in memory.
        link.see_off().await;
    };
    tokio::select! {
        () = serving => {}
        () = shutdown.killed.cancelled() => {}
    }
}

/// How long batches that were acknowledged without the task may be counted as waiting.
const TIDY_AFTER: Duration = Duration::from_millis(100);
/// How often a question that waits for other links' batches is looked at.
const QUESTION_EVERY: Duration = Duration::from_millis(1);
/// Most questions of one link that may wait.
const QUESTIONS_MAX: usize = 100_000;

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    async fn run(&mut self, plain: Option<OwnedFd>) -> Result<std::convert::Infallible, LinkEnd> {
        let grant =
            tokio::time::timeout(HELLO_TIMEOUT, self.shake_hands()).await.map_err(|_| LinkEnd::NoHello)??;
        let credit = grant.bytes;
        self.grant = Some(grant);
        let shutdown = self.around.shutdown.clone();
        let leaving = shutdown.told_to_leave(LEAVE_SPREAD);
        tokio::pin!(leaving);
        let mut said_goaway = false;
        self.sink.direct.open(plain);
        loop {
            self.make_room()?;
            let sink = self.sink.clone();
            tokio::select! {
                read = self.socket.read_buf(&mut self.buffer) => {
                    if read? == 0 {
                        return Err(LinkEnd::Closed);
                    }
                    self.look_again = Instant::now() + QUIET_MAX;
                    self.asked = false;
                    if let Err(end) = self.receive(credit) {
                        self.answer_waiting().await?;
                        return Err(end);
                    }
                }
                () = sink.news() => {}
                () = tokio::time::sleep(TIDY_AFTER), if !self.waiting.is_empty() => {}
                () = tokio::time::sleep(QUESTION_EVERY), if !self.questions.is_empty() => {}
                Some(Ok((query, head))) = self.heads.join_next() => {
                    // A feeder that hears nothing asks again, or tells its device to come back.
                    if let Some(seq) = head {
                        self.put(&LinkMessage::Head { query, seq });
                    }
                }
                () = &mut leaving, if !said_goaway => {
                    said_goaway = true;
                    let (code, text) = (LinkCode::DRAINING, "this eater stops".to_owned());
                    let goaway = match shutdown.is_draining() {
                        true => LinkMessage::Goaway { code, retry_after_ms: STOPPED_RETRY_MS, text },
                        false => LinkMessage::Goaway { code, retry_after_ms: EMPTIED_RETRY_MS, text: EMPTIED.into() },
                    };
                    self.put(&goaway);
                }
                () = tokio::time::sleep_until(self.look_again) => self.ask_if_alive()?,
            }
            self.put_answers()?;
            self.write_out().await?;
        }
    }

    /// Makes room for what comes next: the rest of a large message, or another block.
    fn make_room(&mut self) -> Result<(), LinkEnd> {
        let missing = link::message_len(&self.buffer)?.unwrap_or(0).saturating_sub(self.buffer.len());
        if self.buffer.capacity() - self.buffer.len() < missing.max(READ_BYTES / 4) {
            self.buffer.reserve(missing.max(READ_BYTES));
        }
        Ok(())
    }

    fn whole_message(&self) -> Result<Option<usize>, WireError> {
        Ok(link::message_len(&self.buffer)?.filter(|len| self.buffer.len() >= *len))
    }

    fn receive(&mut self, credit: u64) -> Result<(), LinkEnd> {
        while let Some(len) = self.whole_message()? {
            let bytes = self.buffer.split_to(len).freeze();
            match link::decode(&bytes)? {
                LinkMessage::Feed { number, batch } => self.feed(number, bytes.slice_ref(batch), credit)?,
                LinkMessage::Ping { nonce } => self.put(&LinkMessage::Pong { nonce }),
                LinkMessage::Locate { query, epoch, device } => {
                    if self.questions.len() + self.heads.len() >= QUESTIONS_MAX {
                        return Err(protocol(format!("{QUESTIONS_MAX} LOCATEs wait, and another one came")));
                    }
                    self.questions.ask(
                        query,
                        DeviceId::new(device).map_err(WireError::from)?,
                        epoch,
                        &self.around.last,
                    );
                }
                LinkMessage::Pong { .. } => {}
                LinkMessage::Goaway { code, text, .. } => {
                    tracing::info!(code = code.name(), %text, "the feeder says goodbye");
                }
                other => return Err(protocol(format!("it sent {other:?}, which only eaters send"))),
            }
        }
        Ok(())
    }

    fn feed(&mut self, number: u64, batch: Bytes, credit: u64) -> Result<(), LinkEnd> {
        if number != self.last_number + 1 {
            let due = self.last_number + 1;
            return Err(protocol(format!("batch {number} came, {due} was due")));
        }
        let bytes = batch.len() as u64;
        if self.waiting_bytes + bytes > credit {
            self.tidy();
        }
        if self.waiting_bytes + bytes > credit {
            let waiting = self.waiting_bytes;
            let text = format!("{waiting} bytes wait, {bytes} more came, and the credit is {credit}");
            return Err(protocol(text));
        }
        match Batch::check(&batch) {
            Ok(checked) => self.sink.traces.begin(number, &checked),
            Err(error) => {
                self.around.metrics.batches_rejected.inc();
                let single = batch.len() < BATCH_BYTES_MAX && is_single(&batch);
                return Err(match error {
                    // Bytes that were damaged on the way are sent again; if the same device's are damaged when it
                    // travels alone, they were damaged before they left.
                    WireError::Checksum { .. } if !single => error.into(),
                    error => LinkEnd::Rejected(Rejection {
                        number,
                        code: LinkCode::DAMAGED,
                        text: error.to_string(),
                    }),
                });
            }
        }
        self.last_number = number;
        self.waiting.push_back((number, batch.len()));
        self.waiting_bytes += bytes;
        self.around.metrics.waiting_bytes.inc_by(bytes as i64);
        self.around.last.set(&self.sink, number);
        let submission = Submission { batch, number, sink: self.sink.clone() };
        self.around.journal.submit(submission).map_err(|Closed| LinkEnd::Goodbye {
            code: LinkCode::DRAINING,
            retry_after_ms: STOPPED_RETRY_MS,
            text: "this eater stops".into(),
        })
    }

    /// Forgets what is committed; up to which batch that is.
    fn tidy(&mut self) -> u64 {
        let number = self.sink.committed_number();
        while let Some((waiting, bytes)) = self.waiting.front().copied()
            && waiting <= number
        {
            self.waiting.pop_front();
            self.waiting_bytes -= bytes as u64;
            self.around.metrics.waiting_bytes.dec_by(bytes as i64);
        }
        number
    }

    /// Puts what the journal has answered into the output.
    fn put_answers(&mut self) -> Result<(), LinkEnd> {
        let number = self.tidy();
        if self.sink.direct.is_news(number) {
            self.put(&LinkMessage::Ate { number });
        }
        while let Some(question) = self.questions.next_ready() {
            let journal = self.around.journal.clone();
            self.heads.spawn_local(async move {
                (question.query, journal.head(&question.device, question.epoch).await)
            });
        }
        match self.sink.take_rejection() {
            Some(rejection) => Err(LinkEnd::Rejected(rejection)),
            None => Ok(()),
        }
    }

    /// What was received before a fault is still answered.
    async fn answer_waiting(&mut self) -> Result<(), LinkEnd> {
        let sink = self.sink.clone();
        sink.direct.close();
        loop {
            self.put_answers()?;
            self.write_out().await?;
            if self.waiting.is_empty() {
                return Ok(());
            }
            sink.news().await;
        }
    }

    /// Keeps the grant until everything that was submitted is decided.
    async fn see_off(&mut self) {
        while !self.waiting.is_empty() && !self.sink.has_decided(self.last_number) {
            self.sink.news().await;
        }
        self.around.metrics.waiting_bytes.dec_by(self.waiting_bytes as i64);
        self.grant = None;
    }

    /// Called when nothing was heard for a while: asks once, and gives up when that was in vain.
    fn ask_if_alive(&mut self) -> Result<(), LinkEnd> {
        if std::mem::replace(&mut self.asked, true) {
            return Err(LinkEnd::Silence);
        }
        self.look_again = Instant::now() + QUIET_MAX;
        self.put(&LinkMessage::Ping { nonce: 0 });
        Ok(())
    }

    fn put(&mut self, message: &LinkMessage<'_>) {
        link::encode(message, &mut self.out);
    }

    async fn write_out(&mut self) -> Result<(), LinkEnd> {
        if !self.sink.direct.begin(&mut self.out) {
            return Ok(());
        }
        let write = async {
            self.socket.write_all(&self.out).await?;
            // TLS keeps what the socket does not take at once.
            self.socket.flush().await
        };
        let written = tokio::time::timeout(WRITE_TIMEOUT, write).await;
        self.out.clear();
        self.out.shrink_to(READ_BYTES);
        written.map_err(|_| LinkEnd::Unread)??;
        self.sink.direct.done();
        Ok(())
    }

    async fn say_goodbye(&mut self, end: &LinkEnd) {
        match end {
            LinkEnd::Goodbye { code, retry_after_ms, text } => {
                let (code, retry_after_ms) = (*code, *retry_after_ms);
                self.put(&LinkMessage::Goaway { code, retry_after_ms, text: text.clone() });
            }
            LinkEnd::Rejected(rejection) => {
                let Rejection { number, code, text } = rejection.clone();
                self.put(&LinkMessage::Reject { number, code, text });
                let text = "a batch was refused".to_owned();
                self.put(&LinkMessage::Goaway { code, retry_after_ms: 0, text });
            }
            _ => return,
        }
        if self.write_out().await.is_err() || self.socket.shutdown().await.is_err() {
            return;
        }
        // Closing with unread bytes would reset the connection, and the goodbye might be lost.
        let mut sink = [0; 4096];
        let drain = async { while matches!(self.socket.read(&mut sink).await, Ok(n) if n > 0) {} };
        let _ = tokio::time::timeout(Duration::from_secs(2), drain).await;
    }
}

/// Whether the batch has a single run, by its header alone.
fn is_single(batch: &[u8]) -> bool {
    batch.get(8..12) == Some(&1_u32.to_le_bytes())
}
