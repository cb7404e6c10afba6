//! Adding a subscription.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use trough_runtime::random::random_bytes;
use trough_store::rule::Scope;
use trough_store::subscription::{NewSubscription, Quiet, QuietHours, Target};
use trough_store::webhook::{new_key, secret_of};
use trough_store::{EventKind, ReaderName, RegistryError, SubscriptionId};

use crate::cli::RegistryArgs;
use crate::cmd::Work;
use crate::error::CliError;
use crate::faults::Faults;
use crate::notify::ReachArgs;
use crate::opt::{self, Opt};
use crate::output;
use crate::registry::{Missing, Place};
use crate::seal::{SealArgs, SealChoice};
use crate::stores::Stores;

const READER: Opt = Opt { flag: "READER", env: "" };
const QUIET_REMEDY: &str = "use HH:MM-HH:MM, such as 22:00-07:00";

/// What is wanted.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// Whose it is: it is told of devices that this reader sees, and of no others
    #[arg(value_name = "READER")]
    reader: String,
    /// Send to this URL, as a webhook [default: none; give this or --push]
    #[arg(long, env = opt::WEBHOOK_URL.env, hide_env_values = true, value_name = "URL")]
    url: Option<String>,
    /// Push to all phones that the reader has registered [default: off]
    #[arg(long, env = opt::PUSH.env, hide_env_values = true,
          value_parser = clap::builder::BoolishValueParser::new())]
    push: bool,
    /// A kind of events, such as device.offline; repeat it for more, or join them by commas [default: all kinds]
    #[arg(long, env = opt::EVENT.env, hide_env_values = true, value_name = "NAME", value_delimiter = ',')]
    event: Vec<String>,
    /// Only events of this rule; repeat it for more, or join them by commas [default: of all]
    #[arg(long, env = opt::RULE.env, hide_env_values = true, value_name = "NAME", value_delimiter = ',')]
    rule: Vec<String>,
    /// Only of this device; repeat it for more, or join them by commas [default: of all]
    #[arg(long, env = opt::SUBSCRIBE_DEVICE.env, hide_env_values = true, value_name = "DEVICE",
          value_delimiter = ',', conflicts_with = "group")]
    device: Vec<String>,
    /// Only of devices of this group; repeat it for more, or join them by commas [default: of all]
    #[arg(long, env = opt::SUBSCRIBE_GROUP.env, hide_env_values = true, value_name = "GROUP",
          value_delimiter = ',')]
    group: Vec<String>,
    /// Send nothing at these hours of the day, such as 22:00-07:00 [default: none]
    #[arg(long, env = opt::QUIET.env, hide_env_values = true, value_name = "WHEN")]
    quiet: Option<String>,
    /// The time zone of these hours, by its IANA name
    #[arg(long, env = opt::QUIET_ZONE.env, hide_env_values = true, value_name = "NAME", default_value = "UTC")]
    quiet_zone: String,
    /// What becomes of events of these hours: hold (they are sent afterwards) or drop
    #[arg(long, env = opt::QUIET_THEN.env, hide_env_values = true, value_name = "NAME", default_value = "hold")]
    quiet_then: String,
    /// Send at most one in this time of the same kind, rule and device, in seconds: those in between are told of together
    #[arg(long, env = opt::COALESCE.env, hide_env_values = true, value_name = "SECONDS", default_value = "0")]
    coalesce: String,
    #[command(flatten)]
    reach: ReachArgs,
    #[command(flatten)]
    seal: SealArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

struct Settings {
    /// Without a key.
    wanted: NewSubscription,
    place: Place,
    seal: SealChoice,
}

/// Checks the options.
pub fn prepare(args: AddArgs, mut faults: Faults) -> Result<Work, Faults> {
    let wanted = wanted(&args, &mut faults);
    let place = args.registry.check(&mut faults);
    let seal = place.as_ref().and_then(|place| args.seal.check(place, &mut faults));
    let settings = (|| Some(Settings { wanted: wanted?, place: place?, seal: seal? }))();
    let settings = faults.into_result(settings)?;
    Ok(Box::pin(add(settings)))
}

fn wanted(args: &AddArgs, faults: &mut Faults) -> Option<NewSubscription> {
    let owner = faults.parsed::<ReaderName>(READER, &args.reader, "name a reader of trough readers list");
    let target = target(args, faults);
    let known = EventKind::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
    let events = all(faults, opt::EVENT, &args.event, &format!("use {known}"));
    let rules = all(faults, opt::RULE, &args.rule, "name a rule");
    let devices = all(faults, opt::SUBSCRIBE_DEVICE, &args.device, "name a device");
    let groups = all(faults, opt::SUBSCRIBE_GROUP, &args.group, "name a group");
    let quiet = quiet(args, faults);
    let coalesce: Option<Duration> = faults.seconds(opt::COALESCE, &args.coalesce, 0..=30 * 24 * 60 * 60);
    let (devices, groups) = (devices?, groups?);
    let scope = match (devices.is_empty(), groups.is_empty()) {
        (false, _) => Scope::Devices(devices),
        (true, false) => Scope::Groups(groups),
        (true, true) => Scope::All,
    };
    Some(NewSubscription {
        id: SubscriptionId(random_bytes()),
        owner: owner?,
        events: events?,
        rules: rules?,
        scope,
        target: target?,
        quiet: quiet?,
        coalesce: coalesce?,
    })
}

fn all<T: FromStr + Ord>(
    faults: &mut Faults,
    option: Opt,
    values: &[String],
    remedy: &str,
) -> Option<BTreeSet<T>>
where
    T::Err: std::fmt::Display,
{
    let parsed: Vec<_> = values.iter().map(|value| faults.parsed(option, value, remedy)).collect();
    parsed.into_iter().collect()
}

fn target(args: &AddArgs, faults: &mut Faults) -> Option<Target> {
    match (&args.url, args.push) {
        (None, true) => Some(Target::Push),
        (Some(url), false) => match args.reach.reach().check(url) {
            Ok(_) => Some(Target::Webhook { url: url.clone(), keys: Vec::new(), old_key_until: None }),
            Err(error) => {
                // A URL of a webhook may itself be a secret.
                faults.add(opt::WEBHOOK_URL, "***", error.to_string(), "see trough subscriptions add --help");
                None
            }
        },
        (url, push) => {
            let reason = if push { "--push is given too" } else { "it is missing, and --push too" };
            let value = if url.is_some() { "***" } else { "" };
            faults.add(opt::WEBHOOK_URL, value, reason, "give --url or --push, and not both");
            None
        }
    }
}

fn quiet(args: &AddArgs, faults: &mut Faults) -> Option<Option<QuietHours>> {
    let Some(hours) = &args.quiet else { return Some(None) };
    let then = match args.quiet_then.as_str() {
        "hold" => Some(Quiet::Hold),
        "drop" => Some(Quiet::Drop),
        other => {
            faults.add(opt::QUIET_THEN, other, "it is not known", "use hold or drop");
            None
        }
    };
    let times = hours
        .split_once('-')
        .and_then(|(from, to)| Some((from.trim().parse().ok()?, to.trim().parse().ok()?)));
    if times.is_none() {
        faults.add(opt::QUIET, hours, "it is not two times of a day", QUIET_REMEDY);
    }
    let (from, to) = times?;
    let quiet = QuietHours { from, to, zone: args.quiet_zone.clone(), then: then? };
    match quiet.check() {
        Ok(()) => Some(Some(quiet)),
        Err(error) => {
            faults.add(opt::QUIET, hours, error.to_string(), QUIET_REMEDY);
            None
        }
    }
}

async fn add(Settings { mut wanted, place, seal }: Settings) -> Result<(), CliError> {
    let stores = Stores::open(place, Missing::Refuse)?;
    if stores.registry.get_reader(&wanted.owner).await?.revoked_at.is_some() {
        let name = wanted.owner.to_string();
        return Err(RegistryError::NotFound { what: "reader", name }.into());
    }
    let id = wanted.id;
    let mut secret = None;
    if let Target::Webhook { keys, .. } = &mut wanted.target {
        let key = new_key();
        keys.push(seal.needed()?.seal(&key, &id.to_string()));
        secret = Some(secret_of(&key));
    }
    stores.subscriptions.add_subscription(wanted).await?;
    output::line(id)?;
    if let Some(secret) = secret {
        output::line(secret.expose())?;
        output::note(format!(
            "subscription {id} was added; the second line is its signing secret, which is not shown again"
        ));
    } else {
        output::note(format!("subscription {id} was added"));
    }
    Ok(())
}
