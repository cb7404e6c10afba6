//! What repairs set aside, as it is and with checksums made good.
#![no_main]

mod reseal;

use libfuzzer_sys::fuzz_target;
use trough_eater::journal::fuzzing::read_aside;

const HEADER_BYTES: usize = 64;

fuzz_target!(|bytes: &[u8]| {
    read_aside(bytes);
    let mut bytes = bytes.to_vec();
    if reseal_aside(&mut bytes).is_some() {
        read_aside(&bytes);
    }
});

/// Makes lengths and checksums good; the file belongs to file 1 with the nonce 1.
fn reseal_aside(bytes: &mut [u8]) -> Option<()> {
    let len = bytes.len().checked_sub(HEADER_BYTES + 4)?;
    bytes[..8].copy_from_slice(b"TRJD\x01\0\0\0");
    bytes[8..24].copy_from_slice(&(1_u128 << 64 | 1).to_le_bytes());
    bytes[28..32].copy_from_slice(&u32::try_from(len).ok()?.to_le_bytes());
    reseal::put_crc(bytes, 0, HEADER_BYTES - 4, HEADER_BYTES - 4)?;
    reseal::put_crc(bytes, HEADER_BYTES, HEADER_BYTES + len, HEADER_BYTES + len)
}
