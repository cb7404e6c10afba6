//! `GET /docs`: a page to read the API's description with. Everything that it loads comes from here.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::HeaderValue;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use utoipa::IntoParams;

use super::openapi::schemas::Problem;
use super::refusal::Refusal;
use super::routes::no_such_path;

/// Nothing from anywhere else. Swagger UI's style sheet has its pictures in itself (`data:`).
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const PAGE: &str = include_str!("docs/index.html");

/// What the page loads: Swagger UI as `build.rs` unpacked it, and what starts it.
const FILES: &[(&str, &str, &[u8])] = &[
    ("start.js", "text/javascript; charset=utf-8", include_bytes!("docs/start.js")),
    ("page.css", "text/css; charset=utf-8", include_bytes!("docs/page.css")),
    (
        "swagger-ui.js",
        "text/javascript; charset=utf-8",
        include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui-bundle.js")),
    ),
    (
        "swagger-ui.css",
        "text/css; charset=utf-8",
        include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui.css")),
    ),
    ("icon.png", "image/png", include_bytes!(concat!(env!("OUT_DIR"), "/favicon-32x32.png"))),
];

/// A page to read this description with.
///
/// It needs a browser, and nothing from other servers.
#[utoipa::path(
    get, path = "/docs", operation_id = "get_docs", tag = "about",
    responses((status = 200, description = "The page", body = String, content_type = "text/html"))
)]
pub(super) async fn page() -> Response {
    answer("text/html; charset=utf-8", PAGE.as_bytes())
}

/// What the page asks for.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it is only described")]
struct FilePath {
    /// The name of a file.
    #[param(example = "start.js")]
    file: String,
}

/// What that page loads.
#[utoipa::path(
    get, path = "/docs/{file}", operation_id = "get_docs_file", tag = "about",
    params(FilePath),
    responses(
        (status = 200, description = "The file", content(
            (String = "text/javascript"), (String = "text/css"), (String = "image/png"),
        )),
        (status = 404, description = "`no_such_path`: the page has no such file", body = Problem,
            content_type = "application/problem+json"),
    )
)]
pub(super) async fn file(request: Request) -> Result<Response, Refusal> {
    let name = request.uri().path().trim_start_matches("/docs/");
    match FILES.iter().find(|(known, _, _)| *known == name) {
        Some((_, content_type, bytes)) => Ok(answer(content_type, bytes)),
        None => Err(no_such_path(request).await),
    }
}

fn answer(content_type: &'static str, bytes: &'static [u8]) -> Response {
    let mut response = Response::new(Body::from(bytes));
    let headers = [
        (CONTENT_TYPE, content_type),
        (CONTENT_SECURITY_POLICY, POLICY),
        (CACHE_CONTROL, "public, max-age=3600"),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
