//! Traces of deliveries: one span for each try, if the frame's way is traced that the event came of.

use trough_protocol::Micros;
use trough_runtime::trace::{Side, Span, TraceContext, Tracer};
use trough_store::outbox::Delivery;

use crate::tried::{Tried, Verdict};

/// A traced try.
#[derive(Debug)]
pub(super) struct Traced {
    event: TraceContext,
    context: TraceContext,
    began: Micros,
}

impl Traced {
    /// A try begins.
    pub fn begin(tracer: &Tracer, delivery: &Delivery) -> Option<Self> {
        let event = delivery.event.trace.filter(|_| tracer.is_on())?;
        Some(Self { event, context: tracer.part_of(event), began: tracer.now() })
    }

    /// What the endpoint is told.
    pub fn context(&self) -> TraceContext {
        self.context
    }

    /// It is over.
    pub fn end(self, tracer: &Tracer, channel: &'static str, delivery: &Delivery, tried: &Tried) {
        let mut attributes = vec![
            ("trough.channel", channel.into()),
            ("trough.delivery", delivery.id.to_string().into()),
            ("trough.subscription", delivery.subscription.to_string().into()),
            ("trough.event", delivery.event.id.to_string().into()),
            ("trough.attempt", u64::from(delivery.attempts + 1).into()),
        ];
        if let Some(status) = tried.status {
            attributes.push(("http.response.status_code", u64::from(status).into()));
        }
        // What an endpoint answers is its own, and is kept with the delivery.
        let failed = (tried.verdict != Verdict::Delivered)
            .then(|| tried.status.map_or_else(|| tried.said.clone(), |status| status.to_string()));
        tracer.take(Span {
            service: "trough-notifier",
            name: "deliver",
            side: Side::Client,
            context: self.context,
            parent: Some(self.event.span),
            began: self.began,
            ended: tracer.now(),
            attributes,
            failed,
        });
    }
}
