//! One wanted link of a shard: opened, replaced when it is old, opened again when it ends.

use std::rc::Rc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use trough_runtime::random::random_below;

use super::Uplink;
use super::connection::{self, Connection, LinkEnd};
use super::driving::say_goodbye;
use super::link::Link;
use crate::discovery::EaterAddress;
use crate::links::{Entry, Standing};

/// First and longest pause between two attempts to open a link.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// First and longest pause between two attempts to find another eater at an address that leads to known ones.
const SEARCH_MIN: Duration = Duration::from_secs(1);
const SEARCH_MAX: Duration = Duration::from_secs(60);

/// A link that is wanted.
pub struct Slot {
    uplink: Rc<Uplink>,
    address: EaterAddress,
    /// Cancelled when the link is not wanted any more.
    gone: CancellationToken,
    entry: Entry,
    /// Why the link cannot be had, as was told last.
    told: &'static str,
}

impl Slot {
    /// A link to `address` until `gone`.
    pub fn new(uplink: Rc<Uplink>, address: EaterAddress, gone: CancellationToken) -> Self {
        let entry = uplink.context.links.enter();
        Self { uplink, address, gone, entry, told: "" }
    }

    /// Keeps the link until it is not wanted any more.
    pub async fn keep(mut self) {
        let gone = self.gone.clone();
        let mut current: Option<Rc<Link>> = None;
        loop {
            let connection = tokio::select! {
                connection = self.open(current.as_ref()) => connection,
                () = gone.cancelled() => break,
            };
            let link = self.uplink.bring_up(connection, &self.address, current.take().as_ref());
            self.entry.set(Standing::Up, "");
            tokio::select! {
                () = link.left() => {
                    let (reason, pause) = link.parting().await;
                    self.miss("", &reason);
                    tokio::select! {
                        () = jittered(pause.max(RETRY_MIN)) => {}
                        () = gone.cancelled() => break,
                    }
                }
                () = self.age() => current = Some(link),
                () = gone.cancelled() => {
                    current = Some(link);
                    break;
                }
            }
        }
        if let Some(link) = current {
            drop(self.entry);
            self.uplink.retire_when_replaced(&link).await;
        }
    }

    /// Opens it, however long that takes. A link that is `replaced` goes on meanwhile. Cancel-safe: what is dropped
    /// has carried nothing.
    async fn open(&mut self, replaced: Option<&Rc<Link>>) -> Connection {
        let uplink = self.uplink.clone();
        let (mut pause, mut search) = (RETRY_MIN, SEARCH_MIN);
        loop {
            let went_down = uplink.went_down.notified();
            let wait = match connection::open(uplink.feeder, &self.address, &uplink.context.config.links)
                .await
            {
                Ok(mut found) if uplink.leads_to(found.eater, replaced) => {
                    say_goodbye(&mut found.writer, &LinkEnd::Duplicate).await;
                    tracing::debug!(eater = %self.address, id = %found.eater, "it leads to a known eater");
                    drop(found);
                    if !replaced.is_some_and(|replaced| replaced.is_open()) {
                        self.entry.set(Standing::Spare, "");
                    }
                    search = tokio::select! {
                        // Now a known one may be welcome.
                        () = went_down => SEARCH_MIN,
                        () = jittered(search) => (search * 2).min(SEARCH_MAX),
                    };
                    continue;
                }
                Ok(connection) => return connection,
                Err(end) => {
                    if !replaced.is_some_and(|replaced| replaced.is_open()) {
                        self.miss(end.name(), &end.to_string());
                    }
                    end.retry_after().max(pause)
                }
            };
            pause = (pause * 2).min(RETRY_MAX);
            jittered(wait).await;
        }
    }

    /// The link cannot be had. One line when that begins, or has another cause than before (`kind`; the empty one is a
    /// link's own end), not one for every attempt.
    fn miss(&mut self, kind: &'static str, reason: &str) {
        let known = self.entry.standing() == Standing::Missing && self.told == kind;
        if !known && !self.uplink.context.shutdown.is_draining() {
            self.told = kind;
            self.entry.set(Standing::Missing, &format!("{}: {reason}", self.address));
        }
    }

    /// Returns when a link that came up now is to be replaced. In one process there is no other way to lead it.
    async fn age(&self) {
        match self.address {
            EaterAddress::Local(_) => std::future::pending().await,
            EaterAddress::Tcp { .. } => {
                let config = &self.uplink.context.config;
                let spread = (config.link_age_max - config.link_age_min).as_millis() as u64;
                tokio::time::sleep(config.link_age_min + Duration::from_millis(random_below(spread + 1)))
                    .await;
            }
        }
    }
}

async fn jittered(pause: Duration) {
    let jitter = random_below(pause.as_millis() as u64 / 2 + 1);
    tokio::time::sleep(pause + Duration::from_millis(jitter)).await;
}

impl Uplink {
    /// Ends a link whose address is gone as soon as its sessions have somewhere to go; until then it is better
    /// than none.
    async fn retire_when_replaced(&self, link: &Rc<Link>) {
        while link.is_open() {
            let came_up = self.came_up.notified();
            if self.links.borrow().iter().any(|other| other.is_open() && !Rc::ptr_eq(other, link)) {
                self.retire(link, LinkEnd::AddressGone);
                return;
            }
            tokio::select! {
                () = came_up => {}
                () = link.left() => return,
            }
        }
    }
}
