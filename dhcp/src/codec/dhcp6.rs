//! DHCPv6 messages (RFC 9915 §8, §21).

use std::net::{IpAddr, Ipv6Addr};

use dhcproto::Encodable;
use dhcproto::v6::{self as proto6, UnknownOption as Unknown6};
use ipnetwork::Ipv6Network;
use net::options::Value;

use super::{architectures, value_bytes};
use crate::answer::Ignored;
use crate::fqdn::Fqdn;
use crate::{labels, v6};

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
            15 => request.boot.ipxe |= user_classes(value).any(|class| class == b"iPXE"),
            16 => (request.boot.enterprise, request.boot.class) = vendor_class(value),
            39 => {
                let fqdn = value.split_first();
                request.fqdn =
                    fqdn.map(|(flags, name)| Fqdn { flags: *flags, name: name.to_vec() });
            }
            61 => request.boot.arch = architectures(value),
            _ => {}
        }
    }
    Ok(request)
}

/// Classes, each after its length (RFC 9915 §21.15); what is cut off is none.
fn user_classes(mut value: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = value.split_first_chunk::<2>()?;
        let (class, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        value = rest;
        Some(class)
    })
}

/// The enterprise number and the first of its classes (RFC 9915 §21.16).
fn vendor_class(value: &[u8]) -> ([u8; 4], Vec<u8>) {
    let Some((enterprise, classes)) = value.split_first_chunk::<4>() else {
        return Default::default();
    };
    (*enterprise, user_classes(classes).next().unwrap_or_default().to_vec())
}

fn association(family: v6::Family, value: &[u8]) -> Result<v6::Association, Ignored> {
    let (id, rest) = value.split_first_chunk::<4>().ok_or(Ignored::Malformed)?;
    // T1 and T2: the client's wishes.
    let options = rest.get(8..).ok_or(Ignored::Malformed)?;
    let (mut addresses, mut prefixes) = (Vec::new(), Vec::new());
    for option in V6Options(options) {
        match (family, option?) {
            (v6::Family::Address, (5, value)) => {
                let address = value.first_chunk::<16>().filter(|_| value.len() >= 24);
                addresses.push(Ipv6Addr::from(*address.ok_or(Ignored::Malformed)?));
            }
            (v6::Family::Prefix, (26, value)) => prefixes.push(prefix(value)?),
            _ => {}
        }
    }
    Ok(v6::Association { family, id: u32::from_be_bytes(*id), addresses, prefixes })
}

/// A prefix after its two lifetimes (RFC 9915 §21.22).
fn prefix(value: &[u8]) -> Result<Ipv6Network, Ignored> {
    let value = value.get(8..).ok_or(Ignored::Malformed)?;
    let (length, rest) = value.split_first().ok_or(Ignored::Malformed)?;
    let address = rest.first_chunk::<16>().ok_or(Ignored::Malformed)?;
    let prefix = Ipv6Network::new(Ipv6Addr::from(*address), *length);
    prefix.map(v6::bare).map_err(|_| Ignored::Malformed)
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

/// What a DHCPv6 message may have: IPv6's least MTU (RFC 8200 §5) less its header and UDP's.
/// What does not fit is left out, the last first: nothing here sends fragments.
const V6_LONGEST: usize = 1280 - 40 - 8;

/// The bytes of a DHCPv6 reply, options in the order given, and how many found no room.
pub(crate) fn encode_v6(reply: &v6::Reply) -> (Vec<u8>, usize) {
    let kind = match reply.kind {
        v6::ReplyType::Advertise => proto6::MessageType::Advertise,
        v6::ReplyType::Reply => proto6::MessageType::Reply,
    };
    let header = proto6::Message::new_with_id(kind, reply.xid);
    let mut bytes = header.to_vec().expect("a vector takes every header");
    let mut left_out = 0;
    for option in &reply.options {
        let option = match option {
            v6::Opt::Other(code, value) => v6_value(*code, value),
            option => v6_option(option).to_vec().expect("a vector takes every option"),
        };
        if bytes.len() + option.len() <= V6_LONGEST {
            bytes.extend(option);
        } else {
            left_out += 1;
        }
    }
    (bytes, left_out)
}

/// An option that a binding brings; of time servers one for each (RFC 5908 §4).
fn v6_value(code: u16, value: &Value) -> Vec<u8> {
    const NTP: u16 = 56;
    const NTP_ADDRESS: u16 = 1;
    const NTP_NAME: u16 = 3;
    let option = |code: u16, data: &[u8]| {
        // One too long for its length field is left out.
        let length = u16::try_from(data.len());
        length.map_or_else(
            |_| Vec::new(),
            |length| [&code.to_be_bytes()[..], &length.to_be_bytes(), data].concat(),
        )
    };
    let server = |kind, data: &[u8]| option(NTP, &option(kind, data));
    match (code, value) {
        (NTP, Value::Addresses(list)) => {
            let one = |address: &IpAddr| {
                server(NTP_ADDRESS, &value_bytes(&Value::Addresses(vec![*address])))
            };
            list.iter().flat_map(one).collect()
        }
        (NTP, Value::Names(list)) => {
            let one = |name: &String| server(NTP_NAME, &labels::encode(std::slice::from_ref(name)));
            list.iter().flat_map(one).collect()
        }
        _ => option(code, &value_bytes(value)),
    }
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
        Opt::Prefix { id, t1, t2, delegations, status } => {
            let delegations = delegations.iter().map(|one| {
                To::IAPrefix(proto6::IAPrefix {
                    prefix_ip: one.prefix.ip(),
                    prefix_len: one.prefix.prefix(),
                    preferred_lifetime: one.preferred,
                    valid_lifetime: one.valid,
                    opts: proto6::DhcpOptions::new(),
                })
            });
            let opts = delegations.chain(status.map(status_code)).collect();
            To::IAPD(proto6::IAPD { id: *id, t1: *t1, t2: *t2, opts })
        }
        Opt::Preference(value) => To::Preference(*value),
        Opt::Status(status) => status_code(*status),
        Opt::RapidCommit => To::RapidCommit,
        Opt::Dns(servers) => To::DomainNameServers(servers.clone()),
        Opt::Search(labels) => raw(24, labels.clone()),
        Opt::RefreshTime(seconds) => To::InformationRefreshTime(*seconds),
        Opt::SolMaxRt(seconds) => raw(82, seconds.to_be_bytes().to_vec()),
        Opt::InfMaxRt(seconds) => raw(83, seconds.to_be_bytes().to_vec()),
        Opt::Fqdn(value) => raw(39, value.clone()),
        Opt::Class(enterprise, class) => {
            let length = u16::try_from(class.len()).unwrap_or_default().to_be_bytes();
            raw(16, [&enterprise[..], &length, class.as_bytes()].concat())
        }
        Opt::Other(code, value) => raw(*code, value_bytes(value)),
    }
}

fn status_code(status: v6::Status) -> proto6::DhcpOption {
    let (code, text) = match status {
        v6::Status::Success => (proto6::Status::Success, ""),
        v6::Status::NoAddrsAvail => {
            (proto6::Status::NoAddrsAvail, "the one address of this port is given elsewhere")
        }
        v6::Status::NoBinding => (proto6::Status::NoBinding, "this is not what this port has"),
        v6::Status::NotOnLink => {
            (proto6::Status::NotOnLink, "this is not the address of this port")
        }
        v6::Status::NoPrefixAvail => {
            (proto6::Status::NoPrefixAvail, "there is no prefix for this here")
        }
    };
    proto6::DhcpOption::StatusCode(proto6::StatusCode { status: code, msg: text.to_owned() })
}
