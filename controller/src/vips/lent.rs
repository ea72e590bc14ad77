//! A Vip whose addresses and MAC a port has as its own (annotation `vip`): a
//! reservation that outlives the VM. The ledger says who has it (`ledger/loans.rs`).
//!
//! One that is lent nobody else may send from: it is no virtual port's while it is.

use kube::ResourceExt as _;
use net::MacAddr;

use super::carriers::may_name;
use super::{held, shown};
use crate::hold;
use crate::ledger::{Claimant, VmKey};
use crate::world::World;
use crds::kubeovn::Vip;

/// By what this Vip holds.
pub(super) fn claimant(vip: &Vip) -> Claimant {
    Claimant::of_vip(&vip.name_any(), &vip.uid().unwrap_or_default())
}

/// The port that has the addresses of this Vip as its own.
#[must_use]
pub fn borrower(world: &World, vip: &Vip) -> Option<Claimant> {
    let (subnet, _) = held(world, vip)?;
    world.ledger.borrower(&subnet, &claimant(vip))
}

/// The MAC of the Vip of this name.
#[must_use]
pub fn mac(world: &World, name: &str) -> Option<MacAddr> {
    let vip = world.vips.get(&name.to_owned())?;
    shown(world, vip).mac.parse().ok()
}

/// By what the Vip of this name holds, if a port of `vm` on this subnet may have its
/// addresses.
///
/// # Errors
/// Why not: what to change.
pub fn lends(
    world: &World,
    vm: &VmKey,
    port: &str,
    subnet: &str,
    name: &str,
) -> Result<Claimant, String> {
    let Some(vip) = world.vips.get(&name.to_owned()) else {
        return Err("does not exist or cannot be read: create it, or name another".to_owned());
    };
    if !may_name(vip, &vm.namespace) {
        let theirs = &vip.spec.namespace;
        return Err(format!("is for VMs of namespace {theirs:?}: name another"));
    }
    if !vip.spec.r#type.is_empty() {
        let kind = &vip.spec.r#type;
        return Err(format!("is of type {kind:?}, whose address no VM has: name another"));
    }
    if !vip.spec.selector.is_empty() {
        return Err(
            "is shared by the VMs of its spec.selector: empty that, or name another".to_owned()
        );
    }
    let Some((place, addresses)) = held(world, vip) else {
        return Err(match world.refused_vips.get(name) {
            Some(why) => format!("is not in force: {why}"),
            None => "has no address yet; it is asked for again".to_owned(),
        });
    };
    if place != subnet {
        return Err(format!(
            "is of subnet {place:?}, this network is on {subnet:?}: name one of the same subnet"
        ));
    }
    let is_its = borrower(world, vip).is_some_and(|one| one.port == port && one.vm == *vm);
    if hold::is_leaving(&vip.metadata) && !is_its {
        return Err("is being deleted: name another".to_owned());
    }
    let sharing = addresses.iter().find_map(|address| {
        let ports = world.carriers.ports(&(place.clone(), *address));
        ports.first().copied().map(str::to_owned)
    });
    match sharing.filter(|_| !is_its) {
        Some(other) => Err(format!(
            "is shared by ports that list it in aaps, {other} among them: take it off there, or name another"
        )),
        None => Ok(claimant(vip)),
    }
}
