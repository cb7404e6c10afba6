//! A data directory with a rule and subscriptions, and servers on it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tempfile::TempDir;

use super::Telling;
use super::send::RULE;
use crate::deployment::{self, Both, Means};
use crate::load::{Credentials, Target};
use crate::scrape::Scrape;
use crate::server::Server;

/// What lets a webhook lead to this machine.
const REACH: [&str; 2] = ["--webhook-http", "--webhook-private-networks"];
/// How long rules may take until they have looked at everything.
const WATCH_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// Where it lies.
pub struct Site<'a> {
    means: &'a Means,
    data: PathBuf,
    devices: Vec<Credentials>,
    // Last, so that the directory goes when nobody needs it any more.
    dir: TempDir,
}

/// `trough up` on it.
pub struct Up {
    pub server: Server,
    pub target: Target,
}

impl<'a> Site<'a> {
    /// Makes one: who is told is a reader's webhook to `url`.
    pub fn new(means: &'a Means, telling: Telling, url: &str) -> Result<Self> {
        let dir = deployment::temporary(means)?;
        let data = dir.path().join("data");
        let devices = deployment::import_devices(means, "bench", dir.path(), &data, telling.devices)?;
        deployment::run(means, ["readers", "add", "bench", "--data-dir"], &data)?;
        deployment::run(means, ["rules", "set", "bench", "--when", RULE, "--all", "--data-dir"], &data)?;
        let share = devices.len().div_ceil(telling.subscriptions);
        for some in devices.chunks(share) {
            let some = some.iter().map(|device| device.device.as_str()).collect::<Vec<_>>().join(",");
            let [http, private] = REACH;
            let add = ["subscriptions", "add", "bench", "--url", url, "--event", "rule.matched"];
            let [a, b, c, d, e, f, g] = add;
            let args = [a, b, c, d, e, f, g, "--device", &some, http, private, "--data-dir"];
            deployment::run(means, args, &data)?;
        }
        Ok(Self { means, data, devices, dir })
    }

    /// Starts `trough up`.
    pub async fn up(&self) -> Result<Up> {
        let mut command =
            deployment::service(self.means, "up", &["--listen", "--api", "--admin"], &self.data)?;
        command.args(REACH);
        let mut server = Server::start("up", command, self.dir.path())?;
        let url = server.await_line("where devices connect", deployment::devices_of_up).await?;
        Ok(Up { server, target: self.target(&url) })
    }

    /// Starts a feeder and an eater, and nobody who tells anybody.
    pub async fn without_notifier(&self) -> Result<(Both, Target)> {
        let both = deployment::start_both(self.means, self.dir.path(), &self.data).await?;
        let target = self.target(&both.devices);
        Ok((both, target))
    }

    /// Starts a notifier.
    pub fn notifier(&self) -> Result<Server> {
        let mut command = deployment::service(self.means, "notifier", &["--admin"], &self.data)?;
        command.args(REACH);
        Server::start("notifier", command, self.dir.path())
    }

    /// Waits until rules have found so many matches, and as many ends of them, but for those that go on.
    pub async fn await_events(&self, services: &Both, matched: u64) -> Result<()> {
        let began = Instant::now();
        loop {
            let scrape = Scrape::of(&self.means.http, &services.admin).await?;
            let events = scrape.counter("trough_watch_events_total")?;
            if events >= (2 * matched).saturating_sub(self.devices.len() as u64).max(matched) {
                return Ok(());
            }
            ensure!(
                began.elapsed() < WATCH_TIMEOUT,
                "{events} events were found of {matched} matches within {WATCH_TIMEOUT:?}"
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// Removes all of it.
    pub fn remove(self) -> Result<()> {
        self.dir.close().map_err(Into::into)
    }

    fn target(&self, feeder: &str) -> Target {
        Target { url: format!("ws://{feeder}"), devices: self.devices.clone() }
    }
}
