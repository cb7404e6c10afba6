//! What the frames carry, made before anything is measured.

use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use serde::Serialize;
use trough_protocol::ContentType;

/// Random bytes that binary payloads are cut from.
const POOL_BYTES: usize = 1024 * 1024;
/// From one binary payload to the next in the pool: they overlap, but no two in a row are equal.
const STRIDE_BYTES: usize = 257;
/// Different JSON payloads.
const JSON_PAYLOADS: usize = 1024;

/// The kind of payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PayloadKind {
    /// Random bytes: nothing that lies between can compress them.
    Binary,
    /// A JSON object such as a position, padded to its length.
    Json,
}

/// Payloads of one length, without end.
#[derive(Debug, Clone)]
pub struct Payloads {
    kind: PayloadKind,
    pool: Vec<u8>,
    len: usize,
    count: usize,
    stride: usize,
}

impl Payloads {
    /// Payloads of `len` bytes; JSON needs at least 2.
    pub fn new(kind: PayloadKind, len: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(len as u64);
        match kind {
            PayloadKind::Binary => {
                let mut pool = vec![0; POOL_BYTES + len];
                rng.fill_bytes(&mut pool);
                Self { kind, pool, len, count: POOL_BYTES / STRIDE_BYTES, stride: STRIDE_BYTES }
            }
            PayloadKind::Json => {
                let pool: Vec<u8> = (0..JSON_PAYLOADS).flat_map(|_| json(&mut rng, len)).collect();
                Self { kind, pool, len, count: JSON_PAYLOADS, stride: len }
            }
        }
    }

    /// The payload of the `index`th frame.
    pub fn get(&self, index: u64) -> &[u8] {
        let start = (index % self.count as u64) as usize * self.stride;
        &self.pool[start..start + self.len]
    }

    /// What they are.
    pub fn content_type(&self) -> ContentType<'static> {
        match self.kind {
            PayloadKind::Binary => ContentType::Bytes,
            PayloadKind::Json => ContentType::Json,
        }
    }
}

/// A valid JSON text of exactly `len` bytes.
fn json(rng: &mut StdRng, len: usize) -> Vec<u8> {
    let head = format!(
        "{{\"lat\":{:.6},\"lon\":{:.6},\"speed_kmh\":{:.1},\"heading\":{},\"status\":\"in service\",\"note\":\"",
        rng.random_range(30.0..31.0),
        rng.random_range(-98.0..-97.0),
        rng.random_range(0.0..90.0),
        rng.random_range(0..360),
    );
    let (head, tail) = if head.len() + 2 <= len { (head.as_str(), "\"}") } else { ("\"", "\"") };
    let padding = len.saturating_sub(head.len() + tail.len());
    let mut text = Vec::with_capacity(len);
    text.extend_from_slice(head.as_bytes());
    text.extend((0..padding).map(|_| rng.random_range(b'a'..=b'z')));
    text.extend_from_slice(tail.as_bytes());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_have_their_length_and_json_is_json() {
        for len in [2, 3, 80, 100, 256, 4096] {
            let payloads = Payloads::new(PayloadKind::Json, len);
            for index in [0, 1, 1023, 1024, u64::MAX] {
                let payload = payloads.get(index);
                assert_eq!(payload.len(), len);
                serde_json::from_slice::<serde_json::Value>(payload).unwrap();
            }
        }
        for len in [0, 1, 256, 65_536] {
            let payloads = Payloads::new(PayloadKind::Binary, len);
            assert_eq!(payloads.get(u64::MAX).len(), len);
        }
        let payloads = Payloads::new(PayloadKind::Binary, 256);
        assert_ne!(payloads.get(0), payloads.get(1));
    }
}
