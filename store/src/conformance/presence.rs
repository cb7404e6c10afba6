//! The cases of presence.

use std::collections::BTreeMap;
use std::time::Duration;

use trough_protocol::DeviceId;

use super::Fixture;
use crate::outbox::OutboxError;
use crate::presence::{FeederId, NOTES_MAX, Presence, SessionNote, SessionRow, SessionState};

type On = Fixture<dyn Presence>;

const NORTH: FeederId = [1; 16];
const SOUTH: FeederId = [2; 16];

fn device(number: usize) -> DeviceId {
    DeviceId::new(&format!("bus-{number:04}")).unwrap()
}

fn note(number: usize, session: u8, opened_s: u64, heard_s: u64, state: SessionState) -> SessionNote {
    SessionNote {
        device: device(number),
        session: [session; 16],
        opened_ago: Duration::from_secs(opened_s),
        heard_ago: Duration::from_secs(heard_s),
        state,
    }
}

async fn row(presence: &dyn Presence, number: usize) -> SessionRow {
    let (rows, _) = presence.sessions(vec![device(number), device(9999)]).await.unwrap();
    assert_eq!(rows.len(), 1);
    rows[0].clone()
}

/// A time is some seconds ago, as far as clocks with a resolution of milliseconds and a busy machine tell.
fn is_ago(then: u64, now: u64, seconds: u64) {
    let ago = Duration::from_micros(now - then);
    let expected = Duration::from_secs(seconds);
    assert!(
        ago + Duration::from_millis(2) >= expected && ago < expected + Duration::from_secs(4),
        "{ago:?} instead of {expected:?}"
    );
}

pub async fn a_feeder_is_known_after_its_first_report(on: &On) {
    let presence = (on.open)();
    let nobody = presence.feeders().await.unwrap();
    assert_eq!((nobody.since, nobody.reported), (None, vec![]));
    assert!(!presence.report(NORTH, vec![]).await.unwrap());
    assert!(presence.report(NORTH, vec![]).await.unwrap());
    assert!(!presence.report(SOUTH, vec![]).await.unwrap());
    let feeders = (on.open)().feeders().await.unwrap();
    let mut known: Vec<_> = feeders.reported.iter().map(|(feeder, _)| *feeder).collect();
    known.sort_unstable();
    assert_eq!(known, [NORTH, SOUTH]);
    is_ago(feeders.reported_at(&NORTH).unwrap(), feeders.now, 0);
    is_ago(feeders.since.unwrap(), feeders.now, 0);
}

pub async fn sessions_are_entered_and_change(on: &On) {
    let presence = (on.open)();
    assert_eq!(presence.sessions(vec![device(1)]).await.unwrap().0, []);
    presence.report(NORTH, vec![note(1, 7, 60, 40, SessionState::Open)]).await.unwrap();
    let opened = row(&*presence, 1).await;
    let feeders = presence.feeders().await.unwrap();
    assert_eq!((opened.session, opened.feeder, opened.state), ([7; 16], NORTH, SessionState::Open));
    is_ago(opened.opened_at, feeders.now, 60);
    is_ago(opened.heard_at, feeders.now, 40);
    // It began when it was said first, whatever is said later.
    presence.report(NORTH, vec![note(1, 7, 70, 26, SessionState::Quiet)]).await.unwrap();
    let quiet = row(&*presence, 1).await;
    assert_eq!((quiet.opened_at, quiet.state), (opened.opened_at, SessionState::Quiet));
    is_ago(quiet.heard_at, presence.feeders().await.unwrap().now, 26);
    let heard = note(1, 7, 80, 0, SessionState::Open);
    let closed = note(1, 7, 90, 5, SessionState::Closed);
    presence.report(NORTH, vec![heard, closed]).await.unwrap();
    let closed = row(&*presence, 1).await;
    assert_eq!((closed.opened_at, closed.state), (opened.opened_at, SessionState::Closed));
}

pub async fn an_older_session_changes_nothing(on: &On) {
    let presence = (on.open)();
    presence.report(SOUTH, vec![note(1, 8, 10, 0, SessionState::Open)]).await.unwrap();
    let newer = row(&*presence, 1).await;
    // North's report was late.
    let late = vec![note(1, 7, 30, 20, SessionState::Open), note(1, 7, 30, 20, SessionState::Closed)];
    presence.report(NORTH, late).await.unwrap();
    assert_eq!(row(&*presence, 1).await, newer);
}

pub async fn a_session_that_moved_is_not_closed_by_the_feeder_it_left(on: &On) {
    let presence = (on.open)();
    presence.report(NORTH, vec![note(1, 7, 100, 0, SessionState::Open)]).await.unwrap();
    presence.report(SOUTH, vec![note(1, 8, 2, 0, SessionState::Open)]).await.unwrap();
    presence.report(NORTH, vec![note(1, 7, 101, 3, SessionState::Closed)]).await.unwrap();
    let now = row(&*presence, 1).await;
    assert_eq!((now.session, now.feeder, now.state), ([8; 16], SOUTH, SessionState::Open));
}

pub async fn changes_are_paged_in_order(on: &On) {
    let presence = (on.open)();
    for first in [0, 100, 200] {
        let notes = (first..first + 100).map(|number| note(number, 1, 1, 0, SessionState::Open)).collect();
        presence.report(NORTH, notes).await.unwrap();
        on.clock.advance(Duration::from_millis(1));
    }
    let mut after = None;
    let mut found = BTreeMap::new();
    loop {
        let page = presence.changed(after.clone(), 70).await.unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 70);
        after = Some((last.changed_at, last.device.clone()));
        let keys: Vec<_> = page.iter().map(|row| (row.changed_at, row.device.clone())).collect();
        assert!(keys.is_sorted());
        for row in page {
            assert!(found.insert(row.device.clone(), row).is_none(), "given twice");
        }
    }
    assert_eq!(found.len(), 300);
    presence.report(NORTH, vec![note(5, 1, 1, 0, SessionState::Closed)]).await.unwrap();
    let new = presence.changed(after, 70).await.unwrap();
    let new: Vec<_> = new.iter().map(|row| row.device.clone()).filter(|known| *known == device(5)).collect();
    assert_eq!(new, [device(5)]);
}

pub async fn a_feeder_is_buried_with_its_sessions_unless_it_lives(on: &On) {
    let presence = (on.open)();
    let notes = vec![
        note(1, 7, 60, 20, SessionState::Open),
        note(2, 7, 60, 30, SessionState::Quiet),
        note(3, 7, 60, 40, SessionState::Closed),
    ];
    presence.report(NORTH, notes).await.unwrap();
    presence.report(SOUTH, vec![note(4, 7, 60, 0, SessionState::Open)]).await.unwrap();
    let before = row(&*presence, 2).await;
    presence.bury(NORTH, Duration::from_secs(3600)).await.unwrap();
    assert!(presence.report(NORTH, vec![]).await.unwrap(), "it lives");
    let reported = presence.feeders().await.unwrap().reported_at(&NORTH).unwrap();
    presence.bury(NORTH, Duration::ZERO).await.unwrap();
    let (open, quiet, closed) =
        (row(&*presence, 1).await, row(&*presence, 2).await, row(&*presence, 3).await);
    assert_eq!(
        (open.state, quiet.state, closed.state),
        (SessionState::Closed, SessionState::Closed, SessionState::Closed)
    );
    assert_eq!(open.heard_at, reported, "it was heard as long as its feeder lived");
    assert_eq!(quiet.heard_at, before.heard_at, "it was not");
    assert_eq!(row(&*presence, 4).await.state, SessionState::Open);
    assert!(!presence.report(NORTH, vec![]).await.unwrap(), "it has to say everything again");
}

pub async fn too_many_notes_are_refused(on: &On) {
    let presence = (on.open)();
    let notes = |count: usize| (0..count).map(|number| note(number, 1, 1, 0, SessionState::Open)).collect();
    let refused = presence.report(NORTH, notes(NOTES_MAX + 1)).await;
    assert!(matches!(&refused, Err(OutboxError::Invalid(text)) if text.contains("251")), "{refused:?}");
    presence.report(NORTH, notes(NOTES_MAX)).await.unwrap();
    assert_eq!(presence.changed(None, 2 * NOTES_MAX).await.unwrap().len(), NOTES_MAX);
}

pub async fn two_feeders_at_once_lose_nothing(on: &On) {
    let (north, south) = ((on.open)(), (on.open)());
    for round in 0..5_u8 {
        let notes = |session: u8, opened| {
            (0..50).map(|number| note(number, session, opened, 0, SessionState::Open)).collect::<Vec<_>>()
        };
        let (older, newer) = (notes(2 * round + 1, 1000), notes(2 * round + 2, 1));
        let (older, newer) = tokio::join!(north.report(NORTH, older), south.report(SOUTH, newer));
        older.unwrap();
        newer.unwrap();
        for number in 0..50 {
            let row = row(&*north, number).await;
            assert_eq!(row.feeder, SOUTH, "round {round}, {row:?}");
        }
        // What comes in the next round is newer than this.
        on.clock.advance(Duration::from_secs(2));
        let closing = (0..50).map(|number| note(number, 2 * round + 2, 1, 0, SessionState::Closed)).collect();
        south.report(SOUTH, closing).await.unwrap();
    }
}
