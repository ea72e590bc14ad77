//! Which processors of the node a guest runs on, and which of its memory they are near to.
//!
//! | | vCPUs | all else of QEMU |
//! |---|---|---|
//! | by default | those that all guests share | the same |
//! | `dedicatedCpuPlacement` | one each | those that all guests share |
//! | and `isolateEmulatorThread` | one each | one more |
//!
//! KubeVirt has the emulator on the guest's own processors where it is not isolated, as a pod has
//! no others; here it is kept off them.

use std::collections::BTreeMap;

use crds::kubevirt::{Cpu, DomainSpec};

use super::sizing::{self, Topology};
use super::writer::Element;
use super::{DomainError, OwnCpu, Seat};
use crate::cpus::CpuSet;

const CPU: &str = "spec.domain.cpu";

/// The processors that a guest is to have to itself.
pub(super) fn dedicated(spec: &DomainSpec, topology: Topology) -> Result<usize, DomainError> {
    let cpu = spec.cpu.clone().unwrap_or_default();
    refuse(&cpu, spec, topology)?;
    Ok(usize::try_from(cpu.dedicated(topology.vcpus().into())).unwrap_or(usize::MAX))
}

/// What does not go together (KubeVirt's `validateCPUIsolatorThread`, `validateNUMA` and
/// `validateRealtime`).
fn refuse(cpu: &Cpu, spec: &DomainSpec, topology: Topology) -> Result<(), DomainError> {
    let refused = |field: &str, rule: &str| {
        Err(DomainError::invalid(format!("{CPU}.{field}"), rule.to_owned()))
    };
    let has_numa = cpu.numa.as_ref().is_some_and(|numa| numa.guest_mapping_passthrough.is_some());
    let hugepages = spec.memory.as_ref().and_then(|memory| memory.hugepages.as_ref());
    if cpu.is_dedicated() {
        if topology.max_vcpus() > topology.vcpus() {
            let rule = "cannot be more than sockets with dedicatedCpuPlacement: leave it out";
            return refused("maxSockets", rule);
        }
    } else if cpu.isolate_emulator_thread == Some(true) {
        let rule = "should be only set in combination with dedicatedCpuPlacement";
        return refused("isolateEmulatorThread", rule);
    } else if has_numa {
        let rule = "needs dedicatedCpuPlacement: set that to true";
        return refused("numa.guestMappingPassthrough", rule);
    } else if cpu.realtime.is_some() {
        return refused("realtime", "needs dedicatedCpuPlacement: set that to true");
    }
    if has_numa && hugepages.is_none() {
        let rule = "needs huge pages: set spec.domain.memory.hugepages.pageSize";
        return refused("numa.guestMappingPassthrough", rule);
    }
    if cpu.realtime.is_some() && !has_numa {
        return refused("realtime", "needs numa.guestMappingPassthrough: set that to {}");
    }
    masked(cpu, topology).map(drop)
}

/// The vCPUs that nothing preempts, if any.
fn masked(cpu: &Cpu, topology: Topology) -> Result<Option<CpuSet>, DomainError> {
    let Some(realtime) = &cpu.realtime else { return Ok(None) };
    let all = CpuSet::first(topology.vcpus());
    let Some(mask) = realtime.mask.as_deref().filter(|mask| !mask.is_empty()) else {
        return Ok(Some(all));
    };
    let field = || format!("{CPU}.realtime.mask");
    let wanted: CpuSet =
        mask.parse().map_err(|why| DomainError::invalid(field(), format!("is wrong: {why}")))?;
    if wanted.is_part_of(&all) {
        return Ok(Some(wanted));
    }
    Err(DomainError::invalid(field(), format!("names vCPUs that are not there: there are {all}")))
}

/// `<cputune>` and `<numatune>`, as far as they are needed.
pub(super) fn elements(
    spec: &DomainSpec,
    topology: Topology,
    seat: &Seat,
) -> Result<Vec<Element>, DomainError> {
    let wanted = dedicated(spec, topology)?;
    let cpu = spec.cpu.clone().unwrap_or_default();
    if wanted == 0 {
        return Ok(Vec::new());
    }
    if seat.own.len() != wanted {
        let rule =
            format!("needs {wanted} processors of the node, and there are {}", seat.own.len());
        return Err(DomainError::invalid(format!("{CPU}.dedicatedCpuPlacement"), rule));
    }
    let (vcpus, beside) = of_vcpus(seat, topology);
    let pins = (0_u32..)
        .zip(vcpus)
        .map(|(vcpu, own)| Element::new("vcpupin").attr("vcpu", vcpu).attr("cpuset", own.cpu));
    let emulator = beside.first().map(|own| own.cpu.to_string()).or_else(|| seat.shared.clone());
    let emulator = emulator.map(|set| Element::new("emulatorpin").attr("cpuset", set));
    let realtime = masked(&cpu, topology)?.map(|set| {
        let scheduled = Element::new("vcpusched").attr("vcpus", set);
        scheduled.attr("scheduler", "fifo").attr("priority", 1)
    });
    let tune = Element::new("cputune").children(pins).children(emulator).children(realtime);
    Ok([tune].into_iter().chain(near_memory(&cpu, topology, seat)).collect())
}

/// `<numatune>`: the memory of each node of the guest is of the node of its processors.
fn near_memory(cpu: &Cpu, topology: Topology, seat: &Seat) -> Option<Element> {
    let nodes = nodes(cpu, topology, seat)?;
    let all: Vec<String> = nodes.keys().map(ToString::to_string).collect();
    let memory = Element::new("memory").attr("mode", "strict").attr("nodeset", all.join(","));
    let each = nodes.keys().enumerate().map(|(cell, node)| {
        let near = Element::new("memnode").attr("cellid", cell).attr("mode", "strict");
        near.attr("nodeset", node)
    });
    Some(Element::new("numatune").child(memory).children(each))
}

/// The cells of `<numa>`, as many as the processors of the guest are of nodes. Each has its
/// share of the memory, in whole pages.
pub(super) fn cells(
    spec: &DomainSpec,
    topology: Topology,
    seat: &Seat,
) -> Result<Option<Element>, DomainError> {
    let cpu = spec.cpu.clone().unwrap_or_default();
    let Some(nodes) = nodes(&cpu, topology, seat) else { return Ok(None) };
    let page = sizing::page_bytes(spec)?.unwrap_or(4096);
    let pages = sizing::guest_bytes(spec)? / page;
    let count = nodes.len() as u64;
    let cells = (0_u64..).zip(nodes.values()).map(|(cell, vcpus)| {
        let share = pages / count + u64::from(cell < pages % count);
        let vcpus: Vec<String> = vcpus.iter().map(ToString::to_string).collect();
        let element = Element::new("cell").attr("id", cell).attr("cpus", vcpus.join(","));
        element.attr("memory", share * page / 1024).attr("unit", "KiB")
    });
    Ok(Some(Element::new("numa").children(cells)))
}

/// The vCPUs by the node of their processors, where the guest is to see that.
fn nodes(cpu: &Cpu, topology: Topology, seat: &Seat) -> Option<BTreeMap<u32, Vec<u32>>> {
    cpu.numa.as_ref()?.guest_mapping_passthrough.as_ref()?;
    let mut nodes: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (vcpu, own) in (0_u32..).zip(of_vcpus(seat, topology).0) {
        nodes.entry(own.node).or_default().push(vcpu);
    }
    Some(nodes)
}

/// The processors of the vCPUs, and what is left of the guest's.
fn of_vcpus(seat: &Seat, topology: Topology) -> (&[OwnCpu], &[OwnCpu]) {
    let count = usize::try_from(topology.vcpus()).unwrap_or(usize::MAX);
    seat.own.split_at(count.min(seat.own.len()))
}
