//! A child process that never outlives its test.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::poll::{SOON, until};

/// Lines of a log that are shown when a test fails.
const TAIL_LINES: usize = 25;

/// The binary under test: the one that cargo built for these tests, or `TROUGH_TEST_BIN`.
///
/// # Panics
/// If there is none.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("TROUGH_TEST_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("the test knows where it lies");
    // target/debug/deps/system-… → target/debug/trough-under-test
    let path = test.parent().and_then(Path::parent).map(|dir| dir.join("trough-under-test"));
    path.filter(|path| path.exists()).expect("cargo builds trough-under-test together with these tests")
}

/// A command of the binary, with no option from the environment of the test.
pub fn command() -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TROUGH_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// Resident memory of a process, in bytes.
///
/// # Panics
/// If it is not running.
pub fn rss_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it is running");
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

/// How a process ended.
#[derive(Debug)]
pub struct Exit {
    /// Its code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// From the request to the end.
    pub took: Duration,
}

/// A running process. Dropping it kills it, also when the test panics.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command`, whose output goes to the end of the file `log`.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn spawn(name: &str, command: &mut Command, log: &Path) -> Self {
        let open = || -> File { OpenOptions::new().create(true).append(true).open(log).unwrap() };
        let child = command.stdout(open()).stderr(open()).spawn();
        let child = child.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self { name: name.to_owned(), child, log: log.to_owned(), ended: None }
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).expect("a child's id is not 0");
        // One that has ended by itself is noticed by whoever waits for it.
        let _ = kill_process(pid, signal);
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        if self.ended.is_none() {
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
    }

    /// SIGSTOP: it keeps its sockets and does nothing. Waits until it does: on a busy machine its threads go on
    /// for a moment.
    ///
    /// # Panics
    /// If it goes on.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
        let deadline = Instant::now() + SOON;
        while !self.stands_still() {
            assert!(Instant::now() < deadline, "{} goes on after SIGSTOP", self.name);
            std::thread::yield_now();
        }
    }

    /// Whether every thread is stopped, or gone.
    fn stands_still(&self) -> bool {
        let Ok(tasks) = fs::read_dir(format!("/proc/{}/task", self.child.id())) else { return true };
        tasks.flatten().all(|task| {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            // 123 (name, which may have anything in it) S …
            !matches!(
                stat.rsplit_once(") ").map(|(_, rest)| rest.as_bytes()[0]),
                Some(b'R' | b'S' | b'D' | b'I')
            )
        })
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended.is_some()
    }

    /// Waits until it ends.
    ///
    /// # Panics
    /// If it does not end `within` the time.
    pub async fn wait(&mut self, within: Duration) -> Exit {
        let began = Instant::now();
        let what = format!("{} ends", self.name);
        until(&what, within, async || self.has_ended().then_some(())).await;
        Exit { code: self.ended.and_then(|status| status.code()), took: began.elapsed() }
    }

    /// Resident memory, in bytes.
    ///
    /// # Panics
    /// If it is not running.
    pub fn rss_bytes(&self) -> u64 {
        rss_bytes(self.child.id())
    }

    /// All it has printed, and what earlier processes printed to the same file.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            println!("--- the end of {} ({})", self.log.display(), self.name);
            lines[lines.len().saturating_sub(TAIL_LINES)..].iter().for_each(|line| println!("{line}"));
        }
    }
}
