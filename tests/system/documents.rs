//! What the documents say is so.
//!
//! 1. The commands that `trough up` prints work as they stand, in the order in which they are printed.
//! 2. The tour of the README works as it stands.
//! 3. The device of `docs/protocol.md` in another language (`clients/examples/device.py`) speaks with the real feeder:
//!    what it sends comes back, also when the feeder is killed under it.
//! 4. Every option that the documents name exists.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use trough_tests::admin::{help_of_all, run};
use trough_tests::cluster::{Cluster, Shape};
use trough_tests::poll::{LATER, SOON, ends, until};
use trough_tests::process::{Process, binary};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// A shell that finds `trough` in its path.
fn shell(cluster: &Cluster, script: &str) -> Command {
    let bin = cluster.path().join("bin");
    fs::create_dir_all(&bin).unwrap();
    let link = bin.join("trough");
    if !link.exists() {
        std::os::unix::fs::symlink(binary(), link).unwrap();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = format!("{}:{}", bin.display(), path.to_string_lossy());
    let mut shell = Command::new("bash");
    shell.args(["-euo", "pipefail", "-c", script]).env("PATH", path).current_dir(cluster.path());
    shell
}

async fn run_script(cluster: &Cluster, script: &str) -> String {
    let output = ends("the commands end", LATER, run(shell(cluster, script), "")).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The only one of the commands that does not end by itself.
fn cut_short(script: &str) -> String {
    let line = |line: &str| match line.trim_start() {
        tail if tail.contains(" tail ") => format!("timeout 3 {tail} || test $? = 124"),
        other => other.to_owned(),
    };
    script.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_up_prints_works() {
    let cluster = Cluster::start(Shape::Up).await;
    let printed = until("it says what to do", SOON, async || {
        cluster.all_logs().split_once("in another terminal:").map(|(_, rest)| rest.to_owned())
    })
    .await;
    let lines: Vec<&str> = printed.lines().filter(|line| line.starts_with("  ")).collect();
    assert!(lines.len() >= 4, "{printed}");
    let output = run_script(&cluster, &cut_short(&lines.join("\n"))).await;
    assert!(output.contains("\"text\":\"1000\""), "tail shows all thousand: {output}");
    assert!(output.contains("\"next_cursor\":\""), "curl shows a page: {output}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tour_of_the_readme_works() {
    let cluster = Cluster::start(Shape::Up).await;
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let tour = readme.split_once("## A short tour").expect("the README has a tour").1;
    let tour = tour.split("\n## ").next().unwrap();
    let block =
        |part: &str| part.split_once("```").map(|(script, _)| script.trim_start_matches("sh\n").to_owned());
    let script: String = tour.split("```sh\n").skip(1).filter_map(block).collect();
    let before = |line: &&str| !line.starts_with("trough up") && !line.starts_with("cargo install");
    let script: String = script.lines().filter(before).collect::<Vec<_>>().join("\n");
    // The tour uses the default addresses; here are others.
    let script = script.replace("127.0.0.1:8081", &cluster.at.api.to_string());
    let script = script.replace("127.0.0.1:9090", &cluster.at.admin.to_string());
    let exports = format!(
        "export TROUGH_DATA_DIR={} TROUGH_URL={} TROUGH_API_URL=http://{}\n",
        cluster.data_dir().display(),
        cluster.url(),
        cluster.at.api
    );
    let output = run_script(&cluster, &(exports + &cut_short(&script))).await;
    assert!(output.contains("\"seq\":1,"), "{output}");
    assert!(output.contains("trough_"), "the metrics are shown: {output}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_in_python() {
    let python = Command::new("python3").arg("--version").stdout(Stdio::null()).status();
    if !python.is_ok_and(|status| status.success()) {
        println!("SKIPPED: there is no python3");
        return;
    }
    let mut cluster = Cluster::start(Shape::Split).await;
    let token = cluster.add_device("snake").await;
    let lines: Vec<String> = (1..=3000).map(|n| format!("line {n}")).collect();
    let input = cluster.path().join("lines");
    fs::write(&input, lines.join("\n") + "\n").unwrap();
    let mut device = Command::new("python3");
    device.arg(repository().join("clients/examples/device.py")).arg(cluster.url());
    device.arg("--state").arg(cluster.path().join("device.json")).env("TROUGH_TOKEN", &token);
    device.stdin(fs::File::open(&input).unwrap());
    let mut device = Process::spawn("device.py", &mut device, &cluster.path().join("device.log"));
    until("it streams", SOON, async || (cluster.reader().head("snake").await?.1 > 100).then_some(())).await;
    for role in cluster.roles() {
        cluster.kill(role);
        cluster.spawn(role);
    }
    let exit = device.wait(LATER + Duration::from_secs(60)).await;
    assert_eq!(exit.code, Some(0), "{}", device.log());
    cluster.ready().await;
    let read = cluster.reader().frames("snake").await;
    let texts: Vec<String> =
        read.iter().map(|frame| String::from_utf8(frame.payload.clone()).unwrap()).collect();
    assert_eq!(texts, lines);
    assert!(read.iter().zip(1..).all(|(frame, seq)| frame.epoch == 1 && frame.seq == seq));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_option_in_the_documents_exists() {
    let known: String = help_of_all().await.into_values().collect();
    let mut documents = vec![repository().join("README.md")];
    documents.extend(fs::read_dir(repository().join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    for path in documents.iter().filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
        let text = fs::read_to_string(path).unwrap();
        // In commands of ours only: `trough … --option`.
        for line in text.lines().filter_map(|line| line.split_once("trough ")).map(|(_, rest)| rest) {
            for word in
                line.split([' ', '`', ')', ']', '|']).filter(|word| word.starts_with("--") && word.len() > 3)
            {
                let option = word.split(['=', ',', '.', ';', ':']).next().unwrap();
                assert!(known.contains(option), "{}: {option} in {line:?} does not exist", path.display());
            }
        }
    }
}
