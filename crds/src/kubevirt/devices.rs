//! Disks, interfaces and the other devices of an instance.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Opaque, Rest, exact};

/// The devices.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Devices {
    /// Disks, each showing the volume of its name.
    #[serde(default, deserialize_with = "exact", skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<Disk>,
    /// Network interfaces, each on the network of its name.
    #[serde(default, deserialize_with = "exact", skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// Keyboards and tablets.
    #[serde(default, deserialize_with = "exact", skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Input>,
    /// A virtio random number generator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rng: Option<Opaque>,
    /// A watchdog.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watchdog: Option<Watchdog>,
    /// A sound card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sound: Option<Sound>,
    /// What tells the host that the guest has panicked.
    #[serde(default, deserialize_with = "exact", skip_serializing_if = "Vec::is_empty")]
    pub panic_devices: Vec<PanicDevice>,
    /// The graphics adapter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video: Option<Video>,
    /// A trusted platform module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpm: Option<Opaque>,
    /// Whether interfaces get a queue for each vCPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_interface_multiqueue: Option<bool>,
    /// Whether disks get a queue for each vCPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_multi_queue: Option<bool>,
    /// Whether an instance without interfaces gets one on the default network, true if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoattach_pod_interface: Option<bool>,
    /// Whether there is a display, true if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoattach_graphics_device: Option<bool>,
    /// Whether there is a serial console, true if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoattach_serial_console: Option<bool>,
    /// Whether nothing is prepared for devices that come while the guest runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable_hotplug: Option<bool>,
    /// Whether there is a memory balloon, true if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoattach_mem_balloon: Option<bool>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// One disk: exactly one of `disk`, `cdrom`, `lun`; `disk` if none is given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Disk {
    /// The volume's name.
    pub name: String,
    /// A disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskDevice>,
    /// A CD-ROM drive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cdrom: Option<DiskDevice>,
    /// A SCSI unit passed through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lun: Option<DiskDevice>,
    /// Place in the boot order, from 1, unique among disks and interfaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_order: Option<u32>,
    /// Serial number that the guest sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Host caching.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<DiskCache>,
    /// `native`, `threads` or `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io: Option<String>,
    /// Whether several instances write to it at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shareable: Option<bool>,
    /// `stop` (the default), `ignore`, `report` or `enospace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_policy: Option<String>,
    /// Whether a thread serves it alone.
    #[serde(default, rename = "dedicatedIOThread", skip_serializing_if = "Option::is_none")]
    pub dedicated_io_thread: Option<bool>,
    /// The sizes of its blocks, as the guest sees them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_size: Option<BlockSize>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// The sizes of a disk's blocks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlockSize {
    /// These.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<CustomBlockSize>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// Sizes in bytes, powers of two.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CustomBlockSize {
    /// What the guest may write at once.
    #[serde(default)]
    pub logical: u32,
    /// What the disk writes at once.
    #[serde(default)]
    pub physical: u32,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// How a disk is attached.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DiskDevice {
    /// The bus; `sata` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bus: Option<DiskBus>,
    /// Whether the guest may only read: false if absent, true for a CD-ROM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readonly: Option<bool>,
    /// Of a CD-ROM: `open` or `closed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tray: Option<String>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A disk's bus.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DiskBus {
    /// virtio-blk.
    Virtio,
    /// SATA.
    Sata,
    /// virtio-scsi.
    Scsi,
    /// USB storage.
    Usb,
}

/// Host caching of a disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DiskCache {
    /// Past the host's page cache.
    None,
    /// Through it, written before acknowledged.
    Writethrough,
    /// Through it, written when the guest flushes.
    Writeback,
}

/// One network interface. Berth plugs every binding straight into OVS; the
/// binding fields are kept so that existing YAML works.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    /// The network's name.
    pub name: String,
    /// `virtio` if absent; `e1000`, `e1000e`, `rtl8139` …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// A fixed MAC address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
    /// Place in the boot order, from 1, unique among disks and interfaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_order: Option<u32>,
    /// By which number the guest's firmware knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acpi_index: Option<u32>,
    /// `up`, `down` or `absent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The guest is on the network itself: what Berth always does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<Opaque>,
    /// The guest is behind NAT upstream; with Berth it is on the network itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masquerade: Option<Opaque>,
    /// A binding plugin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<InterfaceBinding>,
    /// What DHCPv4 tells the guest besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp_options: Option<DhcpOptions>,
    /// Ports the guest serves, for Services.
    #[serde(default, deserialize_with = "exact", skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A binding plugin.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InterfaceBinding {
    /// Its name.
    pub name: String,
}

/// What DHCPv4 tells the guest of one interface, in place of what its subnet says under
/// the same numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DhcpOptions {
    /// Option 67.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_file_name: Option<String>,
    /// Option 66.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tftp_server_name: Option<String>,
    /// Option 42: IPv4 addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ntp_servers: Vec<String>,
    /// Options from 224 to 254.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub private_options: Vec<DhcpPrivateOption>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// An option without a name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DhcpPrivateOption {
    /// Its number, from 224 to 254.
    pub option: i64,
    /// Its text.
    pub value: String,
}

/// A port that the guest serves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `TCP` (the default) or `UDP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Its number.
    pub port: u16,
}

/// A keyboard, mouse or tablet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Input {
    /// Its name.
    pub name: String,
    /// `tablet`.
    pub r#type: String,
    /// `usb` or `virtio`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bus: Option<String>,
}

/// A watchdog.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Watchdog {
    /// Its name.
    pub name: String,
    /// Intel 6300ESB, with an `action` of `reset`, `poweroff` or `shutdown`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub i6300esb: Option<Opaque>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A sound card.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sound {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// `ich9` (the default) or `ac97`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// What tells the host that the guest has panicked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PanicDevice {
    /// `hyperv` (the default), `isa` or `pvpanic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// The graphics adapter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Video {
    /// `vga` (the default), `bochs`, `cirrus`, `ramfb` or `virtio`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#type: Option<String>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}
