//! `GET /healthz` and `GET /readyz`, for probes.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;

use super::openapi::schemas::HealthJson;
use super::refusal::Refusal;
use super::routes::no_such_path;
use super::state::Api;

/// Whether the process lives.
#[utoipa::path(
    get, path = "/healthz", operation_id = "get_healthz", tag = "health",
    responses((status = 200, description = "It lives", body = HealthJson))
)]
pub(super) async fn healthz(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Refusal> {
    answer(&api, request).await
}

/// Whether the process should get traffic.
#[utoipa::path(
    get, path = "/readyz", operation_id = "get_readyz", tag = "health",
    responses(
        (status = 200, description = "It serves; what is degraded is listed", body = HealthJson),
        (status = 503, description = "It starts, or was told to stop", body = HealthJson),
    )
)]
pub(super) async fn readyz(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Refusal> {
    answer(&api, request).await
}

async fn answer(api: &Api, request: Request) -> Result<Response, Refusal> {
    match api.health.answer(&request) {
        Some(answer) => Ok(answer.map(Body::new)),
        None => Err(no_such_path(request).await),
    }
}
