//! `trough drain`: a feeder or eater is emptied, and goes on running.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use clap::Args;
use clap::builder::BoolishValueParser;
use reqwest::{Client, Method};
use serde::Deserialize;
use tokio::time::{Instant, sleep};
use trough_runtime::drain::PATH;

use crate::admin_port::{self, AdminPort};
use crate::cmd::Work;
use crate::error::CliError;
use crate::faults::Faults;
use crate::output::{self, counted};
use crate::progress::Progress;
use crate::{http, opt};

/// How often is looked what is left.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What is emptied, and how.
#[derive(Debug, Args)]
pub struct DrainArgs {
    /// Admin port of the feeder or eater, as that has it in the same option
    /// [default: the only one that answers on this machine, at 9080, 9081, 9082 or 9090]
    #[arg(long, env = opt::ADMIN.env, hide_env_values = true, value_name = "HOST:PORT")]
    admin: Option<String>,
    /// Over how long what it has is sent elsewhere, in seconds
    /// [default: what the feeder has in the same option; 5 for an eater]
    #[arg(long, env = opt::DRAIN_SPREAD.env, hide_env_values = true, value_name = "SECONDS")]
    drain_spread: Option<String>,
    /// Wait until nothing is left, and show how far it is [default: off]
    #[arg(long, env = opt::DRAIN_WAIT.env, hide_env_values = true, value_parser = BoolishValueParser::new())]
    wait: bool,
    /// With --wait, how long that may take, in seconds
    #[arg(long, env = opt::DRAIN_TIMEOUT.env, hide_env_values = true, value_name = "SECONDS",
          default_value = "600")]
    timeout: String,
    /// Have it take new work again [default: off]
    #[arg(long, env = opt::DRAIN_UNDO.env, hide_env_values = true, value_parser = BoolishValueParser::new(),
          conflicts_with = "wait")]
    undo: bool,
}

/// What the admin port says.
#[derive(Debug, Deserialize)]
struct Standing {
    left: BTreeMap<String, u64>,
}

impl Standing {
    fn of(body: &str) -> Result<Self> {
        serde_json::from_str(body).context("the answer is not that of an admin port of this release")
    }

    fn total(&self) -> u64 {
        self.left.values().sum()
    }

    /// `3 sessions`, `1 link, 0 live streams`.
    fn in_words(&self) -> String {
        let words = self.left.iter().map(|(what, count)| {
            let what = what.replace('_', " ");
            counted(*count, what.strip_suffix('s').unwrap_or(&what))
        });
        words.collect::<Vec<_>>().join(", ")
    }
}

/// Checks the options.
pub fn prepare(args: DrainArgs, mut faults: Faults) -> Result<Work, Faults> {
    let DrainArgs { admin, drain_spread, wait, timeout, undo } = args;
    let port = admin.and_then(|admin| AdminPort::parse(&admin, &mut faults));
    let spread = drain_spread.and_then(|spread| faults.seconds(opt::DRAIN_SPREAD, &spread, 0..=3600));
    let timeout = faults.seconds(opt::DRAIN_TIMEOUT, &timeout, 1..=86_400);
    let timeout = faults.into_result(timeout)?;
    Ok(Box::pin(async move {
        let client = http::client_that_stays(None)?;
        let target = AdminPort::only(port.clone(), &client).await?;
        if undo {
            target.ask(&client, Method::DELETE, PATH).await?;
            return output::line("it takes new work again");
        }
        let path =
            spread.map_or_else(|| PATH.to_owned(), |s: Duration| format!("{PATH}?spread={}", s.as_secs()));
        let standing = Standing::of(&target.ask(&client, Method::POST, &path).await?)?;
        if wait {
            return wait_until_empty(&client, &target, standing, timeout).await;
        }
        output::line(format_args!("left: {}", standing.in_words()))?;
        output::note(format_args!(
            "it is being emptied and goes on running; `{} drain{} --undo` has it take new work again",
            output::program(),
            admin_port::option(port.as_ref())
        ));
        Ok(())
    }))
}

async fn wait_until_empty(
    client: &Client,
    target: &AdminPort,
    mut standing: Standing,
    timeout: Duration,
) -> Result<(), CliError> {
    let deadline = Instant::now() + timeout;
    let first = standing.total();
    let progress = Progress::new("emptying", "gone", Some(first));
    while standing.total() > 0 {
        if Instant::now() >= deadline {
            progress.clear();
            let (left, seconds) = (standing.in_words(), timeout.as_secs());
            return Err(
                anyhow!("after {seconds} s there are still {left}: is there another to take them?").into()
            );
        }
        sleep(LOOK_EVERY).await;
        standing = Standing::of(&target.get(client, PATH).await?)?;
        progress.set(first.saturating_sub(standing.total()));
    }
    progress.clear();
    output::line(format_args!("left: {}", standing.in_words()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_in_words() {
        let standing = Standing::of(r#"{"draining":true,"left":{"links":1,"live_streams":20}}"#).unwrap();
        assert_eq!((standing.total(), standing.in_words().as_str()), (21, "1 link, 20 live streams"));
        assert!(Standing::of("<html>").is_err());
    }
}
