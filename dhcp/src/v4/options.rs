//! The DHCPv4 options that are sent, typed, and which of them a request gets.

use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;
use net::options::{Coded, Value, is_servers_own};

use super::{Reply, Request, Type};
use crate::binding::{INFINITE, Route4, V4};
use crate::codec;
use crate::{boot, fqdn};

/// An option of a reply. Text and lists are not empty.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Opt {
    /// 1
    Mask(Ipv4Addr),
    /// 3
    Router(Ipv4Addr),
    /// 6
    Dns(Vec<Ipv4Addr>),
    /// 12
    Hostname(String),
    /// 15
    Domain(String),
    /// 26, bytes
    Mtu(u16),
    /// 28
    Broadcast(Ipv4Addr),
    /// 51, seconds
    Lease(u32),
    /// 53
    Type(Type),
    /// 54
    Server(Ipv4Addr),
    /// 56
    Message(String),
    /// 58 (T1), seconds
    Renewal(u32),
    /// 59 (T2), seconds
    Rebinding(u32),
    /// 61, as the client sent it (RFC 6842)
    ClientId(Vec<u8>),
    /// 60, for whom it is that insists on it
    Class(String),
    /// 80 (RFC 4039)
    RapidCommit,
    /// 81 (RFC 4702)
    Fqdn(Vec<u8>),
    /// 97, as the client sent it (RFC 4578 §2.3)
    Machine(Vec<u8>),
    /// 119, as RFC 1035 labels (RFC 3397)
    Search(Vec<u8>),
    /// 121 (RFC 3442), or 249 as older Windows asks for it
    Routes(RoutesCode, Vec<Route4>),
    /// Any, as the binding has it
    Other(u8, Value),
}

/// The two codes under which clients know classless routes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum RoutesCode {
    Standard,
    Microsoft,
}

impl RoutesCode {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Standard => 121,
            Self::Microsoft => 249,
        }
    }
}

/// Classless routes, and what a client that asks for them, too, does not get beside them:
/// router and static routes (RFC 3442, "DHCP Server Administrator Responsibilities").
pub(super) const ROUTES: u8 = 121;
const REPLACED_BY_ROUTES: [u8; 2] = [3, 33];

/// Never sent unasked: who does not know it would do without IPv4 (RFC 8925 §3.2).
const V6_ONLY: u8 = 108;

/// What every reply starts with: its type, who answers, whom (RFC 6842).
pub(super) fn head(v4: &V4, request: &Request, kind: Type) -> Vec<Opt> {
    let mut options = vec![Opt::Type(kind), Opt::Server(v4.server)];
    options.extend(request.client_id.clone().map(Opt::ClientId));
    options
}

/// The lease and its times. The lease a client asks for changes nothing: the
/// address is its own for good, and a shorter lease would only renew more often.
pub(super) fn times(v4: &V4) -> Vec<Opt> {
    let lease = v4.lease;
    if lease == INFINITE {
        return vec![Opt::Lease(lease)];
    }
    let (half, most) = (lease / 2, lease - lease / 8);
    let (t1, t2) = (v4.t1.unwrap_or(half), v4.t2.unwrap_or(most));
    // The lease may be another one than that which they were chosen for.
    let (t1, t2) = if t1 < t2 && t2 < lease { (t1, t2) } else { (half, most) };
    vec![Opt::Lease(lease), Opt::Renewal(t1), Opt::Rebinding(t2)]
}

/// What configures the guest: the mask always, then what it asked for in its own
/// order (RFC 2131 §4.3.1), or everything where it did not say; then what is always sent.
pub(super) fn configuration(v4: &V4, hostname: Option<&str>, request: &Request) -> Vec<Opt> {
    // Everything there is, the most needed first: what is last falls off a short datagram.
    const EVERYTHING: [u8; 8] = [121, 3, 6, 26, 12, 15, 119, 28];
    const MASK: u8 = 1;
    let mut codes: Vec<u8> = Vec::new();
    if let Some(wanted) = &request.wanted {
        let routed = wanted.contains(&ROUTES) && option_of(v4, hostname, request, ROUTES).is_some();
        codes.extend(wanted.iter().filter(|code| !(routed && REPLACED_BY_ROUTES.contains(code))));
    } else {
        codes.extend(EVERYTHING);
        codes.extend(v4.options.iter().filter_map(number).filter(|code| *code != V6_ONLY));
    }
    codes.extend(v4.always.iter().filter(|code| **code != V6_ONLY));
    if request.boot.boots() {
        codes.extend([boot::SERVER, boot::FILE, boot::CLASS]);
    }
    // The mask must come before the router (RFC 2132 §3.3).
    let mut options: Vec<Opt> = other(v4, request, MASK).into_iter().collect();
    if options.is_empty() {
        options.push(Opt::Mask(mask(v4.prefix)));
    }
    if let Some(asked) = &request.fqdn {
        options.push(Opt::Fqdn(fqdn::answer(asked, hostname, v4.domain.as_deref())));
    }
    options.extend(request.boot.machine.clone().map(Opt::Machine));
    let mut seen = vec![MASK];
    for code in codes {
        if !seen.contains(&code) {
            seen.push(code);
            options.extend(option_of(v4, hostname, request, code));
        }
    }
    options
}

/// The reply with the router, if the client knows one, in the place of its routes.
pub(super) fn router_for_routes(v4: &V4, request: &Request, mut reply: Reply) -> Reply {
    const ROUTER: u8 = 3;
    let at = reply.options.iter().position(|one| codec::encode_v4_option(one)[0] == ROUTES);
    let is_wanted = request.wanted.as_ref().is_none_or(|wanted| wanted.contains(&ROUTER));
    let router = option_of(v4, None, request, ROUTER).filter(|_| is_wanted);
    if let Some(at) = at {
        let has_one = reply.options.iter().any(|one| codec::encode_v4_option(one)[0] == ROUTER);
        reply.options.splice(at..=at, router.filter(|_| !has_one));
    }
    reply
}

/// What a client that asks for this number gets.
fn option_of(v4: &V4, hostname: Option<&str>, request: &Request, code: u8) -> Option<Opt> {
    other(v4, request, code).or_else(|| own(v4, hostname, request, code))
}

/// The binding's own option of this number, if it has one for this client.
fn other(v4: &V4, request: &Request, code: u8) -> Option<Opt> {
    chosen(v4, request, code).map(|option| Opt::Other(code, option.value.clone()))
}

fn chosen<'a>(v4: &'a V4, request: &Request, code: u8) -> Option<&'a Coded> {
    let is_it =
        |option: &&Coded| number(option) == Some(code) && request.boot.is_among(&option.only);
    v4.options.iter().find(is_it)
}

/// The number of an option, unless it is one that only the server itself may say: a
/// binding is not always written by who checks.
fn number(option: &Coded) -> Option<u8> {
    u8::try_from(option.code).ok().filter(|code| !is_servers_own(*code))
}

/// The text of the binding's own option of this number, for this client.
pub(super) fn text_for(v4: &V4, request: &Request, code: u8) -> Option<String> {
    match &chosen(v4, request, code)?.value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    }
}

/// Whether the guest may do without IPv4, and the binding would have it so (RFC 8925).
pub(super) fn prefers_v6(v4: &V4, request: &Request) -> bool {
    let wanted = request.wanted.as_ref().is_some_and(|wanted| wanted.contains(&V6_ONLY));
    wanted && chosen(v4, request, V6_ONLY).is_some()
}

/// What the fields of the binding say under this number, if they do.
fn own(v4: &V4, hostname: Option<&str>, request: &Request, code: u8) -> Option<Opt> {
    match code {
        3 => v4.gateway.map(Opt::Router),
        6 => non_empty(v4.dns.clone()).map(Opt::Dns),
        12 => text(hostname).map(Opt::Hostname),
        15 => text(v4.domain.as_deref()).map(Opt::Domain),
        26 => v4.mtu.map(Opt::Mtu),
        28 => broadcast(v4).map(Opt::Broadcast),
        boot::CLASS => request.boot.class_to_say().map(Opt::Class),
        119 => non_empty(crate::labels::encode(&v4.search)).map(Opt::Search),
        121 => non_empty(routes(v4)).map(|list| Opt::Routes(RoutesCode::Standard, list)),
        249 => non_empty(routes(v4)).map(|list| Opt::Routes(RoutesCode::Microsoft, list)),
        _ => None,
    }
}

/// The routes of option 121. A client that takes them ignores option 3 (RFC 3442),
/// so the default route is among them, and so is a route to a router off the link.
fn routes(v4: &V4) -> Vec<Route4> {
    let on_link = v4.gateway.is_none_or(|gateway| {
        Ipv4Network::new(v4.address, v4.prefix).is_ok_and(|subnet| subnet.contains(gateway))
    });
    if v4.routes.is_empty() && on_link {
        return Vec::new();
    }
    let host = |address| Ipv4Network::from(address);
    let everywhere = Ipv4Network::new(Ipv4Addr::UNSPECIFIED, 0).expect("zero bits are a prefix");
    let mut routes = v4.routes.clone();
    if let Some(gateway) = v4.gateway {
        if !on_link {
            routes.insert(0, Route4 { to: host(gateway), via: Ipv4Addr::UNSPECIFIED });
        }
        if !routes.iter().any(|route| route.to.prefix() == 0) {
            routes.push(Route4 { to: everywhere, via: gateway });
        }
    }
    routes
}

/// The subnet's broadcast address, where it has one (RFC 3021: not for /31 and /32).
pub(super) fn broadcast(v4: &V4) -> Option<Ipv4Addr> {
    let subnet = Ipv4Network::new(v4.address, v4.prefix).ok()?;
    (v4.prefix < 31).then(|| subnet.broadcast())
}

fn mask(prefix: u8) -> Ipv4Addr {
    let host_bits = 32 - u32::from(prefix.min(32));
    Ipv4Addr::from_bits(u32::MAX.checked_shl(host_bits).unwrap_or(0))
}

fn non_empty<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn text(text: Option<&str>) -> Option<String> {
    text.filter(|text| !text.is_empty() && text.len() <= 255).map(str::to_owned)
}
