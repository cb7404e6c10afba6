//! Sealed values of the bus, as they are and with the seal made good.
#![no_main]

use hmac::{Hmac, Mac};
use libfuzzer_sys::fuzz_target;
use sha2::Sha256;
use trough_bus::seal::{Sealed, Sealer};
use trough_bus::{Environment, Key};

const SECRET: [u8; 32] = [7; 32];
const ENVIRONMENT: &str = "sandbox";

fuzz_target!(|bytes: &[u8]| {
    let environment = Environment::new(ENVIRONMENT).expect("it is a good name");
    let sealer = Sealer::new(SECRET.to_vec(), environment.clone()).expect("it is long enough");
    let key = Key::new(&environment, "grant");
    assert_eq!(sealer.open(&key, &bytes.to_vec().into()), None, "nobody guesses a seal");

    let resealed = [bytes, &seal(&key, bytes)].concat().into();
    if let Some(sealed) = sealer.open(&key, &resealed) {
        assert_eq!(sealer.seal(&key, &sealed), resealed, "there is one value for a content");
    }

    let sealed = Sealed { made_at: 1, expires_at: u64::MAX, content: bytes.to_vec().into() };
    let value = sealer.seal(&key, &sealed);
    assert_eq!(sealer.open(&key, &value), Some(sealed));
    assert_eq!(sealer.open(&Key::new(&environment, "other"), &value), None);
});

/// The seal of any bytes.
fn seal(key: &Key, body: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(&SECRET).expect("HMAC takes keys of any length");
    for part in [ENVIRONMENT.as_bytes(), key.as_str().as_bytes(), body] {
        mac.update(&(part.len() as u64).to_le_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}
