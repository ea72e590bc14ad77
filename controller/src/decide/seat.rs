//! The node for a VM: the facts that [`placement::choose`] goes by, out of the world.

use std::collections::BTreeMap;

use crds::kubevirt::{MIGRATION_ADDRESS, VirtualMachineInstance, VirtualMachineInstanceSpec};
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;

use super::Request;
use crate::agenda::Booking;
use crate::ledger::VmKey;
use crate::lost;
use crate::machine::{self, Trouble};
use crate::placement::{self, Labels, Refusal, Scene, Wish, has_terms};
use crate::storage::Ground;
use crate::world::{World, node_of};

/// The place for what has this spec and these labels, asks for these networks, and has its disks
/// on this ground.
pub(super) fn find(
    world: &mut World,
    vm: &VmKey,
    labels: Labels,
    spec: &VirtualMachineInstanceSpec,
    ground: &Ground,
    asked: &[Request],
) -> Result<Booking, Trouble> {
    let wish = Wish::of(&vm.namespace, labels, spec)
        .map_err(|message| Trouble { reason: machine::INVALID_PLACEMENT, message })?;
    let refuse = |node: &Node| elsewhere(world, ground, node);
    let found = choose(world, vm, &wish, &refuse);
    let node = found.map_err(|message| {
        world.wait_for_room(vm.clone());
        Trouble { reason: machine::UNSCHEDULABLE, message }
    })?;
    if let Some(request) = asked.iter().find(|one| world.ips.is_unreadable(&one.port)) {
        let message = format!("IP {} does not fit its type: correct or delete it", request.port);
        return Err(Trouble { reason: machine::ADDRESS_NOT_AVAILABLE, message });
    }
    Ok(Booking { node, amount: wish.amount, asks: has_terms(spec) })
}

/// The node that an instance may move to. `added` are labels that it must carry besides.
pub(super) fn target(
    world: &World,
    vm: &VmKey,
    instance: &VirtualMachineInstance,
    added: Option<&BTreeMap<String, String>>,
) -> Result<String, String> {
    let source = node_of(instance);
    let ground = world.storage.ground_of_started(&vm.namespace, &instance.spec.volumes);
    let refuse = |node: &Node| {
        if Some(node.name_any().as_str()) == source {
            return Some(Refusal::new("node(s) had the guest already", "the guest is there"));
        }
        let takes_part = node.annotations().contains_key(MIGRATION_ADDRESS);
        let why = "its agent takes no part in migrations (--migration-address)";
        elsewhere(world, &ground, node).or_else(|| {
            (!takes_part).then(|| Refusal::new("node(s) took no part in migrations", why))
        })
    };
    let mut wish = Wish::of(&vm.namespace, instance.labels().clone(), &instance.spec)?;
    // It narrows down what the VM itself asks for, and takes the place of nothing.
    for (key, value) in added.into_iter().flatten() {
        wish.selector.entry(key.clone()).or_insert_with(|| value.clone());
    }
    choose(world, vm, &wish, &refuse)
}

fn choose(
    world: &World,
    vm: &VmKey,
    wish: &Wish,
    refuse: &dyn Fn(&Node) -> Option<Refusal>,
) -> Result<String, String> {
    let scene = Scene {
        nodes: world.nodes.iter().map(|(_, node)| &**node).collect(),
        guests: world.guests(vm, wish.looks_at_others()),
        namespaces: &|name| world.namespaces.get(&name.to_owned())?.metadata.labels.as_ref(),
        refuse,
        taken: &|node| world.taken(node),
        load: &|node| world.load(node),
    };
    placement::choose(wish, &scene)
}

/// What keeps a guest off a node that the node does not say.
fn elsewhere(world: &World, ground: &Ground, node: &Node) -> Option<Refusal> {
    let silent = |why| Refusal::new("node(s) had a silent agent", why);
    let volume = |why| Refusal::new("node(s) had volume node affinity conflict", why);
    lost::silence(world, &node.name_any()).map(silent).or_else(|| ground.refusal(node).map(volume))
}
