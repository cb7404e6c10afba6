//! Writing an index.

use std::collections::HashMap;
use std::io::{self, IoSlice};

use trough_protocol::{DeviceId, Epoch, Seq};
use trough_store::SealedFile;

use super::{BLOCK_RECORDS, Entry, HEADER_BYTES, Header, LastAt, encode_record};
use crate::journal::disk::{Disk, DiskFile};
use crate::journal::memory::{DeviceRuns, OpenFile};
use crate::journal::names;
use crate::journal::run::{Key, Run};

/// How much is gathered before it is written, in bytes.
const WRITE_BYTES: usize = 1024 * 1024;
/// A directory block takes no further entry once it has this many bytes.
const DIRECTORY_BLOCK_BYTES: usize = 4096;
/// Runs taken from memory at once.
const PAGE_RUNS: usize = 4096;

/// Writes the index of `file`, which is `sealed_len` bytes long, and makes it durable under its name.
/// `devices` are those of the file, by number, in the order of their ids.
pub(in crate::journal) fn write(
    disk: &dyn Disk,
    file: &OpenFile,
    sealed_len: u64,
    devices: &[(DeviceId, u32)],
    mut channels: HashMap<u32, Vec<LastAt>>,
) -> io::Result<Header> {
    let name = names::index(file.id);
    let temporary = names::temporary(&name);
    if disk.list()?.contains(&temporary) {
        disk.remove(&temporary)?;
    }
    let target = disk.create(&temporary)?;
    let written = (|| {
        let mut out = Output::new(&*target);
        let mut records = Records::default();
        let mut directory = Directory::default();
        for (id, number) in devices {
            let runs = &file.devices[number];
            let first_record = records.count;
            records.put_device(runs, &mut out)?;
            let last = channels.remove(number).unwrap_or_default();
            directory.put(&entry(id, runs, first_record, last));
        }
        records.end_block(&mut out)?;
        let header = directory.finish(&mut out, records.count, header(file, sealed_len, devices.len()))?;
        out.flush()?;
        target.write_at(&mut [IoSlice::new(&header.encode())], 0)?;
        target.sync()?;
        disk.rename(&temporary, &name)?;
        disk.sync_dir()?;
        Ok(header)
    })();
    if written.is_err() {
        // Only to give the space back; what stays is removed when the journal is opened again.
        let _ = disk.remove(&temporary);
    }
    written
}

fn header(file: &OpenFile, sealed_len: u64, devices: usize) -> Header {
    let (min_received, max_received) = file.received.unwrap_or((0, 0));
    let spans = || file.devices.values().filter_map(|runs| runs.ts);
    Header {
        nonce: file.nonce,
        facts: SealedFile {
            file_id: file.id,
            bytes: sealed_len,
            frames: file.frames,
            runs: file.runs,
            min_received,
            max_received,
            min_ts: spans().map(|(low, _)| low).min().unwrap_or(0),
            max_ts: spans().map(|(_, high)| high).max().unwrap_or(0),
        },
        devices: devices as u64,
        records: 0,
        directory: (0, 0),
        fences: (0, 0),
    }
}

fn entry(id: &DeviceId, runs: &DeviceRuns, first_record: u64, channels: Vec<LastAt>) -> Entry {
    let (low, high) = runs.bounds().unwrap_or((Key::MIN, Key::MIN));
    let count = |len: usize| u32::try_from(len).expect("a run has at least a byte of a file below 4 GiB");
    Entry {
        device: id.clone(),
        first_record,
        frame_runs: count(runs.frame_runs()),
        gap_runs: count(runs.gaps.len()),
        span: runs.span,
        fresh: runs.fresh,
        last_received: runs.last_received,
        last_ts: runs.last_ts,
        ts: runs.ts.unwrap_or((0, 0)),
        low: (low.epoch, low.first),
        high: (high.epoch, high.first),
        spans: join(runs.spans.clone()),
        channels,
    }
}

/// Sorts spans and joins those that touch.
fn join(mut spans: Vec<(Epoch, Seq, Seq)>) -> Vec<(Epoch, Seq, Seq)> {
    spans.sort_unstable();
    let mut joined: Vec<(Epoch, Seq, Seq)> = Vec::new();
    for (epoch, first, last) in spans {
        match joined.last_mut() {
            Some(open) if open.0 == epoch && first.0 <= open.2.0 + 1 => open.2 = open.2.max(last),
            _ => joined.push((epoch, first, last)),
        }
    }
    joined
}

struct Output<'a> {
    file: &'a dyn DiskFile,
    at: u64,
    gathered: Vec<u8>,
}

impl<'a> Output<'a> {
    fn new(file: &'a dyn DiskFile) -> Self {
        Self { file, at: HEADER_BYTES as u64, gathered: Vec::with_capacity(WRITE_BYTES) }
    }

    /// Where the next byte comes to stand.
    fn position(&self) -> u64 {
        self.at + self.gathered.len() as u64
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(&mut [IoSlice::new(&self.gathered)], self.at)?;
        self.at += self.gathered.len() as u64;
        self.gathered.clear();
        Ok(())
    }
}

#[derive(Default)]
struct Records {
    count: u64,
    block: Vec<u8>,
}

impl Records {
    fn put_device(&mut self, runs: &DeviceRuns, out: &mut Output<'_>) -> io::Result<()> {
        let mut from = Key::MIN;
        loop {
            let page = runs.rising(from, PAGE_RUNS);
            let Some(last) = page.last() else { break };
            from = last.key().behind();
            for run in &page {
                self.put(run, out)?;
            }
        }
        let mut gaps = runs.gaps.clone();
        gaps.sort_unstable_by_key(Run::key);
        gaps.iter().try_for_each(|run| self.put(run, out))
    }

    fn put(&mut self, run: &Run, out: &mut Output<'_>) -> io::Result<()> {
        encode_record(run, &mut self.block);
        self.count += 1;
        if self.count.is_multiple_of(BLOCK_RECORDS as u64) { self.end_block(out) } else { Ok(()) }
    }

    fn end_block(&mut self, out: &mut Output<'_>) -> io::Result<()> {
        if !self.block.is_empty() {
            out.put(&self.block)?;
            out.put(&crc32c::crc32c(&self.block).to_le_bytes())?;
            self.block.clear();
        }
        Ok(())
    }
}

/// The directory is kept in memory until the records are out: about 150 bytes a device.
#[derive(Default)]
struct Directory {
    blocks: Vec<u8>,
    /// Where each block begins in `blocks`, and its first device.
    starts: Vec<(usize, DeviceId)>,
}

impl Directory {
    fn put(&mut self, entry: &Entry) {
        let full = |(start, _): &(usize, DeviceId)| self.blocks.len() - start >= DIRECTORY_BLOCK_BYTES;
        if self.starts.last().is_none_or(full) {
            self.end_block();
            self.starts.push((self.blocks.len(), entry.device.clone()));
            self.blocks.extend_from_slice(&[0; 8]);
        }
        entry.encode(&mut self.blocks);
    }

    fn end_block(&mut self) {
        if let Some((start, _)) = self.starts.last() {
            let content = &self.blocks[start + 8..];
            let len = u32::try_from(content.len()).expect("below the file's 4 GiB").to_le_bytes();
            let crc = crc32c::crc32c(content).to_le_bytes();
            self.blocks[*start..start + 4].copy_from_slice(&len);
            self.blocks[start + 4..start + 8].copy_from_slice(&crc);
        }
    }

    fn finish(mut self, out: &mut Output<'_>, records: u64, header: Header) -> io::Result<Header> {
        self.end_block();
        let at = out.position();
        let mut fences = vec![0; 4];
        let ends = self.starts.iter().skip(1).map(|(start, _)| *start).chain([self.blocks.len()]);
        for ((start, first), end) in self.starts.iter().zip(ends) {
            fences.extend_from_slice(&(at + *start as u64).to_le_bytes());
            let len = u32::try_from(end - start).expect("below the file's 4 GiB");
            fences.extend_from_slice(&len.to_le_bytes());
            fences.push(u8::try_from(first.as_str().len()).expect("a device id has at most 64 bytes"));
            fences.extend_from_slice(first.as_str().as_bytes());
        }
        let crc = crc32c::crc32c(&fences[4..]).to_le_bytes();
        fences[..4].copy_from_slice(&crc);
        out.put(&self.blocks)?;
        let fences_at = out.position();
        out.put(&fences)?;
        Ok(Header {
            records,
            directory: (at, self.blocks.len() as u64),
            fences: (fences_at, fences.len() as u64),
            ..header
        })
    }
}
