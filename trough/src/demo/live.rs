//! One more device, so that a live tail has something to show after the replay: it drives the tour of one bus
//! again, a position a second, with the present time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio_util::task::AbortOnDropHandle;
use trough_device::{Config, ContentType, Device, Frame};
use trough_protocol::DeviceId;
use trough_runtime::clock::Clock;
use trough_store::{NewDevice, Registry};

use crate::data::buses::{Bus, CHANNEL};

/// The device's id.
pub const DEVICE: &str = "live";
const EVERY: Duration = Duration::from_secs(1);

/// Starts it. It goes on until the handle is dropped.
///
/// # Errors
/// The registry's, or a feeder that refuses the device.
pub async fn start(
    registry: &dyn Registry,
    buses: Arc<Vec<Bus>>,
    feeder: SocketAddr,
) -> Result<AbortOnDropHandle<()>> {
    let token = registry.add_device(NewDevice::new(DeviceId::new(DEVICE)?)).await?;
    let device = Device::connect(Config::new(format!("ws://{feeder}"), token.expose())).await?;
    let drive = async move {
        let longest = buses.iter().max_by_key(|bus| bus.positions.len());
        let tour = longest.map_or(&[][..], |bus| &bus.positions);
        let (clock, mut tick) = (Clock::system(), tokio::time::interval(EVERY));
        for position in tour.iter().cycle() {
            tick.tick().await;
            let frame = Frame {
                ts: clock.now(),
                channel: CHANNEL,
                content_type: ContentType::Json,
                payload: position.json.as_bytes(),
            };
            if let Err(error) = device.send(frame).await {
                // The demo has ended, or its user has revoked the device.
                tracing::info!(%error, "the live device stops");
                return;
            }
        }
    };
    Ok(AbortOnDropHandle::new(tokio::spawn(drive)))
}
