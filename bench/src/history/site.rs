//! A data directory with a year in it, and `trough up` on it, again and again.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{Advice, fadvise};
use tempfile::TempDir;

use super::Year;
use crate::deployment::{self, Means, Readers};
use crate::server::Server;
use crate::storage::blocking;

/// What history has replaced is not kept for longer than it must be, in seconds.
const GRACE: &str = "120";

/// Where the year lies.
pub struct Site<'a> {
    means: &'a Means,
    /// What lies there.
    pub year: Year,
    /// The data directory.
    pub data: PathBuf,
    token: String,
    // Last, so that the directory goes when nobody needs it any more.
    dir: TempDir,
}

/// A server on it.
pub struct Up {
    server: Server,
    /// Where frames are read.
    pub readers: Readers,
    /// Where counters are, `host:port`.
    pub admin: String,
}

impl<'a> Site<'a> {
    /// Makes one with devices, and nothing from them yet.
    pub fn new(means: &'a Means, devices: usize, frames: u64) -> Result<Self> {
        let dir = deployment::temporary(means)?;
        let data = dir.path().join("data");
        let devices = deployment::import_devices(means, "bench", dir.path(), &data, devices)?;
        let token = deployment::run(means, ["readers", "add", "bench", "--data-dir"], &data)?;
        let devices = devices.into_iter().map(|device| trough_protocol::DeviceId::new(&device.device));
        let devices = devices.collect::<Result<_, _>>().context("a device has a name that is no id")?;
        let year = Year::before(trough_runtime::clock::Clock::system().now(), devices, frames);
        Ok(Self { means, year, data, token: token.trim().to_owned(), dir })
    }

    /// Starts a server that compacts frames which are so old, in seconds.
    pub async fn up(&self, compact_after: &str) -> Result<Up> {
        let options = ["--compact-after", compact_after, "--compact-grace", GRACE];
        let sockets = ["--listen", "--api", "--admin"];
        let mut command = deployment::service(self.means, "up", &sockets, &self.data)?;
        command.args(options);
        let mut server = Server::start("up", command, self.dir.path())?;
        let api = server.await_line("where readers fetch", deployment::api_of_up).await?;
        let admin = server.await_line("where metrics are", deployment::admin_of_up).await?;
        let readers = Readers { base: format!("http://{api}"), token: self.token.clone() };
        Ok(Up { server, readers, admin })
    }

    /// Makes the system forget what it has read of the directory.
    pub async fn forget(&self) -> Result<()> {
        blocking(&self.data, |data| each_file(data, &mut forget)).await
    }

    /// Bytes of the journal's files.
    pub async fn journal_bytes(&self) -> Result<u64> {
        blocking(&self.data.join("journal"), |journal| {
            let mut bytes = 0;
            let mut add = |file: &Path| {
                bytes += file.metadata()?.len();
                Ok(())
            };
            each_file(journal, &mut add)?;
            Ok(bytes)
        })
        .await
    }

    /// Claims compaction for the bench.
    pub async fn claim(&self) -> Result<u64> {
        match blocking(&self.data, self.means.storage.claim).await? {
            Some(token) => Ok(token),
            None => bail!("compaction of {} is claimed by another process", self.data.display()),
        }
    }

    /// Removes all of it.
    pub fn remove(self) -> Result<()> {
        self.dir.close().context("cannot remove the temporary directory")
    }
}

impl Up {
    /// Stops it.
    pub async fn stop(self) -> Result<()> {
        self.server.stop().await
    }
}

fn each_file(dir: &Path, visit: &mut dyn FnMut(&Path) -> Result<()>) -> Result<()> {
    for entry in dir.read_dir().with_context(|| format!("cannot read {}", dir.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            each_file(&entry.path(), visit)?;
        } else {
            visit(&entry.path())?;
        }
    }
    Ok(())
}

/// Whole pages that are on the disk leave memory, posix_fadvise(2).
fn forget(file: &Path) -> Result<()> {
    let file = File::open(file)?;
    file.sync_data()?;
    Ok(fadvise(&file, 0, None, Advice::DontNeed)?)
}
