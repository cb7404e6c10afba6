//! Reading history: for rules that are new, and for what was compacted before it was looked at.

use trough_protocol::{DeviceId, Epoch, Micros, Seq};
use trough_store::DeviceFilter;
use trough_store::event::FrameNumber;
use trough_store::outbox::Shard;

use super::compiled::{CompiledRule, Concerned};
use super::follow::Frames;
use super::frame::Loss;
use super::retry::{Stop, again};
use super::shard::ShardWatch;
use crate::frames::{AnyJournal, Chunks};
use crate::journal::{Chunk, Gap, GapKind, Order, ReadError, ScanRange};

/// Devices that are asked about at a time.
const DEVICES: usize = 1_000;
/// Declared losses that are read at a time.
const GAPS: usize = 1_000;
/// About how many bytes of frames are read at a time.
const READ_BYTES: usize = 1024 * 1024;

/// A place in a device's numbers.
type Place = Option<(Epoch, Seq)>;

impl ShardWatch {
    /// Has rules that were set at `rules_since` or later look at everything that was received at `received_since` or
    /// later. What they have looked at already they pass over.
    pub async fn catch_up(&mut self, rules_since: Micros, received_since: Micros) -> Result<(), Stop> {
        let named = match received_since {
            Micros::MAX => return Ok(()),
            _ => self.chooser.rules.named_since(rules_since),
        };
        let shard = self.claim.shard;
        let is_mine = |device: &DeviceId| Shard::of(shard.duty, device.as_str()) == shard;
        if let Some(named) = named {
            let mine: Vec<DeviceId> = named.into_iter().filter(is_mine).collect();
            for some in mine.chunks(DEVICES) {
                self.catch_up_with(some, rules_since, received_since).await?;
            }
            return Ok(());
        }
        let shared = self.shared.clone();
        let mut filter = DeviceFilter { limit: DEVICES, ..DeviceFilter::default() };
        loop {
            let list = || shared.parts.registry.list_devices(filter.clone());
            let page = again!(self.retry, "the registry does not say which devices there are", list());
            let Some(last) = page.last() else { return Ok(()) };
            filter.after = Some(last.id.clone());
            let mine: Vec<DeviceId> = page.into_iter().map(|record| record.id).filter(is_mine).collect();
            self.catch_up_with(&mine, rules_since, received_since).await?;
        }
    }

    async fn catch_up_with(
        &mut self,
        devices: &[DeviceId],
        rules_since: Micros,
        received_since: Micros,
    ) -> Result<(), Stop> {
        let (chooser, journal) = (self.chooser.clone(), self.shared.parts.journal.clone());
        let mut wanted: Vec<(DeviceId, Concerned)> = Vec::new();
        for device in devices {
            let concerned =
                again!(self.retry, "whom rules concern cannot be told", chooser.concerned(device));
            let is_new = |concerned: &Concerned| {
                chooser.rules.of(device, concerned).any(|rule| rule.set_at >= rules_since)
            };
            wanted.extend(concerned.filter(is_new).map(|concerned| (device.clone(), concerned)));
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let names: Vec<DeviceId> = wanted.iter().map(|(device, _)| device.clone()).collect();
        let states = again!(self.retry, "history cannot be read", {
            let (journal, names) = (journal.clone(), names.clone());
            blocking(move || journal.device_states(&names))
        });
        for ((device, concerned), state) in wanted.iter().zip(states) {
            if self.retry.stop.is_cancelled() {
                return Err(Stop::Ended);
            }
            if state.is_some_and(|state| state.last_received >= received_since) {
                self.read(device, concerned, rules_since, received_since).await?;
            }
        }
        Ok(())
    }

    /// Reads a device's history.
    async fn read(
        &mut self,
        device: &DeviceId,
        concerned: &Concerned,
        rules_since: Micros,
        received_since: Micros,
    ) -> Result<(), Stop> {
        let journal = self.shared.parts.journal.clone();
        let mut done: Place = again!(self.retry, "history cannot be read", {
            let (journal, device) = (journal.clone(), device.clone());
            blocking(move || before(&journal, &device, received_since))
        });
        let wants_losses = self.chooser.rules.of(device, concerned).any(CompiledRule::wants_losses);
        let mut chunks: Option<Chunks> = None;
        loop {
            let (journal, of) = (journal.clone(), device.clone());
            let reading = chunks.take();
            let read = blocking(move || {
                let range = ScanRange { after: done, ..ScanRange::default() };
                let mut chunks = reading.unwrap_or_else(|| journal.scan(&of, range));
                let lot = lot(&mut chunks)?;
                // Asked for behind the frames: what comes before these is there by now.
                let gaps = if wants_losses { journal.gaps(&of, done, GAPS)? } else { Vec::new() };
                Ok((chunks, lot, gaps))
            });
            let (reading, lot, gaps) = match read.await {
                Ok(read) => read,
                Err(error) => {
                    self.retry.failed("history cannot be read", &error).await?;
                    continue;
                }
            };
            let is_full = gaps.len() >= GAPS;
            // Of more losses than were read, the next ones may stand among the frames.
            let end = gaps.last().filter(|_| is_full).map(|gap| (gap.epoch, gap.last));
            let mut gaps =
                gaps.into_iter().filter(|gap| matches!(gap.kind, GapKind::Skipped { .. })).peekable();
            let mut cut = false;
            for chunk in &lot {
                while let Some(gap) = gaps.next_if(|gap| (gap.epoch, gap.first) < (chunk.epoch, chunk.first))
                {
                    self.take_gap(device, concerned, &gap, rules_since).await?;
                    done = done.max(Some((gap.epoch, gap.last)));
                }
                if end.is_some_and(|end| (chunk.epoch, chunk.first) > end) {
                    cut = true;
                    break;
                }
                let frames = Frames {
                    device,
                    concerned,
                    epoch: chunk.epoch,
                    first: chunk.first,
                    count: chunk.count,
                    received_at: chunk.received_at,
                    from: chunk.first,
                    rules_since,
                    trace: None,
                };
                self.take_frames(&frames, &chunk.bytes).await?;
                done = done.max(Some((chunk.epoch, chunk.last())));
            }
            if !cut {
                chunks = Some(reading);
            }
            if lot.is_empty() {
                for gap in gaps {
                    self.take_gap(device, concerned, &gap, rules_since).await?;
                }
                done = done.max(end);
                if !is_full {
                    return Ok(());
                }
            }
        }
    }

    async fn take_gap(
        &mut self,
        device: &DeviceId,
        concerned: &Concerned,
        gap: &Gap,
        rules_since: Micros,
    ) -> Result<(), Stop> {
        let GapKind::Skipped { reason } = gap.kind else { return Ok(()) };
        let first = FrameNumber { epoch: gap.epoch, seq: gap.first };
        let loss = Loss { first, last: gap.last, reason, received_at: gap.received_at };
        self.take_loss(device, concerned, &loss, rules_since).await
    }

    /// Whether no frame of a device has a lower number, and none had that was removed.
    pub async fn is_first(&mut self, device: &DeviceId, number: FrameNumber) -> Result<bool, Stop> {
        let journal = self.shared.parts.journal.clone();
        Ok(again!(self.retry, "history cannot be read", {
            let (journal, device) = (journal.clone(), device.clone());
            blocking(move || {
                let after = Some((number.epoch, number.seq));
                let range = ScanRange { after, order: Order::Desc, ts: None };
                match journal.scan(&device, range).next() {
                    Some(Err(error)) if error.lost().is_none() => return Err(error),
                    Some(_) => return Ok(false),
                    None => {}
                }
                let gaps = journal.gaps(&device, None, GAPS)?;
                let expired =
                    |gap: &Gap| gap.kind == GapKind::Expired && Some((gap.epoch, gap.first)) < after;
                Ok(!gaps.iter().any(expired))
            })
        }))
    }
}

/// The last number of a device that was received before.
fn before(journal: &AnyJournal, device: &DeviceId, received_since: Micros) -> Result<Place, ReadError> {
    for chunk in journal.scan(device, ScanRange { order: Order::Desc, ..ScanRange::default() }) {
        match chunk {
            Ok(chunk) if chunk.received_at < received_since => return Ok(Some((chunk.epoch, chunk.last()))),
            Ok(_) => {}
            Err(error) if error.lost().is_some() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The next chunks, as many as are read at a time; what is damaged is passed over.
fn lot(chunks: &mut Chunks) -> Result<Vec<Chunk>, ReadError> {
    let (mut lot, mut bytes) = (Vec::new(), 0);
    for chunk in chunks {
        match chunk {
            Ok(chunk) => {
                bytes += chunk.bytes.len();
                lot.push(chunk);
                if bytes >= READ_BYTES {
                    break;
                }
            }
            Err(error) if error.lost().is_some() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(lot)
}

/// Reads on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, ReadError> + Send + 'static,
) -> Result<T, ReadError> {
    let read = tokio::task::spawn_blocking(read).await;
    read.unwrap_or_else(|error| Err(ReadError::Broken(error.to_string())))
}
