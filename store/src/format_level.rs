//! The format level of a deployment's storage, which says what every release that works on it must understand.
//!
//! Writers write the level that the catalog of segments names, whatever they know besides. An operator raises it when no
//! older release is to come back; until then a deployment can go back to the release before. A release reads its own
//! level and the one before.

use std::ops::RangeInclusive;

/// The level that this release writes once it is finalized.
pub const FORMAT_LEVEL: u32 = 1;
/// The release with which that level came to be.
const SINCE: &str = "0.1.0";
/// The levels that it reads and writes.
pub const FORMAT_LEVELS: RangeInclusive<u32> = 1..=FORMAT_LEVEL;

/// What a catalog says of the level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormatLevel {
    /// The level.
    pub level: u32,
    /// The release with which it came to be.
    pub release: String,
}

impl FormatLevel {
    /// That of this release, and of storage that it makes.
    pub fn newest() -> Self {
        Self { level: FORMAT_LEVEL, release: SINCE.to_owned() }
    }

    /// Why this release must leave storage of this level alone.
    pub(crate) fn refusal(&self) -> Option<String> {
        let (low, high) = FORMAT_LEVELS.into_inner();
        (!FORMAT_LEVELS.contains(&self.level)).then(|| {
            format!(
                "the storage has format level {}, which came with release {}, and this release, {}, knows levels \
                 {low} to {high}: run release {} or the next one",
                self.level,
                self.release,
                env!("CARGO_PKG_VERSION"),
                self.release,
            )
        })
    }
}
