//! What an instance says of its hardware, in KubeVirt's phases and words; pure.
//!
//! | the volume | phase | reason |
//! |---|---|---|
//! | its claim is not there | `Pending` | `FailedPvcNotFound` |
//! | its claim has no volume yet | `Pending` | `PVCNotReady` |
//! | its disk cannot be had, or libvirt refuses it | `Pending` | why |
//! | the disk is to come | `Bound` | `PVCNotReady` |
//! | the guest has it | `Ready` | `VolumeReady` |
//! | the guest holds on to it | `Detaching` | `DeviceInUse` |

use crds::condition::RESOURCES_NOT_ENFORCED;
use crds::kubevirt::{
    Condition, ConditionStatus, CpuTopology, Machine, MemoryStatus, Quantity,
    VirtualMachineInstance, VirtualMachineInstanceStatus, VolumeStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::limits::asked;
use super::{Account, Present, PresentDisk, PresentInterface, PresentMemory};
use crate::domain::{self, Size};
use crate::vm::Trouble;

/// Says it in `status`.
pub fn say(
    status: &mut VirtualMachineInstanceStatus,
    vmi: &VirtualMachineInstance,
    is: &Account,
    now: &Time,
) {
    say_sizes(status, vmi, &is.present);
    if is.present.machine.is_some() {
        status.machine = Some(Machine { r#type: is.present.machine.clone() });
    }
    for (kind, trouble) in [("HotVCPUChange", &is.of_cpu), ("HotMemoryChange", &is.of_memory)] {
        match trouble {
            // It is still to be.
            Some(trouble) => Condition::new(kind, ConditionStatus::True)
                .because(trouble.reason, &trouble.message)
                .merge_into(&mut status.conditions, now.clone()),
            None => status.conditions.retain(|one| one.r#type != kind),
        }
    }
    say_limits(status, vmi, is, now);
    for interface in &mut status.interfaces {
        let is_it = |one: &&PresentInterface| Some(&one.name) == interface.name.as_ref();
        let has = is.present.interfaces.iter().find(is_it);
        let word = |one: &PresentInterface| if one.is_up { "up" } else { "down" }.to_owned();
        interface.link_state = has.map(word);
        interface.queue_count = has.map(|one| one.queues).or(interface.queue_count);
    }
    say_volumes(status, vmi, is);
}

/// What somebody asked for and nothing enforces.
fn say_limits(
    status: &mut VirtualMachineInstanceStatus,
    vmi: &VirtualMachineInstance,
    is: &Account,
    now: &Time,
) {
    let (cpu, memory) = asked(&vmi.spec.domain);
    let cpu = is.of_bandwidth.as_ref().filter(|_| !cpu.is_empty()).map(|why| (cpu, why));
    let memory = is.of_memory_limit.as_ref().zip(memory).map(|(why, field)| (vec![field], why));
    let told: Vec<_> = cpu.into_iter().chain(memory).collect();
    let Some((_, first)) = told.first() else {
        status.conditions.retain(|one| one.r#type != RESOURCES_NOT_ENFORCED);
        return;
    };
    let said = |(fields, why): &(Vec<&str>, &Trouble)| {
        format!("nothing enforces {}: {}", fields.join(" and "), why.message)
    };
    let message: Vec<String> = told.iter().map(said).collect();
    Condition::new(RESOURCES_NOT_ENFORCED, ConditionStatus::True)
        .because(first.reason, message.join("; "))
        .merge_into(&mut status.conditions, now.clone());
}

/// Processors and memory, as far as they are known.
fn say_sizes(
    status: &mut VirtualMachineInstanceStatus,
    vmi: &VirtualMachineInstance,
    present: &Present,
) {
    let Ok(Size { cores, threads, .. }) = domain::size(&vmi.spec.domain) else { return };
    let sockets = present.vcpus / (cores * threads).max(1);
    status.current_cpu_topology =
        Some(CpuTopology { cores, sockets, threads, ..CpuTopology::default() });
    let more = |of: fn(&PresentMemory) -> u64| {
        Some(size(present.start.saturating_add(present.memory.as_ref().map_or(0, of))))
    };
    status.memory = Some(MemoryStatus {
        guest_at_boot: Some(size(present.start)),
        guest_current: more(|memory| memory.current),
        guest_requested: more(|memory| memory.requested),
        ..MemoryStatus::default()
    });
}

/// In the largest unit that leaves a whole number, as Kubernetes writes sizes.
fn size(bytes: u64) -> Quantity {
    let units = [(30, "Gi"), (20, "Mi"), (10, "Ki")];
    let fits = |(shift, _): &(u32, &str)| bytes > 0 && bytes.is_multiple_of(1 << shift);
    let text =
        units.into_iter().find(fits).map(|(shift, unit)| format!("{}{unit}", bytes >> shift));
    Quantity::Text(text.unwrap_or_else(|| bytes.to_string()))
}

fn say_volumes(
    status: &mut VirtualMachineInstanceStatus,
    vmi: &VirtualMachineInstance,
    is: &Account,
) {
    let before = std::mem::take(&mut status.volume_status);
    let known = |name: &str| {
        let known = before.iter().find(|one| one.name == name).cloned();
        known.unwrap_or_else(|| VolumeStatus { name: name.to_owned(), ..VolumeStatus::default() })
    };
    let mut told = Vec::new();
    for volume in &vmi.spec.volumes {
        let mut one = known(&volume.name);
        if let Some(claim) = is.claims.get(&volume.name) {
            one.persistent_volume_claim_info = Some(claim.clone());
        }
        let disk = is.present.disk(&volume.name).filter(|disk| disk.source.is_some());
        one.target = disk.map(|disk| disk.target.clone()).unwrap_or_default();
        if volume.is_hotpluggable() {
            of_hotplugged(&mut one, disk, is);
        }
        told.push(one);
    }
    let goes = |disk: &&PresentDisk| {
        let is_there = disk.source.is_some() && disk.may_go;
        is_there && vmi.spec.volumes.iter().all(|volume| volume.name != disk.name)
    };
    for disk in is.present.disks.iter().filter(goes) {
        let mut one = known(&disk.name);
        one.target.clone_from(&disk.target);
        one.hotplug_volume.get_or_insert_default();
        detaching(&mut one, is);
        told.push(one);
    }
    // As upstream, which sorts them.
    told.sort_by(|one, two| one.name.cmp(&two.name));
    status.volume_status = told;
}

fn of_hotplugged(one: &mut VolumeStatus, disk: Option<&PresentDisk>, is: &Account) {
    one.hotplug_volume.get_or_insert_default();
    match (disk, is.troubles.get(&one.name)) {
        // What it has is to give way to another.
        (Some(_), _) if is.left.contains(&one.name) => detaching(one, is),
        (Some(_), _) => {
            let message = format!("Successfully attach hotplugged volume {} to VM", one.name);
            enter(one, "Ready", "VolumeReady", message);
        }
        (None, Some(trouble)) => enter(one, "Pending", trouble.reason, trouble.message.clone()),
        (None, None) => enter(one, "Bound", "PVCNotReady", "PVC is in phase Bound".to_owned()),
    }
}

fn detaching(one: &mut VolumeStatus, is: &Account) {
    let waits = "the guest has not let go of the disk yet: unmount it there";
    let trouble = is.troubles.get(&one.name);
    let reason = trouble.map_or("DeviceInUse", |trouble| trouble.reason);
    let message = trouble.map_or_else(|| waits.to_owned(), |trouble| trouble.message.clone());
    enter(one, "Detaching", reason, message);
}

fn enter(one: &mut VolumeStatus, phase: &str, reason: &str, message: String) {
    one.phase = Some(phase.to_owned());
    one.reason = Some(reason.to_owned());
    one.message = Some(message);
}
