//! A port that holds more than one address of a family, or of a family that it no
//! longer asks for: which is its place, and which it can do without. See `ledger/spare.rs`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crds::annotations;
use crds::kubeovn::Ip;
use crds::kubevirt::VirtualMachineInstance;
use kube::ResourceExt as _;

use super::given;
use super::{Decision, is_placed, owned_by, owner_uid};
use crate::ledger::{Claimant, one_of_each_family};
use crate::world::World;

/// Has each port of the VM use what its instance has, or else what its IP object
/// says. Only what an instance was made without is spare: while it is there, no other
/// one is made with it.
pub(super) fn judge(world: &mut World, decision: &mut Decision) {
    for (claimant, subnet) in world.ledger.held_for(&decision.vm) {
        let held = world.ledger.addresses(&subnet, &claimant);
        let instance = world.instances.get(&decision.vm);
        let instance = instance.filter(|one| owner_uid(one).as_deref() == Some(&claimant.uid));
        if one_of_each_family(&held) && instance.is_none() {
            continue;
        }
        let noted: BTreeSet<IpAddr> = match instance {
            Some(instance) => given::noted(instance, claimant.provider()).collect(),
            None => {
                let ip = world.ips.get(&claimant.port);
                let ip = ip.filter(|ip| owned_by(ip, &claimant.uid) && ip.spec.subnet == subnet);
                let text = ip.map(|ip| ip.spec.ip_address.as_str()).unwrap_or_default();
                net::listed::addresses(text).collect()
            }
        };
        // One of them tells that it is this port's addresses that are written there.
        if instance.is_some() && held.iter().any(|one| noted.contains(one)) {
            let is_spare = |one: &&IpAddr| {
                let other = |other: &&IpAddr| {
                    other.is_ipv4() == one.is_ipv4() && *other != *one && noted.contains(*other)
                };
                !noted.contains(*one)
                    && (held.iter().any(|another| other(&another))
                        || instance.is_some_and(|instance| {
                            is_without(world, &claimant, instance, &noted, **one)
                        }))
            };
            let spare = held.iter().filter(is_spare);
            let spare = spare.map(|one| (claimant.clone(), subnet.clone(), *one));
            decision.spare.extend(spare);
        }
        for address in held.into_iter().filter(|one| noted.contains(one)) {
            world.ledger.prefer(&subnet, &claimant, address);
        }
    }
}

/// The addresses that a port uses: of those that it holds, one of each family, and of
/// these the ones that its instance has.
pub(super) fn used(world: &World, claimant: &Claimant, subnet: &str) -> Vec<IpAddr> {
    let mut place = world.ledger.place(subnet, claimant);
    let instance = world.instances.get(&claimant.vm);
    let instance = instance.filter(|one| owner_uid(one).as_deref() == Some(&claimant.uid));
    let provider = claimant.provider();
    let noted: BTreeSet<IpAddr> =
        instance.map(|one| given::noted(one, provider).collect()).unwrap_or_default();
    if let Some(instance) = instance
        && place.iter().any(|one| noted.contains(one))
    {
        place.retain(|one| !is_without(world, claimant, instance, &noted, *one));
    }
    place
}

/// Whether the instance was made for one family on this network, and not for that of
/// `address`. What somebody edits on it afterwards takes nothing from a guest: the IP
/// object was written before the instance, and says so too.
fn is_without(
    world: &World,
    claimant: &Claimant,
    instance: &VirtualMachineInstance,
    noted: &BTreeSet<IpAddr>,
    address: IpAddr,
) -> bool {
    let key = annotations::key(claimant.provider(), annotations::IP_FAMILY);
    let of_one_family = instance.annotations().contains_key(&key);
    let ip = world.ips.get(&claimant.port).filter(|ip| owned_by(ip, &claimant.uid));
    let has = |ip: &Arc<Ip>| net::listed::addresses(&ip.spec.ip_address).any(|one| one == address);
    is_placed(instance)
        && of_one_family
        && !noted.iter().any(|one| one.is_ipv4() == address.is_ipv4())
        && !ip.is_some_and(has)
}
