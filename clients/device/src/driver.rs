//! The background task of a device: connects, runs a session, and decides what comes next.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::time::{Instant, timeout};
use trough_protocol::close::{Advice, advice};
use trough_protocol::device::Features;

use crate::backoff::Backoff;
use crate::config::Config;
use crate::connection::Connection;
use crate::dial::Target;
use crate::error::{Fault, Stopped, remedy_for_close, remedy_for_status};
use crate::session::{self, End};
use crate::shared::Shared;
use crate::status::{Event, Status};
use crate::tls::Tls;
use crate::upgrade::{Request, UpgradeError, upgrade};

/// A session that lived so long was a good one, even if it had nothing to acknowledge.
const GOOD_SESSION: Duration = Duration::from_secs(30);
/// A longer delay than this is not believed.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// See the module.
pub(crate) struct Driver {
    pub shared: Arc<Shared>,
    pub config: Config,
    pub target: Target,
    pub tls: Tls,
    pub user_agent: HeaderValue,
}

/// How an attempt ended.
enum Outcome {
    Refused { status: u16, retry_after: Option<Duration>, detail: String },
    Unreachable(String),
    Session(End),
}

/// What comes next.
enum Plan {
    End,
    Retry { code: Option<u16>, reason: String, advice: Advice, delay: Duration },
    Stop(Stopped),
}

/// Tells the waiting callers when the task ends, even by a panic or with its runtime.
struct EndOnDrop(Arc<Shared>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Driver {
    /// Runs until the device is closed. Dropping the future ends the session without a word.
    pub async fn run(self) {
        let _end = EndOnDrop(self.shared.clone());
        let mut rng = match self.config.seed {
            Some(seed) => StdRng::seed_from_u64(seed),
            None => StdRng::from_os_rng(),
        };
        let mut backoff = Backoff::new(self.config.backoff_min, self.config.backoff_max);
        while !self.finished() {
            self.shared.set_status(Status::Connecting);
            let (started, acked) = (Instant::now(), self.shared.lock().outbox.frames_acked());
            let outcome = self.attempt(&mut rng).await;
            let now_acked = self.disconnected();
            let in_session = matches!(outcome, Outcome::Session(_));
            if now_acked > acked || (in_session && started.elapsed() >= GOOD_SESSION) {
                backoff.reset();
            }
            match plan(outcome, &mut backoff, &mut rng) {
                Plan::End => return,
                Plan::Retry { code, reason, advice, delay } => {
                    if advice == Advice::NewEpoch {
                        self.shared.lock().outbox.ask_new_epoch();
                    }
                    tracing::debug!(code, reason, ?delay, "disconnected");
                    let retry_in = Some(delay);
                    self.shared.emit(|| Event::Disconnected { code, reason, advice, retry_in });
                    self.shared.set_status(Status::Waiting);
                    self.pause(delay).await;
                }
                Plan::Stop(stopped) => {
                    tracing::warn!(
                        code = stopped.code,
                        reason = stopped.reason,
                        "stopped: {}",
                        stopped.remedy
                    );
                    self.stop(stopped).await;
                    backoff.reset();
                }
            }
        }
    }

    /// Whether the caller asked for the end and there is nothing to send first.
    fn finished(&self) -> bool {
        let state = self.shared.lock();
        state.closing && state.outbox.is_empty()
    }

    /// Returns how many frames have been acknowledged.
    fn disconnected(&self) -> u64 {
        let mut state = self.shared.lock();
        state.idle = false;
        state.outbox.disconnected();
        state.outbox.frames_acked()
    }

    async fn attempt(&self, rng: &mut StdRng) -> Outcome {
        match timeout(self.config.connect_timeout, self.connect(rng)).await {
            Ok(Ok(mut connection)) => {
                let features = if self.config.commands { Features::COMMANDS } else { Features::NONE };
                let silence = self.config.silence_timeout;
                let end = session::run(&self.shared, &mut connection, silence, features).await;
                Outcome::Session(end)
            }
            Ok(Err(UpgradeError::Refused { status, retry_after, detail })) => {
                Outcome::Refused { status, retry_after, detail }
            }
            Ok(Err(UpgradeError::Failed(reason))) => Outcome::Unreachable(reason),
            Err(_) => {
                let limit = self.config.connect_timeout;
                Outcome::Unreachable(format!("{} did not answer within {limit:?}", self.target.authority()))
            }
        }
    }

    async fn connect(&self, rng: &mut StdRng) -> Result<Connection, UpgradeError> {
        let mut io = self.target.dial(&self.tls, self.config.dialer.as_ref()).await?;
        let authorization = self.shared.lock().authorization.clone();
        let request = Request {
            target: &self.target,
            subprotocol: self.config.mode.subprotocol(),
            authorization: &authorization,
            user_agent: &self.user_agent,
        };
        let rest = upgrade(&mut *io, &request).await?;
        Ok(Connection::new(io, rest, self.config.mode, StdRng::from_rng(rng)))
    }

    /// Waits, but not longer than there is something to wait for.
    async fn pause(&self, delay: Duration) {
        let until_finished = async {
            while !self.finished() {
                self.shared.work.notified().await;
            }
        };
        // Either end of the wait is as good.
        let _ = timeout(delay, until_finished).await;
    }

    /// Waits until the caller restarts the device, or closes it with nothing left to send.
    async fn stop(&self, stopped: Stopped) {
        let (code, reason) = (stopped.code, stopped.reason.clone());
        self.shared.emit(|| Event::Disconnected { code, reason, advice: Advice::Stop, retry_in: None });
        self.shared.stop(Arc::new(stopped));
        while !self.finished() && !std::mem::take(&mut self.shared.lock().restart) {
            self.shared.work.notified().await;
        }
        self.shared.lock().stopped = None;
    }
}

fn plan(outcome: Outcome, backoff: &mut Backoff, rng: &mut StdRng) -> Plan {
    let (code, reason, advice) = match outcome {
        Outcome::Session(End::Done) => return Plan::End,
        Outcome::Session(End::Closed { code, reason }) => {
            let advice = advice(Some((code, &reason)));
            (Some(code), reason, advice)
        }
        Outcome::Session(End::Lost(reason)) | Outcome::Unreachable(reason) => (None, reason, advice(None)),
        Outcome::Session(End::Fault(fault @ Fault::HeldTooLarge { .. })) => {
            let remedy = "raise the feeder's limit, and restart the device";
            return Plan::Stop(Stopped { code: None, reason: fault.to_string(), remedy });
        }
        Outcome::Session(End::Fault(fault)) => (None, fault.to_string(), Advice::Reconnect),
        Outcome::Refused { status, retry_after, detail } => {
            let advice = match (status, retry_after) {
                (400 | 401 | 403, _) => Advice::Stop,
                (429 | 500..=599, Some(delay)) => {
                    let delay = delay.min(RETRY_AFTER_MAX).as_millis();
                    Advice::ReconnectAfter(u64::try_from(delay).unwrap_or(u64::MAX))
                }
                _ => Advice::Reconnect,
            };
            (Some(status), detail, advice)
        }
    };
    let delay = match advice {
        Advice::Stop => {
            let code = code.unwrap_or_default();
            let remedy = if code < 1000 { remedy_for_status(code) } else { remedy_for_close(code) };
            return Plan::Stop(Stopped { code: Some(code), reason, remedy });
        }
        Advice::ReconnectAfter(ms) => Backoff::paced(Duration::from_millis(ms), rng),
        Advice::Reconnect | Advice::NewEpoch => backoff.next(rng),
    };
    Plan::Retry { code, reason, advice, delay }
}
