//! Traces of what a link's feeder sends: one span for each traced run, from its batch's arrival to its being durable.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use trough_protocol::Micros;
use trough_protocol::batch::{Batch, RunKind};
use trough_runtime::trace::{Side, Span, TraceContext, Tracer};

/// The traced runs of one link that wait to be committed.
#[derive(Debug, Default)]
pub struct Traces {
    tracer: Tracer,
    waiting: Mutex<VecDeque<Traced>>,
}

#[derive(Debug)]
struct Traced {
    batch: u64,
    began: Micros,
    feed: TraceContext,
    device: String,
    frames: u64,
    bytes: u64,
}

impl Traces {
    /// None yet.
    pub fn new(tracer: Tracer) -> Self {
        Self { tracer, waiting: Mutex::default() }
    }

    /// A batch has come.
    pub fn begin(&self, number: u64, batch: &Batch<'_>) {
        if !self.tracer.is_on() {
            return;
        }
        let began = self.tracer.now();
        for run in batch.runs().filter(|run| run.kind == RunKind::Frames) {
            if let Some(feed) = self.tracer.run(run.device, run.epoch, run.first) {
                let (device, frames, bytes) = (run.device.to_owned(), run.count, run.len.into());
                let traced = Traced { batch: number, began, feed, device, frames, bytes };
                self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back(traced);
            }
        }
    }

    /// All batches up to `number` are durable.
    pub fn committed(&self, number: u64) {
        self.end(|batch| batch <= number, None);
    }

    /// A batch was refused.
    pub fn rejected(&self, number: u64, why: &str) {
        self.end(|batch| batch == number, Some(why));
    }

    fn end(&self, is_over: impl Fn(u64) -> bool, failed: Option<&str>) {
        if !self.tracer.is_on() {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.is_empty() {
            return;
        }
        // One that was refused may stand behind others that still wait.
        let all = std::mem::take(&mut *waiting).into_iter();
        let (over, rest): (Vec<_>, VecDeque<_>) =
            all.fold(Default::default(), |(mut over, mut rest), traced| {
                if is_over(traced.batch) {
                    over.push(traced)
                } else {
                    rest.push_back(traced)
                }
                (over, rest)
            });
        *waiting = rest;
        drop(waiting);
        for Traced { batch, began, feed, device, frames, bytes } in over {
            self.tracer.take(Span {
                service: "trough-eater",
                name: "commit",
                side: Side::Server,
                context: self.tracer.part_of(feed),
                parent: Some(feed.span),
                began,
                ended: self.tracer.now(),
                attributes: vec![
                    ("trough.device", device.into()),
                    ("trough.frames", frames.into()),
                    ("trough.bytes", bytes.into()),
                    ("trough.batch", batch.into()),
                ],
                failed: failed.map(str::to_owned),
            });
        }
    }
}
