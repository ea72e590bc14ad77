//! `subresources.kubevirt.io`: what virtctl asks for that is no object. Start and stop, pause,
//! consoles; and the way of an uploaded disk to its claim (`uploads.rs`).
//!
//! ```text
//!  virtctl ─► Kubernetes API ─ TLS ─► path ─► machine ──► patches of the VM, a migration
//!             who, and may he?                 │ instance
//!                                              └─ checks ─► node ─ TLS ─► the VM's agent
//!                     WebSocket ◄── stream ─── bytes ───────────┘
//! ```
//!
//! The API knows us by an `APIService` and asks in the name of its users, once it has made sure
//! that they may: so nobody is listened to but the API, which proves who it is by a certificate
//! (`callers.rs`). What it says of a user is written to the log and decides nothing.
//!
//! Nothing is remembered between requests: what is decided on is read when it is asked for, and
//! what is written names the version that was read.

mod answer;
mod callers;
mod expand;
mod freeze;
mod instance;
mod machine;
mod node;
mod own;
mod path;
mod picture;
mod refusal;
mod registration;
mod stream;
mod uploads;
mod volumes;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use kube::Client;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use crate::webhook::ServiceName;
use crate::webhook::authority::{self, Identity};
use crate::webhook::places::Places;
use answer::Desk;
use callers::Callers;
use own::Own;
use registration::Way;
use uploads::Door;

/// Delay before something is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Handshakes at once: who does not get on with one gives way to others.
const HANDSHAKES: usize = 64;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the API may be silent before its next request.
const SILENCE: Duration = Duration::from_secs(300);

/// Flags of the group.
// clap names a group of flags after its type.
#[derive(Clone, Debug, clap::Args)]
pub struct SubresourceArgs {
    /// Serve subresources.kubevirt.io (virtctl's start, stop, console …) to the Kubernetes API at
    /// this address, such as 0.0.0.0:10663; it is told so.
    #[arg(long, value_name = "ADDRESS")]
    pub subresources_listen: Option<SocketAddr>,

    /// The Service, `namespace/name`, by whose port 443 the API reaches it; without,
    /// kube-system/berth-subresources is made, for the address listened at.
    #[arg(long, value_name = "SERVICE")]
    pub subresources_service: Option<ServiceName>,

    /// Take what `virtctl image-upload` sends, at this address, such as 0.0.0.0:10664; who sends
    /// it needs a token, which is given with the subresources. Where CDI is installed nobody is
    /// told of it.
    #[arg(long, value_name = "ADDRESS", requires = "subresources_listen")]
    pub uploads_listen: Option<SocketAddr>,

    /// Where clients reach that; without, `https://` and the address listened at.
    #[arg(long, value_name = "URL", requires = "uploads_listen")]
    pub uploads_url: Option<String>,
}

/// Listens, if it is asked for. `secret` has the authority that signs the certificate.
///
/// # Errors
/// When the address cannot be had, or nobody could find it.
pub async fn start(
    args: SubresourceArgs,
    secret: ServiceName,
    client: &Client,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<()> {
    let Some(listen) = args.subresources_listen else { return Ok(()) };
    let uploads = match args.uploads_listen {
        Some(listen) => Some(Door::open(listen, args.uploads_url).await?),
        None => None,
    };
    if listen.ip().is_unspecified() && args.subresources_service.is_none() {
        anyhow::bail!(
            "--subresources-listen {listen}: no API server finds it by this address: say --subresources-service, too"
        );
    }
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen for subresources on {listen}"))?;
    let address = listener.local_addr()?;
    let way = match args.subresources_service {
        Some(service) => Way { service, made_for: None },
        None => Way {
            service: ServiceName {
                namespace: "kube-system".to_owned(),
                name: "berth-subresources".to_owned(),
            },
            made_for: Some(address),
        },
    };
    let own = Arc::new(Own::new().context("cannot make a certificate")?);
    let client = client.clone();
    tasks.spawn(async move {
        let (identity, _) =
            authority::awaited(&client, &secret, &way.host(), listen.ip(), "subresources").await;
        info!(%address, "Serving subresources");
        let (tell, callers) = watch::channel(None);
        let authority = identity.authority.clone();
        let seal = uploads.is_some().then(|| identity.seal.clone());
        let desk = Arc::new(Desk { client: client.clone(), own: Arc::clone(&own), seal });
        let taking = {
            let (client, own, way, authority) =
                (client.clone(), Arc::clone(&own), way.clone(), authority.clone());
            async move {
                if let Some(door) = uploads {
                    tokio::join!(
                        registration::keep(client.clone(), way, authority, registration::TOKENS),
                        uploads::tell(client.clone(), door.url.clone()),
                        uploads::serve(door, secret, client, own),
                    );
                }
            }
        };
        tokio::join!(
            callers::keep(client.clone(), tell),
            own::keep(client.clone(), own),
            registration::keep(client, way, authority, registration::SUBRESOURCES),
            serve(listener, Arc::new(identity), callers, desk),
            taking,
        );
    });
    Ok(())
}

async fn serve(
    listener: TcpListener,
    identity: Arc<Identity>,
    callers: watch::Receiver<Option<Callers>>,
    desk: Arc<Desk>,
) {
    let places = Places::new(HANDSHAKES);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let place = places.take(PATIENCE).await;
                let (identity, callers) = (Arc::clone(&identity), callers.borrow().clone());
                let desk = Arc::clone(&desk);
                tokio::spawn(async move {
                    let known = tokio::select! {
                        known = greet(stream, &identity, callers) => known,
                        () = place.is_over() => return debug!("A handshake took too long"),
                    };
                    drop(place);
                    match known {
                        Ok(stream) => talk(stream, desk).await,
                        Err(error) => debug!(%error, "A caller was not let in"),
                    }
                });
            }
            Err(error) => {
                warn!(%error, "A connection could not be accepted");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

type Stream = tokio_rustls::server::TlsStream<TcpStream>;

/// The handshake with one who may call.
async fn greet(
    stream: TcpStream,
    identity: &Identity,
    callers: Option<Callers>,
) -> anyhow::Result<Stream> {
    let callers = callers.context("it is not known yet who may call")?;
    stream.set_nodelay(true)?;
    let acceptor = identity.acceptor(Some(callers.verifier()?))?;
    let stream = acceptor.accept(stream).await?;
    let shown = stream.get_ref().1.peer_certificates().and_then(|shown| shown.first());
    callers.admit(shown)?;
    Ok(stream)
}

async fn talk(stream: Stream, desk: Arc<Desk>) {
    let service = service_fn(|request| {
        let desk = Arc::clone(&desk);
        async move { Ok::<_, Infallible>(desk.answer(request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(SILENCE)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        debug!(%error, "A connection ended early");
    }
}
