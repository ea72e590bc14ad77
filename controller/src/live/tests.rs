use crds::kubevirt::faults;
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
    let before = vm(std::slice::from_ref(&disk0), std::slice::from_ref(&volume0));
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
    let before = vm(std::slice::from_ref(&disk0), std::slice::from_ref(&volume0));
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
fn a_guest_loses_no_disk_because_its_template_says_it_otherwise() {
    let (disk0, volume0) = root();
    let has = vm(&[disk0.clone(), disk("data", "scsi")], &[volume0.clone(), claim("data", "c1")]);
    let guest = instance(&has);
    let fixed = json!({"name": "data", "persistentVolumeClaim": {"claimName": "c1"}});
    let bus = json!({"name": "data", "disk": {}});
    for (disk, volume) in [
        (disk("data", "scsi"), fixed),
        (disk("data", "sata"), claim("data", "c2")),
        (bus, claim("data", "c2")),
    ] {
        let after = vm(&[disk0.clone(), disk.clone()], &[volume0.clone(), volume]);
        assert_eq!(updated(&guest, &after), guest.spec, "{disk}");
        assert!(!is_met(&guest, &after), "{disk}");
    }
    // Nothing is unplugged from a bus that lets nothing go.
    let sata = vm(&[disk0.clone(), disk("data", "sata")], &[volume0.clone(), claim("data", "c1")]);
    let (guest, without) = (instance(&sata), vm(&[disk0], &[volume0]));
    assert_eq!(updated(&guest, &without), guest.spec);
    assert!(!is_met(&guest, &without));
}

#[test]
fn a_medium_comes_into_its_drive_and_goes_from_it() {
    let (disk0, volume0) = root();
    let drive = json!({"name": "cd", "cdrom": {"bus": "sata"}});
    let empty = vm(&[disk0.clone(), drive.clone()], std::slice::from_ref(&volume0));
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

/// What a controller with this strategy makes of a guest that runs and of its changed VM.
fn rolled_out(
    rollout: Rollout,
    guest: &VirtualMachineInstance,
    vm: &VirtualMachine,
) -> (Option<&'static str>, bool) {
    let mut world = World::new(60);
    world.rollout = rollout;
    let mut guest = guest.clone();
    guest.metadata = serde_json::from_value(json!({
        "name": "web", "namespace": "default", "uid": "i1",
        "ownerReferences": [{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
            "name": "web", "uid": "u1", "controller": true}],
    }))
    .unwrap();
    guest.status.get_or_insert_default().phase = Some(InstancePhase::Running);
    let key = crate::ledger::VmKey { namespace: "default".into(), name: "web".into() };
    world.put_instance(guest);
    world.put_machine(vm.clone());
    let mut decision = Decision::nothing_for(key);
    judge(&mut world, &mut decision);
    (decision.withheld, decision.inscription.is_some())
}

#[test]
fn a_staged_template_reaches_its_guest_with_a_restart_and_the_vm_says_so() {
    let one = sized(&json!({"cpu": {"cores": 2}}));
    let guest = instance(&one);
    let more = sized(&json!({"cpu": {"cores": 2, "sockets": 2}}));
    assert_eq!(rolled_out(Rollout::LiveUpdate, &guest, &more), (None, true));
    assert_eq!(rolled_out(Rollout::Stage, &guest, &more), (Some(STAGED), false));
    assert_eq!(rolled_out(Rollout::Stage, &guest, &one), (None, false));
}

fn sized(domain: &Value) -> VirtualMachine {
    let mut vm = vm(&[], &[]);
    let mut whole = json!({"devices": {}});
    whole.as_object_mut().unwrap().extend(domain.as_object().unwrap().clone());
    vm.spec.template.spec.domain = serde_json::from_value(whole).unwrap();
    vm
}

#[test]
fn sockets_come_up_to_what_there_is_room_for_and_do_not_go() {
    let one = sized(&json!({"cpu": {"cores": 2}}));
    let guest = instance(&one);
    assert_eq!(guest.spec.domain.cpu.as_ref().unwrap().max_sockets, Some(4));
    let of = |sockets: u32| sized(&json!({"cpu": {"cores": 2, "sockets": sockets}}));
    let more = updated(&guest, &of(2));
    assert_eq!(more.domain.cpu.as_ref().unwrap().sockets, Some(2));
    assert!(is_met(&guest, &of(2)));
    assert!(!is_met(&guest, &of(5)));
    assert!(restart_message(&guest, &of(5)).contains("higher than what's available"));
    let grown = VirtualMachineInstance::new("web", more);
    assert_eq!(updated(&grown, &one), grown.spec);
    assert!(!is_met(&grown, &one));
    assert!(restart_message(&grown, &one).contains("Reduction of CPU socket count"));
    let cores = sized(&json!({"cpu": {"cores": 4}}));
    assert!(!is_met(&guest, &cores));
}

#[test]
fn memory_comes_and_goes_between_what_it_began_with_and_what_it_may_be() {
    let of = |guest: &str| sized(&json!({"memory": {"guest": guest}}));
    let guest = instance(&of("1Gi"));
    let most = |guest: &VirtualMachineInstance| guest.spec.domain.memory.clone().unwrap().max_guest;
    assert_eq!(most(&guest), Some("4096Mi".into()));
    for (size, comes) in
        [("2Gi", true), ("4Gi", true), ("5Gi", false), ("512Mi", false), ("1025Mi", false)]
    {
        let after = of(size);
        assert_eq!(updated(&guest, &after) != guest.spec, comes, "{size}");
        assert_eq!(is_met(&guest, &after), comes, "{size}");
    }
    let mut grown = VirtualMachineInstance::new("web", updated(&guest, &of("2Gi")));
    assert!(!is_met(&grown, &of("1Gi")), "nobody knows what it began with");
    let memory = json!({"phase": "Running", "memory": {"guestAtBoot": "1Gi"}});
    grown.status = Some(serde_json::from_value(memory).unwrap());
    assert_eq!(updated(&grown, &of("1Gi")), guest.spec);
    let small = instance(&of("128Mi"));
    assert_eq!(most(&small), None);
    assert!(!is_met(&small, &of("256Mi")));
}

#[test]
fn more_sockets_than_there_may_be_are_refused() {
    let of = |cpu: &Value| {
        let vm = sized(&json!({"cpu": cpu}));
        let causes = faults::of_spec(&vm.spec.template.spec, "spec.template.spec");
        causes.into_iter().map(|cause| cause.message).find(|text| text.contains("sockets"))
    };
    assert!(of(&json!({"sockets": 3, "maxSockets": 2})).unwrap().contains("maximum sockets"));
    assert_eq!(of(&json!({"sockets": 2, "maxSockets": 2})), None);
    assert_eq!(of(&json!({"sockets": 3})), None);
}

#[test]
fn an_instance_that_was_made_before_there_was_room_to_grow_needs_no_restart() {
    let plain = sized(&json!({"memory": {"guest": "1Gi"}}));
    let mut guest = instance(&plain);
    guest.spec.domain.cpu = None;
    guest.spec.domain.memory.as_mut().unwrap().max_guest = None;
    assert!(is_met(&guest, &plain));
    assert_eq!(updated(&guest, &plain), guest.spec);
    let more = sized(&json!({"memory": {"guest": "1Gi"}, "cpu": {"sockets": 2}}));
    assert!(!is_met(&guest, &more));
}

#[test]
fn a_cable_is_put_in_and_out_and_an_absent_interface_comes_back_at_the_next_start() {
    let of = |state: &str| {
        let mut vm = vm(&[], &[]);
        let spec = &mut vm.spec.template.spec;
        spec.networks = serde_json::from_value(json!([{"name": "a", "pod": {}}])).unwrap();
        let interfaces = json!([{"name": "a", "bridge": {}, "state": state}]);
        spec.domain.devices.interfaces = serde_json::from_value(interfaces).unwrap();
        vm
    };
    let mut guest = instance(&of("up"));
    for state in ["down", "up", "absent"] {
        guest.spec = updated(&guest, &of(state));
        assert_eq!(guest.spec.domain.devices.interfaces[0].state.as_deref(), Some(state));
        assert!(is_met(&guest, &of(state)));
    }
    assert!(!is_met(&guest, &of("up")));
}
