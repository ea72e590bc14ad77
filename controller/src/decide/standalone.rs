//! The place of an instance without a VM: made by hand, or by a
//! VirtualMachineInstanceReplicaSet.
//!
//! ```text
//!  new                          claim in its own name, choose a node, write its place on it
//!  has its place                keep it until the object is gone, also once the guest has ended
//!  the VM of its name holds
//!  the port that it would have  it waits and says so; neither takes anything from the other
//! ```
//!
//! The owner of its addresses is the instance itself, by its uid. That it has its place
//! is said by the annotation that names the owner, written together with the place.

use std::collections::BTreeMap;

use crds::annotations;
use crds::kubevirt::VirtualMachineInstance;
use jiff::Timestamp;
use kube::ResourceExt as _;

use super::{
    Decision, Inscription, Place, claim_all, expect, given, known, offer, owner, places, seat,
    unix, used_subnets,
};
use crate::machine::{self, Trouble};
use crate::objects;
use crate::request::{Asker, Request, requests};
use crate::world::{World, node_of};

/// Whether nobody made this instance for a VM. One that runs and does not say in whose
/// name is not ours.
pub(super) fn is_standalone(instance: &VirtualMachineInstance) -> bool {
    owner(instance).is_none()
        && match noted(instance) {
            Some(uid) => Some(uid) == instance.metadata.uid.as_ref(),
            None => node_of(instance).is_none(),
        }
}

/// Whether this instance, just made, is neither a VM's nor has a place yet.
pub(crate) fn is_made_by_hand(instance: &VirtualMachineInstance) -> bool {
    owner(instance).is_none() && noted(instance).is_none() && node_of(instance).is_none()
}

fn noted(instance: &VirtualMachineInstance) -> Option<&String> {
    instance.annotations().get(annotations::OWNER_UID)
}

/// Completes the decision with the place of an instance that has no VM.
pub(super) fn serve(
    world: &mut World,
    decision: &mut Decision,
    instance: &VirtualMachineInstance,
    now: Timestamp,
) {
    if noted(instance).is_some() {
        let uid = instance.uid().unwrap_or_default();
        // What it cannot have again it says by running without it.
        let _ = given::regain(world, &decision.vm, &uid, instance, unix(now));
    } else if instance.metadata.deletion_timestamp.is_none() && !instance.phase().is_final() {
        decision.inscription = match place(world, decision, instance, now) {
            Ok(placed) => Some(Inscription::Placed(Box::new(placed))),
            Err(trouble) => Some(Inscription::Waits(trouble)),
        };
    }
}

fn place(
    world: &mut World,
    decision: &mut Decision,
    instance: &VirtualMachineInstance,
    now: Timestamp,
) -> Result<VirtualMachineInstance, Trouble> {
    let uid = instance.uid().unwrap_or_default();
    if let Some(port) = port_of_the_vm(world, decision) {
        return Err(Trouble {
            reason: machine::VIRTUAL_MACHINE_IN_THE_WAY,
            message: format!(
                "VirtualMachine {} has this name and holds port {port}: delete this instance and make one of another name, or delete the VirtualMachine",
                decision.vm
            ),
        });
    }
    let asked = asked(world, decision, instance)?;
    world.ledger.attempt();
    if let Err((trouble, again_at)) = claim_all(world, decision, &uid, &asked, now) {
        world.ledger.undo(unix(now));
        decision.again_at = again_at;
        return Err(trouble);
    }
    let ground = world.storage.ground(&decision.vm, &instance.spec.volumes, &[])?;
    let labels = instance.labels().clone();
    let booking = seat::find(world, &decision.vm, labels, &instance.spec, &ground, &asked)?;
    world.storage.select(&decision.vm, &ground, &booking.node)?;
    let places: Vec<Place<'_>> = places(world, &decision.vm, &uid, &booking.node, asked);
    let placed = objects::placed(instance, &booking.node, &places, ground.status, now);
    let taken = places.into_iter().map(|(_, port, network)| (network.vpc.clone(), port));
    let taken: Vec<_> = taken.collect();
    expect(world, decision, &booking, taken);
    Ok(placed)
}

/// A port of this name that a VM holds.
fn port_of_the_vm(world: &World, decision: &Decision) -> Option<String> {
    let uid = world.machines.get(&decision.vm)?.uid()?;
    let held = world.ledger.held_for(&decision.vm).into_iter();
    held.map(|(claimant, _)| claimant).find(|one| one.uid == uid).map(|one| one.port)
}

fn asked(
    world: &World,
    decision: &Decision,
    instance: &VirtualMachineInstance,
) -> Result<Vec<Request>, Trouble> {
    let nothing = BTreeMap::new();
    let uid = instance.uid().unwrap_or_default();
    let used = used_subnets(world, &decision.vm, &uid);
    let known = known::ports(world, &decision.vm, &uid);
    let asker = Asker {
        name: &decision.vm.name,
        namespace: &decision.vm.namespace,
        annotations: instance.metadata.annotations.as_ref().unwrap_or(&nothing),
        spec: &instance.spec,
    };
    requests(asker, offer(world, &decision.vm, &used, &known))
        .map_err(|error| Trouble { reason: machine::INVALID_NETWORK, message: error.to_string() })
}
