//! Making lengths and checksums good whatever the fields say, so that the fuzzer gets past them.
#![allow(dead_code, reason = "each target uses its own part")]

const BATCH_HEADER_BYTES: usize = 24;

/// Puts the CRC32C of `bytes[from..to]` at `at`; `None` if that is not there.
pub fn put_crc(bytes: &mut [u8], from: usize, to: usize, at: usize) -> Option<()> {
    let crc = crc32c::crc32c(bytes.get(from..to)?);
    bytes.get_mut(at..at.checked_add(4)?)?.copy_from_slice(&crc.to_le_bytes());
    Some(())
}

/// The integer of `N` bytes at `at`.
pub fn int<const N: usize>(bytes: &[u8], at: usize) -> Option<usize> {
    let mut wide = [0; 8];
    wide[..N].copy_from_slice(bytes.get(at..at.checked_add(N)?)?);
    usize::try_from(u64::from_le_bytes(wide)).ok()
}

/// Makes lengths and checksums fit the bytes. The run's lengths are taken as they are.
pub fn batch(bytes: &mut [u8]) -> Option<()> {
    let len = bytes.len();
    bytes.get_mut(..8)?.copy_from_slice(b"TRBA\x01\0\0\0");
    let runs = u32::from_le_bytes(*bytes.get(8..12)?.first_chunk()?) % 8;
    bytes[8..12].copy_from_slice(&runs.to_le_bytes());
    let directory_len = u32::from_le_bytes(*bytes.get(12..16)?.first_chunk()?) as usize;
    let directory_end = BATCH_HEADER_BYTES.checked_add(directory_len).filter(|end| *end <= len)?;
    bytes[16..20].copy_from_slice(&u32::try_from(len - directory_end).ok()?.to_le_bytes());
    let (mut at, mut data_at) = (BATCH_HEADER_BYTES, directory_end);
    for _ in 0..runs {
        let device_len = usize::from(*bytes.get(at + 1)?);
        let run_end = at + 50 + device_len;
        let data_len = u32::from_le_bytes(*bytes.get(run_end - 8..run_end)?.first_chunk()?) as usize;
        let crc = crc32c::crc32c(bytes.get(data_at..data_at.checked_add(data_len)?)?);
        bytes[run_end - 4..run_end].copy_from_slice(&crc.to_le_bytes());
        (at, data_at) = (run_end, data_at + data_len);
    }
    let crc = crc32c::crc32c(&bytes[..20]);
    let crc = crc32c::crc32c_append(crc, &bytes[BATCH_HEADER_BYTES..directory_end]);
    bytes[20..24].copy_from_slice(&crc.to_le_bytes());
    Some(())
}
