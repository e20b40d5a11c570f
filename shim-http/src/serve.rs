//! Connections: accepted up to a number, read within a time, drained before the end.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use crate::{ShimLimits, ShimState, router};

/// Wait after a failed accept, milliseconds: what it lacks (descriptors, memory) others must first give back.
const ACCEPT_RETRY_MS: u64 = 50;

/// Serves HTTP/1.1 on `listener` until `shutdown` is ready; then accepts no more, lets open requests finish for at most
/// [`ShimLimits::drain_ms`], and returns.
pub async fn serve(listener: TcpListener, state: ShimState, shutdown: impl Future<Output = ()> + Send) {
    let limits = state.limits.clone();
    let service = router(state);
    let permits = Arc::new(Semaphore::new(limits.connections_max));
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener, &permits) => match accepted {
                Ok((stream, permit)) => {
                    connections.spawn(connection(stream, permit, service.clone(), limits.clone(), stopping.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept an HTTP connection");
                    tokio::time::sleep(Duration::from_millis(ACCEPT_RETRY_MS)).await;
                }
            },
            // Finished connections are collected as they end, so that the set holds open ones only.
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    let _ = stop.send(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(Duration::from_millis(limits.drain_ms), drained).await.is_err() {
        tracing::warn!(connections = connections.len(), drain_ms = limits.drain_ms, "HTTP requests were cut off at shutdown");
    }
}

/// The next connection, once there is room for it. Dropping it half-way loses nothing: tokio's accept is cancel-safe.
async fn accept(listener: &TcpListener, permits: &Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

async fn connection(
    stream: TcpStream,
    permit: OwnedSemaphorePermit,
    router: Router,
    limits: ShimLimits,
    mut stopping: watch::Receiver<bool>,
) {
    // Answers are small and whole: waiting to fill a segment would only delay them.
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(router.map_request(|request: hyper::Request<Incoming>| request.map(Body::new)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(limits.head_timeout_ms))
        .max_headers(limits.head_lines_max)
        .max_buf_size(limits.head_bytes_max.max(HEAD_BYTES_LEAST))
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        outcome = &mut connection => trace_end(outcome),
        () = stopped(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            trace_end(connection.await);
        }
    }
    drop(permit);
}

/// Ready when the server stops, or its end of the channel is gone.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// Below this hyper refuses to work, bytes.
const HEAD_BYTES_LEAST: usize = 8 << 10;

fn trace_end(outcome: hyper::Result<()>) {
    if let Err(error) = outcome {
        // Clients go away as they please; that is nobody's error here.
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}
