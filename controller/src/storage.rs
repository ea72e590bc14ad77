//! What the disks of VMs lie on: claims, their volumes, and the DataVolumes that fill them.
//! What keeps a start waiting, in KubeVirt's words, and on which nodes it can be. Pure.
//!
//! ```text
//!  the claim is not there        ErrorPvcNotFound
//!  its DataVolume fills it       Provisioning, or DataVolumeError
//!  it has no volume              WaitingForVolumeBinding
//!  its volume is of some nodes   the start goes to one of these
//! ```
//!
//! Whoever waits is looked at again when something becomes known of its claim. What an
//! instance lies on is written on it when it is made: its agent goes by that.

use std::collections::{BTreeMap, BTreeSet};

use crds::cdi::DataVolume;
use crds::kubevirt::{ClaimInfo, ConditionStatus, Quantity, Volume, VolumeStatus};
use k8s_openapi::api::core::v1::{Node, NodeSelectorTerm, PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt as _;

use crate::ledger::VmKey;
use crate::machine::{
    DATA_VOLUME_FAILED, DATA_VOLUMES_NOT_READY, FAILED_PVC_NOT_FOUND, Trouble,
    WAITING_FOR_VOLUME_BINDING,
};
use crate::placement::nodes::meets;
use crate::shelf::{Seen, Shelf};
use crate::world::vm_key_of;

/// Something that a watch saw.
#[derive(Clone, Debug)]
pub enum News {
    /// Of a PersistentVolumeClaim.
    Claim(Seen<PersistentVolumeClaim>),
    /// Of a PersistentVolume.
    Volume(Seen<PersistentVolume>),
    /// Of a DataVolume.
    DataVolume(Seen<DataVolume>),
    /// The API serves no DataVolumes.
    NoDataVolumes,
}

/// All that is known.
#[derive(Debug, Default)]
pub struct Storage {
    claims: Shelf<VmKey, PersistentVolumeClaim>,
    volumes: Shelf<String, PersistentVolume>,
    data_volumes: Shelf<VmKey, DataVolume>,
    no_data_volumes: bool,
    /// VMs by the claim that they wait for.
    waiting: BTreeMap<VmKey, BTreeSet<VmKey>>,
}

/// What the disks of one VM lie on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ground {
    /// What its instance says of those that lie on claims.
    pub status: Vec<VolumeStatus>,
    /// Volumes that are of some nodes only, and the terms of which these meet one.
    bound: Vec<(String, Vec<NodeSelectorTerm>)>,
}

impl Ground {
    /// Why `node` does not do, if it does not.
    #[must_use]
    pub fn refusal(&self, node: &Node) -> Option<String> {
        let unmet = self.bound.iter().find(|(_, terms)| !terms.iter().any(|one| meets(node, one)));
        unmet.map(|(volume, _)| {
            format!(
                "volume node affinity conflict: persistentvolume {volume:?} is not of this node"
            )
        })
    }
}

impl Storage {
    /// Whether it is known what there is.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.claims.is_synced()
            && self.volumes.is_synced()
            && (self.no_data_volumes || self.data_volumes.is_synced())
    }

    /// Takes in what a watch saw; returns who waited for it.
    pub fn apply(&mut self, news: News) -> BTreeSet<VmKey> {
        let about: Vec<VmKey> = match news {
            News::Claim(seen) => {
                let changes = self.claims.apply(seen, vm_key_of);
                changes.into_iter().map(|(key, ..)| key).collect()
            }
            News::DataVolume(seen) => {
                self.no_data_volumes = false;
                let changes = self.data_volumes.apply(seen, vm_key_of);
                changes.into_iter().map(|(key, ..)| key).collect()
            }
            News::Volume(seen) => {
                let named = |meta: &kube::api::ObjectMeta| meta.name.clone().unwrap_or_default();
                let changes = self.volumes.apply(seen, named);
                let ends = changes.into_iter().flat_map(|(_, old, new)| [old, new]);
                ends.flatten().filter_map(|volume| claim_of(&volume)).collect()
            }
            News::NoDataVolumes => {
                self.no_data_volumes = !self.data_volumes.is_synced();
                Vec::new()
            }
        };
        about.iter().flat_map(|key| self.waiting.remove(key).unwrap_or_default()).collect()
    }

    /// What the volumes of `vm` lie on.
    ///
    /// # Errors
    /// What keeps it from a start. It is looked at again when that changes.
    pub fn ground(&mut self, vm: &VmKey, volumes: &[Volume]) -> Result<Ground, Trouble> {
        let ground = self.look(&vm.namespace, volumes);
        ground.map_err(|(claim, trouble)| {
            self.waiting.entry(claim).or_default().insert(vm.clone());
            trouble
        })
    }

    /// The same of one that has started, as far as it is known: nobody waits.
    #[must_use]
    pub fn ground_of_started(&self, namespace: &str, volumes: &[Volume]) -> Ground {
        self.look(namespace, volumes).unwrap_or_default()
    }

    /// The labels of a claim, if it is there.
    #[must_use]
    pub fn claim_labels(&self, claim: &VmKey) -> Option<&BTreeMap<String, String>> {
        self.claims.get(claim).map(|claim| claim.labels())
    }

    /// The labels of a DataVolume and what it says that fills it, if it is there.
    #[must_use]
    pub fn data_volume(
        &self,
        name: &VmKey,
    ) -> Option<(&BTreeMap<String, String>, serde_json::Value)> {
        let found = self.data_volumes.get(name)?;
        Some((found.labels(), serde_json::json!(found.spec)))
    }

    fn look(&self, namespace: &str, volumes: &[Volume]) -> Result<Ground, (VmKey, Trouble)> {
        let mut ground = Ground::default();
        for volume in volumes {
            // That a name is missing the agent says, with the field.
            let Some((name, filled)) = volume.claim().filter(|(name, _)| !name.is_empty()) else {
                continue;
            };
            let key = VmKey { namespace: namespace.to_owned(), name: name.to_owned() };
            let told = |reason, message| (key.clone(), Trouble { reason, message });
            if filled && let Some(data_volume) = self.data_volumes.get(&key) {
                filling(data_volume).map_err(|(reason, message)| told(reason, message))?;
            }
            let claim = self.claims.get(&key).ok_or_else(|| {
                let message = format!("failed to render launch manifest: didn't find PVC {name}");
                told(FAILED_PVC_NOT_FOUND, message)
            })?;
            let bound = bound(claim).and_then(|bound| self.volumes.get(&bound.to_owned()));
            let Some(bound) = bound else {
                let message =
                    format!("persistentvolumeclaim {name:?} is not bound to a persistent volume");
                return Err(told(WAITING_FOR_VOLUME_BINDING, message));
            };
            ground.bound.extend(terms(bound).map(|terms| (bound.name_any(), terms)));
            ground.status.push(VolumeStatus {
                name: volume.name.clone(),
                persistent_volume_claim_info: Some(info(claim)),
                ..VolumeStatus::default()
            });
        }
        Ok(ground)
    }
}

/// The claim that a volume is for.
fn claim_of(volume: &PersistentVolume) -> Option<VmKey> {
    let reference = volume.spec.as_ref()?.claim_ref.as_ref()?;
    let (namespace, name) = (reference.namespace.clone()?, reference.name.clone()?);
    Some(VmKey { namespace, name })
}

/// The volume of a claim that has one for good.
fn bound(claim: &PersistentVolumeClaim) -> Option<&str> {
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    let name = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
    name.filter(|name| !name.is_empty() && phase == Some("Bound"))
}

/// Why a DataVolume is not filled yet: a reason and a message.
fn filling(data_volume: &DataVolume) -> Result<(), (&'static str, String)> {
    let name = data_volume.name_any();
    let status = data_volume.status.clone().unwrap_or_default();
    let failed = status.conditions.iter().find(|one| {
        one.r#type == "Running"
            && one.status == ConditionStatus::False
            && one.reason.as_deref() == Some("Error")
    });
    match status.phase.as_str() {
        "Succeeded" => Ok(()),
        "Failed" => Err((DATA_VOLUME_FAILED, format!("DataVolume {name} has failed"))),
        _ if failed.is_some() => {
            let why = failed.and_then(|one| one.message.clone()).unwrap_or_default();
            Err((DATA_VOLUME_FAILED, format!("DataVolume {name} has an error: {why}")))
        }
        "WaitForFirstConsumer" | "PendingPopulation" => {
            let message = format!(
                "DataVolume {name} waits for a pod that uses it, and a VM has none: give it the \
                 annotation cdi.kubevirt.io/storage.bind.immediate.requested: \"true\""
            );
            Err((WAITING_FOR_VOLUME_BINDING, message))
        }
        "" => Err((DATA_VOLUMES_NOT_READY, format!("DataVolume {name} is not looked at yet"))),
        phase => Err((DATA_VOLUMES_NOT_READY, format!("DataVolume {name} is {phase}"))),
    }
}

fn info(claim: &PersistentVolumeClaim) -> ClaimInfo {
    let spec = claim.spec.clone().unwrap_or_default();
    let status = claim.status.clone().unwrap_or_default();
    let capacity = status.capacity.unwrap_or_default().into_iter();
    ClaimInfo {
        claim_name: claim.metadata.name.clone(),
        access_modes: spec.access_modes.unwrap_or_default(),
        volume_mode: spec.volume_mode,
        capacity: capacity.map(|(name, amount)| (name, Quantity::Text(amount.0))).collect(),
        ..ClaimInfo::default()
    }
}

/// The terms of which a node must meet one; none if any node does.
fn terms(volume: &PersistentVolume) -> Option<Vec<NodeSelectorTerm>> {
    let affinity = volume.spec.as_ref()?.node_affinity.as_ref()?;
    Some(affinity.required.as_ref()?.node_selector_terms.clone())
}

#[cfg(test)]
mod tests;
