//! The names of the options, in one place: on the command line and in the environment.

/// One option's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opt {
    /// As typed: `--listen`, or a placeholder such as `DEVICE` for an argument without a name.
    pub flag: &'static str,
    /// The environment variable; empty if there is none.
    pub env: &'static str,
}

macro_rules! options {
    ($($name:ident = $flag:literal, $env:literal;)*) => {
        $(#[allow(missing_docs, reason = "the names say it")]
        pub const $name: Opt = Opt { flag: $flag, env: $env };)*
        /// Every option.
        #[cfg(test)]
        pub const ALL: &[Opt] = &[$($name,)*];
    };
}

options! {
    LOG = "--log", "TROUGH_LOG";
    LOG_FORMAT = "--log-format", "TROUGH_LOG_FORMAT";
    DATA_DIR = "--data-dir", "TROUGH_DATA_DIR";
    DATABASE = "--database", "TROUGH_DATABASE";
    DEMO_DIR = "--data-dir", "TROUGH_DEMO_DIR";
    LISTEN = "--listen", "TROUGH_LISTEN";
    LINKS = "--links", "TROUGH_LINKS";
    API = "--api", "TROUGH_API";
    ADMIN = "--admin", "TROUGH_ADMIN";
    EATER = "--eater", "TROUGH_EATER";
    BUS = "--bus", "TROUGH_BUS";
    CACHE_BUS = "--cache-bus", "TROUGH_CACHE_BUS";
    BUS_KEY_FILE = "--bus-key-file", "TROUGH_BUS_KEY_FILE";
    ENVIRONMENT = "--environment", "TROUGH_ENVIRONMENT";
    SEAL_KEY_FILE = "--seal-key-file", "TROUGH_SEAL_KEY_FILE";
    TLS_CERT = "--tls-cert", "TROUGH_TLS_CERT";
    TLS_KEY = "--tls-key", "TROUGH_TLS_KEY";
    LINK_TLS_CERT = "--link-tls-cert", "TROUGH_LINK_TLS_CERT";
    LINK_TLS_KEY = "--link-tls-key", "TROUGH_LINK_TLS_KEY";
    LINK_TLS_CA = "--link-tls-ca", "TROUGH_LINK_TLS_CA";
    LINK_KEY_FILE = "--link-key-file", "TROUGH_LINK_KEY_FILE";
    CA = "--ca", "TROUGH_CA";
    WEBHOOK_HTTP = "--webhook-http", "TROUGH_WEBHOOK_HTTP";
    WEBHOOK_PRIVATE_NETWORKS = "--webhook-private-networks", "TROUGH_WEBHOOK_PRIVATE_NETWORKS";
    APNS_KEY_FILE = "--apns-key-file", "TROUGH_APNS_KEY_FILE";
    APNS_KEY_ID = "--apns-key-id", "TROUGH_APNS_KEY_ID";
    APNS_TEAM_ID = "--apns-team-id", "TROUGH_APNS_TEAM_ID";
    APNS_URL = "--apns-url", "TROUGH_APNS_URL";
    APNS_CA = "--apns-ca", "TROUGH_APNS_CA";
    LINGER = "--linger", "TROUGH_LINGER";
    DRAIN_SPREAD = "--drain-spread", "TROUGH_DRAIN_SPREAD";
    DRAIN_WAIT = "--wait", "TROUGH_DRAIN_WAIT";
    DRAIN_UNDO = "--undo", "TROUGH_DRAIN_UNDO";
    DRAIN_TIMEOUT = "--timeout", "TROUGH_DRAIN_TIMEOUT";
    STORE = "--store", "TROUGH_STORE";
    FLUSH_AFTER = "--flush-after", "TROUGH_FLUSH_AFTER";
    COMPACT_AFTER = "--compact-after", "TROUGH_COMPACT_AFTER";
    COMPACT_GRACE = "--compact-grace", "TROUGH_COMPACT_GRACE";
    CREDIT_BYTES_MAX = "--credit-bytes-max", "TROUGH_CREDIT_BYTES_MAX";
    OTLP = "--otlp", "TROUGH_OTLP";
    TRACE_EVERY = "--trace-every", "TROUGH_TRACE_EVERY";
    GRACE = "--grace", "TROUGH_GRACE";
    FRAME_BYTES_MAX = "--frame-bytes-max", "TROUGH_FRAME_BYTES_MAX";
    SESSIONS_MAX = "--sessions-max", "TROUGH_SESSIONS_MAX";
    // A reader's address book and a server's sockets are different things, so their variables differ too: an
    // exported TROUGH_API_URL must not make `trough up` bind it.
    API_URL = "--api", "TROUGH_API_URL";
    URL = "--url", "TROUGH_URL";
    HEALTH_URL = "--url", "TROUGH_HEALTH_URL";
    DEVICE_TOKEN = "--token", "TROUGH_DEVICE_TOKEN";
    READER_TOKEN = "--token", "TROUGH_READER_TOKEN";
    GROUP = "--group", "TROUGH_GROUP";
    LAT = "--lat", "TROUGH_LAT";
    LON = "--lon", "TROUGH_LON";
    RETENTION_DAYS = "--days", "TROUGH_RETENTION_DAYS";
    RETENTION_BYTES = "--bytes", "TROUGH_RETENTION_BYTES";
    SCOPE = "--scope", "TROUGH_SCOPE";
    TOKEN_IN_URL = "--token-in-url", "TROUGH_TOKEN_IN_URL";
    CHANNEL = "--channel", "TROUGH_CHANNEL";
    CONTENT_TYPE = "--content-type", "TROUGH_CONTENT_TYPE";
    STATE = "--state", "TROUGH_STATE";
    FROM = "--from", "TROUGH_FROM";
    TO = "--to", "TROUGH_TO";
    OUT = "--out", "TROUGH_OUT";
    EXPORT_FORMAT = "--format", "TROUGH_EXPORT_FORMAT";
    EXPORT_DEVICE = "--device", "TROUGH_EXPORT_DEVICE";
    EXPORT_URL = "--url", "TROUGH_EXPORT_URL";
    REBUILD = "--rebuild", "TROUGH_REBUILD";
    REPLACE = "--replace", "TROUGH_REPLACE";
    WITHOUT_MISSING = "--without-missing", "TROUGH_WITHOUT_MISSING";
    PAST_DAMAGE = "--past-damage", "TROUGH_PAST_DAMAGE";
    // A group that devices are added to is not one to look at.
    TAIL_GROUP = "--group", "TROUGH_TAIL_GROUP";
    WEBHOOK_URL = "--url", "TROUGH_WEBHOOK_URL";
    PUSH = "--push", "TROUGH_PUSH";
    EVENT = "--event", "TROUGH_EVENT";
    RULE = "--rule", "TROUGH_RULE";
    SUBSCRIBE_DEVICE = "--device", "TROUGH_SUBSCRIBE_DEVICE";
    SUBSCRIBE_GROUP = "--group", "TROUGH_SUBSCRIBE_GROUP";
    QUIET = "--quiet", "TROUGH_QUIET";
    QUIET_ZONE = "--quiet-zone", "TROUGH_QUIET_ZONE";
    QUIET_THEN = "--quiet-then", "TROUGH_QUIET_THEN";
    COALESCE = "--coalesce", "TROUGH_COALESCE";
    DELIVERY_SUBSCRIPTION = "--subscription", "TROUGH_DELIVERY_SUBSCRIPTION";
    PUSH_TOKEN = "--push-token", "TROUGH_PUSH_TOKEN";
    PHONE_APP = "--app", "TROUGH_PHONE_APP";
    PHONE_SERVER = "--server", "TROUGH_PHONE_SERVER";
    DELIVERY_STATE = "--state", "TROUGH_DELIVERY_STATE";
    DELIVERY_LIMIT = "--limit", "TROUGH_DELIVERY_LIMIT";
    OLD_KEY = "--keep-old", "TROUGH_KEEP_OLD_KEY";
    // What a rule waits for is said on the command line, or in one variable.
    RULE_WHEN = "--when", "TROUGH_RULE_WHEN";
    RULE_RATE = "--rate", "TROUGH_RULE_RATE";
    RULE_GEOFENCE = "--geofence", "TROUGH_RULE_GEOFENCE";
    RULE_CIRCLE = "--circle", "TROUGH_RULE_CIRCLE";
    RULE_SILENCE = "--silence", "TROUGH_RULE_SILENCE";
    RULE_PRESENCE = "--presence", "TROUGH_RULE_PRESENCE";
    RULE_FIRST_FRAME = "--first-frame", "TROUGH_RULE_FIRST_FRAME";
    RULE_GAPS = "--gaps", "TROUGH_RULE_GAPS";
    RULE_AFTER = "--after", "TROUGH_RULE_AFTER";
    RULE_CHANNEL = "--channel", "TROUGH_RULE_CHANNEL";
    RULE_DEVICE = "--device", "TROUGH_RULE_DEVICE";
    RULE_GROUP = "--group", "TROUGH_RULE_GROUP";
    RULE_ALL = "--all", "TROUGH_RULE_ALL";
    JSON = "--json", "TROUGH_JSON";
    TOP_KUBECTL = "--kubectl", "TROUGH_TOP_KUBECTL";
    TOP_NAMESPACE = "--namespace", "TROUGH_TOP_NAMESPACE";
    TOP_CONTEXT = "--context", "TROUGH_TOP_CONTEXT";
    TOP_EVERY = "--every", "TROUGH_TOP_EVERY";
    TOP_SORT = "--sort", "TROUGH_TOP_SORT";
    TOP_ONCE = "--once", "TROUGH_TOP_ONCE";
    EXIT = "--exit", "TROUGH_EXIT";
    KEEP_OLD = "--keep-old", "TROUGH_KEEP_OLD";
    COMMAND_TEXT = "--text", "TROUGH_COMMAND_TEXT";
    COMMAND_FILE = "--file", "TROUGH_COMMAND_FILE";
    COMMAND_TYPE = "--content-type", "TROUGH_COMMAND_TYPE";
    COMMAND_EXPIRES = "--expires", "TROUGH_COMMAND_EXPIRES";
    COMMAND_KEY = "--key", "TROUGH_COMMAND_KEY";
    TIMEOUT = "--timeout", "TROUGH_TIMEOUT";
    PREVIEW_FILE = "--file", "TROUGH_PREVIEW_FILE";
    PREVIEW_OWNER = "--owner", "TROUGH_PREVIEW_OWNER";
    PREVIEW_PURPOSE = "--purpose", "TROUGH_PREVIEW_PURPOSE";
    PREVIEW_UNTIL = "--until", "TROUGH_PREVIEW_UNTIL";
    PREVIEW_CHECK = "--check", "TROUGH_PREVIEW_CHECK";
    PREVIEW_IDLE = "--idle", "TROUGH_PREVIEW_IDLE";
    PREVIEW_IDLE_OFF_HOURS = "--idle-off-hours", "TROUGH_PREVIEW_IDLE_OFF_HOURS";
    OFFICE_HOURS = "--office-hours", "TROUGH_OFFICE_HOURS";
    OFFICE_ZONE = "--office-zone", "TROUGH_OFFICE_ZONE";
    DRY_RUN = "--dry-run", "TROUGH_DRY_RUN";
    KUBERNETES = "--kubernetes", "TROUGH_KUBERNETES";
    ACCOUNT = "--account", "TROUGH_ACCOUNT";
    BENCH_SESSIONS = "--sessions", "TROUGH_BENCH_SESSIONS";
    BENCH_PAYLOAD = "--payload", "TROUGH_BENCH_PAYLOAD";
    BENCH_WINDOW = "--window", "TROUGH_BENCH_WINDOW";
    BENCH_FRAMES_PER_MESSAGE = "--frames-per-message", "TROUGH_BENCH_FRAMES_PER_MESSAGE";
    BENCH_DURATION = "--duration", "TROUGH_BENCH_DURATION";
    BENCH_RATE = "--rate", "TROUGH_BENCH_RATE";
    BENCH_ARRIVALS = "--arrivals", "TROUGH_BENCH_ARRIVALS";
    BENCH_IDLE = "--idle", "TROUGH_BENCH_IDLE";
    BENCH_READ = "--read", "TROUGH_BENCH_READ";
    BENCH_SUITE = "--suite", "TROUGH_BENCH_SUITE";
    BENCH_BACKLOG = "--backlog", "TROUGH_BENCH_BACKLOG";
    BENCH_FLOOR = "--floor", "TROUGH_BENCH_FLOOR";
    BENCH_EMBEDDED = "--embedded", "TROUGH_BENCH_EMBEDDED";
    BENCH_THREADS = "--threads", "TROUGH_BENCH_THREADS";
    BENCH_DIR = "--dir", "TROUGH_BENCH_DIR";
    BENCH_RULES = "--rules", "TROUGH_BENCH_RULES";
    BENCH_HISTORY_FRAMES = "--frames", "TROUGH_BENCH_HISTORY_FRAMES";
    BENCH_HISTORY_DEVICES = "--devices", "TROUGH_BENCH_HISTORY_DEVICES";
    BENCH_NOTIFY_DEVICES = "--devices", "TROUGH_BENCH_NOTIFY_DEVICES";
    BENCH_NOTIFY_RATE = "--rate", "TROUGH_BENCH_NOTIFY_RATE";
    BENCH_SUBSCRIPTIONS = "--subscriptions", "TROUGH_BENCH_SUBSCRIPTIONS";
    BENCH_EVERY = "--every", "TROUGH_BENCH_EVERY";
    BENCH_DELIVERIES = "--deliveries", "TROUGH_BENCH_DELIVERIES";
    BENCH_SCALE_DEVICES = "--devices", "TROUGH_BENCH_SCALE_DEVICES";
    BENCH_SCALE_EVERY = "--every", "TROUGH_BENCH_SCALE_EVERY";
    BENCH_SCALE_PAYLOAD = "--payload", "TROUGH_BENCH_SCALE_PAYLOAD";
}
