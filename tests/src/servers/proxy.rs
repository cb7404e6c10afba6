//! A TCP proxy between two parts, with every fault that a network has, at any moment.
//!
//! A connection that has lost bytes never goes on as if it had not: TCP would not allow it, so it is reset when
//! the fault ends.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::{free_ports, own_ip};

/// Most bytes that are read at once.
const CHUNK_BYTES: usize = 16 * 1024;
/// Chunks that are under way in one direction; then nothing more is read.
const CHUNKS_MAX: usize = 64;

/// What happens to bytes now.
#[derive(Debug, Clone, Copy, Default)]
struct Rules {
    black_hole: bool,
    delay: Duration,
    cut: Option<Cut>,
    /// How many times all connections were reset.
    resets: u64,
}

/// How much may still pass on each connection, from when it was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    id: u64,
    bytes: usize,
}

/// A running proxy. Dropping it ends its connections.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens; the same all its life.
    pub at: SocketAddr,
    to: SocketAddr,
    rules: watch::Sender<Rules>,
    acceptor: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts one in front of `to`, which need not be there yet.
    pub async fn start(to: SocketAddr) -> Self {
        let [at] = free_ports(own_ip());
        let mut proxy = Self { at, to, rules: watch::Sender::default(), acceptor: None };
        proxy.listen().await;
        proxy
    }

    async fn listen(&mut self) {
        if self.acceptor.is_none() {
            let listener = TcpListener::bind(self.at).await.unwrap();
            self.acceptor = Some(tokio::spawn(accept(listener, self.to, self.rules.subscribe())));
        }
    }

    /// Refuses new connections; those that are open go on.
    pub async fn refuse(&mut self) {
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.abort();
            // The listener is closed when the task is gone.
            let _ = acceptor.await;
        }
    }

    /// Resets all connections; new ones are taken as before.
    pub fn reset(&self) {
        self.rules.send_modify(|rules| rules.resets += 1);
    }

    /// Takes connections and bytes, both ways, and passes nothing on, not even an end.
    pub fn black_hole(&self) {
        self.rules.send_modify(|rules| rules.black_hole = true);
    }

    /// Passes bytes on so much later, each way. What is under way already keeps its time.
    pub fn delay(&self, each_way: Duration) {
        self.rules.send_modify(|rules| rules.delay = each_way);
    }

    /// Ends each connection, open or new, once so many bytes more have passed on it, both ways together.
    pub fn cut_after(&self, bytes: usize) {
        self.rules.send_modify(|rules| {
            let id = rules.cut.map_or(0, |cut| cut.id + 1);
            rules.cut = Some(Cut { id, bytes });
        });
    }

    /// Ends every fault. Connections that were in a black hole are reset; others go on.
    pub async fn heal(&mut self) {
        self.rules.send_modify(|rules| *rules = Rules { resets: rules.resets, ..Rules::default() });
        self.listen().await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(acceptor) = &self.acceptor {
            acceptor.abort();
        }
    }
}

async fn accept(listener: TcpListener, to: SocketAddr, rules: watch::Receiver<Rules>) {
    loop {
        // Out of descriptors: the test's own deadline says so.
        let Ok((client, _)) = listener.accept().await else { continue };
        // On its own, as it outlives the listener.
        tokio::spawn(carry(client, to, rules.clone()));
    }
}

/// How a connection ends.
enum End {
    /// Both sides have said that they are done, or it was cut.
    Closed,
    /// One side is gone, or it was reset.
    Reset,
}

/// What both directions of a connection know of it.
#[derive(Default)]
struct Shared {
    /// Whether bytes or an end were swallowed.
    lost: AtomicBool,
    passed: Mutex<(Option<Cut>, usize)>,
}

impl Shared {
    /// The rules; `None`, and noted as a loss, while there is a black hole.
    fn passing(&self, rules: &watch::Receiver<Rules>) -> Option<Rules> {
        // Held while the loss is noted: the fault cannot end in between.
        let rules = rules.borrow();
        if rules.black_hole {
            self.lost.store(true, Ordering::Relaxed);
        }
        (!rules.black_hole).then_some(*rules)
    }

    /// How many of so many bytes may still pass.
    fn allow(&self, cut: Option<Cut>, bytes: usize) -> usize {
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        if passed.0 != cut {
            *passed = (cut, 0);
        }
        let allowed = cut.map_or(bytes, |cut| bytes.min(cut.bytes - passed.1));
        passed.1 += allowed;
        allowed
    }
}

async fn carry(mut client: TcpStream, to: SocketAddr, mut rules: watch::Receiver<Rules>) {
    let resets = rules.borrow().resets;
    let shared = Shared::default();
    if rules.borrow().black_hole {
        shared.lost.store(true, Ordering::Relaxed);
        tokio::select! {
            () = swallow(&mut client) => (),
            () = is_reset(&mut rules, resets, &shared) => (),
        }
        return abort(&client);
    }
    let Ok(mut server) = TcpStream::connect(to).await else { return abort(&client) };
    for socket in [&client, &server] {
        let _ = socket.set_nodelay(true);
    }
    let end = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let up = pump(from_client, to_server, rules.clone(), &shared);
        let down = pump(from_server, to_client, rules.clone(), &shared);
        tokio::select! {
            ended = async { tokio::try_join!(up, down) } => ended.map_or_else(|end| end, |_| End::Closed),
            () = is_reset(&mut rules, resets, &shared) => End::Reset,
        }
    };
    // No end passes a black hole either.
    let _ = rules.wait_for(|rules| !rules.black_hole).await;
    if matches!(end, End::Reset) || shared.lost.load(Ordering::Relaxed) {
        abort(&client);
        abort(&server);
    }
}

/// Reads for ever; cancel-safe, as nobody wants what was read.
async fn swallow(socket: &mut TcpStream) {
    let mut bytes = vec![0; CHUNK_BYTES];
    while socket.read(&mut bytes).await.is_ok_and(|bytes| bytes > 0) {}
    std::future::pending().await
}

/// Waits until this connection must be reset, or the proxy is gone.
async fn is_reset(rules: &mut watch::Receiver<Rules>, resets: u64, shared: &Shared) {
    let after =
        |rules: &Rules| rules.resets != resets || (!rules.black_hole && shared.lost.load(Ordering::Relaxed));
    let _ = rules.wait_for(after).await;
}

/// Closing it now sends a reset.
fn abort(socket: &TcpStream) {
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// One direction, up to the end that its source has said.
async fn pump(
    from: ReadHalf<'_>,
    to: WriteHalf<'_>,
    rules: watch::Receiver<Rules>,
    shared: &Shared,
) -> Result<(), End> {
    let (queue, queued) = mpsc::channel(CHUNKS_MAX);
    let read = async { read(from, queue, rules.clone()).await.map_err(|_| End::Reset) };
    tokio::try_join!(read, write(to, queued, rules.clone(), shared)).map(drop)
}

async fn read(
    mut from: ReadHalf<'_>,
    queue: mpsc::Sender<(Instant, Bytes)>,
    rules: watch::Receiver<Rules>,
) -> io::Result<()> {
    loop {
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
        if from.read_buf(&mut chunk).await? == 0 {
            return Ok(());
        }
        let due = Instant::now() + rules.borrow().delay;
        if queue.send((due, chunk.freeze())).await.is_err() {
            return Ok(());
        }
    }
}

async fn write(
    mut to: WriteHalf<'_>,
    mut queued: mpsc::Receiver<(Instant, Bytes)>,
    mut rules: watch::Receiver<Rules>,
    shared: &Shared,
) -> Result<(), End> {
    while let Some((due, chunk)) = queued.recv().await {
        sleep_until(due).await;
        let Some(rules) = shared.passing(&rules) else { continue };
        let allowed = shared.allow(rules.cut, chunk.len());
        to.write_all(&chunk[..allowed]).await.map_err(|_| End::Reset)?;
        if allowed < chunk.len() {
            return Err(End::Closed);
        }
    }
    if shared.passing(&rules).is_none() {
        let _ = rules.wait_for(|rules| !rules.black_hole).await;
        return Err(End::Reset);
    }
    to.shutdown().await.map_err(|_| End::Reset)
}

#[cfg(test)]
mod tests;
