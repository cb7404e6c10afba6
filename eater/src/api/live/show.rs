//! Showing a commit: of the devices that are shown, what is new.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use trough_protocol::frame::FrameRef;
use trough_protocol::limits::FRAME_BYTES_MAX;
use trough_protocol::{DeviceId, Epoch, Seq};

use super::body::End;
use super::follow::{RETRY_EVERY, Stream, Tries};
use crate::journal::run::Kind;
use crate::live::{Commit, LiveRun, Place};

/// How long the registry is asked again that cannot say whose frames are shown.
const REGISTRY_PATIENCE: Duration = Duration::from_secs(10);

/// How far a commit was shown.
enum Shown {
    All,
    /// Up to the place; the connection is behind.
    Part,
}

impl Stream {
    /// Shows a commit, however long the client takes, within its patience.
    pub async fn show(&mut self, commit: &Commit) -> Result<(), End> {
        loop {
            let devices = self.devices_in(commit).await?;
            if devices.is_empty() {
                break;
            }
            if let Shown::All = self.show_some(commit, &devices).await? {
                self.writer.try_send();
                break;
            }
            // What a commit has is not held while the client is waited for, nor whose frames are shown: it is read again.
            self.writer.send().await?;
            if self.draining.is_cancelled() {
                return Err(End::Draining);
            }
        }
        if !commit.is_part {
            self.vector.advance(commit.id.incarnation, commit.through);
        }
        Ok(())
    }

    /// The devices in a commit that are shown. A registry that cannot tell is asked again for a while: what is left out
    /// would never come again.
    async fn devices_in(&mut self, commit: &Commit) -> Result<Vec<DeviceId>, End> {
        let deadline = Instant::now() + REGISTRY_PATIENCE;
        loop {
            let reason = match self.scope.of(commit).await {
                Ok(devices) => return Ok(devices),
                Err(reason) => reason,
            };
            if self.draining.is_cancelled() {
                return Err(End::Draining);
            }
            if Instant::now() >= deadline {
                tracing::warn!(reason, "whose frames are shown cannot be told: a live stream ends");
                return Err(End::Unavailable);
            }
            sleep(RETRY_EVERY).await;
        }
    }

    async fn show_some(&mut self, commit: &Commit, devices: &[DeviceId]) -> Result<Shown, End> {
        let source = self.live.source().clone();
        let place = self.vector.place(commit.id.incarnation);
        let from = if place.n == commit.id.n { place.offset } else { 0 };
        let mut tries = Tries::default();
        let runs = loop {
            match source.runs(commit, devices, from).await {
                Ok(runs) => break runs,
                Err(error) => tries.failed(error).await?,
            }
        };
        let mut last: HashMap<(DeviceId, Epoch), Seq> = HashMap::new();
        let mut rest = &runs[..];
        while !rest.is_empty() {
            let (some, behind) = rest.split_at(LiveRun::portion(rest));
            rest = behind;
            // Of some everything is done, or was given from elsewhere.
            let due: Vec<(LiveRun, Seq)> =
                some.iter().filter_map(|live| self.due(commit, live, &mut last)).collect();
            let (wanted, first): (Vec<LiveRun>, Vec<Seq>) = due.into_iter().unzip();
            if wanted.is_empty() {
                continue;
            }
            let data = loop {
                match source.data(commit, &wanted).await {
                    Ok(data) => break data,
                    Err(error) => tries.failed(error).await?,
                }
            };
            for ((live, first), data) in wanted.iter().zip(first).zip(data) {
                if let Shown::Part = self.show_run(commit, live, first, data) {
                    return Ok(Shown::Part);
                }
            }
        }
        Ok(Shown::All)
    }

    /// A run of which something is to be shown, and from which number on.
    fn due(
        &self,
        commit: &Commit,
        live: &LiveRun,
        last: &mut HashMap<(DeviceId, Epoch), Seq>,
    ) -> Option<(LiveRun, Seq)> {
        let LiveRun { device, run, fresh } = live;
        let before = last.entry((device.clone(), run.epoch)).or_insert(Seq(fresh.0.saturating_sub(1)));
        let mut first = before.next().max(*fresh).max(run.first);
        *before = run.last().max(*before);
        // Those of many devices remember nothing but what is recent.
        let recent = self.recent.get(&(device.clone(), run.epoch)).copied();
        if let Some(shown) = self.given.of(run.epoch).max(recent) {
            first = shown.next().max(first);
        }
        let place = self.vector.place(commit.id.incarnation);
        if place.n == commit.id.n {
            if run.offset < place.offset {
                return None;
            }
            if run.offset == place.offset {
                first = Seq(place.seq).next().max(first);
            }
        }
        (first <= run.last()).then(|| (live.clone(), first))
    }

    /// Shows a run from a number on.
    fn show_run(&mut self, commit: &Commit, live: &LiveRun, first: Seq, data: Option<Bytes>) -> Shown {
        let LiveRun { device, run, .. } = live;
        let data = data.filter(|_| run.is_frames());
        let mut frames = data.as_deref().unwrap_or_default();
        let mut seq = run.first;
        self.writer.events.begin_run(run.epoch, run.received_at);
        while data.is_some() && seq <= run.last() {
            let Ok(frame) = FrameRef::decode(&mut frames, FRAME_BYTES_MAX) else { break };
            if seq >= first && self.filter.wants(&frame) {
                if self.writer.is_full() && !self.writer.try_send() {
                    self.remember(commit, live, Seq(seq.0 - 1));
                    return Shown::Part;
                }
                self.pass(commit, live, seq);
                let id = self.id();
                self.writer.events.frame(&id, device, seq, &frame);
                self.api.metrics.frames.inc();
            }
            seq = seq.next();
        }
        self.pass(commit, live, run.last());
        self.remember(commit, live, run.last());
        let first = seq.max(first);
        if first <= run.last() {
            let kind = if run.is_frames() { Kind::Damaged } else { run.kind };
            let id = self.id();
            let (numbers, what) = ((run.epoch, first, run.last()), (kind, run.received_at));
            self.writer.events.gap(&id, device, numbers, what);
        }
        Shown::All
    }

    /// Takes note that a number of a run is done.
    fn pass(&mut self, commit: &Commit, LiveRun { run, .. }: &LiveRun, seq: Seq) {
        if self.scope.device().is_some() {
            self.given.pass(run.epoch, seq);
        }
        if !commit.is_part {
            let place = Place { n: commit.id.n, offset: run.offset, seq: seq.0 };
            self.vector.advance(commit.id.incarnation, place);
        }
    }

    /// Takes note of the last number of a run that is done, if it may come again.
    fn remember(&mut self, commit: &Commit, LiveRun { device, run, .. }: &LiveRun, seq: Seq) {
        if self.walks || commit.is_part {
            let last = self.recent.entry((device.clone(), run.epoch)).or_insert(seq);
            *last = seq.max(*last);
        }
    }
}
