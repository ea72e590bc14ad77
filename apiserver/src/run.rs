//! Builds the parts, joins them and takes them down.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::binder;
use crate::credentials::{self, Token};
use crate::garbage;
use crate::http::{self, Server};
use crate::registry::{Served, definitions};
use crate::store::{DiskError, Event, State, Store};
use crate::{Admission, AdmitAll, Args, aggregate, tls};

/// How long connections may take to finish after shutdown.
const GRACE: Duration = Duration::from_secs(5);

/// Serves until `shutdown` is cancelled.
///
/// By the time the kubeconfig in the data directory is (re)written, the address is bound; the
/// kubeconfig names the port that was taken.
///
/// # Errors
/// The data directory cannot be used (for one, because another server uses it), the address cannot
/// be bound, or later the disk refuses a write.
pub async fn run(args: Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    run_with(args, Arc::new(AdmitAll), shutdown).await
}

/// The same, storing only what `admission` does not refuse.
///
/// # Errors
/// As [`run`].
pub async fn run_with(
    args: Args,
    admission: Arc<dyn Admission>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let Args { data_dir, listen } = args;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&data_dir)
        .with_context(|| format!("creating {}", data_dir.display()))?;
    if !listen.ip().is_loopback() {
        warn!(%listen, "Serving beyond this host; the token is the only protection");
    }
    let served = Served::new();
    let (store, writer) = open_store(&data_dir.join("store"), &served, admission).await?;
    let token = credentials::token(&data_dir)?;
    let identity = tls::identity(&data_dir, listen.ip())?;
    let listener =
        TcpListener::bind(listen).await.with_context(|| format!("listening on {listen}"))?;
    let address = listener.local_addr()?;
    garbage::ensure_namespaces(&store, &served).await?;
    aggregate::publish(&store, &served, &identity.authority).await?;
    credentials::write_kubeconfig(&data_dir, address, &identity.authority, &token)?;
    info!(%address, "Serving");

    let server = Arc::new(Server {
        store: store.clone(),
        served,
        token: Token::new(&token),
        front_proxy: identity.front_proxy,
        shutdown: shutdown.child_token(),
    });
    let connections = TaskTracker::new();
    let tasks = TaskTracker::new();
    tasks.spawn(garbage::collect(server.clone()));
    tasks.spawn(garbage::expire_events(server.clone()));
    tasks.spawn(binder::bind(server.clone()));
    tasks.spawn(http::serve(server.clone(), listener, identity.acceptor, connections.clone()));

    let disk_failed = tokio::select! {
        () = shutdown.cancelled() => false,
        () = store.stopped() => true,
    };
    server.shutdown.cancel();
    tasks.close();
    connections.close();
    let finished = async { tokio::join!(tasks.wait(), connections.wait()) };
    if tokio::time::timeout(GRACE, finished).await.is_err() {
        warn!(connections = connections.len(), "Connections did not end in time");
    }
    drop((server, store));
    // The writer ends once the last handle is gone, which a stuck connection may still hold.
    let joined = tokio::task::spawn_blocking(move || writer.join());
    tokio::time::timeout(GRACE, joined).await.ok();
    if disk_failed {
        bail!("the store's disk failed; the log has the reason");
    }
    info!("Stopped");
    Ok(())
}

/// Opens the store so that every change of a definition changes what is served, before the change
/// is answered. A predecessor that is just stopping is waited for.
async fn open_store(
    dir: &std::path::Path,
    served: &Served,
    admission: Arc<dyn Admission>,
) -> anyhow::Result<(Store, std::thread::JoinHandle<()>)> {
    let observer = || {
        let (observed, collection) = (served.clone(), definitions());
        move |events: &[Arc<Event>], state: &State| {
            if events.iter().any(|event| event.key.collection == collection) {
                observed.reload(&state.list(&collection, None, None));
            }
        }
    };
    let give_up = Instant::now() + GRACE;
    let (store, writer) = loop {
        match Store::open(dir, Box::new(observer()), admission.clone()) {
            Err(DiskError::InUse(_)) if Instant::now() < give_up => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            opened => break opened.with_context(|| format!("opening {}", dir.display()))?,
        }
    };
    served.reload(&store.list(&definitions(), None, None).0);
    Ok((store, writer))
}
