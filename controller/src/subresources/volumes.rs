//! `addvolume` and `removevolume`: from what is asked and what is there to what is to be written.
//! Pure; upstream's `pkg/virt-api/rest/volumes.go` is the model, word by word where scripts go
//! by it.
//!
//! Of a machine the template is changed, and the instance follows ([`crate::live`]). Of an instance
//! its own spec is, and if it has a machine an annotation says that the volume is its alone: it goes with
//! the instance.

use std::collections::BTreeSet;

use crds::annotations::EPHEMERAL_VOLUMES;
use crds::kubevirt::{
    ClaimSource, DataVolumeSource, Disk, DiskBus, InstancePhase, VirtualMachine,
    VirtualMachineInstance, VirtualMachineInstanceSpec, Volume,
};
use kube::ResourceExt as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::machine::Plan;
use super::refusal::{Kind, Refusal};
use crate::live;

/// The most volumes that a machine has (KubeVirt's `arrayLenMax`).
const MOST: usize = 256;

/// The body of either request.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct VolumeOptions {
    name: String,
    /// It may leave its name out: the volume's is.
    disk: Option<Value>,
    volume_source: Option<Source>,
    dry_run: Option<Vec<String>>,
}

/// What a volume lies on: one of these.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Source {
    persistent_volume_claim: Option<ClaimSource>,
    data_volume: Option<DataVolumeSource>,
}

/// Changes the volumes of a spec.
pub(super) type Decide = fn(&mut VirtualMachineInstanceSpec, &VolumeOptions) -> Result<(), Problem>;

/// Why a spec is not changed.
#[derive(Debug)]
pub(super) enum Problem {
    /// By what is asked.
    Asked(String),
    /// By what is there.
    There(String),
}

impl Problem {
    fn of(self, kind: Kind, name: &str) -> Refusal {
        match self {
            Self::Asked(why) => Refusal::bad_request(why),
            Self::There(why) => Refusal::conflict(kind, name, &why),
        }
    }
}

impl VolumeOptions {
    /// # Errors
    /// When the body is no such thing.
    pub(super) fn read(body: &[u8]) -> Result<Self, Refusal> {
        if body.iter().all(u8::is_ascii_whitespace) {
            let why = "Request with no body, a new name is expected as the request body";
            return Err(Refusal::bad_request(why));
        }
        serde_json::from_slice(body).map_err(|error| {
            Refusal::bad_request(format!(
                "Can not unmarshal Request body to struct, error: {error}"
            ))
        })
    }

    /// Whether nothing is to be kept of what is asked for.
    pub(super) fn is_dry_run(&self) -> bool {
        self.dry_run.iter().flatten().any(|word| word == "All")
    }

    /// The disk and the volume that are asked for.
    fn wanted(&self) -> Result<(Disk, Volume), String> {
        let name = &self.name;
        let requires = |what: &str| Err(format!("AddVolumeOptions requires {what}"));
        let (disk, source) = match (&self.disk, &self.volume_source) {
            _ if name.is_empty() => return requires("name to be set"),
            (None, _) => return requires("disk to not be nil"),
            (_, None) => return requires("VolumeSource to not be nil"),
            (Some(disk), _) if !disk.is_object() => return requires("disk to be an object"),
            (Some(disk), Some(source)) => (disk, source),
        };
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.len() > 63
            || !name.chars().all(plain)
            || name.starts_with('-')
            || name.ends_with('-')
        {
            return Err(format!(
                "AddVolumeOptions name {:?} does not conform to the kubernetes DNS_LABEL rules",
                net::shown(name)
            ));
        }
        let mut disk = disk.clone();
        disk["name"] = json!(name);
        let disk: Disk = serde_json::from_value(disk).map_err(|error| {
            format!("Can not unmarshal Request body to struct, error: disk: {error}")
        })?;
        check_disk(&disk)?;
        let mut volume = Volume { name: name.clone(), ..Volume::default() };
        match (&source.persistent_volume_claim, &source.data_volume) {
            (Some(claim), None) => {
                let hotpluggable = Some(true);
                volume.persistent_volume_claim =
                    Some(ClaimSource { hotpluggable, ..claim.clone() });
            }
            (None, Some(filled)) => {
                let hotpluggable = Some(true);
                volume.data_volume = Some(DataVolumeSource { hotpluggable, ..filled.clone() });
            }
            _ => return Err(format!("volume {name} must have exactly one source type set")),
        }
        Ok((disk, volume))
    }
}

/// What of disks can come while a guest runs (`ValidateHotplugDiskConfiguration`).
fn check_disk(disk: &Disk) -> Result<(), String> {
    let name = &disk.name;
    let refused = |why: &str| Err(format!("AddVolume request for [{name}] {why}"));
    let (device, default, buses) = match (&disk.disk, &disk.lun, &disk.cdrom) {
        (Some(device), None, None) => (device, DiskBus::Sata, "'scsi' or 'virtio'"),
        (None, Some(device), None) => (device, DiskBus::Scsi, "'scsi'"),
        _ => return refused("requires diskDevice of type 'disk' or 'lun' to be used."),
    };
    let word = match device.bus.unwrap_or(default) {
        DiskBus::Virtio => "virtio",
        DiskBus::Scsi => "scsi",
        DiskBus::Sata => "sata",
        DiskBus::Usb => "usb",
    };
    if !buses.contains(word) {
        return refused(&format!("requires bus to be {buses}. [{word}] is not permitted"));
    }
    if disk.dedicated_io_thread == Some(true) && word != "virtio" {
        return refused(&format!("requires virtio bus for IOThreads. [{word}] is not permitted"));
    }
    Ok(())
}

/// Adds what is asked for.
pub(super) fn add(
    spec: &mut VirtualMachineInstanceSpec,
    options: &VolumeOptions,
) -> Result<(), Problem> {
    let (disk, volume) = options.wanted().map_err(Problem::Asked)?;
    let there = |why: String| Err(Problem::There(why));
    let claim = volume.claim().map(|(claim, _)| claim);
    for one in &spec.volumes {
        if one.name == volume.name {
            return there(format!(
                "Unable to add volume [{}] because volume with that name already exists",
                one.name
            ));
        }
        let lies_there = one.ephemeral.is_none() && one.claim().map(|(claim, _)| claim) == claim;
        if let Some(claim) = claim.filter(|_| lies_there) {
            return there(format!(
                "Unable to add volume source [{claim}] because it already exists"
            ));
        }
    }
    let disks = &mut spec.domain.devices.disks;
    if disks.iter().any(|one| one.name == disk.name) {
        return there(format!(
            "Unable to add volume [{}] because disk with that name already exists",
            disk.name
        ));
    }
    if spec.volumes.len() >= MOST {
        return there(format!("spec.volumes list exceeds the {MOST} element limit in length"));
    }
    disks.push(disk);
    spec.volumes.push(volume);
    Ok(())
}

/// Removes the volume of this name, or the one that lies on the claim of this name, and its disk.
pub(super) fn remove(
    spec: &mut VirtualMachineInstanceSpec,
    options: &VolumeOptions,
) -> Result<(), Problem> {
    let name = &options.name;
    if name.is_empty() {
        return Err(Problem::Asked("RemoveVolumeOptions requires name to be set".to_owned()));
    }
    let found = spec.volumes.iter().position(|one| is_called(one, name)).ok_or_else(|| {
        Problem::There(format!("Unable to remove volume [{name}] because it does not exist"))
    })?;
    if !spec.volumes[found].is_hotpluggable() {
        return Err(Problem::There(format!(
            "Unable to remove volume [{}] because it is not hotpluggable",
            spec.volumes[found].name
        )));
    }
    let gone = spec.volumes.remove(found);
    // A drive stays without its medium.
    spec.domain.devices.disks.retain(|disk| disk.name != gone.name || disk.cdrom.is_some());
    Ok(())
}

fn is_called(volume: &Volume, name: &str) -> bool {
    let lies_there =
        || volume.ephemeral.is_none() && volume.claim().is_some_and(|(one, _)| one == name);
    volume.name == name || lies_there()
}

/// What is to be written of a machine.
///
/// # Errors
/// In upstream's words.
pub(super) fn of_machine(
    vm: &VirtualMachine,
    options: &VolumeOptions,
    decide: Decide,
) -> Result<Plan, Refusal> {
    let mut spec = vm.spec.template.spec.clone();
    decide(&mut spec, options).map_err(|problem| problem.of(Kind::Machine, &vm.name_any()))?;
    let patch = json!({
        "metadata": { "resourceVersion": vm.resource_version() },
        "spec": { "template": { "spec": lists(&spec) } },
    });
    Ok(Plan { spec: Some(patch), ..Plan::default() })
}

/// What is to be written of an instance.
///
/// # Errors
/// In upstream's words; and where its VM's template has the volume, which would bring it back.
pub(super) fn of_instance(
    instance: &VirtualMachineInstance,
    options: &VolumeOptions,
    decide: Decide,
) -> Result<Plan, Refusal> {
    let name = instance.name_any();
    if instance.phase() != InstancePhase::Running {
        return Err(Refusal::conflict(Kind::Instance, &name, "VMI is not running"));
    }
    let mut spec = instance.spec.clone();
    decide(&mut spec, options).map_err(|problem| problem.of(Kind::Instance, &name))?;
    let of = |spec: &VirtualMachineInstanceSpec| {
        spec.volumes.iter().map(|volume| volume.name.clone()).collect::<BTreeSet<_>>()
    };
    let (before, after) = (of(&instance.spec), of(&spec));
    let has_machine = instance.owner_references().iter().any(|one| one.kind == "VirtualMachine");
    let mut alone = live::ephemeral(instance);
    if let Some(gone) =
        before.difference(&after).find(|one| has_machine && !alone.contains(one.as_str()))
    {
        let why = format!(
            "Unable to remove volume [{gone}] because it is of the VM: remove it there (--persist)"
        );
        return Err(Refusal::conflict(Kind::Instance, &name, &why));
    }
    if has_machine {
        alone.extend(after.difference(&before).map(String::as_str));
    }
    alone.retain(|one| after.contains(*one));
    let list: Vec<&str> = alone.into_iter().collect();
    let note = if list.is_empty() { Value::Null } else { json!(list.join(",")) };
    let patch = json!({
        "metadata": {
            "resourceVersion": instance.resource_version(),
            "annotations": { EPHEMERAL_VOLUMES: note },
        },
        "spec": lists(&spec),
    });
    Ok(Plan { instance: Some(patch), ..Plan::default() })
}

/// A merge replaces lists whole.
fn lists(spec: &VirtualMachineInstanceSpec) -> Value {
    json!({
        "volumes": spec.volumes,
        "domain": { "devices": { "disks": spec.domain.devices.disks } },
    })
}

#[cfg(test)]
mod tests;
