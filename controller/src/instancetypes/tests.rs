use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::storage;

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// Each file has what is put together, and what comes of it or why that cannot be.
#[test]
fn every_golden_template_becomes_what_its_file_says() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/instancetypes/golden");
    let mut compared = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let mut case: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let said = |name: &str| case.get(name).filter(|value| !value.is_null());
        let made = expand(said("instancetype"), said("preference"), &case["template"]);
        let (field, got) = match made {
            Ok(made) => ("becomes", made),
            Err(conflict) => ("refused", json!(conflict.to_string())),
        };
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            case[field] = got;
            fs::write(&path, serde_json::to_string_pretty(&case).unwrap() + "\n").unwrap();
        } else {
            assert_eq!(case[field], got, "{}: UPDATE_GOLDEN=1 accepts it", path.display());
        }
        compared += 1;
    }
    assert!(compared >= 6, "only {compared} golden files found");
}

fn instancetype(cores: u32, generation: i64) -> VirtualMachineClusterInstancetype {
    object(json!({
        "apiVersion": "instancetype.kubevirt.io/v1beta1", "kind": "VirtualMachineClusterInstancetype",
        "metadata": {"name": "small", "uid": "it-1", "generation": generation,
            "resourceVersion": generation.to_string(), "labels": {"a": "b"}},
        "spec": {"cpu": {"guest": cores}, "memory": {"guest": "1Gi"}},
    }))
}

fn preference() -> VirtualMachinePreference {
    object(json!({
        "apiVersion": "instancetype.kubevirt.io/v1beta1", "kind": "VirtualMachinePreference",
        "metadata": {"name": "linux", "namespace": "shop", "uid": "pr-1", "generation": 1, "resourceVersion": "1"},
        "spec": {"cpu": {"preferredCPUTopology": "cores"}, "devices": {"preferredDiskBus": "virtio"}},
    }))
}

/// None of them, and all that is known.
fn none() -> Kinds {
    let mut kinds = Kinds::default();
    for at in 0..5 {
        kinds.apply(News::Absent(at));
    }
    kinds
}

fn kinds() -> Kinds {
    let mut kinds = none();
    kinds.apply(News::ClusterInstancetype(Seen::all(vec![instancetype(2, 1)])));
    kinds.apply(News::Preference(Seen::all(vec![preference()])));
    kinds
}

fn vm(more: Value) -> Arc<VirtualMachine> {
    let mut vm = json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
        "metadata": {"name": "web", "namespace": "shop", "uid": "vm-1", "generation": 1},
        "spec": {"runStrategy": "Always", "template": {"spec": {
            "domain": {"devices": {"disks": [{"name": "root"}]}},
            "volumes": [{"name": "root", "persistentVolumeClaim": {"claimName": "disk"}}],
        }}},
    });
    let spec = vm["spec"].as_object_mut().unwrap();
    spec.extend(more.as_object().unwrap().clone());
    Arc::new(object(vm))
}

fn both() -> Arc<VirtualMachine> {
    vm(json!({"instancetype": {"name": "small"},
        "preference": {"name": "linux", "kind": "VirtualMachinePreference"}}))
}

fn keep(kinds: &mut Kinds, vm: &Arc<VirtualMachine>) -> Keep {
    match kinds.effective(vm, &Storage::default()).unwrap_err() {
        Unready::Keep(keep) => *keep,
        other => panic!("{other:?}"),
    }
}

/// The VM as its status says afterwards, with what was to be kept kept.
fn kept(kinds: &mut Kinds, vm: &Arc<VirtualMachine>) -> Arc<VirtualMachine> {
    let keep = keep(kinds, vm);
    keep.revisions.into_iter().for_each(|one| kinds.put_revision(one));
    let mut vm = VirtualMachine::clone(vm);
    let status = vm.status.get_or_insert_default();
    status.instancetype_ref = keep.refs.get("instancetypeRef").cloned();
    status.preference_ref = keep.refs.get("preferenceRef").cloned();
    Arc::new(vm)
}

#[test]
fn what_a_vm_refers_to_is_kept_first_under_kubevirts_name() {
    let keep = keep(&mut kinds(), &both());
    let names: Vec<_> = keep.revisions.iter().map(|one| one.name_any()).collect();
    assert_eq!(names, ["web-small-v1beta1-it-1-1", "web-linux-v1beta1-pr-1-1"]);
    let first = &keep.revisions[0];
    assert_eq!(
        first.labels()["instancetype.kubevirt.io/object-kind"],
        "VirtualMachineClusterInstancetype"
    );
    assert_eq!(first.owner_references()[0].uid, "vm-1");
    let data = &first.data.as_ref().unwrap().0;
    assert_eq!(
        (&data["spec"]["cpu"]["guest"], &data["metadata"]["labels"]),
        (&json!(2), &Value::Null)
    );
    let told = json!(keep.refs);
    assert_eq!(
        told["instancetypeRef"]["controllerRevisionRef"]["name"],
        "web-small-v1beta1-it-1-1"
    );
    assert_eq!(told["instancetypeRef"]["kind"], "virtualmachineclusterinstancetype");
    assert_eq!(told["preferenceRef"]["kind"], "VirtualMachinePreference");
}

#[test]
fn an_edited_or_deleted_instancetype_changes_no_vm_that_has_referred_to_it() {
    let mut kinds = kinds();
    let vm = kept(&mut kinds, &both());
    let cores = |kinds: &mut Kinds, vm: &Arc<VirtualMachine>| {
        let made = kinds.effective(vm, &Storage::default()).unwrap();
        made.spec.template.spec.domain.cpu.clone().unwrap().cores
    };
    assert_eq!(cores(&mut kinds, &vm), Some(2));
    kinds.apply(News::ClusterInstancetype(Seen::Now(Box::new(instancetype(8, 2)))));
    assert_eq!(cores(&mut kinds, &vm), Some(2));
    kinds.apply(News::ClusterInstancetype(Seen::all(vec![])));
    assert_eq!(cores(&mut kinds, &vm), Some(2));
    // Another VM has it as it is, and one that is told another name keeps that.
    kinds.apply(News::ClusterInstancetype(Seen::all(vec![instancetype(8, 2)])));
    let mut other = VirtualMachine::clone(&vm);
    other.metadata.name = Some("db".to_owned());
    other.status = None;
    let other = kept(&mut kinds, &Arc::new(other));
    assert_eq!(cores(&mut kinds, &other), Some(8));
    let mut renamed = VirtualMachine::clone(&vm);
    renamed.spec.instancetype.as_mut().unwrap().name = Some("large".to_owned());
    renamed.metadata.generation = Some(2);
    let unready = kinds.effective(&Arc::new(renamed), &Storage::default()).unwrap_err();
    let Unready::Trouble(trouble) = unready else { panic!("{unready:?}") };
    assert_eq!(trouble.reason, "FailedFindInstancetype");
    assert_eq!(
        trouble.message,
        "virtualmachineclusterinstancetypes.instancetype.kubevirt.io \"large\" not found"
    );
}

#[test]
fn an_instance_says_by_annotations_what_it_was_made_of() {
    let mut kinds = kinds();
    let vm = kept(&mut kinds, &both());
    let made = kinds.effective(&vm, &Storage::default()).unwrap();
    let notes = made.spec.template.metadata.as_ref().unwrap().annotations.clone().unwrap();
    assert_eq!(notes["kubevirt.io/cluster-instancetype-name"], "small");
    assert_eq!(notes["kubevirt.io/preference-name"], "linux");
    assert_eq!(json!(made.spec.template.spec.domain.devices.disks[0].disk)["bus"], "virtio");
}

#[test]
fn a_vm_waits_for_what_it_refers_to_and_is_looked_at_once_that_comes() {
    let mut kinds = none();
    let unready = kinds.effective(&both(), &Storage::default()).unwrap_err();
    assert!(matches!(unready, Unready::Trouble(_)), "{unready:?}");
    let woken = kinds.apply(News::ClusterInstancetype(Seen::all(vec![instancetype(2, 1)])));
    assert_eq!(woken, BTreeSet::from([vm_key_of(&both().metadata)]));
    assert_eq!(kinds.apply(News::Preference(Seen::all(vec![]))), BTreeSet::new());
}

#[test]
fn nothing_is_said_to_be_missing_before_all_is_listed() {
    let mut kinds = Kinds::default();
    for at in 0..5 {
        let unready = kinds.effective(&both(), &Storage::default()).unwrap_err();
        assert_eq!(unready, Unready::Unlisted);
        assert!(!kinds.apply(News::Absent(at)).is_empty(), "who waits for that is looked at");
    }
    let unready = kinds.effective(&both(), &Storage::default()).unwrap_err();
    assert!(matches!(unready, Unready::Trouble(_)), "{unready:?}");
}

#[test]
fn a_revision_that_a_vm_names_counts_and_one_that_is_not_there_is_told() {
    let mut kinds = kinds();
    let first = keep(&mut kinds, &both());
    first.revisions.into_iter().for_each(|one| kinds.put_revision(one));
    let named = |name: &str| vm(json!({"instancetype": {"name": "gone", "revisionName": name}}));
    let made = kinds.effective(&named("web-small-v1beta1-it-1-1"), &Storage::default()).unwrap();
    assert_eq!(made.spec.template.spec.domain.cpu.clone().unwrap().sockets, Some(2));
    let unready = kinds.effective(&named("none"), &Storage::default()).unwrap_err();
    let Unready::Trouble(trouble) = unready else { panic!("{unready:?}") };
    assert_eq!(trouble.message, "controllerrevisions.apps \"none\" not found");
}

#[test]
fn a_conflict_is_told_before_anything_is_kept_and_at_admission_in_the_same_words() {
    let mut kinds = kinds();
    let mut vm = VirtualMachine::clone(&both());
    vm.spec.template.spec.domain.cpu = object(json!({"cores": 4}));
    let words =
        "VM field(s) spec.template.spec.domain.cpu.cores conflicts with selected instance type";
    assert_eq!(kinds.judge(&vm), (Some(words.to_owned()), vec![]));
    let unready = kinds.effective(&Arc::new(vm), &Storage::default()).unwrap_err();
    let trouble = Trouble { reason: "FailedCreate", message: words.to_owned() };
    assert_eq!(unready, Unready::Trouble(trouble));
    let kindless = self::vm(json!({"instancetype": {"name": "small", "kind": "Flavour"}}));
    let (refusal, _) = kinds.judge(&kindless);
    assert_eq!(refusal.as_deref(), Some("got unexpected kind in InstancetypeMatcher: Flavour"));
    let (refusal, waits) = kinds.judge(&self::vm(json!({"preference": {"name": "none"}})));
    assert!(refusal.is_none() && waits[0].contains("not found"), "objects come in any order");
    assert_eq!(kinds.judge(&both()), (None, vec![]));
}

#[test]
fn a_volume_says_which_instancetype_its_vm_has() {
    let labelled = |labels: Value| {
        let mut storage = Storage::default();
        let claim = json!({"metadata": {"name": "disk", "namespace": "shop", "labels": labels}});
        storage.apply(storage::News::Claim(Seen::all(vec![object(claim)])));
        storage
    };
    let infers = |policy: &str| {
        vm(
            json!({"instancetype": {"inferFromVolume": "root", "inferFromVolumeFailurePolicy": policy}}),
        )
    };
    let told = labelled(json!({"instancetype.kubevirt.io/default-instancetype": "small"}));
    let mut kinds = kinds();
    let unready = kinds.effective(&infers("Reject"), &told).unwrap_err();
    let Unready::Keep(keep) = unready else { panic!("{unready:?}") };
    let said = json!(keep.refs)["instancetypeRef"].clone();
    assert_eq!((&said["name"], &said["inferFromVolume"]), (&json!("small"), &json!("root")));
    // Kept, it stays so whatever the volume says later.
    let mut kept = VirtualMachine::clone(&infers("Reject"));
    kept.status.get_or_insert_default().instancetype_ref =
        keep.refs.get("instancetypeRef").cloned();
    keep.revisions.into_iter().for_each(|one| kinds.put_revision(one));
    kinds.effective(&Arc::new(kept), &labelled(json!({}))).unwrap();

    let silent = labelled(json!({}));
    let unready = kinds.effective(&infers("Reject"), &silent).unwrap_err();
    let Unready::Trouble(trouble) = unready else { panic!("{unready:?}") };
    assert_eq!(
        trouble.message,
        "unable to find required instancetype.kubevirt.io/default-instancetype label on the volume"
    );
    let made = kinds.effective(&infers("Ignore"), &silent).unwrap();
    assert_eq!(made.spec.template.spec.domain.cpu, None, "it does without");
    let elsewhere = vm(json!({"instancetype": {"inferFromVolume": "other"}}));
    let unready = kinds.effective(&elsewhere, &told).unwrap_err();
    assert!(
        matches!(&unready, Unready::Trouble(one)
        if one.message == "unable to find volume other to infer defaults"),
        "{unready:?}"
    );
}

#[test]
fn a_machine_that_refers_to_nothing_is_expanded_as_it_is() {
    let plain = vm(json!({}));
    assert_eq!(kinds().expanded(&plain, &Storage::default()).unwrap(), *plain);
    assert_eq!(kinds().effective(&plain, &Storage::default()).unwrap(), plain);
}

#[test]
fn a_vm_is_expanded_without_its_references() {
    let expanded = kinds().expanded(&both(), &Storage::default()).unwrap();
    let written = json!(expanded);
    assert_eq!(written["spec"].get("instancetype"), None);
    assert_eq!(written["spec"].get("preference"), None);
    assert_eq!(written["spec"]["template"]["spec"]["domain"]["cpu"]["cores"], 2);
    assert_eq!(written["spec"]["template"]["spec"]["domain"]["memory"]["guest"], "1Gi");
}
