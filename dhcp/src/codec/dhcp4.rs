//! DHCPv4 messages (RFC 2131 §2, RFC 2132).

use std::net::Ipv4Addr;

use dhcproto::v4::{self as proto4, UnknownOption as Unknown4};
use dhcproto::{Decodable, Decoder, Encodable};
use net::MacAddr;
use net::options::Value;

use super::{architectures, classless_routes, value_bytes};
use crate::answer::Ignored;
use crate::boot::Client;
use crate::fqdn::Fqdn;
use crate::v4;

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
        // A longer one than an option holds would leave no room for the rest.
        client_id: options.get(61).filter(|id| id.len() <= 255).map(<[u8]>::to_vec),
        wanted: options.get(55).map(<[u8]>::to_vec),
        max_size: options.fixed(57)?.map(u16::from_be_bytes),
        rapid_commit: options.get(80).is_some(),
        fqdn: options.get(81).and_then(fqdn),
        boot: boot_client(&options),
    })
}

/// Flags, two codes of no use, name (RFC 4702 §2).
fn fqdn(value: &[u8]) -> Option<Fqdn> {
    let (header, name) = value.split_first_chunk::<3>()?;
    Some(Fqdn { flags: header[0], name: name.to_vec() })
}

/// What tells one boot ROM from another. iPXE writes its user class without the length
/// that RFC 3004 wants before it, and has an option of its own besides.
fn boot_client(options: &V4Options) -> Client {
    const IPXE: &[u8] = b"iPXE";
    const IPXE_OPTIONS: u8 = 175;
    let class = options.get(77).unwrap_or_default();
    let counted = class.split_first().map(|(_, rest)| rest);
    Client {
        arch: architectures(options.get(93).unwrap_or_default()),
        ipxe: class == IPXE || counted == Some(IPXE) || options.get(IPXE_OPTIONS).is_some(),
        class: options.get(60).unwrap_or_default().to_vec(),
        enterprise: [0; 4],
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
