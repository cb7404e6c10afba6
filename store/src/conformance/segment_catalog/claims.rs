//! Claims on compaction: one at a time, and each with a token that fences off those before it.

use super::*;

/// Claims as soon as the claim of somebody else has run out. Where the clock is a server's, it is waited for.
async fn take_over(on: &On, catalog: &dyn SegmentCatalog, ttl: Duration) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        on.clock.advance(Duration::from_millis(10));
        if let Some(token) = catalog.claim(ttl).await.unwrap() {
            return token;
        }
        assert!(Instant::now() < deadline, "the claim does not run out");
    }
}

pub async fn a_claim_is_somebodys_until_it_is_given_back(on: &On) {
    let (catalog, other) = ((on.open)(), (on.open)());
    let mut last = 0;
    for _ in 0..3 {
        let token = claimed(&*catalog).await;
        assert!(token > last, "{token} after {last}");
        for catalog in [&catalog, &other] {
            assert_eq!(catalog.claim(LONG).await, Ok(None));
        }
        // Those of others change nothing.
        for wrong in [0, last, token + 1, u64::MAX] {
            assert_eq!(other.renew(wrong, CLAIM_TTL.0).await, Ok(false), "{wrong} for {token}");
            other.release(wrong).await.unwrap();
            assert_eq!(other.claim(LONG).await, Ok(None));
        }
        assert_eq!(other.renew(token, LONG).await, Ok(true), "the claim is a number, whoever has it");
        for _ in 0..2 {
            other.release(token).await.unwrap();
        }
        last = token;
    }
    // Given back and not taken over, it lives again.
    assert_eq!(catalog.renew(last, LONG).await, Ok(true));
    assert_eq!(other.claim(LONG).await, Ok(None));
    catalog.release(last).await.unwrap();
    assert!(claimed(&*other).await > last);
    assert_eq!(catalog.renew(last, LONG).await, Ok(false));
    catalog.release(last).await.unwrap();
    assert_eq!(catalog.claim(LONG).await, Ok(None), "it was not its own to give back");
}

pub async fn a_claim_runs_out_and_is_taken_over_for_good(on: &On) {
    let (slow, quick) = ((on.open)(), (on.open)());
    let (shortest, _) = CLAIM_TTL;
    let first = slow.claim(shortest).await.unwrap().unwrap();
    let second = take_over(on, &*quick, shortest).await;
    assert!(second > first);
    assert_eq!(slow.renew(first, LONG).await, Ok(false));
    // Renewed for long, it does not run out.
    assert_eq!(quick.renew(second, LONG).await, Ok(true));
    on.clock.advance(2 * shortest);
    assert_eq!(slow.claim(LONG).await, Ok(None));
    // Shortened, it runs out; not taken over, it lives again.
    assert_eq!(quick.renew(second, shortest).await, Ok(true));
    on.clock.advance(2 * shortest);
    assert_eq!(quick.renew(second, LONG).await, Ok(true));
    assert_eq!(slow.claim(LONG).await, Ok(None));
    assert_eq!(quick.renew(second, shortest).await, Ok(true));
    let third = take_over(on, &*slow, LONG).await;
    assert_eq!(quick.renew(second, LONG).await, Ok(false));
    assert!(third > second);
}

/// Of two who claim at once, one may have looked at the clock before the other, and at the claim after it.
pub async fn a_claim_is_kept_from_who_looked_at_the_clock_before_it(on: &On) {
    let (first, other) = ((on.open)(), (on.open)());
    let token = first.claim(CLAIM_TTL.1).await.unwrap().unwrap();
    on.clock.set(crate::conformance::START - 1000);
    assert_eq!(other.claim(LONG).await, Ok(None));
    assert_eq!(other.renew(token, LONG).await, Ok(true));
}

pub async fn a_claim_that_was_taken_over_commits_nothing(on: &On) {
    let (slow, quick) = ((on.open)(), (on.open)());
    let first = claimed(&*slow).await;
    slow.commit(&Change { add: segments([1]), ..change(1, first, 0) }).await.unwrap();
    let prepared = Change { add: segments([2]), remove: ids([1]), ..change(2, first, 1) };
    slow.release(first).await.unwrap();
    let second = claimed(&*quick).await;
    // The manifest is the one that it was prepared for, and it is fenced off all the same.
    let fenced = Err(CommitError::Fenced { token: first });
    for catalog in [&slow, &quick, &(on.open)()] {
        assert_eq!(catalog.commit(&prepared).await, fenced);
        assert_eq!(catalog.commit(&Change { after: 5, ..prepared.clone() }).await, fenced);
    }
    let unknown = Change { token: second + 1, ..prepared.clone() };
    assert_eq!(quick.commit(&unknown).await, Err(CommitError::Fenced { token: second + 1 }));
    assert_eq!(live(&*quick).await, ids([1]));
    assert_eq!(quick.commit(&Change { token: second, ..prepared.clone() }).await, Ok(2));
    assert_eq!(live(&*quick).await, ids([2]));
    // Given back or run out, and nobody has claimed it since: its own changes are as good as before.
    quick.release(second).await.unwrap();
    assert_eq!(quick.commit(&Change { add: segments([3]), ..change(3, second, 2) }).await, Ok(3));
    // Before the first claim there is nothing to commit under.
    assert_eq!(quick.commit(&change(4, 0, 3)).await, Err(CommitError::Fenced { token: 0 }));
}

pub async fn a_claim_is_neither_too_short_nor_too_long(on: &On) {
    let catalog = (on.open)();
    let (shortest, longest) = CLAIM_TTL;
    let little = Duration::from_millis(1);
    for wrong in [Duration::ZERO, shortest - little, longest + little, Duration::MAX] {
        let refused = catalog.claim(wrong).await;
        assert!(matches!(refused, Err(CatalogError::Invalid(_))), "{wrong:?}: {refused:?}");
        let refused = catalog.renew(1, wrong).await;
        assert!(matches!(refused, Err(CatalogError::Invalid(_))), "{wrong:?}: {refused:?}");
    }
    let token = catalog.claim(longest).await.unwrap().unwrap();
    assert_eq!(catalog.renew(token, shortest).await, Ok(true));
}
