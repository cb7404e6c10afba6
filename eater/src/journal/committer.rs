//! The one thread that writes: group after group, each made of all that has come meanwhile.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use trough_protocol::Micros;
use trough_protocol::batch::Batch;
use trough_protocol::link::LinkCode;

use super::error::JournalError;
use super::format::GROUP_HEADER_BYTES;
use super::memory::OpenFile;
use super::outage::Outage;
use super::queue::{CommitSink, Submission, Taken};
use super::run::{Located, Run};
use super::shared::{PART, Shared};
use super::work::Check;
use super::writer::{Ready, WriteError, Writer};
use crate::doorbell::News;

/// Files that may wait for their index. Further groups wait until one has it: their runs are in memory.
const UNSEALED_MAX: usize = 8;
/// How long to wait for a seal before looking whether the journal is being closed.
const ROOM_WAIT: Duration = Duration::from_millis(100);

/// What a [`Committer::step`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A group is durable and its sinks know.
    Committed,
    /// There was nothing to do.
    Idle,
    /// The disk refused. Nothing was acknowledged, nothing was dropped.
    Failed,
    /// Too many files wait for their index.
    Full,
}

/// Takes submissions and makes them durable.
pub(super) struct Committer {
    shared: Arc<Shared>,
    writer: Writer,
    pending: VecDeque<Submission>,
    /// The runs of the next group, as the directories of its batches have them.
    runs: Vec<PendingRun>,
    last_received: Micros,
    /// The last group stands before a header that vouches for it.
    vouched: bool,
    /// When the open file is old enough to be followed by another, if it has a group.
    roll_at: Option<Instant>,
    outage: Outage,
}

/// A run of a pending batch.
struct PendingRun {
    /// Which of the pending batches, from the front.
    batch: usize,
    /// Where the device's id stands in the batch.
    device: Range<usize>,
    /// Its offset is from the start of the batch, and it was not received yet.
    run: Run,
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>, writer: Writer, last_received: Micros, vouched: bool) -> Self {
        let roll_after = shared.config.roll_after;
        Self {
            shared,
            writer,
            pending: VecDeque::new(),
            runs: Vec::new(),
            last_received,
            vouched,
            // Groups of an earlier process may be older; nobody waits for that.
            roll_at: Some(Instant::now() + roll_after),
            outage: Outage::default(),
        }
    }

    /// Commits until the queue is closed and empty. Blocks.
    pub(super) fn run(mut self) -> Result<(), JournalError> {
        loop {
            if self.pending.is_empty() {
                let patience = self.patience();
                match self.shared.queue.take(&mut self.pending, patience) {
                    Taken::Some => {}
                    Taken::TimedOut => self.mark(),
                    Taken::Closed => break,
                }
            }
            self.roll_if_old();
            match self.step() {
                Step::Committed | Step::Idle => {}
                Step::Full => drop(self.shared.work.wait_for_room(UNSEALED_MAX, ROOM_WAIT)),
                // The first failure spoilt a file; a new one is tried at once.
                Step::Failed if self.outage.is_fresh() => {}
                Step::Failed if self.shared.queue.wait_closed(self.shared.config.retry_every) => break,
                Step::Failed => {}
            }
        }
        self.finish()
    }

    /// How long to wait for a batch until there is something else to do.
    fn patience(&self) -> Option<Duration> {
        let until_marker = (!self.vouched).then_some(self.shared.config.marker_after);
        let until_roll = self.roll_at.map(|at| at.saturating_duration_since(Instant::now()));
        until_marker.into_iter().chain(until_roll).min()
    }

    /// Ends the open file if it is old, whether or not anything follows.
    fn roll_if_old(&mut self) {
        let now = Instant::now();
        if self.roll_at.is_none_or(|at| now < at) {
            return;
        }
        if self.shared.work.wait_for_room(UNSEALED_MAX, Duration::ZERO) {
            self.roll();
        } else {
            self.roll_at = Some(now + self.shared.config.retry_every);
        }
    }

    /// Ends the open file, if it has a group.
    pub(super) fn roll(&mut self) {
        self.mark();
        self.roll_at = None;
        if let Some((id, len)) = self.writer.complete() {
            self.shared.write().roll();
            self.shared.work.seal(id, len);
        }
    }

    /// A last try for what is left, and the marker.
    pub(super) fn finish(&mut self) -> Result<(), JournalError> {
        let mut reason = String::from("its index files cannot be written");
        loop {
            self.shared.queue.take(&mut self.pending, Some(Duration::ZERO));
            if self.pending.is_empty() {
                break;
            }
            match self.step() {
                Step::Committed | Step::Idle => {}
                Step::Full if self.shared.work.wait_for_room(UNSEALED_MAX, Duration::from_secs(5)) => {}
                Step::Failed if self.outage.is_fresh() => {}
                Step::Failed | Step::Full => {
                    let degraded = self.shared.health.degraded();
                    if let Some((_, why)) = degraded.into_iter().find(|(part, _)| part == PART) {
                        reason = why;
                    }
                    return Err(JournalError::Unstored { batches: self.pending.len(), reason });
                }
            }
        }
        self.mark();
        self.writer.trim();
        Ok(())
    }

    /// Makes one group of what is pending durable, or tries to. Does not wait for batches.
    pub(super) fn step(&mut self) -> Step {
        // What came during the last sync joins; the queue is not waited for.
        self.shared.queue.take(&mut self.pending, Some(Duration::ZERO));
        let count = self.gather();
        if count == 0 {
            return Step::Idle;
        }
        if self.writer.needs_new_file() && !self.shared.work.wait_for_room(UNSEALED_MAX, Duration::ZERO) {
            return Step::Full;
        }
        // Rising and not only not falling: a device's generation is its last group's.
        let received_at = self.shared.clock.now().max(self.last_received + 1);
        let appended = self.ready(received_at).and_then(|()| {
            self.writer.append(received_at, self.pending.range(..count).map(|submission| &submission.batch))
        });
        match appended {
            Ok(place) => {
                self.last_received = received_at;
                self.vouched = false;
                self.outage.over(&self.shared);
                self.enter(count, place, received_at);
                self.tell(count);
                if let Some(doorbell) = &self.shared.doorbell {
                    doorbell.ring(News::Groups { received_at });
                }
                Step::Committed
            }
            Err(error) => {
                let waiting = self.pending.iter().map(|submission| submission.batch.len()).sum();
                self.outage.failed(&self.shared, &error, waiting);
                Step::Failed
            }
        }
    }

    /// Writes a marker, unless the last group is vouched for.
    pub(super) fn mark(&mut self) {
        if self.vouched || !self.writer.is_open() {
            return;
        }
        self.vouched = true;
        match self.writer.append(self.last_received, std::iter::empty::<&Bytes>()) {
            Ok(_) => self.publish_end(),
            Err(error) => {
                // Nothing waits for it, and the next group goes to a new file, whose header vouches too.
                let file = self.writer.position().0;
                self.shared.metrics.failures.inc();
                tracing::warn!(file, doing = error.doing, error = %error.source, "no marker could be written");
            }
        }
    }

    fn ready(&mut self, now: Micros) -> Result<(), WriteError> {
        if let Ready::New { id, nonce, complete } = self.writer.ready(now)? {
            let mut index = self.shared.write();
            // An active file that is not the complete one was given up before it had a group.
            match complete {
                Some((complete, len)) if index.active.as_ref().is_some_and(|file| file.id == complete) => {
                    index.roll();
                    self.shared.work.seal(complete, len);
                }
                _ => index.active = None,
            }
            index.active = Some(OpenFile::new(id, nonce));
            self.roll_at = Some(Instant::now() + self.shared.config.roll_after);
            self.shared.metrics.files.set(index.files().len() as i64);
        }
        Ok(())
    }

    /// Reads the directories of the pending batches that make the next group. How many they are.
    fn gather(&mut self) -> usize {
        self.runs.clear();
        let (mut count, mut bytes) = (0, GROUP_HEADER_BYTES as usize);
        while let Some(submission) = self.pending.get(count) {
            bytes += submission.batch.len();
            if count > 0 && bytes > self.shared.config.group_bytes_max {
                break;
            }
            match Batch::check_directory(&submission.batch) {
                Ok(batch) => {
                    let start = submission.batch.as_ptr().addr();
                    self.runs.extend(batch.runs().map(|run| {
                        let device = run.device.as_ptr().addr() - start;
                        let device = device..device + run.device.len();
                        PendingRun { batch: count, device, run: Run::new(&run, batch.data(&run), 0, 0) }
                    }));
                    count += 1;
                }
                // Whoever submits has checked the batch; what cannot be indexed must not be acknowledged all
                // the same, and not before what came before it is.
                Err(_) if count > 0 => break,
                Err(error) => {
                    tracing::error!(%error, number = submission.number, "an unchecked batch is refused");
                    submission.sink.rejected(submission.number, LinkCode::DAMAGED, &error.to_string());
                    bytes -= submission.batch.len();
                    self.shared.metrics.queued_bytes.dec_by(submission.batch.len() as i64);
                    self.pending.pop_front();
                }
            }
        }
        count
    }

    /// Makes a durable group visible.
    fn enter(&mut self, count: usize, (file, offset): (u64, u64), received_at: Micros) {
        let shared = &*self.shared;
        let (mut frames, mut checks) = (0, Vec::new());
        let mut starts = Vec::with_capacity(count);
        let mut at = offset + GROUP_HEADER_BYTES;
        for submission in self.pending.range(..count) {
            starts.push(u32::try_from(at).expect("a file ends below 4 GiB"));
            at += submission.batch.len() as u64;
        }
        let mut index = shared.write();
        for PendingRun { batch, device, run } in &self.runs {
            let run = Run { offset: starts[*batch] + run.offset, received_at, ..*run };
            let device = std::str::from_utf8(&self.pending[*batch].batch[device.clone()]);
            let device = device.expect("the directory was checked");
            if run.is_frames() {
                frames += run.count;
            }
            let (number, fresh) = loop {
                match index.enter(device, run) {
                    Some(entered) => break entered,
                    None => {
                        // Looking a forgotten head up takes reading, so not under the lock. The feeder refuses
                        // stale epochs: this hardly ever happens.
                        drop(index);
                        let head = shared.sealed_head(device, run.epoch);
                        index = shared.write();
                        index.restore_head(device, run.epoch, head);
                    }
                }
            };
            if fresh < run.count {
                let device = index.devices.id(number).clone();
                checks.push(Check { device, run: Located { file, run }, repeated: run.count - fresh });
            }
        }
        index.end = (file, at);
        let index_bytes = index.bytes();
        drop(index);
        for check in checks {
            let repeated = check.repeated;
            if !shared.work.check(check, shared.config.checks_max) {
                shared.metrics.unchecked.inc_by(repeated);
            }
        }
        let metrics = &shared.metrics;
        metrics.groups.inc();
        metrics.batches.inc_by(count as u64);
        metrics.frames.inc_by(frames);
        metrics.bytes.inc_by(at - offset);
        metrics.group_batches.observe(count as f64);
        metrics.index_bytes.set(index_bytes as i64);
    }

    /// Tells each sink once how far it is, and forgets the group.
    fn tell(&mut self, count: usize) {
        let mut sinks: Vec<(Arc<dyn CommitSink>, u64)> = Vec::new();
        let mut bytes = 0;
        for submission in self.pending.drain(..count) {
            bytes += submission.batch.len();
            let same = |(sink, _): &(Arc<dyn CommitSink>, u64)| {
                std::ptr::addr_eq(Arc::as_ptr(sink), Arc::as_ptr(&submission.sink))
            };
            // A link's batches come one after another more often than not.
            match sinks.iter().rposition(same) {
                Some(at) => sinks[at].1 = sinks[at].1.max(submission.number),
                None => sinks.push((submission.sink, submission.number)),
            }
        }
        self.shared.metrics.queued_bytes.dec_by(bytes as i64);
        for (sink, number) in sinks {
            sink.committed(number);
        }
    }

    fn publish_end(&self) {
        let (file, end) = self.writer.position();
        self.shared.write().end = (file, end);
    }
}
