//! The one binary: services, everything in one process, administration, and the demo.
//!
//! Only this crate knows all the others. It parses the command line, binds the sockets, opens the stores, and
//! hands them to the services, which own neither.

mod admin_port;
mod api;
mod backlog;
mod bus;
mod cli;
mod cmd;
pub mod data;
mod demo;
mod deposit;
mod embedded;
mod error;
mod events;
mod export;
mod faults;
mod http;
mod import;
mod notify;
mod opt;
mod otlp;
mod output;
mod preview;
mod progress;
mod registry;
mod seal;
mod send;
mod service;
mod sockets;
mod stages;
mod storage;
mod stores;
mod tls;
mod token_cache;
mod top;
mod traces;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::error::CliError;
use crate::faults::Faults;

/// Under this name kubectl runs us for `kubectl trough`.
const PLUGIN: &str = "kubectl-trough";
/// A blocking call that hangs (a dead disk) may hold the exit up this long.
const RUNTIME_SHUTDOWN: Duration = Duration::from_millis(500);

/// Runs one command and says what the shell sees: 0 done, 1 failed, 2 wrong options.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let is_plugin =
        args.first().is_some_and(|program| Path::new(program).file_name() == Some(OsStr::new(PLUGIN)));
    let mut cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are "errors" of code 0. If they cannot be printed, nobody is there to be told.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    if is_plugin {
        match &mut cli.command {
            Command::Top(args) => args.kubectl = true,
            _ => {
                // The others work on the data of this machine, which is not what is meant.
                let text = "`kubectl trough` has one command, top; run others in a pod: kubectl exec deploy/eater -- trough …";
                return CliError::Unclear(anyhow::anyhow!(text)).report();
            }
        }
    }
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

fn run(cli: Cli) -> Result<(), CliError> {
    let mut faults = Faults::default();
    let filter = cli.log.log.as_deref().unwrap_or(cli.command.default_log_filter());
    faults.start_logging(&cli.log.log_format, filter);
    // What is wrong with the command's own options joins what is wrong with these.
    let work = cmd::prepare(cli.command, faults)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| anyhow::Error::new(error).context("cannot start the runtime's threads"))?;
    let result = runtime.block_on(work);
    runtime.shutdown_timeout(RUNTIME_SHUTDOWN);
    result
}
