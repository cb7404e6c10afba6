//! Rows that were lost are made again.

use super::*;
use crate::object_catalog::{LostLife, ROWS_MAX};

fn lost(removed: u64, last: u64) -> LostLife {
    let rows = (removed + 1..=last).map(|n| row(life(1), n, vec![span("bus", 1, n, n)])).collect();
    LostLife { incarnation: life(1), removed, rows }
}

pub async fn a_lost_incarnation_is_restored_and_closed(on: &On) {
    let (catalog, other) = ((on.open)(), (on.open)());
    let was = lost(6, 9);
    assert_eq!(catalog.restore(&was).await, Ok(true));
    for catalog in [&catalog, &other, &(on.open)()] {
        assert_eq!(catalog.rows(life(1), 0, ROWS_MAX).await.unwrap(), was.rows);
        let found = catalog.spans(&all_of("bus")).await.unwrap();
        assert_eq!(found.iter().map(|found| found.id.n).collect::<Vec<_>>(), [7, 8, 9]);
        let state = state_of(&**catalog, life(1)).await;
        assert_eq!((state.last, state.closed), (9, true));
        // It is known now.
        assert_eq!(catalog.restore(&lost(0, 20)).await, Ok(false));
        assert_eq!(catalog.close(life(1)).await, Ok(9));
    }
    // An eater that still lives finds that it was declared dead; what it had entered counts.
    assert_eq!(other.append(&was.rows[2]).await, Ok(()));
    let next = row(life(1), 10, vec![]);
    assert_eq!(other.append(&next).await, Err(AppendError::Closed(life(1))));
    assert_eq!(other.heartbeat(life(1)).await, Err(AppendError::Closed(life(1))));
    // And it is compacted as any other.
    let through = crate::segment_catalog::Through { incarnation: life(1), n: 9 };
    assert_eq!(other.remove_through(through, ROWS_MAX).await, Ok(3));
    assert!(catalog.rows(life(1), 0, ROWS_MAX).await.unwrap().is_empty());
}

pub async fn what_was_lost_has_no_holes(on: &On) {
    let catalog = (on.open)();
    let mut holed = lost(0, 5);
    holed.rows.remove(2);
    for wrong in
        [holed, LostLife { removed: 1, ..lost(0, 5) }, LostLife { incarnation: life(2), ..lost(0, 5) }]
    {
        assert!(matches!(catalog.restore(&wrong).await, Err(CatalogError::Invalid(_))), "{wrong:?}");
    }
    assert!(catalog.incarnations().await.unwrap().is_empty());
    catalog.open(life(1)).await.unwrap();
    assert_eq!(catalog.restore(&lost(0, 5)).await, Ok(false));
    assert!(!state_of(&*catalog, life(1)).await.closed);
}
