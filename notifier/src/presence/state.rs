//! What a rule knows of a device's presence.

use serde_json::json;
use serde_json::value::to_raw_value;
use trough_protocol::{DeviceId, Micros};
use trough_store::outbox::WatchState;
use trough_store::rule::Rule;
use trough_store::{Event, EventId, EventKind};

/// The first byte of a state.
const FORMAT: u8 = 1;

/// What was decided last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// Offline, or online.
    pub offline: bool,
    /// Rises with every change; it begins with the time of the first.
    pub changes: u64,
    /// When it was heard last before it went offline.
    pub heard_at: Micros,
}

impl State {
    /// Format, offline, changes, heard; little-endian.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT, u8::from(self.offline)];
        bytes.extend_from_slice(&self.changes.to_le_bytes());
        bytes.extend_from_slice(&self.heard_at.to_le_bytes());
        bytes
    }

    /// `None` if it is none of this release: the rule begins anew.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let [FORMAT, offline, rest @ ..] = bytes else { return None };
        let (changes, heard_at) = rest.split_at_checked(8)?;
        Some(Self {
            offline: *offline == 1,
            changes: u64::from_le_bytes(changes.try_into().ok()?),
            heard_at: u64::from_le_bytes(heard_at.try_into().ok()?),
        })
    }
}

/// What a look at a device comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What is known from now on.
    pub state: State,
    /// Whether anybody is to be told.
    pub told: bool,
}

/// How a device stands under a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is heard.
    Online {
        /// When its session began.
        since: Micros,
    },
    /// It is not, and the time is over.
    Offline {
        /// When it was heard last.
        heard_at: Micros,
    },
}

/// What a standing changes, if anything.
///
/// A device that is seen for the first time is news if it came after the rule; one that was gone already when the rule was
/// set is none until it comes back.
///
/// Changes are counted from that time and not from 1: a device may leave a rule's group and come again, and what it does then
/// must not have the number of what it did before.
pub fn decide(known: Option<State>, standing: Standing, rule: &Rule) -> Option<Decision> {
    match (known, standing) {
        (None, Standing::Online { since }) => {
            let state = State { offline: false, changes: since, heard_at: 0 };
            Some(Decision { state, told: since >= rule.set_at })
        }
        (None, Standing::Offline { heard_at }) => {
            // It may have come and gone while nobody decided.
            let told = heard_at >= rule.set_at;
            Some(Decision { state: State { offline: true, changes: heard_at, heard_at }, told })
        }
        (Some(known), Standing::Online { .. }) if known.offline => {
            let state = State { offline: false, changes: known.changes + 1, ..known };
            Some(Decision { state, told: true })
        }
        (Some(known), Standing::Offline { heard_at }) if !known.offline => {
            let state = State { offline: true, changes: known.changes + 1, heard_at };
            Some(Decision { state, told: true })
        }
        _ => None,
    }
}

impl Decision {
    /// As it is stored.
    pub fn stored(&self, rule: &Rule, device: &DeviceId) -> WatchState {
        WatchState {
            device: device.clone(),
            rule: rule.rule.name.clone(),
            version: rule.version,
            state: self.state.encode(),
        }
    }

    /// As subscribers are told, if they are. Its id follows from how often the device has changed, which is stored with it.
    pub fn event(&self, rule: &Rule, device: &DeviceId, after_s: u64, now: Micros) -> Option<Event> {
        let kind = if self.state.offline { EventKind::DeviceOffline } else { EventKind::DeviceOnline };
        let data = match (self.state.offline, self.state.heard_at) {
            (true, heard_at) => json!({ "after_s": after_s, "heard_at": heard_at }),
            (false, 0) => json!({ "after_s": after_s }),
            (false, heard_at) => json!({ "after_s": after_s, "offline_since": heard_at }),
        };
        let id = EventId::of(&[
            rule.rule.name.as_str().as_bytes(),
            &rule.version.to_be_bytes(),
            device.as_str().as_bytes(),
            &self.state.changes.to_be_bytes(),
            kind.as_str().as_bytes(),
        ]);
        Some(Event {
            id,
            kind,
            at: now,
            rule: Some(rule.rule.name.clone()),
            device: Some(device.clone()),
            group: None,
            frame: None,
            trace: None,
            // Numbers and fixed names: it cannot fail.
            data: to_raw_value(&data).ok()?,
        })
        .filter(|_| self.told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(set_at: Micros) -> Rule {
        let rule = r#"{"name":"gone","scope":"all","condition":{"kind":"presence","after_s":60}}"#;
        Rule { rule: serde_json::from_str(rule).unwrap(), version: 3, set_at }
    }

    #[test]
    fn states_are_read_as_written() {
        let state = State { offline: true, changes: 7, heard_at: 1_700_000_000_000_000 };
        assert_eq!(State::decode(&state.encode()), Some(state));
        assert_eq!(State::decode(&[2, 0]), None);
        assert_eq!(State::decode(&[]), None);
        assert_eq!(State::decode(&state.encode()[..12]), None);
    }

    #[test]
    fn each_change_is_told_once() {
        let (rule, device) = (rule(1000), DeviceId::new("bus-1").unwrap());
        let mut known = None;
        let mut told = Vec::new();
        let online = Standing::Online { since: 1500 };
        let offline = Standing::Offline { heard_at: 2000 };
        for standing in [online, online, offline, offline, online, offline] {
            if let Some(decision) = decide(known, standing, &rule) {
                known = Some(decision.state);
                told.extend(decision.event(&rule, &device, 60, 5000));
            }
        }
        let kinds: Vec<_> = told.iter().map(|event| event.kind).collect();
        use EventKind::{DeviceOffline, DeviceOnline};
        assert_eq!(kinds, [DeviceOnline, DeviceOffline, DeviceOnline, DeviceOffline]);
        let mut ids: Vec<_> = told.iter().map(|event| event.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 4);
        assert_eq!(told[1].data.get(), r#"{"after_s":60,"heard_at":2000}"#);
    }

    #[test]
    fn what_was_so_before_the_rule_is_no_news() {
        let rule = rule(1000);
        let online = decide(None, Standing::Online { since: 900 }, &rule).unwrap();
        let offline = decide(None, Standing::Offline { heard_at: 900 }, &rule).unwrap();
        assert!(!online.told && !offline.told);
        assert!(decide(Some(online.state), Standing::Offline { heard_at: 1500 }, &rule).unwrap().told);
        assert!(decide(Some(offline.state), Standing::Online { since: 1500 }, &rule).unwrap().told);
    }
}
