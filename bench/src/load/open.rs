//! The open loop of one thread: frames begin by the clock, whatever the acks do.
//!
//! Latencies count from the instant that was intended for a frame, not from the one at which it could be sent:
//! what a slow server delays is charged to it (coordinated omission).

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use trough_device::{Device, Frame};
use trough_runtime::clock::Clock;

use super::Arrivals;
use super::alarm::Alarm;
use super::crew::CHANNEL;
use super::ledger::{Ledger, Recorder, histogram};
use crate::payload::Payloads;

/// The traffic of one thread.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Frames a second.
    pub per_second: f64,
    /// When they come.
    pub arrivals: Arrivals,
    /// Makes the arrivals repeatable.
    pub seed: u64,
}

/// One session with what it has on its way.
pub struct Lane {
    device: Rc<Device>,
    ledger: RefCell<Ledger>,
}

impl Lane {
    /// Nothing on its way.
    pub fn new(device: Rc<Device>) -> Rc<Self> {
        Rc::new(Self { device, ledger: RefCell::default() })
    }
}

/// Records the acks of one session. Never ends by itself.
///
/// # Errors
/// The device has ended.
pub async fn follow(lane: Rc<Lane>, recorder: Rc<Recorder>) -> Result<()> {
    let mut acks = lane.device.watch_acks();
    loop {
        acks.changed().await?;
        let acked = acks.borrow_and_update().frames;
        lane.ledger.borrow_mut().acked(acked, &recorder);
    }
}

/// Sends until the time is over, waits for the last ack, and returns by how much frames began too late for want
/// of time on this side.
///
/// # Errors
/// A device was refused.
pub async fn run(
    lanes: &[Rc<Lane>],
    rate: Rate,
    payloads: &Payloads,
    clock: &Clock,
    recorder: &Recorder,
) -> Result<Histogram<u64>> {
    let alarm = Alarm::new()?;
    let mut late_ns = histogram();
    let mut rng = StdRng::seed_from_u64(rate.seed);
    let schedule = recorder.schedule();
    let mut intended = schedule.start;
    for index in 0_u64.. {
        let (distance, lane) = match rate.arrivals {
            // The inverse of the exponential distribution; the argument is above 0.
            Arrivals::Poisson => (-(1.0 - rng.random::<f64>()).ln(), rng.random_range(0..lanes.len())),
            Arrivals::Even => (1.0, index as usize % lanes.len()),
        };
        intended += Duration::from_secs_f64(distance / rate.per_second);
        if intended >= schedule.to {
            break;
        }
        alarm.until(intended).await?;
        let lane = &lanes[lane];
        lane.ledger.borrow_mut().sent(intended, 1);
        let frame = Frame {
            ts: clock.now(),
            channel: CHANNEL,
            content_type: payloads.content_type(),
            payload: payloads.get(index),
        };
        if recorder.counts(intended) {
            let late = Instant::now().saturating_duration_since(intended).as_nanos();
            late_ns.saturating_record(u64::try_from(late).unwrap_or(u64::MAX).max(1));
        }
        // Waits while the device's buffer is full, which delays all; their latencies count that in.
        lane.device.send(frame).await?;
    }
    for lane in lanes {
        lane.device.flush().await?;
    }
    // The followers see the last acks in their next turn.
    while lanes.iter().any(|lane| lane.ledger.borrow().in_flight() > 0) {
        tokio::task::yield_now().await;
    }
    Ok(late_ns)
}
