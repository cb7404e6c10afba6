//! Whoever is told: a server that answers every POST with 200, and remembers when it came.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use trough_runtime::clock::Clock;

/// A request that came.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    /// When the event happened, in µs since 1970: the frame's own time.
    pub at: u64,
    /// When the request had come.
    pub arrived: u64,
}

#[derive(Debug, Default)]
struct Heard {
    told: Vec<Told>,
    ids: HashSet<String>,
}

/// A running server. It ends with its handle.
#[derive(Debug)]
pub struct Receiver {
    at: SocketAddr,
    heard: Arc<Mutex<Heard>>,
    task: JoinHandle<()>,
}

#[derive(Deserialize)]
struct Body {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    at: u64,
}

impl Receiver {
    /// Starts one.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port for webhooks")?;
        let (at, heard) = (listener.local_addr()?, Arc::<Mutex<Heard>>::default());
        let task = tokio::spawn(serve(listener, heard.clone()));
        Ok(Self { at, heard, task })
    }

    /// Where webhooks are to go.
    pub fn url(&self) -> String {
        format!("http://{}/", self.at)
    }

    /// What came, repetitions and all.
    pub fn told(&self) -> Vec<Told> {
        lock(&self.heard).told.clone()
    }

    /// Different deliveries that came.
    pub fn ids(&self) -> u64 {
        lock(&self.heard).ids.len() as u64
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(heard: &Mutex<Heard>) -> std::sync::MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, heard: Arc<Mutex<Heard>>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let heard = heard.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| take(request, heard.clone()));
            // A sender that breaks off tries again.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn take(
    request: Request<Incoming>,
    heard: Arc<Mutex<Heard>>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let id = request.headers().get("webhook-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let body = request.into_body().collect().await?.to_bytes();
    let arrived = Clock::system().now();
    let read: Option<Body> = serde_json::from_slice(&body).ok();
    let status = match id.zip(read) {
        Some((id, Body { data: Data { at } })) => {
            let mut heard = lock(&heard);
            heard.ids.insert(id);
            heard.told.push(Told { at, arrived });
            StatusCode::OK
        }
        None => StatusCode::BAD_REQUEST,
    };
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    Ok(response)
}
