//! Which VMs, and instances without one, are there to stay: what another one holds is
//! free soon.
//!
//! Of each there is a uid and nothing else, so that the news of one costs as little as a
//! look into a table, however often its status changes.

use std::collections::{BTreeMap, HashSet};

use crds::annotations::OWNER_UID;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::shelf::Seen;

/// The uids by which addresses are held that nobody is about to give back.
#[derive(Debug, Default)]
pub(super) struct Owners {
    machines: Staying,
    instances: Staying,
}

#[derive(Debug, Default)]
struct Staying {
    uids: HashSet<Box<str>>,
    synced: bool,
}

/// What of an object's metadata is looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Known {
    uid: Option<String>,
    deletion_timestamp: Option<IgnoredAny>,
    owner_references: Vec<Reference>,
    annotations: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Reference {
    kind: String,
}

impl From<&ObjectMeta> for Known {
    fn from(meta: &ObjectMeta) -> Self {
        let of_vm = |kind: &String| Reference { kind: kind.clone() };
        let owners = meta.owner_references.iter().flatten();
        let noted = meta.annotations.as_ref().and_then(|all| all.get_key_value(OWNER_UID));
        Self {
            uid: meta.uid.clone(),
            deletion_timestamp: meta.deletion_timestamp.as_ref().map(|_| IgnoredAny),
            owner_references: owners.map(|one| of_vm(&one.kind)).collect(),
            annotations: noted.map(|(key, uid)| (key.clone(), uid.clone())).into_iter().collect(),
        }
    }
}

impl Known {
    /// In whose names an instance may hold what it uses: its own, or that of the VM that
    /// it was made for and that let go of it.
    fn names(&self) -> impl Iterator<Item = &String> {
        self.uid.iter().chain(self.annotations.get(OWNER_UID))
    }

    fn is_of_a_vm(&self) -> bool {
        self.owner_references.iter().any(|one| one.kind == "VirtualMachine")
    }
}

impl Owners {
    pub(super) fn machine_seen<K: Resource>(&mut self, seen: &Seen<K>) {
        each(seen, &mut self.machines, |staying, known, gone| staying.machine(known, gone));
    }

    pub(super) fn instance_seen<K: Resource>(&mut self, seen: &Seen<K>) {
        each(seen, &mut self.instances, |staying, known, gone| staying.instance(known, gone));
    }

    pub(super) fn machine(&mut self, known: &Known, gone: bool) {
        self.machines.machine(known, gone);
    }

    pub(super) fn instance(&mut self, known: &Known, gone: bool) {
        self.instances.instance(known, gone);
    }

    /// Whether all that there is has been told.
    pub(super) const fn are_synced(&self) -> bool {
        self.machines.synced && self.instances.synced
    }

    /// Whether whoever holds by this uid is there and is not being deleted.
    pub(super) fn stays(&self, uid: &str) -> bool {
        self.machines.uids.contains(uid) || self.instances.uids.contains(uid)
    }
}

impl Staying {
    fn machine(&mut self, known: &Known, gone: bool) {
        let Some(uid) = known.uid.as_deref() else { return };
        if gone || known.deletion_timestamp.is_some() {
            self.uids.remove(uid);
        } else if !self.uids.contains(uid) {
            self.uids.insert(uid.into());
        }
    }

    /// One that a VM has holds in that VM's name.
    fn instance(&mut self, known: &Known, gone: bool) {
        let stays = !gone && known.deletion_timestamp.is_none() && !known.is_of_a_vm();
        for uid in known.names() {
            if !stays {
                self.uids.remove(uid.as_str());
            } else if !self.uids.contains(uid.as_str()) {
                self.uids.insert(uid.as_str().into());
            }
        }
    }
}

fn each<K: Resource>(
    seen: &Seen<K>,
    staying: &mut Staying,
    take: impl Fn(&mut Staying, &Known, bool),
) {
    match seen {
        Seen::All { objects, unreadable } => {
            *staying = Staying { synced: true, ..Staying::default() };
            for meta in objects.iter().map(Resource::meta).chain(unreadable) {
                take(staying, &meta.into(), false);
            }
        }
        Seen::Now(object) => take(staying, &object.meta().into(), false),
        Seen::Unreadable(meta) => take(staying, &(&**meta).into(), false),
        Seen::Gone(meta) => take(staying, &(&**meta).into(), true),
    }
}
