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

/// What is said of a Vip that is not there.
const ABSENT: &str = "does not exist or cannot be read: create it, or name another";

/// Why a Vip as it is written lends nothing to a VM of this namespace on this subnet,
/// whoever has it: what to change.
#[must_use]
pub fn lends_nothing(vip: Option<&Vip>, namespace: &str, subnet: &str) -> Option<String> {
    let Some(Vip { spec, .. }) = vip else { return Some(ABSENT.to_owned()) };
    if vip.is_some_and(|vip| !may_name(vip, namespace)) {
        Some(format!("is for VMs of namespace {:?}: name another", spec.namespace))
    } else if !spec.r#type.is_empty() {
        Some(format!("is of type {:?}, whose address no VM has: name another", spec.r#type))
    } else if !spec.selector.is_empty() {
        let why = "is shared by the VMs of its spec.selector: empty that, or name another";
        Some(why.to_owned())
    } else {
        let place = spec.subnet.trim();
        (place != subnet).then(|| elsewhere(place, subnet))
    }
}

fn elsewhere(place: &str, subnet: &str) -> String {
    format!("is of subnet {place:?}, this network is on {subnet:?}: name one of the same subnet")
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
    let vip = world.vips.get(&name.to_owned()).map(|vip| &**vip);
    if let Some(why) = lends_nothing(vip, &vm.namespace, subnet) {
        return Err(why);
    }
    let Some(vip) = vip else { return Err(ABSENT.to_owned()) };
    let Some((place, addresses)) = held(world, vip) else {
        return Err(match world.refused_vips.get(name) {
            Some(why) => format!("is not in force: {why}"),
            None => "has no address yet; it is asked for again".to_owned(),
        });
    };
    if place != subnet {
        return Err(elsewhere(&place, subnet));
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
