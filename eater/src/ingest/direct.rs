//! The committer's own way to a feeder: an ATE goes out from the thread that has just made the batches durable,
//! without waking the link's task. In sparse traffic that wake-up is a good part of what a frame costs.
//!
//! The link's task owns the socket and writes everything else. Both write whole messages, one at a time: whoever
//! holds the lock. What the socket does not take at once is left to the task, which can wait.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::net::{SendFlags, send};
use trough_protocol::link::{self, LinkMessage};

/// The way, while it is open.
#[derive(Debug, Default)]
pub struct DirectAte(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// A second handle of the link's socket; none if the way is closed.
    socket: Option<OwnedFd>,
    /// The task has bytes that are not written yet: a message in between would tear them.
    task_writes: bool,
    /// What the socket did not take of an ATE; the task writes it before anything else.
    rest: Vec<u8>,
    /// The highest batch that the feeder was told of.
    told: u64,
    message: Vec<u8>,
}

impl DirectAte {
    /// Opens the way over a second handle of the link's socket. Without one the task tells everything.
    pub fn open(&self, socket: Option<OwnedFd>) {
        self.lock().socket = socket;
    }

    /// Closes the way for good; from here on the task must be woken for every commit.
    pub fn close(&self) {
        self.lock().socket = None;
    }

    /// Tells the feeder that all up to `number` is durable, if that can be done at once; `false` if the task must.
    /// Never blocks.
    pub fn tell(&self, number: u64) -> bool {
        let mut state = self.lock();
        let State { socket: Some(socket), task_writes: false, rest, told, message } = &mut *state else {
            return false;
        };
        if !rest.is_empty() {
            return false;
        }
        message.clear();
        link::encode(&LinkMessage::Ate { number }, message);
        match send(&*socket, message, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(0) | Err(_) => false,
            Ok(written) => {
                *told = number;
                rest.extend_from_slice(&message[written..]);
                rest.is_empty()
            }
        }
    }

    /// Whether the task is to tell of `number`; it counts as told then.
    pub fn is_news(&self, number: u64) -> bool {
        let mut state = self.lock();
        let news = state.told < number;
        state.told = state.told.max(number);
        news
    }

    /// The task is about to write `out`, which gets the rest of a torn ATE in front. `false` if there is nothing.
    pub fn begin(&self, out: &mut Vec<u8>) -> bool {
        let mut state = self.lock();
        if !state.rest.is_empty() {
            out.splice(0..0, state.rest.drain(..));
        }
        state.task_writes = !out.is_empty();
        state.task_writes
    }

    /// The task has written all that it had.
    pub fn done(&self) {
        self.lock().task_writes = false;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics but for want of memory.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    fn ate(number: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        link::encode(&LinkMessage::Ate { number }, &mut bytes);
        bytes
    }

    #[test]
    fn an_ate_goes_out_unless_the_task_writes() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let direct = DirectAte::default();
        assert!(!direct.tell(1), "the way is closed");
        direct.open(Some(ours.try_clone().unwrap().into()));
        assert!(direct.tell(1));
        assert!(!direct.is_news(1), "it was told");
        let mut out = b"half a message".to_vec();
        assert!(direct.begin(&mut out));
        assert!(!direct.tell(2), "it would land inside of the task's message");
        direct.done();
        assert!(direct.is_news(2));
        assert!(direct.tell(3));
        direct.close();
        assert!(!direct.tell(4));
        drop((ours, direct));
        let mut read = Vec::new();
        theirs.read_to_end(&mut read).unwrap();
        assert_eq!(read, [ate(1), ate(3)].concat());
    }

    #[test]
    fn what_a_full_socket_does_not_take_is_left_to_the_task() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let direct = DirectAte::default();
        direct.open(Some(ours.try_clone().unwrap().into()));
        let mut number = 0;
        while direct.tell(number + 1) {
            number += 1;
        }
        assert!(!direct.tell(number + 2), "nothing may overtake the rest");
        let mut out = b"the task's".to_vec();
        direct.begin(&mut out);
        let mut read = Vec::new();
        let mut block = [0; 4096];
        while let Ok(len @ 1..) = theirs.read(&mut block) {
            read.extend_from_slice(&block[..len]);
        }
        read.extend_from_slice(&out);
        let mut expected: Vec<u8> = (1..=number).flat_map(ate).collect();
        if !direct.is_news(number + 1) {
            expected.extend(ate(number + 1));
        }
        expected.extend_from_slice(b"the task's");
        assert_eq!(read, expected, "whole messages, in order");
    }
}
