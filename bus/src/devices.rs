//! Doorbells that name devices, as JSON: members that a reader does not know are passed over.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use trough_protocol::DeviceId;

use crate::deployment::Deployment;
use crate::error::BusError;

/// The topic of devices that somebody has made a command for.
pub const TOPIC_COMMANDS: &str = "commands";

#[derive(Serialize, Deserialize)]
struct Named {
    devices: Vec<String>,
}

/// Tells all who listen to a topic that something of these devices has changed.
///
/// # Errors
/// Those of [`crate::Bus::publish`]; whoever listens looks by himself, a little later.
pub async fn ring(deployment: &Deployment, topic: &str, devices: &[DeviceId]) -> Result<(), BusError> {
    let topic = deployment.topic(topic);
    deployment.bus().publish(&topic, write(devices)).await.map(|_| ())
}

fn write(devices: &[DeviceId]) -> Bytes {
    let named = Named { devices: devices.iter().map(ToString::to_string).collect() };
    serde_json::to_vec(&named).expect("strings always serialise").into()
}

/// The devices of a message. What makes no sense names none: a message is a hint, never a proof.
pub fn read(message: &[u8]) -> Vec<DeviceId> {
    let named: Option<Named> = serde_json::from_slice(message).ok();
    named.iter().flat_map(|named| &named.devices).filter_map(|name| DeviceId::new(name).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_document_shows_them() {
        let devices = ["bus-1", "bus-2"].map(|name| DeviceId::new(name).unwrap());
        assert_eq!(write(&devices), r#"{"devices":["bus-1","bus-2"]}"#);
        assert_eq!(read(&write(&devices)), devices);
        assert_eq!(read(br#"{"why":1,"devices":["bus-1"," "]}"#), devices[..1]);
        for nonsense in [&b""[..], b"{}", b"[]", br#"{"devices":1}"#, &[0xff; 9]] {
            assert_eq!(read(nonsense), []);
        }
    }
}
