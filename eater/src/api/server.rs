//! The listener and its connections.

use std::io;
use std::sync::Arc;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use trough_runtime::accept::accept_loop;
use trough_runtime::shutdown::Shutdown;
use trough_runtime::tls::ServerTls;
use trough_runtime::tls::accept::accept;

use super::routes::router;
use super::stall::StallGuard;
use super::state::{Api, ApiLimits, ApiState};

/// Largest request head, in bytes. A query with the most channels of the longest names has less than half.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Serves the API, over TLS if there is some, until the drain is over: `shutdown.draining` closes idle connections and lets answers end,
/// those that still go on after [`ApiLimits::drain`] are cut, and `shutdown.killed` cuts all. Connections are
/// tracked in `shutdown.tasks`.
///
/// Cancel-safe: dropping the future closes the listener; open connections go on.
///
/// # Errors
/// A listener that has no address any more; nothing is served then.
pub async fn serve(
    listener: TcpListener,
    tls: Option<ServerTls>,
    state: ApiState,
    limits: ApiLimits,
    shutdown: Shutdown,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    let api = Arc::new(Api::new(state, limits, shutdown.clone()));
    shutdown.drain.holds("live_streams", &api.metrics.live_streams);
    let router = router(api.clone());
    let places = Arc::new(Semaphore::new(api.limits.connections_max));
    api.metrics.connections_max.set(i64::try_from(api.limits.connections_max).unwrap_or(i64::MAX));
    tracing::info!(%address, "the HTTP API listens");
    accept_loop(listener, &shutdown, api.limits.linger, |stream, peer| {
        let Ok(place) = places.clone().try_acquire_owned() else {
            api.metrics.connections_refused.inc();
            tracing::debug!(%peer, limit = api.limits.connections_max, "too many connections, closing this one");
            return;
        };
        let (api, router, stop, tls) = (api.clone(), router.clone(), shutdown.clone(), tls.clone());
        shutdown.tasks.spawn(async move {
            api.metrics.connections.inc();
            match tls {
                None => connection(stream, router, &api.limits, &stop).await,
                Some(tls) => match accept(&tls, stream, api.limits.head_timeout).await {
                    Ok(stream) => connection(stream, router, &api.limits, &stop).await,
                    Err(error) => tracing::debug!(%error, %peer, "no TLS, connection closed"),
                },
            }
            api.metrics.connections.dec();
            drop(place);
        });
    })
    .await;
    Ok(())
}

async fn connection<S>(stream: S, router: Router, limits: &ApiLimits, shutdown: &Shutdown)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let stream = TokioIo::new(StallGuard::new(stream, limits.write_timeout));
    // A connection that comes during the drain, because a balancer has not noticed yet, may ask once.
    let is_late = shutdown.is_draining();
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .keep_alive(!is_late)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(stream, TowerToHyperService::new(router));
    tokio::pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = shutdown.draining.cancelled() => {
            if !is_late {
                // An idle connection ends at once, a busy one with its answer.
                served.as_mut().graceful_shutdown();
            }
            tokio::select! {
                ended = served.as_mut() => ended,
                () = tokio::time::sleep(limits.drain) => return,
                () = shutdown.killed.cancelled() => return,
            }
        }
    };
    if let Err(error) = ended {
        // The request's own line says what it was; this one says what happened to the connection.
        tracing::debug!(%error, "a connection ended early");
    }
}
