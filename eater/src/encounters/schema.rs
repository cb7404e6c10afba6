//! Where a frame says that its device is.

use serde_json::Value;
use trough_store::PositionSchema;

/// Latitude and longitude in degrees, of a JSON payload; `None` if it has none that are numbers. Numbers in strings, as
/// some devices send them, count.
pub fn position_of(schema: &PositionSchema, payload: &[u8]) -> Option<(f64, f64)> {
    let value: Value = serde_json::from_slice(payload).ok()?;
    let number = |pointer: &str| match value.pointer(pointer)? {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    Some((number(schema.lat())?, number(schema.lon())?))
}

#[cfg(test)]
mod tests {
    use trough_protocol::Channel;

    use super::*;

    #[test]
    fn positions_are_where_the_schema_says() {
        let schema = PositionSchema::new(Channel::new("gps").unwrap(), "/pos/0", "/pos/1").unwrap();
        for (payload, expected) in [
            (r#"{"pos":[30.5,-97.25]}"#, Some((30.5, -97.25))),
            (r#"{"pos":["30.5"," -97.25 "]}"#, Some((30.5, -97.25))),
            (r#"{"pos":[30]}"#, None),
            (r#"{"pos":[null,1]}"#, None),
            (r#"{"lat":30.5,"lon":-97.25}"#, None),
            ("$GPGGA", None),
        ] {
            assert_eq!(position_of(&schema, payload.as_bytes()), expected, "{payload}");
        }
    }
}
