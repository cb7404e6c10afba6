//! A disk that is full. Needs a small file system of its own, which only root can mount: elsewhere these tests say
//! so and end, and the journal's own simulation of a full disk stands for them.
//!
//! 1. The journal's disk is full: acks stop, `/readyz` stays 200 and names the journal, reads go on. Space returns:
//!    everything is acknowledged, and can be read once.
//! 2. The process is killed while the disk is full, and started again on the full disk: what was acknowledged can be
//!    read; when space returns, the rest follows.
//! 3. A feeder that sends more than its credit while nothing can be stored: GOAWAY that names the credit.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use trough_device::Mode;
use trough_protocol::link::LinkMessage;
use trough_tests::cluster::{Cluster, Options, Role, Shape};
use trough_tests::fleet::Fleet;
use trough_tests::ledger::{Sent, Track, assert_all_readable};
use trough_tests::peer::{Heard, Peer, batch};
use trough_tests::poll::{LATER, SOON, until};

/// A file system of 24 MiB at the journal's place, with a ballast that leaves little room.
struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// `None` if this machine does not let us mount one.
    fn mount(at: &Path) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m,mode=0700", "tmpfs"]).arg(at).output();
        if !mount.as_ref().is_ok_and(|output| output.status.success()) {
            println!(
                "SKIPPED: cannot mount a small file system ({mount:?}); run as root to have this tested"
            );
            return None;
        }
        Some(Self { at: at.to_owned() })
    }

    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }

    /// Fills what is left, but for `room` bytes.
    fn fill(&self, room: usize) {
        let mut left = vec![0_u8; 24 << 20];
        while !left.is_empty() && fs::write(self.ballast(), &left).is_err() {
            left.truncate(left.len().saturating_sub(64 << 10));
        }
        left.truncate(left.len().saturating_sub(room));
        fs::write(self.ballast(), &left).unwrap();
    }

    fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
    }
}

/// A deployment whose journal lies on a small disk. The disk is dropped last: fields drop in order.
struct Cramped {
    cluster: Cluster,
    disk: SmallDisk,
}

async fn cramped(shape: Shape) -> Option<Cramped> {
    let mut cluster = Cluster::prepare(shape, Options::default()).await;
    let disk = SmallDisk::mount(&cluster.data_dir().join("journal"))?;
    for role in cluster.roles() {
        cluster.spawn(role);
    }
    cluster.ready().await;
    Some(Cramped { cluster, disk })
}

/// 8 MiB in all, of ten devices.
fn tracks() -> Vec<Track> {
    let sent = |device: usize| {
        let payload = |seq: u64| format!("{device}/{seq} {}", "x".repeat(8 * 1024)).into_bytes();
        (1..=100).map(|seq| Sent::on_wire(seq, &payload(seq))).collect()
    };
    (0..10).map(|device| Track { device: format!("d{device}"), sent: sent(device) }).collect()
}

/// Waits until the journal says that it can store nothing; gives how many frames are acknowledged then.
async fn full(cluster: &Cluster, fleet: &Fleet) -> u64 {
    until("readiness names the journal", LATER, async || {
        let (status, body) = cluster.readiness(cluster.back()).await?;
        assert_eq!(status, 200, "a full disk does not take the service out: reads go on");
        body["degraded"].as_array()?.iter().any(|part| part["part"] == "journal").then_some(())
    })
    .await;
    fleet.acked()
}

async fn assert_acked_is_readable(cluster: &Cluster, fleet: &Fleet) {
    let acked: Vec<u64> = fleet.devices.iter().map(|device| device.acked().0).collect();
    for (track, acked) in fleet.tracks.iter().zip(acked) {
        let read = cluster.reader().frames(&track.device).await;
        assert!(
            read.len() as u64 >= acked,
            "{}: {acked} acknowledged, {} readable",
            track.device,
            read.len()
        );
        let sent = track.sent[..read.len()].to_vec();
        Track { device: track.device.clone(), sent }.assert_read(1, &read);
    }
}

async fn filled_and_freed(shape: Shape, killed: bool) {
    let Some(Cramped { mut cluster, disk }) = cramped(shape).await else { return };
    let mut fleet = Fleet::start(&cluster, tracks(), Mode::Binary).await;
    fleet.let_go(100);
    until("some frames are stored", SOON, async || (fleet.acked() >= 100).then_some(())).await;
    disk.fill(1 << 20);
    fleet.let_go(1000);
    let acked = full(&cluster, &fleet).await;
    assert!(acked < 1000, "8 MiB do not go into one");
    assert_acked_is_readable(&cluster, &fleet).await;
    if killed {
        let role = cluster.back();
        cluster.kill(role);
        cluster.spawn(role);
        until("it starts on a full disk", LATER, async || {
            assert!(!cluster.process(role).has_ended(), "a full disk is no reason not to start: reads go on");
            (cluster.readiness(role).await?.0 == 200).then_some(())
        })
        .await;
        assert_acked_is_readable(&cluster, &fleet).await;
    }
    assert!(fleet.acked() < 1000, "nothing is acknowledged that is not stored");
    disk.free();
    fleet.finish().await;
    cluster.ready().await;
    assert_all_readable(&cluster.reader(), &fleet.tracks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_acks_until_there_is_space() {
    filled_and_freed(Shape::Up, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_on_a_full_disk() {
    filled_and_freed(Shape::Split, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credit_is_a_hard_limit() {
    let Some(Cramped { mut cluster, disk }) = cramped(Shape::Split).await else { return };
    cluster.add_device("greedy").await;
    disk.fill(256 << 10);
    let before = cluster.rss_bytes(Role::Eater(0));
    let (mut peer, credit) = Peer::up(cluster.at.links).await;
    let payload = vec![b'x'; 1 << 20];
    let (mut sent, mut number) = (0, 0);
    while sent <= credit {
        number += 1;
        let batch = batch("greedy", (number - 1) * 3 + 1, &[&payload, &payload, &payload]);
        sent += batch.len() as u64;
        peer.say(&LinkMessage::Feed { number, batch: &batch }).await;
    }
    // The goodbye comes when what was within the credit is answered.
    disk.free();
    let text = loop {
        match peer.hear().await {
            Heard::Goaway { code, text } => {
                assert_eq!(code, "protocol", "{text}");
                break text;
            }
            Heard::Ate(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(text.contains(&credit.to_string()), "{text}");
    let grown = cluster.rss_bytes(Role::Eater(0)).saturating_sub(before);
    assert!(grown < credit + (48 << 20), "the eater grew by {grown} bytes over a credit of {credit}");
}
