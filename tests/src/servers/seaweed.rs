//! SeaweedFS, the object store: its S3 API with one bucket.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::{Access, free_ports, log_in, make_bucket, own_ip, program, url_of};
use crate::poll::{LATER, until};
use crate::process::Process;

/// Who may do everything.
pub const ACCESS: Access = Access { access_key: "testkey", secret_key: "testsecret" };

const IDENTITIES: &str = r#"{"identities":[{"name":"t","credentials":[{"accessKey":"testkey","secretKey":"testsecret"}],
"actions":["Admin","Read","Write","List","Tagging"]}]}"#;

/// A running SeaweedFS: master, volume server, filer and S3 gateway in one process.
#[derive(Debug)]
pub struct Seaweed {
    /// Where its S3 API listens; the same over restarts.
    pub at: SocketAddr,
    ports: [SocketAddr; 8],
    process: Process,
    dir: TempDir,
}

impl Seaweed {
    /// Starts one with the empty bucket [`BUCKET`](super::BUCKET).
    pub async fn start() -> Self {
        let ports = free_ports(own_ip());
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        fs::write(dir.path().join("s3.json"), IDENTITIES).unwrap();
        let process = spawn(&ports, dir.path());
        let mut server = Self { at: ports[6], ports, process, dir };
        server.ready().await;
        let at = server.at;
        until("SeaweedFS makes a bucket", LATER, async || make_bucket(at, &ACCESS).await).await;
        server
    }

    /// The URL of its S3 API.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.at)
    }

    /// What `--store` takes: the bucket, and in it whatever begins with `prefix`.
    pub fn url(&self, prefix: &str) -> String {
        url_of(self.at, prefix)
    }

    /// Its process, to be stopped and resumed.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// SIGKILL: what it has stored is there again after a restart.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again after a kill, with what it had stored.
    pub async fn restart(&mut self) {
        self.spawn_again();
        self.ready().await;
    }

    /// Starts it again after a kill, and does not wait until it answers.
    pub fn spawn_again(&mut self) {
        self.process.kill();
        self.process = spawn(&self.ports, self.dir.path());
    }

    /// Waits until its S3 API answers.
    pub async fn ready(&mut self) {
        let status = format!("{}/status", self.endpoint());
        until("SeaweedFS answers", LATER, async || {
            assert!(!self.process.has_ended(), "SeaweedFS ended:\n{}", self.process.log());
            reqwest::get(&status).await.ok().filter(|answer| answer.status().is_success()).map(drop)
        })
        .await;
    }
}

impl Drop for Seaweed {
    fn drop(&mut self) {
        self.process.kill();
        // What it leaves outside of its directory.
        for (kind, at) in ["master", "volume", "filer", "s3"].iter().zip(self.ports.iter().skip(1).step_by(2))
        {
            let _ = fs::remove_file(format!("/tmp/seaweedfs-{kind}-grpc-{}.sock", at.port()));
        }
    }
}

fn spawn(ports: &[SocketAddr; 8], dir: &Path) -> Process {
    let file = |name: &str| dir.join(name).display().to_string();
    let ip = ports[0].ip();
    let mut command = Command::new(program("weed"));
    // Else it keeps state under the home directory.
    command.current_dir(dir).env("HOME", dir).arg("server");
    command.args([format!("-dir={}", file("data")), format!("-ip={ip}"), format!("-ip.bind={ip}")]);
    let names = [
        "master.port",
        "master.port.grpc",
        "volume.port",
        "volume.port.grpc",
        "filer.port",
        "filer.port.grpc",
        "s3.port",
        "s3.port.grpc",
    ];
    command.args(names.iter().zip(ports).map(|(name, at)| format!("-{name}={}", at.port())));
    command.args([
        "-master.telemetry=false",
        "-master.electionTimeout=1s",
        "-master.volumeSizeLimitMB=256",
        "-volume.max=0",
        "-volume.preStopSeconds=0",
        "-filer",
        "-s3",
        "-s3.iam=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
    ]);
    for (name, value) in [("filer.localSocket", "filer.sock"), ("s3.localSocket", "s3.sock")] {
        // A killed one leaves its socket behind.
        let _ = fs::remove_file(dir.join(value));
        command.arg(format!("-{name}={}", file(value)));
    }
    command.arg(format!("-s3.config={}", file("s3.json")));
    Process::spawn("SeaweedFS", &mut command, &log_in(dir))
}
