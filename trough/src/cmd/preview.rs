//! `trough preview`: slots of a cluster, each a namespace of a team's own. `claim`, `release`, `list` and `render` work on
//! files in the repository and ask no cluster; `sweep` runs in the cluster.

mod sweep;

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Serialize;
use trough_runtime::clock::Clock;

use crate::cmd::Work;
use crate::error::CliError;
use crate::faults::Faults;
use crate::opt;
use crate::output;
use crate::preview::claim::{Claim, Owner};
use crate::preview::rendering;
use crate::preview::slots::{self, NAMESPACE_PREFIX, Slots};

/// What to do with slots.
#[derive(Debug, Subcommand)]
pub enum PreviewCommand {
    /// Take a slot, the first free one unless one is named; commit what it changes
    Claim(ClaimArgs),
    /// Give a slot back; commit what it changes
    Release(ReleaseArgs),
    /// List the slots, and whose they are
    List(ListArgs),
    /// Write again what follows from the list: namespaces and rights, for kubectl apply -k
    Render(RenderArgs),
    /// Look at every slot, and put to sleep those that nobody uses: what the CronJob runs in the cluster
    Sweep(sweep::SweepArgs),
}

/// Where the list is.
#[derive(Debug, Clone, Args)]
pub struct FileArgs {
    /// The list of slots; what follows from it stands beside it
    #[arg(long, env = opt::PREVIEW_FILE.env, hide_env_values = true, value_name = "FILE",
          default_value = "deploy/preview/slots.yaml")]
    file: PathBuf,
}

impl FileArgs {
    fn dir(&self) -> &Path {
        self.file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }
}

/// A claim.
#[derive(Debug, Args)]
pub struct ClaimArgs {
    /// Which slot; the first free one if it is left out
    #[arg(value_name = "SLOT")]
    slot: Option<String>,
    /// Who may change what is in it, user:NAME or group:NAME as the cluster knows them; may be repeated
    /// [default: none, it must be given]
    #[arg(long, env = opt::PREVIEW_OWNER.env, hide_env_values = true, value_name = "OWNER", value_delimiter = ',')]
    owner: Vec<String>,
    /// What for, one line [default: none, it must be given]
    #[arg(long, env = opt::PREVIEW_PURPOSE.env, hide_env_values = true, value_name = "TEXT")]
    purpose: Option<String>,
    /// Until when, YYYY-MM-DD; nothing ends then, the list shows it [default: none]
    #[arg(long, env = opt::PREVIEW_UNTIL.env, hide_env_values = true, value_name = "DATE")]
    until: Option<String>,
    #[command(flatten)]
    file: FileArgs,
}

/// Which slot.
#[derive(Debug, Args)]
pub struct ReleaseArgs {
    /// The slot
    #[arg(value_name = "SLOT")]
    slot: String,
    #[command(flatten)]
    file: FileArgs,
}

/// How to list.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Print one JSON array [default: off, a table]
    #[arg(long, env = opt::JSON.env, hide_env_values = true,
          value_parser = clap::builder::BoolishValueParser::new())]
    json: bool,
    #[command(flatten)]
    file: FileArgs,
}

/// What to do about what is stale.
#[derive(Debug, Args)]
pub struct RenderArgs {
    /// Write nothing, and end with exit code 1 if something is stale [default: off]
    #[arg(long, env = opt::PREVIEW_CHECK.env, hide_env_values = true,
          value_parser = clap::builder::BoolishValueParser::new())]
    check: bool,
    #[command(flatten)]
    file: FileArgs,
}

/// Checks the options.
pub fn prepare(command: PreviewCommand, mut faults: Faults) -> Result<Work, Faults> {
    Ok(match command {
        PreviewCommand::Claim(args) => {
            let wanted = wanted(&args, &mut faults, today());
            let wanted = faults.into_result(wanted)?;
            Box::pin(async move { claim(&args.file, args.slot.as_deref(), wanted) })
        }
        PreviewCommand::Release(args) => {
            let args = faults.into_result(Some(args))?;
            Box::pin(async move { release(&args.file, &args.slot) })
        }
        PreviewCommand::List(args) => {
            let args = faults.into_result(Some(args))?;
            Box::pin(async move { list(&args.file, args.json) })
        }
        PreviewCommand::Render(args) => {
            let args = faults.into_result(Some(args))?;
            Box::pin(async move { render(&args.file, args.check) })
        }
        PreviewCommand::Sweep(args) => sweep::prepare(args, faults)?,
    })
}

fn today() -> Date {
    let now = i64::try_from(Clock::system().now()).ok();
    let now = now.and_then(|now| jiff::Timestamp::from_microsecond(now).ok()).unwrap_or(jiff::Timestamp::MAX);
    now.to_zoned(TimeZone::UTC).date()
}

fn wanted(args: &ClaimArgs, faults: &mut Faults, since: Date) -> Option<Claim> {
    let before = faults.clone();
    let remedy = "use user:NAME or group:NAME, as the cluster knows them";
    let owners: Vec<Owner> =
        args.owner.iter().filter_map(|owner| faults.parsed(opt::PREVIEW_OWNER, owner, remedy)).collect();
    if args.owner.is_empty() {
        faults.add(opt::PREVIEW_OWNER, "", "it is missing", remedy);
    }
    let until = match &args.until {
        None => None,
        Some(until) => faults.parsed(opt::PREVIEW_UNTIL, until, "use a day such as 2026-12-24"),
    };
    let purpose = args.purpose.clone().unwrap_or_default();
    let claim = Claim { owners, purpose, since, until };
    // What is wrong with the whole is only told when the parts are in order.
    if *faults == before
        && let Err(reason) = claim.check()
    {
        let until = claim.until.filter(|until| *until < since).map(|until| until.to_string());
        let (option, value) = match until {
            Some(until) => (opt::PREVIEW_UNTIL, until),
            None => (opt::PREVIEW_PURPOSE, claim.purpose.clone()),
        };
        faults.add(option, value, reason, "say in a line what the slot is for, and until a day to come");
    }
    Some(claim)
}

fn claim(file: &FileArgs, slot: Option<&str>, wanted: Claim) -> Result<(), CliError> {
    let (name, slots) = slots::edit(&file.file, |slots| slots.claim(slot, wanted))?;
    written(file, &slots)?;
    output::note(format!(
        "slot {name} is yours once this is merged and applied (kubectl apply -k deploy/preview); then deploy with kubectl \
         apply -k deploy/preview/slots/{name}"
    ));
    output::line(name)
}

fn release(file: &FileArgs, slot: &str) -> Result<(), CliError> {
    let (claim, slots) = slots::edit(&file.file, |slots| slots.release(slot))?;
    written(file, &slots)?;
    output::note(format!(
        "slot {slot} is free once this is merged and applied (kubectl apply -k deploy/preview); what {} left in \
         {NAMESPACE_PREFIX}{slot} stays until somebody removes it: kubectl delete all,configmap,secret,pvc --all \
         --namespace {NAMESPACE_PREFIX}{slot}",
        claim.owners()
    ));
    Ok(())
}

fn written(file: &FileArgs, slots: &Slots) -> Result<(), CliError> {
    for rendered in rendering::write(slots, file.dir()).context("cannot write what follows from the list")? {
        output::note(format!("written: {}", file.dir().join(rendered.path).display()));
    }
    Ok(())
}

fn render(file: &FileArgs, check: bool) -> Result<(), CliError> {
    let slots = Slots::read(&file.file)?;
    if !check {
        return written(file, &slots);
    }
    let stale = rendering::stale(&slots, file.dir()).context("cannot read what follows from the list")?;
    for rendered in &stale {
        output::line(file.dir().join(&rendered.path).display())?;
    }
    if stale.is_empty() {
        return Ok(());
    }
    Err(anyhow!("{} files are not what the list says; write them: trough preview render", stale.len()).into())
}

/// A slot as `--json` shows it.
#[derive(Serialize)]
struct SlotJson<'a> {
    slot: &'a str,
    namespace: String,
    #[serde(flatten)]
    claim: Option<&'a Claim>,
    overdue: bool,
}

fn list(file: &FileArgs, json: bool) -> Result<(), CliError> {
    let (slots, today) = (Slots::read(&file.file)?, today());
    let overdue = |claim: &Claim| claim.until.is_some_and(|until| until < today);
    if json {
        let slots = slots.iter().map(|(slot, claim)| SlotJson {
            slot,
            namespace: format!("{NAMESPACE_PREFIX}{slot}"),
            claim,
            overdue: claim.is_some_and(overdue),
        });
        return output::json(&slots.collect::<Vec<_>>());
    }
    let row = |(name, claim): (&str, Option<&Claim>)| match claim {
        None => [name.to_owned(), "free".into(), String::new(), String::new(), String::new()],
        Some(claim) => {
            let until = claim.until.map(|until| until.to_string()).unwrap_or_default();
            let until = if overdue(claim) { format!("{until} (over)") } else { until };
            [name.to_owned(), claim.owners(), claim.since.to_string(), until, claim.purpose.clone()]
        }
    };
    let rows: Vec<_> = slots.iter().map(row).collect();
    output::line(output::table(["SLOT", "OWNERS", "SINCE", "UNTIL", "PURPOSE"], &rows).trim_end())
}
