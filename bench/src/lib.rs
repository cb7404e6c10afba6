//! `trough bench`: the load generator, the floor to compare with, and the figures.
//!
//! Servers run as processes of their own, and only their CPU time and memory are counted. The load generator is
//! this process: the device client library on a few threads ([`load`]). [`measure`] runs traffic and checks
//! afterwards that exactly what was acknowledged is stored, [`idle`] counts the memory of silent sessions,
//! [`read`] reads a journal back, [`compacting`] has compaction run under the same traffic, [`history`] reads a year,
//! [`notify`] tells subscribers. [`scale`] measures nothing: it computes what a fleet would need.
//! [`floor`] is the least a server can do for the same traffic.

pub mod compacting;
pub mod deployment;
pub mod floor;
pub mod history;
pub mod idle;
pub mod load;
pub mod machine;
pub mod measure;
pub mod notify;
pub mod payload;
mod procfs;
pub mod read;
pub mod report;
pub mod scale;
pub mod scrape;
mod server;
pub mod storage;
mod stored;
mod suite;
mod text;

use anyhow::Result;

use deployment::{Means, Subject};
use load::Load;
use machine::Machine;
use read::Reading;
use report::{Report, Run};

pub use suite::suite;

/// How far the work is.
#[derive(Debug)]
pub enum News<'a, T = Run> {
    /// What is being done now, on one line.
    Stage(&'a str),
    /// The figures of a step.
    Done(&'a T),
}

/// Told how far the work is.
pub type Tell<'a, T = Run> = &'a (dyn Fn(News<'_, T>) + Sync);
type Say<'a> = &'a (dyn Fn(&str) + Sync);

/// One thing to measure.
#[derive(Debug, Clone)]
pub enum Step {
    /// Traffic of so many sessions.
    Load(Subject, usize, Load),
    /// The same twice, on top of so many older frames: while nothing is compacted, and while they are.
    Compacting(Subject, usize, Load, u64),
    /// So many silent sessions.
    Idle(Subject, usize),
    /// Reading back.
    Read(Reading),
}

/// Measures one thing after another.
///
/// # Errors
/// A server, a session or a check fails; figures are never an error.
pub async fn run(
    steps: &[Step],
    means: &Means,
    machine: Machine,
    threads: usize,
    tell: Tell<'_>,
) -> Result<Report> {
    let say = &|text: &str| tell(News::Stage(text));
    let mut runs = Vec::new();
    for step in steps {
        let run = match step {
            Step::Load(subject, sessions, load) => {
                Run::Load(Box::new(measure::run(means, *subject, *sessions, load, say).await?))
            }
            Step::Compacting(subject, sessions, load, backlog) => {
                let run = compacting::run(means, *subject, *sessions, load, *backlog, say).await?;
                Run::Compacting(Box::new(run))
            }
            Step::Idle(subject, sessions) => {
                Run::Idle(idle::run(means, *subject, *sessions, threads, say).await?)
            }
            Step::Read(reading) => Run::Read(read::run(means, *reading, threads, say).await?),
        };
        tell(News::Done(&run));
        runs.push(run);
    }
    Ok(Report::new(machine, runs))
}
