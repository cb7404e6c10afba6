//! What a reader gets from the API.

use std::sync::Once;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::header::{ACCEPT, AUTHORIZATION};
use reqwest::{Certificate, Client, ClientBuilder, Response, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::poll::{LATER, until};

/// A frame as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadFrame {
    /// Its numbering.
    pub epoch: u64,
    /// Its number.
    pub seq: u64,
    /// The device's time, in µs since 1970.
    pub ts: u64,
    /// Its stream.
    pub channel: String,
    /// What the payload is.
    pub content_type: String,
    /// The payload.
    pub payload: Vec<u8>,
}

#[derive(Deserialize)]
struct FrameJson<'a> {
    epoch: u64,
    seq: u64,
    ts: u64,
    channel: String,
    #[serde(borrow)]
    json: Option<&'a RawValue>,
    text: Option<String>,
    b64: Option<String>,
    content_type: Option<String>,
}

impl FrameJson<'_> {
    fn read(self) -> ReadFrame {
        let (content_type, payload) = match (self.json, self.text, self.b64) {
            (Some(json), None, None) => ("application/json".to_owned(), json.get().as_bytes().to_vec()),
            (None, Some(text), None) => ("text/plain; charset=utf-8".to_owned(), text.into_bytes()),
            (None, None, Some(b64)) => {
                (self.content_type.expect("b64 comes with a type"), BASE64.decode(b64).unwrap())
            }
            other => panic!("a frame has one payload: {other:?}"),
        };
        let Self { epoch, seq, ts, channel, .. } = self;
        ReadFrame { epoch, seq, ts, channel, content_type, payload }
    }
}

/// The device and the frame that an event of a live stream has.
///
/// # Panics
/// If it has none.
pub fn live_frame(data: &str) -> (String, ReadFrame) {
    #[derive(Deserialize)]
    struct Whose {
        device: String,
    }
    let Whose { device } = serde_json::from_str(data).unwrap();
    (device, serde_json::from_str::<FrameJson<'_>>(data).unwrap().read())
}

/// One page in JSON.
#[derive(Debug)]
pub struct Page {
    /// The frames.
    pub frames: Vec<ReadFrame>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<String>,
    /// Where whatever comes later begins.
    pub resume: Option<String>,
}

#[derive(Deserialize)]
struct PageJson<'a> {
    #[serde(borrow)]
    frames: Vec<FrameJson<'a>>,
    next_cursor: Option<String>,
    resume_cursor: Option<String>,
}

/// Numbers without frames.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ReadGap {
    /// Their numbering.
    pub epoch: u64,
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// skipped, damaged or expired.
    pub kind: String,
    /// What the device said.
    pub reason: Option<String>,
}

/// A reader with a token.
#[derive(Debug, Clone)]
pub struct Reader {
    client: Client,
    base: String,
    token: String,
    /// What fails for now is asked for again.
    patient: bool,
}

/// The same that trusts this certificate, and asks by `https://` only.
///
/// # Panics
/// If it is none.
pub fn client_trusting(certificate_pem: &str) -> Client {
    let certificate = Certificate::from_pem(certificate_pem.as_bytes()).unwrap();
    builder().https_only(true).add_root_certificate(certificate).build().unwrap()
}

/// An HTTP client with deadlines.
///
/// # Panics
/// If there is no cryptography to be had.
pub fn client() -> Client {
    builder().build().unwrap()
}

fn builder() -> ClientBuilder {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Fails only if another test of this process did it.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    Client::builder().no_proxy().timeout(Duration::from_secs(60))
}

impl Reader {
    /// A reader of the API at `base`, such as `http://127.0.0.1:8081`.
    pub fn new(base: String, token: String) -> Self {
        Self { client: client(), base, token, patient: false }
    }

    /// The same reader of the API at `base`, asked by `client`.
    #[must_use]
    pub fn through(&self, client: Client, base: String) -> Self {
        Self { client, base, ..self.clone() }
    }

    /// The same reader, that asks again after a 503 and where an answer breaks off, as readers should.
    #[must_use]
    pub fn patient(self) -> Self {
        Self { patient: true, ..self }
    }

    /// The same reader over https, trusting the authority in `pem` and no other.
    #[must_use]
    pub fn over_tls(&self, pem: &str) -> Self {
        let client = Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(60))
            .tls_built_in_root_certs(false)
            .add_root_certificate(Certificate::from_pem(pem.as_bytes()).unwrap())
            .build()
            .unwrap();
        Self { client, base: self.base.replace("http://", "https://"), ..self.clone() }
    }

    /// The same reader with another token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    /// Sends a request.
    ///
    /// # Errors
    /// If nobody answers.
    pub async fn get(&self, path: &str, accept: &str) -> reqwest::Result<Response> {
        let request = self.client.get(format!("{}{path}", self.base)).header(ACCEPT, accept);
        request.header(AUTHORIZATION, format!("Bearer {}", self.token)).send().await
    }

    /// Opens a live stream, behind the event with this id if there is one. The connection lives a minute at the most.
    ///
    /// # Errors
    /// If nobody answers.
    pub async fn live(&self, path: &str, last_event_id: Option<&str>) -> reqwest::Result<Response> {
        let request = self.client.get(format!("{}{path}", self.base)).header(ACCEPT, "text/event-stream");
        let request = request.header(AUTHORIZATION, format!("Bearer {}", self.token));
        let request =
            last_event_id.into_iter().fold(request, |request, id| request.header("last-event-id", id));
        request.send().await
    }

    async fn text(&self, path: &str, accept: &str) -> String {
        if self.patient {
            let what = format!("GET {path} is answered whole");
            return until(&what, LATER, async || self.try_text(path, accept).await.ok()).await;
        }
        self.try_text(path, accept).await.unwrap_or_else(|why| panic!("GET {path}: {why}"))
    }

    /// A body, or what is worth another try.
    ///
    /// # Panics
    /// At an answer that would be the same again.
    async fn try_text(&self, path: &str, accept: &str) -> Result<String, String> {
        let response = self.get(path, accept).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let text = response.text().await.map_err(|error| format!("it broke off: {error}"))?;
        if status == StatusCode::SERVICE_UNAVAILABLE {
            return Err(format!("{status} {text}"));
        }
        assert!(status.is_success(), "GET {path}: {status} {text}");
        Ok(text)
    }

    /// All frames of a device, as NDJSON.
    pub async fn frames(&self, device: &str) -> Vec<ReadFrame> {
        let text = self.text(&format!("/v1/devices/{device}/frames"), "application/x-ndjson").await;
        text.lines().map(|line| serde_json::from_str::<FrameJson<'_>>(line).unwrap().read()).collect()
    }

    /// One page of a device's frames, as JSON.
    pub async fn page(&self, device: &str, query: &str) -> Page {
        let text = self.text(&format!("/v1/devices/{device}/frames?{query}"), "application/json").await;
        let page: PageJson<'_> = serde_json::from_str(&text).unwrap();
        Page {
            frames: page.frames.into_iter().map(FrameJson::read).collect(),
            next: page.next_cursor,
            resume: page.resume_cursor,
        }
    }

    /// All frames of a device, as JSON, page by page.
    pub async fn frames_by_page(&self, device: &str, limit: usize) -> Vec<ReadFrame> {
        let mut frames = Vec::new();
        let mut query = format!("limit={limit}");
        loop {
            let page = self.page(device, &query).await;
            frames.extend(page.frames);
            let Some(cursor) = page.next else { return frames };
            query = format!("limit={limit}&cursor={cursor}");
        }
    }

    /// All frames of a device from the newest to the oldest, page by page.
    pub async fn frames_falling(&self, device: &str, limit: usize) -> Vec<ReadFrame> {
        let mut frames = Vec::new();
        let mut query = format!("order=desc&limit={limit}");
        loop {
            let page = self.page(device, &query).await;
            frames.extend(page.frames);
            let Some(cursor) = page.next else { return frames };
            query = format!("order=desc&limit={limit}&cursor={cursor}");
        }
    }

    /// All frames of a device, as CSV.
    pub async fn frames_by_csv(&self, device: &str) -> Vec<ReadFrame> {
        let text = self.text(&format!("/v1/devices/{device}/frames"), "text/csv").await;
        let mut rows = csv::Reader::from_reader(text.as_bytes());
        let heading = rows.headers().unwrap().clone();
        let column = |name: &str| heading.iter().position(|heading| heading == name).unwrap();
        let [epoch, seq, ts, channel, content_type, encoding, payload] =
            ["epoch", "seq", "ts", "channel", "content_type", "encoding", "payload"].map(column);
        let frame = |row: csv::Result<csv::StringRecord>| {
            let row = row.unwrap();
            let payload = match &row[encoding] {
                "b64" => BASE64.decode(&row[payload]).unwrap(),
                _ => row[payload].as_bytes().to_vec(),
            };
            let number = |column: usize| row[column].parse().unwrap();
            let (channel, content_type) = (row[channel].to_owned(), row[content_type].to_owned());
            ReadFrame {
                epoch: number(epoch),
                seq: number(seq),
                ts: number(ts),
                channel,
                content_type,
                payload,
            }
        };
        rows.records().map(frame).collect()
    }

    /// All gaps of a device.
    pub async fn gaps(&self, device: &str) -> Vec<ReadGap> {
        let text = self.text(&format!("/v1/devices/{device}/gaps?limit=10000"), "application/json").await;
        let value: Value = serde_json::from_str(&text).unwrap();
        serde_json::from_value(value["gaps"].clone()).unwrap()
    }

    /// What is known of a device.
    pub async fn device(&self, device: &str) -> Value {
        serde_json::from_str(&self.text(&format!("/v1/devices/{device}"), "application/json").await).unwrap()
    }

    /// The epoch and head of a device; `None` while nobody answers.
    pub async fn head(&self, device: &str) -> Option<(u64, u64)> {
        let response = self.get(&format!("/v1/devices/{device}"), "application/json").await.ok()?;
        let response = response.error_for_status().ok()?;
        let value: Value = serde_json::from_str(&response.text().await.ok()?).ok()?;
        Some((value["epoch"].as_u64()?, value["head"].as_u64()?))
    }
}
