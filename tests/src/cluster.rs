//! A deployment of real processes, in one of its two shapes.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Client;
use serde_json::Value;
use tempfile::TempDir;

use crate::poll::{LATER, until};
use crate::process::{Exit, Process, command};
use crate::reader::{Reader, client};
use crate::servers::{free_ports, own_ip};

/// How a deployment is cut into processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `trough up`.
    Up,
    /// `trough feeder` and `trough eater`.
    Split,
}

/// One process of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Everything.
    Up,
    /// What devices connect to.
    Feeder,
    /// What stores.
    Eater,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Feeder => "feeder",
            Self::Eater => "eater",
        }
    }
}

/// Where everything listens: the same over all restarts, on a loopback address of its own ([`own_ip`]).
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// For devices.
    pub devices: SocketAddr,
    /// For readers.
    pub api: SocketAddr,
    /// For links.
    pub links: SocketAddr,
    /// The admin port of `up` or the feeder.
    pub admin: SocketAddr,
    /// The admin port of the eater.
    pub eater_admin: SocketAddr,
}

impl Addresses {
    fn new() -> Self {
        let [devices, api, links, admin, eater_admin] = free_ports(own_ip());
        Self { devices, api, links, admin, eater_admin }
    }
}

/// What a test may want to be different from the defaults.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Further arguments of whatever has devices.
    pub feeder_args: Vec<String>,
    /// Further arguments of the eater, if it is a process of its own.
    pub eater_args: Vec<String>,
    /// Where the feeder finds its eater, if it is not the one of this deployment.
    pub eater: Option<SocketAddr>,
}

/// A running deployment. Dropping it kills its processes and removes its data.
#[derive(Debug)]
pub struct Cluster {
    /// Where everything listens.
    pub at: Addresses,
    /// What processes that are started from now on log.
    pub log_filter: String,
    /// What processes that are started from now on are told.
    pub options: Options,
    shape: Shape,
    processes: BTreeMap<Role, Process>,
    client: Client,
    reader_token: String,
    dir: TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.processes.values_mut().for_each(Process::kill);
        // Whatever a test was about: no thread of a server may panic.
        if !std::thread::panicking() {
            let logs = self.all_logs();
            let panic = logs.find("panicked at").map(|at| logs[at..].chars().take(2000).collect::<String>());
            assert_eq!(panic, None, "a server panicked");
        }
    }
}

impl Cluster {
    /// Starts a deployment and waits until it is ready.
    pub async fn start(shape: Shape) -> Self {
        Self::start_with(shape, Options::default()).await
    }

    /// The same with options.
    pub async fn start_with(shape: Shape, options: Options) -> Self {
        let mut cluster = Self::prepare(shape, options).await;
        for role in cluster.roles() {
            cluster.spawn(*role);
        }
        cluster.ready().await;
        cluster
    }

    /// A deployment with a data directory and a reader, of which no process runs yet.
    pub async fn prepare(shape: Shape, options: Options) -> Self {
        let dir = tempfile::Builder::new().prefix("trough-test-").tempdir().unwrap();
        let mut cluster = Self {
            at: Addresses::new(),
            log_filter: "info".into(),
            shape,
            options,
            processes: BTreeMap::new(),
            client: client(),
            reader_token: String::new(),
            dir,
        };
        cluster.reader_token = cluster.add_reader("all", &[]).await;
        cluster
    }

    /// Its processes.
    pub fn roles(&self) -> &'static [Role] {
        match self.shape {
            Shape::Up => &[Role::Up],
            Shape::Split => &[Role::Eater, Role::Feeder],
        }
    }

    /// Which process has the sessions.
    pub fn front(&self) -> Role {
        if self.shape == Shape::Up { Role::Up } else { Role::Feeder }
    }

    /// Which process has the journal.
    pub fn back(&self) -> Role {
        if self.shape == Shape::Up { Role::Up } else { Role::Eater }
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A place for other files.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Starts a process, again or for the first time.
    pub fn spawn(&mut self, role: Role) {
        let Addresses { devices, api, links, admin, eater_admin } = self.at;
        let mut command = command();
        command.args(["--log-format", "json", "--log", &self.log_filter, role.name()]);
        command.arg("--data-dir").arg(self.data_dir());
        let mut listen = |pairs: &[(&str, SocketAddr)]| {
            for (option, at) in pairs {
                command.args([*option, &at.to_string()]);
            }
        };
        match role {
            Role::Up => listen(&[("--listen", devices), ("--api", api), ("--admin", admin)]),
            Role::Feeder => {
                let eater = self.options.eater.unwrap_or(links);
                listen(&[("--listen", devices), ("--admin", admin), ("--eater", eater)]);
            }
            Role::Eater => listen(&[("--links", links), ("--api", api), ("--admin", eater_admin)]),
        }
        command.args(["--linger", "0"]);
        command.args(match role {
            Role::Eater => &self.options.eater_args,
            Role::Feeder | Role::Up => &self.options.feeder_args,
        });
        let log = self.log_path(role);
        let process = Process::spawn(role.name(), &mut command, &log);
        self.processes.insert(role, process);
    }

    fn log_path(&self, role: Role) -> PathBuf {
        self.dir.path().join(format!("{}.log", role.name()))
    }

    /// A process.
    pub fn process(&mut self, role: Role) -> &mut Process {
        self.processes.get_mut(&role).unwrap_or_else(|| panic!("{role:?} was not started"))
    }

    /// SIGKILL.
    pub fn kill(&mut self, role: Role) {
        self.process(role).kill();
    }

    /// SIGTERM, and waits for the end.
    pub async fn terminate(&mut self, role: Role, within: Duration) -> Exit {
        self.process(role).terminate();
        self.process(role).wait(within).await
    }

    /// Resident memory of a process, in bytes.
    pub fn rss_bytes(&mut self, role: Role) -> u64 {
        self.process(role).rss_bytes()
    }

    /// Waits until all processes are ready and no part is degraded.
    pub async fn ready(&mut self) {
        for role in self.roles() {
            let what = format!("{role:?} is ready");
            until(&what, LATER, async || {
                assert!(!self.process(*role).has_ended(), "{role:?} ended instead of becoming ready");
                let (status, body) = self.readiness(*role).await?;
                (status == 200 && body["degraded"].as_array()?.is_empty()).then_some(())
            })
            .await;
        }
    }

    /// What `/readyz` says; `None` if nobody answers.
    pub async fn readiness(&self, role: Role) -> Option<(u16, Value)> {
        let at = if role == Role::Eater { self.at.eater_admin } else { self.at.admin };
        let response = self.client.get(format!("http://{at}/readyz")).send().await.ok()?;
        Some((response.status().as_u16(), serde_json::from_str(&response.text().await.ok()?).ok()?))
    }

    /// A process's metrics.
    pub async fn metrics(&self, role: Role) -> String {
        let at = if role == Role::Eater { self.at.eater_admin } else { self.at.admin };
        self.client.get(format!("http://{at}/metrics")).send().await.unwrap().text().await.unwrap()
    }

    /// The log lines of a process and of those before it.
    pub fn log(&self, role: Role) -> Vec<Value> {
        let text = fs::read_to_string(self.log_path(role)).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Everything that any process has printed.
    pub fn all_logs(&self) -> String {
        self.roles().iter().map(|role| fs::read_to_string(self.log_path(*role)).unwrap_or_default()).collect()
    }

    /// How the sessions of a device ended, in order, by the names of their codes.
    pub fn session_ends(&self, device: &str) -> Vec<String> {
        let log = self.log(self.front());
        let ended = log.iter().filter(|line| line["message"] == "session ended" && line["device"] == device);
        ended.filter_map(|line| line["end"].as_str().map(str::to_owned)).collect()
    }

    /// A reader of everything.
    pub fn reader(&self) -> Reader {
        Reader::new(format!("http://{}", self.at.api), self.reader_token.clone())
    }

    /// Where the client library connects.
    pub fn url(&self) -> String {
        format!("ws://{}", self.at.devices)
    }
}
