//! The list of live segments, for those who read the store without us.

use trough_store::objects::LIST_MAX;
use trough_store::segment_catalog::Manifest;

use super::manifest_file::{ManifestFile, key, number};
use super::{CompactError, Compactor};

/// Older manifests that are kept, for those who read by one of them.
const KEPT: usize = 16;

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
        self.wait(self.parts.store.put(&key(manifest.number), ManifestFile::of(manifest).encode()))?;
        self.written = Some(manifest.number);
        let listed = self.wait(self.parts.store.list("manifests/", None, LIST_MAX))?;
        let surplus = listed.len().saturating_sub(KEPT);
        for entry in &listed[..surplus] {
            self.wait(self.parts.store.delete(&entry.key))?;
        }
        Ok(())
    }
}
