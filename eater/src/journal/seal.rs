//! Sealing a file that is complete: its index moves from memory to the disk.

use std::collections::HashMap;
use std::io;
use std::sync::PoisonError;

use trough_protocol::DeviceId;

use super::aside::Aside;
use super::disk::Disk;
use super::lasts::Lasts;
use super::memory::OpenFile;
use super::names;
use super::shared::Shared;
use super::table::{self, Header, LastAt};
use super::walk::{Walk, WalkError, find_voucher};

/// Seals a rolled file of `len` bytes. A file that is not there, as it was sealed already, is passed over.
///
/// # Errors
/// The disk refused; nothing changed.
pub(super) fn seal(shared: &Shared, id: u64, len: u64) -> io::Result<()> {
    let found = shared.read().rolled_file(id);
    let Some((file, devices)) = found else { return Ok(()) };
    let aside = Aside::read(&*shared.disk, id, file.nonce)?;
    let header = write_index(&*shared.disk, &file, len, &devices, &aside)?;
    // Before it leaves memory: who looks for its last frames must find it in one place or the other.
    shared.unrecorded.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
    let mut index = shared.write();
    index.seal(header.facts);
    let bytes = index.bytes();
    drop(index);
    shared.metrics.index_bytes.set(bytes as i64);
    tracing::info!(
        file = id,
        bytes = len,
        frames = file.frames,
        runs = file.runs,
        devices = devices.len(),
        "a journal file is sealed"
    );
    Ok(())
}

/// Writes the index of a complete file.
pub(super) fn write_index(
    disk: &dyn Disk,
    file: &OpenFile,
    len: u64,
    devices: &[(DeviceId, u32)],
    aside: &Aside,
) -> io::Result<Header> {
    let channels = last_frames(disk, file, len, devices, aside)?;
    table::write(disk, file, len, devices, channels)
}

/// The last frame of each channel of each device in the file, by the device's number.
fn last_frames(
    disk: &dyn Disk,
    file: &OpenFile,
    len: u64,
    devices: &[(DeviceId, u32)],
    aside: &Aside,
) -> io::Result<HashMap<u32, Vec<LastAt>>> {
    let numbers: HashMap<&str, u32> = devices.iter().map(|(id, number)| (id.as_str(), *number)).collect();
    let mut lasts: HashMap<u32, Lasts> = HashMap::with_capacity(devices.len());
    let data = disk.open(&names::journal(file.id))?;
    let mut walk = Walk::new(data.clone(), (file.id, file.nonce), len, aside);
    loop {
        // Of a damaged group the runs before the damage are noted too, which is right: they are whole.
        let next = walk.next_runs(|device, run, data| {
            if let Some(number) = numbers.get(device).filter(|_| run.is_frames()) {
                lasts.entry(*number).or_default().note(&run, data);
            }
        });
        match next {
            Ok(false) => break,
            Ok(true) => {}
            Err(WalkError::Io(error)) => return Err(error),
            Err(WalkError::Fault(fault)) => {
                // It was whole when it was written. Readers will be told; here only a last frame may be missed.
                let path = disk.path_of(&names::journal(file.id));
                tracing::error!(
                    file = %path.display(), offset = fault.offset, found = fault.found,
                    "a journal file is damaged: stop the eater and run `trough journal repair --data-dir DIR`"
                );
                let next = find_voucher(&*data, (file.id, file.nonce), walk.at())?;
                match next.filter(|header| header.offset > walk.at() && header.offset < len) {
                    Some(header) => walk.skip_to(header.offset),
                    None => break,
                }
            }
        }
    }
    Ok(lasts.into_iter().map(|(number, lasts)| (number, lasts.into_sorted())).collect())
}
