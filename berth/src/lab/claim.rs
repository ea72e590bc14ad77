//! Keeps two labs from being one: whoever works in a directory holds it, and finds
//! nothing there of those before.

use std::fmt;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::{Duration, Instant};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use super::layout::Layout;
use super::sweep::{Swept, sweep_aside};

/// The right to a directory and to the names that go with it. It ends when it is
/// dropped, and with the process that holds it, however that ends.
#[derive(Debug)]
pub struct Claim {
    pub(super) layout: Layout,
    /// What a killed holder had left, and is gone now.
    pub swept: Swept,
    /// Listening sockets in the abstract namespace, which hold a name and nothing
    /// else: one per directory, one per id.
    _held: [UnixListener; 2],
}

impl Claim {
    /// Takes what the layout names, and removes what a killed holder left: all that
    /// runs there from now on is of this one. Needs root to find it all.
    ///
    /// # Errors
    ///
    /// When somebody else holds the directory, or the id.
    pub async fn on(layout: &Layout) -> Result<Self, Taken> {
        let dir = layout.dir.display();
        let held = [
            hold(&format!("berth-dir-{dir}"), &format!("in {dir}")).await?,
            hold(&format!("berth-lab-{}", layout.id), &format!("with the id {:?}", layout.id))
                .await?,
        ];
        let layout = layout.clone();
        Ok(Self { swept: sweep_aside(&layout).await, layout, _held: held })
    }
}

/// Somebody else was there first.
#[derive(Debug)]
pub struct Taken {
    what: String,
    /// Who, unless it has ended meanwhile.
    pub pid: Option<i32>,
}

impl fmt::Display for Taken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "a lab runs {} already", self.what)?;
        self.pid.map_or(Ok(()), |pid| write!(out, ", supervised by process {pid}"))
    }
}

impl std::error::Error for Taken {}

async fn hold(name: &str, what: &str) -> Result<UnixListener, Taken> {
    let taken = |pid| Taken { what: what.to_owned(), pid };
    let address = SocketAddr::from_abstract_name(name).map_err(|_| taken(None))?;
    let start = Instant::now();
    loop {
        match UnixListener::bind_addr(&address) {
            Ok(listener) => return Ok(listener),
            // Between fork and exec, a child holds copies of what was closed here.
            Err(_) if start.elapsed() < Duration::from_secs(1) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(_) => return Err(taken(holder(&address))),
        }
    }
}

/// The process that listens at an address.
fn holder(address: &SocketAddr) -> Option<i32> {
    let stream = UnixStream::connect_addr(address).ok()?;
    getsockopt(&stream, PeerCredentials).ok().map(|peer| peer.pid())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(id: &str, dir: &str) -> Layout {
        Layout { id: id.to_owned(), dir: dir.into() }
    }

    #[tokio::test]
    async fn a_directory_is_held_once_and_the_refusal_says_by_whom() {
        let first = Claim::on(&layout("claim-a", "/claimed")).await.unwrap();
        let refused = Claim::on(&layout("claim-b", "/claimed")).await.unwrap_err();
        assert_eq!(refused.pid, i32::try_from(std::process::id()).ok());
        assert!(refused.to_string().contains("in /claimed already"), "{refused}");
        let refused = Claim::on(&layout("claim-a", "/elsewhere")).await.unwrap_err();
        assert!(refused.to_string().contains("\"claim-a\""), "{refused}");
        drop(first);
        Claim::on(&layout("claim-a", "/claimed")).await.unwrap();
    }
}
