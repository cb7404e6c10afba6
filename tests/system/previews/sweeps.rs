//! Sweeps over the metrics of real processes.

use serde_json::json;
use trough_device::{Config, Device};
use trough_protocol::ContentType;
use trough_protocol::frame::FrameRef;
use trough_tests::cluster::{Cluster, Shape};
use trough_tests::manifests::Manifests;
use trough_tests::poll::{SOON, ends, until};
use trough_tests::servers::kubernetes::Kubernetes;

use super::{LONG_AGO, age, cluster_with, namespace, sweep};

/// What is in the slot before and after, and must be.
const KEPT: [&str; 2] = ["Secret/trough-store", "PersistentVolumeClaim/data-mongodb-0"];

async fn slot_of(cluster: &Cluster) -> Kubernetes {
    let kubernetes = cluster_with(&["ant"]).await;
    let ant = namespace("ant");
    kubernetes.run(&ant, "feeder", Some(cluster.at.admin));
    kubernetes.run(&ant, "eater", Some(cluster.at.eater_admin));
    // Waits for a node: nobody can have used it.
    kubernetes.run(&ant, "notifier", None);
    for kept in KEPT {
        let (kind, name) = kept.split_once('/').unwrap();
        kubernetes
            .apply(&[json!({ "kind": kind, "metadata": { "name": name, "namespace": ant } })], LONG_AGO);
    }
    kubernetes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_and_readers_keep_a_slot_awake_and_nothing_else_does() {
    let mut cluster = Cluster::start(Shape::Split).await;
    let kubernetes = slot_of(&cluster).await;
    assert_eq!(sweep(&kubernetes, "bee", &[]).await, "asleep");
    // The first look was the one before.
    assert!(sweep(&kubernetes, "ant", &[]).await.starts_with("no devices or readers for 0 of "));

    let token = cluster.add_device("bus-1").await;
    let device = Device::start(Config::new(cluster.url(), &token)).unwrap();
    let frame = FrameRef { ts: 1, channel: "a", content_type: ContentType::Text, payload: b"1" };
    device.send(frame).await.unwrap();
    ends("it is acknowledged", SOON, device.flush()).await.unwrap();
    age(&kubernetes, "ant");
    let said = sweep(&kubernetes, "ant", &[]).await;
    assert!(said.contains("sessions of devices are open (1)"), "{said}");
    ends("it closes", SOON, device.close()).await.unwrap();
    let client = trough_tests::reader::client();
    until("the feeder has noticed", SOON, async || {
        let metrics = client.get(format!("http://{}/metrics", cluster.at.admin)).send().await.ok()?;
        metrics.text().await.ok()?.contains("trough_feeder_sessions 0\n").then_some(())
    })
    .await;
    age(&kubernetes, "ant");
    let said = sweep(&kubernetes, "ant", &[]).await;
    assert!(said.contains("sessions of devices that have ended came (1)"), "{said}");
    assert_eq!(cluster.reader().frames("bus-1").await.len(), 1);
    age(&kubernetes, "ant");
    let said = sweep(&kubernetes, "ant", &[]).await;
    assert!(said.contains("requests of readers came"), "{said}");

    // Probes, scrapes and whoever has no right are no readers.
    for path in ["/healthz", "/readyz", "/v1/devices"] {
        client.get(format!("http://{}{path}", cluster.at.api)).send().await.unwrap();
    }
    client.get(format!("http://{}/metrics", cluster.at.eater_admin)).send().await.unwrap();
    age(&kubernetes, "ant");
    let said = sweep(&kubernetes, "ant", &["--dry-run"]).await;
    assert!(said.contains("would put to sleep"), "{said}");

    // One that cannot be asked may be in use.
    cluster.kill(cluster.back());
    let said = sweep(&kubernetes, "ant", &[]).await;
    assert!(said.starts_with("left alone, as nobody knows whether it is in use: eater-"), "{said}");
    assert!(kubernetes.names(&namespace("ant")).contains(&"Deployment/eater".to_owned()));
    cluster.spawn(cluster.back());
    cluster.ready().await;
    // It counts from 0 again; that is no use.
    let said = sweep(&kubernetes, "ant", &["--dry-run"]).await;
    assert!(said.contains("would put to sleep"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgotten_slot_loses_its_workloads_and_nothing_else() {
    let cluster = Cluster::start(Shape::Split).await;
    let kubernetes = slot_of(&cluster).await;
    let ant = namespace("ant");
    kubernetes
        .apply(&[json!({ "kind": "Pod", "metadata": { "name": "debug", "namespace": ant } })], LONG_AGO);
    let before = kubernetes.names(&ant);
    assert!(sweep(&kubernetes, "ant", &[]).await.contains("for the first time"));
    age(&kubernetes, "ant");
    let (calls, said) = (kubernetes.calls().len(), sweep(&kubernetes, "ant", &["--dry-run"]).await);
    assert!(said.contains("would put to sleep"), "{said}");
    let changing = |call: &String| !call.starts_with("GET ") && !call.ends_with("/configmaps/activity");
    assert_eq!(kubernetes.calls()[calls..].iter().filter(|call| changing(call)).count(), 0);
    assert_eq!(kubernetes.names(&ant), before, "a dry run ends nothing");

    let (calls, said) = (kubernetes.calls().len(), sweep(&kubernetes, "ant", &[]).await);
    assert!(said.contains("put to sleep horizontalpodautoscalers/"), "{said}");
    assert!(said.contains("kubectl apply -k deploy/preview/slots/ant"), "{said}");
    let makes_pods = ["Deployment/", "StatefulSet/", "HorizontalPodAutoscaler/", "Pod/"];
    let kept: Vec<String> =
        before.iter().filter(|name| !makes_pods.iter().any(|kind| name.starts_with(kind))).cloned().collect();
    assert_eq!(kubernetes.names(&ant), kept);
    assert!(
        kept.iter().any(|name| name.starts_with("ConfigMap/feeder-"))
            && KEPT.iter().all(|k| kept.contains(&(*k).to_owned()))
    );
    let calls = kubernetes.calls()[calls..].to_vec();
    let at = |part: &str| {
        calls.iter().position(|call| call.contains(part)).unwrap_or_else(|| panic!("{part}: {calls:?}"))
    };
    let order = [
        "DELETE /apis/autoscaling",
        "/deployments/feeder/scale",
        "DELETE /apis/apps/v1/namespaces/trough-preview-ant/deployments/feeder",
        "/statefulsets/mongodb/scale",
        "DELETE /apis/apps/v1/namespaces/trough-preview-ant/statefulsets/mongodb",
    ];
    assert!(order.windows(2).all(|pair| at(pair[0]) < at(pair[1])), "the database goes last: {calls:?}");
    assert_eq!(sweep(&kubernetes, "ant", &[]).await, "asleep");

    // It is woken, and nobody has come yet: it has its time.
    kubernetes.apply(&Manifests::of("preview/slots/ant").objects, "2999-01-01T00:00:00Z");
    let said = sweep(&kubernetes, "ant", &[]).await;
    assert!(said.starts_with("no devices or readers for 0 of "), "{said}");
}
