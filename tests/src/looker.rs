//! A reader that looks at one device after another while they send.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use tokio::task::JoinHandle;
use trough_device::Device;

use crate::fleet::Fleet;
use crate::reader::Reader;

/// Looks whether what a device has acknowledged is visible to the next request, whichever eater is asked. One that
/// does not answer is passed over. Dropping it ends it.
#[derive(Debug)]
pub struct Looker(JoinHandle<()>);

impl Looker {
    /// Starts to look at the devices of these fleets.
    pub fn start<'a>(readers: Vec<Reader>, fleets: impl IntoIterator<Item = &'a Fleet>, rng: StdRng) -> Self {
        let devices = fleets.into_iter().flat_map(|fleet| {
            fleet.devices.iter().cloned().zip(fleet.tracks.iter().map(|track| track.device.clone()))
        });
        Self(tokio::spawn(look(readers, devices.collect(), rng)))
    }

    /// Ends it.
    ///
    /// # Panics
    /// If a reader saw less than was acknowledged.
    pub fn assert_content(self) {
        assert!(!self.0.is_finished(), "a reader saw less than was acknowledged: its message stands above");
    }
}

impl Drop for Looker {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn look(readers: Vec<Reader>, devices: Vec<(Arc<Device>, String)>, mut rng: StdRng) {
    loop {
        let (handle, device) = &devices[rng.random_range(0..devices.len())];
        let acked = handle.acked().0;
        let reader = &readers[rng.random_range(0..readers.len())];
        if let Some((epoch, head)) = reader.head(device).await
            && acked > 0
        {
            assert_eq!(epoch, 1, "{device} never lost its memory");
            assert!(head >= acked, "{device}: {acked} is acknowledged, a reader sees {head}");
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
