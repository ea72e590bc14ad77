//! Router advertisements for one port (RFC 4861, RFC 4191, RFC 8106, RFC 8781, RFC 8910),
//! written by hand.
//!
//! The guest's default router is the sender of the advertisement, so everything
//! about it is the router port's: ethernet source, link-local source, source
//! link-layer address option. A guest that migrates sees no difference.

#[cfg(test)]
mod tests;

use std::net::Ipv6Addr;
use std::time::Duration;

use ipnetwork::Ipv6Network;
use net::MacAddr;
use net::options::ra::{Preference, RouteInfo};

use crate::answer::{Ignored, Kind};
use crate::binding::{Binding, Prefix, Ra};
use crate::frame::{self, Route};
use crate::labels;

const ROUTER_ADVERTISEMENT: u8 = 134;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const CURRENT_HOP_LIMIT: u8 = 64;
/// MAX_INITIAL_RTR_ADVERTISEMENTS and MAX_INITIAL_RTR_ADVERT_INTERVAL (RFC 4861 §10).
const INITIAL_ADVERTISEMENTS: u64 = 3;
const INITIAL_INTERVAL: Duration = Duration::from_secs(16);
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
) -> Result<(Vec<u8>, Kind), Ignored> {
    validate(source, hop_limit, message)?;
    let ra = binding.ra.as_ref().ok_or(Ignored::NoBinding)?;
    if destination != ALL_ROUTERS && destination != ra.router_mac.link_local() {
        return Err(Ignored::OtherDestination);
    }
    if !frame::icmp_checksum_holds(source, destination, message) {
        return Err(Ignored::Checksum);
    }
    let frame = if source.is_unspecified() {
        advertisement(ra, binding.mac)
    } else {
        advertise(ra, false, (binding.mac, source))
    };
    Ok((frame, Kind::RouterAdvertisement))
}

/// An advertisement to all nodes: the periodic one.
///
/// The frame is for the guest alone, though the packet is for all (RFC 6085): behind one
/// interface there may be guests with other routers.
#[must_use]
pub fn advertisement(ra: &Ra, guest: MacAddr) -> Vec<u8> {
    advertise(ra, false, (guest, ALL_NODES))
}

/// The last advertisement of a router that is no longer the guest's: lifetime 0
/// (RFC 4861 §6.2.5), and nothing else that comes from it goes on. For a changed binding, never for a guest that moves away.
#[must_use]
pub fn withdrawal(ra: &Ra, guest: MacAddr) -> Vec<u8> {
    advertise(ra, true, (guest, ALL_NODES))
}

/// How long to wait for the next periodic advertisement after `sent` of them;
/// `None` where only solicitations are answered.
///
/// `random` spreads the ports of a host: any number, a new one each time. The first
/// few come quickly, for guests that missed one while booting (RFC 4861 §6.2.4).
#[must_use]
pub fn interval(ra: &Ra, sent: u64, random: u64) -> Option<Duration> {
    if ra.max_interval == 0 {
        return None;
    }
    let most = Duration::from_secs(ra.max_interval.into()).max(LEAST_INTERVAL);
    let least = Duration::from_secs(ra.min_interval.into()).clamp(LEAST_INTERVAL, most);
    let spread = u64::try_from((most - least).as_millis()).expect("seconds in 16 bits");
    let interval = least + Duration::from_millis(random % (spread + 1));
    Some(if sent < INITIAL_ADVERTISEMENTS { interval.min(INITIAL_INTERVAL) } else { interval })
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

fn advertise(ra: &Ra, withdrawn: bool, (mac, destination): (MacAddr, Ipv6Addr)) -> Vec<u8> {
    let route = Route {
        source_mac: ra.router_mac,
        destination_mac: mac,
        source: ra.router_mac.link_local(),
        destination,
    };
    route.icmp(message(ra, withdrawn))
}

/// ```text
/// type code checksum | hop limit, M O, router lifetime | reachable | retransmit | options
/// ```
fn message(ra: &Ra, withdrawn: bool) -> Vec<u8> {
    let lifetime = if withdrawn { 0 } else { ra.lifetime };
    // Who is no default router has no preference as one (RFC 4191 §2.2).
    let preference = if lifetime == 0 { 0 } else { preference(ra.preference) };
    let flags = u8::from(ra.managed) << 7 | u8::from(ra.other) << 6 | preference;
    let mut bytes = vec![ROUTER_ADVERTISEMENT, 0, 0, 0, CURRENT_HOP_LIMIT, flags];
    bytes.extend_from_slice(&lifetime.to_be_bytes());
    // Reachable time and retransmit timer: unspecified.
    bytes.extend_from_slice(&[0; 8]);
    option(&mut bytes, 1, &ra.router_mac.octets());
    if let Some(mtu) = ra.mtu {
        option(&mut bytes, 5, &[&[0; 2][..], &mtu.to_be_bytes()].concat());
    }
    for prefix in &ra.prefixes {
        option(&mut bytes, 3, &prefix_information(ra, prefix));
    }
    let seconds = if withdrawn { 0 } else { lifetime_of_the_rest(ra) };
    let dns_lifetime = seconds.to_be_bytes();
    if !ra.rdnss.is_empty() {
        let servers: Vec<u8> = ra.rdnss.iter().flat_map(Ipv6Addr::octets).collect();
        option(&mut bytes, 25, &[&[0; 2], &dns_lifetime[..], &servers].concat());
    }
    let search = labels::encode(&ra.dnssl);
    if !search.is_empty() {
        option(&mut bytes, 31, &[&[0; 2], &dns_lifetime[..], &search].concat());
    }
    for route in &ra.routes {
        option(&mut bytes, 24, &route_information(route, seconds));
    }
    for prefix in &ra.pref64 {
        option(&mut bytes, 38, &nat64_prefix(*prefix, seconds));
    }
    if let Some(uri) = &ra.captive_portal {
        option(&mut bytes, 37, uri.as_bytes());
    }
    bytes
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

/// Appends an option: type, length in units of eight octets, body, zeros. One too
/// long for its length field is left out.
fn option(bytes: &mut Vec<u8>, kind: u8, body: &[u8]) {
    let units = (2 + body.len()).div_ceil(8);
    let Ok(length) = u8::try_from(units) else { return };
    let end = bytes.len() + units * 8;
    bytes.extend_from_slice(&[kind, length]);
    bytes.extend_from_slice(body);
    bytes.resize(end, 0);
}

/// Prefix length, L and A flags, lifetimes, prefix (RFC 4861 §4.6.2).
fn prefix_information(ra: &Ra, prefix: &Prefix) -> Vec<u8> {
    let flags = u8::from(prefix.on_link) << 7 | u8::from(prefix.autonomous) << 6;
    let mut body = vec![prefix.network.prefix(), flags];
    body.extend_from_slice(&ra.valid.to_be_bytes());
    body.extend_from_slice(&ra.preferred.to_be_bytes());
    body.extend_from_slice(&[0; 4]);
    body.extend_from_slice(&prefix.network.network().octets());
    body
}

/// At least three times the longest interval (RFC 8106 §5.1), and as long as the router itself.
fn lifetime_of_the_rest(ra: &Ra) -> u32 {
    (3 * u32::from(ra.max_interval)).max(ra.lifetime.into())
}
