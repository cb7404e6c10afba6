//! memcached, as the bus uses it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
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
        self.spawn_again();
        self.ready().await;
    }

    /// The same, and does not wait until it answers.
    pub fn spawn_again(&mut self) {
        self.process.kill();
        self.process = spawn(self.at, &self.arguments, &self.dir);
    }

    /// Makes it forget everything.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn flush(&self) {
        assert_eq!(tell(self.at, "flush_all\r\n"), "OK\r\n");
    }

    /// The keys of all items, as a client gave them.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn keys(&self) -> Vec<String> {
        let mut stream = TcpStream::connect(self.at).unwrap();
        stream.write_all(b"lru_crawler metadump all\r\n").unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"END\r\n") {
            let mut part = [0; 4096];
            let count = stream.read(&mut part).unwrap();
            assert!(count > 0, "memcached hung up");
            answer.extend_from_slice(&part[..count]);
        }
        let text = String::from_utf8(answer).unwrap().replace("%3A", ":");
        let key = |line: &str| Some(line.strip_prefix("key=")?.split(' ').next()?.to_owned());
        text.lines().filter_map(key).collect()
    }

    /// Waits until it answers.
    pub async fn ready(&mut self) {
        until("memcached accepts connections", SOON, async || {
            assert!(!self.process.has_ended(), "memcached ended:\n{}", self.process.log());
            accepts(self.at).then_some(())
        })
        .await;
    }
}

/// One command by hand, and the first line of what the server answers.
///
/// # Panics
/// If it does not answer.
pub fn tell(at: SocketAddr, command: &str) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(command.as_bytes()).unwrap();
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while !answer.ends_with(b"\r\n") {
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    String::from_utf8(answer).unwrap()
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
