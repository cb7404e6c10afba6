//! What a cached grant says: JSON inside of a seal. docs/bus.md shows it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use trough_protocol::{DeviceId, Micros};
use trough_store::{DeviceGrant, Group, GroupAccess, ReaderGrant, ReaderName, TokenId};

/// A grant that can be kept. What cannot be read, such as a scope of a newer version, counts as nothing.
pub(super) trait Entry: Sized + Send {
    /// As it is kept.
    fn encode(&self) -> Bytes;
    /// From what was kept.
    fn decode(bytes: &[u8]) -> Option<Self>;
    /// By which token it was granted.
    fn token_id(&self) -> TokenId;
    /// When the token ends by itself.
    fn expires_at(&self) -> Option<Micros>;
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceJson {
    device: String,
    token_id: String,
    query_token: bool,
    expires_at: Option<Micros>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReaderJson {
    reader: String,
    token_id: String,
    scopes: Vec<String>,
    /// None for all devices.
    groups: Option<Vec<String>>,
}

fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("strings and numbers are always JSON").into()
}

impl Entry for DeviceGrant {
    fn encode(&self) -> Bytes {
        json(&DeviceJson {
            device: self.device.as_str().to_owned(),
            token_id: self.token_id.as_str().to_owned(),
            query_token: self.query_token,
            expires_at: self.expires_at,
        })
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let DeviceJson { device, token_id, query_token, expires_at } = serde_json::from_slice(bytes).ok()?;
        let (device, token_id) = (DeviceId::new(&device).ok()?, TokenId::parse(&token_id)?);
        Some(Self { device, token_id, query_token, expires_at })
    }

    fn token_id(&self) -> TokenId {
        self.token_id
    }

    fn expires_at(&self) -> Option<Micros> {
        self.expires_at
    }
}

impl Entry for ReaderGrant {
    fn encode(&self) -> Bytes {
        let names = |groups: &std::collections::BTreeSet<Group>| {
            groups.iter().map(|group| group.as_str().to_owned()).collect()
        };
        json(&ReaderJson {
            reader: self.name.as_str().to_owned(),
            token_id: self.token_id.as_str().to_owned(),
            scopes: self.scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
            groups: self.groups.as_filter().as_ref().map(names),
        })
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let ReaderJson { reader, token_id, scopes, groups } = serde_json::from_slice(bytes).ok()?;
        let groups = match groups {
            None => GroupAccess::All,
            Some(names) => {
                GroupAccess::Only(names.iter().map(|name| Group::new(name)).collect::<Result<_, _>>().ok()?)
            }
        };
        Some(Self {
            name: ReaderName::new(&reader).ok()?,
            token_id: TokenId::parse(&token_id)?,
            scopes: scopes.iter().map(|scope| scope.parse()).collect::<Result<_, _>>().ok()?,
            groups,
        })
    }

    fn token_id(&self) -> TokenId {
        self.token_id
    }

    fn expires_at(&self) -> Option<Micros> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trough_store::Scope;

    /// Fixed for ever: older and newer processes share a bus while a deployment is upgraded.
    #[test]
    fn the_bytes_of_version_1() {
        let device = DeviceGrant {
            device: DeviceId::new("bus-1").unwrap(),
            token_id: TokenId::parse("0123456789ab").unwrap(),
            query_token: true,
            expires_at: Some(7),
        };
        let bytes = r#"{"device":"bus-1","token_id":"0123456789ab","query_token":true,"expires_at":7}"#;
        assert_eq!(device.encode(), bytes);
        assert_eq!(DeviceGrant::decode(bytes.as_bytes()), Some(device));
        let reader = ReaderGrant {
            name: ReaderName::new("app").unwrap(),
            token_id: TokenId::parse("0123456789ab").unwrap(),
            scopes: Scope::READING.into(),
            groups: GroupAccess::Only([Group::new("north").unwrap()].into()),
        };
        let bytes = r#"{"reader":"app","token_id":"0123456789ab","scopes":["devices:read","frames:read"],"groups":["north"]}"#;
        assert_eq!(reader.encode(), bytes);
        assert_eq!(ReaderGrant::decode(bytes.as_bytes()), Some(reader.clone()));
        let all = ReaderGrant { groups: GroupAccess::All, ..reader };
        assert_eq!(ReaderGrant::decode(&all.encode()), Some(all));
    }

    #[test]
    fn what_is_not_understood_is_nothing() {
        for other in [
            "",
            "{}",
            r#"{"device":"bus-1","token_id":"0123456789ab","query_token":true,"expires_at":7,"only":"x"}"#,
            r#"{"device":"a b","token_id":"0123456789ab","query_token":true,"expires_at":7}"#,
        ] {
            assert_eq!(DeviceGrant::decode(other.as_bytes()), None, "{other}");
        }
        let scope = r#"{"reader":"app","token_id":"0123456789ab","scopes":["all:write"],"groups":null}"#;
        assert_eq!(ReaderGrant::decode(scope.as_bytes()), None);
    }
}
