//! What has to be done to a guest's hardware; pure.

use std::fmt;

use crds::kubevirt::{Disk, VirtualMachineInstance, Volume};

use super::limits::Limits;
use super::{Files, Present, PresentDisk, PresentInterface, PresentMemory};
use crate::domain;
use crate::volumes::DiskFile;

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// This disk comes.
    Attach(Box<Disk>, DiskFile),
    /// This disk goes.
    Detach(PresentDisk),
    /// This medium comes into its drive.
    Insert(PresentDisk, DiskFile),
    /// The medium goes from its drive.
    Eject(PresentDisk),
    /// So many vCPUs.
    Vcpus(u32),
    /// So many bytes of the memory that comes and goes.
    Memory(PresentMemory, u64),
    /// The cable of this interface goes in, or out.
    Link(PresentInterface, bool),
    /// This interface goes.
    Unplug(PresentInterface),
    /// So many shares of the processors, and so many µs of them in each period at most.
    Bandwidth(u64, Option<i64>),
    /// So many bytes of the node's memory at most.
    MemoryLimit(u64),
}

/// What a change is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum About<'a> {
    Volume(&'a str),
    Cpu,
    Memory,
    Interface,
    Bandwidth,
    MemoryLimit,
}

impl Change {
    /// Whether the guest has to let go of something, for which libvirt waits some seconds.
    #[must_use]
    pub const fn is_unplug(&self) -> bool {
        matches!(self, Self::Detach(_) | Self::Unplug(_))
    }

    /// Whether what is to go is still there.
    #[must_use]
    pub fn is_ignored(&self, present: &Present) -> bool {
        match self {
            Self::Detach(disk) => present.disk(&disk.name).is_some(),
            Self::Unplug(interface) => {
                present.interfaces.iter().any(|one| one.name == interface.name)
            }
            _ => false,
        }
    }

    /// What it is about.
    #[must_use]
    pub fn about(&self) -> About<'_> {
        match self {
            Self::Attach(disk, _) => About::Volume(&disk.name),
            Self::Detach(disk) | Self::Insert(disk, _) | Self::Eject(disk) => {
                About::Volume(&disk.name)
            }
            Self::Vcpus(_) => About::Cpu,
            Self::Memory(..) => About::Memory,
            Self::Link(..) | Self::Unplug(_) => About::Interface,
            Self::Bandwidth(..) => About::Bandwidth,
            Self::MemoryLimit(_) => About::MemoryLimit,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attach(disk, _) => write!(out, "attach {}", disk.name),
            Self::Detach(disk) => write!(out, "detach {}", disk.name),
            Self::Insert(drive, _) => write!(out, "insert {}", drive.name),
            Self::Eject(drive) => write!(out, "eject {}", drive.name),
            Self::Vcpus(count) => write!(out, "{count} vCPUs"),
            Self::Memory(_, bytes) => write!(out, "{bytes} bytes more than at the start"),
            Self::Link(interface, up) => {
                write!(out, "link {} {}", interface.name, if *up { "up" } else { "down" })
            }
            Self::Unplug(interface) => write!(out, "unplug {}", interface.name),
            Self::Bandwidth(shares, None) => write!(out, "{shares} shares of the processors"),
            Self::Bandwidth(shares, Some(quota)) => {
                write!(out, "{shares} shares of the processors, {quota} µs at most")
            }
            Self::MemoryLimit(bytes) => write!(out, "{bytes} bytes of the node's at most"),
        }
    }
}

/// What of the hardware differs from what the object asks for, in the order in which it is
/// to be done: what goes makes room for what comes.
///
/// A volume whose file cannot be had now changes nothing: what the guest has of it, it keeps.
/// A disk of another file under its old name goes first; what comes is found once it is gone.
#[must_use]
pub fn changes(vmi: &VirtualMachineInstance, files: &Files, present: &Present) -> Vec<Change> {
    let goes = present.disks.iter().filter_map(|disk| going(vmi, files, disk));
    let comes = vmi.spec.volumes.iter().filter(|volume| volume.is_hotpluggable());
    let comes = comes.filter(|volume| present.disk(&volume.name).is_none());
    let comes = comes.filter_map(|volume| {
        let file = files.get(&volume.name)?.as_ref().ok()?;
        Some(Change::Attach(Box::new(disk_of(vmi, volume)), file.clone()))
    });
    let more = sizes(vmi, present).into_iter().chain(interfaces(vmi, present));
    // First: nothing keeps the guest to them yet.
    limits(vmi, present).into_iter().chain(goes).chain(comes).chain(more).collect()
}

/// What the guest is to be kept to and is not.
fn limits(vmi: &VirtualMachineInstance, present: &Present) -> Vec<Change> {
    let Limits { shares, quota, memory } = Limits::of(&vmi.spec.domain, present.is_emulated);
    let has = present.limits;
    let differs = shares != has.shares || (quota.is_some() && quota != has.quota);
    let bandwidth = shares.filter(|_| differs).map(|shares| Change::Bandwidth(shares, quota));
    let memory = memory.filter(|_| memory != has.memory).map(Change::MemoryLimit);
    bandwidth.into_iter().chain(memory).collect()
}

/// The same with another one first of those that a guest may ignore, turn by turn: one that it
/// never lets go keeps no other from being asked for.
#[must_use]
pub fn in_turn(changes: Vec<Change>, turn: usize) -> Vec<Change> {
    let (mut all, rest): (Vec<_>, Vec<_>) = changes.into_iter().partition(Change::is_unplug);
    let count = all.len().max(1);
    all.rotate_left(turn % count);
    all.extend(rest);
    all
}

/// More processors, and memory as it is asked for. Neither does a spec that cannot be ask for, nor
/// can a guest be made to give processors back.
fn sizes(vmi: &VirtualMachineInstance, present: &Present) -> Vec<Change> {
    let Ok(wanted) = domain::size(&vmi.spec.domain) else { return Vec::new() };
    let more = wanted.vcpus > present.vcpus && wanted.vcpus <= present.max_vcpus;
    let memory = present.memory.as_ref().and_then(|has| {
        let asked = wanted.memory.checked_sub(present.start)?.min(has.size);
        (asked != has.requested).then(|| Change::Memory(has.clone(), asked))
    });
    more.then_some(Change::Vcpus(wanted.vcpus)).into_iter().chain(memory).collect()
}

/// Cables, and interfaces that are to be absent.
fn interfaces(vmi: &VirtualMachineInstance, present: &Present) -> Vec<Change> {
    let change = |has: &PresentInterface| {
        let listed = &vmi.spec.domain.devices.interfaces;
        let wanted = listed.iter().find(|one| one.name == has.name)?;
        let up = match wanted.state.as_deref() {
            Some("absent") => return Some(Change::Unplug(has.clone())),
            Some("down") => false,
            _ => true,
        };
        (has.is_up != up).then(|| Change::Link(has.clone(), up))
    };
    present.interfaces.iter().filter_map(change).collect()
}

/// What becomes of a disk that is there, if anything. What the guest began with and was to keep
/// is not taken from it because its object has lost it.
fn going(vmi: &VirtualMachineInstance, files: &Files, disk: &PresentDisk) -> Option<Change> {
    if !disk.may_go {
        return None;
    }
    let Some(volume) = vmi.spec.volumes.iter().find(|volume| volume.name == disk.name) else {
        return match (disk.is_drive, &disk.source) {
            // The drive itself stays until the guest ends.
            (true, Some(_)) => Some(Change::Eject(disk.clone())),
            (true, None) => None,
            (false, _) => Some(Change::Detach(disk.clone())),
        };
    };
    if !volume.is_hotpluggable() {
        return None;
    }
    let file = files.get(&volume.name)?.as_ref().ok()?;
    if disk.source.as_ref() == Some(&file.path) {
        return None;
    }
    Some(if disk.is_drive {
        Change::Insert(disk.clone(), file.clone())
    } else {
        Change::Detach(disk.clone())
    })
}

fn disk_of(vmi: &VirtualMachineInstance, volume: &Volume) -> Disk {
    let disks = &vmi.spec.domain.devices.disks;
    let written = disks.iter().find(|disk| disk.name == volume.name).cloned();
    written.unwrap_or_else(|| Disk { name: volume.name.clone(), ..Disk::default() })
}
