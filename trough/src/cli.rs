//! The command line: every command, option, default and unit.

use clap::{Args, Parser, Subcommand};

use trough_store::mongo::MongoUrl;

use crate::cmd;
use crate::faults::Faults;
use crate::opt;
use crate::registry::Place;

/// Takes streams of small frames from devices, makes them durable, and serves them over HTTP.
#[derive(Debug, Parser)]
#[command(name = "trough", version, max_term_width = 100, arg_required_else_help = true, after_help = START)]
pub struct Cli {
    /// What is logged.
    #[command(flatten)]
    pub log: LogArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const START: &str = "\
Start here:
  trough demo    a whole deployment with real data, gone when it ends
  trough up      a whole deployment in one process; it says what to do next

Every option can be set in the environment too; the command line wins.
`trough help COMMAND` says more about a command.
Exit codes: 0 done, 1 failed, 2 wrong options.";

/// What goes to standard error.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logging (to standard error)")]
pub struct LogArgs {
    /// What to log: a level (error, warn, info, debug, trace), or PART=LEVEL joined by commas
    /// [default: info for up, feeder, eater and notifier; warn for other commands]
    #[arg(long, global = true, env = opt::LOG.env, hide_env_values = true, value_name = "FILTER")]
    pub log: Option<String>,
    /// How: text for people, json (one object a line) for collectors
    #[arg(long, global = true, env = opt::LOG_FORMAT.env, hide_env_values = true, value_name = "FORMAT",
          default_value = "text")]
    pub log_format: String,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything in one process, with nothing to install
    Up(cmd::up::UpArgs),
    /// Run what devices connect to; it forwards frames to an eater
    Feeder(cmd::feeder::FeederArgs),
    /// Run what makes frames durable and serves them to readers
    Eater(cmd::eater::EaterArgs),
    /// Run what tells subscribers what happened: webhooks, and pushes to phones
    Notifier(cmd::notifier::NotifierArgs),
    /// Add, import, list, rotate and revoke devices; also while the server runs
    #[command(subcommand)]
    Devices(cmd::devices::DevicesCommand),
    /// Add, list and revoke readers; also while the server runs
    #[command(subcommand)]
    Readers(cmd::readers::ReadersCommand),
    /// Ask devices to do something, and see what became of it; also while the server runs
    #[command(subcommand)]
    Commands(cmd::commands::CommandsCommand),
    /// Say what frames of a channel mean; also while the server runs
    #[command(subcommand)]
    Channels(cmd::channels::ChannelsCommand),
    /// Set, list and enforce how long frames are kept; also while the server runs
    #[command(subcommand)]
    Retention(cmd::retention::RetentionCommand),
    /// Say who is told of what, and where: webhooks, and pushes to phones; also while the server runs
    #[command(subcommand)]
    Subscriptions(Box<cmd::subscriptions::SubscriptionsCommand>),
    /// Say which phones a reader's pushes go to; also while the server runs
    #[command(subcommand)]
    Phones(cmd::phones::PhonesCommand),
    /// List, inspect and replay what subscribers were told, or were not; also while the server runs
    #[command(subcommand)]
    Deliveries(cmd::deliveries::DeliveriesCommand),
    /// Set, list and remove the rules by which events are found; also while the server runs
    #[command(subcommand)]
    Rules(cmd::rules::RulesCommand),
    /// Send the lines of standard input as frames of one device
    Send(cmd::send::SendArgs),
    /// Print a device's frames as they become durable
    Tail(cmd::tail::TailArgs),
    /// Replay a morning of 329 real buses through a temporary deployment, and check every position
    Demo(cmd::demo::DemoArgs),
    /// Measure this machine: throughput, latency of acks, CPU time of a frame, memory of a session
    Bench(cmd::bench::BenchArgs),
    /// The bare server that `bench` compares with
    #[command(hide = true)]
    BenchFloor(cmd::bench_floor::BenchFloorArgs),
    /// Copy frames into a file: Parquet, NDJSON or CSV. An export that was interrupted goes on where it was
    Export(Box<cmd::export::ExportArgs>),
    /// Check storage against its catalogs, also while the server runs. Exit code 0 if all is well, 1 if something is wrong, 2
    /// if it cannot be told
    Fsck(cmd::fsck::FsckArgs),
    /// Check or repair a journal whose eater is stopped
    #[command(subcommand)]
    Journal(cmd::journal::JournalCommand),
    /// Say which format level the storage has, and raise it when no older release is to come back
    #[command(subcommand)]
    Upgrade(cmd::upgrade::UpgradeCommand),
    /// Say whose the slots of a cluster are, and put to sleep those that nobody uses
    #[command(subcommand)]
    Preview(cmd::preview::PreviewCommand),
    /// Empty a feeder or eater of this machine that goes on running: what it has goes elsewhere, at a pace
    Drain(cmd::drain::DrainArgs),
    /// Show what feeders, eaters and notifiers are doing, live: on this machine, or in a cluster
    Top(cmd::top::TopArgs),
    /// Ask a feeder or eater whether it is ready: exit code 0 if it is, 1 if not
    Health(cmd::health::HealthArgs),
}

impl Command {
    /// Services tell what happens to them; other commands are quiet unless something is wrong.
    pub fn default_log_filter(&self) -> &'static str {
        match self {
            Self::Up(_) | Self::Feeder(_) | Self::Eater(_) | Self::Notifier(_) => "info",
            _ => "warn",
        }
    }
}

/// Where a deployment of one machine keeps everything.
#[derive(Debug, Clone, Args)]
pub struct DataDirArgs {
    /// Directory of the registry, the catalog and the journal
    #[arg(long, env = opt::DATA_DIR.env, hide_env_values = true, value_name = "DIR",
          default_value = DATA_DIR_DEFAULT)]
    pub data_dir: std::path::PathBuf,
}

/// Where a deployment of many machines keeps its registry.
#[derive(Debug, Clone, Args)]
pub struct DatabaseArgs {
    /// Database of the registry, mongodb://HOST:PORT/NAME; a password in it is better passed in the environment
    /// [default: none, SQLite in --data-dir]
    #[arg(long, env = opt::DATABASE.env, hide_env_values = true, value_name = "URL")]
    database: Option<String>,
}

impl DatabaseArgs {
    /// The URL as it was given, with what is secret in it.
    pub fn url(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// Checks them: a database, or none.
    pub fn check(&self, faults: &mut Faults) -> Option<Option<MongoUrl>> {
        match &self.database {
            None => Some(None),
            Some(url) => faults.database(opt::DATABASE, url).map(Some),
        }
    }
}

/// Which registry a command works on.
#[derive(Debug, Clone, Args)]
pub struct RegistryArgs {
    #[command(flatten)]
    data: DataDirArgs,
    #[command(flatten)]
    database: DatabaseArgs,
}

impl RegistryArgs {
    /// Checks them.
    pub fn check(self, faults: &mut Faults) -> Option<Place> {
        let database = self.database.check(faults)?;
        Some(Place::of(self.data.data_dir, database))
    }
}

/// How a command lists what is in a registry, and which.
#[derive(Debug, Clone, Args)]
pub struct ListingArgs {
    /// Print one JSON array [default: off, a table]
    #[arg(long, env = opt::JSON.env, hide_env_values = true,
          value_parser = clap::builder::BoolishValueParser::new())]
    json: bool,
    #[command(flatten)]
    registry: RegistryArgs,
}

impl ListingArgs {
    /// Checks them: which registry, and whether as JSON.
    pub fn check(self, faults: &mut Faults) -> Option<(Place, bool)> {
        Some((self.registry.check(faults)?, self.json))
    }
}

/// Where `trough up` keeps its data unless told otherwise.
pub const DATA_DIR_DEFAULT: &str = "./trough-data";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{ArgAction, CommandFactory};

    fn walk(command: &clap::Command, visit: &mut impl FnMut(&clap::Command, &clap::Arg)) {
        for arg in command.get_arguments() {
            visit(command, arg);
        }
        for sub in command.get_subcommands() {
            walk(sub, visit);
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    /// What a value can be measured in, or be.
    const UNITS: &[&str] = &[
        "HOST:PORT",
        "DIR",
        "FILE",
        "SECONDS",
        "MILLISECONDS",
        "BYTES",
        "SESSIONS",
        "SUBSCRIPTIONS",
        "FRAMES",
        "DELIVERIES",
        "RULES",
        "RUNS",
        "DEVICES",
        "DAYS",
        "FILE|DIR",
        "DEVICE",
        "CHANNEL",
        "POINTER",
        "FRAMES/S",
        "THREADS",
        "URL",
        "TOKEN",
        "GROUP",
        "SCOPE",
        "NAME",
        "MEDIA-TYPE",
        "TEXT",
        "WHEN",
        "FILTER",
        "FORMAT",
        "CONDITION",
        "LON,LAT,METRES",
        "TIME",
        "OWNER",
        "DATE",
    ];

    #[test]
    fn every_option_has_help_a_unit_a_default_and_a_variable() {
        let mut seen = 0;
        walk(&Cli::command(), &mut |command, arg| {
            let Some(long) = arg.get_long() else { return };
            if matches!(long, "help" | "version") {
                return;
            }
            seen += 1;
            let place = format!("{} --{long}", command.get_name());
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.len() > 10, "{place} has no help");
            let env = arg.get_env().and_then(|env| env.to_str()).unwrap_or_default().to_owned();
            let known = opt::ALL.iter().any(|opt| opt.flag == format!("--{long}") && opt.env == env);
            assert!(known, "{place}: {env:?} is not in opt.rs");
            let flag = matches!(arg.get_action(), ArgAction::SetTrue);
            if !flag {
                let names: Vec<_> =
                    arg.get_value_names().unwrap_or_default().iter().map(|n| n.as_str()).collect();
                assert!(names.iter().all(|name| UNITS.contains(name)), "{place}: unit {names:?}");
                let default = !arg.get_default_values().is_empty() || help.contains("[default: ");
                assert!(default || arg.is_required_set(), "{place} says no default");
            }
        });
        assert!(seen > 20, "{seen}");
    }
}
