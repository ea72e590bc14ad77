//! Disks: by themselves, beside each other, and with their volumes.

use std::collections::{BTreeMap, BTreeSet};

use super::names::not_a_label;
use crate::cause::Cause;
use crate::kubevirt::{Disk, DiskBus, VirtualMachineInstanceSpec};

/// The longest serial number, in characters.
const LONGEST_SERIAL: usize = 256;

/// The sizes that a block may have, in bytes.
const LEAST_BLOCK: u32 = 512;
const MOST_BLOCK: u32 = 2_097_152;

pub(super) fn check(spec: &VirtualMachineInstanceSpec, path: &str) -> Vec<Cause> {
    let disks = &spec.domain.devices.disks;
    let path = format!("{path}.domain.devices");
    let volumes: BTreeSet<&str> = spec.volumes.iter().map(|volume| volume.name.as_str()).collect();
    let mut known = BTreeMap::new();
    let mut found = boot_order(spec, &path);
    for (at, disk) in disks.iter().enumerate() {
        let field = format!("{path}.disks[{at}]");
        if let Some(other) = known.get(disk.name.as_str()) {
            let text = format!("{field} and {path}.disks[{other}] must not have the same Name.");
            found.push(Cause::invalid(format!("{field}.name"), text));
        } else {
            known.insert(disk.name.as_str(), at);
        }
        // A drive may be empty.
        if !volumes.contains(disk.name.as_str()) && disk.cdrom.is_none() {
            let field = format!("{field}.name");
            let text = format!("{field} '{}' not found.", disk.name);
            found.push(Cause::invalid(field, text));
        }
        found.extend(of_disk(disk, &field));
    }
    found
}

/// That two devices are the first, or one none at all.
fn boot_order(spec: &VirtualMachineInstanceSpec, path: &str) -> Vec<Cause> {
    let devices = &spec.domain.devices;
    let disks = devices.disks.iter().enumerate();
    let disks = disks.map(|(at, one)| (format!("{path}.disks[{at}]"), one.boot_order));
    let interfaces = devices.interfaces.iter().enumerate();
    let interfaces =
        interfaces.map(|(at, one)| (format!("{path}.interfaces[{at}]"), one.boot_order));
    let mut taken = BTreeSet::new();
    let mut found = Vec::new();
    for (device, order) in disks.chain(interfaces) {
        let Some(order) = order else { continue };
        let field = format!("{device}.bootOrder");
        if order == 0 {
            let text = format!("{device} must have a boot order > 0, if supplied");
            found.push(Cause::invalid(field, text));
        } else if !taken.insert(order) {
            let text = format!("Boot order for {field} already set for a different device.");
            found.push(Cause::invalid(field, text));
        }
    }
    found
}

/// What of one disk cannot be; `field` is its path.
#[must_use]
pub fn of_disk(disk: &Disk, field: &str) -> Vec<Cause> {
    let mut found = Vec::new();
    if let Some(wrong) = not_a_label(&disk.name) {
        found.push(Cause::invalid(format!("{field}.name"), wrong));
    }
    let targets = [&disk.disk, &disk.cdrom, &disk.lun];
    if targets.iter().filter(|target| target.is_some()).count() > 1 {
        let text = format!("{field} can only have a single target type defined");
        found.push(Cause::invalid(field, text));
    }
    let bus =
        |device: &Option<_>| device.as_ref().and_then(|one: &super::super::DiskDevice| one.bus);
    if bus(&disk.cdrom) == Some(DiskBus::Virtio) {
        let text = "Bus type virtio is invalid for CD-ROM device";
        found.push(Cause::invalid(format!("{field}.cdrom.bus"), text));
    }
    let reads_only = disk.disk.as_ref().is_some_and(|one| one.readonly == Some(true));
    if reads_only && matches!(bus(&disk.disk), None | Some(DiskBus::Sata)) {
        let text = "sata hard-disks do not support read-only.";
        found.push(Cause::invalid(format!("{field}.disk.bus"), text));
    }
    found.extend(words(disk, field));
    found.extend(block_size(disk, field));
    found
}

/// Texts that must be one of a few, or of a few characters.
fn words(disk: &Disk, field: &str) -> Vec<Cause> {
    let mut found = Vec::new();
    let serial = disk.serial.as_deref().unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.+-".contains(c);
    if !serial.chars().all(plain) {
        let text = format!(
            "{field} must be made up of the following characters [A-Za-z0-9_.+-], if specified"
        );
        found.push(Cause::invalid(format!("{field}.serial"), text));
    }
    if serial.chars().count() > LONGEST_SERIAL {
        let text = format!(
            "{field} must be less than or equal to {LONGEST_SERIAL} in length, if specified"
        );
        found.push(Cause::invalid(format!("{field}.serial"), text));
    }
    let policy = disk.error_policy.as_deref().unwrap_or_default();
    if !matches!(policy, "" | "stop" | "ignore" | "report" | "enospace") {
        let field = format!("{field}.errorPolicy");
        let text = format!("{field} has invalid value \"{policy}\"");
        found.push(Cause::invalid(field, text));
    }
    if !matches!(disk.io.as_deref().unwrap_or_default(), "" | "native" | "threads" | "default") {
        let field = format!("{field}.io");
        let text = format!(
            "Disk IO mode for {field} is not supported. Supported modes are: native, threads."
        );
        found.push(Cause::not_supported(field, text));
    }
    found
}

fn block_size(disk: &Disk, field: &str) -> Vec<Cause> {
    let Some(size) = disk.block_size.as_ref().and_then(|size| size.custom.as_ref()) else {
        return Vec::new();
    };
    let field = |of: &str| format!("{field}.blockSize.custom.{of}");
    if size.logical > size.physical {
        let text = format!(
            "Logical size {} must be the same or less than the physical size of {}",
            size.logical, size.physical
        );
        return vec![Cause::invalid(field("logical"), text)];
    }
    let sizes = [("logical", size.logical), ("physical", size.physical)].into_iter();
    let wrong = sizes.filter_map(|(name, bytes)| {
        let rule = if bytes < LEAST_BLOCK {
            format!("is less than the supported minimum size of {LEAST_BLOCK}")
        } else if bytes > MOST_BLOCK {
            format!("is greater than the supported maximum size of {MOST_BLOCK}")
        } else if !bytes.is_power_of_two() {
            "is not a power of 2".to_owned()
        } else {
            return None;
        };
        Some(Cause::invalid(field(name), format!("Provided size of {bytes} {rule}")))
    });
    wrong.collect()
}
