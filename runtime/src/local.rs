//! Links inside one process: `trough up` joins its feeder and its eater by socket pairs, so that the same
//! protocol runs, and no port is open that another local user could write to.

use std::io;

use tokio::net::UnixStream;
use tokio::sync::mpsc;

/// Links that wait to be accepted; more are refused until the listener catches up.
const BACKLOG: usize = 64;

/// The side that opens links. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Connector(mpsc::Sender<std::os::unix::net::UnixStream>);

/// The side that accepts them.
#[derive(Debug)]
pub struct Listener(mpsc::Receiver<std::os::unix::net::UnixStream>);

/// A connector and its listener.
pub fn pair() -> (Connector, Listener) {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    (Connector(sender), Listener(receiver))
}

impl Connector {
    /// Opens a link. Does not wait: the other end is accepted later, as with TCP.
    ///
    /// # Errors
    /// `ConnectionRefused` if the listener is gone or far behind; what the system says otherwise.
    pub fn connect(&self) -> io::Result<UnixStream> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        self.0.try_send(theirs).map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        UnixStream::from_std(ours)
    }
}

impl Listener {
    /// The next link; `None` when every connector is gone. Cancel-safe: a link that was received is returned or
    /// still waits.
    pub async fn accept(&mut self) -> Option<io::Result<UnixStream>> {
        self.0.recv().await.map(UnixStream::from_std)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn joins_two_ends_and_refuses_when_nobody_listens() {
        let (connector, mut listener) = pair();
        let mut ours = connector.connect().unwrap();
        let mut theirs = listener.accept().await.unwrap().unwrap();
        ours.write_all(b"frame").await.unwrap();
        let mut read = [0; 5];
        theirs.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"frame");
        drop(listener);
        assert_eq!(connector.connect().unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
