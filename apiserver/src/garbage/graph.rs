//! Who depends on whom, and what follows from it.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::Value;

use crate::object::{self, OwnerRef};
use crate::registry::{CLEANUP_FINALIZER, Registry, definitions, namespaces};
use crate::store::{Collection, Key, Stored};
use crate::write::{FOREGROUND, ORPHAN, Propagation};

/// What the graph knows of one object.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) uid: String,
    pub(super) key: Key,
    owners: Vec<OwnerRef>,
    deleting: bool,
    finalizers: Vec<String>,
    /// For a definition: where its objects lie.
    defines: Option<Collection>,
}

impl Node {
    pub(super) fn read(key: &Key, stored: &Stored) -> Self {
        let object: Value = stored.value();
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        let spec = &object["spec"];
        Self {
            uid: object::uid(&object).to_owned(),
            key: key.clone(),
            owners: object::owners(&object),
            deleting: object::is_deleting(&object),
            finalizers: object::finalizers(&object).into_iter().map(str::to_owned).collect(),
            defines: (key.collection == definitions())
                .then(|| Collection::new(&text(&spec["group"]), &text(&spec["names"]["plural"]))),
        }
    }

    fn waits_for(&self, finalizer: &str) -> bool {
        self.deleting && self.finalizers.iter().any(|name| name == finalizer)
    }
}

/// One write that has to be made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Action {
    Delete { key: Key, uid: String, propagation: Option<Propagation> },
    DropFinalizer { key: Key, uid: String, finalizer: &'static str },
    DropOwners { key: Key, uid: String, owners: Vec<String> },
    FinishNamespace { key: Key, uid: String },
}

impl Action {
    pub(super) fn target(&self) -> (&Key, &str) {
        match self {
            Self::Delete { key, uid, .. }
            | Self::DropFinalizer { key, uid, .. }
            | Self::DropOwners { key, uid, .. }
            | Self::FinishNamespace { key, uid } => (key, uid),
        }
    }
}

/// Every object, by uid.
#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: HashMap<String, Node>,
    dependents: HashMap<String, HashSet<String>>,
    /// Namespaces and definitions that are being deleted: what they hold is looked for.
    emptying: HashSet<String>,
    /// Objects to look at.
    dirty: BTreeSet<String>,
}

impl Graph {
    /// Adds an object or its new state.
    pub(super) fn put(&mut self, node: Node) {
        let uid = node.uid.clone();
        if let Some(old) = self.nodes.get(&uid) {
            let owners: Vec<String> = old.owners.iter().map(|owner| owner.uid.clone()).collect();
            self.unlink(&uid, &owners);
            // One that waits to be forgotten may have been.
            self.dirty.extend(owners);
        }
        for owner in &node.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
        }
        let holds_others = node.key.collection == namespaces() || node.defines.is_some();
        if holds_others && node.deleting {
            self.emptying.insert(uid.clone());
        }
        if !node.owners.is_empty() || node.deleting {
            self.dirty.insert(uid.clone());
            // An owner that waits may be waiting for this.
            self.dirty.extend(node.owners.iter().map(|owner| owner.uid.clone()));
        }
        self.nodes.insert(uid, node);
    }

    /// Takes an object out.
    pub(super) fn remove(&mut self, uid: &str) {
        let Some(node) = self.nodes.remove(uid) else { return };
        let owners: Vec<String> = node.owners.into_iter().map(|owner| owner.uid).collect();
        self.unlink(uid, &owners);
        self.emptying.remove(uid);
        self.dirty.remove(uid);
        self.dirty.extend(owners);
        self.dirty.extend(self.dependents.get(uid).into_iter().flatten().cloned());
        self.dirty.extend(self.emptying.iter().cloned());
    }

    fn unlink(&mut self, uid: &str, owners: &[String]) {
        for owner in owners {
            if let Some(dependents) = self.dependents.get_mut(owner) {
                dependents.remove(uid);
                if dependents.is_empty() {
                    self.dependents.remove(owner);
                }
            }
        }
    }

    /// What has to be done after everything that was put and removed since the last call.
    pub(super) fn decide(&mut self, registry: &Registry) -> Vec<Action> {
        let dirty = std::mem::take(&mut self.dirty);
        let nodes = dirty.iter().filter_map(|uid| self.nodes.get(uid));
        let mut actions: Vec<Action> =
            nodes.flat_map(|node| self.consequences(node, registry)).collect();
        // An object may be wanted gone for two reasons.
        let mut seen = HashSet::new();
        actions.retain(|action| {
            !matches!(action, Action::Delete { .. }) || seen.insert(action.target().1.to_owned())
        });
        actions
    }

    fn consequences(&self, node: &Node, registry: &Registry) -> Vec<Action> {
        if node.deleting {
            self.while_deleting(node)
        } else {
            self.after_owners(node, registry).into_iter().collect()
        }
    }

    fn while_deleting(&self, node: &Node) -> Vec<Action> {
        let (key, uid) = (node.key.clone(), node.uid.clone());
        let dependents: Vec<&Node> = self.dependents_of(node).collect();
        if node.waits_for(ORPHAN) {
            let forget = dependents.iter().map(|dependent| Action::DropOwners {
                key: dependent.key.clone(),
                uid: dependent.uid.clone(),
                owners: vec![node.uid.clone()],
            });
            // Dropping the finalizer at once is safe only when nobody refers to the owner.
            let mut actions: Vec<Action> = forget.collect();
            if actions.is_empty() {
                actions.push(Action::DropFinalizer { key, uid, finalizer: ORPHAN });
            }
            return actions;
        }
        if node.waits_for(FOREGROUND) {
            let blocks = |dependent: &&&Node| {
                dependent.owners.iter().any(|o| o.uid == node.uid && o.blocks_deletion)
            };
            if dependents.iter().find(blocks).is_none() {
                return vec![Action::DropFinalizer { key, uid, finalizer: FOREGROUND }];
            }
            return self.deletions(dependents.into_iter(), Some(Propagation::Foreground));
        }
        let is_emptying = self.emptying.contains(&node.uid);
        if !is_emptying {
            return vec![];
        }
        let content: Vec<&Node> =
            self.nodes.values().filter(|other| is_inside(other, node)).collect();
        if !content.is_empty() {
            return self.deletions(content.into_iter(), Some(Propagation::Background));
        }
        if node.defines.is_some() {
            if node.waits_for(CLEANUP_FINALIZER) {
                return vec![Action::DropFinalizer { key, uid, finalizer: CLEANUP_FINALIZER }];
            }
            return vec![];
        }
        vec![Action::FinishNamespace { key, uid }]
    }

    fn deletions<'a>(
        &self,
        nodes: impl Iterator<Item = &'a Node>,
        propagation: Option<Propagation>,
    ) -> Vec<Action> {
        let live = nodes.filter(|node| !node.deleting);
        live.map(|node| Action::Delete {
            key: node.key.clone(),
            uid: node.uid.clone(),
            propagation: propagation.filter(|p| {
                *p != Propagation::Foreground || self.dependents.contains_key(&node.uid)
            }),
        })
        .collect()
    }

    fn after_owners(&self, node: &Node, registry: &Registry) -> Option<Action> {
        let (gone, left): (Vec<&OwnerRef>, Vec<&OwnerRef>) =
            node.owners.iter().partition(|owner| self.is_gone(owner, node, registry));
        let (key, uid) = (node.key.clone(), node.uid.clone());
        if left.is_empty() && !gone.is_empty() {
            let propagation = Some(Propagation::Background);
            return Some(Action::Delete { key, uid, propagation });
        }
        // An owner that is being deleted in the foreground takes its dependents with it, unless
        // they have another.
        let waiting = |owner: &&&OwnerRef| {
            self.nodes.get(&owner.uid).is_some_and(|owner| owner.waits_for(FOREGROUND))
        };
        if !left.is_empty() && left.iter().all(|owner| waiting(&owner)) {
            let propagation = self.dependents.contains_key(&uid).then_some(Propagation::Foreground);
            return Some(Action::Delete { key, uid, propagation });
        }
        if gone.is_empty() {
            return None;
        }
        let owners = gone.iter().map(|owner| owner.uid.clone()).collect();
        Some(Action::DropOwners { key, uid, owners })
    }

    /// Whether an owner certainly does not exist.
    fn is_gone(&self, owner: &OwnerRef, dependent: &Node, registry: &Registry) -> bool {
        if self.nodes.contains_key(&owner.uid) {
            return false;
        }
        let group = object::group_of(&owner.api_version);
        let is_known = registry.of_kind(group, &owner.kind).is_some();
        if !is_known {
            tracing::debug!(key = ?dependent.key, kind = owner.kind, "The kind of an owner is not served");
        }
        is_known
    }

    fn dependents_of<'a>(&'a self, node: &Node) -> impl Iterator<Item = &'a Node> + use<'a> {
        let (namespace, is_namespaced) =
            (node.key.namespace.clone(), !node.key.namespace.is_empty());
        let uids = self.dependents.get(&node.uid).into_iter().flatten();
        uids.filter_map(|uid| self.nodes.get(uid))
            .filter(move |other| !is_namespaced || other.key.namespace == namespace)
    }
}

/// Whether `object` is inside the namespace, or of the definition, that `holder` is.
fn is_inside(object: &Node, holder: &Node) -> bool {
    match &holder.defines {
        Some(collection) => object.key.collection == *collection,
        None => object.key.namespace == holder.key.name,
    }
}

#[cfg(test)]
mod tests;
