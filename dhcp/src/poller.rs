//! Waiting for frames on any number of sockets as one file descriptor.
//!
//! A second epoll instance under tokio's: the one task that serves all ports
//! learns which of them have something, at a cost that does not grow with
//! the ports that are silent.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Sockets by the token they were added with.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: AsyncFd<Instance>,
}

#[derive(Debug)]
struct Instance(Epoll);

/// Tokens taken at once, so that no flood keeps the task from its other work.
const BATCH: usize = 32;

impl Poller {
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = Instance(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?);
        // Deprecated because it takes types that might change their descriptor; this one owns
        // its own for life. The successor is unsafe, which this workspace forbids.
        #[allow(deprecated)]
        let epoll = AsyncFd::with_interest(epoll, Interest::READABLE)?;
        Ok(Self { epoll })
    }

    /// Waits for `socket` under `token` until it is removed or closed.
    pub(crate) fn add(&self, socket: impl AsFd, token: u64) -> io::Result<()> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, token);
        Ok(self.epoll.get_ref().0.add(socket, event)?)
    }

    /// Whether `socket`, which was added with this token, is waited for from now on; what has
    /// come in the meantime is there, as far as it has room.
    pub(crate) fn listen(&self, socket: impl AsFd, token: u64, listens: bool) -> io::Result<()> {
        let flags = if listens { EpollFlags::EPOLLIN } else { EpollFlags::empty() };
        let mut event = EpollEvent::new(flags, token);
        Ok(self.epoll.get_ref().0.modify(socket, &mut event)?)
    }

    /// The tokens of some of the sockets that have something; maybe none.
    ///
    /// Cancel safe: what is not taken is reported again.
    pub(crate) async fn ready(&self) -> io::Result<Vec<u64>> {
        let mut guard = self.epoll.readable().await?;
        let mut events = [EpollEvent::empty(); BATCH];
        let count = self.epoll.get_ref().0.wait(&mut events, EpollTimeout::ZERO)?;
        // The outer instance reports the inner one only when it changes: it has to be
        // asked until it has nothing left.
        if count == 0 {
            guard.clear_ready();
        }
        Ok(events[..count].iter().map(EpollEvent::data).collect())
    }
}

impl AsRawFd for Instance {
    fn as_raw_fd(&self) -> RawFd {
        self.0.0.as_raw_fd()
    }
}
