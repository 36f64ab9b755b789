//! Serves a router on a listener, with a bound on how long anything may take.
//!
//! Plain HTTP/1.1: TLS ends in front. Expected flow: one call of [`serve`] per listener, until its token is cancelled.
//!
//! Guarantees: a connection that sends no complete request header in time is closed, also between requests;
//! connections share nothing, so slow ones hold no other up; after the token is cancelled nothing is accepted, and
//! what is in flight may finish within the grace.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The pause after a connection could not be accepted, as when all file descriptors are in use.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct ServeLimits {
    /// Until a request's header must be complete, counted from the connection's start or the last answer's end.
    pub header: Duration,
    /// For requests in flight, once serving is to end.
    pub grace: Duration,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self { header: Duration::from_secs(10), grace: Duration::from_secs(20) }
    }
}

/// Serves until `stop` is cancelled and what was in flight has finished, or the grace is over.
pub async fn serve(listener: TcpListener, router: Router, limits: ServeLimits, stop: CancellationToken) {
    let connections = TaskTracker::new();
    let kill = CancellationToken::new();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(connection(stream, router.clone(), limits, stop.clone(), kill.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "connection not accepted");
                let _stopped = stop.run_until_cancelled(tokio::time::sleep(ACCEPT_PAUSE)).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(limits.grace, connections.wait()).await.is_err() {
        tracing::warn!(left = connections.len(), "requests in flight cut off at the end of the grace");
        kill.cancel();
        connections.wait().await;
    }
}

fn connection(
    stream: TcpStream,
    router: Router,
    limits: ServeLimits,
    stop: CancellationToken,
    kill: CancellationToken,
) -> impl Future<Output = ()> + Send {
    // The answers are small and each is written at once; a failure to say so costs a few milliseconds.
    let _slower = stream.set_nodelay(true);
    async move {
        let service = TowerToHyperService::new(router);
        let serving = http1::Builder::new()
            // Without a timer hyper's time-outs are off or panic.
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header)
            .serve_connection(TokioIo::new(stream), service);
        let mut serving = pin!(serving);
        let done = tokio::select! {
            ended = serving.as_mut() => Some(ended),
            () = stop.cancelled() => None,
        };
        let ended = match done {
            Some(ended) => ended,
            None => {
                serving.as_mut().graceful_shutdown();
                kill.run_until_cancelled(serving).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection ended");
        }
    }
}
