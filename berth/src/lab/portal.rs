//! A door from a node to the API: `127.0.0.1:PORT` inside the node's namespace
//! leads to `127.0.0.1:PORT` of the host, so that one kubeconfig serves both.
//!
//! The listening socket belongs to the namespace it was made in; the outgoing
//! ones to the host's. So only the making needs a thread that changes over.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::namespace;

/// An open door; closed by dropping it.
#[derive(Debug)]
pub(crate) struct Portal {
    task: JoinHandle<()>,
}

impl Portal {
    /// Opens the door in the namespace of that name.
    pub(crate) async fn open(namespace: &str, port: u16) -> Result<Self> {
        let name = namespace.to_owned();
        let listener = tokio::task::spawn_blocking(move || listen_inside(&name, port))
            .await
            .context("the thread that opens the portal has died")??;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let task = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((inner, _)) => drop(tokio::spawn(forward(inner, port))),
                    Err(error) => {
                        tracing::warn!(%error, "Portal cannot accept");
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    }
                }
            }
        });
        Ok(Self { task })
    }
}

impl Drop for Portal {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A thread of its own changes over and ends: no other code ever runs on it.
fn listen_inside(name: &str, port: u16) -> Result<TcpListener> {
    let handle = std::fs::File::open(namespace::path(name))?;
    let thread = std::thread::spawn(move || -> Result<TcpListener> {
        setns(handle, CloneFlags::CLONE_NEWNET).context("cannot enter the node's namespace")?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    thread
        .join()
        .map_err(|_| anyhow::anyhow!("the thread that enters the namespace has panicked"))?
}

async fn forward(mut inner: TcpStream, port: u16) {
    match TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
        Ok(mut outer) => {
            let _ = inner.set_nodelay(true);
            let _ = outer.set_nodelay(true);
            // Either end may vanish at any time, and the other then learns it.
            let _ = tokio::io::copy_bidirectional(&mut inner, &mut outer).await;
        }
        Err(error) => tracing::debug!(%error, "The API does not answer"),
    }
}
