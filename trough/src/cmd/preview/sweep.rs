//! `trough preview sweep`: the options.

use std::path::PathBuf;

use clap::Args;
use jiff::tz::TimeZone;

use super::FileArgs;
use crate::cmd::Work;
use crate::faults::Faults;
use crate::opt;
use crate::preview::kubernetes::{ACCOUNT, SERVER};
use crate::preview::look::Limits;
use crate::preview::office::Hours;
use crate::preview::slots::Slots;
use crate::preview::sweep::Sweep;

/// How to sweep.
#[derive(Debug, Args)]
pub struct SweepArgs {
    /// How long a slot may be without devices and readers in office hours, in seconds
    #[arg(long, env = opt::PREVIEW_IDLE.env, hide_env_values = true, value_name = "SECONDS", default_value = "3600")]
    idle: String,
    /// How long outside of them, in seconds
    #[arg(long, env = opt::PREVIEW_IDLE_OFF_HOURS.env, hide_env_values = true, value_name = "SECONDS",
          default_value = "7200")]
    idle_off_hours: String,
    /// Office hours: days of the week, and from when to when
    #[arg(long, env = opt::OFFICE_HOURS.env, hide_env_values = true, value_name = "WHEN",
          default_value = "Mon-Fri 08:00-18:00")]
    office_hours: String,
    /// Time zone of the office hours, by its name in the IANA database
    #[arg(long, env = opt::OFFICE_ZONE.env, hide_env_values = true, value_name = "NAME", default_value = "UTC")]
    office_zone: String,
    /// Put nothing to sleep, and say what would be; when slots were used is remembered all the same [default: off]
    #[arg(long, env = opt::DRY_RUN.env, hide_env_values = true,
          value_parser = clap::builder::BoolishValueParser::new())]
    dry_run: bool,
    /// The API server of the cluster
    #[arg(long, env = opt::KUBERNETES.env, hide_env_values = true, value_name = "URL", default_value = SERVER)]
    kubernetes: String,
    /// Directory of the ServiceAccount: token, ca.crt and namespace
    #[arg(long, env = opt::ACCOUNT.env, hide_env_values = true, value_name = "DIR", default_value = ACCOUNT)]
    account: PathBuf,
    #[command(flatten)]
    file: FileArgs,
}

/// Checks the options.
pub fn prepare(args: SweepArgs, mut faults: Faults) -> Result<Work, Faults> {
    let idle = faults.seconds(opt::PREVIEW_IDLE, &args.idle, 60..=86_400);
    let off = faults.seconds(opt::PREVIEW_IDLE_OFF_HOURS, &args.idle_off_hours, 60..=604_800);
    let form = "use days and hours such as Mon-Fri 08:00-18:00";
    let hours: Option<Hours> = faults.parsed(opt::OFFICE_HOURS, &args.office_hours, form);
    let zone = TimeZone::get(&args.office_zone).ok();
    if zone.is_none() {
        let remedy = "use a name of the IANA database, such as Europe/Zurich or UTC";
        faults.add(opt::OFFICE_ZONE, &args.office_zone, "it is not known", remedy);
    }
    let server = faults.url(opt::KUBERNETES, &args.kubernetes, &["https"], SERVER);
    let checked = idle.zip(off).zip(hours.zip(zone)).zip(server);
    let (((idle, idle_off_hours), (hours, zone)), server) = faults.into_result(checked)?;
    let limits = Limits { idle, idle_off_hours, hours, zone };
    Ok(Box::pin(async move {
        let slots = Slots::read(&args.file.file)?;
        let sweep = Sweep::new(server, &args.account, limits, args.dry_run)?;
        sweep.run(&slots).await
    }))
}
