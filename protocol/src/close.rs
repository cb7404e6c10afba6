//! WebSocket close codes. The range tells a device whether and when to connect again, so that a code that a
//! device does not know is still obeyed.
//!
//! | range | what the device does |
//! |---|---|
//! | 1000, 1001 | as it likes: the session ended well |
//! | 1012 | connects again after `retry_after_ms` of the reason |
//! | 4000–4099 | connects again with its ordinary back-off |
//! | 4100–4199 | connects again after `retry_after_ms` of the reason |
//! | 4200–4299 | connects again, with epoch 0 in its hello |
//! | 4300–4399 | stops: its token or its rights are refused |
//! | 4400–4499 | stops: it broke the protocol; the same bytes would be refused again |
//!
//! The reason is `name[ retry_after_ms=N][ text]`, at most 123 bytes (RFC 6455, section 5.5).

use crate::limits::CLOSE_REASON_BYTES_MAX;
use crate::wire::cut_text;

macro_rules! close_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// Why a session was closed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum CloseCode { $($(#[$doc])* $name,)* }

        impl CloseCode {
            /// Every code.
            pub const ALL: &'static [CloseCode] = &[$(CloseCode::$name,)*];

            /// The number on the wire.
            pub fn code(self) -> u16 {
                match self { $(Self::$name => $code,)* }
            }

            /// The first word of the reason, also the label in logs and metrics.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

close_codes! {
    /// The device ended the session.
    Normal = 1000, "normal";
    /// The feeder is stopping or moving its sessions away.
    Restart = 1012, "restart";
    /// No pong within the deadline, or nothing at all from the device.
    PongTimeout = 4000, "pong_timeout";
    /// No hello within the deadline.
    HelloTimeout = 4001, "hello_timeout";
    /// The device did not read what was sent to it.
    SlowReader = 4002, "slow_reader";
    /// An unexpected fault of the feeder.
    Internal = 4003, "internal";
    /// Another session of the same device began.
    TakenOver = 4100, "taken_over";
    /// No eater or registry can be reached.
    Unavailable = 4101, "unavailable";
    /// The feeder has as many sessions as it may have.
    Overloaded = 4102, "overloaded";
    /// The hello's epoch is not the newest one of the device.
    StaleEpoch = 4200, "stale_epoch";
    /// The token was revoked or has expired.
    TokenRevoked = 4300, "token_revoked";
    /// Bytes that are not a message of the subprotocol.
    Malformed = 4400, "malformed";
    /// A frame or message over the limit.
    TooLarge = 4401, "too_large";
    /// A jump in seq that no SKIP declared.
    SeqGap = 4402, "seq_gap";
    /// A seq that was sent before in this session.
    SeqBackwards = 4403, "seq_backwards";
    /// A text message where binary is due, or the other way round.
    WrongMessageKind = 4404, "wrong_message_kind";
    /// A message that may not come now.
    OutOfOrder = 4405, "out_of_order";
    /// The eater refused the device's frames.
    Refused = 4406, "refused";
}

/// What a device does after a close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Connect again with the ordinary back-off.
    Reconnect,
    /// Connect again, not before this many milliseconds.
    ReconnectAfter(u64),
    /// Connect again and ask for a new epoch.
    NewEpoch,
    /// Stop until somebody mends the configuration.
    Stop,
}

/// Used where a code asks for a delay and the reason names none.
const RETRY_AFTER_MS_DEFAULT: u64 = 10_000;
/// A longer delay than this is not believed.
const RETRY_AFTER_MS_MAX: u64 = 3_600_000;

/// What to do after a close frame with this code and reason, or after a connection that ended without one
/// (`None`).
pub fn advice(close: Option<(u16, &str)>) -> Advice {
    let Some((code, reason)) = close else { return Advice::Reconnect };
    match code {
        1012 | 4100..=4199 => {
            let named = reason.split(' ').find_map(|word| word.strip_prefix("retry_after_ms="));
            let delay = named.and_then(|value| value.parse().ok()).unwrap_or(RETRY_AFTER_MS_DEFAULT);
            Advice::ReconnectAfter(delay.min(RETRY_AFTER_MS_MAX))
        }
        4200..=4299 => Advice::NewEpoch,
        4300..=4499 => Advice::Stop,
        _ => Advice::Reconnect,
    }
}

/// A close frame's reason.
pub fn reason(code: CloseCode, retry_after_ms: Option<u64>, text: &str) -> String {
    let mut reason = code.name().to_owned();
    if let Some(delay) = retry_after_ms {
        reason.push_str(&format!(" retry_after_ms={delay}"));
    }
    if !text.is_empty() {
        reason.push(' ');
        reason.push_str(text);
    }
    reason.truncate(cut_text(&reason, CLOSE_REASON_BYTES_MAX).len());
    reason
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_gives_the_advice_of_its_range() {
        for code in CloseCode::ALL {
            let expected = match code.code() {
                1012 | 4100..=4199 => Advice::ReconnectAfter(RETRY_AFTER_MS_DEFAULT),
                4200..=4299 => Advice::NewEpoch,
                4300..=4499 => Advice::Stop,
                _ => Advice::Reconnect,
            };
            assert_eq!(advice(Some((code.code(), code.name()))), expected, "{code:?}");
        }
    }

    #[test]
    fn a_reason_names_the_delay_and_fits() {
        let text = reason(CloseCode::TakenOver, Some(12_345), &"ä".repeat(200));
        assert!(text.len() <= CLOSE_REASON_BYTES_MAX);
        assert_eq!(advice(Some((4100, &text))), Advice::ReconnectAfter(12_345));
        assert_eq!(
            advice(Some((1012, "x retry_after_ms=99999999999"))),
            Advice::ReconnectAfter(RETRY_AFTER_MS_MAX)
        );
        assert_eq!(advice(None), Advice::Reconnect);
    }
}
