//! Vpcs and Subnets.

use std::net::IpAddr;

use crds::kubeovn::{DEFAULT_VPC, Subnet, Vpc};

use kube::ResourceExt as _;

use super::{Findings, Index};
use crate::egress::JOIN;
use crate::ledger::Claimant;
use crate::network::{self, Network, NetworkError};
use crate::{binding, hold, namespaces, peering, port_names, routes};

pub(super) fn vpc(index: &Index, vpc: &Vpc) -> Findings {
    let mut flaws = routes::static_routes(&vpc.spec).1;
    flaws.extend(routes::policies(&vpc.spec).1);
    let links = peering::links(index, index.networks(), &vpc.name_any(), &vpc.spec);
    flaws.extend(links.flaws);
    flaws.extend(binding::wrong_default(index.networks(), &vpc.name_any(), &vpc.spec));
    // Which of two has them may be changed on either.
    let elsewhere = match vpc.spec.namespaces.as_slice() {
        [] => Vec::new(),
        _ => binding::elsewhere(
            &vpc.name_any(),
            &vpc.spec,
            &binding::vpcs_of(&index.vpcs, index.networks()),
        ),
    };
    let waits = links.waits.iter().chain(&elsewhere).map(ToString::to_string);
    let unplaced = binding::unplaced(index.networks(), &vpc.name_any(), &vpc.spec);
    let unplaced = unplaced.map(|(at, name)| binding::placed_by_nobody(at, name).to_string());
    let waits = waits.chain(unplaced).collect();
    Findings { flaws, waits, ..Findings::default() }
}

pub(super) fn subnet(index: &Index, subnet: &Subnet) -> Findings {
    let mut flaws = network::flaws(&subnet.spec);
    let network = match Network::parse(subnet) {
        Ok(network) => network,
        Err(error) => return Findings { flaws, ..Findings::refused(error) },
    };
    let vpc = index.vpcs.get(&network.vpc).map(|vpc| &**vpc);
    flaws.extend(namespaces::unlisted(&subnet.spec, vpc));
    let refusal = stands_in_the_way(index, &network).map(|error| error.to_string());
    let waits = waits_for(index, &network).map(|error| error.to_string());
    let other = binding::other_default(index.networks().values(), &network, &index.vpcs);
    let other = other.map(|other| binding::second_default(other).to_string());
    let elsewhere = network::excluded_elsewhere(&subnet.spec).map(|flaw| flaw.to_string());
    let waits = waits.into_iter().chain(moves(index, &network)).chain(other).chain(elsewhere);
    Findings { refusal, flaws, waits: waits.collect(), ..Findings::default() }
}

/// What becomes of the guests when the gateway is another than it is.
fn moves(index: &Index, network: &Network) -> Option<String> {
    let before = index.networks().get(&network.name)?;
    let moved =
        |one: &IpAddr| before.cidrs.contains(*one) && !network.gateways().any(|g| g == *one);
    let old = before.gateways().find(moved)?;
    let of_vm = |(address, holder): &(IpAddr, Claimant)| {
        let is_vm = holder.vm.vip().is_none() && holder.vm.node().is_none();
        is_vm && !holder.uid.is_empty() && address.is_ipv4() == old.is_ipv4()
    };
    let held = hold::told(index.holders.of_subnet(&network.name).filter(of_vm))?;
    Some(format!(
        "spec.gateway: {old} is the gateway no more, and VMs that run keep it until they are started anew: restart who has {held}"
    ))
}

/// Why this network cannot be beside what is there.
fn stands_in_the_way(index: &Index, network: &Network) -> Option<NetworkError> {
    let held = |which: &dyn Fn(IpAddr) -> bool| {
        hold::told(index.holders.of_subnet(&network.name).filter(|(address, _)| which(*address)))
    };
    if let Some(held) = held(&|one| !network.cidrs.contains(one)) {
        return Some(NetworkError::HeldOutside(held));
    }
    if let Some(held) = held(&|one| network.gateways().any(|gateway| gateway == one)) {
        return Some(NetworkError::GatewayHeld(held));
    }
    let before = index.networks().get(&network.name).map(|before| &before.vips);
    let listed = network.vips.iter().filter(|one| before.is_none_or(|all| !all.contains(one)));
    let guests = listed.filter_map(|one| {
        let holder = index.holders.of(&network.name, *one)?;
        holder.vm.vip().is_none().then_some((*one, holder))
    });
    if let Some(held) = hold::told(guests) {
        return Some(NetworkError::VipHeld(held));
    }
    let join = index.subnet(JOIN).is_some();
    if let Some(why) = index.reserved.conflict(network, join) {
        return Some(why);
    }
    // One that goes makes room.
    let overlaps = network.conflict(index.overlapping(network).filter(|other| !other.leaving));
    let was = index.networks().get(&network.name).is_some_and(|one| one.vpc == network.vpc);
    overlaps.or_else(|| port_names::conflict(index, index.networks(), network, was))
}

/// What it waits for.
fn waits_for(index: &Index, network: &Network) -> Option<NetworkError> {
    let vpc = network.vpc.clone();
    match index.vpcs.meta(&vpc) {
        _ if vpc == DEFAULT_VPC => None,
        None => Some(NetworkError::NoVpc(vpc)),
        Some(meta) => hold::is_leaving(meta).then_some(NetworkError::VpcLeaving(vpc)),
    }
}
