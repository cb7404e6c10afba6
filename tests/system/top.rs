//! `trough top` over real processes.
//!
//! 1. Two feeders and an eater with traffic: as a table and as JSON. One that is killed has a line that says so.
//! 2. As `kubectl trough top`, with a kubectl that answers as the real one does: pods are found and asked, what kubectl
//!    runs for it has ended afterwards, and what kubectl complains of is told. Other commands are refused.
//! 3. Nobody answers.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::{Value, json};
use trough_device::Mode;
use trough_tests::admin::run;
use trough_tests::cluster::{Cluster, Options, Role, Shape};
use trough_tests::data;
use trough_tests::fleet::Fleet;
use trough_tests::poll::{LATER, ends, until};
use trough_tests::process::{binary, command};

const ROLES: [Role; 3] = [Role::Feeder(0), Role::Feeder(1), Role::Eater(0)];
const DEVICES: usize = 40;

/// A deployment whose devices stream on and on, until it is dropped.
async fn under_load() -> (Cluster, Fleet) {
    let cluster = Cluster::start_with(Shape::Split, Options { feeders: 2, ..Options::default() }).await;
    let mut tracks = data::gpsd();
    tracks.truncate(DEVICES);
    let fleet = Fleet::start(&cluster, tracks, Mode::Binary).await;
    (cluster, fleet)
}

/// Runs it while devices stream.
async fn while_streaming(fleet: &Fleet, command: Command) -> Output {
    let streaming = async {
        // Not to the end, where devices say goodbye.
        for part in 1..=900 {
            fleet.let_go(part);
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = streaming => unreachable!("it never ends"),
        output = ends("trough top ends", LATER, run(command, "")) => output,
    }
}

fn text(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn assert_streaming(report: &Value, sessions: u64) {
    let total = &report["total"];
    assert_eq!(total["sessions"], sessions, "{report}");
    for figure in ["frames_per_second", "cpu", "memory_bytes"] {
        assert!(total[figure].as_f64().unwrap() > 0.0, "{figure}: {report}");
    }
    let eater = report["processes"].as_array().unwrap().iter().find(|process| process["service"] == "eater");
    let eater = eater.unwrap();
    assert!(
        eater["frames_per_second"].as_f64().unwrap() > 0.0 && eater["credit_used"].is_number(),
        "{eater}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_are_shown_as_a_table_and_as_json() {
    let (mut cluster, fleet) = under_load().await;
    let ports = ROLES.map(|role| cluster.admin_of(role).to_string());
    let top = |args: &[&str]| {
        let mut command = command();
        command.args(["top", "--every", "1", "--admin", &ports.join(",")]).args(args);
        command
    };
    let report = text(while_streaming(&fleet, top(&["--json"])).await);
    assert_streaming(&serde_json::from_str(&report).unwrap(), DEVICES as u64);

    cluster.kill(Role::Feeder(1));
    // Its output is no terminal.
    let table = text(ends("trough top ends", LATER, run(top(&["--sort", "sessions"]), "")).await);
    println!("{table}");
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("NAME ") && lines.len() == 5, "{table}");
    assert!(lines[1].contains(" feeder ") && lines[1].contains(&format!(" {DEVICES}/16,384 ")), "{table}");
    let dead = lines.iter().find(|line| line.starts_with(&ports[1])).unwrap();
    assert!(dead.contains("no answer: ") && dead.contains("refused"), "{dead}");
    assert!(lines[4].starts_with("3 processes ") && lines[4].contains("1 without an answer"), "{table}");
}

/// A kubectl that knows two pods, and notes what it is asked.
const KUBECTL: &str = r#"#!/bin/sh
echo "$*" >> asked
case "$*" in
*"get pods --selector app.kubernetes.io/part-of=trough --output json"*)
    if [ -e broken ]; then echo 'error: You must be logged in to the server (Unauthorized)' >&2; exit 1; fi
    cat pods.json ;;
*"port-forward pod/"*)
    all="$*"
    pod=${all#*pod/}
    at=$(cat "at-${pod% *}") || exit 1
    echo $$ >> forwards
    echo "Forwarding from $at -> ${pod#*:}"
    exec sleep 600 ;;
*) echo "error: unknown command $*" >&2; exit 1 ;;
esac
"#;

/// A directory with it, `kubectl-trough`, and what it says.
fn plugin(cluster: &Cluster) -> PathBuf {
    let dir = cluster.path().join("plugin");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("kubectl"), KUBECTL).unwrap();
    fs::set_permissions(dir.join("kubectl"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink(binary(), dir.join("kubectl-trough")).unwrap();
    let pod = |name: &str, service: &str, port: u16, phase: &str| {
        json!({
            "metadata": {"name": name, "labels": {"app.kubernetes.io/name": service, "app.kubernetes.io/part-of": "trough"}},
            "spec": {"containers": [{"name": service, "ports": [{"name": "admin", "containerPort": port}]}]},
            "status": {"phase": phase},
        })
    };
    let pods = json!({"kind": "List", "items": [
        pod("feeder-a", "feeder", 9080, "Running"),
        pod("eater-a", "eater", 9081, "Running"),
        pod("eater-b", "eater", 9081, "Pending"),
    ]});
    fs::write(dir.join("pods.json"), pods.to_string()).unwrap();
    for (pod, role) in [("feeder-a", Role::Feeder(0)), ("eater-a", Role::Eater(0))] {
        fs::write(dir.join(format!("at-{pod}")), cluster.admin_of(role).to_string()).unwrap();
    }
    dir
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_trough_top() {
    let (cluster, fleet) = under_load().await;
    let dir = plugin(&cluster);
    let trough = |args: &[&str]| {
        let mut command = Command::new(dir.join("kubectl-trough"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{}", dir.display(), path.to_string_lossy()));
        command.current_dir(&dir).args(args);
        command
    };
    let report =
        text(while_streaming(&fleet, trough(&["top", "-n", "blue", "--every", "1", "--json"])).await);
    let report: Value = serde_json::from_str(&report).unwrap();
    let sessions = cluster.metric(Role::Feeder(0), "trough_feeder_sessions").await;
    assert_streaming(&report, sessions as u64);
    let processes = report["processes"].as_array().unwrap();
    let names: Vec<_> = processes.iter().map(|process| process["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["feeder-a", "eater-a", "eater-b"]);
    assert_eq!((&processes[2]["state"], &processes[2]["reason"]), (&"silent".into(), &"Pending".into()));

    let asked = fs::read_to_string(dir.join("asked")).unwrap();
    assert!(asked.lines().all(|line| line.starts_with("--namespace blue ")), "{asked}");
    let forwards = fs::read_to_string(dir.join("forwards")).unwrap();
    assert_eq!(forwards.lines().count(), 2, "one way into each pod, for both looks: {forwards}");
    for pid in forwards.lines() {
        let process = PathBuf::from(format!("/proc/{pid}"));
        until("it has ended", LATER, async || (!process.exists()).then_some(())).await;
    }

    fs::write(dir.join("broken"), "").unwrap();
    let output = run(trough(&["top", "--once"]), "").await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("You must be logged in"), "{said}");
    let output = run(trough(&["devices", "list"]), "").await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(2) && said.contains("kubectl exec deploy/eater -- trough"),
        "{said}"
    );
    assert!(!dir.join("trough-data").exists(), "nothing was begun");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_answers() {
    let mut command = command();
    command.args(["top", "--every", "1", "--admin", "127.0.0.1:1"]);
    let table = text(ends("trough top ends", LATER, run(command, "")).await);
    assert!(table.contains("no answer: ") && table.lines().count() == 2, "{table}");
}
