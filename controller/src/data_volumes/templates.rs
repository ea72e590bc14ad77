//! The DataVolumes that come with VMs. They are made at once, be their VM to start or not, and
//! go with it, as its owner references have it.

use std::collections::BTreeMap;

use crds::cdi::DataVolume;
use crds::kubevirt::{DataVolumeTemplate, VirtualMachine};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource as _, ResourceExt as _};

use super::Write;
use super::known::Known;
use crate::ledger::VmKey;
use crate::shelf::Seen;
use crate::warning::Warning;
use crate::world::vm_key_of;

/// By which a VM has its DataVolumes made when it first starts only (KubeVirt's).
const IMMEDIATE: &str = "kubevirt.io/immediate-data-volume-creation";
/// By which a DataVolume says for which VM it was made (KubeVirt's).
const CREATED_BY: &str = "kubevirt.io/created-by";

/// Those of the VMs that have templates; of the others nothing is kept.
#[derive(Debug, Default)]
pub(super) struct Machines {
    all: BTreeMap<VmKey, Machine>,
    synced: bool,
}

#[derive(Clone, Debug)]
struct Machine {
    about: ObjectReference,
    owner: k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference,
    templates: Vec<DataVolumeTemplate>,
}

impl Machines {
    pub(super) const fn is_synced(&self) -> bool {
        self.synced
    }

    /// Whether it was news.
    pub(super) fn apply(&mut self, seen: &Seen<VirtualMachine>) -> bool {
        match seen {
            Seen::All { objects, unreadable } => {
                let (synced, before) = (self.synced, std::mem::take(&mut self.all));
                self.synced = true;
                // What cannot be read now is as it was.
                let unclear = unreadable.iter().map(vm_key_of);
                self.all.extend(unclear.filter_map(|key| before.get_key_value(&key).map(owned)));
                for vm in objects {
                    self.put(vm);
                }
                !synced || !self.all.is_empty()
            }
            Seen::Now(vm) => self.put(vm),
            Seen::Unreadable(_) => false,
            Seen::Gone(meta) => self.all.remove(&vm_key_of(meta)).is_some(),
        }
    }

    fn put(&mut self, vm: &VirtualMachine) -> bool {
        let key = vm_key_of(&vm.metadata);
        let templates = &vm.spec.data_volume_templates;
        let waits = vm.annotations().get(IMMEDIATE).is_some_and(|text| text == "false")
            && !matches!(vm.spec.strategy(), Ok(strategy) if strategy != crds::kubevirt::RunStrategy::Halted);
        let owner = vm.controller_owner_ref(&());
        let is_asked = !templates.is_empty() && vm.metadata.deletion_timestamp.is_none() && !waits;
        match owner.filter(|_| is_asked) {
            Some(owner) => {
                let (about, templates) = (vm.object_ref(&()), templates.clone());
                self.all.insert(key, Machine { about, owner, templates });
                true
            }
            None => self.all.remove(&key).is_some(),
        }
    }
}

fn owned((key, machine): (&VmKey, &Machine)) -> (VmKey, Machine) {
    (key.clone(), machine.clone())
}

/// Those that are not there.
pub(super) fn missing(known: &Known) -> Vec<Write> {
    if known.serves != Some(true) {
        let told = known.machines.all.values().map(|machine| {
            let message = "dataVolumeTemplates cannot be served, since this API serves no \
                 DataVolumes: install CDI, or else manifests/cdi";
            Write::Tell(Warning {
                about: machine.about.clone(),
                reason: "FailedDataVolumeCreate".to_owned(),
                message: message.to_owned(),
            })
        });
        return told.collect();
    }
    let mut writes = Vec::new();
    for (key, machine) in &known.machines.all {
        for template in &machine.templates {
            let name = template.metadata.name.clone();
            let place = VmKey { namespace: key.namespace.clone(), name };
            // Another's serves as well, as upstream: it may have been there before.
            if known.data_volumes.meta(&place).is_none() {
                let made = made(machine, template, key);
                writes.push(Write::DataVolume(Box::new(made), machine.about.clone()));
            }
        }
    }
    writes
}

fn made(machine: &Machine, template: &DataVolumeTemplate, vm: &VmKey) -> DataVolume {
    let metadata = &template.metadata;
    let mut labels = metadata.labels.clone().unwrap_or_default();
    let uid = machine.about.uid.clone().unwrap_or_default();
    labels.insert(CREATED_BY.to_owned(), uid);
    let mut made = DataVolume::new(&metadata.name, template.spec.clone());
    made.metadata = ObjectMeta {
        name: Some(metadata.name.clone()),
        namespace: Some(vm.namespace.clone()),
        labels: Some(labels),
        annotations: metadata.annotations.clone(),
        owner_references: Some(vec![machine.owner.clone()]),
        ..ObjectMeta::default()
    };
    made
}
