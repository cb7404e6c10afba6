//! As much of the Kubernetes API as a sweep needs, over its HTTP interface (kubernetes.io, "API concepts").

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use reqwest::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Method, Response, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use trough_runtime::secret::Secret;

use crate::http;

/// Where the kubelet mounts a ServiceAccount.
pub const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How the API server is called within a cluster.
pub const SERVER: &str = "https://kubernetes.default.svc";
/// One request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often a request is made that the server has no time for.
const TRIES: u32 = 4;
/// Longest wait between two tries, whatever the server asks for.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Objects in one answer to a list.
const PAGE: u32 = 500;
/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Why a request was not answered as asked, by what can be done.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// A right is missing.
    #[error("not allowed: {0}; apply the rights again (kubectl apply -k deploy/preview)")]
    Forbidden(String),
    /// There is no such object.
    #[error("it is not there: {0}")]
    Missing(String),
    /// It has changed meanwhile.
    #[error("it has changed meanwhile: {0}")]
    Conflict(String),
    /// Everything else.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

/// A cluster, as one ServiceAccount sees it.
#[derive(Debug, Clone)]
pub struct Kubernetes {
    client: Client,
    server: Url,
    account: PathBuf,
}

/// What every object has.
#[derive(Debug, Clone, Deserialize)]
pub struct Metadata {
    /// Its name.
    pub name: String,
    /// Which one of that name it is.
    #[serde(default)]
    pub uid: String,
    /// When it was made.
    #[serde(rename = "creationTimestamp")]
    pub created: Option<jiff::Timestamp>,
    /// Whose part it is.
    #[serde(default, rename = "ownerReferences")]
    pub owners: Vec<Value>,
}

/// An object, of which only this is looked at.
#[derive(Debug, Clone, Deserialize)]
pub struct Object<S = Value> {
    /// Name and age.
    pub metadata: Metadata,
    /// What is in it besides.
    #[serde(flatten)]
    pub rest: S,
}

#[derive(Deserialize)]
struct Page<S> {
    metadata: PageMetadata,
    items: Vec<Object<S>>,
}

#[derive(Deserialize)]
struct PageMetadata {
    #[serde(default, rename = "continue")]
    next: String,
}

#[derive(Deserialize)]
struct Status {
    message: String,
}

impl Kubernetes {
    /// A cluster, with the token and the authority in the directory of a ServiceAccount.
    ///
    /// # Errors
    /// The authority cannot be read.
    pub fn new(server: Url, account: &Path) -> anyhow::Result<Self> {
        let file = account.join("ca.crt");
        let shown = file.display();
        let ca = std::fs::read(&file)
            .with_context(|| format!("cannot read {shown}: does the pod mount a ServiceAccount's token?"))?;
        let client = http::client_that_stays(Some(&ca)).with_context(|| format!("cannot use {shown}"))?;
        Ok(Self { client, server, account: account.to_owned() })
    }

    /// All objects of a kind in a namespace: `path` is such as `apis/apps/v1/namespaces/NAME/deployments`.
    pub async fn list<S: DeserializeOwned>(&self, path: &str) -> Result<Vec<Object<S>>, KubernetesError> {
        let (mut all, mut next) = (Vec::new(), String::new());
        loop {
            let page: Page<S> = self.read(path, &[("limit", PAGE.to_string()), ("continue", next)]).await?;
            all.extend(page.items);
            next = page.metadata.next;
            if next.is_empty() {
                return Ok(all);
            }
        }
    }

    /// One object.
    pub async fn get<S: DeserializeOwned>(&self, path: &str) -> Result<Object<S>, KubernetesError> {
        self.read(path, &[]).await
    }

    /// Changes some fields of an object (RFC 7386).
    pub async fn merge(&self, path: &str, patch: &Value) -> Result<(), KubernetesError> {
        self.send(Method::PATCH, path, &[], Some((patch, "application/merge-patch+json"))).await.map(drop)
    }

    /// Deletes an object and, in the background, what is part of it; not another one that has its name by now.
    pub async fn delete(&self, path: &str, uid: &str) -> Result<(), KubernetesError> {
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background",
            "preconditions": { "uid": uid },
        });
        self.send(Method::DELETE, path, &[], Some((&options, "application/json"))).await.map(drop)
    }

    async fn read<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<T, KubernetesError> {
        let response = self.send(Method::GET, path, query, None).await?;
        let text = http::text_at_most(response, ANSWER_BYTES_MAX).await?;
        Ok(serde_json::from_str(&text)
            .with_context(|| format!("GET {path}: the answer is not understood"))?)
    }

    /// A request, again while the server says that it has no time. Not cancel-safe: a change may have been made.
    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<(&Value, &str)>,
    ) -> Result<Response, KubernetesError> {
        let what = format!("{method} {path}");
        let mut url = http::join(&self.server, &format!("/{path}"));
        for (name, value) in query.iter().filter(|(_, value)| !value.is_empty()) {
            url.query_pairs_mut().append_pair(name, value);
        }
        let mut tries = 1;
        loop {
            let mut request = self.client.request(method.clone(), url.clone()).timeout(TIMEOUT);
            request = request.bearer_auth(self.token()?.expose()).header(ACCEPT, "application/json");
            if let Some((body, kind)) = body {
                request = request.header(CONTENT_TYPE, kind).body(body.to_string());
            }
            let response =
                request.send().await.map_err(http::plain).with_context(|| format!("{what}: no answer"))?;
            let status = response.status();
            let busy = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
            if busy && tries < TRIES {
                tries += 1;
                tokio::time::sleep(asked_for(&response).min(WAIT_MAX)).await;
                continue;
            }
            if status.is_success() {
                return Ok(response);
            }
            let text = http::text_at_most(response, 64 * 1024).await.unwrap_or_default();
            let said = serde_json::from_str::<Status>(&text).map(|status| status.message);
            let said = format!("{what}: {}", said.unwrap_or_else(|_| "no reason is given".to_owned()));
            return Err(match status {
                StatusCode::FORBIDDEN => KubernetesError::Forbidden(said),
                StatusCode::NOT_FOUND => KubernetesError::Missing(said),
                StatusCode::CONFLICT => KubernetesError::Conflict(said),
                _ => anyhow!("{said} ({status})").into(),
            });
        }
    }

    /// Read each time: the kubelet renews it.
    fn token(&self) -> anyhow::Result<Secret<String>> {
        let file = self.account.join("token");
        let token =
            std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok(token.trim().to_owned().into())
    }
}

fn asked_for(response: &Response) -> Duration {
    let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    Duration::from_secs(seconds.unwrap_or(1))
}
