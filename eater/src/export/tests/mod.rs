//! An export:
//!
//! 1. has every frame once, in order, in each format, from segments and journals;
//! 2. goes on where it was when it is interrupted anywhere, and makes the same file;
//! 3. does not go on with another request, and does not write over a file;
//! 4. does not go on with a file that has lost what was complete;
//! 5. remembers what was damaged before it was interrupted;
//! 6. is made by one at a time, and the other is told;
//! 7. goes on when it was stopped while it was being completed, or says that the file is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use trough_protocol::{ContentType, DeviceId};

use super::*;
use crate::compaction::tests::DEVICES;
use crate::fsck::tests::Stopped;
use crate::journal::testing::{Rng, frame};

const FORMATS: [ExportFormat; 3] = [ExportFormat::NdJson, ExportFormat::Csv, ExportFormat::Parquet];
/// Small enough that a short export has many.
const CHECKPOINT_BYTES: u64 = 4096;

fn source(stopped: &Stopped) -> DirectSource {
    let parts = DirectParts {
        store: stopped.ground.store.clone(),
        segments: stopped.ground.segments.clone(),
        journals: stopped.journals(),
        clock: stopped.ground.clock.clone(),
    };
    DirectSource::open(parts, stopped.ground.runtime.handle().clone()).unwrap()
}

/// Copies everything, or stops behind so many frames. Whether it came to the end.
fn copy(source: &DirectSource, out: &Path, format: ExportFormat, stop: u64) -> bool {
    let (mut file, resume) = ExportFile::open_with(out, format, "all", CHECKPOINT_BYTES).unwrap();
    let mut left = stop;
    for device in source.devices().unwrap() {
        if device.as_str() < resume.progress.device.as_str() {
            continue;
        }
        let after = if device.as_str() == resume.progress.device { resume.progress.after } else { (0, 0) };
        let copied = source.frames(
            &device,
            after,
            &ExportRange::default(),
            |exported| {
                left = left.checked_sub(1).ok_or_else(|| ExportError::Exists(out.to_owned()))?;
                file.push(exported)
            },
            Err,
        );
        if copied.is_err() {
            return false;
        }
    }
    let size = file.finish().unwrap();
    assert_eq!(fs::metadata(out).unwrap().len(), size);
    true
}

/// What a process leaves that was killed a while after its last checkpoint.
fn leave_rubbish(out: &Path, format: ExportFormat) {
    let part = match format {
        ExportFormat::Parquet => {
            let state = fs::read(state::path_of(out)).unwrap();
            let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
            state::beside(out, &format!(".part.{}", state["complete"].as_u64().unwrap() + 1))
        }
        ExportFormat::NdJson | ExportFormat::Csv => state::beside(out, ".part"),
    };
    let mut file = fs::OpenOptions::new().create(true).append(true).open(part).unwrap();
    std::io::Write::write_all(&mut file, b"what is not complete\n").unwrap();
}

/// What a file has: device, epoch, seq, and the row, as it stands there.
fn rows(path: &Path, format: ExportFormat) -> Vec<(String, u64, u64, String)> {
    let text = || fs::read_to_string(path).unwrap();
    match format {
        ExportFormat::NdJson => text()
            .lines()
            .map(|line| {
                let value: serde_json::Value = serde_json::from_str(line).unwrap();
                let number = |name: &str| value[name].as_u64().unwrap();
                (
                    value["device"].as_str().unwrap().to_owned(),
                    number("epoch"),
                    number("seq"),
                    value["b64"].to_string(),
                )
            })
            .collect(),
        ExportFormat::Csv => {
            let text = text();
            let mut reader = csv::Reader::from_reader(text.as_bytes());
            assert_eq!(reader.headers().unwrap().iter().next(), Some("device"));
            let row = |record: csv::StringRecord| {
                let payload = format!("{:?}", record.get(9).unwrap());
                (record[0].to_owned(), record[1].parse().unwrap(), record[2].parse().unwrap(), payload)
            };
            reader.records().map(|record| row(record.unwrap())).collect()
        }
        ExportFormat::Parquet => {
            let reader = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(path).unwrap()).unwrap();
            reader.build().unwrap().flat_map(|batch| of_batch(&batch.unwrap())).collect()
        }
    }
}

fn of_batch(batch: &RecordBatch) -> Vec<(String, u64, u64, String)> {
    use base64::Engine as _;
    let column = |name: &str| batch.column_by_name(name).unwrap().clone();
    let (device, payload) = (column("device"), column("payload"));
    let (epoch, seq) = (column("epoch"), column("seq"));
    let row = |at: usize| {
        let payload = base64::engine::general_purpose::STANDARD.encode(payload.as_binary::<i32>().value(at));
        (
            device.as_string::<i32>().value(at).to_owned(),
            epoch.as_primitive::<Int64Type>().value(at) as u64,
            seq.as_primitive::<Int64Type>().value(at) as u64,
            format!("{payload:?}"),
        )
    };
    (0..batch.num_rows()).map(row).collect()
}

/// What was sent.
fn wanted(stopped: &Stopped) -> Vec<(String, u64, u64, String)> {
    use base64::Engine as _;
    let mut wanted = Vec::new();
    for device in DEVICES {
        for (epoch, seq) in stopped.model.numbers(device, true) {
            let bytes = frame(device, epoch, seq);
            let frame = FrameRef::decode(&mut &bytes[..], 1 << 20).unwrap();
            let payload = base64::engine::general_purpose::STANDARD.encode(frame.payload);
            wanted.push((device.to_owned(), epoch, seq, format!("{payload:?}")));
        }
    }
    wanted
}

#[test]
fn interrupted_or_not_it_is_the_same() {
    for seed in 0..crate::compaction::tests::seeds(6) {
        let mut rng = Rng::new(seed);
        let stopped = Stopped::new(seed);
        let (source, wanted, dir) = (source(&stopped), wanted(&stopped), tempfile::tempdir().unwrap());
        let known: BTreeSet<DeviceId> = DEVICES
            .into_iter()
            .filter(|device| !stopped.model.heads(device).is_empty())
            .map(|device| DeviceId::new(device).unwrap())
            .collect();
        assert_eq!(source.devices().unwrap(), known, "seed {seed}");
        for format in FORMATS {
            let (whole, pieces) =
                (dir.path().join(format!("{format:?}")), dir.path().join(format!("{format:?}-2")));
            assert!(copy(&source, &whole, format, u64::MAX));
            assert_eq!(rows(&whole, format), wanted, "seed {seed}, {format:?}");
            let mut runs = 1;
            while !copy(&source, &pieces, format, rng.below(wanted.len() as u64)) {
                runs += 1;
                leave_rubbish(&pieces, format);
                assert!(!pieces.exists() && runs < 1000, "seed {seed}");
            }
            assert_eq!(rows(&pieces, format), wanted, "seed {seed}, {format:?} in {runs} runs");
            if format != ExportFormat::Parquet {
                assert_eq!(fs::read(&whole).unwrap(), fs::read(&pieces).unwrap());
            }
        }
        // Nothing else is left.
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2 * FORMATS.len(), "seed {seed}");
    }
}

#[test]
fn another_request_does_not_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.csv");
    drop(ExportFile::open(&out, ExportFormat::Csv, "this").unwrap());
    let error = ExportFile::open(&out, ExportFormat::Csv, "that").err().unwrap();
    assert!(
        matches!(&error, ExportError::Other { found, wanted, .. } if found == "this" && wanted == "that"),
        "{error}"
    );
    let (file, resume) = ExportFile::open(&out, ExportFormat::Csv, "this").unwrap();
    assert!(resume.resumed);
    file.finish().unwrap();
    let error = ExportFile::open(&out, ExportFormat::Csv, "this").err().unwrap();
    assert!(matches!(error, ExportError::Exists(_)), "{error}");
    let out = dir.path().join("empty.parquet");
    ExportFile::open(&out, ExportFormat::Parquet, "this").unwrap().0.finish().unwrap();
    assert_eq!(rows(&out, ExportFormat::Parquet), []);
}

#[test]
fn one_makes_it_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    for format in FORMATS {
        let out = dir.path().join(format!("{format:?}"));
        let refused = |when: &str| {
            let error = ExportFile::open(&out, format, "all").err().unwrap();
            assert!(matches!(&error, ExportError::InUse(_)), "{format:?} {when}: {error}");
        };
        let (file, _) = ExportFile::open_with(&out, format, "all", 100).unwrap();
        refused("before a frame");
        drop(file);
        let mut file = begin(&out, format, 4);
        refused("behind a checkpoint");
        push(&mut file, 5..=7);
        refused("behind another");
        // Whoever has opened the state before it was replaced has nothing.
        let state = fs::File::open(state::path_of(&out)).unwrap();
        push(&mut file, 8..=9);
        rustix::fs::flock(&state, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
        refused("behind one more");
        file.finish().unwrap();
        assert_eq!(rows_of_begun(&out, format), (1..=9).collect::<Vec<_>>(), "{format:?}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), FORMATS.len(), "nothing else is left");
}

/// Pushes so many small frames into a file with many checkpoints, and stops.
fn begin(out: &Path, format: ExportFormat, frames: u64) -> ExportFile {
    let (mut file, resume) = ExportFile::open_with(out, format, "all", 100).unwrap();
    push(&mut file, resume.progress.after.1 + 1..=frames);
    file
}

fn push(file: &mut ExportFile, seqs: std::ops::RangeInclusive<u64>) {
    for seq in seqs {
        let payload = b"x";
        let frame = FrameRef { ts: seq, channel: "c", content_type: ContentType::Text, payload };
        file.push(&Exported { device: "a", epoch: Epoch(1), seq: Seq(seq), received_at: 1, frame }).unwrap();
    }
}

#[test]
fn what_was_complete_and_is_gone_is_told() {
    let dir = tempfile::tempdir().unwrap();
    for format in FORMATS {
        let out = dir.path().join(format!("{format:?}"));
        drop(begin(&out, format, 6));
        let part = state::beside(&out, if format == ExportFormat::Parquet { ".part.2" } else { ".part" });
        let whole = fs::read(&part).unwrap();
        let cut = if format == ExportFormat::Parquet { 0 } else { whole.len() - 1 };
        let told = || {
            let error = ExportFile::open(&out, format, "all").err().unwrap();
            assert!(matches!(&error, ExportError::Short { .. }), "{error}");
            let error = error.to_string();
            assert!(error.contains(part.to_str().unwrap()) && error.contains(".part.state,"), "{error}");
        };
        fs::write(&part, &whole[..cut]).unwrap();
        told();
        assert_eq!(fs::metadata(&part).unwrap().len(), cut as u64, "it was not made longer");
        fs::remove_file(&part).unwrap();
        told();
        assert!(!part.exists());
        fs::remove_file(state::path_of(&out)).unwrap();
        begin(&out, format, 6).finish().unwrap();
        let seqs = rows_of_begun(&out, format);
        assert_eq!(seqs, [1, 2, 3, 4, 5, 6], "{format:?}");
    }
}

#[test]
fn damage_of_earlier_runs_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    for format in FORMATS {
        let out = dir.path().join(format!("{format:?}"));
        let mut file = begin(&out, format, 1);
        file.lose(7);
        drop(file);
        // It was not noted: it is met again.
        let mut file = begin(&out, format, 1);
        assert_eq!(file.lost(), 0, "{format:?}");
        file.lose(7);
        push(&mut file, 2..=6);
        // Behind the last checkpoint.
        file.lose(1);
        drop(file);
        let file = begin(&out, format, 6);
        assert_eq!(file.lost(), 7, "{format:?}");
        file.finish().unwrap();
    }
}

#[test]
fn stopped_while_it_is_completed_it_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    // One part and several, with and without frames behind the last checkpoint.
    for (format, frames) in FORMATS.into_iter().flat_map(|format| [2, 3, 6, 7].map(|frames| (format, frames)))
    {
        let what = format!("{format:?} of {frames}");
        let out = dir.path().join(&what);
        let whole: Vec<u64> = (1..=frames).collect();
        // Before it has its name.
        let file = begin(&out, format, frames);
        fs::create_dir(&out).unwrap();
        file.finish().unwrap_err();
        fs::remove_dir(&out).unwrap();
        begin(&out, format, frames).finish().unwrap();
        assert_eq!(rows_of_begun(&out, format), whole, "{what}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "{what}: nothing else is left");
        fs::remove_file(&out).unwrap();
        // Behind that, before the state is gone.
        let file = begin(&out, format, frames);
        let state = state::path_of(&out);
        fs::remove_file(&state).unwrap();
        fs::create_dir(&state).unwrap();
        file.finish().unwrap_err();
        assert_eq!(rows_of_begun(&out, format), whole, "{what}");
        fs::remove_dir(&state).unwrap();
        let error = ExportFile::open(&out, format, "all").err().unwrap();
        assert!(matches!(error, ExportError::Exists(_)), "{what}: {error}");
        fs::remove_file(&out).unwrap();
        begin(&out, format, frames).finish().unwrap();
        assert_eq!(rows_of_begun(&out, format), whole, "{what}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "{what}: nothing else is left");
        fs::remove_file(&out).unwrap();
    }
}

/// The numbers of a file that [`begin`] began.
fn rows_of_begun(out: &Path, format: ExportFormat) -> Vec<u64> {
    if format == ExportFormat::NdJson {
        let number = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["seq"].as_u64();
        let text = fs::read_to_string(out).unwrap();
        return text.lines().map(|line| number(line).unwrap()).collect();
    }
    rows(out, format).into_iter().map(|(_, _, seq, _)| seq).collect()
}
