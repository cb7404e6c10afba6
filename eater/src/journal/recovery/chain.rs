//! Which files make the journal: the newest one, the one that its header names, and so on.
//!
//! A file that none names is one that a failed attempt left: no group in it was acknowledged.

use std::sync::Arc;

use trough_protocol::wire::WireError;

use super::{corrupt, io_error};
use crate::journal::disk::{Disk, DiskFile};
use crate::journal::error::JournalError;
use crate::journal::format::{FILE_HEADER_BYTES, FileHeader};
use crate::journal::names::{self, Kind};
use crate::journal::walk::find_group;

/// A file of the journal.
pub(in crate::journal) struct Link {
    pub header: FileHeader,
    pub file: Arc<dyn DiskFile>,
    /// Its size in bytes.
    pub size: u64,
    /// Where the next file says it ends; `None` for the newest.
    pub end: Option<u64>,
}

/// What was found in the directory.
pub(in crate::journal) struct Chain {
    /// Oldest first.
    pub links: Vec<Link>,
    /// The file that the oldest one follows, which is not there; 0 if it follows none.
    pub missing: u64,
    /// Bytes of files that belong to nothing.
    pub bytes_cut: u64,
    /// All names in the directory.
    pub names: Vec<String>,
}

/// What a file begins with.
enum Front {
    Header(FileHeader),
    /// Not a header, for this reason.
    Other(String),
}

/// Sorts the directory out. Removes what was being made when a process died, and sets aside files that belong
/// to nothing.
pub(in crate::journal) fn read_chain(disk: &dyn Disk) -> Result<Chain, JournalError> {
    let mut names = disk.list().map_err(|error| io_error("list", disk.path(), error))?;
    for name in names.extract_if(.., |name| matches!(names::parse(name), Some((_, Kind::Temporary)))) {
        disk.remove(&name).map_err(|error| io_error("remove", &disk.path_of(&name), error))?;
    }
    let mut chain = Chain { links: Vec::new(), missing: 0, bytes_cut: 0, names };
    // The file that the newer ones lead to, and its length; nothing until the newest is found.
    let mut wanted: Option<(u64, u64)> = None;
    for id in names::ids(&chain.names, Kind::Journal).into_iter().rev() {
        let (front, file, size) = open(disk, id)?;
        match (wanted, front) {
            (None, Front::Header(header)) => {
                wanted = Some((header.previous_id, header.previous_len));
                chain.links.push(Link { header, file, size, end: None });
            }
            (None, Front::Other(found)) => {
                refuse_if_it_has_groups(disk, id, &*file, &found)?;
                discard(disk, id, size, &mut chain)?;
            }
            (Some((due, len)), Front::Header(header)) if id == due => {
                if size < len {
                    let found = format!("the file ends, and the next file says that it had {len} bytes");
                    return Err(corrupt(disk, id, size, found));
                }
                wanted = Some((header.previous_id, header.previous_len));
                chain.links.push(Link { header, file, size, end: Some(len) });
            }
            (Some((due, _)), Front::Other(found)) if id == due => return Err(corrupt(disk, id, 0, found)),
            (Some((due, len)), _) if id < due => {
                return Err(corrupt(disk, due, 0, format!("the file is missing; it had {len} bytes")));
            }
            (Some(_), _) => discard(disk, id, size, &mut chain)?,
        }
    }
    chain.missing = wanted.map_or(0, |(due, _)| due);
    chain.links.reverse();
    Ok(chain)
}

fn open(disk: &dyn Disk, id: u64) -> Result<(Front, Arc<dyn DiskFile>, u64), JournalError> {
    let name = names::journal(id);
    let path = disk.path_of(&name);
    let file = disk.open(&name).map_err(|error| io_error("open", &path, error))?;
    let read = file.read_at(0, FILE_HEADER_BYTES as usize);
    let bytes = read.map_err(|error| io_error("read", &path, error))?;
    let size = file.len().map_err(|error| io_error("read", &path, error))?;
    let front = match FileHeader::decode(&bytes) {
        Ok(header) if header.file_id == id => Front::Header(header),
        Ok(header) => Front::Other(format!("its header is that of file {}", header.file_id)),
        Err(error @ WireError::Unsupported { .. }) => {
            return Err(JournalError::TooNew { file: path, found: error.to_string() });
        }
        Err(error) => Front::Other(error.to_string()),
    };
    Ok((front, file, size))
}

/// A header is durable before the first group is written: groups behind none mean that it was damaged since.
fn refuse_if_it_has_groups(
    disk: &dyn Disk,
    id: u64,
    file: &dyn DiskFile,
    found: &str,
) -> Result<(), JournalError> {
    let group = find_group(file, FILE_HEADER_BYTES, |header, at| header.file_id == id && header.offset == at);
    match group.map_err(|error| io_error("read", &disk.path_of(&names::journal(id)), error))? {
        None => Ok(()),
        Some(group) => {
            let found = format!("{found}, and a group follows at offset {}", group.offset);
            Err(corrupt(disk, id, 0, found))
        }
    }
}

/// Removes a file that belongs to nothing, or gives it another name if there is more than a header in it.
fn discard(disk: &dyn Disk, id: u64, size: u64, chain: &mut Chain) -> Result<(), JournalError> {
    let name = names::journal(id);
    let path = disk.path_of(&name);
    if size <= FILE_HEADER_BYTES {
        disk.remove(&name).map_err(|error| io_error("remove", &path, error))?;
    } else {
        let aside = names::orphan(id);
        disk.rename(&name, &aside).map_err(|error| io_error("rename", &path, error))?;
    }
    tracing::warn!(
        file = %path.display(), bytes = size,
        "a journal file that was begun and given up is set aside: nothing in it was acknowledged"
    );
    chain.bytes_cut += size;
    Ok(())
}
