//! The real servers that a deployment stands on, each in a temporary directory, on loopback, on free ports.
//!
//! `tests/install-servers.sh` installs them. A server is waited for by what it answers, keeps its address over
//! restarts, and ends with its handle.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use s3::{Bucket, BucketConfiguration, Region};
use trough_store::objects::Credentials;

pub mod apns;
pub mod hooks;
pub mod kubernetes;
pub mod memcached;
pub mod mongo;
pub mod nginx;
pub mod proxy;
pub mod seaweed;
pub mod swift;

/// The bucket of an object store.
pub const BUCKET: &str = "trough";
const REGION: &str = "us-east-1";

/// Who may use an object store.
#[derive(Debug)]
pub struct Access {
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key: &'static str,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_key: &'static str,
}

impl Access {
    /// As the store takes it.
    pub fn credentials(&self) -> Credentials {
        Credentials {
            access_key: self.access_key.to_owned().into(),
            secret_key: self.secret_key.to_owned().into(),
        }
    }
}

/// What `--store` takes: the bucket at an S3 API, and in it whatever begins with `prefix`.
pub fn url_of(at: SocketAddr, prefix: &str) -> String {
    format!("s3://{BUCKET}/{prefix}?endpoint=http://{at}&region={REGION}")
}

/// Makes the bucket; nothing if that fails.
async fn make_bucket(at: SocketAddr, access: &Access) -> Option<()> {
    let (region, credentials) = region(at, access);
    let config = BucketConfiguration::default();
    Bucket::create_with_path_style(BUCKET, region, credentials, config).await.ok().map(drop)
}

/// The keys of everything in the bucket; nothing if that fails.
pub async fn list(at: SocketAddr, access: &Access) -> Option<BTreeSet<String>> {
    let (region, credentials) = region(at, access);
    let bucket = Bucket::new(BUCKET, region, credentials).ok()?.with_path_style();
    let pages = bucket.list(String::new(), None).await.ok()?;
    Some(pages.into_iter().flat_map(|page| page.contents).map(|object| object.key).collect())
}

/// Copies what is in the bucket into a directory, unless it is there: objects never change. What is removed meanwhile is
/// passed over.
pub(crate) async fn copy(at: SocketAddr, access: &Access, dir: &Path) -> Option<()> {
    let keys = list(at, access).await?;
    let (region, credentials) = region(at, access);
    let bucket = Bucket::new(BUCKET, region, credentials).ok()?.with_path_style();
    for key in keys {
        let path = dir.join(&key);
        if path.exists() {
            continue;
        }
        if let Ok(object) = bucket.get_object(&key).await {
            std::fs::create_dir_all(path.parent()?).ok()?;
            std::fs::write(&path, object.bytes()).ok()?;
        }
    }
    Some(())
}

fn region(at: SocketAddr, access: &Access) -> (Region, s3::creds::Credentials) {
    let (access_key, secret_key) = (access.access_key, access.secret_key);
    let credentials = s3::creds::Credentials::new(Some(access_key), Some(secret_key), None, None, None);
    let region = Region::Custom { region: REGION.to_owned(), endpoint: format!("http://{at}") };
    (region, credentials.expect("both keys are given"))
}

/// Where a program of one of the servers lies: in their own environment, or on the path.
///
/// # Panics
/// If it is not installed.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test knows where it lies");
    // target/debug/deps/system-… → target/test-servers/bin
    let own = test.ancestors().nth(3).map(|target| target.join("test-servers/bin").join(name));
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps servers where only root's path leads.
    let elsewhere =
        std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]).map(|dir| dir.join(name));
    own.into_iter()
        .chain(elsewhere)
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed: run tests/install-servers.sh"))
}

/// An address of its own for each server: its ports stay free while it is dead, as outgoing connections on
/// loopback come from 127.0.0.1, and no other test knows the address.
pub fn own_ip() -> Ipv4Addr {
    let [a, b, c] = rand::random::<[u8; 3]>();
    // 127.0.0.0/16 is left to others.
    Ipv4Addr::new(127, a.max(1), b, c.clamp(1, 254))
}

/// So many free ports at an address.
///
/// # Panics
/// If the system has none.
pub fn free_ports<const N: usize>(ip: Ipv4Addr) -> [SocketAddr; N] {
    let listeners: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind((ip, 0)).unwrap());
    listeners.map(|listener| listener.local_addr().unwrap())
}

/// Whether somebody accepts connections there.
pub fn accepts(at: SocketAddr) -> bool {
    TcpStream::connect_timeout(&at, std::time::Duration::from_secs(1)).is_ok()
}

/// The log of a server in its directory.
pub fn log_in(dir: &Path) -> PathBuf {
    dir.join("server.log")
}
