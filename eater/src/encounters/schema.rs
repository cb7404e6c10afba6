//! Where frames say that their device is.

use trough_protocol::Channel;
use trough_store::PositionSchema;

use crate::json::{Pointer, check_json, number_or_text_at};

/// What the registry says of channels that carry positions, ready to be used.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Positions(Vec<(Channel, Pointer, Pointer)>);

impl Positions {
    /// Of these channels.
    pub fn new(schemas: &[PositionSchema]) -> Self {
        // What is in a registry was checked when it was entered.
        let ready = |schema: &PositionSchema| {
            let (lat, lon) = (Pointer::parse(schema.lat())?, Pointer::parse(schema.lon())?);
            Some((schema.channel().clone(), lat, lon))
        };
        Self(schemas.iter().filter_map(ready).collect())
    }

    /// Whether frames of a channel may have positions.
    pub fn has(&self, channel: &str) -> bool {
        self.0.iter().any(|(known, ..)| known.as_str() == channel)
    }

    /// Latitude and longitude in degrees, of a JSON payload; `None` if it has none that are numbers. Numbers in strings, as
    /// some devices send them, count.
    pub fn of(&self, channel: &str, payload: &[u8]) -> Option<(f64, f64)> {
        let (_, lat, lon) = self.0.iter().find(|(known, ..)| known.as_str() == channel)?;
        let json = payload.trim_ascii();
        check_json(json)?;
        Some((number_or_text_at(json, lat)?, number_or_text_at(json, lon)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_where_the_schema_says() {
        let schema = PositionSchema::new(Channel::new("gps").unwrap(), "/pos/0", "/pos/1").unwrap();
        let positions = Positions::new(&[schema]);
        for (payload, expected) in [
            (r#"{"pos":[30.5,-97.25]}"#, Some((30.5, -97.25))),
            (r#"{"pos":["30.5"," -97.25 "]}"#, Some((30.5, -97.25))),
            (" {\"pos\":[1,2]}\n", Some((1.0, 2.0))),
            (r#"{"pos":[30]}"#, None),
            (r#"{"pos":[null,1]}"#, None),
            (r#"{"lat":30.5,"lon":-97.25}"#, None),
            (r#"{"pos":[30.5,-97.25]"#, None),
            ("$GPGGA", None),
        ] {
            assert_eq!(positions.of("gps", payload.as_bytes()), expected, "{payload}");
        }
        assert_eq!(positions.of("can", br#"{"pos":[30.5,-97.25]}"#), None);
    }
}
