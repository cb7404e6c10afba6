//! The API is as it says it is: schemathesis asks for whatever the description allows, and for what it does not.
//!
//! 1. With a token that may do everything: no server error, no answer that is not described, nothing refused that is
//!    described as valid, nothing accepted that is not, no path without its token.
//! 2. Without a token, and with one that may only list devices: refused as described.
//!
//! `TROUGH_TEST_SEED` repeats a run; the long form asks ten times as much.

use std::path::Path;
use std::process::Command;

use rand::Rng;
use trough_device::Mode;
use trough_store::Scope;
use trough_tests::admin::run;
use trough_tests::cluster::{Cluster, Shape};
use trough_tests::data;
use trough_tests::fleet::Fleet;
use trough_tests::poll::{LATER, ends};
use trough_tests::seed;
use trough_tests::servers::program;

/// Examples for each operation; the long form has ten times as many.
const EXAMPLES: usize = 6;
/// Buses and receivers that have sent something, each so many.
const DEVICES: usize = 10;

/// A deployment with something to read, and what its devices are called.
async fn filled() -> (Cluster, Vec<String>) {
    let cluster = Cluster::start(Shape::Up).await;
    let (buses, receivers) = (data::buses().into_iter(), data::gpsd().into_iter());
    let tracks: Vec<_> = buses.take(DEVICES).chain(receivers.take(DEVICES)).collect();
    let devices = tracks.iter().map(|track| track.device.clone()).collect();
    Fleet::start(&cluster, tracks, Mode::Binary).await.finish().await;
    (cluster, devices)
}

/// Runs schemathesis, which must find nothing.
async fn ask(cluster: &Cluster, devices: &[String], token: Option<&str>) {
    let seed = seed::rng("schemathesis").random_range(0..=u32::MAX).to_string();
    let examples = EXAMPLES * if seed::long("ten times as many examples") { 10 } else { 1 };
    let hooks = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi_hooks.py");
    let mut command = Command::new(program("schemathesis"));
    command.env("SCHEMATHESIS_HOOKS", hooks).env("TROUGH_TEST_DEVICES", devices.join(","));
    // It looks for a configuration where it runs, and leaves a directory there.
    command.current_dir(cluster.path()).arg("run").arg(format!("http://{}/openapi.json", cluster.at.api));
    command.args(["--seed", &seed, "--max-examples", &examples.to_string(), "--no-color"]);
    command.args(["--checks", "all", "--continue-on-failure", "--no-shrink", "--warnings", "off"]);
    command.args(["--generation-database", "none", "--suppress-health-check", "all"]);
    // A live stream does not end.
    command.args(["--request-timeout", "30", "--exclude-path-regex", "/live$"]);
    // On a busy machine it thinks for longer than the API keeps an idle connection. A panic shows in the server's log.
    command.args(["--request-retries", "2"]);
    if let Some(token) = token {
        command.args(["-H", &format!("Authorization: Bearer {token}")]);
    }
    let output = ends("schemathesis has asked everything", LATER * 5, run(command, "")).await;
    let report = String::from_utf8_lossy(&output.stdout);
    println!("{report}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "schemathesis found something; its seed was {seed}");
    assert!(report.contains("No issues found"), "it did ask");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_is_as_it_says() {
    let (cluster, devices) = filled().await;
    let scopes = Scope::ALL.map(Scope::as_str).join(",");
    let token = cluster.admin(&["readers", "add", "everything", "--scope", &scopes], "").await;
    ask(&cluster, &devices, Some(&token)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_refuses_as_it_says() {
    let (cluster, devices) = filled().await;
    ask(&cluster, &devices, None).await;
    let lister = cluster.admin(&["readers", "add", "lister", "--scope", "devices:read"], "").await;
    ask(&cluster, &devices, Some(&lister)).await;
}
