//! A journal that was damaged, cut or half lost.
//!
//! 1. Bytes after the last durable group, as a crash leaves them: cut, reported, and nothing is lost.
//! 2. A flipped byte among durable frames: the eater refuses to start and names the file and the repair command;
//!    nothing is changed by that. `trough journal repair` sets the damage aside; the eater starts; every frame that
//!    is not damaged can be read, and `/gaps` shows the others.
//! 3. The catalog is removed: it is made again from the journal.
//! 4. Two eaters on one journal: the second refuses to start and names the first.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use trough_device::Mode;
use trough_tests::admin::run;
use trough_tests::cluster::{Cluster, Shape};
use trough_tests::data;
use trough_tests::fleet::Fleet;
use trough_tests::ledger::{Track, assert_all_readable, is_same};
use trough_tests::poll::{LATER, ends};
use trough_tests::process::command;

/// A deployment with real frames, whose eater was killed.
async fn killed_with_frames() -> (Cluster, Fleet) {
    let mut cluster = Cluster::start(Shape::Split).await;
    let tracks: Vec<Track> = data::gpsd().into_iter().take(20).collect();
    let mut fleet = Fleet::start(&cluster, tracks, Mode::Binary).await;
    // In steps, so that there are many commit groups.
    for thousandths in (0..=1000).step_by(25) {
        fleet.let_go(thousandths);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    fleet.finish().await;
    let role = cluster.back();
    cluster.kill(role);
    // What is damaged from here on is part of the journal, not zeros that were written ahead.
    let path = journal_file(&cluster);
    let bytes = fs::read(&path).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    OpenOptions::new().write(true).open(path).unwrap().set_len(end as u64).unwrap();
    (cluster, fleet)
}

/// The largest file of the journal: the one with the frames.
fn journal_file(cluster: &Cluster) -> PathBuf {
    let files = fs::read_dir(cluster.data_dir().join("journal")).unwrap().map(|entry| entry.unwrap().path());
    let size = |path: &PathBuf| fs::metadata(path).unwrap().len();
    files.filter(|path| path.is_file()).max_by_key(size).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_tail_is_cut() {
    let (mut cluster, fleet) = killed_with_frames().await;
    let mut file = OpenOptions::new().append(true).open(journal_file(&cluster)).unwrap();
    file.write_all(&[0xa5; 777]).unwrap();
    let role = cluster.back();
    cluster.spawn(role);
    cluster.ready().await;
    let opened = cluster.log(role).into_iter().rfind(|line| line["message"] == "journal open").unwrap();
    assert_eq!(opened["bytes_cut"], 777, "{opened}");
    assert_all_readable(&cluster.reader(), &fleet.tracks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_refused_then_repaired_then_shown() {
    let (mut cluster, fleet) = killed_with_frames().await;
    let path = journal_file(&cluster);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&path, &bytes).unwrap();

    let role = cluster.back();
    for _ in 0..2 {
        cluster.spawn(role);
        let exit = cluster.process(role).wait(LATER).await;
        assert_eq!(exit.code, Some(1), "it must not guess");
        assert_eq!(fs::read(&path).unwrap(), bytes, "nothing is changed");
    }
    let told = cluster.all_logs();
    let name = path.file_name().unwrap().to_string_lossy();
    assert!(told.contains(&*name) && told.contains("trough journal repair --data-dir"), "{told}");

    cluster.admin(&["journal", "repair"], "").await;
    cluster.spawn(role);
    cluster.ready().await;
    let (mut damaged, mut read_in_all) = (0, 0);
    for track in fleet.tracks.iter() {
        let read = cluster.reader().frames(&track.device).await;
        let gaps = cluster.reader().gaps(&track.device).await;
        assert!(gaps.iter().all(|gap| gap.kind == "damaged" && gap.epoch == 1), "{}: {gaps:?}", track.device);
        let in_gap = |seq: u64| gaps.iter().any(|gap| (gap.first..=gap.last).contains(&seq));
        for frame in &read {
            assert!(is_same(&track.sent[frame.seq as usize - 1], frame), "{} {}", track.device, frame.seq);
        }
        let due: Vec<u64> = (1..=track.sent.len() as u64).filter(|seq| !in_gap(*seq)).collect();
        let found: Vec<u64> = read.iter().map(|frame| frame.seq).collect();
        assert_eq!(found, due, "{}: what is not in a gap can be read", track.device);
        damaged += track.sent.len() - read.len();
        read_in_all += read.len();
    }
    println!("one flipped byte cost {damaged} frames; {read_in_all} can be read");
    assert!(damaged > 0 && read_in_all > damaged, "the damage is shown, and it is not everything");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_catalog_is_made_again() {
    let (mut cluster, fleet) = killed_with_frames().await;
    for entry in fs::read_dir(cluster.data_dir()).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("catalog.sqlite") {
            fs::remove_file(path).unwrap();
        }
    }
    let role = cluster.back();
    cluster.spawn(role);
    cluster.ready().await;
    assert_all_readable(&cluster.reader(), &fleet.tracks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_journal_has_one_eater() {
    let mut cluster = Cluster::start(Shape::Up).await;
    let mut second = command();
    second.args(["eater", "--links", "127.0.0.1:0", "--api", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    second.arg("--data-dir").arg(cluster.data_dir());
    let output = ends("the second ends", LATER, run(second, "")).await;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    let first = cluster.process(trough_tests::cluster::Role::Up).id().to_string();
    assert!(told.contains("in use by process") && told.contains(&first), "{told}");
    cluster.ready().await;
}
