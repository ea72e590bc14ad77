//! Replica sets in the world: which instances are of which, and which are nobody's.

use std::sync::Arc;

use crds::kubevirt::{VirtualMachineInstance, VirtualMachineInstanceReplicaSet as ReplicaSet};
use kube::ResourceExt as _;

use super::{World, forget, vm_key_of};
use crate::ledger::VmKey;
use crate::replica_sets::controller;
use crate::shelf::{Change, Seen};

/// The kind of a set, as its members name it.
const KIND: &str = "VirtualMachineInstanceReplicaSet";

impl World {
    /// Takes in what a watch saw of sets.
    pub(super) fn sets_seen(&mut self, seen: Seen<ReplicaSet>) {
        for (key, ..) in self.replica_sets.apply(seen, vm_key_of) {
            self.agenda.mark(VmKey::of_set(&key));
        }
    }

    /// Puts in a set as the API answered it.
    pub fn put_set(&mut self, set: ReplicaSet) {
        self.replica_sets.put(super::vm_key(&set), set);
    }

    /// The instances whose controller is a set of this name.
    pub fn members_of(&self, set: &VmKey) -> impl Iterator<Item = &Arc<VirtualMachineInstance>> {
        let names = self.members_of.get(set).into_iter().flatten();
        let key = |name: &String| VmKey { namespace: set.namespace.clone(), name: name.clone() };
        names.filter_map(move |name| self.instances.get(&key(name)))
    }

    /// The instances of a namespace that have no controller.
    pub fn orphans_in<'a>(
        &'a self,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Arc<VirtualMachineInstance>> {
        let first = VmKey { namespace: namespace.to_owned(), name: String::new() };
        let keys = self.orphans.range(first..);
        let keys = keys.take_while(move |key| key.namespace == namespace);
        keys.filter_map(|key| self.instances.get(key))
    }

    /// Takes in whose an instance is now, and has the sets looked at to which that is news.
    pub(super) fn member_changed(
        &mut self,
        (key, old, new): &Change<VmKey, VirtualMachineInstance>,
    ) {
        let of = |one: &Arc<VirtualMachineInstance>| {
            let owner = controller(one).filter(|owner| owner.kind == KIND)?;
            Some(VmKey { namespace: key.namespace.clone(), name: owner.name.clone() })
        };
        let (was, is) = (old.as_ref().and_then(of), new.as_ref().and_then(of));
        if was != is {
            if let Some(was) = &was {
                forget(&mut self.members_of, was, &key.name);
            }
            if let Some(is) = &is {
                self.members_of.entry(is.clone()).or_default().insert(key.name.clone());
            }
        }
        was.iter().chain(&is).for_each(|set| self.agenda.mark(VmKey::of_set(set)));
        let free = |one: &Option<Arc<VirtualMachineInstance>>| {
            one.as_ref().filter(|one| controller(one).is_none()).map(|one| one.labels().clone())
        };
        let (before, now) = (free(old), free(new));
        if before == now {
            return;
        }
        if now.is_some() {
            self.orphans.insert(key.clone());
        } else {
            self.orphans.remove(key);
        }
        // Any of them may select it.
        let near = self.replica_sets.iter().filter(|(set, _)| set.namespace == key.namespace);
        let near: Vec<_> = near.map(|(set, _)| VmKey::of_set(set)).collect();
        near.into_iter().for_each(|set| self.agenda.mark(set));
    }
}
