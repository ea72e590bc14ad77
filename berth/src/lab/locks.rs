//! Keeps two labs from being one.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::layout::Layout;

/// One lab per id, one per directory. Abstract sockets are gone with the process
/// that made them, however it ends.
pub(crate) async fn locks(layout: &Layout) -> Result<[UnixListener; 2]> {
    Ok([
        lock(&format!("berth-lab-{}", layout.id), layout).await?,
        lock(&format!("berth-dir-{}", layout.dir.display()), layout).await?,
    ])
}

async fn lock(name: &str, layout: &Layout) -> Result<UnixListener> {
    let address = SocketAddr::from_abstract_name(name)?;
    let start = Instant::now();
    loop {
        match UnixListener::bind_addr(&address) {
            Ok(listener) => return Ok(listener),
            // Between fork and exec, a child holds copies of what was closed here.
            Err(_) if start.elapsed() < Duration::from_secs(1) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => {
                return Err(error).with_context(|| {
                    let dir = layout.dir.display();
                    format!("another lab runs with the id {:?} or in {dir}", layout.id)
                });
            }
        }
    }
}
