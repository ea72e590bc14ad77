//! Which addresses of a subnet are held and which are free, as its status tells
//! people: `10.0.0.2-10.0.0.9,10.0.0.11`. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use net::AddrRange;

use crate::network::Network;
use crate::pools::NamedPool;

/// How many ranges are told of; then comes [`MORE`]. A status stays below 4 KiB so,
/// however fragmented its subnet is.
const TOLD: usize = 32;
/// The last entry where there are more.
const MORE: &str = "…";

/// First and last address, as numbers.
type Span = (u128, u128);

/// The `held` addresses of `cidr`, and those that are free in it: neither held, nor
/// excluded, nor the gateway's or the network's own, nor those of a pool.
#[must_use]
pub fn of(network: &Network, cidr: IpNetwork, held: &[IpAddr]) -> (String, String) {
    let v4 = cidr.is_ipv4();
    let whole = (number(cidr.network()), number(cidr.broadcast()));
    let held =
        held.iter().filter(|one| one.is_ipv4() == v4).map(|one| (number(*one), number(*one)));
    let held: Vec<Span> = held.collect();
    let pools = network.pools.values().flat_map(|pool| &pool.ranges);
    let taken = joined(taken(network, cidr, &held, pools));
    (told(joined(held).into_iter(), v4), told(gaps(whole, &taken), v4))
}

/// The same of one pool of the subnet, in one of its networks; `held` are the pool's.
#[must_use]
pub fn of_pool(
    network: &Network,
    cidr: IpNetwork,
    pool: &NamedPool,
    held: &[IpAddr],
) -> (String, String) {
    let v4 = cidr.is_ipv4();
    let held = held.iter().filter(|one| one.is_ipv4() == v4);
    let held: Vec<Span> = held.map(|one| (number(*one), number(*one))).collect();
    let own = pool.ranges.iter().filter(|range| range.first().is_ipv4() == v4);
    let own = joined(own.map(|range| (number(range.first()), number(range.last()))).collect());
    let taken = joined(taken(network, cidr, &held, []));
    let free = own.iter().flat_map(|span| {
        let from = taken.partition_point(|one| one.1 < span.0);
        let to = taken.partition_point(|one| one.0 <= span.1);
        gaps(*span, &taken[from..to])
    });
    (told(joined(held).into_iter(), v4), told(free, v4))
}

/// What is not free: what is `held`, excluded, the gateway's, the network's own, or one
/// of these `pools`.
fn taken<'a>(
    network: &'a Network,
    cidr: IpNetwork,
    held: &[Span],
    pools: impl IntoIterator<Item = &'a AddrRange>,
) -> Vec<Span> {
    let v4 = cidr.is_ipv4();
    let (first, last) = (number(cidr.network()), number(cidr.broadcast()));
    let excluded = network.excluded.iter().chain(pools).copied();
    let gateways = network.gateways().map(AddrRange::from);
    let vips = network.vips.iter().copied().map(AddrRange::from);
    let taken = excluded.chain(gateways).chain(vips).filter(|range| range.first().is_ipv4() == v4);
    let taken = taken.map(|range| (number(range.first()), number(range.last())));
    let broadcast = v4.then_some((last, last));
    taken.chain(held.iter().copied()).chain([(first, first)]).chain(broadcast).collect()
}

/// The spans in order, those that touch as one.
fn joined(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_unstable();
    let mut joined: Vec<Span> = Vec::new();
    for (first, last) in spans {
        match joined.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    joined
}

/// What of `whole` lies in none of the joined spans.
fn gaps(whole: Span, taken: &[Span]) -> impl Iterator<Item = Span> {
    let starts =
        std::iter::once(Some(whole.0)).chain(taken.iter().map(|span| span.1.checked_add(1)));
    let ends = taken.iter().map(|span| span.0.checked_sub(1)).chain([Some(whole.1)]);
    let gap = starts.zip(ends).filter_map(|(start, end)| Some((start?, end?)));
    gap.map(move |(start, end)| (start.max(whole.0), end.min(whole.1)))
        .filter(|(start, end)| start <= end)
}

/// The first of these as text, and a mark where there are more.
fn told(spans: impl Iterator<Item = Span>, v4: bool) -> String {
    let mut told: Vec<String> = spans.take(TOLD + 1).map(|span| text(span, v4)).collect();
    if told.len() > TOLD {
        told.truncate(TOLD);
        told.push(MORE.to_owned());
    }
    told.join(",")
}

fn text((first, last): Span, v4: bool) -> String {
    match (address(first, v4), address(last, v4)) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    }
}

fn address(number: u128, v4: bool) -> IpAddr {
    match u32::try_from(number) {
        Ok(number) if v4 => Ipv4Addr::from_bits(number).into(),
        _ => Ipv6Addr::from_bits(number).into(),
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

#[cfg(test)]
mod tests {
    use crds::kubeovn::{Subnet, SubnetSpec};

    use super::*;

    fn ranges(cidr: &str, excluded: &[&str], held: &[&str]) -> (String, String) {
        let spec = SubnetSpec {
            cidr_block: cidr.to_owned(),
            exclude_ips: excluded.iter().map(|range| (*range).to_owned()).collect(),
            ..SubnetSpec::default()
        };
        let network = Network::parse(&Subnet::new("s", spec)).unwrap();
        let held: Vec<IpAddr> = held.iter().map(|one| one.parse().unwrap()).collect();
        let cidr = network.cidrs.iter().next().unwrap();
        of(&network, cidr, &held)
    }

    fn pair(held: &str, free: &str) -> (String, String) {
        (held.to_owned(), free.to_owned())
    }

    #[test]
    fn what_is_neither_held_nor_excluded_nor_the_networks_own_is_free() {
        assert_eq!(ranges("10.0.0.0/24", &[], &[]), pair("", "10.0.0.2-10.0.0.254"));
        let some = ranges(
            "10.0.0.0/24",
            &["10.0.0.250..10.0.0.254", "10.0.0.20"],
            &["10.0.0.3", "10.0.0.9", "10.0.0.2", "10.0.0.20", "fd00::7"],
        );
        let free = "10.0.0.4-10.0.0.8,10.0.0.10-10.0.0.19,10.0.0.21-10.0.0.249";
        assert_eq!(some, pair("10.0.0.2-10.0.0.3,10.0.0.9,10.0.0.20", free));
        assert_eq!(
            ranges("10.0.0.0/30", &[], &["10.0.0.2"]),
            pair("10.0.0.2", ""),
            "a full subnet has nothing free"
        );
    }

    #[test]
    fn a_range_may_have_more_addresses_than_64_bits_count() {
        let free = "fd00::2-fd00::6,fd00::8-fd00::ffff:ffff:ffff:ffff:ffff";
        assert_eq!(ranges("fd00::/48", &[], &["fd00::7"]), pair("fd00::7", free));
        let last = ranges("fdff:ffff:ffff:ffff::/64", &[], &[]).1;
        assert_eq!(last, "fdff:ffff:ffff:ffff::2-fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    }

    #[test]
    fn however_fragmented_a_subnet_is_the_text_is_bounded() {
        let held: Vec<String> = (0..120).map(|at| format!("10.0.0.{}", 2 * at + 3)).collect();
        let held: Vec<&str> = held.iter().map(String::as_str).collect();
        let (using, free) = ranges("10.0.0.0/24", &[], &held);
        for text in [using, free] {
            assert!(text.ends_with(",…"), "{text}");
            assert_eq!(text.split(',').count(), TOLD + 1);
        }
    }
}
