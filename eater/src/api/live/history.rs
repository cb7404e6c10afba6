//! A device's stream while it reads history: up to where the journals are followed.
//!
//! One that begins reads all that is behind its place. One that comes back, because it was cut in history or the journals do
//! not have any more what comes next, also looks for what was committed since of epochs before the one where it is.

use trough_protocol::{DeviceId, Epoch, Seq};

use super::body::End;
use super::follow::{Stream, Tries};
use super::given::{Given, Part};
use crate::api::fault::ReadFault;
use crate::api::run::RunReader;
use crate::frames::Chunks;
use crate::journal::run::Kind;
use crate::journal::{Chunk, Order, ReadError, ScanRange};
use crate::live::Done;

/// About how many bytes are read at a time.
const READ_BYTES: usize = 256 * 1024;

impl Stream {
    /// Reads all that is durable and was not given. The vector where it goes on was taken before: what is committed
    /// meanwhile comes in both, and is told by its numbers.
    pub async fn history(&mut self) -> Result<(), End> {
        let Some(device) = self.scope.device().cloned() else {
            self.in_history = false;
            return Ok(());
        };
        // As many at a time as other streams. One that comes back to history has no place yet.
        let _permit = match self.reading.take() {
            Some(permit) => permit,
            None => self.api.streams.permit().map_err(|_| End::Unavailable)?,
        };
        let mut parts = self.given.parts();
        let last = parts.pop();
        if self.ahead.is_some() {
            for part in parts {
                self.read_part(&device, part).await?;
            }
        }
        if let Some(ahead) = self.ahead.take() {
            self.vector = ahead;
        }
        if let Some(part) = last {
            self.read_part(&device, part).await?;
        }
        self.in_history = false;
        self.send_or_beat().await
    }

    async fn read_part(&mut self, device: &DeviceId, part: Part) -> Result<(), End> {
        // Nothing tells up to where epochs were given that are not remembered, but what was done when they were: a frame
        // that is stored elsewhere came later.
        let done = match part.is_forgotten {
            true => Some(self.done().await?),
            false => None,
        };
        let is_wanted = |chunk: &Chunk| done.as_ref().is_none_or(|done| !done.has(chunk));
        let ts = (self.filter.ts != (0..=u64::MAX)).then(|| self.filter.ts.clone());
        let range = ScanRange { after: part.after, ts, order: Order::Asc };
        let journal = self.api.journal.clone();
        let begin = {
            let device = device.clone();
            move || journal.scan(&device, range)
        };
        let mut scan = on_thread(begin).await?;
        let mut runs = RunReader::default();
        let mut forgotten = Given::default();
        let is_behind = |epoch: Epoch| part.before.is_some_and(|before| epoch >= before);
        loop {
            let read = on_thread(move || read_some(scan, part.before)).await?;
            for chunk in &read.chunks {
                if part.is_forgotten {
                    forgotten.pass(chunk.epoch, chunk.last());
                }
                if is_wanted(chunk) {
                    self.show_chunk(chunk, &mut runs).await?;
                }
            }
            match read.failed {
                None if read.ended => break,
                None => {}
                Some(error) => match error.lost() {
                    Some((epoch, ..)) if is_behind(epoch) => break,
                    Some((epoch, first, last)) => {
                        let id = self.passed(epoch, last);
                        // Which file and where is for the log.
                        tracing::error!(%device, %error, "frames cannot be read");
                        let (numbers, what) = ((epoch, first, last), (Kind::Damaged, 0));
                        self.writer.events.gap(&id, device, numbers, what);
                    }
                    None => {
                        ReadFault::from(error).log(device);
                        return Err(End::Unavailable);
                    }
                },
            }
            self.send_or_beat().await?;
            scan = read.scan;
        }
        if part.is_forgotten {
            self.given.recall(forgotten);
        }
        Ok(())
    }

    /// What is done of what history has.
    async fn done(&self) -> Result<Done, End> {
        let source = self.live.source().clone();
        let mut tries = Tries::default();
        loop {
            match source.done(self.vector.clone()).await {
                Ok(done) => return Ok(done),
                Err(error) => tries.failed(error).await?,
            }
        }
    }

    async fn show_chunk(&mut self, chunk: &Chunk, runs: &mut RunReader) -> Result<(), End> {
        let Some(device) = self.scope.device().cloned() else { return Ok(()) };
        self.writer.events.begin_run(chunk.epoch, chunk.received_at);
        let shown = runs.for_each(chunk, Order::Asc, |seq, frame| {
            if self.filter.wants(frame) {
                let id = self.passed(chunk.epoch, seq);
                self.writer.events.frame(&id, &device, seq, frame);
                self.api.metrics.frames.inc();
            }
            true
        });
        if let Err(error) = shown {
            let (first, last) = (chunk.first, chunk.last());
            let id = self.passed(chunk.epoch, last);
            tracing::error!(%device, %error, "frames cannot be read");
            let (numbers, what) = ((chunk.epoch, first, last), (Kind::Damaged, chunk.received_at));
            self.writer.events.gap(&id, &device, numbers, what);
        }
        self.passed(chunk.epoch, chunk.last());
        if self.writer.is_full() { self.send_or_beat().await } else { Ok(()) }
    }

    /// Takes note that a number was given; the id of its event.
    fn passed(&mut self, epoch: Epoch, seq: Seq) -> String {
        self.given.pass(epoch, seq);
        self.id()
    }
}

/// What was read at a time.
struct Read {
    scan: Chunks,
    chunks: Vec<Chunk>,
    /// What came behind them.
    failed: Option<ReadError>,
    ended: bool,
}

fn read_some(mut scan: Chunks, before: Option<Epoch>) -> Read {
    let (mut chunks, mut bytes) = (Vec::new(), 0);
    while bytes < READ_BYTES {
        match scan.next() {
            Some(Ok(chunk)) if before.is_some_and(|before| chunk.epoch >= before) => {
                return Read { scan, chunks, failed: None, ended: true };
            }
            Some(Ok(chunk)) => {
                bytes += chunk.bytes.len();
                chunks.push(chunk);
            }
            Some(Err(error)) => return Read { scan, chunks, failed: Some(error), ended: false },
            None => return Read { scan, chunks, failed: None, ended: true },
        }
    }
    Read { scan, chunks, failed: None, ended: false }
}

async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, End> {
    crate::api::reads::on_thread(work).await.map_err(|_| End::Unavailable)
}
