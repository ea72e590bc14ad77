//! Our provisioner: the volumes of claims whose class names it, each a directory of a node.
//! Pure.
//!
//! ```text
//!  claim ─► node chosen ─► PersistentVolume, kept for the claim ─► bound by whoever binds
//!  claim gone ─► Released ─► the volume is deleted ─► its agent removes the directory, and
//!                                                    then the finalizer
//! ```
//!
//! The volume comes before its directory, which is made by whoever first uses it: what a
//! volume names is there or empty, and a directory that no volume names there never is.

use std::collections::BTreeMap;

use crds::cdi::notes::{
    CLONE, IMMEDIATE, LOCAL_VOLUMES, PROVISIONED_BY, PROVISIONER, SELECTED_NODE, VOLUME_FINALIZER,
    VOLUME_NODE,
};
use crds::kubevirt::SCHEDULABLE_LABEL;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::{Resource as _, ResourceExt as _};
use serde_json::json;

use super::Write;
use super::known::Known;
use crate::ledger::VmKey;
use crate::storage::waits;
use crate::warning::Warning;
use crds::affinity::{meets, terms};

/// The label by which a volume says of which node it is.
const HOSTNAME: &str = "kubernetes.io/hostname";

/// Volumes that are to be made, and that are to go.
pub(super) fn missing(known: &Known) -> Vec<Write> {
    let made = known.claims.iter().filter_map(|(_, claim)| made(known, claim));
    let gone = known.volumes.iter().filter_map(|(_, volume)| gone(volume));
    made.chain(gone).collect()
}

/// Whether a claim gets its volume though nobody uses it yet.
pub(super) fn is_immediate(claim: &PersistentVolumeClaim) -> bool {
    claim.annotations().get(IMMEDIATE).is_some_and(|text| matches!(text.as_str(), "" | "true"))
}

fn made(known: &Known, claim: &PersistentVolumeClaim) -> Option<Write> {
    let class = known.class_of(claim).filter(|class| class.provisioner == PROVISIONER)?;
    let spec = claim.spec.as_ref()?;
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    let is_open = spec.volume_name.as_ref().is_none_or(String::is_empty)
        && matches!(phase, None | Some("" | "Pending"))
        && claim.metadata.deletion_timestamp.is_none();
    if !is_open || known.volumes.meta(&volume_name(claim)).is_some() {
        return None;
    }
    match place(known, claim, class) {
        Ok(Some(node)) => match volume(claim, class, node) {
            Ok(volume) => Some(Write::Volume(Box::new(volume))),
            Err(why) => Some(failed(claim, why)),
        },
        Ok(None) => None,
        Err(why) => Some(failed(claim, why)),
    }
}

/// What is told of a claim that gets no volume, in the words of Kubernetes' provisioners.
fn failed(claim: &PersistentVolumeClaim, why: String) -> Write {
    let message = format!(
        "failed to provision volume with StorageClass {:?}: {why}",
        claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref()).unwrap_or_default()
    );
    let (about, reason) = (claim.object_ref(&()), "ProvisioningFailed".to_owned());
    Write::Tell(Warning { about, reason, message })
}

/// The node of a claim's volume; none before it is chosen.
fn place<'a>(
    known: &'a Known,
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
) -> Result<Option<&'a Node>, String> {
    if let Some(chosen) = claim.annotations().get(SELECTED_NODE) {
        let node = known.nodes.get(chosen).map(|node| &**node);
        let node = node.ok_or_else(|| format!("node {chosen:?} not found"))?;
        return Ok(Some(node));
    }
    if waits(class) && !is_immediate(claim) {
        return Ok(None);
    }
    let source = copied(known, claim);
    let mut nodes: Vec<_> = known.nodes.iter().map(|(_, node)| &**node).collect();
    nodes.sort_by_key(|node| node.name_any());
    let serves = |node: &&Node| {
        let has_source =
            source.and_then(terms).is_none_or(|terms| terms.iter().any(|term| meets(node, term)));
        has_source
            && node.annotations().contains_key(LOCAL_VOLUMES)
            && node.labels().get(SCHEDULABLE_LABEL).is_some_and(|text| text == "true")
    };
    let node = nodes.into_iter().find(serves);
    node.map(Some).ok_or_else(|| {
        "no node makes volumes: start an agent with --local-volume-dir and a directory".to_owned()
    })
}

/// The volume of what a claim is a copy of.
fn copied<'a>(known: &'a Known, claim: &PersistentVolumeClaim) -> Option<&'a PersistentVolume> {
    let (namespace, name) = claim.annotations().get(CLONE)?.split_once('/')?;
    let key = VmKey { namespace: namespace.to_owned(), name: name.to_owned() };
    known.volume_of(known.claims.get(&key)?)
}

/// As Kubernetes' own provisioners call it.
fn volume_name(claim: &PersistentVolumeClaim) -> String {
    format!("pvc-{}", claim.uid().unwrap_or_default())
}

fn volume(
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    node: &Node,
) -> Result<PersistentVolume, String> {
    let spec = claim.spec.clone().unwrap_or_default();
    if spec.volume_mode.as_deref() == Some("Block") {
        return Err("a directory is no block device: leave out volumeMode: Block".to_owned());
    }
    let modes = spec.access_modes.unwrap_or_default();
    if modes.iter().any(|mode| !matches!(mode.as_str(), "ReadWriteOnce" | "ReadWriteOncePod")) {
        return Err("a directory is of one node: ask for accessModes ReadWriteOnce".to_owned());
    }
    let name = node.name_any();
    let below = node.annotations().get(LOCAL_VOLUMES).ok_or_else(|| {
        format!("node {name:?} makes no volumes: start its agent with --local-volume-dir")
    })?;
    let host = node.labels().get(HOSTNAME).unwrap_or(&name);
    let size =
        spec.resources.and_then(|all| all.requests).and_then(|all| all.get("storage").cloned());
    let size = size.ok_or("it asks for no size")?;
    let volume = volume_name(claim);
    let terms = json!([{"matchExpressions":
        [{"key": HOSTNAME, "operator": "In", "values": [host]}]}]);
    let object = json!({
        "metadata": {
            "name": volume,
            "labels": BTreeMap::from([(VOLUME_NODE, &name)]),
            "annotations": {PROVISIONED_BY: PROVISIONER},
            "finalizers": [VOLUME_FINALIZER],
        },
        "spec": {
            "storageClassName": class.name_any(),
            "capacity": {"storage": size},
            "accessModes": modes,
            "volumeMode": "Filesystem",
            "persistentVolumeReclaimPolicy": class.reclaim_policy.as_deref().unwrap_or("Delete"),
            "local": {"path": format!("{below}/{volume}")},
            "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": claim.namespace(),
                "name": claim.name_any(),
                "uid": claim.uid(),
            },
        },
    });
    serde_json::from_value(object).map_err(|error| error.to_string())
}

/// Whether a volume of ours is nobody's any more and is to be removed.
fn gone(volume: &PersistentVolume) -> Option<Write> {
    let is_ours = volume.annotations().get(PROVISIONED_BY).is_some_and(|by| by == PROVISIONER);
    let policy = volume.spec.as_ref()?.persistent_volume_reclaim_policy.as_deref();
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    let goes = is_ours
        && policy == Some("Delete")
        && phase == Some("Released")
        && volume.metadata.deletion_timestamp.is_none();
    goes.then(|| Write::Remove { volume: volume.name_any(), uid: volume.uid().unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::shelf::Seen;
    use crate::storage::News;
    use crate::world::Event;

    fn object<K: serde::de::DeserializeOwned>(object: Value) -> K {
        serde_json::from_value(object).unwrap()
    }

    fn known(mode: &str, claim: Value, volumes: Vec<Value>) -> Known {
        let mut known = Known::default();
        let node = |name: &str, dir: Option<&str>| -> Node {
            object(json!({"metadata": {"name": name, "annotations":
                dir.map(|dir| json!({LOCAL_VOLUMES: dir})),
                "labels": {HOSTNAME: name, SCHEDULABLE_LABEL: "true"}}}))
        };
        let nodes = vec![node("n1", None), node("n2", Some("/v")), node("n3", Some("/w"))];
        known.apply(&Event::Node(Seen::all(nodes)));
        let class = object(json!({"metadata": {"name": "berth-local"}, "reclaimPolicy": "Delete",
            "provisioner": PROVISIONER, "volumeBindingMode": mode}));
        known.apply(&Event::Storage(News::Class(Seen::all(vec![class]))));
        known.apply(&Event::Storage(News::Claim(Seen::all(vec![object(claim)]))));
        let volumes = volumes.into_iter().map(object).collect();
        known.apply(&Event::Storage(News::Volume(Seen::all(volumes))));
        known
    }

    fn claim(notes: Value) -> Value {
        json!({
            "metadata": {"name": "root", "namespace": "red", "uid": "u", "annotations": notes},
            "spec": {"storageClassName": "berth-local", "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}},
        })
    }

    /// The path and node of the one volume that is made.
    fn made(known: &Known) -> Option<(String, String)> {
        let mut writes = missing(known);
        let Some(Write::Volume(volume)) = writes.pop() else { return None };
        let path = volume.spec.clone().unwrap().local.unwrap().path;
        Some((path, volume.labels()[VOLUME_NODE].clone()))
    }

    fn told(known: &Known) -> String {
        match missing(known).pop() {
            Some(Write::Tell(warning)) => warning.message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_volume_is_made_on_the_node_that_was_chosen_and_not_before() {
        let later = "WaitForFirstConsumer";
        assert!(missing(&known(later, claim(json!({})), vec![])).is_empty());
        let chosen = claim(json!({SELECTED_NODE: "n3"}));
        let is = Some(("/w/pvc-u".to_owned(), "n3".to_owned()));
        assert_eq!(made(&known(later, chosen.clone(), vec![])), is);
        let first = Some(("/v/pvc-u".to_owned(), "n2".to_owned()));
        assert_eq!(made(&known(later, claim(json!({IMMEDIATE: "true"})), vec![])), first);
        assert_eq!(made(&known("Immediate", claim(json!({})), vec![])), first);
        let there = json!({"metadata": {"name": "pvc-u"}, "spec": {}});
        assert!(missing(&known(later, chosen, vec![there])).is_empty(), "it is made once");
    }

    #[test]
    fn what_a_directory_cannot_be_is_told_on_the_claim() {
        let mut shared = claim(json!({}));
        shared["spec"]["accessModes"] = json!(["ReadWriteMany"]);
        assert!(told(&known("Immediate", shared, vec![])).contains("accessModes ReadWriteOnce"));
        let mut block = claim(json!({}));
        block["spec"]["volumeMode"] = json!("Block");
        assert!(told(&known("Immediate", block, vec![])).contains("no block device"));
        let without = claim(json!({SELECTED_NODE: "n1"}));
        assert!(told(&known("Immediate", without, vec![])).contains("--local-volume-dir"));
    }

    #[test]
    fn a_volume_of_ours_goes_once_its_claim_is_gone_if_it_may() {
        let volume = |by: &str, policy: &str, phase: &str| {
            json!({"metadata": {"name": "v", "uid": "w", "annotations": {PROVISIONED_BY: by}},
                "spec": {"persistentVolumeReclaimPolicy": policy}, "status": {"phase": phase}})
        };
        let goes = |one: Value| {
            !missing(&known("Immediate", json!({"metadata": {}}), vec![one])).is_empty()
        };
        assert!(goes(volume(PROVISIONER, "Delete", "Released")));
        assert!(!goes(volume(PROVISIONER, "Retain", "Released")));
        assert!(!goes(volume(PROVISIONER, "Delete", "Bound")));
        assert!(!goes(volume("another", "Delete", "Released")));
    }
}
