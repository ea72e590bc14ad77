//! What a controller asks of this node at once: a guest to be paused, a console to be joined.
//!
//! ```text
//!  controller ─ TLS ─► greet: is it one? ─► answer ─► hypervisor: suspend, resume, reset …
//!                        │ reads              │
//!             ConfigMap of controllers        └─► lines ─► QEMU's sockets: serial, VNC
//! ```
//!
//! Each side knows the other by the digest that it has told in the API ([`crds::commands`]); who
//! is no controller is not heard. What a verb does to a guest is seen by the next list of domains,
//! as if somebody had done it with virsh, and told from there: nothing is remembered here.

mod answer;
mod lines;
mod picture;
mod said;
mod trust;
mod upload;

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use crds::commands::{Address, Endpoint, digest};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::host::Host;
use crate::imports::Uploads;
use answer::Desk;
use trust::Controllers;

/// Who has not said who it is in this time is not waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many may be saying so at once.
const GREETINGS: usize = 32;
/// How long a controller may be silent before its request.
const SILENCE: Duration = Duration::from_secs(30);
/// Delay before something is tried again.
const RETRY: Duration = Duration::from_millis(200);

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A place where controllers are heard, before anybody is.
pub struct Listener {
    bound: Bound,
    tls: TlsAcceptor,
    /// What is to be told of it.
    pub endpoint: Endpoint,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Listener").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Bound {
    async fn accept(&self) -> io::Result<Box<dyn Wire>> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Self::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
        }
    }
}

impl Listener {
    /// Listens at `address`, under a certificate made for it.
    ///
    /// # Errors
    /// The address cannot be had, or no controller could find it.
    pub async fn bind(address: &Address) -> anyhow::Result<Self> {
        let said = || format!("cannot listen for commands on {address}");
        let (bound, at) = match address {
            Address::Tcp(at) => {
                if at.ip().is_unspecified() {
                    anyhow::bail!(
                        "--commands-listen {at}: write the address of this node at which controllers reach it"
                    );
                }
                let listener = TcpListener::bind(at).await.with_context(said)?;
                let at = Address::Tcp(listener.local_addr()?);
                (Bound::Tcp(listener), at)
            }
            Address::Unix(path) => {
                // One that an agent before us left; whatever else is there stays.
                let is_socket = |found: std::fs::Metadata| found.file_type().is_socket();
                if std::fs::symlink_metadata(path).is_ok_and(is_socket) {
                    std::fs::remove_file(path).with_context(said)?;
                }
                (Bound::Unix(UnixListener::bind(path).with_context(said)?), address.clone())
            }
        };
        let (tls, sha256) = trust::identity().context("cannot make a certificate")?;
        Ok(Self { bound, tls, endpoint: Endpoint { address: at.to_string(), sha256 } })
    }

    /// Answers controllers until told to stop; what is being answered then is dropped.
    pub async fn serve(self, host: Host, uploads: Uploads, shutdown: CancellationToken) {
        let controllers = Arc::new(Controllers::new(host.client.clone()));
        let desk = Arc::new(Desk::new(host, uploads));
        let greetings = Arc::new(Semaphore::new(GREETINGS));
        let tls = self.tls;
        info!(address = self.endpoint.address, "Controllers are heard");
        loop {
            let room = Arc::clone(&greetings).acquire_owned();
            let Some(Ok(greeting)) = shutdown.run_until_cancelled(room).await else { return };
            let stream = match shutdown.run_until_cancelled(self.bound.accept()).await {
                None => return,
                Some(Ok(stream)) => stream,
                Some(Err(error)) => {
                    warn!(%error, "A connection could not be accepted");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            };
            let (tls, controllers, desk) =
                (tls.clone(), Arc::clone(&controllers), Arc::clone(&desk));
            let stop = shutdown.clone();
            tokio::spawn(async move {
                let known = timeout(PATIENCE, greet(stream, &tls, &controllers)).await;
                drop(greeting);
                match known {
                    Ok(Ok(stream)) => {
                        stop.run_until_cancelled(talk(stream, desk, stop.clone())).await;
                    }
                    Ok(Err(error)) => warn!(%error, "A caller was not heard"),
                    Err(_) => debug!("A caller did not say in time who it is"),
                }
            });
        }
    }
}

type Stream = TlsStream<Box<dyn Wire>>;

/// The handshake, with a controller.
async fn greet(
    stream: Box<dyn Wire>,
    tls: &TlsAcceptor,
    controllers: &Controllers,
) -> anyhow::Result<Stream> {
    let stream = tls.accept(stream).await?;
    let shown = stream.get_ref().1.peer_certificates().and_then(|shown| shown.first());
    let digest = digest(shown.context("no certificate was shown")?);
    anyhow::ensure!(controllers.know(&digest).await, "no controller is known by {digest}");
    Ok(stream)
}

async fn talk(stream: Stream, desk: Arc<Desk>, stop: CancellationToken) {
    let service = service_fn(|request| {
        let (desk, stop) = (Arc::clone(&desk), stop.clone());
        async move { Ok::<_, Infallible>(desk.answer(request, stop).await) }
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

#[cfg(test)]
mod tests;
