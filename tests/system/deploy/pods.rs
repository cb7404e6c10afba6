//! The pods of an overlay as local processes: their rendered commands and environments, with nothing changed but
//! addresses, and the keys and credentials that an operator brings.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use trough_device::{Config, Device};
use trough_tests::admin::run;
use trough_tests::certificates::Authority;
use trough_tests::data;
use trough_tests::ledger::{Track, assert_all_readable};
use trough_tests::manifests::{Manifests, Pod, Source, deploy, list, text};
use trough_tests::poll::{LATER, ends, until};
use trough_tests::process::{Process, command};
use trough_tests::reader::{Reader, client};
use trough_tests::servers::memcached::Memcached;
use trough_tests::servers::mongo::Mongo;
use trough_tests::servers::seaweed::{ACCESS, Seaweed};
use trough_tests::servers::{free_ports, own_ip};
use trough_tests::upgrade::Ask;

/// Devices of the real data that send: some thousand frames.
const DEVICES: usize = 30;
/// Feeders and eaters: two of each, as the least that the base runs.
const EACH: usize = 2;

/// The namespace.
struct Namespace {
    manifests: Manifests,
    database: Mongo,
    store: Seaweed,
    bus: Memcached,
    cache: Memcached,
    /// Keys, logs, and an empty directory to run in.
    dir: TempDir,
    /// By the name of the pod.
    running: BTreeMap<String, (Process, BTreeMap<&'static str, SocketAddr>)>,
}

impl Namespace {
    async fn start() -> Self {
        let manifests = Manifests::of("overlays/local");
        let (database, store) = (Mongo::start().await, Seaweed::start().await);
        let bus = Memcached::start(&manifests.pod("bus").args()).await;
        let cache = Memcached::start(&manifests.pod("cache").args()).await;
        let dir = tempfile::Builder::new().prefix("trough-pods-").tempdir().unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        let mut namespace = Self { manifests, database, store, bus, cache, dir, running: BTreeMap::new() };
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
    fn spawn(
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
    async fn exec(&self, args: &[&str], input: &str) -> String {
        let output = run(self.command(&self.manifests.pod("eater"), args), input).await;
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// Waits until every readiness probe succeeds, and nothing is degraded.
    async fn ready(&mut self) {
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
    async fn roll(&mut self, name: &str, index: usize) {
        let patience = self.manifests.pod(name).spec["terminationGracePeriodSeconds"].as_u64().unwrap();
        let (mut process, at) = self.running.remove(&format!("{name}-{index}")).unwrap();
        process.terminate();
        let exit = process.wait(Duration::from_secs(patience)).await;
        assert_eq!(exit.code, Some(0), "{name}:\n{}", process.log());
        self.spawn(name, index, at, &[]);
        self.ready().await;
    }

    fn at(&self, pod: &str, port: &str) -> SocketAddr {
        self.running[pod].1[port]
    }

    /// The names of all samples that all pods have.
    async fn samples(&self) -> BTreeSet<String> {
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

/// Sends a part of a track, and waits until it is durable.
async fn send(devices: &[Arc<Device>], tracks: &[Track], part: usize, of: usize) {
    for (device, track) in devices.iter().zip(tracks) {
        let length = track.sent.len();
        for frame in &track.sent[length * part / of..length * (part + 1) / of] {
            device.send(frame.frame()).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rendered_pods_take_frames_while_they_are_rolled() {
    let mut namespace = Namespace::start().await;
    let mut tracks = data::gpsd();
    tracks.truncate(DEVICES);
    let ids: String = tracks.iter().map(|track| format!("{},\n", track.device)).collect();
    let tokens = namespace.exec(&["devices", "import", "-"], &ids).await;
    let tokens: BTreeMap<&str, &str> = tokens.lines().filter_map(|line| line.split_once(',')).collect();
    let devices: Vec<Arc<Device>> = tracks
        .iter()
        .enumerate()
        .map(|(index, track)| {
            let at = namespace.at(&format!("feeder-{}", index % EACH), "http");
            let mut config = Config::new(format!("ws://{at}"), tokens[&*track.device]);
            (config.backoff_min, config.backoff_max) =
                (Duration::from_millis(20), Duration::from_millis(500));
            Arc::new(Device::start(config).unwrap())
        })
        .collect();
    let rolled = ["feeder-0", "eater-0", "notifier-0", "eater-1", "feeder-1"];
    for (part, name) in rolled.iter().enumerate() {
        send(&devices, &tracks, part, rolled.len() + 1).await;
        // What was sent is on its way, now.
        let (name, index) = name.split_once('-').unwrap();
        namespace.roll(name, index.parse().unwrap()).await;
    }
    send(&devices, &tracks, rolled.len(), rolled.len() + 1).await;
    for device in &devices {
        ends("all is acknowledged", LATER, device.close()).await.unwrap();
    }
    let reader = namespace.exec(&["readers", "add", "all"], "").await;
    for eater in ["eater-0", "eater-1"] {
        let reader = Reader::new(format!("http://{}", namespace.at(eater, "http")), reader.clone());
        assert_all_readable(&reader, &tracks).await;
    }
    // The root filesystem of the pods is read-only.
    assert_eq!(fs::read_dir(namespace.dir.path().join("root")).unwrap().count(), 0, "a pod wrote a file");
    metrics_exist(&mut namespace).await;
}

/// Names of metrics in an expression.
fn metrics_in(expression: &str) -> impl Iterator<Item = &str> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("trough_") || word.starts_with("process_"))
}

async fn metrics_exist(namespace: &mut Namespace) {
    // What is only counted once it has happened.
    let refused =
        Ask::new(namespace.at("feeder-0", "http"), "/v1/stream").speaks("trough.v1").token("no").send();
    assert_eq!(refused.await.unwrap_err().status, 401);
    let issued = Authority::new("a").issue(&["localhost"]);
    let file = |name: &str, text: &str| {
        let path = namespace.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (cert, key) = (file("tls.crt", &issued.certificate), file("tls.key", &issued.key));
    let [http, admin] = free_ports(own_ip());
    let tls = [("TROUGH_TLS_CERT", &*cert), ("TROUGH_TLS_KEY", &*key)];
    namespace.spawn("feeder", EACH, BTreeMap::from([("http", http), ("admin", admin)]), &tls);
    let expressions = expressions();
    let named: BTreeSet<&str> = expressions.iter().flat_map(|expression| metrics_in(expression)).collect();
    assert!(named.len() > 30, "{named:?}");
    // A memcached that is away is what makes calls to it fail.
    namespace.cache.kill();
    until("every metric that is named is there", LATER, async || {
        let client = client();
        client.get(format!("http://{admin}/healthz")).send().await.ok()?;
        let known = namespace.samples().await;
        let missing: Vec<_> = named.iter().filter(|name| !known.contains(**name)).collect();
        if !missing.is_empty() {
            println!("not there yet: {missing:?}");
        }
        missing.is_empty().then_some(())
    })
    .await;
}

/// Of all alerts, and of all panels of the dashboard.
fn expressions() -> Vec<String> {
    let manifests = Manifests::of(super::PRODUCTION);
    let rules = manifests.of_kind("PrometheusRule").flat_map(|rules| list(&rules["spec"]["groups"]));
    let alerts = rules.flat_map(|group| list(&group["rules"])).map(|rule| text(&rule["expr"]).to_owned());
    let dashboard = fs::read(deploy().join("components/monitoring/dashboard.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_slice(&dashboard).unwrap();
    let targets = list(&dashboard["panels"]).iter().flat_map(|panel| list(&panel["targets"]));
    let panels = targets.map(|target| text(&target["expr"]).to_owned());
    let variables =
        list(&dashboard["templating"]["list"]).iter().map(|variable| text(&variable["query"]).to_owned());
    alerts.chain(panels).chain(variables).collect()
}
