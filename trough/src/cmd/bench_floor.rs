//! `trough bench-floor`, hidden: the bare server that `trough bench` compares with, in a process of its own.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use trough_bench::deployment::{FLOOR_LISTENS, FLOOR_NO_FILE};

use crate::cmd::Work;
use crate::error::CliError;
use crate::faults::Faults;
use crate::{output, service, sockets};

const GRACE: Duration = Duration::from_secs(5);

/// Where to store.
#[derive(Debug, Args)]
pub struct BenchFloorArgs {
    /// A new file that frames are appended to, or - to store nothing
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Checks the options.
pub fn prepare(args: BenchFloorArgs, faults: Faults) -> Result<Work, Faults> {
    faults.into_result(Some(()))?;
    Ok(Box::pin(run(args.file)))
}

async fn run(file: PathBuf) -> Result<(), CliError> {
    let file = match file.as_path() {
        none if none == Path::new(FLOOR_NO_FILE) => None,
        path => {
            let file = OpenOptions::new().append(true).create_new(true).open(path);
            Some(file.with_context(|| format!("cannot make {}", path.display()))?)
        }
    };
    sockets::raise_open_files();
    let shutdown = service::shutdown_on_signals(GRACE)?;
    let gone = shutdown.clone();
    // The bench holds the other end: a floor must not outlive it.
    std::thread::spawn(move || {
        let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
        gone.begin();
    });
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen on 127.0.0.1")?;
    output::line(format_args!("{FLOOR_LISTENS}{}", listener.local_addr()?))?;
    let serve = move || trough_bench::floor::run(listener, file, shutdown.draining.cancelled());
    let served = tokio::task::spawn_blocking(serve).await.context("the floor has panicked")?;
    Ok(served.context("the floor cannot go on")?)
}
