//! What the disks of VMs lie on: claims, their volumes, and the DataVolumes that fill them.
//! What keeps a start waiting, in KubeVirt's words, and on which nodes it can be. Pure.
//!
//! ```text
//!  the claim is not there        ErrorPvcNotFound
//!  its DataVolume fills it       Provisioning, or DataVolumeError
//!  it has no volume              WaitingForVolumeBinding
//!  it waits for who uses it      a node is chosen and written on it, then the same
//!  its volume is of some nodes   the start goes to one of these
//! ```
//!
//! Whoever waits is looked at again when something becomes known of its claim. What an
//! instance lies on is written on it when it is made: its agent goes by that.
//!
//! Kubernetes chooses a node for a pod and has volumes made there (`WaitForFirstConsumer`).
//! A VM has no pod, so its place is chosen here, and [`Selection`]s say so on its claims; who
//! makes the volume is asked by the claim, whoever that is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crds::affinity::{meets, terms};
use crds::cdi::notes::{LOCAL_VOLUMES, PROVISIONER, SELECTED_NODE};
use crds::cdi::{DataSource, DataVolume, Importer};
use crds::kubevirt::{ClaimInfo, ConditionStatus, DataVolumeTemplate, Volume, VolumeStatus};
use k8s_openapi::api::core::v1::{Node, NodeSelectorTerm, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt as _;

use crate::ledger::VmKey;
use crate::machine::{
    DATA_VOLUME_FAILED, DATA_VOLUMES_NOT_READY, FAILED_PVC_NOT_FOUND, Trouble,
    WAITING_FOR_VOLUME_BINDING,
};
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
    /// Of a DataSource.
    DataSource(Seen<DataSource>),
    /// The API serves no DataSources.
    NoDataSources,
    /// Of a StorageClass.
    Class(Seen<StorageClass>),
    /// CDI is installed.
    Importer(Seen<Importer>),
    /// CDI is not installed.
    NoImporter,
}

/// All that is known.
#[derive(Debug, Default)]
pub struct Storage {
    claims: Shelf<VmKey, PersistentVolumeClaim>,
    volumes: Shelf<String, PersistentVolume>,
    data_volumes: Shelf<VmKey, DataVolume>,
    no_data_volumes: bool,
    classes: Shelf<String, StorageClass>,
    /// Whether CDI is installed, once that is known.
    has_importer: Option<bool>,
    /// VMs by the claim that they wait for.
    waiting: BTreeMap<VmKey, BTreeSet<VmKey>>,
    /// What is to be written on claims.
    selections: Vec<Selection>,
}

/// The node for which a claim that waits for its first user gets its volume.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Selection {
    /// The claim.
    pub claim: VmKey,
    /// The claim's uid.
    pub uid: String,
    /// The node.
    pub node: String,
}

/// What the disks of one VM lie on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ground {
    /// What its instance says of those that lie on claims.
    pub status: Vec<VolumeStatus>,
    /// Volumes that are of some nodes only, and the terms of which these meet one.
    bound: Vec<(String, Vec<NodeSelectorTerm>)>,
    /// Claims that wait for a node.
    consumed: Vec<Consumed>,
}

/// A claim that gets its volume where its first user is.
#[derive(Clone, Debug, PartialEq)]
struct Consumed {
    claim: VmKey,
    uid: String,
    /// Its volume is made by an agent.
    by_agent: bool,
}

impl Ground {
    /// Why `node` does not do, if it does not.
    #[must_use]
    pub fn refusal(&self, node: &Node) -> Option<String> {
        let makes = node.annotations().contains_key(LOCAL_VOLUMES);
        if !makes && self.consumed.iter().any(|one| one.by_agent) {
            let why =
                "it makes no volumes: start its agent with --local-volume-dir and a directory";
            return Some(why.to_owned());
        }
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
            && self.classes.is_synced()
            && self.has_importer.is_some()
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
            // What is made of them is.
            News::DataSource(_) | News::NoDataSources => Vec::new(),
            News::Class(seen) => {
                let named = |meta: &kube::api::ObjectMeta| meta.name.clone().unwrap_or_default();
                self.classes.apply(seen, named);
                self.waiting.keys().cloned().collect()
            }
            News::Importer(_) => {
                self.has_importer = Some(true);
                Vec::new()
            }
            News::NoImporter => {
                self.has_importer = Some(false);
                Vec::new()
            }
        };
        about.iter().flat_map(|key| self.waiting.remove(key).unwrap_or_default()).collect()
    }

    /// What the volumes of `vm` lie on, of which those DataVolumes come with it.
    ///
    /// # Errors
    /// What keeps it from a start. It is looked at again when that changes.
    pub fn ground(
        &mut self,
        vm: &VmKey,
        volumes: &[Volume],
        templates: &[DataVolumeTemplate],
    ) -> Result<Ground, Trouble> {
        let ground = self.look(&vm.namespace, volumes, templates);
        ground.map_err(|(claim, trouble)| {
            self.waiting.entry(claim).or_default().insert(vm.clone());
            trouble
        })
    }

    /// The same of one that has started, as far as it is known: nobody waits.
    #[must_use]
    pub fn ground_of_started(&self, namespace: &str, volumes: &[Volume]) -> Ground {
        self.look(namespace, volumes, &[]).unwrap_or_default()
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

    /// What a VM that is not to start says of the DataVolumes that come with it.
    pub fn filling(
        &mut self,
        vm: &VmKey,
        volumes: &[Volume],
        templates: &[DataVolumeTemplate],
    ) -> Option<Trouble> {
        if templates.is_empty() {
            return None;
        }
        let trouble = self.ground(vm, volumes, templates).err()?;
        matches!(trouble.reason, DATA_VOLUMES_NOT_READY | DATA_VOLUME_FAILED).then_some(trouble)
    }

    /// Has the claims that wait for it get their volumes on this node.
    ///
    /// # Errors
    /// There are such claims, for which `vm` waits.
    pub fn select(&mut self, vm: &VmKey, ground: &Ground, node: &str) -> Result<(), Trouble> {
        for one in &ground.consumed {
            self.waiting.entry(one.claim.clone()).or_default().insert(vm.clone());
            let (claim, uid, node) = (one.claim.clone(), one.uid.clone(), node.to_owned());
            self.selections.push(Selection { claim, uid, node });
        }
        match ground.consumed.first() {
            Some(one) => Err(Trouble {
                reason: WAITING_FOR_VOLUME_BINDING,
                message: being_made(&one.claim.name, node),
            }),
            None => Ok(()),
        }
    }

    /// What is to be written on claims since this was last asked for.
    pub fn take_selections(&mut self) -> Vec<Selection> {
        std::mem::take(&mut self.selections)
    }

    fn look(
        &self,
        namespace: &str,
        volumes: &[Volume],
        templates: &[DataVolumeTemplate],
    ) -> Result<Ground, (VmKey, Trouble)> {
        let mut ground = Ground::default();
        for volume in volumes {
            // That a name is missing the agent says, with the field.
            let Some((name, filled)) = volume.claim().filter(|(name, _)| !name.is_empty()) else {
                continue;
            };
            let key = VmKey { namespace: namespace.to_owned(), name: name.to_owned() };
            let seen = self.stand(&key, filled, templates);
            let stand =
                seen.map_err(|(reason, message)| (key.clone(), Trouble { reason, message }))?;
            match stand {
                Stand::Bound(claim, bound) => {
                    ground.bound.extend(terms(bound).map(|terms| (bound.name_any(), terms)));
                    ground.status.push(VolumeStatus {
                        name: volume.name.clone(),
                        persistent_volume_claim_info: Some(ClaimInfo::from(claim)),
                        ..VolumeStatus::default()
                    });
                }
                Stand::Consumed(consumed) => {
                    // What it is a copy of must be there, too.
                    let copied = self.copied(&key).and_then(|copied| self.volume_of(copied));
                    let bound = copied.and_then(|one| Some((one.name_any(), terms(one)?)));
                    ground.bound.extend(bound);
                    ground.consumed.push(consumed);
                }
            }
        }
        Ok(ground)
    }

    /// How it stands with a claim that a disk lies on.
    fn stand(
        &self,
        key: &VmKey,
        filled: bool,
        templates: &[DataVolumeTemplate],
    ) -> Result<Stand<'_>, (&'static str, String)> {
        let name = &key.name;
        let claim = self.claims.get(key).map(|claim| &**claim);
        let data_volume = self.data_volumes.get(key);
        let data_volume = data_volume.filter(|one| {
            let uid = one.metadata.uid.as_ref();
            filled || claim.is_some_and(|claim| is_owned_by(claim, uid))
        });
        let comes = templates.iter().any(|one| one.metadata.name == *name);
        let filling = match data_volume {
            Some(data_volume) => filling(data_volume, self.has_importer != Some(false)),
            None if comes => {
                Err((DATA_VOLUMES_NOT_READY, format!("DataVolume {name} is not made yet")))
            }
            None => Ok(()),
        };
        if let Err((DATA_VOLUME_FAILED, _)) = filling {
            return Err(filling.expect_err("it is one"));
        }
        let Some(claim) = claim else {
            filling?;
            let message = format!("failed to render launch manifest: didn't find PVC {name}");
            return Err((FAILED_PVC_NOT_FOUND, message));
        };
        if let Some(bound) = self.volume_of(claim) {
            filling?;
            return Ok(Stand::Bound(claim, bound));
        }
        let is_ours = data_volume.is_none() || self.has_importer == Some(false);
        if is_ours && let Some(by_agent) = self.waits_for_consumer(claim) {
            if let Some(node) = claim.annotations().get(SELECTED_NODE) {
                return Err((WAITING_FOR_VOLUME_BINDING, being_made(name, node)));
            }
            let uid = claim.uid().unwrap_or_default();
            return Ok(Stand::Consumed(Consumed { claim: key.clone(), uid, by_agent }));
        }
        filling?;
        let message = format!("persistentvolumeclaim {name:?} is not bound to a persistent volume");
        Err((WAITING_FOR_VOLUME_BINDING, message))
    }

    fn volume_of(&self, claim: &PersistentVolumeClaim) -> Option<&Arc<PersistentVolume>> {
        bound(claim).and_then(|bound| self.volumes.get(&bound.to_owned()))
    }

    /// The claim that one which a DataVolume makes is a copy of.
    fn copied(&self, key: &VmKey) -> Option<&PersistentVolumeClaim> {
        let source = self.data_volumes.get(key)?.spec.source.as_ref()?.pvc.as_ref()?;
        let key = VmKey { namespace: key.namespace.clone(), name: source.name.clone() };
        self.claims.get(&key).map(|claim| &**claim)
    }

    /// Whether somebody makes a volume for a claim once it has a node; if so, whether that is
    /// an agent.
    fn waits_for_consumer(&self, claim: &PersistentVolumeClaim) -> Option<bool> {
        let spec = claim.spec.as_ref()?;
        let class = self.classes.get(spec.storage_class_name.as_ref()?)?;
        let is_named = spec.volume_name.as_ref().is_some_and(|name| !name.is_empty());
        (waits(class) && !is_named && class.provisioner != NOBODY)
            .then(|| class.provisioner == PROVISIONER)
    }
}

/// How it stands with a claim that a start can reckon with.
enum Stand<'a> {
    Bound(&'a PersistentVolumeClaim, &'a PersistentVolume),
    Consumed(Consumed),
}

/// The provisioner of classes whose volumes people make.
const NOBODY: &str = "kubernetes.io/no-provisioner";

/// Whether claims of a class get their volumes where their first user is.
pub(crate) fn waits(class: &StorageClass) -> bool {
    class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
}

fn being_made(claim: &str, node: &str) -> String {
    format!("persistentvolumeclaim {claim:?} gets its volume on node {node}")
}

/// Whether an object goes with one of this uid.
pub(crate) fn is_owned_by(object: &impl kube::Resource, uid: Option<&String>) -> bool {
    let owners = object.meta().owner_references.iter().flatten();
    uid.is_some_and(|uid| owners.into_iter().any(|owner| owner.uid == *uid))
}

/// The claim that a volume is for.
pub(crate) fn claim_of(volume: &PersistentVolume) -> Option<VmKey> {
    let reference = volume.spec.as_ref()?.claim_ref.as_ref()?;
    let (namespace, name) = (reference.namespace.clone()?, reference.name.clone()?);
    Some(VmKey { namespace, name })
}

/// The volume of a claim that has one for good.
pub(crate) fn bound(claim: &PersistentVolumeClaim) -> Option<&str> {
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    let name = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
    name.filter(|name| !name.is_empty() && phase == Some("Bound"))
}

/// Why a DataVolume is not filled yet: a reason and a message.
fn filling(data_volume: &DataVolume, by_importer: bool) -> Result<(), (&'static str, String)> {
    let name = data_volume.name_any();
    let status = data_volume.status.clone().unwrap_or_default();
    let failed = status.conditions.iter().find(|one| {
        one.r#type == "Running"
            && one.status == ConditionStatus::False
            && one.reason.as_deref() == Some("Error")
    });
    match status.phase.as_str() {
        "Succeeded" => Ok(()),
        _ if failed.is_some() => {
            let why = failed.and_then(|one| one.message.clone()).unwrap_or_default();
            Err((DATA_VOLUME_FAILED, format!("DataVolume {name} has an error: {why}")))
        }
        "Failed" => Err((DATA_VOLUME_FAILED, format!("DataVolume {name} has failed"))),
        "WaitForFirstConsumer" | "PendingPopulation" if by_importer => {
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

#[cfg(test)]
mod tests;
