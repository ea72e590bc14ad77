//! What of a changed template takes effect in an instance that runs, as KubeVirt's
//! `LiveUpdate` and declarative hotplug have it; pure.
//!
//! ```text
//!  the template of a VM ──┐
//!                         ├─ updated ──► the instance's spec ──► its agent, which compares
//!  its instance's spec ───┘     │                                that with the domain
//!                               └─ still another than the template's: RestartRequired
//! ```
//!
//! The instance's spec says what its guest is to have now. It is written here, from the
//! template, and by whoever adds a volume to the instance alone; that one the instance
//! names in an annotation, so that it is not taken for one that the template has lost.

mod sizes;

use std::collections::BTreeSet;

use crds::annotations::EPHEMERAL_VOLUMES;
use crds::kubevirt::{
    Disk, DiskBus, InstancePhase, Interface, VirtualMachine, VirtualMachineInstance,
    VirtualMachineInstanceSpec, Volume,
};
use kube::ResourceExt as _;

pub use sizes::complete;

use crate::decide::{Decision, Inscription};
use crate::objects::instance_spec;
use crate::placement::Amount;
use crate::world::World;
use crate::{machine, migration};

/// When what a template has come to say reaches a guest that runs (KubeVirt's
/// `vmRolloutStrategy`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum Rollout {
    /// At once, as far as that can be.
    #[default]
    LiveUpdate,
    /// With its next start.
    Stage,
}

/// Has the instance of a VM ask for what the template has come to ask for, as far as that can
/// be while it runs. One that moves is left as it is until it has, and none takes more of its
/// node than that has left.
pub fn judge(world: &mut World, decision: &mut Decision) {
    let Some(vm) = world.machines.get(&decision.vm).cloned() else { return };
    let Some(instance) = world.instances.get(&decision.vm).cloned() else { return };
    let runs = instance.phase() == InstancePhase::Running
        && instance.metadata.deletion_timestamp.is_none();
    if !runs || !machine::owns(&vm, &instance) {
        return;
    }
    // With its instancetype and preference; what these are may not be known now.
    let Ok(vm) = world.effective(&vm) else { return };
    if world.rollout == Rollout::Stage {
        decision.withheld = (!is_as(&instance, &vm, instance.spec.clone())).then_some(STAGED);
        return;
    }
    let mut spec = updated(&instance, &vm);
    let takes = Amount::of_guest(&spec.domain);
    let more = takes.without(Amount::of_guest(&instance.spec.domain));
    let node = migration::chassis(&instance).0.unwrap_or_default();
    if !world.has_room(node, more) {
        sizes::withhold(&mut spec.domain, &instance.spec.domain);
        decision.withheld = Some(NO_ROOM);
        world.wait_for_room(decision.vm.clone());
    }
    let is_steady = instance.migration().is_none() && decision.inscription.is_none();
    if is_steady && spec != instance.spec {
        if decision.withheld.is_none() {
            world.expect_more(node, more);
        }
        let mut want = VirtualMachineInstance::clone(&instance);
        want.spec = spec;
        decision.inscription = Some(Inscription::Updated(Box::new(want)));
    }
}

/// The spec that `instance` should have for as long as it runs.
#[must_use]
pub fn updated(
    instance: &VirtualMachineInstance,
    vm: &VirtualMachine,
) -> VirtualMachineInstanceSpec {
    let template = instance_spec(vm);
    let mut spec = instance.spec.clone();
    update_volumes(&mut spec, &template, &ephemeral(instance));
    let memory = instance.status.as_ref().and_then(|status| status.memory.as_ref());
    let start = memory.and_then(|memory| memory.guest_at_boot.as_ref()?.units().ok());
    sizes::update(&mut spec.domain, &template.domain, start);
    update_links(&mut spec, &template);
    spec
}

/// What the VM says while its node has no room for what the template asks for.
pub const NO_ROOM: &str = "the node has no room for the memory or the CPU sockets of the template \
    spec: they come once it has, or with a restart elsewhere";

/// What the VM says while a changed template waits for a restart.
pub const STAGED: &str = "the template spec was changed, and changes come with a restart \
    (--vm-rollout-strategy=Stage)";

/// What the VM says while the guest lacks something of the template: why, if that is known.
#[must_use]
pub fn restart_message(instance: &VirtualMachineInstance, vm: &VirtualMachine) -> &'static str {
    let known = sizes::restart_message(&instance.spec.domain, &instance_spec(vm).domain);
    known.unwrap_or("a non-live-updatable field was changed in the template spec")
}

/// The state of an interface that is there: in, out, or absent for good.
fn update_links(spec: &mut VirtualMachineInstanceSpec, template: &VirtualMachineInstanceSpec) {
    let is_absent = |one: &Interface| one.state.as_deref() == Some("absent");
    for interface in &mut spec.domain.devices.interfaces {
        let wanted = template.domain.devices.interfaces.iter();
        let wanted = wanted.clone().find(|one| one.name == interface.name);
        // What has been taken out comes back at the next start.
        if let Some(wanted) = wanted.filter(|_| !is_absent(interface)) {
            interface.state.clone_from(&wanted.state);
        }
    }
}

/// Whether the guest has, or is about to have, what the template asks for.
#[must_use]
pub fn is_met(instance: &VirtualMachineInstance, vm: &VirtualMachine) -> bool {
    is_as(instance, vm, updated(instance, vm))
}

/// Whether an instance with this spec is as the template has it, but for what it has for itself.
fn is_as(
    instance: &VirtualMachineInstance,
    vm: &VirtualMachine,
    mut spec: VirtualMachineInstanceSpec,
) -> bool {
    let template = instance_spec(vm);
    let alone = ephemeral(instance);
    let is_alone = |name: &str| {
        alone.contains(name) && template.volumes.iter().all(|volume| volume.name != name)
    };
    spec.volumes.retain(|volume| !is_alone(&volume.name));
    spec.domain.devices.disks.retain(|disk| !is_alone(&disk.name));
    sizes::level(&mut spec.domain, &template.domain, &vm.spec.template.spec.domain);
    // How it began says nothing of what it has.
    spec.start_strategy.clone_from(&template.start_strategy);
    in_order(spec) == in_order(template)
}

/// The volumes that an instance has for itself, whatever the template says.
#[must_use]
pub fn ephemeral(instance: &VirtualMachineInstance) -> BTreeSet<&str> {
    let list = instance.annotations().get(EPHEMERAL_VOLUMES);
    let names = list.into_iter().flat_map(|list| list.split(','));
    names.map(str::trim).filter(|name| !name.is_empty()).collect()
}

fn update_volumes(
    spec: &mut VirtualMachineInstanceSpec,
    template: &VirtualMachineInstanceSpec,
    alone: &BTreeSet<&str>,
) {
    let of = |disks: &[Disk], name: &str| disks.iter().find(|disk| disk.name == name).cloned();
    // Nothing goes that could not: a guest does not lose what its template still has because
    // that is written otherwise now, nor what no bus lets go.
    let goes = |volume: &Volume| {
        let leaves = of(&spec.domain.devices.disks, &volume.name);
        let leaves = leaves.is_none_or(|disk| can_come(&disk) || disk.cdrom.is_some());
        let stays = template.volumes.iter().find(|one| one.name == volume.name);
        let replaced = stays.is_none_or(|other| {
            let comes = of(&template.domain.devices.disks, &other.name);
            let comes = comes.is_some_and(|disk| can_come(&disk) || disk.cdrom.is_some());
            other != volume && other.is_hotpluggable() && comes
        });
        volume.is_hotpluggable() && !alone.contains(volume.name.as_str()) && leaves && replaced
    };
    let names: BTreeSet<String> =
        spec.volumes.iter().filter(|one| goes(one)).map(|one| one.name.clone()).collect();
    let goes: Vec<Volume> =
        spec.volumes.extract_if(.., |volume| names.contains(&volume.name)).collect();
    let wanted = &template.domain.devices.disks;
    let disks = &mut spec.domain.devices.disks;
    // A drive stays when its medium goes.
    disks.retain(|disk| {
        let goes = goes.iter().any(|volume| volume.name == disk.name);
        !goes || (disk.cdrom.is_some() && wanted.contains(disk))
    });
    for volume in template.volumes.iter().filter(|volume| volume.is_hotpluggable()) {
        if spec.volumes.iter().any(|one| one.name == volume.name) {
            continue;
        }
        let is_it = |disk: &&Disk| disk.name == volume.name;
        let (has, wants) = (disks.iter().find(is_it), wanted.iter().find(is_it));
        match (has, wants) {
            (None, Some(disk)) if can_come(disk) => disks.push(disk.clone()),
            (Some(has), Some(wants)) if has == wants && has.cdrom.is_some() => {}
            _ => continue,
        }
        spec.volumes.push(volume.clone());
    }
}

/// Whether a guest can be given the disk while it runs: not on a bus that nothing can be
/// plugged into.
fn can_come(disk: &Disk) -> bool {
    let device = disk.disk.as_ref().or(disk.lun.as_ref());
    let bus = device.and_then(|device| device.bus);
    let default = disk.lun.is_some().then_some(DiskBus::Scsi);
    matches!(bus.or(default), Some(DiskBus::Scsi | DiskBus::Virtio)) && disk.cdrom.is_none()
}

/// The spec with what comes and goes behind all else, by name: when it came says nothing.
fn in_order(mut spec: VirtualMachineInstanceSpec) -> VirtualMachineInstanceSpec {
    let comes = |volume: &&Volume| volume.is_hotpluggable();
    let names: BTreeSet<String> =
        spec.volumes.iter().filter(comes).map(|volume| volume.name.clone()).collect();
    let place = |name: &String| names.contains(name).then(|| name.clone());
    spec.volumes.sort_by_key(|volume| place(&volume.name));
    spec.domain.devices.disks.sort_by_key(|disk| place(&disk.name));
    spec
}

#[cfg(test)]
mod tests;
