//! Whoever receives webhooks: it remembers what came, and behaves as it is told.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::own_ip;

/// How it answers requests to a path.
#[derive(Debug, Clone)]
pub enum Manner {
    /// With a status.
    Status(u16),
    /// With a status and a header.
    Header(u16, &'static str, String),
    /// With 200, after a time.
    Slow(Duration),
    /// Never.
    Hang,
    /// With a status, and a body that does not end.
    Endless(u16),
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Call {
    /// To which path.
    pub path: String,
    /// With which headers.
    pub headers: HeaderMap,
    /// What was in it.
    pub body: Bytes,
}

impl Call {
    /// A header as text.
    ///
    /// # Panics
    /// If it is not there.
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers));
        value.to_str().unwrap()
    }

    /// The body, read.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

#[derive(Debug, Default)]
struct State {
    manners: HashMap<String, Manner>,
    calls: Vec<Call>,
    /// Requests without an answer, and the most that there were at once, by path.
    open: HashMap<String, (usize, usize)>,
}

/// A receiver. It ends with its handle.
#[derive(Debug)]
pub struct Hooks {
    /// Where it listens.
    pub at: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Hooks {
    /// Starts one that answers 200 on every path.
    pub async fn start() -> Self {
        let listener = TcpListener::bind((own_ip(), 0)).await.unwrap();
        let (at, state) = (listener.local_addr().unwrap(), Arc::<Mutex<State>>::default());
        let task = tokio::spawn(serve(listener, state.clone()));
        Self { at, state, task }
    }

    /// The URL of a path, such as `/a`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.at)
    }

    /// How requests to a path are answered from now on.
    pub fn behave(&self, path: &str, manner: Manner) {
        self.state.lock().unwrap().manners.insert(path.to_owned(), manner);
    }

    /// What came to a path, in order.
    pub fn calls(&self, path: &str) -> Vec<Call> {
        self.state.lock().unwrap().calls.iter().filter(|call| call.path == path).cloned().collect()
    }

    /// How many came to all paths.
    pub fn count(&self) -> usize {
        self.state.lock().unwrap().calls.len()
    }

    /// The most requests to a path that were on their way at once.
    pub fn most_open(&self, path: &str) -> usize {
        self.state.lock().unwrap().open.get(path).map_or(0, |(_, most)| *most)
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let state = state.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| answer(request, state.clone()));
            // Whoever breaks off has a reason.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

async fn answer(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
) -> Result<Response<Body>, hyper::Error> {
    let (parts, body) = request.into_parts();
    let (path, body) = (parts.uri.path().to_owned(), body.collect().await?.to_bytes());
    let manner = {
        let mut state = state.lock().unwrap();
        let (open, most) = state.open.entry(path.clone()).or_default();
        *open += 1;
        *most = (*most).max(*open);
        state.calls.push(Call { path: path.clone(), headers: parts.headers, body });
        state.manners.get(&path).cloned().unwrap_or(Manner::Status(200))
    };
    let _open = Open { path, state };
    let answer = Response::builder();
    let text = || Full::new(Bytes::from_static(b"{\"said\":\"this\"}\n")).boxed_unsync();
    Ok(match manner {
        Manner::Status(status) => answer.status(status).body(text()).unwrap(),
        Manner::Header(status, name, value) => {
            answer.status(status).header(name, value).body(text()).unwrap()
        }
        Manner::Slow(time) => {
            tokio::time::sleep(time).await;
            answer.body(text()).unwrap()
        }
        Manner::Hang => std::future::pending().await,
        Manner::Endless(status) => {
            answer.status(status).body(StreamBody::new(endless()).boxed_unsync()).unwrap()
        }
    })
}

fn endless() -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> {
    stream::repeat_with(|| Ok(Frame::data(Bytes::from_static(&[b'x'; 4096])))).map(|frame| frame)
}

/// Counts a request that has no answer yet, also if its client goes away.
struct Open {
    path: String,
    state: Arc<Mutex<State>>,
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some((open, _)) = self.state.lock().unwrap().open.get_mut(&self.path) {
            *open -= 1;
        }
    }
}
