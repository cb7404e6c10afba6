//! `/v1/deliveries`: what a reader's subscriptions were told, or were not.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::request::Parts;
use serde::Serialize;
use trough_store::outbox::{Delivery, DeliveryFilter, DeliveryId, DeliveryState};
use utoipa::{IntoParams, ToSchema};

use super::answer::{JsonAnswer, json};
use super::encode::time_text;
use super::event_json::EventJson;
use super::mark;
use super::no_parameters::NoParameters;
use super::notice_refusal::{NoticeRefusal, shown};
use super::notices::{ItemName, Owner};
use super::openapi::schemas;
use super::params::{BadParameter, Params};
use super::patience::within;
use super::refusal::Refusal;
use super::state::Api;

/// A delivery.
#[derive(Serialize, ToSchema)]
#[schema(as = Delivery)]
struct DeliveryJson {
    /// Its id: `webhook-id` of the request.
    #[schema(pattern = "^dlv_[0-9a-f]{32}$")]
    id: String,
    /// Of which subscription.
    #[schema(pattern = "^sub_[0-9a-f]{32}$")]
    subscription: String,
    /// To which phone, if it is a push.
    #[schema(required)]
    push_token: Option<String>,
    /// Its place in the subscription's queue, from 1.
    position: u64,
    /// `pending`: it waits, or is tried again. `delivered`. `dead`: it is not tried again unless it is replayed. `dropped`: it was
    /// not to be sent.
    #[schema(value_type = schemas::DeliveryState, inline)]
    state: DeliveryState,
    /// How often it was tried since it was made or replayed.
    attempts: u32,
    /// How many events are told of together.
    events: u32,
    /// It is not tried before this time.
    #[schema(format = DateTime)]
    next_at: String,
    /// What the last try said.
    #[schema(required)]
    last: Option<String>,
    /// When it was made.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was delivered, given up or dropped.
    #[schema(required, format = DateTime)]
    finished_at: Option<String>,
    /// Of what: the last event, if several are told of together. `null`: of a device that you do not see any more.
    #[schema(required)]
    event: Option<EventJson>,
}

impl DeliveryJson {
    fn of(delivery: &Delivery, is_seen: bool) -> Self {
        Self {
            id: delivery.id.to_string(),
            subscription: delivery.subscription.to_string(),
            push_token: delivery.phone.map(|phone| phone.to_string()),
            position: delivery.position,
            state: delivery.state,
            attempts: delivery.attempts,
            events: delivery.events,
            next_at: time_text(delivery.next_at),
            last: delivery.last.clone(),
            created_at: time_text(delivery.created_at),
            finished_at: delivery.finished_at.map(time_text),
            event: is_seen.then(|| EventJson::of(&delivery.event)),
        }
    }
}

/// A page of deliveries.
#[derive(Serialize, ToSchema)]
#[schema(as = DeliveriesPage)]
struct DeliveriesJson {
    /// The newest first.
    deliveries: Vec<DeliveryJson>,
    /// Where the next page begins; `null` if there is none.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Which deliveries.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is only described: Params reads it")]
struct ListParameters {
    /// Only of this subscription.
    #[param(inline)]
    subscription: Option<schemas::SubscriptionName>,
    /// Only those in this state; the dead letters with `dead`.
    #[param(inline)]
    state: Option<schemas::DeliveryState>,
    /// How many at most.
    #[param(inline)]
    limit: Option<schemas::ItemsLimit>,
    /// The `next_cursor` of the page before; `subscription` and `state` must be the same.
    #[param(inline)]
    cursor: Option<schemas::Cursor>,
}

/// The delivery in a path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it is only described")]
struct DeliveryPath {
    /// The delivery's id.
    #[param(inline, example = "dlv_00000000000000000000000000000000")]
    delivery: schemas::DeliveryName,
}

/// What your subscriptions were told, the newest first.
///
/// What is finished is forgotten after 7 days.
#[utoipa::path(
    get, path = "/v1/deliveries", operation_id = "list_deliveries", tag = "notifications",
    security(("reader" = ["notifications:manage"])),
    params(ListParameters),
    responses(
        (status = 200, description = "A page of deliveries", body = DeliveriesJson),
        (status = 304, description = "Nothing has changed"),
    )
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    owner: Owner,
    request: Parts,
) -> Result<Response, Refusal> {
    let params = Params::parse(request.uri.query(), &["subscription", "state", "limit", "cursor"])?;
    let (state, of) = (state(&params)?, params.one("subscription")?);
    let limit = params.items()?;
    let name = state.map_or("", DeliveryState::as_str);
    let query = format!("deliveries|{}|{}|{name}", owner.name(), of.unwrap_or_default());
    let before = params.one("cursor")?.map(|cursor| mark::read_timed(&query, cursor)).transpose()?;
    let answer = JsonAnswer::to(request.headers)?;
    let desk = &api.notices;
    let subscriptions = match of {
        Some(id) => vec![owner.subscription(desk, id).await?.wanted.id],
        None => owner.subscriptions(desk).await?.into_iter().map(|one| one.wanted.id).collect(),
    };
    let filter = DeliveryFilter {
        subscriptions: Some(subscriptions),
        state,
        before: before.map(|(at, id)| (at, DeliveryId(id))),
        limit: limit + 1,
    };
    let mut found = within(desk.outbox.list_deliveries(filter)).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    let seen = owner.sight(&api).of_events(found.iter().map(|one| &one.event)).await?;
    let last = found.last().filter(|_| more);
    let page = DeliveriesJson {
        next_cursor: last.map(|last| mark::write_timed(&query, last.created_at, last.id.0)),
        deliveries: found.iter().zip(seen).map(|(one, seen)| DeliveryJson::of(one, seen)).collect(),
    };
    Ok(answer.tagged(json(&page)))
}

fn state(params: &Params) -> Result<Option<DeliveryState>, BadParameter> {
    let Some(name) = params.one("state")? else { return Ok(None) };
    let found = DeliveryState::ALL.into_iter().find(|state| state.as_str() == name);
    let accepted = || DeliveryState::ALL.map(DeliveryState::as_str).join(", ");
    found.map(Some).ok_or_else(|| BadParameter::value("state", name, accepted()))
}

/// A delivery of a subscription of the owner's; of another one's, or of one that is removed, nobody learns.
async fn find(api: &Api, owner: &Owner, name: &str) -> Result<Delivery, Refusal> {
    let none = || Refusal::from(NoticeRefusal::NoSuchDelivery(shown(name)));
    let id: DeliveryId = name.parse().map_err(|_| none())?;
    let found = within(api.notices.outbox.get_delivery(id)).await?;
    match owner.subscription(&api.notices, &found.subscription.to_string()).await {
        Ok(_) => Ok(found),
        Err(Refusal::Notice(NoticeRefusal::NoSuchSubscription(_))) => Err(none()),
        Err(refusal) => Err(refusal),
    }
}

async fn shown_to(api: &Api, owner: &Owner, delivery: &Delivery) -> Result<DeliveryJson, Refusal> {
    let seen = owner.sight(api).of_events([&delivery.event]).await?;
    Ok(DeliveryJson::of(delivery, seen == [true]))
}

/// One delivery, and what became of it.
#[utoipa::path(
    get, path = "/v1/deliveries/{delivery}", operation_id = "get_delivery", tag = "notifications",
    security(("reader" = ["notifications:manage"])),
    params(DeliveryPath),
    responses(
        (status = 200, description = "The delivery", body = DeliveryJson),
        (status = 304, description = "Nothing has changed"),
    )
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    owner: Owner,
    ItemName(name): ItemName,
    _: NoParameters,
    answer: JsonAnswer,
) -> Result<Response, Refusal> {
    let found = find(&api, &owner, &name).await?;
    Ok(answer.tagged(json(&shown_to(&api, &owner, &found).await?)))
}

/// Have a delivery sent once more, behind all that waits now.
///
/// One that is dead or dropped, or was delivered. One that waits is left alone. It has as many tries as a new one.
#[utoipa::path(
    post, path = "/v1/deliveries/{delivery}/replay", operation_id = "replay_delivery", tag = "notifications",
    security(("reader" = ["notifications:manage"])),
    params(DeliveryPath),
    responses((status = 200, description = "The delivery, which waits", body = DeliveryJson))
)]
pub(super) async fn replay(
    State(api): State<Arc<Api>>,
    owner: Owner,
    ItemName(name): ItemName,
    _: NoParameters,
    answer: JsonAnswer,
) -> Result<Response, Refusal> {
    let found = find(&api, &owner, &name).await?;
    let replayed = within(api.notices.outbox.replay(found.id)).await?;
    api.notices.ring();
    tracing::info!(delivery = %replayed.id, reader = %owner.name(), "delivery replayed");
    Ok(answer.untagged(json(&shown_to(&api, &owner, &replayed).await?)))
}
