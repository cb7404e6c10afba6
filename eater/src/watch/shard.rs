//! The task of a shard: what it begins with, and how it stores.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use trough_protocol::Micros;
use trough_runtime::clock::micros;
use trough_store::outbox::{Claim, PAGE_MAX, STEP_MAX, WatchStep};

use super::Shared;
use super::chosen::Chooser;
use super::place::WatchPlace;
use super::retry::{Retry, Stop, again};
use super::silences::Silences;
use super::states::States;
use super::traces::Traced;
use super::vigil::{Vigil, was_set};
use crate::live::Vector;

/// Room for events and for changed states before they are stored.
pub(super) const ROOM: usize = STEP_MAX - 100;
/// While there is more to be looked at, so many events are stored together.
const TOGETHER: usize = ROOM / 2;
/// What rules know is stored so often while nothing happens.
const STORE_EVERY: Duration = Duration::from_secs(1);
/// The place alone is stored so often.
const PLACE_EVERY: Duration = Duration::from_secs(10);
/// One that is older is stored again though nothing has come, if a silence is waited for: it says that somebody listens.
const PLACE_AGE_MAX: Duration = Duration::from_secs(60);
/// How often the outbox is asked for the time.
const CLOCK_EVERY: Duration = Duration::from_secs(10);
/// A rule that was set shortly before the rules were asked for may not have been among them.
const RULES_MARGIN: Micros = 60_000_000;
/// What was received so long before a place was taken is done: clocks differ, and storing may have taken long.
const PLACE_MARGIN: Micros = 3_600_000_000;
/// How long the end waits for the outbox.
const END: Duration = Duration::from_secs(1);

/// The task of a shard.
pub(super) struct ShardWatch {
    pub shared: Arc<Shared>,
    pub claim: Claim,
    pub choosers: watch::Receiver<Arc<Chooser>>,
    pub chooser: Arc<Chooser>,
    pub retry: Retry,
    pub states: States,
    pub silences: Silences,
    pub vigil: Vigil,
    /// Traced runs whose events are not stored yet.
    pub traced: Vec<Traced>,
    /// As it is in the outbox.
    pub place: Option<WatchPlace>,
    /// What is done; `None` while that is not so of all rules.
    pub vector: Option<Vector>,
    /// When all that was committed was done.
    pub done_at: Micros,
    /// The outbox's clock, and when it was asked.
    clock: (Micros, Instant),
    stored_at: Instant,
    /// States that the metrics know of.
    counted: i64,
}

/// Where a shard begins.
struct Beginning {
    vector: Vector,
    /// Rules that were set at this time or later are to look at history...
    rules_since: Micros,
    /// ...as far as it was received at this time or later.
    received_since: Micros,
}

impl ShardWatch {
    pub fn new(
        shared: Arc<Shared>,
        claim: Claim,
        choosers: watch::Receiver<Arc<Chooser>>,
        stop: CancellationToken,
    ) -> Self {
        let chooser = choosers.borrow().clone();
        let retry = Retry::new(stop, shared.parts.metrics.clone());
        Self {
            shared,
            claim,
            choosers,
            chooser,
            retry,
            states: States::default(),
            silences: Silences::default(),
            vigil: Vigil::anew(),
            traced: Vec::new(),
            place: None,
            vector: None,
            done_at: 0,
            clock: (0, Instant::now()),
            stored_at: Instant::now(),
            counted: 0,
        }
    }

    /// Watches until it is stopped, or somebody else watches.
    pub async fn run(mut self) {
        let Err(stop) = self.watch().await;
        tracing::debug!(shard = %self.claim.shard, ?stop, "a shard is not watched any more");
        if self.vector.is_some() {
            // What is not stored is found again.
            let _ = timeout(END, self.store()).await;
        }
        self.count(0);
    }

    async fn watch(&mut self) -> Result<Infallible, Stop> {
        self.load().await?;
        let mut expired = false;
        loop {
            self.begin(expired).await?;
            match self.follow().await {
                Err(Stop::Expired) => {
                    tracing::info!(shard = %self.claim.shard, "what was to be watched next is compacted: it is read from history");
                    expired = true;
                }
                Err(stop) => return Err(stop),
                Ok(never) => match never {},
            }
        }
    }

    /// Loads what is known.
    async fn load(&mut self) -> Result<(), Stop> {
        let (shared, shard) = (self.shared.clone(), self.claim.shard);
        let outbox = &shared.parts.outbox;
        let place =
            again!(self.retry, "the outbox does not say how far rules have looked", outbox.place(shard));
        // An empty place is one of whom has not come to the end of history yet.
        self.place = place.filter(|place| !place.is_empty()).and_then(|place| {
            let read = WatchPlace::from_bytes(&place);
            read.map_err(
                |error| tracing::error!(%shard, %error, "a watcher's place cannot be read: it begins anew"),
            )
            .ok()
        });
        let now = self.ask_clock().await?;
        self.vigil = Vigil::after(self.place.as_ref().map(|place| place.at), now);
        let mut after = None;
        loop {
            let ask = || outbox.states(shard, after.clone(), PAGE_MAX);
            let page = again!(self.retry, "the outbox does not say what rules know", ask());
            let Some(last) = page.last() else { break };
            after = Some((last.device.clone(), last.rule.clone()));
            page.into_iter().for_each(|state| self.states.load(&self.chooser.rules, state));
        }
        self.states.not_later(now);
        self.wait_for_all();
        self.count(self.states.len());
        Ok(())
    }

    /// Waits for all silences anew.
    fn wait_for_all(&mut self) {
        self.silences = Silences::default();
        for due in self.states.dues(&self.chooser.rules) {
            self.silences.push(due);
        }
    }

    /// Decides where to go on, and has rules look at history as far as that is needed.
    async fn begin(&mut self, expired: bool) -> Result<(), Stop> {
        self.vector = None;
        let now = self.ask_clock().await?;
        let rules = self.chooser.rules.clone();
        let first_set = rules.iter().map(|rule| rule.set_at).min().unwrap_or(now);
        let place = self.place.clone();
        let known = place.as_ref().map_or(0, |place| place.rules_at.saturating_sub(RULES_MARGIN));
        let beginning = match place {
            Some(place) if !expired && first_set < known => {
                let new = rules.iter().map(|rule| rule.set_at).filter(|set_at| *set_at >= known).min();
                let received_since = new.unwrap_or(Micros::MAX);
                Beginning { vector: place.vector, rules_since: known, received_since }
            }
            // None of the rules was there: there is nothing to go on with.
            place => {
                let vector = self.end().await?;
                let received_since = match place.filter(|_| first_set < known) {
                    Some(place) => place.at.saturating_sub(PLACE_MARGIN),
                    None => first_set,
                };
                Beginning { vector, rules_since: 0, received_since }
            }
        };
        self.done_at = self.place.as_ref().map_or(now, |place| place.at);
        self.catch_up(beginning.rules_since, beginning.received_since).await?;
        self.vector = Some(beginning.vector);
        Ok(())
    }

    async fn end(&mut self) -> Result<Vector, Stop> {
        let source = self.shared.parts.live.source().clone();
        Ok(again!(self.retry, "what is committed cannot be looked at", source.end()))
    }

    /// Goes on with other rules, or with devices in other groups, if there are any.
    pub async fn adopt(&mut self) -> Result<(), Stop> {
        if !self.choosers.has_changed().unwrap_or(false) {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.chooser, self.choosers.borrow_and_update().clone());
        let rules = self.chooser.rules.clone();
        if Arc::ptr_eq(&before.rules, &rules) {
            return Ok(());
        }
        self.states.keep(&rules);
        let known = before.rules.at().saturating_sub(RULES_MARGIN);
        let new = rules.iter().map(|rule| rule.set_at).filter(|set_at| *set_at >= known).min();
        if let Some(received_since) = new {
            // Until all of that is done, the place is not that of all rules.
            let vector = self.vector.take();
            self.catch_up(known, received_since).await?;
            self.vector = vector;
        }
        Ok(())
    }

    /// The time, by the outbox's clock.
    pub fn now(&self) -> Micros {
        self.clock.0.saturating_add(micros(self.clock.1.elapsed()))
    }

    /// The same, asked for.
    pub async fn ask_clock(&mut self) -> Result<Micros, Stop> {
        let shared = self.shared.clone();
        let now = again!(self.retry, "the outbox does not say the time", shared.parts.outbox.now());
        let (is_known, expected) = (self.clock.0 > 0, self.now());
        self.clock = (now, Instant::now());
        if is_known && was_set(expected, now) {
            let shard = self.claim.shard;
            tracing::warn!(%shard, now, expected, "the outbox's clock was set: silent channels are told of later");
            self.vigil = Vigil::anew();
            self.states.not_later(now);
            self.wait_for_all();
        }
        Ok(now)
    }

    /// When something is to be stored that can wait.
    pub fn store_at(&self) -> Instant {
        self.stored_at + if self.states.is_changed() { STORE_EVERY } else { PLACE_EVERY }
    }

    /// Stores if it is time to: events at once if there is nothing else to do.
    pub async fn store_if_due(&mut self, idle: bool) -> Result<(), Stop> {
        if self.clock.1.elapsed() > CLOCK_EVERY {
            self.ask_clock().await?;
        }
        let events = self.states.events().len();
        if (idle && events > 0) || events >= TOGETHER {
            return self.store().await;
        }
        if Instant::now() < self.store_at() {
            return Ok(());
        }
        if self.is_stored() {
            self.stored_at = Instant::now();
            return Ok(());
        }
        self.store().await
    }

    /// Whether the outbox has everything.
    fn is_stored(&self) -> bool {
        let is_there = |place: &WatchPlace| {
            let vector = self.vector.as_ref().is_none_or(|vector| vector.places == place.vector.places);
            let is_young = self.done_at.saturating_sub(place.at) < micros(PLACE_AGE_MAX);
            vector && place.rules_at == self.chooser.rules.at() && (is_young || self.silences.is_empty())
        };
        !self.states.is_changed() && self.place.as_ref().is_some_and(is_there)
    }

    /// Stores what is known, what happened, and how far it is.
    pub async fn store(&mut self) -> Result<(), Stop> {
        let shared = self.shared.clone();
        let parts = &shared.parts;
        let place = match self.vector.clone() {
            Some(vector) => Some(WatchPlace { at: self.done_at, rules_at: self.chooser.rules.at(), vector }),
            None => self.place.clone(),
        };
        let states = self.states.to_store(STEP_MAX);
        let events = self.states.events().to_vec();
        let step = || WatchStep {
            place: place.as_ref().map_or_else(Vec::new, WatchPlace::to_bytes),
            states: states.clone(),
            events: events.clone(),
        };
        let begun = Instant::now();
        again!(self.retry, "events cannot be entered", parts.outbox.watched(self.claim, step()));
        parts.metrics.step_seconds.observe(begun.elapsed().as_secs_f64());
        if !events.is_empty() {
            shared.entered.notify_one();
            parts.metrics.events.inc_by(events.len() as u64);
        }
        self.traced.drain(..).for_each(|traced| traced.end(&parts.tracer, &events));
        let now = parts.clock.now();
        for received_at in self.states.stored(&states) {
            parts.metrics.event_seconds.observe(now.saturating_sub(received_at) as f64 / 1e6);
        }
        (self.place, self.stored_at) = (place, Instant::now());
        self.count(self.states.len());
        Ok(())
    }

    /// Counts states, of all shards together.
    fn count(&mut self, states: usize) {
        let states = i64::try_from(states).unwrap_or(i64::MAX);
        self.shared.parts.metrics.states.inc_by(states - self.counted);
        self.counted = states;
    }
}
