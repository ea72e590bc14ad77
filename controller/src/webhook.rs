//! The webhook by which a Kubernetes API asks before it stores: the same review as in
//! our own API, over TLS.
//!
//! ```text
//!  watches ─► Facts ◄── answer ◄── TLS ◄── kube-apiserver
//!                                   ▲            │ reads
//!                Secret: authority ─┴──► ValidatingWebhookConfiguration,
//!                                         MutatingWebhookConfiguration
//! ```
//!
//! Of a VM it is asked before, too, for what that is to have from its beginning
//! (`decide/farewell.rs`): so it costs no write of ours.
//!
//! It is a courtesy: who cannot reach it goes on without (`failurePolicy: Ignore`), and
//! what it lets pass becomes a condition. Nothing that comes in is trusted: a request
//! has a longest size and a longest time, all of them together have a longest size, and
//! one that cannot be read is told so. Nobody keeps out others by saying nothing.

mod answer;
pub(crate) mod authority;
mod body;
pub(crate) mod places;
mod registration;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
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
use crate::reserved::RangeArgs;
use body::Unread;
use places::{Place, Places};
pub use registration::{At, ServiceName};

/// The largest request: an object and the one before it, of which etcd stores no more
/// than 1.5 MiB each.
const LARGEST: usize = 4 << 20;
/// The longest head of a request, in bytes.
const LARGEST_HEAD: usize = 64 << 10;
/// What is not a test's.
const LIMITS: Limits = Limits {
    connections: 64,
    memory: 8 * LARGEST,
    patience: Duration::from_secs(10),
    silence: Duration::from_secs(90),
    lifetime: Duration::from_secs(600),
};
/// Delay before the API is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// How much is put up with.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Connections at once.
    connections: usize,
    /// Bytes of all requests that are there or come in, together; no less than the
    /// largest.
    memory: usize,
    /// How long a handshake with the head of the first request may take to come in, and
    /// how long a body.
    patience: Duration,
    /// How long a connection may be silent before its next request is there.
    silence: Duration,
    /// The age from which on a connection ends with its next answer.
    lifetime: Duration,
}

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

    /// The Secret, `namespace/name`, with the authority that signs its certificates and those of the subresources;
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
    ranges: &RangeArgs,
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
    let facts = Arc::new(Facts::beside(ranges.reserved()));
    let (client, kept) = (client.clone(), Arc::clone(&facts));
    tasks.spawn(async move {
        let secret = &args.webhook_secret;
        let (identity, acceptor) =
            authority::awaited(&client, secret, &host, listen.ip(), "the webhook").await;
        info!(%address, host, "Webhook started");
        tokio::join!(
            serve(listener, acceptor, kept, LIMITS),
            registration::keep(client, place, identity.authority),
        );
    });
    Ok(Some(facts))
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, facts: Arc<Facts>, limits: Limits) {
    let memory = Semaphore::new(limits.memory);
    let desk = Arc::new(Desk { tls, facts, memory, limits });
    let places = Places::new(limits.connections);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let place = places.take(limits.patience).await;
                tokio::spawn(Arc::clone(&desk).connection(stream, Arc::new(place)));
            }
            Err(error) => {
                warn!(%error, "A connection could not be accepted");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// What all connections share.
struct Desk {
    tls: TlsAcceptor,
    facts: Arc<Facts>,
    /// What requests may still take, in bytes.
    memory: Semaphore,
    limits: Limits,
}

impl Desk {
    async fn connection(self: Arc<Self>, stream: TcpStream, place: Arc<Place>) {
        stream.set_nodelay(true).ok();
        tokio::select! {
            () = self.talk(stream, &place) => {}
            () = place.is_over() => debug!("A connection was silent for too long, or gave way"),
        }
    }

    async fn talk(self: &Arc<Self>, stream: TcpStream, place: &Arc<Place>) {
        let Ok(stream) = self.tls.accept(stream).await else {
            return debug!("A TLS handshake failed");
        };
        let service = service_fn(|request| {
            let (desk, place) = (Arc::clone(self), Arc::clone(place));
            async move {
                let mut response = desk.respond(request, &place).await;
                if place.age() > desk.limits.lifetime {
                    let close = http::HeaderValue::from_static("close");
                    response.headers_mut().insert(http::header::CONNECTION, close);
                }
                place.may_ask(desk.limits.silence);
                Ok::<_, Infallible>(response)
            }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.silence)
            .max_buf_size(LARGEST_HEAD)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = served {
            debug!(%error, "A connection ended early");
        }
    }

    async fn respond(&self, request: Request<Incoming>, place: &Place) -> Response<Full<Bytes>> {
        if request.method() != Method::POST {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "reviews are asked for with POST");
        }
        let completes = request.uri().path().ends_with(registration::COMPLETE);
        // Who has said half of it is told that it took too long.
        place.may_ask(2 * self.limits.patience);
        let body = body::read(request.into_body(), LARGEST, &self.memory);
        let body = match tokio::time::timeout(self.limits.patience, body).await {
            Ok(Ok(body)) => body,
            Ok(Err(Unread::TooLong)) => {
                return plain(StatusCode::PAYLOAD_TOO_LARGE, "the request is too large");
            }
            Ok(Err(Unread::Broken)) => {
                return plain(StatusCode::BAD_REQUEST, "the request ended early");
            }
            Err(_) => {
                return plain(StatusCode::REQUEST_TIMEOUT, "the request did not come in time");
            }
        };
        place.is_answered();
        let answer = AssertUnwindSafe(|| match completes {
            true => answer::completion(&body.bytes),
            false => answer::answer(&self.facts, &body.bytes),
        });
        match std::panic::catch_unwind(answer) {
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
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text.to_owned()));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests;
