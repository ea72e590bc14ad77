//! Connections, authentication and the way of a request to its answer.
//!
//! ```text
//! TCP ─▶ TLS ─▶ HTTP/1.1 or HTTP/2 ─▶ token ─▶ path ─▶ health, version
//!                                                   ├─▶ discovery, OpenAPI
//!                                                   ├─▶ who else serves the group
//!                                                   └─▶ objects: read, write, watch
//! ```
//!
//! Everything but health and version needs the bearer token. There are no roles: whoever has the
//! token may do everything.

mod read;
mod reply;
mod request;
mod reviews;
mod write;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, info_span, warn};

pub(crate) use self::read::Rendering;
pub(crate) use self::reply::{Body, Reply};
pub(crate) use self::request::{Call, Shape, json as parse_json, yaml as parse_yaml};
use crate::aggregate::{self, FrontProxy};
use crate::credentials::Token;
use crate::path::ApiPath;
use crate::registry::{Served, Strategy};
use crate::status::ApiError;
use crate::store::Store;
use crate::{discovery, openapi};

/// A client that does not finish its TLS handshake in this time is dropped.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// An HTTP/2 peer that answers no ping for this long is taken for gone, and its watches with it.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Watches of one client share a connection; their number is the client's business.
const STREAMS: u32 = 100_000;

/// What every request may use.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) store: Store,
    pub(crate) served: Served,
    pub(crate) token: Token,
    /// By what it is known to those who serve groups of their own.
    pub(crate) front_proxy: FrontProxy,
    /// Cancelled when the server stops: watches end then.
    pub(crate) shutdown: CancellationToken,
}

/// Accepts connections until shutdown; each lives in a task of `connections`.
pub(crate) async fn serve(
    server: Arc<Server>,
    listener: TcpListener,
    tls: TlsAcceptor,
    connections: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = server.shutdown.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = connection(server.clone(), stream, tls.clone());
                connections.spawn(connection.instrument(info_span!("connection", %peer)));
            }
            Err(error) => {
                // Out of file descriptors, most likely; the next second may be better.
                warn!(%error, "A connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(server: Arc<Server>, stream: TcpStream, tls: TlsAcceptor) {
    // Small answers and single events must not wait for more.
    stream.set_nodelay(true).ok();
    let stream = match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return debug!(%error, "TLS handshake failed"),
        Err(_) => return debug!("TLS handshake timed out"),
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .max_concurrent_streams(STREAMS);
    let shutdown = server.shutdown.clone();
    let service = service_fn(move |request| {
        let server = server.clone();
        async move { Ok::<_, Infallible>(answer(&server, request).await) }
    });
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        debug!(%error, "Connection ended early");
    }
}

async fn answer(server: &Arc<Server>, request: Request<Incoming>) -> Response<Body> {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let response = match route(server, request).await {
        Ok(reply) => reply.into_response(),
        Err(error) => Reply::refusal(&error).into_response(),
    };
    debug!(%method, path, status = response.status().as_u16(), "Answered");
    response
}

async fn route(server: &Arc<Server>, request: Request<Incoming>) -> Result<Reply, ApiError> {
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/healthz" | "/livez" | "/readyz" => return Ok(Reply::text(StatusCode::OK, "ok")),
        "/version" => return Ok(Reply::json(&version())),
        _ => {}
    }
    if !server.token.admits(request.headers()) {
        return Err(ApiError::unauthorized());
    }
    let registry = server.served.now();
    if let Some(backend) = aggregate::backend(&server.store, &registry, &path) {
        return aggregate::forward(server, backend?, request).await;
    }
    let call = Call::read(request).await?;
    let is_read = matches!(call.method, Method::GET | Method::HEAD);
    if let Some(rest) = path.strip_prefix("/openapi/v3") {
        return openapi::answer(server, &registry, rest.trim_matches('/'), &call)
            .ok_or_else(ApiError::no_such_path);
    }
    match ApiPath::parse(&path).ok_or_else(ApiError::no_such_path)? {
        ApiPath::Resource(path) => {
            let resource = registry.find(&path).ok_or_else(ApiError::no_such_path)?.clone();
            if resource.strategy == Strategy::Review {
                reviews::answer(&resource, &call)
            } else if is_read {
                read::answer(server, resource, path, &call).await
            } else {
                write::answer(server, resource, path, call).await
            }
        }
        _ if !is_read => Err(ApiError::method_not_allowed()),
        path => {
            let foreign = aggregate::groups(&server.store, &registry);
            let answer = discovery::answer(&registry, &foreign, &path, &call);
            answer.ok_or_else(ApiError::no_such_path)
        }
    }
}

/// The version of Kubernetes whose API this is; clients derive from it what they may ask for.
fn version() -> serde_json::Value {
    json!({
        "major": "1",
        "minor": "33",
        "gitVersion": concat!("v1.33.0+berth.", env!("CARGO_PKG_VERSION")),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "rustc",
        "platform": "linux/amd64",
    })
}
