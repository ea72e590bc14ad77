//! What is deleted while it is in use. Its finalizer keeps it until nobody uses it any
//! more, and it says so itself; whoever deletes it is told at once. It is not refused:
//! of a file that is deleted the objects go in any order. But what serves everybody who
//! names nothing else is refused, since nobody new could start while it waits.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crds::cni::IpamClaim;
use crds::kubeovn::{DEFAULT_VPC, Ip, Subnet, Vip, Vpc};
use kube::ResourceExt as _;

use super::{Index, taken};
use crate::claims;
use crate::decide::owner_of;
use crate::hold;
use crate::ledger::Claimant;
use crate::vips;

/// What whoever deletes something is told, or why it may not be.
pub(super) type Answer = Result<Option<String>, String>;

pub(super) fn vpc(index: &Index, vpc: &Vpc) -> Answer {
    let name = vpc.name_any();
    let subnets = index.networks().values().filter(|one| one.vpc == name && !one.leaving);
    let subnets: BTreeSet<_> = subnets.map(|one| one.name.clone()).collect();
    let stays = hold::vpc_stays(&subnets);
    refused_if(name == DEFAULT_VPC, "Vpc", &name, stays)
}

pub(super) fn subnet(index: &Index, subnet: &Subnet) -> Answer {
    let name = subnet.name_any();
    let holders = index.holders.of_subnet(&name).map(|(_, holder)| holder);
    let staying = holders.filter(|holder| !taken::goes(index, holder));
    let stays = hold::subnet_stays(&staying.map(|holder| hold::user(&holder)).collect());
    refused_if(subnet.spec.default, "Subnet", &name, stays)
}

fn refused_if(default: bool, kind: &str, name: &str, stays: Option<String>) -> Answer {
    match stays {
        Some(why) if default => Err(format!(
            "{kind} {name:?} is the default one, without which nobody could start who names no other: {why}"
        )),
        stays => Ok(stays),
    }
}

/// Whose VMs may carry it nobody knows here.
pub(super) fn vip(index: &Index, vip: &Vip) -> Answer {
    let status = vip.status.clone().unwrap_or_default();
    let has = [status.v4_ip, status.v6_ip].into_iter().filter_map(|text| text.parse().ok());
    let of_it = |lender: &Claimant| lender.vm.vip() == Some(vip.name_any().as_str());
    let port = borrower(index, &vip.spec.subnet, has, of_it);
    Ok(port.map(|port| vips::lent_to(&port)))
}

pub(super) fn claim(index: &Index, claim: &IpamClaim) -> Answer {
    let Some((subnet, addresses)) = claims::said(claim) else { return Ok(None) };
    let of_it = |lender: &Claimant| lender.vm.claim() == Some(crate::world::vm_key(claim));
    let port = borrower(index, &subnet, addresses, of_it);
    Ok(port.map(|port| claims::lent_to(&port)))
}

/// Who has one of these addresses from the lender.
fn borrower(
    index: &Index,
    subnet: &str,
    addresses: impl IntoIterator<Item = IpAddr>,
    is_lender: impl Fn(&Claimant) -> bool,
) -> Option<Claimant> {
    addresses.into_iter().find_map(|address| {
        let lender = index.holders.lender_of(subnet, address).filter(|one| is_lender(one));
        lender.and_then(|_| index.holders.of(subnet, address))
    })
}

pub(super) fn ip(index: &Index, ip: &Ip) -> Answer {
    let stays = owner_of(ip).is_some_and(|uid| index.owners.stays(uid));
    let spec = &ip.spec;
    Ok((stays && !spec.namespace.is_empty()).then(|| {
        format!(
            "VirtualMachine {}/{} has its address: while that runs the object waits, and once it is stopped the address is freed",
            spec.namespace, spec.pod_name
        )
    }))
}
