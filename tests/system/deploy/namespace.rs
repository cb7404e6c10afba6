//! A namespace: the pods of an overlay as local processes over real servers, with the keys and credentials that an operator
//! brings.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use tempfile::TempDir;
use trough_tests::admin::run;
use trough_tests::manifests::{Manifests, Pod, Source, text};
use trough_tests::poll::{LATER, ends, until};
use trough_tests::process::{Process, command};
use trough_tests::reader::client;
use trough_tests::servers::memcached::Memcached;
use trough_tests::servers::mongo::Mongo;
use trough_tests::servers::seaweed::{ACCESS, Seaweed};
use trough_tests::servers::{free_ports, own_ip};

/// Feeders and eaters: two of each, as the least that the base runs.
pub(super) const EACH: usize = 2;

/// The namespace.
pub(super) struct Namespace {
    pub manifests: Manifests,
    database: Mongo,
    store: Seaweed,
    bus: Memcached,
    pub cache: Memcached,
    /// Keys, logs, and an empty directory to run in.
    pub dir: TempDir,
    /// By the name of the pod.
    running: BTreeMap<String, (Process, BTreeMap<&'static str, SocketAddr>)>,
}

impl Namespace {
    pub async fn start() -> Self {
        let manifests = Manifests::of("overlays/local");
        let (database, store) = (Mongo::start().await, Seaweed::start().await);
        let bus = Memcached::start(&manifests.pod("bus").args()).await;
        let cache = Memcached::start(&manifests.pod("cache").args()).await;
        let dir = tempfile::Builder::new().prefix("trough-pods-").tempdir().unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        let running = BTreeMap::new();
        let mut namespace = Self { manifests, database, store, bus, cache, dir, running };
        for name in ["eater", "feeder", "notifier"] {
            for index in 0..EACH {
                let [http, admin, links] = free_ports(own_ip());
                let at = BTreeMap::from([("http", http), ("admin", admin), ("links", links)]);
                namespace.spawn(name, index, at, &[]);
            }
        }
        namespace.ready().await;
        namespace
    }

    /// Starts a pod, for the first time or in the place of one that has ended.
    pub fn spawn(
        &mut self,
        name: &str,
        index: usize,
        at: BTreeMap<&'static str, SocketAddr>,
        more: &[(&str, &str)],
    ) {
        let pod = self.manifests.pod(name);
        let mut process = self.command(&pod, &pod.args());
        for (port, at) in pod.ports().keys().map(|port| (*port, at[port])) {
            let variable = match (name, port) {
                ("feeder", "http") => "TROUGH_LISTEN",
                ("eater", "http") => "TROUGH_API",
                (_, "links") => "TROUGH_LINKS",
                _ => "TROUGH_ADMIN",
            };
            process.env(variable, at.to_string());
        }
        process.envs(more.iter().copied());
        let log = self.dir.path().join(format!("{name}-{index}.log"));
        let process = Process::spawn(name, &mut process, &log);
        self.running.insert(format!("{name}-{index}"), (process, at));
    }

    /// What `kubectl exec` would run in this pod: these arguments, with the environment of its container.
    fn command(&self, pod: &Pod<'_>, args: &[&str]) -> Command {
        let mut command = command();
        command.args(args).current_dir(self.dir.path().join("root"));
        for (name, source) in pod.environment() {
            let value = match source {
                Source::Value(value) if name.ends_with("_FILE") => self.key(Path::new(&value)),
                Source::Value(value) => self.here(&value),
                Source::Secret(secret, key) => self.secret(&secret, &key),
            };
            command.env(name, value);
        }
        command
    }

    /// The same value, with the addresses that Services have here.
    fn here(&self, value: &str) -> String {
        let links =
            (0..EACH).filter_map(|index| Some(self.running.get(&format!("eater-{index}"))?.1["links"]));
        let links = links.map(|at| at.to_string()).collect::<Vec<_>>().join(",");
        let value = value.replace("eater-links:8082", &links);
        let value = value.replace("//bus:11211", &format!("//{}", self.bus.at));
        let value = value.replace("//cache:11211", &format!("//{}", self.cache.at));
        value.replace("//seaweedfs:8333", &format!("//{}", self.store.at))
    }

    /// A file that a Secret would be mounted as.
    fn key(&self, path: &Path) -> String {
        let file: PathBuf = self.dir.path().join(path.file_name().unwrap());
        // Once: a process that has just begun may be reading it.
        if !file.exists() {
            fs::write(&file, [b'k'; 32]).unwrap();
        }
        file.display().to_string()
    }

    fn secret(&self, secret: &str, key: &str) -> String {
        match (secret, key) {
            ("trough-database", "url") => self.database.url("trough"),
            ("trough-store", "access-key-id") => ACCESS.access_key.to_owned(),
            ("trough-store", "secret-access-key") => ACCESS.secret_key.to_owned(),
            other => panic!("{other:?}: a secret that nobody made"),
        }
    }

    /// `kubectl exec deploy/eater -- trough …`
    pub async fn exec(&self, args: &[&str], input: &str) -> String {
        self.exec_in("eater-0", args, input).await
    }

    /// The same in another pod. Nobody else has its admin port there, so the command finds it; here it is named.
    pub async fn exec_in(&self, pod: &str, args: &[&str], input: &str) -> String {
        let output = self.output_in(pod, args, input).await;
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// Whether it succeeds.
    pub async fn try_exec(&self, pod: &str, args: &[&str]) -> bool {
        self.output_in(pod, args, "").await.status.success()
    }

    async fn output_in(&self, pod: &str, args: &[&str], input: &str) -> Output {
        let of = self.manifests.pod(pod.split('-').next().unwrap());
        let mut command = self.command(&of, args);
        command.env("TROUGH_ADMIN", self.at(pod, "admin").to_string());
        if let Some(Source::Value(url)) = of.environment().get("TROUGH_HEALTH_URL") {
            let number = url.rsplit(':').next().and_then(|port| port.parse().ok());
            let (port, _) =
                of.ports().into_iter().find(|(_, at)| Some(*at) == number).expect("a port of its own");
            command.env("TROUGH_HEALTH_URL", format!("http://{}", self.at(pod, port)));
        }
        ends("the command ends", LATER, run(command, input)).await
    }

    /// Waits until every readiness probe succeeds, and nothing is degraded.
    pub async fn ready(&mut self) {
        let client = client();
        for (name, (process, at)) in &mut self.running {
            let pod = self.manifests.pod(name.split('-').next().unwrap());
            let probe = &pod.container["readinessProbe"]["httpGet"];
            let url = format!("http://{}{}", at[text(&probe["port"])], text(&probe["path"]));
            until(&format!("{name} is ready"), LATER, async || {
                assert!(!process.has_ended(), "{name} ended:\n{}", process.log());
                let answer = client.get(&url).send().await.ok()?;
                let whole = answer.status() == 200;
                (whole && answer.text().await.ok()?.contains(r#""degraded":[]"#)).then_some(())
            })
            .await;
        }
    }

    /// SIGTERM; once it has ended, as it must before the kubelet loses its patience, another takes its place.
    pub async fn roll(&mut self, name: &str, index: usize) {
        let patience = self.manifests.pod(name).spec["terminationGracePeriodSeconds"].as_u64().unwrap();
        let (mut process, at) = self.running.remove(&format!("{name}-{index}")).unwrap();
        process.terminate();
        let exit = process.wait(Duration::from_secs(patience)).await;
        assert_eq!(exit.code, Some(0), "{name}:\n{}", process.log());
        self.spawn(name, index, at, &[]);
        self.ready().await;
    }

    pub fn at(&self, pod: &str, port: &str) -> SocketAddr {
        self.running[pod].1[port]
    }

    /// The names of all samples that all pods have.
    pub async fn samples(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for (_, at) in self.running.values() {
            let url = format!("http://{}/metrics", at["admin"]);
            let metrics = client().get(url).send().await.unwrap().text().await.unwrap();
            let samples = metrics.lines().filter(|line| !line.starts_with('#'));
            names.extend(samples.map(|line| line.split(['{', ' ']).next().unwrap().to_owned()));
        }
        names
    }
}
