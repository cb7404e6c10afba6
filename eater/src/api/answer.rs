//! What answers have in common: their type, their tag, and how long they may be kept.

use axum::body::Body;
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::etag::ETag;
use super::media::Offer;

/// The client may keep an answer, but must ask whether it still holds; shared caches may not keep any.
const CACHE: HeaderValue = HeaderValue::from_static("private, no-cache");
const VARIES: HeaderValue = HeaderValue::from_static("accept, authorization");

/// The head of a successful answer.
#[derive(Debug, Clone)]
pub(super) struct Head {
    /// Its type.
    pub offer: &'static Offer,
    /// Its tag, if it has one.
    pub tag: Option<ETag>,
}

impl Head {
    /// 304, if the client has the answer already.
    pub(super) fn unchanged(&self, request: &HeaderMap) -> Option<Response> {
        self.tag.as_ref().is_some_and(|tag| tag.is_known(request)).then(|| {
            let mut response = self.with(Body::empty());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response.headers_mut().remove(CONTENT_TYPE);
            response
        })
    }

    /// 200 with a body.
    pub(super) fn with(&self, body: Body) -> Response {
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, self.offer.header());
        if let Some(tag) = &self.tag {
            headers.insert(ETAG, tag.header());
        }
        headers.insert(CACHE_CONTROL, CACHE);
        headers.insert(VARY, VARIES);
        response
    }
}
