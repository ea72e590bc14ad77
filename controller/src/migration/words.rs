//! Why a guest is not moved, in KubeVirt's words: said when a migration is written, and by its
//! condition where it got past that.

use crds::kubevirt::{Condition, ConditionStatus, VirtualMachineInstance};

/// Of a guest that has ended.
pub const FINALIZED: &str = "Cannot migrate VMI in finalized state.";
/// Of one that is to go to another cluster, or comes from one.
pub const BETWEEN_CLUSTERS: &str = "spec.sendTo and spec.receive are for moves between clusters, which are not served: leave them out";
/// Of a migration that is to become another one.
pub const FIXED: &str = "update of Migration object's spec is restricted";
/// Of a migration of nobody.
pub const NAMELESS: &str = "vmiName is missing";

/// Of an instance that is not there.
#[must_use]
pub fn absent(namespace: &str, name: &str) -> String {
    format!("the VMI \"{namespace}/{name}\" does not exist")
}

/// Of one that moves already, by the migration of this uid.
#[must_use]
pub fn in_flight(uid: &str, name: &str) -> String {
    format!(
        "in-flight migration detected. Active migration job ({uid}) is currently already in progress for VMI {name}."
    )
}

/// Of one that cannot be moved, as its condition says.
#[must_use]
pub fn unable(condition: &Condition) -> String {
    let (reason, message) = (condition.reason.as_deref(), condition.message.as_deref());
    let (reason, message) = (reason.unwrap_or_default(), message.unwrap_or_default());
    format!("Cannot migrate VMI, Reason: {reason}, Message: {message}")
}

/// What its agent says of whether an instance can be moved.
#[must_use]
pub fn ability(instance: &VirtualMachineInstance) -> Option<&Condition> {
    let mut conditions = instance.status.iter().flat_map(|status| &status.conditions);
    conditions.find(|one| one.r#type == "LiveMigratable")
}

/// Whether that is that it can.
#[must_use]
pub fn is_able(condition: &Condition) -> bool {
    condition.status == ConditionStatus::True
}
