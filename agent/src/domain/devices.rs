//! Everything else in the machine: controllers, console, display, small devices.

use std::path::Path;

use crds::kubevirt::{DiskBus, DomainSpec};
use serde_json::Value;

use super::io_threads::IoThreads;
use super::writer::Element;
use super::{DomainError, MAX_SOCKET_PATH, Place, disk_bus};

/// The graphics adapters that KubeVirt takes.
const VIDEO: &str = "vga, bochs, cirrus, ramfb, virtio";

/// Places for devices that come while the guest runs; KubeVirt leaves no fewer than three.
const SPARE_PORTS: usize = 4;

/// USB and SCSI controllers where something needs one, or may come to need it.
pub(super) fn controllers(spec: &DomainSpec, threads: IoThreads) -> Vec<Element> {
    let devices = &spec.devices;
    let has = |bus| devices.disks.iter().any(|disk| disk_bus(disk) == bus);
    let usb_input = devices.inputs.iter().any(|input| input.bus.as_deref() != Some("virtio"));
    let controller = |kind: &str| Element::new("controller").attr("type", kind);
    let usb = if has(DiskBus::Usb) || usb_input { "qemu-xhci" } else { "none" };
    let thread = threads.of_controller();
    let driver = thread.map(|thread| Element::new("driver").attr("iothread", thread));
    // Disks that come later are mostly there.
    let scsi = (has(DiskBus::Scsi) || takes_more(spec))
        .then(|| controller("scsi").attr("index", 0).attr("model", "virtio-scsi").children(driver));
    [controller("usb").attr("model", usb)].into_iter().chain(scsi).collect()
}

fn takes_more(spec: &DomainSpec) -> bool {
    !spec.devices.disable_hotplug.unwrap_or(false)
}

/// As many PCI Express ports as these devices take, and some more. libvirt makes none of its own
/// accord but for the devices that a guest starts with, and what comes later needs one.
pub(super) fn ports<'a>(
    spec: &DomainSpec,
    devices: impl IntoIterator<Item = &'a Element>,
) -> Vec<Element> {
    if !takes_more(spec) {
        return Vec::new();
    }
    let taken = devices.into_iter().filter(|device| takes_port(device)).count();
    let port = |index: usize| {
        let port = Element::new("controller").attr("type", "pci").attr("index", index);
        port.attr("model", "pcie-root-port")
    };
    // The first is the machine's own.
    (1..=taken + SPARE_PORTS).map(port).collect()
}

/// Whether libvirt puts the device behind a port of its own. One too many is one more to spare.
fn takes_port(device: &Element) -> bool {
    match device.name() {
        "disk" => device.value_of("target", "bus") == Some("virtio"),
        "interface" | "rng" | "channel" | "memory" => true,
        "controller" | "memballoon" => device.value("model") != Some("none"),
        "input" => device.value("bus") == Some("virtio"),
        _ => false,
    }
}

/// `serial0` as a unix socket with a log, and the channel for a guest agent.
pub(super) fn console(spec: &DomainSpec, place: &Place) -> Result<Vec<Element>, DomainError> {
    let mut elements = Vec::new();
    if spec.devices.autoattach_serial_console.unwrap_or(true) {
        let source = Element::new("source")
            .attr("mode", "bind")
            .attr("path", socket_path(&place.serial_socket)?);
        let log =
            Element::new("log").attr("file", place.console_log.display()).attr("append", "on");
        let target = Element::new("target").attr("port", 0);
        let serial = Element::new("serial").attr("type", "unix");
        elements.push(serial.child(source).child(log).child(target));
    }
    // Its socket is libvirt's own, which also shortens the path as needed.
    let target =
        Element::new("target").attr("type", "virtio").attr("name", "org.qemu.guest_agent.0");
    elements.push(Element::new("channel").attr("type", "unix").child(target));
    Ok(elements)
}

/// A VNC server on a unix socket, and an adapter: VGA, or one that only EFI's drivers know.
pub(super) fn display(spec: &DomainSpec, place: &Place) -> Result<Vec<Element>, DomainError> {
    if !spec.devices.autoattach_graphics_device.unwrap_or(true) {
        let model = Element::new("model").attr("type", "none");
        return Ok(vec![Element::new("video").child(model)]);
    }
    let listen = Element::new("listen")
        .attr("type", "socket")
        .attr("socket", socket_path(&place.vnc_socket)?);
    let kind = spec.devices.video.as_ref().and_then(|video| video.r#type.as_deref());
    let kind = kind.filter(|kind| !kind.is_empty()).unwrap_or_else(|| {
        let loader = spec.firmware.as_ref().and_then(|one| one.bootloader.as_ref());
        if loader.is_some_and(|one| one.efi.is_some()) { "bochs" } else { "vga" }
    });
    check("spec.domain.devices.video.type", kind, VIDEO)?;
    // The others have no memory of a size to choose.
    let memory = matches!(kind, "vga" | "bochs" | "cirrus").then_some(16384);
    let model = Element::new("model").attr("type", kind).maybe_attr("vram", memory);
    let model = model.attr("heads", 1);
    Ok(vec![
        Element::new("graphics").attr("type", "vnc").child(listen),
        Element::new("video").child(model),
    ])
}

/// Tablets, generator, balloon, watchdog, TPM.
pub(super) fn extras(spec: &DomainSpec) -> Result<Vec<Element>, DomainError> {
    let devices = &spec.devices;
    let mut elements = Vec::new();
    for input in &devices.inputs {
        let bus = input.bus.as_deref().filter(|bus| !bus.is_empty()).unwrap_or("usb");
        elements.push(Element::new("input").attr("type", &input.r#type).attr("bus", bus));
    }
    if devices.rng.is_some() {
        let backend = Element::text("backend", "/dev/urandom").attr("model", "random");
        elements.push(Element::new("rng").attr("model", "virtio").child(backend));
    }
    let balloon = Element::new("memballoon");
    elements.push(if devices.autoattach_mem_balloon.unwrap_or(true) {
        let stats = Element::new("stats").attr("period", 10);
        balloon.attr("model", "virtio").attr("freePageReporting", "on").child(stats)
    } else {
        balloon.attr("model", "none")
    });
    if let Some(sound) = &devices.sound {
        let model = sound.model.as_deref().filter(|model| !model.is_empty()).unwrap_or("ich9");
        check("spec.domain.devices.sound.model", model, "ich9, ac97")?;
        elements.push(Element::new("sound").attr("model", model));
    }
    for (at, device) in devices.panic_devices.iter().enumerate() {
        let model = device.model.as_deref().filter(|model| !model.is_empty()).unwrap_or("hyperv");
        let field = format!("spec.domain.devices.panicDevices[{at}].model");
        check(&field, model, "hyperv, isa, pvpanic")?;
        elements.push(Element::new("panic").attr("model", model));
    }
    if let Some(watchdog) = devices.watchdog.as_ref().and_then(|dog| dog.i6300esb.as_ref()) {
        let action = watchdog.0.get("action").and_then(Value::as_str).unwrap_or("reset");
        let field = "spec.domain.devices.watchdog.i6300esb.action";
        check(field, action, "reset, poweroff, shutdown")?;
        elements.push(Element::new("watchdog").attr("model", "i6300esb").attr("action", action));
    }
    if let Some(tpm) = &devices.tpm {
        let on = |key: &str, default| tpm.0.get(key).and_then(Value::as_bool).unwrap_or(default);
        if on("enabled", true) {
            let backend = Element::new("backend").attr("type", "emulator").attr("version", "2.0");
            // As upstream: what guests find there decides which keys of theirs they trust it with.
            let model = if on("persistent", false) { "tpm-crb" } else { "tpm-tis" };
            elements.push(Element::new("tpm").attr("model", model).child(backend));
        }
    }
    Ok(elements)
}

/// That a value is one of those in a list with commas.
fn check(field: &str, value: &str, allowed: &'static str) -> Result<(), DomainError> {
    if allowed.split(", ").any(|known| known == value) {
        return Ok(());
    }
    Err(DomainError::NotSupported { field: field.to_owned(), value: value.to_owned(), allowed })
}

fn socket_path(path: &Path) -> Result<String, DomainError> {
    if path.as_os_str().len() > MAX_SOCKET_PATH {
        return Err(DomainError::PathTooLong(path.to_owned()));
    }
    Ok(path.display().to_string())
}
