//! The way of a batch: when it is acknowledged, and when it must not be.
//!
//! 1. Nothing is acknowledged before its object is stored and its row is entered, in the order of the numbers.
//! 2. A store or a catalog that fails is tried again; health says so meanwhile, and the same bytes lie under the same key.
//! 3. Whoever was declared dead acknowledges nothing more, and says why.
//! 4. A close commits what was submitted, and ends the incarnation.
//! 5. A catalog that was lost, or restored from an older copy, costs no object.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use trough_protocol::Seq;
use trough_store::ObjectCatalog;
use trough_store::object_catalog::Incarnation;

use super::world::*;
use crate::frames::Frames;
use crate::journal::testing::{TestRun, TestSink, batch};
use crate::journal::{JournalError, ScanRange, Submission};
use crate::objects::ObjectsConfig;

fn submit(eater: &Eater, sink: &Arc<TestSink>, number: u64, first: u64, count: u64) {
    let runs = [TestRun::Frames { device: "a", epoch: 1, first, count }];
    eater.journal.submit(Submission { batch: batch(&runs), number, sink: sink.clone() }).unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_acknowledged_frame_is_visible_to_the_next_request_on_any_eater() {
    let world = Arc::default();
    let (one, other) = (Eater::calm(&world, 1), Eater::calm(&world, 2));
    let sink = Arc::new(TestSink::default());
    for number in 1..=5 {
        submit(&one, &sink, number, 1 + (number - 1) * 3, 3);
        until("it is durable", || sink.highest() >= number).await;
        assert_eq!(other.head("a", 1).await, Seq(3 * number));
        let numbers = other.numbers("a", ScanRange::default()).await.unwrap();
        assert_eq!(numbers.last(), Some(&(1, 3 * number)));
        assert_eq!(numbers.len() as u64, 3 * number);
    }
}

#[tokio::test(start_paused = true)]
async fn batches_gather_for_the_linger_and_large_ones_do_not_wait() {
    let world = Arc::default();
    let config = ObjectsConfig { object_bytes: 4000, ..config() };
    let eater = Eater::new(&Line::new(&world, 1, (0, 0)), 1, config);
    let sink = Arc::new(TestSink::default());
    (1..=3).for_each(|number| submit(&eater, &sink, number, number, 1));
    sleep(Duration::from_millis(90)).await;
    assert_eq!(sink.highest(), 0, "before the linger is over");
    sleep(Duration::from_millis(20)).await;
    assert_eq!((sink.highest(), entered(&world).len()), (3, 1), "one object for all");
    (4..=6).for_each(|number| submit(&eater, &sink, number, number * 1000, 60));
    sleep(Duration::from_millis(1)).await;
    assert_eq!(sink.highest(), 5, "two objects are full, and the third one waits for more");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_acknowledged_while_the_store_or_the_catalog_fails() {
    let world = Arc::default();
    let line = Line::new(&world, 1, (100, 0));
    let eater = Eater::new(&line, 1, config());
    let sink = Arc::new(TestSink::default());
    for number in 1..=200 {
        submit(&eater, &sink, number, number, 1);
        sleep(Duration::from_millis(10)).await;
    }
    sleep(Duration::from_secs(5)).await;
    assert_eq!(sink.highest(), 0);
    let degraded = eater.health.degraded();
    assert_eq!(degraded[0].0, "journal");
    assert!(degraded[0].1.contains("goes on by itself"), "{degraded:?}");
    *line.trouble.lock().unwrap() = (0, 5);
    until("it has recovered", || sink.highest() == 200).await;
    assert!(eater.health.degraded().is_empty());
    assert!(entered(&world).len() <= 12, "what waited has gathered: {}", entered(&world).len());
    assert_eq!(eater.numbers("a", ScanRange::default()).await.unwrap().len(), 200);
}

#[tokio::test(start_paused = true)]
async fn objects_overlap_and_their_rows_do_not() {
    let world = Arc::default();
    let line = Line::new(&world, 7, (0, 3000));
    let eater = Eater::new(&line, 1, config());
    let sink = Arc::new(TestSink::default());
    for number in 1..=40 {
        submit(&eater, &sink, number, number, 1);
        sleep(Duration::from_millis(150)).await;
    }
    let (puts, rows) = (line.puts.lock().unwrap().len(), entered(&world).len());
    assert!(puts > rows + 1, "{puts} stored or being stored, {rows} entered");
    // The world asserts the order of rows, and the sink that of acknowledgements.
    until("all is durable", || sink.highest() == 40).await;
    let rows = world.rows.lock().unwrap();
    assert!(rows.values().is_sorted_by(|a, b| a.received_at < b.received_at));
}

#[tokio::test(start_paused = true)]
async fn an_eater_that_was_declared_dead_acknowledges_nothing() {
    let world = Arc::default();
    let (one, other) = (Eater::calm(&world, 1), Eater::calm(&world, 2));
    let sink = Arc::new(TestSink::default());
    submit(&one, &sink, 1, 1, 5);
    until("the first is durable", || sink.highest() == 1).await;
    // Between PUT and entry.
    submit(&one, &sink, 2, 6, 5);
    sleep(Duration::from_millis(99)).await;
    one.line.stopped.send_replace(true);
    sleep(Duration::from_secs(200)).await;
    assert!(world.lives.lock().unwrap().values().any(|(_, closed)| *closed), "the other one noticed");
    let again = Arc::new(TestSink::default());
    submit(&other, &again, 1, 6, 7);
    until("it was sent again", || again.highest() == 1).await;
    one.line.stopped.send_replace(false);
    let JournalError::Fenced(why) = one.journal.failed().await else { panic!("another reason") };
    assert!(why.contains("declared dead"), "{why}");
    assert_eq!(sink.highest(), 1);
    assert!(one.journal.submit(Submission { batch: batch(&[]), number: 3, sink: sink.clone() }).is_err());
    assert!(matches!(one.journal.close().await, Err(JournalError::Fenced(_))));
    let expected: Vec<_> = (1..=12).map(|seq| (1, seq)).collect();
    assert_eq!(other.numbers("a", ScanRange::default()).await.unwrap(), expected);
    // What it stored in vain goes, and nothing else.
    sleep(Duration::from_secs(60)).await;
    let left: Vec<String> = world.objects.lock().unwrap().keys().cloned().collect();
    assert_eq!(left, entered(&world).into_iter().collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_long_outage_of_the_catalog_kills_nobody() {
    let world = Arc::default();
    // So many that somebody looks before somebody else has been heard again.
    let eaters: Vec<Eater> = (1..=12).map(|name| Eater::calm(&world, name)).collect();
    let sink = Arc::new(TestSink::default());
    for (number, eater) in (1..).zip(&eaters) {
        submit(eater, &sink, number, number, 1);
        until("it is durable", || sink.highest() == number).await;
    }
    eaters.iter().for_each(|eater| drop(eater.line.trouble.lock().map(|mut trouble| *trouble = (100, 0))));
    sleep(Duration::from_secs(600)).await;
    eaters.iter().for_each(|eater| drop(eater.line.trouble.lock().map(|mut trouble| *trouble = (0, 0))));
    sleep(Duration::from_secs(120)).await;
    assert!(world.lives.lock().unwrap().values().all(|(_, closed)| !closed));
}

#[tokio::test(start_paused = true)]
async fn a_close_commits_what_was_submitted_and_ends_the_incarnation() {
    let world = Arc::default();
    let eater = Eater::calm(&world, 1);
    let sink = Arc::new(TestSink::default());
    (1..=9).for_each(|number| submit(&eater, &sink, number, number, 1));
    eater.journal.close().await.unwrap();
    assert_eq!(sink.highest(), 9);
    assert!(world.lives.lock().unwrap().values().all(|(_, closed)| *closed));
    assert_eq!(world.heads.lock().unwrap().values().next().unwrap().head, Seq(9));

    let eater = Eater::calm(&world, 2);
    eater.line.stopped.send_replace(true);
    submit(&eater, &sink, 10, 10, 1);
    eater.killed.cancel();
    assert!(matches!(eater.journal.close().await, Err(JournalError::Unstored { batches: 1, .. })));
    assert_eq!(sink.highest(), 9);

    let idle = Eater::calm(&world, 3);
    idle.journal.close().await.unwrap();
    let states = idle.line.incarnations().await.unwrap();
    assert_eq!(states.len(), 1, "one that never had anything to store is not known, nor is the stopped one");
}

fn objects(world: &World) -> usize {
    world.objects.lock().unwrap().len()
}

fn incarnation(name: u64) -> Incarnation {
    let mut incarnation = [0; 16];
    incarnation[..8].copy_from_slice(&name.to_be_bytes());
    Incarnation(incarnation)
}

/// An eater stores so many objects and dies; the catalog is one of a time when it had entered `known` of them, and was
/// heard so many hours before it sealed the last. What another eater leaves, and whether it says so.
async fn left(stored: u64, known: u64, hours: u64) -> (usize, bool) {
    let world = Arc::<World>::default();
    let (eater, sink) = (Eater::calm(&world, 1), Arc::new(TestSink::default()));
    for number in 1..=stored {
        submit(&eater, &sink, number, number, 1);
        until("it is durable", || sink.highest() >= number).await;
    }
    drop(eater);
    world.rows.lock().unwrap().retain(|id, _| id.n <= known);
    world.lives.lock().unwrap().get_mut(&incarnation(1)).unwrap().0 -= hours * 3_600_000_000;
    let other = Eater::calm(&world, 2);
    until("it is declared dead", || world.lives.lock().unwrap()[&incarnation(1)].1).await;
    sleep(Duration::from_secs(120)).await;
    (objects(&world), other.health.degraded().iter().any(|(part, _)| part == "catalog"))
}

#[tokio::test(start_paused = true)]
async fn what_a_catalog_from_an_older_copy_does_not_know_is_kept() {
    assert_eq!(left(12, 10, 0).await, (10, false), "what was on its way when it died is removed");
    assert_eq!(left(30, 10, 0).await, (30, true), "more than ever are on their way");
    assert_eq!(left(12, 10, 2).await, (12, true), "sealed long after it was heard last");
}

#[tokio::test(start_paused = true)]
async fn an_eater_that_the_catalog_has_forgotten_ends_without_a_word() {
    let world = Arc::<World>::default();
    let (eater, sink) = (Eater::calm(&world, 1), Arc::new(TestSink::default()));
    submit(&eater, &sink, 1, 1, 1);
    until("it is durable", || sink.highest() >= 1).await;
    world.forget();
    eater.journal.close().await.unwrap();
    assert!(
        world.lives.lock().unwrap().is_empty(),
        "a rebuild finds its objects, and nobody takes them for orphans"
    );
    let _other = Eater::calm(&world, 2);
    sleep(Duration::from_secs(300)).await;
    assert_eq!(objects(&world), 1);
}
