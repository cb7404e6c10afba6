//! What is in the cluster, and what its controllers make of it.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::manifests::{list, text};

/// Of a resource's name, as it stands in paths.
pub(super) fn kind(resource: &str) -> &'static str {
    match resource {
        "pods" => "Pod",
        "configmaps" => "ConfigMap",
        "secrets" => "Secret",
        "deployments" => "Deployment",
        "statefulsets" => "StatefulSet",
        "daemonsets" => "DaemonSet",
        "replicasets" => "ReplicaSet",
        "horizontalpodautoscalers" => "HorizontalPodAutoscaler",
        "jobs" => "Job",
        "cronjobs" => "CronJob",
        other => panic!("{other}: no sweep has business with these"),
    }
}

/// A merge patch (RFC 7386).
pub(super) fn merge(object: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (name, value) in fields {
        match value {
            Value::Null => drop(object.as_object_mut().and_then(|object| object.remove(name))),
            value => merge(&mut object[name], value),
        }
    }
}

fn is(object: &Value, kind: &str, namespace: &str, name: &str) -> bool {
    object["kind"] == kind
        && object["metadata"]["namespace"] == namespace
        && object["metadata"]["name"] == name
}

/// Every object.
#[derive(Debug, Default)]
pub(super) struct Objects {
    all: Vec<Value>,
    made: u64,
}

impl Objects {
    /// Makes those that are not there, and changes those that are.
    pub fn apply(&mut self, objects: &[Value], at: &str) {
        for object in objects {
            let metadata = &object["metadata"];
            let namespace = metadata["namespace"].as_str().unwrap_or_default().to_owned();
            let (kind, name) = (text(&object["kind"]).to_owned(), text(&metadata["name"]).to_owned());
            if let Some(known) = self.named(&kind, &namespace, &name) {
                merge(known, object);
                continue;
            }
            let mut object = object.clone();
            object["metadata"]["namespace"] = namespace.clone().into();
            self.make(object, at);
            if kind == "Deployment" {
                let of = json!([{ "kind": "Deployment", "name": name, "controller": true }]);
                let metadata =
                    json!({ "name": format!("{name}-1"), "namespace": namespace, "ownerReferences": of });
                self.make(json!({ "kind": "ReplicaSet", "metadata": metadata }), at);
            }
        }
    }

    fn make(&mut self, mut object: Value, at: &str) {
        self.made += 1;
        object["metadata"]["uid"] = format!("uid-{}", self.made).into();
        object["metadata"]["creationTimestamp"] = at.into();
        self.all.push(object);
    }

    /// A pod of a Deployment's ReplicaSet, from its template.
    pub fn run(&mut self, namespace: &str, deployment: &str, admin: Option<SocketAddr>) {
        let template =
            self.named("Deployment", namespace, deployment).expect("it is there")["spec"]["template"].clone();
        let mut spec = template["spec"].clone();
        for port in spec["containers"][0]["ports"].as_array_mut().expect("it has ports") {
            if let Some(admin) = admin.filter(|_| port["name"] == "admin") {
                port["containerPort"] = admin.port().into();
            }
        }
        let status = match admin {
            Some(admin) => json!({ "phase": "Running", "podIP": admin.ip().to_string() }),
            None => json!({ "phase": "Pending" }),
        };
        let of = json!([{ "kind": "ReplicaSet", "name": format!("{deployment}-1"), "controller": true }]);
        let name = format!("{deployment}-1-{}", self.made);
        let metadata = json!({ "name": name, "namespace": namespace, "ownerReferences": of });
        let pod = json!({ "kind": "Pod", "metadata": metadata, "spec": spec, "status": status });
        self.make(pod, "2026-01-01T00:00:00Z");
    }

    pub fn named(&mut self, kind: &str, namespace: &str, name: &str) -> Option<&mut Value> {
        self.all.iter_mut().find(|object| is(object, kind, namespace, name))
    }

    /// The same as it was, and another one.
    pub fn renew(&mut self, kind: &str, namespace: &str, name: &str) {
        self.made += 1;
        let uid = format!("uid-{}", self.made);
        self.named(kind, namespace, name).expect("it is there")["metadata"]["uid"] = uid.into();
    }

    pub fn all(&self, kind: &str, namespace: &str) -> Vec<Value> {
        let in_it = |object: &&Value| object["kind"] == kind && object["metadata"]["namespace"] == namespace;
        self.all.iter().filter(in_it).cloned().collect()
    }

    pub fn names(&self, namespace: &str) -> Vec<String> {
        let here = self.all.iter().filter(|object| object["metadata"]["namespace"] == namespace);
        let own = here.filter(|object| list(&object["metadata"]["ownerReferences"]).is_empty());
        own.map(|object| format!("{}/{}", text(&object["kind"]), text(&object["metadata"]["name"]))).collect()
    }

    pub fn remove(&mut self, kind: &str, namespace: &str, name: &str) {
        self.all.retain(|object| !is(object, kind, namespace, name));
    }

    /// A change of the number of replicas: to none, and the pods end.
    pub fn settle(&mut self, scaled: bool, object: &Value) {
        if scaled && object["spec"]["replicas"] == 0 {
            let metadata = &object["metadata"];
            self.end_pods(text(&metadata["namespace"]), text(&metadata["name"]));
        }
    }

    /// An object goes, and what is part of it.
    pub fn delete(&mut self, kind: &str, namespace: &str, name: &str) {
        self.remove(kind, namespace, name);
        if kind == "Deployment" {
            self.end_pods(namespace, name);
            self.remove("ReplicaSet", namespace, &format!("{name}-1"));
        }
    }

    fn end_pods(&mut self, namespace: &str, deployment: &str) {
        let of = format!("{deployment}-1");
        self.all.retain(|object| {
            let owners = list(&object["metadata"]["ownerReferences"]);
            let its = object["kind"] == "Pod" && object["metadata"]["namespace"] == namespace;
            !(its && owners.iter().any(|owner| owner["name"] == *of))
        });
    }
}
