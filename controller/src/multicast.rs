//! Multicast snooping on a subnet's switch: who listens to a group gets it, others do
//! not. Pure.
//!
//! Listeners are asked again and again by a *querier*, which the switch itself plays.
//! Its questions come from somewhere: Kube-OVN takes an address of the subnet for
//! that, we use the router's. A querier is a router's business in any network, its MAC
//! and address are in every guest's tables already, and no address is lost for it. Over
//! IPv6 the source must be link-local (RFC 3810, section 5.1.14): it is the one that
//! router advertisements come from.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use net::MacAddr;
use ovn::nb::pairs;

use crate::network::Network;

/// Where the questions of a querier come from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Querier {
    /// The router's MAC.
    pub mac: MacAddr,
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
}

impl Querier {
    /// The querier of `network`, whose router port has this MAC; none if the subnet
    /// does not ask for one.
    #[must_use]
    pub fn of(network: &Network, mac: MacAddr) -> Option<Self> {
        let v6 = network.gateway_v6.map(|_| mac.link_local());
        network.snoops.then_some(Self { mac, v4: network.gateway_v4, v6 })
    }

    /// The address that a status shows: the IPv4 one if there is one, as Kube-OVN.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.v4.map(IpAddr::V4).or_else(|| self.v6.map(IpAddr::V6))
    }

    /// `Logical_Switch.other_config`.
    #[must_use]
    pub fn other_config(&self) -> BTreeMap<String, String> {
        let mac = self.mac.to_string();
        let mut config = pairs([
            ("mcast_snoop", "true"),
            ("mcast_querier", "true"),
            ("mcast_eth_src", mac.as_str()),
        ]);
        let v4 = self.v4.map(|address| ("mcast_ip4_src".to_owned(), address.to_string()));
        let v6 = self.v6.map(|address| ("mcast_ip6_src".to_owned(), address.to_string()));
        config.extend(v4.into_iter().chain(v6));
        config
    }
}

#[cfg(test)]
mod tests {
    use crds::kubeovn::{Subnet, SubnetSpec};

    use super::*;

    fn querier(cidr: &str, snoops: bool) -> Option<Querier> {
        let spec = SubnetSpec {
            cidr_block: cidr.to_owned(),
            enable_multicast_snoop: snoops,
            ..SubnetSpec::default()
        };
        let network = Network::parse(&Subnet::new("s", spec)).unwrap();
        Querier::of(&network, "02:00:00:00:00:01".parse().unwrap())
    }

    #[test]
    fn a_querier_asks_as_the_router_in_each_family_of_the_subnet() {
        assert_eq!(querier("10.0.0.0/24", false), None);
        let both = querier("10.0.0.0/24,fd00::/64", true).unwrap();
        let expected = pairs([
            ("mcast_snoop", "true"),
            ("mcast_querier", "true"),
            ("mcast_eth_src", "02:00:00:00:00:01"),
            ("mcast_ip4_src", "10.0.0.1"),
            ("mcast_ip6_src", "fe80::ff:fe00:1"),
        ]);
        assert_eq!(both.other_config(), expected);
        assert_eq!(both.address().unwrap().to_string(), "10.0.0.1");
        let v6 = querier("fd00::/64", true).unwrap();
        assert!(!v6.other_config().contains_key("mcast_ip4_src"));
        assert_eq!(v6.address().unwrap().to_string(), "fe80::ff:fe00:1");
    }
}
