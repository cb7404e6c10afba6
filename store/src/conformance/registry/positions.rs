//! Which channels carry positions.

use trough_protocol::Channel;

use super::*;
use crate::position_schema::{POSITION_SCHEMAS_MAX, PositionSchema};

fn channel(name: &str) -> Channel {
    Channel::new(name).unwrap()
}

fn schema(name: &str, lat: &str) -> PositionSchema {
    PositionSchema::new(channel(name), lat, "/lon").unwrap()
}

pub async fn channels_carry_positions_as_they_were_told(on: &On) {
    let (registry, other) = ((on.open)(), (on.open)());
    assert_eq!(registry.list_position_schemas().await, Ok(vec![]));
    registry.set_position_schema(schema("gps", "/lat")).await.unwrap();
    registry.set_position_schema(schema("fix", "/fix/0")).await.unwrap();
    registry.set_position_schema(schema("gps", "/y")).await.unwrap();
    let all = vec![schema("fix", "/fix/0"), schema("gps", "/y")];
    assert_eq!(other.list_position_schemas().await, Ok(all.clone()));
    assert_eq!((on.open)().list_position_schemas().await, Ok(all));
    other.remove_position_schema(&channel("fix")).await.unwrap();
    let refused = registry.remove_position_schema(&channel("fix")).await;
    assert!(matches!(refused, Err(RegistryError::NotFound { .. })), "{refused:?}");
    assert_eq!(registry.list_position_schemas().await, Ok(vec![schema("gps", "/y")]));
    for number in 1..POSITION_SCHEMAS_MAX {
        registry.set_position_schema(schema(&format!("c{number}"), "/lat")).await.unwrap();
    }
    let refused = registry.set_position_schema(schema("more", "/lat")).await;
    assert!(matches!(refused, Err(RegistryError::Invalid(_))), "{refused:?}");
    registry.set_position_schema(schema("c1", "/other")).await.unwrap();
}
