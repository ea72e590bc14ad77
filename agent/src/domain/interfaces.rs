//! Network interfaces: one for each port of the place.

use crds::kubevirt::{DomainSpec, Interface};

use super::sizing::Topology;
use super::writer::Element;
use super::{DomainError, Emulation, Place, Port};
use crate::live::ALIAS;

/// How many queues a tap can have.
const MAX_QUEUES: u32 = 256;

/// The interfaces, in the order of the ports.
///
/// # Errors
/// Also when the spec has an interface without a port: a guest that silently
/// lacks one is worse than none.
pub(super) fn elements(
    spec: &DomainSpec,
    place: &Place,
    topology: Topology,
) -> Result<Vec<Element>, DomainError> {
    let interfaces = &spec.devices.interfaces;
    let missing = interfaces.iter().enumerate().find(|(_, interface)| {
        interface.state.as_deref() != Some("absent")
            && !place.ports.iter().any(|port| port.network == interface.name)
    });
    if let Some((at, interface)) = missing {
        let field = format!("spec.domain.devices.interfaces[{at}].name");
        return Err(DomainError::Dangling { field, name: interface.name.clone() });
    }
    let queues = queues(spec, place.emulation, topology);
    let element = |port: &Port| {
        let at = interfaces.iter().position(|interface| interface.name == port.network);
        let default = Interface::default();
        let interface = at.map_or(&default, |at| &interfaces[at]);
        element(interface, port, place, queues)
    };
    Ok(place.ports.iter().map(element).collect())
}

/// How many queues each tap has, if more than one.
pub(super) fn queues(spec: &DomainSpec, emulation: Emulation, topology: Topology) -> Option<u32> {
    let multi_queue = spec.devices.network_interface_multiqueue.unwrap_or(false);
    (multi_queue && emulation == Emulation::Kvm && topology.vcpus() > 1)
        .then(|| topology.vcpus().min(MAX_QUEUES))
}

fn element(interface: &Interface, port: &Port, place: &Place, queues: Option<u32>) -> Element {
    let model = interface.model.as_deref().filter(|model| !model.is_empty()).unwrap_or("virtio");
    let boot = interface.boot_order.map(|order| Element::new("boot").attr("order", order));
    // Without its boot ROM the firmware does not wait for a network nobody boots from.
    let rom = boot.is_none().then(|| Element::new("rom").attr("enabled", "no"));
    let down = interface.state.as_deref() == Some("down");
    let driver = (model == "virtio").then(|| driver(place, queues));
    Element::new("interface")
        .attr("type", "ethernet")
        .child(Element::new("mac").attr("address", port.mac))
        .child(Element::new("target").attr("dev", &port.tap))
        .child(Element::new("model").attr("type", model))
        .children(driver.flatten())
        .children(boot)
        .child(Element::new("mtu").attr("size", port.mtu))
        .children(interface.acpi_index.map(|index| Element::new("acpi").attr("index", index)))
        .children(down.then(|| Element::new("link").attr("state", "down")))
        .children(rom)
        .child(Element::new("alias").attr("name", format!("{ALIAS}{}", port.network)))
}

/// `<driver>`, when anything differs from libvirt's defaults.
fn driver(place: &Place, queues: Option<u32>) -> Option<Element> {
    let offloads = (!place.checksum_offload).then(|| {
        let off = |element: Element, names: &[&'static str]| {
            names.iter().fold(element, |element, name| element.attr(name, "off"))
        };
        let common = ["csum", "tso4", "tso6", "ecn", "ufo"];
        let host = off(Element::new("host"), &["gso", "mrg_rxbuf"]);
        [off(host, &common), off(Element::new("guest"), &common)]
    });
    if queues.is_none() && offloads.is_none() {
        return None;
    }
    let driver = Element::new("driver").maybe_attr("name", queues.map(|_| "vhost"));
    Some(driver.maybe_attr("queues", queues).children(offloads.into_iter().flatten()))
}
