//! How long frames are kept, by group of devices.
//!
//! A policy that is set removes nothing: whoever compacts counts what it would remove, and only when somebody has
//! looked at that and enforced exactly this policy, it does.

use trough_protocol::Micros;

use crate::names::Group;

/// Most days that a policy may say: a hundred years.
pub const RETENTION_DAYS_MAX: u32 = 36_500;
/// Most policies that there may be.
pub const RETENTION_POLICIES_MAX: usize = 10_000;

/// What is kept of the frames of a group's devices. At least one of the two limits is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// Whose frames.
    pub group: Group,
    /// Frames are removed when the day (UTC) on which they were received ended this many days ago. Of a device in
    /// several such groups the longest counts.
    pub days: Option<u32>,
    /// The days received first are removed, until what is stored of the group has no more bytes than this, as it is
    /// compressed.
    pub bytes: Option<u64>,
}

/// A policy, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionRecord {
    /// What was set.
    pub policy: RetentionPolicy,
    /// When, in µs since 1970: what tells it from another that was set for the same group.
    pub set_at: Micros,
    /// Whether frames are removed.
    pub enforced: bool,
    /// What the last look found; `None` before the first.
    pub counted: Option<RetentionCount>,
    /// Frames that it has removed.
    pub removed_frames: u64,
    /// About how many bytes these took, compressed.
    pub removed_bytes: u64,
}

/// What had expired under a policy at some time, and was still stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetentionCount {
    /// When that was.
    pub at: Micros,
    /// Devices that have such frames.
    pub devices: u64,
    /// The frames.
    pub frames: u64,
    /// About how many bytes they take, compressed.
    pub bytes: u64,
}

/// What whoever compacts says of a policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetentionNote {
    /// What it found.
    pub counted: RetentionCount,
    /// Frames of these that it has removed.
    pub removed_frames: u64,
    /// Their bytes.
    pub removed_bytes: u64,
}
