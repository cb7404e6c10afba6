//! `trough deliveries`: what subscribers were told, or were not. Works on the outbox directly, also while the server runs.

use clap::{Args, Subcommand};
use serde::Serialize;
use trough_protocol::Micros;
use trough_store::outbox::{Delivery, DeliveryFilter, DeliveryId, DeliveryState, PAGE_MAX};
use trough_store::subscription::PushTokenId;
use trough_store::{Event, SubscriptionId};

use crate::cli::{ListingArgs, RegistryArgs};
use crate::cmd::Work;
use crate::error::CliError;
use crate::faults::Faults;
use crate::opt::{self, Opt};
use crate::output;
use crate::registry::{Missing, Place};
use crate::stores::Stores;

const DELIVERY: Opt = Opt { flag: "DELIVERY", env: "" };

/// What to do with deliveries.
#[derive(Debug, Subcommand)]
pub enum DeliveriesCommand {
    /// List deliveries, newest first; the dead letters with --state dead
    List(ListArgs),
    /// Print all of a delivery as JSON
    Show(OneArgs),
    /// Have a delivery sent once more, behind all that waits now
    Replay(OneArgs),
}

/// Which ones to list.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only of this subscription [default: of all]
    #[arg(long, env = opt::DELIVERY_SUBSCRIPTION.env, hide_env_values = true, value_name = "NAME")]
    subscription: Option<String>,
    /// Only those that are pending, delivered, dead or dropped [default: all]
    #[arg(long, env = opt::DELIVERY_STATE.env, hide_env_values = true, value_name = "NAME")]
    state: Option<String>,
    /// At most so many
    #[arg(long, env = opt::DELIVERY_LIMIT.env, hide_env_values = true, value_name = "DELIVERIES",
          default_value = "100")]
    limit: String,
    #[command(flatten)]
    listing: ListingArgs,
}

/// Which one.
#[derive(Debug, Args)]
pub struct OneArgs {
    /// The delivery's id: `webhook-id` of the request
    #[arg(value_name = "DELIVERY")]
    delivery: String,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Checks the options.
pub fn prepare(command: DeliveriesCommand, mut faults: Faults) -> Result<Work, Faults> {
    Ok(match command {
        DeliveriesCommand::List(args) => {
            let filter = filter(&args, &mut faults);
            let listing = args.listing.check(&mut faults);
            let (filter, (place, json)) = faults.into_result(filter.zip(listing))?;
            Box::pin(list(place, filter, json))
        }
        DeliveriesCommand::Show(args) => {
            let (id, place) = one(args, faults)?;
            Box::pin(show(place, id))
        }
        DeliveriesCommand::Replay(args) => {
            let (id, place) = one(args, faults)?;
            Box::pin(replay(place, id))
        }
    })
}

fn one(args: OneArgs, mut faults: Faults) -> Result<(DeliveryId, Place), Faults> {
    let id = faults.parsed(DELIVERY, &args.delivery, "copy it from trough deliveries list");
    let place = args.registry.check(&mut faults);
    faults.into_result(id.zip(place))
}

fn filter(args: &ListArgs, faults: &mut Faults) -> Option<DeliveryFilter> {
    let remedy = "copy it from trough subscriptions list";
    let subscription = args.subscription.as_ref();
    let subscription: Option<Option<SubscriptionId>> = match subscription {
        None => Some(None),
        Some(id) => faults.parsed(opt::DELIVERY_SUBSCRIPTION, id, remedy).map(Some),
    };
    let state = match &args.state {
        None => Some(None),
        Some(name) => {
            let found = DeliveryState::ALL.into_iter().find(|state| state.as_str() == name);
            if found.is_none() {
                let known = DeliveryState::ALL.map(DeliveryState::as_str).join(", ");
                faults.add(opt::DELIVERY_STATE, name, "it is not known", format!("use one of {known}"));
            }
            found.map(Some)
        }
    };
    let limit = faults.number(opt::DELIVERY_LIMIT, &args.limit, "deliveries", 1..=PAGE_MAX as u64);
    Some(DeliveryFilter {
        subscriptions: subscription?.map(|id| vec![id]),
        state: state?,
        before: None,
        limit: limit? as usize,
    })
}

async fn list(place: Place, filter: DeliveryFilter, json: bool) -> Result<(), CliError> {
    let deliveries = Stores::open(place, Missing::Refuse)?.outbox.list_deliveries(filter).await?;
    if json {
        return output::json(&deliveries.iter().map(DeliveryJson::of).collect::<Vec<_>>());
    }
    if deliveries.is_empty() {
        output::note("no deliveries; whatever is delivered is forgotten after some days");
        return Ok(());
    }
    let row = |delivery: &Delivery| {
        let event = &delivery.event;
        let about = event.device.as_ref().map(ToString::to_string).unwrap_or_default();
        [
            delivery.id.to_string(),
            event.kind.to_string(),
            about,
            delivery.state.as_str().to_owned(),
            delivery.attempts.to_string(),
            output::instant(delivery.created_at),
            delivery.last.clone().unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = deliveries.iter().map(row).collect();
    let headings = ["DELIVERY", "EVENT", "DEVICE", "STATE", "TRIES", "MADE", "LAST"];
    output::line(output::table(headings, &rows).trim_end())
}

async fn show(place: Place, id: DeliveryId) -> Result<(), CliError> {
    let delivery = Stores::open(place, Missing::Refuse)?.outbox.get_delivery(id).await?;
    output::json(&DeliveryJson::of(&delivery))
}

async fn replay(place: Place, id: DeliveryId) -> Result<(), CliError> {
    let delivery = Stores::open(place, Missing::Refuse)?.outbox.replay(id).await?;
    output::note(format!("delivery {id} is sent again, at position {}", delivery.position));
    Ok(())
}

/// A delivery as `--json` shows it. Times are in µs since 1970.
#[derive(Serialize)]
struct DeliveryJson<'a> {
    id: DeliveryId,
    subscription: SubscriptionId,
    phone: Option<PushTokenId>,
    position: u64,
    state: DeliveryState,
    attempts: u32,
    events: u32,
    next_at: Micros,
    last: Option<&'a str>,
    created_at: Micros,
    finished_at: Option<Micros>,
    event: &'a Event,
}

impl<'a> DeliveryJson<'a> {
    fn of(delivery: &'a Delivery) -> Self {
        Self {
            id: delivery.id,
            subscription: delivery.subscription,
            phone: delivery.phone,
            position: delivery.position,
            state: delivery.state,
            attempts: delivery.attempts,
            events: delivery.events,
            next_at: delivery.next_at,
            last: delivery.last.as_deref(),
            created_at: delivery.created_at,
            finished_at: delivery.finished_at,
            event: &delivery.event,
        }
    }
}
