//! The rows of a downsampled answer: of one device after another, pass by pass over its frames.
//!
//! A pass finds the first buckets of a device, as many as there is room for, whatever order its frames are in. What was left
//! out is the next page's, or of a stream another pass's, which reads only what may belong there.

use tokio::time::Instant;
use trough_protocol::{DeviceId, Epoch, Micros, Seq};

use super::buckets::Buckets;
use super::downsample::Downsample;
use super::encode::RowWriter;
use super::fault::ReadFault;
use super::frames_query::{FramesQuery, Place};
use super::page::FaultOf;
use super::params::BadParameter;
use super::roster::Roster;
use super::run::RunReader;
use super::stream::{Ended, StreamWriter};
use crate::frames::Frames;
use crate::journal::{Order, ScanRange};

/// Buckets that one pass of a stream has room for.
const STREAM_BUCKETS: usize = 20_000;
/// JSON texts that one pass has room for, in bytes.
const TEXT_BYTES: usize = 4 * 1024 * 1024;

/// Where rows come from.
pub(super) struct Source<'q> {
    journal: &'q dyn Frames,
    query: &'q FramesQuery,
    downsample: &'q Downsample,
    /// A stream may pass over a device's frames so often.
    passes_max: usize,
    runs: RunReader,
}

/// How much one page may cost.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowBounds {
    /// Rows.
    pub rows: usize,
    /// A page that has become this large ends early, in bytes.
    pub page_bytes: usize,
    /// A page that is done with any device by then ends early.
    pub deadline: Instant,
}

/// A page of rows, and where it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RowPage {
    /// Behind which bucket, or behind which device, the next page goes on.
    pub end: Option<Place>,
    /// Whether more follow; also `true` if this was not found out.
    pub more: bool,
}

impl<'q> Source<'q> {
    pub(super) fn new(
        journal: &'q dyn Frames,
        query: &'q FramesQuery,
        downsample: &'q Downsample,
        passes_max: usize,
    ) -> Self {
        Self { journal, query, downsample, passes_max, runs: RunReader::default() }
    }

    /// The earliest time stamp that is asked for of a device; `None` if there can be none.
    fn from(&self, device: &DeviceId) -> Option<Micros> {
        let start = *self.query.ts.as_ref()?.start();
        match self.query.after.as_ref().filter(|after| after.device == *device) {
            None => Some(start),
            // The bucket's end may lie before the range, if somebody made the cursor up.
            Some(after) => {
                self.downsample.next(self.downsample.bucket(after.seq.0)).map(|next| next.max(start))
            }
        }
    }

    /// Fills `buckets` with what has a time stamp from `from` on. Whether it came to the end: it goes on while `goes_on`
    /// says so, which is asked after each chunk.
    fn pass(
        &mut self,
        device: &DeviceId,
        from: Micros,
        buckets: &mut Buckets<'_>,
        goes_on: impl Fn() -> bool,
    ) -> Result<bool, ReadFault> {
        let Some(end) = self.query.ts.as_ref().map(|ts| *ts.end()).filter(|end| *end >= from) else {
            return Ok(true);
        };
        let all = (from, end) == (0, Micros::MAX);
        let range = ScanRange { after: None, ts: (!all).then_some(from..=end), order: Order::Asc };
        for chunk in self.journal.scan(device, range) {
            self.runs.for_each(&chunk?, Order::Asc, |_, frame| {
                if frame.ts >= from && self.query.wants(frame) {
                    buckets.add(frame);
                }
                true
            })?;
            if !goes_on() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes a page.
    ///
    /// # Errors
    /// A fault; [`ReadFault::Deadline`] if not even one device is done by then: part of a bucket is none.
    pub(super) fn page(
        &mut self,
        roster: &mut Roster,
        writer: &mut RowWriter,
        bounds: RowBounds,
    ) -> Result<RowPage, FaultOf> {
        let (mut rows, mut end, mut more) = (0, None, false);
        if self.query.ts.is_none() {
            return Ok(RowPage { end, more });
        }
        while let Some(device) = roster.next().map_err(|refusal| (ReadFault::Refused(refusal), None))? {
            if rows >= bounds.rows || writer.len() >= bounds.page_bytes {
                more = true;
                break;
            }
            let Some(from) = self.from(&device) else { continue };
            let mut buckets = Buckets::new(self.downsample, bounds.rows - rows, TEXT_BYTES);
            let in_time = || Instant::now() < bounds.deadline;
            let whole = if in_time() { self.pass(&device, from, &mut buckets, in_time) } else { Ok(false) };
            match whole {
                Ok(true) => {}
                // The devices before are good. The next page begins with this one.
                _ if end.is_some() => {
                    more = true;
                    break;
                }
                Ok(false) => return Err((ReadFault::Deadline, Some(device))),
                Err(fault) => return Err((fault, Some(device))),
            }
            let mut last = None;
            for row in buckets.rows(&device) {
                writer.push(&row);
                (rows, last) = (rows + 1, Some(row.ts));
            }
            more = buckets.left_out().is_some();
            end = Some(match last.filter(|_| more) {
                Some(ts) => Place { device, epoch: Epoch::NONE, seq: Seq(ts) },
                None => Place::behind_all(device, Order::Asc),
            });
            if more {
                break;
            }
        }
        Ok(RowPage { end, more })
    }

    /// Sends all there are. Blocks while the client is slower than the journal.
    ///
    /// # Errors
    /// The first fault; the body breaks off then.
    pub(super) fn stream(
        &mut self,
        roster: &mut Roster,
        mut writer: RowWriter,
        out: &StreamWriter,
    ) -> Result<Ended, FaultOf> {
        let sent = self.send_all(roster, &mut writer, out);
        match sent {
            Ok(true) => {
                writer.finish();
                Ok(out.end(writer.take()))
            }
            Ok(false) => Ok(Ended::ClientGone),
            Err((fault, device)) => {
                out.fail(fault.refusal_of(self.query, device.as_ref()));
                Err((fault, device))
            }
        }
    }

    /// Whether anybody is still there.
    fn send_all(
        &mut self,
        roster: &mut Roster,
        writer: &mut RowWriter,
        out: &StreamWriter,
    ) -> Result<bool, FaultOf> {
        if self.query.ts.is_none() {
            return Ok(true);
        }
        while let Some(device) = roster.next().map_err(|refusal| (ReadFault::Refused(refusal), None))? {
            // Also noticed where nothing is sent.
            if !out.is_wanted() {
                return Ok(false);
            }
            let (mut next, mut passes) = (self.from(&device), 0);
            while let Some(from) = next {
                if passes == self.passes_max {
                    return Err((self.too_many(&device), Some(device)));
                }
                passes += 1;
                let mut buckets = Buckets::new(self.downsample, STREAM_BUCKETS, TEXT_BYTES);
                let whole = self.pass(&device, from, &mut buckets, || out.is_wanted());
                if !whole.map_err(|fault| (fault, Some(device.clone())))? {
                    return Ok(false);
                }
                for row in buckets.rows(&device) {
                    writer.push(&row);
                    if writer.ready() >= out.chunk_bytes() && !out.send(writer.take()) {
                        return Ok(false);
                    }
                }
                next = buckets.left_out();
            }
        }
        Ok(true)
    }

    /// A device has more buckets than a stream may have.
    fn too_many(&self, device: &DeviceId) -> ReadFault {
        let what = format!("device {device} has more buckets than {} passes find", self.passes_max);
        tracing::warn!(%device, every_us = self.downsample.every, "{what}: the stream is broken off");
        let remedy = "a larger every, or a shorter time with from and to";
        ReadFault::Refused(BadParameter::TooMuch { what, remedy }.into())
    }
}
