//! The one place where messages become bytes and back, and the only user of `dhcproto`.
//!
//! Writing goes through `dhcproto`, one option at a time and in our order: its
//! own maps are sorted by code, and the client's order matters (RFC 2131 §4.3.1).
//! Of what is read, only the fixed header does. Its option readers stop
//! silently at the first malformed option, panic in debug builds on some lengths
//! that a guest may choose, know neither option overload nor the magic cookie,
//! and sort associations; so options are read here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dhcproto::v4::{self as proto4, UnknownOption as Unknown4};
use dhcproto::v6::{self as proto6, UnknownOption as Unknown6};
use dhcproto::{Decodable, Decoder, Encodable};
use net::MacAddr;
use net::options::Value;

use crate::answer::Ignored;
use crate::binding::Route4;
use crate::{labels, v4, v6};

/// Header, magic cookie.
const V4_HEADER: usize = 240;
const V4_SNAME: std::ops::Range<usize> = 44..108;
const V4_FILE: std::ops::Range<usize> = 108..236;

/// Reads a client's DHCPv4 message.
pub(crate) fn decode_v4(payload: &[u8]) -> Result<v4::Request, Ignored> {
    let (header, rest) = payload.split_at_checked(V4_HEADER).ok_or(Ignored::Malformed)?;
    let fixed = proto4::Message::decode(&mut Decoder::new(header)).or(Err(Ignored::Malformed))?;
    if fixed.opcode() != proto4::Opcode::BootRequest {
        return Err(Ignored::FromServer);
    }
    if header[V4_HEADER - 4..] != proto4::MAGIC {
        return Err(Ignored::NotDhcp);
    }
    // Checked before `chaddr()`, which slices by `hlen`.
    if fixed.htype() != proto4::HType::Eth || fixed.hlen() != 6 {
        return Err(Ignored::NotEthernet);
    }
    let chaddr = <[u8; 6]>::try_from(fixed.chaddr()).or(Err(Ignored::NotEthernet))?;
    let options = V4Options::read(header, rest)?;
    Ok(v4::Request {
        kind: v4_type(options.get(53).ok_or(Ignored::NotDhcp)?)?,
        xid: fixed.xid(),
        flags: fixed.flags().into(),
        ciaddr: fixed.ciaddr(),
        giaddr: fixed.giaddr(),
        chaddr: MacAddr::new(chaddr),
        requested: options.fixed(50)?.map(Ipv4Addr::from),
        server: options.fixed(54)?.map(Ipv4Addr::from),
        client_id: options.get(61).map(<[u8]>::to_vec),
        wanted: options.get(55).map(<[u8]>::to_vec),
        max_size: options.fixed(57)?.map(u16::from_be_bytes),
        rapid_commit: options.get(80).is_some(),
        fqdn: options.get(81).and_then(fqdn),
        boot: boot_client(&options),
    })
}

/// Flags, two codes of no use, name (RFC 4702 §2).
fn fqdn(value: &[u8]) -> Option<v4::Fqdn> {
    let (header, name) = value.split_first_chunk::<3>()?;
    Some(v4::Fqdn { flags: header[0], name: name.to_vec() })
}

/// What tells one boot ROM from another. iPXE writes its user class without the length
/// that RFC 3004 wants before it, and has an option of its own besides.
fn boot_client(options: &V4Options) -> v4::Client {
    const IPXE: &[u8] = b"iPXE";
    const IPXE_OPTIONS: u8 = 175;
    let class = options.get(77).unwrap_or_default();
    let counted = class.split_first().map(|(_, rest)| rest);
    let arch = options.get(93).unwrap_or_default().chunks_exact(2);
    v4::Client {
        arch: arch.map(|arch| u16::from_be_bytes([arch[0], arch[1]])).collect(),
        ipxe: class == IPXE || counted == Some(IPXE) || options.get(IPXE_OPTIONS).is_some(),
        class: options.get(60).unwrap_or_default().to_vec(),
        machine: options.get(97).map(<[u8]>::to_vec),
    }
}

fn v4_type(value: &[u8]) -> Result<v4::Type, Ignored> {
    match value {
        [1] => Ok(v4::Type::Discover),
        [2] => Ok(v4::Type::Offer),
        [3] => Ok(v4::Type::Request),
        [4] => Ok(v4::Type::Decline),
        [5] => Ok(v4::Type::Ack),
        [6] => Ok(v4::Type::Nak),
        [7] => Ok(v4::Type::Release),
        [8] => Ok(v4::Type::Inform),
        [_] => Err(Ignored::UnknownType),
        _ => Err(Ignored::Malformed),
    }
}

/// The options of a DHCPv4 message, parts of one option joined in order (RFC 3396).
#[derive(Debug, Default)]
struct V4Options(Vec<(u8, Vec<u8>)>);

impl V4Options {
    /// Reads the options field, then `file` and `sname` if option 52 says so.
    fn read(header: &[u8], options: &[u8]) -> Result<Self, Ignored> {
        let mut all = Self::default();
        all.read_field(options)?;
        let [overload] = all.fixed(52)?.unwrap_or([0]);
        if overload & 1 != 0 {
            all.read_field(&header[V4_FILE])?;
        }
        if overload & 2 != 0 {
            all.read_field(&header[V4_SNAME])?;
        }
        Ok(all)
    }

    fn read_field(&mut self, mut field: &[u8]) -> Result<(), Ignored> {
        loop {
            field = match field {
                // END, or a field that ends without: both are seen in the wild.
                [] | [255, ..] => return Ok(()),
                [0, rest @ ..] => rest,
                [code, length, rest @ ..] => {
                    let (value, rest) =
                        rest.split_at_checked(usize::from(*length)).ok_or(Ignored::Malformed)?;
                    self.add(*code, value);
                    rest
                }
                [_] => return Err(Ignored::Malformed),
            }
        }
    }

    fn add(&mut self, code: u8, value: &[u8]) {
        match self.0.iter_mut().find(|(known, _)| *known == code) {
            Some((_, joined)) => joined.extend_from_slice(value),
            None => self.0.push((code, value.to_vec())),
        }
    }

    fn get(&self, code: u8) -> Option<&[u8]> {
        self.0.iter().find(|(known, _)| *known == code).map(|(_, value)| value.as_slice())
    }

    /// The value of an option of `N` bytes; another length makes the message malformed.
    fn fixed<const N: usize>(&self, code: u8) -> Result<Option<[u8; N]>, Ignored> {
        self.get(code).map(|value| value.try_into().or(Err(Ignored::Malformed))).transpose()
    }
}

/// The fixed part of a DHCPv4 reply with its magic cookie: 240 bytes. `file` and
/// `sname` hold options that found no other place, or text, at most 128 and 64 bytes.
pub(crate) fn encode_v4_header(reply: &v4::Reply, file: &[u8], sname: &[u8]) -> Vec<u8> {
    let none = Ipv4Addr::UNSPECIFIED;
    let chaddr = reply.chaddr.octets();
    let (ciaddr, yiaddr, siaddr) = (reply.ciaddr, reply.yiaddr, reply.siaddr);
    let mut header = proto4::Message::new_with_id(reply.xid, ciaddr, yiaddr, siaddr, none, &chaddr);
    header.set_opcode(proto4::Opcode::BootReply).set_flags(reply.flags.into());
    header.set_fname(file).set_sname(sname);
    header.to_vec().expect("no field is longer than its place")
}

/// One DHCPv4 option, in parts of 255 bytes where it is longer (RFC 3396).
pub(crate) fn encode_v4_option(option: &v4::Opt) -> Vec<u8> {
    use proto4::DhcpOption as To;
    use v4::Opt;
    let raw = |code: u8, data: Vec<u8>| To::Unknown(Unknown4::new(code.into(), data));
    let option = match option {
        Opt::Mask(mask) => To::SubnetMask(*mask),
        Opt::Router(router) => To::Router(vec![*router]),
        Opt::Dns(servers) => To::DomainNameServer(servers.clone()),
        Opt::Hostname(name) => To::Hostname(name.clone()),
        Opt::Domain(name) => To::DomainName(name.clone()),
        Opt::Mtu(mtu) => To::InterfaceMtu(*mtu),
        Opt::Broadcast(address) => To::BroadcastAddr(*address),
        Opt::Lease(seconds) => To::AddressLeaseTime(*seconds),
        Opt::Type(kind) => To::MessageType(to_v4_type(*kind)),
        Opt::Server(address) => To::ServerIdentifier(*address),
        Opt::Message(text) => To::Message(text.clone()),
        Opt::Renewal(seconds) => To::Renewal(*seconds),
        Opt::Rebinding(seconds) => To::Rebinding(*seconds),
        Opt::ClientId(id) => To::ClientIdentifier(id.clone()),
        Opt::Search(labels) => raw(119, labels.clone()),
        Opt::Routes(code, routes) => raw(code.code(), classless_routes(routes)),
        Opt::Class(class) => raw(60, class.as_bytes().to_vec()),
        // Without a value: `dhcproto` writes nothing for that.
        Opt::RapidCommit => return vec![80, 0],
        Opt::Fqdn(value) => raw(81, value.clone()),
        Opt::Machine(id) => raw(97, id.clone()),
        Opt::Other(code, value) => raw(*code, v4_value(*code, value)),
    };
    option.to_vec().expect("a vector takes every option")
}

/// The bytes of an option that a binding brings.
fn v4_value(code: u8, value: &Value) -> Vec<u8> {
    const SIP_SERVERS: u8 = 120;
    let bytes = value_bytes(value);
    match (code, value) {
        // An octet that says which of the two follows (RFC 3361 §3).
        (SIP_SERVERS, Value::Names(_)) => [&[0], &bytes[..]].concat(),
        (SIP_SERVERS, Value::Addresses(_)) => [&[1], &bytes[..]].concat(),
        _ => bytes,
    }
}

fn value_bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::Addresses(list) => list
            .iter()
            .flat_map(|address| match address {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            })
            .collect(),
        Value::Names(names) => labels::encode(names),
        Value::Routes(routes) => {
            let route = |(to, via): &(_, _)| Route4 { to: *to, via: *via };
            classless_routes(&routes.iter().map(route).collect::<Vec<_>>())
        }
        Value::Text(text) => text.as_bytes().to_vec(),
        Value::Flag(flag) => vec![u8::from(*flag)],
        Value::U8(number) => vec![*number],
        Value::U16(number) => number.to_be_bytes().to_vec(),
        Value::U32(number) => number.to_be_bytes().to_vec(),
        Value::I32(number) => number.to_be_bytes().to_vec(),
        Value::Bytes(octets) => octets.clone(),
    }
}

/// Prefix length, the octets of the destination that it covers, router (RFC 3442).
fn classless_routes(routes: &[Route4]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(routes.len() * 9);
    for Route4 { to, via } in routes {
        bytes.push(to.prefix());
        let significant = usize::from(to.prefix()).div_ceil(8);
        bytes.extend_from_slice(&to.network().octets()[..significant]);
        bytes.extend_from_slice(&via.octets());
    }
    bytes
}

fn to_v4_type(kind: v4::Type) -> proto4::MessageType {
    match kind {
        v4::Type::Discover => proto4::MessageType::Discover,
        v4::Type::Offer => proto4::MessageType::Offer,
        v4::Type::Request => proto4::MessageType::Request,
        v4::Type::Decline => proto4::MessageType::Decline,
        v4::Type::Ack => proto4::MessageType::Ack,
        v4::Type::Nak => proto4::MessageType::Nak,
        v4::Type::Release => proto4::MessageType::Release,
        v4::Type::Inform => proto4::MessageType::Inform,
    }
}

/// Reads a client's DHCPv6 message.
pub(crate) fn decode_v6(payload: &[u8]) -> Result<v6::Request, Ignored> {
    let (header, options) = payload.split_first_chunk::<4>().ok_or(Ignored::Malformed)?;
    let kind = match header[0] {
        1 => v6::Type::Solicit,
        3 => v6::Type::Request,
        4 => v6::Type::Confirm,
        5 => v6::Type::Renew,
        6 => v6::Type::Rebind,
        8 => v6::Type::Release,
        9 => v6::Type::Decline,
        11 => v6::Type::InformationRequest,
        2 | 7 | 10 => return Err(Ignored::FromServer),
        12 | 13 => return Err(Ignored::Relayed),
        _ => return Err(Ignored::UnknownType),
    };
    let xid = [header[1], header[2], header[3]];
    let mut request = v6::Request::new(kind, xid);
    for option in V6Options(options) {
        let (code, value) = option?;
        match code {
            1 if request.client.is_none() => request.client = Some(value.to_vec()),
            2 if request.server.is_none() => request.server = Some(value.to_vec()),
            3 => request.associations.push(association(v6::Family::Address, value)?),
            25 => request.associations.push(association(v6::Family::Prefix, value)?),
            6 => request.wanted = Some(option_request(value)?),
            14 => request.rapid_commit = true,
            _ => {}
        }
    }
    Ok(request)
}

fn association(family: v6::Family, value: &[u8]) -> Result<v6::Association, Ignored> {
    let (id, rest) = value.split_first_chunk::<4>().ok_or(Ignored::Malformed)?;
    // T1 and T2: the client's wishes.
    let options = rest.get(8..).ok_or(Ignored::Malformed)?;
    let mut addresses = Vec::new();
    for option in V6Options(options) {
        if let (5, value) = option? {
            let address = value.first_chunk::<16>().filter(|_| value.len() >= 24);
            addresses.push(Ipv6Addr::from(*address.ok_or(Ignored::Malformed)?));
        }
    }
    Ok(v6::Association { family, id: u32::from_be_bytes(*id), addresses })
}

fn option_request(value: &[u8]) -> Result<Vec<u16>, Ignored> {
    if !value.len().is_multiple_of(2) {
        return Err(Ignored::Malformed);
    }
    Ok(value.chunks_exact(2).map(|code| u16::from_be_bytes([code[0], code[1]])).collect())
}

/// DHCPv6 options one after the other; a cut-off one ends them with an error.
struct V6Options<'a>(&'a [u8]);

impl<'a> Iterator for V6Options<'a> {
    type Item = Result<(u16, &'a [u8]), Ignored>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let option = self.0.split_first_chunk::<4>().and_then(|(header, rest)| {
            let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
            let (value, rest) = rest.split_at_checked(length)?;
            Some((u16::from_be_bytes([header[0], header[1]]), value, rest))
        });
        let Some((code, value, rest)) = option else {
            self.0 = &[];
            return Some(Err(Ignored::Malformed));
        };
        self.0 = rest;
        Some(Ok((code, value)))
    }
}

/// The bytes of a DHCPv6 reply, options in the order given.
pub(crate) fn encode_v6(reply: &v6::Reply) -> Vec<u8> {
    let kind = match reply.kind {
        v6::ReplyType::Advertise => proto6::MessageType::Advertise,
        v6::ReplyType::Reply => proto6::MessageType::Reply,
    };
    let header = proto6::Message::new_with_id(kind, reply.xid);
    let mut bytes = header.to_vec().expect("a vector takes every header");
    for option in &reply.options {
        let option = v6_option(option).to_vec();
        bytes.extend(option.expect("a vector takes every option"));
    }
    bytes
}

fn v6_option(option: &v6::Opt) -> proto6::DhcpOption {
    use proto6::DhcpOption as To;
    use v6::Opt;
    let raw = |code: u16, data: Vec<u8>| To::Unknown(Unknown6::new(code.into(), data));
    match option {
        Opt::Client(duid) => To::ClientId(duid.clone()),
        Opt::Server(duid) => To::ServerId(duid.clone()),
        Opt::Address { id, t1, t2, leases, status } => {
            let leases = leases.iter().map(|lease| {
                To::IAAddr(proto6::IAAddr {
                    addr: lease.address,
                    preferred_life: lease.preferred,
                    valid_life: lease.valid,
                    opts: proto6::DhcpOptions::new(),
                })
            });
            let opts = leases.chain(status.map(status_code)).collect();
            To::IANA(proto6::IANA { id: *id, t1: *t1, t2: *t2, opts })
        }
        Opt::Prefix { id, status } => {
            let opts = std::iter::once(status_code(*status)).collect();
            To::IAPD(proto6::IAPD { id: *id, t1: 0, t2: 0, opts })
        }
        Opt::Preference(value) => To::Preference(*value),
        Opt::Status(status) => status_code(*status),
        Opt::RapidCommit => To::RapidCommit,
        Opt::Dns(servers) => To::DomainNameServers(servers.clone()),
        Opt::Search(labels) => raw(24, labels.clone()),
        Opt::RefreshTime(seconds) => To::InformationRefreshTime(*seconds),
        Opt::SolMaxRt(seconds) => raw(82, seconds.to_be_bytes().to_vec()),
        Opt::InfMaxRt(seconds) => raw(83, seconds.to_be_bytes().to_vec()),
    }
}

fn status_code(status: v6::Status) -> proto6::DhcpOption {
    let (code, text) = match status {
        v6::Status::Success => (proto6::Status::Success, ""),
        v6::Status::NoAddrsAvail => {
            (proto6::Status::NoAddrsAvail, "the one address of this port is given elsewhere")
        }
        v6::Status::NoBinding => {
            (proto6::Status::NoBinding, "this is not the address of this port")
        }
        v6::Status::NotOnLink => {
            (proto6::Status::NotOnLink, "this is not the address of this port")
        }
        v6::Status::NoPrefixAvail => {
            (proto6::Status::NoPrefixAvail, "no prefixes are delegated here")
        }
    };
    proto6::DhcpOption::StatusCode(proto6::StatusCode { status: code, msg: text.to_owned() })
}
