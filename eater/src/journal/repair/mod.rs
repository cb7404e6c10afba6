//! What a bad disk left: finding the damage, and setting it aside so that the eater can start.
//!
//! Nothing is deleted. Damaged bytes stay where they are, and are copied to `{id:020}.damaged` together with
//! their place and the frames that were in them, as far as that can be known; from then on they are passed
//! over, their numbers are gaps of the kind `damaged`, and all else is read as before.

mod coverage;
mod survey;

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use trough_protocol::{DeviceId, Epoch, Seq};
use trough_store::Catalog;

use super::aside::{Aside, Piece};
use super::catalog::CatalogLink;
use super::disk::{Disk, FileDisk};
use super::error::JournalError;
use super::format::FILE_HEADER_BYTES;
use super::lock::Lock;
use super::names;
use super::recovery::io_error;
use survey::{Found, Survey, survey};

/// What is wrong with a journal, or was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Journal files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Frames that are whole, copies included.
    pub frames: u64,
    /// What is damaged, by file and offset. What earlier repairs set aside is not among it.
    pub damage: Vec<Damage>,
    /// The file that the oldest one follows; 0 if it follows none. It is gone because it was compacted, if all is well.
    pub follows: u64,
}

/// Damaged bytes of a journal file, or a damaged index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// Where they begin.
    pub from: u64,
    /// Where they end.
    pub to: u64,
    /// What is there.
    pub found: String,
    /// The frames that were in them, as far as that can be told: by the batch's directory if it is whole, or
    /// else by what is missing elsewhere.
    pub losses: Vec<Lost>,
}

/// Frames that are lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Their device.
    pub device: DeviceId,
    /// Their epoch.
    pub epoch: Epoch,
    /// The first one.
    pub first: Seq,
    /// The last one.
    pub last: Seq,
}

/// Reads a whole journal whose eater is stopped, and changes nothing. Blocks.
///
/// # Errors
/// It is in use, cannot be read, or was written by a later release.
pub fn check(dir: &Path, catalog: Arc<dyn Catalog>) -> Result<Inspection, JournalError> {
    with_journal(dir, catalog, |disk, catalog| Ok(inspection(disk, &look(disk, catalog, &mut |_| {})?)))
}

/// Reads a whole journal as [`check`] does, though its eater may be at work, and changes nothing. What was written or
/// removed meanwhile may look damaged: look again before you believe it. `advance` is told of bytes that were read.
/// Blocks.
///
/// # Errors
/// It cannot be read, or was written by a later release.
pub fn inspect(
    dir: &Path,
    catalog: Arc<dyn Catalog>,
    advance: &mut dyn FnMut(u64),
) -> Result<Inspection, JournalError> {
    if !dir.is_dir() {
        // No eater has ever run here.
        return Ok(Inspection::default());
    }
    let disk = FileDisk::open(dir).map_err(|error| io_error("open the directory", dir, error))?;
    let catalog = CatalogLink::new(catalog)
        .map_err(|error| io_error("make a runtime for the catalog of", dir, error))?;
    Ok(inspection(&disk, &look(&disk, &catalog, advance)?))
}

/// Where a file of a journal is.
pub(crate) fn path_of(dir: &Path, id: u64) -> PathBuf {
    dir.join(names::journal(id))
}

/// The numbers of a journal's files, rising; none if there is no journal.
pub(crate) fn ids_in(dir: &Path) -> Result<Vec<u64>, JournalError> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let failed = |error| io_error("list", dir, error);
    let names = FileDisk::open(dir).and_then(|disk| disk.list()).map_err(failed)?;
    Ok(names::ids(&names, names::Kind::Journal))
}

/// A journal that no eater can open.
pub(crate) struct Held(#[expect(dead_code, reason = "it is held, and nothing else")] Lock);

/// Keeps every eater away from a journal while it is held.
pub(crate) fn lock(dir: &Path) -> Result<Held, JournalError> {
    Lock::take(dir).map(Held)
}

/// Bytes of all files of a journal, as far as they can be told.
pub(crate) fn bytes_in(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let files = files.filter(|file| file.path().extension().is_some_and(|ending| ending == "trj"));
    files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
}

/// Sets all damage of a journal aside, whose eater is stopped. Blocks. The catalog is emptied if anything was
/// damaged; the next start fills it.
///
/// # Errors
/// As [`check`]; or the disk refuses, and then repairing again goes on where it stopped.
pub fn repair(dir: &Path, catalog: Arc<dyn Catalog>) -> Result<Inspection, JournalError> {
    with_journal(dir, catalog, repair_on)
}

fn with_journal<T>(
    dir: &Path,
    catalog: Arc<dyn Catalog>,
    work: impl FnOnce(&dyn Disk, &CatalogLink) -> Result<T, JournalError>,
) -> Result<T, JournalError> {
    if !dir.is_dir() {
        return Err(JournalError::Config(format!(
            "there is no journal in {}: name the data directory that the eater uses",
            dir.display()
        )));
    }
    let disk = FileDisk::open(dir).map_err(|error| io_error("open the directory", dir, error))?;
    let _lock = Lock::take(dir)?;
    let catalog = CatalogLink::new(catalog)
        .map_err(|error| io_error("make a runtime for the catalog of", dir, error))?;
    work(&disk, &catalog)
}

fn look(
    disk: &dyn Disk,
    catalog: &CatalogLink,
    advance: &mut dyn FnMut(u64),
) -> Result<Survey, JournalError> {
    let mut heads = Vec::new();
    // Without the catalog, losses at the end of a device's frames cannot be told; all else can.
    let known = catalog.each_device(|state| heads.push((state.device.clone(), state.heads.clone())));
    if let Err(error) = known {
        tracing::warn!(%error, "the catalog cannot be asked what is missing");
    }
    survey(disk, &heads, advance)
}

fn inspection(disk: &dyn Disk, survey: &Survey) -> Inspection {
    let mut inspection = Inspection {
        files: survey.files.len(),
        bytes: survey.files.iter().map(|file| file.size).sum(),
        frames: survey.frames,
        damage: Vec::new(),
        follows: survey.files.first().map_or(0, |file| file.header.previous_id),
    };
    for file in &survey.files {
        for Found { piece, found, .. } in &file.found {
            let lost = |loss: &super::aside::Loss| Lost {
                device: loss.device.clone(),
                epoch: loss.epoch,
                first: loss.first,
                last: loss.last,
            };
            inspection.damage.push(Damage {
                file: disk.path_of(&names::journal(file.id)),
                from: piece.from,
                to: piece.to,
                found: found.clone(),
                losses: piece.losses.iter().map(lost).collect(),
            });
        }
    }
    for (id, found) in &survey.bad_indexes {
        let file = disk.path_of(&names::index(*id));
        inspection.damage.push(Damage { file, from: 0, to: 0, found: found.clone(), losses: Vec::new() });
    }
    inspection
}

pub(super) fn repair_on(disk: &dyn Disk, catalog: &CatalogLink) -> Result<Inspection, JournalError> {
    let survey = look(disk, catalog, &mut |_| {})?;
    let report = inspection(disk, &survey);
    for file in survey.files.iter().filter(|file| !file.found.is_empty()) {
        let mut aside = file.aside.clone();
        for Found { piece, .. } in &file.found {
            let mut piece = piece.clone();
            piece.bytes = keep(disk, file, &piece)?;
            aside.pieces.push(piece);
        }
        aside.pieces.sort_by_key(|piece| piece.from);
        // First what was set aside, so that no byte is changed before it was copied.
        write_aside(disk, file.id, file.header.nonce, &aside)?;
        settle(disk, file)?;
        remove_index(disk, file.id)?;
    }
    for (id, _) in &survey.bad_indexes {
        remove_index(disk, *id)?;
    }
    if !report.damage.is_empty() {
        disk.sync_dir().map_err(|error| io_error("fsync", disk.path(), error))?;
        catalog.clear()?;
    }
    Ok(report)
}

/// Reads the bytes that are set aside.
fn keep(disk: &dyn Disk, file: &survey::Surveyed, piece: &Piece) -> Result<Vec<u8>, JournalError> {
    let len = usize::try_from(piece.to - piece.from).unwrap_or(usize::MAX);
    let read = file.file.read_at(piece.from, len);
    read.map_err(|error| io_error("read", &disk.path_of(&names::journal(file.id)), error))
}

fn write_aside(disk: &dyn Disk, id: u64, nonce: u64, aside: &Aside) -> Result<(), JournalError> {
    let name = names::damaged(id);
    let temporary = names::temporary(&name);
    let bytes = aside.encode(id, nonce);
    let written = (|| {
        if disk.list()?.contains(&temporary) {
            disk.remove(&temporary)?;
        }
        let file = disk.create(&temporary)?;
        file.write_at(&mut [IoSlice::new(&bytes)], 0)?;
        file.sync()?;
        disk.rename(&temporary, &name)?;
        disk.sync_dir()
    })();
    written.map_err(|error| io_error("write", &disk.path_of(&name), error))
}

/// Gives a file a whole header, and the length that the next file says it has.
fn settle(disk: &dyn Disk, file: &survey::Surveyed) -> Result<(), JournalError> {
    let settled = (|| {
        if file.found.iter().any(|found| found.piece.from < FILE_HEADER_BYTES) {
            file.file.write_at(&mut [IoSlice::new(&file.header.encode())], 0)?;
        }
        if let Some(end) = file.end.filter(|end| *end > file.size) {
            file.file.truncate(end)?;
        }
        file.file.sync()
    })();
    settled.map_err(|error| io_error("write", &disk.path_of(&names::journal(file.id)), error))
}

fn remove_index(disk: &dyn Disk, id: u64) -> Result<(), JournalError> {
    let name = names::index(id);
    match disk.remove(&name) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(io_error("remove", &disk.path_of(&name), error))
        }
        _ => Ok(()),
    }
}
