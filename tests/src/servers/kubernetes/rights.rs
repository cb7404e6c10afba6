//! RBAC: what the Roles and RoleBindings among the objects allow a ServiceAccount.

use serde_json::{Value, json};

use super::Target;
use super::objects::Objects;
use crate::manifests::list;

/// A ServiceAccount.
#[derive(Debug, Clone, Copy)]
pub(super) struct Account {
    pub namespace: &'static str,
    pub name: &'static str,
}

impl Account {
    /// Whether it may; if not, what the API server says.
    pub fn may(&self, verb: &str, target: &Target, objects: &Objects) -> Result<(), String> {
        let me = json!({ "kind": "ServiceAccount", "name": self.name, "namespace": self.namespace });
        let bindings = objects.all("RoleBinding", &target.namespace);
        let mine = bindings.iter().filter(|binding| list(&binding["subjects"]).contains(&me));
        let roles = objects.all("Role", &target.namespace);
        let named = |binding: &Value| {
            let of = &binding["roleRef"];
            roles.iter().find(|role| of["kind"] == "Role" && role["metadata"]["name"] == of["name"])
        };
        let mut rules = mine.filter_map(named).flat_map(|role| list(&role["rules"]));
        if rules.any(|rule| allows(rule, verb, target)) {
            return Ok(());
        }
        let resource = resource(target);
        Err(format!(
            "{resource} is forbidden: User \"system:serviceaccount:{}:{}\" cannot {verb} resource \"{resource}\" in API \
             group \"{}\" in the namespace \"{}\"",
            self.namespace, self.name, target.group, target.namespace
        ))
    }
}

fn resource(target: &Target) -> String {
    match &target.subresource {
        Some(subresource) => format!("{}/{subresource}", target.resource),
        None => target.resource.clone(),
    }
}

fn allows(rule: &Value, verb: &str, target: &Target) -> bool {
    let has = |what: &str, wanted: &str| list(&rule[what]).iter().any(|one| one == wanted);
    let names = list(&rule["resourceNames"]);
    let named =
        names.is_empty() || target.name.as_ref().is_some_and(|name| names.iter().any(|one| one == name));
    has("apiGroups", &target.group) && has("resources", &resource(target)) && has("verbs", verb) && named
}
