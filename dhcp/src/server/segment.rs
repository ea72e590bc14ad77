//! One interface as the task serves it: its socket, and the guests behind it.
//!
//! Behind a tap is one guest; behind the interface of `berth dhcp` there may be
//! thousands, which share a socket and are told apart by their MAC addresses.

use std::collections::HashMap;
use std::io;

use net::MacAddr;

use crate::socket::{Links, TapSocket};

/// An interface on which guests are wanted, with a socket while it is there.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) ifname: String,
    pub(super) socket: Option<TapSocket>,
    /// The token of each guest's port; of two with one address the later one.
    pub(super) guests: HashMap<MacAddr, u64>,
}

/// Whether a look at the interfaces changed a segment's socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Attached {
    /// The socket is as it was, there or not.
    Same,
    /// The socket is a new one and must be waited for.
    Opened,
    /// The interface is gone, and the socket with it.
    Closed,
}

impl Segment {
    pub(super) fn new(ifname: &str) -> Self {
        Self { ifname: ifname.to_owned(), socket: None, guests: HashMap::new() }
    }

    /// Opens, keeps or closes the socket so that it is on the interface of this name.
    pub(super) fn attach(&mut self, links: &Links) -> io::Result<Attached> {
        let Some(link) = links.get(&self.ifname) else {
            let had_one = self.socket.take().is_some();
            return Ok(if had_one { Attached::Closed } else { Attached::Same });
        };
        if let Some(socket) = self.socket.as_mut().filter(|socket| socket.is_on(link)) {
            socket.make_room(self.guests.len());
            return Ok(Attached::Same);
        }
        self.socket = None;
        let mut socket = TapSocket::open(link)?;
        socket.make_room(self.guests.len());
        self.socket = Some(socket);
        Ok(Attached::Opened)
    }

    /// Whose port a frame came to, by its ethernet source.
    pub(super) fn sender(&self, frame: &[u8]) -> Option<u64> {
        let source = frame.get(6..12)?.first_chunk::<6>()?;
        self.guests.get(&MacAddr::new(*source)).copied()
    }
}
