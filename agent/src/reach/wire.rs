//! A packet socket on a tap, for one connection: IP packets of it in and out.
//!
//! The filter in the kernel lets only this connection's packets through, and who asks for
//! our MAC; that is answered here.

use std::collections::VecDeque;
use std::io;
use std::net::Ipv6Addr;
use std::os::fd::{AsRawFd as _, OwnedFd};

use net::MacAddr;
use nix::errno::Errno;
use nix::sys::socket::{LinkAddr, MsgFlags, bind, recvfrom, send};
use smoltcp::phy::{
    Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken,
};
use smoltcp::time::Instant;
use smoltcp::wire::{
    Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv6Packet, Ipv6Repr, NdiscNeighborFlags, NdiscRepr,
    RawHardwareAddress,
};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{HERE, HERE_V4, HERE_V6};

/// All protocols (linux/if_ether.h).
const ETH_P_ALL: u16 = 3;
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const HEADER: usize = 14;
/// What every port carries: IPv6 asks for no less.
const MTU: usize = 1280;
/// A guest may hand over segments that its network card is to cut.
const LONGEST: usize = (64 << 10) + 64;
/// Packets that are taken in at once.
const BURST: usize = 64;

/// The wire of one connection.
#[derive(Debug)]
pub(super) struct Wire {
    socket: AsyncFd<OwnedFd>,
    guest: MacAddr,
    arrived: VecDeque<Vec<u8>>,
    buffer: Vec<u8>,
}

impl Wire {
    /// On this tap, for what the guest sends to `port` of the address that we have for it.
    pub(super) fn open(tap: &str, guest: MacAddr, v6: bool, port: u16) -> io::Result<Self> {
        let protocol = Protocol::from(i32::from(ETH_P_ALL.to_be()));
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), Some(protocol))?;
        socket.attach_filter(&if v6 { filter_v6(port) } else { filter_v4(port) })?;
        // An address to bind to cannot be made from a name in safe code; this list has one.
        let mut links = nix::ifaddrs::getifaddrs()?.filter(|one| one.interface_name == tap);
        let link = links.find_map(|one| one.address?.as_link_addr().copied());
        let link: LinkAddr = link.ok_or_else(|| io::Error::other(format!("there is no {tap}")))?;
        bind(socket.as_raw_fd(), &link)?;
        // As with the poller of DHCP: the successor is unsafe, and what it is afraid of, a
        // descriptor that changes, an owned one does not.
        #[allow(deprecated)]
        let socket = AsyncFd::with_interest(OwnedFd::from(socket), Interest::READABLE)?;
        let wire = Self { socket, guest, arrived: VecDeque::new(), buffer: vec![0; LONGEST] };
        // Between its creation and its binding the socket heard all interfaces.
        for _ in 0..BURST {
            let socket = wire.socket.get_ref().as_raw_fd();
            if recvfrom::<LinkAddr>(socket, &mut [0; 1]) == Err(Errno::EAGAIN) {
                break;
            }
        }
        Ok(wire)
    }

    /// Waits until something has arrived, and takes it in.
    pub(super) async fn listen(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.socket.readable().await?;
            for _ in 0..BURST {
                let socket = ready.get_inner().as_raw_fd();
                match recvfrom::<LinkAddr>(socket, &mut self.buffer) {
                    Ok((length, _)) => {
                        let frame = &self.buffer[..length.min(LONGEST)];
                        match sort(frame) {
                            Some(Sorted::Packet(packet)) => self.arrived.push_back(packet.to_vec()),
                            Some(Sorted::Answer(answer)) => {
                                let _ = send(socket, &answer, MsgFlags::MSG_DONTWAIT);
                            }
                            None => {}
                        }
                    }
                    Err(Errno::EINTR) => {}
                    Err(Errno::EAGAIN) => {
                        ready.clear_ready();
                        break;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            if !self.arrived.is_empty() {
                return Ok(());
            }
        }
    }

    /// Sends an IP packet to the guest. One that does not go is sent again by its sender.
    fn send(&self, packet: &[u8]) {
        let v6 = packet.first().is_some_and(|first| first >> 4 == 6);
        let frame = frame(self.guest, if v6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 }, packet);
        let _ = send(self.socket.get_ref().as_raw_fd(), &frame, MsgFlags::MSG_DONTWAIT);
    }
}

fn frame(to: MacAddr, ethertype: [u8; 2], content: &[u8]) -> Vec<u8> {
    [&to.octets()[..], &HERE.octets(), &ethertype, content].concat()
}

/// What is to be done with a frame of the guest.
enum Sorted<'a> {
    /// It carries this packet for us.
    Packet(&'a [u8]),
    /// It asks for our MAC, and is answered so.
    Answer(Vec<u8>),
}

fn sort(frame: &[u8]) -> Option<Sorted<'_>> {
    let from = MacAddr::new(frame.get(6..12)?.try_into().ok()?);
    let (ethertype, content) = (frame.get(12..HEADER)?, frame.get(HEADER..)?);
    if ethertype == ETHERTYPE_ARP {
        return arp_answer(content)
            .map(|answer| Sorted::Answer(self::frame(from, ETHERTYPE_ARP, &answer)));
    }
    let is_icmp = ethertype == ETHERTYPE_IPV6 && content.get(6) == Some(&58);
    if is_icmp {
        let answer = neighbour_answer(content)?;
        return Some(Sorted::Answer(self::frame(from, ETHERTYPE_IPV6, &answer)));
    }
    Some(Sorted::Packet(content))
}

/// The answer to who asks for the MAC of our address (RFC 826).
fn arp_answer(asked: &[u8]) -> Option<Vec<u8>> {
    const REQUEST: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];
    let (head, rest) = asked.split_at_checked(8)?;
    let (sender, rest) = rest.split_at_checked(10)?;
    let target = rest.get(6..10)?;
    if head != REQUEST || target != HERE_V4.octets() {
        return None;
    }
    let own = [&HERE.octets()[..], &HERE_V4.octets()].concat();
    Some([&[0, 1, 8, 0, 6, 4, 0, 2][..], &own, sender].concat())
}

/// The same in IPv6 (RFC 4861, section 7.2.4). Who has no address yet only looks whether
/// somebody has ours.
fn neighbour_answer(asked: &[u8]) -> Option<Vec<u8>> {
    let packet = Ipv6Packet::new_checked(asked).ok()?;
    let solicitation = Icmpv6Packet::new_checked(packet.payload()).ok()?;
    let NdiscRepr::NeighborSolicit { target_addr, .. } = NdiscRepr::parse(&solicitation).ok()?
    else {
        return None;
    };
    let asker: Ipv6Addr = packet.src_addr();
    if target_addr != HERE_V6 || asker.is_unspecified() || packet.hop_limit() != 255 {
        return None;
    }
    let answer = Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert {
        flags: NdiscNeighborFlags::SOLICITED | NdiscNeighborFlags::OVERRIDE,
        target_addr: HERE_V6,
        lladdr: Some(RawHardwareAddress::from_bytes(&HERE.octets())),
    });
    let head = Ipv6Repr {
        src_addr: HERE_V6,
        dst_addr: asker,
        next_header: IpProtocol::Icmpv6,
        payload_len: answer.buffer_len(),
        hop_limit: 255,
    };
    let mut bytes = vec![0; head.buffer_len() + answer.buffer_len()];
    let mut packet = Ipv6Packet::new_unchecked(&mut bytes);
    head.emit(&mut packet);
    let mut content = Icmpv6Packet::new_unchecked(packet.payload_mut());
    answer.emit(&HERE_V6, &asker, &mut content, &ChecksumCapabilities::default());
    Some(bytes)
}

// === smoltcp's side ===

impl Device for Wire {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = Leaving<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Arrived, Leaving<'_>)> {
        let packet = self.arrived.pop_front()?;
        Some((Arrived(packet), Leaving(self)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Leaving<'_>> {
        Some(Leaving(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut can = DeviceCapabilities::default();
        can.medium = Medium::Ip;
        can.max_transmission_unit = MTU;
        // What comes from a tap may have a sum that its card was to make.
        can.checksum.ipv4 = Checksum::Tx;
        can.checksum.tcp = Checksum::Tx;
        can
    }
}

/// A packet of the guest.
#[derive(Debug)]
pub(super) struct Arrived(Vec<u8>);

impl RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(&self.0)
    }
}

/// Room for one to the guest.
#[derive(Debug)]
pub(super) struct Leaving<'a>(&'a Wire);

impl TxToken for Leaving<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut packet = vec![0; length];
        let filled = fill(&mut packet);
        self.0.send(&packet);
        filled
    }
}

// === the kernel's filter (classic BPF), whose jumps count from the next instruction ===

const LD_W: u16 = 0x20;
const LD_H: u16 = 0x28;
const LD_B: u16 = 0x30;
const LD_H_INDEXED: u16 = 0x48;
const LDX_IP_HEADER_LENGTH: u16 = 0xb1;
const JEQ: u16 = 0x15;
const JSET: u16 = 0x45;
const RET: u16 = 0x06;
const PACKET_TYPE: u32 = 0xffff_f000 + 4;
const PACKET_OUTGOING: u32 = 4;
const TCP: u32 = 6;
const ICMPV6: u32 = 58;
const SOLICITATION: u32 = 135;

fn op(code: u16, yes: u8, no: u8, value: u32) -> SockFilter {
    SockFilter::new(code, yes, no, value)
}

/// TCP for `port` of our address; ARP that asks for it.
fn filter_v4(port: u16) -> Vec<SockFilter> {
    let here = u32::from(HERE_V4);
    vec![
        /*  0 */ op(LD_W, 0, 0, PACKET_TYPE),
        /*  1 */ op(JEQ, 15, 0, PACKET_OUTGOING),
        /*  2 */ op(LD_H, 0, 0, 12),
        /*  3 */ op(JEQ, 10, 0, 0x0806),
        /*  4 */ op(JEQ, 0, 12, 0x0800),
        /*  5 */ op(LD_B, 0, 0, 23),
        /*  6 */ op(JEQ, 0, 10, TCP),
        /*  7 */ op(LD_H, 0, 0, 20),
        /*  8 */ op(JSET, 8, 0, 0x1fff),
        /*  9 */ op(LD_W, 0, 0, 30),
        /* 10 */ op(JEQ, 0, 6, here),
        /* 11 */ op(LDX_IP_HEADER_LENGTH, 0, 0, 14),
        /* 12 */ op(LD_H_INDEXED, 0, 0, 16),
        /* 13 */ op(JEQ, 2, 3, u32::from(port)),
        /* 14 */ op(LD_W, 0, 0, 38),
        /* 15 */ op(JEQ, 0, 1, here),
        /* 16 */ op(RET, 0, 0, u32::MAX),
        /* 17 */ op(RET, 0, 0, 0),
    ]
}

/// TCP for `port` of our address; solicitations of it. Of an address the last four bytes count.
fn filter_v6(port: u16) -> Vec<SockFilter> {
    let [.., a, b, c, d] = HERE_V6.octets();
    let here = u32::from_be_bytes([a, b, c, d]);
    vec![
        /*  0 */ op(LD_W, 0, 0, PACKET_TYPE),
        /*  1 */ op(JEQ, 14, 0, PACKET_OUTGOING),
        /*  2 */ op(LD_H, 0, 0, 12),
        /*  3 */ op(JEQ, 0, 12, 0x86dd),
        /*  4 */ op(LD_B, 0, 0, 20),
        /*  5 */ op(JEQ, 5, 0, ICMPV6),
        /*  6 */ op(JEQ, 0, 9, TCP),
        /*  7 */ op(LD_H, 0, 0, 56),
        /*  8 */ op(JEQ, 0, 7, u32::from(port)),
        /*  9 */ op(LD_W, 0, 0, 50),
        /* 10 */ op(JEQ, 4, 5, here),
        /* 11 */ op(LD_B, 0, 0, 54),
        /* 12 */ op(JEQ, 0, 3, SOLICITATION),
        /* 13 */ op(LD_W, 0, 0, 74),
        /* 14 */ op(JEQ, 0, 1, here),
        /* 15 */ op(RET, 0, 0, u32::MAX),
        /* 16 */ op(RET, 0, 0, 0),
    ]
}
