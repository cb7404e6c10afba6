//! Events: what happened, as subscribers are told.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use trough_protocol::{DeviceId, Epoch, Micros, Seq};
use trough_runtime::trace::TraceContext;

use crate::error::RegistryError;
use crate::hashed_id::hashed_id;
use crate::names::{Group, RuleName};

/// Largest [`Event::data`], in bytes.
pub const EVENT_DATA_BYTES_MAX: usize = 2048;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal,)*) => {
        /// What happened.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum EventKind {
            $($(#[$doc])* #[serde(rename = $name)] $kind,)*
        }

        impl EventKind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];

            /// Its name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }
        }
    };
}

kinds! {
    /// A comparison or a rate began to hold.
    RuleMatched = "rule.matched",
    /// It ended.
    RuleCleared = "rule.cleared",
    /// A device came into an area.
    GeofenceEntered = "geofence.entered",
    /// It left it.
    GeofenceLeft = "geofence.left",
    /// A channel has had no frame for a time.
    ChannelSilent = "channel.silent",
    /// It has one again.
    ChannelResumed = "channel.resumed",
    /// Nothing was heard of a device for a time.
    DeviceOffline = "device.offline",
    /// It was heard again, or for the first time.
    DeviceOnline = "device.online",
    /// A device sent its very first frame.
    DeviceFirstFrame = "device.first_frame",
    /// A device declared frames lost.
    GapOpened = "gap.opened",
    /// It went on behind them.
    GapClosed = "gap.closed",
    /// Retention removed frames of a group.
    RetentionRun = "retention.run",
    /// Somebody pressed the button.
    Test = "subscription.test",
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for EventKind {
    type Err = RegistryError;
    fn from_str(s: &str) -> Result<Self, RegistryError> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == s).ok_or_else(|| {
            let shown: String = s.chars().take(80).collect();
            let known: Vec<_> = Self::ALL.iter().map(|kind| kind.as_str()).collect();
            RegistryError::Invalid(format!("event {shown:?} is not known: use {}", known.join(", ")))
        })
    }
}

hashed_id!(
    /// An event's id. It follows from what the event is about, so whoever finds the event again gives it the same one.
    EventId,
    "evt_"
);

/// Which frame of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FrameNumber {
    /// In which numbering.
    pub epoch: Epoch,
    /// Its number.
    pub seq: Seq,
}

impl FrameNumber {
    /// As a part of an id.
    pub fn to_bytes(self) -> [u8; 16] {
        (u128::from(self.epoch.0) << 64 | u128::from(self.seq.0)).to_be_bytes()
    }
}

/// Something that happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event {
    /// Always the same for the same happening.
    pub id: EventId,
    /// What.
    pub kind: EventKind,
    /// When: by the device's time if a frame brought it about, else by the clock of the database. µs since 1970.
    pub at: Micros,
    /// Which rule says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleName>,
    /// Of which device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// Of which group, if it is about no device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Group>,
    /// The frame that brought it about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<FrameNumber>,
    /// What it is a part of, if the frame's way is traced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceContext>,
    /// What else there is to say: a JSON object, at most [`EVENT_DATA_BYTES_MAX`].
    pub data: Box<RawValue>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_from_their_parts() {
        let id = EventId::of(&[b"fast", b"bus-1"]);
        assert_eq!(id, EventId::of(&[b"fast", b"bus-1"]));
        assert_ne!(id, EventId::of(&[b"fastb", b"us-1"]));
        assert_eq!(id.to_string().parse::<EventId>().unwrap(), id);
        for bad in [
            "",
            "evt_",
            "evt_zz",
            &id.to_string().to_uppercase(),
            &format!("{id}0"),
            "evt_+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1",
        ] {
            assert!(bad.parse::<EventId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn kinds_have_names() {
        for kind in EventKind::ALL {
            assert_eq!(kind.as_str().parse::<EventKind>().unwrap(), *kind);
            assert_eq!(serde_json::to_string(kind).unwrap(), format!("\"{kind}\""));
        }
        assert!("device.gone".parse::<EventKind>().unwrap_err().to_string().contains("device.offline"));
    }
}
