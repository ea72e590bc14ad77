use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::*;

fn object<K: serde::de::DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).unwrap()
}

/// It as it now is: newer than all before.
fn now<K>(mut one: Value) -> Seen<K>
where
    K: kube::Resource + serde::de::DeserializeOwned,
{
    static VERSION: AtomicU64 = AtomicU64::new(1);
    let version = VERSION.fetch_add(1, Ordering::Relaxed);
    one["metadata"]["resourceVersion"] = json!(version.to_string());
    Seen::Now(Box::new(object(one)))
}

/// A cluster with the claim `data`, bound to a volume of node `n2`.
fn storage() -> Storage {
    let mut storage = Storage::default();
    storage.apply(News::NoDataVolumes);
    storage.apply(News::NoImporter);
    storage.apply(News::Class(Seen::all(vec![])));
    storage.apply(News::Claim(Seen::all(vec![object(claim("Bound"))])));
    storage.apply(News::Volume(Seen::all(vec![object(volume())])));
    assert!(storage.is_known());
    storage
}

fn claim(phase: &str) -> Value {
    json!({
        "metadata": {"name": "data", "namespace": "default"},
        "spec": {"volumeName": "pv", "accessModes": ["ReadWriteOnce"]},
        "status": {"phase": phase, "capacity": {"storage": "1Gi"}},
    })
}

fn volume() -> Value {
    let terms = json!([{"matchExpressions":
        [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n2"]}]}]);
    json!({
        "metadata": {"name": "pv"},
        "spec": {
            "local": {"path": "/d"},
            "claimRef": {"namespace": "default", "name": "data"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
        },
    })
}

fn on(source: Value) -> Vec<Volume> {
    let mut volume = json!({"name": "disk"});
    volume.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
    vec![object(volume)]
}

fn on_data() -> Vec<Volume> {
    on(json!({"persistentVolumeClaim": {"claimName": "data"}}))
}

fn vm() -> VmKey {
    VmKey { namespace: "default".to_owned(), name: "web".to_owned() }
}

fn node(name: &str) -> Node {
    object(json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}}))
}

#[test]
fn a_disk_on_a_local_volume_has_its_vm_start_where_the_volume_is() {
    let ground = storage().ground(&vm(), &on_data(), &[]).unwrap();
    assert_eq!(ground.refusal(&node("n2")), None);
    let refused = ground.refusal(&node("n1")).unwrap();
    assert_eq!(
        refused,
        "volume node affinity conflict: persistentvolume \"pv\" is not of this node"
    );
    let info = ground.status[0].persistent_volume_claim_info.clone().unwrap();
    assert_eq!(info.claim_name.as_deref(), Some("data"));
    assert!(!info.is_shared());
    for source in [
        json!({"dataVolume": {"name": "data"}}),
        json!({"ephemeral": {"persistentVolumeClaim": {"claimName": "data"}}}),
    ] {
        assert!(storage().ground(&vm(), &on(source), &[]).unwrap().refusal(&node("n1")).is_some());
    }
}

#[test]
fn a_claim_that_is_not_there_is_told_in_kubevirts_words_and_waited_for() {
    let mut storage = storage();
    storage.apply(News::Claim(Seen::gone(&object(claim("Bound")))));
    let trouble = storage.ground(&vm(), &on_data(), &[]).unwrap_err();
    assert_eq!(trouble.reason, FAILED_PVC_NOT_FOUND);
    assert_eq!(trouble.message, "failed to render launch manifest: didn't find PVC data");
    let elsewhere = json!({"metadata": {"name": "data", "namespace": "other"}});
    assert!(storage.apply(News::Claim(now(elsewhere))).is_empty());
    assert_eq!(storage.apply(News::Claim(now(claim("Pending")))), BTreeSet::from([vm()]));

    let trouble = storage.ground(&vm(), &on_data(), &[]).unwrap_err();
    assert_eq!(trouble.reason, WAITING_FOR_VOLUME_BINDING);
    assert_eq!(storage.apply(News::Claim(now(claim("Bound")))), BTreeSet::from([vm()]));
    storage.ground(&vm(), &on_data(), &[]).unwrap();
}

#[test]
fn a_volume_that_comes_after_its_claim_is_waited_for() {
    let mut storage = storage();
    storage.apply(News::Volume(Seen::gone(&object(volume()))));
    let trouble = storage.ground(&vm(), &on_data(), &[]).unwrap_err();
    assert_eq!(trouble.reason, WAITING_FOR_VOLUME_BINDING);
    assert_eq!(storage.apply(News::Volume(now(volume()))), BTreeSet::from([vm()]));
}

#[test]
fn a_data_volume_is_waited_for_until_it_is_filled() {
    let mut storage = storage();
    storage.apply(News::Importer(Seen::all(vec![])));
    let volumes = on(json!({"dataVolume": {"name": "data"}}));
    let mut told = |status: Value| {
        let one = json!({"apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume",
            "metadata": {"name": "data", "namespace": "default"}, "spec": {}, "status": status});
        storage.apply(News::DataVolume(now(one)));
        storage.ground(&vm(), &volumes, &[]).err().map(|trouble| trouble.reason)
    };
    assert_eq!(told(json!({"phase": "ImportInProgress"})), Some(DATA_VOLUMES_NOT_READY));
    assert_eq!(told(json!({})), Some(DATA_VOLUMES_NOT_READY));
    let error =
        json!([{"type": "Running", "status": "False", "reason": "Error", "message": "404"}]);
    let broken = json!({"phase": "ImportInProgress", "conditions": error});
    assert_eq!(told(broken), Some(DATA_VOLUME_FAILED));
    assert_eq!(told(json!({"phase": "WaitForFirstConsumer"})), Some(WAITING_FOR_VOLUME_BINDING));
    assert_eq!(told(json!({"phase": "Succeeded"})), None);
}

/// A cluster with the claim `data` without a volume, of a class like this.
fn consumed(provisioner: &str, mode: &str, notes: Value) -> Storage {
    let mut storage = storage();
    let class = json!({"metadata": {"name": "quick"}, "provisioner": provisioner,
        "volumeBindingMode": mode});
    storage.apply(News::Class(Seen::all(vec![object(class)])));
    let claim = json!({
        "metadata": {"name": "data", "namespace": "default", "uid": "c", "annotations": notes},
        "spec": {"storageClassName": "quick"}, "status": {"phase": "Pending"},
    });
    storage.apply(News::Claim(now(claim)));
    storage
}

#[test]
fn a_claim_that_waits_for_its_first_user_gets_its_volume_where_that_is_placed() {
    let later = "WaitForFirstConsumer";
    let mut storage = consumed("someone", later, json!({}));
    let ground = storage.ground(&vm(), &on_data(), &[]).unwrap();
    let trouble = storage.select(&vm(), &ground, "n1").unwrap_err();
    assert_eq!(trouble.reason, WAITING_FOR_VOLUME_BINDING);
    let place = VmKey { namespace: "default".to_owned(), name: "data".to_owned() };
    let chosen = Selection { claim: place, uid: "c".to_owned(), node: "n1".to_owned() };
    assert_eq!(storage.take_selections(), [chosen]);
    assert!(storage.take_selections().is_empty(), "told once");
    assert_eq!(storage.apply(News::Claim(now(claim("Bound")))), BTreeSet::from([vm()]));
    let bound = storage.ground(&vm(), &on_data(), &[]).unwrap();
    assert_eq!(storage.select(&vm(), &bound, "n2"), Ok(()));

    // It is chosen once, and only where somebody makes volumes.
    for (provisioner, mode, notes) in [
        ("someone", later, json!({ SELECTED_NODE: "n2" })),
        ("someone", "Immediate", json!({})),
        ("kubernetes.io/no-provisioner", later, json!({})),
    ] {
        let mut storage = consumed(provisioner, mode, notes);
        let trouble = storage.ground(&vm(), &on_data(), &[]).unwrap_err();
        assert_eq!(trouble.reason, WAITING_FOR_VOLUME_BINDING, "{provisioner} {mode}");
    }
}

#[test]
fn volumes_of_agents_are_made_where_an_agent_makes_some() {
    let mut storage = consumed(PROVISIONER, "WaitForFirstConsumer", json!({}));
    let ground = storage.ground(&vm(), &on_data(), &[]).unwrap();
    let mut makes = node("n1");
    assert!(ground.refusal(&makes).unwrap().contains("--local-volume-dir"));
    makes.annotations_mut().insert(LOCAL_VOLUMES.to_owned(), "/v".to_owned());
    assert_eq!(ground.refusal(&makes), None);
}

#[test]
fn a_disk_that_comes_with_its_vm_is_waited_for_from_the_beginning() {
    let mut storage = storage();
    storage.apply(News::Claim(Seen::gone(&object(claim("Bound")))));
    let volumes = on(json!({"dataVolume": {"name": "data"}}));
    let comes: DataVolumeTemplate = object(json!({"metadata": {"name": "data"}, "spec": {}}));
    let told = |storage: &mut Storage| {
        let comes = std::slice::from_ref(&comes);
        storage.filling(&vm(), &volumes, comes).map(|trouble| trouble.reason)
    };
    assert_eq!(told(&mut storage), Some(DATA_VOLUMES_NOT_READY));
    assert_eq!(storage.filling(&vm(), &volumes, &[]), None, "it waits for nothing of its own");
    let data_volume = |phase: &str| {
        let one = json!({"apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume",
            "metadata": {"name": "data", "namespace": "default", "uid": "dv"}, "spec": {},
            "status": {"phase": phase}});
        News::DataVolume(now(one))
    };
    assert_eq!(storage.apply(data_volume("Pending")), BTreeSet::from([vm()]));
    // What is bound and not filled is nobody's to start on, by whatever name.
    let mut bound = claim("Bound");
    bound["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "a", "kind": "DataVolume", "name": "data", "uid": "dv"}]);
    storage.apply(News::Claim(now(bound)));
    for phase in ["", "PVCBound", "WaitForFirstConsumer", "ImportInProgress"] {
        storage.apply(data_volume(phase));
        assert_eq!(told(&mut storage), Some(DATA_VOLUMES_NOT_READY), "{phase}");
        let trouble = storage.ground(&vm(), &on_data(), &[]).unwrap_err();
        assert_eq!(trouble.reason, DATA_VOLUMES_NOT_READY, "{phase}");
    }
    storage.apply(data_volume("Failed"));
    assert_eq!(told(&mut storage), Some(DATA_VOLUME_FAILED));
    storage.apply(data_volume("Succeeded"));
    assert_eq!(told(&mut storage), None);
    storage.ground(&vm(), &on_data(), &[]).unwrap();
}

#[test]
fn nodes_are_told_apart_as_a_term_says() {
    let meets = |expression: Value| {
        let term: NodeSelectorTerm = object(json!({"matchExpressions": [expression]}));
        let mut node = node("n1");
        node.labels_mut().insert("rank".to_owned(), "7".to_owned());
        super::meets(&node, &term)
    };
    let rank = |operator: &str, values: Value| {
        meets(json!({"key": "rank", "operator": operator, "values": values}))
    };
    assert!(rank("In", json!(["6", "7"])) && !rank("In", json!(["6"])));
    assert!(rank("NotIn", json!(["6"])) && !rank("NotIn", json!(["7"])));
    assert!(rank("Exists", json!(null)) && !rank("DoesNotExist", json!(null)));
    assert!(rank("Gt", json!(["6"])) && !rank("Gt", json!(["7"])) && rank("Lt", json!(["8"])));
    assert!(!rank("Resembles", json!(["7"])));
    let by_field = object(json!({"matchFields":
        [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}));
    assert!(super::meets(&node("n1"), &by_field) && !super::meets(&node("n2"), &by_field));
    assert!(!super::meets(&node("n1"), &NodeSelectorTerm::default()));
}
