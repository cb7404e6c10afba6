//! The feeder's one port: health checks and tickets in plain HTTP beside the WebSockets, so that whatever sends
//! traffic here can also ask whether it should.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use trough_protocol::device::{PATH_RAW, PATH_STREAM};
use trough_runtime::FullResponse;
use trough_runtime::problem::Problem;
use trough_runtime::request_id::RequestId;
use trough_runtime::tls::accept::TlsStream;
use trough_store::{AuthError, DeviceGrant, RegistryError};

use crate::handshake::{Credential, Upgrade, credential, refuse, unavailable};
use crate::session::{self, Peer};
use crate::shard::{Load, Shard};
use crate::tickets;

/// Where tickets are fetched.
pub const PATH_TICKETS: &str = "/v1/tickets";
/// How long a device waits for a link that is just being opened: after a start, or when the eater has restarted.
const LINK_PATIENCE: Duration = Duration::from_secs(2);
/// How long the registry may take to check a token.
const AUTH_TIMEOUT: Duration = Duration::from_secs(5);

/// Answers one request; an accepted upgrade goes on as a session.
pub async fn answer(
    shard: Rc<Shard>,
    request: Request<Incoming>,
    address: SocketAddr,
    load: Rc<Load>,
) -> FullResponse {
    let id = RequestId::of(request.headers(), &shard.context.clock);
    let mut response = match shard.context.health.answer(&request) {
        Some(response) => response,
        None => route(&shard, request, address, load).await.unwrap_or_else(|problem| {
            shard.context.metrics.handshake_refused(problem.code);
            tracing::info!(
                request_id = %id,
                peer = %address,
                status = problem.status.as_u16(),
                code = problem.code,
                detail = %problem.detail,
                "request refused"
            );
            refuse(&problem)
        }),
    };
    id.set_on(response.headers_mut());
    response
}

async fn route(
    shard: &Rc<Shard>,
    request: Request<Incoming>,
    address: SocketAddr,
    load: Rc<Load>,
) -> Result<FullResponse, Problem> {
    let path = request.uri().path();
    if matches!(path, PATH_STREAM | PATH_RAW | PATH_TICKETS) && shard.context.is_leaving() {
        return Err(unavailable(
            "draining",
            "this feeder takes no sessions any more; connect again, to another",
        ));
    }
    match path {
        PATH_STREAM | PATH_RAW => open_session(shard, request, address, load).await,
        PATH_TICKETS => issue_ticket(shard, &request).await,
        path => Err(Problem::no_such_path(path)),
    }
}

async fn open_session(
    shard: &Rc<Shard>,
    mut request: Request<Incoming>,
    address: SocketAddr,
    load: Rc<Load>,
) -> Result<FullResponse, Problem> {
    let upgrade = Upgrade::of(&request)?;
    let grant = authenticate(shard, &credential(&request)?).await?;
    let context = &shard.context;
    if !shard.uplink.is_up_within(LINK_PATIENCE).await {
        return Err(unavailable("no_eater", "no eater can be reached now; come back when Retry-After says"));
    }
    let permit = context.sessions.clone().try_acquire_owned().map_err(|_| {
        let most = context.config.sessions_max;
        unavailable("too_many_sessions", format!("this feeder has its {most} sessions; come back later"))
    })?;
    let response = upgrade.accept();
    let peer = Peer { grant, mode: upgrade.mode, address };
    let upgraded = hyper::upgrade::on(&mut request);
    let timeout = context.config.request_timeout;
    let owner = shard.clone();
    shard.spawn(async move {
        let Ok(Ok(upgraded)) = tokio::time::timeout(timeout, upgraded).await else { return };
        match upgraded.downcast::<TokioIo<TcpStream>>() {
            Ok(parts) => session::serve(owner, peer, parts.io.into_inner(), parts.read_buf).await,
            // Plain sessions are many and small: they have no room for what TLS needs.
            Err(upgraded) => Box::pin(serve_tls(owner, peer, upgraded)).await,
        }
        drop((load, permit));
    });
    Ok(response)
}

async fn serve_tls(shard: Rc<Shard>, peer: Peer, upgraded: Upgraded) {
    let parts = upgraded.downcast::<TokioIo<TlsStream>>().expect("what is not TCP here is TLS");
    session::serve(shard, peer, parts.io.into_inner(), parts.read_buf).await;
}

async fn issue_ticket(shard: &Shard, request: &Request<Incoming>) -> Result<FullResponse, Problem> {
    if request.method() != Method::POST {
        let detail = format!("{PATH_TICKETS} answers POST, not {}", request.method());
        return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail));
    }
    let credential = credential(request)?;
    if let Credential::Query(_) = credential {
        let detail = "fetch a ticket with the token in the Authorization header";
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "token_missing", detail));
    }
    let grant = authenticate(shard, &credential).await?;
    let issued = shard.context.tickets.issue(grant, shard.context.clock.now());
    let ticket =
        issued.map_err(|_| unavailable("too_many_tickets", "too many unused tickets; come back later"))?;
    let seconds = tickets::LIFETIME.as_secs();
    let body = format!("{{\"ticket\":\"{ticket}\",\"expires_in\":{seconds}}}");
    let mut response = Response::new(Full::new(Bytes::from(body)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn authenticate(shard: &Shard, credential: &Credential) -> Result<DeviceGrant, Problem> {
    let unauthorized = |detail: String| Problem::new(StatusCode::UNAUTHORIZED, "token_invalid", detail);
    let (token, in_query) = match credential {
        Credential::Header(token) => (token, false),
        Credential::Query(ticket) if ticket.starts_with(tickets::PREFIX) => {
            let grant = shard.context.tickets.redeem(ticket, shard.context.clock.now());
            let detail = "the ticket is not known here, was used, or is older than a minute: fetch a new one";
            return grant.ok_or_else(|| unauthorized(detail.into()));
        }
        Credential::Query(token) => (token, true),
    };
    let check = shard.context.registry.authenticate_device(token);
    let grant = match tokio::time::timeout(AUTH_TIMEOUT, check).await {
        Ok(Ok(grant)) => grant,
        Ok(Err(AuthError::Registry(error))) => {
            // What is wrong with it, and where it is, is no stranger's business.
            match error {
                RegistryError::Unavailable { .. } => tracing::debug!(%error, "a token cannot be checked"),
                _ => tracing::error!(%error, "a token cannot be checked"),
            }
            let detail = "the registry does not answer now; come back when Retry-After says";
            return Err(unavailable("registry_unavailable", detail));
        }
        Ok(Err(error @ AuthError::Revoked)) => {
            return Err(Problem::new(StatusCode::FORBIDDEN, "token_revoked", error.to_string()));
        }
        Ok(Err(error)) => return Err(unauthorized(error.to_string())),
        Err(_) => return Err(unavailable("registry_unavailable", "the registry did not answer in time")),
    };
    if in_query && !grant.query_token {
        let detail = "this device may not pass its token in the query, where logs may keep it: use the \
                      Authorization header or a ticket";
        return Err(Problem::new(StatusCode::FORBIDDEN, "query_token_not_allowed", detail));
    }
    Ok(grant)
}
