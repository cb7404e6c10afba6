//! The body of a request that makes a command.

use serde::Deserialize;
use serde_json::value::RawValue;
use trough_protocol::Micros;
use trough_protocol::device::json::PayloadMembers;
use trough_protocol::limits::{COMMAND_BYTES_MAX, INT_MAX};
use trough_protocol::wire::WireError;
use trough_runtime::clock::micros;
use trough_store::commands::{CommandPayload, EXPIRES_DEFAULT, EXPIRES_MAX};

use super::body::{bad, object, present};
use super::params::parse_rfc3339;
use super::refusal::Refusal;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    /// What to do.
    pub payload: CommandPayload,
    /// Until when.
    pub expires_at: Micros,
}

/// A time in either of its forms.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Instant {
    Micros(u64),
    Text(String),
}

// `"json":null` is a payload.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BodyJson {
    #[serde(default, deserialize_with = "present")]
    json: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "present")]
    text: Option<String>,
    #[serde(default, deserialize_with = "present")]
    b64: Option<String>,
    #[serde(default, deserialize_with = "present")]
    content_type: Option<String>,
    #[serde(default, deserialize_with = "present")]
    expires_in: Option<u64>,
    #[serde(default, deserialize_with = "present")]
    expires_at: Option<Instant>,
}

/// Reads the body.
///
/// # Errors
/// [`Refusal::BadBody`], naming the member and what is accepted.
pub fn parse(body: &[u8], now: Micros) -> Result<Asked, Refusal> {
    let body: BodyJson = object(body)?;
    let members = PayloadMembers {
        json: body.json.as_deref(),
        text: body.text.as_deref(),
        b64: body.b64.as_deref(),
        content_type: body.content_type.as_deref(),
    };
    let (content_type, payload) =
        members.take(format_args!("the command")).map_err(|error| bad(fault(&error)))?;
    if payload.len() > COMMAND_BYTES_MAX {
        let bytes = payload.len();
        return Err(bad(format!("the payload has {bytes} bytes: use {COMMAND_BYTES_MAX} at most")));
    }
    let payload =
        CommandPayload { content_type: content_type.as_str().to_owned(), bytes: payload.into_owned() };
    let longest = EXPIRES_MAX.as_secs();
    let expires_at = match (body.expires_in, body.expires_at) {
        (None, None) => now + micros(EXPIRES_DEFAULT),
        (Some(seconds), None) if (1..=longest).contains(&seconds) => now + seconds * 1_000_000,
        (Some(seconds), None) => {
            return Err(bad(format!("expires_in is {seconds}: use 1 to {longest} seconds")));
        }
        (None, Some(at)) => instant(at, now).map_err(bad)?,
        (Some(_), Some(_)) => return Err(bad("give expires_in or expires_at, not both")),
    };
    Ok(Asked { payload, expires_at })
}

/// What is wrong with a payload, without the name of the device protocol.
fn fault(error: &WireError) -> String {
    match error {
        WireError::Json(text) => text.clone(),
        other => other.to_string(),
    }
}

fn instant(at: Instant, now: Micros) -> Result<Micros, String> {
    let (at, shown) = match at {
        Instant::Micros(at) => (Some(at), at.to_string()),
        Instant::Text(text) => (parse_rfc3339(&text), format!("{text:?}")),
    };
    let range = now + 1..=(now + micros(EXPIRES_MAX)).min(INT_MAX);
    at.filter(|at| range.contains(at)).ok_or_else(|| {
        format!(
            "expires_at is {shown}: use RFC 3339 with an offset, or whole microseconds since 1970, of a time that is to \
             come, within 30 days"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Micros = 1_700_000_000_000_000;

    #[test]
    fn takes_each_form_of_payload_and_time() {
        let of = |body: &str| parse(body.as_bytes(), NOW).unwrap_or_else(|error| panic!("{body}: {error}"));
        let hour = NOW + 3_600_000_000;
        for (body, content_type, bytes, expires_at) in [
            (r#"{"json":{"a": 1}}"#, "application/json", r#"{"a": 1}"#, hour),
            (r#"{"json":null,"expires_in":60}"#, "application/json", "null", NOW + 60_000_000),
            (r#"{"text":"go"}"#, "text/plain; charset=utf-8", "go", hour),
            (r#"{"b64":"Z28="}"#, "application/octet-stream", "go", hour),
            (r#"{"b64":"","content_type":"a/b","expires_at":1700000000000001}"#, "a/b", "", NOW + 1),
            (
                r#"{"text":"","expires_at":"2023-11-14T22:13:21Z"}"#,
                "text/plain; charset=utf-8",
                "",
                NOW + 1_000_000,
            ),
        ] {
            let asked = of(body);
            assert_eq!(asked.payload.content_type, content_type);
            assert_eq!((asked.payload.bytes, asked.expires_at), (bytes.as_bytes().to_vec(), expires_at));
        }
    }

    #[test]
    fn refuses_what_it_does_not_know_by_name() {
        let large = format!(r#"{{"text":"{}"}}"#, "x".repeat(COMMAND_BYTES_MAX + 1));
        for (body, words) in [
            ("", "EOF"),
            ("[]", "not a JSON object"),
            ("{}", "exactly one of json, text and b64"),
            (r#"{"text":"a","json":1}"#, "exactly one of"),
            (r#"{"text":"a","text":"b"}"#, "duplicate field"),
            (r#"{"text":null}"#, "null"),
            (r#"{"text":"a","ttl":1}"#, "unknown field `ttl`"),
            (r#"{"text":"a","content_type":"a/b"}"#, "goes only with b64"),
            (r#"{"b64":"?"}"#, "base64 with padding"),
            (r#"{"json":"\ud800"}"#, "surrogate"),
            (r#"{"text":"a","expires_in":0}"#, "use 1 to 2592000 seconds"),
            (r#"{"text":"a","expires_in":2592001}"#, "use 1 to 2592000 seconds"),
            (r#"{"text":"a","expires_in":1.5}"#, "expected u64"),
            (r#"{"text":"a","expires_in":1,"expires_at":2}"#, "not both"),
            (r#"{"text":"a","expires_at":1}"#, "a time that is to come"),
            (r#"{"text":"a","expires_at":"tomorrow"}"#, "RFC 3339"),
            (&large, "16385 bytes: use 16384"),
        ] {
            let refused = parse(body.as_bytes(), NOW).unwrap_err().to_string();
            assert!(refused.contains(words), "{body}: {refused}");
        }
    }
}
