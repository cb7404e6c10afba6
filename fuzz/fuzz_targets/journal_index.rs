//! Indexes of sealed journal files, as they are and with checksums made good.
#![no_main]

mod reseal;

use libfuzzer_sys::fuzz_target;
use trough_eater::journal::fuzzing::read_index;

const HEADER_BYTES: usize = 160;
/// 64 records of 64 bytes, and a checksum.
const BLOCK_BYTES: usize = 64 * 64 + 4;

fuzz_target!(|bytes: &[u8]| {
    read_index(bytes.to_vec());
    let mut bytes = bytes.to_vec();
    reseal_index(&mut bytes);
    read_index(bytes);
});

/// Makes as many checksums good as can be found.
fn reseal_index(bytes: &mut [u8]) -> Option<()> {
    bytes.get_mut(..8)?.copy_from_slice(b"TRJX\x01\0\0\0");
    reseal::put_crc(bytes, 0, HEADER_BYTES - 4, HEADER_BYTES - 4)?;
    let at = |place: usize, bytes: &[u8]| reseal::int::<8>(bytes, 8 + 8 * place);
    let (records, directory, fences) = (at(10, bytes)?, at(11, bytes)?, at(13, bytes)?);
    let fences_end = fences.checked_add(at(14, bytes)?)?;
    for block in 0..records.div_ceil(64).min(64) {
        let from = HEADER_BYTES + block * BLOCK_BYTES;
        let to = from + 64 * (records - 64 * block).min(64);
        let _ = reseal::put_crc(bytes, from, to, to);
    }
    if let Some(len) = reseal::int::<4>(bytes, directory) {
        let _ = reseal::put_crc(
            bytes,
            directory.checked_add(8)?,
            directory.checked_add(8)?.checked_add(len)?,
            directory + 4,
        );
    }
    reseal::put_crc(bytes, fences.checked_add(4)?, fences_end, fences)
}
