//! What a reader wants to be told, as bodies say it and answers show it.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::civil::Time;
use serde::{Deserialize, Serialize};
use trough_store::rule::Scope;
use trough_store::subscription::{NewSubscription, Quiet, QuietHours, Target};
use trough_store::webhook::{Reach, shown};
use trough_store::{EventKind, ReaderName, RuleName, SealKey, Subscription, SubscriptionId};
use utoipa::ToSchema;

use super::body::{bad, present};
use super::encode::time_text;
use super::notice_refusal::NoticeRefusal;
use super::notices::{ScopeForm, all_devices};
use super::openapi::schemas;
use super::refusal::Refusal;

/// When nothing is to be sent.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = QuietHours)]
pub(super) struct QuietJson {
    /// From when on.
    #[schema(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?$")]
    from: String,
    /// Until when; the next day, if it is before `from`.
    #[schema(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?$")]
    to: String,
    /// The time zone by its IANA name.
    zone: String,
    /// `hold`: events of that time are sent at its end. `drop`: never.
    #[schema(value_type = schemas::Quiet, inline)]
    then: Quiet,
}

impl QuietJson {
    fn read(self) -> Result<QuietHours, Refusal> {
        let time = |name: &str, text: &str| {
            let has_form = matches!(text.len(), 5 | 8)
                && text.bytes().enumerate().all(|(at, byte)| match at % 3 {
                    2 => byte == b':',
                    _ => byte.is_ascii_digit(),
                });
            let time: Option<Time> = has_form.then(|| text.parse().ok()).flatten();
            // jiff reads a leap second, too.
            time.filter(|_| text.get(6..) != Some("60")).ok_or_else(|| {
                bad(format_args!("quiet.{name} is {text:?}: use a time of the day such as 22:00"))
            })
        };
        let (from, to) = (time("from", &self.from)?, time("to", &self.to)?);
        let quiet = QuietHours { from, to, zone: self.zone, then: self.then };
        quiet.check().map_err(bad)?;
        Ok(quiet)
    }

    fn of(quiet: &QuietHours) -> Self {
        let (from, to) = (quiet.from.to_string(), quiet.to.to_string());
        Self { from, to, zone: quiet.zone.clone(), then: quiet.then }
    }
}

/// What is wanted: exactly one of `url` and `push`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewSubscription, example = json!({
    "events": ["device.offline"], "scope": {"groups": ["buses"]}, "url": "https://example.com/hook", "coalesce_s": 60,
}))]
pub(super) struct NewJson {
    /// Kinds of events; all, if there are none.
    #[serde(default)]
    #[schema(value_type = Vec<schemas::EventKind>)]
    events: BTreeSet<EventKind>,
    /// Rules whose events are meant; all, if there are none.
    #[serde(default)]
    #[schema(value_type = Vec<schemas::RuleName>, max_items = 1000)]
    rules: BTreeSet<RuleName>,
    /// Which devices, of those that you see.
    #[serde(default = "all_devices")]
    #[schema(value_type = ScopeForm)]
    scope: Scope,
    /// Send to this URL, as a webhook.
    #[schema(max_length = 2048)]
    url: Option<String>,
    /// Push to all phones that you have registered.
    #[serde(default)]
    push: bool,
    /// When nothing is to be sent.
    quiet: Option<QuietJson>,
    /// At most one in this time of the same kind, rule and device, in seconds.
    #[serde(default)]
    #[schema(maximum = 2_592_000)]
    coalesce_s: u64,
}

impl NewJson {
    /// What it asks for, checked as far as that goes without looking at devices. A webhook has its key already: to be
    /// shown once.
    pub(super) fn read(
        self,
        id: SubscriptionId,
        owner: &ReaderName,
        reach: Reach,
        seal: impl FnOnce() -> Result<SealKey, Refusal>,
    ) -> Result<NewSubscription, Refusal> {
        let target = match (self.url, self.push) {
            (Some(url), false) => {
                reach.check(&url).map_err(bad)?;
                let key = trough_store::webhook::new_key();
                let keys = vec![seal()?.seal(&key, &id.to_string())];
                Target::Webhook { url, keys, old_key_until: None }
            }
            (None, true) => Target::Push,
            _ => return Err(bad("give url, or push as true, and not both")),
        };
        let wanted = NewSubscription {
            id,
            owner: owner.clone(),
            events: self.events,
            rules: self.rules,
            scope: self.scope,
            target,
            quiet: self.quiet.map(QuietJson::read).transpose()?,
            coalesce: Duration::from_secs(self.coalesce_s),
        };
        wanted.check().map_err(bad)?;
        Ok(wanted)
    }
}

/// What is to be different; what is not named stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SubscriptionChanges, example = json!({"events": ["device.offline", "device.online"], "quiet": null}))]
pub(super) struct ChangesJson {
    /// As of a new one.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Vec<schemas::EventKind>>, nullable = false)]
    events: Option<BTreeSet<EventKind>>,
    /// As of a new one.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Vec<schemas::RuleName>>, nullable = false, max_items = 1000)]
    rules: Option<BTreeSet<RuleName>>,
    /// As of a new one.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<ScopeForm>, nullable = false)]
    scope: Option<Scope>,
    /// Another URL of a webhook. Its secret stays.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false, max_length = 2048)]
    url: Option<String>,
    /// Other quiet hours; `null`: none.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<QuietJson>)]
    quiet: Option<Option<QuietJson>>,
    /// As of a new one.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false, maximum = 2_592_000)]
    coalesce_s: Option<u64>,
}

impl ChangesJson {
    /// Whose events are wanted from now on, if that is named.
    pub(super) fn scope(&self) -> Option<&Scope> {
        self.scope.as_ref()
    }

    /// Makes the changes, checked as far as that goes without looking at devices.
    pub(super) fn apply(&self, wanted: &mut NewSubscription, reach: Reach) -> Result<(), Refusal> {
        if let Some(new) = &self.url {
            let Target::Webhook { url, .. } = &mut wanted.target else {
                return Err(NoticeRefusal::NotAWebhook(wanted.id.to_string()).into());
            };
            reach.check(new).map_err(bad)?;
            url.clone_from(new);
        }
        if let Some(events) = &self.events {
            wanted.events.clone_from(events);
        }
        if let Some(rules) = &self.rules {
            wanted.rules.clone_from(rules);
        }
        if let Some(scope) = &self.scope {
            wanted.scope.clone_from(scope);
        }
        if let Some(quiet) = &self.quiet {
            wanted.quiet = quiet.clone().map(QuietJson::read).transpose()?;
        }
        wanted.coalesce = self.coalesce_s.map_or(wanted.coalesce, Duration::from_secs);
        wanted.check().map_err(bad)
    }
}

/// Why nothing is sent.
#[derive(Serialize, ToSchema)]
#[schema(as = Disabled)]
struct DisabledJson {
    /// Since when.
    #[schema(format = DateTime)]
    at: String,
    /// Why.
    reason: String,
}

/// A subscription.
#[derive(Serialize, ToSchema)]
#[schema(as = Subscription)]
pub(super) struct SubscriptionJson {
    /// Its id.
    #[schema(pattern = "^sub_[0-9a-f]{32}$")]
    id: String,
    /// Whose it is.
    owner: String,
    /// Kinds of events; all, if there are none.
    #[schema(value_type = Vec<schemas::EventKind>)]
    events: BTreeSet<EventKind>,
    /// Rules whose events are meant; all, if there are none.
    #[schema(value_type = Vec<schemas::RuleName>)]
    rules: BTreeSet<RuleName>,
    /// Which devices, of those that the reader sees at the time.
    #[schema(value_type = ScopeForm)]
    scope: Scope,
    /// Where to, if it is a webhook: without user and password, and with `***` for the query, as there may be secrets in them.
    #[schema(required)]
    url: Option<String>,
    /// Whether it is for phones.
    push: bool,
    /// When nothing is sent.
    #[schema(required)]
    quiet: Option<QuietJson>,
    /// At most one in this time of the same kind, rule and device, in seconds.
    coalesce_s: u64,
    /// Since when. Events from before are not told.
    #[schema(format = DateTime)]
    created_at: String,
    /// Why nothing is sent; `null` while something is.
    #[schema(required)]
    disabled: Option<DisabledJson>,
    /// What a webhook's requests are signed with: only in the answer that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, pattern = "^whsec_[A-Za-z0-9+/]{43}=$")]
    secret: Option<String>,
}

impl SubscriptionJson {
    /// Without its secret.
    pub(super) fn of(subscription: &Subscription) -> Self {
        let wanted = &subscription.wanted;
        let disabled = subscription.disabled.as_ref();
        Self {
            id: wanted.id.to_string(),
            owner: wanted.owner.to_string(),
            events: wanted.events.clone(),
            rules: wanted.rules.clone(),
            scope: wanted.scope.clone(),
            url: match &wanted.target {
                Target::Webhook { url, .. } => Some(shown(url)),
                Target::Push => None,
            },
            push: wanted.target == Target::Push,
            quiet: wanted.quiet.as_ref().map(QuietJson::of),
            coalesce_s: wanted.coalesce.as_secs(),
            created_at: time_text(subscription.created_at),
            disabled: disabled
                .map(|disabled| DisabledJson { at: time_text(disabled.at), reason: disabled.reason.clone() }),
            secret: None,
        }
    }

    /// With what is shown once.
    pub(super) fn with_secret(self, secret: Option<String>) -> Self {
        Self { secret, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::body::object;

    fn read(body: &str) -> Result<NewSubscription, Refusal> {
        let owner = "ios".parse().unwrap();
        let seal = || Ok(SealKey::new(&[7; 32]));
        object::<NewJson>(body.as_bytes())?.read(SubscriptionId([1; 16]), &owner, Reach::default(), seal)
    }

    #[test]
    fn takes_what_there_is_and_nothing_else() {
        let wanted = read(
            r#"{"events":["device.offline"],"rules":["fast"],"scope":{"groups":["a"]},"url":"https://example.com/",
                "quiet":{"from":"22:00","to":"07:00:30","zone":"UTC","then":"drop"},"coalesce_s":60}"#,
        )
        .unwrap();
        assert_eq!(
            (wanted.coalesce.as_secs(), wanted.quiet.unwrap().to.to_string()),
            (60, "07:00:30".into())
        );
        assert_eq!(read(r#"{"push":true,"url":null,"quiet":null}"#).unwrap().scope, Scope::All);
        for (body, words) in [
            ("{}", "give url, or push"),
            (r#"{"push":true,"url":"https://example.com/"}"#, "not both"),
            (r#"{"push":true,"name":"x"}"#, "unknown field `name`"),
            (r#"{"push":true,"events":["device.gone"]}"#, "device.gone"),
            (r#"{"push":true,"scope":{"devices":[]}}"#, "1 to 1000"),
            (r#"{"push":true,"coalesce_s":2592001}"#, "2592001"),
            (r#"{"url":"https://10.0.0.1/"}"#, "10.0.0.1"),
            (r#"{"url":"http://example.com/"}"#, "https"),
            (r#"{"push":true,"quiet":{"from":"22","to":"07:00","zone":"UTC","then":"drop"}}"#, "quiet.from"),
            (r#"{"push":true,"quiet":{"from":"22:00","to":"24:00","zone":"UTC","then":"drop"}}"#, "quiet.to"),
            (
                r#"{"push":true,"quiet":{"from":"22:00","to":"07:00:60","zone":"UTC","then":"drop"}}"#,
                "quiet.to",
            ),
            (r#"{"push":true,"quiet":{"from":"22:00","to":"07:00","zone":"Mars","then":"drop"}}"#, "IANA"),
        ] {
            let refused = read(body).unwrap_err().to_string();
            assert!(refused.contains(words), "{body}: {refused}");
        }
    }

    #[test]
    fn what_is_not_named_stays() {
        let before =
            read(r#"{"events":["gap.opened"],"url":"https://example.com/","coalesce_s":5}"#).unwrap();
        let changed = |body: &str| {
            let mut wanted = before.clone();
            object::<ChangesJson>(body.as_bytes()).unwrap().apply(&mut wanted, Reach::default())?;
            Ok::<_, Refusal>(wanted)
        };
        assert_eq!(changed("{}").unwrap(), before);
        let other = changed(r#"{"events":[],"url":"https://example.org/"}"#).unwrap();
        assert!(other.events.is_empty() && other.coalesce == before.coalesce);
        let (Target::Webhook { keys, .. }, Target::Webhook { keys: kept, url, .. }) =
            (&before.target, &other.target)
        else {
            panic!("{other:?}");
        };
        assert_eq!((keys, url.as_str()), (kept, "https://example.org/"));
        assert!(changed(r#"{"url":"https://127.0.0.1/"}"#).is_err());
        assert!(object::<ChangesJson>(br#"{"url":null}"#).is_err());
    }
}
