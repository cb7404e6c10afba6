//! `trough readers`: who may fetch. Works on the registry directly, also while the server runs.

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use serde::Serialize;
use trough_protocol::Micros;
use trough_runtime::clock::Clock;
use trough_store::{Group, GroupAccess, NewReader, ReaderName, ReaderRecord, Scope};

use crate::bus::{BusArgs, BusSettings};
use crate::cli::{ListingArgs, RegistryArgs};
use crate::cmd::Work;
use crate::cmd::devices::{groups, shown_once};
use crate::error::CliError;
use crate::faults::Faults;
use crate::opt::{self, Opt};
use crate::output;
use crate::registry::{self, Missing, Place};

const READER: Opt = Opt { flag: "READER", env: "" };

/// What to do with readers.
#[derive(Debug, Subcommand)]
pub enum ReadersCommand {
    /// Add a reader and print its token, once
    Add(AddArgs),
    /// List readers
    List(ListingArgs),
    /// End all tokens of a reader; its name may be used again
    Revoke(RevokeArgs),
}

/// One new reader.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// Its name: 1 to 64 of A–Z a–z 0–9 . _ - : @
    #[arg(value_name = "READER")]
    reader: String,
    /// A group of devices it sees; repeat it for more, or join them by commas [default: all devices]
    #[arg(long, env = opt::GROUP.env, hide_env_values = true, value_name = "GROUP", value_delimiter = ',')]
    group: Vec<String>,
    /// What it may do; repeat it for more, or join them by commas
    #[arg(long, env = opt::SCOPE.env, hide_env_values = true, value_name = "SCOPE", value_delimiter = ',',
          default_values_t = Scope::READING.map(|scope| scope.as_str().to_owned()))]
    scope: Vec<String>,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Which reader.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// Its name
    #[arg(value_name = "READER")]
    reader: String,
    #[command(flatten)]
    bus: BusArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Checks the options.
pub fn prepare(command: ReadersCommand, mut faults: Faults) -> Result<Work, Faults> {
    Ok(match command {
        ReadersCommand::Add(args) => {
            let name = reader_name(&mut faults, &args.reader);
            let groups = groups(&mut faults, &args.group);
            let scopes = scopes(&mut faults, &args.scope);
            let place = args.registry.check(&mut faults);
            let reader = name.zip(groups).zip(scopes);
            let (((name, groups), scopes), place) = faults.into_result(reader.zip(place))?;
            let groups = if groups.is_empty() { GroupAccess::All } else { GroupAccess::Only(groups) };
            Box::pin(add(place, NewReader { name, scopes, groups }))
        }
        ReadersCommand::List(args) => {
            let checked = args.check(&mut faults);
            let (place, json) = faults.into_result(checked)?;
            Box::pin(list(place, json))
        }
        ReadersCommand::Revoke(args) => {
            let name = reader_name(&mut faults, &args.reader);
            let (bus, place) = (args.bus.check(&mut faults), args.registry.check(&mut faults));
            let (name, (bus, place)) = faults.into_result(name.zip(bus.zip(place)))?;
            Box::pin(revoke(place, bus, name))
        }
    })
}

fn reader_name(faults: &mut Faults, value: &str) -> Option<ReaderName> {
    let valid = ReaderName::new(value);
    if valid.is_err() {
        faults.add(READER, value, "it is not a reader's name", "use 1 to 64 of A–Z a–z 0–9 . _ - : @");
    }
    valid.ok()
}

fn scopes(faults: &mut Faults, values: &[String]) -> Option<BTreeSet<Scope>> {
    let mut valid = BTreeSet::new();
    for value in values {
        match value.parse() {
            Ok(scope) => drop(valid.insert(scope)),
            Err(_) => {
                let remedy = format!("use {}", Scope::ALL.map(Scope::as_str).join(" or "));
                faults.add(opt::SCOPE, value, "it is not known", remedy);
            }
        }
    }
    Some(valid)
}

async fn add(place: Place, reader: NewReader) -> Result<(), CliError> {
    let name = reader.name.clone();
    let registry = registry::open(place, Missing::Create)?;
    let token = registry.add_reader(reader).await?;
    shown_once(&token, &format!("reader {name} was added"))
}

async fn list(place: Place, json: bool) -> Result<(), CliError> {
    let readers = registry::open(place, Missing::Refuse)?.list_readers().await?;
    if json {
        let readers: Vec<_> = readers.iter().map(ReaderJson::of).collect();
        return output::json(&readers);
    }
    if readers.is_empty() {
        output::note("no readers; add one: trough readers add me");
        return Ok(());
    }
    let row = |reader: &ReaderRecord| {
        let groups = match &reader.groups {
            GroupAccess::All => "(all devices)".to_owned(),
            GroupAccess::Only(groups) => groups.iter().map(Group::as_str).collect::<Vec<_>>().join(","),
        };
        let scopes: Vec<_> = reader.scopes.iter().map(|scope| scope.as_str()).collect();
        let state =
            reader.revoked_at.map_or("active".to_owned(), |at| format!("revoked {}", output::instant(at)));
        [reader.name.to_string(), groups, scopes.join(","), output::instant(reader.created_at), state]
    };
    let rows: Vec<_> = readers.iter().map(row).collect();
    output::line(output::table(["READER", "GROUPS", "SCOPES", "ADDED", "STATE"], &rows).trim_end())
}

/// A reader as `--json` shows it. Times are in µs since 1970; groups are null for all devices.
#[derive(Serialize)]
struct ReaderJson<'a> {
    name: &'a str,
    groups: Option<Vec<&'a str>>,
    scopes: Vec<&'a str>,
    created_at: Micros,
    revoked_at: Option<Micros>,
}

impl<'a> ReaderJson<'a> {
    fn of(reader: &'a ReaderRecord) -> Self {
        let groups = match &reader.groups {
            GroupAccess::All => None,
            GroupAccess::Only(groups) => Some(groups.iter().map(Group::as_str).collect()),
        };
        Self {
            name: reader.name.as_str(),
            groups,
            scopes: reader.scopes.iter().map(|scope| scope.as_str()).collect(),
            created_at: reader.created_at,
            revoked_at: reader.revoked_at,
        }
    }
}

async fn revoke(place: Place, bus: BusSettings, name: ReaderName) -> Result<(), CliError> {
    let registry = bus.in_front_of(registry::open(place, Missing::Refuse)?, Clock::system());
    registry.revoke_reader(&name).await?;
    output::note(format!("reader {name} was revoked"));
    Ok(())
}
