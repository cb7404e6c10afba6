//! Requests that take no parameters.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;

use super::params::Params;
use super::refusal::Refusal;
use super::state::Api;

/// That a request has none. It stands behind whoever asks: one who may not is told that first.
#[derive(Debug)]
pub(super) struct NoParameters;

impl FromRequestParts<Arc<Api>> for NoParameters {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Api>) -> Result<Self, Refusal> {
        Params::parse(parts.uri.query(), &[])?;
        Ok(Self)
    }
}
