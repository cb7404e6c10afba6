//! Going through a journal file, group by group, believing nothing.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use trough_protocol::batch::Batch;
use trough_protocol::wire::WireError;

use super::aside::Aside;
use super::disk::DiskFile;
use super::format::{FILE_HEADER_BYTES, GROUP_HEADER_BYTES, GROUP_MAGIC, GroupHeader};
use super::run::Run;
use super::window::{WINDOW_BYTES, Window};

/// A group whose header, directories and checksums are good.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub header: GroupHeader,
    /// Its batches.
    pub bytes: Bytes,
}

/// What is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// Where the structure that is at fault begins, in bytes.
    pub offset: u64,
    /// What is there.
    pub found: String,
    /// It is whole, and a later release wrote it.
    pub too_new: bool,
}

/// Why a walk stops before the end.
#[derive(Debug)]
pub(super) enum WalkError {
    Io(io::Error),
    Fault(Fault),
}

impl From<io::Error> for WalkError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn fault(offset: u64, found: impl ToString) -> WalkError {
    WalkError::Fault(Fault { offset, found: found.to_string(), too_new: false })
}

/// A walk through one file.
pub(super) struct Walk<'a> {
    window: Window,
    file_id: u64,
    nonce: u64,
    at: u64,
    end: u64,
    aside: &'a Aside,
}

impl<'a> Walk<'a> {
    /// From the first group to `end`, the size of the file or its sealed length, passing over what was set
    /// aside.
    pub(super) fn new(
        file: Arc<dyn DiskFile>,
        (file_id, nonce): (u64, u64),
        end: u64,
        aside: &'a Aside,
    ) -> Self {
        Self { window: Window::new(file), file_id, nonce, at: FILE_HEADER_BYTES, end, aside }
    }

    /// Where the next group should begin.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Goes on at `offset`, for who knows that a group begins there.
    pub(super) fn skip_to(&mut self, offset: u64) {
        self.at = offset;
    }

    /// The next group; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Group>, WalkError> {
        while let Some(to) = self.aside.covers(self.at) {
            self.at = to;
        }
        if self.at >= self.end {
            return Ok(None);
        }
        let group = self.read_group()?;
        check_group(&group, self.aside).map_err(WalkError::Fault)?;
        self.at = group.header.end();
        Ok(Some(group))
    }

    /// As [`Walk::next`], and calls `visit` with each run: device, run, data. One pass where they would take two;
    /// but runs before a fault have been visited by then.
    pub(super) fn next_runs(&mut self, mut visit: impl FnMut(&str, Run, &[u8])) -> Result<bool, WalkError> {
        if !self.aside.is_empty() {
            let next = self.next()?;
            return Ok(next.is_some_and(|group| {
                for_each_run(&group, self.aside, visit);
                true
            }));
        }
        if self.at >= self.end {
            return Ok(false);
        }
        let group = self.read_group()?;
        let visited = for_each_batch(&group, self.aside, |at, bytes| {
            let fault = |error: WireError| Fault { offset: at, found: error.to_string(), too_new: false };
            visit_batch(&Batch::check(bytes).map_err(fault)?, at, &group, &mut visit);
            Ok(())
        });
        visited.map_err(WalkError::Fault)?;
        self.at = group.header.end();
        Ok(true)
    }

    /// The group at hand, its batches unread.
    pub(super) fn read_group(&mut self) -> Result<Group, WalkError> {
        let header = read_header(&mut self.window, self.at)?;
        if !header.belongs(self.file_id, self.nonce, self.at) {
            return Err(fault(self.at, "a group header that belongs elsewhere"));
        }
        if header.end() > self.end {
            let found = format!("a group of {} bytes, where the file ends at {}", header.len, self.end);
            return Err(fault(self.at, found));
        }
        let bytes = self.window.get(self.at + GROUP_HEADER_BYTES, header.len as usize)?;
        if bytes.len() < header.len as usize {
            return Err(fault(self.at, format!("a group of {} bytes that ends early", header.len)));
        }
        Ok(Group { header, bytes })
    }
}

fn read_header(window: &mut Window, at: u64) -> Result<GroupHeader, WalkError> {
    let bytes = window.get(at, GROUP_HEADER_BYTES as usize)?;
    GroupHeader::decode(&bytes).map_err(|error| {
        let too_new = matches!(error, WireError::Unsupported { .. });
        WalkError::Fault(Fault { offset: at, found: error.to_string(), too_new })
    })
}

/// Checks every batch of a group, but for what was set aside.
fn check_group(group: &Group, aside: &Aside) -> Result<(), Fault> {
    let mut batches = 0;
    let whole = for_each_batch(group, aside, |at, bytes| {
        batches += 1;
        let fault = |error: WireError| Fault { offset: at, found: error.to_string(), too_new: false };
        if aside.is_empty() {
            return Batch::check(bytes).map(drop).map_err(fault);
        }
        let batch = Batch::check_directory(bytes).map_err(fault)?;
        for run in batch.runs() {
            let run_at = at + u64::from(run.offset);
            if aside.covers(run_at).is_none() {
                run.check(batch.data(&run)).map_err(|error| Fault { offset: run_at, ..fault(error) })?;
            }
        }
        Ok(())
    })?;
    if whole && batches != group.header.batches {
        let found = format!("a group of {} batches that has {batches}", group.header.batches);
        return Err(Fault { offset: group.header.offset, found, too_new: false });
    }
    Ok(())
}

/// Calls `visit` with each batch and its offset in the file. Whether none was set aside.
fn for_each_batch(
    group: &Group,
    aside: &Aside,
    mut visit: impl FnMut(u64, &[u8]) -> Result<(), Fault>,
) -> Result<bool, Fault> {
    let first = group.header.offset + GROUP_HEADER_BYTES;
    let (mut at, mut whole) = (first, true);
    while at < group.header.end() {
        if let Some(to) = aside.covers(at) {
            (at, whole) = (to, false);
            continue;
        }
        let from = usize::try_from(at - first).expect("within the group, which is in memory");
        let rest = &group.bytes[from..];
        let too_long = || WireError::Truncated { what: "batch", needed: 0, had: rest.len() };
        let bytes = Batch::peek_len(rest)
            .and_then(|len| rest.get(..len).ok_or_else(too_long))
            .map_err(|error| Fault { offset: at, found: error.to_string(), too_new: false })?;
        visit(at, bytes)?;
        at += bytes.len() as u64;
    }
    Ok(whole)
}

/// Calls `visit` with each run of a group that [`Walk::next`] gave: device, run, data.
pub(super) fn for_each_run(group: &Group, aside: &Aside, mut visit: impl FnMut(&str, Run, &[u8])) {
    let visited = for_each_batch(group, aside, |at, bytes| {
        let batch = Batch::check_directory(bytes).expect("the walk has checked the same bytes");
        visit_batch(&batch, at, group, &mut |device, run, data| {
            if aside.covers(run.offset.into()).is_none() {
                visit(device, run, data);
            }
        });
        Ok(())
    });
    visited.expect("the walk has checked the same bytes");
}

/// Calls `visit` with each run of a batch that begins at `at`.
fn visit_batch(batch: &Batch<'_>, at: u64, group: &Group, visit: &mut impl FnMut(&str, Run, &[u8])) {
    let batch_offset = u32::try_from(at).expect("a file is at most 4 GiB");
    for run in batch.runs() {
        let data = batch.data(&run);
        visit(run.device, Run::new(&run, data, batch_offset, group.header.received_at), data);
    }
}

/// The first group header at `from` or later that belongs where it stands and vouches for bytes behind `from`.
pub(super) fn find_voucher(
    file: &dyn DiskFile,
    (file_id, nonce): (u64, u64),
    from: u64,
) -> io::Result<Option<GroupHeader>> {
    find_group(file, from, |header, at| header.belongs(file_id, nonce, at) && header.durable_to > from)
}

/// The first group header at `from` or later that `wanted` says yes to.
pub(super) fn find_group(
    file: &dyn DiskFile,
    from: u64,
    wanted: impl Fn(&GroupHeader, u64) -> bool,
) -> io::Result<Option<GroupHeader>> {
    let finder = memchr::memmem::Finder::new(&GROUP_MAGIC);
    let overlap = GROUP_HEADER_BYTES as usize - 1;
    let mut at = from;
    loop {
        let bytes = file.read_at(at, WINDOW_BYTES + overlap)?;
        for found in finder.find_iter(&bytes) {
            let offset = at + found as u64;
            match GroupHeader::decode(&bytes[found..]) {
                Ok(header) if wanted(&header, offset) => return Ok(Some(header)),
                _ => {}
            }
        }
        if bytes.len() < WINDOW_BYTES + overlap {
            return Ok(None);
        }
        at += WINDOW_BYTES as u64;
    }
}
