//! Ports and addresses of guests that move.

use crds::kubevirt::{MigrationPhase, VirtualMachineInstanceMigration};

use super::*;

fn change(world: &mut World, name: &str, change: impl FnOnce(&mut VirtualMachineInstance)) {
    let mut instance = world.instances.get(&key(name)).unwrap().as_ref().clone();
    let version: u64 = instance.resource_version().unwrap().parse().unwrap();
    instance.metadata.resource_version = Some((version + 1).to_string());
    change(&mut instance);
    world.put_instance(instance);
}

/// Two nodes that take part in migrations.
fn two_nodes(world: &mut World) {
    let node = |name: &str| {
        serde_json::from_value(json!({ "metadata": { "name": name,
            "labels": { "kubevirt.io/schedulable": "true" },
            "annotations": { "berth.io/migration-address": "192.0.2.1" } } }))
        .unwrap()
    };
    world.apply(Event::Node(Seen::all(vec![node("n1"), node("n2")])));
}

/// Says of an instance that it runs and can move.
fn runs(world: &mut World, name: &str) {
    change(world, name, |one| {
        let status = one.status.as_mut().unwrap();
        status.phase = Some(crds::kubevirt::InstancePhase::Running);
        status.conditions =
            serde_json::from_value(json!([{ "type": "LiveMigratable", "status": "True" }]))
                .unwrap();
    });
}

fn ask(world: &mut World, name: &str, vm: &str) {
    let migration: VirtualMachineInstanceMigration = serde_json::from_value(json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstanceMigration",
        "metadata": { "name": name, "namespace": "default", "uid": format!("uid-{name}"),
            "resourceVersion": "1", "creationTimestamp": "2026-01-01T00:00:00Z" },
        "spec": { "vmiName": vm },
    }))
    .unwrap();
    world.put_migration(migration);
}

/// Decides and writes of migrations what is decided, until nothing is.
fn settle(world: &mut World, vm: &str) -> Decision {
    for _ in 0..10 {
        let mut decision = decided(world, vm);
        let moves = std::mem::take(&mut decision.moves);
        if moves.instance.is_none() && moves.migrations.is_empty() {
            return decision;
        }
        if let Some(want) = moves.instance {
            change(world, vm, |one| {
                *one = VirtualMachineInstance {
                    metadata: ObjectMeta {
                        resource_version: one.resource_version(),
                        ..want.metadata.clone()
                    },
                    ..*want
                }
            });
        }
        for mut migration in moves.migrations {
            let version: u64 = migration.resource_version().unwrap().parse().unwrap();
            migration.metadata.resource_version = Some((version + 1).to_string());
            world.put_migration(migration);
        }
    }
    panic!("there is always something to write");
}

fn arrives(world: &mut World, vm: &str) {
    change(world, vm, |one| {
        let status = one.status.as_mut().unwrap();
        let state = status.migration_state.as_mut().unwrap();
        state.start_timestamp = Some(Time(now()));
        (state.completed, state.end_timestamp) = (true, Some(Time(now())));
        status.node_name.clone_from(&state.target_node);
    });
}

fn nodes(decision: &Decision) -> Vec<(Option<&str>, Option<&str>)> {
    let ports = decision.ports.iter();
    ports.map(|port| (port.node.as_deref(), port.target.as_deref())).collect()
}

fn options(decision: &Decision) -> Vec<String> {
    let rows = decision.ports.iter().map(crate::rows::port);
    let options = rows.flat_map(|rows| rows.ports.into_values().map(|row| row.options));
    options
        .map(|all| {
            let pairs: Vec<_> = all.iter().map(|(key, value)| format!("{key}={value}")).collect();
            pairs.join(" ")
        })
        .collect()
}

/// Of two ports that are this node's alone.
fn options_of(node: &str) -> Vec<String> {
    vec![format!("requested-chassis={node}"); 2]
}

const SHARED: &str = "activation-strategy=rarp requested-chassis=n1,n2";

#[test]
fn every_port_of_a_guest_that_moves_is_on_both_nodes_and_then_on_its_new_one() {
    let mut world = world();
    two_nodes(&mut world);
    let spec = SubnetSpec {
        cidr_block: "10.1.0.0/29".to_owned(),
        provider: "net2.default.ovn".to_owned(),
        vpc: "v".to_owned(),
        ..SubnetSpec::default()
    };
    world.apply(Event::Subnet(Seen::Now(Box::new(Subnet::new("s2", spec)))));
    let mut two = vm("web", "u1", "Always", None);
    two.spec.template.spec = serde_json::from_value(json!({
        "domain": { "devices": { "interfaces": [
            { "name": "a", "bridge": {} }, { "name": "b", "bridge": {} } ] } },
        "networks": [ { "name": "a", "pod": {} },
            { "name": "b", "multus": { "networkName": "net2" } } ],
    }))
    .unwrap();
    two.spec.template.metadata.get_or_insert_default().annotations = Some(
        [("net2.default.ovn.kubernetes.io/logical_switch".to_owned(), "s2".to_owned())].into(),
    );
    put(&mut world, two);
    let first = started(&mut world, "web");
    runs(&mut world, "web");
    assert_eq!(options(&settle(&mut world, "web")), ["requested-chassis=n1"; 2]);
    ask(&mut world, "m1", "web");
    let moving = settle(&mut world, "web");
    assert_eq!(options(&moving), [SHARED; 2]);
    assert_eq!(addresses(&moving), addresses(&first));
    arrives(&mut world, "web");
    let moved = settle(&mut world, "web");
    // Its old node gives it up when its tap there goes.
    assert_eq!(options(&moved), [SHARED; 2]);
    let later = moved.again_at.expect("it is looked at again");
    let policy = Policy { keep_vm_ip: true };
    let alone = decide(&mut world, &key("web"), policy, later);
    assert_eq!((options(&alone), alone.again_at), (options_of("n2"), None));
    assert_eq!(addresses(&moved), addresses(&first));
    let macs = |decision: &Decision| decision.ports.iter().map(|one| one.mac).collect::<Vec<_>>();
    assert_eq!(macs(&moved), macs(&first));
    let ip = crate::objects::ip(&moved.ports[0]);
    assert_eq!(ip.spec.node_name, "n2", "and people are told");
}

#[test]
fn migrations_that_are_over_take_nothing_from_one_under_way_over_a_restart() {
    let mut world = world();
    two_nodes(&mut world);
    put(&mut world, vm("web", "u1", "Always", None));
    started(&mut world, "web");
    runs(&mut world, "web");
    for (name, phase) in [("old1", MigrationPhase::Succeeded), ("old2", MigrationPhase::Failed)] {
        ask(&mut world, name, "web");
        let mut old = world.migrations.get(&key(name)).unwrap().as_ref().clone();
        old.metadata.resource_version = Some("2".to_owned());
        old.status.get_or_insert_default().phase = Some(phase);
        world.put_migration(old);
    }
    ask(&mut world, "m1", "web");
    assert_eq!(options(&settle(&mut world, "web")), [SHARED]);
    let mut anew = super::world();
    two_nodes(&mut anew);
    put(&mut anew, vm("web", "u1", "Always", None));
    for (_, instance) in world.instances.iter() {
        anew.put_instance(instance.as_ref().clone());
    }
    // The old ones are told last, and again.
    for name in ["m1", "old1", "old2", "old1"] {
        anew.put_migration(world.migrations.get(&key(name)).unwrap().as_ref().clone());
    }
    let decision = decided(&mut anew, "web");
    assert_eq!(options(&decision), [SHARED]);
    assert!(decision.moves.instance.is_none() && decision.moves.migrations.is_empty());
}

#[test]
fn a_template_edited_before_a_migration_changes_nothing_of_the_guest_that_moves() {
    let mut world = world();
    two_nodes(&mut world);
    put(&mut world, vm("web", "u1", "Always", Some("10.0.0.5")));
    started(&mut world, "web");
    runs(&mut world, "web");
    let mut edited = vm("web", "u1", "Always", Some("10.0.0.6"));
    edited.metadata.resource_version = Some("9".to_owned());
    let notes = edited.spec.template.metadata.as_mut().unwrap().annotations.as_mut().unwrap();
    notes.insert("ovn.kubernetes.io/logical_switch".to_owned(), "elsewhere".to_owned());
    notes.insert("ovn.kubernetes.io/mac_address".to_owned(), "02:00:00:00:00:66".to_owned());
    let before = decided(&mut world, "web").ports;
    put(&mut world, edited);
    ask(&mut world, "m1", "web");
    let moving = settle(&mut world, "web");
    assert_eq!(
        (addresses(&moving)[0].as_str(), options(&moving)),
        ("10.0.0.5", vec![SHARED.to_owned()])
    );
    arrives(&mut world, "web");
    let moved = settle(&mut world, "web");
    assert_eq!(addresses(&moved)[0], "10.0.0.5");
    assert_eq!((&moved.ports[0].subnet, moved.ports[0].mac), (&before[0].subnet, before[0].mac));
    assert!(moved.release.is_empty() && moved.surplus.is_empty(), "{moved:?}");
    assert!(moved.delete.is_none() && moved.create.is_none());
}

#[test]
fn an_instance_without_a_vm_keeps_port_and_address_through_a_migration_and_a_restart() {
    let mut world = world();
    two_nodes(&mut world);
    world.put_instance(
        serde_json::from_value(json!({
            "metadata": { "name": "alone", "namespace": "default", "uid": "i1", "resourceVersion": "1" },
            "spec": { "domain": { "devices": {} } },
        }))
        .unwrap(),
    );
    let first = decided(&mut world, "alone");
    let Some(Inscription::Placed(placed)) = &first.inscription else { panic!("{first:?}") };
    let mut placed = (**placed).clone();
    placed.metadata.resource_version = Some("2".to_owned());
    world.put_instance(placed);
    runs(&mut world, "alone");
    ask(&mut world, "m1", "alone");
    assert_eq!(options(&settle(&mut world, "alone")), [SHARED]);
    arrives(&mut world, "alone");
    let moved = settle(&mut world, "alone");
    assert_eq!(nodes(&moved), [(Some("n2"), None)]);
    let mut anew = super::world();
    two_nodes(&mut anew);
    anew.put_instance(world.instances.get(&key("alone")).unwrap().as_ref().clone());
    let after = decided(&mut anew, "alone");
    assert_eq!(addresses(&after), addresses(&first));
    assert_eq!(nodes(&after), [(Some("n2"), None)]);
    assert!(after.release.is_empty() && after.delete.is_none(), "{after:?}");
}

#[test]
fn without_keep_vm_ip_a_guest_that_moves_has_one_port_and_its_address() {
    let mut world = world();
    two_nodes(&mut world);
    put(&mut world, vm("web", "u1", "Always", None));
    let first = started(&mut world, "web");
    runs(&mut world, "web");
    ask(&mut world, "m1", "web");
    settle(&mut world, "web");
    let policy = Policy { keep_vm_ip: false };
    for _ in ["while it moves", "once it has"] {
        world.take_dirty();
        let decision = decide(&mut world, &key("web"), policy, now());
        assert_eq!(decision.ports.len(), 1);
        assert_eq!(addresses(&decision), addresses(&first));
        assert!(decision.release.is_empty() && decision.create.is_none(), "{decision:?}");
        arrives(&mut world, "web");
    }
}

#[test]
fn what_a_migration_asks_of_its_target_takes_the_place_of_nothing_that_the_vm_asks_for() {
    let mut world = world();
    let node = |name: &str, rack: &str| {
        let node = json!({ "metadata": { "name": name,
            "labels": { "kubevirt.io/schedulable": "true", "rack": rack, "disk": "ssd" },
            "annotations": { "berth.io/migration-address": "192.0.2.1" } } });
        serde_json::from_value(node).unwrap()
    };
    world.apply(Event::Node(Seen::all(vec![node("n1", "a"), node("n2", "a"), node("n3", "b")])));
    let mut spec = vm("web", "u1", "Always", None);
    spec.spec.template.spec.node_selector = Some([("rack".to_owned(), "a".to_owned())].into());
    put(&mut world, spec);
    let started = started(&mut world, "web");
    runs(&mut world, "web");
    let instance = world.instances.get(&key("web")).unwrap().clone();
    let target = |added: &[(&str, &str)]| {
        let added = added.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        crate::decide::seat::target(&world, &key("web"), &instance, Some(&added.collect()))
    };
    let source = started.ports[0].node.clone().unwrap();
    let other = if source == "n1" { "n2" } else { "n1" };
    assert_eq!(target(&[("disk", "ssd")]).as_deref(), Ok(other));
    assert_eq!(target(&[("rack", "b")]).as_deref(), Ok(other));
    assert!(target(&[("disk", "none")]).unwrap_err().contains("selector"));
}

#[test]
fn a_node_is_a_target_only_if_its_agent_takes_part_and_all_selectors_fit() {
    let mut world = world();
    put(&mut world, vm("web", "u1", "Always", None));
    started(&mut world, "web");
    runs(&mut world, "web");
    let node =
        json!({ "metadata": { "name": "n2", "labels": { "kubevirt.io/schedulable": "true" } } });
    world.apply(Event::Node(Seen::Now(Box::new(serde_json::from_value(node).unwrap()))));
    ask(&mut world, "m1", "web");
    settle(&mut world, "web");
    let told = |world: &World| {
        let status = world.migrations.get(&key("m1")).unwrap().status.clone().unwrap();
        status.conditions.iter().filter_map(|one| one.message.clone()).collect::<String>()
    };
    let said = told(&world);
    assert!(said.contains("n1: the guest is there"), "{said}");
    assert!(said.contains("n2: its agent takes no part"), "{said}");
    world.take_dirty();
    two_nodes(&mut world);
    let (dirty, _) = world.take_dirty();
    assert!(dirty.contains(&key("web")), "a node that takes part has it looked at again");
    assert_eq!(options(&settle(&mut world, "web")), [SHARED]);
}
