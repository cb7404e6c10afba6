//! Following what is committed, and asking the rules.

use std::convert::Infallible;

use bytes::Bytes;
use tokio::time::{Duration, Instant, sleep_until};
use trough_protocol::frame::FrameRef;
use trough_protocol::limits::FRAME_BYTES_MAX;
use trough_protocol::{DeviceId, Epoch, Micros, Seq};
use trough_runtime::trace::TraceContext;
use trough_store::event::FrameNumber;

use super::compiled::Concerned;
use super::frame::{Loss, Seen};
use super::retry::{Stop, again};
use super::shard::{ROOM, ShardWatch};
use super::states::Looked;
use super::traces::Traced;
use super::vigil::latest;
use crate::journal::run::Kind;
use crate::live::{Commit, Follower, LiveRun, Next};

/// How long to wait for the first look of all at what is committed, before it is asked for again.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// Frames of a device, and what is known of all of them.
pub(super) struct Frames<'a> {
    pub device: &'a DeviceId,
    pub concerned: &'a Concerned,
    pub epoch: Epoch,
    /// The number of the first one.
    pub first: Seq,
    pub count: u64,
    pub received_at: Micros,
    /// Numbers below are passed over.
    pub from: Seq,
    /// Rules that were set before are not asked.
    pub rules_since: Micros,
    /// What events are a part of.
    pub trace: Option<TraceContext>,
}

impl ShardWatch {
    /// Follows until it cannot go on.
    pub async fn follow(&mut self) -> Result<Infallible, Stop> {
        let mut follower = self.shared.parts.live.follow();
        let mut next = None;
        loop {
            self.tend(false).await?;
            let number = match next {
                Some(number) => number,
                None => self.walk(&mut follower).await?,
            };
            next = match follower.next(number) {
                Next::Commit(commit) => {
                    if !self.vector.as_ref().is_some_and(|vector| commit.is_in(vector)) {
                        self.take(&commit).await?;
                    }
                    Some(number + 1)
                }
                Next::Nothing(vector) => {
                    if self.vector.as_ref().is_none_or(|mine| vector.covers(mine)) {
                        self.vector = Some(vector);
                    }
                    self.done_at = self.now();
                    self.tend(true).await?;
                    self.wait(&mut follower).await?;
                    Some(number)
                }
                Next::Behind => None,
            };
        }
    }

    /// What is to be done now and then.
    async fn tend(&mut self, idle: bool) -> Result<(), Stop> {
        if self.retry.stop.is_cancelled() {
            return Err(Stop::Ended);
        }
        self.adopt().await?;
        self.expire().await?;
        self.store_if_due(idle).await
    }

    /// Waits until there is something to do.
    async fn wait(&mut self, follower: &mut Follower) -> Result<(), Stop> {
        let silence = self.silences.next_at().map(|at| {
            let left = Duration::from_micros(at.saturating_sub(self.now()));
            Instant::now() + left
        });
        let until = silence.map_or(self.store_at(), |silence| silence.min(self.store_at()));
        tokio::select! {
            () = follower.changed() => Ok(()),
            // An error means that the process ends, of which the token tells.
            Ok(()) = self.choosers.changed() => {
                self.choosers.mark_changed();
                Ok(())
            }
            () = sleep_until(until) => Ok(()),
            () = self.retry.stop.cancelled() => Err(Stop::Ended),
        }
    }

    /// Walks until everything that is committed is done; the number of the list that comes next.
    async fn walk(&mut self, follower: &mut Follower) -> Result<u64, Stop> {
        let from = self.vector.clone().unwrap_or_default();
        let mut walk = self.shared.parts.live.source().walk(from, None);
        loop {
            let end = loop {
                if let Some((end, _)) = follower.end(Instant::now() + FIRST_LOOK).await {
                    break end;
                }
                self.retry
                    .failed("what is committed cannot be looked at", &"it takes too long".to_owned())
                    .await?;
            };
            let found = again!(self.retry, "what is committed cannot be looked at", walk.step(None));
            for commit in &found.commits {
                self.take(commit).await?;
                self.tend(false).await?;
            }
            if !found.more {
                self.vector = Some(walk.vector().clone());
                return Ok(end);
            }
        }
    }

    /// Has the rules look at a commit.
    async fn take(&mut self, commit: &Commit) -> Result<(), Stop> {
        let chooser = self.chooser.clone();
        let shard = self.claim.shard;
        let devices = again!(self.retry, "whom rules concern cannot be told", chooser.of(commit, shard));
        if !devices.is_empty() {
            let source = self.shared.parts.live.source().clone();
            let runs = again!(self.retry, "frames cannot be read", source.runs(commit, &devices, 0));
            let runs: Vec<LiveRun> = runs.into_iter().filter(|live| live.fresh <= live.run.last()).collect();
            let mut rest = &runs[..];
            while !rest.is_empty() {
                let (some, behind) = rest.split_at(LiveRun::portion(rest));
                rest = behind;
                let data = again!(self.retry, "frames cannot be read", source.data(commit, some));
                for (live, data) in some.iter().zip(data) {
                    let concerned = again!(
                        self.retry,
                        "whom rules concern cannot be told",
                        chooser.concerned(&live.device)
                    );
                    let Some(concerned) = concerned else { continue };
                    self.take_run(live, &concerned, data).await?;
                }
            }
        }
        if let Some(vector) = self.vector.as_mut().filter(|_| !commit.is_part) {
            vector.advance(commit.id.incarnation, commit.through);
        }
        Ok(())
    }

    async fn take_run(
        &mut self,
        live: &LiveRun,
        concerned: &Concerned,
        data: Option<Bytes>,
    ) -> Result<(), Stop> {
        let LiveRun { device, run, fresh } = live;
        match (run.kind, data) {
            (Kind::Frames, Some(data)) => {
                let traced = Traced::begin(&self.shared.parts.tracer, device, run);
                let frames = Frames {
                    device,
                    concerned,
                    epoch: run.epoch,
                    first: run.first,
                    count: run.count,
                    received_at: run.received_at,
                    from: *fresh,
                    rules_since: 0,
                    trace: traced.as_ref().map(Traced::context),
                };
                self.traced.extend(traced);
                self.take_frames(&frames, &data).await
            }
            (Kind::Skip(reason), _) => {
                let first = FrameNumber { epoch: run.epoch, seq: run.first.max(*fresh) };
                let loss = Loss { first, last: run.last(), reason, received_at: run.received_at };
                self.take_loss(device, concerned, &loss, 0).await
            }
            (Kind::Frames | Kind::Damaged, _) => {
                self.shared.parts.metrics.damaged.inc_by(run.count);
                Ok(())
            }
        }
    }

    /// Has the rules look at frames.
    pub async fn take_frames(&mut self, frames: &Frames<'_>, data: &[u8]) -> Result<(), Stop> {
        let (device, concerned, rules) = (frames.device, frames.concerned, self.chooser.rules.clone());
        let number = |seq| FrameNumber { epoch: frames.epoch, seq };
        let latest = latest(self.now());
        let mut is_first = false;
        let from = frames.from.max(frames.first);
        if self.states.wants_first(&rules, device, concerned, number(from)) {
            is_first = self.is_first(device, number(from)).await?;
        }
        let (mut rest, mut seq, end) = (data, frames.first, Seq(frames.first.0 + frames.count));
        while seq < end {
            let Ok(frame) = FrameRef::decode(&mut rest, FRAME_BYTES_MAX) else {
                self.shared.parts.metrics.damaged.inc_by(end.0 - seq.0);
                break;
            };
            if seq >= from {
                self.shared.parts.metrics.frames.inc();
                let is_first = is_first && seq == from;
                loop {
                    let mut seen =
                        Seen::new(number(seq), frames.received_at, frame, is_first, &rules.positions);
                    (seen.latest, seen.trace) = (latest, frames.trace);
                    let looked =
                        self.states.take(&rules, (device, concerned), &seen, (frames.rules_since, ROOM));
                    match looked {
                        Looked::All => break,
                        Looked::Some => self.store().await?,
                    }
                }
            }
            seq = seq.next();
        }
        self.wait_for_silences(device, concerned);
        Ok(())
    }

    /// Has the rules look at a declared loss.
    pub async fn take_loss(
        &mut self,
        device: &DeviceId,
        concerned: &Concerned,
        loss: &Loss,
        rules_since: Micros,
    ) -> Result<(), Stop> {
        let rules = self.chooser.rules.clone();
        while self.states.lose(&rules, (device, concerned), loss, (rules_since, ROOM)) == Looked::Some {
            self.store().await?;
        }
        Ok(())
    }
}
