//! Disks: the spec says how the guest sees them, the place where they are.

use std::collections::BTreeSet;

use crds::kubevirt::{Disk, DiskBus, DiskCache, VirtualMachineInstanceSpec};

use super::sizing::Topology;
use super::writer::Element;
use super::{DomainError, disk_bus};
use crate::volumes::DiskFile;

/// Every disk of the spec, then every volume that no disk mentions, as KubeVirt
/// adds them.
pub(super) fn elements(
    spec: &VirtualMachineInstanceSpec,
    files: &[DiskFile],
    topology: Topology,
) -> Result<Vec<Element>, DomainError> {
    let disks = &spec.domain.devices.disks;
    let mut names = BTreeSet::new();
    let mut letters = Letters::default();
    let mut elements = Vec::new();
    for (at, disk) in disks.iter().enumerate() {
        let field = format!("spec.domain.devices.disks[{at}]");
        if !names.insert(disk.name.as_str()) {
            let rule = format!("and another disk must not have the same Name '{}'.", disk.name);
            return Err(DomainError::invalid(field, rule));
        }
        let file = files.iter().find(|file| file.volume == disk.name).ok_or_else(|| {
            DomainError::Dangling { field: format!("{field}.name"), name: disk.name.clone() }
        })?;
        let multi_queue = spec.domain.devices.block_multi_queue.unwrap_or(false);
        let queues = multi_queue.then(|| topology.vcpus());
        elements.push(element(disk, file, &field, &mut letters, queues)?);
    }
    for file in files.iter().filter(|file| !names.contains(file.volume.as_str())) {
        let disk = Disk { name: file.volume.clone(), ..Disk::default() };
        elements.push(element(&disk, file, "spec.volumes", &mut letters, None)?);
    }
    Ok(elements)
}

fn element(
    disk: &Disk,
    file: &DiskFile,
    field: &str,
    letters: &mut Letters,
    queues: Option<u32>,
) -> Result<Element, DomainError> {
    let bus = disk_bus(disk);
    let (kind, read_only) = kind(disk, bus, field)?;
    let driver = Element::new("driver")
        .attr("name", "qemu")
        .attr("type", file.format.name())
        .attr("cache", cache(disk.cache))
        .attr("error_policy", error_policy(disk, field)?)
        .maybe_attr("io", disk.io.as_deref().filter(|io| matches!(*io, "native" | "threads")))
        .attr("discard", "unmap")
        .maybe_attr("queues", queues.filter(|_| bus == DiskBus::Virtio));
    let target = Element::new("target").attr("dev", letters.next(bus)).attr("bus", name(bus));
    Ok(Element::new("disk")
        .attr("type", "file")
        .attr("device", kind)
        .child(driver)
        .child(Element::new("source").attr("file", file.path.display()))
        .child(target)
        .children(serial(disk, field)?)
        .children(disk.boot_order.map(|order| Element::new("boot").attr("order", order)))
        .children(read_only.then(|| Element::new("readonly")))
        .child(Element::new("alias").attr("name", format!("ua-{}", disk.name))))
}

/// libvirt's device, and whether the guest may only read.
fn kind(disk: &Disk, bus: DiskBus, field: &str) -> Result<(&'static str, bool), DomainError> {
    let read_only = disk.disk.as_ref().and_then(|device| device.readonly).unwrap_or(false);
    match (&disk.disk, &disk.cdrom, &disk.lun) {
        (_, None, None) if read_only && bus == DiskBus::Sata => {
            let rule = "is readonly, which a sata disk cannot be: \
                        make it a cdrom, or set the bus to virtio or scsi";
            Err(DomainError::invalid(field, rule))
        }
        (_, None, None) => Ok(("disk", read_only)),
        (None, Some(_), None) if bus == DiskBus::Virtio => {
            Err(DomainError::invalid(field, "Bus type virtio is invalid for CD-ROM device"))
        }
        (None, Some(_), None) => Ok(("cdrom", true)),
        (None, None, Some(_)) => {
            let rule = "is a lun, which needs a block device of the host: make it a disk";
            Err(DomainError::invalid(field, rule))
        }
        _ => Err(DomainError::invalid(field, "can only have a single target type defined")),
    }
}

/// Through the page cache without a wish: what these files hold ends with the
/// VMI, and VMs of one image share its pages.
fn cache(wanted: Option<DiskCache>) -> &'static str {
    match wanted {
        Some(DiskCache::None) => "none",
        Some(DiskCache::Writethrough) => "writethrough",
        Some(DiskCache::Writeback) | None => "writeback",
    }
}

fn error_policy<'a>(disk: &'a Disk, field: &str) -> Result<&'a str, DomainError> {
    match disk.error_policy.as_deref().unwrap_or("stop") {
        policy @ ("stop" | "ignore" | "report" | "enospace") => Ok(policy),
        other => Err(DomainError::NotSupported {
            field: format!("{field}.errorPolicy"),
            value: other.to_owned(),
            allowed: "stop, ignore, report, enospace",
        }),
    }
}

fn serial(disk: &Disk, field: &str) -> Result<Option<Element>, DomainError> {
    let Some(serial) = disk.serial.as_deref().filter(|serial| !serial.is_empty()) else {
        return Ok(None);
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.+-".contains(c);
    if serial.len() > 256 || !serial.chars().all(plain) {
        let rule = "must be made up of at most 256 of the characters A-Z a-z 0-9 _ . + -";
        return Err(DomainError::invalid(format!("{field}.serial"), rule));
    }
    Ok(Some(Element::text("serial", serial)))
}

fn name(bus: DiskBus) -> &'static str {
    match bus {
        DiskBus::Virtio => "virtio",
        DiskBus::Sata => "sata",
        DiskBus::Scsi => "scsi",
        DiskBus::Usb => "usb",
    }
}

/// Device names in the order of the disks: `vda`, `vdb` … and `sda`, `sdb` …
#[derive(Debug, Default)]
struct Letters {
    virtio: u32,
    other: u32,
}

impl Letters {
    fn next(&mut self, bus: DiskBus) -> String {
        let (prefix, count) = match bus {
            DiskBus::Virtio => ("vd", &mut self.virtio),
            DiskBus::Sata | DiskBus::Scsi | DiskBus::Usb => ("sd", &mut self.other),
        };
        let at = *count;
        *count += 1;
        format!("{prefix}{}", letters(at))
    }
}

/// `a` … `z`, `aa`, `ab` …, as Linux counts disks.
fn letters(at: u32) -> String {
    let last = char::from(b'a' + u8::try_from(at % 26).expect("less than 26"));
    match at / 26 {
        0 => last.to_string(),
        more => format!("{}{last}", letters(more - 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_lettered_beyond_z_as_linux_does() {
        assert_eq!([0, 25, 26, 27, 701, 702].map(letters), ["a", "z", "aa", "ab", "zz", "aaa"]);
    }
}
