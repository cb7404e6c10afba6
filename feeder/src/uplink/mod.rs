//! A shard's way to the eaters: sessions put frames in, links carry them in batches, acks come back.
//!
//! Everything here lives on the shard's one thread. Each device belongs to one eater ([`placement`]), and its session
//! uses one link at a time. A session changes its link only when nothing of it is in flight, or when its link is dead
//! and it rewinds ([`Flow::link_died`]): so the durable frames of an epoch are always a prefix. Which link it is, is
//! decided when a session opens and when an eater or a link comes or goes, never per frame.

mod connection;
mod dialer;
mod driving;
mod in_flight;
mod link;
mod locates;
mod placement;
mod rebalance;
mod slot;
mod traces;

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use trough_protocol::{DeviceId, Epoch, LinkId, Seq};

use connection::{Connection, LinkEnd};
pub use dialer::LinkSecurity;
pub use in_flight::Settled;
use link::BatchSizes;
pub use link::Link;
use slot::Slot;
use traces::Traces;

use crate::context::Context;
use crate::discovery::{EaterAddress, Place};
use crate::flow::Flow;

/// No eater has told a device's head in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// None has a link that takes batches.
    #[error("no eater can be reached: start one, or check the address given with --eater")]
    NoEater,
    /// One has, and is still looking.
    #[error("no eater found the device's last frame within {} s: is its database slow?", .0.as_secs())]
    NoHead(Duration),
}

/// A shard's links, and the sessions that use them.
pub struct Uplink {
    feeder: LinkId,
    /// Those that are up, oldest first.
    links: RefCell<Vec<Rc<Link>>>,
    /// The sessions of the shard, to be found when they have to move.
    flows: RefCell<Slab<Rc<Flow>>>,
    /// A link came up.
    came_up: Notify,
    /// A link has ended.
    went_down: Notify,
    /// An eater came whose share others have.
    new_eater: Notify,
    batch_sizes: BatchSizes,
    context: Arc<Context>,
}

/// A session among those of its shard; taken out when dropped.
pub struct Enrolled {
    uplink: Rc<Uplink>,
    key: usize,
}

impl Drop for Enrolled {
    fn drop(&mut self) {
        self.uplink.flows.borrow_mut().remove(self.key);
    }
}

impl Uplink {
    /// An uplink without a link: [`Uplink::run`] opens them.
    pub fn new(context: &Arc<Context>, feeder: LinkId) -> Rc<Self> {
        let config = &context.config;
        Rc::new(Self {
            feeder,
            links: RefCell::default(),
            flows: RefCell::default(),
            came_up: Notify::new(),
            went_down: Notify::new(),
            new_eater: Notify::new(),
            batch_sizes: BatchSizes {
                goal: config.batch_bytes,
                // A batch that holds nothing else may hold one item as large as a message.
                max: config.batch_bytes.max(config.message_bytes_max) + 4096,
            },
            context: context.clone(),
        })
    }

    /// Whether a link takes batches.
    pub fn is_up(&self) -> bool {
        self.links.borrow().iter().any(|link| link.is_open())
    }

    /// Whether a link is up now, or comes up within `patience`. Cancel-safe.
    pub async fn is_up_within(&self, patience: Duration) -> bool {
        self.is_up() || tokio::time::timeout(patience, self.wait_until_up()).await.is_ok()
    }

    /// Gives a session its link, and another whenever that is due, until the session's entry is dropped.
    pub fn enrol(self: &Rc<Self>, flow: &Rc<Flow>) -> Enrolled {
        self.place(flow);
        let key = self.flows.borrow_mut().insert(flow.clone());
        Enrolled { uplink: self.clone(), key }
    }

    /// Says that `flow` has something to send. While it has no link it waits for whoever places it.
    pub fn schedule(&self, flow: &Rc<Flow>) {
        if let Some(link) = flow.link() {
            link.schedule(flow);
        }
    }

    /// Asks the eater that the device belongs to for its head; waits for a link if there is none.
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
                if let Some(link) = self.choose(device)
                    && let Ok(head) = link.ask_head(device, epoch).await
                {
                    return head;
                }
            }
        };
        tokio::time::timeout(patience, ask).await.map_err(|_| match self.is_up() {
            true => Unavailable::NoHead(patience),
            false => Unavailable::NoEater,
        })
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

    /// Keeps links to all `places` until the feeder is killed. Not cancel-safe: dropping it stops opening links.
    pub async fn run(self: Rc<Self>, mut places: watch::Receiver<Vec<Place>>) {
        let killed = self.context.shutdown.killed.clone();
        let mut slots = HashMap::new();
        tokio::task::spawn_local(self.clone().rebalance());
        loop {
            self.fill_slots(&places.borrow_and_update(), &mut slots);
            tokio::select! {
                () = killed.cancelled() => return,
                changed = places.changed() => if changed.is_err() {
                    // They never change.
                    killed.cancelled().await;
                    return;
                },
            }
        }
    }

    /// One task for each link that is wanted; those that are not wanted any more are told.
    fn fill_slots(
        self: &Rc<Self>,
        places: &[Place],
        slots: &mut HashMap<(Option<SocketAddr>, usize), CancellationToken>,
    ) {
        let mut wanted = HashMap::new();
        for place in places {
            for index in 0..place.links {
                let key = (place.key(), index);
                let gone = slots.remove(&key).unwrap_or_else(|| self.start_slot(&place.address));
                wanted.insert(key, gone);
            }
        }
        for gone in std::mem::replace(slots, wanted).into_values() {
            gone.cancel();
        }
    }

    fn start_slot(self: &Rc<Self>, address: &EaterAddress) -> CancellationToken {
        let gone = CancellationToken::new();
        let slot = Slot::new(self.clone(), address.clone(), gone.clone());
        tokio::task::spawn_local(slot.keep());
        gone
    }

    /// The link of the eater that `device` belongs to. Of several links to one eater it is the oldest: one link's
    /// batches are larger than two's.
    fn choose(&self, device: &DeviceId) -> Option<Rc<Link>> {
        let links = self.links.borrow();
        let mut open = links.iter().filter(|link| link.is_open());
        let first = open.next()?;
        let mut best = (first, None);
        for link in open {
            let score = link.candidate.score(device);
            let best_score = best.1.unwrap_or_else(|| first.candidate.score(device));
            best = if score > best_score { (link, Some(score)) } else { (best.0, Some(best_score)) };
        }
        Some(best.0.clone())
    }

    /// Gives a session with nothing in flight its link.
    fn place(&self, flow: &Rc<Flow>) {
        let link = self.choose(&flow.device);
        flow.enter(link.as_ref());
        self.schedule(flow);
    }

    fn flows_where(&self, holds: impl Fn(&Rc<Flow>) -> bool) -> Vec<Rc<Flow>> {
        self.flows.borrow().iter().map(|(_, flow)| flow).filter(|flow| holds(flow)).cloned().collect()
    }

    /// Makes a session leave its link: at once, or when what is in flight has landed.
    fn relocate(&self, flow: &Rc<Flow>, link: &Link) {
        link.unschedule(flow);
        if flow.leave() {
            self.place(flow);
        }
    }

    /// All sessions leave a link that takes no further batches.
    fn evacuate(&self, link: &Rc<Link>, reason: &'static str) {
        let flows = self.flows_where(|flow| flow.link().is_some_and(|used| Rc::ptr_eq(&used, link)));
        self.context.metrics.sessions_moved(reason, flows.len());
        for flow in flows {
            self.relocate(&flow, link);
        }
    }

    /// Ends a link when it has served; its sessions leave it.
    fn retire(&self, link: &Rc<Link>, end: LinkEnd) {
        if link.is_open() {
            let reason = end.name();
            link.part(end);
            self.evacuate(link, reason);
        }
    }

    /// Whether another open link than `except` leads to `eater`.
    fn leads_to(&self, eater: LinkId, except: Option<&Rc<Link>>) -> bool {
        self.links.borrow().iter().any(|link| {
            link.is_open() && link.eater == eater && !except.is_some_and(|except| Rc::ptr_eq(link, except))
        })
    }

    /// A new link, in the place of `replaced` if there is one.
    fn bring_up(
        self: &Rc<Self>,
        connection: Connection,
        address: &EaterAddress,
        replaced: Option<&Rc<Link>>,
    ) -> Rc<Link> {
        let Connection { eater, credit, version, .. } = connection;
        tracing::info!(eater = %address, id = %eater, credit, version, "link up");
        let traces = Traces::new(&self.context.config.tracer, eater);
        let link = Link::new(eater, credit, address.clone(), traces);
        let is_new = self.is_up() && !self.leads_to(eater, None);
        self.links.borrow_mut().push(link.clone());
        self.context.links.opened(eater);
        tokio::task::spawn_local(self.clone().carry(link.clone(), connection));
        if let Some(replaced) = replaced {
            self.retire(replaced, LinkEnd::Aged);
        }
        for flow in self.flows_where(|flow| flow.is_stranded()) {
            self.place(&flow);
        }
        if is_new {
            self.new_eater.notify_one();
        }
        self.came_up.notify_waiters();
        link
    }

    async fn carry(self: Rc<Self>, link: Rc<Link>, connection: Connection) {
        let end = driving::drive(&self, &link, connection).await;
        self.take_down(&link, &end);
        link.set_end(end);
    }

    /// A link has ended: its sessions rewind if something was in flight, and go to the next eater of their choice.
    fn take_down(&self, link: &Rc<Link>, end: &LinkEnd) {
        let (bytes, in_flight) = link.bury();
        self.links.borrow_mut().retain(|other| !Rc::ptr_eq(other, link));
        for share in in_flight {
            share.flow.link_died();
        }
        let flows = self.flows_where(|flow| flow.uses(link));
        // Those that were about to leave are counted.
        let moved = flows.iter().filter(|flow| flow.link().is_some()).count();
        for flow in &flows {
            self.place(flow);
        }
        let metrics = &self.context.metrics;
        metrics.in_flight_bytes.dec_by(bytes as i64);
        metrics.sessions_moved(end.name(), moved);
        metrics.link_ended(end.name(), link.opened.elapsed());
        self.context.links.ended(link.eater);
        self.went_down.notify_waiters();
        link.log_end(end, moved);
    }
}
