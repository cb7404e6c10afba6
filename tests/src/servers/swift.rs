//! OpenStack Swift behind its S3 API, with one bucket: what the system ran on before. It is installed by
//! `tests/install-servers.sh swift`, for the long form.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::memcached::Memcached;
use super::{Access, free_ports, list, make_bucket, own_ip, program, url_of};
use crate::poll::{LATER, until};
use crate::process::Process;

/// Who may do everything.
pub const ACCESS: Access = Access { access_key: "test:tester", secret_key: "testing" };

/// What stores, and keeps the lists of what is stored.
const KEEPERS: [&str; 3] = ["account", "container", "object"];
const FILTERS: &str = "\
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
s3_acl = false
dns_compliant_bucket_names = true
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_object_versioning = true
[filter:symlink]
use = egg:swift#symlink
";

/// A running Swift of one proxy, three keepers and a memcached.
#[derive(Debug)]
pub struct Swift {
    /// Where its S3 API listens.
    pub at: SocketAddr,
    // In the order in which they end.
    proxy: Process,
    _keepers: Vec<Process>,
    _cache: Memcached,
    dir: TempDir,
}

impl Swift {
    /// Starts one with the empty bucket [`BUCKET`](super::BUCKET).
    pub async fn start() -> Self {
        let cache = Memcached::start(&[]).await;
        let [at, keepers @ ..] = free_ports::<4>(own_ip());
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("devices/d1")).unwrap();
        let keepers = KEEPERS.iter().zip(keepers).map(|(kind, at)| {
            make_ring(dir.path(), kind, at);
            let app = format!(
                "[pipeline:main]\npipeline = {kind}-server\n[app:{kind}-server]\nuse = egg:swift#{kind}\n"
            );
            settle(dir.path(), kind, at, &app);
            spawn(dir.path(), kind)
        });
        let keepers = keepers.collect();
        let app = format!(
            "[pipeline:main]\npipeline = catch_errors gatekeeper healthcheck cache listing_formats s3api tempauth \
             copy slo dlo versioned_writes symlink proxy-server\n[app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = \
             true\nallow_account_management = false\nconn_timeout = 2\n[filter:cache]\nuse = egg:swift#memcache\n\
             memcache_servers = {}\n{FILTERS}",
            cache.at
        );
        settle(dir.path(), "proxy", at, &app);
        let proxy = spawn(dir.path(), "proxy");
        let mut server = Self { at, proxy, _keepers: keepers, _cache: cache, dir };
        server.answers().await;
        // Its keepers may take longer to start.
        until("Swift makes a bucket", LATER, async || make_bucket(at, &ACCESS).await).await;
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

    /// Its proxy, to be stopped and resumed.
    pub fn process(&mut self) -> &mut Process {
        &mut self.proxy
    }

    /// SIGKILL to its proxy, and starts it again; does not wait until it answers.
    pub fn spawn_again(&mut self) {
        self.proxy.kill();
        self.proxy = spawn(self.dir.path(), "proxy");
    }

    /// Waits until it answers, and shows its bucket.
    pub async fn ready(&mut self) {
        self.answers().await;
        let at = self.at;
        until("Swift shows its bucket", LATER, async || list(at, &ACCESS).await).await;
    }

    async fn answers(&mut self) {
        let health = format!("{}/healthcheck", self.endpoint());
        until("Swift answers", LATER, async || {
            assert!(!self.proxy.has_ended(), "Swift ended:\n{}", self.proxy.log());
            reqwest::get(&health).await.ok().filter(|answer| answer.status().is_success()).map(drop)
        })
        .await;
    }
}

/// Says on which device the things of one kind lie: all on the one that there is.
fn make_ring(dir: &Path, kind: &str, at: SocketAddr) {
    let device = format!("r1z1-{}:{}/d1", at.ip(), at.port());
    for arguments in [&["create", "2", "1", "0"][..], &["add", &device, "1"], &["rebalance"]] {
        let mut command = Command::new(program("swift-ring-builder"));
        command.current_dir(dir).arg(format!("{kind}.builder")).args(arguments).stdout(Stdio::null());
        // 1 is a warning.
        assert!(command.status().unwrap().code().is_some_and(|code| code < 2), "{command:?} failed");
    }
}

/// Writes the configuration of one of its servers.
fn settle(dir: &Path, kind: &str, at: SocketAddr, app: &str) {
    let common = format!(
        "[DEFAULT]\nbind_ip = {}\nbind_port = {}\nworkers = 0\nuser = root\nswift_dir = {dir}\ndevices = \
         {dir}/devices\nmount_check = false\ndisable_fallocate = true\nfallocate_reserve = 0\nlog_level = \
         WARNING\nlog_address = {dir}/no-log\n",
        at.ip(),
        at.port(),
        dir = dir.display()
    );
    fs::write(dir.join(format!("{kind}.conf")), common + app).unwrap();
}

fn spawn(dir: &Path, kind: &str) -> Process {
    let mut command = Command::new(program(&format!("swift-{kind}-server")));
    command.current_dir(dir).arg(dir.join(format!("{kind}.conf")));
    Process::spawn(&format!("Swift's {kind} server"), &mut command, &dir.join(format!("{kind}.log")))
}
