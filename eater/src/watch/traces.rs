//! Traces of what rules find: one span for each traced run that brought something about.

use trough_protocol::{DeviceId, Micros};
use trough_runtime::trace::{Side, Span, TraceContext, Tracer};
use trough_store::Event;

use crate::journal::run::Run;

/// A traced run that rules look at.
#[derive(Debug)]
pub(super) struct Traced {
    feed: TraceContext,
    context: TraceContext,
    began: Micros,
    device: DeviceId,
}

impl Traced {
    /// Rules begin to look at a run.
    pub fn begin(tracer: &Tracer, device: &DeviceId, run: &Run) -> Option<Self> {
        let feed = tracer.run(device.as_str(), run.epoch, run.first)?;
        Some(Self { feed, context: tracer.part_of(feed), began: tracer.now(), device: device.clone() })
    }

    /// What the events are a part of that it brings about.
    pub fn context(&self) -> TraceContext {
        self.context
    }

    /// The events are entered.
    pub fn end(self, tracer: &Tracer, events: &[Event]) {
        let of_it = || events.iter().filter(|event| event.trace == Some(self.context));
        let Some(first) = of_it().next() else { return };
        let attributes = vec![
            ("trough.device", self.device.as_str().into()),
            ("trough.events", (of_it().count() as u64).into()),
            ("trough.event", first.id.to_string().into()),
        ];
        tracer.take(Span {
            service: "trough-eater",
            name: "watch",
            side: Side::Internal,
            context: self.context,
            parent: Some(self.feed.span),
            began: self.began,
            ended: tracer.now(),
            attributes,
            failed: None,
        });
    }
}
