//! What feeders write on the bus, as JSON: fields that a reader does not know are passed over.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use trough_protocol::{DeviceId, LinkId};

/// A message: sessions of these devices have begun.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Began {
    feeder: String,
    devices: Vec<String>,
}

/// A value: where a device's session is.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    feeder: String,
    order: u64,
}

/// One life of a feeder, as the bus has it: random, never used again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Feeder(String);

impl Feeder {
    pub fn new(id: LinkId) -> Self {
        Self(id.to_string())
    }

    /// The name of its lease: what it has written counts while that lives.
    pub fn lease(&self) -> String {
        format!("feeder:{}", self.0)
    }
}

/// The name of a device's value.
pub fn place_key(device: &DeviceId) -> String {
    format!("presence:{device}")
}

/// Tells that sessions of these devices have begun.
pub fn began(feeder: &Feeder, devices: &[DeviceId]) -> Bytes {
    let devices = devices.iter().map(ToString::to_string).collect();
    encode(&Began { feeder: feeder.0.clone(), devices })
}

/// Who told it, and of which devices; `None` if it makes no sense. Devices that cannot be are left out.
pub fn read_began(message: &[u8]) -> Option<(Feeder, Vec<DeviceId>)> {
    let Began { feeder, devices } = serde_json::from_slice(message).ok()?;
    Some((Feeder(feeder), devices.iter().filter_map(|device| DeviceId::new(device).ok()).collect()))
}

/// Says that a device's session is here, and its order among the device's sessions.
pub fn place(feeder: &Feeder, order: u64) -> Bytes {
    encode(&Place { feeder: feeder.0.clone(), order })
}

/// What a value says; `None` if it makes no sense.
pub fn read_place(value: &[u8]) -> Option<(Feeder, u64)> {
    let Place { feeder, order } = serde_json::from_slice(value).ok()?;
    Some((Feeder(feeder), order))
}

fn encode(record: &impl Serialize) -> Bytes {
    serde_json::to_vec(record).expect("strings and numbers always serialise").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feeder() -> Feeder {
        Feeder::new(LinkId([0xab; 16]))
    }

    #[test]
    fn as_the_document_shows_them() {
        let devices = ["bus-1", "bus-2"].map(|name| DeviceId::new(name).unwrap());
        let id = "abababababababababababababababab";
        let message = began(&feeder(), &devices);
        assert_eq!(message, format!(r#"{{"feeder":"{id}","devices":["bus-1","bus-2"]}}"#));
        assert_eq!(read_began(&message), Some((feeder(), devices.to_vec())));
        let value = place(&feeder(), 1_700_000_000_000_007);
        assert_eq!(value, format!(r#"{{"feeder":"{id}","order":1700000000000007}}"#));
        assert_eq!(read_place(&value), Some((feeder(), 1_700_000_000_000_007)));
    }

    #[test]
    fn what_a_later_release_adds_is_passed_over_and_nonsense_is_nothing() {
        let known = read_began(br#"{"feeder":"f","why":1,"devices":["a"," "]}"#).unwrap();
        assert_eq!(known, (Feeder("f".into()), vec![DeviceId::new("a").unwrap()]));
        for nonsense in [&b""[..], b"{}", b"[]", br#"{"feeder":1,"devices":[]}"#, &[0xff; 9]] {
            assert!(read_began(nonsense).is_none() && read_place(nonsense).is_none());
        }
    }
}
