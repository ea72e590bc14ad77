//! DHCPv4 for one port (RFC 2131): which answer a request gets, and where it goes.
//!
//! ```text
//! DISCOVER                                     -> OFFER
//! DISCOVER with Rapid Commit                   -> ACK
//! REQUEST, server id ours,     50 = address    -> ACK      SELECTING
//! REQUEST, no server id,       50 = address    -> ACK      INIT-REBOOT
//! REQUEST, no server id,   ciaddr = address    -> ACK      RENEWING, REBINDING
//! REQUEST for any other address                -> NAK      broadcast
//! REQUEST, server id of another server         -> silence
//! INFORM                                       -> ACK without an address
//! RELEASE, DECLINE                             -> silence, counted
//!
//! A renewal of the port's own address is answered whichever server it was sent to: it
//! is how a guest learns that its server goes by another name now.
//! ```
//!
//! The port has one guest and one address, so there is nothing to remember
//! between messages, and a wrong address can always be refused: the server knows.

mod layout;
mod options;
#[cfg(test)]
pub(crate) mod tests;

use std::net::Ipv4Addr;

use net::MacAddr;

pub(crate) use options::Opt;

use crate::answer::{Ignored, Kind, Sent};
use crate::binding::{Binding, V4};
use crate::boot::{self, Client};
use crate::codec;
use crate::fqdn::Fqdn;
use crate::frame::Route;

/// The message types that clients and we exchange (RFC 2132 §9.6).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Type {
    Discover,
    Offer,
    Request,
    Decline,
    Ack,
    Nak,
    Release,
    Inform,
}

/// A client's message, as far as it matters here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Request {
    pub(crate) kind: Type,
    pub(crate) xid: u32,
    pub(crate) flags: u16,
    pub(crate) ciaddr: Ipv4Addr,
    pub(crate) giaddr: Ipv4Addr,
    pub(crate) chaddr: MacAddr,
    /// Option 50.
    pub(crate) requested: Option<Ipv4Addr>,
    /// Option 54.
    pub(crate) server: Option<Ipv4Addr>,
    /// Option 61, echoed.
    pub(crate) client_id: Option<Vec<u8>>,
    /// Option 55, in the client's order.
    pub(crate) wanted: Option<Vec<u8>>,
    /// Option 57: the longest datagram that the client takes, in bytes.
    pub(crate) max_size: Option<u16>,
    /// Option 80 (RFC 4039).
    pub(crate) rapid_commit: bool,
    /// Option 81 (RFC 4702).
    pub(crate) fqdn: Option<Fqdn>,
    /// What a boot ROM says of itself.
    pub(crate) boot: Client,
}

/// Our message, before its options are laid out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Reply {
    pub(crate) kind: Type,
    pub(crate) xid: u32,
    pub(crate) flags: u16,
    pub(crate) ciaddr: Ipv4Addr,
    pub(crate) yiaddr: Ipv4Addr,
    /// Where the boot file is: neither the client's business nor the DHCP server.
    pub(crate) siaddr: Ipv4Addr,
    pub(crate) chaddr: MacAddr,
    /// The boot server's name, where no options need the field.
    pub(crate) sname: String,
    /// The boot file, where no options need the field.
    pub(crate) file: String,
    /// In the order in which they are sent; the first that do not fit are the last dropped.
    pub(crate) options: Vec<Opt>,
}

const BROADCAST_FLAG: u16 = 0x8000;

/// What to send for this datagram to port 67, as a whole frame.
pub(crate) fn respond(
    binding: &Binding,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    payload: &[u8],
) -> Result<Sent, Ignored> {
    let request = codec::decode_v4(payload)?;
    if request.chaddr != binding.mac {
        return Err(Ignored::ForeignMac);
    }
    if request.giaddr != Ipv4Addr::UNSPECIFIED {
        return Err(Ignored::Relayed);
    }
    let v4 = binding.v4.as_ref().ok_or(Ignored::NoBinding)?;
    let renews_elsewhere = !is_ours(v4, destination);
    if renews_elsewhere && !renews_own(v4, &request) {
        return Err(Ignored::OtherDestination);
    }
    let (reply, kind) = decide(v4, binding.hostname.as_deref(), &request)?;
    let asked = destination;
    let (destination, broadcast) = destination_of(&reply, source, v4.broadcast);
    let route = Route {
        source_mac: v4.server_mac.unwrap_or_else(|| binding.server_mac()),
        destination_mac: if broadcast { MacAddr::BROADCAST } else { binding.mac },
        // A guest's firewall lets in what comes from whom it asked.
        source: if renews_elsewhere { asked } else { v4.server },
        destination,
    };
    let limit = layout::limit(request.max_size, v4.mtu);
    let mut laid = layout::message(&reply, limit);
    let mut left_out = laid.left_out.len();
    if laid.left_out.contains(&options::ROUTES) {
        // The default route was among those that found no room.
        let without = options::router_for_routes(v4, &request, reply);
        laid = layout::message(&without, limit);
        left_out = laid.left_out.len() + 1;
    }
    Ok(Sent { frame: route.dhcp(&laid.bytes), kind, left_out })
}

/// The heart: what a request gets.
fn decide(v4: &V4, hostname: Option<&str>, request: &Request) -> Result<(Reply, Kind), Ignored> {
    match request.kind {
        // The one address of a port cannot be promised to anybody else, so that an offer is
        // as good as a lease. But a guest that may do without IPv4 is left to choose.
        Type::Discover if request.rapid_commit && !options::prefers_v6(v4, request) => {
            let mut reply = lease(v4, hostname, request, Type::Ack);
            reply.ciaddr = Ipv4Addr::UNSPECIFIED;
            reply.options.insert(1, Opt::RapidCommit);
            Ok((reply, Kind::Ack))
        }
        Type::Discover => Ok((lease(v4, hostname, request, Type::Offer), Kind::Offer)),
        Type::Request if request.server.is_some_and(|server| server != v4.server) => {
            Err(Ignored::OtherServer)
        }
        Type::Request => match wanted_address(request) {
            // Neither option 50 nor ciaddr: against the RFC, and yet it can only mean this
            // server's offer. Kea acknowledges it too.
            None => Ok((lease(v4, hostname, request, Type::Ack), Kind::Ack)),
            Some(wanted) if wanted == v4.address => {
                Ok((lease(v4, hostname, request, Type::Ack), Kind::Ack))
            }
            Some(_) => Ok((nak(v4, request), Kind::Nak)),
        },
        Type::Inform => Ok((inform(v4, hostname, request), Kind::InformAck)),
        Type::Release => Err(Ignored::Release),
        Type::Decline => Err(judge_decline(v4, request)),
        Type::Offer | Type::Ack | Type::Nak => Err(Ignored::FromServer),
    }
}

/// The address that a REQUEST is about: option 50 in SELECTING, which a server identifier
/// tells, and in INIT-REBOOT, `ciaddr` in RENEWING and REBINDING (RFC 2131 §4.3.2).
///
/// A guest that fills in both uses the one in `ciaddr`, unless it is selecting.
fn wanted_address(request: &Request) -> Option<Ipv4Addr> {
    let ciaddr = Some(request.ciaddr).filter(|address| *address != Ipv4Addr::UNSPECIFIED);
    match request.server {
        Some(_) => request.requested.or(ciaddr),
        None => ciaddr.or(request.requested),
    }
}

/// Whether a guest that uses the port's address asks for more time.
fn renews_own(v4: &V4, request: &Request) -> bool {
    request.kind == Type::Request && request.server.is_none() && request.ciaddr == v4.address
}

/// What a DECLINE tells. It names server and address (RFC 2131 §4.4.1, table 5); what is
/// about another server's, or an address that was never given here, is no conflict of ours.
fn judge_decline(v4: &V4, request: &Request) -> Ignored {
    if request.server.is_some_and(|server| server != v4.server) {
        Ignored::OtherServer
    } else if request.requested == Some(v4.address) {
        Ignored::Decline
    } else {
        Ignored::ForeignDecline
    }
}

/// An OFFER or ACK with the address and its lease.
fn lease(v4: &V4, hostname: Option<&str>, request: &Request, kind: Type) -> Reply {
    // An OFFER has no ciaddr, an ACK that of the request (RFC 2131 §4.3.1, table 3); and
    // nothing is sent to an address that is not the guest's.
    let renews = kind == Type::Ack && request.ciaddr == v4.address;
    let ciaddr = if renews { v4.address } else { Ipv4Addr::UNSPECIFIED };
    let mut options = options::head(v4, request, kind);
    options.extend(options::times(v4));
    options.extend(options::configuration(v4, hostname, request));
    Reply { ciaddr, yiaddr: v4.address, options, ..bootable(v4, request, kind) }
}

/// An ACK to an INFORM: configuration, but neither address nor times (RFC 2131 §4.3.5).
fn inform(v4: &V4, hostname: Option<&str>, request: &Request) -> Reply {
    let mut options = options::head(v4, request, Type::Ack);
    options.extend(options::configuration(v4, hostname, request));
    Reply { ciaddr: request.ciaddr, options, ..bootable(v4, request, Type::Ack) }
}

/// A NAK: no addresses, no lease, but a server identifier (RFC 2131 §4.3.1, table 3).
fn nak(v4: &V4, request: &Request) -> Reply {
    let mut options = options::head(v4, request, Type::Nak);
    options.push(Opt::Message("not the address of this port".to_owned()));
    Reply { options, ..blank(request, Type::Nak) }
}

/// A reply that says where to boot from, if the binding does: in the header too, which is
/// where boot ROMs look.
fn bootable(v4: &V4, request: &Request, kind: Type) -> Reply {
    Reply {
        siaddr: v4.next_server.unwrap_or(Ipv4Addr::UNSPECIFIED),
        sname: options::text_for(v4, request, boot::SERVER).unwrap_or_default(),
        file: options::text_for(v4, request, boot::FILE).unwrap_or_default(),
        ..blank(request, kind)
    }
}

fn blank(request: &Request, kind: Type) -> Reply {
    Reply {
        kind,
        xid: request.xid,
        flags: request.flags,
        ciaddr: Ipv4Addr::UNSPECIFIED,
        yiaddr: Ipv4Addr::UNSPECIFIED,
        siaddr: Ipv4Addr::UNSPECIFIED,
        chaddr: request.chaddr,
        sname: String::new(),
        file: String::new(),
        options: Vec::new(),
    }
}

/// Where a reply goes, and whether the frame is a broadcast (RFC 2131 §4.1).
///
/// `source` is the client's IP source address: an INFORM without `ciaddr` shows
/// there which address it uses.
/// `always` is whether whoever has no address hears broadcasts only, without saying so.
fn destination_of(reply: &Reply, source: Ipv4Addr, always: bool) -> (Ipv4Addr, bool) {
    let unicast = |address| (address, false);
    if reply.kind == Type::Nak {
        return (Ipv4Addr::BROADCAST, true);
    }
    if reply.ciaddr != Ipv4Addr::UNSPECIFIED {
        return unicast(reply.ciaddr);
    }
    if reply.flags & BROADCAST_FLAG != 0 || always {
        return (Ipv4Addr::BROADCAST, true);
    }
    match (reply.yiaddr, source) {
        (Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED) => (Ipv4Addr::BROADCAST, true),
        (Ipv4Addr::UNSPECIFIED, source) => unicast(source),
        (address, _) => unicast(address),
    }
}

/// Clients broadcast, or unicast to the server identifier when they renew.
fn is_ours(v4: &V4, destination: Ipv4Addr) -> bool {
    destination == Ipv4Addr::BROADCAST
        || destination == v4.server
        || options::broadcast(v4).is_some_and(|broadcast| destination == broadcast)
}
