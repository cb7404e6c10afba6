//! `trough bench`: figures of this machine, with the floor to compare them to.

use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::builder::BoolishValueParser;
use clap::{Args, Subcommand};
use trough_bench::deployment::{Backends, Means, Prepare, Subject};
use trough_bench::load::{Arrivals, Load, Pace};
use trough_bench::machine::Machine;
use trough_bench::payload::PayloadKind;
use trough_bench::read::Reading;
use trough_bench::{News, Step};
use trough_protocol::DeviceId;
use trough_store::RuleName;
use trough_store::rule::{Condition, NewRule, RULES_MAX, Scope};

use crate::cli::DatabaseArgs;
use crate::cmd::Work;
use crate::cmd::bench_history::{self, BenchHistoryArgs};
use crate::cmd::bench_notify::{self, BenchNotifyArgs};
use crate::cmd::bench_scale::{self, BenchScaleArgs};
use crate::error::CliError;
use crate::faults::Faults;
use crate::registry::{Missing, Place};
use crate::stages::Stages;
use crate::storage::StorageArgs;
use crate::stores::Stores;
use crate::{backlog, http, opt, output, service, sockets};

/// How long a stop of the bench itself may take.
pub(super) const GRACE: Duration = Duration::from_secs(5);
/// Before anything counts.
const WARMUP: Duration = Duration::from_secs(1);
const READ_FRAMES: u64 = 1_000_000;

/// What to measure.
#[derive(Debug, Args)]
#[command(after_help = NOTES, args_conflicts_with_subcommands = true)]
pub struct BenchArgs {
    #[command(subcommand)]
    other: Option<BenchCommand>,
    /// Devices that are connected at a time
    #[arg(long, env = opt::BENCH_SESSIONS.env, hide_env_values = true, value_name = "SESSIONS",
          default_value = "200")]
    sessions: String,
    /// Payload of each frame, in bytes
    #[arg(long, env = opt::BENCH_PAYLOAD.env, hide_env_values = true, value_name = "BYTES",
          default_value = "256")]
    payload: String,
    /// Closed loop: frames of one session that wait for their ack at most
    #[arg(long, env = opt::BENCH_WINDOW.env, hide_env_values = true, value_name = "FRAMES",
          default_value = "64")]
    window: String,
    /// Closed loop: frames in one message
    #[arg(long, env = opt::BENCH_FRAMES_PER_MESSAGE.env, hide_env_values = true, value_name = "FRAMES",
          default_value = "1")]
    frames_per_message: String,
    /// How long is measured, in seconds, after one second of the same traffic that does not count
    #[arg(long, env = opt::BENCH_DURATION.env, hide_env_values = true, value_name = "SECONDS",
          default_value = "10")]
    duration: String,
    /// Open loop: frames a second over all sessions, whatever the acks do [default: none, a closed loop]
    #[arg(long, env = opt::BENCH_RATE.env, hide_env_values = true, value_name = "FRAMES/S",
          conflicts_with_all = ["window", "frames_per_message"])]
    rate: Option<String>,
    /// Open loop: poisson (random distances, random sessions) or even (equal distances, session after session)
    #[arg(long, env = opt::BENCH_ARRIVALS.env, hide_env_values = true, value_name = "NAME",
          default_value = "poisson", requires = "rate")]
    arrivals: String,
    /// Measure the memory of so many silent sessions instead [default: off]
    #[arg(long, env = opt::BENCH_IDLE.env, hide_env_values = true, value_name = "SESSIONS",
          conflicts_with = "rate")]
    idle: Option<String>,
    /// Measure reading a million frames back instead: of one device, and of --sessions devices mixed
    /// [default: off]
    #[arg(long, env = opt::BENCH_READ.env, hide_env_values = true, value_parser = BoolishValueParser::new(),
          conflicts_with_all = ["rate", "idle", "floor", "embedded"])]
    read: bool,
    /// Measure everything that docs/performance.md records [default: off]
    #[arg(long, env = opt::BENCH_SUITE.env, hide_env_values = true, value_parser = BoolishValueParser::new(),
          conflicts_with_all = ["rate", "idle", "read", "floor", "embedded", "store", "database"])]
    suite: bool,
    /// Measure the traffic twice, with so many older frames in the journal: while nothing is compacted, and while they are
    /// [default: off]
    #[arg(long, env = opt::BENCH_BACKLOG.env, hide_env_values = true, value_name = "FRAMES",
          conflicts_with_all = ["idle", "read", "suite", "floor", "store", "database"])]
    backlog: Option<String>,
    /// Measure the floor too, and say how far Trough is from it [default: off]
    #[arg(long, env = opt::BENCH_FLOOR.env, hide_env_values = true, value_parser = BoolishValueParser::new())]
    floor: bool,
    /// Measure `trough up` instead of a feeder and an eater in two processes [default: off]
    #[arg(long, env = opt::BENCH_EMBEDDED.env, hide_env_values = true,
          value_parser = BoolishValueParser::new(), conflicts_with_all = ["store", "database"])]
    embedded: bool,
    #[command(flatten)]
    storage: StorageArgs,
    #[command(flatten)]
    database: DatabaseArgs,
    /// Threads of the load generator [default: a quarter of the cores, at least 1]
    #[arg(long, env = opt::BENCH_THREADS.env, hide_env_values = true, value_name = "THREADS")]
    threads: Option<String>,
    /// Where the temporary data is made; a disk like the one in production
    /// [default: the system's temporary directory]
    #[arg(long, env = opt::BENCH_DIR.env, hide_env_values = true, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Rules that are set meanwhile, on devices that send nothing: what they cost those that do
    #[arg(long, env = opt::BENCH_RULES.env, hide_env_values = true, value_name = "RULES", default_value = "0",
          conflicts_with = "database")]
    rules: String,
    /// Print one JSON object with every figure [default: off, text]
    #[arg(long, env = opt::JSON.env, hide_env_values = true, value_parser = BoolishValueParser::new())]
    json: bool,
}

/// Other things to measure.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Measure how fast readers are answered when there is a year of frames
    History(BenchHistoryArgs),
    /// Measure how long it takes until somebody is told of a frame, and what a delivery costs
    Notify(BenchNotifyArgs),
    /// Compute what a fleet of devices would need, and what would break first
    Scale(BenchScaleArgs),
}

const NOTES: &str = "\
The servers are processes of their own, started for each run and given their options by the environment; only
their CPU time counts. After each run what is stored is read back and compared with what was acknowledged: a
difference is exit code 1, a slow machine is not. The floor is a bare tokio-tungstenite server that appends what
comes to one file and acknowledges after fdatasync, or stores nothing at all.

With --store the eater keeps frames there, and with --database registry and catalog are there, as in production; what
they are asked to keep stays there, so give the bench a place of its own in both.";

/// Checks the options.
pub fn prepare(args: BenchArgs, mut faults: Faults) -> Result<Work, Faults> {
    match args.other {
        Some(BenchCommand::History(args)) => return bench_history::prepare(args, faults),
        Some(BenchCommand::Notify(args)) => return bench_notify::prepare(args, faults),
        Some(BenchCommand::Scale(args)) => return bench_scale::prepare(args, faults),
        None => {}
    }
    let threads = threads(&args, &mut faults);
    let steps = threads.and_then(|threads| steps(&args, threads, &mut faults));
    let backends = backends(&args, &mut faults);
    let rules = faults.number(opt::BENCH_RULES, &args.rules, "rules", 0..=RULES_MAX as u64);
    let ((threads, rules), (steps, backends)) =
        faults.into_result(threads.zip(rules).zip(steps.zip(backends)))?;
    let dir = args.dir.unwrap_or_else(std::env::temp_dir);
    let prepare = (rules > 0).then(|| Prepare(Arc::new(move |dir| Box::pin(set_rules(dir, rules)))));
    Ok(Box::pin(run(steps, (backends, prepare), dir, threads, args.json)))
}

fn threads(args: &BenchArgs, faults: &mut Faults) -> Option<usize> {
    match &args.threads {
        Some(threads) => Some(faults.number(opt::BENCH_THREADS, threads, "threads", 1..=256)? as usize),
        None => Some(std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 4).max(1))),
    }
}

fn backends(args: &BenchArgs, faults: &mut Faults) -> Option<Backends> {
    let (storage, database) = (args.storage.check(faults), args.database.check(faults));
    let storage = storage?;
    database?;
    Some(Backends {
        store: storage.url().map(str::to_owned),
        flush_after_ms: u64::try_from(storage.flush_after().as_millis()).ok()?,
        database: args.database.url().map(str::to_owned),
    })
}

fn steps(args: &BenchArgs, threads: usize, faults: &mut Faults) -> Option<Vec<Step>> {
    let sessions = faults.number(opt::BENCH_SESSIONS, &args.sessions, "sessions", 1..=20_000);
    let payload = faults.number(opt::BENCH_PAYLOAD, &args.payload, "bytes", 2..=65_536);
    let duration = faults.seconds(opt::BENCH_DURATION, &args.duration, 1..=86_400);
    let pace = pace(args, faults);
    let backlog = args.backlog.as_ref();
    let backlog =
        backlog.map(|frames| faults.number(opt::BENCH_BACKLOG, frames, "frames", 1..=1_000_000_000));
    let idle = args.idle.as_ref().map(|idle| faults.number(opt::BENCH_IDLE, idle, "sessions", 1..=20_000));
    let frames = &args.frames_per_message;
    let frames = faults.number(opt::BENCH_FRAMES_PER_MESSAGE, frames, "frames", 1..=1024);
    let (sessions, payload_bytes) = (sessions? as usize, payload? as usize);
    let frames_per_message = NonZero::new(u32::try_from(frames?).ok()?)?.get();
    let (pace, duration) = (pace?, duration?);
    if let Pace::Closed { window, .. } = pace
        && window < frames_per_message.into()
    {
        let remedy = format!("use {frames_per_message} (frames of one message) or more");
        faults.add(opt::BENCH_WINDOW, &args.window, "no message fits into it", remedy);
        return None;
    }
    if args.suite {
        return Some(trough_bench::suite(threads));
    }
    let read =
        |devices, payload| Step::Read(Reading { devices, frames: READ_FRAMES, payload_bytes, payload });
    if args.read {
        let (json, binary) = (PayloadKind::Json, PayloadKind::Binary);
        return Some(vec![read(1, json), read(1, binary), read(sessions, json)]);
    }
    let subject = if args.embedded { Subject::Embedded } else { Subject::Trough };
    if let Some(idle) = idle {
        let floor = args.floor.then_some(Subject::FloorNothing);
        let idle = idle? as usize;
        return Some(floor.into_iter().chain([subject]).map(|subject| Step::Idle(subject, idle)).collect());
    }
    let floors = if args.floor { &[Subject::FloorNothing, Subject::FloorDurable][..] } else { &[] };
    let load = Load {
        payload_bytes,
        payload: PayloadKind::Binary,
        frames_per_message,
        pace,
        warmup: WARMUP,
        duration,
        threads,
    };
    if let Some(backlog) = backlog {
        return Some(vec![Step::Compacting(subject, sessions, load, backlog?)]);
    }
    let subjects = floors.iter().copied().chain([subject]);
    Some(subjects.map(|subject| Step::Load(subject, sessions, load.clone())).collect())
}

fn pace(args: &BenchArgs, faults: &mut Faults) -> Option<Pace> {
    let window = faults.number(opt::BENCH_WINDOW, &args.window, "frames", 1..=65_536);
    let arrivals = match args.arrivals.as_str() {
        "poisson" => Some(Arrivals::Poisson),
        "even" => Some(Arrivals::Even),
        other => {
            faults.add(opt::BENCH_ARRIVALS, other, "it is not known", "use poisson or even");
            None
        }
    };
    match &args.rate {
        None => Some(Pace::Closed { window: window?, frames: None }),
        Some(rate) => {
            let rate = faults.number(opt::BENCH_RATE, rate, "frames a second", 1..=10_000_000)?;
            Some(Pace::Open { rate: rate as f64, arrivals: arrivals? })
        }
    }
}

/// Sets rules on devices that there are not.
async fn set_rules(dir: PathBuf, rules: u64) -> anyhow::Result<()> {
    let stores = Stores::open(Place::of(dir, None), Missing::Create)?;
    for n in 0..rules {
        let scope = Scope::Devices([DeviceId::new(&format!("elsewhere-{n}"))?].into());
        let condition = Condition::Compare { channel: None, when: "/speed > 30 for 60s".parse()? };
        let rule = NewRule { name: RuleName::new(&format!("rule-{n}"))?, scope, condition };
        stores.subscriptions.set_rule(rule).await?;
    }
    Ok(())
}

async fn run(
    steps: Vec<Step>,
    (backends, prepare): (Backends, Option<Prepare>),
    dir: PathBuf,
    threads: usize,
    json: bool,
) -> Result<(), CliError> {
    let program = std::env::current_exe().context("cannot find this program to start it as a server")?;
    // The servers inherit it, and one idle session here is one socket here and one there.
    sockets::raise_open_files();
    let machine = Machine::look(&dir);
    if let Some(caveat) = machine.caveat() {
        output::note(format!("note: {caveat}"));
    }
    if !json {
        output::line(format_args!("{machine}\n"))?;
    }
    let storage = backlog::STORAGE;
    let means = Means { program, backends, storage, dir, http: http::client(None)?, prepare };
    let shutdown = service::shutdown_on_signals(GRACE)?;
    let stages = Stages::begin();
    let tell = |news: News<'_>| match news {
        News::Stage(text) => stages.enter(text),
        News::Done(run) if !json => stages.print(&run.to_string()),
        News::Done(_) => {}
    };
    let report = tokio::select! {
        report = trough_bench::run(&steps, &means, machine, threads, &tell) => report,
        // Dropping the work kills the servers and removes their data.
        () = shutdown.draining.cancelled() => Err(anyhow!("the bench was interrupted")),
    };
    stages.end();
    let report = report?;
    if json {
        output::json(&report)?;
    } else if !report.ratios.is_empty() {
        output::line(report.to_string().trim_end())?;
    }
    match report.faults() {
        faults if faults.is_empty() => Ok(()),
        faults => Err(anyhow!("what is stored is not what was acknowledged: {}", faults.join("; ")).into()),
    }
}
