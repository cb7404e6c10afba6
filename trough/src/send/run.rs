//! Sending lines until every one is durable.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tokio::sync::{broadcast, watch};
use trough_device::{
    Config, ContentType, Device, Event, Frame, FrameBuf, ResumeState, Status, Tls, WaitError,
};
use trough_protocol::{Channel, Seq};
use trough_runtime::clock::Clock;
use trough_runtime::secret::Secret;
use trough_runtime::shutdown::Shutdown;
use trough_store::TokenKind;
use trough_store::token::PresentedToken;

use super::lines::{Block, read_blocks};
use super::state::SendState;
use crate::error::CliError;
use crate::http;
use crate::output::{counted, grouped, note};
use crate::progress::Progress;

/// How long an interrupted run waits for what it has sent.
const INTERRUPTED_FLUSH: Duration = Duration::from_secs(10);

/// Between attempts to connect: somebody may be waiting.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// What to send and where.
#[derive(Debug)]
pub struct Settings {
    /// The feeder.
    pub url: String,
    /// The device's token.
    pub token: Secret<String>,
    /// The frames' channel.
    pub channel: Channel,
    /// The frames' content type, checked.
    pub content_type: String,
    /// Where the state is kept.
    pub state: Option<PathBuf>,
    /// The authority of the feeder's certificate, in PEM; without it the public ones.
    pub ca: Option<Vec<u8>>,
}

/// Sends standard input.
///
/// # Errors
/// The device is refused, a line is too long, the state cannot be kept, or the run was interrupted.
pub async fn run(settings: Settings) -> Result<(), CliError> {
    http::install_crypto();
    let shutdown = Shutdown::new(INTERRUPTED_FLUSH);
    shutdown.watch_signals().context("cannot watch for signals")?;
    let saved = match &settings.state {
        Some(path) => SendState::open(path)?,
        None => None,
    };
    let mut config = Config::new(&settings.url, settings.token.expose().as_str());
    config.backoff_max = RETRY_MAX;
    config.tls = match &settings.ca {
        Some(pem) => Some(Tls::with_roots_pem(pem).context("--ca cannot be used")?),
        None => None,
    };
    config.resume = saved.as_ref().map(|saved| ResumeState {
        epoch: saved.epoch(),
        // Not what the file knows to be durable: the whole input is here, so if the server was restored from an
        // older copy, it gets again what it has lost.
        acked: Seq::ZERO,
        sent: saved.sent(),
    });
    let device = Arc::new(Device::start(config).context("cannot start sending")?);
    let progress = Arc::new(Progress::new("sending", "lines durable", None));
    let told = tokio::spawn(tell(device.events(), progress.clone()));
    let counted = tokio::spawn(count(device.clone(), progress.clone()));
    let mut sender = Sender { settings, device, saved, first: Seq::FIRST, lines: 0 };
    let sent = sender.send(&shutdown).await;
    let flushed = sender.flush(&sent, &shutdown).await;
    told.abort();
    counted.abort();
    progress.set(sender.device.watch_acks().borrow().frames);
    progress.clear();
    note(sender.finish(sent?, flushed?)?);
    Ok(())
}

/// How sending ended, when nothing failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// All lines were handed to the device.
    Input,
    /// A signal came.
    Interrupted,
}

struct Sender {
    settings: Settings,
    device: Arc<Device>,
    saved: Option<SendState>,
    /// The first line that is not durable already.
    first: Seq,
    /// Lines read so far.
    lines: u64,
}

impl Sender {
    async fn send(&mut self, shutdown: &Shutdown) -> Result<Ended> {
        tokio::select! {
            connected = self.device.connected() => connected?,
            () = shutdown.draining.cancelled() => return Ok(Ended::Interrupted),
        }
        self.begin()?;
        let mut blocks = read_blocks(std::io::stdin()).context("cannot start reading standard input")?;
        let (mut frames, mut status) = (FrameBuf::new(), self.device.watch_status());
        loop {
            let block = tokio::select! {
                block = blocks.recv() => block,
                // A person's next line may be long in coming.
                stopped = stopped(&mut status) => return Err(stopped.into()),
                () = shutdown.draining.cancelled() => return Ok(Ended::Interrupted),
            };
            let Some(block) = block.transpose()? else { return Ok(Ended::Input) };
            self.encode(&block, &mut frames)?;
            if frames.is_empty() {
                continue;
            }
            tokio::select! {
                sent = self.device.send_all(&mut frames) => drop(sent?),
                () = shutdown.draining.cancelled() => return Ok(Ended::Interrupted),
            }
        }
    }

    /// Learns what is durable already, and begins the state file if there is none.
    fn begin(&mut self) -> Result<()> {
        self.first = self.device.acked().next();
        let id = PresentedToken::parse(TokenKind::Device, self.settings.token.expose())
            .map_or_else(String::new, |token| token.id.to_string());
        match (&mut self.saved, &self.settings.state) {
            (Some(saved), _) => {
                check_epoch(saved, &self.device)?;
                if saved.token() != id {
                    note(
                        "note: the state file was begun with another token; if that is not an older one of the \
                         same device, stop and use a file of its own",
                    );
                }
                if self.device.acked() < saved.acked() {
                    note(format_args!(
                        "note: {} were durable, and the server has {}; it was restored from an older copy, or is \
                         another one; it gets the rest again",
                        counted(saved.acked().0, "line"),
                        grouped(self.device.acked().0)
                    ));
                }
                saved.acknowledge(self.device.acked());
            }
            (None, Some(path)) => self.saved = Some(SendState::create(path, self.device.epoch(), &id)?),
            (None, None) => {}
        }
        Ok(())
    }

    /// Makes frames of the lines that are not durable, and reserves the numbers of those that are new.
    fn encode(&mut self, block: &Block, frames: &mut FrameBuf) -> Result<()> {
        let clock = Clock::system();
        let now = clock.now();
        let last = Seq(self.lines + block.len() as u64);
        if let Some(saved) = &mut self.saved {
            check_epoch(saved, &self.device)?;
            saved.acknowledge(self.device.acked());
            if last > saved.sent() {
                tokio::task::block_in_place(|| saved.reserve(last, now))?;
            }
        }
        let content_type = ContentType::parse(&self.settings.content_type)?;
        for line in block.lines() {
            self.lines += 1;
            let seq = Seq(self.lines);
            let ts = self.saved.as_ref().and_then(|saved| saved.ts(seq)).unwrap_or(now);
            let channel = self.settings.channel.as_str();
            let frame = Frame { ts, channel, content_type, payload: line };
            frames.push(&frame).with_context(|| format!("line {seq} cannot be sent"))?;
        }
        Ok(())
    }

    /// Waits until what was sent is durable, if nothing else is said, and keeps the state.
    async fn flush(&mut self, sent: &Result<Ended>, shutdown: &Shutdown) -> Result<Ended> {
        let mut flushed = Ok(Ended::Interrupted);
        if let Ok(Ended::Input) = sent {
            tokio::select! {
                closed = self.device.close() => flushed = closed.map(|_| Ended::Input),
                () = shutdown.draining.cancelled() => {}
            }
        }
        if let Ok(Ended::Interrupted) = flushed {
            tokio::select! {
                // What is not durable in time is sent again by the next run.
                _ = tokio::time::timeout(INTERRUPTED_FLUSH, self.device.flush()) => {}
                () = shutdown.killed.cancelled() => {}
            }
        }
        if let Some(mut saved) = self.saved.take()
            && saved.epoch() == self.device.epoch()
        {
            saved.acknowledge(self.device.acked());
            saved.finish()?;
        }
        Ok(flushed?)
    }

    /// What is said in the end.
    fn finish(self, sent: Ended, flushed: Ended) -> Result<String> {
        let earlier = self.first.0 - 1;
        if (sent, flushed) != (Ended::Input, Ended::Input) {
            let again = match self.settings.state {
                Some(_) => "run it again with the same input to go on",
                None => "those behind may or may not have arrived",
            };
            bail!("interrupted with {} durable; {again}", counted(self.device.acked().0, "line"));
        }
        if self.lines < earlier {
            bail!(
                "the input has {}, and {} were sent before: is it the same input?",
                counted(self.lines, "line"),
                grouped(earlier)
            );
        }
        Ok(match earlier {
            0 => format!("{}, all durable", counted(self.lines, "line")),
            _ => {
                let now = grouped(self.lines - earlier);
                format!(
                    "{}, all durable: {now} now, {} before",
                    counted(self.lines, "line"),
                    grouped(earlier)
                )
            }
        })
    }
}

/// Returns when the feeder has refused the device for good. Cancel-safe: it only looks.
async fn stopped(status: &mut watch::Receiver<Status>) -> WaitError {
    match status.wait_for(|status| matches!(status, Status::Stopped(_))).await.as_deref() {
        Ok(Status::Stopped(stopped)) => stopped.clone().into(),
        _ => WaitError::Ended,
    }
}

/// A new epoch means that line N is not frame N any more.
fn check_epoch(saved: &SendState, device: &Device) -> Result<()> {
    let (old, new) = (saved.epoch(), device.epoch());
    if old == new {
        return Ok(());
    }
    Err(anyhow!(
        "the device has begun epoch {new}, and the state file counts in epoch {old}: somebody else sends as this \
         device, or the file belongs to another one; to send every line again, as new frames, remove the file"
    ))
}

/// Tells the user what happens to the connection, each thing once.
async fn tell(mut events: broadcast::Receiver<Event>, progress: Arc<Progress>) {
    let mut told = None;
    loop {
        match events.recv().await {
            Ok(Event::Disconnected { reason, retry_in: Some(_), .. }) => {
                if told.as_ref() != Some(&reason) {
                    progress.note(&format!("not connected ({reason}); trying until it is"));
                    told = Some(reason);
                }
            }
            Ok(Event::Connected { .. }) if told.take().is_some() => progress.note("connected"),
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

async fn count(device: Arc<Device>, progress: Arc<Progress>) {
    let mut acks = device.watch_acks();
    loop {
        progress.set(acks.borrow_and_update().frames);
        if acks.changed().await.is_err() {
            return;
        }
    }
}
