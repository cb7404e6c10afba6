//! Subscriptions: who is told of which events, where, and when.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde::{Deserialize, Serialize};
use trough_protocol::Micros;
use trough_runtime::clock::micros;

use crate::BoxFuture;
use crate::error::RegistryError;
use crate::event::EventKind;
use crate::hashed_id::hashed_id;
use crate::names::{ReaderName, RuleName};
use crate::rule::{AFTER_MAX, NewRule, Rule, SCOPE_NAMES_MAX, Scope, seconds};
use crate::sealed::{SealKey, Sealed};
use crate::webhook::{KEY_BYTES, new_key};

/// Most subscriptions that there may be.
pub const SUBSCRIPTIONS_MAX: usize = 10_000;
/// Most push tokens that one reader may have: the oldest ones give way.
pub const PUSH_TOKENS_MAX: usize = 100;
/// Longest URL of a webhook, in bytes.
pub const URL_BYTES_MAX: usize = 2048;
/// Longest name of an app (`apns-topic`), in bytes.
pub const TOPIC_BYTES_MAX: usize = 255;
/// Longest [`Disabled::reason`] that is kept, in bytes.
pub const REASON_BYTES_MAX: usize = 512;

hashed_id!(
    /// A subscription's id.
    SubscriptionId,
    "sub_"
);
hashed_id!(
    /// The id of a push token: it follows from the token, so that a phone that registers twice is one.
    PushTokenId,
    "psh_"
);

/// Where events are sent to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// POST to a URL, as the Standard Webhooks specification says.
    Webhook {
        /// `https://`, or `http://` where the deployment allows it.
        url: String,
        /// The signing keys (24 to 64 bytes, sealed for the subscription's id): the first one is the newest. While a key is
        /// replaced there are two, and requests carry a signature by each.
        keys: Vec<Sealed>,
        /// When the older one is not used any more.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        old_key_until: Option<Micros>,
    },
    /// To all phones that the owner has registered push tokens of.
    Push,
}

/// When nothing is to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuietHours {
    /// From when on, such as `22:00`.
    pub from: Time,
    /// Until when; the next day, if it is before `from`.
    pub to: Time,
    /// The time zone by its IANA name, such as `Europe/Zurich`.
    pub zone: String,
    /// What becomes of events of that time.
    pub then: Quiet,
}

/// What becomes of events of quiet hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quiet {
    /// They wait for their end.
    Hold,
    /// They are not sent; `trough deliveries list` shows them.
    Drop,
}

impl QuietHours {
    /// Checks that the zone exists, and that the hours have a length.
    ///
    /// # Errors
    /// [`RegistryError::Invalid`].
    pub fn check(&self) -> Result<(), RegistryError> {
        self.zone()?;
        if self.from == self.to {
            let at = self.from;
            return Err(RegistryError::Invalid(format!("quiet hours from {at} to {at} have no length")));
        }
        Ok(())
    }

    fn zone(&self) -> Result<TimeZone, RegistryError> {
        TimeZone::get(&self.zone).map_err(|_| {
            let shown: String = self.zone.chars().take(80).collect();
            RegistryError::Invalid(format!(
                "time zone {shown:?} is not known: use a name of the IANA database, such as Europe/Zurich or UTC"
            ))
        })
    }

    /// When the quiet hours end in which this moment lies; `None` if it lies in none.
    pub fn ends(&self, at: Micros) -> Option<Micros> {
        let moment = Timestamp::from_microsecond(i64::try_from(at).ok()?).ok()?;
        let local = moment.to_zoned(self.zone().ok()?);
        let time = local.time();
        let overnight = self.to < self.from;
        let (quiet, tomorrow) = match overnight {
            false => (self.from <= time && time < self.to, false),
            true => (time >= self.from || time < self.to, time >= self.from),
        };
        if !quiet {
            return None;
        }
        let day = if tomorrow { local.date().tomorrow().ok()? } else { local.date() };
        let end: Zoned = day.to_datetime(self.to).to_zoned(local.time_zone().clone()).ok()?;
        // Where a clock is set back, a time comes twice: never an end that is past.
        u64::try_from(end.timestamp().as_microsecond()).ok().map(|end| end.max(at + 1))
    }
}

/// What somebody wants to be told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewSubscription {
    /// Its id, random: whoever makes it seals keys for it first.
    pub id: SubscriptionId,
    /// Whose: no event of a device that this reader does not see is ever sent.
    pub owner: ReaderName,
    /// Of which events; of all, if there are none.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub events: BTreeSet<EventKind>,
    /// By which rules; by all, if there are none.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub rules: BTreeSet<RuleName>,
    /// Of which devices.
    pub scope: Scope,
    /// Where to.
    pub target: Target,
    /// When not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet: Option<QuietHours>,
    /// At most one in this time of the same rule or kind, and the same device: those that come in between are told of
    /// together at its end, as the last of them, with their number. Zero: each by itself.
    #[serde(default, rename = "coalesce_s", with = "seconds")]
    pub coalesce: Duration,
}

impl NewSubscription {
    /// Checks what the types do not.
    ///
    /// # Errors
    /// [`RegistryError::Invalid`].
    pub fn check(&self) -> Result<(), RegistryError> {
        let refuse = |why: String| Err(RegistryError::Invalid(why));
        self.scope.check()?;
        if self.rules.len() > SCOPE_NAMES_MAX {
            return refuse(format!("{} rules are named: name {SCOPE_NAMES_MAX} at most", self.rules.len()));
        }
        if let Some(quiet) = &self.quiet {
            quiet.check()?;
        }
        if self.coalesce > AFTER_MAX {
            return refuse(format!(
                "coalesce_s {} is out of range: use at most {}",
                self.coalesce.as_secs(),
                AFTER_MAX.as_secs()
            ));
        }
        match &self.target {
            Target::Webhook { url, keys, .. } => {
                if url.len() > URL_BYTES_MAX {
                    return refuse(format!("the url has {} bytes: {URL_BYTES_MAX} at most", url.len()));
                }
                if !(1..=2).contains(&keys.len()) {
                    return refuse(format!(
                        "a webhook has one key, or two while it is replaced, not {}",
                        keys.len()
                    ));
                }
                Ok(())
            }
            Target::Push => Ok(()),
        }
    }

    /// Gives a webhook a new signing key, beside which the old one is used too for this time from now on: the new one.
    /// `None` if it is for pushes, which have none.
    pub fn rotate_key(&mut self, seal: &SealKey, keep_old: Duration, now: Micros) -> Option<[u8; KEY_BYTES]> {
        let Target::Webhook { keys, old_key_until, .. } = &mut self.target else { return None };
        let key = new_key();
        keys.truncate(if keep_old.is_zero() { 0 } else { 1 });
        keys.insert(0, seal.seal(&key, &self.id.to_string()));
        // Also if nothing is left of the old one: that it was replaced is known by this.
        *old_key_until = Some(now.saturating_add(micros(keep_old)));
        Some(key)
    }

    /// Whether it wants an event by its kind and its rule; whose it is must be looked at besides.
    pub fn wants(&self, kind: EventKind, rule: Option<&RuleName>) -> bool {
        (self.events.is_empty() || self.events.contains(&kind))
            && (self.rules.is_empty() || rule.is_some_and(|rule| self.rules.contains(rule)))
    }
}

/// A subscription.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Subscription {
    /// What is wanted.
    #[serde(flatten)]
    pub wanted: NewSubscription,
    /// Since when. Events from before are none of its business.
    pub created_at: Micros,
    /// Nothing is sent, since when and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<Disabled>,
}

/// Why nothing is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disabled {
    /// Since when.
    pub at: Micros,
    /// Why, for whoever looks.
    pub reason: String,
}

/// Which of Apple's servers knows a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PushEnvironment {
    /// Apps of the App Store and TestFlight.
    Production,
    /// Apps run from Xcode.
    Sandbox,
}

/// A phone that may be pushed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushToken {
    /// Its id.
    pub id: PushTokenId,
    /// Whose phone.
    pub owner: ReaderName,
    /// Apple's token, sealed for the id.
    pub token: Sealed,
    /// Which server knows it.
    pub environment: PushEnvironment,
    /// The app's bundle id (`apns-topic`).
    pub topic: String,
    /// When it was (last) registered.
    pub registered_at: Micros,
}

/// Rules, subscriptions and push tokens. They lie where the [`Registry`](crate::Registry) does, each change of them is
/// counted by its [`changes`](crate::Registry::changes), and durability and cancel safety are the same.
pub trait Subscriptions: Send + Sync + 'static {
    /// Sets a rule, in place of what had its name. With the same content as before, nothing changes.
    ///
    /// # Errors
    /// [`RegistryError::Invalid`] if it is not sound, or if there are [`RULES_MAX`](crate::rule::RULES_MAX) others.
    fn set_rule(&self, rule: NewRule) -> BoxFuture<'_, Result<Rule, RegistryError>>;

    /// The same, if the rule of this name has this version now, or there is none (`None`): for those who have looked at what
    /// they replace.
    ///
    /// # Errors
    /// Likewise; [`RegistryError::AlreadyExists`] if it is another one by now.
    fn replace_rule(&self, rule: NewRule, version: Option<u64>)
    -> BoxFuture<'_, Result<Rule, RegistryError>>;

    /// All rules, by name.
    fn list_rules(&self) -> BoxFuture<'_, Result<Vec<Rule>, RegistryError>>;

    /// The rule of this name.
    fn get_rule<'a>(&'a self, name: &'a RuleName) -> BoxFuture<'a, Result<Rule, RegistryError>>;

    /// Removes a rule, or only this version of it. The version is not used again.
    fn remove_rule<'a>(
        &'a self,
        name: &'a RuleName,
        version: Option<u64>,
    ) -> BoxFuture<'a, Result<(), RegistryError>>;

    /// Adds a subscription. Twice the same is once.
    ///
    /// # Errors
    /// [`RegistryError::Invalid`] if it is not sound, or if there are [`SUBSCRIPTIONS_MAX`];
    /// [`RegistryError::AlreadyExists`] if there is another with its id.
    fn add_subscription(&self, wanted: NewSubscription)
    -> BoxFuture<'_, Result<Subscription, RegistryError>>;

    /// Puts other wishes in the place of a subscription's, under the same id and owner, if they are still those of `before`
    /// (or are what is wanted already); `None` if somebody else has changed them meanwhile: look again. Since when it is, and whether it is disabled, stays.
    ///
    /// # Errors
    /// As of [`Subscriptions::add_subscription`]; [`RegistryError::NotFound`] if this owner has none with its id.
    fn replace_subscription(
        &self,
        before: NewSubscription,
        wanted: NewSubscription,
    ) -> BoxFuture<'_, Result<Option<Subscription>, RegistryError>>;

    /// All subscriptions by id, of one owner or of all.
    fn list_subscriptions<'a>(
        &'a self,
        owner: Option<&'a ReaderName>,
    ) -> BoxFuture<'a, Result<Vec<Subscription>, RegistryError>>;

    /// One subscription.
    fn get_subscription(&self, id: SubscriptionId) -> BoxFuture<'_, Result<Subscription, RegistryError>>;

    /// Removes one. What was not delivered yet never is.
    fn remove_subscription(&self, id: SubscriptionId) -> BoxFuture<'_, Result<(), RegistryError>>;

    /// Has nothing sent any more, with the reason, or has it sent again (`None`). Of several reasons the first one stays.
    fn disable_subscription<'a>(
        &'a self,
        id: SubscriptionId,
        reason: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(), RegistryError>>;

    /// Registers a phone, in place of what was registered under its id. Of more than [`PUSH_TOKENS_MAX`] of an owner the
    /// oldest goes.
    fn set_push_token(&self, token: PushToken) -> BoxFuture<'_, Result<(), RegistryError>>;

    /// The phones of an owner, or of all, by id.
    fn list_push_tokens<'a>(
        &'a self,
        owner: Option<&'a ReaderName>,
    ) -> BoxFuture<'a, Result<Vec<PushToken>, RegistryError>>;

    /// Forgets a phone, unless it has registered since (`registered_at` differs). Twice is once.
    fn remove_push_token(
        &self,
        id: PushTokenId,
        registered_at: Option<Micros>,
    ) -> BoxFuture<'_, Result<(), RegistryError>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet(from: &str, to: &str, zone: &str) -> QuietHours {
        QuietHours {
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            zone: zone.into(),
            then: Quiet::Hold,
        }
    }

    fn at(text: &str) -> Micros {
        text.parse::<Timestamp>().unwrap().as_microsecond().try_into().unwrap()
    }

    #[test]
    fn quiet_hours_end_in_their_zone() {
        let night = quiet("22:00", "07:00", "Europe/Zurich");
        assert_eq!(night.ends(at("2026-07-01T19:59:59Z")), None);
        assert_eq!(night.ends(at("2026-07-01T20:00:00Z")), Some(at("2026-07-02T05:00:00Z")));
        assert_eq!(night.ends(at("2026-07-02T04:59:59Z")), Some(at("2026-07-02T05:00:00Z")));
        assert_eq!(night.ends(at("2026-07-02T05:00:00Z")), None);
        // The night in which clocks are set back is an hour longer.
        assert_eq!(night.ends(at("2026-10-24T20:00:00Z")), Some(at("2026-10-25T06:00:00Z")));
        let noon = quiet("12:00", "13:00", "UTC");
        assert_eq!(noon.ends(at("2026-07-01T12:30:00Z")), Some(at("2026-07-01T13:00:00Z")));
        assert_eq!(noon.ends(at("2026-07-01T13:00:00Z")), None);
    }

    #[test]
    fn quiet_hours_are_checked() {
        assert!(quiet("22:00", "22:00", "UTC").check().unwrap_err().to_string().contains("no length"));
        assert!(quiet("22:00", "07:00", "Mars/North").check().unwrap_err().to_string().contains("IANA"));
    }
}
