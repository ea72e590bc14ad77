//! What the moves of an instance come to in this round: the facts that [`migration::step`]
//! goes by, out of the world.

use std::cell::Cell;
use std::sync::Arc;

use crds::kubevirt::{VirtualMachineInstance, VirtualMachineInstanceMigration as Migration};
use jiff::Timestamp;
use kube::ResourceExt as _;

use super::{Decision, seat};
use crate::agenda::Booking;
use crate::evacuation::{self, Plan};
use crate::lost;
use crate::migration::{self, View};
use crate::placement::{Amount, has_terms};
use crate::world::{World, node_of};

/// Completes the decision with what is to be written of the moves of the VM's instance.
pub(super) fn judge(world: &mut World, decision: &mut Decision, now: Timestamp) {
    let instance = world.instances.get(&decision.vm).map(Arc::clone);
    let migrations: Vec<_> = world.migrations_of(&decision.vm).map(Arc::clone).collect();
    decision.evacuation = evacuation(world, instance.as_deref(), &migrations, now);
    let again_at = decision.evacuation.again_at;
    decision.again_at = decision.again_at.into_iter().chain(again_at).min();
    let left = instance.as_deref().and_then(|one| migration::left(one, &migrations, now));
    if let Some((node, until)) = left {
        decision.again_at = decision.again_at.into_iter().chain([until]).min();
        for port in decision.ports.iter_mut().filter(|port| port.node.is_some()) {
            port.left = Some(node.to_owned());
        }
    }
    if migrations.is_empty() && instance.as_ref().is_none_or(|one| one.migration().is_none()) {
        return;
    }
    let policy = instance.as_deref().and_then(|one| {
        let namespace = world.namespaces.get(&decision.vm.namespace);
        let nothing = std::collections::BTreeMap::new();
        let labels = namespace.map_or(&nothing, |namespace| namespace.labels());
        world.policies.of(one.labels(), labels)
    });
    let waits = Cell::new(false);
    let view = View {
        migrations,
        instance: instance.as_deref(),
        refusal: &|node| world.slots().refusal(node, &world.terms),
        absence: &|node| lost::absence(world, node),
        terms: &world.terms,
        policy: policy.as_deref(),
        target: &|instance, migration| {
            let added = migration.spec.added_node_selector.as_ref();
            let found = seat::target(world, &decision.vm, instance, added);
            waits.set(waits.get() || found.is_err());
            found
        },
        now,
    };
    let moves = migration::step(&view);
    if waits.get() {
        world.wait_for_room(decision.vm.clone());
    }
    if moves.admitted
        && let Some(node) = instance.as_deref().and_then(node_of)
    {
        world.expect_departure(node.to_owned());
    }
    let begun = moves.instance.as_deref().filter(|_| moves.admitted);
    if let Some(target) = begun.and_then(|one| migration::chassis(one).1) {
        let amount = begun.map(|one| Amount::of_guest(&one.spec.domain)).unwrap_or_default();
        let asks = begun.is_some_and(|one| has_terms(&one.spec));
        let booking = Booking { node: target.to_owned(), amount, asks };
        world.expect_on(&decision.vm, &booking);
    }
    decision.again_at = decision.again_at.into_iter().chain(moves.again_at).min();
    decision.moves = moves;
}

/// What is to be done because the node of this instance is to be left, or is not any more.
fn evacuation(
    world: &World,
    instance: Option<&VirtualMachineInstance>,
    migrations: &[Arc<Migration>],
    now: Timestamp,
) -> Plan {
    let instance = instance.filter(|one| one.spec.eviction_strategy.is_some());
    let node = instance.and_then(node_of).and_then(|name| world.nodes.get(&name.to_owned()));
    match (instance, node) {
        (Some(instance), Some(node)) => evacuation::plan(instance, node, migrations, now),
        _ => Plan::default(),
    }
}
