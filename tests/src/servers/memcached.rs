//! memcached, as the bus uses it.

use std::net::SocketAddr;
use std::process::Command;

use tempfile::TempDir;

use super::{accepts, free_ports, log_in, own_ip, program};
use crate::poll::{SOON, until};
use crate::process::Process;

/// A running memcached.
#[derive(Debug)]
pub struct Memcached {
    /// Where it listens; the same over restarts.
    pub at: SocketAddr,
    arguments: Vec<String>,
    process: Process,
    dir: TempDir,
}

impl Memcached {
    /// Starts one with 64 MiB and these further arguments, such as `-M`.
    pub async fn start(arguments: &[&str]) -> Self {
        let [at] = free_ports(own_ip());
        let dir = tempfile::tempdir().unwrap();
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect::<Vec<_>>();
        let process = spawn(at, &arguments, &dir);
        let mut server = Self { at, arguments, process, dir };
        server.ready().await;
        server
    }

    /// Its process, to be stopped and resumed.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// SIGKILL: what it knew is gone.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again after a kill, empty.
    pub async fn restart(&mut self) {
        self.process.kill();
        self.process = spawn(self.at, &self.arguments, &self.dir);
        self.ready().await;
    }

    async fn ready(&mut self) {
        until("memcached accepts connections", SOON, async || {
            assert!(!self.process.has_ended(), "memcached ended:\n{}", self.process.log());
            accepts(self.at).then_some(())
        })
        .await;
    }
}

fn spawn(at: SocketAddr, arguments: &[String], dir: &TempDir) -> Process {
    let mut command = Command::new(program("memcached"));
    command.args([
        "-l",
        &at.ip().to_string(),
        "-p",
        &at.port().to_string(),
        "-U",
        "0",
        "-m",
        "64",
        "-u",
        "root",
    ]);
    command.args(arguments);
    Process::spawn("memcached", &mut command, &log_in(dir.path()))
}
