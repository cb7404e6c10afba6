//! Indexes of segments, as they are and with checksums made good.
#![no_main]

mod reseal;

use libfuzzer_sys::fuzz_target;
use trough_eater::segments::format::{DeviceParts, Index, blocks_of};

const HEADER_BYTES: usize = 64;

fuzz_target!(|bytes: &[u8]| {
    read(bytes.to_vec());
    let mut bytes = bytes.to_vec();
    reseal_index(&mut bytes);
    read(bytes);
});

/// What is taken says the same again.
fn read(bytes: Vec<u8>) {
    let Ok(index) = Index::decode(bytes.into()) else { return };
    let facts = index.facts();
    let blocks: Vec<u32> = (0..blocks_of(facts.bytes)).filter_map(|at| index.block_crc(at)).collect();
    assert_eq!(blocks.len() as u64, blocks_of(facts.bytes));
    let parts: Vec<DeviceParts> = index
        .devices()
        .map(|device| DeviceParts {
            device: device.id(),
            stretches: device.stretches().collect(),
            losses: device.losses().collect(),
            lasts: device.lasts().collect(),
        })
        .collect();
    assert!(parts.iter().all(|parts| index.find(parts.device.as_str()).is_some()));
    let frames: u64 = parts.iter().flat_map(|parts| &parts.stretches).map(|s| u64::from(s.count)).sum();
    assert_eq!(frames, facts.frames);
    let again = Index::encode(facts, &blocks, &parts).expect("it was not too large");
    assert_eq!(again[HEADER_BYTES..], index.bytes()[HEADER_BYTES..]);
}

/// Makes the length and the checksums good.
fn reseal_index(bytes: &mut [u8]) -> Option<()> {
    let body = u32::try_from(bytes.len().checked_sub(HEADER_BYTES)?).ok()?;
    bytes.get_mut(..8)?.copy_from_slice(b"TRSX\x01\0\0\0");
    bytes.get_mut(52..56)?.copy_from_slice(&body.to_le_bytes());
    reseal::put_crc(bytes, HEADER_BYTES, bytes.len(), 56)?;
    reseal::put_crc(bytes, 0, HEADER_BYTES - 4, HEADER_BYTES - 4)
}
