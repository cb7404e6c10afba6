//! What is measured: servers in processes of their own, in a temporary directory, with devices that may connect.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use futures_util::future::BoxFuture;
use serde::Serialize;
use tempfile::TempDir;

use trough_protocol::DeviceId;
use trough_runtime::clock::Clock;

use crate::history::Year;
use crate::load::{Credentials, Target};
use crate::server::Server;
use crate::storage::{Storage, blocking};

/// Argument of the hidden command that runs [`crate::floor`].
pub const FLOOR_COMMAND: &str = "bench-floor";
/// Given to that command instead of a file: store nothing.
pub const FLOOR_NO_FILE: &str = "-";
/// What the floor's process prints before its address.
pub const FLOOR_LISTENS: &str = "floor listens on ";
const FLOOR_FILE: &str = "floor.data";
const ANY_PORT: &str = "127.0.0.1:0";

/// What is under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// `trough feeder` and `trough eater`, two processes.
    Trough,
    /// `trough up`, one process.
    Embedded,
    /// The bare server that makes frames durable before it acknowledges.
    FloorDurable,
    /// The bare server that stores nothing.
    FloorNothing,
}

impl Subject {
    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Trough => "trough, feeder and eater",
            Self::Embedded => "trough up, one process",
            Self::FloorDurable => "floor: bare server, fdatasync",
            Self::FloorNothing => "floor: bare server, stores nothing",
        }
    }
}

/// Where feeder and eater keep what they keep.
#[derive(Debug, Clone, Default)]
pub struct Backends {
    /// `--store`, without which the journal is in the temporary directory.
    pub store: Option<String>,
    /// `--flush-after`, in milliseconds.
    pub flush_after_ms: u64,
    /// `--database`, without which registry and catalog are in the temporary directory.
    pub database: Option<String>,
}

/// What is done with a data directory before servers start.
#[derive(Clone)]
pub struct Prepare(pub Arc<dyn Fn(PathBuf) -> BoxFuture<'static, Result<()>> + Send + Sync>);

impl fmt::Debug for Prepare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prepare")
    }
}

/// Where the parts of the bench come from; made by its caller.
#[derive(Debug, Clone)]
pub struct Means {
    /// The `trough` binary that is started for every server.
    pub program: PathBuf,
    /// What feeder and eater stand on.
    pub backends: Backends,
    /// What can be done to their data directory behind their backs.
    pub storage: Storage,
    /// In which the temporary directories are made.
    pub dir: PathBuf,
    /// For the reader API.
    pub http: reqwest::Client,
    /// Done with each data directory, once it has its devices.
    pub prepare: Option<Prepare>,
}

/// The way to what is stored.
#[derive(Debug, Clone)]
pub struct Readers {
    /// `http://host:port`
    pub base: String,
    /// A reader's token.
    pub token: String,
}

/// Running servers.
#[derive(Debug)]
pub struct Deployment {
    /// Which.
    pub subject: Subject,
    /// Their processes.
    pub servers: Vec<Server>,
    /// Where devices connect, and as whom.
    pub target: Target,
    /// Where frames are read; the floor has no such place.
    pub readers: Option<Readers>,
    /// What was there before anything else, and waits to be compacted.
    pub backlog: Option<Backlog>,
    // Last, so that the directory goes when the servers have gone.
    dir: TempDir,
}

/// Older frames, and compaction that is claimed by the bench.
#[derive(Debug)]
pub struct Backlog {
    /// The data directory.
    pub data: PathBuf,
    /// The claim.
    pub claim: u64,
    /// Where the eater's counters are, `host:port`.
    pub admin: String,
}

/// Devices that the frames of a backlog are of.
const BACKLOG_DEVICES: usize = 200;

impl Backends {
    /// For people: what a frame waits for.
    pub fn describe(&self) -> String {
        let Some(store) = &self.store else { return "journal files".to_owned() };
        let (over_s3, after) = (store.starts_with("s3:"), self.flush_after_ms);
        let kind = if over_s3 { "objects over S3" } else { "objects in files" };
        let catalog = if self.database.is_some() { "MongoDB" } else { "SQLite" };
        // Of other processes. Files and SQLite are the eater's own work.
        let besides = match (over_s3, self.database.is_some()) {
            (false, false) => "",
            (true, false) => "; the store's own CPU is not counted",
            (false, true) => "; the database's own CPU is not counted",
            (true, true) => "; the store's and the database's own CPU is not counted",
        };
        format!("{kind} after {after} ms, catalog in {catalog}{besides}")
    }

    /// Said by the environment, as there may be a password in a URL and others see command lines.
    fn tell(&self, command: &mut Command) {
        let flush_after = self.store.as_ref().map(|_| self.flush_after_ms.to_string());
        let variables = [
            ("TROUGH_DATABASE", &self.database),
            ("TROUGH_STORE", &self.store),
            ("TROUGH_FLUSH_AFTER", &flush_after),
        ];
        for (name, value) in variables {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
    }
}

impl Deployment {
    /// Starts the servers and lets `devices` devices connect.
    ///
    /// # Errors
    /// A server cannot be started.
    pub async fn start(means: &Means, subject: Subject, devices: usize) -> Result<Self> {
        Self::start_with(means, subject, devices, None).await
    }

    /// The same, with so many frames of others in the journal, of a year, and nobody to compact them.
    ///
    /// # Errors
    /// As [`Deployment::start`].
    pub async fn start_with(
        means: &Means,
        subject: Subject,
        devices: usize,
        backlog: Option<u64>,
    ) -> Result<Self> {
        let dir = temporary(means)?;
        match subject {
            Subject::Trough | Subject::Embedded => Self::trough(means, subject, devices, dir, backlog).await,
            Subject::FloorDurable | Subject::FloorNothing => Self::floor(means, subject, devices, dir).await,
        }
    }

    async fn floor(means: &Means, subject: Subject, devices: usize, dir: TempDir) -> Result<Self> {
        let file = match subject {
            Subject::FloorNothing => FLOOR_NO_FILE.into(),
            _ => dir.path().join(FLOOR_FILE),
        };
        let mut command = Command::new(&means.program);
        command.args([Path::new(FLOOR_COMMAND), file.as_path()]);
        let mut server = Server::start("floor", command, dir.path())?;
        let listens = |line: &str| line.strip_prefix(FLOOR_LISTENS).map(str::to_owned);
        let address = server.await_line("where it listens", listens).await?;
        let devices = (0..devices)
            .map(|index| Credentials { device: format!("{index}"), token: "any".into() })
            .collect();
        let target = Target { url: format!("ws://{address}"), devices };
        Ok(Self { subject, servers: vec![server], target, readers: None, backlog: None, dir })
    }

    async fn trough(
        means: &Means,
        subject: Subject,
        devices: usize,
        dir: TempDir,
        backlog: Option<u64>,
    ) -> Result<Self> {
        let data = dir.path().join("data");
        // A database remembers earlier runs.
        let run_name = format!("bench-{:08x}", rand::random::<u32>());
        let devices = import_devices(means, &run_name, dir.path(), &data, devices)?;
        if let Some(Prepare(prepare)) = &means.prepare {
            prepare(data.clone()).await?;
        }
        let token = run(means, ["readers", "add", &run_name, "--data-dir"], &data)?.trim().to_owned();
        let claim = match backlog {
            Some(frames) => Some(fill(means, &data, frames).await?),
            None => None,
        };
        let (servers, feeder, api, admin) = match subject {
            Subject::Embedded => {
                let mut up =
                    start_service(means, "up", &["--listen", "--api", "--admin"], dir.path(), &data)?;
                let feeder = up.await_line("where devices connect", devices_of_up).await?;
                let api = up.await_line("where readers fetch", api_of_up).await?;
                let admin = up.await_line("where metrics are", admin_of_up).await?;
                (vec![up], feeder, api, admin)
            }
            _ => {
                let Both { servers, devices, api, admin } = start_both(means, dir.path(), &data).await?;
                (servers, devices, api, admin)
            }
        };
        let target = Target { url: format!("ws://{feeder}"), devices };
        let readers = Some(Readers { base: format!("http://{api}"), token });
        let backlog = claim.map(|claim| Backlog { data, claim, admin });
        Ok(Self { subject, servers, target, readers, backlog, dir })
    }

    /// Bytes that the durable floor has stored.
    ///
    /// # Errors
    /// It has no file.
    pub fn floor_bytes(&self) -> Result<u64> {
        Ok(std::fs::metadata(self.dir.path().join(FLOOR_FILE)).context("the floor has stored nothing")?.len())
    }

    /// Stops the servers in order and removes what they have stored.
    ///
    /// # Errors
    /// One of them did not end well.
    pub async fn stop(self) -> Result<()> {
        for server in self.servers {
            server.stop().await?;
        }
        self.dir.close().context("cannot remove the temporary directory")
    }
}

/// A directory for one deployment.
pub(crate) fn temporary(means: &Means) -> Result<TempDir> {
    tempfile::Builder::new()
        .prefix("trough-bench-")
        .tempdir_in(&means.dir)
        .with_context(|| format!("cannot make a directory in {}", means.dir.display()))
}

/// Writes a year of frames into the journal and claims compaction.
async fn fill(means: &Means, data: &Path, frames: u64) -> Result<u64> {
    let device = |at| DeviceId::new(&format!("backlog-{at:03}"));
    let devices = (0..BACKLOG_DEVICES).map(device).collect::<Result<_, _>>()?;
    let year = Year::before(Clock::system().now(), devices, frames);
    let fill = means.storage.fill;
    blocking(data, move |data| fill(data, &year, &mut |_| {})).await?;
    let claim = blocking(data, means.storage.claim).await?;
    claim.with_context(|| format!("compaction of {} is claimed by another process", data.display()))
}

/// A feeder and an eater.
pub(crate) struct Both {
    /// Their processes.
    pub servers: Vec<Server>,
    /// Where devices connect, `host:port`.
    pub devices: String,
    /// Where readers fetch.
    pub api: String,
    /// Where the eater's counters are.
    pub admin: String,
}

/// Starts both on a data directory.
pub(crate) async fn start_both(means: &Means, dir: &Path, data: &Path) -> Result<Both> {
    let sockets = ["--links", "--api", "--admin"];
    let mut eater = start_service(means, "eater", &sockets, dir, data)?;
    let links = eater.await_line("its links", |line| field(line, "eater starts", "links")).await?;
    let api = eater.await_line("its api", |line| field(line, "eater starts", "api")).await?;
    let admin = eater.await_line("its metrics", |line| field(line, "eater starts", "admin")).await?;
    let mut feeder = start_feeder(means, &["--listen", "--admin"], &links, dir, data)?;
    let devices = feeder.await_line("its port", |line| field(line, "feeder starts", "devices")).await?;
    Ok(Both { servers: vec![feeder, eater], devices, api, admin })
}

/// Where devices connect, in what `trough up` says.
pub(crate) fn devices_of_up(line: &str) -> Option<String> {
    between(line, "ws://", "/")
}

/// Where readers fetch.
pub(crate) fn api_of_up(line: &str) -> Option<String> {
    between(line, "readers fetch from    http://", "/")
}

/// Where counters are.
pub(crate) fn admin_of_up(line: &str) -> Option<String> {
    between(line, "metrics and probes    http://", "/")
}

fn start_service(
    means: &Means,
    command: &'static str,
    sockets: &[&str],
    dir: &Path,
    data: &Path,
) -> Result<Server> {
    Server::start(command, service(means, command, sockets, data)?, dir)
}

fn start_feeder(means: &Means, sockets: &[&str], links: &str, dir: &Path, data: &Path) -> Result<Server> {
    let mut command = service(means, "feeder", sockets, data)?;
    command.args(["--eater", links]);
    Server::start("feeder", command, dir)
}

/// Logs are read for the addresses, so they must be there whatever the environment says; other options can be
/// set through it.
pub(crate) fn service(means: &Means, name: &str, sockets: &[&str], data: &Path) -> Result<Command> {
    let data = data.to_str().context("the temporary directory's name is not UTF-8")?;
    let mut command = Command::new(&means.program);
    command.args([name, "--log", "info", "--log-format", "json", "--data-dir", data]);
    if name != "notifier" {
        command.args(["--linger", "0"]);
    }
    command.args(sockets.iter().flat_map(|socket| [socket, ANY_PORT]));
    means.backends.tell(&mut command);
    Ok(command)
}

/// A field of the log line with this message.
fn field(line: &str, message: &str, name: &str) -> Option<String> {
    let event: serde_json::Value = serde_json::from_str(line).ok()?;
    (event["message"] == message).then(|| event[name].as_str().map(str::to_owned))?
}

fn between(line: &str, before: &str, after: &str) -> Option<String> {
    Some(line.split_once(before)?.1.split_once(after)?.0.to_owned())
}

pub(crate) fn import_devices(
    means: &Means,
    run_name: &str,
    dir: &Path,
    data: &Path,
    count: usize,
) -> Result<Vec<Credentials>> {
    let file = dir.join("devices.csv");
    let mut csv = String::from("id,groups\n");
    for index in 0..count {
        writeln!(csv, "{run_name}-{index:05},")?;
    }
    std::fs::write(&file, csv)?;
    let file = file.to_str().context("the temporary directory's name is not UTF-8")?;
    let printed = run(means, ["devices", "import", file, "--data-dir"], data)?;
    let devices: Vec<_> = printed
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(','))
        .map(|(device, token)| Credentials { device: device.to_owned(), token: token.to_owned() })
        .collect();
    if devices.len() != count {
        bail!("{} devices were imported instead of {count}", devices.len());
    }
    Ok(devices)
}

/// Runs a command of the program to its end and returns what it printed.
pub(crate) fn run<const N: usize>(means: &Means, args: [&str; N], data: &Path) -> Result<String> {
    let mut command = Command::new(&means.program);
    means.backends.tell(&mut command);
    let output = command
        .args(args)
        .arg(data)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", means.program.display()))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!("trough {} failed ({}): {}", args.join(" "), output.status, text.trim());
    }
    String::from_utf8(output.stdout).context("the output is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_frames_wait_for_is_said_without_a_url() {
        let said = |store: Option<&str>, database: Option<&str>| {
            let (store, database) = (store.map(str::to_owned), database.map(str::to_owned));
            Backends { store, flush_after_ms: 100, database }.describe()
        };
        assert_eq!(said(None, None), "journal files");
        let files = said(Some("file:///x"), None);
        assert_eq!(files, "objects in files after 100 ms, catalog in SQLite");
        let s3 = said(Some("s3://b?region=r"), Some("mongodb://me:hunter2@h/d"));
        let besides = "the store's and the database's own CPU is not counted";
        assert_eq!(s3, format!("objects over S3 after 100 ms, catalog in MongoDB; {besides}"));
    }

    #[test]
    fn addresses_are_found_in_what_servers_say() {
        let line =
            r#"{"level":"INFO","message":"eater starts","links":"127.0.0.1:4711","api":"127.0.0.1:1"}"#;
        assert_eq!(field(line, "eater starts", "links").as_deref(), Some("127.0.0.1:4711"));
        assert_eq!(field(line, "feeder starts", "links"), None);
        assert_eq!(field("panicked at", "eater starts", "links"), None);
        let line = "  devices stream to     ws://127.0.0.1:8080/v1/stream";
        assert_eq!(between(line, "ws://", "/").as_deref(), Some("127.0.0.1:8080"));
    }
}
