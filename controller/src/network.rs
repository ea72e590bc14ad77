//! A subnet as the controller thinks of it: what a user wrote, understood.
//!
//! [`Network::parse`] is the one place where a Subnet's spec is read. What it
//! returns can only be right in itself; whether it agrees with other subnets is
//! [`Network::conflict`].

mod error;
mod own;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crds::kubeovn::{DEFAULT_VPC, Subnet, SubnetNatRule, SubnetSpec};
use ipnetwork::{IpNetwork, Ipv6Network};
use kube::ResourceExt as _;
use net::{AddrRange, Cidrs, Delegation, MacAddr, names};
use ovn::nb::AclWant;

use crate::access;
use crate::dhcp;
use crate::egress::{self, Gateway};
use crate::flaw::Flaw;
use crate::namespaces;
use crate::pools::NamedPool;

pub use error::NetworkError;

/// The MTU of a port where the subnet names none: an Ethernet's less Geneve's
/// headers, as Kube-OVN.
pub const DEFAULT_MTU: u16 = 1400;

/// A subnet whose spec could be understood.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Network {
    /// The Subnet, and the logical switch.
    pub name: String,
    /// The Vpc, and the logical router.
    pub vpc: String,
    /// What a VM's network must name to use it: `ovn` for the first.
    pub provider: String,
    /// Its networks.
    pub cidrs: Cidrs,
    /// The router's IPv4 address.
    pub gateway_v4: Option<Ipv4Addr>,
    /// The router's IPv6 address.
    pub gateway_v6: Option<Ipv6Addr>,
    /// A prefix for each of its IPv6 addresses.
    pub delegation: Option<Delegation>,
    /// Given only to who asks for them.
    pub excluded: Vec<AddrRange>,
    /// Addresses of no one VM: those that it lists and that can be.
    pub vips: BTreeSet<IpAddr>,
    /// The route table that packets from it are looked up in; empty for the main one.
    pub route_table: String,
    /// Namespaces whose VMs use it unless they say otherwise: those listed, and those
    /// that its selectors choose once the namespaces are known.
    pub namespaces: BTreeSet<String>,
    /// What may pass on its switch, beside our own guards.
    pub rules: BTreeSet<AclWant>,
    /// How its VMs reach what is outside of the VPC, if they do.
    pub egress: Option<Gateway>,
    /// For VMs of every other namespace.
    pub default: bool,
    /// Its switch sends multicast only to who listens.
    pub snoops: bool,
    /// Its IPPools in force, by name.
    pub pools: BTreeMap<String, NamedPool>,
    /// Its Subnet is being deleted: only who has addresses of it may use it.
    pub leaving: bool,
}

impl Network {
    /// What `subnet` says.
    ///
    /// # Errors
    /// When its spec cannot be in force, whatever other objects say.
    pub fn parse(subnet: &Subnet) -> Result<Self, NetworkError> {
        let spec = &subnet.spec;
        own::check_name(&subnet.name_any())?;
        if let Some(flaw) = own::too_many(spec).or_else(|| own::unspeakable(spec)) {
            return Err(flaw.into());
        }
        if spec.cidr_block.trim().is_empty() {
            return Err(NetworkError::NoCidr);
        }
        let cidrs: Cidrs = spec.cidr_block.parse()?;
        let vpc = if spec.vpc.is_empty() { DEFAULT_VPC } else { &spec.vpc }.to_owned();
        let name = subnet.name_any();
        if name == vpc {
            return Err(NetworkError::NamedAsVpc(name));
        }
        own::check_kind(cidrs)?;
        own::check_protocol(spec, cidrs)?;
        own::check_mtu(spec, cidrs)?;
        let (gateway_v4, gateway_v6) = own::gateways(&spec.gateway, cidrs)?;
        let excluded = own::excluded(&spec.exclude_ips)?;
        let delegation = own::delegation(spec, cidrs)?;
        let rules = access::rules(&name, cidrs, spec)?;
        let provider =
            if spec.provider.is_empty() { names::DEFAULT_PROVIDER } else { &spec.provider };
        let egress = egress::gateway(&name, &vpc, spec);
        let network = Self {
            name,
            vpc,
            provider: provider.to_owned(),
            cidrs,
            gateway_v4,
            gateway_v6,
            delegation,
            excluded,
            vips: vips(spec, cidrs).0,
            route_table: spec.route_table.clone(),
            namespaces: spec.namespaces.iter().cloned().collect(),
            rules,
            egress,
            default: spec.default,
            snoops: spec.enable_multicast_snoop,
            pools: BTreeMap::new(),
            leaving: subnet.metadata.deletion_timestamp.is_some(),
        };
        for cidr in cidrs.iter() {
            network.pool(cidr, 0)?;
        }
        Ok(network)
    }

    /// An empty pool of the addresses of `cidr`, one of this subnet's networks.
    ///
    /// # Errors
    /// When no pool can serve a network of that size.
    pub fn pool(
        &self,
        cidr: IpNetwork,
        rest: ipam::Seconds,
    ) -> Result<ipam::Pool, ipam::PoolError> {
        let of_family = |range: &&AddrRange| range.first().is_ipv4() == cidr.is_ipv4();
        let gateways: Vec<AddrRange> = self.gateways().map(AddrRange::from).collect();
        let forbidden: Vec<_> = gateways.iter().filter(of_family).copied().collect();
        let vips = self.vips.iter().copied().map(AddrRange::from);
        let excluded = self.excluded.iter().copied().chain(vips);
        let excluded: Vec<_> = excluded.filter(|range| of_family(&range)).collect();
        let named = self
            .pools
            .iter()
            .map(|(name, pool)| ipam::SubPool { name: name.clone(), ranges: pool.ranges.clone() });
        let named: Vec<_> = named.collect();
        ipam::Pool::divided(cidr, &forbidden, &excluded, &named, rest)
    }

    /// The router's addresses, IPv4 first.
    pub fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        self.gateway_v4.map(IpAddr::V4).into_iter().chain(self.gateway_v6.map(IpAddr::V6))
    }

    /// The router's addresses with their prefix lengths, as OVN's
    /// `Logical_Router_Port.networks` wants them.
    #[must_use]
    pub fn router_networks(&self) -> Vec<String> {
        let v4 =
            self.gateway_v4.zip(self.cidrs.v4).map(|(gw, net)| format!("{gw}/{}", net.prefix()));
        let v6 =
            self.gateway_v6.zip(self.cidrs.v6).map(|(gw, net)| format!("{gw}/{}", net.prefix()));
        v4.into_iter().chain(v6).collect()
    }

    /// The gateways with a comma between, as users and annotations write them.
    #[must_use]
    pub fn gateway_text(&self) -> String {
        self.gateways().map(|gateway| gateway.to_string()).collect::<Vec<_>>().join(",")
    }

    /// All addresses that lead to it, each with the field that says so: its own, and those
    /// behind its guests.
    pub fn reach(&self) -> impl Iterator<Item = (&'static str, Cidrs)> {
        let behind = |one: Delegation| Cidrs { v4: None, v6: Some(one.pool()) };
        let behind = self.delegation.map(|one| (own::DELEGATION, behind(one)));
        std::iter::once(("spec.cidrBlock", self.cidrs)).chain(behind)
    }

    /// What is delegated to the guest that has these addresses, and by which of them it is
    /// reached.
    pub fn delegated(&self, addresses: &[IpAddr]) -> Option<(Ipv6Network, Ipv6Addr)> {
        let (delegation, network) = self.delegation.zip(self.cidrs.v6)?;
        addresses.iter().find_map(|address| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some((delegation.of(network, *address)?, *address)),
        })
    }

    /// The MAC that the router port gets when it is made.
    #[must_use]
    pub fn router_mac(&self) -> MacAddr {
        MacAddr::derived_from(&["router-port", &self.vpc, &self.name])
    }

    /// Why this subnet cannot stand beside the older ones of its VPC, if so.
    pub fn conflict<'a>(&self, older: impl IntoIterator<Item = &'a Self>) -> Option<NetworkError> {
        let clash = |other: &Self| {
            self.reach().find_map(|(field, mine)| {
                let (_, theirs) = other.reach().find(|(_, theirs)| mine.overlaps(theirs))?;
                Some(NetworkError::Overlap { field, mine, theirs, other: other.name.clone() })
            })
        };
        let others = older.into_iter().filter(|one| one.name != self.name && one.vpc == self.vpc);
        others.into_iter().find_map(clash)
    }
}

/// The entries of `spec` that are not in force, while the others are.
#[must_use]
pub fn flaws(spec: &SubnetSpec) -> Vec<Flaw> {
    let (_, mut flaws) = namespaces::selectors(spec);
    flaws.extend(spec.cidr_block.parse().map(|cidrs| vips(spec, cidrs).1).unwrap_or_default());
    if !["", "distributed", "centralized"].contains(&spec.gateway_type.as_str()) {
        let advice = "write distributed or centralized, or leave it out";
        flaws.push(Flaw::new("gatewayType".to_owned(), &spec.gateway_type, advice));
    }
    if spec.logical_gateway && spec.u2o_interconnection {
        let advice = "it and spec.u2oInterconnection exclude each other: set one of them";
        flaws.push(Flaw::new("logicalGateway".to_owned(), true, advice));
    }
    if spec.nat_outgoing && !spec.external_egress_gateway.is_empty() {
        let (field, value) = ("externalEgressGateway", &spec.external_egress_gateway);
        let advice = "it and spec.natOutgoing exclude each other: set one of them";
        flaws.push(Flaw::new(field.to_owned(), value, advice));
    }
    for (field, text) in [
        ("externalEgressGateway", &spec.external_egress_gateway),
        ("u2oInterconnectionIP", &spec.u2o_interconnection_ip),
    ] {
        let is_none = |part: &str| part.trim().parse::<IpAddr>().is_err();
        if !text.is_empty() && text.split(',').any(is_none) {
            let advice = "write an address of each family, with a comma between";
            flaws.push(Flaw::new(field.to_owned(), text, advice));
        }
    }
    if let (Ok(cidrs), Ok(address)) =
        (spec.cidr_block.parse::<Cidrs>(), spec.u2o_interconnection_ip.trim().parse())
        && !cidrs.contains(address)
    {
        let advice = format!("write an address in spec.cidrBlock {cidrs}, or leave it out");
        flaws.push(Flaw::new("u2oInterconnectionIP".to_owned(), address, advice));
    }
    let rules = spec.nat_outgoing_policy_rules.iter().enumerate();
    flaws.extend(rules.filter_map(|(at, rule)| exception(at, rule)));
    flaws.extend(dhcp::flaws(spec));
    flaws
}

/// What is wrong with an exception from outgoing NAT: all that it names is of one family.
fn exception(at: usize, rule: &SubnetNatRule) -> Option<Flaw> {
    let mut family = None;
    for (field, text) in [("srcIPs", &rule.r#match.src_ips), ("dstIPs", &rule.r#match.dst_ips)] {
        let mut parts = text.split(',').map(str::trim).filter(|_| !text.is_empty());
        let fits = |part: &str| {
            let network = part.parse::<IpNetwork>().ok();
            network.is_some_and(|one| *family.get_or_insert_with(|| one.is_ipv4()) == one.is_ipv4())
        };
        if !parts.all(fits) {
            let field = format!("natOutgoingPolicyRules[{at}].match.{field}");
            let advice = "write addresses and networks of one family with commas between, such as 10.0.0.0/24,10.0.1.5";
            return Some(Flaw::new(field, text, advice));
        }
    }
    let known = ["", "nat", "forward"].contains(&rule.action.as_str());
    let field = format!("natOutgoingPolicyRules[{at}].action");
    (!known).then(|| Flaw::new(field, &rule.action, "write nat or forward"))
}

/// The addresses in `spec.vips`, and the entries that cannot be.
fn vips(spec: &SubnetSpec, cidrs: Cidrs) -> (BTreeSet<IpAddr>, Vec<Flaw>) {
    let gateways = own::gateways(&spec.gateway, cidrs).unwrap_or_default();
    let gateways = [gateways.0.map(IpAddr::V4), gateways.1.map(IpAddr::V6)];
    let (mut vips, mut flaws) = (BTreeSet::new(), Vec::new());
    for (at, text) in spec.vips.iter().enumerate() {
        let address = text.trim().parse().ok().filter(|address| cidrs.contains(*address));
        let advice = match address {
            None => format!("write an address in spec.cidrBlock {cidrs}"),
            Some(_) if gateways.contains(&address) => "it is the gateway: write another".to_owned(),
            Some(address) => {
                vips.insert(address);
                continue;
            }
        };
        flaws.push(Flaw::new(format!("vips[{at}]"), text, advice));
    }
    (vips, flaws)
}

/// What is said when it is written of an entry of `excludeIps` with which the subnet has
/// nothing to do; in force it is named among the [fields without effect](without_effect).
#[must_use]
pub fn excluded_elsewhere(spec: &SubnetSpec) -> Option<Flaw> {
    let (at, text, more) = own::excluded_elsewhere(spec)?;
    let more = if more == 0 { String::new() } else { format!(" (as {more} more of them)") };
    let advice = format!(
        "it has no effect, since none of it is in spec.cidrBlock {}{more}: write addresses of it, or leave it out",
        net::shown(&spec.cidr_block)
    );
    Some(Flaw::new(format!("excludeIps[{at}]"), text, advice))
}

/// The fields that are written in `spec` but have no effect yet; the user is
/// told by a condition.
#[must_use]
pub fn without_effect(spec: &SubnetSpec) -> Vec<String> {
    let elsewhere = own::excluded_elsewhere(spec).map(|(at, text, more)| {
        let more = if more == 0 { String::new() } else { format!(", nor of {more} more") };
        let (text, cidrs) = (net::shown(text), net::shown(&spec.cidr_block));
        format!("excludeIps[{at}] (no address of {text}{more} is in spec.cidrBlock {cidrs})")
    });
    unserved(spec).into_iter().map(str::to_owned).chain(elsewhere).collect()
}

/// Those of them that are not served, or not beside others.
fn unserved(spec: &SubnetSpec) -> Vec<&'static str> {
    let inside = spec.vpc.is_empty() || spec.vpc == DEFAULT_VPC;
    let egress = spec.nat_outgoing && inside;
    let central_type = spec.gateway_type == "centralized";
    let central = egress && central_type;
    [
        ("gatewayType (it needs natOutgoing)", central_type && inside && !egress),
        ("gatewayType (there is a way out of the Vpc ovn-cluster only)", central_type && !inside),
        ("gatewayNode", !spec.gateway_node.is_empty() && !central),
        ("gatewayNodeSelectors", !spec.gateway_node_selectors.is_empty()),
        (
            "natOutgoing (there is a way out of the Vpc ovn-cluster only)",
            spec.nat_outgoing && !inside,
        ),
        (
            "dhcpV6PrefixDelegation (it needs enableDHCP)",
            spec.dhcp_v6_prefix_delegation.is_some() && spec.enable_dhcp == Some(false),
        ),
        (
            "dhcpV6PrefixDelegation (nothing passes to what is behind the guests of a private subnet)",
            spec.dhcp_v6_prefix_delegation.is_some() && spec.private,
        ),
        ("natOutgoingPolicyRules", !spec.nat_outgoing_policy_rules.is_empty()),
        ("externalEgressGateway", !spec.external_egress_gateway.is_empty()),
        ("policyRoutingPriority", spec.policy_routing_priority.is_some()),
        ("policyRoutingTableID", spec.policy_routing_table_id.is_some()),
        ("enableEcmp", spec.enable_ecmp && !central),
        // These do something only beside others.
        ("allowSubnets", !spec.allow_subnets.is_empty() && !spec.private),
        ("allowEWTraffic", spec.allow_ew_traffic && spec.acls.is_empty()),
        // Kube-OVN gives such a network of another plugin addresses only. A VM has a port in
        // each of its networks, and all ports are ours.
        (
            "provider (the networks of VMs have ovn or <attachment>.<namespace>.ovn)",
            !is_of_networks(&spec.provider),
        ),
        ("vlan", !spec.vlan.is_empty()),
        // Without a VLAN the logical router is the gateway anyway.
        ("logicalGateway", spec.logical_gateway && !spec.vlan.is_empty()),
        ("u2oInterconnection", spec.u2o_interconnection),
        ("u2oInterconnectionIP", !spec.u2o_interconnection_ip.is_empty()),
        ("u2oFeatures", spec.u2o_features.is_some()),
        ("enableLb", spec.enable_lb == Some(true)),
        ("enableExternalLBAddress", spec.enable_external_lb_address),
        ("nodeNetwork", !spec.node_network.is_empty()),
    ]
    .into_iter()
    .filter_map(|(field, set)| set.then_some(field))
    .collect()
}

/// Whether a network of a VM can be of this provider.
fn is_of_networks(provider: &str) -> bool {
    let mut parts = provider.split('.');
    provider.is_empty()
        || provider == names::DEFAULT_PROVIDER
        || (parts.clone().count() >= 3 && parts.next_back() == Some(names::DEFAULT_PROVIDER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(cidr: &str) -> Subnet {
        Subnet::new("s1", SubnetSpec { cidr_block: cidr.to_owned(), ..SubnetSpec::default() })
    }

    fn with(change: impl FnOnce(&mut SubnetSpec)) -> Result<Network, NetworkError> {
        let mut subnet = subnet("10.0.0.0/24,fd00::/64");
        change(&mut subnet.spec);
        Network::parse(&subnet)
    }

    #[test]
    fn the_first_host_of_each_family_is_the_gateway_unless_another_is_named() {
        let network = with(|_| ()).unwrap();
        assert_eq!(network.gateway_text(), "10.0.0.1,fd00::1");
        assert_eq!(network.router_networks(), ["10.0.0.1/24", "fd00::1/64"]);
        let network = with(|spec| spec.gateway = "10.0.0.254".to_owned()).unwrap();
        assert_eq!(network.gateway_text(), "10.0.0.254,fd00::1");
    }

    #[test]
    fn a_subnet_without_vpc_belongs_to_the_default_one() {
        assert_eq!(with(|_| ()).unwrap().vpc, "ovn-cluster");
    }

    #[test]
    fn what_cannot_be_in_force_is_refused_with_what_to_change() {
        let message = |change: fn(&mut SubnetSpec)| with(change).unwrap_err().to_string();
        assert!(message(|spec| spec.cidr_block = " ".to_owned()).contains("cidrBlock is empty"));
        assert!(
            message(|spec| spec.cidr_block = "10.0.0.0".to_owned())
                .contains("write address/prefix")
        );
        assert!(message(|spec| spec.gateway = "ten".to_owned()).contains("not an address"));
        assert!(
            message(|spec| spec.gateway = "10.0.1.1".to_owned()).contains("not in spec.cidrBlock")
        );
        assert!(message(|spec| spec.gateway = "10.0.0.255".to_owned()).contains("broadcast"));
        assert!(message(|spec| spec.exclude_ips = vec!["x".to_owned()]).contains("excludeIps"));
        assert!(message(|spec| spec.protocol = "IPv4".to_owned()).contains("leave protocol out"));
        assert!(message(|spec| spec.mtu = Some(1000)).contains("1280"));
        assert!(message(|spec| spec.vpc = "s1".to_owned()).contains("rename one"));
        assert!(message(|spec| spec.cidr_block = "10.0.0.0/31".to_owned()).contains("/30"));
    }

    #[test]
    fn subnets_of_one_vpc_may_not_overlap_and_those_of_two_may() {
        let older = Network { name: "old".to_owned(), ..with(|_| ()).unwrap() };
        assert!(matches!(
            with(|_| ()).unwrap().conflict([&older]),
            Some(NetworkError::Overlap { .. })
        ));
        let elsewhere = Network { vpc: "other".to_owned(), ..older };
        assert_eq!(with(|_| ()).unwrap().conflict([&elsewhere]), None);
    }

    #[test]
    fn what_is_delegated_overlaps_nothing_of_its_vpc() {
        let of = |name: &str, cidr: &str, pool: &str| {
            let mut subnet = Subnet::new(name, subnet(cidr).spec);
            let delegation = serde_json::json!({"cidrBlock": pool});
            subnet.spec.dhcp_v6_prefix_delegation = serde_json::from_value(delegation).unwrap();
            Network::parse(&subnet)
        };
        let older = of("old", "10.0.0.0/24,fd00::/64", "fd10::/48").unwrap();
        let told = |cidr: &str, pool: &str| {
            let network = of("new", cidr, pool);
            let network = network.map_err(|error| error.to_string())?;
            network.conflict([&older]).map_or(Ok(()), |why| Err(why.to_string()))
        };
        assert_eq!(told("fd01::/64", "fd11::/48"), Ok(()));
        for (cidr, pool, begins) in [
            (
                "fd01::/64",
                "fd10:0:0::/50",
                "spec.dhcpV6PrefixDelegation.cidrBlock fd10::/50 overlaps",
            ),
            ("fd01::/64", "fd00::/48", "spec.dhcpV6PrefixDelegation.cidrBlock fd00::/48 overlaps"),
            ("fd10:0:0:1::/64", "fd11::/48", "spec.cidrBlock fd10:0:0:1::/64 overlaps fd10::/48"),
            ("fd11::/64", "fd11::/48", "spec.dhcpV6PrefixDelegation.cidrBlock fd11::/48 overlaps"),
            ("10.1.0.0/24", "fd11::/48", "spec.dhcpV6PrefixDelegation: a prefix goes with an IPv6"),
            ("fd01::/64", "fd11::/64", "spec.dhcpV6PrefixDelegation: prefixes of length 64"),
        ] {
            let told = told(cidr, pool).unwrap_err();
            assert!(told.starts_with(begins), "{told}");
        }
    }

    #[test]
    fn fields_without_effect_are_named() {
        let mut subnet = subnet("10.0.0.0/24");
        assert!(without_effect(&subnet.spec).is_empty());
        subnet.spec.gateway_type = "centralized".to_owned();
        subnet.spec.gateway_node = "n1".to_owned();
        assert_eq!(
            without_effect(&subnet.spec),
            ["gatewayType (it needs natOutgoing)", "gatewayNode"]
        );
        subnet.spec.nat_outgoing = true;
        assert!(without_effect(&subnet.spec).is_empty());
        subnet.spec.vpc = "custom".to_owned();
        assert!(without_effect(&subnet.spec)[2].starts_with("natOutgoing (there is a way out"));
    }

    #[test]
    fn an_exclusion_of_which_the_subnet_has_no_address_is_named() {
        let mut spec = subnet("10.0.0.0/24").spec;
        spec.exclude_ips =
            ["10.0.0.5", "9.0.0.0..10.0.0.2", "10.0.0.250..11.0.0.1"].map(str::to_owned).into();
        assert!(without_effect(&spec).is_empty() && excluded_elsewhere(&spec).is_none());
        spec.exclude_ips.extend(["10.0.1.0..10.0.1.9", "fd00::5"].map(str::to_owned));
        assert_eq!(
            without_effect(&spec),
            [
                "excludeIps[3] (no address of 10.0.1.0..10.0.1.9, nor of 1 more is in spec.cidrBlock 10.0.0.0/24)"
            ]
        );
        let said = excluded_elsewhere(&spec).unwrap().to_string();
        let begins = r#"spec.excludeIps[3] is "10.0.1.0..10.0.1.9": it has no effect"#;
        assert!(said.starts_with(begins) && said.contains("(as 1 more of them)"), "{said}");
        spec.cidr_block = "10.0.0.0/24,fd00::/64".to_owned();
        spec.exclude_ips.remove(3);
        assert!(without_effect(&spec).is_empty());
    }

    #[test]
    fn a_provider_that_no_network_of_a_vm_has_is_named() {
        let mut spec = subnet("10.0.0.0/24").spec;
        for (provider, named) in
            [("", 0), ("ovn", 0), ("net2.default.ovn", 0), ("net2.default", 1), ("ovm", 1)]
        {
            spec.provider = provider.to_owned();
            let said = without_effect(&spec);
            assert_eq!(said.len(), named, "{provider}: {said:?}");
        }
    }

    #[test]
    fn what_holds_for_every_overlay_subnet_is_not_said_to_have_no_effect() {
        let mut spec = subnet("10.0.0.0/24").spec;
        spec.logical_gateway = true;
        spec.disable_inter_connection = true;
        spec.enable_lb = Some(false);
        spec.gateway_type = "distributed".to_owned();
        assert!(without_effect(&spec).is_empty());
        spec.vlan = "vlan1".to_owned();
        spec.enable_lb = Some(true);
        assert_eq!(without_effect(&spec), ["vlan", "logicalGateway", "enableLb"]);
    }

    #[test]
    fn an_exception_from_nat_names_addresses_of_one_family() {
        let said = |sources: &str, destinations: &str| {
            let rule = serde_json::json!({"action": "forward",
                "match": {"srcIPs": sources, "dstIPs": destinations}});
            exception(3, &serde_json::from_value(rule).unwrap()).map(|flaw| flaw.to_string())
        };
        assert_eq!(said("", ""), None);
        assert_eq!(said("10.0.0.0/24, 10.0.1.5", "192.0.2.0/24"), None);
        for (sources, destinations, field) in [
            ("10.0.0.0/24;10.0.1.5", "", "srcIPs"),
            ("10.0.0.0/24,fd00::/64", "", "srcIPs"),
            ("10.0.0.0/24", "fd00::/64", "dstIPs"),
        ] {
            let told = said(sources, destinations).unwrap();
            let place = format!("spec.natOutgoingPolicyRules[3].match.{field} is ");
            assert!(told.starts_with(&place) && told.contains("one family"), "{told}");
        }
    }

    #[test]
    fn a_bad_entry_is_named_while_the_subnet_is_in_force() {
        let mut subnet = subnet("10.0.0.0/24");
        subnet.spec.gateway_type = "Distributed".to_owned();
        subnet.spec.namespace_selectors = vec![
            serde_json::from_value(
                serde_json::json!({ "matchExpressions": [{ "key": "a", "operator": "Is" }] }),
            )
            .unwrap(),
        ];
        Network::parse(&subnet).unwrap();
        let flaws: Vec<_> = flaws(&subnet.spec).iter().map(ToString::to_string).collect();
        assert!(flaws[0].contains("spec.namespaceSelectors[0].matchExpressions[0].operator"));
        assert!(flaws[1].starts_with(r#"spec.gatewayType is "Distributed": write distributed"#));
    }
}
