//! The packet socket on one interface, mostly a tap: the only I/O with guests.
//!
//! A packet socket on the host side of a tap sees what the guest sends before any
//! bridge or datapath does, and what is written to it reaches the guest. It sees
//! everything else on the interface, too: a filter in the kernel lets only DHCP and
//! router solicitations from the guests' side through, also those that are not answered and
//! are to be counted: under a VLAN tag or two, and in fragments.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::{LinkAddr, bind, recvfrom, setsockopt, sockopt};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::frame::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPES_VLAN, PROTOCOL_FRAGMENT, PROTOCOL_ICMPV6,
    PROTOCOL_UDP, ROUTER_SOLICITATION, V4_PORTS, V6_PORTS,
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
    /// Whether it carried a VLAN tag.
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
///
/// The kernel takes one tag off, if it knows its kind. What lies under another one is
/// looked for behind that.
fn filter() -> Vec<SockFilter> {
    const PACKET_TYPE: u32 = 0xffff_f000 + 4;
    const VLAN_TAG_PRESENT: u32 = 0xffff_f000 + 48;
    const PACKET_OUTGOING: u32 = 4;
    // Where the parts begin.
    const UNTAGGED: u8 = 6;
    const UNDER_A_TAG: u8 = UNTAGGED + SOUGHT;
    const TAKE: u8 = UNDER_A_TAG + SOUGHT;
    const TAKE_TAGGED: u8 = TAKE + 3;
    const DROP: u8 = TAKE_TAGGED + 1;
    let [tag, of_providers, older] = ETHERTYPES_VLAN.map(u32::from);
    let whole = SockFilter::new(RET, 0, 0, 0xffff);
    let start = [
        /* 0 */ load(LD_W, PACKET_TYPE),
        /* 1 */ jump(JEQ, 1, PACKET_OUTGOING, DROP, 2),
        /* 2 */ load(LD_H, 12),
        /* 3 */ jump(JEQ, 3, tag, UNDER_A_TAG, 4),
        /* 4 */ jump(JEQ, 4, of_providers, UNDER_A_TAG, 5),
        /* 5 */ jump(JEQ, 5, older, UNDER_A_TAG, UNTAGGED),
    ];
    let end = [
        /* TAKE */ load(LD_W, VLAN_TAG_PRESENT),
        /* +1 */ jump(JEQ, TAKE + 1, 0, TAKE + 2, TAKE_TAGGED),
        /* +2 */ whole,
        /* TAKE_TAGGED */ SockFilter::new(RET, 0, 0, TAGGED.into()),
        /* DROP */ SockFilter::new(RET, 0, 0, 0),
    ];
    let untagged = sought(UNTAGGED, 0, (TAKE, DROP));
    let under_a_tag = sought(UNDER_A_TAG, 4, (TAKE_TAGGED, DROP));
    start.into_iter().chain(untagged).chain(under_a_tag).chain(end).collect()
}

// linux/filter.h: loads relative to the frame, jumps, return.
const LD_W: u16 = 0x20;
const LD_H: u16 = 0x28;
const LD_B: u16 = 0x30;
const LD_H_INDEXED: u16 = 0x48;
const LDX_IP_HEADER_LENGTH: u16 = 0xb1;
const JEQ: u16 = 0x15;
const JSET: u16 = 0x45;
const RET: u16 = 0x06;

/// How many instructions [`sought`] has.
const SOUGHT: u8 = 22;

/// The part of the filter that finds what is meant, beginning as the instruction `first`,
/// in a packet whose ethertype is `shift` bytes later than an untagged frame's. It goes on
/// at `take` or at `drop`.
fn sought(first: u8, shift: u32, (take, drop): (u8, u8)) -> [SockFilter; SOUGHT as usize] {
    const FRAGMENT_OFFSET: u32 = 0x1fff;
    const TO_ALL: u32 = 0xffff_ffff;
    const LINK_MULTICAST: u32 = 0xff02_0000;
    /// `yes` or `no`, as numbers of this part.
    const TAKE: u8 = 100;
    const DROP: u8 = 101;
    let jump = |code, at: u8, value: u32, yes: u8, no: u8| {
        let target = |to| match to {
            TAKE => take,
            DROP => drop,
            to => first + to,
        };
        jump(code, first + at, value, target(yes), target(no))
    };
    let load = |code, offset| load(code, offset + shift);
    [
        /*  0 */ load(LD_H, 12),
        /*  1 */ jump(JEQ, 1, ETHERTYPE_IPV4.into(), 2, 11),
        /*  2 */ load(LD_B, 23),
        /*  3 */ jump(JEQ, 3, PROTOCOL_UDP.into(), 4, DROP),
        /*  4 */ load(LD_H, 20),
        /*  5 */ jump(JSET, 5, FRAGMENT_OFFSET, 9, 6),
        /*  6 */ load(LDX_IP_HEADER_LENGTH, 14),
        /*  7 */ load(LD_H_INDEXED, 16),
        /*  8 */ jump(JEQ, 8, V4_PORTS.0.into(), TAKE, DROP),
        /*  9 */ load(LD_W, 30),
        /* 10 */ jump(JEQ, 10, TO_ALL, TAKE, DROP),
        /* 11 */ jump(JEQ, 11, ETHERTYPE_IPV6.into(), 12, DROP),
        /* 12 */ load(LD_B, 20),
        /* 13 */ jump(JEQ, 13, PROTOCOL_ICMPV6.into(), 17, 14),
        /* 14 */ jump(JEQ, 14, PROTOCOL_UDP.into(), 15, 19),
        /* 15 */ load(LD_H, 56),
        /* 16 */ jump(JEQ, 16, V6_PORTS.0.into(), TAKE, DROP),
        /* 17 */ load(LD_B, 54),
        /* 18 */ jump(JEQ, 18, ROUTER_SOLICITATION.into(), TAKE, DROP),
        /* 19 */ jump(JEQ, 19, PROTOCOL_FRAGMENT.into(), 20, DROP),
        /* 20 */ load(LD_W, 38),
        /* 21 */ jump(JEQ, 21, LINK_MULTICAST, TAKE, DROP),
    ]
}

fn load(code: u16, offset: u32) -> SockFilter {
    SockFilter::new(code, 0, 0, offset)
}

/// A jump of the instruction `at`; jumps count from the next one on.
fn jump(code: u16, at: u8, value: u32, yes: u8, no: u8) -> SockFilter {
    SockFilter::new(code, yes - at - 1, no - at - 1, value)
}
