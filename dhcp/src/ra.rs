//! Router advertisements for one port (RFC 4861, RFC 4191, RFC 8106, RFC 8781, RFC 8910,
//! RFC 9463),
//! written by hand.
//!
//! The guest's default router is the sender of the advertisement, so everything
//! about it is the router port's: ethernet source, link-local source, source
//! link-layer address option. A guest that migrates sees no difference.
//!
//! A guest that asks is answered at once. The delay of up to half a second that RFC 4861
//! §6.2.6 wants before answers keeps the routers of a link from talking all at a time; on a
//! port there is one, and one guest to hear it, which waits for its route.

#[cfg(test)]
mod tests;

use std::net::Ipv6Addr;
use std::time::Duration;

use ipnetwork::Ipv6Network;
use net::MacAddr;
use net::options::ra::{Preference, RouteInfo};

use crate::answer::{Ignored, Kind, Sent};
use crate::binding::{Binding, Prefix, Ra};
use crate::frame::{self, Route};
use crate::labels;

const ROUTER_ADVERTISEMENT: u8 = 134;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const CURRENT_HOP_LIMIT: u8 = 64;
/// MAX_INITIAL_RTR_ADVERTISEMENTS and MAX_INITIAL_RTR_ADVERT_INTERVAL (RFC 4861 §10).
pub(crate) const INITIAL_ADVERTISEMENTS: u64 = 3;
const INITIAL_INTERVAL: Duration = Duration::from_secs(16);
/// MAX_FINAL_RTR_ADVERTISEMENTS (RFC 4861 §10).
pub(crate) const FINAL_ADVERTISEMENTS: u64 = 3;
/// MIN_DELAY_BETWEEN_RAS (RFC 4861 §10).
pub(crate) const LEAST_INTERVAL: Duration = Duration::from_secs(3);

/// What to send for this router solicitation, as a whole frame: at once, and to
/// the guest alone unless it has no address yet.
pub(crate) fn respond(
    binding: &Binding,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    hop_limit: u8,
    message: &[u8],
) -> Result<Sent, Ignored> {
    validate(source, hop_limit, message)?;
    let ra = binding.ra.as_ref().ok_or(Ignored::NoBinding)?;
    if destination != ALL_ROUTERS && destination != ra.router_mac.link_local() {
        return Err(Ignored::OtherDestination);
    }
    if !frame::icmp_checksum_holds(source, destination, message) {
        return Err(Ignored::Checksum);
    }
    let destination = if source.is_unspecified() { ALL_NODES } else { source };
    Ok(advertise(ra, Says::default(), (binding.mac, destination)))
}

/// An advertisement to all nodes: the periodic one.
///
/// The frame is for the guest alone, though the packet is for all (RFC 6085): behind one
/// interface there may be guests with other routers.
#[must_use]
pub fn advertisement(ra: &Ra, guest: MacAddr) -> Vec<u8> {
    advertise(ra, Says::default(), (guest, ALL_NODES)).frame
}

/// The same after a change: what is `gone` goes on no longer than this.
pub(crate) fn advertisement_after(ra: &Ra, gone: Option<&Ra>, guest: MacAddr) -> Sent {
    advertise(ra, Says { gone, withdrawn: false }, (guest, ALL_NODES))
}

/// The last advertisement of a router that is no longer the guest's: lifetime 0
/// (RFC 4861 §6.2.5), and nothing else that comes from it goes on. For a changed binding,
/// never for a guest that moves away.
pub(crate) fn withdrawal(ra: &Ra, guest: MacAddr) -> Sent {
    advertise(ra, Says { gone: None, withdrawn: true }, (guest, ALL_NODES))
}

/// What guests heard in `said` and `ra` does not say any more: it would live on by the
/// lifetime that it had. Lists only; the rest is that of `ra`.
pub(crate) fn gone(said: &Ra, ra: &Ra) -> Ra {
    fn missing<T: Clone>(said: &[T], is_there: impl Fn(&T) -> bool) -> Vec<T> {
        said.iter().filter(|one| !is_there(one)).cloned().collect()
    }
    let has_route = |one: &RouteInfo| ra.routes.iter().any(|route| route.to == one.to);
    Ra {
        prefixes: said.prefixes.iter().filter_map(|prefix| gone_of(prefix, ra)).collect(),
        rdnss: missing(&said.rdnss, |one| ra.rdnss.contains(one)),
        dnssl: missing(&said.dnssl, |one| ra.dnssl.contains(one)),
        routes: missing(&said.routes, has_route),
        encrypted_dns: missing(&said.encrypted_dns, |one| ra.encrypted_dns.contains(one)),
        pref64: missing(&said.pref64, |one| ra.pref64.contains(one)),
        ..Ra::new(ra.router_mac)
    }
}

/// What of a prefix is over: all of it, or that addresses are formed in it.
fn gone_of(said: &Prefix, ra: &Ra) -> Option<Prefix> {
    match ra.prefixes.iter().find(|one| one.network.network() == said.network.network()) {
        None => Some(*said),
        Some(one) if said.autonomous && !one.autonomous => Some(Prefix { on_link: false, ..*said }),
        Some(_) => None,
    }
}

/// How long to wait for the next advertisement to all nodes after `sent` of them.
///
/// Where there are no periodic ones it comes before the guest forgets its router: a guest
/// asks when it comes up, and Linux's not again (RFC 4861 §6.3.7).
///
/// `random` spreads the ports of a host: any number, a new one each time. The first
/// few come quickly, for guests that missed one while booting (RFC 4861 §6.2.4).
#[must_use]
pub fn interval(ra: &Ra, sent: u64, random: u64) -> Duration {
    let (least, most) = match ra.max_interval {
        0 => (lifetime_of_the_rest(ra) / 4, lifetime_of_the_rest(ra) / 3),
        most => (ra.min_interval.into(), most.into()),
    };
    let most = Duration::from_secs(most.into()).max(LEAST_INTERVAL);
    let least = Duration::from_secs(least.into()).clamp(LEAST_INTERVAL, most);
    let spread = u64::try_from((most - least).as_millis()).expect("seconds in 32 bits");
    let interval = least + Duration::from_millis(random % (spread + 1));
    let is_early = sent < INITIAL_ADVERTISEMENTS && ra.max_interval != 0;
    if is_early { interval.min(INITIAL_INTERVAL) } else { interval }
}

/// The rules for received solicitations (RFC 4861 §6.1.1), but for the checksum.
fn validate(source: Ipv6Addr, hop_limit: u8, message: &[u8]) -> Result<(), Ignored> {
    const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
    if hop_limit != 255 || source.is_multicast() {
        return Err(Ignored::Invalid);
    }
    // Type, code, checksum, reserved.
    let mut options = message.get(8..).ok_or(Ignored::Malformed)?;
    if message[1] != 0 {
        return Err(Ignored::Invalid);
    }
    while let [kind, length, ..] = options {
        if *length == 0 || (*kind == SOURCE_LINK_LAYER_ADDRESS && source.is_unspecified()) {
            return Err(Ignored::Invalid);
        }
        options = options.get(usize::from(*length) * 8..).ok_or(Ignored::Malformed)?;
    }
    if options.is_empty() { Ok(()) } else { Err(Ignored::Malformed) }
}

/// Whether this frame is an advertisement to all nodes, of which there is to be one in
/// [`LEAST_INTERVAL`] only (RFC 4861 §6.2.6).
pub(crate) fn is_to_all(frame: &[u8]) -> bool {
    // After the ethernet header and what of the other precedes the destination.
    frame.get(14 + 24..14 + 40) == Some(&ALL_NODES.octets())
}

/// What an advertisement says beside what the router has to say.
#[derive(Clone, Copy, Debug, Default)]
struct Says<'a> {
    /// That the router is none any more, and all of it is over.
    withdrawn: bool,
    /// That this is over.
    gone: Option<&'a Ra>,
}

fn advertise(ra: &Ra, says: Says<'_>, (mac, destination): (MacAddr, Ipv6Addr)) -> Sent {
    let route = Route {
        source_mac: ra.router_mac,
        destination_mac: mac,
        source: ra.router_mac.link_local(),
        destination,
    };
    let Message { bytes, left_out } = message(ra, says);
    Sent { frame: route.icmp(bytes), kind: Kind::RouterAdvertisement, left_out }
}

/// A message, and how many options found no room in it.
#[derive(Debug)]
struct Message {
    bytes: Vec<u8>,
    left_out: usize,
}

/// What every link carries (RFC 8200 §5), less the IPv6 header.
const LONGEST: usize = 1280 - 40;

/// ```text
/// type code checksum | hop limit, M O, router lifetime | reachable | retransmit | options
/// ```
fn message(ra: &Ra, says: Says<'_>) -> Message {
    let lifetime = if says.withdrawn { 0 } else { ra.lifetime };
    // Who is no default router has no preference as one (RFC 4191 §2.2).
    let preference = if lifetime == 0 { 0 } else { preference(ra.preference) };
    let flags = u8::from(ra.managed) << 7 | u8::from(ra.other) << 6 | preference;
    let mut bytes = vec![ROUTER_ADVERTISEMENT, 0, 0, 0, CURRENT_HOP_LIMIT, flags];
    bytes.extend_from_slice(&lifetime.to_be_bytes());
    // Reachable time and retransmit timer: unspecified.
    bytes.extend_from_slice(&[0; 8]);
    let mut message = Message { bytes, left_out: 0 };
    message.add(1, &ra.router_mac.octets());
    if let Some(mtu) = ra.mtu {
        message.add(5, &[&[0; 2][..], &mtu.to_be_bytes()].concat());
    }
    message.add_lists(
        ra,
        (ra.valid, ra.preferred),
        if says.withdrawn { 0 } else { lifetime_of_the_rest(ra) },
    );
    if let Some(uri) = &ra.captive_portal {
        message.add(37, uri.as_bytes());
    }
    if let Some(gone) = says.gone {
        message.add_lists(gone, (0, 0), 0);
    }
    message
}

impl Message {
    /// Prefixes with these lifetimes, valid and preferred, and what else there may be several
    /// of, for this long; seconds.
    fn add_lists(&mut self, ra: &Ra, of_prefixes: (u32, u32), seconds: u32) {
        for prefix in &ra.prefixes {
            self.add(3, &prefix_information(prefix, of_prefixes));
        }
        let dns_lifetime = seconds.to_be_bytes();
        if !ra.rdnss.is_empty() {
            let servers: Vec<u8> = ra.rdnss.iter().flat_map(Ipv6Addr::octets).collect();
            self.add(25, &[&[0; 2], &dns_lifetime[..], &servers].concat());
        }
        let search = labels::encode(&ra.dnssl);
        if !search.is_empty() {
            self.add(31, &[&[0; 2], &dns_lifetime[..], &search].concat());
        }
        for route in &ra.routes {
            self.add(24, &route_information(route, seconds));
        }
        for prefix in &ra.pref64 {
            self.add(38, &nat64_prefix(*prefix, seconds));
        }
        for resolver in &ra.encrypted_dns {
            self.add(144, &resolver.advertised(seconds));
        }
    }

    /// Appends an option: type, length in units of eight octets, body, zeros. One too
    /// long for its length field, or for a packet, is left out.
    fn add(&mut self, kind: u8, body: &[u8]) {
        let units = (2 + body.len()).div_ceil(8);
        let end = self.bytes.len() + units * 8;
        let Some(length) = u8::try_from(units).ok().filter(|_| end <= LONGEST) else {
            self.left_out += 1;
            return;
        };
        self.bytes.extend_from_slice(&[kind, length]);
        self.bytes.extend_from_slice(body);
        self.bytes.resize(end, 0);
    }
}

/// The two bits of a preference, where the flags have them (RFC 4191 §2.1).
const fn preference(preference: Preference) -> u8 {
    match preference {
        Preference::High => 0b01 << 3,
        Preference::Medium => 0,
        Preference::Low => 0b11 << 3,
    }
}

/// Prefix length, preference, lifetime, and as much of the prefix as there is (RFC 4191 §2.3).
fn route_information(route: &RouteInfo, lifetime: u32) -> Vec<u8> {
    let length = route.to.prefix();
    let mut body = vec![length, preference(route.preference)];
    body.extend_from_slice(&lifetime.to_be_bytes());
    let octets = usize::from(length).div_ceil(64) * 8;
    body.extend_from_slice(&route.to.network().octets()[..octets]);
    body
}

/// Lifetime in units of 8 seconds with the code of the length below it, and the highest
/// 96 bits of the prefix (RFC 8781 §4).
fn nat64_prefix(prefix: Ipv6Network, lifetime: u32) -> Vec<u8> {
    const LONGEST: u32 = (1 << 13) - 1;
    let code = match prefix.prefix() {
        32 => 5,
        40 => 4,
        48 => 3,
        56 => 2,
        64 => 1,
        _ => 0,
    };
    let scaled = u16::try_from(lifetime.div_ceil(8).min(LONGEST)).expect("13 bits");
    let mut body = (scaled << 3 | code).to_be_bytes().to_vec();
    body.extend_from_slice(&prefix.network().octets()[..12]);
    body
}

/// Prefix length, L and A flags, lifetimes, prefix (RFC 4861 §4.6.2).
fn prefix_information(prefix: &Prefix, (valid, preferred): (u32, u32)) -> Vec<u8> {
    let flags = u8::from(prefix.on_link) << 7 | u8::from(prefix.autonomous) << 6;
    let mut body = vec![prefix.network.prefix(), flags];
    body.extend_from_slice(&valid.to_be_bytes());
    // What is preferred for longer than it is valid is taken by nobody (RFC 4862 §5.5.3).
    body.extend_from_slice(&preferred.min(valid).to_be_bytes());
    body.extend_from_slice(&[0; 4]);
    body.extend_from_slice(&prefix.network.network().octets());
    body
}

/// At least three times the longest interval (RFC 8106 §5.1), and as long as the router itself.
fn lifetime_of_the_rest(ra: &Ra) -> u32 {
    match (ra.max_interval, ra.lifetime) {
        // No default router, and yet what it says must last for a while.
        (0, 0) => u16::MAX.into(),
        (interval, lifetime) => (3 * u32::from(interval)).max(lifetime.into()),
    }
}
