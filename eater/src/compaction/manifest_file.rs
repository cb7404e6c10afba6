//! The bytes of a manifest in the store.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use trough_store::ObjectKey;
use trough_store::segment_catalog::Manifest;

use crate::segments::parquet_key;

const FORMAT: &str = "trough-manifest-1";

/// The list of live segments, as others read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ManifestFile<'a> {
    format: Cow<'a, str>,
    pub number: u64,
    pub segments: Vec<Listed<'a>>,
}

/// A segment in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Listed<'a> {
    pub key: String,
    level: u8,
    pub frames: u64,
    bytes: u64,
    first_device: Cow<'a, str>,
    last_device: Cow<'a, str>,
    min_ts: u64,
    max_ts: u64,
    min_received_at: u64,
    max_received_at: u64,
}

impl<'a> ManifestFile<'a> {
    /// What is written of a manifest.
    pub(crate) fn of(manifest: &'a Manifest) -> Self {
        let listed = manifest.segments.iter().map(|segment| Listed {
            key: parquet_key(segment.date, segment.id).to_string(),
            level: segment.level,
            frames: segment.frames,
            bytes: segment.bytes,
            first_device: segment.devices.0.as_str().into(),
            last_device: segment.devices.1.as_str().into(),
            min_ts: segment.ts.0,
            max_ts: segment.ts.1,
            min_received_at: segment.received.0,
            max_received_at: segment.received.1,
        });
        Self { format: FORMAT.into(), number: manifest.number, segments: listed.collect() }
    }

    pub(crate) fn encode(&self) -> Bytes {
        serde_json::to_vec_pretty(self).expect("numbers and names are JSON").into()
    }

    /// Reads one. Members that a later release adds do not matter.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) fn decode(bytes: &[u8]) -> Result<ManifestFile<'static>, String> {
        let file: ManifestFile<'static> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if file.format == FORMAT { Ok(file) } else { Err(format!("format {:?}", file.format)) }
    }
}

/// Where a manifest lies. Numbers have leading zeros: the last key is that of the newest.
pub(crate) fn key(number: u64) -> ObjectKey {
    ObjectKey::new(&format!("manifests/{number:020}.json"))
        .expect("letters, digits, a slash and a dot are allowed")
}

/// The number in a key.
pub(crate) fn number(key: &ObjectKey) -> Option<u64> {
    key.as_str().strip_prefix("manifests/")?.strip_suffix(".json")?.parse().ok()
}
