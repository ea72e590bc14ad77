//! What the moves of an instance come to in this round: the facts that [`migration::step`]
//! goes by, out of the world.

use std::collections::BTreeMap;
use std::sync::Arc;

use crds::kubevirt::{
    MIGRATION_ADDRESS, VirtualMachineInstance, VirtualMachineInstanceMigration as Migration,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;

use super::Decision;
use crate::evacuation::{self, Plan};
use crate::lost;
use crate::migration::{self, View};
use crate::placement;
use crate::world::{World, node_of};

/// Completes the decision with what is to be written of the moves of the VM's instance.
pub(super) fn judge(world: &mut World, decision: &mut Decision, now: Timestamp) {
    let instance = world.instances.get(&decision.vm).map(Arc::clone);
    let migrations: Vec<_> = world.migrations_of(&decision.vm).map(Arc::clone).collect();
    decision.evacuation = evacuation(world, instance.as_deref(), &migrations, now);
    let again_at = decision.evacuation.again_at;
    decision.again_at = decision.again_at.into_iter().chain(again_at).min();
    let left = instance.as_deref().and_then(|one| migration::left(one, now));
    if let Some((node, until)) = left {
        decision.again_at = decision.again_at.into_iter().chain([until]).min();
        for port in decision.ports.iter_mut().filter(|port| port.node.is_some()) {
            port.left = Some(node.to_owned());
        }
    }
    if migrations.is_empty() && instance.as_ref().is_none_or(|one| one.migration().is_none()) {
        return;
    }
    let view = View {
        migrations,
        instance: instance.as_deref(),
        refusal: &|node| world.slots().refusal(node, &world.terms),
        terms: &world.terms,
        target: &|instance, migration| target(world, instance, migration),
        now,
    };
    let moves = migration::step(&view);
    if moves.admitted
        && let Some(node) = instance.as_deref().and_then(node_of)
    {
        world.expect_departure(node.to_owned());
    }
    let begun = moves.instance.as_deref().filter(|_| moves.admitted);
    if let Some(target) = begun.and_then(|one| migration::chassis(one).1) {
        world.expect_on(target);
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

/// The node that this migration takes its instance to.
fn target(
    world: &World,
    instance: &VirtualMachineInstance,
    migration: &Migration,
) -> Result<String, String> {
    let source = node_of(instance);
    let namespace = instance.namespace().unwrap_or_default();
    let ground = world.storage.ground_of_started(&namespace, &instance.spec.volumes);
    let refuse = |node: &Node| {
        if Some(node.name_any().as_str()) == source {
            return Some("the guest is there".to_owned());
        }
        let takes_part = node.annotations().contains_key(MIGRATION_ADDRESS);
        let why = "its agent takes no part in migrations (--migration-address)";
        lost::silence(world, &node.name_any())
            .or_else(|| ground.refusal(node))
            .or_else(|| (!takes_part).then(|| why.to_owned()))
    };
    let asked = instance.spec.node_selector.iter().chain(&migration.spec.added_node_selector);
    let selector: BTreeMap<String, String> =
        asked.flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
    let mut nodes: Vec<_> = world.nodes.iter().map(|(_, node)| &**node).collect();
    nodes.sort_by_key(|node| node.name_any());
    placement::choose(nodes, Some(&selector), refuse, |node| world.load(node))
}
