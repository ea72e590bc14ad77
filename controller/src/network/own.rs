//! What a Subnet's spec must be in itself, whatever other objects say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crds::kubeovn::SubnetSpec;
use ipnetwork::IpNetwork;
use net::{AddrRange, Cidrs, Delegation, shown};

use super::NetworkError;
use crate::expression;
use crate::flaw::Flaw;

/// Longest name of a Subnet, in bytes: it is the value of a label on each of its IP
/// objects (Kubernetes, `validation.LabelValueMaxLength`), and Kube-OVN's key of one.
pub(super) const LONGEST_NAME: usize = 63;

/// Networks of which no guest may have an address, and what they are for (RFC 6890,
/// RFC 5771, RFC 4291).
const NOT_OF_HOSTS: [(&str, &str); 9] = [
    ("0.0.0.0/8", "this network"),
    ("127.0.0.0/8", "the host itself"),
    ("169.254.0.0/16", "one link"),
    ("224.0.0.0/4", "multicast"),
    ("255.255.255.255/32", "broadcast"),
    ("::/128", "nobody"),
    ("::1/128", "the host itself"),
    ("fe80::/10", "one link"),
    ("ff00::/8", "multicast"),
];

/// The field of the prefixes that guests are delegated.
pub(super) const DELEGATION: &str = "spec.dhcpV6PrefixDelegation.cidrBlock";

pub(super) fn check_name(name: &str) -> Result<(), NetworkError> {
    if name.len() <= LONGEST_NAME { Ok(()) } else { Err(NetworkError::LongName(name.to_owned())) }
}

/// That every address may be a guest's.
pub(super) fn check_kind(cidrs: Cidrs) -> Result<(), NetworkError> {
    for (theirs, kind) in NOT_OF_HOSTS {
        let theirs: IpNetwork = theirs.parse().expect("it is written here");
        let overlaps =
            |mine: &IpNetwork| mine.contains(theirs.network()) || theirs.contains(mine.network());
        if let Some(mine) = cidrs.iter().find(overlaps) {
            return Err(NetworkError::NotOfHosts { mine, theirs, kind });
        }
    }
    Ok(())
}

/// What the subnet gives only to who asks for it.
pub(super) fn excluded(texts: &[String]) -> Result<Vec<AddrRange>, NetworkError> {
    let range = |(at, text): (usize, &String)| {
        text.parse().map_err(|error| NetworkError::Exclude(at, error))
    };
    texts.iter().enumerate().map(range).collect()
}

/// The prefixes that its guests are delegated.
pub(super) fn delegation(
    spec: &SubnetSpec,
    cidrs: Cidrs,
) -> Result<Option<Delegation>, NetworkError> {
    let Some(written) = &spec.dhcp_v6_prefix_delegation else { return Ok(None) };
    let delegation = Delegation::new(&written.cidr_block, written.prefix_length)?;
    let own = cidrs.v6.ok_or(NetworkError::NoIpv6(cidrs))?;
    if own.overlaps(delegation.pool()) {
        return Err(NetworkError::BehindItself { pool: delegation.pool(), own });
    }
    Ok(Some(delegation).filter(|_| spec.enable_dhcp != Some(false)))
}

/// What to say of an entry of `excludeIps` that has no address of the subnet, and so no
/// effect: the first with its place, and how many more there are.
pub(super) fn excluded_elsewhere(spec: &SubnetSpec) -> Option<(usize, &str, usize)> {
    let cidrs: Cidrs = spec.cidr_block.parse().ok()?;
    let networks: Vec<AddrRange> = cidrs.iter().map(AddrRange::from).collect();
    let has_some = |range: &AddrRange| {
        networks.iter().any(|net| range.first() <= net.last() && net.first() <= range.last())
    };
    let most = crds::kubeovn::most("Subnet", "excludeIps");
    let mut elsewhere = spec
        .exclude_ips
        .iter()
        .enumerate()
        .take(most)
        .filter(|(_, text)| text.parse::<AddrRange>().is_ok_and(|range| !has_some(&range)));
    let (at, text) = elsewhere.next()?;
    Some((at, text, elsewhere.count()))
}

/// The first text that becomes part of a row and cannot.
pub(super) fn unspeakable(spec: &SubnetSpec) -> Option<Flaw> {
    let table = &spec.route_table;
    let of_table = expression::table_advice(table);
    let of_table = of_table.map(|advice| Flaw::new("routeTable".to_owned(), table, advice));
    let is_provider = spec.provider.is_empty() || net::names::is_object_name(&spec.provider);
    let advice = "write ovn, or <attachment>.<namespace>.ovn, or leave it out";
    let of_provider =
        (!is_provider).then(|| Flaw::new("provider".to_owned(), &spec.provider, advice));
    of_table.or(of_provider)
}

/// The first list that is too long.
pub(super) fn too_many(spec: &SubnetSpec) -> Option<Flaw> {
    let lists = [
        ("excludeIps", spec.exclude_ips.len()),
        ("namespaces", spec.namespaces.len()),
        ("namespaceSelectors", spec.namespace_selectors.len()),
        ("allowSubnets", spec.allow_subnets.len()),
        ("acls", spec.acls.len()),
        ("vips", spec.vips.len()),
        ("natOutgoingPolicyRules", spec.nat_outgoing_policy_rules.len()),
        ("gatewayNodeSelectors", spec.gateway_node_selectors.len()),
    ];
    lists.into_iter().find_map(|(field, entries)| Flaw::of_too_many("Subnet", field, entries))
}

pub(super) fn check_protocol(spec: &SubnetSpec, cidrs: Cidrs) -> Result<(), NetworkError> {
    let follows = match (cidrs.v4, cidrs.v6) {
        (Some(_), Some(_)) => "Dual",
        (Some(_), None) => "IPv4",
        _ => "IPv6",
    };
    if spec.protocol.is_empty() || spec.protocol == follows {
        Ok(())
    } else {
        Err(NetworkError::Protocol(shown(&spec.protocol), cidrs))
    }
}

pub(super) fn check_mtu(spec: &SubnetSpec, cidrs: Cidrs) -> Result<(), NetworkError> {
    let least = if cidrs.v6.is_some() { 1280 } else { 576 };
    match spec.mtu {
        None | Some(0) => Ok(()),
        Some(mtu) if (least..=65_535).contains(&mtu) => Ok(()),
        Some(mtu) => Err(NetworkError::Mtu(mtu)),
    }
}

/// The gateway of each family: as written, else the first host address.
pub(super) fn gateways(
    text: &str,
    cidrs: Cidrs,
) -> Result<(Option<Ipv4Addr>, Option<Ipv6Addr>), NetworkError> {
    let mut v4 = cidrs.v4.and_then(|network| network.nth(1));
    let mut v6 = cidrs.v6.map(|network| Ipv6Addr::from(u128::from(network.network()) + 1));
    let mut first: Option<IpAddr> = None;
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let gateway: IpAddr = part.parse().map_err(|_| NetworkError::Gateway(shown(text)))?;
        if first.is_some_and(|first| first.is_ipv4() == gateway.is_ipv4()) {
            return Err(NetworkError::Gateways(shown(text)));
        }
        first = first.or(Some(gateway));
        if !cidrs.contains(gateway) {
            return Err(NetworkError::GatewayOutside(gateway, cidrs));
        }
        let edge = cidrs.v4.is_some_and(|net| {
            gateway == IpAddr::V4(net.network()) || gateway == IpAddr::V4(net.broadcast())
        }) || cidrs.v6.is_some_and(|net| gateway == IpAddr::V6(net.network()));
        if edge {
            return Err(NetworkError::GatewayNotAHost(gateway));
        }
        match gateway {
            IpAddr::V4(gateway) => v4 = Some(gateway),
            IpAddr::V6(gateway) => v6 = Some(gateway),
        }
    }
    Ok((v4, v6))
}

#[cfg(test)]
mod tests {
    use crds::kubeovn::Subnet;

    use super::*;
    use crate::network::Network;

    fn refused(change: impl FnOnce(&mut Subnet)) -> String {
        let spec = SubnetSpec { cidr_block: "10.0.0.0/24".to_owned(), ..SubnetSpec::default() };
        let mut subnet = Subnet::new("s1", spec);
        change(&mut subnet);
        Network::parse(&subnet)
            .map(|network| format!("{network:?} is taken"))
            .unwrap_or_else(|error| error.to_string())
    }

    #[test]
    fn a_network_of_which_no_guest_may_have_an_address_is_refused() {
        for network in [
            "0.0.0.0/8",
            "0.0.0.0/0",
            "127.1.0.0/16",
            "169.254.7.0/24",
            "224.0.0.0/24",
            "255.255.255.0/24",
            "::/64",
            "fe80::/64",
            "ff02::/64",
        ] {
            let told = refused(|subnet| subnet.spec.cidr_block = network.to_owned());
            assert!(told.contains(network) && told.contains("choose a network"), "{told}");
        }
    }

    #[test]
    fn text_that_ovn_cannot_have_is_refused() {
        let told = refused(|subnet| subnet.spec.route_table = "a\0".to_owned());
        assert!(told.starts_with(r#"spec.routeTable is "a\0": write a name"#), "{told}");
        let told = refused(|subnet| subnet.spec.provider = "n\0.default.ovn".to_owned());
        assert!(told.starts_with("spec.provider is "), "{told}");
    }

    #[test]
    fn a_name_that_no_label_may_have_is_refused() {
        let told = refused(|subnet| subnet.metadata.name = Some("a".repeat(64)));
        assert!(told.contains("64 characters") && told.contains("at most 63"), "{told}");
        assert!(refused(|subnet| subnet.metadata.name = Some("a".repeat(63))).contains("taken"));
    }

    #[test]
    fn ipv6_is_the_same_however_it_is_spelled() {
        let of = |cidr: &str, gateway: &str| {
            let spec = SubnetSpec {
                cidr_block: cidr.to_owned(),
                gateway: gateway.to_owned(),
                ..SubnetSpec::default()
            };
            let network = Network::parse(&Subnet::new("s1", spec)).unwrap();
            (network.cidrs.to_string(), network.router_networks())
        };
        let canonical = of("fd00:0:0:a::/64", "fd00:0:0:a::ff");
        assert_eq!(canonical.1, ["fd00:0:0:a::ff/64"]);
        assert_eq!(of("FD00:0000:0:A::/64", "FD00:0:0:A:0:0:0:FF"), canonical);
    }
}
