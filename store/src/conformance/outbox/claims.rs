//! Claims: one at a time, and each with a token that fences off those before it.

use std::collections::BTreeSet;

use super::*;

/// Claims as soon as the claim of somebody else has run out. Where the clock is a server's, it is waited for.
async fn take_over(on: &On, outbox: &dyn Outbox, shard: Shard, owner: [u8; 16]) -> Claim {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        on.clock.advance(Duration::from_millis(10));
        if let Some(claim) = outbox.claim(shard, owner, TTL).await.unwrap() {
            return claim;
        }
        assert!(Instant::now() < deadline, "the claim does not run out");
    }
}

pub async fn a_claim_is_somebodys_until_it_is_given_back(on: &On) {
    let (outbox, other) = ((on.open)(), (on.open)());
    let shard = Shard { duty: Duty::Route, number: 3 };
    let mut last = 0;
    for _ in 0..3 {
        let claim = outbox.claim(shard, ME, TTL).await.unwrap().unwrap();
        assert!(claim.shard == shard && claim.token > last, "{claim:?} after {last}");
        assert_eq!(outbox.claim(shard, ME, TTL).await, Ok(Some(claim)), "its own claim keeps its token");
        assert_eq!(other.claim(shard, ME, TTL).await, Ok(Some(claim)), "whoever has the name");
        for outbox in [&outbox, &other] {
            assert_eq!(outbox.claim(shard, OTHER, TTL).await, Ok(None));
            outbox.release(Claim { token: last, ..claim }).await.unwrap();
            outbox.release(Claim { token: u64::MAX, ..claim }).await.unwrap();
            assert_eq!(outbox.claim(shard, OTHER, TTL).await, Ok(None), "it was not theirs to give back");
        }
        for _ in 0..2 {
            other.release(claim).await.unwrap();
        }
        last = claim.token;
        let taken = other.claim(shard, OTHER, TTL).await.unwrap().unwrap();
        assert!(taken.token > last);
        outbox.release(claim).await.unwrap();
        assert_eq!(outbox.claim(shard, ME, TTL).await, Ok(None));
        other.release(taken).await.unwrap();
        last = taken.token;
    }
    let duties = [Duty::Watch, Duty::Presence, Duty::Route, Duty::Deliver];
    for shard in duties.into_iter().flat_map(Shard::all) {
        let claim = other.claim(shard, OTHER, TTL).await.unwrap();
        assert_eq!(claim.map(|claim| claim.shard), Some(shard), "each part is claimed by itself");
    }
}

pub async fn a_claim_runs_out_and_is_taken_over_for_good(on: &On) {
    let (slow, quick) = ((on.open)(), (on.open)());
    let shard = Shard { duty: Duty::Watch, number: 0 };
    let short = Duration::from_millis(100);
    let first = slow.claim(shard, ME, short).await.unwrap().unwrap();
    pass(on, &*slow, 2 * short).await;
    // Run out and not taken over, it lives again.
    assert_eq!(slow.claim(shard, ME, short).await, Ok(Some(first)));
    let second = take_over(on, &*quick, shard, OTHER).await;
    assert!(second.token > first.token);
    assert_eq!(slow.claim(shard, ME, TTL).await, Ok(None));
    pass(on, &*quick, 2 * short).await;
    assert_eq!(slow.claim(shard, ME, TTL).await, Ok(None), "it is as long as it was asked for last");
    assert_eq!(quick.claim(shard, OTHER, short).await, Ok(Some(second)), "it can be shortened, too");
    let third = take_over(on, &*slow, shard, ME).await;
    assert!(third.token > second.token);
}

/// Of two who claim at once, one may have looked at the clock before the other, and at the claim after it.
pub async fn a_claim_is_kept_from_who_looked_at_the_clock_before_it(on: &On) {
    let (first, other) = ((on.open)(), (on.open)());
    let shard = Shard { duty: Duty::Route, number: 5 };
    let claim = first.claim(shard, ME, CLAIM_MAX).await.unwrap().unwrap();
    on.clock.set(crate::conformance::START - 1000);
    assert_eq!(other.claim(shard, OTHER, TTL).await, Ok(None));
    assert_eq!(other.claim(shard, ME, TTL).await, Ok(Some(claim)));
}

pub async fn of_many_who_claim_one_gets_it(on: &On) {
    let outboxes = [(on.open)(), (on.open)()];
    let shard = Shard { duty: Duty::Deliver, number: 7 };
    let mut tokens = BTreeSet::new();
    for round in 0..5_u8 {
        let mut racing = tokio::task::JoinSet::new();
        for n in 0..8_u8 {
            let outbox = outboxes[usize::from(n % 2)].clone();
            racing.spawn(async move {
                loop {
                    match outbox.claim(shard, [8 * round + n; 16], TTL).await {
                        Err(OutboxError::Unavailable { .. }) => {}
                        decided => return decided.unwrap(),
                    }
                }
            });
        }
        let got: Vec<_> = racing.join_all().await.into_iter().flatten().collect();
        assert_eq!(got.len(), 1, "{got:?}");
        assert!(tokens.insert(got[0].token), "{got:?} again");
        outboxes[0].release(got[0]).await.unwrap();
    }
}

pub async fn who_was_taken_over_gets_through_with_nothing(on: &On) {
    let (slow, quick) = ((on.open)(), (on.open)());
    let [one, two] = [event("bus-1", 1), event("bus-1", 2)];
    let waiting = routed(&*slow, 1, &[one]).await;
    quick.enter(vec![two.clone()]).await.unwrap();
    let watching = Shard::of(Duty::Watch, "bus-1");
    let mut old = vec![];
    for shard in [watching, Shard::of_event(&two), Shard::of_subscription(subscription(1))] {
        let claim = claimed(&*slow, shard).await;
        slow.release(claim).await.unwrap();
        assert!(quick.claim(shard, OTHER, TTL).await.unwrap().is_some());
        old.extend([claim, Claim { token: claim.token + 9, ..claim }, Claim { token: 0, ..claim }]);
    }
    for (n, claim) in old.into_iter().enumerate() {
        let fenced = OutboxError::Fenced(claim.shard);
        let state = WatchState { device: device("bus-1"), rule: rule("fast"), version: 1, state: vec![1] };
        let step = WatchStep { place: vec![7], states: vec![state], events: vec![event("bus-1", 3)] };
        let refused = match n / 3 {
            0 => slow.watched(claim, step).await.unwrap_err(),
            1 => slow.route(claim, vec![two.id], vec![delivery(1, &two)]).await.unwrap_err(),
            _ => slow.attempted(claim, vec![attempt(waiting[0], Outcome::Delivered, "")]).await.unwrap_err(),
        };
        assert_eq!(refused, fenced);
    }
    assert_eq!(quick.place(watching).await, Ok(None));
    assert_eq!(quick.states(watching, None, PAGE_MAX).await, Ok(vec![]));
    assert_eq!(entered(&quick.unrouted(Shard::of_event(&two), PAGE_MAX).await.unwrap()), [two.id]);
    assert_eq!(pending_ids(&*quick, 1).await, waiting);
    assert_eq!(queue(&*quick, 1).await, Some(1));
}

pub async fn a_claim_gives_the_right_to_its_own_part_only(on: &On) {
    let outbox = (on.open)();
    let mine = event("bus-1", 1);
    let elsewhere = (0..)
        .map(|n| event(&format!("elsewhere-{n}"), 1))
        .find(|event| Shard::of_event(event) != Shard::of_event(&mine))
        .unwrap();
    let others = (2..)
        .find(|n| Shard::of_subscription(subscription(*n)) != Shard::of_subscription(subscription(1)))
        .unwrap();
    let waiting = routed(&*outbox, 1, std::slice::from_ref(&mine)).await[0];
    outbox.enter(vec![elsewhere.clone()]).await.unwrap();
    let (route, deliver) = (router(&*outbox).await, deliverer(&*outbox, others).await);
    let why = refusal(outbox.route(route, vec![elsewhere.id], vec![]).await);
    assert!(why.contains(&elsewhere.id.to_string()) && why.contains(&route.shard.to_string()), "{why}");
    let why = refusal(outbox.attempted(deliver, vec![attempt(waiting, Outcome::Dead, "")]).await);
    assert!(why.contains(&waiting.to_string()) && why.contains(&deliver.shard.to_string()), "{why}");
    for (claim, duty) in [(route, "watch or presence"), (deliver, "watch or presence")] {
        let why = refusal(outbox.watched(claim, WatchStep::default()).await);
        assert!(why.contains(duty) && why.contains(&claim.shard.to_string()), "{why}");
    }
    assert!(refusal(outbox.route(deliver, vec![], vec![]).await).contains("route"));
    assert!(refusal(outbox.attempted(route, vec![]).await).contains("deliver"));
    assert_eq!(queue(&*outbox, 1).await, Some(1));
}

pub async fn a_claim_is_neither_too_long_nor_of_a_part_that_there_is_not(on: &On) {
    let outbox = (on.open)();
    let shard = Shard { duty: Duty::Presence, number: 1 };
    for (wrong, shown) in [
        (Duration::ZERO, "0ns"),
        (CLAIM_MAX + Duration::from_millis(1), "60.001s"),
        (Duration::MAX, "18446744073709551615"),
    ] {
        let why = refusal(outbox.claim(shard, ME, wrong).await);
        assert!(why.contains(shown) && why.contains("presence/1"), "{why}");
    }
    let none = Shard { number: SHARDS, ..shard };
    assert!(refusal(outbox.claim(none, ME, TTL).await).contains("presence/8"));
    assert!(outbox.claim(shard, ME, Duration::from_millis(1)).await.unwrap().is_some());
}
