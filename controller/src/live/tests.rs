use serde_json::{Value, json};

use super::*;

fn disk(name: &str, bus: &str) -> Value {
    json!({"name": name, "disk": {"bus": bus}})
}

fn claim(name: &str, claim: &str) -> Value {
    json!({"name": name, "persistentVolumeClaim": {"claimName": claim, "hotpluggable": true}})
}

fn spec(disks: &[Value], volumes: &[Value]) -> Value {
    json!({"domain": {"memory": {"guest": "1Gi"}, "devices": {"disks": disks}}, "volumes": volumes})
}

fn root() -> (Value, Value) {
    (disk("root", "virtio"), json!({"name": "root", "containerDisk": {"image": "os"}}))
}

fn vm(disks: &[Value], volumes: &[Value]) -> VirtualMachine {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "u1"},
        "spec": {"runStrategy": "Always", "template": {"spec": spec(disks, volumes)}},
    }))
    .unwrap()
}

/// An instance made of `vm`.
fn instance(vm: &VirtualMachine) -> VirtualMachineInstance {
    VirtualMachineInstance::new("web", instance_spec(vm))
}

fn names(spec: &VirtualMachineInstanceSpec) -> (Vec<&str>, Vec<&str>) {
    let disks = spec.domain.devices.disks.iter().map(|disk| disk.name.as_str());
    (disks.collect(), spec.volumes.iter().map(|volume| volume.name.as_str()).collect())
}

#[test]
fn a_disk_that_may_come_and_go_does_and_needs_no_restart() {
    let (disk0, volume0) = root();
    let before = vm(&[disk0.clone()], &[volume0.clone()]);
    let after = vm(&[disk("data", "scsi"), disk0.clone()], &[claim("data", "c1"), volume0.clone()]);
    let mut guest = instance(&before);
    guest.spec = updated(&guest, &after);
    assert_eq!(names(&guest.spec), (vec!["root", "data"], vec!["root", "data"]));
    assert!(is_met(&guest, &after));
    // Another claim in its place, in one step.
    let swapped = vm(&[disk0, disk("data", "scsi")], &[volume0, claim("data", "c2")]);
    guest.spec = updated(&guest, &swapped);
    assert_eq!(guest.spec.volumes[1].claim(), Some(("c2", false)));
    assert!(is_met(&guest, &swapped));
    guest.spec = updated(&guest, &before);
    assert_eq!(guest.spec, instance(&before).spec);
}

#[test]
fn what_cannot_come_or_go_asks_for_a_restart_and_is_left() {
    let (disk0, volume0) = root();
    let before = vm(&[disk0.clone()], &[volume0.clone()]);
    let guest = instance(&before);
    let fixed = json!({"name": "data", "persistentVolumeClaim": {"claimName": "c1"}});
    for (other, volume) in [
        (disk("data", "virtio"), fixed),
        (disk("data", "sata"), claim("data", "c1")),
        (json!({"name": "data", "cdrom": {"bus": "scsi"}}), claim("data", "c1")),
    ] {
        let after = vm(&[disk0.clone(), other.clone()], &[volume0.clone(), volume]);
        assert_eq!(updated(&guest, &after), guest.spec, "{other}");
        assert!(!is_met(&guest, &after), "{other}");
    }
    let turned = vm(&[disk("root", "scsi")], &[volume0]);
    assert!(!is_met(&guest, &turned));
}

#[test]
fn a_medium_comes_into_its_drive_and_goes_from_it() {
    let (disk0, volume0) = root();
    let drive = json!({"name": "cd", "cdrom": {"bus": "sata"}});
    let empty = vm(&[disk0.clone(), drive.clone()], &[volume0.clone()]);
    let full = vm(&[disk0, drive], &[volume0, claim("cd", "iso")]);
    let mut guest = instance(&empty);
    guest.spec = updated(&guest, &full);
    assert_eq!(guest.spec, instance(&full).spec);
    guest.spec = updated(&guest, &empty);
    assert_eq!(guest.spec, instance(&empty).spec, "the drive stays");
}

#[test]
fn what_an_instance_was_given_for_itself_it_keeps() {
    let (disk0, volume0) = root();
    let plain = vm(&[disk0], &[volume0]);
    let mut guest = instance(&plain);
    let more = vm(&[disk("more", "scsi")], &[claim("more", "c9")]).spec.template.spec;
    guest.spec.volumes.extend(more.volumes);
    guest.spec.domain.devices.disks.extend(more.domain.devices.disks);
    assert_eq!(names(&updated(&guest, &plain)).1, ["root"], "the template has lost it");
    guest.annotations_mut().insert(EPHEMERAL_VOLUMES.to_owned(), "other, more".to_owned());
    assert_eq!(updated(&guest, &plain), guest.spec);
    assert!(is_met(&guest, &plain));
}
