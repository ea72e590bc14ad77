//! Moving running guests between nodes: which may move now, whither, and how far it
//! came. Pure.
//!
//! ```text
//!  migration       instance                                    by
//!  (new)           –                                           user
//!  Pending         –                                           controller: our finalizer is on it
//!  Scheduling      –                                           controller: it is its turn
//!  PreparingTarget migrationState: source and target           controller
//!  TargetReady     … targetNodeAddress                         target's agent
//!  Running         … startTimestamp                            source's agent
//!  Succeeded       … completed; its node is the target         target's or source's agent
//!  Failed          … failed                                    source's agent, or the controller
//! ```
//!
//! How far it came is read from the instance each time ([`step`](step::step)); nothing
//! leans on having seen a change. Where a port is bound is read from it as well, by
//! [`chassis`], in every round and for all ports of a VM alike: a migration that is over
//! says nothing about the next, and one whose controller was away is found as it is.
//!
//! Once the guest is being sent only the agents know what becomes of it. So from then on
//! the controller ends nothing: it asks the source's agent to call it off. Unless one of the
//! two nodes is gone for good: then it speaks in that one's place (`orphaned`).

mod limits;
mod orphaned;
pub mod policy;
mod step;
mod terms;
#[cfg(test)]
mod tests;
pub mod words;

use std::sync::Arc;

use crds::kubevirt::{MigrationPhase, VirtualMachineInstance, VirtualMachineInstanceMigration};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;

pub use limits::Slots;
pub use policy::Policies;
pub use step::{Outcome, View, step};
pub use terms::Terms;

use crate::world::node_of;

/// The nodes on which the ports of an instance are bound: where it runs, and first where
/// it comes from while it moves.
#[must_use]
pub fn chassis(instance: &VirtualMachineInstance) -> (Option<&str>, Option<&str>) {
    let node = node_of(instance);
    let target = instance.migration().filter(|state| state.source_node.as_deref() == node);
    let target = target.and_then(|state| state.target_node.as_deref());
    (node, target.filter(|target| Some(*target) != node))
}

/// How long ports stay bound where their guest has come from. By then its tap there is gone,
/// and the node has given them up by itself, with the new one still beside.
const LINGERS: SignedDuration = SignedDuration::from_secs(3);

/// The node that the guest of an instance has just left, and until when its ports are
/// bound there first, as on the way: were they the new node's alone at once, the old one
/// would give them up before it knows whither frames for them go now, and lose those.
///
/// The time counts from when a controller has said of the migration that it is over, and no
/// clock of a node plays a part.
#[must_use]
pub fn left<'a>(
    instance: &'a VirtualMachineInstance,
    migrations: &[Arc<VirtualMachineInstanceMigration>],
    now: Timestamp,
) -> Option<(&'a str, Timestamp)> {
    let state = instance.status.as_ref()?.migration_state.as_deref()?;
    let node = state.source_node.as_deref().filter(|node| Some(*node) != node_of(instance))?;
    let has_come = state.completed && state.target_node.as_deref() == node_of(instance);
    let its = |one: &&Arc<VirtualMachineInstanceMigration>| one.uid() == state.migration_uid;
    let migration = migrations.iter().find(its).filter(|_| has_come)?;
    let longest = now.checked_add(LINGERS).ok()?;
    let until = match succeeded_at(migration) {
        Some(told) => told.checked_add(LINGERS).ok()?.min(longest),
        None => longest,
    };
    (now < until).then_some((node, until))
}

/// When a controller has said so.
fn succeeded_at(migration: &VirtualMachineInstanceMigration) -> Option<Timestamp> {
    let transitions = &migration.status.as_ref()?.phase_transition_timestamps;
    let last = transitions.iter().rev().find(|one| one.phase == MigrationPhase::Succeeded)?;
    Some(last.phase_transition_timestamp.0)
}

/// The step that a migration is at.
pub(crate) fn phase(migration: &VirtualMachineInstanceMigration) -> MigrationPhase {
    migration.status.as_ref().and_then(|status| status.phase).unwrap_or_default()
}

/// Whether it is to be called off.
fn is_leaving(migration: &VirtualMachineInstanceMigration) -> bool {
    migration.metadata.deletion_timestamp.is_some()
}
