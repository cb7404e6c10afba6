//! The WebSocket upgrade (RFC 6455, section 4.2): what a device asks for, and what it is told when it asks for
//! something else.

use std::time::Duration;

use http::header::{
    AUTHORIZATION, CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE, WWW_AUTHENTICATE,
};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use trough_protocol::Channel;
use trough_protocol::device::{PATH_RAW, PATH_STREAM, SUBPROTOCOL_BINARY, SUBPROTOCOL_JSON};
use trough_runtime::FullResponse;
use trough_runtime::problem::Problem;

/// The channel of raw frames when the device names none with `?channel=`.
const RAW_CHANNEL_DEFAULT: &str = "raw";
/// Longest token or ticket that is looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 256;

/// How a session speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// `trough.v1`.
    Binary,
    /// `trough.v1.json`.
    Json,
    /// Every message is a frame of this channel.
    Raw(Channel),
}

impl Mode {
    /// The name in logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Json => "json",
            Self::Raw(_) => "raw",
        }
    }

    fn subprotocol(&self) -> Option<&'static str> {
        match self {
            Self::Binary => Some(SUBPROTOCOL_BINARY),
            Self::Json => Some(SUBPROTOCOL_JSON),
            Self::Raw(_) => None,
        }
    }
}

/// Where a token stood.
#[derive(Debug, PartialEq, Eq)]
pub enum Credential {
    /// In the `Authorization` header.
    Header(String),
    /// In the query: a ticket, or a token of a device that opted in.
    Query(String),
}

/// An upgrade that was asked for properly.
#[derive(Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// How the session will speak.
    pub mode: Mode,
    key: String,
}

fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
}

fn query_value(uri: &Uri, name: &str) -> Option<String> {
    let query = uri.query()?;
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    // Tokens, tickets and channels have no character that needs escaping but `/ : + @ = ~`.
    let value = pairs.find_map(|(key, value)| (key == name).then_some(value))?;
    percent_decode(value)
}

fn percent_decode(value: &str) -> Option<String> {
    let mut bytes = value.bytes();
    let mut decoded = Vec::with_capacity(value.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            let digits =
                std::str::from_utf8(&digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
            decoded.push(u8::from_str_radix(digits, 16).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

/// The credential of a request.
///
/// # Errors
/// 401 if there is none.
pub fn credential<B>(request: &Request<B>) -> Result<Credential, Problem> {
    let unauthorized = |detail: &'static str| Problem::new(StatusCode::UNAUTHORIZED, "token_missing", detail);
    if let Some(value) = request.headers().get(AUTHORIZATION) {
        let token = value.to_str().ok().and_then(|text| {
            let (scheme, token) = text.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        return match token {
            Some(token) if (1..=TOKEN_BYTES_MAX).contains(&token.len()) => {
                Ok(Credential::Header(token.to_owned()))
            }
            _ => Err(unauthorized("the Authorization header is not `Bearer TOKEN`")),
        };
    }
    match query_value(request.uri(), "access_token") {
        Some(token) if (1..=TOKEN_BYTES_MAX).contains(&token.len()) => Ok(Credential::Query(token)),
        _ => Err(unauthorized(
            "send the device's token as `Authorization: Bearer TOKEN`; a client that cannot set headers fetches \
             a ticket with POST /v1/tickets and passes it as ?access_token=",
        )),
    }
}

impl Upgrade {
    /// Reads an upgrade for the path of the request, which is one of the two that have WebSockets.
    ///
    /// # Errors
    /// What is wrong with it, as the answer to give.
    pub fn of<B>(request: &Request<B>) -> Result<Self, Problem> {
        let bad = |code, detail: String| Problem::new(StatusCode::BAD_REQUEST, code, detail);
        let headers = request.headers();
        if request.method() != Method::GET {
            let detail = format!("a WebSocket begins with GET, not {}", request.method());
            return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail));
        }
        let upgrades = has_token(headers, UPGRADE, "websocket") && has_token(headers, CONNECTION, "upgrade");
        let version = headers.get(SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes);
        if !upgrades || version != Some(b"13") {
            let detail = "this path speaks WebSocket: send Connection: Upgrade, Upgrade: websocket and \
                          Sec-WebSocket-Version: 13 (a proxy in between must pass them on)";
            return Err(Problem::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", detail));
        }
        let key = headers.get(SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok()).unwrap_or_default();
        if key.len() != 24 || !key.is_ascii() {
            let detail = "Sec-WebSocket-Key must be 16 bytes in base64 (RFC 6455, section 4.1)".to_owned();
            return Err(bad("bad_websocket_key", detail));
        }
        let mode = if request.uri().path() == PATH_RAW {
            let name =
                query_value(request.uri(), "channel").unwrap_or_else(|| RAW_CHANNEL_DEFAULT.to_owned());
            Mode::Raw(Channel::new(&name).map_err(|error| bad("bad_channel", error.to_string()))?)
        } else if has_token(headers, SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL_BINARY) {
            Mode::Binary
        } else if has_token(headers, SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL_JSON) {
            Mode::Json
        } else {
            let detail = format!(
                "{PATH_STREAM} needs Sec-WebSocket-Protocol: {SUBPROTOCOL_BINARY} or {SUBPROTOCOL_JSON}; without \
                 a subprotocol connect to {PATH_RAW}"
            );
            return Err(bad("unknown_subprotocol", detail));
        };
        Ok(Self { mode, key: key.to_owned() })
    }

    /// The 101 that accepts it.
    pub fn accept(&self) -> FullResponse {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        let accept = derive_accept_key(self.key.as_bytes());
        headers
            .insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&accept).expect("base64 is visible ASCII"));
        if let Some(name) = self.mode.subprotocol() {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
        }
        response
    }
}

/// A refusal as an answer, with the headers that its status asks for.
pub fn refuse(problem: &Problem) -> FullResponse {
    let mut response = problem.to_response();
    let headers = response.headers_mut();
    match problem.status {
        StatusCode::UNAUTHORIZED => {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        StatusCode::UPGRADE_REQUIRED => {
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            headers.insert(http::header::ALLOW, HeaderValue::from_static("GET"));
        }
        _ => {}
    }
    // The next request may be meant for a feeder that is better off.
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// A refusal for now, with a delay that differs from device to device.
pub fn unavailable(code: &'static str, detail: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    let delay = Duration::from_secs(1 + trough_runtime::random::random_below(5));
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).with_retry_after(delay)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str, subprotocol: Option<&str>) -> http::request::Builder {
        let builder = Request::get(uri)
            .header("connection", "keep-alive, Upgrade")
            .header("upgrade", "WebSocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        match subprotocol {
            Some(name) => builder.header("sec-websocket-protocol", name),
            None => builder,
        }
    }

    #[test]
    fn the_first_known_subprotocol_is_taken_and_the_key_answered() {
        let upgrade =
            Upgrade::of(&request("/v1/stream", Some("chat, trough.v1.json")).body(()).unwrap()).unwrap();
        assert_eq!(upgrade.mode, Mode::Json);
        let response = upgrade.accept();
        assert_eq!(response.headers()["sec-websocket-protocol"], "trough.v1.json");
        // The example of RFC 6455, section 1.3.
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn an_unknown_subprotocol_is_told_the_known_ones() {
        for subprotocol in [None, Some("trough.v2"), Some("mqtt")] {
            let problem = Upgrade::of(&request("/v1/stream", subprotocol).body(()).unwrap()).unwrap_err();
            assert_eq!(problem.status, 400);
            assert!(problem.detail.contains("trough.v1 or trough.v1.json"), "{}", problem.detail);
        }
    }

    #[test]
    fn raw_takes_its_channel_from_the_query() {
        let raw = |uri: &str| Upgrade::of(&request(uri, None).body(()).unwrap()).map(|upgrade| upgrade.mode);
        assert_eq!(raw("/v1/raw").unwrap(), Mode::Raw(Channel::new("raw").unwrap()));
        assert_eq!(
            raw("/v1/raw?a=b&channel=gps%2Fnmea").unwrap(),
            Mode::Raw(Channel::new("gps/nmea").unwrap())
        );
        assert_eq!(raw("/v1/raw?channel=no%20spaces").unwrap_err().code, "bad_channel");
    }

    #[test]
    fn credentials_come_from_the_header_first() {
        let of = |builder: http::request::Builder| credential(&builder.body(()).unwrap());
        let header = request("/v1/stream?access_token=q", None).header("authorization", "bearer h");
        assert_eq!(of(header), Ok(Credential::Header("h".into())));
        assert_eq!(of(request("/v1/stream?access_token=q%2B", None)), Ok(Credential::Query("q+".into())));
        assert_eq!(of(request("/v1/stream", None)).unwrap_err().status, 401);
        assert_eq!(of(request("/", None).header("authorization", "Basic x")).unwrap_err().status, 401);
        let long = format!("Bearer {}", "x".repeat(TOKEN_BYTES_MAX + 1));
        assert_eq!(of(request("/", None).header("authorization", long)).unwrap_err().status, 401);
    }

    #[test]
    fn what_is_no_upgrade_is_told_so() {
        let plain = Request::get("/v1/stream").body(()).unwrap();
        assert_eq!(Upgrade::of(&plain).unwrap_err().status, 426);
        let post = Request::post("/v1/stream").body(()).unwrap();
        assert_eq!(Upgrade::of(&post).unwrap_err().status, 405);
    }
}
