//! The threads that carry the sessions.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures_util::future::{join_all, try_join_all};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use hdrhistogram::Histogram;
use tokio::sync::{broadcast, oneshot, watch};
use tokio::task::LocalSet;
use tokio::time::timeout;
use trough_device::{Config, Device, Event, Status};
use trough_protocol::frame::OVERHEAD_BYTES_MAX;
use trough_runtime::clock::Clock;

use super::closed::{self, Window};
use super::ledger::{Recorder, Schedule, histogram};
use super::open::{self, Lane, Rate};
use super::{Credentials, Load, Pace, Target};
use crate::payload::Payloads;

/// The channel of all frames.
pub const CHANNEL: &str = "bench";
/// Connections of one thread that come about at a time.
const CONNECTING: usize = 64;
/// How long one may take, refusals and retries included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the last acks may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the closing handshakes may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// From the word to go until the first frame, so that all threads are ready.
const LEAD: Duration = Duration::from_millis(50);

/// What a run, or one thread of it, has brought.
#[derive(Debug)]
pub struct Outcome {
    /// From a frame's beginning to its ack, of the frames that count.
    pub ack_ns: Histogram<u64>,
    /// How late frames of an open loop began.
    pub late_ns: Histogram<u64>,
    /// Every device, and how many frames of it were acknowledged, warm-up included.
    pub acked: Vec<(String, u64)>,
    /// Sessions that were lost and made anew.
    pub reconnects: u64,
}

/// Connected sessions, ready to go.
#[derive(Debug)]
pub struct Crew {
    members: Vec<Member>,
    acked: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Member {
    go: oneshot::Sender<Schedule>,
    outcome: oneshot::Receiver<Result<Outcome>>,
}

impl Crew {
    /// Connects all sessions. Dropping the crew ends them.
    ///
    /// # Errors
    /// A session cannot be had.
    pub async fn connect(target: &Target, load: &Load) -> Result<Self> {
        let acked = Arc::new(AtomicU64::new(0));
        let payloads = Arc::new(Payloads::new(load.payload, load.payload_bytes));
        let share = target.devices.len().div_ceil(load.threads.max(1)).max(1);
        let (mut members, mut connecting) = (Vec::new(), Vec::new());
        for (index, devices) in target.devices.chunks(share).enumerate() {
            let (go, start) = oneshot::channel();
            let (connected, ready) = oneshot::channel();
            let (send_outcome, outcome) = oneshot::channel();
            let work = Work {
                url: target.url.clone(),
                devices: devices.to_vec(),
                load: load.clone(),
                part: devices.len() as f64 / target.devices.len() as f64,
                seed: index as u64,
                payloads: payloads.clone(),
                acked: acked.clone(),
            };
            std::thread::Builder::new().name(format!("bench-{index}")).spawn(move || {
                // The receiver is gone if nobody wants to know any more.
                let _ = send_outcome.send(work.run(connected, start));
            })?;
            members.push(Member { go, outcome });
            connecting.push(ready);
        }
        for ready in connecting {
            ready.await.context("a thread of the load generator has ended")??;
        }
        Ok(Self { members, acked })
    }

    /// Acknowledged frames so far.
    pub fn acked(&self) -> Arc<AtomicU64> {
        self.acked.clone()
    }

    /// Ends the sessions without traffic, and says how many of them had been lost meanwhile.
    ///
    /// # Errors
    /// A thread has ended before.
    pub async fn end(self, load: &Load) -> Result<u64> {
        let (_, outcome) = self.go(load);
        Ok(outcome.await?.reconnects)
    }

    /// Starts the traffic; says when its parts begin, and what brings its outcome.
    pub fn go(self, load: &Load) -> (Schedule, impl Future<Output = Result<Outcome>>) {
        let start = Instant::now() + LEAD;
        let from = start + load.warmup;
        let schedule = Schedule { start, from, to: from + load.duration };
        let mut outcomes = Vec::new();
        for member in self.members {
            // A thread that has ended says why in its outcome.
            let _ = member.go.send(schedule);
            outcomes.push(member.outcome);
        }
        (schedule, gather(outcomes))
    }
}

async fn gather(outcomes: Vec<oneshot::Receiver<Result<Outcome>>>) -> Result<Outcome> {
    let (ack_ns, late_ns) = (histogram(), histogram());
    let mut all = Outcome { ack_ns, late_ns, acked: Vec::new(), reconnects: 0 };
    for outcome in outcomes {
        let one = outcome.await.context("a thread of the load generator has panicked")??;
        all.ack_ns.add(&one.ack_ns).context("all histograms have the same bounds")?;
        all.late_ns.add(&one.late_ns).context("all histograms have the same bounds")?;
        all.acked.extend(one.acked);
        all.reconnects += one.reconnects;
    }
    Ok(all)
}

/// A device in its first session.
struct Connected {
    device: Rc<Device>,
    /// Changes when that session is lost.
    status: watch::Receiver<Status>,
}

/// The part of one thread.
struct Work {
    url: String,
    devices: Vec<Credentials>,
    load: Load,
    /// Of the whole rate.
    part: f64,
    seed: u64,
    payloads: Arc<Payloads>,
    acked: Arc<AtomicU64>,
}

impl Work {
    fn run(
        self,
        connected: oneshot::Sender<Result<()>>,
        start: oneshot::Receiver<Schedule>,
    ) -> Result<Outcome> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, async {
            let connections = match self.connect().await {
                Ok(connections) => connections,
                Err(error) => {
                    let _ = connected.send(Err(error));
                    bail!("not connected");
                }
            };
            // If nobody waits any more, the word to go will not come either.
            let _ = connected.send(Ok(()));
            let schedule = start.await.context("the run was given up before it began")?;
            self.carry(connections, schedule).await
        })
    }

    async fn connect(&self) -> Result<Vec<Connected>> {
        stream::iter(&self.devices)
            .map(|credentials| async {
                let device = Device::start(self.config(credentials))?;
                match timeout(CONNECT_TIMEOUT, device.connected()).await {
                    Ok(result) => result.with_context(|| format!("{} was refused", credentials.device))?,
                    Err(_) => bail!("{} got no session within {CONNECT_TIMEOUT:?}", credentials.device),
                }
                let mut status = device.watch_status();
                status.mark_unchanged();
                Ok(Connected { device: Rc::new(device), status })
            })
            .buffered(CONNECTING)
            .try_collect()
            .await
    }

    fn config(&self, credentials: &Credentials) -> Config {
        let frame_bytes = self.load.payload_bytes + OVERHEAD_BYTES_MAX;
        let mut config = Config::new(self.url.as_str(), credentials.token.as_str());
        config.frames_per_message = self.load.frames_per_message;
        config.message_bytes = self.load.frames_per_message as usize * frame_bytes + 64;
        if let Pace::Closed { window, .. } = self.load.pace {
            config.buffer_bytes = config.buffer_bytes.max(window as usize * frame_bytes);
        }
        config
    }

    async fn carry(&self, connections: Vec<Connected>, schedule: Schedule) -> Result<Outcome> {
        let lost = |connected: &&Connected| connected.status.has_changed().unwrap_or(true);
        let lost_before = connections.iter().filter(lost).count() as u64;
        let devices: Vec<_> = connections.into_iter().map(|connected| connected.device).collect();
        let mut events: Vec<_> = devices.iter().map(|device| device.events()).collect();
        let recorder = Rc::new(Recorder::new(schedule, self.acked.clone()));
        tokio::time::sleep_until(schedule.start.into()).await;
        let until = (schedule.to + DRAIN_TIMEOUT).into();
        let Ok(late_ns) = tokio::time::timeout_at(until, self.traffic(&devices, &recorder)).await else {
            bail!("{}", stuck(&devices, self.acked.load(Ordering::Relaxed)));
        };
        let reconnects = lost_before + events.iter_mut().map(disconnects).sum::<u64>();
        // Orderly, so that a server's last figures are not those of broken connections.
        let _ = timeout(CLOSE_TIMEOUT, join_all(devices.iter().map(|device| device.close()))).await;
        let acked = |(device, credentials): (&Rc<Device>, &Credentials)| {
            (credentials.device.clone(), device.watch_acks().borrow().frames)
        };
        Ok(Outcome {
            ack_ns: recorder.take(),
            late_ns: late_ns?,
            acked: devices.iter().zip(&self.devices).map(acked).collect(),
            reconnects,
        })
    }

    async fn traffic(&self, devices: &[Rc<Device>], recorder: &Rc<Recorder>) -> Result<Histogram<u64>> {
        let clock = Clock::system();
        match self.load.pace {
            Pace::Closed { window, frames } => {
                let window = Window {
                    frames: window,
                    together: self.load.frames_per_message.into(),
                    total_max: frames.unwrap_or(u64::MAX),
                };
                let sessions = devices.iter().map(|device| {
                    let (device, recorder) = (device.clone(), recorder.clone());
                    let (payloads, clock) = (self.payloads.clone(), clock.clone());
                    let session =
                        async move { closed::run(&device, window, &payloads, &clock, &recorder).await };
                    tokio::task::spawn_local(session)
                });
                for result in try_join_all(sessions.collect::<Vec<_>>()).await? {
                    result?;
                }
                Ok(histogram())
            }
            Pace::Open { rate, arrivals } => {
                let lanes: Vec<_> = devices.iter().map(|device| Lane::new(device.clone())).collect();
                for lane in &lanes {
                    tokio::task::spawn_local(open::follow(lane.clone(), recorder.clone()));
                }
                let rate = Rate { per_second: rate * self.part, arrivals, seed: self.seed };
                open::run(&lanes, rate, &self.payloads, &clock, recorder).await
            }
        }
    }
}

fn disconnects(events: &mut broadcast::Receiver<Event>) -> u64 {
    let mut count = 0;
    loop {
        match events.try_recv() {
            Ok(Event::Disconnected { .. }) => count += 1,
            Ok(_) => {}
            // At least one of those that were missed was an end.
            Err(broadcast::error::TryRecvError::Lagged(_)) => count += 1,
            Err(_) => return count,
        }
    }
}

fn stuck(devices: &[Rc<Device>], acked: u64) -> String {
    let refused = devices.iter().find_map(|device| match &*device.watch_status().borrow() {
        Status::Stopped(stopped) => Some(format!("; one device was {stopped}")),
        _ => None,
    });
    let waiting: usize = devices.iter().map(|device| device.buffered_bytes()).sum();
    format!(
        "{waiting} bytes of frames are still not acknowledged {DRAIN_TIMEOUT:?} after the last one was sent \
         ({acked} frames are): the server does not keep up, or stands still{}",
        refused.unwrap_or_default()
    )
}
