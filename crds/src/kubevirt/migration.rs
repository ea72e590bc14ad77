//! A move of a running guest to another node, as KubeVirt's users ask for it.
//!
//! What is asked for is an object of its own; how far it came stands on the instance
//! that moves, in [`MigrationState`]: both agents and the controller go by that, and
//! the migration's own status is copied from it.
//!
//! | fields of the state | written by | when |
//! |---|---|---|
//! | `migrationUid`, `sourceNode`, `targetNode` | controller | a target is chosen |
//! | `targetNodeAddress`, `targetState` | target's agent | everything there is ready |
//! | `migrationPolicyName`, `migrationConfiguration` | controller | in the same write |
//! | `startTimestamp` | source's agent | just before the guest is sent |
//! | `mode` | controller, `PreCopy`; source's agent | libvirt has gone over to another way of sending |
//! | `sourceState.undecided` | source's agent; the controller, should the source be lost | its libvirt does not know whether the guest has arrived |
//! | `completed`, `endTimestamp`, and the instance's node | target's agent; source's, should that be silent | the guest runs there |
//! | the same, `failed` and `failureReason` | source's agent; the target's when it was asked | the guest ran there without all of its memory (post-copy), and will never have it |
//! | `failed`, `failureReason`, `endTimestamp` | source's agent; the controller while nothing has started; the target's agent when it was asked | it will not happen |
//!
//! Each is written for the version that was read, so of two that contradict each other
//! one is refused.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, ValidationRule,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, CustomResourceExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, Opaque, Quantity, Rest, VirtualMachineInstance, exact};

/// The label by which an agent finds the instances that come to its node.
pub const MIGRATION_TARGET_LABEL: &str = "kubevirt.io/migrationTargetNodeName";

/// Holds a deleted migration until it is undone or over; the controller removes it.
pub const MIGRATION_FINALIZER: &str = "kubevirt.io/migrationJobFinalize";

/// The annotation of a Node that says at which of its addresses guests arrive. A node
/// without it takes part in no migration.
pub const MIGRATION_ADDRESS: &str = "berth.io/migration-address";

/// Which instance is to move, and whither.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kubevirt.io",
    version = "v1",
    kind = "VirtualMachineInstanceMigration",
    plural = "virtualmachineinstancemigrations",
    singular = "virtualmachineinstancemigration",
    shortname = "vmim",
    shortname = "vmims",
    category = "all",
    namespaced,
    status = "MigrationStatus",
    doc = "A move of a running VirtualMachineInstance to another node; deleting it before it is over calls it off.",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"VMI","type":"string","jsonPath":".spec.vmiName"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineInstanceMigrationSpec {
    /// The instance, in the same namespace.
    pub vmi_name: String,
    /// Labels that the target must have, beside those that the instance asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added_node_selector: Option<BTreeMap<String, String>>,
    /// `system-critical`, `user-triggered` or `system-maintenance`. No effect yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<String>,
    /// To another cluster. No effect yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_to: Option<Opaque>,
    /// From another cluster. No effect yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receive: Option<Opaque>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// How far it came.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MigrationStatus {
    /// The step it is at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<MigrationPhase>,
    /// What it waits for, and why it failed.
    #[serde(default, deserialize_with = "exact", skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// When each phase was entered.
    #[serde(default, deserialize_with = "exact", skip_serializing_if = "Vec::is_empty")]
    pub phase_transition_timestamps: Vec<MigrationPhaseTransition>,
    /// What the instance said of it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration_state: Option<MigrationState>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// The steps of a migration.
#[derive(
    Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize, JsonSchema,
)]
pub enum MigrationPhase {
    /// Just made.
    #[default]
    #[serde(rename = "")]
    Unset,
    /// Waits for its turn.
    Pending,
    /// It is its turn; a target is looked for.
    Scheduling,
    /// A target was chosen.
    Scheduled,
    /// The target makes disks, taps and DHCP answers.
    PreparingTarget,
    /// All is there.
    TargetReady,
    /// Memory and disks are being sent.
    Running,
    /// The guest runs at the target.
    Succeeded,
    /// The guest is where it was.
    Failed,
    /// Waits for another cluster.
    WaitingForSync,
    /// The same.
    Synchronizing,
}

impl MigrationPhase {
    /// Whether nothing comes after it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }

    /// Whether it counts against the limits: one that looks for a node keeps none from
    /// moving.
    #[must_use]
    pub const fn is_under_way(self) -> bool {
        !matches!(
            self,
            Self::Unset | Self::Pending | Self::Scheduling | Self::Succeeded | Self::Failed
        )
    }
}

/// When a phase was entered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MigrationPhaseTransition {
    /// Which.
    pub phase: MigrationPhase,
    /// When.
    pub phase_transition_timestamp: Time,
}

/// How far the move of an instance came; the header says who writes what of it. Fields
/// of upstream's that are about pods stay empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MigrationState {
    /// The uid of the migration that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration_uid: Option<String>,
    /// The node that the guest leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_node: Option<String>,
    /// The node that it goes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_node: Option<String>,
    /// Where the target listens; written once all is ready there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_node_address: Option<String>,
    /// Since when the guest is being sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_timestamp: Option<Time>,
    /// When it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_timestamp: Option<Time>,
    /// Since when the guest runs at the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_node_domain_ready_timestamp: Option<Time>,
    /// Whether the target has seen the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_node_domain_detected: Option<bool>,
    /// The guest runs at the target.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub completed: bool,
    /// The guest stays where it is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
    /// It is to be called off.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub abort_requested: bool,
    /// `Succeeded`, `Failed` or `Aborting`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort_status: Option<String>,
    /// `PreCopy`; `PostCopy` once the guest runs at the target with what it has of its
    /// memory; `Paused` once it may stand still until all was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// What the target has told of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_state: Option<TargetState>,
    /// What the source has told of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_state: Option<SourceState>,
    /// The limits that were in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration_configuration: Option<MigrationConfiguration>,
    /// The MigrationPolicy that was chosen when it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration_policy_name: Option<String>,
    /// Empty: one network carries all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration_network_type: Option<String>,
    /// Empty: there is no pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_pod: Option<String>,
    /// Empty: there is no pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_pod: Option<String>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// How guests are moved; what is not said is as KubeVirt has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MigrationConfiguration {
    /// How many move at once in the cluster: 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel_migrations_per_cluster: Option<u32>,
    /// How many of them leave one node: 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel_outbound_migrations_per_node: Option<u32>,
    /// Bytes a second, of each; as much as there is without, or with 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth_per_migration: Option<Quantity>,
    /// Seconds for each GiB of memory and disks: 150.
    #[serde(default, rename = "completionTimeoutPerGiB", skip_serializing_if = "Option::is_none")]
    pub completion_timeout_per_gib: Option<i64>,
    /// Seconds without progress: 150.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress_timeout: Option<i64>,
    /// Whether a guest that writes faster than can be sent is slowed down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_auto_converge: Option<bool>,
    /// Whether a guest that takes too long goes on at the target at once, and what it lacks
    /// there is sent for. Should that break, it is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_post_copy: Option<bool>,
    /// Whether a guest that takes too long may stand still until all was sent: it may not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_workload_disruption: Option<bool>,
    /// Milliseconds that it may stand still in the end: QEMU's 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_downtime_ms: Option<i64>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// What the target of a migration has told of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetState {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The directory of its VMs' files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_dir: Option<String>,
    /// The directory of its VMs' sockets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_dir: Option<String>,
    /// By volume: on which unpacked image its disk lies there. What is sent is only
    /// what the guest has written over it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<String, String>,
    /// The processors there that guests without ones of their own run on, if not on all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<String>,
    /// How often its agent found what an earlier one had made, and began anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// What the source of a migration has told of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceState {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The guest stands still here and was sent, and nobody here knows whether it has
    /// arrived: the target is to say.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undecided: bool,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

impl MigrationState {
    /// Whether nothing comes after it.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.completed || self.failed || self.end_timestamp.is_some()
    }

    /// Whether the target is to say if the guest has arrived.
    #[must_use]
    pub fn is_undecided(&self) -> bool {
        self.source_state.as_ref().is_some_and(|source| source.undecided)
    }

    /// Whether the guest is, or may be, being sent.
    #[must_use]
    pub const fn has_started(&self) -> bool {
        self.start_timestamp.is_some()
    }
}

impl VirtualMachineInstance {
    /// The migration that is under way, if one is.
    #[must_use]
    pub fn migration(&self) -> Option<&MigrationState> {
        let state = self.status.as_ref()?.migration_state.as_deref()?;
        (!state.is_over()).then_some(state)
    }

    /// Ends the migration that is under way: the guest stays where it is.
    pub fn fail_migration(&mut self, why: &str, now: &Time) {
        let Some(state) = self.status.as_mut().and_then(|one| one.migration_state.as_mut()) else {
            return;
        };
        state.failed = true;
        state.failure_reason = Some(why.to_owned());
        state.end_timestamp = Some(now.clone());
        if state.abort_requested {
            state.abort_status = Some("Succeeded".to_owned());
        }
        self.metadata.labels.get_or_insert_default().remove(MIGRATION_TARGET_LABEL);
    }
}

/// The definition of [`VirtualMachineInstanceMigration`]. What it asks for cannot be
/// changed.
#[must_use]
pub fn definition() -> CustomResourceDefinition {
    let mut definition = VirtualMachineInstanceMigration::crd();
    let schemas = definition.spec.versions.iter_mut().filter_map(|one| one.schema.as_mut());
    let roots = schemas.filter_map(|schema| schema.open_api_v3_schema.as_mut());
    for spec in roots.filter_map(|root| root.properties.as_mut()?.get_mut("spec")) {
        let rule = |rule: &str, message: &str| ValidationRule {
            rule: rule.to_owned(),
            message: Some(message.to_owned()),
            ..ValidationRule::default()
        };
        spec.x_kubernetes_validations = Some(vec![
            rule("self == oldSelf", "update of Migration object's spec is restricted"),
            rule("self.vmiName != ''", "vmiName is missing"),
        ]);
        let fields = spec.properties.get_or_insert_default();
        if let Some(name) = fields.get_mut("vmiName") {
            name.max_length = Some(253);
        }
    }
    definition
}
