//! `trough top`: what the processes of a deployment are doing.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;
use clap::builder::BoolishValueParser;
use trough_runtime::shutdown::Shutdown;

use crate::admin_port::AdminPort;
use crate::cmd::Work;
use crate::error::CliError;
use crate::faults::Faults;
use crate::top::kubectl::{Choice, Kubectl};
use crate::top::report::Report;
use crate::top::screen;
use crate::top::source::{Source, Watch};
use crate::top::table::{self, Order};
use crate::{http, opt, output};

/// Where the processes are, and how they are shown.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Admin ports, as the services have them in the same option; several with commas, or by repeating the option
    /// [default: those that answer on this machine, at 9080, 9081, 9082 and 9090]
    #[arg(long, env = opt::ADMIN.env, hide_env_values = true, value_name = "HOST:PORT", value_delimiter = ',')]
    admin: Vec<String>,
    /// The pods of a namespace, by kubectl [default: off; on as `kubectl trough top`]
    #[arg(long, env = opt::TOP_KUBECTL.env, hide_env_values = true, value_parser = BoolishValueParser::new())]
    pub kubectl: bool,
    /// Which namespace kubectl is asked for [default: that of its context]
    #[arg(long, short, env = opt::TOP_NAMESPACE.env, hide_env_values = true, value_name = "NAME")]
    namespace: Option<String>,
    /// Which context kubectl uses [default: its current one]
    #[arg(long, env = opt::TOP_CONTEXT.env, hide_env_values = true, value_name = "NAME")]
    context: Option<String>,
    /// Time between two looks, and what rates are measured over, in seconds
    #[arg(long, env = opt::TOP_EVERY.env, hide_env_values = true, value_name = "SECONDS", default_value = "2")]
    every: String,
    /// What comes first: name, sessions, frames, lag or errors
    #[arg(long, env = opt::TOP_SORT.env, hide_env_values = true, value_name = "NAME", default_value = "name")]
    sort: String,
    /// Print one table after two looks, and end [default: off; on where the output is no terminal]
    #[arg(long, env = opt::TOP_ONCE.env, hide_env_values = true, value_parser = BoolishValueParser::new())]
    once: bool,
    /// Print it as one JSON object, and end [default: off]
    #[arg(long, env = opt::JSON.env, hide_env_values = true, value_parser = BoolishValueParser::new())]
    json: bool,
}

struct Settings {
    ports: Vec<AdminPort>,
    kubectl: Option<Choice>,
    every: Duration,
    order: Order,
    once: bool,
    json: bool,
}

/// Checks the options.
pub fn prepare(args: TopArgs, mut faults: Faults) -> Result<Work, Faults> {
    let TopArgs { admin, kubectl, namespace, context, every, sort, once, json } = args;
    let ports = admin.iter().filter_map(|admin| AdminPort::parse(admin, &mut faults)).collect();
    let every = faults.seconds(opt::TOP_EVERY, &every, 1..=3600);
    let order = Order::ALL.into_iter().find(|order| order.name() == sort);
    if order.is_none() {
        faults.add(opt::TOP_SORT, &sort, "it is not known", "use name, sessions, frames, lag or errors");
    }
    // To name a namespace is to mean a cluster.
    let is_cluster = kubectl || namespace.is_some() || context.is_some();
    let kubectl = is_cluster.then_some(Choice { context, namespace });
    let settings = (|| Some(Settings { ports, kubectl, every: every?, order: order?, once, json }))();
    let settings = faults.into_result(settings)?;
    Ok(Box::pin(run(settings)))
}

async fn run(settings: Settings) -> Result<(), CliError> {
    let Settings { ports, kubectl, every, order, once, json } = settings;
    // Whatever ends it, the terminal is given back, and what kubectl runs for it ends.
    let shutdown = Shutdown::new(Duration::ZERO);
    shutdown.watch_signals().context("cannot watch for signals")?;
    let client = http::client_that_stays(None)?;
    let source = match kubectl {
        Some(choice) => Source::Kubectl(Kubectl::new(choice)),
        None if ports.is_empty() => match AdminPort::found(&client).await {
            found if found.is_empty() => {
                return Err(anyhow!(
                    "nobody answers at the usual admin ports of this machine: name some with --admin, or a cluster's \
                     pods with --kubectl"
                )
                .into());
            }
            found => Source::Ports(found),
        },
        None => Source::Ports(ports),
    };
    let watch = Watch::new(client, source);
    if json || once || !io::stdout().is_terminal() {
        let printed = shutdown.draining.run_until_cancelled(print(watch, order, every, json)).await;
        return printed.unwrap_or(Ok(()));
    }
    Ok(screen::run(watch, order, every, shutdown.draining.clone()).await?)
}

async fn print(mut watch: Watch, order: Order, every: Duration, json: bool) -> Result<(), CliError> {
    // A rate needs two looks.
    watch.look().await?;
    tokio::time::sleep(every).await;
    let mut rows = watch.look().await?;
    if rows.is_empty() {
        return Err(anyhow!("there is no pod of Trough here: name its namespace with --namespace").into());
    }
    order.sort(&mut rows);
    if json {
        return output::json(&Report::of(&rows));
    }
    output::line(table::text(&rows).trim_end())
}
