//! A relay between client and server that can fall silent or be cut.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

/// Passes bytes between a socket of its own and the server's.
pub struct Relay {
    dir: tempfile::TempDir,
    cuts: watch::Sender<u64>,
    deaf: Arc<AtomicBool>,
    received: watch::Sender<u64>,
    connections: watch::Sender<u64>,
}

impl Relay {
    pub fn to(server: PathBuf) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("relay.sock")).unwrap();
        let (cuts, cut) = watch::channel(0);
        let deaf = Arc::new(AtomicBool::new(false));
        let (received, connections) = (watch::Sender::new(0), watch::Sender::new(0));
        let (silent, count, made) = (Arc::clone(&deaf), received.clone(), connections.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                made.send_modify(|made| *made += 1);
                let Ok(server) = UnixStream::connect(&server).await else { continue };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let (silent, count) = (Arc::clone(&silent), count.clone());
                let never = Arc::new(AtomicBool::new(false));
                tokio::spawn(copy(
                    from_client,
                    to_server,
                    never,
                    watch::Sender::new(0),
                    cut.clone(),
                ));
                tokio::spawn(copy(from_server, to_client, silent, count, cut.clone()));
            }
        });
        Self { dir, cuts, deaf, received, connections }
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("relay.sock")
    }

    /// Ends every connection there is.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// From now on what the server says is lost, until `hear`.
    pub fn lose_answers(&self) {
        self.deaf.store(true, Ordering::SeqCst);
    }

    pub fn hear(&self) {
        self.deaf.store(false, Ordering::SeqCst);
    }

    /// How many bytes of the server were passed on.
    pub fn received(&self) -> u64 {
        *self.received.borrow()
    }

    /// Waits until so many bytes of the server were passed on.
    pub async fn has_received(&self, bytes: u64) {
        let mut received = self.received.subscribe();
        received.wait_for(|received| *received >= bytes).await.unwrap();
    }

    /// How many connections were made.
    pub fn connections(&self) -> u64 {
        *self.connections.borrow()
    }
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    deaf: Arc<AtomicBool>,
    count: watch::Sender<u64>,
    mut cut: watch::Receiver<u64>,
) {
    cut.mark_unchanged();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = tokio::select! {
            _ = cut.changed() => return,
            read = from.read(&mut buffer) => read.unwrap_or(0),
        };
        if read == 0 {
            return;
        }
        if !deaf.load(Ordering::SeqCst) {
            count.send_modify(|count| *count += read as u64);
            if to.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    }
}
