//! Paths and their handlers.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, MatchedPath, Path, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{delete, get, patch, post, put};
use http::request::Parts;
use tracing::Instrument;
use trough_runtime::request_id::RequestId;
use trough_store::ReaderName;
use utoipa::OpenApi;

use super::auth::Caller;
use super::refusal::Refusal;
use super::state::Api;
use super::track::Tracker;

/// The label of requests to any other path.
const NO_ROUTE: &str = "none";

/// One line for each path: where it leads. What it takes and answers is described beside its handler, which must have
/// `#[utoipa::path]` with the same path.
/// Behind the semicolon stands what changes something, with its method: at one of the paths above, or at one that answers
/// nothing else.
macro_rules! routes {
    (
        $($path:literal => $module:ident::$handler:ident,)+;
        $($method:ident $changed:literal => $changing:ident::$change:ident,)*
    ) => {
        /// All paths that answer GET and HEAD.
        pub(super) const PATHS: &[&str] = &[$($path),+];

        /// What paths answer besides: a method, in small letters, and the path.
        pub(super) const CHANGES: &[(&str, &str)] = &[$((stringify!($method), $changed)),*];

        fn handlers() -> Router<Arc<Api>> {
            Router::new()
                $(.route($path, get(super::$module::$handler)))+
                $(.route($changed, $method(super::$changing::$change)))*
        }

        /// What the handlers say of themselves.
        #[derive(OpenApi)]
        #[openapi(paths($(super::$module::$handler,)+ $(super::$changing::$change),*))]
        pub(super) struct Documented;
    };
}

routes! {
    "/v1/devices" => devices::list,
    "/v1/devices/{id}" => devices::device,
    "/v1/devices/{id}/frames" => frames::frames,
    "/v1/devices/{id}/gaps" => gaps::gaps,
    "/v1/devices/{id}/live" => live::device,
    "/v1/live" => live::devices,
    "/v1/devices/{id}/encounters" => encounters::encounters_of_device,
    "/v1/encounters" => encounters::encounters,
    "/v1/frames" => frames::frames_of_many,
    "/healthz" => health::healthz,
    "/readyz" => health::readyz,
    "/openapi.json" => openapi::document,
    "/docs" => docs::page,
    "/docs/{file}" => docs::file,
    "/v1/devices/{id}/commands" => commands::list,
    "/v1/devices/{id}/commands/{command}" => commands::show,
    "/v1/subscriptions" => subscriptions::list,
    "/v1/subscriptions/{subscription}" => subscriptions::show,
    "/v1/push-tokens" => push_tokens::list,
    "/v1/push-tokens/{push_token}" => push_tokens::show,
    "/v1/deliveries" => deliveries::list,
    "/v1/deliveries/{delivery}" => deliveries::show,
    "/v1/events" => events::list,
    "/v1/rules" => rules::list,
    "/v1/rules/{rule}" => rules::show,
    ;
    post "/v1/devices/{id}/commands" => commands::send,
    delete "/v1/devices/{id}/commands/{command}" => commands::cancel,
    post "/v1/subscriptions" => subscriptions::create,
    patch "/v1/subscriptions/{subscription}" => subscriptions::change,
    delete "/v1/subscriptions/{subscription}" => subscriptions::remove,
    post "/v1/subscriptions/{subscription}/test" => subscription_acts::test,
    post "/v1/subscriptions/{subscription}/enable" => subscription_acts::enable,
    post "/v1/subscriptions/{subscription}/disable" => subscription_acts::disable,
    post "/v1/subscriptions/{subscription}/rotate-key" => subscription_acts::rotate_key,
    post "/v1/push-tokens" => push_tokens::register,
    delete "/v1/push-tokens/{push_token}" => push_tokens::remove,
    post "/v1/deliveries/{delivery}/replay" => deliveries::replay,
    put "/v1/rules/{rule}" => rules::set,
    delete "/v1/rules/{rule}" => rules::remove,
}

/// The whole API as one service.
pub(super) fn router(api: Arc<Api>) -> Router {
    handlers()
        .fallback(no_such_path)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(api.clone(), track))
        .with_state(api)
}

pub(super) async fn no_such_path(request: Request) -> Refusal {
    Refusal::NoSuchPath(request.uri().path().chars().take(200).collect())
}

async fn method_not_allowed(matched: Option<MatchedPath>, request: Request) -> Refusal {
    let path = request.uri().path().chars().take(200).collect();
    let allowed = allowed(matched.as_ref().map_or(NO_ROUTE, MatchedPath::as_str));
    Refusal::MethodNotAllowed { path, allowed, method: request.method().to_string() }
}

/// What `Allow` says for one of the paths.
pub(super) fn allowed(path: &str) -> String {
    let reads = PATHS.contains(&path).then(|| "GET, HEAD".to_owned());
    let changes = CHANGES.iter().filter(|(_, changed)| *changed == path);
    let changes = changes.map(|(method, _)| method.to_ascii_uppercase());
    reads.into_iter().chain(changes).collect::<Vec<_>>().join(", ")
}

/// The reader's name, for the log line: put down by [`Caller`]'s extractor, which runs inside of [`track`].
#[derive(Debug, Clone, Default)]
struct ReaderSlot(Arc<OnceLock<ReaderName>>);

async fn track(
    State(api): State<Arc<Api>>,
    matched: Option<MatchedPath>,
    mut request: Request,
    next: Next,
) -> Response {
    let route = matched.map_or(NO_ROUTE, |matched| label(matched.as_str()));
    if matches!(route, "/healthz" | "/readyz") {
        // Probes come every second, and are neither counted nor logged.
        return next.run(request).await;
    }
    let id = RequestId::of(request.headers(), &api.clock);
    let tracker = Tracker::begin(request.method().clone(), route, id.clone(), api.metrics.clone());
    let slot = ReaderSlot::default();
    request.extensions_mut().insert(slot.clone());
    // Whatever is logged on the way names the request.
    let span = tracing::error_span!("request", id = %id);
    let mut response = next.run(request).instrument(span).await;
    id.set_on(response.headers_mut());
    tracker.answered(response, slot.0.get().cloned()).map(Body::new)
}

fn label(matched: &str) -> &'static str {
    let changed = CHANGES.iter().map(|(_, path)| path);
    PATHS.iter().chain(changed).copied().find(|route| *route == matched).unwrap_or(NO_ROUTE)
}

impl FromRequestParts<Arc<Api>> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Refusal> {
        let caller = api.auth.caller(&parts.headers).await?;
        if let Some(slot) = parts.extensions.get::<ReaderSlot>() {
            slot.0.get_or_init(|| caller.grant.name.clone());
        }
        Ok(caller)
    }
}

/// The device in the path, decoded but not checked: what is no device id is no device either.
#[derive(Debug)]
pub(super) struct DeviceName(pub String);

impl FromRequestParts<Arc<Api>> for DeviceName {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Infallible> {
        let path: Result<Path<String>, PathRejection> = Path::from_request_parts(parts, api).await;
        // Bytes that are not UTF-8; the empty name is no device.
        Ok(Self(path.map(|Path(name)| name).unwrap_or_default()))
    }
}

/// The device and the command in the path, likewise.
#[derive(Debug)]
pub(super) struct CommandName(pub String, pub String);

impl FromRequestParts<Arc<Api>> for CommandName {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Infallible> {
        let path: Result<Path<(String, String)>, PathRejection> = Path::from_request_parts(parts, api).await;
        let (device, command) = path.map(|Path(names)| names).unwrap_or_default();
        Ok(Self(device, command))
    }
}
