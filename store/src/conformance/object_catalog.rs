//! The cases of a catalog of journal objects.

use std::time::Duration;

use tokio::time::Instant;
use trough_protocol::limits::INT_MAX;
use trough_protocol::{DeviceId, Epoch, Seq};

use super::Fixture;
use crate::error::CatalogError;
use crate::object_catalog::{
    AppendError, DeviceHead, DeviceSpan, Found, Incarnation, IncarnationState, ObjectCatalog, ObjectId,
    ObjectRow, ROW_SPANS_MAX, SpanQuery,
};

mod removal;
mod restoring;

pub use removal::*;
pub use restoring::*;

type On = Fixture<dyn ObjectCatalog>;

/// What competing calls are repeated for, each time with a new incarnation.
const ROUNDS: u8 = 20;

fn id(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

fn life(number: u8) -> Incarnation {
    Incarnation([number; 16])
}

fn span(device: &str, epoch: u64, first: u64, last: u64) -> DeviceSpan {
    let (device, frames) = (id(device), last - first + 1);
    DeviceSpan { device, epoch: Epoch(epoch), first: Seq(first), last: Seq(last), frames, ts: (first, last) }
}

fn row(incarnation: Incarnation, n: u64, spans: Vec<DeviceSpan>) -> ObjectRow {
    let crc = u32::MAX - u32::try_from(n).unwrap();
    let id = ObjectId { incarnation, n };
    ObjectRow { id, bytes: 1000 + n, crc, received_at: 100 * n, spans, wide: false }
}

fn found(row: &ObjectRow, span: Option<DeviceSpan>) -> Found {
    Found { id: row.id, bytes: row.bytes, received_at: row.received_at, span }
}

fn all_of(device: &str) -> SpanQuery {
    SpanQuery { device: id(device), after: None, before: None, limit: 1000 }
}

fn at(epoch: u64, seq: u64) -> Option<(Epoch, Seq)> {
    Some((Epoch(epoch), Seq(seq)))
}

fn head(device: &str, epoch: u64, head: u64, received_at: u64) -> DeviceHead {
    DeviceHead { device: id(device), epoch: Epoch(epoch), head: Seq(head), received_at }
}

fn is_invalid<T>(result: &Result<T, AppendError>) -> bool {
    matches!(result, Err(AppendError::Catalog(CatalogError::Invalid(_))))
}

async fn state_of(catalog: &dyn ObjectCatalog, incarnation: Incarnation) -> IncarnationState {
    let all = catalog.incarnations().await.unwrap();
    *all.iter().find(|state| state.incarnation == incarnation).expect("it is known")
}

/// Opens an incarnation and enters so many rows.
async fn live(catalog: &dyn ObjectCatalog, incarnation: Incarnation, rows: u64) {
    catalog.open(incarnation).await.unwrap();
    for n in 1..=rows {
        catalog.append(&row(incarnation, n, vec![])).await.unwrap();
    }
}

pub async fn the_same_row_again_is_a_success_and_other_content_is_not(on: &On) {
    let catalog = (on.open)();
    catalog.open(life(1)).await.unwrap();
    let first = row(life(1), 1, vec![span("a", 1, 1, 9), span("b", 2, 5, 6)]);
    for _ in 0..2 {
        assert_eq!(catalog.append(&first).await, Ok(()));
    }
    assert_eq!((on.open)().append(&first).await, Ok(()));
    let others = [
        ObjectRow { crc: 1, ..first.clone() },
        ObjectRow { bytes: 1, ..first.clone() },
        ObjectRow { received_at: 1, ..first.clone() },
        ObjectRow { wide: true, ..first.clone() },
        ObjectRow { spans: vec![span("a", 1, 1, 9)], ..first.clone() },
        ObjectRow { spans: vec![span("a", 1, 1, 9), span("b", 2, 5, 7)], ..first.clone() },
    ];
    for other in others {
        assert_eq!(catalog.append(&other).await, Err(AppendError::Taken(first.id)));
    }
    assert_eq!(catalog.rows(life(1), 0, 10).await.unwrap(), [first]);
    assert_eq!(catalog.spans(&all_of("a")).await.unwrap().len(), 1);
}

pub async fn a_row_needs_the_one_before_it(on: &On) {
    let catalog = (on.open)();
    assert!(is_invalid(&catalog.append(&row(life(1), 1, vec![])).await));
    assert!(is_invalid(&catalog.heartbeat(life(1)).await));
    assert!(catalog.incarnations().await.unwrap().is_empty());
    catalog.open(life(1)).await.unwrap();
    assert!(is_invalid(&catalog.append(&row(life(1), 2, vec![])).await));
    catalog.append(&row(life(1), 1, vec![])).await.unwrap();
    assert!(is_invalid(&catalog.append(&row(life(1), 3, vec![span("a", 1, 1, 1)])).await));
    assert_eq!(catalog.rows(life(1), 0, 10).await.unwrap(), [row(life(1), 1, vec![])]);
    assert!(catalog.spans(&all_of("a")).await.unwrap().is_empty());
    // Another handle need not have entered the row before.
    (on.open)().append(&row(life(1), 2, vec![])).await.unwrap();
    catalog.append(&row(life(1), 3, vec![])).await.unwrap();
    assert_eq!(state_of(&*catalog, life(1)).await.last, 3);
}

pub async fn nothing_is_entered_behind_a_closing_row(on: &On) {
    let (eater, other) = ((on.open)(), (on.open)());
    live(&*eater, life(1), 2).await;
    assert_eq!(other.close(life(1)).await, Ok(2));
    for catalog in [&eater, &other] {
        let closed = Err(AppendError::Closed(life(1)));
        for n in [3, 4, 5, 99] {
            assert_eq!(catalog.append(&row(life(1), n, vec![])).await, closed, "object {n}");
        }
        assert_eq!(catalog.heartbeat(life(1)).await, closed);
        // What stands in the catalog stays, and may be acknowledged.
        assert_eq!(catalog.append(&row(life(1), 2, vec![])).await, Ok(()));
        let other = ObjectRow { crc: 1, ..row(life(1), 2, vec![]) };
        assert_eq!(catalog.append(&other).await, Err(AppendError::Taken(other.id)));
        // A late repetition of the opening opens nothing.
        catalog.open(life(1)).await.unwrap();
        assert_eq!(catalog.append(&row(life(1), 3, vec![])).await, closed);
    }
    let state = state_of(&*eater, life(1)).await;
    assert_eq!((state.last, state.closed), (2, true));
    assert_eq!(eater.rows(life(1), 0, 10).await.unwrap().len(), 2);
}

pub async fn closing_twice_is_closing_once(on: &On) {
    let catalog = (on.open)();
    live(&*catalog, life(1), 0).await;
    live(&*catalog, life(2), 3).await;
    for _ in 0..2 {
        assert_eq!(catalog.close(life(1)).await, Ok(0));
        assert_eq!(catalog.close(life(2)).await, Ok(3));
        assert_eq!(catalog.close(life(3)).await, Ok(0), "an unknown one");
        assert_eq!((on.open)().close(life(2)).await, Ok(3));
    }
    catalog.open(life(3)).await.unwrap();
    assert_eq!(catalog.append(&row(life(3), 1, vec![])).await, Err(AppendError::Closed(life(3))));
    let states = catalog.incarnations().await.unwrap();
    let seen: Vec<_> = states.iter().map(|one| (one.incarnation, one.last, one.closed)).collect();
    assert_eq!(seen, [(life(1), 0, true), (life(2), 3, true), (life(3), 0, true)]);
}

/// Those who close an incarnation are refused while it is too busy, as it lives then.
async fn close_at_last(catalog: &dyn ObjectCatalog, incarnation: Incarnation) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match catalog.close(incarnation).await {
            Ok(last) => return last,
            Err(CatalogError::Unavailable { .. }) if Instant::now() < deadline => {}
            Err(error) => panic!("{error}"),
        }
    }
}

pub async fn of_an_eater_and_those_who_close_it_one_gets_the_number(on: &On) {
    let (eater, janitors) = ((on.open)(), [(on.open)(), (on.open)()]);
    let mut cut_off = 0;
    for round in 1..=ROUNDS {
        let incarnation = life(round);
        live(&*eater, incarnation, u64::from(round % 3)).await;
        let mut last = u64::from(round % 3);
        let closed = tokio::spawn({
            let [one, another] = janitors.clone();
            async move { tokio::join!(close_at_last(&*one, incarnation), close_at_last(&*another, incarnation)) }
        });
        for _ in 0..=round % 8 {
            match eater.append(&row(incarnation, last + 1, vec![span("a", 1, 1, 1)])).await {
                Ok(()) => last += 1,
                Err(error) => {
                    assert_eq!(error, AppendError::Closed(incarnation), "round {round}");
                    cut_off += 1;
                    break;
                }
            }
        }
        // The number that both wanted stands for the eater's object or for its end, and all agree on it.
        assert_eq!(closed.await.unwrap(), (last, last), "round {round}");
        let late = eater.append(&row(incarnation, last + 1, vec![])).await;
        assert_eq!(late, Err(AppendError::Closed(incarnation)), "round {round}");
        let state = state_of(&*eater, incarnation).await;
        assert_eq!((state.last, state.closed), (last, true), "round {round}");
        let rows = janitors[0].rows(incarnation, 0, 100).await.unwrap();
        let numbers: Vec<_> = rows.iter().map(|row| row.id.n).collect();
        assert_eq!(numbers, (1..=last).collect::<Vec<_>>(), "round {round}");
    }
    println!("{cut_off} of {ROUNDS} eaters were cut off in the middle");
}

pub async fn of_two_rows_with_one_number_one_is_entered(on: &On) {
    let eaters = [(on.open)(), (on.open)()];
    for round in 1..=ROUNDS {
        let incarnation = life(round);
        eaters[0].open(incarnation).await.unwrap();
        let of = |crc| ObjectRow { crc, ..row(incarnation, 1, vec![]) };
        let (one, another) = (of(1), of(2));
        let results = tokio::join!(eaters[0].append(&one), eaters[1].append(&another));
        let taken = Err(AppendError::Taken(one.id));
        let winner = match results {
            (Ok(()), second) if second == taken => one,
            (first, Ok(())) if first == taken => another,
            neither => panic!("round {round}: {neither:?}"),
        };
        assert_eq!(eaters[0].rows(incarnation, 0, 10).await.unwrap(), [winner]);
    }
}

pub async fn a_heartbeat_moves_the_time_and_a_beat_more_is_later(on: &On) {
    let catalog = (on.open)();
    live(&*catalog, life(1), 1).await;
    let opened = state_of(&*catalog, life(1)).await;
    assert!(opened.heartbeat_at > 0 && opened.heartbeat_at <= opened.now, "{opened:?}");
    assert!(!opened.closed);
    // The clock is the catalog's: where that is a server's, it is waited for.
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        on.clock.advance(Duration::from_millis(1));
        let before = state_of(&*catalog, life(1)).await;
        assert_eq!(before.heartbeat_at, opened.heartbeat_at, "nothing but a heartbeat moves it");
        if before.now > opened.heartbeat_at {
            break;
        }
        assert!(Instant::now() < deadline, "the catalog's clock stands still");
    }
    (on.open)().heartbeat(life(1)).await.unwrap();
    let beaten = state_of(&*catalog, life(1)).await;
    assert!(opened.heartbeat_at < beaten.heartbeat_at && beaten.heartbeat_at <= beaten.now, "{beaten:?}");
}

pub async fn spans_are_found_in_order_between_the_bounds(on: &On) {
    let catalog = (on.open)();
    catalog.open(life(2)).await.unwrap();
    catalog.open(life(1)).await.unwrap();
    // Neighbours by name, and by number, must not be found.
    let near = |first| [span("b", 1, first, first + 9), span("bu", 1, 1, 1), span("bus-1", 1, 1, 1)];
    let with = |own: &[DeviceSpan], first| {
        let mut all = [&near(first), own].concat();
        all.sort_by_key(|span| (span.device.clone(), span.epoch));
        all
    };
    let bus = |epoch, first, last| span("bus", epoch, first, last);
    let rows = [
        row(life(2), 1, with(&[bus(1, 1, 10), bus(2, 1, 5)], 1)),
        row(life(2), 2, with(&[bus(1, 5, 20)], 7)),
        ObjectRow { received_at: 50, ..row(life(2), 3, with(&[bus(1, 5, 12)], 1)) },
        // A copy, received at the same time: the incarnation decides.
        ObjectRow { received_at: 200, ..row(life(1), 1, with(&[bus(1, 5, 20), bus(2, 6, 6)], 9)) },
        row(life(1), 2, near(1).to_vec()),
        row(life(1), 3, with(&[bus(10, 3, 3)], 1)),
    ];
    for row in &rows {
        catalog.append(row).await.unwrap();
    }
    let of = |at: usize, span| found(&rows[at], Some(span));
    let all = [
        of(0, bus(1, 1, 10)),
        of(2, bus(1, 5, 12)),
        of(3, bus(1, 5, 20)),
        of(1, bus(1, 5, 20)),
        of(0, bus(2, 1, 5)),
        of(3, bus(2, 6, 6)),
        of(5, bus(10, 3, 3)),
    ];
    let ask = async |after, before, limit| {
        catalog.spans(&SpanQuery { after, before, limit, ..all_of("bus") }).await.unwrap()
    };
    assert_eq!(ask(None, None, 1000).await, all);
    assert_eq!(ask(None, None, usize::MAX).await, all);
    for limit in 0..=all.len() {
        assert_eq!(ask(None, None, limit).await, &all[..limit], "{limit}");
    }
    let cases = [
        (at(1, 9), None, vec![0, 1, 2, 3, 4, 5, 6]),
        (at(1, 10), None, vec![1, 2, 3, 4, 5, 6]),
        (at(1, 12), None, vec![2, 3, 4, 5, 6]),
        (at(1, 20), None, vec![4, 5, 6]),
        (at(2, 5), None, vec![5, 6]),
        (at(2, INT_MAX), None, vec![6]),
        (at(10, 3), None, vec![]),
        (at(u64::MAX, u64::MAX), None, vec![]),
        (None, at(1, 1), vec![]),
        (None, at(1, 5), vec![0]),
        (None, at(1, 6), vec![0, 1, 2, 3]),
        (None, at(2, 0), vec![0, 1, 2, 3]),
        (None, at(2, 2), vec![0, 1, 2, 3, 4]),
        (None, at(u64::MAX, u64::MAX), vec![0, 1, 2, 3, 4, 5, 6]),
        (at(1, 11), at(2, 6), vec![1, 2, 3, 4]),
        (at(2, 1), at(1, 1), vec![]),
    ];
    for (after, before, expected) in cases {
        let expected: Vec<_> = expected.into_iter().map(|at: usize| all[at].clone()).collect();
        assert_eq!(ask(after, before, 1000).await, expected, "{after:?} {before:?}");
        assert_eq!(ask(after, before, 1).await, &expected[..expected.len().min(1)], "{after:?} {before:?}");
    }
    assert!(catalog.spans(&all_of("nobody")).await.unwrap().is_empty());
}

pub async fn wide_rows_stand_at_the_front(on: &On) {
    let catalog = (on.open)();
    catalog.open(life(1)).await.unwrap();
    catalog.open(life(2)).await.unwrap();
    let wide = |row| ObjectRow { wide: true, ..row };
    let rows = [
        row(life(2), 1, vec![span("bus", 1, 1, 10)]),
        // What it lists is not all that it holds, so it is no answer either.
        wide(row(life(2), 2, vec![span("bus", 1, 11, 20), span("car", 1, 1, 1)])),
        wide(ObjectRow { received_at: 200, ..row(life(1), 1, vec![]) }),
        wide(ObjectRow { received_at: 10, ..row(life(2), 3, vec![]) }),
    ];
    for row in &rows {
        catalog.append(row).await.unwrap();
    }
    let front = [found(&rows[3], None), found(&rows[2], None), found(&rows[1], None)];
    let own = found(&rows[0], Some(span("bus", 1, 1, 10)));
    let all = [&front[..], &[own]].concat();
    assert_eq!(catalog.spans(&all_of("bus")).await.unwrap(), all);
    assert_eq!(catalog.spans(&SpanQuery { limit: 2, ..all_of("bus") }).await.unwrap(), &all[..2]);
    assert_eq!(catalog.spans(&SpanQuery { after: at(1, 10), ..all_of("bus") }).await.unwrap(), front);
    assert_eq!(catalog.spans(&SpanQuery { before: at(1, 1), ..all_of("bus") }).await.unwrap(), front);
    assert_eq!(catalog.spans(&all_of("nobody")).await.unwrap(), front);
    assert_eq!(catalog.rows(life(2), 1, 1).await.unwrap(), &rows[1..2]);
}

pub async fn what_was_entered_is_seen_by_everybody_at_once(on: &On) {
    let (eater, reader) = ((on.open)(), (on.open)());
    eater.open(life(1)).await.unwrap();
    for n in 1..=u64::from(ROUNDS) {
        eater.append(&row(life(1), n, vec![span("bus", 1, n, n)])).await.unwrap();
        let last = SpanQuery { after: at(1, n - 1), ..all_of("bus") };
        assert_eq!(reader.spans(&last).await.unwrap()[0].id.n, n);
        assert_eq!(reader.rows(life(1), n - 1, 10).await.unwrap().len(), 1);
        assert_eq!(state_of(&*reader, life(1)).await.last, n);
        eater.note_heads(&[head("bus", 1, n, n)]).await.unwrap();
        assert_eq!(reader.heads(&id("bus")).await.unwrap(), [head("bus", 1, n, n)]);
    }
}

pub async fn rows_are_read_in_order_page_by_page(on: &On) {
    let catalog = (on.open)();
    // Numbers of two digits, and a neighbour with the next higher incarnation.
    live(&*catalog, life(1), 12).await;
    live(&*catalog, life(2), 2).await;
    catalog.close(life(1)).await.unwrap();
    let numbers = async |after, limit| {
        let rows = catalog.rows(life(1), after, limit).await.unwrap();
        rows.iter().map(|row| row.id.n).collect::<Vec<_>>()
    };
    assert_eq!(numbers(0, 5).await, [1, 2, 3, 4, 5]);
    assert_eq!(numbers(8, 5).await, [9, 10, 11, 12]);
    assert_eq!(numbers(0, usize::MAX).await.len(), 12);
    assert_eq!(numbers(0, 0).await, [0; 0]);
    assert_eq!(numbers(12, 5).await, [0; 0]);
    assert_eq!(numbers(u64::MAX, 5).await, [0; 0]);
    assert!(catalog.rows(life(9), 0, 5).await.unwrap().is_empty());
}

pub async fn heads_only_rise(on: &On) {
    let (catalog, other) = ((on.open)(), (on.open)());
    let bus = id("bus");
    catalog.note_heads(&[]).await.unwrap();
    assert!(catalog.heads(&bus).await.unwrap().is_empty());
    catalog.note_heads(&[head("bus", 2, 7, 70), head("bus", 1, 5, 50), head("bu", 1, 1, 1)]).await.unwrap();
    other.note_heads(&[head("bus", 1, 4, 90), head("bus", 2, 9, 60)]).await.unwrap();
    let heads = [head("bus", 1, 5, 50), head("bus", 2, 9, 60)];
    assert_eq!(catalog.heads(&bus).await.unwrap(), heads);
    // Of the same head the later one, whatever comes first.
    catalog.note_heads(&[head("bus", 2, 9, 65), head("bus", 2, 9, 61), head("bus", 2, 8, 99)]).await.unwrap();
    assert_eq!(other.heads(&bus).await.unwrap(), [head("bus", 1, 5, 50), head("bus", 2, 9, 65)]);
    // Two processes that know different things of a new device.
    for round in 1..=ROUNDS {
        let name = format!("car-{round}");
        let (low, high) = ([head(&name, 1, 10, 10)], [head(&name, 1, 20, 20)]);
        let noted = tokio::join!(catalog.note_heads(&high), other.note_heads(&low));
        assert_eq!(noted, (Ok(()), Ok(())));
        assert_eq!(catalog.heads(&id(&name)).await.unwrap(), high);
    }
}

pub async fn devices_are_paged_with_their_newest_head(on: &On) {
    let catalog = (on.open)();
    // In the order of bytes, as are numbers of two digits.
    let devices = ["B", "a", "a+", "a-b", "a.b", "a1", "a:b", "aa", "b"];
    let heads = |(at, name): (usize, &&str)| {
        let at = at as u64;
        [head(name, 2, 50 + at, 7), head(name, 10, at, at), head(name, 9, 99, 99)]
    };
    let all: Vec<_> = devices.iter().enumerate().rev().flat_map(heads).collect();
    catalog.note_heads(&all).await.unwrap();
    let newest: Vec<_> = devices.iter().enumerate().map(|one| heads(one)[1].clone()).collect();
    for page in [1, 2, 4, 9, 1000, usize::MAX] {
        let mut listed: Vec<DeviceHead> = Vec::new();
        loop {
            let after = listed.last().map(|last| last.device.clone());
            let more = catalog.device_heads(after, page).await.unwrap();
            assert!(more.len() <= page);
            if more.is_empty() {
                break;
            }
            listed.extend(more);
        }
        assert_eq!(listed, newest, "pages of {page}");
    }
    let epochs: Vec<_> = catalog.heads(&id("a")).await.unwrap().iter().map(|head| head.epoch.0).collect();
    assert_eq!(epochs, [2, 9, 10]);
}

pub async fn what_was_returned_survives_a_restart(on: &On) {
    let catalog = (on.open)();
    live(&*catalog, life(1), 0).await;
    live(&*catalog, life(2), 1).await;
    let most = row(life(1), 1, vec![span("bus", INT_MAX, 1, INT_MAX)]);
    let most = ObjectRow { bytes: INT_MAX, crc: u32::MAX, received_at: INT_MAX, ..most };
    catalog.append(&most).await.unwrap();
    catalog.close(life(2)).await.unwrap();
    let heads = [head("bus", INT_MAX, INT_MAX, INT_MAX)];
    catalog.note_heads(&heads).await.unwrap();
    drop(catalog);
    let catalog = (on.open)();
    assert_eq!(catalog.rows(life(1), 0, 10).await.unwrap(), std::slice::from_ref(&most));
    let bus = found(&most, Some(most.spans[0].clone()));
    assert_eq!(catalog.spans(&all_of("bus")).await.unwrap(), [bus]);
    assert_eq!(catalog.heads(&id("bus")).await.unwrap(), heads);
    let states = catalog.incarnations().await.unwrap();
    let seen: Vec<_> = states.iter().map(|one| (one.incarnation, one.last, one.closed)).collect();
    assert_eq!(seen, [(life(1), 1, false), (life(2), 1, true)]);
    catalog.append(&row(life(1), 2, vec![])).await.unwrap();
    assert_eq!(catalog.append(&row(life(2), 2, vec![])).await, Err(AppendError::Closed(life(2))));
}

pub async fn a_row_lists_as_many_devices_as_it_may(on: &On) {
    let catalog = (on.open)();
    catalog.open(life(1)).await.unwrap();
    let long = |at: usize| span(&format!("{at:064}"), 1, 1, INT_MAX);
    let spans: Vec<_> = (0..=ROW_SPANS_MAX).map(long).collect();
    assert!(is_invalid(&catalog.append(&row(life(1), 1, spans.clone())).await));
    let full = row(life(1), 1, spans[..ROW_SPANS_MAX].to_vec());
    catalog.append(&full).await.unwrap();
    assert_eq!(catalog.rows(life(1), 0, 1).await.unwrap(), std::slice::from_ref(&full));
    let last = spans[ROW_SPANS_MAX - 1].clone();
    assert_eq!(catalog.spans(&all_of(last.device.as_str())).await.unwrap(), [found(&full, Some(last))]);
}

pub async fn a_value_that_does_not_fit_changes_nothing(on: &On) {
    let catalog = (on.open)();
    catalog.open(life(1)).await.unwrap();
    let good = row(life(1), 1, vec![span("a", 1, 1, 9)]);
    let with = |span| ObjectRow { spans: vec![self::span("a", 1, 1, 9), span], ..good.clone() };
    let b = span("b", 1, 1, 1);
    let bad = [
        row(life(1), 0, vec![]),
        ObjectRow { id: ObjectId { incarnation: life(1), n: INT_MAX }, ..good.clone() },
        ObjectRow { id: ObjectId { incarnation: life(1), n: u64::MAX }, ..good.clone() },
        ObjectRow { bytes: INT_MAX + 1, ..good.clone() },
        ObjectRow { received_at: u64::MAX, ..good.clone() },
        with(DeviceSpan { epoch: Epoch(0), ..b.clone() }),
        with(DeviceSpan { epoch: Epoch(INT_MAX + 1), ..b.clone() }),
        with(DeviceSpan { first: Seq(0), ..b.clone() }),
        with(DeviceSpan { first: Seq(2), ..b.clone() }),
        with(DeviceSpan { last: Seq(INT_MAX + 1), ..b.clone() }),
        with(DeviceSpan { frames: u64::MAX, ..b.clone() }),
        with(DeviceSpan { ts: (2, 1), ..b.clone() }),
        with(DeviceSpan { ts: (1, u64::MAX), ..b.clone() }),
        with(span("a", 1, 20, 20)),
        with(span("A", 1, 1, 1)),
    ];
    for row in bad {
        assert!(is_invalid(&catalog.append(&row).await), "{row:?}");
    }
    assert!(catalog.spans(&all_of("a")).await.unwrap().is_empty());
    assert_eq!(state_of(&*catalog, life(1)).await.last, 0);
    for bad in
        [head("b", 0, 1, 1), head("b", u64::MAX, 1, 1), head("b", 1, u64::MAX, 1), head("b", 1, 1, u64::MAX)]
    {
        let refused = catalog.note_heads(&[head("a", 1, 1, 1), bad]).await;
        assert!(matches!(refused, Err(CatalogError::Invalid(_))), "{refused:?}");
    }
    assert!(catalog.device_heads(None, 10).await.unwrap().is_empty());
    catalog.append(&good).await.unwrap();
}
