//! One link that is up: whose frames it takes, what is on its way, what is to be written.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trough_protocol::batch::BatchBuilder;
use trough_protocol::link::{self, LinkMessage};
use trough_protocol::{DeviceId, Epoch, LinkId, Seq};

use super::connection::{LinkEnd, goaway};
use super::in_flight::{InFlight, Settled};
use super::locates::Locates;
use super::placement::Candidate;
use super::traces::Traces;
use crate::discovery::EaterAddress;
use crate::flow::Flow;
use crate::metrics::Metrics;
use crate::scheduler::{Scheduler, Share};

/// A link after its handshake, until it ends.
pub struct Link {
    /// Where it leads.
    pub eater: LinkId,
    /// The eater as a choice.
    pub candidate: Candidate,
    /// At which address.
    pub address: EaterAddress,
    /// Since when it is up.
    pub opened: Instant,
    pub(super) live: RefCell<Live>,
    /// Something to send, or credit to send it with, or nothing more to wait for.
    pub(super) work: Notify,
    scheduler: RefCell<Scheduler>,
    /// Cancelled when it takes no further batches.
    left: CancellationToken,
    /// How it ended.
    end: RefCell<Option<LinkEnd>>,
    ended: Notify,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({})", self.eater)
    }
}

/// What changes while it is up.
pub(super) struct Live {
    credit: u64,
    pub(super) in_flight: InFlight,
    pub(super) locates: Locates,
    /// Control messages that wait to be written.
    pub(super) control: Vec<u8>,
    /// Why it takes no further batches. It ends when those in flight are answered.
    farewell: Option<LinkEnd>,
    pub(super) last_heard: Instant,
    pub(super) settled: Settled,
}

impl Link {
    pub(super) fn new(eater: LinkId, credit: u64, address: EaterAddress, traces: Traces) -> Rc<Self> {
        let now = Instant::now();
        Rc::new(Self {
            eater,
            candidate: Candidate::new(eater),
            address,
            opened: now,
            live: RefCell::new(Live {
                credit,
                in_flight: InFlight::new(traces),
                locates: Locates::default(),
                control: Vec::new(),
                farewell: None,
                last_heard: now,
                settled: Settled::default(),
            }),
            work: Notify::new(),
            scheduler: RefCell::default(),
            left: CancellationToken::new(),
            end: RefCell::new(None),
            ended: Notify::new(),
        })
    }

    /// Whether it takes batches.
    pub fn is_open(&self) -> bool {
        !self.left.is_cancelled()
    }

    /// Returns when it takes no further batches. Cancel-safe.
    pub async fn left(&self) {
        self.left.cancelled().await;
    }

    /// Says that `flow` has something to send over it.
    pub fn schedule(&self, flow: &Rc<Flow>) {
        if self.scheduler.borrow_mut().add(flow) {
            self.work.notify_one();
        }
    }

    /// Takes no more of `flow`.
    pub fn unschedule(&self, flow: &Rc<Flow>) {
        self.scheduler.borrow_mut().remove(flow);
    }

    /// Asks for a device's head. No answer comes if the link ends.
    pub fn ask_head(&self, device: &DeviceId, epoch: Epoch) -> oneshot::Receiver<Seq> {
        let mut live = self.live.borrow_mut();
        let (query, answer) = live.locates.ask();
        link::encode(&LinkMessage::Locate { query, epoch, device: device.as_str() }, &mut live.control);
        self.work.notify_one();
        answer
    }

    /// Takes no further batches; ends with `end` when nothing is on its way.
    pub(super) fn part(&self, end: LinkEnd) {
        self.live.borrow_mut().farewell.get_or_insert(end);
        self.left.cancel();
        self.work.notify_one();
    }

    /// The end, if it takes no further batches and has served: nothing is on its way any more.
    pub(super) fn served(&self) -> Option<LinkEnd> {
        let mut live = self.live.borrow_mut();
        // An eater that said goodbye answers batches; questions are asked elsewhere.
        let waits = |end: &LinkEnd| !matches!(end, LinkEnd::Goaway { .. }) && !live.locates.is_empty();
        let served = live.in_flight.is_empty() && live.farewell.as_ref().is_some_and(|end| !waits(end));
        if served { live.farewell.take() } else { None }
    }

    /// Why it was to end, if that was before it has served.
    pub(super) fn take_farewell(&self) -> Option<LinkEnd> {
        self.live.borrow_mut().farewell.take()
    }

    pub(super) fn take_control(&self) -> Vec<u8> {
        std::mem::take(&mut self.live.borrow_mut().control)
    }

    /// Fills a batch and enters it as in flight; `None` if nothing waits, or the credit is used up.
    pub(super) fn next_batch(&self, builder: &mut BatchBuilder, sizes: BatchSizes) -> Option<u64> {
        let mut live = self.live.borrow_mut();
        let used = live.in_flight.bytes();
        let has_credit = used == 0 || used + sizes.max <= live.credit as usize;
        let mut scheduler = self.scheduler.borrow_mut();
        if scheduler.is_empty() || !has_credit || live.farewell.is_some() {
            return None;
        }
        let mut shares = live.in_flight.new_shares();
        scheduler.fill(builder, sizes.goal, &mut shares);
        if builder.is_empty() {
            return None;
        }
        Some(live.in_flight.enter(builder.len(), shares))
    }

    /// Takes a message of the eater; `landed` gets the sessions that may now enter another link.
    pub(super) fn receive(
        &self,
        message: LinkMessage<'_>,
        metrics: &Metrics,
        landed: &mut Vec<Rc<Flow>>,
    ) -> Result<(), LinkEnd> {
        let mut live = self.live.borrow_mut();
        live.last_heard = Instant::now();
        match message {
            LinkMessage::Ate { number } => {
                let settled = live.in_flight.ate(number, landed).map_err(|unknown| {
                    LinkEnd::Unexpected(format!("it acknowledged batch {}, which was not sent", unknown.0))
                })?;
                metrics.settled(&settled);
                live.settled.add(&settled);
                self.work.notify_one();
            }
            LinkMessage::Reject { number, code, text } => {
                let Some(sent) = live.in_flight.reject(number, code.name()) else { return Ok(()) };
                metrics.in_flight_bytes.dec_by(sent.bytes as i64);
                metrics.batches_rejected.inc();
                let devices: Vec<&str> = sent.shares.iter().map(|s| s.flow.device.as_str()).take(8).collect();
                tracing::error!(code = code.name(), %text, ?devices, "the eater refused a batch");
                for share in &sent.shares {
                    share.flow.refuse(code, &text);
                }
                self.work.notify_one();
            }
            LinkMessage::Ping { nonce } => {
                link::encode(&LinkMessage::Pong { nonce }, &mut live.control);
                self.work.notify_one();
            }
            LinkMessage::Pong { .. } => {}
            LinkMessage::Head { query, seq } => {
                live.locates.answer(query, seq);
                self.work.notify_one();
            }
            LinkMessage::Goaway { code, retry_after_ms, text } => {
                drop(live);
                self.part(goaway(code, retry_after_ms, text));
            }
            other => return Err(LinkEnd::Unexpected(format!("it sent {other:?}, which only feeders send"))),
        }
        Ok(())
    }

    /// Why it was left, and how long the eater asked to be left alone. Waits until that is known. Cancel-safe.
    pub(super) async fn parting(&self) -> (String, Duration) {
        loop {
            let ended = self.ended.notified();
            if let Some(end) = self.end.borrow().as_ref().or(self.live.borrow().farewell.as_ref()) {
                return (end.to_string(), end.retry_after());
            }
            ended.await;
        }
    }

    /// It has ended so.
    pub(super) fn set_end(&self, end: LinkEnd) {
        *self.end.borrow_mut() = Some(end);
        self.ended.notify_waiters();
    }

    /// The one line for a link.
    pub(super) fn log_end(&self, end: &LinkEnd, moved: usize) {
        let Settled { batches, frames, bytes } = self.live.borrow().settled;
        tracing::info!(
            eater = %self.address,
            id = %self.eater,
            duration_ms = self.opened.elapsed().as_millis() as u64,
            batches,
            frames,
            bytes,
            moved,
            end = end.name(),
            detail = %end,
            "link ended"
        );
    }

    /// The link is dead: what was in flight, whose sessions do not know yet. Questions are to be asked elsewhere.
    pub(super) fn bury(&self) -> (usize, impl Iterator<Item = Share> + use<>) {
        self.left.cancel();
        self.scheduler.borrow_mut().clear();
        let mut live = self.live.borrow_mut();
        live.locates.clear();
        let in_flight = std::mem::take(&mut live.in_flight);
        (in_flight.bytes(), in_flight.into_shares())
    }
}

/// How large batches become, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchSizes {
    /// A batch is filled up to here.
    pub(super) goal: usize,
    /// The largest that there can be.
    pub(super) max: usize,
}
