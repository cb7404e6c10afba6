//! Randomness from the kernel. Logic that must be repeatable takes its random values as arguments instead.

use trough_protocol::LinkId;

/// `N` bytes from the kernel's generator, good enough for keys.
///
/// # Panics
/// If the kernel has none to give: getrandom(2) cannot fail so on any Linux since 3.17, and going on with
/// guessable tokens would be worse.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel's random generator answers on every supported Linux");
    bytes
}

/// A number below `bound`, for jitter; 0 if `bound` is 0. Very slightly uneven, so not for keys.
pub fn random_below(bound: u64) -> u64 {
    let wide = u128::from(u64::from_le_bytes(random_bytes())) * u128::from(bound);
    (wide >> 64) as u64
}

/// A new name for one running feeder or eater.
pub fn link_id() -> LinkId {
    LinkId(random_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_jitter_stays_below_its_bound() {
        assert_ne!(link_id(), link_id());
        assert_eq!(random_below(0), 0);
        assert_eq!(random_below(1), 0);
        assert!((0..1000).all(|_| random_below(7) < 7));
    }
}
