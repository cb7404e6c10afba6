//! Many seeds, as fast as a machine has them.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;

/// Seeds at a time: much of what they do is waiting for other threads.
const THREADS: usize = 4;

/// How many seeds, unless `TROUGH_TEST_SEEDS` says so.
pub(crate) fn seeds(few: u64) -> u64 {
    variable("TROUGH_TEST_SEEDS").unwrap_or(few)
}

#[expect(clippy::disallowed_methods, reason = "a test has no command line")]
fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|n| n.parse().ok())
}

/// Runs so many, and names the one that fails; `TROUGH_TEST_SEED` runs that one alone.
pub(crate) fn each_seed(few: u64, run: impl Fn(u64) + Sync) {
    let (first, end) = match variable("TROUGH_TEST_SEED") {
        Some(seed) => (seed, seed + 1),
        None => (0, seeds(few)),
    };
    let next = AtomicU64::new(first);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return;
            }
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed))) {
                eprintln!("TROUGH_TEST_SEED={seed} repeats it");
                // Nobody begins another.
                next.store(end, Ordering::Relaxed);
                resume_unwind(panic);
            }
        }
    };
    std::thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(work))));
}

/// The same of what waits for nothing but its own clock.
pub(crate) fn each_seed_paused<F: Future<Output = ()>>(few: u64, run: impl Fn(u64) -> F + Sync) {
    each_seed(few, |seed| {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run(seed));
    });
}

/// A directory in memory, if the machine has such a place: nobody pulls the plug here, and a disk would be waited for
/// most of the time.
pub(crate) fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.or_else(|_| tempfile::tempdir()).unwrap()
}
