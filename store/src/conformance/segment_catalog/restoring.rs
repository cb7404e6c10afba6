//! A catalog that was lost is made again.

use super::*;

fn lost() -> Manifest {
    Manifest {
        number: 57,
        through: vec![through(0, 9), through(3, 4)],
        segments: segments(1..=1500),
        expired: 7,
    }
}

pub async fn a_lost_catalog_is_restored(on: &On) {
    let (catalog, other) = ((on.open)(), (on.open)());
    let before = claimed(&*other).await;
    other.release(before).await.unwrap();
    assert_eq!(catalog.restore(&lost(), false).await, Ok(true));
    for catalog in [&catalog, &other, &(on.open)()] {
        assert_eq!(manifest(&**catalog).await, lost());
        assert!(removed(&**catalog).await.is_empty());
        // It has something now.
        let other = Manifest { number: 99, ..lost() };
        assert_eq!(catalog.restore(&other, false).await, Ok(false));
        assert_eq!(manifest(&**catalog).await, lost());
    }
    // Whoever prepared something before the loss gets through with nothing, and others go on from it.
    let late = Change { add: vec![segment(2000)], ..change(1, before, 57) };
    assert!(matches!(other.commit(&late).await, Err(CommitError::Fenced { .. })));
    assert_eq!(other.renew(before, LONG).await, Ok(false));
    let token = claimed(&*other).await;
    assert!(token > before + 1_000_000, "{token}: above every one that was given before the loss");
    let next = Change {
        add: vec![segment(2000)],
        remove: ids([1]),
        through: vec![through(3, 5)],
        ..change(2, token, 57)
    };
    assert_eq!(other.commit(&next).await, Ok(58));
    assert_eq!(manifest(&*catalog).await.through_of(Incarnation([3; 16])), 5);
}

pub async fn a_catalog_that_has_something_is_replaced_only_if_that_is_said(on: &On) {
    let catalog = (on.open)();
    let token = claimed(&*catalog).await;
    let first = Change { add: segments(2000..2003), through: vec![through(7, 7)], ..change(1, token, 0) };
    catalog.commit(&first).await.unwrap();
    catalog.commit(&Change { remove: ids([2000]), ..change(2, token, 1) }).await.unwrap();
    assert_eq!(catalog.restore(&lost(), false).await, Ok(false));
    assert_eq!(manifest(&*catalog).await.number, 2);
    assert_eq!(catalog.restore(&lost(), true).await, Ok(true));
    assert_eq!(manifest(&*catalog).await, lost());
    assert!(removed(&*catalog).await.is_empty());
    let wrong = Manifest { segments: vec![Segment { level: 0, ..segment(1) }], ..lost() };
    assert!(matches!(catalog.restore(&wrong, true).await, Err(CatalogError::Invalid(_))));
    assert_eq!(manifest(&*catalog).await, lost());
}
