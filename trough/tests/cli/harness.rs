//! Running the binary. Servers take free ports and tell them; nothing waits for a fixed time.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Far above what anything here takes, even on a machine that is busy with something else.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Output {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Fails unless the command succeeded; its standard output without the last line feed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.stdout.trim_end().to_owned()
    }

    /// Fails unless the command ended with this code; its standard error.
    #[track_caller]
    pub fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self.stderr
    }
}

/// A directory to work in, removed at the end.
pub struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A path in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// The binary, in this directory and with no variable of ours set.
    pub fn command<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trough"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TROUGH_"))
        {
            command.env_remove(name);
        }
        command.args(args).current_dir(self.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command of words that have no spaces.
    pub fn run(&self, words: &str) -> Output {
        finish(self.command(words.split_whitespace()), Vec::new())
    }

    /// Runs one with something on its standard input.
    pub fn pipe(&self, words: &str, input: impl Into<Vec<u8>>) -> Output {
        finish(self.command(words.split_whitespace()), input.into())
    }
}

/// Runs to the end. Feeds the input from a thread, so that neither side waits for the other.
pub fn finish(mut command: Command, input: Vec<u8>) -> Output {
    let mut child = Running(command.stdin(Stdio::piped()).spawn().unwrap());
    let mut stdin = child.0.stdin.take().unwrap();
    // A command that ends early does not read all of it.
    std::thread::spawn(move || drop(stdin.write_all(&input)));
    let stdout = read_all(child.0.stdout.take().unwrap());
    let stderr = read_all(child.0.stderr.take().unwrap());
    let status = child.wait();
    Output { code: status.code(), stdout: stdout.recv().unwrap(), stderr: stderr.recv().unwrap() }
}

fn read_all(mut from: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        sender.send(String::from_utf8_lossy(&bytes).into_owned())
    });
    receiver
}

/// A process that is killed when the test is over.
pub struct Running(pub Child);

impl Running {
    pub fn wait(&mut self) -> ExitStatus {
        let mut ended = None;
        eventually("the process ends", || {
            ended = self.0.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until something holds.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < DEADLINE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// `trough up` on free ports.
pub struct Up {
    pub process: Running,
    pub devices: String,
    pub api: String,
    pub admin: String,
    /// What it said at its start.
    pub banner: String,
}

impl Up {
    pub fn start(place: &Place) -> Self {
        Self::listen(place, "127.0.0.1:0", &[])
    }

    /// With the devices' port at this address, and further options.
    pub fn listen(place: &Place, devices: &str, more: &[&str]) -> Self {
        let any = "127.0.0.1:0";
        let words = ["up", "--listen", devices, "--api", any, "--admin", any];
        let mut command = place.command(words.iter().chain(more));
        command.stderr(Stdio::inherit());
        let mut process = Running(command.spawn().unwrap());
        let lines = lines_of(process.0.stdout.take().unwrap());
        let mut banner = String::new();
        while !banner.contains("/frames?") {
            banner.push_str(&lines.recv_timeout(DEADLINE).expect("trough up says what runs where"));
            banner.push('\n');
        }
        let address = |before: &str| {
            let rest = banner.split_once(before).unwrap().1;
            let end = rest.find('/').unwrap();
            rest[..end].to_owned()
        };
        Self {
            devices: format!("ws://{}", address("ws://")),
            api: format!("http://{}", address("readers fetch from    http://")),
            admin: format!("http://{}", address("metrics and probes    http://")),
            process,
            banner,
        }
    }
}

/// The value of a metric.
#[track_caller]
pub fn metric(admin: &str, name: &str) -> f64 {
    let mut stream = std::net::TcpStream::connect(admin.trim_start_matches("http://")).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no metric {name} in\n{text}")).parse().unwrap()
}

/// The lines of a pipe, as they come; the channel ends with it.
pub fn lines_of(from: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::sync_channel(1024);
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
