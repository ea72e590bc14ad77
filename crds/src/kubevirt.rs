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
//! | [`VirtualMachineInstance`] | no, as upstream: its status is written with the object |

mod condition;
mod devices;
mod domain;
mod instance;
mod networks;
mod quantity;
mod virtual_machine;
mod volumes;

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use condition::{Condition, ConditionStatus};
pub use devices::{
    Devices, Disk, DiskBus, DiskCache, DiskDevice, Input, Interface, InterfaceBinding, Port,
    Watchdog,
};
pub use domain::{
    Bios, Bootloader, Cpu, CpuFeature, DomainSpec, Efi, Firmware, Hugepages, Machine, Memory,
    Resources,
};
pub use instance::{
    InstanceInterface, InstancePhase, PhaseTransition, VirtualMachineInstance,
    VirtualMachineInstanceSpec, VirtualMachineInstanceStatus,
};
pub use networks::{MultusNetwork, Network};
pub use quantity::{ParseQuantityError, Quantity};
pub use virtual_machine::{
    InstanceTemplate, PrintableStatus, RunStrategy, StartFailure, StateChangeAction,
    StateChangeRequest, TemplateMetadata, VirtualMachine, VirtualMachineSpec, VirtualMachineStatus,
};
pub use volumes::{
    ClaimSource, CloudInit, ContainerDisk, DataVolumeSource, EmptyDisk, Ephemeral, FilesSource,
    HostDisk, NameReference, Volume,
};

/// The API group.
pub const GROUP: &str = "kubevirt.io";

/// The label by which an agent finds the instances of its node.
pub const NODE_NAME_LABEL: &str = "kubevirt.io/nodeName";

/// The node label that says VMs may be placed there.
pub const SCHEDULABLE_LABEL: &str = "kubevirt.io/schedulable";

/// Holds a deleted instance until its domain is gone; the agent removes it.
pub const INSTANCE_FINALIZER: &str = "kubevirt.io/foregroundDeleteVirtualMachine";

/// Holds a deleted machine until its instance, ports and addresses are gone;
/// the controller removes it.
pub const MACHINE_FINALIZER: &str = "kubevirt.io/virtualMachineControllerFinalize";

/// Seconds a guest has to power off where its VMI does not say.
pub const DEFAULT_GRACE_PERIOD_SECONDS: i64 = 30;

/// The fields of an object that its type does not name.
pub type Rest = BTreeMap<String, serde_json::Value>;

/// The definition of [`VirtualMachine`].
#[must_use]
pub fn machine_definition() -> CustomResourceDefinition {
    VirtualMachine::crd()
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
