//! The task of a stream: history, if it is asked for, and then what is committed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use trough_protocol::{DeviceId, Epoch, Seq};

use super::body::{End, EventWriter};
use super::cursor;
use super::given::Given;
use super::query::Filter;
use super::scope::Scope;
use crate::api::reads::ReadPermit;
use crate::api::state::Api;
use crate::live::{Follower, Found, Live, LiveError, Next, Vector, Walk};

/// A connection without news shows that it lives so often.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// One that looks through what came since tells how far it is so often.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How often, and how many times, what cannot be read is tried again.
pub(super) const RETRY_EVERY: Duration = Duration::from_millis(500);
const TRIES_MAX: u32 = 20;
/// How long a walk may wait for the first look of all.
pub(super) const FIRST_LOOK: Duration = Duration::from_secs(5);

/// A stream that is open.
pub(super) struct Stream {
    pub api: Arc<Api>,
    pub live: Live,
    pub follower: Follower,
    pub scope: Scope,
    pub filter: Filter,
    pub fingerprint: u32,
    pub writer: EventWriter,
    /// What is done in the journals.
    pub vector: Vector,
    /// Of a device's stream: up to which number its epochs were given.
    pub given: Given,
    /// The last numbers that were shown and may come again, as the list may have them in another order than the walk that
    /// leads to it, or a part of a commit was shown.
    pub recent: HashMap<(DeviceId, Epoch), Seq>,
    /// It walks by itself.
    pub walks: bool,
    pub in_history: bool,
    /// Of one that comes back to history: where it goes on in the journals behind that. Until what it may have missed of
    /// older epochs is given, `vector` says what was done when it was in the journals last.
    pub ahead: Option<Vector>,
    /// The place among other streams of one that begins with history.
    pub reading: Option<ReadPermit>,
    pub draining: CancellationToken,
    pub heartbeat_at: Instant,
    /// When it showed last that it lives.
    pub told_at: Instant,
}

/// Where it goes on.
pub(super) enum At {
    /// With this commit of the list.
    List(u64),
    /// By itself; with what was found already.
    Walk(Option<(Box<dyn Walk>, u64, Found)>),
}

impl Stream {
    /// Goes on until it ends.
    pub async fn run(mut self, mut at: At) {
        let end = loop {
            let went = match self.in_history {
                true => self.history().await,
                false => self.follow(std::mem::replace(&mut at, At::Walk(None))).await,
            };
            match went {
                Ok(()) => {}
                // What is compacted stands in history, and a device's stream knows where it is there.
                Err(End::Expired) if self.scope.device().is_some() => match self.begin_anew().await {
                    Ok(end) => at = At::List(end),
                    Err(end) => break end,
                },
                Err(end) => break end,
            }
        };
        self.api.metrics.count_live_end(end.name());
        self.writer.finish(end);
    }

    /// Goes back to history, for all that was not given; the number of the list that comes next.
    async fn begin_anew(&mut self) -> Result<u64, End> {
        let now = self.follower.now(Instant::now() + FIRST_LOOK).await;
        let (end, ahead) = now.ok_or(End::Unavailable)?;
        (self.ahead, self.in_history) = (Some(ahead), true);
        Ok(end)
    }

    /// Follows the list, or walks by itself where it is not in it.
    async fn follow(&mut self, mut at: At) -> Result<(), End> {
        loop {
            let number = match at {
                At::List(number) => number,
                At::Walk(found) => {
                    self.walks = true;
                    let end = self.walk(found).await?;
                    self.walks = false;
                    end
                }
            };
            at = match self.follower.next(number) {
                Next::Commit(commit) => {
                    if !commit.is_in(&self.vector) {
                        self.show(&commit).await?;
                    }
                    At::List(number + 1)
                }
                Next::Nothing(vector) => {
                    if vector.covers(&self.vector) {
                        self.vector = vector;
                        self.recent = HashMap::new();
                    }
                    self.wait().await?;
                    At::List(number)
                }
                Next::Behind => At::Walk(None),
            };
        }
    }

    /// Waits for news, and shows meanwhile that the connection lives.
    async fn wait(&mut self) -> Result<(), End> {
        self.writer.send().await?;
        tokio::select! {
            () = self.follower.changed() => Ok(()),
            () = self.draining.cancelled() => Err(End::Draining),
            () = self.writer.closed() => Err(End::Gone),
            () = sleep_until(self.heartbeat_at) => self.beat().await,
        }
    }

    async fn beat(&mut self) -> Result<(), End> {
        let id = self.id();
        self.writer.events.heartbeat(&id);
        self.told_at = Instant::now();
        self.heartbeat_at = self.told_at + HEARTBEAT;
        self.writer.send().await
    }

    /// Walks until everything that is committed is done; the number of the list that comes next.
    async fn walk(&mut self, found: Option<(Box<dyn Walk>, u64, Found)>) -> Result<u64, End> {
        let (mut walk, mut end, mut found) = match found {
            Some(found) => found,
            None => {
                let only = self.scope.device().cloned();
                let mut walk = self.live.source().walk(self.vector.clone(), only);
                let (end, found) = self.step(&mut *walk).await?;
                (walk, end, found)
            }
        };
        loop {
            self.recent.clear();
            for commit in &found.commits {
                self.show(commit).await?;
                self.look_alive().await?;
            }
            if !found.more {
                self.vector = walk.vector().clone();
                return Ok(end);
            }
            (end, found) = self.step(&mut *walk).await?;
            self.look_alive().await?;
        }
    }

    /// While it looks through what came since, of which nothing may be shown, it tells how far it is: whoever is cut does
    /// not begin anew.
    async fn look_alive(&mut self) -> Result<(), End> {
        let next = self.heartbeat_at.min(self.told_at + TELL_EVERY);
        if Instant::now() >= next { self.beat().await } else { Ok(()) }
    }

    /// One step, and where the list ended before it.
    async fn step(&mut self, walk: &mut dyn Walk) -> Result<(u64, Found), End> {
        if self.draining.is_cancelled() {
            return Err(End::Draining);
        }
        let end = self.follower.end(Instant::now() + FIRST_LOOK).await;
        let (end, _) = end.ok_or(End::Unavailable)?;
        let mut tries = Tries::default();
        loop {
            match walk.step(None).await {
                Ok(found) => return Ok((end, found)),
                Err(error) => tries.failed(error).await?,
            }
        }
    }

    /// The id of an event: where the stream stands.
    pub(super) fn id(&self) -> String {
        cursor::encode(self.fingerprint, &self.given, self.in_history, &self.vector)
    }

    /// Sends what was written, and a heartbeat if nothing was sent for long.
    pub(super) async fn send_or_beat(&mut self) -> Result<(), End> {
        if self.draining.is_cancelled() {
            return Err(End::Draining);
        }
        if Instant::now() >= self.heartbeat_at {
            return self.beat().await;
        }
        self.writer.send().await
    }
}

/// How often reading was tried in vain.
#[derive(Debug, Default)]
pub(super) struct Tries(u32);

impl Tries {
    /// Waits until what failed may be tried again.
    ///
    /// # Errors
    /// [`End::Expired`], [`End::Unavailable`] after too many of them.
    pub async fn failed(&mut self, error: LiveError) -> Result<(), End> {
        let LiveError::Read(error) = error else { return Err(End::Expired) };
        self.0 += 1;
        if self.0 >= TRIES_MAX {
            tracing::warn!(%error, "what is new cannot be read: a live stream ends");
            return Err(End::Unavailable);
        }
        tracing::debug!(%error, "what is new cannot be read just now");
        sleep(RETRY_EVERY).await;
        Ok(())
    }
}
