//! What the paths of subscriptions, phones, deliveries, events and rules stand on.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use bytes::Bytes;
use http::request::Parts;
use trough_bus::Deployment;
use trough_protocol::Micros;
use trough_store::rule::Scope as RuleScope;
use trough_store::subscription::PushToken;
use trough_store::webhook::Reach;
use trough_store::{Outbox, ReaderName, Scope, SealKey, Subscription, SubscriptionId, Subscriptions};
use utoipa::openapi::schema::{AdditionalProperties, ArrayBuilder, ObjectBuilder, OneOfBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::auth::Caller;
use super::notice_refusal::{NoticeRefusal, shown};
use super::patience::{within, within_as};
use super::refusal::Refusal;
use super::routes::DeviceName;
use super::sight::Sight;
use super::state::Api;
use crate::watch::TOPIC;

/// Where wishes and deliveries are kept, and how secrets are.
#[derive(Clone)]
pub struct NoticeDesk {
    /// Rules, subscriptions and phones.
    pub subscriptions: Arc<dyn Subscriptions>,
    /// Events and deliveries.
    pub outbox: Arc<dyn Outbox>,
    /// Seals signing keys and push tokens; without it none are taken.
    pub seal: Option<SealKey>,
    /// Where webhooks may lead to: as the notifier's.
    pub reach: Reach,
    /// Where notifiers of other processes hear of deliveries; without it they look by themselves.
    pub bus: Option<Deployment>,
}

impl NoticeDesk {
    /// The key.
    ///
    /// # Errors
    /// [`NoticeRefusal::NoSealKey`].
    pub(super) fn seal(&self) -> Result<&SealKey, Refusal> {
        self.seal.as_ref().ok_or_else(|| NoticeRefusal::NoSealKey.into())
    }

    /// Tells notifiers that there are deliveries. Nobody waits for it: it is a doorbell.
    pub(super) fn ring(&self) {
        let Some(bus) = self.bus.clone() else { return };
        tokio::spawn(async move {
            if let Err(error) = bus.bus().publish(&bus.topic(TOPIC), Bytes::from_static(b"{}")).await {
                tracing::debug!(%error, "a delivery is found a little later");
            }
        });
    }
}

/// Who asks, if it may manage what it is told of, and since when it has its name.
#[derive(Debug)]
pub(super) struct Owner {
    caller: Caller,
    /// An earlier reader of the name was somebody else.
    pub since: Micros,
}

impl Owner {
    /// Its name.
    pub(super) fn name(&self) -> &ReaderName {
        &self.caller.grant.name
    }

    /// Which devices it sees.
    pub(super) fn sight<'a>(&'a self, api: &'a Api) -> Sight<'a> {
        Sight::new(&api.auth, &self.caller)
    }

    fn owns(&self, subscription: &Subscription) -> bool {
        subscription.wanted.owner == *self.name() && subscription.created_at >= self.since
    }

    /// Its subscriptions, by id.
    ///
    /// # Errors
    /// [`Refusal::Busy`].
    pub(super) async fn subscriptions(&self, desk: &NoticeDesk) -> Result<Vec<Subscription>, Refusal> {
        let mut all = within(desk.subscriptions.list_subscriptions(Some(self.name()))).await?;
        all.retain(|subscription| self.owns(subscription));
        Ok(all)
    }

    /// Its phones, by id.
    ///
    /// # Errors
    /// [`Refusal::Busy`].
    pub(super) async fn phones(&self, desk: &NoticeDesk) -> Result<Vec<PushToken>, Refusal> {
        let mut all = within(desk.subscriptions.list_push_tokens(Some(self.name()))).await?;
        // What an earlier reader of the name has registered is somebody else's.
        all.retain(|phone| phone.registered_at >= self.since);
        Ok(all)
    }

    /// One of its subscriptions. What is no id is no subscription's either.
    ///
    /// # Errors
    /// [`NoticeRefusal::NoSuchSubscription`], the same whether it does not exist or is somebody else's; [`Refusal::Busy`].
    pub(super) async fn subscription(&self, desk: &NoticeDesk, id: &str) -> Result<Subscription, Refusal> {
        let none = || Refusal::from(NoticeRefusal::NoSuchSubscription(shown(id)));
        let parsed: SubscriptionId = id.parse().map_err(|_| none())?;
        let found = desk.subscriptions.get_subscription(parsed);
        let found = within_as(found, NoticeRefusal::of_subscription).await?;
        Some(found).filter(|found| self.owns(found)).ok_or_else(none)
    }
}

impl FromRequestParts<Arc<Api>> for Owner {
    /// [`Refusal::MissingScope`], [`Refusal::BadToken`], [`Refusal::Busy`]; and as of [`Caller`].
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Refusal> {
        let caller = Caller::from_request_parts(parts, api).await?;
        caller.require(Scope::NotificationsManage)?;
        let since = api.auth.since(&caller).await?;
        Ok(Self { caller, since })
    }
}

/// What a path names besides devices, decoded but not checked.
#[derive(Debug)]
pub(super) struct ItemName(pub String);

impl FromRequestParts<Arc<Api>> for ItemName {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Self::Rejection> {
        DeviceName::from_request_parts(parts, api).await.map(|DeviceName(name)| Self(name))
    }
}

/// Which devices: `"all"`, or those that are named, or those of groups.
pub(super) struct ScopeForm;

impl PartialSchema for ScopeForm {
    fn schema() -> RefOr<Schema> {
        let names = |pattern: &str| {
            let name = ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern));
            ArrayBuilder::new()
                .items(name)
                .min_items(Some(1))
                .max_items(Some(trough_store::rule::SCOPE_NAMES_MAX))
        };
        let one = |name: &str, pattern: &str| {
            ObjectBuilder::new()
                .property(name, names(pattern))
                .required(name)
                .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false)))
        };
        OneOfBuilder::new()
            .description(Some(
                "Which devices: `\"all\"`, those that are named, or those of groups at the time",
            ))
            .item(ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["all"])))
            .item(one("devices", "^[A-Za-z0-9._:~+@=-]{1,64}$"))
            .item(one("groups", "^[A-Za-z0-9._:@-]{1,64}$"))
            .into()
    }
}

impl ToSchema for ScopeForm {
    fn name() -> std::borrow::Cow<'static, str> {
        "DeviceScope".into()
    }
}

/// Every device that the reader sees.
pub(super) fn all_devices() -> RuleScope {
    RuleScope::All
}
