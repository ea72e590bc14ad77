//! The webhook by which a Kubernetes API asks before it stores: the same review as in
//! our own API, over TLS.
//!
//! ```text
//!  watches ─► Facts ◄── answer ◄── TLS ◄── kube-apiserver
//!                                   ▲            │ reads
//!                Secret: authority ─┴──► ValidatingWebhookConfiguration
//! ```
//!
//! It is a courtesy: who cannot reach it goes on without (`failurePolicy: Ignore`), and
//! what it lets pass becomes a condition. Nothing that comes in is trusted: a request
//! has a longest size and a longest time, and one that cannot be read is told so.

mod answer;
mod authority;
mod registration;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use kube::Client;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, warn};

use crate::admission::Facts;
pub use registration::{At, ServiceName};

/// The largest request: an object and the one before it, of which etcd stores no more
/// than 1.5 MiB each.
const LARGEST: usize = 4 << 20;
/// The most connections at once, each of which may hold one such request.
const CONNECTIONS: usize = 64;
/// How long a handshake or a request may take to come in.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection may be silent between requests.
const SILENCE: Duration = Duration::from_secs(90);
/// Delay before the API is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// Flags of the webhook.
// clap names a group of flags after its type.
#[derive(Clone, Debug, clap::Args)]
pub struct WebhookArgs {
    /// Answer a Kubernetes API that asks before it stores our kinds, at this address,
    /// such as 0.0.0.0:10661; it is told to ask.
    #[arg(long, value_name = "ADDRESS")]
    pub webhook_listen: Option<SocketAddr>,

    /// Where the API reaches it; without, `https://` and the address listened at.
    #[arg(long, value_name = "URL", conflicts_with = "webhook_service")]
    pub webhook_url: Option<String>,

    /// The Service, `namespace/name`, by whose port 443 the API reaches it.
    #[arg(long, value_name = "SERVICE")]
    pub webhook_service: Option<ServiceName>,

    /// The Secret, `namespace/name`, with the authority that signs its certificates;
    /// made where it is absent.
    #[arg(long, value_name = "SECRET", default_value = "kube-system/berth-webhook")]
    pub webhook_secret: ServiceName,
}

impl WebhookArgs {
    /// Where the API reaches what listens at `listen`.
    fn place(&self, listen: SocketAddr) -> At {
        match (&self.webhook_service, &self.webhook_url) {
            (Some(service), _) => At::Service(service.clone()),
            (None, Some(url)) => At::Url(url.clone()),
            (None, None) => At::Url(format!("https://{listen}/")),
        }
    }
}

/// Listens, if it is asked for; the facts to keep, then.
///
/// # Errors
/// When the address cannot be had or the API cannot be told of it.
pub async fn start(
    args: WebhookArgs,
    client: &Client,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<Option<Arc<Facts>>> {
    let Some(listen) = args.webhook_listen else { return Ok(None) };
    if listen.ip().is_unspecified() && args.webhook_service.is_none() && args.webhook_url.is_none()
    {
        anyhow::bail!(
            "--webhook-listen {listen}: no API server finds the webhook by this address: say --webhook-service or --webhook-url, too"
        );
    }
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen for the webhook on {listen}"))?;
    let address = listener.local_addr()?;
    let place = args.place(address);
    let host = place.host().context("--webhook-url: write https://host:port/path")?;
    let facts = Arc::new(Facts::default());
    let (client, kept) = (client.clone(), Arc::clone(&facts));
    tasks.spawn(async move {
        let identity = loop {
            match authority::identity(&client, &args.webhook_secret, &host, listen.ip()).await {
                Ok(identity) => break identity,
                Err(error) => {
                    let error = format!("{error:#}");
                    warn!(error, "The webhook has no certificate yet; trying again");
                }
            }
            tokio::time::sleep(RETRY).await;
        };
        info!(%address, host, "Webhook started");
        tokio::join!(
            serve(listener, identity.acceptor, kept),
            registration::keep(client, place, identity.authority),
        );
    });
    Ok(Some(facts))
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, facts: Arc<Facts>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let connection = connection(stream, tls.clone(), Arc::clone(&facts));
                tokio::spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "A connection could not be accepted");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, facts: Arc<Facts>) {
    stream.set_nodelay(true).ok();
    let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, tls.accept(stream)).await else {
        return debug!("A TLS handshake failed");
    };
    let service = service_fn(move |request| {
        let facts = Arc::clone(&facts);
        async move { Ok::<_, Infallible>(respond(&facts, request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(SILENCE)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        debug!(%error, "A connection ended early");
    }
}

async fn respond(facts: &Facts, request: Request<Incoming>) -> Response<Full<Bytes>> {
    if request.method() != Method::POST {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "reviews are asked for with POST");
    }
    let body = Limited::new(request.into_body(), LARGEST).collect();
    let body = match tokio::time::timeout(PATIENCE, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return plain(StatusCode::PAYLOAD_TOO_LARGE, "the request is too large"),
        Err(_) => return plain(StatusCode::REQUEST_TIMEOUT, "the request did not come in time"),
    };
    match std::panic::catch_unwind(AssertUnwindSafe(|| answer::answer(facts, &body))) {
        Ok(Ok(review)) => {
            let mut response = Response::new(Full::from(review));
            let json = http::HeaderValue::from_static("application/json");
            response.headers_mut().insert(http::header::CONTENT_TYPE, json);
            response
        }
        Ok(Err(error)) => plain(StatusCode::BAD_REQUEST, &error.to_string()),
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the object could not be reviewed"),
    }
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text.to_owned()));
    *response.status_mut() = status;
    response
}
