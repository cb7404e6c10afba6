//! `deploy/` and the binary fit together, and so do the image's recipe and the alerts.
//!
//! 1. Every overlay renders, and all that it renders to fits the schemas of Kubernetes; every component is in use.
//! 2. [`names`]: every command, option, variable, port, probe, Service, Secret and key that the manifests name exists.
//! 3. [`flows`]: the network policies let through what the processes ask for, and nobody else.
//! 4. [`pods`]: the rendered commands and environments, run as processes over real servers, take frames and serve
//!    them while they are rolled; and every metric that an alert or the dashboard names is among what they count.
//! 5. [`exec`]: every administrative command works in the pod of the eater.
//! 6. Every alert names a section of the runbook.
//! 7. hadolint finds nothing in the Dockerfile.

mod exec;
mod flows;
mod names;
mod namespace;
mod pods;
mod rolling;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use trough_tests::admin::run;
use trough_tests::manifests::{EVERYTHING, Manifests, deploy, list, overlays, script, text};
use trough_tests::poll::{LATER, ends};
use trough_tests::servers::program;

#[tokio::test]
async fn every_overlay_fits_the_schemas() {
    let mut arguments = vec![PathBuf::from("check"), deploy().join("secrets.example.yaml")];
    arguments.extend(overlays().iter().map(|overlay| deploy().join(overlay)));
    let output = ends("all overlays are checked", LATER, run(script(&arguments), "")).await;
    let found = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{found}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_component_is_in_use() {
    let kustomization =
        |overlay: &String| fs::read_to_string(deploy().join(overlay).join("kustomization.yaml")).unwrap();
    let all: String = overlays().iter().map(kustomization).collect();
    for component in fs::read_dir(deploy().join("components")).unwrap() {
        let name = component.unwrap().file_name().into_string().unwrap();
        assert!(
            ["", "deploy/"].iter().any(|of| all.contains(&format!("\n  - ../../{of}components/{name}\n"))),
            "no overlay uses {name}"
        );
    }
}

#[test]
fn every_alert_names_a_section_of_the_runbook() {
    let document = fs::read_to_string(deploy().join("../docs/operations.md")).unwrap();
    let manifests = Manifests::of(EVERYTHING);
    let mut alerts = 0;
    for rule in manifests.of_kind("PrometheusRule").flat_map(|rules| list(&rules["spec"]["groups"])) {
        for alert in list(&rule["rules"]) {
            let name = text(&alert["alert"]);
            let (page, section) = text(&alert["annotations"]["runbook_url"]).split_once('#').unwrap();
            assert!(page.ends_with("docs/operations.md"), "{name}: {page}");
            assert_eq!(section, name.to_lowercase(), "the section has the alert's name");
            assert!(
                document.contains(&format!("\n### {name}\n")),
                "docs/operations.md has no section {name}"
            );
            alerts += 1;
        }
    }
    assert!(alerts > 10, "{alerts} alerts: were they found?");
}

#[tokio::test]
async fn hadolint_finds_nothing() {
    let mut command = Command::new(program("hadolint"));
    command.args(["--failure-threshold", "style"]).arg(deploy().join("../Dockerfile"));
    let output = ends("hadolint ends", LATER, run(command, "")).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
