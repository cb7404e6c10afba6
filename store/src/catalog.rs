//! What journal files exist, and what is known of each device's frames.
//!
//! The catalog is never on the path of an acknowledgement, and everything in it can be found again in the
//! journal; it exists so that a start does not have to read the whole journal.

use trough_protocol::{Channel, DeviceId, Epoch, Micros, Seq};

use crate::BoxFuture;
use crate::error::CatalogError;

/// Most devices one [`Catalog::device_states`] returns.
pub const STATES_MAX: usize = 10_000;

/// A journal file that will not change any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedFile {
    /// Which one.
    pub file_id: u64,
    /// Its size, in bytes.
    pub bytes: u64,
    /// Frames in it, copies included.
    pub frames: u64,
    /// Runs in it.
    pub runs: u64,
    /// When its first batch came, by the eater's clock.
    pub min_received: Micros,
    /// When its last batch came.
    pub max_received: Micros,
    /// The least time stamp that a device gave a frame in it.
    pub min_ts: Micros,
    /// The greatest one.
    pub max_ts: Micros,
}

/// What one journal file says of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceSummary {
    /// Which device.
    pub device: DeviceId,
    /// For each epoch with frames in the file, the greatest durable seq in it.
    pub heads: Vec<(Epoch, Seq)>,
    /// Its frames in the file.
    pub frames: u64,
    /// When its last frame in the file came.
    pub last_received: Micros,
    /// The time stamp of that frame.
    pub last_ts: Micros,
    /// The last frame of each channel that occurs in the file.
    pub channels: Vec<ChannelLast>,
}

/// The last frame of a channel, and where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelLast {
    /// Which channel.
    pub channel: Channel,
    /// The frame's epoch.
    pub epoch: Epoch,
    /// Its seq.
    pub seq: Seq,
    /// Its time stamp, by the device.
    pub ts: Micros,
    /// When it came, by the eater.
    pub received_at: Micros,
    /// The journal file that holds it. The file may have been removed since.
    pub file_id: u64,
    /// Where it starts in that file, in bytes.
    pub offset: u64,
    /// Its length there, in bytes.
    pub len: u32,
}

/// What all recorded files together say of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceState {
    /// Which device.
    pub device: DeviceId,
    /// Its head in each epoch that has frames, by epoch.
    pub heads: Vec<(Epoch, Seq)>,
    /// Its frames in all files ever recorded, also in those removed since.
    pub frames: u64,
    /// When its last frame came.
    pub last_received: Micros,
    /// The time stamp of that frame.
    pub last_ts: Micros,
}

/// The catalog.
///
/// Cancel safety: dropping a future that changes something leaves it open whether the change happens, but it
/// happens whole or not at all; doing it again is harmless.
pub trait Catalog: Send + Sync + 'static {
    /// Enters a sealed file and merges what it says of its devices: heads by the greatest seq, a channel's last
    /// frame by the greatest (epoch, seq), of copies the one received first. The order of files does not
    /// matter. All of it is entered at once or nothing; a file that is known already changes nothing.
    fn record_sealed(
        &self,
        file: SealedFile,
        devices: Vec<DeviceSummary>,
    ) -> BoxFuture<'_, Result<(), CatalogError>>;

    /// All files, by id.
    fn files(&self) -> BoxFuture<'_, Result<Vec<SealedFile>, CatalogError>>;

    /// Forgets files, not what they said of devices. Ids that are not known are passed over.
    fn remove_files<'a>(&'a self, file_ids: &'a [u64]) -> BoxFuture<'a, Result<(), CatalogError>>;

    /// A page of devices in the order of their ids' bytes, those after `after`, at most `limit` and never more
    /// than [`STATES_MAX`]. An empty page is the end.
    fn device_states(
        &self,
        after: Option<DeviceId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<DeviceState>, CatalogError>>;

    /// The last frame of each channel of a device, by channel; none for an unknown device.
    fn device_channels<'a>(
        &'a self,
        device: &'a DeviceId,
    ) -> BoxFuture<'a, Result<Vec<ChannelLast>, CatalogError>>;

    /// Forgets everything, for a rebuild.
    fn clear(&self) -> BoxFuture<'_, Result<(), CatalogError>>;
}
