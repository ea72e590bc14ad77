//! `kubevirt.io/v1`: virtual machines as KubeVirt's users write them.
//!
//! Only what Berth reads or writes is typed. Everything else is kept: each
//! struct ends in `rest`, which holds the fields it does not know, and the CRD
//! schema says `x-kubernetes-preserve-unknown-fields` at the same places, so a
//! template copied into an instance loses nothing.
//!
//! | kind | status subresource |
//! |---|---|
//! | [`VirtualMachine`] | yes |
//! | [`VirtualMachineInstanceMigration`] | yes |
//! | [`MigrationPolicy`] of `migrations.kubevirt.io/v1alpha1` | yes, empty |
//! | [`VirtualMachineInstanceReplicaSet`] | yes, and scale |
//! | [`VirtualMachineInstance`] | no, as upstream: its status is written with the object |

mod access;
mod condition;
mod devices;
mod domain;
pub mod faults;
mod ignored;
mod instance;
pub mod migration;
pub mod migration_policy;
mod networks;
pub mod probe;
mod quantity;
pub mod replica_set;
mod virtual_machine;
mod volumes;

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, ValidationRule,
};
use kube::CustomResourceExt as _;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

pub use access::{AccessCredential, KeySecret, KeySource, Propagation, SshPublicKey};
pub use condition::{Condition, ConditionStatus};
pub use devices::{
    BlockSize, CustomBlockSize, Devices, DhcpOptions, DhcpPrivateOption, Disk, DiskBus, DiskCache,
    DiskDevice, Input, Interface, InterfaceBinding, PanicDevice, Port, Sound, Video, Watchdog,
};
pub use domain::{
    Bios, Bootloader, Cpu, CpuFeature, DomainSpec, Efi, Firmware, Hugepages, KernelBoot,
    KernelBootContainer, Machine, Memory, Numa, Realtime, Resources,
};
pub use ignored::ignored;
pub use instance::{
    ClaimInfo, CpuTopology, GuestOsInfo, InstanceInterface, InstancePhase, MemoryStatus,
    PhaseTransition, START_PAUSED, VirtualMachineInstance, VirtualMachineInstanceSpec,
    VirtualMachineInstanceStatus, VolumeStatus,
};
pub use migration::{
    MIGRATION_ADDRESS, MIGRATION_FINALIZER, MIGRATION_TARGET_LABEL, MigrationConfiguration,
    MigrationPhase, MigrationPhaseTransition, MigrationState, MigrationStatus, TargetState,
    VirtualMachineInstanceMigration, VirtualMachineInstanceMigrationSpec,
};
pub use migration_policy::{MigrationPolicy, MigrationPolicySpec, PolicySelectors};
pub use networks::{MultusNetwork, Network};
pub use probe::{ExecAction, HttpGetAction, HttpHeader, Probe, TcpSocketAction};
pub use quantity::{ParseQuantityError, Quantity};
pub use replica_set::{VirtualMachineInstanceReplicaSet, VirtualMachineInstanceReplicaSetSpec};
pub use virtual_machine::{
    BOTH_STRATEGIES, DataVolumeMetadata, DataVolumeTemplate, InstanceTemplate, InstancetypeMatcher,
    InstancetypeStatusRef, NO_STRATEGY, PAUSED_REQUEST, PrintableStatus, RevisionRef, RunStrategy,
    StartFailure, StateChangeAction, StateChangeRequest, TemplateMetadata, VirtualMachine,
    VirtualMachineSpec, VirtualMachineStatus,
};
pub use volumes::{
    ClaimSource, CloudInit, ContainerDisk, DataVolumeSource, DownwardApiFile, DownwardApiSource,
    EmptyDisk, Ephemeral, FieldReference, FilesSource, HostDisk, NameReference,
    ServiceAccountSource, SysprepSource, Volume,
};

/// The API group.
pub const GROUP: &str = "kubevirt.io";

/// The label by which an agent finds the instances of its node.
pub const NODE_NAME_LABEL: &str = "kubevirt.io/nodeName";

/// The node label that says VMs may be placed there.
pub const SCHEDULABLE_LABEL: &str = "kubevirt.io/schedulable";

/// How labels of nodes begin that name the models of their processors; the value is `true`.
pub const CPU_MODEL_LABEL: &str = "cpu-model.node.kubevirt.io/";

/// How labels of nodes begin that name the features of their processors.
pub const CPU_FEATURE_LABEL: &str = "cpu-feature.node.kubevirt.io/";

/// The label of nodes that have processors which guests may have to themselves.
pub const CPU_MANAGER_LABEL: &str = "cpumanager";

/// The label of nodes whose kernel lets a process have a processor for as long as it likes.
pub const REALTIME_LABEL: &str = "kubevirt.io/realtime";

/// The resource of nodes by which processors are counted that guests may have to themselves.
pub const DEDICATED_CPUS: &str = "berth.io/dedicated-cpus";

/// The annotation of a node that says which control groups its libvirt cannot give to guests.
pub const LACKS_CONTROL_GROUPS: &str = "berth.io/lacks-control-groups";

/// Holds a deleted instance until its domain is gone; the agent removes it.
pub const INSTANCE_FINALIZER: &str = "kubevirt.io/foregroundDeleteVirtualMachine";
/// The finalizer that keeps a VM until its instance is gone, as upstream.
pub const VM_FINALIZER: &str = "kubevirt.io/virtualMachineControllerFinalize";

/// Seconds a guest has to power off where its VMI does not say.
pub const DEFAULT_GRACE_PERIOD_SECONDS: i64 = 30;

/// The fields of an object that its type does not name.
pub type Rest = BTreeMap<String, serde_json::Value>;

/// Reads a list and keeps no more room than it needs. serde leaves room for four, most
/// lists have one, and disks and volumes are large: of a machine in memory it was half.
fn exact<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let mut list = Vec::deserialize(deserializer)?;
    list.shrink_to_fit();
    Ok(list)
}

/// The definition of [`VirtualMachine`].
///
/// Its rules are what upstream's admission webhook says; servers that run no rules
/// let such a machine in, and the controller reports it.
#[must_use]
pub fn machine_definition() -> CustomResourceDefinition {
    let mut definition = VirtualMachine::crd();
    let rule = |rule: &str, message: &str| ValidationRule {
        rule: rule.to_owned(),
        message: Some(message.to_owned()),
        ..ValidationRule::default()
    };
    let schemas = definition.spec.versions.iter_mut().filter_map(|one| one.schema.as_mut());
    let roots = schemas.filter_map(|schema| schema.open_api_v3_schema.as_mut());
    for spec in roots.filter_map(|root| root.properties.as_mut()?.get_mut("spec")) {
        spec.x_kubernetes_validations = Some(vec![
            rule("!(has(self.running) && has(self.runStrategy))", BOTH_STRATEGIES),
            rule("has(self.running) || has(self.runStrategy)", NO_STRATEGY),
        ]);
    }
    definition
}

/// The definition of [`VirtualMachineInstance`].
#[must_use]
pub fn instance_definition() -> CustomResourceDefinition {
    VirtualMachineInstance::crd()
}

/// An object whose presence matters and whose fields are only carried along.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Opaque(pub Rest);

impl JsonSchema for Opaque {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Opaque".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": true,
        })
    }
}

#[cfg(test)]
mod tests;
