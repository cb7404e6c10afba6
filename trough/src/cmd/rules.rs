//! `trough rules`: what of all that happens is an event. Works on the registry directly, also while the server runs.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use trough_protocol::{Channel, DeviceId};
use trough_store::area::Area;
use trough_store::rule::{AFTER_MAX, Condition, NewRule, OFFLINE_AFTER_MIN, Rule, SILENT_AFTER_MIN, Scope};
use trough_store::{Group, RuleName};

use crate::cli::{ListingArgs, RegistryArgs};
use crate::cmd::Work;
use crate::error::CliError;
use crate::faults::Faults;
use crate::opt::{self, Opt};
use crate::output;
use crate::registry::{Missing, Place};
use crate::stores::Stores;

const NAME: Opt = Opt { flag: "NAME", env: "" };
const CHANNEL_REMEDY: &str = "use 1 to 64 of A–Z a–z 0–9 . _ - : ~ + @ = /";
/// Largest file of an area, in bytes: 10,000 corners take less.
const AREA_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What to do with rules.
#[derive(Debug, Subcommand)]
pub enum RulesCommand {
    /// Set a rule, in place of what had its name
    Set(Box<SetArgs>),
    /// List the rules
    List(ListingArgs),
    /// Remove a rule: it finds no further events
    Remove(RemoveArgs),
}

/// One rule.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("condition").required(true)
          .args(["when", "rate", "geofence", "circle", "silence", "presence", "first_frame", "gaps"]))]
#[command(group = ArgGroup::new("scope").required(true).args(["device", "group", "all"]))]
pub struct SetArgs {
    /// What the rule is called: it stands in each of its events
    #[arg(value_name = "NAME")]
    name: String,
    /// A number in JSON payloads, such as '/speed > 30 clear 28 for 60s': matched while it holds
    /// [default: none]
    #[arg(long, env = opt::RULE_WHEN.env, hide_env_values = true, value_name = "CONDITION")]
    when: Option<String>,
    /// The change of a number in a second of the device's time, such as '/level < -0.5'
    /// [default: none]
    #[arg(long, env = opt::RULE_RATE.env, hide_env_values = true, value_name = "CONDITION")]
    rate: Option<String>,
    /// Positions in an area: a file with a GeoJSON Polygon or MultiPolygon, or a Feature of one
    /// [default: none]
    #[arg(long, env = opt::RULE_GEOFENCE.env, hide_env_values = true, value_name = "FILE")]
    geofence: Option<PathBuf>,
    /// Positions in a circle: degrees of longitude and latitude of its center, and its radius in metres
    /// [default: none]
    #[arg(long, env = opt::RULE_CIRCLE.env, hide_env_values = true, value_name = "LON,LAT,METRES",
          allow_hyphen_values = true)]
    circle: Option<String>,
    /// No frame of a channel for the time of --after [default: none]
    #[arg(long, env = opt::RULE_SILENCE.env, hide_env_values = true, value_name = "CHANNEL")]
    silence: Option<String>,
    /// Nothing heard of a device for the time of --after, and when it is heard again [default: off]
    #[arg(long, env = opt::RULE_PRESENCE.env, hide_env_values = true,
          value_parser = clap::builder::BoolishValueParser::new())]
    presence: bool,
    /// A device's very first frame [default: off]
    #[arg(long, env = opt::RULE_FIRST_FRAME.env, hide_env_values = true,
          value_parser = clap::builder::BoolishValueParser::new())]
    first_frame: bool,
    /// Frames that a device declared lost [default: off]
    #[arg(long, env = opt::RULE_GAPS.env, hide_env_values = true,
          value_parser = clap::builder::BoolishValueParser::new())]
    gaps: bool,
    /// With --silence or --presence, the time: a number with s, m, h or d, or of seconds
    /// [default: none]
    #[arg(long, env = opt::RULE_AFTER.env, hide_env_values = true, value_name = "TIME")]
    after: Option<String>,
    /// With --when or --rate, only frames of this channel [default: of all channels]
    #[arg(long, env = opt::RULE_CHANNEL.env, hide_env_values = true, value_name = "CHANNEL")]
    channel: Option<String>,
    /// Of this device; may be repeated [default: none]
    #[arg(long, env = opt::RULE_DEVICE.env, hide_env_values = true, value_name = "DEVICE", value_delimiter = ',')]
    device: Vec<String>,
    /// Of the devices of this group; may be repeated [default: none]
    #[arg(long, env = opt::RULE_GROUP.env, hide_env_values = true, value_name = "GROUP", value_delimiter = ',')]
    group: Vec<String>,
    /// Of every device [default: off]
    #[arg(long, env = opt::RULE_ALL.env, hide_env_values = true,
          value_parser = clap::builder::BoolishValueParser::new())]
    all: bool,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Which rule.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// The rule
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Checks the options.
pub fn prepare(command: RulesCommand, mut faults: Faults) -> Result<Work, Faults> {
    Ok(match command {
        RulesCommand::Set(args) => {
            let name = name(&mut faults, &args.name);
            let (condition, scope) = (args.condition(&mut faults), args.scope(&mut faults));
            let place = args.registry.check(&mut faults);
            let checked = name.zip(condition).zip(scope).zip(place);
            let (((name, condition), scope), place) = faults.into_result(checked)?;
            Box::pin(set(place, NewRule { name, scope, condition }))
        }
        RulesCommand::List(args) => {
            let checked = args.check(&mut faults);
            let (place, json) = faults.into_result(checked)?;
            Box::pin(list(place, json))
        }
        RulesCommand::Remove(args) => {
            let (name, place) = (name(&mut faults, &args.name), args.registry.check(&mut faults));
            let (name, place) = faults.into_result(name.zip(place))?;
            Box::pin(remove(place, name))
        }
    })
}

fn name(faults: &mut Faults, name: &str) -> Option<RuleName> {
    faults.parsed(NAME, name, "use 1 to 64 of A–Z a–z 0–9 . _ - : @")
}

impl SetArgs {
    fn condition(&self, faults: &mut Faults) -> Option<Condition> {
        let timed = self.silence.is_some() || self.presence;
        if let (Some(after), false) = (&self.after, timed) {
            faults.add(
                opt::RULE_AFTER,
                after,
                "nothing here takes a time",
                "use it with --silence or --presence",
            );
        }
        let compared = self.when.is_some() || self.rate.is_some();
        if let (Some(channel), false) = (&self.channel, compared) {
            faults.add(
                opt::RULE_CHANNEL,
                channel,
                "nothing here takes a channel",
                "use it with --when or --rate",
            );
        }
        if let Some(when) = &self.when {
            let when = faults.parsed(opt::RULE_WHEN, when, "see the form above");
            return when
                .zip(self.channel(faults))
                .map(|(when, channel)| Condition::Compare { channel, when });
        }
        if let Some(rate) = &self.rate {
            let when = faults.parsed(opt::RULE_RATE, rate, "see the form above");
            return when.zip(self.channel(faults)).map(|(when, channel)| Condition::Rate { channel, when });
        }
        if let Some(file) = &self.geofence {
            return area_in(faults, file).map(|area| Condition::Geofence { area });
        }
        if let Some(circle) = &self.circle {
            return area_around(faults, circle).map(|area| Condition::Geofence { area });
        }
        if let Some(channel) = &self.silence {
            let channel = channel_named(faults, opt::RULE_SILENCE, channel);
            let after = self.after(faults, SILENT_AFTER_MIN);
            return channel.zip(after).map(|(channel, after)| Condition::Silence { channel, after });
        }
        if self.presence {
            return self.after(faults, OFFLINE_AFTER_MIN).map(|after| Condition::Presence { after });
        }
        Some(if self.first_frame { Condition::FirstFrame } else { Condition::Gaps })
    }

    fn channel(&self, faults: &mut Faults) -> Option<Option<Channel>> {
        let Some(channel) = &self.channel else { return Some(None) };
        channel_named(faults, opt::RULE_CHANNEL, channel).map(Some)
    }

    fn after(&self, faults: &mut Faults, least: Duration) -> Option<Duration> {
        let remedy = format!("use {} to {} seconds, such as 5m", least.as_secs(), AFTER_MAX.as_secs());
        let Some(text) = &self.after else {
            faults.add(opt::RULE_AFTER, "", "it is not set", remedy);
            return None;
        };
        let after = time(text).filter(|after| (least..=AFTER_MAX).contains(after));
        if after.is_none() {
            faults.add(opt::RULE_AFTER, text, "it is no time within the bounds", remedy);
        }
        after
    }

    fn scope(&self, faults: &mut Faults) -> Option<Scope> {
        if self.all {
            return Some(Scope::All);
        }
        if self.group.is_empty() {
            let remedy = "use a device's id: 1 to 64 of A–Z a–z 0–9 . _ - : ~ + @ =";
            return all_of::<DeviceId>(faults, opt::RULE_DEVICE, &self.device, remedy).map(Scope::Devices);
        }
        let remedy = "use a group's name: 1 to 64 of A–Z a–z 0–9 . _ - : @";
        all_of::<Group>(faults, opt::RULE_GROUP, &self.group, remedy).map(Scope::Groups)
    }
}

fn channel_named(faults: &mut Faults, option: Opt, name: &str) -> Option<Channel> {
    let valid = Channel::new(name).ok();
    if valid.is_none() {
        faults.add(option, name, "it is not a channel's name", CHANNEL_REMEDY);
    }
    valid
}

fn all_of<T: FromStr<Err: std::fmt::Display> + Ord>(
    faults: &mut Faults,
    option: Opt,
    names: &[String],
    remedy: &str,
) -> Option<BTreeSet<T>> {
    let checked: Vec<Option<T>> = names.iter().map(|name| faults.parsed(option, name, remedy)).collect();
    checked.into_iter().collect()
}

fn time(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match &text[digits..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.checked_mul(unit).map(Duration::from_secs)
}

fn area_in(faults: &mut Faults, file: &std::path::Path) -> Option<Area> {
    let shown = file.display().to_string();
    let remedy = "name a file with a GeoJSON Polygon or MultiPolygon";
    let size = fs::metadata(file).map(|found| found.len());
    let read = match size {
        Ok(bytes) if bytes > AREA_BYTES_MAX => {
            Err(format!("it has {bytes} bytes, and {AREA_BYTES_MAX} at most are read"))
        }
        Ok(_) => fs::read_to_string(file).map_err(|error| format!("it cannot be read ({error})")),
        Err(error) => Err(format!("it cannot be read ({error})")),
    };
    let area = read.and_then(|text| {
        let mut area: serde_json::Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        // As drawing tools write it.
        if area.get("type").is_some_and(|kind| kind == "Feature") {
            area = area.get("geometry").cloned().unwrap_or_default();
        }
        let area: Area = serde_json::from_value(area).map_err(|error| error.to_string())?;
        area.check().map_err(|error| error.to_string())?;
        Ok(area)
    });
    area.map_err(|why| faults.add(opt::RULE_GEOFENCE, shown, why, remedy)).ok()
}

fn area_around(faults: &mut Faults, circle: &str) -> Option<Area> {
    let remedy = "use LON,LAT,METRES, such as -97.74,30.27,250";
    let numbers: Option<Vec<f64>> = circle.split(',').map(|number| number.trim().parse().ok()).collect();
    let area = match numbers.as_deref() {
        Some([lon, lat, radius_m]) => {
            let area = Area::circle(*lon, *lat, *radius_m);
            area.check().map(|()| area).map_err(|error| error.to_string())
        }
        _ => Err("it is not three numbers".to_owned()),
    };
    area.map_err(|why| faults.add(opt::RULE_CIRCLE, circle, why, remedy)).ok()
}

async fn set(place: Place, rule: NewRule) -> Result<(), CliError> {
    let rule = Stores::open(place, Missing::Create)?.subscriptions.set_rule(rule).await?;
    let name = &rule.rule.name;
    output::note(format!("rule {name} is set: it looks at frames that are received from now on"));
    Ok(())
}

async fn list(place: Place, json: bool) -> Result<(), CliError> {
    let rules = Stores::open(place, Missing::Refuse)?.subscriptions.list_rules().await?;
    if json {
        return output::json(&rules);
    }
    if rules.is_empty() {
        output::note("there is no rule; set one: trough rules set gone --presence --after 60s --all");
        return Ok(());
    }
    let rows: Vec<_> = rules.iter().map(row).collect();
    let headings = ["NAME", "OF", "CONDITION", "VERSION", "SET"];
    output::line(output::table(headings, &rows).trim_end())
}

fn row(rule: &Rule) -> [String; 5] {
    let of = match &rule.rule.scope {
        Scope::All => "all devices".to_owned(),
        Scope::Devices(devices) => named(devices.iter().map(DeviceId::as_str), "device"),
        Scope::Groups(groups) => named(groups.iter().map(Group::as_str), "group"),
    };
    let on = |channel: &Option<Channel>| channel.as_ref().map(|on| format!(" on {on}")).unwrap_or_default();
    let condition = match &rule.rule.condition {
        Condition::Compare { channel, when } => format!("{when}{}", on(channel)),
        Condition::Rate { channel, when } => format!("{when} in a second{}", on(channel)),
        Condition::Geofence { .. } => "positions in an area".to_owned(),
        Condition::Silence { channel, after } => format!("no {channel} for {} s", after.as_secs()),
        Condition::Presence { after } => format!("not heard for {} s", after.as_secs()),
        Condition::FirstFrame => "the first frame".to_owned(),
        Condition::Gaps => "frames declared lost".to_owned(),
    };
    let name = rule.rule.name.to_string();
    [name, of, condition, rule.version.to_string(), output::instant(rule.set_at)]
}

/// The first few, and how many more.
fn named<'a>(names: impl ExactSizeIterator<Item = &'a str>, what: &str) -> String {
    const SHOWN: usize = 3;
    let more = names.len().saturating_sub(SHOWN);
    let shown = names.take(SHOWN).collect::<Vec<_>>().join(", ");
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{what} {shown}{more}")
}

async fn remove(place: Place, name: RuleName) -> Result<(), CliError> {
    Stores::open(place, Missing::Refuse)?.subscriptions.remove_rule(&name, None).await?;
    output::note(format!("rule {name} is gone"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: SetArgs,
    }

    fn check(words: &[&str]) -> Result<(Condition, Scope), String> {
        let line =
            Line::try_parse_from([&["set", "name"], words].concat()).map_err(|error| error.to_string())?;
        let mut faults = Faults::default();
        let checked = (line.args.condition(&mut faults), line.args.scope(&mut faults));
        faults.into_result(checked.0.zip(checked.1)).map_err(|faults| faults.lines().collect())
    }

    #[test]
    fn conditions_are_what_they_say() {
        let after = Duration::from_secs(300);
        let gps = Channel::new("gps").unwrap();
        let when = || "/speed > 30 for 60s".parse().unwrap();
        for (words, condition) in [
            (vec!["--when", "/speed > 30 for 60s"], Condition::Compare { channel: None, when: when() }),
            (
                vec!["--rate", "/speed > 30 for 60s", "--channel", "gps"],
                Condition::Rate { channel: Some(gps.clone()), when: when() },
            ),
            (
                vec!["--circle", "-97.74,30.27,250"],
                Condition::Geofence { area: Area::circle(-97.74, 30.27, 250.0) },
            ),
            (vec!["--silence", "gps", "--after", "5m"], Condition::Silence { channel: gps, after }),
            (vec!["--presence", "--after", "300"], Condition::Presence { after }),
            (vec!["--first-frame"], Condition::FirstFrame),
            (vec!["--gaps"], Condition::Gaps),
        ] {
            let words = [words, vec!["--all"]].concat();
            assert_eq!(check(&words), Ok((condition, Scope::All)), "{words:?}");
        }
        let (_, scope) = check(&["--gaps", "--device", "bus-1,bus-2", "--device", "bus-3"]).unwrap();
        assert!(matches!(scope, Scope::Devices(devices) if devices.len() == 3));
        let (_, scope) = check(&["--gaps", "--group", "north"]).unwrap();
        assert!(matches!(scope, Scope::Groups(groups) if groups.len() == 1));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (words, named) in [
            (vec!["--all"], "--when"),
            (vec!["--gaps"], "--device"),
            (vec!["--gaps", "--first-frame", "--all"], "cannot be used with"),
            (vec!["--when", "speed", "--all"], "JSON pointer"),
            (vec!["--presence", "--after", "29s", "--all"], "30 to 2592000"),
            (vec!["--presence", "--all"], "it is not set"),
            (vec!["--silence", "gps", "--after", "5 m", "--all"], "5 m"),
            (vec!["--gaps", "--after", "5m", "--all"], "nothing here takes a time"),
            (vec!["--gaps", "--channel", "x", "--all"], "nothing here takes a channel"),
            (vec!["--circle", "1,2", "--all"], "three numbers"),
            (vec!["--circle", "1,91,5", "--all"], "[1, 91]"),
            (vec!["--geofence", "/nowhere", "--all"], "/nowhere"),
            (vec!["--gaps", "--group", "two words"], "two words"),
        ] {
            let told = check(&words).unwrap_err();
            assert!(told.contains(named), "{words:?}: {told}");
        }
    }

    #[test]
    fn areas_come_from_files() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("yard.geojson");
        let words = ["--geofence", file.to_str().unwrap(), "--all"];
        let polygon = r#"{"type":"Polygon","coordinates":[[[0,0],[1,0],[1,1],[0,0]]]}"#;
        for text in
            [polygon.to_owned(), format!(r#"{{"type":"Feature","properties":{{}},"geometry":{polygon}}}"#)]
        {
            fs::write(&file, text).unwrap();
            let (condition, _) = check(&words).unwrap();
            assert!(matches!(condition, Condition::Geofence { area } if area.contains(0.9, 0.5)));
        }
        fs::write(&file, r#"{"type":"Point","coordinates":[0,0]}"#).unwrap();
        assert!(check(&words).unwrap_err().contains("yard.geojson"));
    }
}
