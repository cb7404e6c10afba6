//! The doorbell of readers: it rings when there are new frames to be read, here or at another eater, so that live tails
//! and rules look at once and need not look for nothing.
//!
//! Whoever commits calls [`Doorbell::ring`] behind the commit, which only makes a note. One task tells subscribers of
//! this process, another one the bus, where other eaters hear it, each at most once in [`RING_EVERY`]; a third listens
//! to the bus for all subscribers of the process, from the first one on.
//!
//! It says where to look, and proves nothing: a subscriber that is told [`Event::Lost`] looks at everything.

mod news;
mod slot;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, broadcast};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use trough_bus::{Cause, Deployment, Event as BusEvent, Topic};
use trough_runtime::random::link_id;

pub use news::News;
use slot::Slot;

/// From one ring to the next: what is committed meanwhile is told together.
const RING_EVERY: Duration = Duration::from_millis(10);
/// How often subscribers look where nothing can tell them of other eaters: there is no bus, or it is away.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After a bus that did not take what it was told.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// Events that a subscriber may be behind; one that is further behind has lost some.
const BEHIND_MAX: usize = 1024;

/// What a subscriber hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// There is something new, and this is where.
    New(News),
    /// There may be something new anywhere: look at the catalog.
    Lost,
}

/// Who else commits what readers of this process see.
#[derive(Debug)]
pub enum Others {
    /// Nobody: the journal is this process's own. A bus is rung for those who listen elsewhere.
    None(Option<Deployment>),
    /// Other eaters, who ring on this bus; without one, subscribers are told to look every second.
    Eaters(Option<Deployment>),
}

/// The doorbell of one process. Clones are the same.
#[derive(Debug, Clone)]
pub struct Doorbell(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Who rings, on the bus.
    name: String,
    /// What the subscribers of this process, and the bus, were not told yet.
    here: Slot,
    elsewhere: Slot,
    /// To the subscribers of this process.
    hub: broadcast::Sender<Event>,
    bus: Option<(Deployment, Topic)>,
    /// Somebody has subscribed, so that it is worth listening.
    heard: Notify,
    stopped: CancellationToken,
}

/// A subscription, from its beginning on.
#[derive(Debug)]
pub struct Subscription {
    events: broadcast::Receiver<Event>,
}

impl Doorbell {
    /// One that rings until `stopped`.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(others: Others, stopped: CancellationToken) -> Self {
        let (bus, hears_others) = match others {
            Others::None(bus) => (bus, false),
            Others::Eaters(bus) => (bus, true),
        };
        let bus = bus.map(|deployment| {
            let topic = deployment.topic("frames");
            (deployment, topic)
        });
        let doorbell = Self(Arc::new(Inner {
            name: link_id().to_string(),
            here: Slot::default(),
            elsewhere: Slot::default(),
            hub: broadcast::Sender::new(BEHIND_MAX),
            bus,
            heard: Notify::new(),
            stopped,
        }));
        let inner = doorbell.0.clone();
        tokio::spawn(async move { inner.stopped.run_until_cancelled(inner.tell_here()).await });
        let inner = doorbell.0.clone();
        tokio::spawn(async move { inner.stopped.run_until_cancelled(inner.tell_elsewhere()).await });
        if hears_others {
            let inner = doorbell.0.clone();
            tokio::spawn(async move { inner.stopped.run_until_cancelled(inner.listen()).await });
        }
        doorbell
    }

    /// Rings: there is something new. Never blocks; call it when readers can see what it is about.
    pub fn ring(&self, news: News) {
        // Waking a task costs more than asking whether anybody listens.
        if self.0.hub.receiver_count() > 0 {
            self.0.here.put(news);
        }
        if self.0.bus.is_some() {
            self.0.elsewhere.put(news);
        }
    }

    /// What becomes readable from now on: subscribe first, then look, and look again whenever an event comes.
    pub fn subscribe(&self) -> Subscription {
        let events = self.0.hub.subscribe();
        self.0.heard.notify_one();
        Subscription { events }
    }
}

impl Inner {
    async fn tell_here(&self) {
        loop {
            let news = self.here.take().await;
            // It fails if nobody listens any more.
            let _ = self.hub.send(Event::New(news));
            sleep(RING_EVERY).await;
        }
    }

    async fn tell_elsewhere(&self) {
        let Some((deployment, topic)) = &self.bus else { return };
        loop {
            let news = self.elsewhere.take().await;
            let told = deployment.bus().publish(topic, news::encode(&self.name, &news)).await;
            if let Err(error) = told {
                tracing::trace!(%error, "other processes are told of new frames later");
                self.elsewhere.put_back(news);
                sleep(RETRY_AFTER).await;
            } else {
                sleep(RING_EVERY).await;
            }
        }
    }

    /// Hears what others ring, for ever, and hands it on.
    async fn listen(&self) {
        self.heard.notified().await;
        let Some((deployment, topic)) = &self.bus else {
            loop {
                sleep(LOOK_EVERY).await;
                let _ = self.hub.send(Event::Lost);
            }
        };
        let mut bell = deployment.bus().subscribe(topic);
        loop {
            let event = match bell.next().await {
                BusEvent::Message(message) => match news::decode(&message) {
                    Some((from, _)) if from == self.name => continue,
                    Some((_, Some(news))) => Event::New(news),
                    // A later release's, perhaps.
                    Some((_, None)) | None => Event::Lost,
                },
                // Whatever it was; while the bus is away this comes every second.
                BusEvent::Rescan(
                    Cause::Began | Cause::Reset | Cause::Hole | Cause::Away | Cause::Periodic,
                ) => Event::Lost,
            };
            let _ = self.hub.send(event);
        }
    }
}

impl Subscription {
    /// The next event; one for several rings that came close together. Waits for ever once the doorbell has stopped.
    ///
    /// Cancel-safe: an event is either returned or kept for the next call.
    pub async fn next(&mut self) -> Event {
        match self.events.recv().await {
            Ok(event) => event,
            Err(RecvError::Lagged(_)) => Event::Lost,
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}
