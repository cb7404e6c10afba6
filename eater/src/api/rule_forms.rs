//! The conditions of rules, as they are described. What reads them is in the store.

use trough_store::rule::AFTER_MAX;
use utoipa::openapi::schema::{AdditionalProperties, ArrayBuilder, ObjectBuilder, OneOfBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// What a rule waits for.
pub(super) struct ConditionForm;

fn of(kind: Type) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(kind)
}

fn word(word: &str) -> ObjectBuilder {
    of(Type::String).enum_values(Some([word]))
}

fn number(min: f64, max: f64) -> ObjectBuilder {
    of(Type::Number).minimum(Some(min)).maximum(Some(max))
}

/// A condition of this kind, with what it needs, and what it may have.
fn kind(name: &str, needs: Vec<(&str, Schema)>, may: Vec<(&str, Schema)>) -> ObjectBuilder {
    let mut condition = ObjectBuilder::new()
        .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false)))
        .property("kind", word(name))
        .required("kind");
    for (name, schema) in needs {
        condition = condition.property(name, schema).required(name);
    }
    for (name, schema) in may {
        condition = condition.property(name, schema);
    }
    condition
}

/// A condition that needs nothing else.
fn bare(name: &str) -> ObjectBuilder {
    ObjectBuilder::new().property("kind", word(name)).required("kind")
}

fn when() -> Schema {
    of(Type::String)
        .description(Some(
            "Such as `/speed > 30 clear 28 for 60s`: a JSON pointer, a comparison, and a number",
        ))
        .into()
}

fn channel() -> ObjectBuilder {
    of(Type::String).pattern(Some("^[A-Za-z0-9._:~+@=/-]{1,64}$"))
}

fn after(least: u64) -> Schema {
    of(Type::Integer).minimum(Some(least)).maximum(Some(AFTER_MAX.as_secs())).into()
}

fn area() -> Schema {
    let place = || ArrayBuilder::new().items(of(Type::Number)).min_items(Some(2));
    // One that is not closed is closed.
    let ring = || ArrayBuilder::new().items(place()).min_items(Some(3));
    let polygon = || ArrayBuilder::new().items(ring()).min_items(Some(1));
    let center = ArrayBuilder::new().items(number(-180.0, 180.0)).min_items(Some(2)).max_items(Some(2));
    let circle = ObjectBuilder::new()
        .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false)))
        .property("type", word("Circle"))
        .property("center", center.description(Some("Degrees of longitude and latitude")))
        .property("radius_m", number(0.0, 1_000_000.0))
        .required("type")
        .required("center")
        .required("radius_m");
    let geometry = |name: &str, coordinates: ArrayBuilder| {
        ObjectBuilder::new()
            .property("type", word(name))
            .property("coordinates", coordinates)
            .required("type")
            .required("coordinates")
    };
    OneOfBuilder::new()
        .description(Some("A circle, or a GeoJSON geometry (RFC 7946) of up to 10,000 corners"))
        .item(circle)
        .item(geometry("Polygon", polygon()))
        .item(geometry("MultiPolygon", ArrayBuilder::new().items(polygon()).min_items(Some(1))))
        .into()
}

impl PartialSchema for ConditionForm {
    fn schema() -> RefOr<Schema> {
        let on = || {
            // It may also be null.
            let nullable = OneOfBuilder::new().item(channel()).item(of(Type::Null));
            vec![("channel", nullable.into())]
        };
        OneOfBuilder::new()
            .description(Some("What a rule waits for: docs/rules.md says what each kind means"))
            .item(kind("compare", vec![("when", when())], on()))
            .item(kind("rate", vec![("when", when())], on()))
            .item(kind("geofence", vec![("area", area())], vec![]))
            .item(kind("silence", vec![("channel", channel().into()), ("after_s", after(1))], vec![]))
            .item(kind("presence", vec![("after_s", after(30))], vec![]))
            .item(bare("first_frame"))
            .item(bare("gaps"))
            .into()
    }
}

impl ToSchema for ConditionForm {
    fn name() -> std::borrow::Cow<'static, str> {
        "Condition".into()
    }
}
