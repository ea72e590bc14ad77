//! From a VMI to the libvirt domain that runs it; pure.
//!
//! The guest gets what KubeVirt would give it: q35, virtio where asked for, a
//! serial console, a display, a channel for the guest agent. Two things differ.
//!
//! **UUIDs.** KubeVirt lets libvirt take the domain's uuid from the firmware's.
//! Its libvirt serves one VM; ours serves a node, where two VMs may have the
//! same firmware uuid. So the domain's uuid is the VMI's uid, which is also how
//! the hypervisor tells one start of a VM from the next, and the guest's SMBIOS
//! uuid goes past libvirt, which refuses a `<sysinfo>` that differs.
//!
//! **Interfaces** are of type `ethernet`: libvirt makes the tap and the agent
//! plugs it into OVS. libvirt could plug it itself, but takes only a uuid as
//! `interfaceid`, and after each restart of libvirtd writes that uuid over the
//! port name that OVN binds by.
//!
//! What users write and nothing here acts on is listed by [`crds::kubevirt::ignored`].

mod altered;
mod devices;
mod disks;
mod firmware;
mod interfaces;
mod io_threads;
mod pinning;
mod sizing;
mod writer;

use std::collections::BTreeSet;
use std::path::PathBuf;

use crds::kubevirt::{
    Disk, DomainSpec, VirtualMachineInstance, VirtualMachineInstanceSpec, faults,
};
use net::MacAddr;

pub use self::firmware::{TRANSLATED, firmware_uuid};
use self::writer::Element;
use crate::hypervisor::METADATA_NAMESPACE;
use crate::volumes::{DiskFile, Kernel};

/// The longest path that fits a unix socket's address, without the final zero.
const MAX_SOCKET_PATH: usize = 107;

/// Who executes the guest's instructions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Emulation {
    /// The processor, through KVM.
    Kvm,
    /// QEMU's translator: slow, and works anywhere.
    Software,
}

/// What the node has prepared for a domain.
#[derive(Clone, Debug)]
pub struct Place {
    pub emulation: Emulation,
    /// Whether frames with partial checksums survive on the way out of the
    /// tap: false with OVS's userspace datapath.
    pub checksum_offload: bool,
    /// Where QEMU listens for the serial console.
    pub serial_socket: PathBuf,
    /// Where QEMU listens for VNC.
    pub vnc_socket: PathBuf,
    /// Where everything the console prints is kept.
    pub console_log: PathBuf,
    /// As [`crate::volumes::prepare`] returned them.
    pub disks: Vec<DiskFile>,
    /// As [`crate::volumes::kernel`] returned it.
    pub kernel: Kernel,
    /// Where EFI keeps its variables; made of the firmware's template if it is not there.
    pub nvram: PathBuf,
    /// One interface each, in this order.
    pub ports: Vec<Port>,
    /// Where its threads run.
    pub seat: Seat,
}

/// Which processors of the node a guest runs on.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Seat {
    /// Those that all guests share, as a list, if that is not all.
    pub shared: Option<String>,
    /// Those that it has to itself: one for each vCPU, then that of the emulator.
    pub own: Vec<OwnCpu>,
}

/// A processor that a guest has to itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OwnCpu {
    /// Its number.
    pub cpu: u32,
    /// The NUMA node that it is of.
    pub node: u32,
}

/// One network port of the VM.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Port {
    /// The network in the spec, and the interface on it.
    pub network: String,
    /// The logical port, [`net::names::port`].
    pub name: String,
    /// The tap device that libvirt makes, [`net::names::tap`].
    pub tap: String,
    pub mac: MacAddr,
    /// Bytes; offered to the guest's driver and set on the tap.
    pub mtu: u32,
}

/// Why a VMI describes no domain.
///
/// Trying again does not help: the VMI, and so the template it came from, must
/// change. The text says what, in KubeVirt's words where it has some.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DomainError {
    /// The object lacks what the API server always sets.
    #[error("the instance has no {0}")]
    Metadata(&'static str),
    /// What admission refuses, where it is asked.
    #[error("{0}")]
    Spec(String),
    /// A value that is none of those possible.
    #[error("{field} is not supported: {value} (allowed values: {allowed})")]
    NotSupported { field: String, value: String, allowed: &'static str },
    /// A name that refers to nothing.
    #[error("{field} '{name}' not found.")]
    Dangling { field: String, name: String },
    /// Anything else; the rule says how the field's value breaks it.
    #[error("{field} {rule}")]
    Invalid { field: String, rule: String },
    /// The namespace, the name and the node's directories are too long together.
    #[error(
        "the socket path {} is longer than {MAX_SOCKET_PATH} bytes: \
         give the VM a shorter name", .0.display()
    )]
    PathTooLong(PathBuf),
}

impl DomainError {
    fn invalid(field: impl Into<String>, rule: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), rule: rule.into() }
    }
}

/// The domain of a VMI at a place, as XML.
///
/// The same input gives the same text. Addresses of devices are left to
/// libvirt.
///
/// # Errors
/// When the VMI asks for what cannot be; see [`DomainError`].
pub fn xml(vmi: &VirtualMachineInstance, place: &Place) -> Result<String, DomainError> {
    if let Some(cause) = faults::of_guest(&vmi.spec, "spec").into_iter().next() {
        return Err(DomainError::Spec(cause.told()));
    }
    let spec = &vmi.spec.domain;
    let namespace = vmi.metadata.namespace.as_deref().ok_or(DomainError::Metadata("namespace"))?;
    let name = vmi.metadata.name.as_deref().ok_or(DomainError::Metadata("name"))?;
    let uid = vmi.metadata.uid.as_deref().ok_or(DomainError::Metadata("uid"))?;
    let topology = sizing::topology(spec)?;
    let threads = io_threads::IoThreads::of(spec, topology)?;
    let identity = Element::new("berth:vmi")
        .attr("xmlns:berth", METADATA_NAMESPACE)
        .attr("uid", uid)
        .attr("namespace", namespace)
        .attr("name", name);
    let hardware = [
        devices::controllers(spec, threads),
        disks::elements(&vmi.spec, &place.disks, topology, threads)?,
        interfaces::elements(spec, place, topology)?,
        devices::console(spec, place)?,
        devices::display(spec, place)?,
        devices::extras(spec)?,
        sizing::pluggable(spec)?.into_iter().collect(),
    ]
    .concat();
    let ports = devices::ports(spec, &hardware);
    let devices = Element::new("devices").children(ports).children(hardware);
    let kind = match place.emulation {
        Emulation::Kvm => "kvm",
        Emulation::Software => "qemu",
    };
    let domain = Element::new("domain")
        .attr("type", kind)
        .attr("xmlns:qemu", "http://libvirt.org/schemas/domain/qemu/1.0")
        .child(Element::text("name", net::names::domain(namespace, name)))
        .child(Element::text("uuid", uid))
        .child(Element::new("metadata").child(identity))
        .children(sizing::memory(spec)?)
        .child(sizing::vcpus(topology, &place.seat))
        .children(threads.element())
        .children(pinning::elements(spec, topology, &place.seat)?)
        .child(firmware::sysinfo(spec))
        .child(firmware::os(spec, place))
        .child(firmware::features(spec, place.emulation))
        .child(sizing::cpu(spec, place, topology)?)
        .child(firmware::clock(spec, place.emulation)?)
        .child(Element::text("on_poweroff", "destroy"))
        .child(Element::text("on_reboot", firmware::on_reboot(spec)?))
        .child(Element::text("on_crash", "destroy"))
        .child(devices)
        .child(firmware::smbios_uuid(vmi)?);
    Ok(domain.to_string())
}

/// One disk for a guest that runs, as XML; `taken`: the names of those that it has.
///
/// # Errors
/// When the disk asks for what cannot be.
pub fn hot_disk(
    spec: &VirtualMachineInstanceSpec,
    disk: &Disk,
    file: &DiskFile,
    taken: &mut BTreeSet<String>,
) -> Result<String, DomainError> {
    if let Some(cause) = faults::of_disk(disk, &format!("disk {}", disk.name)).into_iter().next() {
        return Err(DomainError::Spec(cause.told()));
    }
    let topology = sizing::topology(&spec.domain)?;
    disks::hot(spec, disk, file, topology, taken).map(|element| element.to_string())
}

/// How many processors and how much memory a guest is to have.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Size {
    pub vcpus: u32,
    /// Cores per socket.
    pub cores: u32,
    /// Threads per core.
    pub threads: u32,
    /// Bytes.
    pub memory: u64,
}

/// What a spec asks for.
///
/// # Errors
/// When it asks for what cannot be.
pub fn size(spec: &DomainSpec) -> Result<Size, DomainError> {
    let topology = sizing::topology(spec)?;
    let (cores, threads) = topology.of_socket();
    Ok(Size { vcpus: topology.vcpus(), cores, threads, memory: sizing::guest_bytes(spec)? })
}

/// How many processors of the node a guest is to have to itself.
///
/// # Errors
/// When it asks for what cannot be.
pub fn dedicated(spec: &DomainSpec) -> Result<usize, DomainError> {
    pinning::dedicated(spec, sizing::topology(spec)?)
}

/// A drive as libvirt describes it, with another medium in it, or none.
///
/// # Errors
/// What is no drive, for people.
pub fn with_medium(drive: &str, file: Option<&DiskFile>) -> Result<String, String> {
    disks::with_medium(drive, file)
}

/// The device for memory that comes and goes as libvirt describes it, asked to have so many bytes.
///
/// # Errors
/// What is no such device, for people.
pub fn with_requested(memory: &str, bytes: u64) -> Result<String, String> {
    altered::with_requested(memory, bytes)
}

/// An interface as libvirt describes it, with its cable in or out.
///
/// # Errors
/// What is no interface, for people.
pub fn with_link(interface: &str, up: bool) -> Result<String, String> {
    altered::with_link(interface, up)
}

/// Whether the taps of this VMI have several queues.
#[must_use]
pub fn has_queues(vmi: &VirtualMachineInstance, emulation: Emulation) -> bool {
    let spec = &vmi.spec.domain;
    let topology = sizing::topology(spec);
    topology.is_ok_and(|topology| interfaces::queues(spec, emulation, topology).is_some())
}

/// The guest's host name: the spec's, or the VMI's name up to its first dot.
#[must_use]
pub fn hostname(vmi: &VirtualMachineInstance) -> String {
    let name = vmi.spec.hostname.as_deref().or(vmi.metadata.name.as_deref()).unwrap_or_default();
    name.split('.').next().unwrap_or_default().to_owned()
}

/// A field of the spec that holds a number of bytes or CPUs.
fn quantity(field: &str, value: &crds::kubevirt::Quantity) -> Result<u64, DomainError> {
    value.units().map_err(|error| DomainError::invalid(field, format!("is wrong: {error}")))
}

/// The bus of a disk: without one `sata`, as KubeVirt's on amd64, or of a lun `scsi`.
fn disk_bus(disk: &crds::kubevirt::Disk) -> crds::kubevirt::DiskBus {
    use crds::kubevirt::DiskBus::{Sata, Scsi};
    let device = disk.disk.as_ref().or(disk.cdrom.as_ref()).or(disk.lun.as_ref());
    let default = if disk.lun.is_some() { Scsi } else { Sata };
    device.and_then(|device| device.bus).unwrap_or(default)
}
