//! `instancetype.kubevirt.io/v1beta1`: how large a VM is, and what its hardware is like, written
//! once for many.
//!
//! Each kind is there twice, in a namespace and for the cluster. What is typed is what must be
//! there; the rest is handed on as it is written.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kubevirt::{Opaque, Quantity, Rest};

/// The API group.
pub const GROUP: &str = "instancetype.kubevirt.io";
/// Its version.
pub const VERSION: &str = "v1beta1";

/// How large a VM is: what its template must not say itself.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "instancetype.kubevirt.io",
    version = "v1beta1",
    kind = "VirtualMachineInstancetype",
    plural = "virtualmachineinstancetypes",
    singular = "virtualmachineinstancetype",
    shortname = "vminstancetype",
    shortname = "vminstancetypes",
    shortname = "vmf",
    shortname = "vmfs",
    category = "all",
    namespaced,
    doc = "How large a VM is: processors, memory and what goes with them.",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineInstancetypeSpec {
    /// Its processors.
    pub cpu: CpuInstancetype,
    /// Its memory.
    pub memory: MemoryInstancetype,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// Processors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CpuInstancetype {
    /// How many vCPUs; a preference says in which form.
    pub guest: u32,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// Memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemoryInstancetype {
    /// What the guest sees.
    pub guest: Quantity,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

impl Default for MemoryInstancetype {
    fn default() -> Self {
        Self { guest: Quantity::from("0"), rest: Rest::new() }
    }
}

/// The same for the whole cluster.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "instancetype.kubevirt.io",
    version = "v1beta1",
    kind = "VirtualMachineClusterInstancetype",
    plural = "virtualmachineclusterinstancetypes",
    singular = "virtualmachineclusterinstancetype",
    shortname = "vmclusterinstancetype",
    shortname = "vmclusterinstancetypes",
    shortname = "vmcf",
    shortname = "vmcfs",
    doc = "How large a VM is: processors, memory and what goes with them. For all namespaces.",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineClusterInstancetypeSpec {
    /// Its processors.
    pub cpu: CpuInstancetype,
    /// Its memory.
    pub memory: MemoryInstancetype,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// What the hardware of a VM is like, where nobody says otherwise.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "instancetype.kubevirt.io",
    version = "v1beta1",
    kind = "VirtualMachinePreference",
    plural = "virtualmachinepreferences",
    singular = "virtualmachinepreference",
    shortname = "vmpref",
    shortname = "vmprefs",
    shortname = "vmp",
    shortname = "vmps",
    category = "all",
    namespaced,
    doc = "What the hardware of a VM is like, where neither it nor its instancetype says.",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachinePreferenceSpec {
    /// `preferredCPUTopology`, `spreadOptions`, `preferredCPUFeatures`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Opaque>,
    /// `preferredDiskBus`, `preferredInterfaceModel` …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<Opaque>,
    /// What it needs at least: `cpu.guest`, `memory.guest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requirements: Option<Opaque>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// The same for the whole cluster.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "instancetype.kubevirt.io",
    version = "v1beta1",
    kind = "VirtualMachineClusterPreference",
    plural = "virtualmachineclusterpreferences",
    singular = "virtualmachineclusterpreference",
    shortname = "vmcp",
    shortname = "vmcps",
    doc = "What the hardware of a VM is like, where neither it nor its instancetype says. For all namespaces.",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineClusterPreferenceSpec {
    /// `preferredCPUTopology`, `spreadOptions`, `preferredCPUFeatures`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Opaque>,
    /// `preferredDiskBus`, `preferredInterfaceModel` …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<Opaque>,
    /// What it needs at least: `cpu.guest`, `memory.guest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requirements: Option<Opaque>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}
