//! A way to a guest's own ports from the node that it runs on, whatever network it is in.
//!
//! ```text
//!   port-forward, probes ── bytes ──► stack (TCP) ── wire ── tap ── guest
//! ```
//!
//! A VPC is a world of its own: the node has no route into it, two VPCs may have the same
//! addresses, and the node's own way out (`egress`) leads to one of them at most. But each
//! guest has its tap here, on which its DHCP is answered already. So a connection is spoken
//! on the tap by a small TCP of our own, one for each connection: it goes to the guest with
//! this MAC and to nobody else, by no route of the node and past no rule of a network.
//!
//! Whereto is only what we gave the guest ourselves: the addresses that its DHCP says. It sees
//! a neighbour on its link, [`HERE_V4`] or [`HERE_V6`], which is nobody outside of these
//! connections. It answers by its default route (the frames are seen on its tap, wherever
//! they are meant to go) or because it has the link-local network on its link; a guest with
//! neither is reached by IPv6 only.

mod stack;
mod wire;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use net::MacAddr;
use tokio::io::DuplexStream;

/// Where connections come from, for the guest.
pub const HERE_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 253);
/// The same in IPv6.
pub const HERE_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xbe, 0x27, 0xfd);
/// And the MAC of who that is.
const HERE: MacAddr = MacAddr::new([0x0a, 0xbe, 0x27, 0xa9, 0xfe, 0xfd]);

/// One port of a guest, as we serve it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Way {
    pub tap: String,
    pub mac: MacAddr,
    /// What its DHCP says, IPv4 first.
    pub addresses: Vec<IpAddr>,
}

/// Why there is no connection.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReachError {
    /// It has none that we know of.
    #[error("the guest has no address on its first network")]
    NoAddress,
    /// Nobody listens there.
    #[error("connection refused by {0} port {1}")]
    Refused(IpAddr, u16),
    /// It does not answer.
    #[error(
        "{0} port {1} does not answer: the guest may not be up yet, or lets nobody in from \
         {HERE_V4} and {HERE_V6}, or has no default route"
    )]
    Silent(IpAddr, u16),
    /// The tap is not there, or may not be opened.
    #[error("the guest's tap cannot be used: {0}")]
    Tap(String),
}

/// Connects to a port of the guest: to its first address, and to the next one where that
/// does not answer, for at most `limit` each. A guest may take `linger` to end its side once the
/// stream is dropped or shut down.
///
/// # Errors
/// Of the first address.
pub async fn connect(
    way: &Way,
    port: u16,
    limit: Duration,
    linger: Duration,
) -> Result<DuplexStream, ReachError> {
    let mut first = None;
    for address in &way.addresses {
        match stack::connect(way, *address, port, limit, linger).await {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                first.get_or_insert(error);
            }
        }
    }
    Err(first.unwrap_or(ReachError::NoAddress))
}
