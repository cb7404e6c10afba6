//! What answers have in common: their type, their tag, and how long they may be kept.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::response::Response;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, LOCATION, VARY};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;

use super::etag::{ETag, Fingerprint};
use super::media::{JSON_OFFERS, Offer, negotiate};
use super::refusal::Refusal;
use super::state::Api;

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

/// JSON, if the client takes it.
///
/// # Errors
/// [`Refusal::NotAcceptable`].
pub(super) fn json_offer(request: &HeaderMap) -> Result<&'static Offer, Refusal> {
    negotiate(request, JSON_OFFERS).ok_or_else(|| Refusal::not_acceptable(request.get(ACCEPT), JSON_OFFERS))
}

/// A small answer in JSON, to a client that takes it.
pub(super) struct JsonAnswer {
    offer: &'static Offer,
    request: HeaderMap,
}

impl JsonAnswer {
    /// To a request with these headers.
    ///
    /// # Errors
    /// [`Refusal::NotAcceptable`].
    pub(super) fn to(request: HeaderMap) -> Result<Self, Refusal> {
        Ok(Self { offer: json_offer(&request)?, request })
    }

    /// With its tag, or 304.
    pub(super) fn tagged(&self, body: String) -> Response {
        let head = Head { offer: self.offer, tag: Some(Fingerprint::default().text(&body).etag()) };
        head.unchanged(&self.request).unwrap_or_else(|| head.with(body.into()))
    }

    /// To a request that has changed something.
    pub(super) fn untagged(&self, body: String) -> Response {
        Head { offer: self.offer, tag: None }.with(body.into())
    }
}

/// It stands behind [`NoParameters`](super::no_parameters::NoParameters), which are refused first.
impl FromRequestParts<Arc<Api>> for JsonAnswer {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Api>) -> Result<Self, Refusal> {
        Self::to(parts.headers.clone())
    }
}

/// What one of our own answers is as JSON.
pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("answers are texts, numbers and lists of them, which are always JSON")
}

/// 201, with where it is.
pub(super) fn created(mut response: Response, location: &str) -> Response {
    *response.status_mut() = StatusCode::CREATED;
    let location = HeaderValue::try_from(location).expect("ids and names are visible ASCII");
    response.headers_mut().insert(LOCATION, location);
    response
}

/// An answer with a secret that is shown once: nobody may keep it.
pub(super) fn unkept(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// 204: it is done, and there is nothing to say.
pub(super) fn nothing() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}
