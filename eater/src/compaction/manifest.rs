//! The list of live segments, for those who read the store without us.

use bytes::Bytes;
use serde::Serialize;
use trough_store::ObjectKey;
use trough_store::objects::LIST_MAX;
use trough_store::segment_catalog::Manifest;

use super::{CompactError, Compactor};
use crate::segments::parquet_key;

/// Older manifests that are kept, for those who read by one of them.
const KEPT: usize = 16;

#[derive(Serialize)]
struct Document<'a> {
    format: &'static str,
    number: u64,
    segments: Vec<Listed<'a>>,
}

#[derive(Serialize)]
struct Listed<'a> {
    key: String,
    level: u8,
    frames: u64,
    bytes: u64,
    first_device: &'a str,
    last_device: &'a str,
    min_ts: u64,
    max_ts: u64,
    min_received_at: u64,
    max_received_at: u64,
}

impl Compactor {
    /// That the catalog knows what was written down from it: by the word of one that was lost, every segment would be one
    /// that was never committed, and be removed.
    pub(super) fn check_catalog(&self) -> Result<(), CompactError> {
        if self.written.is_some() {
            return Ok(());
        }
        // In this order, as it is written down after it is known.
        let listed = self.wait(self.parts.store.list("manifests/", None, LIST_MAX))?;
        let Some(written) = listed.last().and_then(|entry| number(&entry.key)) else { return Ok(()) };
        let known = self.manifest()?.number;
        if known < written { Err(CompactError::CatalogLost { known, written }) } else { Ok(()) }
    }

    /// Writes the manifest down, if that was not done yet, and removes those that are long outdated.
    pub(super) fn write_manifest(&mut self, manifest: &Manifest) -> Result<(), CompactError> {
        if self.written == Some(manifest.number) || manifest.number == 0 {
            return Ok(());
        }
        self.wait(self.parts.store.put(&key(manifest.number), encode(manifest)))?;
        self.written = Some(manifest.number);
        let listed = self.wait(self.parts.store.list("manifests/", None, LIST_MAX))?;
        let surplus = listed.len().saturating_sub(KEPT);
        for entry in &listed[..surplus] {
            self.wait(self.parts.store.delete(&entry.key))?;
        }
        Ok(())
    }
}

fn encode(manifest: &Manifest) -> Bytes {
    let listed = manifest.segments.iter().map(|segment| Listed {
        key: parquet_key(segment.date, segment.id).to_string(),
        level: segment.level,
        frames: segment.frames,
        bytes: segment.bytes,
        first_device: segment.devices.0.as_str(),
        last_device: segment.devices.1.as_str(),
        min_ts: segment.ts.0,
        max_ts: segment.ts.1,
        min_received_at: segment.received.0,
        max_received_at: segment.received.1,
    });
    let document =
        Document { format: "trough-manifest-1", number: manifest.number, segments: listed.collect() };
    serde_json::to_vec_pretty(&document).expect("numbers and names are JSON").into()
}

/// Numbers have leading zeros: the last key is that of the newest.
fn key(number: u64) -> ObjectKey {
    ObjectKey::new(&format!("manifests/{number:020}.json"))
        .expect("letters, digits, a slash and a dot are allowed")
}

fn number(key: &ObjectKey) -> Option<u64> {
    key.as_str().strip_prefix("manifests/")?.strip_suffix(".json")?.parse().ok()
}
