//! The pods of an overlay as local processes: their rendered commands and environments, with nothing changed but
//! addresses, and the keys and credentials that an operator brings.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use trough_device::{Config, Device};
use trough_tests::certificates::Authority;
use trough_tests::data;
use trough_tests::ledger::{Track, assert_all_readable};
use trough_tests::manifests::{EVERYTHING, Manifests, deploy, list, text};
use trough_tests::poll::{LATER, ends, until};
use trough_tests::reader::{Reader, client};
use trough_tests::servers::{free_ports, own_ip};
use trough_tests::upgrade::Ask;

use super::namespace::{EACH, Namespace};

/// Devices of the real data that send: some thousand frames.
const DEVICES: usize = 30;

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
    let manifests = Manifests::of(EVERYTHING);
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
