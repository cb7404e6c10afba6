//! One server under test: a process of its own, from its start to its end.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long a server may take until it says where it listens.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long it may take to stop in order.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);
/// Lines of its output that are shown when it fails.
const SHOWN_LINES: usize = 20;

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub struct Server {
    name: &'static str,
    child: Child,
    output: PathBuf,
    stopped: bool,
}

impl Server {
    /// Starts `command`; both of its outputs go to a file in `dir`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(name: &'static str, mut command: Command, dir: &Path) -> Result<Self> {
        let output = dir.join(format!("{name}.log"));
        let log = File::create(&output).with_context(|| format!("cannot make {}", output.display()))?;
        let child = command
            // Its end tells a server that watches it that the bench has gone.
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {} for {name}", command.get_program().display()))?;
        Ok(Self { name, child, output, stopped: false })
    }

    /// What it is, in reports.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `find` finds something in a line of its output.
    ///
    /// # Errors
    /// The server ends before, or takes too long; with the end of its output.
    pub async fn await_line<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let ended = self.child.try_wait()?;
            let output = std::fs::read_to_string(&self.output)?;
            if let Some(found) = output.lines().find_map(&find) {
                return Ok(found);
            }
            if let Some(status) = ended {
                bail!("the {} ended ({status}) before it said {what}:\n{}", self.name, self.last_lines());
            }
            if Instant::now() >= deadline {
                bail!(
                    "the {} has not said {what} within {START_TIMEOUT:?}:\n{}",
                    self.name,
                    self.last_lines()
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The end of what it wrote.
    pub fn last_lines(&self) -> String {
        let output = std::fs::read_to_string(&self.output).unwrap_or_default();
        let lines: Vec<_> = output.lines().collect();
        lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
    }

    /// Asks it to stop and waits until it has.
    ///
    /// # Errors
    /// It ends with an error, or takes too long; it is killed then.
    pub async fn stop(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).with_context(|| format!("cannot stop the {}", self.name))?;
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                self.stopped = true;
                if !status.success() {
                    bail!("the {} ended with {status}:\n{}", self.name, self.last_lines());
                }
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
        bail!("the {} did not stop within {STOP_TIMEOUT:?}:\n{}", self.name, self.last_lines())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.stopped {
            // It may have ended by itself; then there is nothing to kill and only a status to collect.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
