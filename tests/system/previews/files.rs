//! What is in the repository, and what the commands make of a copy of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use trough_tests::admin::run;
use trough_tests::manifests::{Manifests, deploy, list, script, text};
use trough_tests::poll::{LATER, ends};
use trough_tests::process::command;

use super::{list_of_slots, namespace};

async fn preview(args: &[&str], file: &str) -> (bool, String, String) {
    let mut command = command();
    command.arg("preview").args(args).args(["--file", file]);
    let output = ends("it ends", LATER, run(command, "")).await;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

async fn slots(file: &str) -> Vec<Value> {
    let (done, listed, said) = preview(&["list", "--json"], file).await;
    assert!(done, "{said}");
    serde_json::from_str(&listed).unwrap()
}

#[tokio::test]
async fn what_is_committed_is_what_the_list_says() {
    let (done, stale, said) = preview(&["render", "--check"], &list_of_slots()).await;
    assert!(done, "{stale}{said}");
    let slots = slots(&list_of_slots()).await;
    assert_eq!(slots.len(), 12);
    // And as others read YAML.
    let read = &Manifests::of("preview/slots.yaml").objects[0]["slots"];
    for slot in &slots {
        let owners = &read[text(&slot["slot"])]["owners"];
        assert_eq!(list(owners), list(&slot["owners"]), "{slot}");
    }
    let folders = std::fs::read_dir(deploy().join("preview/slots")).unwrap().map(Result::unwrap);
    let folders = folders.filter(|entry| entry.path().is_dir());
    let folders: BTreeSet<String> = folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert_eq!(
        folders,
        slots.iter().map(|slot| text(&slot["slot"]).to_owned()).collect(),
        "none of a slot that was"
    );
}

#[tokio::test]
async fn all_of_it_fits_the_schemas() {
    let preview = deploy().join("preview");
    let mut arguments = vec![PathBuf::from("check"), preview.clone()];
    let slots = slots(&list_of_slots()).await;
    arguments.extend(slots.iter().map(|slot| preview.join("slots").join(text(&slot["slot"]))));
    let output = ends("all is checked", LATER, run(script(&arguments), "")).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

fn in_namespace<'a>(objects: &'a [Value], namespace: &str) -> BTreeMap<(&'a str, &'a str), &'a Value> {
    let here = objects.iter().filter(|object| object["metadata"]["namespace"] == namespace);
    here.map(|object| ((text(&object["kind"]), text(&object["metadata"]["name"])), object)).collect()
}

#[tokio::test]
async fn everybody_may_look_and_owners_may_change() {
    let rendered = Manifests::of("preview");
    for slot in slots(&list_of_slots()).await {
        let namespace = text(&slot["namespace"]);
        assert!(rendered.named("Namespace", namespace).is_some());
        let here = in_namespace(&rendered.objects, namespace);
        let view = here[&("RoleBinding", "view")];
        assert_eq!(
            (&view["roleRef"]["kind"], &view["roleRef"]["name"]),
            (&json!("ClusterRole"), &json!("view"))
        );
        assert_eq!(view["subjects"][0]["name"], "system:authenticated");
        let owners = here[&("RoleBinding", "owners")];
        assert_eq!(owners["roleRef"]["name"], "edit");
        let named = list(&owners["subjects"]).iter();
        let named: Vec<String> = named
            .map(|subject| format!("{}:{}", text(&subject["kind"]).to_lowercase(), text(&subject["name"])))
            .collect();
        assert_eq!(json!(named), slot.get("owners").cloned().unwrap_or(json!([])), "{namespace}");
        // The sweep's account is in the namespace of the sweep, whatever the folder's own is.
        let sweep = json!([{ "kind": "ServiceAccount", "name": "sweep", "namespace": super::NAMESPACE }]);
        assert_eq!(here[&("RoleBinding", "sweep")]["subjects"], sweep);
        assert!(here.contains_key(&("ResourceQuota", "slot")));
    }
    assert_eq!(rendered.of_kind("ClusterRole").count(), 0, "nobody has rights outside of the slots");
    assert_eq!(rendered.of_kind("ClusterRoleBinding").count(), 0);
}

#[test]
fn the_sweep_reads_no_secrets_and_deletes_nothing_that_is_kept() {
    let rendered = Manifests::of("preview");
    let kept = ["configmaps", "secrets", "persistentvolumeclaims", "namespaces", "services", "*"];
    for role in rendered.of_kind("Role") {
        for rule in list(&role["rules"]) {
            let own =
                rule["resourceNames"] == json!(["activity"]) && rule["verbs"] == json!(["get", "patch"]);
            for resource in list(&rule["resources"]) {
                assert!(own || !kept.contains(&text(resource)), "{rule}");
                assert!(list(&rule["verbs"]).iter().all(|verb| verb != "*" && verb != "create"), "{rule}");
            }
        }
    }
}

#[test]
fn what_owners_apply_is_what_owners_may() {
    for slot in ["ant", "lynx"] {
        let rendered = Manifests::of(&format!("preview/slots/{slot}"));
        for object in &rendered.objects {
            assert_eq!(object["metadata"]["namespace"], namespace(slot), "{object}");
            // What the cluster's role `edit` does not let them make.
            let kind = text(&object["kind"]);
            let forbidden =
                ["Namespace", "Role", "RoleBinding", "ResourceQuota", "ClusterRole", "ClusterRoleBinding"];
            assert!(!forbidden.contains(&kind), "{kind} needs an administrator");
        }
        let quota = Manifests::of("preview/rights");
        let hard = &quota.named("ResourceQuota", "slot").unwrap()["spec"]["hard"];
        assert_eq!(hard["services.loadbalancers"], "0");
        let balancers =
            rendered.of_kind("Service").filter(|service| service["spec"]["type"] == "LoadBalancer");
        assert_eq!(balancers.count(), 0);
    }
}

#[test]
fn the_sweep_may_ask_every_pod_of_ours() {
    let (control, slot) = (Manifests::of("preview"), Manifests::of("preview/slots/ant"));
    let cron = &control.named("CronJob", "sweep").unwrap()["spec"]["jobTemplate"]["spec"]["template"];
    let policy = &slot.named("NetworkPolicy", "from-sweep").unwrap()["spec"];
    let from = &policy["ingress"][0]["from"][0];
    assert_eq!(
        from["podSelector"]["matchLabels"]["app.kubernetes.io/name"],
        cron["metadata"]["labels"]["app.kubernetes.io/name"]
    );
    assert_eq!(from["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"], super::NAMESPACE);
    let policies = control.of_kind("NetworkPolicy").filter(|policy| policy["metadata"]["name"] == "sweep");
    let egress: Vec<&Value> = policies.flat_map(|policy| list(&policy["spec"]["egress"])).collect();
    let leads_to = |port: u64| {
        egress.iter().flat_map(|rule| list(&rule["ports"])).any(|range| {
            let first = range["port"].as_u64().unwrap();
            (first..=range["endPort"].as_u64().unwrap_or(first)).contains(&port)
        })
    };
    let ours = slot.pods().into_iter().filter(trough_tests::manifests::Pod::is_ours);
    let mut asked = 0;
    for pod in ours {
        assert!(pod.is_selected_by(&policy["podSelector"]), "{}", pod.name);
        assert!(leads_to(pod.ports()["admin"]), "{}", pod.name);
        asked += 1;
    }
    assert_eq!(asked, 3);
}

#[tokio::test]
async fn the_cron_job_runs_what_the_binary_has() {
    let rendered = Manifests::of("preview");
    let pod = &rendered.named("CronJob", "sweep").unwrap()["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let mut help = command();
    help.args(list(&container["args"]).iter().map(text)).arg("--help");
    let output = run(help, "").await;
    assert!(output.status.success());
    let help = String::from_utf8(output.stdout).unwrap();
    for variable in list(&container["env"]) {
        assert!(help.contains(text(&variable["name"])), "{variable}");
    }
    // Its list is where it looks for it.
    let map = text(&pod["volumes"][0]["configMap"]["name"]);
    let map = rendered.named("ConfigMap", map).expect("the ConfigMap of the list, with its hash");
    assert_eq!(map["data"]["slots.yaml"], std::fs::read_to_string(list_of_slots()).unwrap());
    let mount = text(&container["volumeMounts"][0]["mountPath"]);
    assert_eq!(container["env"][0]["value"], format!("{mount}/slots.yaml"));
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// What the owners' binding says, by kubectl.
fn owners(dir: &Path, slot: &str) -> Value {
    let output = script(&["render".into(), dir.to_owned()]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let objects: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    in_namespace(&objects, &namespace(slot))[&("RoleBinding", "owners")]["subjects"].clone()
}

#[tokio::test]
async fn a_claim_and_a_release_change_who_may() {
    let dir = tempfile::tempdir().unwrap();
    let preview_dir = dir.path().join("preview");
    copy(&deploy().join("preview"), &preview_dir);
    let file = preview_dir.join("slots.yaml").display().to_string();
    // As it is in a repository in which nobody has claimed anything yet.
    for slot in slots(&file).await.iter().filter(|slot| slot.get("owners").is_some()) {
        assert!(preview(&["release", text(&slot["slot"])], &file).await.0);
    }
    let before = std::fs::read_to_string(&file).unwrap();
    let wanted = ["claim", "--owner", "user:ada@example.org,group:rails", "--purpose", "a new: reader"];
    let (done, name, said) = preview(&wanted, &file).await;
    assert!(done && name == "ant\n" && said.contains("slots/ant/rights/slot.yaml"), "{name}{said}");
    let subject = |kind: &str, name: &str| json!({ "kind": kind, "name": name, "apiGroup": "rbac.authorization.k8s.io" });
    assert_eq!(
        owners(&preview_dir, "ant"),
        json!([subject("User", "ada@example.org"), subject("Group", "rails")])
    );
    let (done, _, said) = preview(&["claim", "ant", "--owner", "user:bob", "--purpose", "x"], &file).await;
    assert!(!done && said.contains("taken by user:ada@example.org, group:rails"), "{said}");
    let (_, listed, _) = preview(&["list"], &file).await;
    assert!(listed.contains("ant   user:ada@example.org, group:rails"), "{listed}");
    assert!(listed.contains("bee   free"), "{listed}");
    let (done, _, said) = preview(&["release", "ant"], &file).await;
    assert!(done, "{said}");
    assert_eq!(owners(&preview_dir, "ant"), json!([]), "apply takes the right away");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
    let (done, _, said) = preview(&["claim", "--owner", "ada", "--until", "tomorrow"], &file).await;
    assert!(!done && said.matches("error: --").count() == 2, "all that is wrong at once: {said}");
}
