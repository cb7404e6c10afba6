//! Rules: what of all that happens is an event.
//!
//! A rule looks at some devices, each for itself, and its state of a device is a function of that device's frames in the
//! order of their numbers: whoever reads the same frames finds the same events, with the same ids.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use trough_protocol::{Channel, DeviceId, Micros};

use crate::area::Area;
use crate::error::RegistryError;
use crate::names::{Group, RuleName};
use crate::when::When;

/// Most rules that there may be.
pub const RULES_MAX: usize = 10_000;
/// Most devices, or groups, that a rule or a subscription names one by one.
pub const SCOPE_NAMES_MAX: usize = 1_000;
/// Shortest time after which a device may count as offline: above the longest silence between a server's ping and the
/// end of a session that does not answer it.
pub const OFFLINE_AFTER_MIN: Duration = Duration::from_secs(30);
/// Shortest time after which a channel may count as silent.
pub const SILENT_AFTER_MIN: Duration = Duration::from_secs(1);
/// Longest time of either kind: 30 days.
pub const AFTER_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Which devices are meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Every device.
    All,
    /// These.
    Devices(BTreeSet<DeviceId>),
    /// Those that are in one of these groups at the time.
    Groups(BTreeSet<Group>),
}

impl Scope {
    /// Whether a device that is in these groups is meant.
    pub fn contains(&self, device: &DeviceId, groups: &BTreeSet<Group>) -> bool {
        match self {
            Self::All => true,
            Self::Devices(devices) => devices.contains(device),
            Self::Groups(mine) => !mine.is_disjoint(groups),
        }
    }

    /// Checks that somebody is named, and not too many.
    ///
    /// # Errors
    /// [`RegistryError::Invalid`].
    pub fn check(&self) -> Result<(), RegistryError> {
        let (count, what) = match self {
            Self::All => return Ok(()),
            Self::Devices(devices) => (devices.len(), "devices"),
            Self::Groups(groups) => (groups.len(), "groups"),
        };
        if (1..=SCOPE_NAMES_MAX).contains(&count) {
            return Ok(());
        }
        Err(RegistryError::Invalid(format!(
            "{count} {what} are named: name 1 to {SCOPE_NAMES_MAX}, or \"all\" for every device"
        )))
    }
}

/// What a rule waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Condition {
    /// A number in JSON payloads: `rule.matched` when it begins to be so (and has been for long enough),
    /// `rule.cleared` when it ends.
    Compare {
        /// Only frames of this channel; of all channels if it is not there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        channel: Option<Channel>,
        /// `/speed > 30 clear 28 for 60s`.
        when: When,
    },
    /// The change of a number per second of the device's time, from one frame that has it to the next: as `Compare`.
    Rate {
        /// As of `Compare`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        channel: Option<Channel>,
        /// `/level < -0.5`: falls by more than a half in a second.
        when: When,
    },
    /// Positions in an area, of the channels that the registry says carry positions: `geofence.entered` and
    /// `geofence.left`. The first position of a device outside of it is no event, one inside is.
    Geofence {
        /// Where.
        area: Area,
    },
    /// No frame of a channel for a time, by the eaters' clocks: `channel.silent`, and `channel.resumed` with the next one.
    /// A channel that never had a frame is not silent.
    Silence {
        /// Which channel.
        channel: Channel,
        /// For how long.
        #[serde(rename = "after_s", with = "seconds")]
        after: Duration,
    },
    /// Nothing heard of a device for a time: `device.offline`, and `device.online` when it is heard again, or for the
    /// first time.
    Presence {
        /// For how long.
        #[serde(rename = "after_s", with = "seconds")]
        after: Duration,
    },
    /// A device's very first frame: `device.first_frame`.
    FirstFrame,
    /// A device declared frames lost: `gap.opened`; the next frame behind them: `gap.closed`.
    Gaps,
}

impl Condition {
    /// Its name.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Compare { .. } => "compare",
            Self::Rate { .. } => "rate",
            Self::Geofence { .. } => "geofence",
            Self::Silence { .. } => "silence",
            Self::Presence { .. } => "presence",
            Self::FirstFrame => "first_frame",
            Self::Gaps => "gaps",
        }
    }

    fn check(&self) -> Result<(), RegistryError> {
        let (what, after, least) = match self {
            Self::Silence { after, .. } => ("silent", *after, SILENT_AFTER_MIN),
            Self::Presence { after } => ("offline", *after, OFFLINE_AFTER_MIN),
            Self::Geofence { area } => return area.check(),
            _ => return Ok(()),
        };
        if (least..=AFTER_MAX).contains(&after) {
            return Ok(());
        }
        Err(RegistryError::Invalid(format!(
            "{what} after {} s is out of range: use {} to {} seconds",
            after.as_secs(),
            least.as_secs(),
            AFTER_MAX.as_secs()
        )))
    }
}

/// A rule as somebody sets it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewRule {
    /// What it is called.
    pub name: RuleName,
    /// Whose frames.
    pub scope: Scope,
    /// What it waits for.
    pub condition: Condition,
}

impl NewRule {
    /// Checks what the types do not.
    ///
    /// # Errors
    /// [`RegistryError::Invalid`].
    pub fn check(&self) -> Result<(), RegistryError> {
        self.scope.check()?;
        self.condition.check()
    }
}

/// A rule that is set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// What was set.
    #[serde(flatten)]
    pub rule: NewRule,
    /// Rises whenever a rule of this name is set with other content, also after it was removed: what was known of devices
    /// under another version counts for nothing, and ids of events differ.
    pub version: u64,
    /// When it was set. Frames that were received earlier are none of its business.
    pub set_at: Micros,
}

/// Durations as whole seconds.
pub(crate) mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(duration.as_secs())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<NewRule, String> {
        let rule: NewRule = serde_json::from_str(text).map_err(|error| error.to_string())?;
        rule.check().map_err(|error| error.to_string())?;
        Ok(rule)
    }

    #[test]
    fn rules_are_read_and_written_the_same() {
        for text in [
            r#"{"name":"fast","scope":"all","condition":{"kind":"compare","channel":"can","when":"/speed > 30 clear 28 for 60s"}}"#,
            r#"{"name":"leak","scope":{"groups":["tanks"]},"condition":{"kind":"rate","when":"/level < -0.5"}}"#,
            r#"{"name":"yard","scope":{"devices":["bus-1"]},"condition":{"kind":"geofence","area":{"type":"Circle","center":[-97.7,30.2],"radius_m":250.0}}}"#,
            r#"{"name":"quiet","scope":"all","condition":{"kind":"silence","channel":"gps","after_s":300}}"#,
            r#"{"name":"gone","scope":"all","condition":{"kind":"presence","after_s":60}}"#,
            r#"{"name":"new","scope":"all","condition":{"kind":"first_frame"}}"#,
        ] {
            assert_eq!(serde_json::to_string(&parse(text).unwrap()).unwrap(), text);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (condition, needle) in [
            (r#"{"kind":"presence","after_s":29}"#, "30 to 2592000"),
            (r#"{"kind":"presence"}"#, "after_s"),
            (r#"{"kind":"presence","after_s":60,"x":1}"#, "x"),
            (r#"{"kind":"nothing"}"#, "nothing"),
            (r#"{"kind":"compare","when":"speed > 30"}"#, "JSON pointer"),
        ] {
            let text = format!(r#"{{"name":"a","scope":"all","condition":{condition}}}"#);
            let refused = parse(&text).unwrap_err();
            assert!(refused.contains(needle), "{refused}");
        }
        let nobody = r#"{"name":"a","scope":{"groups":[]},"condition":{"kind":"gaps"}}"#;
        assert!(parse(nobody).unwrap_err().contains("1 to 1000"));
    }
}
