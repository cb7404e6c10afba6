//! A shard: one thread with a part of the connections and links of its own. What a session touches for every
//! message lives on its shard, so that nothing is locked and no other thread is woken.

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;
use tokio_util::task::TaskTracker;
use trough_protocol::LinkId;
use trough_runtime::tls::accept::accept;

use crate::context::Context;
use crate::discovery::Place;
use crate::http_port;
use crate::uplink::Uplink;

/// Connections that wait for a busy shard.
pub const BACKLOG: usize = 1024;
/// Headers of one request, in bytes.
const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// The scratch keeps this much between messages.
const SCRATCH_KEEPS_BYTES: usize = 64 * 1024;

/// What the kernel keeps for a device that does not read, in bytes. Acks are small, and the kernel's own choice
/// would be megabytes: minutes of acks, before anybody notices.
const SEND_BUFFER_BYTES: usize = 32 * 1024;

/// A connection on its way from the acceptor to its shard.
pub type Arrival = (std::net::TcpStream, SocketAddr, Load);

/// Counts a connection against its shard and the feeder while it lives.
#[derive(Debug)]
pub struct Load {
    shard: Arc<AtomicUsize>,
    context: Arc<Context>,
}

impl Load {
    /// Counts one more.
    pub fn new(shard: &Arc<AtomicUsize>, context: &Arc<Context>) -> Self {
        shard.fetch_add(1, Ordering::Relaxed);
        context.metrics.connections.inc();
        Self { shard: shard.clone(), context: context.clone() }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shard.fetch_sub(1, Ordering::Relaxed);
        self.context.metrics.connections.dec();
    }
}

/// What the sessions of one shard share.
pub struct Shard {
    /// What all shards share.
    pub context: Arc<Context>,
    /// The way to the eaters.
    pub uplink: Rc<Uplink>,
    /// Where JSON and raw messages become frames; empty between messages.
    pub scratch: RefCell<Vec<u8>>,
    tasks: TaskTracker,
}

impl Shard {
    /// Runs a shard on this thread until its arrivals end and its connections are done, or the feeder is killed.
    ///
    /// # Errors
    /// If the system refuses an event loop.
    pub fn run(
        context: Arc<Context>,
        feeder: LinkId,
        places: watch::Receiver<Vec<Place>>,
        arrivals: mpsc::Receiver<Arrival>,
    ) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, Self::serve(context, feeder, places, arrivals));
        Ok(())
    }

    async fn serve(
        context: Arc<Context>,
        feeder: LinkId,
        places: watch::Receiver<Vec<Place>>,
        mut arrivals: mpsc::Receiver<Arrival>,
    ) {
        let uplink = Uplink::new(&context, feeder);
        let links = tokio::task::spawn_local(uplink.clone().run(places));
        let shutdown = context.shutdown.clone();
        let shard = Rc::new(Self { context, uplink, scratch: RefCell::default(), tasks: TaskTracker::new() });
        let serve = async {
            while let Some((stream, address, load)) = arrivals.recv().await {
                match TcpStream::from_std(stream) {
                    Ok(stream) => shard.spawn(connection(shard.clone(), stream, address, load)),
                    Err(error) => tracing::warn!(%error, peer = %address, "cannot watch a connection"),
                }
            }
            shard.tasks.close();
            shard.tasks.wait().await;
        };
        tokio::select! {
            () = serve => {}
            () = shutdown.killed.cancelled() => {}
        }
        links.abort();
    }

    /// Runs a task on this shard; the shard waits for it when it stops.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(self.tasks.track_future(task));
    }

    /// Gives the scratch back, emptied and not too large.
    pub fn give_back(&self, mut scratch: Vec<u8>) {
        scratch.clear();
        scratch.shrink_to(SCRATCH_KEEPS_BYTES);
        *self.scratch.borrow_mut() = scratch;
    }
}

async fn connection(shard: Rc<Shard>, stream: TcpStream, address: SocketAddr, load: Load) {
    let timeout = shard.context.config.request_timeout;
    // It works without, only with more memory.
    let _ = socket2::SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER_BYTES);
    // A connection that says nothing gets no buffer.
    if tokio::time::timeout(timeout, stream.readable()).await.is_err() {
        return;
    }
    match shard.context.config.tls.clone() {
        None => serve_http(shard, stream, address, load).await,
        Some(tls) => match accept(&tls, stream, timeout).await {
            // What TLS needs must not make plain connections larger.
            Ok(stream) => Box::pin(serve_http(shard, stream, address, load)).await,
            Err(error) => tracing::debug!(%error, peer = %address, "no TLS, connection closed"),
        },
    }
}

async fn serve_http<S>(shard: Rc<Shard>, stream: S, address: SocketAddr, load: Load)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let timeout = shard.context.config.request_timeout;
    let load = Rc::new(load);
    let service = {
        let shard = shard.clone();
        service_fn(move |request| {
            let (shard, load) = (shard.clone(), load.clone());
            async move { Ok::<_, Infallible>(http_port::answer(shard, request, address, load).await) }
        })
    };
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(timeout)
        .max_buf_size(REQUEST_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = served.await {
        // A broken or slow request is the client's fault and no news.
        tracing::debug!(%error, peer = %address, "connection ended");
    }
}
