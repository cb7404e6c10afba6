//! The floor: the least that a server must do for the same traffic, to measure Trough against.
//!
//! A bare tokio-tungstenite server on one thread speaks just enough of `trough.v1` for the same client to drive
//! it. It checks nothing: no token, no sequence, no limits, and it trusts its clients to keep to their window. It
//! either stores nothing and acknowledges at once, or appends every message's frames to one file and acknowledges
//! after a group commit ([`commit`]).

mod commit;
mod session;

use std::fs::File;
use std::io;

use tokio::net::TcpListener;
use tokio::task::LocalSet;

use commit::Committer;

/// Serves until `stop` is ready. With a file, frames are appended to it and acknowledged when they are durable;
/// without, at once.
///
/// # Errors
/// If the system refuses an event loop, a thread or the listener.
pub fn run(
    listener: std::net::TcpListener,
    file: Option<File>,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let committer = file.map(Committer::start).transpose()?;
        tokio::select! {
            result = accept(&listener, committer) => result,
            () = stop => Ok(()),
        }
    })
}

async fn accept(listener: &TcpListener, committer: Option<std::rc::Rc<Committer>>) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let committer = committer.clone();
        tokio::task::spawn_local(async move {
            // A session that ends badly is seen by the client, which reports it.
            let _ = session::serve(stream, committer).await;
        });
    }
}
