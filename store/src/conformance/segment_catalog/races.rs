//! Many who want the same at once.

use tokio::task::JoinSet;

use super::*;

const TASKS: u32 = 12;

pub async fn of_many_changes_for_one_manifest_one_is_made(on: &On) {
    let catalogs: Vec<_> = (0..TASKS).map(|_| (on.open)()).collect();
    let token = claimed(&*catalogs[0]).await;
    for round in 0..8 {
        let mut tasks = JoinSet::new();
        for (at, catalog) in catalogs.iter().cloned().enumerate() {
            let name = round * TASKS + at as u32;
            tasks.spawn(async move {
                let through = vec![through(1, u64::from(round)), through(2, u64::from(name))];
                let change =
                    Change { add: segments([name]), through, ..change(name, token, u64::from(round)) };
                (name, decided(&*catalog, &change).await)
            });
        }
        let done = tasks.join_all().await;
        let made: Vec<_> = done.iter().filter(|(_, done)| done.is_ok()).collect();
        let [(name, number)] = made[..] else { panic!("round {round}: {done:?}") };
        assert_eq!(*number, Ok(u64::from(round) + 1));
        for (_, other) in done.iter().filter(|(_, done)| done.is_err()) {
            let (after, found) = (u64::from(round), u64::from(round) + 1);
            assert_eq!(*other, Err(CommitError::Outdated { after, found }), "round {round}");
        }
        // What the others would have added is not there, and neither is a part of it.
        let Manifest { through: journals, segments, .. } = manifest(&*catalogs[1]).await;
        assert_eq!(journals, [through(1, u64::from(round)), through(2, u64::from(*name))]);
        assert_eq!(segments.len(), round as usize + 1);
        assert!(segments.contains(&segment(*name)), "round {round}");
    }
}

/// Everybody prepares anew when somebody else was first: all changes are made in the end, one after another.
pub async fn all_changes_are_made_one_after_another(on: &On) {
    const CHANGES: u32 = 5;
    let token = claimed(&*(on.open)()).await;
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let catalog = (on.open)();
        tasks.spawn(async move {
            let mut made = Vec::new();
            for at in 0..CHANGES {
                let name = 1 + task * CHANGES + at;
                let remove = if at > 0 { ids([name - 1]) } else { vec![] };
                let mut wanted = Change { add: segments([name]), remove, ..change(name, token, 0) };
                let number = loop {
                    wanted.after = manifest(&*catalog).await.number;
                    match decided(&*catalog, &wanted).await {
                        Err(CommitError::Outdated { .. }) => {}
                        decided => break decided.unwrap(),
                    }
                };
                made.push((number, name));
            }
            made
        });
    }
    let made = tasks.join_all().await.concat();
    let by_number: BTreeMap<_, _> = made.iter().copied().collect();
    let all = u64::from(TASKS * CHANGES);
    assert!(by_number.keys().copied().eq(1..=all), "{made:?}");
    let catalog = (on.open)();
    let left = (0..TASKS).map(|task| (task + 1) * CHANGES);
    assert_eq!(live(&*catalog).await, ids(left));
    // In the order in which they were made.
    let replaced = by_number.values().filter(|name| *name % CHANGES != 1).map(|name| name - 1);
    assert_eq!(removed(&*catalog).await, ids(replaced));
}

pub async fn of_many_who_claim_one_gets_it(on: &On) {
    let catalogs: Vec<_> = (0..TASKS).map(|_| (on.open)()).collect();
    let mut last = 0;
    for round in 0..8 {
        let mut tasks = JoinSet::new();
        for catalog in &catalogs {
            let catalog = catalog.clone();
            tasks.spawn(async move { catalog.claim(LONG).await.unwrap() });
        }
        let tokens: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
        let [token] = tokens[..] else { panic!("round {round}: {tokens:?}") };
        assert!(token > last);
        catalogs[0].release(token).await.unwrap();
        last = token;
    }
}

/// One who slept commits while another takes over: either it was first, or it is fenced off.
pub async fn of_a_change_and_who_takes_its_claim_over_one_is_first(on: &On) {
    let (slow, quick) = ((on.open)(), (on.open)());
    let mut number = 0;
    let (mut made, mut fenced) = (0, 0);
    for round in 0..30 {
        let token = claimed(&*slow).await;
        slow.release(token).await.unwrap();
        let late = Change { add: segments([round]), ..change(round, token, number) };
        let (slow, quick): (Arc<_>, Arc<_>) = (slow.clone(), quick.clone());
        let committed = tokio::spawn(async move { decided(&*slow, &late).await });
        let taken_over = tokio::spawn(async move {
            let deadline = Instant::now() + Duration::from_secs(60);
            let next = loop {
                match quick.claim(LONG).await {
                    Err(CatalogError::Unavailable { .. }) if Instant::now() < deadline => {}
                    claimed => break claimed.unwrap().unwrap(),
                }
            };
            // From here on nothing is made under the old one.
            (next, manifest(&*quick).await)
        });
        let (committed, (next, seen)) = (committed.await.unwrap(), taken_over.await.unwrap());
        match committed {
            Ok(made_as) => {
                assert_eq!(made_as, number + 1, "round {round}");
                assert_eq!(seen.number, made_as, "round {round}: made under a claim that was taken over");
                (number, made) = (made_as, made + 1);
            }
            refused => {
                assert_eq!(refused, Err(CommitError::Fenced { token }), "round {round}");
                assert_eq!(seen.number, number, "round {round}");
                fenced += 1;
            }
        }
        (on.open)().release(next).await.unwrap();
    }
    println!("{made} changes were first, {fenced} were fenced off");
    assert_eq!(manifest(&*(on.open)()).await.number, number);
}

/// A reader sees each manifest whole, while others are made.
pub async fn a_manifest_is_of_one_moment(on: &On) {
    let (catalog, reader) = ((on.open)(), (on.open)());
    let token = claimed(&*catalog).await;
    let (done, ended) = tokio::sync::watch::channel(false);
    let reading = tokio::spawn(async move {
        let (mut known, mut seen) = (None, 0);
        while !*ended.borrow() {
            let Some(Manifest { number, through: journals, segments, .. }) =
                reader.manifest(known).await.unwrap()
            else {
                continue;
            };
            assert!(known.is_none_or(|known| known < number), "{number} after {known:?}");
            let expected = if number == 0 { vec![] } else { vec![through(1, number)] };
            assert_eq!(journals, expected);
            // Each manifest replaces everything, and has one segment more than the one before it, up to nine.
            assert_eq!(segments.len() as u64, number % 10);
            assert!(segments.iter().all(|segment| segment.frames == number), "{number}");
            (known, seen) = (Some(number), seen + 1);
        }
        seen
    });
    let mut before = Vec::new();
    for number in 1..=60 {
        let new = (0..number % 10).map(|at| 10 * number + at);
        let of = |name| Segment { frames: u64::from(number), ..segment(name) };
        let add: Vec<_> = new.map(of).collect();
        let next = add.iter().map(|segment| segment.id).collect();
        let remove = std::mem::replace(&mut before, next);
        let through = vec![through(1, u64::from(number))];
        let change = Change { add, remove, through, ..change(number, token, u64::from(number) - 1) };
        assert_eq!(decided(&*catalog, &change).await, Ok(u64::from(number)));
    }
    done.send(true).unwrap();
    println!("{} of 60 manifests were seen", reading.await.unwrap());
}
