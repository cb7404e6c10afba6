//! Stopping in order: one token that asks, tracked tasks that answer, a deadline, and one token that insists.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::drain::Drain;
use crate::random::random_below;

/// How long tracked tasks get to unwind after `killed`, before they are counted as left behind.
const UNWIND: Duration = Duration::from_millis(500);

/// The process's one shutdown, cloned to whoever must take part.
#[derive(Debug, Clone)]
pub struct Shutdown {
    /// Cancelled when the process is told to stop: fail readiness, take no new work, finish what is in hand.
    pub draining: CancellationToken,
    /// Cancelled when the grace is over, and also once all tracked tasks have ended: drop everything. Tasks
    /// that are not tracked (the admin server) live until then.
    pub killed: CancellationToken,
    /// The tasks that [`Shutdown::finish`] waits for. Spawn on it whatever must not be cut short.
    pub tasks: TaskTracker,
    /// From [`Shutdown::begin`] to `killed`.
    pub grace: Duration,
    /// The same without an end: an operator may want the process empty and running.
    pub drain: Drain,
    began: Arc<OnceLock<Instant>>,
}

/// How a shutdown ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Tracked tasks that were still running at the end. They die with the runtime.
    pub left: usize,
    /// Whether the tasks had to be cut short: the grace ran out, or a second signal came.
    pub forced: bool,
    /// From the beginning of the drain to its end.
    pub took: Duration,
}

impl Outcome {
    /// Whether every task ended by itself in time.
    pub fn is_clean(&self) -> bool {
        self.left == 0 && !self.forced
    }
}

impl Shutdown {
    /// A shutdown that has not begun.
    pub fn new(grace: Duration) -> Self {
        Self {
            draining: CancellationToken::new(),
            killed: CancellationToken::new(),
            tasks: TaskTracker::new(),
            grace,
            drain: Drain::default(),
            began: Arc::default(),
        }
    }

    /// Tells everybody to stop, and starts the grace. Calling it again changes nothing.
    pub fn begin(&self) {
        self.began.get_or_init(Instant::now);
        self.draining.cancel();
    }

    /// Whether the process was told to stop.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Returns when whoever holds something that another process could take over is to let go of it: at once when the
    /// process is told to stop; within `spread`, or what the operator says, when it is emptied by hand, at a random
    /// moment, so that not all go together.
    ///
    /// Cancel-safe, but keep it: polled anew, it draws another moment.
    pub async fn told_to_leave(&self, spread: Duration) {
        let mut orders = self.drain.orders();
        let part = random_below(1 << 20) as f64 / f64::from(1 << 20);
        let ordered = async {
            loop {
                let order = *orders.borrow_and_update();
                let moment = async {
                    match order {
                        Some(order) => {
                            let spread = order.spread.unwrap_or(spread);
                            tokio::time::sleep_until(order.began + spread.mul_f64(part)).await;
                        }
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = moment => return,
                    // The sender is in `self`.
                    _ = orders.changed() => {}
                }
            }
        };
        tokio::select! {
            biased;
            () = self.draining.cancelled() => {}
            () = ordered => {}
        }
    }

    /// Installs handlers for SIGTERM and SIGINT: the first signal begins the shutdown, the second cuts the
    /// grace short. Call it before the first listener is bound, so that no signal finds the default handler.
    ///
    /// # Errors
    /// If the handlers cannot be installed (a file descriptor limit reached at start).
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn watch_signals(&self) -> io::Result<()> {
        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        let this = self.clone();
        tokio::spawn(async move {
            let name = next_signal(&mut term, &mut int).await;
            tracing::info!(signal = name, grace_s = this.grace.as_secs_f64(), "told to stop, draining");
            this.begin();
            tokio::select! {
                name = next_signal(&mut term, &mut int) => {
                    tracing::warn!(signal = name, "told to stop again, cutting the drain short");
                    this.killed.cancel();
                }
                () = this.killed.cancelled() => {}
            }
        });
        Ok(())
    }

    /// Returns when the process is told to stop, by a signal or by [`Shutdown::begin`].
    ///
    /// Cancel-safe: once polled, the handlers stay installed and act whether or not anybody waits.
    ///
    /// # Errors
    /// As [`Shutdown::watch_signals`].
    pub async fn wait_for_signal(&self) -> io::Result<()> {
        self.watch_signals()?;
        self.draining.cancelled().await;
        Ok(())
    }

    /// Begins the shutdown if nobody has, waits for the tracked tasks until the grace is over (counted from
    /// [`Shutdown::begin`]) or a second signal comes, cancels `killed`, and gives what is left half a second
    /// to unwind.
    ///
    /// Not cancel-safe in effect: a caller that drops this future before it ends leaves `killed` uncancelled.
    pub async fn finish(self) -> Outcome {
        self.begin();
        let began = *self.began.get_or_init(Instant::now);
        self.tasks.close();
        let forced = tokio::select! {
            biased;
            () = self.tasks.wait() => false,
            () = self.killed.cancelled() => true,
            () = tokio::time::sleep_until(began + self.grace) => true,
        };
        self.killed.cancel();
        if forced {
            // The count below says what the timeout would.
            let _ = tokio::time::timeout(UNWIND, self.tasks.wait()).await;
        }
        Outcome { left: self.tasks.len(), forced, took: began.elapsed() }
    }
}

async fn next_signal(term: &mut Signal, int: &mut Signal) -> &'static str {
    tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_for_tasks_that_end_in_time() {
        let shutdown = Shutdown::new(Duration::from_secs(10));
        let token = shutdown.draining.clone();
        shutdown.tasks.spawn(async move {
            token.cancelled().await;
            tokio::time::sleep(Duration::from_secs(9)).await;
        });
        let killed = shutdown.killed.clone();
        let outcome = shutdown.finish().await;
        assert!(outcome.is_clean(), "{outcome:?}");
        assert!(killed.is_cancelled(), "tasks that are not tracked are told at the end");
    }

    #[tokio::test(start_paused = true)]
    async fn counts_what_is_left_after_the_grace() {
        let shutdown = Shutdown::new(Duration::from_secs(1));
        shutdown.tasks.spawn(std::future::pending::<()>());
        let killed = shutdown.killed.clone();
        shutdown.tasks.spawn(async move { killed.cancelled().await });
        let outcome = shutdown.finish().await;
        assert_eq!((outcome.left, outcome.forced), (1, true));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_to_leave_leaves_within_the_spread_and_not_together() {
        let shutdown = Shutdown::new(Duration::from_secs(1));
        let began = Instant::now();
        let holders: Vec<_> = (0..200)
            .map(|_| {
                let shutdown = shutdown.clone();
                tokio::spawn(async move {
                    shutdown.told_to_leave(Duration::from_secs(20)).await;
                    Instant::now()
                })
            })
            .collect();
        tokio::task::yield_now().await;
        shutdown.drain.begin(None);
        let mut halves = [0, 0];
        for holder in holders {
            let left = holder.await.unwrap() - began;
            assert!(left <= Duration::from_secs(21), "{left:?}");
            halves[usize::from(left > Duration::from_secs(10))] += 1;
        }
        assert!(halves.iter().all(|half| *half > 50), "{halves:?}");
        shutdown.drain.undo();
        let stays = shutdown.told_to_leave(Duration::ZERO);
        assert!(tokio::time::timeout(Duration::from_secs(60), stays).await.is_err(), "it was undone");
        shutdown.begin();
        shutdown.told_to_leave(Duration::from_secs(3600)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_grace_counts_from_begin() {
        let shutdown = Shutdown::new(Duration::from_secs(10));
        shutdown.tasks.spawn(std::future::pending::<()>());
        shutdown.begin();
        tokio::time::sleep(Duration::from_secs(8)).await;
        let before = Instant::now();
        shutdown.finish().await;
        assert!(before.elapsed() < Duration::from_secs(3));
    }
}
