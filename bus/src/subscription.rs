//! What a subscriber hears.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use trough_runtime::random::random_below;

use crate::BoxFuture;

/// A subscriber is told to look for itself at least this often.
const RESCAN_AFTER: Duration = Duration::from_secs(30);
/// And at random up to this much later, so that not all of them look at once.
const RESCAN_SPREAD: Duration = Duration::from_secs(30);

/// Something that a subscriber hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A message, in the order of the topic.
    Message(Bytes),
    /// Messages may have been lost up to here: look at the truth (registry, catalog), not at the bus.
    Rescan(Cause),
}

/// Why to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The subscription begins here; nobody knows what was before. Always the first event.
    Began,
    /// The bus has forgotten the topic: it was restarted or wiped.
    Reset,
    /// A message is missing: it was evicted, never arrived, or this subscriber was too slow.
    Hole,
    /// The bus does not answer; comes about every second until it does. Messages are not lost yet.
    Away,
    /// Nothing is known to be lost; half a minute to a minute has passed.
    Periodic,
}

/// Where events come from.
pub(crate) trait Source: Send {
    /// The next message with its number, or a rescan for a cause. Cancel-safe.
    fn next(&mut self) -> BoxFuture<'_, (u64, Event)>;
}

/// A subscription to one topic. It holds no connection and runs no task: while nobody asks, nothing happens, and
/// whoever asks too late is told to rescan.
pub struct Subscription {
    source: Box<dyn Source>,
    rescan_at: Instant,
    number: u64,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}

impl Subscription {
    pub(crate) fn new(source: Box<dyn Source>) -> Self {
        Self { source, rescan_at: rescan_at(), number: 0 }
    }

    /// The next event. The first is [`Cause::Began`], as soon as the bus answers: nothing that is published later
    /// is missed without a rescan. While the bus is away only [`Cause::Away`] and [`Cause::Periodic`] come.
    ///
    /// Cancel-safe: an event is either returned or kept for the next call.
    pub async fn next(&mut self) -> Event {
        tokio::select! {
            (number, event) = self.source.next() => {
                if event != Event::Rescan(Cause::Away) {
                    self.number = number;
                    if matches!(event, Event::Rescan(_)) {
                        self.rescan_at = rescan_at();
                    }
                }
                event
            }
            () = tokio::time::sleep_until(self.rescan_at) => {
                self.rescan_at = rescan_at();
                Event::Rescan(Cause::Periodic)
            }
        }
    }

    /// How far it is: the number of the last message that [`Subscription::next`] gave, which is what
    /// [`crate::Bus::publish`] gave for it, or that was passed over with a rescan.
    pub fn number(&self) -> u64 {
        self.number
    }
}

fn rescan_at() -> Instant {
    let spread = Duration::from_millis(random_below(RESCAN_SPREAD.as_millis() as u64));
    Instant::now() + RESCAN_AFTER + spread
}
