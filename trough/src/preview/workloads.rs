//! What runs in a slot, and how that ends: what is one's own first, while the database is still there.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::kubernetes::{Kubernetes, KubernetesError, Object};

/// Kinds that make pods, or decide how many: what is deleted. What holds data or keys is not among them.
const KINDS: [Kind; 7] = [
    // First, or it would undo the rest.
    Kind { api: "apis/autoscaling/v2", plural: "horizontalpodautoscalers", scales: false },
    Kind { api: "apis/batch/v1", plural: "cronjobs", scales: false },
    Kind { api: "apis/batch/v1", plural: "jobs", scales: false },
    Kind { api: "apis/apps/v1", plural: "deployments", scales: true },
    Kind { api: "apis/apps/v1", plural: "statefulsets", scales: true },
    Kind { api: "apis/apps/v1", plural: "daemonsets", scales: false },
    // Those that nobody makes again, of `kubectl run`.
    Kind { api: "api/v1", plural: "pods", scales: false },
];
/// Those of Deployments, a new one for each deployment that changes something.
const REPLICA_SETS: &str = "apis/apps/v1/namespaces";
/// How long pods may take to end; their own patience is a minute.
const END_WITHIN: Duration = Duration::from_secs(90);
/// How often is looked whether they have.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Port of `/metrics`, by its name.
const ADMIN: &str = "admin";

#[derive(Debug, Clone, Copy)]
struct Kind {
    api: &'static str,
    plural: &'static str,
    /// Whether it has a number of replicas.
    scales: bool,
}

impl Kind {
    fn path(&self, namespace: &str) -> String {
        format!("{}/namespaces/{namespace}/{}", self.api, self.plural)
    }
}

/// What makes pods in a slot.
#[derive(Debug)]
pub struct Workloads {
    namespace: String,
    found: Vec<(Kind, Object)>,
    /// When somebody deployed last.
    pub deployed: Option<Timestamp>,
}

/// A pod, as far as it is looked at.
#[derive(Debug, Clone, Deserialize)]
pub struct Pod {
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct PodSpec {
    #[serde(default)]
    containers: Vec<Container>,
}

#[derive(Debug, Clone, Deserialize)]
struct Container {
    #[serde(default)]
    ports: Vec<Port>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    #[serde(default)]
    name: String,
    container_port: u16,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct PodStatus {
    #[serde(default)]
    phase: String,
    #[serde(rename = "podIP")]
    ip: Option<std::net::IpAddr>,
}

impl Pod {
    /// Where it has metrics; `None` if it has none, or has not begun yet, or has ended: then nobody used it.
    pub fn admin(&self) -> Option<Result<std::net::SocketAddr, String>> {
        let ports = self.spec.containers.iter().flat_map(|container| &container.ports);
        let port = ports.into_iter().find(|port| port.name == ADMIN)?.container_port;
        match &*self.status.phase {
            "Pending" | "Succeeded" | "Failed" => None,
            "Running" => {
                Some(self.status.ip.map(|ip| (ip, port).into()).ok_or_else(|| "it has no address".into()))
            }
            other => Some(Err(format!("its phase is {other:?}"))),
        }
    }
}

impl Workloads {
    /// What there is in a namespace.
    pub async fn find(kubernetes: &Kubernetes, namespace: &str) -> Result<Self, KubernetesError> {
        let mut found: Vec<(Kind, Object)> = Vec::new();
        for kind in KINDS {
            found.extend(
                kubernetes.list(&kind.path(namespace)).await?.into_iter().map(|object| (kind, object)),
            );
        }
        // Jobs of a CronJob are part of it, and pods of whatever made them.
        found.retain(|(_, object)| object.metadata.owners.is_empty());
        let sets: Vec<Object> = kubernetes.list(&format!("{REPLICA_SETS}/{namespace}/replicasets")).await?;
        // Whatever was made, a Job or a bare pod too: somebody is at work.
        let made = found.iter().map(|(_, object)| object).chain(&sets);
        let deployed = made.filter_map(|object| object.metadata.created).max();
        Ok(Self { namespace: namespace.to_owned(), found, deployed })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Their names, for people.
    pub fn names(&self) -> String {
        let name = |(kind, object): &(Kind, Object)| format!("{}/{}", kind.plural, object.metadata.name);
        self.found.iter().map(name).collect::<Vec<_>>().join(", ")
    }

    /// Scales them to zero, waits until their pods have ended, and deletes them. It may be cut off anywhere: what it left
    /// is found by the next sweep.
    ///
    /// # Errors
    /// As the API says. An object that is gone already is no error.
    pub async fn end(&self, kubernetes: &Kubernetes) -> Result<(), KubernetesError> {
        for (kind, object) in self.found.iter().filter(|(kind, _)| !kind.scales) {
            self.delete(kubernetes, kind, object).await?;
        }
        // Databases are stateful sets: they go when nobody has something to store any more.
        for plural in ["deployments", "statefulsets"] {
            let these = || self.found.iter().filter(move |(kind, _)| kind.plural == plural);
            for (kind, object) in these() {
                let path = format!("{}/{}/scale", kind.path(&self.namespace), object.metadata.name);
                gone_is_done(kubernetes.merge(&path, &json!({ "spec": { "replicas": 0 } })).await)?;
            }
            self.pods_end(
                kubernetes,
                match plural {
                    "deployments" => "ReplicaSet",
                    _ => "StatefulSet",
                },
            )
            .await?;
            for (kind, object) in these() {
                self.delete(kubernetes, kind, object).await?;
            }
        }
        Ok(())
    }

    async fn delete(
        &self,
        kubernetes: &Kubernetes,
        kind: &Kind,
        object: &Object,
    ) -> Result<(), KubernetesError> {
        let path = format!("{}/{}", kind.path(&self.namespace), object.metadata.name);
        gone_is_done(kubernetes.delete(&path, &object.metadata.uid).await)
    }

    /// Waits until no pod is left that belongs to a kind. One that takes too long is not waited for any more: deleting
    /// what it belongs to gives it the same patience again.
    async fn pods_end(&self, kubernetes: &Kubernetes, owner: &str) -> Result<(), KubernetesError> {
        let deadline = Instant::now() + END_WITHIN;
        loop {
            let pods = pods(kubernetes, &self.namespace).await?;
            let owned = |pod: &Object<Pod>| pod.metadata.owners.iter().any(|of| of["kind"] == owner);
            if !pods.iter().any(owned) || Instant::now() >= deadline {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// The pods of a namespace.
pub async fn pods(kubernetes: &Kubernetes, namespace: &str) -> Result<Vec<Object<Pod>>, KubernetesError> {
    kubernetes.list(&format!("api/v1/namespaces/{namespace}/pods")).await
}

fn gone_is_done(result: Result<(), KubernetesError>) -> Result<(), KubernetesError> {
    match result {
        Err(KubernetesError::Missing(_)) => Ok(()),
        other => other,
    }
}
