//! What a running domain has, read from libvirt's XML.

use std::path::PathBuf;

use roxmltree::{Document, Node};

use super::limits::Limits;
use super::{ALIAS, MAY_GO, PLUGGABLE};
use crate::volumes::remote;

/// What is there.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Present {
    pub disks: Vec<PresentDisk>,
    pub interfaces: Vec<PresentInterface>,
    /// The mainboard, as libvirt calls it: `pc-q35-7.2`.
    pub machine: Option<String>,
    /// vCPUs that the guest has.
    pub vcpus: u32,
    /// How many it can have.
    pub max_vcpus: u32,
    /// Memory that it began with, in bytes.
    pub start: u64,
    /// Memory that comes and goes, if it can.
    pub memory: Option<PresentMemory>,
    /// What it is kept to.
    pub limits: Limits,
    /// Whether its instructions are translated.
    pub is_emulated: bool,
}

/// One interface.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PresentInterface {
    /// Its name in the spec.
    pub name: String,
    /// Whether its cable is in.
    pub is_up: bool,
    /// Its queues.
    pub queues: i32,
    /// As libvirt has it.
    pub xml: String,
}

/// Memory that comes and goes while the guest runs; bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PresentMemory {
    /// What there may be of it.
    pub size: u64,
    /// What the guest was told to take of it.
    pub requested: u64,
    /// What it has taken.
    pub current: u64,
    /// As libvirt has it.
    pub xml: String,
}

/// One disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PresentDisk {
    /// Its name in the spec.
    pub name: String,
    /// What is behind it; none in an empty drive.
    pub source: Option<PathBuf>,
    /// Its name for the guest, as far as that goes by it: `vda`.
    pub target: String,
    /// Whether it is a drive whose medium can be changed.
    pub is_drive: bool,
    /// Whether it, or its medium, came to a guest that ran, or could have.
    pub may_go: bool,
    /// As libvirt has it.
    pub xml: String,
}

impl Present {
    /// Reads a domain. What is not ours in it is left out.
    ///
    /// # Errors
    /// What is no XML, for people.
    pub fn read(xml: &str) -> Result<Self, String> {
        let document = Document::parse(xml).map_err(|error| error.to_string())?;
        let domain = document.root_element();
        let mut present = Self::default();
        for device in child(domain, "devices").into_iter().flat_map(|all| all.children()) {
            match device.tag_name().name() {
                "disk" => present.disks.extend(disk(xml, device)),
                "interface" => present.interfaces.extend(interface(xml, device)),
                "memory" => present.memory = memory(xml, device).or(present.memory),
                _ => {}
            }
        }
        let kind = child(domain, "os").and_then(|os| child(os, "type"));
        present.machine = kind.and_then(|kind| kind.attribute("machine")).map(str::to_owned);
        present.limits = limits(domain);
        present.is_emulated = domain.attribute("type") == Some("qemu");
        let vcpu = child(domain, "vcpu");
        present.max_vcpus = vcpu.and_then(|vcpu| vcpu.text()?.trim().parse().ok()).unwrap_or(0);
        let now = vcpu.and_then(|vcpu| vcpu.attribute("current")?.parse().ok());
        present.vcpus = now.unwrap_or(present.max_vcpus);
        // libvirt counts what may come to it, too.
        let whole = child(domain, "memory").and_then(bytes).unwrap_or(0);
        present.start = whole.saturating_sub(present.memory.as_ref().map_or(0, |one| one.size));
        Ok(present)
    }

    /// The disk of this name.
    #[must_use]
    pub fn disk(&self, name: &str) -> Option<&PresentDisk> {
        self.disks.iter().find(|disk| disk.name == name)
    }
}

fn alias<'a>(device: Node<'a, '_>) -> Option<&'a str> {
    child(device, "alias")?.attribute("name")?.strip_prefix(ALIAS)
}

fn interface(xml: &str, element: Node<'_, '_>) -> Option<PresentInterface> {
    let queues = child(element, "driver").and_then(|driver| driver.attribute("queues"));
    let link = child(element, "link").and_then(|link| link.attribute("state"));
    Some(PresentInterface {
        name: alias(element)?.to_owned(),
        is_up: link != Some("down"),
        queues: queues.and_then(|queues| queues.parse().ok()).unwrap_or(1),
        xml: xml[element.range()].to_owned(),
    })
}

fn memory(xml: &str, element: Node<'_, '_>) -> Option<PresentMemory> {
    let target = child(element, "target")?;
    let part = |name| child(target, name).and_then(bytes);
    (alias(element)? == PLUGGABLE).then_some(())?;
    Some(PresentMemory {
        size: part("size")?,
        requested: part("requested")?,
        current: part("current").unwrap_or(0),
        xml: xml[element.range()].to_owned(),
    })
}

fn limits(domain: Node<'_, '_>) -> Limits {
    let tune = child(domain, "cputune");
    let text = |name| child(tune?, name)?.text();
    let memory = child(domain, "memtune").and_then(|all| child(all, "hard_limit"));
    Limits {
        shares: text("shares").and_then(|text| text.trim().parse().ok()),
        quota: text("global_quota").and_then(|text| text.trim().parse().ok()),
        memory: memory.and_then(bytes),
    }
}

/// libvirt writes sizes in KiB.
fn bytes(element: Node<'_, '_>) -> Option<u64> {
    element.text()?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn disk(xml: &str, element: Node<'_, '_>) -> Option<PresentDisk> {
    let source = child(element, "source").and_then(source);
    let alias = alias(element)?;
    let name = alias.strip_suffix(MAY_GO);
    Some(PresentDisk {
        name: name.unwrap_or(alias).to_owned(),
        may_go: name.is_some(),
        source,
        target: child(element, "target")?.attribute("dev")?.to_owned(),
        is_drive: element.attribute("device") == Some("cdrom"),
        xml: xml[element.range()].to_owned(),
    })
}

/// What a disk lies on, by the name that its file has ([`crate::volumes::DiskFile`]).
fn source(element: Node<'_, '_>) -> Option<PathBuf> {
    let path = element.attribute("file").or_else(|| element.attribute("dev"));
    let remote = || {
        let host = child(element, "host").and_then(|host| host.attribute("name"));
        Some(remote::name(element.attribute("protocol")?, host, element.attribute("name")?))
    };
    path.map(PathBuf::from).or_else(|| remote().map(PathBuf::from))
}

fn child<'a, 'i>(of: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    of.children().find(|one| one.has_tag_name(name))
}
