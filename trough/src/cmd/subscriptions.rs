//! `trough subscriptions`: who is told of what, and where. Works on the stores directly, also while the server runs.

mod add;
mod change;
mod show;

use clap::{Args, Subcommand};
use trough_store::SubscriptionId;

use crate::cli::{ListingArgs, RegistryArgs};
use crate::cmd::Work;
use crate::faults::Faults;
use crate::opt::Opt;

const SUBSCRIPTION: Opt = Opt { flag: "SUBSCRIPTION", env: "" };

/// What to do with subscriptions.
#[derive(Debug, Subcommand)]
pub enum SubscriptionsCommand {
    /// Add a subscription: print its id and, for a webhook, the signing secret, once
    Add(add::AddArgs),
    /// List subscriptions
    List(ListingArgs),
    /// Print all of a subscription as JSON, except for its secrets
    Show(OneArgs),
    /// Have an event sent that nobody else is told of
    Test(OneArgs),
    /// Have a disabled subscription sent to again
    Enable(OneArgs),
    /// Have nothing sent until it is enabled; what happens meanwhile it is never told of
    Disable(OneArgs),
    /// Remove a subscription; what was not delivered yet never is
    Remove(OneArgs),
    /// Give a webhook a new signing secret and print it, once
    RotateKey(change::RotateKeyArgs),
}

/// Which one.
#[derive(Debug, Args)]
pub struct OneArgs {
    /// The subscription's id
    #[arg(value_name = "SUBSCRIPTION")]
    subscription: String,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Checks the options.
pub fn prepare(command: SubscriptionsCommand, mut faults: Faults) -> Result<Work, Faults> {
    let one = |args: OneArgs, faults: &mut Faults| {
        let id = id(faults, &args.subscription);
        id.zip(args.registry.check(faults))
    };
    Ok(match command {
        SubscriptionsCommand::Add(args) => add::prepare(args, faults)?,
        SubscriptionsCommand::List(args) => {
            let checked = args.check(&mut faults);
            let (place, json) = faults.into_result(checked)?;
            Box::pin(show::list(place, json))
        }
        SubscriptionsCommand::Show(args) => {
            let checked = one(args, &mut faults);
            let (id, place) = faults.into_result(checked)?;
            Box::pin(show::show(place, id))
        }
        SubscriptionsCommand::Test(args) => {
            let checked = one(args, &mut faults);
            let (id, place) = faults.into_result(checked)?;
            Box::pin(change::test(place, id))
        }
        SubscriptionsCommand::Enable(args) => {
            let checked = one(args, &mut faults);
            let (id, place) = faults.into_result(checked)?;
            Box::pin(change::enable(place, id, true))
        }
        SubscriptionsCommand::Disable(args) => {
            let checked = one(args, &mut faults);
            let (id, place) = faults.into_result(checked)?;
            Box::pin(change::enable(place, id, false))
        }
        SubscriptionsCommand::Remove(args) => {
            let checked = one(args, &mut faults);
            let (id, place) = faults.into_result(checked)?;
            Box::pin(change::remove(place, id))
        }
        SubscriptionsCommand::RotateKey(args) => change::prepare_rotate(args, faults)?,
    })
}

fn id(faults: &mut Faults, value: &str) -> Option<SubscriptionId> {
    faults.parsed(SUBSCRIPTION, value, "copy it from trough subscriptions list")
}
