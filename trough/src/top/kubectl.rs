//! The processes of a namespace, by kubectl alone: it knows the cluster and who we are.
//!
//! Pods are found by their labels, and asked through `kubectl port-forward`, which is a connection inside the pod: no policy
//! of the network is in its way, and it needs no more than what the role `edit` has.

use std::collections::{BTreeMap, HashMap};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;

use super::forward::Forward;
use super::sample::Service;
use crate::admin_port::AdminPort;

const PROGRAM: &str = "kubectl";
const SELECTOR: &str = "app.kubernetes.io/part-of=trough";
const NAME_LABEL: &str = "app.kubernetes.io/name";
/// How a container's port is called that we ask.
const PORT: &str = "admin";

/// Which cluster and which namespace; without them, those that kubectl would take.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// `--context`.
    pub context: Option<String>,
    /// `--namespace`.
    pub namespace: Option<String>,
}

impl Choice {
    fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        let options = [("--context", &self.context), ("--namespace", &self.namespace)];
        for (option, value) in options {
            if let Some(value) = value {
                command.arg(option).arg(value);
            }
        }
        command
    }
}

/// A pod of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// What runs in it.
    pub service: Service,
    /// Its admin port.
    port: u16,
    /// Why it cannot be asked: it does not run.
    pub excuse: Option<String>,
}

#[derive(Deserialize)]
struct List {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    metadata: Metadata,
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    labels: HashMap<String, String>,
}

#[derive(Deserialize)]
struct Spec {
    containers: Vec<Container>,
}

#[derive(Deserialize)]
struct Container {
    #[serde(default)]
    ports: Vec<Port>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    name: Option<String>,
    container_port: u16,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    phase: Option<String>,
    #[serde(default)]
    container_statuses: Vec<ContainerStatus>,
}

#[derive(Deserialize)]
struct ContainerStatus {
    #[serde(default)]
    state: HashMap<String, ContainerState>,
}

#[derive(Deserialize)]
struct ContainerState {
    reason: Option<String>,
}

impl Item {
    /// `None` if there is nothing of ours to be asked in it.
    fn pod(self) -> Option<Pod> {
        let service = Service::named(self.metadata.labels.get(NAME_LABEL)?);
        let mut ports = self.spec.containers.iter().flat_map(|container| &container.ports);
        let port = ports.find(|port| port.name.as_deref() == Some(PORT))?.container_port;
        let waiting = self.status.container_statuses.iter().find_map(|status| status.state.get("waiting"));
        let excuse = match (waiting, self.status.phase.as_deref()) {
            (Some(state), _) => Some(state.reason.clone().unwrap_or_else(|| "waiting".to_owned())),
            (None, Some("Running")) => None,
            (None, phase) => Some(phase.unwrap_or("no phase").to_owned()),
        };
        let is_ours = service != Service::Unknown;
        is_ours.then_some(Pod { name: self.metadata.name, service, port, excuse })
    }
}

fn pods(list: &[u8]) -> Result<Vec<Pod>> {
    let list: List = serde_json::from_slice(list).context("what kubectl says of the pods cannot be read")?;
    Ok(list.items.into_iter().filter_map(Item::pod).collect())
}

/// kubectl, and the ways into pods that it keeps open.
#[derive(Debug, Default)]
pub struct Kubectl {
    choice: Choice,
    forwards: BTreeMap<String, Forward>,
}

impl Kubectl {
    /// Of one namespace.
    pub fn new(choice: Choice) -> Self {
        Self { choice, forwards: BTreeMap::new() }
    }

    /// The pods as they are, each with its way in, or why there is none. Blocks.
    ///
    /// # Errors
    /// kubectl cannot be run, or refuses.
    pub fn look(&mut self) -> Result<Vec<(Pod, Result<AdminPort>)>> {
        let mut command = self.choice.command();
        command.args(["get", "pods", "--selector", SELECTOR, "--output", "json", "--request-timeout", "10s"]);
        let output = command.stdin(Stdio::null()).output().context("cannot run kubectl: is it installed?")?;
        if !output.status.success() {
            bail!("kubectl get pods: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let pods = pods(&output.stdout)?;
        self.forwards.retain(|name, _| pods.iter().any(|pod| pod.name == *name && pod.excuse.is_none()));
        let missing: Vec<&Pod> = pods
            .iter()
            .filter(|pod| pod.excuse.is_none() && !self.forwards.contains_key(&pod.name))
            .collect();
        let choice = &self.choice;
        let mut failures = HashMap::new();
        // Each takes a moment, so all at once.
        std::thread::scope(|scope| {
            let opening: Vec<_> =
                missing.iter().map(|pod| (pod, scope.spawn(move || open(choice, pod)))).collect();
            for (pod, opening) in opening {
                match opening.join() {
                    Ok(Ok(forward)) => drop(self.forwards.insert(pod.name.clone(), forward)),
                    Ok(Err(error)) => drop(failures.insert(pod.name.clone(), error)),
                    Err(_) => {}
                }
            }
        });
        let ways = pods.into_iter().map(|pod| {
            let way = match (self.forwards.get(&pod.name), failures.remove(&pod.name)) {
                (Some(forward), _) => Ok(forward.port.clone()),
                (None, Some(error)) => Err(error),
                (None, None) => {
                    Err(anyhow!("{}", pod.excuse.as_deref().unwrap_or("there is no way into it")))
                }
            };
            (pod, way)
        });
        Ok(ways.collect())
    }

    /// A pod did not answer: its way in is opened anew.
    pub fn forget(&mut self, pod: &str) {
        self.forwards.remove(pod);
    }
}

fn open(choice: &Choice, pod: &Pod) -> Result<Forward> {
    let mut command = choice.command();
    command.args(["port-forward", &format!("pod/{}", pod.name), &format!(":{}", pod.port)]);
    Forward::open(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As kubectl prints it, without what nobody reads.
    const PODS: &str = r#"{"apiVersion": "v1", "kind": "List", "items": [
        {"metadata": {"name": "feeder-6c-x2", "labels": {"app.kubernetes.io/name": "feeder"}},
         "spec": {"containers": [{"name": "feeder", "ports": [
            {"containerPort": 8080, "name": "http", "protocol": "TCP"}, {"containerPort": 9080, "name": "admin"}]}]},
         "status": {"phase": "Running", "containerStatuses": [{"state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]}},
        {"metadata": {"name": "eater-1", "labels": {"app.kubernetes.io/name": "eater"}},
         "spec": {"containers": [{"ports": [{"containerPort": 9081, "name": "admin"}]}]},
         "status": {"phase": "Running", "containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}},
        {"metadata": {"name": "notifier-1", "labels": {"app.kubernetes.io/name": "notifier"}},
         "spec": {"containers": [{"ports": [{"containerPort": 9082, "name": "admin"}]}]}, "status": {"phase": "Pending"}},
        {"metadata": {"name": "bus-0", "labels": {"app.kubernetes.io/name": "bus"}},
         "spec": {"containers": [{"ports": [{"containerPort": 11211, "name": "memcached"}]}]}, "status": {"phase": "Running"}}
    ]}"#;

    #[test]
    fn pods_of_ours_are_found_and_those_that_do_not_run_say_why() {
        let pod = |name: &str, service, port, excuse: Option<&str>| Pod {
            name: name.to_owned(),
            service,
            port,
            excuse: excuse.map(str::to_owned),
        };
        let expected = [
            pod("feeder-6c-x2", Service::Feeder, 9080, None),
            pod("eater-1", Service::Eater, 9081, Some("CrashLoopBackOff")),
            pod("notifier-1", Service::Notifier, 9082, Some("Pending")),
        ];
        assert_eq!(pods(PODS.as_bytes()).unwrap(), expected);
        assert!(pods(b"error: You must be logged in").is_err());
    }

    #[test]
    fn the_choice_of_cluster_and_namespace_is_kubectls() {
        let choice = Choice { context: None, namespace: Some("blue".into()) };
        let args: Vec<_> = choice.command().get_args().map(|arg| arg.to_owned()).collect();
        assert_eq!(args, ["--namespace", "blue"]);
    }
}
