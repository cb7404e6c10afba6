//! What was written down for those who read the store without us.

use trough_store::objects::ObjectError;
use trough_store::segment_catalog::Manifest;

use super::listing::Listing;
use super::report::{Finding, FindingKind};
use super::{Check, FsckError};
use crate::compaction::manifest_file::{ManifestFile, number};

impl Check<'_> {
    pub(super) fn check_manifests(
        &mut self,
        listing: &Listing,
        manifest: &Manifest,
    ) -> Result<(), FsckError> {
        self.report.totals.manifest = manifest.number;
        for key in &listing.manifests {
            let Some(number) = number(key) else { continue };
            let bytes = match self.wait(self.parts.store.get(key)) {
                Ok(bytes) => bytes,
                // Only the newest ones are kept.
                Err(ObjectError::NotFound(_)) => continue,
                Err(error) => return Err(error.into()),
            };
            let written = match ManifestFile::decode(&bytes) {
                Ok(written) => written,
                Err(error) => {
                    let finding = Finding::new(FindingKind::Damaged, key).saw("a manifest", error);
                    let finding = finding.remedy("remove it: the next change of history writes a newer one");
                    self.report.findings.push(finding);
                    continue;
                }
            };
            if number > self.known(manifest)? {
                let finding = Finding::new(FindingKind::Missing, "the catalog of segments")
                    .saw(format!("manifest {number} or a newer one, as {key} is there"), manifest.number)
                    .remedy(
                        "restore the catalog from a backup, or rebuild it with `trough fsck --rebuild`; it may also belong \
                         to another store",
                    );
                self.report.findings.push(finding);
            } else if written.number != number
                || (number == manifest.number && written != ManifestFile::of(manifest))
            {
                let finding = Finding::new(FindingKind::Disagrees, key)
                    .saw(format!("what the catalog has as manifest {number}"), "something else")
                    .remedy("remove it: the next change of history writes a newer one");
                self.report.findings.push(finding);
            }
        }
        Ok(())
    }

    /// The number of the newest manifest now: one that was written down after the first look is no surprise.
    fn known(&self, manifest: &Manifest) -> Result<u64, FsckError> {
        let newer = self.wait(self.parts.segments.manifest(Some(manifest.number)))?;
        Ok(newer.map_or(manifest.number, |newer| newer.number))
    }
}
