//! What Apple answers (its page "Handling notification responses from APNs").

use std::time::Duration;

use serde::Deserialize;
use trough_protocol::Micros;

use crate::tried::{Tried, Verdict};

/// Wait at least so long after Apple took offence at our tokens.
const OFFENDED: Duration = Duration::from_secs(5 * 60);

/// The body of a refusal.
#[derive(Debug, Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    reason: String,
    /// With 410: when Apple last knew that the token is not valid any more, in ms since 1970.
    timestamp: Option<u64>,
}

/// What an answer means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// For the delivery.
    pub tried: Tried,
    /// It is our fault, not the phone's: somebody must look.
    pub ours: bool,
}

/// Reads an answer. `registered_at` is when the phone was registered: whoever did that after Apple gave it up is there.
pub fn read(status: u16, body: &[u8], asked: Option<Duration>, registered_at: Micros) -> Answer {
    let refusal: Refusal = serde_json::from_slice(body).unwrap_or_default();
    let reason = refusal.reason.as_str();
    let ours = matches!(
        reason,
        "ExpiredProviderToken"
            | "InvalidProviderToken"
            | "MissingProviderToken"
            | "TooManyProviderTokenUpdates"
            | "BadCertificate"
            | "BadCertificateEnvironment"
            | "UnrelatedKeyIdInToken"
            | "BadEnvironmentKeyInToken"
            | "Forbidden"
    );
    let verdict = match (status, reason) {
        (200..=299, _) => Verdict::Delivered,
        _ if ours => Verdict::Again(Some(asked.unwrap_or_default().max(OFFENDED))),
        (410, _) if refusal.timestamp.is_some_and(|ms| ms.saturating_mul(1000) < registered_at) => {
            Verdict::Again(None)
        }
        (410, _) | (_, "Unregistered") => Verdict::Gone,
        (429 | 500..=599, _) => Verdict::Again(asked),
        // What is wrong with it is wrong with it every time: its topic, its size, or a token of Apple's other server
        // (BadDeviceToken): that is a mistake of whoever registered it, and may be mended.
        (400..=499, _) => Verdict::Never,
        _ => Verdict::Again(None),
    };
    let mut said = if status == 200 { "200 OK".to_owned() } else { status.to_string() };
    if !reason.is_empty() {
        said.push_str(&format!(" {reason}"));
    }
    if reason == "DeviceTokenNotForTopic" || reason == "TopicDisallowed" {
        said.push_str(" (the push token was registered with the bundle id of another app)");
    }
    Answer { tried: Tried::answered(status, verdict, said), ours }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(status: u16, body: &str) -> (Verdict, bool) {
        let answer = read(status, body.as_bytes(), Some(Duration::from_secs(7)), 2_000_000);
        (answer.tried.verdict, answer.ours)
    }

    #[test]
    fn every_answer_has_a_consequence() {
        let asked = Some(Duration::from_secs(7));
        let offended = Verdict::Again(Some(OFFENDED));
        for (status, body, expected) in [
            (200, "", (Verdict::Delivered, false)),
            (410, r#"{"reason":"Unregistered","timestamp":2001}"#, (Verdict::Gone, false)),
            (410, r#"{"reason":"Unregistered","timestamp":1999}"#, (Verdict::Again(None), false)),
            (410, r#"{"reason":"ExpiredToken"}"#, (Verdict::Gone, false)),
            (400, r#"{"reason":"BadDeviceToken"}"#, (Verdict::Never, false)),
            (400, r#"{"reason":"DeviceTokenNotForTopic"}"#, (Verdict::Never, false)),
            (413, r#"{"reason":"PayloadTooLarge"}"#, (Verdict::Never, false)),
            (403, r#"{"reason":"ExpiredProviderToken"}"#, (offended, true)),
            (403, r#"{"reason":"InvalidProviderToken"}"#, (offended, true)),
            (429, r#"{"reason":"TooManyProviderTokenUpdates"}"#, (offended, true)),
            (429, r#"{"reason":"TooManyRequests"}"#, (Verdict::Again(asked), false)),
            (500, r#"{"reason":"InternalServerError"}"#, (Verdict::Again(asked), false)),
            (503, "<html>", (Verdict::Again(asked), false)),
            (302, "", (Verdict::Again(None), false)),
        ] {
            assert_eq!(verdict(status, body), expected, "{status} {body}");
        }
    }
}
