//! When a session is pinged, and when it is given up.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep};
use trough_protocol::close::CloseCode;

use crate::config::Config;
use crate::presence::Ending;

/// The deadlines of one session, behind one timer.
#[derive(Debug)]
pub struct Timers {
    sleep: Pin<Box<Sleep>>,
    ping_due: Instant,
    pong_due: Option<Instant>,
    blocked_since: Option<Instant>,
    /// When the session itself wants to look again.
    look_at: Option<Instant>,
}

/// What a deadline asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    /// Send a ping.
    Ping,
    /// End the session.
    End(Ending),
}

impl Timers {
    /// Starts them. The first ping comes at a random part of the interval, so that sessions that began together
    /// are not pinged together.
    pub fn start(config: &Config) -> Self {
        let spread = trough_runtime::random::random_below(config.ping_interval.as_millis() as u64 / 2 + 1);
        let ping_due = Instant::now() + config.ping_interval - std::time::Duration::from_millis(spread);
        Self {
            sleep: Box::pin(tokio::time::sleep_until(ping_due)),
            ping_due,
            pong_due: None,
            blocked_since: None,
            look_at: None,
        }
    }

    /// Something came from the device: it lives.
    pub fn heard(&mut self) {
        self.pong_due = None;
    }

    /// Whether what was sent last is still unread.
    pub fn set_blocked(&mut self, blocked: bool) {
        match (blocked, self.blocked_since) {
            (false, _) => self.blocked_since = None,
            (true, None) => self.blocked_since = Some(Instant::now()),
            (true, Some(_)) => {}
        }
    }

    /// Makes the timer fire at `at` at the latest.
    pub fn wake_at(&mut self, at: Instant) {
        self.look_at = Some(at);
        if at < self.sleep.deadline() {
            self.sleep.as_mut().reset(at);
        }
    }

    /// What is due. `reads` says whether the session reads its socket now: if it does not, a pong cannot come.
    pub fn poll(&mut self, cx: &mut Context<'_>, config: &Config, reads: bool) -> Poll<Due> {
        loop {
            std::task::ready!(self.sleep.as_mut().poll(cx));
            let now = Instant::now();
            let due = self.due(now, config, reads);
            let next = self.next(config);
            self.sleep.as_mut().reset(next);
            if let Some(due) = due {
                return Poll::Ready(due);
            }
        }
    }

    fn next(&self, config: &Config) -> Instant {
        let blocked = self.blocked_since.map(|since| since + config.slow_reader_timeout);
        [self.pong_due, blocked, self.look_at].into_iter().flatten().fold(self.ping_due, Instant::min)
    }

    fn due(&mut self, now: Instant, config: &Config, reads: bool) -> Option<Due> {
        if self.blocked_since.is_some_and(|since| now >= since + config.slow_reader_timeout) {
            let text = format!("acks were left unread for {} s", config.slow_reader_timeout.as_secs());
            return Some(Due::End(Ending::new(CloseCode::SlowReader, text)));
        }
        if self.pong_due.is_some_and(|due| now >= due) {
            if reads {
                let text = format!("no pong within {} s", config.pong_timeout.as_secs());
                return Some(Due::End(Ending::new(CloseCode::PongTimeout, text)));
            }
            self.pong_due = Some(now + config.pong_timeout);
        }
        self.look_at.take_if(|at| now >= *at);
        if now >= self.ping_due {
            self.ping_due = now + config.ping_interval;
            if self.blocked_since.is_none() {
                self.pong_due = Some(now + config.pong_timeout);
                return Some(Due::Ping);
            }
        }
        None
    }
}
