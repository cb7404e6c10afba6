//! One walk for all who follow.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use trough_store::object_catalog::Incarnation;

use super::commit::Commit;
use super::source::{LiveError, Source};
use super::vector::Vector;
use crate::doorbell::{Doorbell, Event, News, Subscription};

/// How much of what was found last is kept, in runs and spans: some 10 MiB at the most.
const KEPT_WEIGHT_MAX: usize = 100_000;
/// Everything is looked at so often, whether the doorbell rings or not.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// So long everything is still followed when nobody wants it any more.
const LINGER: Duration = Duration::from_secs(10);
/// How long to wait before what failed is tried again.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// What all who follow share. Clones are the same.
#[derive(Clone)]
pub struct Live(Arc<Shared>);

struct Shared {
    source: Arc<dyn Source>,
    doorbell: Doorbell,
    list: Mutex<List>,
    /// The number behind the last commit of the list; sent whenever the list or its vector has changed.
    end: watch::Sender<u64>,
    /// How many follow.
    followers: watch::Sender<usize>,
    /// How often somebody has asked for a look.
    asked: watch::Sender<u64>,
}

/// What was found last.
#[derive(Default)]
struct List {
    /// The number of the first commit. Numbers rise for as long as the process lives.
    first: u64,
    commits: VecDeque<Arc<Commit>>,
    weight: usize,
    /// What is done when all of the list is; `None` while nobody walks.
    vector: Option<Vector>,
    /// So many had asked when the last look of all began.
    looked: u64,
}

impl List {
    fn end(&self) -> u64 {
        self.first + self.commits.len() as u64
    }

    fn push(&mut self, commit: Arc<Commit>) {
        self.weight += commit.weight();
        self.commits.push_back(commit);
        while self.weight > KEPT_WEIGHT_MAX
            && self.commits.len() > 1
            && let Some(gone) = self.commits.pop_front()
        {
            self.weight -= gone.weight();
            self.first += 1;
        }
    }

    /// Begins anew behind everything: whoever has not taken all of it must walk by itself.
    fn begin(&mut self, vector: Option<Vector>, looked: u64) {
        self.first = self.end() + 1;
        *self = Self { first: self.first, vector, looked, ..Self::default() };
    }
}

/// What a follower finds behind its place in the list.
#[derive(Debug)]
pub enum Next {
    /// The next commit.
    Commit(Arc<Commit>),
    /// Nothing yet: all that this vector says is done.
    Nothing(Vector),
    /// It is too far behind: walk, and take a new place.
    Behind,
}

impl Live {
    /// Follows `source` whenever somebody wants it, until `stopped`.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(source: Arc<dyn Source>, doorbell: Doorbell, stopped: CancellationToken) -> Self {
        let list = List { first: 1, ..List::default() };
        let (end, followers, asked) = (watch::Sender::new(1), watch::Sender::new(0), watch::Sender::new(0));
        let shared = Arc::new(Shared { source, doorbell, list: Mutex::new(list), end, followers, asked });
        let hub = Hub(shared.clone());
        tokio::spawn(async move { stopped.run_until_cancelled(hub.run()).await });
        Self(shared)
    }

    /// Where commits are read from.
    pub fn source(&self) -> &Arc<dyn Source> {
        &self.0.source
    }

    /// Somebody follows from now on, until the follower is dropped.
    pub fn follow(&self) -> Follower {
        self.0.followers.send_modify(|followers| *followers += 1);
        Follower { shared: self.0.clone(), changed: self.0.end.subscribe() }
    }
}

/// Somebody who follows.
pub struct Follower {
    shared: Arc<Shared>,
    changed: watch::Receiver<u64>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.shared.followers.send_modify(|followers| *followers -= 1);
    }
}

impl Follower {
    /// The number behind the last commit of the list, and what is done then: whoever walks through everything from now on
    /// goes on with that one. `None` if the journals cannot be looked at in time.
    pub async fn end(&mut self, deadline: Instant) -> Option<(u64, Vector)> {
        self.end_after(0, deadline).await
    }

    /// The same when everything that is durable now was looked at.
    ///
    /// Of each device this has all numbers before one, which what is listed ([`Source::end`]) need not have.
    pub async fn now(&mut self, deadline: Instant) -> Option<(u64, Vector)> {
        let mut asked = 0;
        self.shared.asked.send_modify(|before| {
            *before += 1;
            asked = *before;
        });
        self.end_after(asked, deadline).await
    }

    async fn end_after(&mut self, asked: u64, deadline: Instant) -> Option<(u64, Vector)> {
        let walks = async {
            loop {
                self.changed.borrow_and_update();
                let end = {
                    let list = self.shared.list();
                    let vector = list.vector.clone().filter(|_| list.looked >= asked);
                    vector.map(|vector| (list.end(), vector))
                };
                match end {
                    Some(end) => return Some(end),
                    // An error means that the process ends.
                    None => self.changed.changed().await.ok()?,
                }
            }
        };
        timeout_at(deadline, walks).await.ok().flatten()
    }

    /// The commit with this number.
    pub fn next(&mut self, number: u64) -> Next {
        self.changed.borrow_and_update();
        let list = self.shared.list();
        let at = number.checked_sub(list.first).and_then(|at| usize::try_from(at).ok());
        match (at, &list.vector) {
            (Some(at), Some(vector)) if at == list.commits.len() => Next::Nothing(vector.clone()),
            (Some(at), _) if at < list.commits.len() => Next::Commit(list.commits[at].clone()),
            _ => Next::Behind,
        }
    }

    /// Waits until the list has changed since it was looked at last. For ever once the process ends.
    ///
    /// Cancel-safe: a change is seen by the next call.
    pub async fn changed(&mut self) {
        if self.changed.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

impl Shared {
    fn list(&self) -> MutexGuard<'_, List> {
        // Nothing panics while holding it but for want of memory.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut List)) {
        let end = {
            let mut list = self.list();
            change(&mut list);
            list.end()
        };
        self.end.send_replace(end);
    }
}

/// The task.
struct Hub(Arc<Shared>);

impl Hub {
    async fn run(self) {
        let mut followers = self.0.followers.subscribe();
        while followers.wait_for(|followers| *followers > 0).await.is_ok() {
            tokio::select! {
                () = self.walk() => {}
                () = nobody(self.0.followers.subscribe()) => {}
            }
            self.0.change(|list| list.begin(None, 0));
        }
    }

    /// Walks until what comes next is gone.
    async fn walk(&self) {
        // First subscribe, then look: what comes in between is heard.
        let mut bell = self.0.doorbell.subscribe();
        let mut asked = self.0.asked.subscribe();
        let mut failed = false;
        let begun = loop {
            match self.0.source.end().await {
                Ok(vector) => break vector,
                Err(error) => note(&error, &mut failed).await,
            }
        };
        let mut walk = self.0.source.walk(begun, None);
        let mut of = None;
        // The list begins behind the first look of all: what was listed may lack what others go on from.
        let mut begins = true;
        let mut looked = *asked.borrow_and_update();
        loop {
            match walk.step(of).await {
                Ok(found) => {
                    failed = false;
                    let (vector, more) = (Some(walk.vector().clone()), found.more);
                    match (begins, more) {
                        (true, true) => {}
                        (true, false) => self.0.change(|list| list.begin(vector, looked)),
                        (false, _) => self.0.change(|list| {
                            found.commits.into_iter().for_each(|commit| list.push(commit));
                            list.vector = vector;
                            if !more && of.is_none() {
                                list.looked = looked;
                            }
                        }),
                    }
                    begins &= more;
                    if !more {
                        of = heard(&mut bell, &mut asked).await;
                    }
                }
                Err(LiveError::Expired) => {
                    tracing::warn!(
                        "followers were not told of what was compacted meanwhile: they look by themselves"
                    );
                    return sleep(RETRY_EVERY).await;
                }
                Err(error) => {
                    note(&error, &mut failed).await;
                    of = None;
                }
            }
            if of.is_none() {
                looked = *asked.borrow_and_update();
            }
        }
    }
}

/// Where to look next.
async fn heard(bell: &mut Subscription, asked: &mut watch::Receiver<u64>) -> Option<Incarnation> {
    tokio::select! {
        event = timeout(LOOK_EVERY, bell.next()) => match event {
            Ok(Event::New(News::Objects { incarnation, .. })) => Some(incarnation),
            Ok(Event::New(News::Groups { .. }) | Event::Lost) | Err(_) => None,
        },
        // An error means that the process ends: the token tells.
        Ok(()) = asked.changed() => None,
    }
}

/// Returns when nobody has followed for a while: whoever comes again soon finds the list, and a first look that takes
/// longer than anybody waits comes to an end all the same.
async fn nobody(mut followers: watch::Receiver<usize>) {
    loop {
        // An error would mean that nobody can follow any more.
        let _ = followers.wait_for(|followers| *followers == 0).await;
        if timeout(LINGER, followers.wait_for(|followers| *followers > 0)).await.is_err() {
            return;
        }
    }
}

async fn note(error: &LiveError, failed: &mut bool) {
    if !std::mem::replace(failed, true) {
        tracing::warn!(%error, "what is new cannot be looked at just now: live tails wait");
    }
    sleep(RETRY_EVERY).await;
}
