//! What is known of claims, what is behind them, and who asks for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crds::cdi::notes::SELECTED_NODE;
use crds::cdi::{DataSource, DataVolume};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::grants::Grants;
use super::templates::Machines;
use crate::ledger::VmKey;
use crate::shelf::{Seen, Shelf};
use crate::storage::{News, Selection};
use crate::world::{Event, vm_key_of};

#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) data_volumes: Shelf<VmKey, DataVolume>,
    /// Whether the API serves DataVolumes, once that is known.
    pub(super) serves: Option<bool>,
    pub(super) data_sources: Shelf<VmKey, DataSource>,
    /// Whether it is known what there is of them.
    has_data_sources: bool,
    /// What was asked about copies from one namespace to another.
    pub(super) grants: Grants,
    /// Whether CDI is installed, once that is known.
    pub(super) has_importer: Option<bool>,
    pub(super) claims: Shelf<VmKey, PersistentVolumeClaim>,
    pub(super) volumes: Shelf<String, PersistentVolume>,
    pub(super) classes: Shelf<String, StorageClass>,
    pub(super) nodes: Shelf<String, Node>,
    pub(super) machines: Machines,
    /// The node that was chosen for a claim, with the claim's uid.
    pub(super) selections: BTreeMap<VmKey, Selection>,
}

impl Known {
    pub(super) const fn is_complete(&self) -> bool {
        self.serves.is_some()
            && self.has_importer.is_some()
            && self.has_data_sources
            && self.claims.is_synced()
            && self.volumes.is_synced()
            && self.classes.is_synced()
            && self.nodes.is_synced()
            && self.machines.is_synced()
    }

    /// Whether it was news.
    pub(super) fn apply(&mut self, event: &Event) -> bool {
        match event {
            Event::Machine(seen) => self.machines.apply(seen),
            Event::Node(seen) => {
                // A kubelet's status is large, and its heartbeats are no news.
                let changes = self.nodes.apply(without_status(seen), name_of);
                let facts = |node: &Option<Arc<Node>>| {
                    let meta = node.as_ref().map(|node| node.metadata.clone());
                    meta.map(|meta| (meta.labels, meta.annotations))
                };
                changes.iter().any(|(_, old, new)| facts(old) != facts(new))
            }
            Event::Storage(news) => {
                match news {
                    News::Claim(seen) => {
                        self.claims.apply(seen.clone(), vm_key_of);
                        self.forget_selections();
                    }
                    News::Volume(seen) => drop(self.volumes.apply(seen.clone(), name_of)),
                    News::Class(seen) => drop(self.classes.apply(seen.clone(), name_of)),
                    News::DataVolume(seen) => {
                        self.serves = Some(true);
                        self.data_volumes.apply(seen.clone(), vm_key_of);
                    }
                    News::DataSource(seen) => {
                        self.has_data_sources = true;
                        self.data_sources.apply(seen.clone(), vm_key_of);
                    }
                    News::NoDataSources => self.has_data_sources = true,
                    News::NoDataVolumes => self.serves = Some(false),
                    News::Importer(_) => self.has_importer = Some(true),
                    News::NoImporter => self.has_importer = Some(false),
                }
                true
            }
            _ => false,
        }
    }

    pub(super) fn select(&mut self, selections: Vec<Selection>) {
        for selection in selections {
            self.selections.insert(selection.claim.clone(), selection);
        }
        self.forget_selections();
    }

    /// Keeps no choice for a claim that is gone, or that says it: whoever takes it off again, as a
    /// provisioner without room does, wants another one.
    fn forget_selections(&mut self) {
        let claims = &self.claims;
        self.selections.retain(|key, one| {
            claims.get(key).is_some_and(|claim| {
                claim.metadata.uid.as_ref() == Some(&one.uid) && is_open(claim)
            })
        });
    }

    pub(super) fn put_data_volume(&mut self, data_volume: DataVolume) {
        self.data_volumes.put(vm_key_of(&data_volume.metadata), data_volume);
    }

    pub(super) fn put_data_source(&mut self, data_source: DataSource) {
        self.data_sources.put(vm_key_of(&data_source.metadata), data_source);
    }

    pub(super) fn put_claim(&mut self, claim: PersistentVolumeClaim) {
        self.claims.put(vm_key_of(&claim.metadata), claim);
        self.forget_selections();
    }

    pub(super) fn put_volume(&mut self, volume: PersistentVolume) {
        self.volumes.put(name_of(&volume.metadata), volume);
    }

    /// The volume that a claim is bound to.
    pub(super) fn volume_of(&self, claim: &PersistentVolumeClaim) -> Option<&PersistentVolume> {
        let bound = crate::storage::bound(claim)?;
        self.volumes.get(&bound.to_owned()).map(|volume| &**volume)
    }

    /// The class of a claim.
    pub(super) fn class_of(&self, claim: &PersistentVolumeClaim) -> Option<&StorageClass> {
        let name = claim.spec.as_ref()?.storage_class_name.as_ref()?;
        self.classes.get(name).map(|class| &**class)
    }

    /// The class of claims that name none: of several the newest, as in Kubernetes.
    pub(super) fn default_class(&self) -> Option<&StorageClass> {
        const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
        let notes = |class: &StorageClass| {
            let notes = class.metadata.annotations.as_ref()?;
            notes.get(DEFAULT).map(|text| text == "true")
        };
        let all = self.classes.iter().map(|(_, class)| &**class);
        all.filter(|class| notes(class) == Some(true)).max_by_key(|class| {
            let made = class.metadata.creation_timestamp.as_ref().map(|time| time.0);
            (made, std::cmp::Reverse(class.metadata.name.clone()))
        })
    }
}

/// Whether a claim waits to be told its node.
fn is_open(claim: &PersistentVolumeClaim) -> bool {
    let notes = claim.metadata.annotations.as_ref();
    !notes.is_some_and(|notes| notes.contains_key(SELECTED_NODE))
        && claim.spec.as_ref().is_some_and(|spec| spec.volume_name.is_none())
}

fn name_of(meta: &ObjectMeta) -> String {
    meta.name.clone().unwrap_or_default()
}

fn without_status(seen: &Seen<Node>) -> Seen<Node> {
    let lean = |node: &Node| Node {
        metadata: node.metadata.clone(),
        spec: node.spec.clone(),
        status: None,
    };
    match seen {
        Seen::All { objects, unreadable } => {
            let objects = objects.iter().map(lean).collect();
            Seen::All { objects, unreadable: unreadable.clone() }
        }
        Seen::Now(node) => Seen::Now(Box::new(lean(node))),
        Seen::Unreadable(meta) => Seen::Unreadable(meta.clone()),
        Seen::Gone(meta) => Seen::Gone(meta.clone()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claim(uid: &str, version: &str, notes: serde_json::Value) -> PersistentVolumeClaim {
        serde_json::from_value(json!({
            "metadata": {"name": "root", "namespace": "red", "uid": uid,
                "resourceVersion": version, "annotations": notes},
            "spec": {},
        }))
        .unwrap()
    }

    fn chosen(known: &mut Known) {
        let key = VmKey { namespace: "red".to_owned(), name: "root".to_owned() };
        let selection = Selection { claim: key, uid: "u".to_owned(), node: "n1".to_owned() };
        known.select(vec![selection]);
    }

    fn seen(known: &mut Known, news: Seen<PersistentVolumeClaim>) {
        known.apply(&Event::Storage(News::Claim(news)));
    }

    #[test]
    fn a_choice_is_forgotten_with_its_claim_and_once_that_says_it() {
        let open = claim("u", "1", json!({}));
        let ends = [
            Seen::gone(&open),
            Seen::Now(Box::new(claim("v", "2", json!({})))),
            Seen::Now(Box::new(claim("u", "2", json!({SELECTED_NODE: "n1"})))),
            Seen::all(vec![]),
        ];
        for end in ends {
            let mut known = Known::default();
            seen(&mut known, Seen::all(vec![open.clone()]));
            chosen(&mut known);
            seen(&mut known, Seen::Now(Box::new(open.clone())));
            assert_eq!(known.selections.len(), 1, "it waits to be written");
            seen(&mut known, end.clone());
            assert!(known.selections.is_empty(), "{end:?}");
        }
        let mut known = Known::default();
        seen(&mut known, Seen::all(vec![]));
        chosen(&mut known);
        assert!(known.selections.is_empty(), "of no claim that is known");
    }
}
