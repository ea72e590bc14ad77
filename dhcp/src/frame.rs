//! Ethernet, IP and UDP around the messages: taken apart with suspicion, put
//! together with care.
//!
//! Reading judges only what is needed to find the message and to know who sent
//! it. UDP checksums are not looked at: a guest with checksum offload leaves
//! them to hardware that a tap does not have, and nothing between guest and tap
//! can corrupt a frame. Writing fills in every checksum, because the guest may
//! well look.

use std::net::{Ipv4Addr, Ipv6Addr};

use net::MacAddr;

use crate::answer::Ignored;

/// The port that DHCPv4 servers listen on, and that of clients.
pub(crate) const V4_PORTS: (u16, u16) = (67, 68);
/// The port that DHCPv6 servers listen on, and that of clients.
pub(crate) const V6_PORTS: (u16, u16) = (547, 546);
/// The ICMPv6 type of a router solicitation.
pub(crate) const ROUTER_SOLICITATION: u8 = 133;

pub(crate) const ETHERTYPE_IPV4: u16 = 0x0800;
pub(crate) const ETHERTYPE_IPV6: u16 = 0x86dd;
/// Of customers' tags and of providers' (IEEE 802.1Q), and what came before the latter.
pub(crate) const ETHERTYPES_VLAN: [u16; 3] = [0x8100, 0x88a8, 0x9100];

pub(crate) const PROTOCOL_UDP: u8 = 17;
pub(crate) const PROTOCOL_ICMPV6: u8 = 58;
pub(crate) const PROTOCOL_FRAGMENT: u8 = 44;

const HOP_LIMIT: u8 = 64;

/// The outermost layer of a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ethernet<'a> {
    pub(crate) source: MacAddr,
    ethertype: u16,
    payload: &'a [u8],
}

/// A message that is answered here, with the addresses it travelled under.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Packet<'a> {
    Dhcp4 { source: Ipv4Addr, destination: Ipv4Addr, payload: &'a [u8] },
    Dhcp6 { source: Ipv6Addr, destination: Ipv6Addr, payload: &'a [u8] },
    Solicitation { source: Ipv6Addr, destination: Ipv6Addr, hop_limit: u8, message: &'a [u8] },
}

impl<'a> Ethernet<'a> {
    pub(crate) fn parse(frame: &'a [u8]) -> Result<Self, Ignored> {
        let (header, payload) = frame.split_first_chunk::<14>().ok_or(Ignored::Malformed)?;
        let [_, _, _, _, _, _, a, b, c, d, e, f, high, low] = *header;
        let source = MacAddr::new([a, b, c, d, e, f]);
        Ok(Self { source, ethertype: u16::from_be_bytes([high, low]), payload })
    }

    /// The message inside, if it is one of those that are answered here.
    pub(crate) fn packet(&self) -> Result<Packet<'a>, Ignored> {
        match self.ethertype {
            ETHERTYPE_IPV4 => ipv4(self.payload),
            ETHERTYPE_IPV6 => ipv6(self.payload),
            tag if ETHERTYPES_VLAN.contains(&tag) => Err(Ignored::Tagged),
            _ => Err(Ignored::OtherProtocol),
        }
    }
}

fn ipv4(packet: &[u8]) -> Result<Packet<'_>, Ignored> {
    let header = packet.first_chunk::<20>().ok_or(Ignored::Malformed)?;
    let header_length = usize::from(header[0] & 0x0f) * 4;
    let total_length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[0] >> 4 != 4 || header_length < 20 {
        return Err(Ignored::Malformed);
    }
    let payload = packet.get(header_length..total_length).ok_or(Ignored::Malformed)?;
    // More-fragments flag or an offset: RFC 791.
    if u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0 {
        return Err(Ignored::Fragment);
    }
    if header[9] != PROTOCOL_UDP {
        return Err(Ignored::OtherProtocol);
    }
    let source = Ipv4Addr::new(header[12], header[13], header[14], header[15]);
    let destination = Ipv4Addr::new(header[16], header[17], header[18], header[19]);
    Ok(Packet::Dhcp4 { source, destination, payload: udp(payload, V4_PORTS.0)? })
}

fn ipv6(packet: &[u8]) -> Result<Packet<'_>, Ignored> {
    let (header, rest) = packet.split_first_chunk::<40>().ok_or(Ignored::Malformed)?;
    if header[0] >> 4 != 6 {
        return Err(Ignored::Malformed);
    }
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let payload = rest.get(..length).ok_or(Ignored::Malformed)?;
    let source = ipv6_address(header, 8);
    let destination = ipv6_address(header, 24);
    match (header[6], payload.first()) {
        (PROTOCOL_UDP, _) => {
            Ok(Packet::Dhcp6 { source, destination, payload: udp(payload, V6_PORTS.0)? })
        }
        (PROTOCOL_ICMPV6, Some(&ROUTER_SOLICITATION)) => {
            Ok(Packet::Solicitation { source, destination, hop_limit: header[7], message: payload })
        }
        (PROTOCOL_FRAGMENT, _) => Err(Ignored::Fragment),
        _ => Err(Ignored::OtherProtocol),
    }
}

fn ipv6_address(header: &[u8; 40], at: usize) -> Ipv6Addr {
    Ipv6Addr::from(std::array::from_fn::<u8, 16, _>(|index| header[at + index]))
}

fn udp(datagram: &[u8], port: u16) -> Result<&[u8], Ignored> {
    let header = datagram.first_chunk::<8>().ok_or(Ignored::Malformed)?;
    if u16::from_be_bytes([header[2], header[3]]) != port {
        return Err(Ignored::OtherProtocol);
    }
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    datagram.get(8..length).ok_or(Ignored::Malformed)
}

/// From whom and to whom a frame goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route<A> {
    pub(crate) source_mac: MacAddr,
    pub(crate) destination_mac: MacAddr,
    pub(crate) source: A,
    pub(crate) destination: A,
}

impl Route<Ipv4Addr> {
    /// A frame with this DHCPv4 message from server to client.
    pub(crate) fn dhcp(&self, message: &[u8]) -> Vec<u8> {
        let udp_length = length(8 + message.len());
        let total_length = length(28 + message.len());
        let mut header = [0; 20];
        header[0] = 0x45;
        header[2..4].copy_from_slice(&total_length.to_be_bytes());
        header[8] = HOP_LIMIT;
        header[9] = PROTOCOL_UDP;
        header[12..16].copy_from_slice(&self.source.octets());
        header[16..20].copy_from_slice(&self.destination.octets());
        let sum = Checksum::default().add(&header).finish();
        header[10..12].copy_from_slice(&sum.to_be_bytes());

        let pseudo = Checksum::default()
            .add(&self.source.octets())
            .add(&self.destination.octets())
            .add(&[0, PROTOCOL_UDP])
            .add(&udp_length.to_be_bytes());
        let udp = udp_header(V4_PORTS, udp_length, pseudo, message);
        self.ethernet(ETHERTYPE_IPV4, &[&header, &udp, message])
    }
}

impl Route<Ipv6Addr> {
    /// A frame with this DHCPv6 message from server to client.
    pub(crate) fn dhcp(&self, message: &[u8]) -> Vec<u8> {
        let udp_length = length(8 + message.len());
        let udp = udp_header(V6_PORTS, udp_length, self.pseudo(PROTOCOL_UDP, udp_length), message);
        let header = self.header(PROTOCOL_UDP, HOP_LIMIT, udp_length);
        self.ethernet(ETHERTYPE_IPV6, &[&header, &udp, message])
    }

    /// A frame with this ICMPv6 message; its checksum field is filled in. The
    /// hop limit is 255, as neighbour discovery demands (RFC 4861 §4.2).
    pub(crate) fn icmp(&self, mut message: Vec<u8>) -> Vec<u8> {
        debug_assert!(message.len() >= 4, "an ICMPv6 message has a checksum");
        let payload_length = length(message.len());
        message[2..4].fill(0);
        let sum = self.pseudo(PROTOCOL_ICMPV6, payload_length).add(&message).finish();
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let header = self.header(PROTOCOL_ICMPV6, 255, payload_length);
        self.ethernet(ETHERTYPE_IPV6, &[&header, &message])
    }

    fn header(&self, protocol: u8, hop_limit: u8, payload_length: u16) -> [u8; 40] {
        let mut header = [0; 40];
        header[0] = 0x60;
        header[4..6].copy_from_slice(&payload_length.to_be_bytes());
        header[6] = protocol;
        header[7] = hop_limit;
        header[8..24].copy_from_slice(&self.source.octets());
        header[24..40].copy_from_slice(&self.destination.octets());
        header
    }

    fn pseudo(&self, protocol: u8, payload_length: u16) -> Checksum {
        pseudo_v6(self.source, self.destination, protocol, payload_length)
    }
}

impl<A> Route<A> {
    fn ethernet(&self, ethertype: u16, parts: &[&[u8]]) -> Vec<u8> {
        let mut frame = Vec::with_capacity(14 + parts.iter().map(|part| part.len()).sum::<usize>());
        frame.extend_from_slice(&self.destination_mac.octets());
        frame.extend_from_slice(&self.source_mac.octets());
        frame.extend_from_slice(&ethertype.to_be_bytes());
        for part in parts {
            frame.extend_from_slice(part);
        }
        frame
    }
}

/// Whether an ICMPv6 message carries the right checksum (RFC 4443 §2.3).
pub(crate) fn icmp_checksum_holds(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> bool {
    let length = length(message.len());
    pseudo_v6(source, destination, PROTOCOL_ICMPV6, length).add(message).finish() == 0
}

fn pseudo_v6(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, length: u16) -> Checksum {
    Checksum::default()
        .add(&source.octets())
        .add(&destination.octets())
        .add(&length.to_be_bytes())
        .add(&[0, protocol])
}

fn udp_header(ports: (u16, u16), length: u16, pseudo: Checksum, message: &[u8]) -> [u8; 8] {
    let mut header = [0; 8];
    header[0..2].copy_from_slice(&ports.0.to_be_bytes());
    header[2..4].copy_from_slice(&ports.1.to_be_bytes());
    header[4..6].copy_from_slice(&length.to_be_bytes());
    // Zero would mean "no checksum": its complement says the same sum (RFC 768).
    let sum = match pseudo.add(&header).add(message).finish() {
        0 => 0xffff,
        sum => sum,
    };
    header[6..8].copy_from_slice(&sum.to_be_bytes());
    header
}

/// Our own messages are below 64 KiB by construction: they are cut to the client's limit, or
/// made of a handful of addresses. A longer one would be cut off here rather than wrap around.
fn length(bytes: usize) -> u16 {
    debug_assert!(u16::try_from(bytes).is_ok(), "a message fits a datagram");
    u16::try_from(bytes).unwrap_or(u16::MAX)
}

/// The internet checksum (RFC 1071), over parts of even length but the last.
#[derive(Clone, Copy, Debug, Default)]
struct Checksum(u64);

impl Checksum {
    fn add(mut self, part: &[u8]) -> Self {
        let mut words = part.chunks_exact(2);
        for word in &mut words {
            self.0 += u64::from(u16::from_be_bytes([word[0], word[1]]));
        }
        if let [last] = words.remainder() {
            self.0 += u64::from(*last) << 8;
        }
        self
    }

    fn finish(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !u16::try_from(sum).expect("the loop folds the sum into 16 bits")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTE: Route<Ipv4Addr> = Route {
        source_mac: MacAddr::new([2, 0, 0, 0, 0, 1]),
        destination_mac: MacAddr::BROADCAST,
        source: Ipv4Addr::new(10, 0, 0, 1),
        destination: Ipv4Addr::BROADCAST,
    };

    #[test]
    fn the_checksum_of_rfc_1071_comes_out() {
        let sum = Checksum::default().add(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(!sum.finish(), 0xddf2);
    }

    #[test]
    fn a_written_ipv4_header_sums_to_zero() {
        let frame = ROUTE.dhcp(&[1, 2, 3]);
        assert_eq!(frame.len(), 14 + 20 + 8 + 3);
        assert_eq!(Checksum::default().add(&frame[14..34]).finish(), 0);
    }

    #[test]
    fn a_tagged_frame_is_told_from_a_foreign_protocol() {
        let mut frame = ROUTE.dhcp(&[]);
        frame[12..14].copy_from_slice(&[0x81, 0x00]);
        assert_eq!(Ethernet::parse(&frame).unwrap().packet().unwrap_err(), Ignored::Tagged);
        frame[12..14].copy_from_slice(&[0x08, 0x06]);
        assert_eq!(Ethernet::parse(&frame).unwrap().packet().unwrap_err(), Ignored::OtherProtocol);
    }

    #[test]
    fn fragments_are_refused_first_and_last() {
        for flags in [0x20, 0x00] {
            let mut frame = ROUTE.dhcp(&[0; 8]);
            frame[20] = flags;
            frame[21] = u8::from(flags == 0);
            assert_eq!(Ethernet::parse(&frame).unwrap().packet().unwrap_err(), Ignored::Fragment);
        }
    }

    #[test]
    fn lengths_that_reach_beyond_the_frame_are_malformed() {
        let whole = ROUTE.dhcp(&[0; 8]);
        for length in 0..whole.len() {
            let packet = Ethernet::parse(&whole[..length]).and_then(|ethernet| ethernet.packet());
            assert_eq!(packet.unwrap_err(), Ignored::Malformed, "{length} bytes");
        }
    }
}
