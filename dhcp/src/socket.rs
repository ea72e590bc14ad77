//! The packet socket on one interface, mostly a tap: the only I/O with guests.
//!
//! A packet socket on the host side of a tap sees what the guest sends before any
//! bridge or datapath does, and what is written to it reaches the guest. It sees
//! everything else on the interface, too: a filter in the kernel lets only DHCP and
//! router solicitations from the guests' side through, also those that are not answered and
//! are to be counted: under a VLAN tag, and in fragments.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::{LinkAddr, bind, recvfrom, setsockopt, sockopt};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::frame::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, PROTOCOL_FRAGMENT, PROTOCOL_ICMPV6, PROTOCOL_UDP,
    ROUTER_SOLICITATION, V4_PORTS, V6_PORTS,
};

/// All protocols (linux/if_ether.h).
const ETH_P_ALL: u16 = 3;
/// Room for a burst of messages of one guest, not for a flood; bytes.
const ROOM_OF_ONE: usize = 128 * 1024;
/// For how many guests there is room at most: they do not all speak at once.
const MOST_ROOMS: usize = 64;

/// A frame from the guest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received<'a> {
    /// All of it; of a tagged one its MAC addresses.
    pub(crate) frame: &'a [u8],
    /// Whether it carried a VLAN tag, which the kernel has taken off.
    pub(crate) tagged: bool,
}

/// A socket on one interface, known by its index.
#[derive(Debug)]
pub(crate) struct TapSocket {
    socket: Socket,
    ifindex: usize,
    /// How many guests it has room for.
    rooms: usize,
}

/// The interfaces of this network namespace by name, as addresses to bind to.
///
/// An address to bind to cannot be made from an index in safe code; the list of
/// interface addresses has one for each.
#[derive(Debug, Default)]
pub(crate) struct Links(HashMap<String, LinkAddr>);

impl Links {
    pub(crate) fn list() -> io::Result<Self> {
        let all = nix::ifaddrs::getifaddrs()?;
        let link = |found: nix::ifaddrs::InterfaceAddress| {
            let address = found.address?.as_link_addr().copied()?;
            Some((found.interface_name, address))
        };
        Ok(Self(all.filter_map(link).collect()))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&LinkAddr> {
        self.0.get(name)
    }
}

impl TapSocket {
    /// Opens a socket that receives what the guest behind this interface sends.
    pub(crate) fn open(link: &LinkAddr) -> io::Result<Self> {
        let protocol = Protocol::from(i32::from(ETH_P_ALL.to_be()));
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), Some(protocol))?;
        socket.attach_filter(&filter())?;
        socket.set_recv_buffer_size(ROOM_OF_ONE)?;
        // The address names no protocol, so the socket's own stays.
        bind(socket.as_raw_fd(), link)?;
        Ok(Self { socket, ifindex: link.ifindex(), rooms: 1 })
    }

    /// Has room for bursts of so many guests from now on. Who may open such a socket may
    /// have more room than others (`net.core.rmem_max`); without that right it stays as it is.
    pub(crate) fn make_room(&mut self, guests: usize) {
        let rooms = guests.clamp(1, MOST_ROOMS);
        if rooms != self.rooms
            && setsockopt(&self.socket, sockopt::RcvBufForce, &(rooms * ROOM_OF_ONE)).is_ok()
        {
            self.rooms = rooms;
        }
    }

    /// Whether this is the interface that the socket is bound to.
    pub(crate) fn is_on(&self, link: &LinkAddr) -> bool {
        self.ifindex == link.ifindex()
    }

    /// The next frame from the guest, in `buffer`; `None` when there is none now.
    pub(crate) fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<Received<'a>>> {
        loop {
            match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), buffer) {
                // Between its creation and its binding the socket heard all interfaces.
                Ok((_, from)) if from.is_none_or(|from| from.ifindex() != self.ifindex) => {}
                Ok((length, _)) => {
                    let frame = &buffer[..length.min(buffer.len())];
                    return Ok(Some(Received { frame, tagged: length == usize::from(TAGGED) }));
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Writes a frame to the guest.
    pub(crate) fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.socket.send(frame).map(drop)
    }
}

impl AsFd for TapSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// How much of a tagged frame is read, bytes: the filter has no other way to say what it
/// found, and no frame is as short.
const TAGGED: u8 = 12;

/// The kernel filter (classic BPF):
///
/// ```text
/// not sent by this host, and
///   IPv4, UDP to port 67, or
///   IPv4, UDP to all, a later fragment, or
///   IPv6, UDP to port 547, or
///   IPv6, ICMPv6 type 133, or
///   IPv6, a fragment to a multicast address of the link
/// of tagged ones the first 12 bytes
/// ```
fn filter() -> Vec<SockFilter> {
    // linux/filter.h: loads relative to the frame, ancillary data, jumps, return.
    const LD_W: u16 = 0x20;
    const LD_H: u16 = 0x28;
    const LD_B: u16 = 0x30;
    const LD_H_INDEXED: u16 = 0x48;
    const LDX_IP_HEADER_LENGTH: u16 = 0xb1;
    const JEQ: u16 = 0x15;
    const JSET: u16 = 0x45;
    const RET: u16 = 0x06;
    const PACKET_TYPE: u32 = 0xffff_f000 + 4;
    const VLAN_TAG_PRESENT: u32 = 0xffff_f000 + 48;
    const PACKET_OUTGOING: u32 = 4;
    const FRAGMENT_OFFSET: u32 = 0x1fff;
    const TO_ALL: u32 = 0xffff_ffff;
    const LINK_MULTICAST: u32 = 0xff02_0000;
    // Where the program ends.
    const TAKE: u8 = 24;
    const DROP: u8 = 28;
    // Jumps count from the next instruction on.
    let jump = |code, at: u8, value: u32, yes: u8, no: u8| {
        SockFilter::new(code, yes - at - 1, no - at - 1, value)
    };
    let load = |code, offset| SockFilter::new(code, 0, 0, offset);
    vec![
        /*  0 */ load(LD_W, PACKET_TYPE),
        /*  1 */ jump(JEQ, 1, PACKET_OUTGOING, DROP, 2),
        /*  2 */ load(LD_H, 12),
        /*  3 */ jump(JEQ, 3, ETHERTYPE_IPV4.into(), 4, 13),
        /*  4 */ load(LD_B, 23),
        /*  5 */ jump(JEQ, 5, PROTOCOL_UDP.into(), 6, DROP),
        /*  6 */ load(LD_H, 20),
        /*  7 */ jump(JSET, 7, FRAGMENT_OFFSET, 11, 8),
        /*  8 */ load(LDX_IP_HEADER_LENGTH, 14),
        /*  9 */ load(LD_H_INDEXED, 16),
        /* 10 */ jump(JEQ, 10, V4_PORTS.0.into(), TAKE, DROP),
        /* 11 */ load(LD_W, 30),
        /* 12 */ jump(JEQ, 12, TO_ALL, TAKE, DROP),
        /* 13 */ jump(JEQ, 13, ETHERTYPE_IPV6.into(), 14, DROP),
        /* 14 */ load(LD_B, 20),
        /* 15 */ jump(JEQ, 15, PROTOCOL_ICMPV6.into(), 19, 16),
        /* 16 */ jump(JEQ, 16, PROTOCOL_UDP.into(), 17, 21),
        /* 17 */ load(LD_H, 56),
        /* 18 */ jump(JEQ, 18, V6_PORTS.0.into(), TAKE, DROP),
        /* 19 */ load(LD_B, 54),
        /* 20 */ jump(JEQ, 20, ROUTER_SOLICITATION.into(), TAKE, DROP),
        /* 21 */ jump(JEQ, 21, PROTOCOL_FRAGMENT.into(), 22, DROP),
        /* 22 */ load(LD_W, 38),
        /* 23 */ jump(JEQ, 23, LINK_MULTICAST, TAKE, DROP),
        /* 24 */ load(LD_W, VLAN_TAG_PRESENT),
        /* 25 */ jump(JEQ, 25, 0, 26, 27),
        /* 26 */ SockFilter::new(RET, 0, 0, 0xffff),
        /* 27 */ SockFilter::new(RET, 0, 0, TAGGED.into()),
        /* 28 */ SockFilter::new(RET, 0, 0, 0),
    ]
}
