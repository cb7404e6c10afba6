//! The reader API, as `tail` and the demo use it.

use anyhow::{Context, Result};
use reqwest::header::{ACCEPT, ETAG, HeaderValue, IF_NONE_MATCH};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use serde_json::value::RawValue;
use trough_protocol::DeviceId;
use trough_runtime::secret::Secret;
use trough_store::Group;

use crate::events::Events;
use crate::http;

/// Longest line of an answer, in bytes: a frame of 1 MiB whose every byte is escaped in six, and what stands
/// around it.
const LINE_BYTES_MAX: usize = 7 * 1024 * 1024;
/// Longest page of devices, in bytes: a thousand, each in many groups.
const DEVICES_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Longest error that is read, in bytes.
const PROBLEM_BYTES_MAX: usize = 64 * 1024;

/// Where to ask, and as whom.
#[derive(Debug, Clone)]
pub struct Api {
    client: Client,
    base: Url,
    token: Secret<String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The server cannot be reached, is restarting or has too much to do: try again.
    #[error("{0:#}")]
    Again(anyhow::Error),
    /// The same request would be refused again.
    #[error("{url} answers {status}: {detail}")]
    Refused {
        /// What was asked, without a query.
        url: String,
        /// The HTTP status.
        status: StatusCode,
        /// What the server says.
        detail: String,
    },
}

/// What tells a frame from all others of its device, and its place in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Place {
    /// The numbering.
    pub epoch: u64,
    /// The number.
    pub seq: u64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.epoch, self.seq)
    }
}

/// One line of the answer, as far as somebody here looks at it.
#[derive(Debug, Deserialize)]
pub struct Frame<'a> {
    /// Which frame.
    #[serde(flatten)]
    pub place: Place,
    /// The device's time stamp, in µs since 1970.
    pub ts: u64,
    /// The stream within the device.
    pub channel: &'a str,
    /// The payload, if it is JSON.
    #[serde(borrow)]
    pub json: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct DevicesPage {
    devices: Vec<Listed>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(deserialize_with = "device_id")]
    id: DeviceId,
}

fn device_id<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<DeviceId, D::Error> {
    let id = String::deserialize(deserializer)?;
    DeviceId::new(&id).map_err(serde::de::Error::custom)
}

#[derive(Deserialize)]
struct Problem {
    detail: String,
}

impl Api {
    /// A client of this server.
    ///
    /// # Errors
    /// The certificates cannot be read.
    pub fn new(base: Url, token: Secret<String>, ca: Option<&[u8]>) -> Result<Self> {
        Ok(Self { client: http::client(ca)?, base, token })
    }

    /// The ids of all devices that the reader may see, or of those of a group, rising.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn devices(&self, group: Option<&Group>) -> Result<Vec<DeviceId>, ApiError> {
        let (mut devices, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let mut url = http::join(&self.base, "/v1/devices");
            let shown = url.to_string();
            url.query_pairs_mut().append_pair("limit", "1000");
            if let Some(group) = group {
                url.query_pairs_mut().append_pair("group", group.as_str());
            }
            if let Some(cursor) = &cursor {
                url.query_pairs_mut().append_pair("cursor", cursor);
            }
            let request = self.client.get(url).bearer_auth(self.token.expose());
            let failed = || format!("no answer from {shown}");
            let response =
                request.send().await.map_err(http::plain).with_context(failed).map_err(ApiError::Again)?;
            let status = response.status();
            if !status.is_success() {
                return Err(refusal(shown, status, response).await);
            }
            let body = http::text_at_most(response, DEVICES_BYTES_MAX).await.map_err(ApiError::Again)?;
            let page: DevicesPage = serde_json::from_str(&body).map_err(|error| {
                ApiError::Again(anyhow::anyhow!("{shown} answers no list of devices ({error})"))
            })?;
            devices.extend(page.devices.into_iter().map(|device| device.id));
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(devices);
            }
        }
    }

    /// Asks for frames of a device as NDJSON; `None` if nothing has changed since `etag`, which is then set to
    /// the new state.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn frames(
        &self,
        device: &DeviceId,
        parameters: &[(&str, String)],
        etag: &mut Option<HeaderValue>,
    ) -> Result<Option<Lines>, ApiError> {
        let mut url = http::join(&self.base, &format!("/v1/devices/{device}/frames"));
        let shown = url.to_string();
        url.query_pairs_mut().extend_pairs(parameters);
        let mut request = self.client.get(url).bearer_auth(self.token.expose());
        request = request.header(ACCEPT, "application/x-ndjson");
        if let Some(etag) = &*etag {
            request = request.header(IF_NONE_MATCH, etag.clone());
        }
        let response = send(request, &shown).await?;
        match response.status() {
            StatusCode::NOT_MODIFIED => Ok(None),
            status if status.is_success() => {
                *etag = response.headers().get(ETAG).cloned();
                Ok(Some(Lines { response, bytes: Vec::new(), read: 0 }))
            }
            status => Err(refusal(shown, status, response).await),
        }
    }

    /// Opens a live stream: what follows the event that has this id, or begins now.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn live(
        &self,
        path: &str,
        parameters: &[(&str, String)],
        last_event_id: Option<&str>,
    ) -> Result<Events, ApiError> {
        let mut url = http::join(&self.base, path);
        let shown = url.to_string();
        url.query_pairs_mut().extend_pairs(parameters);
        let mut request = self.client.get(url).bearer_auth(self.token.expose());
        request = request.header(ACCEPT, "text/event-stream");
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let response = send(request, &shown).await?;
        match response.status() {
            status if status.is_success() => Ok(Events::new(Lines { response, bytes: Vec::new(), read: 0 })),
            status => Err(refusal(shown, status, response).await),
        }
    }
}

async fn send(request: RequestBuilder, shown: &str) -> Result<Response, ApiError> {
    let failed = || format!("no answer from {shown}");
    request.send().await.map_err(http::plain).with_context(failed).map_err(ApiError::Again)
}

async fn refusal(url: String, status: StatusCode, response: Response) -> ApiError {
    let body = http::text_at_most(response, PROBLEM_BYTES_MAX).await.unwrap_or_default();
    let detail = serde_json::from_str::<Problem>(&body).map(|problem| problem.detail);
    let detail = detail.unwrap_or_else(|_| "no reason is given: is this the port of the reader API?".into());
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return ApiError::Again(anyhow::anyhow!("{url} answers {status}: {detail}"));
    }
    ApiError::Refused { url, status, detail }
}

/// The lines of an answer, as they come.
#[derive(Debug)]
pub struct Lines {
    response: Response,
    bytes: Vec<u8>,
    /// Bytes at the front that were given out.
    read: usize,
}

impl Lines {
    /// The next whole line without its end; `None` at the end of the answer.
    ///
    /// # Errors
    /// The connection broke, or a line is too long. A part of a line is not given out.
    pub async fn next(&mut self) -> Result<Option<&str>> {
        let mut searched = self.read;
        let end = loop {
            if let Some(at) = self.bytes[searched..].iter().position(|byte| *byte == b'\n') {
                break searched + at;
            }
            if self.read > 0 {
                self.bytes.drain(..self.read);
                self.read = 0;
            }
            searched = self.bytes.len();
            if searched > LINE_BYTES_MAX {
                anyhow::bail!("the answer has a line longer than {LINE_BYTES_MAX} bytes");
            }
            match self.response.chunk().await.map_err(http::plain).context("the answer broke off")? {
                Some(chunk) => self.bytes.extend_from_slice(&chunk),
                None if self.bytes.is_empty() => return Ok(None),
                None => anyhow::bail!("the answer broke off within a line"),
            }
        };
        let line = std::str::from_utf8(&self.bytes[self.read..end]).context("the answer is not UTF-8")?;
        self.read = end + 1;
        Ok(Some(line))
    }
}
