//! One byte is not what it was.

use std::fs;

use tempfile::TempDir;
use trough_store::ObjectCatalog;
use trough_store::object_catalog::Incarnation;

use super::*;
use crate::compaction::tests::objects::Eater as ObjectsEater;
use crate::compaction::tests::seeds;
use crate::journal::testing::{config, parts};
use crate::journal::{Journal, JournalConfig, JournalError};
use crate::objects::tests::world::{Line, World};

/// Bytes that are damaged in each world.
const FLIPS: u64 = 25;
/// The last group of a journal: nothing vouches for it, so that damage looks like a torn tail.
const MARKER_BYTES: usize = 64;

fn flip(bytes: &mut [u8], rng: &mut Rng) -> usize {
    let at = rng.below(bytes.len() as u64) as usize;
    bytes[at] ^= 1 << rng.below(8);
    at
}

#[test]
fn of_a_segment() {
    for seed in 0..seeds(6) {
        let stopped = Stopped::new(seed);
        let mut rng = Rng::new(seed ^ 0xda);
        let report = stopped.check(&stopped.dir(), LONG);
        assert_eq!(report.findings, [], "seed {seed}");
        let eater = Eater::open(&stopped.ground, &stopped.catalog);
        let manifest =
            stopped.ground.runtime.block_on(stopped.ground.segments.manifest(None)).unwrap().unwrap();
        let keys = |segment: &Segment| {
            [crate::segments::parquet_key, crate::segments::index_key]
                .map(|key| key(segment.date, segment.id).to_string())
        };
        let live: Vec<String> = manifest.segments.iter().flat_map(keys).collect();
        assert!(!live.is_empty(), "seed {seed}");
        for _ in 0..FLIPS {
            let key = &live[rng.below(live.len() as u64) as usize];
            let (mut at, mut before) = (0, Vec::new());
            stopped.ground.store.change(key, |bytes| {
                before.clone_from(bytes);
                at = flip(bytes, &mut rng);
            });
            let what = format!("seed {seed}, byte {at} of {key}");
            let history =
                stopped.ground.history(stopped.ground.store.clone(), Arc::new(eater.journal.clone()));
            read_all(&history, &stopped.model, &what);
            let findings = stopped.check(&stopped.dir(), LONG).findings;
            assert!(!findings.is_empty(), "{what}: not found");
            for finding in &findings {
                assert_eq!((finding.kind, &finding.object), (FindingKind::Damaged, key), "{what}: {finding}");
                let offset = finding.offset.unwrap() as usize;
                assert!(key.ends_with(".idx") || offset / 65_536 == at / 65_536, "{what}: {finding}");
            }
            stopped.ground.store.change(key, |bytes| *bytes = before);
        }
        let history = stopped.ground.history(stopped.ground.store.clone(), Arc::new(eater.journal.clone()));
        assert!(read_all(&history, &stopped.model, "in the end"));
    }
}

/// A copy of a journal.
fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.path().join(path.file_name().unwrap())).unwrap();
    }
    to
}

#[test]
fn of_a_journal_file() {
    for seed in 0..seeds(6) {
        let stopped = Stopped::new(seed);
        let mut rng = Rng::new(seed ^ 0xf1);
        let (ground, dir) = (&stopped.ground, stopped.dir());
        let names: Vec<PathBuf> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        let mut files: Vec<PathBuf> = names
            .into_iter()
            .filter(|path| path.extension().is_some_and(|ending| ending == "trj" || ending == "tri"))
            .collect();
        files.sort();
        let newest = files.iter().rfind(|path| path.extension().unwrap() == "trj").cloned();
        let manifest = ground.runtime.block_on(ground.segments.manifest(None)).unwrap().unwrap();
        for _ in 0..FLIPS {
            let file = &files[rng.below(files.len() as u64) as usize];
            let copy = copy(&dir);
            let path = copy.path().join(file.file_name().unwrap());
            let mut bytes = fs::read(&path).unwrap();
            let whole = bytes.len();
            let at = flip(&mut bytes, &mut rng);
            fs::write(&path, &bytes).unwrap();
            let what = format!("seed {seed}, byte {at} of {whole} of {}", path.display());
            let findings = stopped.check(copy.path(), LONG).findings;
            let vouched = Some(file) != newest.as_ref() || at + MARKER_BYTES < whole;
            assert!(!vouched || !findings.is_empty(), "{what}: not found");
            assert!(
                findings.iter().all(|finding| finding.kind == FindingKind::Damaged),
                "{what}: {findings:?}"
            );
            let found = findings.iter().any(|finding| finding.object == path.display().to_string());
            assert!(!vouched || found, "{what}: {findings:?}");

            let config = JournalConfig {
                compacted_through: manifest.through_of(Incarnation::LOCAL),
                ..config(copy.path())
            };
            match Journal::open(config, parts(Arc::default(), ground.clock.clone())) {
                Ok((journal, _)) => {
                    let history = ground.history(ground.store.clone(), Arc::new(journal.clone()));
                    read_all(&history, &stopped.model, &what);
                    drop(history);
                    ground.runtime.block_on(journal.close()).unwrap();
                }
                // It refuses to start, and says because of what.
                Err(JournalError::Corrupt { .. }) => {}
                Err(error) => {
                    assert!(error.to_string().contains(&*path.to_string_lossy()), "{what}: {error}")
                }
            }
        }
    }
}

#[test]
fn of_a_journal_object() {
    for seed in 0..seeds(6) {
        let mut rng = Rng::new(seed);
        let ground = Ground::new(seed);
        let world = Arc::new(World::default());
        let name = seed * 1000 + 1;
        let mut eater = ObjectsEater::open(&ground, &world, name);
        let line = Line::new(&world, seed, (0, 0));
        let catalog: Arc<dyn ObjectCatalog> = line.clone();
        let (mut model, mut sender) = (Model::default(), Sender::default());
        for step in 0..30 {
            eater.send(&sender.next(&mut rng, &mut model));
            eater.acknowledged();
            if step == 15 {
                ground.compactor(line.clone(), Journals::Objects(catalog.clone())).pass().unwrap();
            }
        }
        ground.runtime.block_on(eater.journal.close()).unwrap();
        let check = || check_of(&ground, line.clone(), JournalParts::Objects(catalog.clone()), LONG);
        assert_eq!(check().findings, [], "seed {seed}");
        let rows = world.rows.lock().unwrap().keys().copied().collect::<Vec<_>>();
        assert!(!rows.is_empty());
        for turn in 0..FLIPS {
            let key = crate::objects::object_key(rows[rng.below(rows.len() as u64) as usize]).to_string();
            let before = world.objects.lock().unwrap()[&key].clone();
            let mut bytes = before.to_vec();
            let at = flip(&mut bytes, &mut rng);
            world.objects.lock().unwrap().insert(key.clone(), bytes.into());
            let what = format!("seed {seed}, byte {at} of {key}");
            let reader = ObjectsEater::open(&ground, &world, name + 1 + turn);
            read_all(&ground.history(line.clone(), reader.journal.clone()), &model, &what);
            let findings = check().findings;
            assert!(!findings.is_empty(), "{what}: not found");
            for finding in findings {
                assert_eq!(
                    (finding.kind, &finding.object),
                    (FindingKind::Damaged, &key),
                    "{what}: {finding}"
                );
                assert!(finding.offset.is_some_and(|offset| offset <= before.len() as u64), "{finding}");
            }
            world.objects.lock().unwrap().insert(key, before);
        }
    }
}
