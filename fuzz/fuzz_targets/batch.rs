//! Batches, as they are and with their checksums made good, so that the fuzzer gets past those.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trough_protocol::DeviceId;
use trough_protocol::batch::{Batch, BatchBuilder, HEADER_BYTES, RunKind};
use trough_protocol::frame::FramesSummary;

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    let mut bytes = bytes.to_vec();
    if reseal(&mut bytes).is_some() {
        check(&bytes);
    }
});

fn check(bytes: &[u8]) {
    let Ok(batch) = Batch::check(bytes) else { return };
    assert_eq!(Batch::peek_len(bytes), Ok(bytes.len()));
    let mut builder = BatchBuilder::new();
    for run in batch.runs() {
        let device = DeviceId::new(run.device).expect("check() accepted it");
        let data = batch.data(&run);
        run.check(data).expect("check() accepted it");
        assert!(builder.fits(&device, data.len()));
        match run.kind {
            RunKind::Frames => {
                let summary = FramesSummary { count: run.count, min_ts: run.min_ts, max_ts: run.max_ts };
                builder.push_frames(&device, run.epoch, run.first, summary, data);
            }
            RunKind::Skip => builder.push_skip(&device, run.epoch, run.first, run.count, data[0]),
        }
    }
    assert_eq!(builder.len(), bytes.len());
    // The flags that are not critical are not kept.
    if bytes[7] == 0 {
        let (head, data) = builder.finish();
        assert_eq!([head, data].concat(), bytes);
    }
}

/// Makes lengths and checksums fit the bytes. The run's lengths are taken as they are.
fn reseal(bytes: &mut [u8]) -> Option<()> {
    let len = bytes.len();
    bytes.get_mut(..8)?.copy_from_slice(b"TRBA\x01\0\0\0");
    let runs = u32::from_le_bytes(*bytes.get(8..12)?.first_chunk()?) % 8;
    bytes[8..12].copy_from_slice(&runs.to_le_bytes());
    let directory_len = u32::from_le_bytes(*bytes.get(12..16)?.first_chunk()?) as usize;
    let directory_end = HEADER_BYTES.checked_add(directory_len).filter(|end| *end <= len)?;
    bytes[16..20].copy_from_slice(&u32::try_from(len - directory_end).ok()?.to_le_bytes());
    let (mut at, mut data_at) = (HEADER_BYTES, directory_end);
    for _ in 0..runs {
        let device_len = usize::from(*bytes.get(at + 1)?);
        let run_end = at + 50 + device_len;
        let data_len = u32::from_le_bytes(*bytes.get(run_end - 8..run_end)?.first_chunk()?) as usize;
        let crc = crc32c::crc32c(bytes.get(data_at..data_at.checked_add(data_len)?)?);
        bytes[run_end - 4..run_end].copy_from_slice(&crc.to_le_bytes());
        (at, data_at) = (run_end, data_at + data_len);
    }
    let crc = crc32c::crc32c(&bytes[..20]);
    let crc = crc32c::crc32c_append(crc, &bytes[HEADER_BYTES..directory_end]);
    bytes[20..24].copy_from_slice(&crc.to_le_bytes());
    Some(())
}
