//! Changing a subscription that is there.

use std::time::Duration;

use anyhow::anyhow;
use base64::Engine as _;
use clap::Args;
use serde_json::value::RawValue;
use trough_runtime::clock::micros;
use trough_runtime::random::random_bytes;
use trough_store::outbox::NewDelivery;
use trough_store::subscription::{PushTokenId, Target};
use trough_store::{Event, EventId, EventKind, Subscription, SubscriptionId};

use crate::cli::RegistryArgs;
use crate::cmd::Work;
use crate::error::CliError;
use crate::faults::Faults;
use crate::opt;
use crate::output;
use crate::registry::{Missing, Place};
use crate::seal::{SealArgs, SealChoice};
use crate::stores::Stores;

/// Bytes of a signing key: the specification wants 24 to 64.
const KEY_BYTES: usize = 32;

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

/// A new signing key.
pub fn new_key() -> [u8; KEY_BYTES] {
    random_bytes()
}

/// A key as receivers are given it.
pub fn secret_of(key: &[u8]) -> String {
    format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode(key))
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
    let mut wanted = stores.subscriptions.get_subscription(id).await?.wanted;
    let Target::Webhook { keys, old_key_until, .. } = &mut wanted.target else {
        return Err(anyhow!("subscription {id} is for pushes, which have no signing secret").into());
    };
    let key = new_key();
    keys.truncate(1);
    keys.insert(0, seal.needed()?.seal(&key, &id.to_string()));
    *old_key_until = Some(stores.outbox.now().await?.saturating_add(micros(keep_old)));
    if keep_old.is_zero() {
        keys.truncate(1);
        *old_key_until = None;
    }
    stores.subscriptions.replace_subscription(wanted).await?;
    output::line(secret_of(&key))?;
    let seconds = keep_old.as_secs();
    output::note(format!(
        "subscription {id} has a new signing secret, which is not shown again; the old one is used too for {seconds} s"
    ));
    Ok(())
}

/// Enables or disables one.
pub async fn enable(place: Place, id: SubscriptionId, enable: bool) -> Result<(), CliError> {
    let stores = Stores::open(place, Missing::Refuse)?;
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
    let phones = phones(&stores, &subscription).await?;
    if phones.is_empty() {
        let owner = &subscription.wanted.owner;
        return Err(anyhow!("reader {owner} has registered no phone: let the app do that first").into());
    }
    let event = Event {
        id: EventId(random_bytes()),
        kind: EventKind::Test,
        at: stores.outbox.now().await?,
        rule: None,
        device: None,
        group: None,
        frame: None,
        trace: None,
        data: RawValue::from_string("{}".to_owned()).map_err(|error| anyhow!(error))?,
    };
    for phone in phones {
        let delivery = NewDelivery {
            subscription: id,
            phone,
            event: event.clone(),
            not_before: 0,
            key: None,
            every: Duration::ZERO,
            dropped: None,
        };
        output::line(stores.outbox.deliver_test(delivery).await?)?;
    }
    output::note("a test is sent; what became of it: trough deliveries show DELIVERY");
    Ok(())
}

/// To what a test goes: one webhook, or each phone.
async fn phones(stores: &Stores, subscription: &Subscription) -> Result<Vec<Option<PushTokenId>>, CliError> {
    if subscription.wanted.target != Target::Push {
        return Ok(vec![None]);
    }
    let phones = stores.subscriptions.list_push_tokens(Some(&subscription.wanted.owner)).await?;
    Ok(phones.into_iter().map(|phone| Some(phone.id)).collect())
}
