//! Preview environments: what `deploy/preview` says, and what the sweep does about slots that nobody uses.
//!
//! 1. [`files`]: what is rendered is what the list says; it fits the schemas; everybody may look, owners may change, and
//!    what a released slot's owners could do they cannot any more.
//! 2. [`sweeps`]: over an API server that gives the sweep the rights of the manifests and no other, with the metrics of
//!    real processes. Devices and readers keep a slot awake; what cannot be asked is left alone; a forgotten slot loses
//!    its workloads in order, and nothing that has data or keys; the time begins anew when it is woken.
//! 3. [`faults`]: what the API server refuses (403, 404, 409, 429) is told, tried again, or harmless; one slot's trouble
//!    is not another's.

mod faults;
mod files;
mod sweeps;

use std::process::Output;

use serde_json::Value;
use trough_tests::admin::run;
use trough_tests::manifests::{Manifests, deploy, text};
use trough_tests::poll::{LATER, ends};
use trough_tests::process::command;
use trough_tests::servers::kubernetes::{Kubernetes, NAMESPACE};

/// Long before any test.
const LONG_AGO: &str = "2026-01-01T00:00:00Z";

fn list_of_slots() -> String {
    deploy().join("preview/slots.yaml").display().to_string()
}

/// A namespace of a slot.
fn namespace(slot: &str) -> String {
    format!("trough-preview-{slot}")
}

/// A cluster to which `deploy/preview` was applied, and what runs in a slot.
async fn cluster_with(slots: &[&str]) -> Kubernetes {
    let cluster = Kubernetes::start().await;
    cluster.apply(&Manifests::of("preview").objects, LONG_AGO);
    for slot in slots {
        cluster.apply(&Manifests::of(&format!("preview/slots/{slot}")).objects, LONG_AGO);
    }
    cluster
}

async fn sweep_with(cluster: &Kubernetes, args: &[&str]) -> Output {
    let mut command = command();
    command.args(["preview", "sweep", "--file", &list_of_slots(), "--kubernetes", &cluster.url()]);
    command.arg("--account").arg(cluster.account()).args(args);
    ends("the sweep ends", LATER, run(command, "")).await
}

/// A sweep that succeeds; gives what it says of a slot.
async fn sweep(cluster: &Kubernetes, slot: &str, args: &[&str]) -> String {
    let output = sweep_with(cluster, args).await;
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.lines().count(), 12, "a line for each slot: {said}");
    line(&said, slot)
}

fn line(said: &str, slot: &str) -> String {
    let line = said.lines().find_map(|line| line.strip_prefix(&format!("{slot} (")));
    let line = line.and_then(|line| line.split_once("): "));
    line.unwrap_or_else(|| panic!("nothing of {slot}: {said}")).1.to_owned()
}

/// As if the slot had been used last when it was made.
fn age(cluster: &Kubernetes, slot: &str) {
    cluster.change("ConfigMap", NAMESPACE, "activity", |activity| {
        let mut record: Value = serde_json::from_str(text(&activity["data"][slot])).unwrap();
        record["active"] = LONG_AGO.into();
        activity["data"][slot] = record.to_string().into();
    });
}
