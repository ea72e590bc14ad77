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
//! the controller ends nothing: it asks the source's agent to call it off.

mod limits;
mod step;
mod terms;
#[cfg(test)]
mod tests;

use crds::kubevirt::{MigrationPhase, VirtualMachineInstance, VirtualMachineInstanceMigration};
use jiff::{SignedDuration, Timestamp};

pub use limits::Slots;
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
#[must_use]
pub fn left(instance: &VirtualMachineInstance, now: Timestamp) -> Option<(&str, Timestamp)> {
    let state = instance.status.as_ref()?.migration_state.as_deref()?;
    let end = state.end_timestamp.as_ref().filter(|_| state.completed)?.0;
    let node = state.source_node.as_deref().filter(|node| Some(*node) != node_of(instance))?;
    // Of an agent whose clock is ahead the end may be to come.
    let until = end.checked_add(LINGERS).ok()?.min(now.checked_add(LINGERS).ok()?);
    (state.target_node.as_deref() == node_of(instance) && now < until).then_some((node, until))
}

/// The step that a migration is at.
pub(crate) fn phase(migration: &VirtualMachineInstanceMigration) -> MigrationPhase {
    migration.status.as_ref().and_then(|status| status.phase).unwrap_or_default()
}

/// Whether it is to be called off.
fn is_leaving(migration: &VirtualMachineInstanceMigration) -> bool {
    migration.metadata.deletion_timestamp.is_some()
}
