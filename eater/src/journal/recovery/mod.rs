//! Opening a journal: what is there, what is whole, and where to go on.
//!
//! Sealed files are not read: their index says what they have, and the catalog says it for all of them at once.
//! The newest file, and any that was not sealed when the last process ended, are read through. The newest file
//! is gone on with: a process that is restarted often would leave many small files otherwise, each with an index
//! and a row in the catalog.

mod chain;
mod replay;

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::PoisonError;

use trough_protocol::Micros;
use trough_store::SealedFile;

use super::RecoveryReport;
use super::aside::Aside;
use super::disk::Disk;
use super::error::JournalError;
use super::names;
use super::seal::write_index;
use super::shared::Shared;
use super::table::Table;
use super::writer::Active;
use replay::{cover, replay};

use chain::{Chain, Link, read_chain};

/// Where the committer goes on.
pub(super) struct Recovered {
    /// The open file; or the id and length of the newest one, which is complete.
    pub open: Result<Active, (u64, u64)>,
    pub last_received: Micros,
    pub vouched: bool,
    pub report: RecoveryReport,
}

pub(super) fn corrupt(disk: &dyn Disk, id: u64, offset: u64, found: String) -> JournalError {
    JournalError::Corrupt { file: disk.path_of(&names::journal(id)), offset, found }
}

pub(super) fn io_error(doing: &'static str, path: &Path, source: io::Error) -> JournalError {
    JournalError::Io { doing, path: path.to_owned(), source }
}

/// Fills the index of `shared`.
pub(super) fn recover(shared: &Shared) -> Result<Recovered, JournalError> {
    let mut chain = read_chain(&*shared.disk)?;
    remove_compacted(shared, &mut chain)?;
    let mut report =
        RecoveryReport { files: chain.links.len(), bytes_cut: chain.bytes_cut, ..RecoveryReport::default() };
    let mut sealed: Vec<Option<SealedFile>> =
        chain.links.iter().map(|link| find_index(shared, link)).collect();
    // A newest file that was sealed was followed by one that was given up before it had a group.
    if let (Some(link), Some(Some(facts))) = (chain.links.last_mut(), sealed.last()) {
        link.end = Some(facts.bytes);
    }
    let known = consult_catalog(shared, &chain, &sealed, &mut report)?;
    let mut last_received = 0;
    // A file's id is never used again, though it is gone.
    let mut open = Err((shared.config.compacted_through, 0));
    let mut vouched = true;
    for (link, facts) in chain.links.into_iter().zip(&mut sealed) {
        let id = link.header.file_id;
        let aside = Aside::read(&*shared.disk, id, link.header.nonce)
            .map_err(|error| io_error("read", &shared.disk.path_of(&names::damaged(id)), error))?;
        if facts.is_none() {
            let replayed = replay(shared, &link, &aside)?;
            report.files_scanned += 1;
            report.bytes_scanned += replayed.end;
            report.bytes_cut += replayed.cut;
            last_received = replayed.last_received.max(last_received);
            if link.end.is_none() {
                vouched = replayed.vouched;
                open = Ok(Active {
                    file: link.file,
                    id,
                    nonce: link.header.nonce,
                    durable: replayed.end,
                    size: replayed.end,
                    previous: (link.header.previous_id, link.header.previous_len),
                });
                note_losses(shared, &aside);
                shared.write().end = (id, replayed.end);
                continue;
            }
            *facts = Some(seal_now(shared, &link, &aside)?);
        } else if !known.contains(&id) {
            take_index(shared, id)?;
        }
        note_losses(shared, &aside);
        let facts = facts.expect("it has an index now");
        last_received = facts.max_received.max(last_received);
        report.bytes_cut += cut(&link, facts.bytes);
        if !known.contains(&id) {
            shared.unrecorded.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        }
        let mut index = shared.write();
        index.sealed.push(facts);
        index.end = (id, facts.bytes);
        open = Err((id, facts.bytes));
    }
    shared.disk.sync_dir().map_err(|error| io_error("fsync", shared.disk.path(), error))?;
    Ok(Recovered { open, last_received, vouched, report })
}

/// Removes files that are compacted: nobody reads yet.
fn remove_compacted(shared: &Shared, chain: &mut Chain) -> Result<(), JournalError> {
    let compacted = shared.config.compacted_through;
    let behind = chain.links.partition_point(|link| link.header.file_id <= compacted);
    let ids: Vec<u64> = chain.links.drain(..behind).map(|link| link.header.file_id).collect();
    chain.missing = chain.missing.max(ids.last().copied().unwrap_or(0));
    remove_files(shared, &ids)
}

/// Removes journal files that are not needed any more: from the catalog first, which would miss them otherwise.
pub(super) fn remove_files(shared: &Shared, ids: &[u64]) -> Result<(), JournalError> {
    if ids.is_empty() {
        return Ok(());
    }
    shared.catalog.remove(ids)?;
    // The oldest first: a chain of files may have lost its beginning, and never anything else.
    for id in ids {
        for name in [names::journal(*id), names::index(*id), names::damaged(*id)] {
            match shared.disk.remove(&name) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(io_error("remove", &shared.disk.path_of(&name), error)),
            }
        }
    }
    shared.disk.sync_dir().map_err(|error| io_error("fsync", shared.disk.path(), error))
}

/// The index of a file, if there is one that belongs to it.
fn find_index(shared: &Shared, link: &Link) -> Option<SealedFile> {
    let id = link.header.file_id;
    let file = shared.disk.open(&names::index(id)).ok()?;
    match Table::open(file) {
        Ok(table) => {
            let header = table.header();
            let whole =
                link.end.is_none_or(|end| end == header.facts.bytes) && header.facts.bytes <= link.size;
            let belongs = (header.facts.file_id, header.nonce) == (id, link.header.nonce);
            (whole && belongs).then_some(header.facts)
        }
        Err(error) => {
            let error = shared.index_error(id, error);
            tracing::warn!(%error, "an index is made anew from its journal file");
            None
        }
    }
}

/// Restores what the catalog knows of the devices, if it knows the oldest files and nothing else. The ids of
/// the files that it knows; none if it is to be filled anew.
fn consult_catalog(
    shared: &Shared,
    chain: &Chain,
    sealed: &[Option<SealedFile>],
    report: &mut RecoveryReport,
) -> Result<BTreeSet<u64>, JournalError> {
    let known = match shared.catalog.files() {
        Ok(known) => known,
        Err(error) => {
            tracing::warn!(%error, "the catalog is not used: the journal's own indexes are read");
            return Ok(BTreeSet::new());
        }
    };
    let compacted = shared.config.compacted_through;
    for file in known.iter().filter(|file| file.file_id > compacted) {
        if !chain.links.iter().any(|link| link.header.file_id == file.file_id) {
            let found = format!("the file is missing; the catalog says that it had {} bytes", file.bytes);
            return Err(corrupt(&*shared.disk, file.file_id, 0, found));
        }
    }
    let mut known = known;
    known.retain(|file| file.file_id > compacted);
    let agrees = known.len() <= sealed.len()
        && known.iter().zip(sealed).all(|(known, sealed)| Some(known) == sealed.as_ref());
    let restored = agrees
        && shared
            .catalog
            .each_device(|state| shared.write().devices.restore(state))
            .inspect_err(|error| tracing::warn!(%error, "the catalog is not used"))
            .is_ok();
    if restored {
        return Ok(known.iter().map(|file| file.file_id).collect());
    }
    tracing::warn!("the catalog does not agree with the journal and is filled anew");
    report.catalog_rebuilt = true;
    shared.write().devices = super::devices::Devices::default();
    if let Err(error) = shared.catalog.clear() {
        tracing::warn!(%error, "the catalog cannot be cleared; that is tried again");
    }
    Ok(BTreeSet::new())
}

/// Writes the index of the file that was replayed, which is complete.
fn seal_now(shared: &Shared, link: &Link, aside: &Aside) -> Result<SealedFile, JournalError> {
    let id = link.header.file_id;
    let len = link.end.expect("only complete files are sealed");
    let mut index = shared.write();
    index.roll();
    let (file, devices) = index.rolled_file(id).expect("it was replayed");
    drop(index);
    let header = write_index(&*shared.disk, &file, len, &devices, aside)
        .map_err(|error| io_error("write", &shared.disk.path_of(&names::index(id)), error))?;
    let mut index = shared.write();
    index.seal(header.facts);
    index.sealed.retain(|sealed| sealed.file_id != id);
    Ok(header.facts)
}

/// Takes note of what a sealed file has, from its index.
fn take_index(shared: &Shared, id: u64) -> Result<(), JournalError> {
    let taken = shared.handles.table(id).and_then(|table| {
        table.each(|entry| {
            cover(shared, id, entry.device.as_str(), &entry.spans);
            let mut index = shared.write();
            let number = index.devices.number_or_new(entry.device.as_str());
            let device = index.devices.by_number(number);
            device.add_frames(entry.fresh);
            device.hear(entry.last_received, entry.last_ts);
            device.trim(id);
        })
    });
    taken.map_err(|error| {
        let source = io::Error::other(shared.index_error(id, error));
        io_error("use", &shared.disk.path_of(&names::index(id)), source)
    })
}

fn note_losses(shared: &Shared, aside: &Aside) {
    let mut index = shared.write();
    for (device, losses) in aside.losses_per_device() {
        let number = index.devices.number_or_new(device.as_str());
        index.devices.by_number(number).add_losses(losses);
    }
}

/// Cuts what a complete file has behind its end: it was never acknowledged, and the next file's header says so.
fn cut(link: &Link, end: u64) -> u64 {
    if link.size <= end {
        return 0;
    }
    if let Err(error) = link.file.truncate(end) {
        tracing::warn!(file = link.header.file_id, %error, "the surplus of a journal file stays");
    }
    link.size - end
}
