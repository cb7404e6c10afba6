//! Going through a whole journal, past all damage.

use std::sync::Arc;

use trough_protocol::batch::{Batch, MAGIC};
use trough_protocol::wire::WireError;
use trough_protocol::{DeviceId, Epoch, Micros, Seq};

use super::coverage::Coverage;
use crate::journal::aside::{Aside, Loss, Piece};
use crate::journal::disk::{Disk, DiskFile};
use crate::journal::error::JournalError;
use crate::journal::format::{FILE_HEADER_BYTES, FileHeader, GROUP_HEADER_BYTES};
use crate::journal::names::{self, Kind};
use crate::journal::recovery::io_error;
use crate::journal::run::Key;
use crate::journal::table::{Table, TableError};
use crate::journal::walk::{Group, Walk, WalkError, find_group, find_voucher, for_each_run};

/// What a journal has.
pub(super) struct Survey {
    pub files: Vec<Surveyed>,
    pub frames: u64,
    /// Indexes that are damaged, and how.
    pub bad_indexes: Vec<(u64, String)>,
}

/// A journal file.
pub(super) struct Surveyed {
    pub id: u64,
    pub file: Arc<dyn DiskFile>,
    pub size: u64,
    /// Where it must end; unknown for the newest.
    pub end: Option<u64>,
    /// Its header, as it is or as it must have been.
    pub header: FileHeader,
    /// What earlier repairs set aside.
    pub aside: Aside,
    pub found: Vec<Found>,
}

/// Damage that was found.
pub(super) struct Found {
    pub piece: Piece,
    pub found: String,
    /// What was in it cannot be told from the file.
    pub unknown: bool,
}

impl Found {
    fn unknown(from: u64, to: u64, received_at: Micros, found: String) -> Self {
        let piece = Piece { from, to, received_at, losses: Vec::new(), bytes: Vec::new() };
        Self { piece, found, unknown: true }
    }
}

/// Goes through all files. `heads` are those that the catalog knows; `advance` is told of bytes that were read.
pub(super) fn survey(
    disk: &dyn Disk,
    heads: &[(DeviceId, Vec<(Epoch, Seq)>)],
    advance: &mut dyn FnMut(u64),
) -> Result<Survey, JournalError> {
    let names = disk.list().map_err(|error| io_error("list", disk.path(), error))?;
    let mut survey = Survey { files: open_files(disk, &names)?, frames: 0, bad_indexes: Vec::new() };
    let mut coverage = Coverage::default();
    for file in &mut survey.files {
        survey.frames += go_through(disk, file, &mut coverage)?;
        advance(file.size);
    }
    let mut unknown: Vec<((u64, u64), &mut Found)> = Vec::new();
    for file in &mut survey.files {
        let id = file.id;
        file.found.sort_by_key(|found| found.piece.from);
        let found = file.found.iter_mut().filter(|found| found.unknown);
        unknown.extend(found.map(|found| ((id, found.piece.from), found)));
    }
    if !unknown.is_empty() {
        for hole in coverage.holes(heads) {
            // It lies in the last unknown piece before what follows it, or in a later one if there is none.
            let place = hole.before.unwrap_or((u64::MAX, u64::MAX));
            let behind = unknown.partition_point(|(at, _)| *at < place);
            unknown[behind.saturating_sub(1)].1.piece.losses.push(hole.loss);
        }
    }
    for id in names::ids(&names, Kind::Index) {
        if let Some(found) = check_index(disk, id) {
            survey.bad_indexes.push((id, found));
        }
    }
    Ok(survey)
}

/// The files that make the journal, oldest first, with the headers that they must have.
fn open_files(disk: &dyn Disk, names: &[String]) -> Result<Vec<Surveyed>, JournalError> {
    let mut files: Vec<Surveyed> = Vec::new();
    for id in names::ids(names, Kind::Journal) {
        let path = disk.path_of(&names::journal(id));
        let read_error = |error| io_error("read", &path, error);
        let file = disk.open(&names::journal(id)).map_err(read_error)?;
        let size = file.len().map_err(read_error)?;
        let front = file.read_at(0, FILE_HEADER_BYTES as usize).map_err(read_error)?;
        let mut found = Vec::new();
        let header = match FileHeader::decode(&front) {
            Ok(header) if header.file_id == id => header,
            Err(error @ WireError::Unsupported { .. }) => {
                return Err(JournalError::TooNew { file: path, found: error.to_string() });
            }
            other => {
                let why =
                    other.map_or_else(|e| e.to_string(), |h| format!("the header of file {}", h.file_id));
                let group = find_group(&*file, 0, |group, at| group.file_id == id && group.offset == at);
                // Without a group nothing in it was ever acknowledged: opening the journal removes it.
                let Some(group) = group.map_err(read_error)? else { continue };
                let received_at = group.received_at;
                found.push(Found::unknown(0, FILE_HEADER_BYTES, received_at, why));
                FileHeader { file_id: id, nonce: group.nonce, created_at: 0, previous_id: 0, previous_len: 0 }
            }
        };
        let aside = Aside::read(disk, id, header.nonce)
            .map_err(|error| io_error("read", &disk.path_of(&names::damaged(id)), error))?;
        files.push(Surveyed { id, file, size, end: None, header, aside, found });
    }
    chain(&mut files);
    Ok(files)
}

/// Leaves out files that a failed attempt left, tells each where it ends, and mends what headers say of others.
fn chain(files: &mut Vec<Surveyed>) {
    let mut at = files.len();
    while at > 1 {
        at -= 1;
        let (before, rest) = files.split_at_mut(at);
        let (previous, next) = (&mut before[at - 1], &mut rest[0]);
        let mended = !next.found.is_empty();
        let (due, len) = (next.header.previous_id, next.header.previous_len);
        if mended {
            // What it said is lost. The one before ends where its last whole group does.
            next.header.previous_id = previous.id;
            next.header.previous_len = previous.size;
            previous.end = Some(previous.size);
        } else if due == previous.id {
            previous.end = Some(len);
        } else if due < previous.id {
            files.remove(at - 1);
        } else {
            let why = format!("the file before, {due}, is missing; it had {len} bytes");
            let created_at = next.header.created_at;
            next.found.push(Found::unknown(0, FILE_HEADER_BYTES, created_at, why));
            next.header.previous_id = previous.id;
            next.header.previous_len = previous.size;
            previous.end = Some(previous.size);
        }
    }
}

/// Goes through one file. How many whole frames it has.
fn go_through(disk: &dyn Disk, file: &mut Surveyed, coverage: &mut Coverage) -> Result<u64, JournalError> {
    let path = disk.path_of(&names::journal(file.id));
    let read_error = |error| io_error("read", &path, error);
    let (ids, aside) = ((file.id, file.header.nonce), file.aside.clone());
    let (mut frames, mut received_at) = (0, file.header.created_at);
    for (device, run) in aside.runs() {
        coverage.add(device.as_str(), &run, (file.id, run.offset.into()));
    }
    let end = file.end.unwrap_or(file.size);
    let mut walk = Walk::new(file.file.clone(), ids, end, &aside);
    loop {
        let fault = match walk.next() {
            Ok(None) => break,
            Ok(Some(group)) => {
                received_at = group.header.received_at;
                frames += take(&group, &aside, coverage);
                continue;
            }
            Err(WalkError::Io(error)) => return Err(read_error(error)),
            Err(WalkError::Fault(fault)) if fault.too_new => {
                return Err(JournalError::TooNew { file: path, found: fault.found });
            }
            Err(WalkError::Fault(fault)) => fault,
        };
        let at = walk.at();
        let voucher = find_voucher(&*file.file, ids, at).map_err(read_error)?;
        let voucher = voucher.filter(|header| header.offset > at && header.offset < end);
        if voucher.is_none() && file.end.is_none() {
            // A torn tail: opening the journal cuts it.
            break;
        }
        match walk.read_group() {
            Ok(group) => {
                let found = dissect(&group, &aside);
                let mut with_found = aside.clone();
                with_found.pieces.extend(found.iter().map(|found| found.piece.clone()));
                with_found.pieces.sort_by_key(|piece| piece.from);
                frames += take(&group, &with_found, coverage);
                for loss in found.iter().flat_map(|found| &found.piece.losses) {
                    let run = loss.run(group.header.received_at, 0);
                    coverage.add(loss.device.as_str(), &run, (ids.0, at));
                }
                file.found.extend(found);
                walk.skip_to(group.header.end());
            }
            Err(_) => {
                let to = voucher.map_or(end, |header| header.offset);
                file.found.push(Found::unknown(at, to, received_at, fault.found));
                walk.skip_to(to);
            }
        }
    }
    Ok(frames)
}

/// Takes note of a group's runs. How many frames they have.
fn take(group: &Group, aside: &Aside, coverage: &mut Coverage) -> u64 {
    let mut frames = 0;
    for_each_run(group, aside, |device, run, _| {
        frames += if run.is_frames() { run.count } else { 0 };
        coverage.add(device, &run, (group.header.file_id, run.offset.into()));
    });
    frames
}

/// Finds what is damaged in a group whose header is whole.
fn dissect(group: &Group, aside: &Aside) -> Vec<Found> {
    let first = group.header.offset + GROUP_HEADER_BYTES;
    let received_at = group.header.received_at;
    let (mut at, mut batches, mut found) = (first, 0, Vec::new());
    while at < group.header.end() {
        if let Some(to) = aside.covers(at) {
            at = to;
            continue;
        }
        let rest = &group.bytes[usize::try_from(at - first).expect("the group is in memory")..];
        batches += 1;
        match whole_directory(rest) {
            Ok(batch) => {
                for run in batch.runs() {
                    let from = at + u64::from(run.offset);
                    if aside.covers(from).is_some() {
                        continue;
                    }
                    if let Err(error) = run.check(batch.data(&run)) {
                        let device = DeviceId::new(run.device).expect("the directory was checked");
                        let (epoch, first, last) = (run.epoch, run.first, run.last());
                        let losses = vec![Loss { device, epoch, first, last }];
                        let to = from + u64::from(run.len);
                        let piece = Piece { from, to, received_at, losses, bytes: Vec::new() };
                        found.push(Found { piece, found: error.to_string(), unknown: false });
                    }
                }
                at += batch.bytes().len() as u64;
            }
            Err(error) => {
                let left = group.header.batches.saturating_sub(batches);
                let to = at + resync(rest, left) as u64;
                found.push(Found::unknown(at, to, received_at, error.to_string()));
                at = to;
            }
        }
    }
    found
}

fn whole_directory(rest: &[u8]) -> Result<Batch<'_>, WireError> {
    let len = Batch::peek_len(rest)?;
    let too_long = WireError::Truncated { what: "batch", needed: len, had: rest.len() };
    Batch::check_directory(rest.get(..len).ok_or(too_long)?)
}

/// How far it is from a damaged batch to the place from which exactly `left` batches fill the group. Nothing
/// less is believed: a payload may hold what looks like a batch.
fn resync(rest: &[u8], left: u32) -> usize {
    let fills = |from: &usize| {
        let (mut at, mut count) = (*from, 0);
        while let Ok(batch) = whole_directory(&rest[at..]) {
            at += batch.bytes().len();
            count += 1;
        }
        at == rest.len() && count == left
    };
    let found = memchr::memmem::find_iter(rest, &MAGIC).filter(|at| *at > 0);
    if left == 0 { rest.len() } else { found.into_iter().find(fills).unwrap_or(rest.len()) }
}

/// What is wrong with an index; `None` if nothing is.
fn check_index(disk: &dyn Disk, id: u64) -> Option<String> {
    let check = || -> Result<(), TableError> {
        let table = Table::open(disk.open(&names::index(id))?)?;
        let mut entries = Vec::new();
        table.each(|entry| entries.push(entry))?;
        for entry in entries {
            table.rising(&entry, Key::MIN, usize::MAX >> 1)?;
            table.gaps(&entry, Key::MIN, usize::MAX >> 1)?;
        }
        Ok(())
    };
    check().err().map(|error| match error {
        TableError::Io(error) => error.to_string(),
        TableError::Damaged(found) => found,
    })
}
