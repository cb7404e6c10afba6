//! A port of a pod, reachable on this machine for as long as a `kubectl port-forward` runs.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, SyncSender};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::admin_port::AdminPort;

/// How long it may take until it says where it listens.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);
/// Lines that wait to be looked at.
const LINES_MAX: usize = 16;
/// How its first line begins; an address follows, and ` -> ` with the pod's port.
const BEGIN: &str = "Forwarding from ";

/// A running `kubectl port-forward`. It ends with its handle.
#[derive(Debug)]
pub struct Forward {
    child: Child,
    /// Where the pod's port is on this machine.
    pub port: AdminPort,
}

/// A line of it; errors stand on the other output.
enum Line {
    Said(String),
    Complained(String),
}

impl Forward {
    /// Runs the command until it says where it listens. Blocks.
    ///
    /// # Errors
    /// It cannot be run, it ends before that, or does not say so in time.
    pub fn open(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot run kubectl")?;
        let (lines, said) = mpsc::sync_channel(LINES_MAX);
        if let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) {
            read(out, lines.clone(), Line::Said);
            read(err, lines, Line::Complained);
        }
        // From here on it ends whatever happens.
        let mut forward = Self { child, port: AdminPort::at("127.0.0.1:0")? };
        let mut complaint = String::new();
        loop {
            match said.recv_timeout(OPEN_TIMEOUT) {
                Ok(Line::Said(line)) => {
                    let at = line.strip_prefix(BEGIN).and_then(|rest| rest.split(" -> ").next());
                    if let Some(at) = at {
                        forward.port = AdminPort::at(at)?;
                        return Ok(forward);
                    }
                }
                Ok(Line::Complained(line)) => complaint = line,
                Err(_) if complaint.is_empty() => bail!("kubectl port-forward does not say where it listens"),
                Err(_) => bail!("kubectl port-forward: {complaint}"),
            }
        }
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads on to the end, so that the other side never waits; what nobody hears is dropped.
fn read(from: impl Read + Send + 'static, lines: SyncSender<Line>, kind: fn(String) -> Line) {
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let _ = lines.send(kind(line));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn the_first_line_says_where() {
        let script = "echo 'Forwarding from 127.0.0.1:43557 -> 9080'; echo 'Handling connection for 43557'; exec sleep 600";
        let forward = Forward::open(shell(script)).unwrap();
        assert_eq!(forward.port.at, "127.0.0.1:43557");
        let id = forward.child.id();
        drop(forward);
        assert!(!std::path::Path::new(&format!("/proc/{id}")).exists(), "it has ended");
    }

    #[test]
    fn a_complaint_is_passed_on() {
        let error = Forward::open(shell("echo 'error: pods \"x\" not found' >&2; exit 1")).unwrap_err();
        assert_eq!(error.to_string(), "kubectl port-forward: error: pods \"x\" not found");
        assert!(Forward::open(shell("exit 0")).is_err());
    }
}
