//! A deployment of real processes, in one of its shapes.

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

mod options;
mod role;

pub use options::{Entrance, Options, Ways};
pub use role::{Addresses, Role, Shape};

/// A running deployment. Dropping it kills its processes and removes its data.
#[derive(Debug)]
pub struct Cluster {
    /// Where `up`, or the first feeder and the first eater, listen.
    pub at: Addresses,
    /// Where devices come in: the first feeder, unless a test puts something in front of it.
    pub entrance: Entrance,
    /// What processes that are started from now on log.
    pub log_filter: String,
    /// What processes that are started from now on are told.
    pub options: Options,
    shape: Shape,
    /// Those of the feeders and eaters with the same index.
    addresses: Vec<Addresses>,
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
            // A request to a pool of the MongoDB driver panics in the driver if it meets the end of the process.
            let ours = |at: usize| {
                !logs[at..].lines().next().unwrap_or_default().contains("cmap/connection_requester.rs")
            };
            let panic = logs.match_indices("panicked at").map(|(at, _)| at).find(|at| ours(*at));
            let panic = panic.map(|at| logs[at..].chars().take(2000).collect::<String>());
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
            cluster.spawn(role);
        }
        cluster.ready().await;
        cluster
    }

    /// A deployment with a data directory and a reader, of which no process runs yet.
    pub async fn prepare(shape: Shape, options: Options) -> Self {
        let dir = tempfile::Builder::new().prefix("trough-test-").tempdir().unwrap();
        let most = options.feeders.max(options.eaters);
        let addresses: Vec<_> = std::iter::repeat_with(Addresses::new).take(most).collect();
        let at = addresses[0];
        let mut cluster = Self {
            at,
            entrance: Entrance { url: format!("ws://{}", at.devices), tls: None },
            log_filter: "info".into(),
            shape,
            options,
            addresses,
            processes: BTreeMap::new(),
            client: client(),
            reader_token: String::new(),
            dir,
        };
        cluster.reader_token = cluster.add_reader("all", &[]).await;
        cluster
    }

    /// Its processes.
    pub fn roles(&self) -> Vec<Role> {
        match self.shape {
            Shape::Up => vec![Role::Up],
            Shape::Split | Shape::Objects => {
                let eaters = (0..self.options.eaters).map(Role::Eater);
                eaters.chain((0..self.options.feeders).map(Role::Feeder)).collect()
            }
        }
    }

    /// Which process has the sessions: the first of them.
    pub fn front(&self) -> Role {
        if self.shape == Shape::Up { Role::Up } else { Role::Feeder(0) }
    }

    /// Which process has the journal: the first of them.
    pub fn back(&self) -> Role {
        if self.shape == Shape::Up { Role::Up } else { Role::Eater(0) }
    }

    /// Where the feeders take devices.
    pub fn feeders(&self) -> Vec<SocketAddr> {
        self.addresses[..self.options.feeders].iter().map(|at| at.devices).collect()
    }

    /// Where the eaters take readers.
    pub fn eaters(&self) -> Vec<SocketAddr> {
        self.addresses[..self.options.eaters].iter().map(|at| at.api).collect()
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
        let Addresses { devices, api, links, admin, eater_admin } = self.addresses[role.index()];
        let mut command = command();
        command.args(["--log-format", "json", "--log", &self.log_filter, role.command()]);
        command.arg("--data-dir").arg(self.data_dir());
        let mut listen = |pairs: &[(&str, SocketAddr)]| {
            for (option, at) in pairs {
                command.args([*option, &at.to_string()]);
            }
        };
        match role {
            Role::Up => listen(&[("--listen", devices), ("--api", api), ("--admin", admin)]),
            Role::Feeder(_) => {
                listen(&[("--listen", devices), ("--admin", admin)]);
                command.args(["--eater", &self.eater_option(role)]);
            }
            Role::Eater(_) => listen(&[("--links", links), ("--api", api), ("--admin", eater_admin)]),
        }
        let way = self.options.ways.get(&role);
        if role != Role::Up {
            let own = way.and_then(|way| way.database.as_ref());
            command.args(database_args(own.or(self.options.database.as_ref())));
        }
        command.args(["--linger", "0"]);
        if matches!(role, Role::Eater(_)) && self.shape == Shape::Objects {
            command.arg("--store").arg(format!("file://{}", self.dir.path().join("store").display()));
        }
        if !matches!(role, Role::Eater(_)) {
            command.args(&self.options.feeder_args);
        }
        if matches!(role, Role::Eater(_)) {
            command.args(&self.options.eater_args);
        }
        command.args(way.iter().flat_map(|way| &way.args));
        command.envs(self.options.env.iter().copied());
        let log = self.log_path(role);
        let process = Process::spawn(&role.name(), &mut command, &log);
        self.processes.insert(role, process);
    }

    /// Names another database to processes that are started from now on.
    pub fn set_database(&mut self, url: &str) {
        self.options.database = Some(url.to_owned());
    }

    /// The options that name the database, if there is one.
    pub fn database_args(&self) -> Vec<String> {
        database_args(self.options.database.as_ref())
    }

    /// Where the eaters take links.
    pub fn links(&self) -> Vec<SocketAddr> {
        self.addresses[..self.options.eaters].iter().map(|at| at.links).collect()
    }

    /// Where a feeder finds its eaters.
    fn eater_option(&self, role: Role) -> String {
        let eaters = match (self.options.eater, self.options.ways.get(&role)) {
            (Some(at), _) => vec![at],
            (None, Some(way)) if !way.eaters.is_empty() => way.eaters.clone(),
            (None, _) => self.links(),
        };
        eaters.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
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
                assert!(!self.process(role).has_ended(), "{role:?} ended instead of becoming ready");
                let (status, body) = self.readiness(role).await?;
                (status == 200 && body["degraded"].as_array()?.is_empty()).then_some(())
            })
            .await;
        }
    }

    /// Where a process has its admin port.
    pub fn admin_of(&self, role: Role) -> SocketAddr {
        let at = self.addresses[role.index()];
        if matches!(role, Role::Eater(_)) { at.eater_admin } else { at.admin }
    }

    /// What `/readyz` says; `None` if nobody answers.
    pub async fn readiness(&self, role: Role) -> Option<(u16, Value)> {
        let at = self.admin_of(role);
        let response = self.client.get(format!("http://{at}/readyz")).send().await.ok()?;
        Some((response.status().as_u16(), serde_json::from_str(&response.text().await.ok()?).ok()?))
    }

    /// A process's metrics.
    pub async fn metrics(&self, role: Role) -> String {
        let at = self.admin_of(role);
        self.client.get(format!("http://{at}/metrics")).send().await.unwrap().text().await.unwrap()
    }

    /// One figure of a process's metrics.
    ///
    /// # Panics
    /// If there is none of this name without labels.
    pub async fn metric(&self, role: Role, name: &str) -> f64 {
        let metrics = self.metrics(role).await;
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("{role:?} has no metric {name}")).parse().unwrap()
    }

    /// The log lines of a process and of those before it.
    pub fn log(&self, role: Role) -> Vec<Value> {
        let text = fs::read_to_string(self.log_path(role)).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Everything that any process has printed.
    pub fn all_logs(&self) -> String {
        self.roles()
            .into_iter()
            .map(|role| fs::read_to_string(self.log_path(role)).unwrap_or_default())
            .collect()
    }

    /// How the sessions of a device ended, in order, by the names of their codes; feeder by feeder.
    pub fn session_ends(&self, device: &str) -> Vec<String> {
        let fronts = self.roles().into_iter().filter(|role| !matches!(role, Role::Eater(_)));
        let log: Vec<Value> = fronts.flat_map(|role| self.log(role)).collect();
        let ended = log.iter().filter(|line| line["message"] == "session ended" && line["device"] == device);
        ended.filter_map(|line| line["end"].as_str().map(str::to_owned)).collect()
    }

    /// A reader of everything, at the first eater.
    pub fn reader(&self) -> Reader {
        Reader::new(format!("http://{}", self.at.api), self.reader_token.clone())
    }

    /// One at each eater.
    pub fn readers(&self) -> Vec<Reader> {
        let base = |at: &SocketAddr| format!("http://{at}");
        self.eaters().iter().map(|at| Reader::new(base(at), self.reader_token.clone())).collect()
    }

    /// The token of that reader.
    pub fn reader_token(&self) -> &str {
        &self.reader_token
    }

    /// Where the client library connects.
    pub fn url(&self) -> String {
        self.entrance.url.clone()
    }
}

fn database_args(url: Option<&String>) -> Vec<String> {
    url.into_iter().flat_map(|url| ["--database".to_owned(), url.clone()]).collect()
}
