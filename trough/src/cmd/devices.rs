//! `trough devices`: who may send. Works on the registry directly, also while the server runs.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;
use trough_protocol::{DeviceId, Micros};
use trough_runtime::clock::Clock;
use trough_store::{DeviceFilter, DeviceRecord, Group, NewDevice, Token};

use crate::bus::{BusArgs, BusSettings};
use crate::cli::{ListingArgs, RegistryArgs};
use crate::cmd::Work;
use crate::error::CliError;
use crate::faults::Faults;
use crate::opt::{self, Opt};
use crate::registry::{self, Missing, Place};
use crate::{import, output};

const DEVICE: Opt = Opt { flag: "DEVICE", env: "" };

/// What to do with devices.
#[derive(Debug, Subcommand)]
pub enum DevicesCommand {
    /// Add one device and print its token, once
    Add(AddArgs),
    /// Add many devices from a CSV of id,groups and print a CSV of id,token, once; all or none
    Import(ImportArgs),
    /// List devices
    List(ListArgs),
    /// Give a device a new token and print it, once
    Rotate(RotateArgs),
    /// End all tokens of a device for good; its frames stay, and its id is never used again
    Revoke(RevokeArgs),
}

/// One new device.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// Its id: 1 to 64 of A–Z a–z 0–9 . _ - : ~ + @ =
    #[arg(value_name = "DEVICE")]
    device: String,
    /// A group it is in, for readers' rights; repeat it for more, or join them by commas [default: none]
    #[arg(long, env = opt::GROUP.env, hide_env_values = true, value_name = "GROUP", value_delimiter = ',')]
    group: Vec<String>,
    /// Let its token come in the URL (access_token), where proxies may log it [default: off]
    #[arg(long, env = opt::TOKEN_IN_URL.env, hide_env_values = true,
          value_parser = clap::builder::BoolishValueParser::new())]
    token_in_url: bool,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Many new devices.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// A CSV file, or - for standard input: an id per line, then its groups, joined by semicolons
    #[arg(value_name = "FILE", default_value = "-")]
    file: String,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Which devices.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only devices in this group; repeat it for more, or join them by commas [default: all devices]
    #[arg(long, env = opt::GROUP.env, hide_env_values = true, value_name = "GROUP", value_delimiter = ',')]
    group: Vec<String>,
    #[command(flatten)]
    listing: ListingArgs,
}

/// Which device, and how long its old tokens live on.
#[derive(Debug, Args)]
pub struct RotateArgs {
    /// Its id
    #[arg(value_name = "DEVICE")]
    device: String,
    /// How long the old tokens stay valid, in seconds, so that the device can be told in time
    #[arg(long, env = opt::KEEP_OLD.env, hide_env_values = true, value_name = "SECONDS", default_value = "0")]
    keep_old: String,
    #[command(flatten)]
    bus: BusArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Which device.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// Its id
    #[arg(value_name = "DEVICE")]
    device: String,
    #[command(flatten)]
    bus: BusArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Checks the options.
pub fn prepare(command: DevicesCommand, mut faults: Faults) -> Result<Work, Faults> {
    Ok(match command {
        DevicesCommand::Add(args) => {
            let id = device_id(&mut faults, &args.device);
            let groups = groups(&mut faults, &args.group);
            let place = args.registry.check(&mut faults);
            let ((id, groups), place) = faults.into_result(id.zip(groups).zip(place))?;
            let device = NewDevice { id, groups, query_token: args.token_in_url };
            Box::pin(add(place, device))
        }
        DevicesCommand::Import(args) => {
            let place = args.registry.check(&mut faults);
            let place = faults.into_result(place)?;
            Box::pin(import(place, args.file))
        }
        DevicesCommand::List(args) => {
            let groups = groups(&mut faults, &args.group);
            let listing = args.listing.check(&mut faults);
            let (groups, (place, json)) = faults.into_result(groups.zip(listing))?;
            let filter =
                DeviceFilter { groups: (!groups.is_empty()).then_some(groups), ..DeviceFilter::default() };
            Box::pin(list(place, filter, json))
        }
        DevicesCommand::Rotate(args) => {
            let id = device_id(&mut faults, &args.device);
            let keep = faults.seconds(opt::KEEP_OLD, &args.keep_old, 0..=31_536_000);
            let (bus, place) = (args.bus.check(&mut faults), args.registry.check(&mut faults));
            let ((id, keep), (bus, place)) = faults.into_result(id.zip(keep).zip(bus.zip(place)))?;
            Box::pin(rotate(place, bus, id, keep))
        }
        DevicesCommand::Revoke(args) => {
            let id = device_id(&mut faults, &args.device);
            let (bus, place) = (args.bus.check(&mut faults), args.registry.check(&mut faults));
            let (id, (bus, place)) = faults.into_result(id.zip(bus.zip(place)))?;
            Box::pin(revoke(place, bus, id))
        }
    })
}

/// A device's id from an argument.
pub fn device_id(faults: &mut Faults, value: &str) -> Option<DeviceId> {
    let valid = DeviceId::new(value);
    if valid.is_err() {
        faults.add(DEVICE, value, "it is not a device id", "use 1 to 64 of A–Z a–z 0–9 . _ - : ~ + @ =");
    }
    valid.ok()
}

/// Group names from an option that may be repeated.
pub fn groups(faults: &mut Faults, values: &[String]) -> Option<BTreeSet<Group>> {
    let remedy = "use 1 to 64 of A–Z a–z 0–9 . _ - : @";
    let mut valid = BTreeSet::new();
    for value in values {
        match Group::new(value) {
            Ok(group) => drop(valid.insert(group)),
            Err(_) => faults.add(opt::GROUP, value, "it is not a group name", remedy),
        }
    }
    Some(valid)
}

async fn add(place: Place, device: NewDevice) -> Result<(), CliError> {
    let id = device.id.clone();
    let registry = registry::open(place, Missing::Create)?;
    let token = registry.add_device(device).await?;
    shown_once(&token, &format!("device {id} was added"))
}

async fn import(place: Place, file: String) -> Result<(), CliError> {
    let devices = import::read(&file)?;
    let registry = registry::open(place, Missing::Create)?;
    let added = registry.import_devices(devices).await?;
    output::note(format!(
        "{} added; the tokens are shown this once",
        output::counted(added.len() as u64, "device")
    ));
    let mut csv = String::from("id,token\n");
    for (id, token) in &added {
        csv.push_str(&format!("{id},{}\n", token.expose()));
    }
    output::line(csv.trim_end())
}

async fn list(place: Place, filter: DeviceFilter, json: bool) -> Result<(), CliError> {
    let registry = registry::open(place, Missing::Refuse)?;
    let devices = registry::all_devices(&*registry, filter).await?;
    if json {
        let devices: Vec<_> = devices.iter().map(DeviceJson::of).collect();
        return output::json(&devices);
    }
    if devices.is_empty() {
        output::note("no devices; add one: trough devices add bus-1");
        return Ok(());
    }
    let row = |device: &DeviceRecord| {
        let groups: Vec<_> = device.groups.iter().map(Group::as_str).collect();
        let state =
            device.revoked_at.map_or("active".to_owned(), |at| format!("revoked {}", output::instant(at)));
        [
            device.id.to_string(),
            groups.join(","),
            output::instant(device.created_at),
            device.epoch.to_string(),
            state,
        ]
    };
    let rows: Vec<_> = devices.iter().map(row).collect();
    output::line(output::table(["DEVICE", "GROUPS", "ADDED", "EPOCH", "STATE"], &rows).trim_end())
}

/// A device as `--json` shows it. Times are in µs since 1970.
#[derive(Serialize)]
struct DeviceJson<'a> {
    id: &'a str,
    groups: Vec<&'a str>,
    token_in_url: bool,
    created_at: Micros,
    revoked_at: Option<Micros>,
    epoch: u64,
}

impl<'a> DeviceJson<'a> {
    fn of(device: &'a DeviceRecord) -> Self {
        Self {
            id: device.id.as_str(),
            groups: device.groups.iter().map(Group::as_str).collect(),
            token_in_url: device.query_token,
            created_at: device.created_at,
            revoked_at: device.revoked_at,
            epoch: device.epoch.0,
        }
    }
}

async fn rotate(place: Place, bus: BusSettings, id: DeviceId, keep: Duration) -> Result<(), CliError> {
    let registry = bus.in_front_of(registry::open(place, Missing::Refuse)?, Clock::system());
    let token = registry.rotate_device(&id, (!keep.is_zero()).then_some(keep)).await?;
    let old = match keep.as_secs() {
        0 => "the old ones have ended".to_owned(),
        seconds => format!("the old ones end in {seconds} s"),
    };
    shown_once(&token, &format!("device {id} has a new token; {old}"))
}

async fn revoke(place: Place, bus: BusSettings, id: DeviceId) -> Result<(), CliError> {
    let registry = bus.in_front_of(registry::open(place, Missing::Refuse)?, Clock::system());
    registry.revoke_device(&id).await?;
    output::note(format!("device {id} was revoked; sessions of it end within a second, its frames stay"));
    Ok(())
}

/// The token alone on standard output, so that `T=$(trough devices add bus-1)` works; the rest beside it.
pub fn shown_once(token: &Token, what: &str) -> Result<(), CliError> {
    output::note(format!("{what}; this is its token, shown this once:"));
    output::line(token.expose())
}
