//! A number in JSON payloads: when it begins to be so, and when it ends.

use serde::Serialize;
use trough_protocol::Channel;
use trough_store::EventKind;
use trough_store::when::When;

use super::frame::Seen;
use super::happening::Happening;
use super::matching::{Change, Matching};
use crate::json::Pointer;

/// A condition on a number.
#[derive(Debug)]
pub(super) struct Compare {
    pub channel: Option<Channel>,
    pub when: When,
    pub pointer: Pointer,
}

/// What subscribers are told.
#[derive(Serialize)]
struct Data<'a> {
    when: &'a When,
    value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    per_second: Option<f64>,
    channel: &'a str,
}

impl Compare {
    /// The number that a frame has for it, if it has one.
    pub fn number(&self, seen: &Seen<'_>) -> Option<f64> {
        let wanted = self.channel.as_ref().is_none_or(|channel| channel.as_str() == seen.frame.channel);
        seen.number_at(&self.pointer).filter(|_| wanted)
    }

    /// A frame without the number changes nothing.
    pub fn take(&self, matching: &mut Matching, seen: &Seen<'_>) -> Option<Happening> {
        let number = self.number(seen)?;
        let change = matching.take(&self.when, number, seen.frame.ts)?;
        Some(self.happening(change, number, None, seen))
    }

    pub fn happening(
        &self,
        change: Change,
        value: f64,
        per_second: Option<f64>,
        seen: &Seen<'_>,
    ) -> Happening {
        let kind = match change {
            Change::Matched => EventKind::RuleMatched,
            Change::Cleared => EventKind::RuleCleared,
        };
        let data = Data { when: &self.when, value, per_second, channel: seen.frame.channel };
        Happening::new(kind, seen.frame.ts, seen.number, &data)
    }
}
