//! A shard's way to an eater: sessions put frames in, a link carries them in batches, acks come back.
//!
//! Everything here lives on the shard's one thread. When the link dies, another is opened; sessions that had
//! frames in flight rewind ([`Flow::link_died`]), the others wait and notice nothing.

mod connection;
mod dialer;
mod in_flight;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use trough_protocol::link::{self, LinkMessage};
use trough_protocol::{DeviceId, Epoch, LinkId, Seq};

pub use connection::EaterAddress;
use connection::LinkEnd;
pub use dialer::LinkSecurity;
use in_flight::InFlight;
pub use in_flight::Settled;

use crate::context::Context;
use crate::flow::Flow;
use crate::scheduler::Scheduler;

/// First and longest pause between two attempts to open a link.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);

const LOCATES_PRUNE_MIN: usize = 64;

/// No eater answered in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no eater can be reached: start one, or check the address given with --eater")]
pub struct Unavailable;

/// A shard's link and what waits for it.
pub struct Uplink {
    scheduler: RefCell<Scheduler>,
    live: RefCell<Option<Live>>,
    /// Something to send, or credit to send it with.
    work: Notify,
    /// A link came up.
    came_up: Notify,
    locates: RefCell<HashMap<u32, oneshot::Sender<Seq>>>,
    next_query: Cell<u32>,
    /// So many questions wait that those nobody waits for any more are looked for.
    prune_at: Cell<usize>,
    batch_bytes: usize,
    batch_bytes_max: usize,
    context: Arc<Context>,
}

/// The state of the link that is up.
struct Live {
    credit: u64,
    in_flight: InFlight,
    /// Control messages that wait to be written.
    control: Vec<u8>,
    /// The eater's goodbye: no further batches, and the link ends when those in flight are answered.
    farewell: Option<LinkEnd>,
    last_heard: Instant,
}

impl Uplink {
    /// An uplink without a link: [`Uplink::run`] opens it.
    pub fn new(context: &Arc<Context>) -> Rc<Self> {
        let config = &context.config;
        Rc::new(Self {
            scheduler: RefCell::default(),
            live: RefCell::new(None),
            work: Notify::new(),
            came_up: Notify::new(),
            locates: RefCell::default(),
            next_query: Cell::new(0),
            prune_at: Cell::new(LOCATES_PRUNE_MIN),
            batch_bytes: config.batch_bytes,
            // A batch that holds nothing else may hold one item as large as a message.
            batch_bytes_max: config.batch_bytes.max(config.message_bytes_max) + 4096,
            context: context.clone(),
        })
    }

    /// Whether a link is up and takes batches.
    pub fn is_up(&self) -> bool {
        self.live.borrow().as_ref().is_some_and(|live| live.farewell.is_none())
    }

    /// Whether a link is up now, or comes up within `patience`. Cancel-safe.
    pub async fn is_up_within(&self, patience: Duration) -> bool {
        self.is_up() || tokio::time::timeout(patience, self.wait_until_up()).await.is_ok()
    }

    /// Says that `flow` has something to send.
    pub fn schedule(&self, flow: &Rc<Flow>) {
        if self.scheduler.borrow_mut().add(flow) {
            self.work.notify_one();
        }
    }

    /// Asks the eater for a device's head; waits for a link if there is none.
    ///
    /// Cancel-safe: a dropped question is forgotten when its answer comes.
    ///
    /// # Errors
    /// [`Unavailable`] if there is no answer within `patience`.
    pub async fn locate(
        &self,
        device: &DeviceId,
        epoch: Epoch,
        patience: Duration,
    ) -> Result<Seq, Unavailable> {
        let ask = async {
            loop {
                self.wait_until_up().await;
                if let Some(answer) = self.ask_head(device, epoch)
                    && let Ok(head) = answer.await
                {
                    return head;
                }
            }
        };
        tokio::time::timeout(patience, ask).await.map_err(|_| Unavailable)
    }

    async fn wait_until_up(&self) {
        loop {
            let came_up = self.came_up.notified();
            if self.is_up() {
                return;
            }
            came_up.await;
        }
    }

    fn ask_head(&self, device: &DeviceId, epoch: Epoch) -> Option<oneshot::Receiver<Seq>> {
        let mut live = self.live.borrow_mut();
        let control = &mut live.as_mut()?.control;
        let query = self.next_query.get();
        self.next_query.set(query.wrapping_add(1));
        link::encode(&LinkMessage::Locate { query, epoch, device: device.as_str() }, control);
        let (sender, receiver) = oneshot::channel();
        let mut locates = self.locates.borrow_mut();
        if locates.len() >= self.prune_at.get() {
            locates.retain(|_, waiting| !waiting.is_closed());
            self.prune_at.set(2 * locates.len().max(LOCATES_PRUNE_MIN));
        }
        locates.insert(query, sender);
        self.work.notify_one();
        Some(receiver)
    }

    /// Keeps a link open until `shutdown` is killed. Not cancel-safe: dropping it ends the link.
    pub async fn run(self: Rc<Self>, feeder: LinkId, address: EaterAddress) {
        let shutdown = &self.context.shutdown;
        let mut pause = RETRY_MIN;
        let mut complained = None;
        loop {
            let end = tokio::select! {
                () = shutdown.killed.cancelled() => return,
                end = self.one_link(feeder, &address) => end,
            };
            let was_up = self.take_down();
            if was_up {
                pause = RETRY_MIN;
                complained = None;
                self.context.metrics.link_ended(end.name());
            }
            // One line when a link ends or cannot be had for another reason, not one for every attempt.
            if complained != Some(end.name()) && !shutdown.is_draining() {
                self.context.health.degrade("eater", format!("no link to {address}: {end}"));
                complained = Some(end.name());
            }
            let wait = end.retry_after().unwrap_or(pause).max(pause);
            let jitter = trough_runtime::random::random_below(wait.as_millis() as u64 / 2 + 1);
            tokio::select! {
                () = shutdown.killed.cancelled() => return,
                () = tokio::time::sleep(wait + Duration::from_millis(jitter)) => {}
            }
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    async fn one_link(&self, feeder: LinkId, address: &EaterAddress) -> LinkEnd {
        match connection::open(feeder, address, &self.context.config.links).await {
            Ok(link) => {
                tracing::info!(eater = %address, id = %link.eater, credit = link.credit, version = link.version, "link up");
                self.bring_up(link.credit);
                connection::drive(self, link).await
            }
            Err(end) => end,
        }
    }

    fn bring_up(&self, credit: u64) {
        *self.live.borrow_mut() = Some(Live {
            credit,
            in_flight: InFlight::default(),
            control: Vec::new(),
            farewell: None,
            last_heard: Instant::now(),
        });
        self.context.metrics.links.inc();
        self.context.health.restore("eater");
        self.came_up.notify_waiters();
        self.work.notify_one();
    }

    /// Whether a link was up.
    fn take_down(&self) -> bool {
        let Some(live) = self.live.borrow_mut().take() else { return false };
        self.context.metrics.links.dec();
        self.context.metrics.in_flight_bytes.dec_by(live.in_flight.bytes() as i64);
        self.locates.borrow_mut().clear();
        for share in live.in_flight.into_shares() {
            share.flow.link_died();
            // What a raw session kept waits again.
            self.schedule(&share.flow);
        }
        true
    }
}
