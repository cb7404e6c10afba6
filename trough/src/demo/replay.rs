//! Every bus as a device of its own, all at once, as fast as they are acknowledged.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio::task::JoinSet;
use trough_device::{Acked, Config, ContentType, Device, Frame};
use trough_store::Token;

use crate::data::buses::{Bus, CHANNEL, Position};
use crate::progress::Progress;

/// Frames of one bus on their way: enough to hide the round trip, few enough that an ack's delay means something.
pub const IN_FLIGHT: usize = 16;

/// How it went.
#[derive(Debug)]
pub struct Replayed {
    /// Until the last bus was in its session.
    pub connecting: Duration,
    /// From the first frame to the last ack.
    pub replaying: Duration,
    /// From handing a frame to the client until its ack was known, for each frame, rising.
    pub acks: Vec<Duration>,
}

/// Connects a device for each bus and sends all its positions.
///
/// # Errors
/// A device is refused, or does not connect.
pub async fn replay(
    buses: &Arc<Vec<Bus>>,
    tokens: &[Token],
    feeder: SocketAddr,
    progress: &Arc<Progress>,
) -> Result<Replayed> {
    let began = Instant::now();
    let mut connecting = JoinSet::new();
    for (index, token) in tokens.iter().enumerate() {
        let config = Config::new(format!("ws://{feeder}"), token.expose());
        connecting.spawn(async move { Device::connect(config).await.map(|device| (index, device)) });
    }
    let mut devices = Vec::with_capacity(tokens.len());
    while let Some(connected) = connecting.join_next().await {
        devices.push(connected.context("a device has panicked")?.context("a bus cannot connect")?);
    }
    let connecting = began.elapsed();

    let began = Instant::now();
    let mut replaying = JoinSet::new();
    for (index, device) in devices {
        let (buses, progress) = (buses.clone(), progress.clone());
        replaying.spawn(async move {
            let bus = &buses[index];
            replay_bus(&bus.positions, device, &progress).await.with_context(|| bus.id.to_string())
        });
    }
    let mut acks = Vec::new();
    while let Some(replayed) = replaying.join_next().await {
        acks.extend(replayed.context("a device has panicked")??);
    }
    let replaying = began.elapsed();
    acks.sort_unstable();
    Ok(Replayed { connecting, replaying, acks })
}

async fn replay_bus(positions: &[Position], device: Device, progress: &Progress) -> Result<Vec<Duration>> {
    let mut tracker = AckTracker {
        acks: device.watch_acks(),
        in_flight: VecDeque::with_capacity(IN_FLIGHT),
        delays: Vec::with_capacity(positions.len()),
    };
    for position in positions {
        if tracker.in_flight.len() == IN_FLIGHT {
            tracker.wait(progress).await?;
        }
        let frame = Frame {
            ts: position.ts,
            channel: CHANNEL,
            content_type: ContentType::Json,
            payload: position.json.as_bytes(),
        };
        tracker.in_flight.push_back(Instant::now());
        device.send(frame).await?;
    }
    while !tracker.in_flight.is_empty() {
        tracker.wait(progress).await?;
    }
    device.close().await?;
    Ok(tracker.delays)
}

struct AckTracker {
    acks: watch::Receiver<Acked>,
    /// When each frame that is not acknowledged was handed over.
    in_flight: VecDeque<Instant>,
    delays: Vec<Duration>,
}

impl AckTracker {
    async fn wait(&mut self, progress: &Progress) -> Result<()> {
        self.acks.changed().await.context("the device has ended")?;
        let acked = self.acks.borrow_and_update().frames as usize;
        let news = acked.saturating_sub(self.delays.len());
        self.delays.extend(self.in_flight.drain(..news).map(|handed_over| handed_over.elapsed()));
        progress.add(news as u64);
        Ok(())
    }
}
