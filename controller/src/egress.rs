//! The way out: a VM of the default VPC whose subnet says `natOutgoing` reaches what
//! is outside through a node, with the node's address. Pure.
//!
//! ```text
//!  guest ─► router ─ policy ─► switch `join` ─► ovn0 of its node ─ NAT ─► outside
//!    ▲                                                               │
//!    └────────────── router ◄── ovn0 ◄── route of the node ◄─────────┘
//! ```
//!
//! Each node has a port on the subnet [`JOIN`], and there is one policy per node and
//! family, which counts on the node that has the port and nowhere else: a guest goes
//! out by the node that it is on, also after it has moved, and nothing is written for
//! it. Which subnets go out is said once, in an address set. With many nodes and many
//! subnets that is what keeps the two from being multiplied.
//!
//! A subnet with a centralised gateway has a policy of its own, which names the
//! gateway.
//!
//! The node's part (port, routes, translation) is its agent's. What it needs to know
//! is written on the Node and on the Subnet [`JOIN`], so that all agents go by one
//! decision.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crds::annotations;
use crds::kubeovn::{DEFAULT_VPC, Subnet, SubnetSpec};
use crds::kubevirt::SCHEDULABLE_LABEL;
use ipnetwork::IpNetwork;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;
use net::{Cidrs, listed, names};
use ovn::nb::{AddressSetWant, PolicyWant, StaticRouteWant};

use crate::flaw::Flaw;
use crate::ledger::VmKey;
use crate::network::Network;
use crate::rows::Port;
use crate::world::World;

/// The subnet that the nodes are on, as Kube-OVN calls it.
pub const JOIN: &str = "join";

/// The priority of the policies that lead out (Kube-OVN's `GatewayRouterPolicyPriority`),
/// below those that keep traffic within the VPC.
const OUT: i64 = 29_000;

/// Who takes the traffic of a subnet out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Gateway {
    /// The node that the VM is on.
    Distributed,
    /// The first of these nodes that is ready, or all that are.
    Centralized {
        /// The nodes, the preferred first.
        nodes: Vec<String>,
        /// Whether they share the traffic.
        all: bool,
    },
}

/// What is to be on the default VPC's router, and beside it.
#[derive(Debug, Default)]
pub struct Way {
    /// What leads out.
    pub policies: Vec<PolicyWant>,
    /// So that what no other route leads anywhere comes as far as the policies.
    pub routes: Vec<StaticRouteWant>,
    /// The subnets that go out by the VM's node, one set of each family.
    pub sets: BTreeMap<String, AddressSetWant>,
}

/// The way out that a Subnet asks for; none outside the default VPC.
#[must_use]
pub fn gateway(name: &str, vpc: &str, spec: &SubnetSpec) -> Option<Gateway> {
    if !spec.nat_outgoing || vpc != DEFAULT_VPC || name == JOIN {
        return None;
    }
    match spec.gateway_type.as_str() {
        "" | "distributed" => Some(Gateway::Distributed),
        "centralized" => {
            Some(Gateway::Centralized { nodes: gateway_nodes(spec), all: spec.enable_ecmp })
        }
        _ => None,
    }
}

/// The nodes in `gatewayNode`; what may follow a colon there is not for us.
fn gateway_nodes(spec: &SubnetSpec) -> Vec<String> {
    let names = spec.gateway_node.split(',').filter_map(|part| part.split(':').next());
    names.map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Why a Subnet's VMs do not get out though it says that they do.
#[must_use]
pub fn flaws(world: &World, subnet: &Subnet) -> Vec<Flaw> {
    let spec = &subnet.spec;
    let vpc = if spec.vpc.is_empty() { DEFAULT_VPC } else { &spec.vpc };
    if !spec.nat_outgoing || vpc != DEFAULT_VPC {
        return Vec::new();
    }
    // A gatewayType that is none is told of with the other fields.
    if subnet.name_any() == JOIN {
        let advice = "the nodes' own subnet needs no way out: leave it out";
        return vec![Flaw::new("natOutgoing".to_owned(), true, advice)];
    }
    if let Some(why) = no_join(world) {
        return vec![Flaw::new("natOutgoing".to_owned(), true, why)];
    }
    let central = spec.gateway_type == "centralized";
    if central && !gateway_nodes(spec).iter().any(|name| served(world, name).is_some()) {
        let advice = "name a node that an agent serves, or several with commas between";
        return vec![Flaw::new("gatewayNode".to_owned(), &spec.gateway_node, advice)];
    }
    Vec::new()
}

/// Why the subnet of the nodes is not what it is to be; not that it is yet to be made.
fn no_join(world: &World) -> Option<String> {
    let name = JOIN.to_owned();
    if let Some(why) = world.refused.get(JOIN) {
        return Some(format!("it needs Subnet {JOIN}, and {why}"));
    }
    let vpc = world.ledger.networks().get(&name).map(|network| &network.vpc);
    let vpc = vpc.filter(|vpc| *vpc != DEFAULT_VPC)?;
    Some(format!("it needs Subnet {JOIN} in Vpc {DEFAULT_VPC}, which is in Vpc {vpc}: rename it"))
}

/// Whether any subnet in force wants out.
#[must_use]
pub fn is_wanted(world: &World) -> bool {
    outgoing(world).next().is_some()
}

fn outgoing(world: &World) -> impl Iterator<Item = (&Network, &Gateway)> {
    let networks = world.ledger.networks().values();
    networks.filter_map(|network| Some((network, network.egress.as_ref()?)))
}

/// The subnet of the nodes, while somebody wants out.
#[must_use]
pub fn join(world: &World) -> Option<&Network> {
    let join = world.ledger.networks().get(JOIN)?;
    (join.vpc == DEFAULT_VPC && !join.leaving && is_wanted(world)).then_some(join)
}

/// The Subnet of the nodes as it is made; whoever edits it afterwards is right.
#[must_use]
pub fn join_subnet(cidrs: Cidrs) -> Subnet {
    let spec = SubnetSpec {
        vpc: DEFAULT_VPC.to_owned(),
        cidr_block: cidrs.to_string(),
        ..SubnetSpec::default()
    };
    Subnet::new(JOIN, spec)
}

/// The node of this name, if an agent serves it, or did. One that is only away keeps
/// its place.
#[must_use]
pub fn served<'a>(world: &'a World, name: &str) -> Option<&'a Node> {
    let node = world.nodes.get(&name.to_owned())?;
    node.labels().contains_key(SCHEDULABLE_LABEL).then_some(&**node)
}

/// What the way out depends on of a Node.
#[must_use]
pub fn facts(node: &Node) -> (Option<String>, bool, bool) {
    (node.uid(), node.labels().contains_key(SCHEDULABLE_LABEL), is_ready(node))
}

/// Not said to be otherwise.
fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.filter(|one| one.type_ == "Ready").all(|one| one.status == "True")
}

/// The nodes to decide for.
#[must_use]
pub fn keys(world: &World) -> Vec<VmKey> {
    if !is_wanted(world) {
        return Vec::new();
    }
    world.nodes.iter().map(|(name, _)| VmKey::of_node(name)).collect()
}

/// The nodes' addresses on their subnet.
fn places(world: &World) -> BTreeMap<String, Vec<IpAddr>> {
    let holders = world.ledger.holders_in(JOIN).into_iter();
    let there = holders.filter_map(|holder| {
        let node = holder.vm.node().and_then(|name| served(world, name));
        let node = node.filter(|node| node.metadata.uid.as_ref() == Some(&holder.uid))?;
        Some((node.name_any(), world.ledger.addresses(JOIN, &holder)))
    });
    there.collect()
}

/// What leads out of the default VPC; its router has these routes of its own already.
#[must_use]
pub fn way(world: &World, own: &[StaticRouteWant]) -> Way {
    let Some(join) = join(world) else { return Way::default() };
    let places = places(world);
    let mut way = Way::default();
    let mut tables: BTreeSet<(bool, &str)> = BTreeSet::new();
    for cidr in join.cidrs.iter() {
        let v4 = cidr.is_ipv4();
        let mut distributed = BTreeSet::new();
        for (network, gateway) in outgoing(world) {
            let Some(source) = network.cidrs.iter().find(|cidr| cidr.is_ipv4() == v4) else {
                continue;
            };
            tables.insert((v4, &network.route_table));
            match gateway {
                Gateway::Distributed => drop(distributed.insert(source.to_string())),
                Gateway::Centralized { nodes, all } => {
                    let hops = hops(world, &places, v4, nodes, *all);
                    let matches = format!("{}.src == {source}", family(v4));
                    way.policies.extend(out(matches, hops));
                }
            }
        }
        if !distributed.is_empty() {
            let name = set_name(v4);
            for (node, addresses) in &places {
                let hops = addresses.iter().filter(|one| one.is_ipv4() == v4);
                let matches = format!(
                    "{}.src == ${name} && is_chassis_resident(\"{}\")",
                    family(v4),
                    names::node_port(node)
                );
                way.policies.extend(out(matches, hops.map(ToString::to_string).collect()));
            }
            way.sets.insert(name, AddressSetWant { addresses: distributed });
        }
    }
    way.routes = tables.into_iter().filter_map(|table| default_route(join, own, table)).collect();
    way
}

/// Sends what matches to these next hops, if there are any.
fn out(matches: String, nexthops: BTreeSet<String>) -> Option<PolicyWant> {
    let action = "reroute".to_owned();
    (!nexthops.is_empty()).then_some(PolicyWant { priority: OUT, matches, action, nexthops })
}

/// Where a centralised gateway is now.
fn hops(
    world: &World,
    places: &BTreeMap<String, Vec<IpAddr>>,
    v4: bool,
    nodes: &[String],
    all: bool,
) -> BTreeSet<String> {
    let there: Vec<(bool, String)> = nodes
        .iter()
        .filter_map(|name| {
            let address = places.get(name)?.iter().find(|one| one.is_ipv4() == v4)?;
            Some((served(world, name).is_some_and(is_ready), address.to_string()))
        })
        .collect();
    let ready = there.iter().filter(|(ready, _)| *ready);
    let ready: BTreeSet<_> =
        ready.map(|(_, hop)| hop.clone()).take(if all { usize::MAX } else { 1 }).collect();
    // If none says that it is ready, nobody does better than the first.
    if ready.is_empty() { there.into_iter().take(1).map(|(_, hop)| hop).collect() } else { ready }
}

/// The default route of a table, where its author has written none.
fn default_route(
    join: &Network,
    own: &[StaticRouteWant],
    (v4, table): (bool, &str),
) -> Option<StaticRouteWant> {
    let everything = if v4 { "0.0.0.0/0" } else { "::/0" };
    if own.iter().any(|route| route.route_table == table && route.ip_prefix == everything) {
        return None;
    }
    let hop = join.gateways().find(|hop| hop.is_ipv4() == v4)?;
    let route = StaticRouteWant::new(everything, &hop.to_string());
    Some(StaticRouteWant { route_table: table.to_owned(), ..route })
}

const fn family(v4: bool) -> &'static str {
    if v4 { "ip4" } else { "ip6" }
}

fn set_name(v4: bool) -> String {
    format!("berth_egress_{}", if v4 { "v4" } else { "v6" })
}

/// What agents are told on the Subnet [`JOIN`], by annotation: the networks to send
/// to the VPC, and those of them that are translated on their way out. Nothing while
/// nobody wants out.
#[must_use]
pub fn notes(world: &World) -> BTreeMap<&'static str, String> {
    if join(world).is_none() {
        return BTreeMap::new();
    }
    let of = |which: &dyn Fn(&Network) -> bool| {
        let networks = world.ledger.networks().values();
        let here = networks.filter(|one| one.vpc == DEFAULT_VPC && one.name != JOIN && which(one));
        let cidrs: BTreeSet<IpNetwork> = here.flat_map(|one| one.cidrs.iter()).collect();
        listed::text(&cidrs.into_iter().collect::<Vec<_>>())
    };
    [
        (annotations::ROUTED, of(&|_| true)),
        (annotations::TRANSLATED, of(&|one| one.egress.is_some())),
    ]
    .into()
}

/// The annotations of [`node_notes`], without their prefix.
pub const NODE_NOTES: [&str; 7] = [
    annotations::ALLOCATED,
    annotations::LOGICAL_SWITCH,
    annotations::IP_ADDRESS,
    annotations::MAC_ADDRESS,
    annotations::CIDR,
    annotations::GATEWAY,
    annotations::PORT_NAME,
];

/// What a Node is told of its port, in Kube-OVN's words.
#[must_use]
pub fn node_notes(port: &Port, join: &Network) -> BTreeMap<String, String> {
    let values = [
        "true".to_owned(),
        JOIN.to_owned(),
        listed::text(&port.addresses),
        port.mac.to_string(),
        join.cidrs.to_string(),
        join.gateway_text(),
        port.name.clone(),
    ];
    let keys = NODE_NOTES.map(|field| annotations::key(names::DEFAULT_PROVIDER, field));
    keys.into_iter().zip(values).collect()
}

#[cfg(test)]
mod tests;
