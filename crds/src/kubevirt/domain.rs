//! The virtual hardware of an instance, but for its devices.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Devices, Opaque, Quantity, Rest, exact};

/// The virtual hardware.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DomainSpec {
    /// Topology and model of the processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Memory of the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// What is taken from the node; memory and processors of the guest where
    /// `memory` and `cpu` do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Machine type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Machine>,
    /// UUID, serial number, boot loader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<Firmware>,
    /// Clock and timers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<Opaque>,
    /// Hypervisor features.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<Opaque>,
    /// SMBIOS chassis strings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chassis: Option<Opaque>,
    /// `shared`, `auto` or `supplementalPool`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_threads_policy: Option<String>,
    /// `Reboot` (the default) or `Terminate`: what a guest's reboot does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reboot_policy: Option<String>,
    /// Disks, interfaces and the rest of the devices.
    pub devices: Devices,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

impl DomainSpec {
    /// How much memory the guest gets, and the field below this one that says so: `memory.guest`,
    /// or else the request, or else the limit, or else one huge page.
    #[must_use]
    pub fn guest_memory(&self) -> Option<(&'static str, Quantity)> {
        let memory = self.memory.as_ref();
        let guest = memory.and_then(|memory| memory.guest.clone());
        // None of it is as good as nothing said.
        let said = |list: &BTreeMap<String, Quantity>| {
            list.get("memory").filter(|amount| amount.units() != Ok(0)).cloned()
        };
        let resources = self.resources.as_ref();
        let request = || resources.and_then(|all| said(&all.requests));
        let limit = || resources.and_then(|all| said(&all.limits));
        let page = || memory?.hugepages.as_ref()?.page_size.clone().map(Quantity::Text);
        guest
            .map(|guest| ("memory.guest", guest))
            .or_else(|| Some(("resources.requests.memory", request()?)))
            .or_else(|| Some(("resources.limits.memory", limit()?)))
            .or_else(|| Some(("memory.hugepages.pageSize", page()?)))
    }
}

/// Processors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cpu {
    /// Cores per socket, 1 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cores: Option<u32>,
    /// Sockets, 1 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sockets: Option<u32>,
    /// Threads per core, 1 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<u32>,
    /// Sockets that may be plugged in while the guest runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_sockets: Option<u32>,
    /// A model libvirt knows, `host-model` or `host-passthrough`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Features to add or take away.
    #[serde(default, deserialize_with = "exact", skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<CpuFeature>,
    /// Each vCPU has a processor of the node to itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedicated_cpu_placement: Option<bool>,
    /// What QEMU does beside the vCPUs has one more, with `dedicatedCpuPlacement`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolate_emulator_thread: Option<bool>,
    /// The guest's NUMA nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa: Option<Numa>,
    /// vCPUs that nothing preempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realtime: Option<Realtime>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

impl Cpu {
    /// Whether each vCPU has a processor of the node to itself.
    #[must_use]
    pub fn is_dedicated(&self) -> bool {
        self.dedicated_cpu_placement == Some(true)
    }

    /// How many processors a guest with so many vCPUs has to itself.
    #[must_use]
    pub fn dedicated(&self, vcpus: u64) -> u64 {
        let beside = u64::from(self.isolate_emulator_thread == Some(true));
        if self.is_dedicated() { vcpus.saturating_add(beside) } else { 0 }
    }
}

/// The NUMA nodes of a guest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Numa {
    /// They are as those of the processors that the guest has to itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_mapping_passthrough: Option<Opaque>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// vCPUs that nothing preempts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Realtime {
    /// Which, such as `0-3,^1`; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<String>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// One processor feature.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CpuFeature {
    /// libvirt's name of it.
    pub name: String,
    /// `force`, `require` (the default), `optional`, `disable` or `forbid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
}

/// Memory of the guest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// What the guest sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<Quantity>,
    /// Up to which it may grow while the guest runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_guest: Option<Quantity>,
    /// Whether it comes from huge pages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hugepages: Option<Hugepages>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// Huge pages of the node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hugepages {
    /// `2Mi` or `1Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page_size: Option<String>,
}

/// Requests and limits, by resource name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What must be free on the node.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, Quantity>,
    /// What may at most be used.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, Quantity>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

impl DomainSpec {
    /// Bytes that QEMU needs beside the guest's memory, with so many vCPUs and a guest that
    /// sees so many bytes: as KubeVirt's launcher, without what is the launcher's own.
    #[must_use]
    pub fn overhead(vcpus: u64, seen: u64) -> u64 {
        /// QEMU itself, with the memory of its display.
        const QEMU: u64 = 64 << 20;
        const PER_VCPU: u64 = 8 << 20;
        /// Of so many bytes that the guest has, one goes to the tables of its pages.
        const PAGE_TABLES: u64 = 512;
        PER_VCPU.saturating_mul(vcpus).saturating_add(QEMU + seen / PAGE_TABLES)
    }
}

/// The emulated mainboard.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// `q35` or a version of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#type: Option<String>,
}

/// What the guest's firmware says and does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Firmware {
    /// SMBIOS UUID, also cloud-init's instance id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// SMBIOS serial number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// BIOS or EFI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootloader: Option<Bootloader>,
    /// A kernel from outside of the guest's disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_boot: Option<KernelBoot>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// BIOS (the default) or EFI.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bootloader {
    /// SeaBIOS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bios: Option<Bios>,
    /// OVMF.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub efi: Option<Efi>,
}

/// SeaBIOS.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bios {
    /// Whether it speaks on the serial port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub use_serial: Option<bool>,
}

/// OVMF.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Efi {
    /// Whether only signed loaders start, true if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure_boot: Option<bool>,
    /// Whether its variables outlive the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent: Option<bool>,
}

/// A kernel from outside of the guest's disks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KernelBoot {
    /// What the kernel is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_args: Option<String>,
    /// The image that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<KernelBootContainer>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// An OCI image with a kernel, an initial RAM disk, or both.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KernelBootContainer {
    /// The image reference.
    #[serde(default)]
    pub image: String,
    /// Path of the kernel in the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_path: Option<String>,
    /// Path of the initial RAM disk in the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initrd_path: Option<String>,
    /// A Secret with a login for the image's registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_secret: Option<String>,
    /// `Always`, `IfNotPresent` or `Never`; absent: `Always` for the tag `latest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<String>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}
