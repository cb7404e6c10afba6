//! Rows whose frames are in segments: passed over, and removed.

use super::*;
use crate::object_catalog::ROWS_MAX;
use crate::segment_catalog::Through;

fn through(incarnation: Incarnation, n: u64) -> Through {
    Through { incarnation, n }
}

/// Removes page by page, to the end.
async fn remove(catalog: &dyn ObjectCatalog, incarnation: Incarnation, n: u64, page: usize) -> u64 {
    let mut all = 0;
    loop {
        match catalog.remove_through(through(incarnation, n), page).await.unwrap() {
            0 => return all,
            removed => {
                assert!(removed <= page.min(ROWS_MAX) as u64, "{removed} of a page of {page}");
                all += removed;
            }
        }
    }
}

async fn numbers(catalog: &dyn ObjectCatalog, incarnation: Incarnation) -> Vec<u64> {
    catalog.rows(incarnation, 0, ROWS_MAX).await.unwrap().iter().map(|row| row.id.n).collect()
}

async fn spans_of(catalog: &dyn ObjectCatalog, device: &str) -> Vec<(Incarnation, u64)> {
    let found = catalog.spans(&all_of(device)).await.unwrap();
    found.iter().map(|found| (found.id.incarnation, found.id.n)).collect()
}

pub async fn removed_rows_are_found_by_nobody(on: &On) {
    let (catalog, other) = ((on.open)(), (on.open)());
    let bus = |incarnation, n| row(incarnation, n, vec![span("bus", 1, n, n), span("car", n, 1, 1)]);
    for incarnation in [life(1), life(2)] {
        catalog.open(incarnation).await.unwrap();
        for n in 1..=12 {
            let wide = n == 2 || n == 7;
            catalog.append(&ObjectRow { wide, ..bus(incarnation, n) }).await.unwrap();
        }
    }
    assert_eq!(catalog.remove_through(through(life(1), 5), 0).await, Ok(0));
    assert_eq!(catalog.remove_through(through(life(1), 0), 10).await, Ok(0));
    assert_eq!(catalog.remove_through(through(life(1), 5), 2).await, Ok(2), "those with the lowest numbers");
    assert_eq!(numbers(&*other, life(1)).await, (3..=12).collect::<Vec<_>>());
    assert_eq!(remove(&*other, life(1), 5, 2).await, 3);
    assert_eq!(remove(&*catalog, life(1), 5, 100).await, 0);
    for catalog in [&catalog, &other, &(on.open)()] {
        assert_eq!(numbers(&**catalog, life(1)).await, (6..=12).collect::<Vec<_>>());
        assert_eq!(catalog.rows(life(1), 0, 1).await.unwrap(), [bus(life(1), 6)]);
        assert_eq!(numbers(&**catalog, life(2)).await.len(), 12);
        for device in ["bus", "car"] {
            let found = spans_of(&**catalog, device).await;
            let left: Vec<_> = found.iter().filter(|found| found.0 == life(1)).map(|found| found.1).collect();
            assert_eq!(left, [7, 6, 8, 9, 10, 11, 12], "{device}: the wide one, and the others");
            assert_eq!(found.len(), 7 + 12);
        }
        let state = state_of(&**catalog, life(1)).await;
        assert_eq!((state.last, state.closed), (12, false));
    }
    assert_eq!(catalog.close(life(1)).await, Ok(12));
    assert_eq!(remove(&*catalog, life(1), u64::MAX, usize::MAX).await, 7);
    assert!(catalog.rows(life(1), 0, 100).await.unwrap().is_empty());
    assert!(spans_of(&*catalog, "bus").await.iter().all(|found| found.0 == life(2)));
    // Of one that nobody knows there is nothing, and it is not made known.
    assert_eq!(remove(&*catalog, life(3), 5, 10).await, 0);
    assert_eq!(catalog.incarnations().await.unwrap().len(), 2);
}

pub async fn removed_numbers_stay_taken(on: &On) {
    let (eater, other) = ((on.open)(), (on.open)());
    live(&*eater, life(1), 9).await;
    assert_eq!(remove(&*other, life(1), 6, 4).await, 6);
    for catalog in [&eater, &other, &(on.open)()] {
        for n in 1..=6 {
            let again = row(life(1), n, vec![]);
            assert_eq!(catalog.append(&again).await, Err(AppendError::Removed(again.id)));
        }
        for n in 7..=9 {
            assert_eq!(catalog.append(&row(life(1), n, vec![])).await, Ok(()));
        }
        assert!(is_invalid(&catalog.append(&row(life(1), 11, vec![])).await));
        // It is known, and goes on where it was.
        catalog.open(life(1)).await.unwrap();
        catalog.heartbeat(life(1)).await.unwrap();
    }
    assert_eq!(numbers(&*eater, life(1)).await, [7, 8, 9]);
    eater.append(&row(life(1), 10, vec![])).await.unwrap();
    assert_eq!(other.close(life(1)).await, Ok(10));
    for n in 1..=6 {
        let again = row(life(1), n, vec![]);
        assert_eq!(eater.append(&again).await, Err(AppendError::Removed(again.id)));
    }
    assert_eq!(eater.append(&row(life(1), 11, vec![])).await, Err(AppendError::Closed(life(1))));
}

pub async fn the_last_row_can_be_entered_again_though_it_is_removed(on: &On) {
    let (eater, other) = ((on.open)(), (on.open)());
    live(&*eater, life(1), 2).await;
    let last = ObjectRow { wide: true, ..row(life(1), 3, vec![span("bus", 1, 1, 9)]) };
    eater.append(&last).await.unwrap();
    assert_eq!(remove(&*other, life(1), 3, 100).await, 3);
    for catalog in [&eater, &other] {
        assert!(catalog.rows(life(1), 0, 10).await.unwrap().is_empty());
        assert!(catalog.spans(&all_of("bus")).await.unwrap().is_empty());
        assert_eq!(catalog.append(&last).await, Ok(()), "its eater did not hear the answer");
        let another = ObjectRow { crc: 1, ..last.clone() };
        assert_eq!(catalog.append(&another).await, Err(AppendError::Taken(last.id)));
        assert_eq!(state_of(&**catalog, life(1)).await.last, 3);
    }
    // It goes on, and what was the last one is no more.
    eater.append(&row(life(1), 4, vec![])).await.unwrap();
    assert_eq!(remove(&*other, life(1), 4, 1).await, 1);
    assert_eq!(other.append(&last).await, Err(AppendError::Removed(last.id)));
    for _ in 0..2 {
        assert_eq!((on.open)().close(life(1)).await, Ok(4));
        assert_eq!(remove(&*other, life(1), u64::MAX, 10).await, 0);
        let state = state_of(&*other, life(1)).await;
        assert_eq!((state.last, state.closed), (4, true));
    }
    assert_eq!(eater.append(&row(life(1), 4, vec![])).await, Ok(()));
    assert_eq!(eater.append(&row(life(1), 5, vec![])).await, Err(AppendError::Closed(life(1))));
    assert_eq!(eater.heartbeat(life(1)).await, Err(AppendError::Closed(life(1))));
    // Closed while there is nothing but a stub; and one without any row.
    live(&*eater, life(2), 1).await;
    assert_eq!(remove(&*eater, life(2), 1, 1).await, 1);
    assert_eq!(other.close(life(2)).await, Ok(1));
    assert_eq!(eater.append(&row(life(2), 2, vec![])).await, Err(AppendError::Closed(life(2))));
    assert_eq!(other.close(life(3)).await, Ok(0));
    assert_eq!(remove(&*eater, life(3), u64::MAX, 1).await, 0);
    assert_eq!(eater.append(&row(life(3), 1, vec![])).await, Err(AppendError::Closed(life(3))));
}

pub async fn rows_are_entered_while_others_are_removed(on: &On) {
    const ROWS: u64 = 60;
    let (eater, removers) = ((on.open)(), [(on.open)(), (on.open)()]);
    eater.open(life(1)).await.unwrap();
    let (done, ended) = tokio::sync::watch::channel(false);
    let removers = removers.map(|catalog| {
        let ended = ended.clone();
        tokio::spawn(async move {
            while !*ended.borrow() {
                catalog.remove_through(through(life(1), u64::MAX), 3).await.unwrap();
            }
        })
    });
    for n in 1..=ROWS {
        for _ in 0..2 {
            let entered = eater.append(&row(life(1), n, vec![span("bus", 1, n, n)])).await;
            assert_eq!(entered, Ok(()), "object {n}");
        }
        assert_eq!(state_of(&*eater, life(1)).await.last, n);
    }
    done.send(true).unwrap();
    for remover in removers {
        remover.await.unwrap();
    }
    remove(&*eater, life(1), u64::MAX, 10).await;
    assert!(numbers(&*eater, life(1)).await.is_empty());
    assert!(spans_of(&*eater, "bus").await.is_empty());
    for n in 1..ROWS {
        let again = row(life(1), n, vec![span("bus", 1, n, n)]);
        assert_eq!((on.open)().append(&again).await, Err(AppendError::Removed(again.id)));
    }
    assert_eq!(eater.close(life(1)).await, Ok(ROWS));
}
