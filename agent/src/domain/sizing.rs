//! How much the guest gets: memory, processors and their model.

use crds::kubevirt::{Cpu, DomainSpec, Quantity, faults};

use super::writer::Element;
use super::{DomainError, Emulation, Place, Seat, pinning, quantity};
use crate::live::{ALIAS, PLUGGABLE};

/// What libvirt and QEMU's q35 take without further options.
const MAX_VCPUS: u64 = 255;

/// Sockets, cores per socket, threads per core.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Topology {
    sockets: u32,
    cores: u32,
    threads: u32,
    /// Up to so many sockets while the guest runs.
    max_sockets: u32,
}

impl Topology {
    /// The number of vCPUs.
    pub(super) fn vcpus(self) -> u32 {
        self.sockets * self.cores * self.threads
    }

    /// The number of vCPUs that there may come to be.
    pub(super) fn max_vcpus(self) -> u32 {
        self.max_sockets * self.cores * self.threads
    }

    /// Cores per socket and threads per core.
    pub(super) const fn of_socket(self) -> (u32, u32) {
        (self.cores, self.threads)
    }
}

/// The topology written, or else as many sockets as CPUs are limited or
/// requested, or else one of each.
pub(super) fn topology(spec: &DomainSpec) -> Result<Topology, DomainError> {
    let cpu = spec.cpu.clone().unwrap_or_default();
    let Cpu { cores, sockets, threads, max_sockets, .. } = cpu;
    let written = cores.is_some() || sockets.is_some() || threads.is_some();
    let sockets = match sockets {
        Some(sockets) => sockets,
        None if written => 1,
        None => sockets_from_resources(spec)?,
    };
    let [sockets, cores, threads] =
        [sockets, cores.unwrap_or(1), threads.unwrap_or(1)].map(|count| count.max(1));
    let max_sockets = max_sockets.unwrap_or(sockets).max(sockets);
    let vcpus = u64::from(max_sockets).saturating_mul(cores.into()).saturating_mul(threads.into());
    if vcpus > MAX_VCPUS {
        let rule = format!("makes {vcpus} vCPUs, more than {MAX_VCPUS}");
        return Err(DomainError::invalid("spec.domain.cpu", rule));
    }
    Ok(Topology { sockets, cores, threads, max_sockets })
}

fn sockets_from_resources(spec: &DomainSpec) -> Result<u32, DomainError> {
    let resources = spec.resources.clone().unwrap_or_default();
    let (field, value) = match (resources.limits.get("cpu"), resources.requests.get("cpu")) {
        (Some(limit), _) => ("spec.domain.resources.limits.cpu", limit),
        (None, Some(request)) => ("spec.domain.resources.requests.cpu", request),
        (None, None) => return Ok(1),
    };
    Ok(u32::try_from(quantity(field, value)?).unwrap_or(u32::MAX))
}

/// `<memory>`, `<maxMemory>` for what may come, and `<memoryBacking>` for huge pages.
pub(super) fn memory(spec: &DomainSpec) -> Result<Vec<Element>, DomainError> {
    let kib = guest_bytes(spec)?.div_ceil(1024);
    let growth = growth(spec)?;
    let most = growth.map(|growth| {
        let most = Element::text("maxMemory", (growth.most >> 10).to_string());
        most.attr("slots", 1).attr("unit", "KiB")
    });
    let mut elements: Vec<_> = most.into_iter().collect();
    elements.push(Element::text("memory", kib.to_string()).attr("unit", "KiB"));
    if let Some(bytes) = page_bytes(spec)? {
        let page = Element::new("page").attr("size", bytes / 1024).attr("unit", "KiB");
        let pages = Element::new("hugepages").child(page);
        // Merging pages makes the guest wait when it writes one.
        let realtime = spec.cpu.as_ref().is_some_and(|cpu| cpu.realtime.is_some());
        let alone = realtime.then(|| Element::new("nosharepages"));
        elements.push(Element::new("memoryBacking").child(pages).children(alone));
    }
    Ok(elements)
}

/// The size of the huge pages that the guest's memory is of, if it is.
pub(super) fn page_bytes(spec: &DomainSpec) -> Result<Option<u64>, DomainError> {
    const FIELD: &str = "spec.domain.memory.hugepages.pageSize";
    let hugepages = spec.memory.as_ref().and_then(|memory| memory.hugepages.as_ref());
    let Some(size) = hugepages.and_then(|pages| pages.page_size.as_deref()) else {
        return Ok(None);
    };
    if !matches!(size, "2Mi" | "1Gi") {
        return Err(DomainError::NotSupported {
            field: FIELD.into(),
            value: size.to_owned(),
            allowed: "2Mi, 1Gi",
        });
    }
    let page = quantity(FIELD, &Quantity::from(size))?;
    let bytes = guest_bytes(spec)?;
    if !bytes.is_multiple_of(page) {
        let rule = format!("'{bytes}' is not a multiple of the page size {size}");
        return Err(DomainError::invalid("spec.domain.memory.guest", rule));
    }
    Ok(Some(page))
}

/// Memory that may come while the guest runs, in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Growth {
    /// What the guest begins with.
    pub(super) start: u64,
    /// What it may come to have.
    pub(super) most: u64,
}

/// KubeVirt's `Hotplug1GHugePagesBlockAlignmentBytes` is for pages that nobody has here.
const BLOCK: u64 = 2 << 20;

/// The least that a guest must have for more to come to it.
const LEAST: u64 = 1 << 30;

const MAX_GUEST: &str = "spec.domain.memory.maxGuest";

/// How far the memory can grow, if `maxGuest` says so (KubeVirt's `ValidateLiveUpdateMemory`).
pub(super) fn growth(spec: &DomainSpec) -> Result<Option<Growth>, DomainError> {
    let memory = spec.memory.clone().unwrap_or_default();
    let Some(most) = memory.max_guest else { return Ok(None) };
    let most = quantity(MAX_GUEST, &most)?;
    let start = guest_bytes(spec)?;
    if most == start {
        return Ok(None);
    }
    let refused = |rule: &str| Err(DomainError::invalid(MAX_GUEST, rule));
    if memory.guest.is_none() {
        return refused("Guest memory must be configured when memory hotplug is enabled");
    }
    if start > most {
        return refused("Guest memory is greater than the configured maxGuest memory");
    }
    if !start.is_multiple_of(BLOCK) {
        return refused("Guest memory must be 2Mi aligned");
    }
    if !most.is_multiple_of(BLOCK) {
        return refused("MaxGuest must be 2Mi aligned");
    }
    if start < LEAST {
        return refused(
            "Memory hotplug is only available for VMs with at least 1Gi of guest memory",
        );
    }
    if memory.hugepages.is_some() {
        return refused("Memory hotplug is not compatible with hugepages");
    }
    Ok(Some(Growth { start, most }))
}

/// The device by which memory comes and goes: virtio-mem, with nothing in it yet.
pub(super) fn pluggable(spec: &DomainSpec) -> Result<Option<Element>, DomainError> {
    let kib = |name, bytes: u64| Element::text(name, (bytes >> 10).to_string()).attr("unit", "KiB");
    Ok(growth(spec)?.map(|growth| {
        let target = Element::new("target")
            .child(kib("size", growth.most - growth.start))
            .child(Element::text("node", "0"))
            .child(kib("block", BLOCK))
            .child(kib("requested", 0));
        let alias = Element::new("alias").attr("name", format!("{ALIAS}{PLUGGABLE}"));
        Element::new("memory").attr("model", "virtio-mem").child(target).child(alias)
    }))
}

/// What the guest sees: `memory.guest`, or else the request, or else the limit,
/// or else one huge page.
pub(super) fn guest_bytes(spec: &DomainSpec) -> Result<u64, DomainError> {
    let none = || faults::no_memory(spec, "spec").map_or_else(String::new, |cause| cause.told());
    let (field, value) = spec.guest_memory().ok_or_else(|| DomainError::Spec(none()))?;
    quantity(&format!("spec.domain.{field}"), &value)
}

/// `<vcpu>`.
pub(super) fn vcpus(topology: Topology, seat: &Seat) -> Element {
    let (now, most) = (topology.vcpus(), topology.max_vcpus());
    let vcpu = Element::text("vcpu", most.to_string()).attr("placement", "static");
    let vcpu = vcpu.maybe_attr("cpuset", seat.shared.as_deref());
    vcpu.maybe_attr("current", (now < most).then_some(now))
}

/// `<cpu>`: the model asked for, `host-model` without one. Under software
/// emulation there is no host to be like, and it is all that QEMU can translate.
pub(super) fn cpu(
    spec: &DomainSpec,
    place: &Place,
    topology: Topology,
) -> Result<Element, DomainError> {
    let emulation = place.emulation;
    let cpu = spec.cpu.clone().unwrap_or_default();
    let model = cpu.model.as_deref().unwrap_or("host-model");
    let element = Element::new("cpu");
    let element = match (model, emulation) {
        ("host-model" | "host-passthrough", Emulation::Software) => element.attr("mode", "maximum"),
        ("host-model", Emulation::Kvm) => element.attr("mode", "host-model"),
        ("host-passthrough", Emulation::Kvm) => {
            element.attr("mode", "host-passthrough").attr("migratable", "on")
        }
        (model, emulation) => {
            // The translator lacks features of most models; the guest then does without.
            let check = match emulation {
                Emulation::Kvm => "partial",
                Emulation::Software => "none",
            };
            let model = Element::text("model", model).attr("fallback", "forbid");
            element.attr("mode", "custom").attr("match", "exact").attr("check", check).child(model)
        }
    };
    let counts = Element::new("topology")
        .attr("sockets", topology.max_sockets)
        .attr("cores", topology.cores)
        .attr("threads", topology.threads);
    // Memory that comes must come to some node of the guest.
    let numa = growth(spec)?.map(|growth| {
        let cell = Element::new("cell")
            .attr("id", 0)
            .attr("cpus", format!("0-{}", topology.max_vcpus() - 1))
            .attr("memory", growth.start >> 10)
            .attr("unit", "KiB");
        Element::new("numa").child(cell)
    });
    let numa = match numa {
        Some(numa) => Some(numa),
        None => pinning::cells(spec, topology, &place.seat)?,
    };
    Ok(element.child(counts).children(features(&cpu)).children(numa))
}

fn features(cpu: &Cpu) -> impl Iterator<Item = Element> {
    cpu.features.iter().map(|feature| {
        let policy = feature.policy.as_deref().filter(|policy| !policy.is_empty());
        let policy = policy.unwrap_or("require");
        Element::new("feature").attr("policy", policy).attr("name", &feature.name)
    })
}
