//! Epochs: whatever a device has forgotten, none of its frames vanishes.
//!
//! 1. A device that lost its memory numbers from 1 again in its old epoch: it is given a new epoch, and both its old
//!    and its new frames can be read.
//! 2. A device that knows that it forgot says epoch 0: it is given a new epoch, every time a higher one.
//! 3. A hello with an epoch that is not the newest: 4200, and the advice to say epoch 0.
//! 4. A device that comes back with its memory goes on where it was; what it sends again shows once.
//! 5. A device that forgot its oldest frames says SKIP for them first.
//! 6. A second session of a device takes over; the first is closed with 4100 and a delay of 10 s at the least.
//! 7. A device comes back with an old memory while newer frames of it are on their way to the disk: it is asked to
//!    wait until they have landed, and is given a new epoch.
//! 8. The registry is lost and made anew beside an older journal: epochs that have frames are passed over.

use trough_protocol::close::{Advice, advice};
use trough_protocol::device::{Hello, ServerMessage, Skip, SkipReason};
use trough_protocol::{Epoch, Seq};
use trough_tests::cluster::{Cluster, Role, Shape};
use trough_tests::fleet::Neighbour;
use trough_tests::poll::{SOON, until};
use trough_tests::reader::Reader;
use trough_tests::wire::{Form, Said, Wire};

async fn read(cluster: &Cluster, device: &str) -> Vec<(u64, u64, String)> {
    let read = cluster.reader().frames(device).await;
    read.into_iter().map(|f| (f.epoch, f.seq, String::from_utf8(f.payload).unwrap())).collect()
}

fn frame(epoch: u64, seq: u64, payload: &str) -> (u64, u64, String) {
    (epoch, seq, payload.to_owned())
}

fn hello(epoch: Epoch, oldest: u64, next: u64, acked: u64) -> Hello {
    Hello { epoch, oldest: Seq(oldest), next: Seq(next), acked: Seq(acked), ..Hello::NEW }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forgotten_numbers_do_not_hide_new_frames() {
    let cluster = Cluster::start(Shape::Split).await;
    let at = cluster.at.devices;
    let token = cluster.add_device("d").await;
    let (mut wire, first) = Wire::begin(at, Form::Binary, &token).await;
    assert_eq!((first.epoch, first.resume), (Epoch(1), Seq(1)));
    wire.frames(1, &[b"old 1", b"old 2", b"old 3"]).await;
    wire.acked(3).await;
    wire.close().await;

    // It knows its epoch and holds one frame, number 1: it has forgotten that it sent three.
    let (mut wire, second) = Wire::resume(at, Form::Binary, &token, hello(first.epoch, 1, 2, 0)).await;
    assert_eq!((second.epoch, second.resume), (Epoch(2), Seq(1)));
    wire.frames(1, &[b"new 1"]).await;
    wire.acked(1).await;
    wire.close().await;

    // It knows that it knows nothing.
    let (mut wire, third) = Wire::begin(at, Form::Json, &token).await;
    assert_eq!((third.epoch, third.resume), (Epoch(3), Seq(1)));
    wire.frames(1, &[b"newest 1"]).await;
    wire.acked(1).await;
    wire.close().await;

    let all = [
        frame(1, 1, "old 1"),
        frame(1, 2, "old 2"),
        frame(1, 3, "old 3"),
        frame(2, 1, "new 1"),
        frame(3, 1, "newest 1"),
    ];
    assert_eq!(read(&cluster, "d").await, all);
    assert_eq!(cluster.reader().gaps("d").await, []);

    // An epoch that is not the newest, or was never granted.
    for epoch in [1, 2, 4, 1000] {
        let mut wire = Wire::open(at, Form::Binary, &token).await.unwrap();
        wire.say(&trough_protocol::device::ClientMessage::Hello(hello(Epoch(epoch), 1, 9, 3))).await;
        let (code, reason, _) = wire.closed().await;
        assert_eq!(code, 4200, "epoch {epoch}: {reason}");
        assert_eq!(advice(Some((code, &reason))), Advice::NewEpoch);
        assert!(reason.contains('3'), "it names the newest epoch: {reason}");
    }
    assert_eq!(read(&cluster, "d").await, all, "and nothing was changed by it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_goes_on_where_it_was() {
    let mut cluster = Cluster::start(Shape::Up).await;
    let at = cluster.at.devices;
    let token = cluster.add_device("d").await;
    let (mut wire, welcome) = Wire::begin(at, Form::Binary, &token).await;
    wire.frames(1, &[b"1", b"2", b"3"]).await;
    wire.acked(3).await;
    drop(wire);

    // It saw no ack and would send everything again: it is told that it need not, also after a restart.
    for restart in [false, true] {
        if restart {
            let role = cluster.front();
            cluster.kill(role);
            cluster.spawn(role);
            cluster.ready().await;
        }
        let (wire, again) = Wire::resume(at, Form::Binary, &token, hello(welcome.epoch, 1, 5, 0)).await;
        assert_eq!((again.epoch, again.resume), (welcome.epoch, Seq(4)));
        drop(wire);
    }

    // It lost 4 and 5 and holds 6.
    let (mut wire, again) = Wire::resume(at, Form::Binary, &token, hello(welcome.epoch, 6, 7, 3)).await;
    assert_eq!(again.resume, Seq(4));
    wire.skip(Skip { first: Seq(4), last: Seq(5), reason: SkipReason::STORAGE_LOST }).await;
    wire.frames(6, &[b"6"]).await;
    wire.acked(6).await;
    wire.close().await;
    let seqs: Vec<u64> = read(&cluster, "d").await.iter().map(|(_, seq, _)| *seq).collect();
    assert_eq!(seqs, [1, 2, 3, 6]);
    let gaps = cluster.reader().gaps("d").await;
    assert_eq!((gaps[0].first, gaps[0].last, gaps[0].reason.as_deref()), (4, 5, Some("storage_lost")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_session_takes_over() {
    let cluster = Cluster::start(Shape::Up).await;
    let neighbour = Neighbour::start(&cluster).await;
    let token = cluster.add_device("twin").await;
    let (mut older, _) = Wire::begin(cluster.at.devices, Form::Binary, &token).await;
    older.frames(1, &[b"older"]).await;
    older.acked(1).await;
    let (mut newer, welcome) = Wire::begin(cluster.at.devices, Form::Binary, &token).await;
    let (code, reason, _) = older.closed().await;
    assert_eq!(code, 4100, "{reason}");
    let Advice::ReconnectAfter(delay_ms) = advice(Some((code, &reason))) else { panic!("{reason}") };
    assert!(delay_ms >= 10_000, "two copies must not fight: {reason}");
    newer.frames(1, &[b"newer"]).await;
    newer.acked(1).await;
    newer.close().await;
    assert_eq!(read(&cluster, "twin").await, [frame(1, 1, "older"), frame(welcome.epoch.0, 1, "newer")]);
    neighbour.assert_unharmed(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_memory_waits_for_what_is_on_its_way() {
    let mut cluster = Cluster::start(Shape::Split).await;
    let at = cluster.at.devices;
    let token = cluster.add_device("restored").await;
    let (mut wire, welcome) = Wire::begin(at, Form::Binary, &token).await;
    wire.frames(1, &[b"durable"]).await;
    wire.acked(1).await;
    cluster.process(Role::Eater(0)).stop();
    wire.frames(2, &[b"on its way"]).await;
    until("the frame is on its way", SOON, async || {
        (cluster.metric(Role::Feeder(0), "trough_feeder_in_flight_bytes").await > 0.0).then_some(())
    })
    .await;
    drop(wire);

    // A copy from before frame 2 was made: number 2 is the next that it will give.
    let mut wire = Wire::open(at, Form::Binary, &token).await.unwrap();
    let old = hello(welcome.epoch, 2, 2, 1);
    wire.say(&trough_protocol::device::ClientMessage::Hello(old)).await;
    cluster.process(Role::Eater(0)).resume();
    let Said::Message(ServerMessage::Welcome(again)) = wire.hear().await else { panic!("a welcome was due") };
    assert_eq!((again.epoch, again.resume), (Epoch(2), Seq(1)), "in epoch 1 its next frame would vanish");
    wire.frames(1, &[b"another"]).await;
    wire.acked(1).await;
    wire.close().await;
    let all = [frame(1, 1, "durable"), frame(1, 2, "on its way"), frame(2, 1, "another")];
    assert_eq!(read(&cluster, "restored").await, all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_made_anew_grants_no_epoch_that_has_frames() {
    let mut cluster = Cluster::start(Shape::Up).await;
    let at = cluster.at.devices;
    let token = cluster.add_device("d").await;
    for epoch in 1..=3 {
        let (mut wire, welcome) = Wire::begin(at, Form::Binary, &token).await;
        assert_eq!(welcome.epoch, Epoch(epoch));
        wire.frames(1, &[format!("old {epoch}").as_bytes()]).await;
        wire.acked(1).await;
        wire.close().await;
    }
    cluster.kill(Role::Up);
    for file in std::fs::read_dir(cluster.data_dir()).unwrap() {
        let path = file.unwrap().path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("registry.sqlite")) {
            std::fs::remove_file(path).unwrap();
        }
    }
    cluster.spawn(Role::Up);
    cluster.ready().await;

    let token = cluster.add_device("d").await;
    let (mut wire, welcome) = Wire::begin(at, Form::Binary, &token).await;
    assert_eq!((welcome.epoch, welcome.resume), (Epoch(4), Seq(1)));
    wire.frames(1, &[b"new"]).await;
    wire.acked(1).await;
    wire.close().await;
    let reader = Reader::new(format!("http://{}", cluster.at.api), cluster.add_reader("again", &[]).await);
    let found =
        reader.frames("d").await.into_iter().map(|f| (f.epoch, String::from_utf8(f.payload).unwrap()));
    let found: Vec<_> = found.collect();
    let expected =
        [(1, "old 1"), (2, "old 2"), (3, "old 3"), (4, "new")].map(|(epoch, text)| (epoch, text.into()));
    assert_eq!(found, expected);
}
