//! Journal files: the walk of recovery over them, as they are and with headers and checksums made good.
#![no_main]

mod reseal;

use libfuzzer_sys::fuzz_target;
use trough_eater::journal::format::{FileHeader, GroupHeader};
use trough_eater::journal::fuzzing::walk_file;

const HEADER_BYTES: usize = 64;

fuzz_target!(|bytes: &[u8]| {
    let _ = GroupHeader::decode(bytes).map(|header| header.belongs(1, 2, 3));
    walk_file(bytes.to_vec());
    let mut bytes = bytes.to_vec();
    if reseal_file(&mut bytes).is_some() {
        assert!(FileHeader::decode(&bytes).is_ok());
        walk_file(bytes);
    }
});

/// Makes the header of the file good, and those of the groups and batches that stand one behind the other.
fn reseal_file(bytes: &mut [u8]) -> Option<()> {
    bytes.get_mut(..HEADER_BYTES)?[..8].copy_from_slice(b"TRJF\x01\0\0\0");
    reseal::put_crc(bytes, 0, HEADER_BYTES - 4, HEADER_BYTES - 4)?;
    let mut at = HEADER_BYTES;
    while let Some(len) = reseal_group(bytes, at) {
        let end = at + HEADER_BYTES + len;
        let mut batch_at = at + HEADER_BYTES;
        while let Some(batch_len) = bytes.get(batch_at..end).and_then(batch_len) {
            reseal::batch(&mut bytes[batch_at..batch_at + batch_len]);
            batch_at += batch_len;
        }
        at = end;
    }
    Some(())
}

/// Bytes of the group's batches, if they are all there.
fn reseal_group(bytes: &mut [u8], at: usize) -> Option<usize> {
    let id: [u8; 16] = *bytes[8..].first_chunk()?;
    let group = bytes.get_mut(at..at + HEADER_BYTES)?;
    group[..8].copy_from_slice(b"TRJG\x01\0\0\0");
    group[8..24].copy_from_slice(&id);
    group[24..32].copy_from_slice(&(at as u64).to_le_bytes());
    reseal::put_crc(group, 0, HEADER_BYTES - 4, HEADER_BYTES - 4)?;
    let len = reseal::int::<4>(group, 52)?;
    bytes.get(at + HEADER_BYTES..at.checked_add(HEADER_BYTES)?.checked_add(len)?).map(<[u8]>::len)
}

/// Bytes of the batch that begins here, by its header.
fn batch_len(bytes: &[u8]) -> Option<usize> {
    let len =
        24_usize.checked_add(reseal::int::<4>(bytes, 12)?)?.checked_add(reseal::int::<4>(bytes, 16)?)?;
    (len <= bytes.len()).then_some(len)
}
