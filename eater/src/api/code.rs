//! The codes of refusals: what a program goes by, and what it does then.

use http::StatusCode;

/// One line for each code: its status, its name, and before them what to do.
macro_rules! codes {
    ($($(#[doc = $advice:literal])+ $code:ident = $status:ident $name:literal,)+) => {
        /// Why a request is refused, for programs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code {
            $($(#[doc = $advice])+ $code,)+
        }

        impl Code {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$code),+];

            /// The HTTP status that it comes with.
            pub const fn status(self) -> StatusCode {
                match self {
                    $(Self::$code => StatusCode::$status,)+
                }
            }

            /// Its name in an answer; it never changes.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$code => $name,)+
                }
            }

            /// What to do, for the API's description.
            pub const fn advice(self) -> &'static str {
                match self {
                    $(Self::$code => concat!($($advice),+),)+
                }
            }
        }
    };
}

codes! {
    /// the detail names the parameter, its value and what is accepted
    BadParameter = BAD_REQUEST "bad_parameter",
    /// not a cursor of this server, or cut: start again, or use `after`
    BadCursor = BAD_REQUEST "bad_cursor",
    /// repeat the query that the cursor came from, or start again
    CursorOfOtherQuery = BAD_REQUEST "cursor_of_other_query",
    /// mend the body as the detail says
    BadBody = BAD_REQUEST "bad_body",
    /// send less
    BodyTooLarge = PAYLOAD_TOO_LARGE "body_too_large",
    /// send JSON, and say so in `Content-Type`
    UnsupportedMediaType = UNSUPPORTED_MEDIA_TYPE "unsupported_media_type",
    /// send the token of a reader
    TokenMissing = UNAUTHORIZED "token_missing",
    /// get another token; do not retry
    TokenRefused = UNAUTHORIZED "token_refused",
    /// the detail names the scope; do not retry
    ScopeMissing = FORBIDDEN "scope_missing",
    /// what came since has left the journals: read it with `/frames`, and begin anew
    CursorExpired = GONE "cursor_expired",
    /// it does not exist, or is not yours
    NoSuchDevice = NOT_FOUND "no_such_device",
    /// it does not exist, or was finished more than 7 days ago
    NoSuchCommand = NOT_FOUND "no_such_command",
    /// it is finished: read what became of it
    CommandFinished = CONFLICT "command_finished",
    /// the device has 100 that are not finished: wait, or cancel some
    TooManyCommands = CONFLICT "too_many_commands",
    /// the key is that of another request: use a new one for each
    IdempotencyKeyUsed = CONFLICT "idempotency_key_used",
    /// the device will not connect any more
    DeviceRevoked = CONFLICT "device_revoked",
    /// it does not exist, or is not yours
    NoSuchSubscription = NOT_FOUND "no_such_subscription",
    /// it does not exist, or is not yours
    NoSuchPushToken = NOT_FOUND "no_such_push_token",
    /// it does not exist, is not of a subscription of yours, or was finished more than 7 days ago
    NoSuchDelivery = NOT_FOUND "no_such_delivery",
    /// it does not exist, or is about devices that you do not see
    NoSuchRule = NOT_FOUND "no_such_rule",
    /// the server takes no secrets: its operator must give it `--seal-key-file`
    NoSealKey = CONFLICT "no_seal_key",
    /// remove some
    TooManySubscriptions = CONFLICT "too_many_subscriptions",
    /// the detail says why: enable it first
    SubscriptionDisabled = CONFLICT "subscription_disabled",
    /// register a push token first
    NoPhone = CONFLICT "no_phone",
    /// pushes have no URL and no signing secret
    NotAWebhook = CONFLICT "not_a_webhook",
    /// so many wait already: see why none of them is taken
    TooManyDeliveries = CONFLICT "too_many_deliveries",
    /// the rule of this name is not yours to change: choose another name
    RuleNameTaken = CONFLICT "rule_name_taken",
    /// there are 10,000: remove some
    TooManyRules = CONFLICT "too_many_rules",
    /// mind the trailing slash: there is none
    NoSuchPath = NOT_FOUND "no_such_path",
    /// use a method that `Allow` names
    MethodNotAllowed = METHOD_NOT_ALLOWED "method_not_allowed",
    /// the detail lists what there is
    NotAcceptable = NOT_ACCEPTABLE "not_acceptable",
    /// these frames cannot be read: go on behind them with the `after` in the detail
    FramesDamaged = INTERNAL_SERVER_ERROR "frames_damaged",
    /// report it with the request id
    Internal = INTERNAL_SERVER_ERROR "internal",
    /// wait `Retry-After` seconds, then repeat
    Busy = SERVICE_UNAVAILABLE "busy",
    /// it takes too long: ask for less, or repeat after `Retry-After` seconds
    Deadline = SERVICE_UNAVAILABLE "deadline",
}
