//! Reading: each number once, in order, in both directions, whatever lies where.

use std::sync::Arc;

use trough_protocol::{DeviceId, Epoch, Seq};
use trough_store::object_catalog::Incarnation;

use super::world::*;
use crate::frames::Frames;
use crate::journal::testing::{Rng, TestRun, TestSink, batch, encode};
use crate::journal::{GapKind, Order, ReadError, ScanRange, Submission};
use crate::objects::ObjectsConfig;

/// Stores each of these as an object of its own.
async fn write(eater: &Eater, objects: &[Vec<TestRun>]) {
    for runs in objects {
        let sink = Arc::new(TestSink::default());
        eater.journal.submit(Submission { batch: batch(runs), number: 1, sink: sink.clone() }).unwrap();
        until("it is durable", || sink.highest() == 1).await;
    }
}

fn frames(first: u64, count: u64) -> TestRun {
    TestRun::Frames { device: "a", epoch: 1, first, count }
}

fn device() -> DeviceId {
    DeviceId::new("a").unwrap()
}

#[tokio::test(start_paused = true)]
async fn any_layout_reads_the_same_from_anywhere_in_both_directions() {
    for seed in 0..30 {
        let mut rng = Rng::new(seed);
        let world = Arc::default();
        let eaters = [Eater::calm(&world, 1), Eater::calm(&world, 2)];
        let mut expected = Vec::new();
        for epoch in [1, 2, 7] {
            let mut head = 0;
            // Of some, more than a lot has.
            let objects_max = if epoch == 2 { 200 } else { 40 };
            for _ in 0..rng.below(objects_max) {
                let first = 1 + head - rng.below(1 + head.min(9));
                let count = 1 + rng.below(12);
                let run = TestRun::Frames { device: "a", epoch, first, count };
                let runs = vec![run, TestRun::Frames { device: "b", epoch: 1, first: 1, count: 1 }];
                write(&eaters[rng.below(2) as usize], &[runs]).await;
                head = head.max(first + count - 1);
            }
            expected.extend((1..=head).map(|seq| (epoch, seq)));
        }
        let reader = &eaters[0];
        let falling: Vec<_> = expected.iter().rev().copied().collect();
        for order in [Order::Asc, Order::Desc] {
            let all = if order == Order::Asc { &expected } else { &falling };
            let range = ScanRange { order, ..ScanRange::default() };
            assert_eq!(reader.numbers("a", range).await.unwrap(), *all, "seed {seed} {order:?}");
            let at = rng.below(all.len() as u64 + 1) as usize;
            if let Some((epoch, seq)) = all.get(at) {
                let range = ScanRange { order, after: Some((Epoch(*epoch), Seq(*seq))), ts: None };
                assert_eq!(reader.numbers("a", range).await.unwrap(), all[at + 1..], "seed {seed} {order:?}");
            }
            // Without any note of heads, too.
            world.heads.lock().unwrap().clear();
        }
        let heads = reader.journal.reader.state(&device()).await.unwrap().map(|state| state.heads);
        for (epoch, head) in heads.unwrap_or_default() {
            assert_eq!(reader.head("a", epoch.0).await, head);
            let last = expected.iter().rfind(|(e, _)| *e == epoch.0);
            assert_eq!(last, Some(&(epoch.0, head.0)), "seed {seed}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn of_copies_the_one_received_first_counts_and_a_damaged_one_is_replaced() {
    let world: Arc<World> = Arc::default();
    let eater = Eater::calm(&world, 1);
    let own = |first, text: &str, count| TestRun::Own {
        device: "a",
        epoch: 1,
        first,
        channel: "c",
        payloads: vec![text.as_bytes().to_vec(); count],
    };
    write(&eater, &[vec![own(1, "old", 4)], vec![own(3, "new", 4)]]).await;
    let texts = async |eater: &Eater| {
        let (mut scan, mut all) = (eater.scan("a", ScanRange::default()), Vec::new());
        while let Some(chunk) = scan.next().await {
            match chunk {
                Ok(chunk) => all.push((chunk.first.0, chunk.last().0, chunk.bytes)),
                Err(ReadError::DamagedObject { first, last, .. }) => {
                    all.push((first.0, last.0, "damaged".into()))
                }
                Err(error) => panic!("{error}"),
            }
        }
        all
    };
    let of = |range: std::ops::RangeInclusive<u64>, text: &str| {
        let bytes: Vec<u8> =
            range.clone().flat_map(|seq| encode(1_000_000 + seq, "c", text.as_bytes())).collect();
        (*range.start(), *range.end(), bytes.into())
    };
    assert_eq!(texts(&eater).await, [of(1..=4, "old"), of(5..=6, "new")]);

    // A bit of the first object's frames rots: what another object has is read there.
    let key = entered(&world).into_iter().next().unwrap();
    let good = world.objects.lock().unwrap()[&key].clone();
    let mut rotten = good.to_vec();
    let at = rotten.windows(3).position(|window| window == b"old").unwrap();
    rotten[at] ^= 1;
    world.objects.lock().unwrap().insert(key.clone(), rotten.into());
    let expected = [(1, 2, "damaged".into()), of(3..=4, "new"), of(5..=6, "new")];
    assert_eq!(texts(&Eater::calm(&world, 2)).await, expected);

    // So it is when the object is gone, or cannot be opened.
    world.objects.lock().unwrap().remove(&key);
    assert_eq!(texts(&Eater::calm(&world, 3)).await, expected);
    world.objects.lock().unwrap().insert(key.clone(), good.slice(..good.len() - 1));
    assert_eq!(texts(&Eater::calm(&world, 4)).await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_span_of_time_leaves_out_objects_unread() {
    let world: Arc<World> = Arc::default();
    let eater = Eater::calm(&world, 1);
    let objects: Vec<_> = (0..50).map(|n| vec![frames(1 + n * 2, 2)]).collect();
    write(&eater, &objects).await;
    let reader = Eater::calm(&world, 2);
    let range = ScanRange { ts: Some(1_000_041..=1_000_044), ..ScanRange::default() };
    let numbers = reader.numbers("a", range).await.unwrap();
    assert_eq!(numbers, [(1, 41), (1, 42), (1, 43), (1, 44)]);
    assert_eq!(*reader.line.gets.lock().unwrap(), 2, "small objects are read with one question each");
}

#[tokio::test(start_paused = true)]
async fn gaps_are_paged_and_a_frame_beats_a_loss() {
    let world: Arc<World> = Arc::default();
    let eater = Eater::calm(&world, 1);
    let skip = |first, count| TestRun::Skip { device: "a", epoch: 1, first, count };
    let mut objects = vec![vec![frames(1, 3), skip(4, 7)], vec![frames(11, 1)], vec![skip(12, 1_000_000)]];
    objects.extend((0..30).map(|n| vec![frames(1_000_012 + n, 1)]));
    // Frames that were believed lost, and come after all.
    objects.push(vec![frames(6, 2)]);
    write(&eater, &objects).await;
    let page = async |after: Option<(u64, u64)>, limit| {
        let after = after.map(|(epoch, seq)| (Epoch(epoch), Seq(seq)));
        let gaps = eater.journal.reader.gaps(&device(), after, limit).await.unwrap();
        assert!(gaps.iter().all(|gap| gap.kind == GapKind::Skipped { reason: 2 }));
        gaps.iter().map(|gap| (gap.first.0, gap.last.0)).collect::<Vec<_>>()
    };
    let all = [(4, 5), (8, 10), (12, 1_000_011)];
    assert_eq!(page(None, 9).await, all);
    assert_eq!(page(None, 2).await, all[..2]);
    assert_eq!(page(Some((1, 4)), 9).await, all[1..]);
    assert_eq!(page(Some((1, 8)), 9).await, all[2..]);
    assert_eq!(page(Some((1, 500)), 9).await, [], "it began before");
    let numbers = eater.numbers("a", ScanRange { order: Order::Desc, ..ScanRange::default() }).await.unwrap();
    assert_eq!(numbers.len(), 3 + 2 + 1 + 30);
}

#[tokio::test(start_paused = true)]
async fn objects_with_more_devices_than_a_row_names_are_found_all_the_same() {
    let world: Arc<World> = Arc::default();
    let eater = Eater::calm(&world, 1);
    let names: Vec<&'static str> = (0..5000).map(|n| &*Box::leak(format!("d{n}").into_boxed_str())).collect();
    let wide =
        |first| names.iter().map(|device| TestRun::Frames { device, epoch: 1, first, count: 2 }).collect();
    write(&eater, &[wide(1), wide(3)]).await;
    assert!(world.rows.lock().unwrap().values().all(|row| row.wide && row.spans.is_empty()));
    let reader = Eater::calm(&world, 2);
    for device in ["d0", "d4999"] {
        assert_eq!(reader.head(device, 1).await, Seq(4));
        for order in [Order::Asc, Order::Desc] {
            let range = ScanRange { order, ..ScanRange::default() };
            assert_eq!(reader.numbers(device, range).await.unwrap().len(), 4);
        }
    }
    assert_eq!(reader.head("d5000", 1).await, Seq(0));
}

#[tokio::test(start_paused = true)]
async fn an_object_that_alone_says_whose_frames_it_has_is_not_left_out_when_it_is_damaged() {
    let world: Arc<World> = Arc::default();
    let eater = Eater::calm(&world, 1);
    let names: Vec<&'static str> = (0..5000).map(|n| &*Box::leak(format!("d{n}").into_boxed_str())).collect();
    let wide =
        |first| names.iter().map(|device| TestRun::Frames { device, epoch: 1, first, count: 2 }).collect();
    write(&eater, &[wide(1), wide(3)]).await;
    let device = DeviceId::new("d7").unwrap();
    until("heads are noted", || {
        let heads = world.heads.lock().unwrap();
        heads.get(&(device.clone(), Epoch(1))).is_some_and(|head| head.head == Seq(4))
    })
    .await;
    let key = entered(&world).into_iter().next_back().unwrap();
    let good = world.objects.lock().unwrap()[&key].clone();
    let index_end = good.len() - crate::objects::format::TRAILER_BYTES;
    let mut rotten = good.to_vec();
    rotten[index_end - 1] ^= 1;
    for (name, bytes) in [(2, Some(rotten)), (3, None)] {
        match bytes {
            Some(bytes) => drop(world.objects.lock().unwrap().insert(key.clone(), bytes.into())),
            None => drop(world.objects.lock().unwrap().remove(&key)),
        }
        let check = |error: ReadError| match error {
            ReadError::Object { object, offset, .. } => {
                assert_eq!(object.as_str(), key);
                assert!(offset < index_end as u64, "{offset}");
                assert_eq!(offset > 0, name == 2, "{offset}");
            }
            error => panic!("{error}"),
        };
        let reader = Eater::calm(&world, name);
        for order in [Order::Asc, Order::Desc] {
            let range = ScanRange { order, ..ScanRange::default() };
            check(reader.numbers("d7", range).await.unwrap_err());
        }
        let inner = &reader.journal.reader;
        check(inner.gaps(&device, None, 9).await.unwrap_err());
        check(inner.lasts(&device).await.unwrap_err());
        check(inner.state(&device).await.unwrap_err());
        check(inner.generation(&device).await.unwrap_err());
        // A device that comes back is not in its way, as long as it is known how far it was.
        assert_eq!(reader.head("d7", 1).await, Seq(4));
        let noted = world.heads.lock().unwrap().remove(&(device.clone(), Epoch(1))).unwrap();
        check(inner.head(&device, Epoch(1)).await.unwrap_err());
        world.heads.lock().unwrap().insert((device.clone(), Epoch(1)), noted);
    }
    world.objects.lock().unwrap().insert(key, good);
    let reader = Eater::calm(&world, 4);
    assert_eq!(reader.numbers("d7", ScanRange::default()).await.unwrap().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn too_many_objects_are_refused_and_the_generation_follows_the_head() {
    let world: Arc<World> = Arc::default();
    let eater = Eater::calm(&world, 1);
    let mut generations = std::collections::BTreeSet::new();
    let generation = async |eater: &Eater| eater.journal.generation(&device()).await.unwrap();
    assert_eq!(generation(&eater).await, 0);
    for n in 0..60 {
        write(&eater, &[vec![frames(1 + n, 1)]]).await;
        let now = generation(&eater).await;
        assert!(generations.insert(now), "it changes with each object");
        assert_eq!(generation(&Eater::calm(&world, 9)).await, now, "and is the same everywhere");
    }
    let before = generation(&eater).await;
    until("heads are noted", || world.heads.lock().unwrap().values().any(|head| head.head == Seq(60))).await;
    assert_eq!(generation(&eater).await, before);

    let small = ObjectsConfig { objects_max: 50, ..config() };
    let small = Eater::new(&Line::new(&world, 5, (0, 0)), 5, small);
    let mut scan = small.scan("a", ScanRange::default());
    let mut chunks = 0;
    let error = loop {
        match scan.next().await.expect("an error before the end") {
            Ok(_) => chunks += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, ReadError::TooManyObjects { objects: 60 }), "{error}");
    assert!(chunks > 0, "what a page wants is given");
    assert!(scan.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_long_read_asks_the_catalog_a_few_times_and_a_short_one_opens_few_objects() {
    let world: Arc<World> = Arc::default();
    let eater = Eater::calm(&world, 1);
    for n in 0..600 {
        write(&eater, &[vec![frames(1 + n, 1)]]).await;
    }
    let reader = Eater::calm(&world, 2);
    let mut scan = reader.scan("a", ScanRange::default());
    scan.next().await.unwrap().unwrap();
    let opened = *reader.line.gets.lock().unwrap();
    assert!(opened <= 8, "{opened} objects were opened for one frame");
    drop(scan);
    *reader.line.asked.lock().unwrap() = 0;
    assert_eq!(reader.numbers("a", ScanRange::default()).await.unwrap().len(), 600);
    let asked = *reader.line.asked.lock().unwrap();
    assert!(asked <= 4, "600 objects took {asked} questions");
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_not_found_in_time_is_counted() {
    let world: Arc<World> = Arc::default();
    let eater = Eater::calm(&world, 1);
    write(&eater, &[vec![frames(1, 3)]]).await;
    assert_eq!(eater.journal.head(&device(), Epoch(1)).await, Some(Seq(3)));
    eater.line.stopped.send_replace(true);
    assert_eq!(eater.journal.head(&device(), Epoch(1)).await, None);
    assert_eq!(eater.metrics.heads_late.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_newest_frame_of_each_channel() {
    let world: Arc<World> = Arc::default();
    let eater = Eater::calm(&world, 1);
    write(&eater, &[vec![frames(1, 10)], vec![frames(11, 1)]]).await;
    let lasts = eater.journal.reader.lasts(&device()).await.unwrap();
    let plain: Vec<_> = lasts.iter().map(|last| (last.channel.as_str(), last.seq.0)).collect();
    assert_eq!(plain, [("even", 11), ("odd", 9)]);
    assert_eq!(lasts[0].bytes, crate::journal::testing::frame("a", 1, 11));
    let known = world.lives.lock().unwrap().contains_key(&Incarnation([0; 16]));
    assert!(!known, "reading makes nobody known");
}

/// Through the interface that the API uses, from a thread that may block.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_block_on_their_own_threads() {
    let world: Arc<World> = Arc::default();
    let eater = Eater::calm(&world, 1);
    let sink = Arc::new(TestSink::default());
    eater
        .journal
        .submit(Submission { batch: batch(&[vec![frames(1, 9)][0].clone()]), number: 1, sink: sink.clone() })
        .unwrap();
    until("it is durable", || sink.highest() == 1).await;
    tokio::task::spawn_blocking(move || {
        let journal = &eater.journal;
        let chunks: Vec<_> = journal.scan(&device(), ScanRange::default()).map(Result::unwrap).collect();
        assert_eq!((chunks.len(), chunks[0].count), (1, 9));
        let states = journal.device_states(&[device(), DeviceId::new("nobody").unwrap()]).unwrap();
        let state = states[0].as_ref().unwrap();
        assert_eq!(
            (state.heads.clone(), state.frames, state.last_ts),
            (vec![(Epoch(1), Seq(9))], 9, 1_000_009)
        );
        assert!(states[1].is_none());
        assert!(journal.gaps(&device(), None, 9).unwrap().is_empty());
        assert_eq!(journal.last_per_channel(&device()).unwrap().len(), 2);
    })
    .await
    .unwrap();
}
