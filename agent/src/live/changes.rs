//! What has to be done to a guest's hardware; pure.

use std::fmt;

use crds::kubevirt::{Disk, VirtualMachineInstance, Volume};

use super::{Files, Present, PresentDisk};
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
}

impl Change {
    /// The volume that it is about.
    #[must_use]
    pub fn volume(&self) -> &str {
        match self {
            Self::Attach(disk, _) => &disk.name,
            Self::Detach(disk) | Self::Insert(disk, _) | Self::Eject(disk) => &disk.name,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Self::Attach(..) => "attach",
            Self::Detach(_) => "detach",
            Self::Insert(..) => "insert",
            Self::Eject(_) => "eject",
        };
        write!(out, "{what} {}", self.volume())
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
    goes.chain(comes).collect()
}

/// What becomes of a disk that is there, if anything.
fn going(vmi: &VirtualMachineInstance, files: &Files, disk: &PresentDisk) -> Option<Change> {
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
