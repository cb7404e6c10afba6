//! What a holder believes, on a clock that stands still unless it is told to go on.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::key::Environment;

const TTL: Duration = Duration::from_secs(5);

/// One item, on a bus that answers as it is told.
#[derive(Default)]
struct Scripted {
    item: Mutex<Option<(Owner, u64)>>,
    answers: Mutex<Answers>,
    writes: AtomicU32,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum Answers {
    #[default]
    Well,
    /// Nothing arrives.
    Never,
    /// What is written arrives, and the answer is lost.
    Ambiguously,
}

impl Scripted {
    fn answer<T>(&self, does: impl FnOnce(&mut Option<(Owner, u64)>) -> T) -> Result<T, BusError> {
        let answers = *self.answers.lock().unwrap();
        let lost = || BusError::Unavailable { reason: "as told".into() };
        if answers == Answers::Never {
            return Err(lost());
        }
        let result = does(&mut self.item.lock().unwrap());
        if answers == Answers::Well { Ok(result) } else { Err(lost()) }
    }

    fn write(&self, item: &mut Option<(Owner, u64)>, owner: Owner) -> u64 {
        let number = u64::from(self.writes.fetch_add(1, Ordering::SeqCst)) + 1;
        *item = Some((owner, number));
        number
    }

    fn set(&self, answers: Answers) {
        *self.answers.lock().unwrap() = answers;
    }
}

impl Items for Scripted {
    fn add<'a>(&'a self, _: &'a Key, owner: Owner, _: u32) -> BoxFuture<'a, Result<Option<u64>, BusError>> {
        Box::pin(async move {
            self.answer(|item| if item.is_some() { None } else { Some(self.write(item, owner)) })
        })
    }

    fn renew<'a>(
        &'a self,
        _: &'a Key,
        owner: Owner,
        number: u64,
        _: u32,
    ) -> BoxFuture<'a, Result<Option<u64>, BusError>> {
        Box::pin(async move {
            self.answer(|item| match *item {
                Some((_, has)) if has == number => Some(self.write(item, owner)),
                _ => None,
            })
        })
    }

    fn read<'a>(&'a self, _: &'a Key) -> BoxFuture<'a, Result<Option<(Owner, u64)>, BusError>> {
        // Reading has no side effect, so its answer is either there or not.
        Box::pin(async move {
            let answers = *self.answers.lock().unwrap();
            let lost = BusError::Unavailable { reason: "as told".into() };
            if answers == Answers::Never { Err(lost) } else { Ok(*self.item.lock().unwrap()) }
        })
    }

    fn remove<'a>(&'a self, _: &'a Key, number: u64) -> BoxFuture<'a, Result<(), BusError>> {
        Box::pin(async move {
            self.answer(|item| {
                item.take_if(|(_, has)| *has == number);
            })
        })
    }
}

async fn held(bus: &Arc<Scripted>) -> Lease {
    let key = Key::new(&Environment::new("sandbox").unwrap(), "compactor");
    acquire(bus.clone(), &key, TTL).await.unwrap().unwrap()
}

#[tokio::test(start_paused = true)]
async fn is_held_for_as_long_as_it_is_renewed() {
    let bus = Arc::<Scripted>::default();
    let lease = held(&bus).await;
    assert!(tokio::time::timeout(Duration::from_secs(600), lease.lost()).await.is_err());
    assert!(lease.is_held());
    lease.release().await;
    assert_eq!(*bus.item.lock().unwrap(), None);
}

/// 1.5 s before the item may be gone, counted from the last renewal that was sent and answered.
#[tokio::test(start_paused = true)]
async fn is_lost_before_another_can_have_it() {
    for answers in [Answers::Never, Answers::Ambiguously] {
        let bus = Arc::<Scripted>::default();
        let acquired = Instant::now();
        let lease = held(&bus).await;
        bus.set(answers);
        lease.lost().await;
        assert!(!lease.is_held());
        assert_eq!(acquired.elapsed(), TTL - GRANULARITY - MARGIN);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_looked_up_before_the_next_renewal() {
    let bus = Arc::<Scripted>::default();
    let lease = held(&bus).await;
    bus.set(Answers::Ambiguously);
    // Its number is another one now.
    tokio::time::sleep(Duration::from_millis(1600)).await;
    assert!(bus.writes.load(Ordering::SeqCst) > 1, "the renewal has arrived");
    bus.set(Answers::Well);
    assert!(tokio::time::timeout(Duration::from_secs(60), lease.lost()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_of_its_own_that_happens_late_does_not_cost_it() {
    let bus = Arc::<Scripted>::default();
    let lease = held(&bus).await;
    bus.item.lock().unwrap().as_mut().unwrap().1 = 99;
    assert!(tokio::time::timeout(Duration::from_secs(60), lease.lost()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn another_holder_or_none_is_noticed_at_the_next_renewal() {
    for now in [None, Some(([9; 16], 99))] {
        let bus = Arc::<Scripted>::default();
        let acquired = Instant::now();
        let lease = held(&bus).await;
        *bus.item.lock().unwrap() = now;
        lease.lost().await;
        assert!(acquired.elapsed() <= TTL * 3 / 10);
        lease.release().await;
        assert_eq!(*bus.item.lock().unwrap(), now, "what is another's stays");
    }
}

#[tokio::test(start_paused = true)]
async fn lives_are_whole_seconds_within_bounds() {
    let bus = Arc::<Scripted>::default();
    let key = Key::new(&Environment::new("sandbox").unwrap(), "compactor");
    for bad in [Duration::from_secs(2), Duration::from_secs(61), Duration::from_millis(3500)] {
        let refused = acquire(bus.clone(), &key, bad).await;
        assert!(matches!(refused, Err(BusError::Invalid(_))), "{refused:?}");
    }
}
