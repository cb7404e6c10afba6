//! The forms of parameters and answers that several paths share.
//!
//! A described parameter has one of the types here, and `#[param(inline)]`; the limits in them are those that
//! [`crate::api::query`] checks.

use trough_protocol::limits::INT_MAX;
use utoipa::openapi::schema::{AnyOfBuilder, ArrayBuilder, ObjectBuilder, Type};
use utoipa::openapi::{KnownFormat, RefOr, Schema, SchemaFormat};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use crate::api::commands_query::{COMMANDS_DEFAULT, COMMANDS_MAX};
use crate::api::encode::POINTER_BYTES_MAX;
use crate::api::frames_query::{CHANNELS_MAX, FIELDS_MAX, NAMED_MAX};
use crate::api::query::{DEVICES_DEFAULT, DEVICES_MAX, PAGE_DEFAULT, PAGE_MAX};
use crate::api::subscription_acts::{KEEP_OLD_DEFAULT, KEEP_OLD_MAX};

/// Most items of a page of subscriptions, phones, deliveries, events or rules.
pub const ITEMS_MAX: usize = 100;
/// Items of a page that names no limit.
pub const ITEMS_DEFAULT: usize = 20;

/// Forms of parameters: types that are only described.
macro_rules! forms {
    ($($(#[$doc:meta])+ $name:ident = $form:expr;)+) => {
        $(
            $(#[$doc])+
            pub struct $name;

            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    $form.into()
                }
            }

            impl ToSchema for $name {}
        )+
    };
}

forms! {
    /// RFC 3339, or microseconds.
    Instant = AnyOfBuilder::new().item(of(Type::String).format(Some(DATE_TIME))).item(whole(0, INT_MAX));
    /// Epoch and seq of a frame.
    Place = text("^[0-9]{1,16}:[0-9]{1,16}$");
    /// What an earlier page gave.
    Cursor = text("^[A-Za-z0-9_-]+$");
    /// A device's id.
    Device = text("^[A-Za-z0-9._:~+@=-]{1,64}$");
    /// A group's name.
    GroupName = text("^[A-Za-z0-9._:@-]{1,64}$");
    /// Channels, by repeating the parameter or with commas.
    Channels = ArrayBuilder::new()
        .items(text("^[A-Za-z0-9._:~+@=/-]{1,64}(,[A-Za-z0-9._:~+@=/-]{1,64})*$"))
        .min_items(Some(1))
        .max_items(Some(CHANNELS_MAX));
    /// Devices, by repeating the parameter or with commas.
    Devices = ArrayBuilder::new()
        .items(text("^[A-Za-z0-9._:~+@=-]{1,64}(,[A-Za-z0-9._:~+@=-]{1,64})*$"))
        .min_items(Some(1))
        .max_items(Some(NAMED_MAX));
    /// Device, epoch and seq of a frame.
    PlaceOfMany = text("^[A-Za-z0-9._:~+@=-]{1,64}:[0-9]{1,16}:[0-9]{1,16}$");
    /// A JSON pointer.
    Pointer = pointer();
    /// JSON pointers, by repeating the parameter or with commas.
    Fields = ArrayBuilder::new().items(pointer()).min_items(Some(1)).max_items(Some(FIELDS_MAX));
    /// A length of time.
    Every = text("^[0-9]+(ms|s|m|h|d)$");
    /// What an event of a live stream has.
    EventId = text("^[A-Za-z0-9_-]+$");
    /// How far.
    Distance = text("^[0-9]+k?m$").default(Some("50m".into()));
    /// How long apart.
    During = text("^[0-9]+(ms|s|m|h)$").default(Some("60s".into()));
    /// What is made of values.
    Aggregate = of(Type::String).enum_values(Some(["last", "min", "max", "mean", "count"]));
    /// `asc` or `desc`.
    Order = of(Type::String).enum_values(Some(["asc", "desc"])).default(Some("asc".into()));
    /// How many frames; the default depends on the format.
    FramesLimit = whole(1, PAGE_MAX as u64);
    /// How many gaps, or whatever else comes in pages of that size.
    PageLimit = whole(1, PAGE_MAX as u64).default(Some(PAGE_DEFAULT.into()));
    /// A command's id.
    Command = text(COMMAND);
    /// Where a command stands.
    CommandState = of(Type::String).enum_values(Some(trough_store::CommandState::ALL.map(|state| state.as_str())));
    /// How many commands.
    CommandsLimit = whole(1, COMMANDS_MAX as u64).default(Some(COMMANDS_DEFAULT.into()));
    /// How many of whatever else is listed.
    ItemsLimit = whole(1, ITEMS_MAX as u64).default(Some(ITEMS_DEFAULT.into()));
    /// A subscription's id.
    SubscriptionName = text("^sub_[0-9a-f]{32}$");
    /// A phone's id.
    PushTokenName = text("^psh_[0-9a-f]{32}$");
    /// A delivery's id.
    DeliveryName = text("^dlv_[0-9a-f]{32}$");
    /// A rule's name.
    RuleName = text("^[A-Za-z0-9._:@-]{1,64}$");
    /// What may happen.
    EventKind = of(Type::String).enum_values(Some(trough_store::EventKind::ALL.iter().map(|kind| kind.as_str())));
    /// What becomes of events of quiet hours.
    Quiet = of(Type::String).enum_values(Some(["hold", "drop"]));
    /// Which of Apple's servers.
    PushServer = of(Type::String).enum_values(Some(["production", "sandbox"]));
    /// What became of a delivery.
    DeliveryState = of(Type::String)
        .enum_values(Some(trough_store::outbox::DeliveryState::ALL.map(|state| state.as_str())));
    /// How long an old secret is used too.
    KeepOld = whole(0, KEEP_OLD_MAX).default(Some(KEEP_OLD_DEFAULT.into()));
    /// How many devices.
    DevicesLimit = whole(1, DEVICES_MAX as u64).default(Some(DEVICES_DEFAULT.into()));
}

const COMMAND: &str = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";
const DATE_TIME: SchemaFormat = SchemaFormat::KnownFormat(KnownFormat::DateTime);

fn of(kind: Type) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(kind)
}

fn text(pattern: &str) -> ObjectBuilder {
    of(Type::String).pattern(Some(pattern))
}

fn pointer() -> ObjectBuilder {
    text("^(/([^/~]|~[01])*)+$").max_length(Some(POINTER_BYTES_MAX))
}

fn whole(min: u64, max: u64) -> ObjectBuilder {
    of(Type::Integer).minimum(Some(min)).maximum(Some(max))
}

/// The device in a path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it is only described")]
pub struct DevicePath {
    /// The device's id: 1 to 64 of `A–Z a–z 0–9 . _ - : ~ + @ =`.
    #[param(inline, example = "bus-2301")]
    id: Device,
}

/// Why a request is refused (RFC 9457). Programs go by `status` and `code`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is only described")]
pub struct Problem {
    /// Always `about:blank`.
    r#type: String,
    /// The status's own phrase.
    title: String,
    /// The HTTP status.
    status: u16,
    /// Stable: what a program switches on.
    code: String,
    /// For people: what was refused, its value, and what to do.
    detail: String,
    /// Seconds, as in `Retry-After`.
    #[schema(nullable = false)]
    retry_after: Option<u64>,
}

/// A frame. `epoch` and `seq` together name it among those of its device, for ever. The payload is in exactly one of
/// `json`, `text`, or `b64` with `content_type`.
#[derive(ToSchema)]
#[schema(example = json!({
    "epoch": 1, "seq": 141, "ts": 1_490_072_402_000_000_u64, "time": "2017-03-21T05:00:02.000000Z",
    "received_at": "2026-01-14T09:30:05.120733Z", "channel": "position", "json": {"lat": 30.41, "lon": -97.71},
}))]
#[expect(dead_code, reason = "it is only described: frames are written by hand")]
pub struct Frame {
    /// Whose it is; only where frames are those of many devices.
    #[schema(nullable = false)]
    device: Option<String>,
    /// The numbering.
    epoch: u64,
    /// The number in it, from 1.
    seq: u64,
    /// When the device says it made the frame, in microseconds since 1970.
    ts: u64,
    /// The same as text.
    #[schema(format = DateTime)]
    time: String,
    /// When the server received it.
    #[schema(format = DateTime)]
    received_at: String,
    /// The device's stream.
    channel: String,
    /// The payload, byte for byte as sent, if it is `application/json`.
    json: Option<serde_json::Value>,
    /// The payload, if it is `text/plain; charset=utf-8`.
    #[schema(nullable = false)]
    text: Option<String>,
    /// What the payload in `b64` is.
    #[schema(nullable = false)]
    content_type: Option<String>,
    /// Any other payload, in base64 (RFC 4648, with padding).
    #[schema(nullable = false)]
    b64: Option<String>,
}

/// What was made of the frames of a stretch of time.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is only described: buckets are written by hand")]
pub struct Bucket {
    /// Whose they are; only where buckets are those of many devices.
    #[schema(nullable = false)]
    device: Option<String>,
    /// When it begins.
    #[schema(format = DateTime)]
    time: String,
    /// The same in microseconds since 1970.
    ts: u64,
    /// Frames with a value that counts.
    count: u64,
    /// Frames without one.
    skipped: u64,
    /// What was made of the values; `null` if there were none.
    value: serde_json::Value,
}

/// What is in a line.
#[derive(ToSchema)]
#[schema(as = FrameOrBucket)]
#[serde(untagged)]
#[expect(dead_code, reason = "it is only described")]
pub enum Line {
    Frame(Frame),
    Bucket(Bucket),
}

/// What a probe is told.
#[derive(ToSchema)]
#[schema(as = Health)]
#[expect(dead_code, reason = "it is only described")]
pub struct HealthJson {
    /// Where the process stands in its life.
    #[schema(inline)]
    status: LifeJson,
    /// What does not work as it should. The process serves all the same.
    degraded: Vec<DegradedJson>,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "it is only described")]
enum LifeJson {
    Starting,
    Ready,
    Draining,
}

/// A part of the process, and why it is degraded.
#[derive(ToSchema)]
#[schema(as = DegradedPart)]
#[expect(dead_code, reason = "it is only described")]
struct DegradedJson {
    part: String,
    reason: String,
}
