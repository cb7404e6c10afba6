//! What `docs/performance.md` records.

use std::time::Duration;

use crate::Step;
use crate::deployment::Subject::{Embedded, FloorDurable, FloorNothing, Trough};
use crate::load::{Arrivals, Load, Pace};
use crate::payload::PayloadKind;
use crate::read::Reading;

const SESSIONS: usize = 200;
const PAYLOAD_BYTES: usize = 256;
const WINDOW: u64 = 64;
const RATE: f64 = 2000.0;
const IDLE_SESSIONS: usize = 10_000;
const READ_FRAMES: u64 = 1_000_000;

/// Everything, in the order in which it is reported: under five minutes on two cores.
pub fn suite(threads: usize) -> Vec<Step> {
    let closed = |frames_per_message, seconds| Load {
        payload_bytes: PAYLOAD_BYTES,
        payload: PayloadKind::Binary,
        frames_per_message,
        pace: Pace::Closed { window: WINDOW, frames: None },
        warmup: Duration::from_secs(1),
        duration: Duration::from_secs(seconds),
        threads,
    };
    let open = |arrivals, seconds| Load { pace: Pace::Open { rate: RATE, arrivals }, ..closed(1, seconds) };
    let read = |devices, payload| {
        Step::Read(Reading { devices, frames: READ_FRAMES, payload_bytes: PAYLOAD_BYTES, payload })
    };
    vec![
        Step::Load(FloorNothing, SESSIONS, closed(1, 5)),
        Step::Load(FloorDurable, SESSIONS, closed(1, 10)),
        Step::Load(Trough, SESSIONS, closed(1, 10)),
        Step::Load(Embedded, SESSIONS, closed(1, 10)),
        Step::Load(FloorDurable, SESSIONS, closed(16, 5)),
        Step::Load(Trough, SESSIONS, closed(16, 10)),
        Step::Load(FloorDurable, SESSIONS, open(Arrivals::Poisson, 15)),
        Step::Load(Trough, SESSIONS, open(Arrivals::Poisson, 15)),
        Step::Load(Trough, SESSIONS, open(Arrivals::Even, 10)),
        Step::Load(Embedded, SESSIONS, open(Arrivals::Poisson, 10)),
        Step::Idle(FloorNothing, IDLE_SESSIONS),
        Step::Idle(Trough, IDLE_SESSIONS),
        read(1, PayloadKind::Json),
        read(1, PayloadKind::Binary),
        read(SESSIONS, PayloadKind::Json),
    ]
}
