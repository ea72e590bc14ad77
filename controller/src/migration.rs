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
#[cfg(test)]
mod tests;

use crds::kubevirt::{MigrationPhase, VirtualMachineInstance, VirtualMachineInstanceMigration};

pub use limits::Slots;
pub use step::{Outcome, View, step};

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

/// The step that a migration is at.
pub(crate) fn phase(migration: &VirtualMachineInstanceMigration) -> MigrationPhase {
    migration.status.as_ref().and_then(|status| status.phase).unwrap_or_default()
}

/// Whether it is to be called off.
fn is_leaving(migration: &VirtualMachineInstanceMigration) -> bool {
    migration.metadata.deletion_timestamp.is_some()
}
