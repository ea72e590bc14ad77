//! How much the guest gets: memory, processors and their model.

use crds::kubevirt::{Cpu, DomainSpec, Quantity};

use super::writer::Element;
use super::{DomainError, Emulation, quantity};

/// What libvirt and QEMU's q35 take without further options.
const MAX_VCPUS: u64 = 255;

/// KubeVirt's lower limit, 1M.
const MIN_MEMORY: u64 = 1_000_000;

const GUEST: &str = "spec.domain.memory.guest";
const REQUEST: &str = "spec.domain.resources.requests.memory";
const LIMIT: &str = "spec.domain.resources.limits.memory";

/// Sockets, cores per socket, threads per core.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Topology {
    sockets: u32,
    cores: u32,
    threads: u32,
}

impl Topology {
    /// The number of vCPUs.
    pub(super) fn vcpus(self) -> u32 {
        self.sockets * self.cores * self.threads
    }
}

/// The topology written, or else as many sockets as CPUs are limited or
/// requested, or else one of each.
pub(super) fn topology(spec: &DomainSpec) -> Result<Topology, DomainError> {
    let cpu = spec.cpu.clone().unwrap_or_default();
    let Cpu { cores, sockets, threads, .. } = cpu;
    let written = cores.is_some() || sockets.is_some() || threads.is_some();
    let sockets = match sockets {
        Some(sockets) => sockets,
        None if written => 1,
        None => sockets_from_resources(spec)?,
    };
    let [sockets, cores, threads] =
        [sockets, cores.unwrap_or(1), threads.unwrap_or(1)].map(|count| count.max(1));
    let vcpus = u64::from(sockets).saturating_mul(cores.into()).saturating_mul(threads.into());
    if vcpus > MAX_VCPUS {
        let rule = format!("makes {vcpus} vCPUs, more than {MAX_VCPUS}");
        return Err(DomainError::invalid("spec.domain.cpu", rule));
    }
    Ok(Topology { sockets, cores, threads })
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

/// `<memory>`, and `<memoryBacking>` for huge pages.
pub(super) fn memory(spec: &DomainSpec) -> Result<Vec<Element>, DomainError> {
    let kib = guest_bytes(spec)?.div_ceil(1024);
    let mut elements = vec![Element::text("memory", kib.to_string()).attr("unit", "KiB")];
    let hugepages = spec.memory.as_ref().and_then(|memory| memory.hugepages.as_ref());
    if let Some(size) = hugepages.and_then(|pages| pages.page_size.as_deref()) {
        let bytes = quantity("spec.domain.memory.hugepages.pageSize", &Quantity::from(size))?;
        let page = Element::new("page").attr("size", bytes / 1024).attr("unit", "KiB");
        let pages = Element::new("hugepages").child(page);
        elements.push(Element::new("memoryBacking").child(pages));
    }
    Ok(elements)
}

/// What the guest sees: `memory.guest`, or else the request, or else the limit,
/// or else one huge page.
fn guest_bytes(spec: &DomainSpec) -> Result<u64, DomainError> {
    let resources = spec.resources.clone().unwrap_or_default();
    let memory = spec.memory.clone().unwrap_or_default();
    let page = memory.hugepages.and_then(|pages| pages.page_size);
    let limit = resources.limits.get("memory").cloned();
    let (field, value) = memory
        .guest
        .map(|guest| (GUEST, guest))
        .or_else(|| resources.requests.get("memory").cloned().map(|asked| (REQUEST, asked)))
        .or_else(|| limit.clone().map(|limit| (LIMIT, limit)))
        .or_else(|| page.map(|size| (GUEST, Quantity::Text(size))))
        .ok_or(DomainError::NoMemory)?;
    let bytes = quantity(field, &value)?;
    if bytes < MIN_MEMORY {
        let rule = format!("'{value}': must be greater than or equal to 1M.");
        return Err(DomainError::invalid(field, rule));
    }
    if let Some(limit) = limit
        && bytes > quantity(LIMIT, &limit)?
    {
        let rule =
            format!("'{value}' must be equal to or less than the memory limit {LIMIT} '{limit}'");
        return Err(DomainError::invalid(field, rule));
    }
    Ok(bytes)
}

/// `<vcpu>`.
pub(super) fn vcpus(topology: Topology) -> Element {
    Element::text("vcpu", topology.vcpus().to_string()).attr("placement", "static")
}

/// `<cpu>`: the model asked for, `host-model` without one. Under software
/// emulation there is no host to be like, and it is all that QEMU can translate.
pub(super) fn cpu(
    spec: &DomainSpec,
    emulation: Emulation,
    topology: Topology,
) -> Result<Element, DomainError> {
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
        .attr("sockets", topology.sockets)
        .attr("cores", topology.cores)
        .attr("threads", topology.threads);
    Ok(element.child(counts).children(features(&cpu)?))
}

fn features(cpu: &Cpu) -> Result<Vec<Element>, DomainError> {
    let feature = |(at, feature): (usize, &crds::kubevirt::CpuFeature)| {
        let policy = feature.policy.as_deref().filter(|policy| !policy.is_empty());
        match policy.unwrap_or("require") {
            policy @ ("force" | "require" | "optional" | "disable" | "forbid") => {
                Ok(Element::new("feature").attr("policy", policy).attr("name", &feature.name))
            }
            other => Err(DomainError::NotSupported {
                field: format!("spec.domain.cpu.features[{at}].policy"),
                value: other.to_owned(),
                allowed: "force, require, optional, disable, forbid",
            }),
        }
    };
    cpu.features.iter().enumerate().map(feature).collect()
}
