//! A port that holds more than one address of a family: which is its place, and which
//! it can do without. See `ledger/spare.rs`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Decision, noted_addresses, owned_by, owner_uid};
use crate::ledger::one_of_each_family;
use crate::world::World;

/// Has each port of the VM use what its instance has, or else what its IP object
/// says. Only what an instance was made without is spare: while it is there, no other
/// one is made with it.
pub(super) fn judge(world: &mut World, decision: &mut Decision) {
    for (claimant, subnet) in world.ledger.held_for(&decision.vm) {
        let held = world.ledger.addresses(&subnet, &claimant);
        if one_of_each_family(&held) {
            continue;
        }
        let instance = world.instances.get(&decision.vm);
        let instance = instance.filter(|one| owner_uid(one).as_deref() == Some(&claimant.uid));
        let noted: BTreeSet<IpAddr> = match instance {
            Some(instance) => noted_addresses(instance).collect(),
            None => {
                let ip = world.ips.get(&claimant.port);
                let ip = ip.filter(|ip| owned_by(ip, &claimant.uid) && ip.spec.subnet == subnet);
                let text = ip.map(|ip| ip.spec.ip_address.as_str()).unwrap_or_default();
                text.split(',').filter_map(|part| part.trim().parse().ok()).collect()
            }
        };
        let has_one_like = |address: &IpAddr| {
            let mut has = held.iter().filter(|one| noted.contains(one));
            has.any(|one| one.is_ipv4() == address.is_ipv4())
        };
        if instance.is_some() {
            let spare = held.iter().filter(|one| has_one_like(one) && !noted.contains(one));
            let spare = spare.map(|one| (claimant.clone(), subnet.clone(), *one));
            decision.spare.extend(spare);
        }
        for address in held.into_iter().filter(|one| noted.contains(one)) {
            world.ledger.prefer(&subnet, &claimant, address);
        }
    }
}
