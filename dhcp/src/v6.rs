//! DHCPv6 for one port (RFC 9915): which reply a message gets.
//!
//! ```text
//! Solicit                -> Advertise; Reply with Rapid Commit
//! Request, Renew, Rebind -> Reply with the address, other addresses at lifetime 0
//! Confirm                -> Reply: Success for the port's address, else NotOnLink
//! Release, Decline       -> Reply: Success, NoBinding for foreign addresses; only a Decline
//!                           of the port's address is a conflict
//! Information-request    -> Reply: options
//! relayed, from servers, breaking the rules of section 16 -> silence
//! ```
//!
//! A port has one address, and at most one prefix for what is behind its guest (IA_PD, §6.3).
//! In a message with several IAs each goes to the one that names it already, else to the
//! first; the others learn that there is nothing for them. So nothing needs to be remembered
//! between messages.
//!
//! The link that RFC 9915 §18.3.3 has a Confirm judged by is the port, and the port's
//! address is the only one that works there: a guest that is told "on link" of another, as a
//! clone may be, would keep it and be heard by nobody.

mod associations;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use associations::bare;

use std::net::Ipv6Addr;

use ipnetwork::Ipv6Network;
use net::MacAddr;
use net::options::{Coded, Value, is_servers_own_v6};

use crate::answer::{Ignored, Kind, Sent};
use crate::binding::{Binding, V6};
use crate::boot::{self, Client};
use crate::codec;
use crate::fqdn::{self, Fqdn};
use crate::frame::Route;

/// The messages that clients send (RFC 9915 §7.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Type {
    Solicit,
    Request,
    Confirm,
    Renew,
    Rebind,
    Release,
    Decline,
    InformationRequest,
}

/// A client's message, as far as it matters here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Request {
    pub(crate) kind: Type,
    pub(crate) xid: [u8; 3],
    /// Option 1, echoed.
    pub(crate) client: Option<Vec<u8>>,
    /// Option 2.
    pub(crate) server: Option<Vec<u8>>,
    /// Options 3 and 25, in the order received. IA_TA is obsolete and skipped.
    pub(crate) associations: Vec<Association>,
    /// Option 6.
    pub(crate) wanted: Option<Vec<u16>>,
    /// Option 14.
    pub(crate) rapid_commit: bool,
    /// Option 39 (RFC 4704).
    pub(crate) fqdn: Option<Fqdn>,
    /// What a boot ROM says of itself: options 15, 16, 61.
    pub(crate) boot: Client,
}

/// An identity association of the client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Association {
    pub(crate) family: Family,
    /// The IAID; 0 is as good as any.
    pub(crate) id: u32,
    /// What an IA_NA names.
    pub(crate) addresses: Vec<Ipv6Addr>,
    /// What an IA_PD names, without host bits.
    pub(crate) prefixes: Vec<Ipv6Network>,
}

/// What an association is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Family {
    /// IA_NA.
    Address,
    /// IA_PD.
    Prefix,
}

/// Our message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Reply {
    pub(crate) kind: ReplyType,
    pub(crate) xid: [u8; 3],
    pub(crate) options: Vec<Opt>,
}

/// The messages that we send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ReplyType {
    Advertise,
    Reply,
}

/// An option of a reply.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Opt {
    /// 1
    Client(Vec<u8>),
    /// 2
    Server(Vec<u8>),
    /// 3 (IA_NA)
    Address { id: u32, t1: u32, t2: u32, leases: Vec<Lease>, status: Option<Status> },
    /// 25 (IA_PD)
    Prefix { id: u32, t1: u32, t2: u32, delegations: Vec<Delegation>, status: Option<Status> },
    /// 7
    Preference(u8),
    /// 13
    Status(Status),
    /// 14
    RapidCommit,
    /// 23
    Dns(Vec<Ipv6Addr>),
    /// 24, as RFC 1035 labels
    Search(Vec<u8>),
    /// 32, seconds
    RefreshTime(u32),
    /// 82, seconds
    SolMaxRt(u32),
    /// 83, seconds
    InfMaxRt(u32),
    /// 39 (RFC 4704)
    Fqdn(Vec<u8>),
    /// 16, for whom it is that insists on it
    Class([u8; 4], String),
    /// Any, as the binding has it
    Other(u16, Value),
}

/// An address and for how long, in seconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Lease {
    pub(crate) address: Ipv6Addr,
    pub(crate) preferred: u32,
    pub(crate) valid: u32,
}

/// A prefix and for how long, in seconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Delegation {
    pub(crate) prefix: Ipv6Network,
    pub(crate) preferred: u32,
    pub(crate) valid: u32,
}

/// The status codes in use (RFC 9915 §21.13).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Status {
    Success,
    NoAddrsAvail,
    NoBinding,
    NotOnLink,
    NoPrefixAvail,
}

/// `All_DHCP_Relay_Agents_and_Servers`: the only address that clients may send to.
const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// SOL_MAX_RT and INF_MAX_RT, seconds: the defaults of RFC 9915 §7.6.
const MAX_RT: u32 = 3600;
/// How long a DUID is, its type included, octets (RFC 9915 §11.1).
const DUID: std::ops::RangeInclusive<usize> = 2 + 1..=2 + 128;
/// IRT_MINIMUM, seconds (RFC 9915 §7.6).
const LEAST_REFRESH: u32 = 600;

impl Request {
    pub(crate) fn new(kind: Type, xid: [u8; 3]) -> Self {
        let associations = Vec::new();
        let (client, server, wanted) = (None, None, None);
        let (fqdn, boot) = (None, Client::default());
        Self { kind, xid, client, server, associations, wanted, rapid_commit: false, fqdn, boot }
    }
}

/// What to send for this datagram to port 547, as a whole frame.
pub(crate) fn respond(
    binding: &Binding,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    payload: &[u8],
) -> Result<Sent, Ignored> {
    // A query to a unicast address is discarded (RFC 9915 §16).
    if destination != SERVERS {
        return Err(Ignored::OtherDestination);
    }
    if source.is_unspecified() || source.is_multicast() {
        return Err(Ignored::Invalid);
    }
    let request = codec::decode_v6(payload)?;
    let v6 = binding.v6.as_ref().ok_or(Ignored::NoBinding)?;
    let server_mac = binding.server_mac();
    let duid = duid(v6.server_identity());
    let (reply, kind) = decide(binding, v6, &duid, &request)?;
    let route = Route {
        source_mac: server_mac,
        destination_mac: binding.mac,
        source: server_mac.link_local(),
        destination: source,
    };
    let (message, left_out) = codec::encode_v6(&reply);
    Ok(Sent { frame: route.dhcp(&message), kind, left_out })
}

/// The server's DUID: type DUID-LL over the server's identity, so that it is the
/// same on every node and a migrated guest finds the server it knows.
pub(crate) fn duid(server_mac: MacAddr) -> Vec<u8> {
    const DUID_LL: u16 = 3;
    const ETHERNET: u16 = 1;
    let mut duid = [DUID_LL.to_be_bytes(), ETHERNET.to_be_bytes()].concat();
    duid.extend_from_slice(&server_mac.octets());
    duid
}

/// The heart: what a message gets.
fn decide(
    binding: &Binding,
    v6: &V6,
    duid: &[u8],
    request: &Request,
) -> Result<(Reply, Kind), Ignored> {
    validate(request, duid)?;
    let mut options: Vec<Opt> = request.client.clone().map(Opt::Client).into_iter().collect();
    options.push(Opt::Server(duid.to_vec()));
    let reply = match request.kind {
        Type::Solicit if !request.rapid_commit => ReplyType::Advertise,
        _ => ReplyType::Reply,
    };
    let kind = match request.kind {
        Type::Solicit | Type::Request | Type::Renew | Type::Rebind => {
            if request.kind == Type::Solicit {
                // Whom to ask is for who has not got anything yet (RFC 9915 §21.8).
                options.push(match request.rapid_commit {
                    true => Opt::RapidCommit,
                    false => Opt::Preference(u8::MAX),
                });
            }
            let (answers, given) = associations::answer(binding, v6, request);
            options.extend(answers);
            options.extend(configuration(binding, v6, request));
            match reply {
                ReplyType::Advertise => Kind::Advertise,
                ReplyType::Reply if given.address => Kind::Reply,
                ReplyType::Reply if given.prefix => Kind::ReplyPrefix,
                ReplyType::Reply => Kind::ReplyNothing,
            }
        }
        Type::Confirm => {
            options.push(Opt::Status(associations::confirm(v6, request)?));
            Kind::Confirmed
        }
        Type::Release | Type::Decline => {
            options.push(Opt::Status(Status::Success));
            options.extend(associations::foreign(v6, request));
            match request.kind {
                Type::Release => Kind::Released,
                _ if associations::name_own(v6, request) => Kind::Declined,
                _ => Kind::ReplyNothing,
            }
        }
        Type::InformationRequest => {
            options.extend(configuration(binding, v6, request));
            Kind::Information
        }
    };
    Ok((Reply { kind: reply, xid: request.xid, options }, kind))
}

/// The validation rules for what servers receive (RFC 9915 §16.2–16.12).
fn validate(request: &Request, duid: &[u8]) -> Result<(), Ignored> {
    let needs_client = request.kind != Type::InformationRequest;
    if needs_client && request.client.is_none() {
        return Err(Ignored::Invalid);
    }
    if request.client.as_ref().is_some_and(|duid| !DUID.contains(&duid.len())) {
        return Err(Ignored::Invalid);
    }
    match (request.kind, request.server.as_deref()) {
        (Type::Solicit | Type::Confirm | Type::Rebind, Some(_)) => Err(Ignored::Invalid),
        (Type::Request | Type::Renew | Type::Release | Type::Decline, None) => {
            Err(Ignored::Invalid)
        }
        (_, Some(server)) if server != duid => Err(Ignored::OtherServer),
        (Type::InformationRequest, _) if !request.associations.is_empty() => Err(Ignored::Invalid),
        _ => Ok(()),
    }
}

const DNS: u16 = 23;
const SEARCH: u16 = 24;
const REFRESH: u16 = 32;
const FULL_NAME: u16 = 39;
const CLASS: u16 = 16;

/// What the client asked for, or all there is where it did not say; what boots gets what it
/// boots from in any case.
fn configuration(binding: &Binding, v6: &V6, request: &Request) -> Vec<Opt> {
    let mut codes: Vec<u16> = Vec::new();
    if let Some(wanted) = &request.wanted {
        codes.extend(wanted);
    } else {
        codes.extend([DNS, SEARCH, FULL_NAME]);
        let numbers = v6.options.iter().map(|option| option.code);
        codes.extend(numbers.filter(|code| !is_servers_own_v6(*code)));
    }
    if request.boot.boots() {
        codes.extend(boot::V6_FILES);
        codes.push(CLASS);
    }
    let mut seen = Vec::new();
    let mut options = Vec::new();
    for code in codes {
        if !seen.contains(&code) {
            seen.push(code);
            let other = other(v6, request, code);
            options.extend(other.or_else(|| own(binding, v6, request, code)));
        }
    }
    options
}

/// The binding's own option of this number, if it has one for this client.
fn other(v6: &V6, request: &Request, code: u16) -> Option<Opt> {
    let is_it = |option: &&Coded| option.code == code && request.boot.is_among(&option.only);
    let option = v6.options.iter().find(is_it).filter(|_| !is_servers_own_v6(code))?;
    Some(Opt::Other(code, option.value.clone()))
}

/// What the fields of the binding say under this number, if they do.
fn own(binding: &Binding, v6: &V6, request: &Request, code: u16) -> Option<Opt> {
    match code {
        CLASS => {
            request.boot.class_to_say().map(|class| Opt::Class(request.boot.enterprise, class))
        }
        DNS if !v6.dns.is_empty() => Some(Opt::Dns(v6.dns.clone())),
        SEARCH => {
            let labels = crate::labels::encode(&v6.search);
            (!labels.is_empty()).then_some(Opt::Search(labels))
        }
        REFRESH if request.kind == Type::InformationRequest => {
            Some(Opt::RefreshTime(v6.refresh.unwrap_or(v6.lease).max(LEAST_REFRESH)))
        }
        FULL_NAME => {
            if let Some(name) = &v6.fqdn {
                // Whoever asks for a name without one of its own wishes for nothing.
                let asked = request.fqdn.clone().unwrap_or(Fqdn { flags: 0, name: Vec::new() });
                return Some(Opt::Fqdn(fqdn::answer_v6(&asked, Some(name), None)));
            }
            let asked = request.fqdn.as_ref()?;
            let domain = binding.v4.as_ref().and_then(|v4| v4.domain.as_ref());
            let domain = domain.or_else(|| v6.search.first()).map(String::as_str);
            Some(Opt::Fqdn(fqdn::answer_v6(asked, binding.hostname.as_deref(), domain)))
        }
        82 => Some(Opt::SolMaxRt(MAX_RT)),
        83 => Some(Opt::InfMaxRt(MAX_RT)),
        _ => None,
    }
}
