//! Chance that can be repeated.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;

use rand::SeedableRng;
use rand::rngs::StdRng;

/// The seed of this run: `TROUGH_TEST_SEED`, or a random one. Printed when it is first asked for.
pub fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| {
        let given = std::env::var("TROUGH_TEST_SEED").ok();
        let seed = given.map_or_else(rand::random, |text| {
            text.parse()
                .unwrap_or_else(|_| panic!("TROUGH_TEST_SEED is {text:?}: use a number up to 2^64 - 1"))
        });
        println!("TROUGH_TEST_SEED={seed}");
        seed
    })
}

/// Random numbers for one purpose: the same for the same seed, whatever other purposes draw.
pub fn rng(purpose: &str) -> StdRng {
    let mut hasher = DefaultHasher::new();
    purpose.hash(&mut hasher);
    StdRng::seed_from_u64(seed() ^ hasher.finish())
}

/// A number from the environment, for the long forms of tests.
pub fn count(variable: &str, default: usize) -> usize {
    let Ok(text) = std::env::var(variable) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}: use a whole number"))
}

/// Whether the long form was asked for; if not, says that `what` was skipped.
pub fn long(what: &str) -> bool {
    let long = std::env::var_os("TROUGH_TEST_LONG").is_some();
    if !long {
        println!("skipped: {what} (set TROUGH_TEST_LONG=1, or run ./check.sh long)");
    }
    long
}
