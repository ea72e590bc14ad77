//! Processors and memory of a guest that runs; pure. KubeVirt's `pkg/virt-controller/watch/vm` and
//! its webhook's words.
//!
//! | a template | while it runs |
//! |---|---|
//! | has more sockets, up to `maxSockets` | they come |
//! | has fewer | `RestartRequired`: no guest gives one back |
//! | has other `memory.guest`, from what it began with up to `maxGuest` | it comes and goes |
//! | has more of either than its node has room for | `RestartRequired`, until there is room |
//!
//! Where a template names no `maxSockets` or `maxGuest`, there is room for four times of what
//! it begins with.

use crds::kubevirt::{Cpu, DomainSpec, Quantity};

/// How much more of it there may come to be (KubeVirt's `maxHotplugRatio`).
const RATIO: u32 = 4;

/// What a machine has at most without further options of QEMU's.
const MOST_VCPUS: u32 = 255;

/// The least memory to which more can come, and by how much that goes at once: bytes.
const LEAST: u64 = 1 << 30;
const BLOCK: u64 = 2 << 20;

/// Says how far the guest may grow, where it is not said.
pub fn complete(domain: &mut DomainSpec) {
    if domain.devices.disable_hotplug == Some(true) {
        return;
    }
    // Processors of its own a guest has from its start.
    let is_dedicated = domain.cpu.as_ref().is_some_and(Cpu::is_dedicated);
    if let Some(sockets) = sockets(domain).filter(|_| !is_dedicated) {
        let cpu = domain.cpu.get_or_insert_default();
        let each = cpu.cores.unwrap_or(1).max(1).saturating_mul(cpu.threads.unwrap_or(1).max(1));
        let most = sockets.saturating_mul(RATIO).min(MOST_VCPUS / each).max(sockets);
        cpu.max_sockets.get_or_insert(most);
    }
    let most = grown_memory(domain);
    if let (Some(memory), Some(most)) = (&mut domain.memory, most) {
        memory.max_guest.get_or_insert(most);
    }
}

/// Four times the memory, where more can come to it.
fn grown_memory(domain: &DomainSpec) -> Option<Quantity> {
    let memory = domain.memory.as_ref()?;
    let guest = memory.guest.as_ref()?.units().ok()?;
    // With a limit there is no telling how far it may go.
    let resources = domain.resources.as_ref();
    let is_limited = resources.is_some_and(|all| all.limits.contains_key("memory"));
    let fits = guest >= LEAST && guest.is_multiple_of(BLOCK) && memory.hugepages.is_none();
    let fits = fits && !is_limited;
    let most = guest.checked_mul(RATIO.into()).filter(|_| fits)?;
    Some(Quantity::Text(format!("{}Mi", most >> 20)))
}

/// The sockets that a spec has, where it does not leave that to resources.
fn sockets(domain: &DomainSpec) -> Option<u32> {
    let cpu = domain.cpu.clone().unwrap_or_default();
    let written = cpu.cores.is_some() || cpu.sockets.is_some() || cpu.threads.is_some();
    let resources = domain.resources.as_ref();
    let counted = |map: &std::collections::BTreeMap<String, Quantity>| map.contains_key("cpu");
    let by_resources = resources.is_some_and(|all| counted(&all.requests) || counted(&all.limits));
    (written || !by_resources).then(|| cpu.sockets.unwrap_or(1).max(1))
}

/// Takes over what can be. `start`: the bytes that the guest began with, if it says so.
pub(super) fn update(domain: &mut DomainSpec, template: &DomainSpec, start: Option<u64>) {
    if let (Some(has), Some(wants)) = (sockets(domain), sockets(template)) {
        let most = domain.cpu.as_ref().and_then(|cpu| cpu.max_sockets).unwrap_or(has);
        if wants > has && wants <= most && !gets_queues(domain, has) {
            let cpu = domain.cpu.get_or_insert_default();
            cpu.sockets = template.cpu.as_ref().and_then(|cpu| cpu.sockets);
        }
    }
    let wants = template.memory.as_ref().and_then(|memory| memory.guest.clone());
    let (Some(memory), Some(wants)) = (&mut domain.memory, wants) else { return };
    let bytes = |amount: &Option<Quantity>| amount.as_ref().and_then(|one| one.units().ok());
    let (Some(now), Ok(then)) = (bytes(&memory.guest), wants.units()) else { return };
    let fits = bytes(&memory.max_guest).is_some_and(|most| then <= most)
        && then >= start.unwrap_or(now).max(LEAST)
        && then.is_multiple_of(BLOCK);
    if fits {
        memory.guest = Some(wants);
    }
}

/// Leaves what the guest has where it was to have more.
pub(super) fn withhold(domain: &mut DomainSpec, has: &DomainSpec) {
    // Sockets do not become fewer.
    domain.cpu.clone_from(&has.cpu);
    let bytes = |domain: &DomainSpec| domain.memory.as_ref()?.guest.as_ref()?.units().ok();
    if bytes(domain) > bytes(has) {
        domain.memory.clone_from(&has.memory);
    }
}

/// Whether with one more processor the interfaces would have several queues, which they have
/// from the beginning or not at all.
fn gets_queues(domain: &DomainSpec, sockets: u32) -> bool {
    let cpu = domain.cpu.clone().unwrap_or_default();
    let each = cpu.cores.unwrap_or(1).saturating_mul(cpu.threads.unwrap_or(1));
    domain.devices.network_interface_multiqueue == Some(true) && sockets.saturating_mul(each) <= 1
}

/// Lets a difference in how far guests may grow be none where nobody has written it: it follows
/// from what a guest begins with.
pub(super) fn level(domain: &mut DomainSpec, template: &DomainSpec, written: &DomainSpec) {
    let max = |cpu: &Option<Cpu>| cpu.as_ref().and_then(|cpu| cpu.max_sockets);
    if max(&written.cpu).is_none() {
        let of_template = template.cpu.clone();
        match &mut domain.cpu {
            Some(cpu) => cpu.max_sockets = max(&of_template),
            None => domain.cpu = of_template.filter(|cpu| *cpu == only(max(&template.cpu))),
        }
    }
    let most = |domain: &DomainSpec| domain.memory.as_ref().and_then(|one| one.max_guest.clone());
    if most(written).is_none()
        && let Some(memory) = &mut domain.memory
    {
        memory.max_guest = most(template);
    }
}

fn only(max_sockets: Option<u32>) -> Cpu {
    Cpu { max_sockets, ..Cpu::default() }
}

/// Why a template needs a restart, in upstream's words.
#[must_use]
pub(super) fn restart_message(domain: &DomainSpec, template: &DomainSpec) -> Option<&'static str> {
    let (has, wants) = (sockets(domain)?, sockets(template)?);
    let most = domain.cpu.as_ref().and_then(|cpu| cpu.max_sockets).unwrap_or(has);
    if wants < has {
        return Some("Reduction of CPU socket count requires a restart");
    }
    (wants > most)
        .then_some("CPU sockets updated in template spec to a value higher than what's available")
}
