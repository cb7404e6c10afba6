//! The closed loop of one session: what is acknowledged makes room for as much again.

use std::time::Instant;

use anyhow::Result;
use trough_device::{Device, Frame, FrameBuf};
use trough_runtime::clock::Clock;

use super::crew::CHANNEL;
use super::ledger::{Ledger, Recorder};
use crate::payload::Payloads;

/// What a session keeps on its way.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Frames.
    pub frames: u64,
    /// Frames that are sent together.
    pub together: u64,
    /// Frames of the session in all.
    pub total_max: u64,
}

/// Sends until the time or the frames are over, and waits for the last ack.
///
/// # Errors
/// The device was refused.
pub async fn run(
    device: &Device,
    window: Window,
    payloads: &Payloads,
    clock: &Clock,
    recorder: &Recorder,
) -> Result<()> {
    let mut acks = device.watch_acks();
    let mut ledger = Ledger::default();
    let mut frames = FrameBuf::new();
    let end = recorder.schedule().to;
    loop {
        let now = Instant::now();
        let count = if now < end { due(window, &ledger) } else { 0 };
        if count > 0 {
            let ts = clock.now();
            for index in 0..count {
                frames.push(&Frame {
                    ts,
                    channel: CHANNEL,
                    content_type: payloads.content_type(),
                    payload: payloads.get(ledger.total() + index),
                })?;
            }
            ledger.sent(now, count);
            device.send_all(&mut frames).await?;
        }
        if ledger.in_flight() == 0 {
            return Ok(());
        }
        acks.changed().await?;
        let acked = acks.borrow_and_update().frames;
        ledger.acked(acked, recorder);
    }
}

/// Frames to send now: what the window has room for, in whole messages.
fn due(window: Window, ledger: &Ledger) -> u64 {
    let room = window.frames.saturating_sub(ledger.in_flight());
    let left = window.total_max - ledger.total();
    (room - room % window.together).min(left)
}
