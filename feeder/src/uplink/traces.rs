//! Traces of what a link carries: one span for each traced run, from its batch being made to its acknowledgement.

use trough_protocol::limits::INT_MAX;
use trough_protocol::{LinkId, Micros, Seq};
use trough_runtime::trace::{Side, Span, TraceContext, Tracer};

use crate::scheduler::Share;

/// Where spans go, and what they all say. By itself it is off.
#[derive(Debug, Default)]
pub struct Traces {
    tracer: Tracer,
    eater: String,
}

/// A traced run on its way.
#[derive(Debug)]
pub struct Traced {
    context: TraceContext,
    began: Micros,
    device: String,
    epoch: u64,
    first: Seq,
    frames: u64,
}

impl Traces {
    /// Those of a link to `eater`.
    pub fn new(tracer: &Tracer, eater: LinkId) -> Self {
        let eater = if tracer.is_on() { eater.to_string() } else { String::new() };
        Self { tracer: tracer.clone(), eater }
    }

    /// The traced runs of a batch that is made.
    pub fn begin(&self, shares: &[Share]) -> Vec<Traced> {
        if !self.tracer.is_on() {
            return Vec::new();
        }
        let traced = |share: &Share| {
            // A declared loss has no frames, and no trace.
            let first =
                Seq((share.last.0 + 1).checked_sub(share.frames).filter(|first| *first <= INT_MAX)?);
            let flow = &share.flow;
            let context = self.tracer.run(flow.device.as_str(), flow.epoch, first)?;
            let (device, epoch) = (flow.device.to_string(), flow.epoch.0);
            Some(Traced { context, began: self.tracer.now(), device, epoch, first, frames: share.frames })
        };
        shares.iter().filter(|share| share.frames > 0).filter_map(traced).collect()
    }

    /// A batch is acknowledged, or refused. What is sent again after a link's death has its span from then on.
    pub fn end(&self, number: u64, traced: Vec<Traced>, refused: Option<&str>) {
        for Traced { context, began, device, epoch, first, frames } in traced {
            self.tracer.take(Span {
                service: "trough-feeder",
                name: "feed",
                side: Side::Client,
                context,
                parent: None,
                began,
                ended: self.tracer.now(),
                attributes: vec![
                    ("trough.device", device.into()),
                    ("trough.epoch", epoch.into()),
                    ("trough.first_seq", first.0.into()),
                    ("trough.frames", frames.into()),
                    ("trough.eater", self.eater.as_str().into()),
                    ("trough.batch", number.into()),
                ],
                failed: refused.map(str::to_owned),
            });
        }
    }
}
