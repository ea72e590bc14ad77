//! Instancetypes and preferences: which ones a VM refers to, as they were when it first did, and
//! what they make of its template.
//!
//! ```text
//!  spec.instancetype ─► object ─► ControllerRevision ─► status.instancetypeRef
//!  (or inferFromVolume)            owned by the VM        names the revision
//!                                        │
//!  template ─────────────────────────────┴──► expand ──► what an instance is made of
//! ```
//!
//! What was kept counts: whoever edits an instancetype changes no VM that has referred to it, and
//! a VM that is told another name keeps that one. Names, labels and words are KubeVirt's
//! (`pkg/instancetype`), so that revisions which it has kept are read here.

mod expand;
mod infer;
mod preference;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crds::instancetype::{
    GROUP, VERSION, VirtualMachineClusterInstancetype, VirtualMachineClusterPreference,
    VirtualMachineInstancetype, VirtualMachinePreference,
};
use crds::kubevirt::{
    InstanceTemplate, InstancetypeMatcher, InstancetypeStatusRef, Quantity, RevisionRef,
    VirtualMachine,
};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::{Resource, ResourceExt as _};
use serde::Serialize;
use serde_json::{Value, json};

use crate::ledger::VmKey;
use crate::machine::Trouble;
use crate::shelf::{Seen, Shelf};
use crate::storage::Storage;
use crate::world::vm_key_of;

pub use expand::{Conflict, expand};

/// What of an instance cannot be made.
const FAILED_CREATE: &str = "FailedCreate";
/// Label of a revision: the kind that it is of.
const OBJECT_KIND: &str = "instancetype.kubevirt.io/object-kind";

/// One of the two that a VM may refer to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Of {
    /// How large it is.
    Instancetype,
    /// What it is like.
    Preference,
}

/// Something that a watch saw.
#[derive(Clone, Debug)]
pub enum News {
    /// Of a VirtualMachineInstancetype.
    Instancetype(Seen<VirtualMachineInstancetype>),
    /// Of one for the cluster.
    ClusterInstancetype(Seen<VirtualMachineClusterInstancetype>),
    /// Of a VirtualMachinePreference.
    Preference(Seen<VirtualMachinePreference>),
    /// Of one for the cluster.
    ClusterPreference(Seen<VirtualMachineClusterPreference>),
    /// Of a ControllerRevision.
    Revision(Seen<ControllerRevision>),
    /// The API does not serve this one of these, by its place in the list above.
    Absent(usize),
}

/// All that is known of them.
#[derive(Debug, Default)]
pub struct Kinds {
    instancetypes: Shelf<VmKey, VirtualMachineInstancetype>,
    cluster_instancetypes: Shelf<VmKey, VirtualMachineClusterInstancetype>,
    preferences: Shelf<VmKey, VirtualMachinePreference>,
    cluster_preferences: Shelf<VmKey, VirtualMachineClusterPreference>,
    /// The specs that revisions hold.
    revisions: HashMap<VmKey, Arc<Value>>,
    /// Which of them have been listed, or are not served: what is not yet known looks as if it
    /// were gone.
    listed: [bool; 5],
    /// VMs whose instancetype or preference is not there.
    waiting: BTreeSet<VmKey>,
    /// Templates as they were expanded last.
    expanded: HashMap<VmKey, (Basis, Arc<InstanceTemplate>)>,
}

/// What an expanded template follows from: the VM's uid and generation, and the revisions.
type Basis = (Option<String>, Option<i64>, [Option<String>; 2]);

/// What a VM refers to.
#[derive(Clone, Debug)]
struct Found {
    spec: Arc<Value>,
    matcher: InstancetypeMatcher,
    /// It is not kept for this VM yet.
    keep: Option<Box<ControllerRevision>>,
}

/// What is to be kept for a VM, and what its status is then to say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Keep {
    /// The revisions to make.
    pub revisions: Vec<ControllerRevision>,
    /// By field of the status.
    pub refs: BTreeMap<&'static str, InstancetypeStatusRef>,
}

/// Why a VM is not made of anything yet.
#[derive(Clone, Debug, PartialEq)]
pub enum Unready {
    /// This is to be kept first.
    Keep(Box<Keep>),
    /// It is not known yet what there is.
    Unlisted,
    /// It cannot be.
    Trouble(Trouble),
}

impl News {
    /// Of which kind all that there is is known by this.
    const fn listed(&self) -> Option<usize> {
        match self {
            Self::Instancetype(Seen::All { .. }) => Some(0),
            Self::ClusterInstancetype(Seen::All { .. }) => Some(1),
            Self::Preference(Seen::All { .. }) => Some(2),
            Self::ClusterPreference(Seen::All { .. }) => Some(3),
            Self::Revision(Seen::All { .. }) => Some(4),
            Self::Absent(at) if *at < 5 => Some(*at),
            _ => None,
        }
    }
}

impl Of {
    const BOTH: [Self; 2] = [Self::Instancetype, Self::Preference];

    const fn field(self) -> &'static str {
        match self {
            Self::Instancetype => "instancetypeRef",
            Self::Preference => "preferenceRef",
        }
    }

    /// Why it is not found, in one word.
    const fn reason(self) -> &'static str {
        match self {
            Self::Instancetype => "FailedFindInstancetype",
            Self::Preference => "FailedFindPreference",
        }
    }

    /// The names of its kind, in a namespace and for the cluster; plural is one `s` more.
    const fn singular(self) -> (&'static str, &'static str) {
        match self {
            Self::Instancetype => {
                ("virtualmachineinstancetype", "virtualmachineclusterinstancetype")
            }
            Self::Preference => ("virtualmachinepreference", "virtualmachineclusterpreference"),
        }
    }

    /// What the VM says of it.
    #[must_use]
    pub const fn matcher(self, vm: &VirtualMachine) -> Option<&InstancetypeMatcher> {
        match self {
            Self::Instancetype => vm.spec.instancetype.as_ref(),
            Self::Preference => vm.spec.preference.as_ref(),
        }
    }

    fn status(self, vm: &VirtualMachine) -> Option<&InstancetypeStatusRef> {
        let status = vm.status.as_ref()?;
        match self {
            Self::Instancetype => status.instancetype_ref.as_ref(),
            Self::Preference => status.preference_ref.as_ref(),
        }
    }

    /// Whether a matcher is about one for the cluster.
    ///
    /// # Errors
    /// When it is about neither.
    pub fn is_cluster(self, matcher: &InstancetypeMatcher) -> Result<bool, String> {
        let kind = matcher.kind.as_deref().unwrap_or_default().to_lowercase();
        let (one, cluster) = self.singular();
        match kind.strip_suffix('s').unwrap_or(&kind) {
            "" => Ok(true),
            kind if kind == cluster => Ok(true),
            kind if kind == one => Ok(false),
            _ => {
                let of = match self {
                    Self::Instancetype => "InstancetypeMatcher",
                    Self::Preference => "PreferenceMatcher",
                };
                Err(format!(
                    "got unexpected kind in {of}: {}",
                    matcher.kind.as_deref().unwrap_or_default()
                ))
            }
        }
    }

    /// What the VM refers to by name, as it says or as its volume does.
    #[must_use]
    pub fn inferred(self, vm: &VirtualMachine, storage: &Storage) -> Option<InstancetypeMatcher> {
        infer::matcher(vm, self, storage).ok().flatten()
    }

    /// The revision that the VM's is kept in, if it is.
    #[must_use]
    pub fn pinned(self, vm: &VirtualMachine) -> Option<String> {
        let matcher = self.matcher(vm)?;
        let said = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
        said(&matcher.revision_name).or_else(|| {
            let told = self.status(vm)?;
            let is_same = match said(&matcher.infer_from_volume) {
                Some(volume) => said(&told.infer_from_volume) == Some(volume),
                None => {
                    let of = InstancetypeMatcher {
                        kind: told.kind.clone(),
                        ..InstancetypeMatcher::default()
                    };
                    said(&told.name) == said(&matcher.name)
                        && self.is_cluster(&of) == self.is_cluster(matcher)
                }
            };
            told.controller_revision_ref.as_ref().filter(|_| is_same).map(|one| one.name.clone())
        })
    }
}

/// Whether a VM refers to anything.
#[must_use]
pub const fn refers(vm: &VirtualMachine) -> bool {
    vm.spec.instancetype.is_some() || vm.spec.preference.is_some()
}

impl Kinds {
    /// Takes in what a watch saw; returns who waited for it.
    pub fn apply(&mut self, news: News) -> BTreeSet<VmKey> {
        if let Some(at) = news.listed() {
            self.listed[at] = true;
        }
        match news {
            News::Instancetype(seen) => drop(self.instancetypes.apply(seen, vm_key_of)),
            News::ClusterInstancetype(seen) => {
                drop(self.cluster_instancetypes.apply(seen, vm_key_of));
            }
            News::Preference(seen) => drop(self.preferences.apply(seen, vm_key_of)),
            News::ClusterPreference(seen) => {
                drop(self.cluster_preferences.apply(seen, vm_key_of));
            }
            News::Revision(seen) => self.revision_seen(seen),
            News::Absent(_) => {}
        }
        self.take_waiting()
    }

    /// Those whose instancetype or preference was not there.
    pub fn take_waiting(&mut self) -> BTreeSet<VmKey> {
        std::mem::take(&mut self.waiting)
    }

    /// Puts in a revision as the API answered it.
    pub fn put_revision(&mut self, revision: ControllerRevision) {
        self.revision_seen(Seen::Now(Box::new(revision)));
    }

    /// Forgets what was known of a VM that is gone.
    pub fn forget(&mut self, vm: &VmKey) {
        self.expanded.remove(vm);
    }

    fn revision_seen(&mut self, seen: Seen<ControllerRevision>) {
        let keep = |all: &mut HashMap<VmKey, Arc<Value>>, one: ControllerRevision| {
            // Others keep theirs in the same kind.
            let is_ours = one.labels().contains_key(OBJECT_KIND);
            let spec = one.data.as_ref().filter(|_| is_ours).map(|data| data.0["spec"].clone());
            all.extend(spec.map(|spec| (vm_key_of(&one.metadata), Arc::new(spec))));
        };
        match seen {
            Seen::All { objects, .. } => {
                self.revisions.clear();
                objects.into_iter().for_each(|one| keep(&mut self.revisions, one));
            }
            Seen::Now(one) => keep(&mut self.revisions, *one),
            Seen::Gone(meta) | Seen::Unreadable(meta) => {
                self.revisions.remove(&vm_key_of(&meta));
            }
        }
    }

    /// The VM as it is with what it refers to put into its template.
    ///
    /// # Errors
    /// What is to be kept first, or why it cannot be.
    pub fn effective(
        &mut self,
        vm: &Arc<VirtualMachine>,
        storage: &Storage,
    ) -> Result<Arc<VirtualMachine>, Unready> {
        if !refers(vm) {
            return Ok(Arc::clone(vm));
        }
        let key = vm_key_of(&vm.metadata);
        if !self.listed.iter().all(|listed| *listed) {
            self.waiting.insert(key);
            return Err(Unready::Unlisted);
        }
        let basis = (vm.uid(), vm.metadata.generation, Of::BOTH.map(|of| of.pinned(vm)));
        let is_pinned =
            Of::BOTH.into_iter().all(|of| of.matcher(vm).is_none() || of.pinned(vm).is_some());
        let known = self.expanded.get(&key).filter(|(of, _)| is_pinned && *of == basis);
        if let Some((_, template)) = known {
            return Ok(with(vm, InstanceTemplate::clone(template)));
        }
        let made = self.made(vm, storage);
        if let Err(Unready::Trouble(_)) = &made {
            self.waiting.insert(key.clone());
        }
        let template = Arc::new(made?);
        self.expanded.insert(key, (basis, Arc::clone(&template)));
        Ok(with(vm, InstanceTemplate::clone(&template)))
    }

    fn made(&self, vm: &VirtualMachine, storage: &Storage) -> Result<InstanceTemplate, Unready> {
        let [instancetype, preference] = Of::BOTH.map(|of| self.found(vm, of, storage));
        let (instancetype, preference) = (instancetype?, preference?);
        let template = template(vm, instancetype.as_ref(), preference.as_ref())?;
        let mut keep = Keep::default();
        for (of, found) in Of::BOTH.into_iter().zip([instancetype, preference]) {
            let Some(Found { matcher, keep: Some(revision), .. }) = found else { continue };
            keep.refs.insert(of.field(), reference(of, vm, &matcher, &revision));
            keep.revisions.push(*revision);
        }
        if keep.revisions.is_empty() { Ok(template) } else { Err(Unready::Keep(Box::new(keep))) }
    }

    /// The VM with what it refers to in place of the references, kept or not.
    ///
    /// # Errors
    /// Why that cannot be.
    pub fn expanded(
        &self,
        vm: &VirtualMachine,
        storage: &Storage,
    ) -> Result<VirtualMachine, Trouble> {
        let made = || {
            let instancetype = self.found(vm, Of::Instancetype, storage)?;
            let preference = self.found(vm, Of::Preference, storage)?;
            template(vm, instancetype.as_ref(), preference.as_ref())
        };
        let made = made().map_err(|unready| match unready {
            Unready::Trouble(trouble) => trouble,
            Unready::Keep(_) | Unready::Unlisted => {
                Trouble { reason: FAILED_CREATE, message: String::new() }
            }
        })?;
        let mut vm = vm.clone();
        vm.spec.template = made;
        (vm.spec.instancetype, vm.spec.preference) = (None, None);
        Ok(vm)
    }

    /// Why a VM cannot be with what it refers to, and what of it is not there.
    #[must_use]
    pub fn judge(&self, vm: &VirtualMachine) -> (Option<String>, Vec<String>) {
        let mut waits = Vec::new();
        let mut known = [None, None];
        for (at, of) in Of::BOTH.into_iter().enumerate() {
            let Some(matcher) = of.matcher(vm) else { continue };
            let is_named = matcher.infer_from_volume.as_deref().unwrap_or_default().is_empty();
            if is_named && matcher.name.as_deref().unwrap_or_default().is_empty() {
                let field = if of == Of::Instancetype { "instancetype" } else { "preference" };
                return (Some(format!("spec.{field}: write a name or inferFromVolume")), waits);
            }
            if let Err(why) = of.is_cluster(matcher) {
                return (Some(why), waits);
            }
            // What a volume says of itself is not known here.
            if !is_named {
                return (None, waits);
            }
            match self.found(vm, of, &Storage::default()) {
                Ok(found) => known[at] = found,
                Err(Unready::Trouble(trouble)) => waits.push(trouble.message),
                Err(Unready::Keep(_) | Unready::Unlisted) => {}
            }
        }
        if !waits.is_empty() {
            return (None, waits);
        }
        let [instancetype, preference] = known;
        match template(vm, instancetype.as_ref(), preference.as_ref()) {
            Err(Unready::Trouble(trouble)) => (Some(trouble.message), waits),
            _ => (None, waits),
        }
    }

    fn found(
        &self,
        vm: &VirtualMachine,
        of: Of,
        storage: &Storage,
    ) -> Result<Option<Found>, Unready> {
        let Some(matcher) = of.matcher(vm) else { return Ok(None) };
        let trouble = |message: String| Unready::Trouble(Trouble { reason: of.reason(), message });
        let namespace = vm.namespace().unwrap_or_default();
        if let Some(name) = of.pinned(vm) {
            let key = VmKey { namespace, name };
            let spec = self.revisions.get(&key).cloned();
            let missing = || format!("controllerrevisions.apps {:?} not found", key.name);
            let spec = spec.ok_or_else(|| trouble(missing()))?;
            let matcher = match of.status(vm) {
                Some(told) => InstancetypeMatcher {
                    name: told.name.clone().or_else(|| matcher.name.clone()),
                    kind: told.kind.clone().or_else(|| matcher.kind.clone()),
                    ..matcher.clone()
                },
                None => matcher.clone(),
            };
            return Ok(Some(Found { spec, matcher, keep: None }));
        }
        let inferred = infer::matcher(vm, of, storage).map_err(trouble)?;
        let Some(matcher) = inferred else { return Ok(None) };
        let is_cluster = of.is_cluster(&matcher).map_err(trouble)?;
        let name = matcher.name.clone().unwrap_or_default();
        let within = if is_cluster { String::new() } else { namespace };
        let key = VmKey { namespace: within, name };
        let revision = match (of, is_cluster) {
            (Of::Instancetype, false) => {
                self.instancetypes.get(&key).map(|one| revision(vm, &**one))
            }
            (Of::Instancetype, true) => {
                self.cluster_instancetypes.get(&key).map(|one| revision(vm, &**one))
            }
            (Of::Preference, false) => self.preferences.get(&key).map(|one| revision(vm, &**one)),
            (Of::Preference, true) => {
                self.cluster_preferences.get(&key).map(|one| revision(vm, &**one))
            }
        };
        let (one, cluster) = of.singular();
        let plural = if is_cluster { cluster } else { one };
        let missing = || trouble(format!("{plural}s.{GROUP} {:?} not found", key.name));
        let revision = revision.ok_or_else(missing)?;
        let spec = revision.data.as_ref().map(|data| data.0["spec"].clone());
        let keep = Some(Box::new(revision));
        Ok(Some(Found { spec: Arc::new(spec.unwrap_or_default()), matcher, keep }))
    }
}

fn with(vm: &VirtualMachine, template: InstanceTemplate) -> Arc<VirtualMachine> {
    let mut made = vm.clone();
    made.spec.template = template;
    Arc::new(made)
}

/// The template with what was found put in, and with the names of what that was.
fn template(
    vm: &VirtualMachine,
    instancetype: Option<&Found>,
    preference: Option<&Found>,
) -> Result<InstanceTemplate, Unready> {
    if instancetype.is_none() && preference.is_none() {
        return Ok(vm.spec.template.clone());
    }
    let trouble = |message: String| Unready::Trouble(Trouble { reason: FAILED_CREATE, message });
    let specs = [instancetype, preference].map(|found| found.map(|found| &*found.spec));
    let written = json!(vm.spec.template);
    let made = expand(specs[0], specs[1], &written);
    let made = made.map_err(|conflict| trouble(conflict.to_string()))?;
    let made: Result<InstanceTemplate, _> = serde_json::from_value(made);
    let mut made = made.map_err(|error| {
        trouble(format!("what its instancetype or preference says does not fit: {error}"))
    })?;
    let notes = made.metadata.get_or_insert_default().annotations.get_or_insert_default();
    for (of, found) in Of::BOTH.into_iter().zip([instancetype, preference]) {
        let Some(Found { matcher, .. }) = found else { continue };
        let cluster = if of.is_cluster(matcher).unwrap_or(true) { "cluster-" } else { "" };
        let what = if of == Of::Instancetype { "instancetype" } else { "preference" };
        let name = matcher.name.clone().unwrap_or_default();
        notes.insert(format!("kubevirt.io/{cluster}{what}-name"), name);
    }
    Ok(made)
}

/// What the status says of a revision that is kept.
fn reference(
    of: Of,
    vm: &VirtualMachine,
    found: &InstancetypeMatcher,
    revision: &ControllerRevision,
) -> InstancetypeStatusRef {
    let written = of.matcher(vm);
    let kind = found.kind.clone().filter(|kind| !kind.is_empty());
    InstancetypeStatusRef {
        name: found.name.clone(),
        kind: kind.or_else(|| Some(of.singular().1.to_owned())),
        controller_revision_ref: Some(RevisionRef { name: revision.name_any() }),
        infer_from_volume: written.and_then(|one| one.infer_from_volume.clone()),
        infer_from_volume_failure_policy: written
            .and_then(|one| one.infer_from_volume_failure_policy.clone()),
        ..InstancetypeStatusRef::default()
    }
}

/// The revision in which `object` is kept for `vm`.
fn revision<K>(vm: &VirtualMachine, object: &K) -> ControllerRevision
where
    K: Resource<DynamicType = ()> + Serialize,
{
    let meta = object.meta();
    let name = meta.name.clone().unwrap_or_default();
    let uid = meta.uid.clone().unwrap_or_default();
    let generation = meta.generation.unwrap_or(0);
    let kind = K::kind(&()).into_owned();
    let label = |field: &str, value: String| (format!("{GROUP}/object-{field}"), value);
    let labels = [
        label("generation", generation.to_string()),
        label("kind", kind.clone()),
        label("name", name.clone()),
        label("uid", uid.clone()),
        label("version", VERSION.to_owned()),
    ];
    let mut data = json!(object);
    data["apiVersion"] = format!("{GROUP}/{VERSION}").into();
    data["kind"] = kind.into();
    let kept = ["name", "namespace", "uid", "generation", "resourceVersion", "creationTimestamp"];
    if let Some(meta) = data["metadata"].as_object_mut() {
        meta.retain(|field, _| kept.contains(&field.as_str()));
    }
    let owner = vm.controller_owner_ref(&()).map(|mut owner| {
        owner.block_owner_deletion = Some(true);
        vec![owner]
    });
    let metadata = ObjectMeta {
        name: Some(format!("{}-{name}-{VERSION}-{uid}-{generation}", vm.name_any())),
        namespace: vm.namespace(),
        labels: Some(labels.into()),
        owner_references: owner,
        ..ObjectMeta::default()
    };
    ControllerRevision { metadata, data: Some(RawExtension(data)), revision: 0 }
}

/// An amount in whole units, if it is one.
fn units(value: &Value) -> Option<u64> {
    let quantity = match value {
        Value::String(text) => Quantity::Text(text.clone()),
        Value::Number(number) => Quantity::Number(number.clone()),
        _ => return None,
    };
    quantity.units().ok()
}

#[cfg(test)]
mod tests;
