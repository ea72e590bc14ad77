//! A disk on its way to a claim, where CDI is not installed: what clients know as its upload
//! proxy, found by the object `CDIConfig`.
//!
//! ```text
//!  virtctl ─ a token for claim a ─► Kubernetes API ─► answer ── sealed with what all
//!     │                             may he make one?     │      controllers share
//!     └─ the disk, with the token ─► here ─ TLS ─► the agent that fills claim a
//! ```
//!
//! Nobody proves who he is here but by the token, which names one claim and is good for
//! minutes; whoever has none is answered and not listened to. What comes is passed on as it
//! comes: nothing of it is kept here, and what it is its agent finds out.

mod claim;
pub(super) mod token;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use crds::cdi::config::CONFIG;
use crds::cdi::{Importer, ImporterConfig, ImporterConfigSpec};
use crds::commands::{UPLOAD, UPLOAD_EARLY, claim_path};
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::Client;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, warn};

use super::own::Own;
use super::{RETRY, node};
use crate::webhook::places::{Place, Places};
use crate::webhook::{At, ServiceName, authority};
use claim::State;
use token::Token;

/// Connections at once: who is silent gives way to others.
const CONNECTIONS: usize = 128;
/// How long a handshake with the head of a request may take, and how long one may be silent
/// before the next.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a claim is waited for that is not ready yet: its agent may have been started anew.
const READY: Duration = Duration::from_secs(15);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(500);
/// How long one upload may take (as CDI's proxy has it).
const LIMIT: Duration = Duration::from_secs(24 * 3600);
/// How long the rest of a request is read and thrown away, so that who sends it comes to read
/// the answer.
const LINGER: Duration = Duration::from_secs(10);
/// What is told is told again in case somebody deleted it.
const AGAIN: Duration = Duration::from_secs(300);
/// Before it is tried again where the definition is not there.
const ABSENT: Duration = Duration::from_secs(10);

/// Where uploads come in, before anybody is listened to.
pub(super) struct Door {
    listener: TcpListener,
    address: SocketAddr,
    host: String,
    /// What clients are told.
    pub(super) url: String,
}

impl Door {
    /// # Errors
    /// The address cannot be had, or no client could find it.
    pub(super) async fn open(listen: SocketAddr, url: Option<String>) -> anyhow::Result<Self> {
        if listen.ip().is_unspecified() && url.is_none() {
            anyhow::bail!(
                "--uploads-listen {listen}: no client finds it by this address: say --uploads-url, too"
            );
        }
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("cannot listen for uploads on {listen}"))?;
        let address = listener.local_addr()?;
        let url = url.unwrap_or_else(|| format!("https://{address}"));
        let host = At::Url(url.clone()).host();
        let host = host.context("--uploads-url: write https://host:port")?;
        Ok(Self { listener, address, host, url })
    }
}

/// Whether CDI is installed: then tokens and uploads are its own.
///
/// # Errors
/// The API does not say.
pub(super) async fn is_cdi_there(client: &Client) -> Result<bool, kube::Error> {
    let api: Api<Importer> = Api::all(client.clone());
    match api.list(&ListParams::default().limit(1)).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        listed => listed.map(|_| true),
    }
}

/// Tells clients where to send what they upload, for as long as the controller runs.
pub(super) async fn tell(client: Client, url: String) {
    let mut said = String::new();
    loop {
        let rest = match tell_once(&client, &url).await {
            Ok(()) => AGAIN,
            Err(kube::Error::Api(status)) if status.code == 404 => ABSENT,
            Err(error) => {
                let error = error.to_string();
                if error != said {
                    warn!(error, "Clients cannot be told where to upload; trying again");
                    said = error;
                }
                RETRY
            }
        };
        sleep(rest).await;
    }
}

async fn tell_once(client: &Client, url: &str) -> Result<(), kube::Error> {
    if is_cdi_there(client).await? {
        return Ok(());
    }
    let api: Api<ImporterConfig> = Api::all(client.clone());
    let there = match api.get_opt(CONFIG).await? {
        Some(there) => there,
        None => {
            let made = ImporterConfig::new(CONFIG, ImporterConfigSpec::default());
            api.create(&PostParams::default(), &made).await?
        }
    };
    if there.status.unwrap_or_default().upload_proxy_url.as_deref() == Some(url) {
        return Ok(());
    }
    let status = Patch::Merge(json!({ "status": { "uploadProxyURL": url } }));
    api.patch_status(CONFIG, &PatchParams::default(), &status).await?;
    info!(url, "Clients are told where to upload");
    Ok(())
}

/// Takes uploads for as long as the controller runs.
pub(super) async fn serve(door: Door, secret: ServiceName, client: Client, own: Arc<Own>) {
    let Door { listener, address, host, url: _ } = door;
    let (identity, acceptor) =
        authority::awaited(&client, &secret, &host, address.ip(), "uploads").await;
    info!(%address, host, "Taking uploads");
    let desk = Arc::new(Desk { client, own, seal: identity.seal, acceptor });
    let places = Places::new(CONNECTIONS);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let place = Arc::new(places.take(PATIENCE).await);
                tokio::spawn(Arc::clone(&desk).connection(stream, place));
            }
            Err(error) => {
                warn!(%error, "A connection could not be accepted");
                sleep(RETRY).await;
            }
        }
    }
}

/// Why it is not taken, for people.
#[derive(Debug)]
struct No(StatusCode, String);

impl No {
    fn unavailable(why: impl Into<String>) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, why.into())
    }
}

/// Where a claim's disk is taken.
#[derive(Debug, Eq, PartialEq)]
struct Target {
    node: String,
    uid: String,
}

/// What all connections share.
struct Desk {
    client: Client,
    own: Arc<Own>,
    seal: ring::hmac::Key,
    acceptor: TlsAcceptor,
}

impl Desk {
    async fn connection(self: Arc<Self>, stream: TcpStream, place: Arc<Place>) {
        tokio::select! {
            () = self.talk(stream, &place) => {}
            () = place.is_over() => debug!("An upload's connection was silent for too long"),
        }
    }

    async fn talk(self: &Arc<Self>, stream: TcpStream, place: &Arc<Place>) {
        let Ok(stream) = self.acceptor.accept(stream).await else {
            return debug!("A TLS handshake failed");
        };
        let service = service_fn(|request| {
            let (desk, place) = (Arc::clone(self), Arc::clone(place));
            async move {
                let answer = desk.respond(request, &place).await;
                place.may_ask(PATIENCE);
                Ok::<_, Infallible>(answer)
            }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = served {
            debug!(%error, "An upload's connection ended early");
        }
    }

    async fn respond(&self, request: Request<Incoming>, place: &Place) -> Response<Full<Bytes>> {
        let verb = match request.uri().path() {
            "/healthz" => return plain(StatusCode::OK, "OK"),
            "/v1beta1/upload" => UPLOAD,
            "/v1beta1/upload-async" => UPLOAD_EARLY,
            _ => return plain(StatusCode::NOT_FOUND, "disks are sent to /v1beta1/upload"),
        };
        if !matches!(*request.method(), Method::HEAD | Method::POST | Method::PUT) {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "disks are sent with POST");
        }
        let token = match bearer(request.headers()) {
            Some(text) => Token::read(&self.seal, text, Timestamp::now()),
            None => {
                let said = "send a token: Authorization: Bearer …, of an UploadTokenRequest";
                return plain(StatusCode::BAD_REQUEST, said);
            }
        };
        // It has its time from here on: who has a token may send a large disk.
        place.is_answered();
        let taken = match token {
            Some(token) => timeout(LIMIT, self.take(request, &token, verb)).await,
            None => {
                let _ = timeout(LINGER, drain(request.into_body())).await;
                let said = "the token is not one of ours, or is over: ask for another";
                Ok(Err(No(StatusCode::UNAUTHORIZED, said.to_owned())))
            }
        };
        match taken {
            Ok(Ok(())) => plain(StatusCode::OK, ""),
            Ok(Err(No(status, why))) => {
                info!(%status, why, "An upload was not taken");
                plain(status, &why)
            }
            Err(_) => plain(StatusCode::REQUEST_TIMEOUT, "it did not come within 24 h"),
        }
    }

    /// Passes it on to where it is waited for.
    async fn take(&self, request: Request<Incoming>, token: &Token, verb: &str) -> Result<(), No> {
        let is_question = request.method() == Method::HEAD;
        let target = match self.ready(token).await {
            Ok(target) => target,
            Err(no) => {
                let _ = timeout(LINGER, drain(request.into_body())).await;
                return Err(no);
            }
        };
        if is_question {
            return Ok(());
        }
        let Token { namespace, name } = token;
        info!(namespace, claim = name, node = target.node, "A disk is sent");
        let sent = Request::put(claim_path(namespace, name, &target.uid, verb));
        let sent = sent.body(request.into_body());
        let sent = sent.map_err(|error| No(StatusCode::BAD_REQUEST, error.to_string()))?;
        let answer = node::call(&self.client, &self.own, &target.node, sent).await;
        let answer = answer.map_err(|error| {
            let why = format!("the agent of node {} broke off: {error:#}", target.node);
            No(StatusCode::BAD_GATEWAY, why)
        })?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(No(status, node::said(answer).await)),
        }
    }

    /// Where the claim waits for its disk, once it does.
    async fn ready(&self, token: &Token) -> Result<Target, No> {
        let deadline = Instant::now() + READY;
        loop {
            let why = match self.look(token).await? {
                Ok(target) => return Ok(target),
                Err(why) => why,
            };
            if Instant::now() >= deadline {
                return Err(No::unavailable(why));
            }
            sleep(LOOK).await;
        }
    }

    /// The same now, or why it does not wait yet.
    async fn look(&self, token: &Token) -> Result<Result<Target, String>, No> {
        let Token { namespace, name } = token;
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), namespace);
        let found = match api.get_opt(name).await {
            Ok(found) => found,
            Err(error) => return Ok(Err(format!("PVC {name} cannot be read: {error}"))),
        };
        let target = match claim::state(name, found.as_ref()) {
            State::Never(why) => return Err(No::unavailable(why)),
            State::NotYet(why) => return Ok(Err(why)),
            State::Waits(target) => target,
        };
        let question = Request::get(claim_path(namespace, name, &target.uid, UPLOAD));
        let question = question.body(Empty::<Bytes>::new());
        let question = question.map_err(|error| No(StatusCode::BAD_REQUEST, error.to_string()))?;
        let answer = node::call(&self.client, &self.own, &target.node, question).await;
        Ok(match answer {
            Ok(answer) if answer.status().is_success() => Ok(target),
            Ok(answer) => Err(node::said(answer).await),
            Err(error) => {
                Err(format!("the agent of node {} cannot be asked: {error:#}", target.node))
            }
        })
    }
}

/// The token that a request has, if it has one.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = text.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

async fn drain(mut body: Incoming) {
    while let Some(Ok(_)) = body.frame().await {}
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text.to_owned()));
    *response.status_mut() = status;
    let kind = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_bearers() {
        let of = |text: &'static str| {
            let value = http::HeaderValue::from_static(text);
            bearer(&HeaderMap::from_iter([(AUTHORIZATION, value)])).map(str::to_owned)
        };
        assert_eq!(of("Bearer a.b.c").as_deref(), Some("a.b.c"));
        assert_eq!(of("bearer  a").as_deref(), Some("a"));
        for none in ["Basic a", "Bearer ", "Bearer", ""] {
            assert_eq!(of(none), None, "{none:?}");
        }
    }

    #[tokio::test]
    async fn a_door_that_no_client_finds_is_none() {
        let any = "0.0.0.0:0".parse().unwrap();
        let told = Door::open(any, None).await.err().unwrap().to_string();
        assert!(told.contains("--uploads-url"), "{told}");
        let plain = Door::open(any, Some("http://a".to_owned())).await;
        assert!(plain.err().unwrap().to_string().contains("https://host:port"));
        let door = Door::open("127.0.0.1:0".parse().unwrap(), None).await.unwrap();
        assert_eq!(
            (door.host.as_str(), door.url),
            ("127.0.0.1", format!("https://{}", door.address))
        );
    }
}
