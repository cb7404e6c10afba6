//! Group commit: what comes while one group is written becomes the next one.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, Write};
use std::rc::Rc;
use std::task::Waker;

use tokio::sync::mpsc;

/// How far one session's frames have come.
#[derive(Debug, Default)]
pub struct Progress {
    /// The last number received.
    received: Cell<u64>,
    /// The last durable number.
    durable: Cell<u64>,
    /// Whether the group that is being filled has frames of it.
    entered: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Progress {
    /// The last durable number.
    pub fn durable(&self) -> u64 {
        self.durable.get()
    }

    /// Who is woken when the number rises.
    pub fn set_waker(&self, waker: &Waker) {
        let mut own = self.waker.borrow_mut();
        match &mut *own {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }
}

/// The sessions of a group, each with the last of its numbers in it.
type Sessions = Vec<(Rc<Progress>, u64)>;

#[derive(Debug, Default)]
struct Group {
    bytes: Vec<u8>,
    sessions: Sessions,
}

/// The sessions' side of the writing thread.
#[derive(Debug)]
pub struct Committer {
    filling: RefCell<Group>,
    /// The sessions of the group that is being written; `None` while the thread has nothing to do.
    writing: RefCell<Option<Sessions>>,
    groups: std::sync::mpsc::SyncSender<Vec<u8>>,
}

impl Committer {
    /// Starts the writing thread.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn start(mut file: File) -> io::Result<Rc<Self>> {
        let (groups, to_write) = std::sync::mpsc::sync_channel::<Vec<u8>>(1);
        let (written, mut done) = mpsc::channel::<Vec<u8>>(1);
        std::thread::Builder::new().name("floor-commit".into()).spawn(move || {
            while let Ok(mut bytes) = to_write.recv() {
                let result = file.write_all(&bytes).and_then(|()| file.sync_data());
                bytes.clear();
                // Nothing more is acknowledged after a failure: the bench sees a server that stands still.
                if result.is_err() || written.blocking_send(bytes).is_err() {
                    return;
                }
            }
        })?;
        let committer = Rc::new(Self { filling: RefCell::default(), writing: RefCell::default(), groups });
        let own = committer.clone();
        tokio::task::spawn_local(async move {
            while let Some(empty) = done.recv().await {
                own.committed(empty);
            }
        });
        Ok(committer)
    }

    /// Adds a message's frames to the group that is being filled.
    pub fn append(&self, session: &Rc<Progress>, last: u64, data: &[u8]) {
        let mut group = self.filling.borrow_mut();
        group.bytes.extend_from_slice(data);
        session.received.set(last);
        if !session.entered.replace(true) {
            group.sessions.push((session.clone(), 0));
        }
    }

    /// Hands the group over if the thread has nothing to do.
    pub fn submit(&self) {
        let mut group = self.filling.borrow_mut();
        if group.bytes.is_empty() || self.writing.borrow().is_some() {
            return;
        }
        let mut sessions = std::mem::take(&mut group.sessions);
        for (session, last) in &mut sessions {
            session.entered.set(false);
            *last = session.received.get();
        }
        *self.writing.borrow_mut() = Some(sessions);
        let bytes = std::mem::take(&mut group.bytes);
        // There is room: the thread has nothing to do. If it has ended, nothing is acknowledged any more.
        let _ = self.groups.send(bytes);
    }

    fn committed(&self, empty: Vec<u8>) {
        {
            let mut group = self.filling.borrow_mut();
            if group.bytes.is_empty() {
                group.bytes = empty;
            }
        }
        for (session, last) in self.writing.take().into_iter().flatten() {
            session.durable.set(last);
            if let Some(waker) = &*session.waker.borrow() {
                waker.wake_by_ref();
            }
        }
        self.submit();
    }
}
