//! NGINX with the configuration that ships, of which only what stands in `site/` is changed, as its README says.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::{CertificateParams, KeyPair};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;

use super::{accepts, free_ports, log_in, own_ip, program};
use crate::poll::{SOON, until};
use crate::process::Process;

/// How long a worker keeps its sessions after a reload: short, so that a reload is seen to cut them.
const SHUTDOWN_TIMEOUT: &str = "1s";

/// A running NGINX.
#[derive(Debug)]
pub struct Nginx {
    /// Where it listens; the same over restarts.
    pub at: SocketAddr,
    /// Whom its clients must trust.
    pub certificate_pem: String,
    process: Process,
    dir: TempDir,
}

impl Nginx {
    /// Starts one in front of these.
    pub async fn start(feeders: &[SocketAddr], eaters: &[SocketAddr]) -> Self {
        let [at] = free_ports(own_ip());
        let dir = tempfile::Builder::new().prefix("trough-nginx-").tempdir().unwrap();
        copy(&shipped(), dir.path());
        let certificate_pem = certify(at, dir.path());
        settle(dir.path(), at, feeders, eaters);
        let process = spawn(dir.path());
        let mut server = Self { at, certificate_pem, process, dir };
        server.ready().await;
        server
    }

    /// Its process, the master.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// SIGSTOP to all of it: it keeps its sockets and does nothing.
    pub fn stop(&self) {
        self.signal_all(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal_all(Signal::CONT);
    }

    /// SIGKILL to all of it: workers would outlive their master.
    pub fn kill(&mut self) {
        // Once it is reaped its number may be another's.
        if !self.process.has_ended() {
            self.signal_all(Signal::KILL);
        }
        self.process.kill();
    }

    /// Starts it again after a kill.
    pub async fn restart(&mut self) {
        self.kill();
        self.process = spawn(self.dir.path());
        self.ready().await;
    }

    /// SIGHUP; waits until new workers serve, and the old ones have cut the sessions that did not end by themselves.
    pub async fn reload(&mut self) {
        let old = self.workers();
        self.hang_up();
        until("NGINX has new workers only", SOON, async || {
            let now = self.workers();
            (!now.is_empty() && now.is_disjoint(&old)).then_some(())
        })
        .await;
        self.ready().await;
    }

    /// SIGHUP: it begins to reload.
    pub fn hang_up(&self) {
        let _ = kill_process(self.pid(), Signal::HUP);
    }

    /// Everything that it has logged about requests, and about itself.
    pub fn logs(&self) -> String {
        let logs = ["trough.log", "error.log", "server.log"].map(|name| self.dir.path().join(name));
        logs.iter().map(|log| fs::read_to_string(log).unwrap_or_default()).collect()
    }

    /// The configuration as NGINX has read it, all files together.
    pub fn configuration(&self) -> String {
        let output = command(self.dir.path()).arg("-T").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.process.id()).unwrap()).expect("a child's id is not 0")
    }

    fn signal_all(&self, signal: Signal) {
        let _ = kill_process_group(self.pid(), signal);
    }

    fn workers(&self) -> BTreeSet<u32> {
        let id = self.process.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        children.split_whitespace().map(|child| child.parse().unwrap()).collect()
    }

    async fn ready(&mut self) {
        until("NGINX accepts connections", SOON, async || {
            assert!(!self.process.has_ended(), "NGINX ended:\n{}", self.process.log());
            accepts(self.at).then_some(())
        })
        .await;
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The directory that ships.
pub fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../nginx")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (entry, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        if entry.is_dir() {
            copy(&entry, &to.join(name));
        } else {
            fs::copy(entry, to.join(name)).unwrap();
        }
    }
}

/// A certificate for its address, where the configuration looks for one; gives it.
fn certify(at: SocketAddr, dir: &Path) -> String {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![at.ip().to_string()]).unwrap().self_signed(&key).unwrap();
    fs::write(dir.join("fullchain.pem"), certificate.pem()).unwrap();
    fs::write(dir.join("privkey.pem"), key.serialize_pem()).unwrap();
    certificate.pem()
}

/// Changes what the README tells an operator to change.
fn settle(dir: &Path, at: SocketAddr, feeders: &[SocketAddr], eaters: &[SocketAddr]) {
    let site = dir.join("site");
    let here = |path: &str| dir.join(path).display().to_string();
    change(
        &site.join("process.conf"),
        &[
            ("/run/nginx.pid", &here("nginx.pid")),
            ("/var/log/nginx/error.log", &here("error.log")),
            ("worker_shutdown_timeout 5m;", &format!("worker_shutdown_timeout {SHUTDOWN_TIMEOUT};")),
        ],
    );
    change(
        &site.join("server.conf"),
        &[
            ("listen 443 ssl", &format!("listen {at} ssl")),
            ("listen [::]:443 ssl backlog=4096;\n", ""),
            ("/etc/ssl/trough/fullchain.pem", &here("fullchain.pem")),
            ("/etc/ssl/trough/privkey.pem", &here("privkey.pem")),
            ("/var/log/nginx/trough.log", &here("trough.log")),
        ],
    );
    let lines = |line: &str, from: &str, to: &[SocketAddr]| -> String {
        to.iter().map(|at| line.replace(from, &at.to_string()) + "\n").collect()
    };
    for (file, from, how, to) in [
        ("feeders.conf", "127.0.0.1:8080", "max_fails=0", feeders),
        ("eaters.conf", "127.0.0.1:8081", "max_fails=3 fail_timeout=5s", eaters),
    ] {
        let line = format!("server {from} {how};");
        change(&site.join(file), &[(&format!("{line}\n"), &lines(&line, from, to))]);
    }
    // Debian's own places are for one NGINX of a machine, and for root.
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {};\n", here(name)))
        .concat();
    fs::write(site.join("http.conf"), temporary).unwrap();
}

fn change(file: &Path, changes: &[(&str, &str)]) {
    let mut text = fs::read_to_string(file).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "{} has no {from:?} any more", file.display());
        text = text.replace(from, to);
    }
    fs::write(file, text).unwrap();
}

fn command(dir: &Path) -> Command {
    let mut command = Command::new(program("nginx"));
    command.args(["-g", "daemon off;", "-c"]).arg(dir.join("nginx.conf")).arg("-p").arg(dir);
    command
}

fn spawn(dir: &Path) -> Process {
    // A group of its own, so that a signal reaches the workers too.
    Process::spawn("nginx", command(dir).process_group(0), &log_in(dir))
}
