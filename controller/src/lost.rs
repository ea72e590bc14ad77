//! Nodes that are gone, and what becomes of the guests that were on them. Pure.
//!
//! ```text
//!  agent silent              no VM is placed there; what was there may run still, and is left alone
//!  taint out-of-service      an administrator says that it is off: its instances have ended
//!  Node deleted, and silent  the same
//!  command has fenced it     the controller says it, by the same taint (`fencing.rs`)
//! ```
//!
//! Only the agent knows whether a guest has ended, and holds the instance by a finalizer
//! until then. Where it can never tell, the controller does in its place: the instance has
//! failed, and its run strategy says what comes next. The VM's place is held by the VM, so
//! it is there at the next start, wherever that is. An instance is never ended because
//! nothing was heard: a node that is cut off runs on.

use std::collections::BTreeSet;

use crds::kubevirt::{
    Condition, ConditionStatus, INSTANCE_FINALIZER, InstancePhase, PhaseTransition,
    VirtualMachineInstance,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;

use crate::world::{World, node_of};

/// By this an administrator says that a node is off and stays off (Kubernetes'
/// "non-graceful node shutdown").
pub const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// What Kubernetes says of a node that does not answer. Of its `not-ready` nothing follows: an
/// API server puts it on each Node that is made, and not every cluster has who takes it off.
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// Why an instance has ended, in one word.
pub const NODE_LOST: &str = "NodeLost";

/// Which nodes renew their leases, as far as that was watched.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Heartbeats {
    /// Their lease is there and is renewed.
    pub heard: BTreeSet<String>,
    /// Their lease is there and has run out.
    pub silent: BTreeSet<String>,
}

/// Whether an administrator says that this node is off.
#[must_use]
pub fn is_out_of_service(node: &Node) -> bool {
    taints(node).any(|taint| taint.key == OUT_OF_SERVICE)
}

/// The taint by which this node is known to be away: nothing is placed there.
#[must_use]
pub fn away(node: &Node) -> Option<&Taint> {
    let keeps_off = |taint: &&Taint| {
        taint.key == OUT_OF_SERVICE
            || (taint.key == UNREACHABLE && taint.effect != "PreferNoSchedule")
    };
    taints(node).find(keeps_off)
}

fn taints(node: &Node) -> impl Iterator<Item = &Taint> {
    node.spec.iter().flat_map(|spec| spec.taints.iter().flatten())
}

/// Why nothing is placed on the node of this name, if nobody is heard there.
#[must_use]
pub fn silence(world: &World, name: &str) -> Option<String> {
    let is_silent = world.heartbeats.as_ref().is_some_and(|all| all.silent.contains(name));
    is_silent.then(|| "its lease has run out, no agent renews it".to_owned())
}

/// Whether by all that is seen the node of this instance is no more, and nobody else
/// will say that its guest has ended.
#[must_use]
pub fn is_bereft(world: &World, instance: &VirtualMachineInstance) -> bool {
    let Some(name) = node_of(instance) else { return false };
    let waits_for_agent = !instance.phase().is_final()
        || instance.finalizers().iter().any(|one| one == INSTANCE_FINALIZER);
    // A guest that is being sent may be at its target by now.
    let moves = instance.migration().filter(|state| state.start_timestamp.is_some());
    let target = moves.and_then(|state| state.target_node.as_deref());
    waits_for_agent && is_lost(world, name) && target.is_none_or(|target| is_lost(world, target))
}

/// Why a node takes part in nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Absence {
    /// Nothing is heard of its agent. What is there may run.
    Silent,
    /// It is no more, and nothing is there.
    Lost,
}

/// Whether the node of this name is away, by all that is seen.
#[must_use]
pub fn absence(world: &World, name: &str) -> Option<Absence> {
    if is_lost(world, name) {
        return Some(Absence::Lost);
    }
    silence(world, name).map(|_| Absence::Silent)
}

/// Whether by all that is seen the node of this name is no more.
fn is_lost(world: &World, name: &str) -> bool {
    if !world.gives_up {
        return false;
    }
    let name = name.to_owned();
    match (world.nodes.get(&name), world.nodes.meta(&name)) {
        (Some(node), _) => is_out_of_service(node),
        (None, Some(_)) => false,
        // An agent that lives makes its Node again.
        (None, None) => world.heartbeats.as_ref().is_some_and(|all| !all.heard.contains(&name)),
    }
}

/// This instance as it ends with its node: failed, and free to go.
#[must_use]
pub fn ended(instance: &VirtualMachineInstance, now: Timestamp) -> VirtualMachineInstance {
    let mut ended = instance.clone();
    ended.finalizers_mut().retain(|one| one != INSTANCE_FINALIZER);
    if ended.phase().is_final() {
        return ended;
    }
    ended_with(ended, node_of(instance).unwrap_or_default(), now)
}

/// This instance with its guest lost on that node. Its agent, if it has one, ends what is left.
#[must_use]
pub fn ended_with(
    mut ended: VirtualMachineInstance,
    node: &str,
    now: Timestamp,
) -> VirtualMachineInstance {
    let message = format!(
        "the guest is lost with node {node}, which was deleted or has the taint {OUT_OF_SERVICE}"
    );
    let status = ended.status.get_or_insert_default();
    for kind in ["Ready", "Synchronized"] {
        Condition::new(kind, ConditionStatus::False)
            .because(NODE_LOST, message.clone())
            .merge_into(&mut status.conditions, Time(now));
    }
    status.reason = Some(NODE_LOST.to_owned());
    status.phase = Some(InstancePhase::Failed);
    status.phase_transition_timestamps.push(PhaseTransition {
        phase: InstancePhase::Failed,
        phase_transition_timestamp: Time(now),
    });
    ended
}

#[cfg(test)]
mod tests;
