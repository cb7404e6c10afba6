//! A Kubernetes API server, as far as a sweep of previews asks it (kubernetes.io, "API concepts", "RBAC"): HTTPS, a
//! ServiceAccount's token, the rights that the manifests give it, lists in pages, merge patches, scales, deletions with a
//! precondition. What controllers would do after a change happens at once.

mod objects;
mod rights;

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::own_ip;
use crate::certificates::Authority;
use objects::Objects;
use rights::Account;

/// As what the sweep calls.
pub const NAMESPACE: &str = "trough-previews";
const ACCOUNT: Account = Account { namespace: NAMESPACE, name: "sweep" };
const TOKEN: &str = "a token of this test";
/// Objects in one page, whatever is asked for.
const PAGE: usize = 2;

#[derive(Default)]
struct State {
    objects: Objects,
    /// What the next requests of a kind are answered, whatever they ask.
    answers: HashMap<String, Vec<(u16, Option<&'static str>)>>,
    /// What is made anew, under its old name, when a request comes.
    renewals: HashMap<String, (&'static str, String, String)>,
    calls: Vec<String>,
}

/// A server. It ends with its handle.
pub struct Kubernetes {
    /// Where it listens.
    pub at: SocketAddr,
    account: TempDir,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Kubernetes {
    /// Starts one, with nothing in it.
    pub async fn start() -> Self {
        // Whoever installed another has one that serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind((own_ip(), 0)).await.unwrap();
        let at = listener.local_addr().unwrap();
        let authority = Authority::new("the cluster of this test");
        let issued = authority.issue(&[&at.ip().to_string()]);
        let certificate = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
        let config =
            ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        let account = tempfile::tempdir().unwrap();
        for (file, text) in [("token", TOKEN), ("ca.crt", &*authority.pem()), ("namespace", NAMESPACE)] {
            fs::write(account.path().join(file), text).unwrap();
        }
        let state = Arc::<Mutex<State>>::default();
        let task = tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(config)), state.clone()));
        Self { at, account, state, task }
    }

    /// Where it is reached.
    pub fn url(&self) -> String {
        format!("https://{}", self.at)
    }

    /// The directory that the kubelet would mount into the sweep's pod.
    pub fn account(&self) -> PathBuf {
        self.account.path().to_owned()
    }

    /// `kubectl apply`, at a time.
    pub fn apply(&self, objects: &[Value], at: &str) {
        self.lock().objects.apply(objects, at);
    }

    /// A pod of a Deployment begins to run: its metrics are at this address, or it waits for a node.
    pub fn run(&self, namespace: &str, deployment: &str, admin: Option<SocketAddr>) {
        self.lock().objects.run(namespace, deployment, admin);
    }

    /// Changes an object behind the sweep's back.
    pub fn change(&self, kind: &str, namespace: &str, name: &str, change: impl FnOnce(&mut Value)) {
        change(self.lock().objects.named(kind, namespace, name).expect("it is there"));
    }

    /// Takes an object away.
    pub fn remove(&self, kind: &str, namespace: &str, name: &str) {
        self.lock().objects.remove(kind, namespace, name);
    }

    /// `Kind/name` of all that is in a namespace, without what controllers made.
    pub fn names(&self, namespace: &str) -> Vec<String> {
        self.lock().objects.names(namespace)
    }

    /// Answers the next request of a method to a path with a status, and `Retry-After`.
    pub fn answer(&self, request: &str, status: u16, retry_after: Option<&'static str>) {
        self.lock().answers.entry(request.to_owned()).or_default().push((status, retry_after));
    }

    /// Somebody deletes an object and makes it again, right before a request is answered.
    pub fn renew_at(&self, request: &str, kind: &'static str, namespace: &str, name: &str) {
        let object = (kind, namespace.to_owned(), name.to_owned());
        self.lock().renewals.insert(request.to_owned(), object);
    }

    /// Which requests came: method and path.
    pub fn calls(&self) -> Vec<String> {
        self.lock().calls.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Drop for Kubernetes {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, state: Arc<Mutex<State>>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let (tls, state) = (tls.clone(), state.clone());
        connections.spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = service_fn(move |request| answer(request, state.clone()));
            // Whoever breaks off has a reason.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// What is asked for: `/apis/GROUP/VERSION/namespaces/NAMESPACE/RESOURCE/NAME/SUBRESOURCE`.
#[derive(Debug)]
struct Target {
    group: String,
    namespace: String,
    resource: String,
    name: Option<String>,
    subresource: Option<String>,
}

impl Target {
    fn of(path: &str) -> Option<Self> {
        let mut parts = path.strip_prefix('/')?.split('/');
        let group = match parts.next()? {
            "api" => String::new(),
            "apis" => parts.next()?.to_owned(),
            _ => return None,
        };
        parts.next().filter(|version| version.starts_with('v'))?;
        parts.next().filter(|part| *part == "namespaces")?;
        let mut next = || parts.next().map(str::to_owned);
        Some(Self { group, namespace: next()?, resource: next()?, name: next(), subresource: next() })
    }
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let call = format!("{} {}", parts.method, parts.uri.path());
    let mut state = state.lock().unwrap();
    state.calls.push(call.clone());
    if let Some((kind, namespace, name)) = state.renewals.remove(&call) {
        state.objects.renew(kind, &namespace, &name);
    }
    let told = state.answers.get_mut(&call).filter(|told| !told.is_empty()).map(|told| told.remove(0));
    let query = parts.uri.query().unwrap_or_default();
    let (status, answer, retry_after) = match told {
        Some((status, retry_after)) => (status, failure(status, "told to by this test"), retry_after),
        None => {
            let (status, answer) = match Target::of(parts.uri.path()) {
                Some(target) => state.take(&parts.method, &target, query, &parts.headers, &body),
                None => (404, failure(404, "the server could not find the requested resource")),
            };
            (status, answer, None)
        }
    };
    let mut response = Response::builder().status(status).header("content-type", "application/json");
    if let Some(after) = retry_after {
        response = response.header("retry-after", after);
    }
    Ok(response.body(Full::new(answer.to_string().into())).unwrap())
}

fn failure(code: u16, message: &str) -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code })
}

impl State {
    fn take(
        &mut self,
        method: &Method,
        target: &Target,
        query: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> (u16, Value) {
        let is = |name: &str, wanted: &str| headers.get(name).is_some_and(|value| value == wanted);
        if !is("authorization", &format!("Bearer {TOKEN}")) {
            return (401, failure(401, "Unauthorized"));
        }
        let verb = match (method.as_str(), &target.name) {
            ("GET", None) => "list",
            ("GET", Some(_)) => "get",
            ("PATCH", Some(_)) => "patch",
            ("DELETE", Some(_)) => "delete",
            _ => {
                return (
                    405,
                    failure(405, "the server does not allow this method on the requested resource"),
                );
            }
        };
        if let Err(message) = ACCOUNT.may(verb, target, &self.objects) {
            return (403, failure(403, &message));
        }
        let Some(name) = &target.name else { return (200, self.list(target, query)) };
        let kind = objects::kind(&target.resource);
        let Some(object) = self.objects.named(kind, &target.namespace, name) else {
            return (404, failure(404, &format!("{} {name:?} not found", target.resource)));
        };
        let sent: Value = serde_json::from_slice(body).unwrap_or_default();
        match verb {
            "get" => (200, object.clone()),
            "patch" if !is("content-type", "application/merge-patch+json") => {
                (415, failure(415, "the body of the request was in an unknown format"))
            }
            "patch" => {
                objects::merge(object, &sent);
                let changed = object.clone();
                self.objects.settle(target.subresource.is_some(), &changed);
                (200, changed)
            }
            _ => {
                let wanted = &sent["preconditions"]["uid"];
                if !wanted.is_null() && *wanted != object["metadata"]["uid"] {
                    return (
                        409,
                        failure(409, &format!("the UID in the precondition ({wanted}) does not match")),
                    );
                }
                self.objects.delete(kind, &target.namespace, name);
                (200, json!({ "kind": "Status", "status": "Success" }))
            }
        }
    }

    /// A page, and where the next one begins.
    fn list(&self, target: &Target, query: &str) -> Value {
        let all = self.objects.all(objects::kind(&target.resource), &target.namespace);
        let begin =
            query.split('&').find_map(|pair| pair.strip_prefix("continue=")?.parse().ok()).unwrap_or(0);
        let end = (begin + PAGE).min(all.len());
        let next = if end < all.len() { end.to_string() } else { String::new() };
        json!({ "kind": "List", "metadata": { "continue": next }, "items": all[begin..end] })
    }
}
