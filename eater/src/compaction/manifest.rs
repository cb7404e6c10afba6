//! The list of live segments, for those who read the store without us; and what it tells of the catalog.

use trough_store::objects::LIST_MAX;
use trough_store::segment_catalog::Manifest;

use super::manifest_file::{ManifestFile, key, number};
use super::{CompactError, Compactor};

/// Older manifests that are kept, for those who read by one of them.
const KEPT: usize = 16;

impl Compactor {
    /// The newest manifest, by the word of a catalog that knows all that this process has seen in it. By the word of one
    /// that was lost, every segment would be one that was never committed, and be removed.
    pub(super) fn manifest(&mut self) -> Result<Manifest, CompactError> {
        let manifest = self.wait(self.parts.segments.manifest(None))?;
        let manifest = manifest.unwrap_or_else(|| unreachable!("nothing is known, so the newest is news"));
        if manifest.number < self.made {
            return Err(CompactError::CatalogLost { known: manifest.number, made: self.made });
        }
        self.made = manifest.number;
        Ok(manifest)
    }

    /// The same, by the word of a catalog that also knows what was written down from it, by whomever. Nothing may be
    /// removed because of a manifest from elsewhere.
    pub(super) fn sure_manifest(&mut self) -> Result<Manifest, CompactError> {
        // In this order, as a manifest is written down after it is known.
        let mut after = None;
        loop {
            let page = self.wait(self.parts.store.list("manifests/", after.as_ref(), LIST_MAX))?;
            let written = page.iter().filter_map(|entry| number(&entry.key)).max();
            self.made = self.made.max(written.unwrap_or(0));
            match page.last() {
                Some(last) if page.len() == LIST_MAX => after = Some(last.key.clone()),
                _ => return self.manifest(),
            }
        }
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
