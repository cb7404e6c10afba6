//! Every way in which the API says no, and the one place that maps them to HTTP.

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::{ALLOW, WWW_AUTHENTICATE};
use trough_protocol::{Epoch, Seq};
use trough_runtime::problem::Problem;
use trough_store::{AuthError, CommandError, RegistryError, Scope};

use super::code::Code;
use super::cursor::BadCursor;
use super::live::BadEventId;
use super::media::Offer;
use super::notice_refusal::NoticeRefusal;
use super::params::BadParameter;

/// Why a request is not answered.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// No token: send one.
    #[error("send the token of a reader: Authorization: Bearer trdr_… (trough readers add makes one)")]
    NoToken,
    /// Not a token that is valid: get another.
    #[error("{0}")]
    BadToken(String),
    /// The reader may not do this: have it given the scope.
    #[error("reader {reader} does not have the scope {scope}: add a reader that has it")]
    MissingScope {
        /// Who.
        reader: String,
        /// What it lacks.
        scope: Scope,
    },
    /// Mend the query.
    #[error(transparent)]
    BadParameter(#[from] BadParameter),
    /// Start again, or repeat the query that the cursor belongs to.
    #[error(transparent)]
    BadCursor(#[from] BadCursor),
    /// Begin again, or repeat the request that the event was an answer to.
    #[error(transparent)]
    BadEventId(#[from] BadEventId),
    /// Begin again with history.
    #[error(
        "what came behind Last-Event-ID was compacted and has left the journals: read it with GET \
         /v1/devices/{{id}}/frames, and begin again without Last-Event-ID"
    )]
    CursorExpired,
    /// No such device, or none that this reader may see: nobody learns which.
    #[error("there is no device {0:?} that you may see: GET /v1/devices lists those there are")]
    NoSuchDevice(String),
    /// Nothing is there.
    #[error("there is nothing at {0}")]
    NoSuchPath(String),
    /// Only some methods.
    #[error("{path} answers {allowed}, not {method}")]
    MethodNotAllowed {
        /// Where.
        path: String,
        /// What it answers.
        allowed: String,
        /// What was tried.
        method: String,
    },
    /// Mend the body.
    #[error("the body cannot be used: {0}")]
    BadBody(String),
    /// Send less.
    #[error("the body is larger than {max} bytes: send less")]
    BodyTooLarge {
        /// The limit.
        max: usize,
    },
    /// Send JSON.
    #[error("the body is {0:?}: send JSON, with Content-Type: application/json")]
    UnsupportedMediaType(String),
    /// What was asked of a command cannot be.
    #[error("{0}")]
    Command(CommandError),
    /// What was asked of a subscription, a phone, a delivery or a rule cannot be.
    #[error(transparent)]
    Notice(#[from] NoticeRefusal),
    /// Accept something else.
    #[error("nothing here can be had as {accept:?}: accept {offered}")]
    NotAcceptable {
        /// The header, shortened.
        accept: String,
        /// What there is.
        offered: String,
    },
    /// Come back soon.
    #[error("{what}: try again in {} s", retry_after.as_secs())]
    Busy {
        /// What there is too much of.
        what: String,
        /// When to come back.
        retry_after: Duration,
    },
    /// Go on behind them.
    #[error("frames {first} to {last} of epoch {epoch} are damaged and cannot be read: {remedy}")]
    Damaged {
        /// Of which numbering.
        epoch: Epoch,
        /// The first one.
        first: Seq,
        /// The last one.
        last: Seq,
        /// How to get on without them.
        remedy: String,
    },
    /// Ask for less, or come back.
    #[error("the answer takes longer than it may: ask for less, with from and to, channel, or fewer devices; or try again in {} s", retry_after.as_secs())]
    Deadline {
        /// When to come back.
        retry_after: Duration,
    },
    /// A fault of ours; the log has the cause.
    #[error("{0}")]
    Broken(String),
}

impl Refusal {
    /// Accept something that is offered.
    pub fn not_acceptable(accept: Option<&HeaderValue>, offers: &[Offer]) -> Self {
        let accept = accept.map_or_else(String::new, |v| String::from_utf8_lossy(v.as_bytes()).into_owned());
        let offered: Vec<&str> = offers.iter().map(Offer::essence).collect();
        Self::NotAcceptable { accept: accept.chars().take(80).collect(), offered: offered.join(", ") }
    }

    fn code(&self) -> Code {
        match self {
            Self::NoToken => Code::TokenMissing,
            Self::BadToken(_) => Code::TokenRefused,
            Self::MissingScope { .. } => Code::ScopeMissing,
            Self::BadParameter(_) => Code::BadParameter,
            Self::BadCursor(BadCursor::OtherQuery) => Code::CursorOfOtherQuery,
            Self::BadCursor(_) => Code::BadCursor,
            Self::BadEventId(BadEventId::OtherStream) => Code::CursorOfOtherQuery,
            Self::BadEventId(_) => Code::BadCursor,
            Self::CursorExpired => Code::CursorExpired,
            Self::NoSuchDevice(_) => Code::NoSuchDevice,
            Self::NoSuchPath(_) => Code::NoSuchPath,
            Self::MethodNotAllowed { .. } => Code::MethodNotAllowed,
            Self::BadBody(_) => Code::BadBody,
            Self::BodyTooLarge { .. } => Code::BodyTooLarge,
            Self::UnsupportedMediaType(_) => Code::UnsupportedMediaType,
            Self::Command(error) => match error {
                CommandError::NotFound(_) => Code::NoSuchCommand,
                CommandError::TooMany(_) => Code::TooManyCommands,
                CommandError::KeyUsed { .. } => Code::IdempotencyKeyUsed,
                CommandError::Finished { .. } => Code::CommandFinished,
                CommandError::Registry(RegistryError::Revoked(_)) => Code::DeviceRevoked,
                CommandError::Registry(_) => Code::BadBody,
            },
            Self::Notice(refusal) => refusal.code(),
            Self::NotAcceptable { .. } => Code::NotAcceptable,
            Self::Busy { .. } => Code::Busy,
            Self::Deadline { .. } => Code::Deadline,
            Self::Damaged { .. } => Code::FramesDamaged,
            Self::Broken(_) => Code::Internal,
        }
    }

    /// What `WWW-Authenticate` says (RFC 6750, section 3).
    fn challenge(&self) -> Option<String> {
        match self {
            Self::NoToken => Some("Bearer realm=\"trough\"".to_owned()),
            Self::BadToken(_) => Some("Bearer realm=\"trough\", error=\"invalid_token\"".to_owned()),
            Self::MissingScope { scope, .. } => {
                Some(format!("Bearer realm=\"trough\", error=\"insufficient_scope\", scope=\"{scope}\""))
            }
            _ => None,
        }
    }
}

impl From<AuthError> for Refusal {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Unknown | AuthError::Revoked | AuthError::Expired => Self::BadToken(error.to_string()),
            AuthError::Registry(error) => error.into(),
        }
    }
}

impl From<RegistryError> for Refusal {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Unavailable { retry_after, reason } => {
                tracing::warn!(%reason, "the registry does not answer");
                Self::Busy { what: "the registry does not answer".to_owned(), retry_after }
            }
            RegistryError::NotFound { name, .. } => Self::NoSuchDevice(name),
            other => {
                tracing::error!(error = %other, "the registry cannot be used");
                Self::Broken("the registry cannot be used; the server's log says why".to_owned())
            }
        }
    }
}

impl From<CommandError> for Refusal {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Registry(RegistryError::Invalid(_) | RegistryError::Revoked(_)) => {
                Self::Command(error)
            }
            CommandError::Registry(error) => error.into(),
            error => Self::Command(error),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let code = self.code();
        let mut problem = Problem::new(code.status(), code.as_str(), self.to_string());
        if let Self::Busy { retry_after, .. } | Self::Deadline { retry_after } = &self {
            problem = problem.with_retry_after(*retry_after);
        }
        let mut response = problem.to_response().map(Body::new);
        if let Some(challenge) = self.challenge() {
            let value = HeaderValue::try_from(challenge).expect("scope names are visible ASCII");
            response.headers_mut().insert(WWW_AUTHENTICATE, value);
        }
        if let Self::MethodNotAllowed { allowed, .. } = self {
            let value = HeaderValue::try_from(allowed).expect("methods are visible ASCII");
            response.headers_mut().insert(ALLOW, value);
        }
        response
    }
}
