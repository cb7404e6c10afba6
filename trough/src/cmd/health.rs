//! `trough health`: one probe, for container health checks and scripts. The image has no curl.

use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;

use crate::cmd::Work;
use crate::error::CliError;
use crate::faults::Faults;
use crate::tls::CaArgs;
use crate::{http, opt, output};

/// What to ask.
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// Any port of the service: its main port and its admin port both answer
    #[arg(long, env = opt::HEALTH_URL.env, hide_env_values = true, value_name = "URL",
          default_value = "http://127.0.0.1:8080")]
    url: String,
    /// How long the answer may take, in seconds
    #[arg(long, env = opt::TIMEOUT.env, hide_env_values = true, value_name = "SECONDS", default_value = "5")]
    timeout: String,
    #[command(flatten)]
    ca: CaArgs,
}

/// Checks the options.
pub fn prepare(args: HealthArgs, mut faults: Faults) -> Result<Work, Faults> {
    let url = faults.url(opt::HEALTH_URL, &args.url, &["http", "https"], "http://127.0.0.1:8080");
    let timeout = faults.seconds(opt::TIMEOUT, &args.timeout, 1..=300);
    let ca = args.ca.check(&mut faults);
    let (url, timeout) = faults.into_result(url.zip(timeout))?;
    Ok(Box::pin(run(url, ca, timeout)))
}

async fn run(url: reqwest::Url, ca: Option<Vec<u8>>, timeout: Duration) -> Result<(), CliError> {
    let url = http::join(&url, "/readyz");
    let failed = || format!("no answer from {url}: is the service running, and is this its port?");
    let response = http::client(ca.as_deref())?.get(url.clone()).timeout(timeout).send().await;
    let response = response.map_err(http::plain).with_context(failed)?;
    let status = response.status();
    let body = http::text_at_most(response, 64 * 1024).await.with_context(failed)?;
    output::line(body.trim_end())?;
    if status.is_success() {
        return Ok(());
    }
    Err(anyhow!("{url} answers {status}: the service is starting or draining").into())
}
