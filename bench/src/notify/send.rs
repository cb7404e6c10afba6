//! The traffic: frames by the clock, of one device after another, of which some match the rule.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use tokio::time::timeout;
use trough_device::{Config, Device};
use trough_protocol::ContentType;
use trough_protocol::frame::FrameRef;
use trough_runtime::clock::Clock;

use crate::load::{CHANNEL, Target};

/// Frames a second when only their number counts.
pub const FAST: f64 = 10_000.0;
/// What the rule asks for.
pub const RULE: &str = "/v == 1";
const MATCHES: &[u8] = br#"{"v":1}"#;
const OTHERS: &[u8] = br#"{"v":0}"#;
/// How long connecting, and the last acks, may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What to send.
#[derive(Debug, Clone, Copy)]
pub struct Traffic {
    /// Frames a second over all devices.
    pub rate: f64,
    /// Of each device, the last one of so many matches; at least 2, as a rule that matches matches once.
    pub every: u64,
    /// For how long.
    pub duration: Duration,
}

/// Sends, until everything is acknowledged; how many frames have matched.
///
/// # Errors
/// A device gets no session, or no acks.
pub async fn run(target: &Target, traffic: Traffic) -> Result<u64> {
    let start = async |token: &str| -> Result<Device> {
        let device = Device::start(Config::new(target.url.as_str(), token))?;
        timeout(TIMEOUT, device.connected()).await.context("a device got no session")??;
        Ok(device)
    };
    let devices = try_join_all(target.devices.iter().map(|device| start(&device.token))).await?;
    let (clock, began) = (Clock::system(), Instant::now());
    let total = (traffic.rate * traffic.duration.as_secs_f64()).round() as u64;
    let (mut matched, count) = (0, devices.len() as u64);
    for number in 0..total {
        let due = Duration::from_secs_f64(number as f64 / traffic.rate);
        if let Some(early) =
            due.checked_sub(began.elapsed()).filter(|early| *early > Duration::from_micros(500))
        {
            tokio::time::sleep(early).await;
        }
        let matches = (number / count) % traffic.every == traffic.every - 1;
        matched += u64::from(matches);
        let payload = if matches { MATCHES } else { OTHERS };
        let frame = FrameRef { ts: clock.now(), channel: CHANNEL, content_type: ContentType::Json, payload };
        devices[usize::try_from(number % count)?].send(frame).await?;
    }
    for device in &devices {
        timeout(TIMEOUT, device.flush()).await.context("frames are not acknowledged")??;
    }
    try_join_all(devices.iter().map(|device| device.close())).await?;
    Ok(matched)
}
