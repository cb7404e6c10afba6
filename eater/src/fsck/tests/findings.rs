//! Whole objects in the wrong place, or in none.

use trough_store::segment_catalog::{Change, SegmentId};
use trough_store::sqlite::SqliteSegmentCatalog;

use super::*;
use crate::segments::{index_key, parquet_key};

fn manifest(stopped: &Stopped) -> Manifest {
    stopped.ground.runtime.block_on(stopped.ground.segments.manifest(None)).unwrap().unwrap()
}

/// One that has segments.
fn stopped(seed: u64) -> Stopped {
    let stopped = (seed..seed + 100).map(Stopped::new).find(|stopped| {
        let manifest = manifest(stopped);
        manifest.segments.len() > 1
            && stopped.ground.store.keys().iter().any(|key| key.starts_with("manifests/"))
    });
    stopped.expect("one of a hundred is compacted")
}

fn kinds(report: &Report) -> Vec<FindingKind> {
    report.findings.iter().map(|finding| finding.kind).collect()
}

#[test]
fn a_missing_object() {
    let stopped = stopped(100);
    let segment = manifest(&stopped).segments[0].clone();
    for key in [parquet_key(segment.date, segment.id), index_key(segment.date, segment.id)] {
        let bytes = stopped.ground.store.take(key.as_str());
        let report = stopped.check(&stopped.dir(), LONG);
        assert_eq!(kinds(&report), [FindingKind::Missing]);
        assert_eq!(report.findings[0].object, key.as_str());
        assert!(report.findings[0].to_string().contains("restore the object"), "{}", report.findings[0]);
        stopped.ground.runtime.block_on(stopped.ground.store.put(&key, bytes)).unwrap();
    }
    assert_eq!(stopped.check(&stopped.dir(), LONG).findings, []);
}

#[test]
fn an_object_that_was_cut() {
    let stopped = stopped(200);
    let segment = manifest(&stopped).segments[0].clone();
    for key in [parquet_key(segment.date, segment.id), index_key(segment.date, segment.id)] {
        let mut before = Vec::new();
        for change in
            [|bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 1), |bytes: &mut Vec<u8>| bytes.push(0)]
        {
            stopped.ground.store.change(key.as_str(), |bytes| {
                before.clone_from(bytes);
                change(bytes);
            });
            let report = stopped.check(&stopped.dir(), LONG);
            assert_eq!(kinds(&report), [FindingKind::Damaged], "{key}: {:?}", report.findings);
            stopped.ground.store.change(key.as_str(), |bytes| bytes.clone_from(&before));
        }
    }
}

#[test]
fn a_segment_that_is_not_what_the_catalog_says() {
    let mut stopped = stopped(300);
    let manifest = manifest(&stopped);
    let mut lying = manifest.segments.clone();
    lying[0].received.1 += 1;
    lying[1].frames += 1;
    let other = SqliteSegmentCatalog::open(
        &stopped.ground.dir.path().join("other.sqlite"),
        stopped.ground.clock.clone(),
    );
    let other = Arc::new(other.unwrap());
    stopped.ground.segments = other.clone();
    let change = Change {
        id: [1; 16],
        token: 0,
        after: 0,
        add: lying,
        remove: Vec::new(),
        through: manifest.through.clone(),
        expires: false,
    };
    stopped.ground.runtime.block_on(other.commit(&change)).unwrap();
    let report = stopped.check(&stopped.dir(), LONG);
    let objects: Vec<&str> = report.findings.iter().map(|finding| finding.object.as_str()).collect();
    for segment in &manifest.segments[..2] {
        assert!(objects.contains(&index_key(segment.date, segment.id).as_str()), "{objects:?}");
    }
    // And the manifests that were written down are newer.
    let lost = report.findings.iter().find(|finding| finding.object == "the catalog of segments").unwrap();
    assert!(lost.remedy.contains("fsck --rebuild"), "{lost}");
}

#[test]
fn what_nobody_names_is_an_orphan_when_it_is_old() {
    let stopped = stopped(400);
    let segment = manifest(&stopped).segments[0].clone();
    let stranger = SegmentId(segment.id.0.map(|byte| byte ^ if byte == segment.id.0[15] { 0xff } else { 0 }));
    let stranger = SegmentId([&segment.id.0[..15], &stranger.0[15..]].concat().try_into().unwrap());
    let key = index_key(segment.date, stranger);
    stopped.ground.runtime.block_on(stopped.ground.store.put(&key, "x".into())).unwrap();
    assert_eq!(stopped.check(&stopped.dir(), LONG).findings, []);
    stopped.ground.clock.advance(Duration::from_secs(7 * 600));
    let report = stopped.check(&stopped.dir(), Duration::from_secs(600));
    let found = report.findings.iter().find(|finding| finding.object == key.as_str()).unwrap();
    assert_eq!(found.kind, FindingKind::Orphan);
}

#[test]
fn a_frame_that_two_segments_have_from_one_place() {
    let stopped = stopped(500);
    let segment = manifest(&stopped).segments[0].clone();
    // The same rows once more, as another segment.
    let opened = stopped.ground.runtime.block_on(crate::segments::OpenSegment::open(
        &crate::compaction::tests::cache(stopped.ground.store.clone()),
        &segment,
    ));
    let id = SegmentId([9; 16]);
    let mut writer =
        crate::segments::SegmentWriter::new(crate::segments::NewSegment { id, date: segment.date, level: 1 })
            .unwrap();
    let mut rows = opened.unwrap().rows();
    while let Some(next) = stopped.ground.runtime.block_on(rows.next()) {
        next.unwrap().iter().for_each(|row| writer.push(&row).unwrap());
    }
    let written = writer.finish().unwrap();
    let ground = &stopped.ground;
    ground.runtime.block_on(ground.store.put(&parquet_key(segment.date, id), written.parquet)).unwrap();
    ground.runtime.block_on(ground.store.put(&index_key(segment.date, id), written.index)).unwrap();
    ground.clock.advance(Duration::from_secs(10_000));
    let token = ground.runtime.block_on(ground.segments.claim(Duration::from_secs(1))).unwrap().unwrap();
    let after = manifest(&stopped).number;
    let (add, remove, through) = (vec![written.segment], Vec::new(), Vec::new());
    let change = Change { id: [2; 16], token, after, add, remove, through, expires: false };
    ground.runtime.block_on(ground.segments.commit(&change)).unwrap();
    let report = stopped.check(&stopped.dir(), LONG);
    assert_eq!(kinds(&report), [FindingKind::Doubled], "{:?}", report.findings);
    let count = format!("{} that are in", segment.frames);
    assert!(report.findings[0].found.contains(&count), "{}", report.findings[0]);
}

#[test]
fn a_manifest_that_is_damaged_or_wrong() {
    let stopped = stopped(600);
    let key = stopped.ground.store.keys().into_iter().rfind(|key| key.starts_with("manifests/")).unwrap();
    stopped.ground.store.change(&key, |bytes| bytes[0] = b'x');
    assert_eq!(kinds(&stopped.check(&stopped.dir(), LONG)), [FindingKind::Damaged]);
    let newest = manifest(&stopped);
    let mut less = newest.clone();
    less.segments.pop();
    let less = crate::compaction::manifest_file::ManifestFile::of(&less).encode();
    let key = crate::compaction::manifest_file::key(newest.number);
    if stopped.ground.store.keys().contains(&key.to_string()) {
        stopped.ground.store.change(key.as_str(), |bytes| *bytes = less.to_vec());
        assert_eq!(kinds(&stopped.check(&stopped.dir(), LONG)), [FindingKind::Disagrees]);
    }
}

#[test]
fn a_missing_journal_file() {
    let stopped = stopped(700);
    let mut files: Vec<PathBuf> = std::fs::read_dir(stopped.dir())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "trj"))
        .collect();
    files.sort();
    if let [.., before_last, _] = &files[..] {
        std::fs::remove_file(before_last).unwrap();
        let report = stopped.check(&stopped.dir(), LONG);
        assert!(!report.findings.is_empty());
    }
}
