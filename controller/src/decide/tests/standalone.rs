//! Instances without a VM.

use super::*;

fn instance(name: &str, uid: &str, address: Option<&str>) -> VirtualMachineInstance {
    let annotations = address.map(|ip| json!({ "ovn.kubernetes.io/ip_address": ip }));
    serde_json::from_value(json!({
        "metadata": {
            "name": name, "namespace": "default", "uid": uid, "resourceVersion": "1",
            "annotations": annotations,
        },
        "spec": { "domain": { "devices": {} } },
    }))
    .unwrap()
}

fn with(
    world: &mut World,
    name: &str,
    version: &str,
    change: impl FnOnce(&mut VirtualMachineInstance),
) {
    let mut instance = world.instances.get(&key(name)).unwrap().as_ref().clone();
    instance.metadata.resource_version = Some(version.to_owned());
    change(&mut instance);
    world.put_instance(instance);
}

/// Decides, and puts the instance in as if its place had been written.
fn placed(world: &mut World, name: &str) -> Decision {
    let decision = decided(world, name);
    let Some(Inscription::Placed(instance)) = &decision.inscription else { panic!("{decision:?}") };
    let mut instance = (**instance).clone();
    instance.metadata.resource_version = Some("2".to_owned());
    world.put_instance(instance);
    decision
}

fn waits(decision: &Decision) -> &Trouble {
    let Some(Inscription::Waits(trouble)) = &decision.inscription else { panic!("{decision:?}") };
    trouble
}

#[test]
fn it_gets_addresses_a_node_and_everything_that_its_agent_looks_for() {
    let mut world = world();
    world.put_instance(instance("alone", "i1", Some("10.0.0.5")));
    let decision = placed(&mut world, "alone");
    assert_eq!(addresses(&decision), ["10.0.0.5", "fd00::2"]);
    assert_eq!(decision.ports[0].uid, "i1");
    let placed = world.instances.get(&key("alone")).unwrap();
    assert_eq!(node_of(placed), Some("n1"));
    assert_eq!(placed.labels()["kubevirt.io/nodeName"], "n1");
    assert_eq!(placed.annotations()["ovn.kubernetes.io/ip_address"], "10.0.0.5,fd00::2");
    assert_eq!(placed.annotations()["ovn.kubernetes.io/gateway"], "10.0.0.1,fd00::1");
    assert_eq!(placed.annotations()[annotations::OWNER_UID], "i1");
    assert_eq!(placed.finalizers(), [crds::kubevirt::INSTANCE_FINALIZER]);
    assert_eq!(placed.spec.networks[0].name, "default");
    assert_eq!(placed.spec.domain.firmware.as_ref().unwrap().uuid.as_deref(), Some("i1"));
    let again = decided(&mut world, "alone");
    assert!(again.inscription.is_none() && again.release.is_empty(), "{again:?}");
    assert_eq!(again.ports, decision.ports);
}

#[test]
fn its_addresses_are_its_own_until_the_object_is_gone() {
    for keep_vm_ip in [true, false] {
        let mut world = world();
        let mut of_a_set = instance("alone", "i1", None);
        let owner = json!([{ "apiVersion": "kubevirt.io/v1", "name": "set", "uid": "r1",
            "kind": "VirtualMachineInstanceReplicaSet", "controller": true }]);
        of_a_set.metadata.owner_references = serde_json::from_value(owner).unwrap();
        world.put_instance(of_a_set);
        let first = placed(&mut world, "alone");
        with(&mut world, "alone", "3", |one| {
            one.status.as_mut().unwrap().phase = Some(crds::kubevirt::InstancePhase::Succeeded);
        });
        let policy = Policy { keep_vm_ip };
        world.take_dirty();
        let ended = decide(&mut world, &key("alone"), policy, now());
        assert!(ended.release.is_empty() && ended.delete.is_none(), "{ended:?}");
        assert_eq!(ended.ports, first.ports);
        with(&mut world, "alone", "4", |one| one.metadata.deletion_timestamp = Some(Time(now())));
        world.take_dirty();
        assert!(decide(&mut world, &key("alone"), policy, now()).release.is_empty());
        gone(&mut world, "alone");
        world.take_dirty();
        let over = decide(&mut world, &key("alone"), policy, now());
        assert_eq!(over.release[0].0.uid, "i1");
        assert!(over.surplus.contains("alone.default"));
    }
}

#[test]
fn claimed_and_not_yet_placed_it_is_decided_the_same_again() {
    let mut world = world();
    world.put_instance(instance("alone", "i1", None));
    let first = decided(&mut world, "alone");
    committed(&mut world);
    let second = decided(&mut world, "alone");
    assert_eq!(second.ports, first.ports);
    assert!(
        second.release.is_empty() && matches!(second.inscription, Some(Inscription::Placed(_)))
    );
}

#[test]
fn a_vm_of_its_name_waits_and_inherits_nothing() {
    let mut world = world();
    world.put_instance(instance("web", "i1", None));
    let first = placed(&mut world, "web");
    for (strategy, version) in [("Halted", "5"), ("Always", "6")] {
        let mut of_its_name = vm("web", "u1", strategy, Some("10.0.0.5"));
        of_its_name.metadata.resource_version = Some(version.to_owned());
        put(&mut world, of_its_name);
        let both = decided(&mut world, "web");
        assert_eq!(both.trouble.as_ref().unwrap().reason, "InstanceInTheWay");
        assert!(both.release.is_empty() && both.surplus.is_empty(), "{both:?}");
        assert!(both.delete.is_none() && both.create.is_none(), "{both:?}");
        assert_eq!(both.ports, first.ports);
    }
    gone(&mut world, "web");
    let vms = decided(&mut world, "web");
    assert_eq!(vms.release[0].0.uid, "i1");
    assert_eq!(addresses(&vms)[0], "10.0.0.5");
}

#[test]
fn it_takes_nothing_from_a_vm_of_its_name_and_says_so() {
    let mut world = world();
    put(&mut world, vm("web", "u1", "Halted", Some("10.0.0.5")));
    let before = decided(&mut world, "web");
    world.put_instance(instance("web", "i1", None));
    let both = decided(&mut world, "web");
    assert!(waits(&both).message.contains("VirtualMachine default/web"), "{both:?}");
    assert!(both.is_waiting() && both.release.is_empty(), "{both:?}");
    assert_eq!(both.ports, before.ports);
    remove(&mut world, vm("web", "u1", "Halted", None));
    let alone = decided(&mut world, "web");
    assert!(matches!(alone.inscription, Some(Inscription::Placed(_))), "{alone:?}");
    assert_eq!(alone.release[0].0.uid, "u1");
    assert_ne!(addresses(&alone), addresses(&before));
}

#[test]
fn what_cannot_be_served_is_said_once_and_holds_nothing() {
    let mut world = world();
    put(&mut world, vm("web", "u1", "Always", Some("10.0.0.5")));
    started(&mut world, "web");
    world.put_instance(instance("alone", "i1", Some("10.0.0.5")));
    let decision = decided(&mut world, "alone");
    let trouble = waits(&decision);
    assert!(trouble.message.contains("held by web.default"), "{trouble:?}");
    assert!(world.ledger.held_for(&key("alone")).is_empty());
    let seen = world.instances.get(&key("alone")).unwrap().as_ref().clone();
    let status = machine::waiting_status(&seen, trouble, now()).unwrap();
    let told = VirtualMachineInstance { status: Some(status), ..seen };
    assert_eq!(machine::waiting_status(&told, trouble, now()), None);

    world.put_instance(instance("nowhere", "i2", Some("172.16.0.1")));
    assert_eq!(waits(&decided(&mut world, "nowhere")).reason, machine::INVALID_NETWORK);
    world.apply(Event::Node(Seen::all(vec![])));
    world.put_instance(instance("homeless", "i3", None));
    assert_eq!(waits(&decided(&mut world, "homeless")).reason, machine::UNSCHEDULABLE);
    world.take_dirty();
    let node =
        json!({ "metadata": { "name": "n1", "labels": { "kubevirt.io/schedulable": "true" } } });
    world.apply(Event::Node(Seen::all(vec![serde_json::from_value(node).unwrap()])));
    assert!(world.take_dirty().0.contains(&key("homeless")), "a node is news for it");
}

#[test]
fn a_lost_ledger_is_written_anew_and_an_edited_annotation_changes_nothing() {
    let mut world = world();
    world.put_instance(instance("alone", "i1", None));
    let first = placed(&mut world, "alone");
    with(&mut world, "alone", "3", |one| {
        one.annotations_mut()
            .insert("ovn.kubernetes.io/ip_address".to_owned(), "10.0.0.6,fd00::2".to_owned());
    });
    let edited = decided(&mut world, "alone");
    assert_eq!(edited.ports, first.ports);
    assert!(edited.release.is_empty(), "{edited:?}");

    let mut anew = super::world();
    let Some(Inscription::Placed(instance)) = &first.inscription else { panic!("{first:?}") };
    anew.put_instance((**instance).clone());
    assert_eq!(decided(&mut anew, "alone").ports, first.ports);
}

#[test]
fn one_that_is_deleted_or_has_ended_before_it_was_placed_gets_nothing() {
    let mut world = world();
    let mut leaving = instance("leaving", "i1", None);
    leaving.metadata.deletion_timestamp = Some(Time(now()));
    let mut ended = instance("ended", "i2", None);
    ended.status = Some(serde_json::from_value(json!({ "phase": "Failed" })).unwrap());
    for instance in [leaving, ended] {
        let name = instance.name_any();
        world.put_instance(instance);
        let decision = decided(&mut world, &name);
        assert!(decision.inscription.is_none() && decision.ports.is_empty(), "{decision:?}");
    }
}
