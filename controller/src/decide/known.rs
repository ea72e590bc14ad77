//! Which ports a VM has, and which of its networks has which: see `request/ports.rs`.

use crds::annotations;
use kube::ResourceExt as _;
use net::names;

use super::{has_owner, owned_by, owner_uid};
use crate::ledger::{Claimant, VmKey};
use crate::request::{self, Known};
use crate::world::World;

/// The ports of the VM or instance with this uid, by the ledger, its IP objects and its
/// instance; reservations for it among them.
pub(super) fn ports(world: &World, vm: &VmKey, uid: &str) -> Known {
    let mut known = Known::default();
    for (claimant, subnet) in world.ledger.held_for(vm) {
        if claimant.uid != uid && !claimant.uid.is_empty() {
            continue;
        }
        // Only an attachment's port may have its addresses from a claim.
        let lender = (claimant.provider() != names::DEFAULT_PROVIDER)
            .then(|| world.ledger.lender_to(&subnet, &claimant));
        known.loans.extend(lender.flatten().map(|lender| (claimant.port.clone(), lender.vm)));
        known.held.insert(claimant.port);
    }
    for ip in world.ips_of(vm).filter(|ip| owned_by(ip, uid) || !has_owner(ip)) {
        known.held.insert(ip.name_any());
        let network = ip.annotations().get(annotations::NETWORK);
        known.networks.extend(network.map(|network| (ip.name_any(), network.clone())));
    }
    // Newer than what an IP object says, and all there is when both are lost.
    for (port, network) in given(world, vm, uid) {
        known.held.insert(port.clone());
        known.networks.insert(port, network);
    }
    known
}

/// The attachments that the instance was given in the name of this uid, by port.
fn given(world: &World, vm: &VmKey, uid: &str) -> Vec<(String, String)> {
    let instance = world.instances.get(vm);
    let Some(instance) = instance.filter(|one| owner_uid(one).as_deref() == Some(uid)) else {
        return Vec::new();
    };
    let networks = &instance.spec.networks;
    let given = request::given(networks, &vm.namespace, instance.annotations()).into_iter();
    let port = |provider: &str| names::port(&vm.name, &vm.namespace, provider);
    given.map(|(provider, network)| (port(&provider), network.to_owned())).collect()
}

/// The network that has this port, if it is an attachment's and its VM has an instance.
pub(super) fn network(world: &World, claimant: &Claimant) -> Option<String> {
    if claimant.provider() == names::DEFAULT_PROVIDER {
        return None;
    }
    let given = given(world, &claimant.vm, &claimant.uid).into_iter();
    given.into_iter().find(|(port, _)| *port == claimant.port).map(|(_, network)| network)
}
