//! The rows that VPCs, subnets and ports want of OVN. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use crds::kubeovn::DEFAULT_VPC;
use ipnetwork::Ipv6Network;
use net::{MacAddr, names};
use ovn::nb::{
    self, AclWant, Desired, Ours, PortRoute, PortWant, RouterPortWant, RouterWant, SwitchWant,
    address_line,
};

use crate::hold;
use crate::leave::Leave;
use crate::ledger::VmKey;
use crate::multicast::Querier;
use crate::network::Network;
use crate::vips;
use crate::world::World;
use crate::{egress, peering, routes};

/// A VM's port, as decided.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Port {
    /// The port, everywhere.
    pub name: String,
    /// The VM.
    pub vm: VmKey,
    /// Of an attachment the network of the VM that has it, where that is known.
    pub network: Option<String>,
    /// The uid of the VM that holds it.
    pub uid: String,
    /// The subnet.
    pub subnet: String,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// Its addresses, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// The node its VM was given, if any.
    pub node: Option<String>,
    /// The node that its VM is moving to, if it is.
    pub target: Option<String>,
    /// The node that its VM has just left, for a moment.
    pub left: Option<String>,
    /// What it is let do beyond its own addresses.
    pub leave: Leave,
    /// What is behind its guest.
    pub behind: Option<Behind>,
}

/// A prefix that a guest was delegated, for the networks behind it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Behind {
    /// The prefix.
    pub prefix: Ipv6Network,
    /// The guest's address, by which it is reached.
    pub by: Ipv6Addr,
    /// The Vpc whose router leads there.
    pub vpc: String,
}

impl Behind {
    /// What `network` delegates to the guest that has these addresses in it.
    #[must_use]
    pub fn of(network: &Network, addresses: &[IpAddr]) -> Option<Self> {
        let (prefix, by) = network.delegated(addresses)?;
        Some(Self { prefix, by, vpc: network.vpc.clone() })
    }

    fn route(&self) -> PortRoute {
        PortRoute {
            router: self.vpc.clone(),
            ip_prefix: self.prefix.to_string(),
            nexthop: self.by.to_string(),
        }
    }
}

/// Who wants rows, and is told of trouble with them.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Whose {
    /// A Vpc.
    Vpc(String),
    /// A Subnet.
    Subnet(String),
    /// Who holds addresses: a VM, an instance without one, a node, a Vip.
    Holder(VmKey),
}

impl Whose {
    /// The VM, instance or node that this is, if it is one.
    #[must_use]
    pub fn guest(&self) -> Option<&VmKey> {
        match self {
            Self::Holder(key) if !key.is_lender() => Some(key),
            Self::Vpc(_) | Self::Subnet(_) | Self::Holder(_) => None,
        }
    }
}

impl std::fmt::Display for Whose {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Vpc(name) => write!(out, "Vpc {name}"),
            Self::Subnet(name) => write!(out, "Subnet {name}"),
            Self::Holder(key) => write!(out, "{key}"),
        }
    }
}

/// The rows of every VPC and subnet, those that others are on first; `mac_of` tells the MAC
/// of a router port that is there. A Vpc that is being deleted is there for its
/// subnets only.
pub fn topology(world: &World, mac_of: impl Fn(&str) -> Option<MacAddr>) -> Vec<(Whose, Desired)> {
    let networks = world.ledger.networks().values();
    let staying = world.vpcs.metas().filter(|(_, vpc)| !hold::is_leaving(vpc));
    let vpcs: BTreeSet<&String> =
        networks.clone().map(|network| &network.vpc).chain(staying.map(|(name, _)| name)).collect();
    let vpcs = vpcs.into_iter().map(|name| (Whose::Vpc(name.clone()), vpc(world, name)));
    let subnets = networks.map(|network| {
        let mac = mac_of(&names::router_side(&network.vpc, &network.name));
        let mac = mac.unwrap_or_else(|| network.router_mac());
        let served =
            world.accepted(&network.name).is_none_or(|spec| spec.enable_dhcp != Some(false));
        (Whose::Subnet(network.name.clone()), subnet(network, mac, served))
    });
    vpcs.chain(subnets).collect()
}

/// The router of a VPC and what its Vpc says of it. Of one that cannot be read
/// nobody knows what that is: its router stays as it is.
fn vpc(world: &World, name: &String) -> Desired {
    let spec = world.vpcs.get(name).map(|vpc| &vpc.spec);
    let (mut static_routes, _) = spec.map(routes::static_routes).unwrap_or_default();
    let (mut policies, _) = spec.map(routes::policies).unwrap_or_default();
    let networks = world.ledger.networks().values().filter(|network| network.vpc == *name);
    let reach = networks.flat_map(Network::reach);
    policies.extend(reach.flat_map(|(_, cidrs)| routes::within_vpc(cidrs)));
    let networks = world.ledger.networks();
    let links = spec.map(|spec| peering::links(world, networks, name, spec).there);
    let links = links.unwrap_or_default();
    let mut address_sets = BTreeMap::new();
    if name == DEFAULT_VPC {
        let way = egress::way(world, &static_routes);
        static_routes.extend(way.routes);
        policies.extend(way.policies);
        address_sets = way.sets;
    }
    let mut options = nb::pairs([
        ("always_learn_from_arp_request", "false"),
        ("dynamic_neigh_routers", "true"),
        ("mac_binding_age_threshold", "300"),
    ]);
    if !links.is_empty() {
        // As Kube-OVN: a router with a neighbour learns who asks.
        options.remove("always_learn_from_arp_request");
    }
    let want = RouterWant {
        options,
        static_routes: static_routes.into_iter().collect(),
        policies: policies.into_iter().collect(),
        as_is: world.vpcs.is_unreadable(name),
        ..RouterWant::default()
    };
    let router_ports = links.into_iter().map(|link| (link.name, link.port)).collect();
    let routers = [(name.clone(), want)].into();
    Desired { routers, router_ports, address_sets, ..Desired::default() }
}

/// The switch of a subnet and its link to the VPC's router, whose port has this MAC
/// or is made with it. If the agents do not serve it, whoever does may be a guest.
#[must_use]
pub fn subnet(network: &Network, mac: MacAddr, served: bool) -> Desired {
    let Network { name, vpc, .. } = network;
    let router_side = names::router_side(vpc, name);
    let switch_side = names::switch_side(name, vpc);
    let guards = if served { guards(&switch_side) } else { BTreeSet::new() };
    let acls = guards.union(&network.rules).cloned().collect();
    let querier = Querier::of(network, mac);
    let other_config = querier.map(|querier| querier.other_config()).unwrap_or_default();
    let switch = SwitchWant { acls, other_config, ..SwitchWant::default() };
    let mut gateway = RouterPortWant::gateway(vpc, mac, network.router_networks());
    if !network.route_table.is_empty() {
        gateway.options = nb::pairs([("route_table", network.route_table.as_str())]);
    }
    Desired {
        switches: [(name.clone(), switch)].into(),
        ports: [(switch_side, PortWant::router(name, &router_side))].into(),
        router_ports: [(router_side, gateway)].into(),
        ..Desired::default()
    }
}

/// What no guest may send: answers of a DHCP server, which would make it everyone's; and
/// DHCP requests, which the agent on its node has answered already. OVN tests `inport` for
/// equality only, so what comes through the router is let in by a rule before these.
fn guards(router_side: &str) -> BTreeSet<AclWant> {
    let whats =
        ["udp.src == 67", "udp.dst == 67", "ip6 && udp.src == 547", "ip6 && udp.dst == 547"];
    let drops = whats.map(|what| AclWant::new("from-lport", 32_000, what, "drop"));
    let any = "udp.src == {67, 547} || udp.dst == {67, 547}";
    let matches = format!("inport == \"{router_side}\" && ({any})");
    let routed = AclWant::new("from-lport", 32_001, &matches, "allow");
    drops.into_iter().chain([routed]).collect()
}

/// A name that no chassis has: Kubernetes names begin with a letter or a digit. A port that
/// asks for none may be bound by whichever node has an interface of its name, and one that
/// comes back with a guest that nobody wants any more would.
const NOWHERE: &str = "-";

/// A VM's port: what it may receive and send is its own addresses, and what it is
/// let beyond them. A node's sends what comes from outside, too.
#[must_use]
pub fn port(port: &Port) -> Desired {
    if port.vm.node().is_some() {
        let want = PortWant {
            switch: port.subnet.clone(),
            addresses: [address_line(port.mac, &port.addresses)].into(),
            external_ids: nb::pairs([("ls", port.subnet.as_str())]),
            ..PortWant::default()
        };
        let want = want.on_chassis(port.node.as_slice());
        return Desired { ports: [(port.name.clone(), want)].into(), ..Desired::default() };
    }
    let Leave { unguarded, further, hears_unknown, carries: _ } = &port.leave;
    let chassis: Vec<&String> = port.left.iter().chain(&port.node).chain(&port.target).collect();
    let nowhere = [&NOWHERE.to_owned()];
    let mut want =
        PortWant::vm(&port.subnet, &port.vm.namespace, &port.vm.name, port.mac, &port.addresses)
            .on_chassis(if chassis.is_empty() { &nowhere } else { &chassis })
            .allowing(further)
            .allowing(port.behind.iter().map(|behind| behind.prefix.to_string()));
    want.routes = port.behind.iter().map(Behind::route).collect();
    if chassis.len() > 1 {
        // OVN copies to both nodes what is for the guest, and lets it out of the second
        // one, once it announces itself there: QEMU does as soon as it has arrived. The first
        // gives it up when its tap there goes.
        want = want.activated_by("rarp");
    }
    if *unguarded {
        want = want.without_port_security();
    }
    if *hears_unknown {
        want = want.hearing_unknown();
    }
    Desired { ports: [(port.name.clone(), want)].into(), ..Desired::default() }
}

/// Of the rows marked as ours, those that a sweep may delete when nobody wants
/// them.
///
/// A subnet whose addresses are held though it is not in force (edited into
/// something that cannot be before we started, say) is not wanted by anyone who
/// could say how; its rows stay as they are, for the VMs on it. So it is with one
/// that cannot be read.
#[must_use]
pub fn ownerless(mut ours: Ours, world: &World) -> Ours {
    let held: BTreeSet<_> = world.ledger.held_ports().collect();
    ours.ports.retain(|port| !held.contains(port.as_str()) && !vips::is_unclear(world, port));
    if world.ledger.unreadable_blocks().next().is_some() {
        // Whose ports those are that no block names, nobody knows.
        ours.ports.clear();
    }
    for (vpc, _) in world.vpcs.unreadable() {
        // Whom it is linked to, nobody knows.
        let link = names::router_side(vpc, "");
        ours.router_ports.retain(|port| !port.starts_with(&link));
    }
    let unreadable = world.subnets.unreadable().map(|(name, _)| name.as_str());
    let unclear: BTreeSet<_> = world
        .ledger
        .held_subnets()
        .chain(unreadable)
        .filter(|name| !world.ledger.networks().contains_key(*name))
        .collect();
    if !unclear.is_empty() {
        ours.switches.retain(|switch| !unclear.contains(switch.as_str()));
        // Which router such a subnet was on, nobody knows.
        let of_one = |name: &str| unclear.iter().any(|subnet| name.contains(subnet));
        ours.ports.retain(|port| !of_one(port));
        ours.router_ports.retain(|port| !of_one(port));
        ours.routers.clear();
    }
    ours
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;
    use crate::shelf::Seen;
    use crate::world::Event;

    fn named(name: &str) -> ObjectMeta {
        ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
    }

    fn ours() -> Ours {
        Ours { ports: ["web.default".to_owned()].into(), ..Ours::default() }
    }

    /// Kube-OVN v1.17 as it was seen running; what is different is in ARCHITECTURE.md.
    #[test]
    fn the_rows_of_a_port_and_its_subnet_are_named_and_described_as_kube_ovns() {
        let port = Port {
            network: None,
            name: names::port("vma", "vm1", "net2.vm1.ovn"),
            vm: VmKey { namespace: "vm1".to_owned(), name: "vma".to_owned() },
            uid: "u".to_owned(),
            subnet: "s1".to_owned(),
            mac: "a6:e4:95:59:47:47".parse().unwrap(),
            addresses: vec!["fd00:200::2".parse().unwrap(), "10.200.0.2".parse().unwrap()],
            node: None,
            target: None,
            left: None,
            leave: Default::default(),
            behind: None,
        };
        let rows = super::port(&port).ports;
        let row = &rows["vma.vm1.net2.vm1.ovn"];
        assert!(row.addresses.iter().eq(["a6:e4:95:59:47:47 10.200.0.2 fd00:200::2"]));
        assert_eq!(row.external_ids, nb::pairs([("ls", "s1"), ("pod", "vm1/vma")]));

        let spec = crds::kubeovn::SubnetSpec {
            cidr_block: "10.200.0.0/24,fd00:200::/120".to_owned(),
            vpc: "vpc1".to_owned(),
            ..Default::default()
        };
        let network = Network::parse(&crds::kubeovn::Subnet::new("s1", spec)).unwrap();
        let rows = subnet(&network, network.router_mac(), true);
        let gateway = &rows.router_ports["vpc1-s1"];
        assert!(gateway.networks.iter().eq(["10.200.0.1/24", "fd00:200::1/120"]));
        assert_eq!(gateway.external_ids, nb::pairs([("lr", "vpc1")]));
        let inner = &rows.ports["s1-vpc1"];
        assert_eq!((inner.kind.as_str(), inner.addresses.contains("router")), ("router", true));
        assert_eq!(inner.options, nb::pairs([("router-port", "vpc1-s1")]));
        assert_eq!(inner.external_ids, nb::pairs([("ls", "s1")]));
        let policies: Vec<_> = routes::within_vpc(network.cidrs).collect();
        assert!(
            policies.iter().all(|one| (one.priority, one.action.as_str()) == (31_000, "allow"))
        );
    }

    #[test]
    fn what_is_behind_a_port_is_led_there_and_may_be_heard_from_it() {
        let spec = crds::kubeovn::SubnetSpec {
            cidr_block: "10.200.0.0/24,fd00:200::/64".to_owned(),
            vpc: "vpc1".to_owned(),
            dhcp_v6_prefix_delegation: Some(crds::kubeovn::PrefixDelegation {
                cidr_block: "fd10::/48".to_owned(),
                prefix_length: 64,
            }),
            ..Default::default()
        };
        let network = Network::parse(&crds::kubeovn::Subnet::new("s1", spec)).unwrap();
        let addresses = ["10.200.0.2", "fd00:200::2"].map(|one| one.parse().unwrap());
        let port = Port {
            network: None,
            name: "vma.vm1".to_owned(),
            vm: VmKey { namespace: "vm1".to_owned(), name: "vma".to_owned() },
            uid: "u".to_owned(),
            subnet: "s1".to_owned(),
            mac: "a6:e4:95:59:47:47".parse().unwrap(),
            behind: Behind::of(&network, &addresses),
            addresses: addresses.into(),
            node: None,
            target: None,
            left: None,
            leave: Default::default(),
        };
        let rows = super::port(&port).ports;
        let row = &rows["vma.vm1"];
        let may_say = "a6:e4:95:59:47:47 10.200.0.2 fd00:200::2 fd10:0:0:2::/64";
        assert!(row.port_security.iter().eq([may_say]), "{row:?}");
        assert!(row.addresses.iter().eq(["a6:e4:95:59:47:47 10.200.0.2 fd00:200::2"]));
        let route = PortRoute {
            router: "vpc1".to_owned(),
            ip_prefix: "fd10:0:0:2::/64".to_owned(),
            nexthop: "fd00:200::2".to_owned(),
        };
        assert!(row.routes.iter().eq([&route]), "{row:?}");
        assert_eq!(Behind::of(&network, &["10.200.0.3".parse().unwrap()]), None);
    }

    #[test]
    fn nobody_is_kept_from_serving_a_subnet_that_the_agents_do_not_serve() {
        let spec = crds::kubeovn::SubnetSpec {
            cidr_block: "10.200.0.0/24".to_owned(),
            vpc: "vpc1".to_owned(),
            ..Default::default()
        };
        let network = Network::parse(&crds::kubeovn::Subnet::new("s1", spec)).unwrap();
        let acls = |served| {
            let mut rows = subnet(&network, network.router_mac(), served);
            rows.switches.remove("s1").unwrap().acls
        };
        let drops = |acl: &AclWant| (acl.priority, acl.action.as_str()) == (32_000, "drop");
        assert_eq!(acls(true).iter().filter(|acl| drops(acl)).count(), 4);
        assert!(acls(false).is_empty());
    }

    #[test]
    fn packets_from_a_subnet_with_a_route_table_are_looked_up_there() {
        let options = |table: &str| {
            let spec = crds::kubeovn::SubnetSpec {
                cidr_block: "10.200.0.0/24".to_owned(),
                vpc: "vpc1".to_owned(),
                route_table: table.to_owned(),
                ..Default::default()
            };
            let network = Network::parse(&crds::kubeovn::Subnet::new("s1", spec)).unwrap();
            subnet(&network, network.router_mac(), true).router_ports["vpc1-s1"].options.clone()
        };
        assert_eq!(options("blue"), nb::pairs([("route_table", "blue")]));
        assert_eq!(options(""), nb::pairs([]));
    }

    #[test]
    fn ports_that_an_unreadable_block_may_name_are_not_swept() {
        let mut world = World::new(60);
        assert_eq!(ownerless(ours(), &world), ours());
        let unreadable = vec![named("s.v4.0a0000")];
        world.apply(Event::Block(Seen::All { objects: vec![], unreadable }));
        assert!(ownerless(ours(), &world).ports.is_empty());
    }

    #[test]
    fn a_switch_whose_subnet_cannot_be_read_is_not_swept() {
        let mut world = World::new(60);
        let switches = || Ours { switches: ["s".to_owned()].into(), ..Ours::default() };
        assert_eq!(ownerless(switches(), &world), switches());
        world.apply(Event::Subnet(Seen::Unreadable(Box::new(named("s")))));
        assert!(ownerless(switches(), &world).switches.is_empty());
    }

    #[test]
    fn the_router_of_a_vpc_that_cannot_be_read_stays_as_it_is_with_its_links() {
        let mut world = World::new(60);
        world.apply(Event::Vpc(Seen::Unreadable(Box::new(named("v")))));
        let rows = topology(&world, |_| None);
        let of_v = rows.iter().find(|(whose, _)| *whose == Whose::Vpc("v".to_owned()));
        assert!(of_v.unwrap().1.routers["v"].as_is);
        let ports = ["v-peer".to_owned(), "w-peer".to_owned()].into();
        let ours = ownerless(Ours { router_ports: ports, ..Ours::default() }, &world);
        assert_eq!(ours.router_ports, ["w-peer".to_owned()].into(), "what a sweep may delete");
    }
}
