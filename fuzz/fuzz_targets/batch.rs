//! Batches, as they are and with their checksums made good, so that the fuzzer gets past those.
#![no_main]

mod reseal;

use libfuzzer_sys::fuzz_target;
use trough_protocol::DeviceId;
use trough_protocol::batch::{Batch, BatchBuilder, RunKind};
use trough_protocol::frame::FramesSummary;

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    let mut bytes = bytes.to_vec();
    if reseal::batch(&mut bytes).is_some() {
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
