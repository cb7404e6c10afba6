//! `GET /openapi.json`: the API described for programs, OpenAPI 3.1.
//!
//! What only one path has stands beside its handler (`#[utoipa::path]`): its parameters, its scopes, its good
//! answers. What paths have in common, above all how they refuse, is added in [`complete`]. [`schemas`] has the
//! forms that parameters and answers share.

mod complete;
pub(super) mod schemas;

use std::sync::{Arc, LazyLock};

use axum::extract::State;
use axum::response::Response;
use http::request::Parts;
use utoipa::OpenApi as _;

use super::answer::{Head, json_offer};
use super::etag::Fingerprint;
use super::params::Params;
use super::refusal::Refusal;
use super::routes::Documented;
use super::state::Api;
use schemas::Problem;

/// The document as it is served.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let document = serde_json::to_value(Documented::openapi()).expect("a description always serialises");
    serde_json::to_string_pretty(&complete::complete(document)).expect("JSON always serialises")
});

/// This description.
///
/// OpenAPI 3.1. A page to read it with is at `/docs`.
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "get_openapi", tag = "about",
    responses(
        (status = 200, description = "The description", body = Object, content_type = "application/json"),
        (status = 304, description = "It is as the client has it"),
        (status = 400, description = "`bad_parameter`: it takes none", body = Problem,
            content_type = "application/problem+json"),
        (status = 406, description = "`not_acceptable`: it is JSON", body = Problem,
            content_type = "application/problem+json"),
    )
)]
pub(super) async fn document(State(_): State<Arc<Api>>, request: Parts) -> Result<Response, Refusal> {
    Params::parse(request.uri.query(), &[])?;
    let offer = json_offer(&request.headers)?;
    let head = Head { offer, tag: Some(Fingerprint::default().text(&DOCUMENT).etag()) };
    Ok(head.unchanged(&request.headers).unwrap_or_else(|| head.with(DOCUMENT.as_str().into())))
}
