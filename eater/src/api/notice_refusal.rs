//! What is refused of subscriptions, phones, deliveries and rules.

use trough_store::{OutboxError, RegistryError};

use super::code::Code;
use super::refusal::Refusal;

/// Why it cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoticeRefusal {
    /// No such subscription, or none of this reader's: nobody learns which.
    #[error("you have no subscription {0:?}: GET /v1/subscriptions lists those there are")]
    NoSuchSubscription(String),
    /// Likewise a phone.
    #[error("you have no push token {0:?}: GET /v1/push-tokens lists those there are")]
    NoSuchPushToken(String),
    /// Likewise a delivery; or it is forgotten.
    #[error(
        "there is no delivery {0:?} of a subscription of yours: GET /v1/deliveries lists those there are, and what is \
         finished is forgotten after 7 days"
    )]
    NoSuchDelivery(String),
    /// No such rule, or one that is about devices which this reader does not see.
    #[error("there is no rule {0:?} that you may manage: GET /v1/rules lists those there are")]
    NoSuchRule(String),
    /// The server cannot keep secrets: have it set up.
    #[error(
        "this server has no key to seal secrets with, so it takes none: have its operator start the eater with \
         --seal-key-file, the same file as the notifier's"
    )]
    NoSealKey,
    /// As many as there may be: remove some.
    #[error("{0}")]
    TooManySubscriptions(String),
    /// Use another key for another subscription.
    #[error(
        "the Idempotency-Key is that of subscription {0}, which is another one or was changed since: use a new one for \
         each"
    )]
    KeyUsed(String),
    /// Enable it first.
    #[error("subscription {id} is disabled ({reason}): enable it first")]
    Disabled {
        /// Which one.
        id: String,
        /// Why.
        reason: String,
    },
    /// Register one first.
    #[error("no phone is registered: let the app POST /v1/push-tokens first")]
    NoPhone,
    /// Only webhooks have URLs and secrets.
    #[error(
        "subscription {0} is for pushes, which have no URL and no signing secret: add another one for a webhook"
    )]
    NotAWebhook(String),
    /// Wait until some were taken.
    #[error("{0}")]
    TooManyDeliveries(String),
    /// Somebody else's: choose another name.
    #[error("a rule {0:?} that you may not manage has this name: choose another")]
    RuleNameTaken(String),
    /// As many as there may be: remove some.
    #[error("{0}")]
    TooManyRules(String),
}

impl NoticeRefusal {
    /// For programs.
    pub fn code(&self) -> Code {
        match self {
            Self::NoSuchSubscription(_) => Code::NoSuchSubscription,
            Self::NoSuchPushToken(_) => Code::NoSuchPushToken,
            Self::NoSuchDelivery(_) => Code::NoSuchDelivery,
            Self::NoSuchRule(_) => Code::NoSuchRule,
            Self::NoSealKey => Code::NoSealKey,
            Self::TooManySubscriptions(_) => Code::TooManySubscriptions,
            Self::KeyUsed(_) => Code::IdempotencyKeyUsed,
            Self::Disabled { .. } => Code::SubscriptionDisabled,
            Self::NoPhone => Code::NoPhone,
            Self::NotAWebhook(_) => Code::NotAWebhook,
            Self::TooManyDeliveries(_) => Code::TooManyDeliveries,
            Self::RuleNameTaken(_) => Code::RuleNameTaken,
            Self::TooManyRules(_) => Code::TooManyRules,
        }
    }

    /// A registry's answer about a subscription.
    pub fn of_subscription(error: RegistryError) -> Refusal {
        Self::of_registry(error, Self::TooManySubscriptions)
    }

    /// A registry's answer about a subscription, a phone or a rule, whose wishes were checked before: if it refuses them all
    /// the same, there are too many, which is what `full` makes of its words.
    pub fn of_registry(error: RegistryError, full: impl FnOnce(String) -> Self) -> Refusal {
        match error {
            RegistryError::NotFound { what: "subscription", name } => Self::NoSuchSubscription(name).into(),
            RegistryError::NotFound { what: "rule", name } => Self::NoSuchRule(name).into(),
            RegistryError::Invalid(why) => full(why).into(),
            other => other.into(),
        }
    }
}

/// The beginning of something that was given, to be shown.
pub fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

impl From<OutboxError> for Refusal {
    fn from(error: OutboxError) -> Self {
        match error {
            OutboxError::NotFound { id, .. } => NoticeRefusal::NoSuchDelivery(id).into(),
            OutboxError::Unavailable { retry_after, reason } => {
                tracing::warn!(%reason, "the outbox does not answer");
                Self::Busy { what: "the outbox does not answer".to_owned(), retry_after }
            }
            // All else was checked before.
            OutboxError::Invalid(why) => NoticeRefusal::TooManyDeliveries(why).into(),
            other => {
                tracing::error!(error = %other, "the outbox cannot be used");
                Self::Broken("the outbox cannot be used; the server's log says why".to_owned())
            }
        }
    }
}
