//! The files of a local journal.

use std::io;
use std::path::Path;
use std::sync::Arc;

use trough_store::Catalog;
use trough_store::object_catalog::Incarnation;

use super::report::{Finding, FindingKind, LostFrames};
use super::{Check, FsckError};
use crate::journal::{self, Damage, Inspection, JournalError, Lost};

/// Looks at a journal from which files are removed meanwhile.
const LOOKS_MAX: usize = 5;
const REPAIR: &str =
    "restore the file from a copy, or stop the server and set the damage aside with `trough journal repair`";
const RESTORE_FILE: &str = "restore the file from a copy";

impl Check<'_> {
    pub(super) fn check_local(&mut self, dir: &Path, catalog: &Arc<dyn Catalog>) -> Result<(), FsckError> {
        let (inspection, mut findings) = self.look(dir, catalog, true)?;
        if !findings.is_empty() {
            // A journal that is written to while it is read may have looked torn.
            let (_, again) = self.look(dir, catalog, false)?;
            findings.retain(|finding| again.iter().any(|other| is_same(finding, other)));
        }
        self.report.totals.journals += inspection.files as u64;
        self.report.totals.journal_bytes += inspection.bytes;
        self.report.findings.extend(findings);
        Ok(())
    }

    fn look(
        &mut self,
        dir: &Path,
        catalog: &Arc<dyn Catalog>,
        tell: bool,
    ) -> Result<(Inspection, Vec<Finding>), FsckError> {
        let mut looks = 1;
        loop {
            let mut advance = |bytes| {
                if tell && looks == 1 {
                    self.advance(bytes);
                }
            };
            match journal::inspect(dir, catalog.clone(), &mut advance) {
                Ok(inspection) => {
                    let findings = self.findings(dir, &inspection, catalog)?;
                    return Ok((inspection, findings));
                }
                // What is compacted is removed at any time.
                Err(JournalError::Io { source, .. })
                    if source.kind() == io::ErrorKind::NotFound && looks < LOOKS_MAX => {}
                Err(error) => return Err(error.into()),
            }
            looks += 1;
        }
    }

    fn findings(
        &self,
        dir: &Path,
        inspection: &Inspection,
        catalog: &Arc<dyn Catalog>,
    ) -> Result<Vec<Finding>, FsckError> {
        // The catalog before the manifest: what is missing then was compacted by the one, or is named by the other.
        let known = self.wait(catalog.files())?;
        let compacted = self.manifest()?.through_of(Incarnation::LOCAL);
        let mut findings: Vec<Finding> = inspection.damage.iter().map(damaged).collect();
        let missing = |id: u64, says: String| {
            let path = journal::path_of(dir, id);
            Finding::new(FindingKind::Missing, path.display()).saw(says, "none").remedy(RESTORE_FILE)
        };
        for file in known.iter().filter(|file| file.file_id > compacted) {
            if !journal::path_of(dir, file.file_id).exists() {
                let says = format!(
                    "a file of {} bytes with {} frames, as the catalog has it",
                    file.bytes, file.frames
                );
                findings.push(missing(file.file_id, says));
            }
        }
        if inspection.follows > compacted && !known.iter().any(|file| file.file_id == inspection.follows) {
            findings.push(missing(inspection.follows, "the file that the oldest one follows".to_owned()));
        }
        Ok(findings)
    }
}

fn damaged(damage: &Damage) -> Finding {
    let Damage { file, from, to, found, losses } = damage;
    let expected =
        if to > from { format!("what was written up to offset {to}") } else { "an index".to_owned() };
    let mut finding = Finding::new(FindingKind::Damaged, file.display()).at(*from).saw(expected, found);
    let lost = |Lost { device, epoch, first, last }: &Lost| LostFrames {
        device: device.clone(),
        epoch: *epoch,
        first: *first,
        last: *last,
    };
    finding.lost = losses.iter().map(lost).collect();
    finding.remedy(REPAIR)
}

fn is_same(a: &Finding, b: &Finding) -> bool {
    (a.kind, &a.object, a.offset) == (b.kind, &b.object, b.offset)
}
