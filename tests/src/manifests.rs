//! What `deploy/` renders to, by kubectl as operators use it, and what stands in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::servers::program;

/// `deploy/`.
pub fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// An overlay that has every component which the shipped ones leave out, too; from `deploy/`.
pub const EVERYTHING: &str = "../tests/everything";

/// The overlays, from `deploy/`: those that ship, and [`EVERYTHING`].
///
/// # Panics
/// If there are none.
pub fn overlays() -> Vec<String> {
    let entries = fs::read_dir(deploy().join("overlays")).expect("there are overlays").map(Result::unwrap);
    let names = entries.map(|entry| entry.file_name().into_string().expect("names are text"));
    let mut places: Vec<String> = names.map(|name| format!("overlays/{name}")).collect();
    places.sort();
    places.push(EVERYTHING.to_owned());
    places
}

/// `tests/manifests.py` with these arguments.
pub fn script(arguments: &[PathBuf]) -> Command {
    let mut command = Command::new(program("python3"));
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests.py")).args(arguments);
    command
}

/// The objects that an overlay renders to, or that a file has.
#[derive(Debug)]
pub struct Manifests {
    /// All of them.
    pub objects: Vec<Value>,
}

impl Manifests {
    /// Renders a folder or reads a file, in `deploy/`.
    ///
    /// # Panics
    /// If that fails.
    pub fn of(place: &str) -> Self {
        let output = script(&["render".into(), deploy().join(place)]).output().expect("the script runs");
        assert!(output.status.success(), "{place}: {}", String::from_utf8_lossy(&output.stderr));
        Self { objects: serde_json::from_slice(&output.stdout).expect("an array of objects") }
    }

    /// Those of a kind.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects.iter().filter(move |object| object["kind"] == kind)
    }

    /// The one of this kind and name.
    pub fn named(&self, kind: &str, name: &str) -> Option<&Value> {
        self.objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
    }

    /// The pods of all Deployments and StatefulSets; each has one container.
    ///
    /// # Panics
    /// If one has several.
    pub fn pods(&self) -> Vec<Pod<'_>> {
        let owners = self.of_kind("Deployment").chain(self.of_kind("StatefulSet"));
        owners.map(|owner| Pod::new(self, owner)).collect()
    }

    /// The pod of the Deployment with this name.
    ///
    /// # Panics
    /// If there is none.
    pub fn pod(&self, name: &str) -> Pod<'_> {
        let owner = self.named("Deployment", name);
        Pod::new(self, owner.unwrap_or_else(|| panic!("there is no Deployment {name}")))
    }
}

/// Where a variable comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The manifests themselves.
    Value(String),
    /// A key of a Secret.
    Secret(String, String),
}

/// The pods of one Deployment or StatefulSet.
#[derive(Debug)]
pub struct Pod<'a> {
    /// Of whom they are.
    pub name: &'a str,
    /// What is in `spec.template.spec`.
    pub spec: &'a Value,
    /// Its container.
    pub container: &'a Value,
    labels: &'a Value,
    manifests: &'a Manifests,
}

impl<'a> Pod<'a> {
    fn new(manifests: &'a Manifests, owner: &'a Value) -> Self {
        let template = &owner["spec"]["template"];
        let name = text(&owner["metadata"]["name"]);
        let [container] = list(&template["spec"]["containers"]) else { panic!("{name}: one container") };
        Self { name, spec: &template["spec"], container, labels: &template["metadata"]["labels"], manifests }
    }

    /// Whether it runs our binary.
    pub fn is_ours(&self) -> bool {
        let image = text(&self.container["image"]);
        image.rsplit('/').next().is_some_and(|last| last.starts_with("trough:"))
    }

    /// Its arguments.
    pub fn args(&self) -> Vec<&'a str> {
        list(&self.container["args"]).iter().map(text).collect()
    }

    /// The ports that it names.
    ///
    /// # Panics
    /// If one is none.
    pub fn ports(&self) -> BTreeMap<&'a str, u64> {
        let ports = list(&self.container["ports"]).iter();
        ports.map(|port| (text(&port["name"]), port["containerPort"].as_u64().expect("a port"))).collect()
    }

    /// Its environment, with what stands in ConfigMaps.
    ///
    /// # Panics
    /// If there is no such ConfigMap.
    pub fn environment(&self) -> BTreeMap<String, Source> {
        let mut all = BTreeMap::new();
        for map in list(&self.container["envFrom"]) {
            let name = text(&map["configMapRef"]["name"]);
            let map =
                self.manifests.named("ConfigMap", name).unwrap_or_else(|| panic!("no ConfigMap {name}"));
            for (name, value) in map["data"].as_object().expect("a ConfigMap has data") {
                all.insert(name.clone(), Source::Value(text(value).to_owned()));
            }
        }
        for variable in list(&self.container["env"]) {
            let secret = &variable["valueFrom"]["secretKeyRef"];
            let source = match variable["value"].as_str() {
                Some(value) => Source::Value(value.to_owned()),
                None => Source::Secret(text(&secret["name"]).to_owned(), text(&secret["key"]).to_owned()),
            };
            all.insert(text(&variable["name"]).to_owned(), source);
        }
        all
    }

    /// The Secret whose keys are files in this directory.
    pub fn secret_mounted_at(&self, dir: &Path) -> Option<&'a str> {
        let mount = list(&self.container["volumeMounts"])
            .iter()
            .find(|mount| Path::new(text(&mount["mountPath"])) == dir)?;
        let volume = list(&self.spec["volumes"]).iter().find(|volume| volume["name"] == mount["name"])?;
        volume["secret"]["secretName"].as_str()
    }

    /// Whether a selector of labels means it: `matchLabels`, `matchExpressions` with `In`, or the plain labels of a
    /// Service.
    pub fn is_selected_by(&self, selector: &Value) -> bool {
        let has = |name: &str, value: &Value| &self.labels[name] == value;
        let plain = |labels: &Value| {
            labels.as_object().is_none_or(|labels| labels.iter().all(|(name, value)| has(name, value)))
        };
        if selector.get("matchLabels").is_none() && selector.get("matchExpressions").is_none() {
            return plain(selector);
        }
        let one_of = |expression: &Value| {
            assert_eq!(expression["operator"], "In", "the only operator in use");
            list(&expression["values"]).iter().any(|value| has(text(&expression["key"]), value))
        };
        plain(&selector["matchLabels"]) && list(&selector["matchExpressions"]).iter().all(one_of)
    }
}

/// A text.
///
/// # Panics
/// If it is something else.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// A list; empty if there is none.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}
