//! Vpcs and Subnets.

use crds::kubeovn::{DEFAULT_VPC, Subnet, Vpc};

use super::{Findings, Index};
use crate::network::{self, Network, NetworkError};
use crate::{hold, routes};

pub(super) fn vpc(vpc: &Vpc) -> Findings {
    let mut flaws = routes::static_routes(&vpc.spec).1;
    flaws.extend(routes::policies(&vpc.spec).1);
    Findings { flaws, ..Findings::default() }
}

pub(super) fn subnet(index: &Index, subnet: &Subnet) -> Findings {
    let flaws = network::flaws(&subnet.spec);
    let network = match Network::parse(subnet) {
        Ok(network) => network,
        Err(error) => return Findings { flaws, ..Findings::refused(error) },
    };
    let refusal = stands_in_the_way(index, &network).map(|error| error.to_string());
    let waits = waits_for(index, &network).map(|error| error.to_string());
    Findings { refusal, flaws, waits: waits.into_iter().collect() }
}

/// Why this network cannot be beside what is there.
fn stands_in_the_way(index: &Index, network: &Network) -> Option<NetworkError> {
    let held = |which: &dyn Fn(std::net::IpAddr) -> bool| {
        hold::told(index.holders.of_subnet(&network.name).filter(|(address, _)| which(*address)))
    };
    if let Some(held) = held(&|one| !network.cidrs.contains(one)) {
        return Some(NetworkError::HeldOutside(held));
    }
    if let Some(held) = held(&|one| network.gateways().any(|gateway| gateway == one)) {
        return Some(NetworkError::GatewayHeld(held));
    }
    // One that goes makes room.
    network.conflict(index.overlapping(network).filter(|other| !other.leaving))
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
