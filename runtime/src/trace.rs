//! Traces: how long the parts of the way took that some runs of frames have gone, from the feeder to whoever was told.
//!
//! A run ([`trough_protocol::batch`]) comes unchanged from a feeder into the journal. So the id of its trace follows from
//! what it is, and whether it is traced follows from the id: every process that meets it comes to the same, and nothing
//! travels along. Only events carry a [`TraceContext`], as they are not runs any more.
//!
//! A process that traces nothing has a [`Tracer`] that is off, which costs a comparison for each batch.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use trough_protocol::{Epoch, Micros, Seq};

use crate::clock::Clock;
use crate::random::random_bytes;

/// Spans that wait until they are sent. Further ones are dropped, and counted.
const WAITING_MAX: usize = 4096;

/// A span of a trace, as what comes after it knows it: the `traceparent` of W3C Trace Context, version 00.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct TraceContext {
    /// The trace; not 0.
    pub trace: u128,
    /// The span; not 0.
    pub span: u64,
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-01", self.trace, self.span)
    }
}

impl From<TraceContext> for String {
    fn from(context: TraceContext) -> Self {
        context.to_string()
    }
}

/// Not the `traceparent` of a traced request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no traceparent: 00, 32 and 16 hexadecimal digits and 01 are expected, with hyphens between them"
)]
pub struct BadTraceContext(String);

impl FromStr for TraceContext {
    type Err = BadTraceContext;
    fn from_str(s: &str) -> Result<Self, BadTraceContext> {
        let bad = || BadTraceContext(s.chars().take(80).collect());
        let digits = s.strip_prefix("00-").and_then(|rest| rest.strip_suffix("-01")).ok_or_else(bad)?;
        let (trace, span) = digits.split_once('-').ok_or_else(bad)?;
        let is_hex = |text: &str, len| text.len() == len && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hex(trace, 32) || !is_hex(span, 16) {
            return Err(bad());
        }
        let trace = u128::from_str_radix(trace, 16).map_err(|_| bad())?;
        let span = u64::from_str_radix(span, 16).map_err(|_| bad())?;
        if trace == 0 || span == 0 { Err(bad()) } else { Ok(Self { trace, span }) }
    }
}

impl TryFrom<String> for TraceContext {
    type Error = BadTraceContext;
    fn try_from(text: String) -> Result<Self, BadTraceContext> {
        text.parse()
    }
}

/// Which side of a request a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It asks.
    Client,
    /// It answers.
    Server,
    /// Neither.
    Internal,
}

/// What an attribute says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A number.
    Number(u64),
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// A part of the way that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Whose: `trough-feeder` and the like.
    pub service: &'static str,
    /// What was done.
    pub name: &'static str,
    /// Which side of it.
    pub side: Side,
    /// Itself.
    pub context: TraceContext,
    /// The span that it is a part of; `None` for the first one of a trace.
    pub parent: Option<u64>,
    /// When it began, in µs since 1970.
    pub began: Micros,
    /// When it was over.
    pub ended: Micros,
    /// What else there is to say; the names are OpenTelemetry's where it has one.
    pub attributes: Vec<(&'static str, Value)>,
    /// Why it failed, if it has.
    pub failed: Option<String>,
}

/// Takes spans. Clones send to the same place.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<On>>);

struct On {
    every: u64,
    clock: Clock,
    spans: mpsc::Sender<Span>,
    dropped: Counter,
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(on) => write!(f, "Tracer(one of {} runs)", on.every),
            None => f.write_str("Tracer(off)"),
        }
    }
}

impl Tracer {
    /// One that takes note of one of `every` runs, and counts in `dropped` what nobody has received in time; and where the
    /// spans come out.
    pub fn new(every: u64, clock: Clock, dropped: Counter) -> (Self, mpsc::Receiver<Span>) {
        let (spans, receiver) = mpsc::channel(WAITING_MAX);
        (Self(Some(Arc::new(On { every: every.max(1), clock, spans, dropped }))), receiver)
    }

    /// One that takes note of nothing.
    pub fn off() -> Self {
        Self(None)
    }

    /// Whether it takes note of anything.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The time, by the clock that spans are measured with; 0 if it is off.
    pub fn now(&self) -> Micros {
        self.0.as_ref().map_or(0, |on| on.clock.now())
    }

    /// The first span of the trace of the run that begins with a number of a device; `None` if it is not traced.
    pub fn run(&self, device: &str, epoch: Epoch, first: Seq) -> Option<TraceContext> {
        let on = self.0.as_ref()?;
        let hash = mix(mix(mix(fnv1a(device.as_bytes())) ^ epoch.0) ^ first.0);
        hash.is_multiple_of(on.every).then(|| TraceContext {
            trace: u128::from(mix(hash ^ 1)) << 64 | u128::from(mix(hash ^ 2) | 1),
            span: mix(hash ^ 3) | 1,
        })
    }

    /// A span of the same trace.
    pub fn part_of(&self, parent: TraceContext) -> TraceContext {
        TraceContext { trace: parent.trace, span: u64::from_le_bytes(random_bytes()) | 1 }
    }

    /// Takes a span. Never blocks.
    pub fn take(&self, span: Span) {
        let Some(on) = &self.0 else { return };
        if on.spans.try_send(span).is_err() {
            on.dropped.inc();
        }
    }
}

/// FNV-1a, 64 bits (<http://www.isthe.com/chongo/tech/comp/fnv/>).
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// The output function of SplitMix64 (Steele, Lea and Flood, 2014): every bit of the input changes half of the output's.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracer(every: u64) -> Tracer {
        Tracer::new(every, Clock::system(), Counter::default()).0
    }

    #[test]
    fn every_process_finds_the_same_trace() {
        let (one, other) = (tracer(100), tracer(100));
        let mut traced = 0;
        for seq in 1..=100_000 {
            let found = one.run("bus-7", Epoch(3), Seq(seq));
            assert_eq!(found, other.run("bus-7", Epoch(3), Seq(seq)));
            traced += u64::from(found.is_some());
        }
        assert!((850..1150).contains(&traced), "{traced} of 100,000");
        // Who traces more traces the same, too.
        for seq in 1..=10_000 {
            let few = one.run("bus-8", Epoch(1), Seq(seq));
            assert!(few.is_none() || few == tracer(10).run("bus-8", Epoch(1), Seq(seq)));
        }
        // An id that changes breaks traces between releases.
        let known = tracer(1).run("bus-7", Epoch(3), Seq(1)).unwrap();
        assert_eq!(known.to_string(), KNOWN);
        assert_eq!(Tracer::off().run("bus-7", Epoch(3), Seq(1)), None);
    }

    const KNOWN: &str = "00-c4b1e52b8e4f5f9dcb825c0f2173919f-492ff5e84b6ccbdf-01";

    #[test]
    fn different_runs_have_different_traces() {
        let tracer = tracer(1);
        let mut seen = std::collections::HashSet::new();
        for device in ["a", "b", "bus-7", "bus-70"] {
            for epoch in 1..10 {
                for seq in 1..100 {
                    let run = tracer.run(device, Epoch(epoch), Seq(seq)).unwrap();
                    assert!(seen.insert(run.trace), "{device} {epoch} {seq}");
                    assert_ne!(run.span, 0);
                }
            }
        }
    }

    #[test]
    fn a_context_is_a_traceparent() {
        let context =
            TraceContext { trace: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, span: 0x00f0_67aa_0ba9_02b7 };
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(context.to_string(), text);
        assert_eq!(text.parse(), Ok(context));
        assert_eq!(serde_json::to_string(&context).unwrap(), format!("\"{text}\""));
        for bad in [
            "",
            "00--01",
            &text[1..],
            &text.replace('4', "g"),
            &text.replace("00f0", "+0f0"),
            &format!("{text}0"),
        ] {
            assert!(bad.parse::<TraceContext>().is_err(), "{bad}");
        }
        let none = format!("00-{:032x}-{:016x}-01", 0, 0);
        assert!(none.parse::<TraceContext>().is_err());
    }

    #[test]
    fn what_nobody_takes_is_counted() {
        let dropped = Counter::default();
        let (tracer, mut spans) = Tracer::new(1, Clock::system(), dropped.clone());
        let context = tracer.run("bus", Epoch(1), Seq(1)).unwrap();
        let span = Span {
            service: "trough-test",
            name: "test",
            side: Side::Internal,
            context,
            parent: None,
            began: 1,
            ended: 2,
            attributes: vec![],
            failed: None,
        };
        for _ in 0..WAITING_MAX + 3 {
            tracer.take(span.clone());
        }
        assert_eq!(dropped.get(), 3);
        assert_eq!(spans.try_recv().unwrap(), span);
        assert_ne!(tracer.part_of(context).span, context.span);
    }
}
