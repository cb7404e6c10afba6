//! Journal objects, as they are and with checksums made good.
#![no_main]

mod reseal;

use libfuzzer_sys::fuzz_target;
use trough_eater::objects::format::inspect;

const HEADER_BYTES: usize = 64;

fuzz_target!(|bytes: &[u8]| {
    let _ = inspect(&bytes.to_vec().into());
    let mut bytes = bytes.to_vec();
    reseal_object(&mut bytes);
    if let Ok(row) = inspect(&bytes.into()) {
        assert!(!row.wide || row.spans.is_empty());
        assert!(row.spans.iter().all(|span| span.first <= span.last && span.ts.0 <= span.ts.1));
    }
});

/// Makes the checksums of header, index and trailer good.
fn reseal_object(bytes: &mut Vec<u8>) -> Option<()> {
    let trailer = bytes.len().checked_sub(HEADER_BYTES)?;
    bytes.get_mut(..8)?.copy_from_slice(b"TRJO\x01\0\0\0");
    bytes.get_mut(trailer..trailer + 8)?.copy_from_slice(b"TRJT\x01\0\0\0");
    let id: Vec<u8> = bytes.get(8..32)?.to_vec();
    bytes.get_mut(trailer + 8..trailer + 32)?.copy_from_slice(&id);
    reseal::put_crc(bytes, 0, HEADER_BYTES - 4, HEADER_BYTES - 4)?;
    let len = reseal::int::<4>(bytes, trailer + 40)?;
    reseal::put_crc(bytes, trailer.checked_sub(len)?, trailer, trailer + 44)?;
    reseal::put_crc(bytes, trailer, trailer + HEADER_BYTES - 4, trailer + HEADER_BYTES - 4)
}
