//! Apple's push server, as Apple documents it: HTTP/2 over TLS, a provider token whose signature and age it checks, the
//! headers that a push needs, and errors when it is told to.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::KeyPair;
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use trough_runtime::clock::Clock;

use super::own_ip;
use crate::certificates::Authority;

/// As what the provider is registered.
pub const KEY_ID: &str = "ABC123DEFG";
/// Whose it is.
pub const TEAM_ID: &str = "DEF123GHIJ";
/// The app that there is.
pub const TOPIC: &str = "org.example.trough";
/// Apple refuses tokens that are older, in seconds.
const TOKEN_AGE_MAX: u64 = 60 * 60;
/// Largest payload.
const PAYLOAD_BYTES_MAX: usize = 4096;

/// A push that was accepted or refused.
#[derive(Debug, Clone)]
pub struct Push {
    /// To which phone.
    pub token: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its payload.
    pub payload: Value,
    /// The status of the answer.
    pub status: u16,
}

impl Push {
    /// A header as text; empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A status, a body, and what `retry-after` says.
type Reply = (u16, Value, Option<&'static str>);

#[derive(Default)]
struct State {
    /// What a phone's next pushes are answered, in order; then they are accepted.
    answers: HashMap<String, Vec<Reply>>,
    pushes: Vec<Push>,
    connections: usize,
    bearers: Vec<String>,
}

/// A server. It ends with its handle.
pub struct Apns {
    /// Where it listens.
    pub at: SocketAddr,
    /// The provider's key, as Apple gives it out (PKCS#8 PEM).
    pub provider_key: String,
    authority: Authority,
    dir: TempDir,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Apns {
    /// Starts one that knows one provider, and accepts what is in order.
    pub async fn start() -> Self {
        // Whoever installed another has one that serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind((own_ip(), 0)).await.unwrap();
        let at = listener.local_addr().unwrap();
        let authority = Authority::new("Apple of this test");
        let issued = authority.issue(&[&at.ip().to_string()]);
        let certificate = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
        let mut config =
            ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let provider = KeyPair::generate().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let public = Arc::from(provider.public_key_raw());
        let task = tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(config)), public, state.clone()));
        let (provider_key, dir) = (provider.serialize_pem(), tempfile::tempdir().unwrap());
        std::fs::write(dir.path().join("AuthKey.p8"), &provider_key).unwrap();
        std::fs::write(dir.path().join("ca.pem"), authority.pem()).unwrap();
        Self { at, provider_key, authority, dir, state, task }
    }

    /// Where it is reached.
    pub fn url(&self) -> String {
        format!("https://{}", self.at)
    }

    /// Who vouches for it, in PEM.
    pub fn ca(&self) -> String {
        self.authority.pem()
    }

    /// Files of the provider's key and of the authority.
    pub fn files(&self) -> (PathBuf, PathBuf) {
        (self.dir.path().join("AuthKey.p8"), self.dir.path().join("ca.pem"))
    }

    /// Answers the next push to a phone with a status and a reason.
    pub fn refuse(&self, token: &str, status: u16, reason: &str) {
        self.answer(token, status, json!({ "reason": reason }), None);
    }

    /// The same with a body and `Retry-After` as they are given.
    pub fn answer(&self, token: &str, status: u16, body: Value, retry_after: Option<&'static str>) {
        let mut state = self.state.lock().unwrap();
        state.answers.entry(token.to_owned()).or_default().push((status, body, retry_after));
    }

    /// What came, in order.
    pub fn pushes(&self) -> Vec<Push> {
        self.state.lock().unwrap().pushes.clone()
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }

    /// The different provider tokens that came.
    pub fn bearers(&self) -> Vec<String> {
        self.state.lock().unwrap().bearers.clone()
    }
}

impl Drop for Apns {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, provider: Arc<[u8]>, state: Arc<Mutex<State>>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let (tls, provider, state) = (tls.clone(), provider.clone(), state.clone());
        connections.spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            state.lock().unwrap().connections += 1;
            let service = service_fn(move |request| answer(request, provider.clone(), state.clone()));
            // Whoever breaks off has a reason.
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    provider: Arc<[u8]>,
    state: Arc<Mutex<State>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let token = parts.uri.path().strip_prefix("/3/device/").unwrap_or_default().to_owned();
    let bearer = parts.headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (method, version) = (parts.method, parts.version);
    let fault = fault(&method, version, &token, &parts.headers, &body, (bearer, &provider));
    let mut state = state.lock().unwrap();
    if !state.bearers.iter().any(|known| known == bearer) {
        state.bearers.push(bearer.to_owned());
    }
    let told =
        state.answers.get_mut(&token).filter(|answers| !answers.is_empty()).map(|answers| answers.remove(0));
    let (status, body_out, retry_after) = match (fault, told) {
        (Some((status, reason)), _) => (status, json!({ "reason": reason }), None),
        (None, Some(told)) => told,
        (None, None) => (200, Value::Null, None),
    };
    let payload = serde_json::from_slice(&body).unwrap_or_default();
    let mut response = Response::builder().status(status);
    if let Some(id) = parts.headers.get("apns-id") {
        response = response.header("apns-id", id);
    }
    if let Some(seconds) = retry_after {
        response = response.header("retry-after", seconds);
    }
    state.pushes.push(Push { token, headers: parts.headers, payload, status });
    let text = if body_out.is_null() { String::new() } else { body_out.to_string() };
    Ok(response.body(Full::new(Bytes::from(text))).unwrap())
}

/// What Apple would find wrong.
fn fault(
    method: &Method,
    version: Version,
    token: &str,
    headers: &HeaderMap,
    body: &[u8],
    (bearer, provider): (&str, &[u8]),
) -> Option<(u16, &'static str)> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let uuid = |text: &str| {
        let parts: Vec<_> = text.split('-').map(str::len).collect();
        parts == [8, 4, 4, 4, 12] && text.bytes().all(|b| b == b'-' || matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let priority = match header("apns-push-type") {
        "alert" => ["10", "5"].as_slice(),
        "background" => ["5"].as_slice(),
        _ => return Some((400, "InvalidPushType")),
    };
    if version != Version::HTTP_2 || *method != Method::POST {
        return Some((405, "MethodNotAllowed"));
    }
    if let Some(reason) = token_fault(bearer, provider) {
        return Some((403, reason));
    }
    match () {
        () if token.is_empty() => Some((400, "MissingDeviceToken")),
        () if header("apns-topic").is_empty() => Some((400, "MissingTopic")),
        () if header("apns-topic") != TOPIC => Some((400, "DeviceTokenNotForTopic")),
        () if !priority.contains(&header("apns-priority")) => Some((400, "BadPriority")),
        () if header("apns-collapse-id").len() > 64 => Some((400, "BadCollapseId")),
        () if header("apns-expiration").parse::<u64>().is_err() => Some((400, "BadExpirationDate")),
        () if !uuid(header("apns-id")) => Some((400, "BadMessageId")),
        () if body.is_empty() => Some((400, "PayloadEmpty")),
        () if body.len() > PAYLOAD_BYTES_MAX => Some((413, "PayloadTooLarge")),
        () => None,
    }
}

fn token_fault(bearer: &str, provider: &[u8]) -> Option<&'static str> {
    let Some(token) = bearer.strip_prefix("Bearer ") else { return Some("MissingProviderToken") };
    let read = |part: &str| serde_json::from_slice::<Value>(&BASE64.decode(part).ok()?).ok();
    let valid = (|| {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, provider);
        key.verify(signed.as_bytes(), &BASE64.decode(signature).ok()?).ok()?;
        let (header, claims) = (read(header)?, read(claims)?);
        (header["alg"] == "ES256" && header["kid"] == KEY_ID && claims["iss"] == TEAM_ID).then_some(())?;
        claims["iat"].as_u64()
    })();
    let now = Clock::system().now() / 1_000_000;
    match valid {
        None => Some("InvalidProviderToken"),
        Some(issued) if issued > now || now - issued > TOKEN_AGE_MAX => Some("ExpiredProviderToken"),
        Some(_) => None,
    }
}
