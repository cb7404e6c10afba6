//! Changing a subscription that is there.

use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use trough_store::SubscriptionId;
use trough_store::outbox::tests_of;
use trough_store::webhook::secret_of;

use crate::cli::RegistryArgs;
use crate::cmd::Work;
use crate::error::CliError;
use crate::faults::Faults;
use crate::opt;
use crate::output;
use crate::registry::{Missing, Place};
use crate::seal::{SealArgs, SealChoice};
use crate::stores::Stores;

/// Which webhook.
#[derive(Debug, Args)]
pub struct RotateKeyArgs {
    /// The subscription's id
    #[arg(value_name = "SUBSCRIPTION")]
    subscription: String,
    /// How long requests carry a signature by the old secret too, in seconds
    #[arg(long, env = opt::OLD_KEY.env, hide_env_values = true, value_name = "SECONDS", default_value = "86400")]
    keep_old: String,
    #[command(flatten)]
    seal: SealArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Checks the options of `rotate-key`.
pub fn prepare_rotate(args: RotateKeyArgs, mut faults: Faults) -> Result<Work, Faults> {
    let id = super::id(&mut faults, &args.subscription);
    let keep_old = faults.seconds(opt::OLD_KEY, &args.keep_old, 0..=30 * 24 * 60 * 60);
    let place = args.registry.check(&mut faults);
    let seal = place.as_ref().and_then(|place| args.seal.check(place, &mut faults));
    let checked = (|| Some((id?, keep_old?, place?, seal?)))();
    let (id, keep_old, place, seal) = faults.into_result(checked)?;
    Ok(Box::pin(rotate_key(place, seal, id, keep_old)))
}

async fn rotate_key(
    place: Place,
    seal: SealChoice,
    id: SubscriptionId,
    keep_old: Duration,
) -> Result<(), CliError> {
    let stores = Stores::open(place, Missing::Refuse)?;
    let (seal, now) = (seal.needed()?, stores.outbox.now().await?);
    let key = loop {
        let before = stores.subscriptions.get_subscription(id).await?.wanted;
        let mut wanted = before.clone();
        let Some(key) = wanted.rotate_key(&seal, keep_old, now) else {
            return Err(anyhow!("subscription {id} is for pushes, which have no signing secret").into());
        };
        // Unless its owner has just changed it: then it is looked at again.
        if stores.subscriptions.replace_subscription(before, wanted).await?.is_some() {
            break key;
        }
    };
    output::line(secret_of(&key).expose())?;
    let seconds = keep_old.as_secs();
    output::note(format!(
        "subscription {id} has a new signing secret, which is not shown again; the old one is used too for {seconds} s"
    ));
    Ok(())
}

/// Enables or disables one.
pub async fn enable(place: Place, id: SubscriptionId, enable: bool) -> Result<(), CliError> {
    let stores = Stores::open(place, Missing::Refuse)?;
    if enable && stores.subscriptions.get_subscription(id).await?.disabled.is_some() {
        // First, so that whoever sees that it is enabled finds what waits ready to go.
        stores.outbox.resume(id).await?;
    }
    let reason = if enable { None } else { Some("disabled by trough subscriptions disable") };
    stores.subscriptions.disable_subscription(id, reason).await?;
    output::note(format!("subscription {id} is {}", if enable { "enabled" } else { "disabled" }));
    Ok(())
}

/// Removes one.
pub async fn remove(place: Place, id: SubscriptionId) -> Result<(), CliError> {
    let stores = Stores::open(place, Missing::Refuse)?;
    stores.subscriptions.remove_subscription(id).await?;
    output::note(format!("subscription {id} was removed; what was not delivered yet never is"));
    Ok(())
}

/// Has a test sent.
pub async fn test(place: Place, id: SubscriptionId) -> Result<(), CliError> {
    let stores = Stores::open(place, Missing::Refuse)?;
    let subscription = stores.subscriptions.get_subscription(id).await?;
    if let Some(disabled) = &subscription.disabled {
        let reason = &disabled.reason;
        return Err(anyhow!("subscription {id} is disabled ({reason}): enable it first").into());
    }
    let owner = &subscription.wanted.owner;
    let phones = stores.subscriptions.list_push_tokens(Some(owner)).await?;
    let tests = tests_of(&subscription, &phones, stores.outbox.now().await?);
    if tests.is_empty() {
        return Err(anyhow!("reader {owner} has registered no phone: let the app do that first").into());
    }
    for test in tests {
        output::line(stores.outbox.deliver_test(test).await?)?;
    }
    output::note("a test is sent; what became of it: trough deliveries show DELIVERY");
    Ok(())
}
