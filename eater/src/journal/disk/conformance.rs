//! What every disk must do, run against each of them.

use std::io::IoSlice;

use super::sim::SimDisk;
use super::{Disk, FileDisk};

fn suite(disk: &dyn Disk) {
    assert!(disk.open("a").is_err());
    let file = disk.create("a").unwrap();
    assert!(disk.create("a").is_err(), "a name is made once");
    file.write_at(&mut [IoSlice::new(b"one"), IoSlice::new(b""), IoSlice::new(b"two")], 0).unwrap();
    file.write_at(&mut [IoSlice::new(b"far")], 10).unwrap();
    file.sync().unwrap();
    disk.sync_dir().unwrap();
    let same = disk.open("a").unwrap();
    assert_eq!(same.len().unwrap(), 13);
    assert_eq!(same.read_at(0, 6).unwrap(), b"onetwo");
    assert_eq!(same.read_at(6, 100).unwrap(), b"\0\0\0\0far", "a hole is zeros, the end is short");
    assert_eq!(same.read_at(50, 4).unwrap(), b"");
    same.truncate(4).unwrap();
    assert_eq!(file.read_at(0, 100).unwrap(), b"onet");
    let many = vec![IoSlice::new(b"ab"); 3000];
    file.write_at(&mut many.clone(), 4).unwrap();
    assert_eq!(file.len().unwrap(), 6004);
    disk.rename("a", "b").unwrap();
    disk.create("c").unwrap();
    let mut names = disk.list().unwrap();
    names.sort();
    assert_eq!(names, ["b", "c"]);
    disk.remove("b").unwrap();
    assert!(disk.remove("b").is_err());
    assert_eq!(file.read_at(4, 2).unwrap(), b"ab", "an open file outlives its name");
}

#[test]
fn a_directory() {
    let dir = tempfile::tempdir().unwrap();
    suite(&FileDisk::open(&dir.path().join("made/with/parents")).unwrap());
}

#[test]
fn the_simulated_disk() {
    suite(&SimDisk::new(1));
}

#[test]
fn the_simulated_disk_forgets_what_it_should() {
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        let file = disk.create("a").unwrap();
        file.write_at(&mut [IoSlice::new(&[1; 2000])], 0).unwrap();
        file.sync().unwrap();
        disk.sync_dir().unwrap();
        file.write_at(&mut [IoSlice::new(&[2; 2000])], 2000).unwrap();
        disk.power_loss();
        let left = disk.bytes("a");
        assert_eq!(left[..2000], [1; 2000], "seed {seed}");
        assert!(left[2000..].chunks(512).all(|part| part.iter().all(|b| *b == 0 || *b == 2)), "seed {seed}");
    }
}
