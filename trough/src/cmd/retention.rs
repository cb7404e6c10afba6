//! `trough retention`: how long frames are kept. Works on the registry directly, also while the server runs.

use clap::{Args, Subcommand};
use serde::Serialize;
use trough_protocol::Micros;
use trough_protocol::limits::INT_MAX;
use trough_store::retention::RETENTION_DAYS_MAX;
use trough_store::{Group, RegistryError, RetentionPolicy, RetentionRecord};

use crate::cli::{ListingArgs, RegistryArgs};
use crate::cmd::Work;
use crate::error::CliError;
use crate::faults::Faults;
use crate::opt::{self, Opt};
use crate::output::{self, grouped};
use crate::registry::{self, Missing, Place};

const GROUP: Opt = Opt { flag: "GROUP", env: "" };

/// What to do with retention.
#[derive(Debug, Subcommand)]
pub enum RetentionCommand {
    /// Set how long frames of a group's devices are kept; they are only counted until it is enforced
    Set(SetArgs),
    /// List what is set, what has expired, and what was removed
    List(ListingArgs),
    /// Have what has expired removed from now on, for good
    Enforce(GroupArgs),
    /// Remove the policy of a group
    Remove(GroupArgs),
}

/// One policy.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// The group of devices
    #[arg(value_name = "GROUP")]
    group: String,
    /// Remove frames when the day on which they were received (UTC) ended this many days ago; of a device in
    /// several groups the longest counts [default: none, whatever their age]
    #[arg(long, env = opt::RETENTION_DAYS.env, hide_env_values = true, value_name = "DAYS")]
    days: Option<String>,
    /// Remove the oldest days until the group takes no more than this, compressed [default: none, however much]
    #[arg(long, env = opt::RETENTION_BYTES.env, hide_env_values = true, value_name = "BYTES")]
    bytes: Option<String>,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Which policy.
#[derive(Debug, Args)]
pub struct GroupArgs {
    /// The group of devices
    #[arg(value_name = "GROUP")]
    group: String,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Checks the options.
pub fn prepare(command: RetentionCommand, mut faults: Faults) -> Result<Work, Faults> {
    Ok(match command {
        RetentionCommand::Set(args) => {
            let group = group(&mut faults, &args.group);
            let days = args.days.as_ref().map(|days| {
                faults.number(opt::RETENTION_DAYS, days, "days", 1..=u64::from(RETENTION_DAYS_MAX))
            });
            let bytes = args.bytes.as_ref();
            let bytes = bytes.map(|bytes| faults.number(opt::RETENTION_BYTES, bytes, "bytes", 1..=INT_MAX));
            if days.is_none() && bytes.is_none() {
                faults.add(
                    opt::RETENTION_DAYS,
                    "",
                    "it is not set, and neither is --bytes",
                    "give one, or both",
                );
            }
            let place = args.registry.check(&mut faults);
            let limits = days.map_or(Some(None), |days| days.map(Some));
            let limits = limits.zip(bytes.map_or(Some(None), |bytes| bytes.map(Some)));
            let ((group, (days, bytes)), place) = faults.into_result(group.zip(limits).zip(place))?;
            let days = days.and_then(|days: u64| u32::try_from(days).ok());
            Box::pin(set(place, RetentionPolicy { group, days, bytes }))
        }
        RetentionCommand::List(args) => {
            let checked = args.check(&mut faults);
            let (place, json) = faults.into_result(checked)?;
            Box::pin(list(place, json))
        }
        RetentionCommand::Enforce(args) => {
            let (group, place) = args.check(faults)?;
            Box::pin(enforce(place, group))
        }
        RetentionCommand::Remove(args) => {
            let (group, place) = args.check(faults)?;
            Box::pin(remove(place, group))
        }
    })
}

impl GroupArgs {
    fn check(self, mut faults: Faults) -> Result<(Group, Place), Faults> {
        let (group, place) = (group(&mut faults, &self.group), self.registry.check(&mut faults));
        faults.into_result(group.zip(place))
    }
}

fn group(faults: &mut Faults, name: &str) -> Option<Group> {
    let remedy = "use one group: 1 to 64 of A–Z a–z 0–9 . _ - : @";
    faults.parsed(GROUP, name, remedy)
}

async fn set(place: Place, policy: RetentionPolicy) -> Result<(), CliError> {
    let group = policy.group.clone();
    registry::open(place, Missing::Refuse)?.set_retention(policy).await?;
    output::note(format!(
        "set, and nothing is removed yet: see within a minute what has expired (trough retention list), then have it \
         removed (trough retention enforce {group})"
    ));
    Ok(())
}

async fn list(place: Place, json: bool) -> Result<(), CliError> {
    let records = registry::open(place, Missing::Refuse)?.list_retention().await?;
    if json {
        let records: Vec<_> = records.iter().map(RetentionJson::of).collect();
        return output::json(&records);
    }
    if records.is_empty() {
        output::note("everything is kept; set something: trough retention set GROUP --days 365");
        return Ok(());
    }
    let limit = |limit: Option<u64>| limit.map_or("-".to_owned(), grouped);
    let row = |record: &RetentionRecord| {
        let (days, bytes) = (record.policy.days.map(u64::from), record.policy.bytes);
        let expired = match record.counted {
            None => "not counted yet".to_owned(),
            Some(counted) => format!(
                "{} frames of {} devices, {} bytes, at {}",
                grouped(counted.frames),
                grouped(counted.devices),
                grouped(counted.bytes),
                output::instant(counted.at)
            ),
        };
        let state = if record.enforced { "enforced" } else { "counted only" };
        let removed = format!("{} frames", grouped(record.removed_frames));
        [record.policy.group.to_string(), limit(days), limit(bytes), state.to_owned(), removed, expired]
    };
    let rows: Vec<_> = records.iter().map(row).collect();
    let headings = ["GROUP", "DAYS", "BYTES", "STATE", "REMOVED", "EXPIRED AT THE LAST LOOK"];
    output::line(output::table(headings, &rows).trim_end())
}

/// A policy as `--json` shows it. Times are in µs since 1970.
#[derive(Serialize)]
struct RetentionJson<'a> {
    group: &'a str,
    days: Option<u32>,
    bytes: Option<u64>,
    enforced: bool,
    set_at: Micros,
    counted: Option<CountJson>,
    removed_frames: u64,
    removed_bytes: u64,
}

/// What had expired at a time.
#[derive(Serialize)]
struct CountJson {
    at: Micros,
    devices: u64,
    frames: u64,
    bytes: u64,
}

impl<'a> RetentionJson<'a> {
    fn of(record: &'a RetentionRecord) -> Self {
        let counted = record.counted.map(|counted| CountJson {
            at: counted.at,
            devices: counted.devices,
            frames: counted.frames,
            bytes: counted.bytes,
        });
        Self {
            group: record.policy.group.as_str(),
            days: record.policy.days,
            bytes: record.policy.bytes,
            enforced: record.enforced,
            set_at: record.set_at,
            counted,
            removed_frames: record.removed_frames,
            removed_bytes: record.removed_bytes,
        }
    }
}

async fn enforce(place: Place, group: Group) -> Result<(), CliError> {
    let registry = registry::open(place, Missing::Refuse)?;
    let records = registry.list_retention().await?;
    let unknown = RegistryError::NotFound { what: "retention policy of group", name: group.to_string() };
    let record = records.iter().find(|record| record.policy.group == group).ok_or(unknown)?;
    // This one, and nothing that somebody sets meanwhile.
    registry.enforce_retention(&group, record.set_at).await?;
    let limits = [
        record.policy.days.map(|days| format!("{days} days")),
        record.policy.bytes.map(|bytes| format!("{} bytes", grouped(bytes))),
    ];
    let limits: Vec<_> = limits.into_iter().flatten().collect();
    output::note(format!(
        "from now on frames of group {group} are removed when they are beyond {}",
        limits.join(" or ")
    ));
    Ok(())
}

async fn remove(place: Place, group: Group) -> Result<(), CliError> {
    registry::open(place, Missing::Refuse)?.remove_retention(&group).await?;
    output::note(format!(
        "the policy of group {group} is gone; those of groups that share devices with it are counted, and must be \
         enforced, anew"
    ));
    Ok(())
}
