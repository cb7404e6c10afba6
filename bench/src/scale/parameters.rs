//! What the model stands on: each figure with its source. *Measured* is in docs/performance.md, *set* in the code that is
//! named, *computed* from a byte format; what is *assumed* was not measured here, and is to be measured where it matters.

/// Bytes of a device's id. Assumed.
pub const DEVICE_BYTES: f64 = 8.0;
/// Bytes of a frame besides its payload: lengths, seq, ts, channel, content type. Computed (docs/protocol.md).
pub const FRAME_BYTES: f64 = 24.0;
/// Bytes of a run in a batch's directory, without the device's id. Set (`protocol::batch::RUN_BYTES`).
pub const RUN_BYTES: f64 = 50.0;
/// Bytes of a run in an object's index, and of the device around it. Set (`eater/src/objects/format/index.rs`).
pub const INDEX_BYTES: f64 = 54.0 + 5.0 + DEVICE_BYTES;
/// Bytes of an object besides its batches and index. Set (`eater/src/objects/format`).
pub const OBJECT_BYTES: f64 = 128.0;

/// How long an object gathers, in seconds. Set (`--flush-after`).
pub const FLUSH_S: f64 = 0.1;
/// An object takes no more, in bytes. Set (`ObjectsConfig::object_bytes`).
pub const OBJECT_BYTES_MAX: f64 = 4.0 * 1024.0 * 1024.0;
/// Nor more devices. Set (`ROW_SPANS_MAX` / 2, `eater/src/objects/builder.rs`).
pub const OBJECT_SPANS_MAX: f64 = 2048.0;
/// How long rows stay: until objects are compacted, and half of what lies between two looks. Set (`CompactionConfig`: gather
/// 30 s, settle 5 s, every 10 s).
pub const ROW_LIFE_S: f64 = 40.0;
/// How long objects stay after that. Set (`--compact-grace`).
pub const GRACE_S: f64 = 600.0;

/// Bytes of a row without its spans. Computed (BSON of docs/storage.md).
pub const ROW_BYTES: f64 = 110.0;
/// Bytes of a span in a row. Computed: 95 with a device of 8 bytes, and its place in the list.
pub const SPAN_BYTES: f64 = 100.0;
/// Bytes of a span in the index `{ s.d, s.e, s.l }`. Computed: the key's strings and numbers, and the record's id.
pub const SPAN_INDEX_BYTES: f64 = 40.0;
/// Bytes of a device in `heads` and in `newest_heads` together, with the indexes of their ids. Computed.
pub const HEADS_BYTES: f64 = 2.0 * 140.0 + 2.0 * 30.0;
/// How often heads are written, a second: each in two collections. Set (`heads_every`).
pub const HEADS_PER_S: f64 = 1.0;
/// Heads that an eater notes at the most until they are written. Set (`eater/src/objects/heads.rs`).
pub const HEADS_MAX: f64 = 100_000.0;

/// Sessions that a feeder takes. Set (`--sessions-max`).
pub const SESSIONS_MAX: f64 = 16_384.0;
/// How much of a limit is planned for: the rest is for those that come back at once when a process goes. Assumed.
pub const FILL: f64 = 0.7;
/// CPU of a frame that comes alone, in seconds: feeder. Measured: 188 µs of both services in the object shape at 2,000
/// frames a second; how much of it is whose is assumed.
pub const FEEDER_LONE_S: f64 = 94e-6;
/// The same of an eater.
pub const EATER_LONE_S: f64 = 94e-6;
/// CPU of a frame among many, in seconds: feeder. Measured: 0.69 µs at saturation.
pub const FEEDER_BUSY_S: f64 = 0.69e-6;
/// The same of an eater. Measured: 0.63 µs.
pub const EATER_BUSY_S: f64 = 0.63e-6;
/// Wake-ups that a shard, or a link's task, has in a second at the most: whatever comes meanwhile is worked on together.
/// Assumed.
pub const WAKES_PER_S: f64 = 4000.0;
/// Cores of a pod. Set (deploy/base: a limit of 2).
pub const CORES: f64 = 2.0;
/// Shards of a feeder. Set: as many as cores.
pub const SHARDS: f64 = 2.0;
/// Credit of a link that a further one needs, in bytes. Set (`eater/src/ingest/budget.rs`).
pub const LINK_CREDIT_BYTES: f64 = 16.0 * 1024.0 * 1024.0;
/// The credit in deploy/base, in bytes, and how many links it is good for (docs/operations.md, "Credit and memory").
pub const BASE_CREDIT_BYTES: f64 = 256.0 * 1024.0 * 1024.0;
/// See [`BASE_CREDIT_BYTES`].
pub const BASE_LINKS: f64 = 26.0;
/// The most that an eater may need with its credit in use, in bytes. Assumed.
pub const EATER_MEMORY_MAX: f64 = 16.0 * 1024.0 * 1024.0 * 1024.0;
/// Memory of an eater for each byte of credit. Measured: 1.5.
pub const CREDIT_MEMORY: f64 = 1.5;
/// Memory of an eater besides, in bytes. Set (docs/operations.md: 512 MiB).
pub const EATER_BYTES: f64 = 512.0 * 1024.0 * 1024.0;

/// How long an object takes to be stored, in seconds. Assumed: a store in the same region.
pub const PUT_S: f64 = 0.05;
/// How long a row takes to be entered, in seconds: one after another. Assumed: a replica set in the same region.
pub const ENTER_S: f64 = 0.01;
/// Objects of an eater on their way at once. Set (`in_flight_max`).
pub const IN_FLIGHT_MAX: f64 = 8.0;

/// Documents and index entries that a replica set writes in a second. Assumed, and the least sure of all.
pub const DATABASE_WRITES_PER_S: f64 = 50_000.0;
/// Frames that the one compactor of a deployment takes in a second, with one core. Measured: 613,000 of 174 bytes.
pub const COMPACTED_PER_S: f64 = 613_000.0;
/// Bytes of a frame in segments. Measured: 770,086 bytes for 45,377 positions of buses.
pub const SEGMENT_FRAME_BYTES: f64 = 17.0;
/// About how large a segment becomes, in bytes. Set (`segment_bytes`).
pub const SEGMENT_BYTES: f64 = 32.0 * 1024.0 * 1024.0;
/// PUTs of a segment: itself and its index. Set.
pub const SEGMENT_PUTS: f64 = 2.0;
/// How often journals are compacted, in seconds: each time there is a segment and a manifest at the least. Set (`gather`).
pub const COMPACT_EVERY_S: f64 = 30.0;

/// Price of a thousand PUTs, in US dollars. Amazon S3 Standard, us-east-1, list price.
pub const PUT_PRICE: f64 = 0.005;
/// Price of a thousand GETs.
pub const GET_PRICE: f64 = 0.0004;
/// Price of a GiB and month.
pub const GIB_PRICE: f64 = 0.023;

/// Bytes in memcached for a device that is connected. Measured (docs/operations.md: 200).
pub const PRESENCE_BYTES: f64 = 200.0;
/// Topics that a process polls. Set: sessions, commands and rights of a feeder, frames, outbox and rights of an eater.
pub const TOPICS: f64 = 3.0;
/// Polls of a topic in a second while there is something to hear. Set: every 5 ms.
pub const POLLS_PER_S: f64 = 200.0;
/// Polls that a core of memcached answers. Measured: 20 consumers at 5 ms took 3 % of one.
pub const POLLS_PER_CORE: f64 = 20.0 * 200.0 / 0.03;
/// Reports of a feeder in a second while a rule of the kind `presence` exists. Set (`feeder/src/reports.rs`).
pub const REPORTS_PER_S: f64 = 1.0;
