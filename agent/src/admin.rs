//! What a person or a test asks a running agent: `/metrics` and `/ports`.
//!
//! On a unix socket that only root reaches; `/metrics` also on an address, where
//! `--metrics-listen` gives one.

use std::fs::Permissions;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::ports::Ports;

/// Serves both on the socket until told to stop.
///
/// # Errors
/// The socket cannot be made.
pub async fn serve(
    socket: &Path,
    metrics: Metrics,
    ports: Ports,
    shutdown: CancellationToken,
) -> io::Result<()> {
    // One that an agent before us left; its process is gone, or it would hold the bindings.
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    // QEMU may pass through the directory.
    std::fs::set_permissions(socket, Permissions::from_mode(0o600))?;
    let ports = Router::new()
        .route("/ports", get(|State(ports): State<Ports>| async move { Json(ports.report()) }))
        .with_state(ports);
    let router = metrics_router(metrics).merge(ports);
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

/// Serves `/metrics` on an address until told to stop.
///
/// # Errors
/// The address is taken, or not ours.
pub async fn serve_metrics(
    listen: SocketAddr,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    let router = metrics_router(metrics);
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

fn metrics_router(metrics: Metrics) -> Router {
    Router::new().route("/metrics", get(text)).with_state(metrics)
}

async fn text(State(metrics): State<Metrics>) -> Response {
    match metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
