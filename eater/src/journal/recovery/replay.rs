//! Reading the groups of a file that has no index, and finding where its durable part ends.

use std::io::{self, IoSlice};

use trough_protocol::{Epoch, Micros, Seq};

use super::chain::Link;
use super::{corrupt, io_error};
use crate::journal::aside::Aside;
use crate::journal::disk::DiskFile;
use crate::journal::error::JournalError;
use crate::journal::format::GroupHeader;
use crate::journal::memory::OpenFile;
use crate::journal::names;
use crate::journal::run::Run;
use crate::journal::shared::Shared;
use crate::journal::walk::{Fault, Walk, WalkError, find_voucher, for_each_run};
use crate::journal::window::WINDOW_BYTES;

/// What a file has.
pub(super) struct Replayed {
    /// Where it ends.
    pub end: u64,
    pub last_received: Micros,
    /// The last group is a marker, or there is none.
    pub vouched: bool,
    /// Bytes of a torn group behind the end, which were cut; zeros that were written ahead are none.
    pub cut: u64,
}

/// Enters a file's groups into the index, as its active file. Cuts a torn tail off the newest one.
pub(super) fn replay(shared: &Shared, link: &Link, aside: &Aside) -> Result<Replayed, JournalError> {
    let (id, nonce) = (link.header.file_id, link.header.nonce);
    shared.write().active = Some(OpenFile::new(id, nonce));
    for (device, run) in aside.runs() {
        enter(shared, device.as_str(), run);
    }
    let end = link.end.unwrap_or(link.size);
    let mut walk = Walk::new(link.file.clone(), (id, nonce), end, aside);
    let mut last: Option<GroupHeader> = None;
    let mut last_received = 0;
    loop {
        match walk.next() {
            Ok(Some(group)) => {
                for_each_run(&group, aside, |device, run, _| enter(shared, device, run));
                last_received = group.header.received_at.max(last_received);
                last = Some(group.header);
            }
            Ok(None) => break,
            Err(WalkError::Io(error)) => return Err(read_error(shared, id, error)),
            Err(WalkError::Fault(fault)) => {
                refuse_damage(shared, link, &fault, walk.at())?;
                break;
            }
        }
    }
    let end = walk.at();
    let mut cut = link.size.saturating_sub(end);
    if has_only_zeros(&*link.file, end, link.size).map_err(|error| read_error(shared, id, error))? {
        cut = 0;
    }
    if link.end.is_none() {
        let unvouched = last.map_or(0, |last| last.durable_to);
        settle(&*link.file, unvouched, end, link.size).map_err(|error| {
            io_error("settle the tail of", &shared.disk.path_of(&names::journal(id)), error)
        })?;
    }
    let vouched = last.is_none_or(|last| last.batches == 0);
    Ok(Replayed { end, last_received, vouched, cut })
}

/// Returns an error if the fault is damage, and not the tail of a group that was being written.
fn refuse_damage(shared: &Shared, link: &Link, fault: &Fault, at: u64) -> Result<(), JournalError> {
    let (id, nonce) = (link.header.file_id, link.header.nonce);
    if fault.too_new {
        let file = shared.disk.path_of(&names::journal(id));
        return Err(JournalError::TooNew {
            file,
            found: format!("offset {}: {}", fault.offset, fault.found),
        });
    }
    if let Some(end) = link.end {
        let found = format!("{}; the next file says that this one is whole up to {end}", fault.found);
        return Err(corrupt(&*shared.disk, id, fault.offset, found));
    }
    let voucher = find_voucher(&*link.file, (id, nonce), at);
    match voucher.map_err(|error| read_error(shared, id, error))? {
        None => Ok(()),
        Some(voucher) => {
            let found = format!(
                "{}; the group at {} says that all before {} was durable",
                fault.found, voucher.offset, voucher.durable_to
            );
            Err(corrupt(&*shared.disk, id, fault.offset, found))
        }
    }
}

/// Cuts what is behind `end`, and makes the rest durable, whatever became of it before.
///
/// What no header vouches for may be in the page cache only: if the last process died right after a failed
/// fdatasync, the system shows pages that it will never write (USENIX ATC 2020, "Can applications recover from
/// fsync failures?"). Writing the same bytes again makes it write them.
fn settle(file: &dyn DiskFile, unvouched: u64, end: u64, size: u64) -> io::Result<()> {
    if size > end {
        file.truncate(end)?;
    }
    let mut at = unvouched;
    while at < end {
        let len = usize::try_from(end - at).map_or(WINDOW_BYTES, |len| len.min(WINDOW_BYTES));
        let bytes = file.read_at(at, len)?;
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.write_at(&mut [IoSlice::new(&bytes)], at)?;
        at += bytes.len() as u64;
    }
    file.sync()
}

/// Whether a file has nothing but zeros from `at` to `end`.
fn has_only_zeros(file: &dyn DiskFile, mut at: u64, end: u64) -> io::Result<bool> {
    while at < end {
        let len = usize::try_from(end - at).map_or(WINDOW_BYTES, |len| len.min(WINDOW_BYTES));
        let bytes = file.read_at(at, len)?;
        if bytes.is_empty() || bytes.iter().any(|byte| *byte != 0) {
            return Ok(bytes.is_empty());
        }
        at += bytes.len() as u64;
    }
    Ok(true)
}

fn enter(shared: &Shared, device: &str, run: Run) {
    let mut index = shared.write();
    while index.enter(device, run).is_none() {
        drop(index);
        let head = shared.sealed_head(device, run.epoch);
        index = shared.write();
        index.restore_head(device, run.epoch, head);
    }
}

/// Takes note of numbers that a sealed file has.
pub(super) fn cover(shared: &Shared, file: u64, device: &str, spans: &[(Epoch, Seq, Seq)]) {
    for (epoch, first, last) in spans {
        let mut index = shared.write();
        while index.head(device, *epoch).is_err() {
            drop(index);
            let head = shared.sealed_head(device, *epoch);
            index = shared.write();
            index.restore_head(device, *epoch, head);
        }
        let number = index.devices.number_or_new(device);
        index.devices.by_number(number).cover_span(file, *epoch, *first, *last);
    }
}

fn read_error(shared: &Shared, id: u64, error: io::Error) -> JournalError {
    io_error("read", &shared.disk.path_of(&names::journal(id)), error)
}
