//! Disks: the spec says how the guest sees them, the place where they are.

use std::collections::BTreeSet;

use crds::kubevirt::{Disk, DiskBus, DiskCache, VirtualMachineInstanceSpec, Volume};

use super::io_threads::IoThreads;
use super::sizing::Topology;
use super::writer::Element;
use super::{DomainError, disk_bus};
use crate::live::{ALIAS, MAY_GO};
use crate::volumes::{DiskFile, Format, Medium, Remote};

/// Every disk of the spec, then every volume that no disk mentions, as KubeVirt
/// adds them.
pub(super) fn elements(
    spec: &VirtualMachineInstanceSpec,
    files: &[DiskFile],
    topology: Topology,
    threads: IoThreads,
) -> Result<Vec<Element>, DomainError> {
    let disks = &spec.domain.devices.disks;
    let mut names = BTreeSet::new();
    let mut letters = Letters::default();
    let mut deal = threads.deal();
    let mut elements = Vec::new();
    for (at, disk) in disks.iter().enumerate() {
        let field = format!("spec.domain.devices.disks[{at}]");
        names.insert(disk.name.as_str());
        let Some(file) = files.iter().find(|file| file.volume == disk.name) else {
            elements.push(empty_drive(disk, &field, letters.next(disk_bus(disk)))?);
            continue;
        };
        let multi_queue = spec.domain.devices.block_multi_queue.unwrap_or(false);
        let queues = multi_queue.then(|| topology.vcpus());
        let served = Served { queues, thread: deal.next(disk), may_go: may_go(spec, file) };
        elements.push(element(disk, file, &field, letters.next(disk_bus(disk)), served)?);
    }
    for file in files.iter().filter(|file| !names.contains(file.volume.as_str())) {
        let disk = Disk { name: file.volume.clone(), ..Disk::default() };
        let served = Served { may_go: may_go(spec, file), ..Served::default() };
        let target = letters.next(disk_bus(&disk));
        elements.push(element(&disk, file, "spec.volumes", target, served)?);
    }
    Ok(elements)
}

fn may_go(spec: &VirtualMachineInstanceSpec, file: &DiskFile) -> bool {
    let volume = spec.volumes.iter().find(|volume| volume.name == file.volume);
    volume.is_some_and(Volume::is_hotpluggable)
}

/// One disk for a guest that runs, under a name that none of `taken` is, and that then is one of
/// them. The threads that serve disks are dealt out when a guest starts: QEMU's own serves this
/// one.
pub(super) fn hot(
    spec: &VirtualMachineInstanceSpec,
    disk: &Disk,
    file: &DiskFile,
    topology: Topology,
    taken: &mut BTreeSet<String>,
) -> Result<Element, DomainError> {
    let mut letters = Letters::default();
    let names = std::iter::repeat_with(|| letters.next(disk_bus(disk)));
    let target = names.into_iter().find(|name| !taken.contains(name));
    let target = target.expect("names have no end");
    taken.insert(target.clone());
    let multi_queue = spec.domain.devices.block_multi_queue.unwrap_or(false);
    let queues = multi_queue.then(|| topology.vcpus());
    let served = Served { queues, thread: None, may_go: true };
    element(disk, file, &format!("disk {}", disk.name), target, served)
}

/// libvirt's words for what a disk lies on: the disk's type, and its source.
fn place(file: &DiskFile) -> (&'static str, Element) {
    let source = Element::new("source");
    match &file.medium {
        Medium::Device => ("block", source.attr("dev", file.path.display())),
        Medium::Own | Medium::File { .. } => ("file", source.attr("file", file.path.display())),
        Medium::Network(remote) => ("network", on_server(source, remote)),
    }
}

/// The source of a disk that QEMU finds by itself.
fn on_server(source: Element, remote: &Remote) -> Element {
    match remote {
        Remote::Nfs { server, path, user, group } => {
            let number = |id: &u32| format!("+{id}");
            let identity =
                Element::new("identity").attr("user", number(user)).attr("group", number(group));
            source
                .attr("protocol", "nfs")
                .attr("name", path)
                .child(Element::new("host").attr("name", server))
                .child(identity)
        }
        Remote::Iscsi { portal, iqn, lun, initiator, login } => {
            let host = Element::new("host").attr("name", &portal.host).attr("port", portal.port);
            let auth = login.as_ref().map(|login| {
                let secret = Element::new("secret").attr("type", "iscsi");
                let secret = secret.attr("uuid", login.secret);
                Element::new("auth").attr("username", &login.user).child(secret)
            });
            let initiator = initiator.as_ref().map(|name| {
                Element::new("initiator").child(Element::new("iqn").attr("name", name))
            });
            source
                .attr("protocol", "iscsi")
                .attr("name", format!("{iqn}/{lun}"))
                .child(host)
                .children(auth)
                .children(initiator)
        }
    }
}

/// A drive without a medium. Nothing else can be without a volume.
fn empty_drive(disk: &Disk, field: &str, target: String) -> Result<Element, DomainError> {
    if disk.cdrom.is_none() {
        let (field, name) = (format!("{field}.name"), disk.name.clone());
        return Err(DomainError::Dangling { field, name });
    }
    let nothing = DiskFile::own(&disk.name, "/".into(), Format::Raw);
    kind(disk, &nothing, disk_bus(disk), field)?;
    let target = Element::new("target")
        .attr("dev", target)
        .attr("bus", name(disk_bus(disk)))
        .maybe_attr("tray", tray(disk, field)?);
    Ok(Element::new("disk")
        .attr("type", "file")
        .attr("device", "cdrom")
        .child(Element::new("driver").attr("name", "qemu").attr("type", Format::Raw.name()))
        .child(target)
        .children(disk.boot_order.map(|order| Element::new("boot").attr("order", order)))
        .child(Element::new("readonly"))
        // What comes into it while the guest runs goes, too.
        .child(alias(disk, true)))
}

/// By which the disk is known again, and whether it may leave a guest that runs: that is to be
/// read from the domain alone, as the object may have lost it.
fn alias(disk: &Disk, may_go: bool) -> Element {
    let mark = if may_go { MAY_GO } else { "" };
    Element::new("alias").attr("name", format!("{ALIAS}{}{mark}", disk.name))
}

/// A drive as libvirt describes it, with another medium in it, or none. All else stays as it is
/// written: libvirt changes nothing else of a drive, and refuses what differs. Whether its
/// tray is open it knows better.
///
/// # Errors
/// What is no drive, for people.
pub(super) fn with_medium(drive: &str, file: Option<&DiskFile>) -> Result<String, String> {
    let document = roxmltree::Document::parse(drive).map_err(|error| error.to_string())?;
    let (kind, source) = match file.map(place) {
        Some((kind, source)) => (kind, Some(source)),
        None => ("file", None),
    };
    let mut parts: Vec<String> = source.iter().map(ToString::to_string).collect();
    for child in document.root_element().children().filter(roxmltree::Node::is_element) {
        match child.tag_name().name() {
            "source" | "backingStore" => {}
            "target" => {
                let value = |name| child.attribute(name).unwrap_or_default();
                let target = Element::new("target").attr("dev", value("dev"));
                parts.push(target.attr("bus", value("bus")).to_string());
            }
            _ => parts.push(drive[child.range()].to_owned()),
        }
    }
    Ok(format!("<disk type='{kind}' device='cdrom'>{}</disk>", parts.concat()))
}

fn element(
    disk: &Disk,
    file: &DiskFile,
    field: &str,
    target: String,
    served: Served,
) -> Result<Element, DomainError> {
    let bus = disk_bus(disk);
    let (kind, read_only) = kind(disk, file, bus, field)?;
    let shareable = shareable(disk, file, field)?;
    let cache = cache(disk.cache, file, shareable);
    let driver = Element::new("driver")
        .attr("name", "qemu")
        .attr("type", file.format.name())
        .attr("cache", cache)
        .attr("error_policy", error_policy(disk))
        .maybe_attr("io", io(disk, file, cache))
        .attr("discard", "unmap")
        .maybe_attr("queues", served.queues.filter(|_| bus == DiskBus::Virtio))
        .maybe_attr("iothread", served.thread);
    let (medium, source) = place(file);
    let target = Element::new("target")
        .attr("dev", target)
        .attr("bus", name(bus))
        .maybe_attr("tray", tray(disk, field)?);
    Ok(Element::new("disk")
        .attr("type", medium)
        .attr("device", kind)
        .child(driver)
        .child(source)
        .child(target)
        .children(block_size(disk))
        .children(serial(disk))
        .children(disk.boot_order.map(|order| Element::new("boot").attr("order", order)))
        .children(read_only.then(|| Element::new("readonly")))
        .children(shareable.then(|| Element::new("shareable")))
        .child(alias(disk, served.may_go)))
}

/// By whom a disk is served.
#[derive(Clone, Copy, Debug, Default)]
struct Served {
    /// How many queues lead there.
    queues: Option<u32>,
    /// The thread.
    thread: Option<u32>,
    /// Whether it may leave a guest that runs.
    may_go: bool,
}

/// Whether the drive of a CD-ROM is open.
fn tray<'a>(disk: &'a Disk, field: &str) -> Result<Option<&'a str>, DomainError> {
    let tray = disk.cdrom.as_ref().and_then(|drive| drive.tray.as_deref());
    match tray.filter(|tray| !tray.is_empty()) {
        None | Some("open" | "closed") => Ok(tray.filter(|tray| !tray.is_empty())),
        Some(other) => Err(DomainError::NotSupported {
            field: format!("{field}.cdrom.tray"),
            value: other.to_owned(),
            allowed: "open, closed",
        }),
    }
}

/// `<blockio>`, with the sizes that are written.
fn block_size(disk: &Disk) -> Option<Element> {
    let size = disk.block_size.as_ref()?.custom.as_ref()?;
    let element = Element::new("blockio").attr("logical_block_size", size.logical);
    Some(element.attr("physical_block_size", size.physical))
}

/// libvirt's device, and whether the guest may only read.
fn kind(
    disk: &Disk,
    file: &DiskFile,
    bus: DiskBus,
    field: &str,
) -> Result<(&'static str, bool), DomainError> {
    let device = disk.disk.as_ref().or(disk.lun.as_ref());
    let read_only = file.read_only || device.and_then(|device| device.readonly).unwrap_or(false);
    match (&disk.disk, &disk.cdrom, &disk.lun) {
        (_, None, None) if read_only && bus == DiskBus::Sata => {
            let rule = "is readonly, which a sata disk cannot be: \
                        make it a cdrom, or set the bus to virtio or scsi";
            Err(DomainError::invalid(field, rule))
        }
        (_, None, None) => Ok(("disk", read_only)),
        (_, Some(_), _) => Ok(("cdrom", true)),
        (_, None, Some(_)) if !is_block(file) => {
            let rule = "is a lun, which needs a block device of the host: make it a disk";
            Err(DomainError::invalid(field, rule))
        }
        (_, None, Some(_)) if bus != DiskBus::Scsi => {
            let rule =
                format!("is a lun, which bus {} does not have: set the bus to scsi", name(bus));
            Err(DomainError::invalid(field, rule))
        }
        (_, None, Some(_)) => Ok(("lun", read_only)),
    }
}

/// Whether a disk speaks SCSI itself.
fn is_block(file: &DiskFile) -> bool {
    match &file.medium {
        Medium::Device => true,
        Medium::Network(remote) => matches!(**remote, Remote::Iscsi { .. }),
        Medium::Own | Medium::File { .. } => false,
    }
}

/// Whether others may write to the disk at the same time.
fn shareable(disk: &Disk, file: &DiskFile, field: &str) -> Result<bool, DomainError> {
    // What ends with the VMI is nobody else's: `ignored` says so.
    if !disk.shareable.unwrap_or(false) || file.medium == Medium::Own {
        return Ok(false);
    }
    let other = match disk.cache {
        None | Some(DiskCache::None) => return Ok(true),
        Some(DiskCache::Writethrough) => "writethrough",
        Some(DiskCache::Writeback) => "writeback",
    };
    let rule = format!("is set: a sharable disk requires cache = none got: {other}");
    Err(DomainError::invalid(format!("{field}.shareable"), rule))
}

/// What is wished, else as KubeVirt: past the host's page cache where that can be, since
/// the disk stays. What ends with the VMI goes through it: VMs of one image share its pages.
fn cache(wanted: Option<DiskCache>, file: &DiskFile, shareable: bool) -> &'static str {
    match (wanted, &file.medium) {
        (Some(DiskCache::None), _) => "none",
        (Some(DiskCache::Writethrough), _) => "writethrough",
        (Some(DiskCache::Writeback), _) => "writeback",
        _ if shareable => "none",
        (None, Medium::Own) => "writeback",
        (None, Medium::Device | Medium::Network(_) | Medium::File { direct: true }) => "none",
        (None, Medium::File { direct: false }) => "writethrough",
    }
}

/// What is wished, else the kernel's own for a device, as KubeVirt.
fn io<'a>(disk: &'a Disk, file: &DiskFile, cache: &str) -> Option<&'a str> {
    let wanted = disk.io.as_deref().filter(|io| !io.is_empty());
    match wanted {
        Some(io) => Some(io).filter(|io| matches!(*io, "native" | "threads")),
        None => (file.medium == Medium::Device && cache == "none").then_some("native"),
    }
}

fn error_policy(disk: &Disk) -> &str {
    disk.error_policy.as_deref().filter(|policy| !policy.is_empty()).unwrap_or("stop")
}

fn serial(disk: &Disk) -> Option<Element> {
    let serial = disk.serial.as_deref().filter(|serial| !serial.is_empty());
    serial.map(|serial| Element::text("serial", serial))
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
