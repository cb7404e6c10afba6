//! Areas on the earth, WGS 84.

use geo::algorithm::{Distance, Haversine};
use geo::{BoundingRect, Intersects, MultiPolygon, Point, Rect};
use geojson::GeometryValue;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::RegistryError;

/// Most corners of a polygon, holes and all parts together.
pub const CORNERS_MAX: usize = 10_000;
/// Largest radius of a circle, in metres.
pub const RADIUS_MAX: f64 = 1_000_000.0;

/// A circle, or a polygon as GeoJSON has it (RFC 7946): `Polygon` or `MultiPolygon`, with holes, degrees of longitude
/// before latitude. Edges are straight in degrees; an area across the antimeridian is cut there in two (RFC 7946,
/// section 3.1.9). What is on the edge is inside.
#[derive(Debug, Clone, PartialEq)]
pub struct Area(Shape);

#[derive(Debug, Clone, PartialEq)]
enum Shape {
    Circle { center: Point, radius_m: f64 },
    Polygons { polygons: MultiPolygon, around: Rect, single: bool },
}

impl Area {
    /// A circle: degrees of longitude and latitude, metres.
    pub fn circle(lon: f64, lat: f64, radius_m: f64) -> Self {
        Self(Shape::Circle { center: Point::new(lon, lat), radius_m })
    }

    /// Whether a position is in it.
    pub fn contains(&self, lon: f64, lat: f64) -> bool {
        let point = Point::new(lon, lat);
        match &self.0 {
            Shape::Circle { center, radius_m } => Haversine.distance(*center, point) <= *radius_m,
            Shape::Polygons { polygons, around, .. } => {
                around.intersects(&point) && polygons.intersects(&point)
            }
        }
    }

    /// Checks that it is on the earth, and not too large to be looked at with each frame.
    ///
    /// # Errors
    /// [`RegistryError::Invalid`].
    pub fn check(&self) -> Result<(), RegistryError> {
        let refuse = |why: String| Err(RegistryError::Invalid(format!("the area {why}")));
        match &self.0 {
            Shape::Circle { center, radius_m } => {
                if !on_earth(center.x(), center.y()) {
                    return refuse(format!(
                        "has its center at [{}, {}]: give degrees, [longitude, latitude]",
                        center.x(),
                        center.y()
                    ));
                }
                if !(*radius_m > 0.0 && *radius_m <= RADIUS_MAX) {
                    return refuse(format!("has radius_m {radius_m}: use above 0 and at most {RADIUS_MAX}"));
                }
            }
            Shape::Polygons { polygons, .. } => {
                let rings = polygons.iter().flat_map(|p| std::iter::once(p.exterior()).chain(p.interiors()));
                let mut corners = 0;
                for ring in rings {
                    // Rings are closed: the last corner is the first.
                    if ring.0.len() < 4 {
                        return refuse(format!(
                            "has a ring of {} corners: three at least, and the first again",
                            ring.0.len()
                        ));
                    }
                    corners += ring.0.len();
                    if let Some(corner) = ring.0.iter().find(|corner| !on_earth(corner.x, corner.y)) {
                        return refuse(format!(
                            "has a corner at [{}, {}]: give degrees, [longitude, latitude]",
                            corner.x, corner.y
                        ));
                    }
                }
                if corners > CORNERS_MAX {
                    return refuse(format!("has {corners} corners: use {CORNERS_MAX} at most"));
                }
            }
        }
        Ok(())
    }
}

fn on_earth(lon: f64, lat: f64) -> bool {
    (-180.0..=180.0).contains(&lon) && (-90.0..=90.0).contains(&lat)
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CircleDocument {
    r#type: CircleType,
    center: [f64; 2],
    radius_m: f64,
}

#[derive(Serialize, Deserialize)]
enum CircleType {
    Circle,
}

impl Serialize for Area {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Shape::Circle { center, radius_m } => {
                let center = [center.x(), center.y()];
                CircleDocument { r#type: CircleType::Circle, center, radius_m: *radius_m }
                    .serialize(serializer)
            }
            Shape::Polygons { polygons, single, .. } => match (polygons.0.first(), single) {
                (Some(polygon), true) => {
                    geojson::Geometry::new(GeometryValue::from(polygon)).serialize(serializer)
                }
                _ => geojson::Geometry::new(GeometryValue::from(polygons)).serialize(serializer),
            },
        }
    }
}

impl<'de> Deserialize<'de> for Area {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let document = serde_json::Value::deserialize(deserializer)?;
        if document.get("type").is_some_and(|kind| kind == "Circle") {
            let circle: CircleDocument = serde_json::from_value(document).map_err(Error::custom)?;
            return Ok(Self::circle(circle.center[0], circle.center[1], circle.radius_m));
        }
        // The library takes a position of one number and panics later.
        if document.get("coordinates").is_some_and(has_short_position) {
            return Err(Error::custom("the area has a position of one number: give [longitude, latitude]"));
        }
        let geometry: geojson::Geometry = serde_json::from_value(document).map_err(Error::custom)?;
        let (polygons, single): (Result<MultiPolygon, _>, _) = match &geometry.value {
            GeometryValue::Polygon { .. } => {
                (geo::Polygon::try_from(&geometry.value).map(MultiPolygon::from), true)
            }
            value => (MultiPolygon::try_from(value), false),
        };
        let polygons = polygons.map_err(|_| {
            Error::custom(
                "the area is neither a Circle (center, radius_m) nor a GeoJSON Polygon or MultiPolygon",
            )
        })?;
        let around = polygons.bounding_rect().ok_or_else(|| Error::custom("the area has no corners"))?;
        Ok(Self(Shape::Polygons { polygons, around, single }))
    }
}

/// Whether a position in coordinates, however deep, has one number alone.
fn has_short_position(coordinates: &serde_json::Value) -> bool {
    let Some(list) = coordinates.as_array() else { return false };
    match list.first() {
        Some(first) if first.is_number() => list.len() < 2,
        _ => list.iter().any(has_short_position),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_of_one_number_is_refused() {
        for text in [
            r#"{"type":"MultiPolygon","coordinates":[[[[0.0],[0.0,0.0],[0.0,0.0]]]]}"#,
            r#"{"type":"Polygon","coordinates":[[[0,0],[4,0],[4],[0,0]]]}"#,
            r#"{"type":"Point","coordinates":[1]}"#,
        ] {
            let refused = serde_json::from_str::<Area>(text).unwrap_err().to_string();
            assert!(refused.contains("a position of one number"), "{refused}");
        }
    }

    fn area(text: &str) -> Area {
        let area: Area = serde_json::from_str(text).unwrap();
        area.check().unwrap();
        area
    }

    #[test]
    fn circles_are_measured_on_the_sphere() {
        let circle = area(r#"{"type":"Circle","center":[10.0,60.0],"radius_m":1000}"#);
        // A degree of longitude at 60° is half as long as at the equator: 55.6 km.
        assert!(circle.contains(10.0 + 0.0179, 60.0) && !circle.contains(10.0 + 0.0181, 60.0));
        assert!(circle.contains(10.0, 60.0 + 0.00899) && !circle.contains(10.0, 60.0 + 0.009));
    }

    #[test]
    fn polygons_have_holes_and_edges() {
        let square = area(
            r#"{"type":"Polygon","coordinates":[[[0,0],[4,0],[4,4],[0,4],[0,0]],[[1,1],[2,1],[2,2],[1,2],[1,1]]]}"#,
        );
        assert!(square.contains(3.0, 3.0) && square.contains(0.0, 2.0));
        assert!(!square.contains(1.5, 1.5) && !square.contains(5.0, 1.0));
        let text = serde_json::to_string(&square).unwrap();
        assert_eq!(area(&text), square);
    }

    #[test]
    fn what_is_not_an_area_is_refused() {
        for (text, needle) in [
            (r#"{"type":"Point","coordinates":[0,0]}"#, "Polygon"),
            (r#"{"type":"Circle","center":[0,0]}"#, "radius_m"),
            (r#"{"type":"Polygon","coordinates":[]}"#, "corners"),
        ] {
            let refused = serde_json::from_str::<Area>(text).unwrap_err().to_string();
            assert!(refused.contains(needle), "{refused}");
        }
        let swapped: Area =
            serde_json::from_str(r#"{"type":"Circle","center":[30,-97],"radius_m":5}"#).unwrap();
        assert!(swapped.check().unwrap_err().to_string().contains("longitude"));
        let flat: Area = serde_json::from_str(r#"{"type":"Circle","center":[0,0],"radius_m":0}"#).unwrap();
        assert!(flat.check().unwrap_err().to_string().contains("radius_m"));
    }
}
