use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;

use super::*;
use crate::decide::tests::{committed, decided, gone, key, now, put, started, vm, world};
use crate::shelf::Seen;
use crate::world::Event;

/// Each is a newer version than the one before.
fn node(name: &str, taint: Option<&str>) -> Node {
    static VERSIONS: AtomicU64 = AtomicU64::new(100);
    let version = VERSIONS.fetch_add(1, Ordering::Relaxed).to_string();
    let taints: Vec<_> =
        taint.iter().map(|key| json!({"key": key, "effect": "NoExecute"})).collect();
    serde_json::from_value(json!({
        "metadata": {"name": name, "resourceVersion": version, "labels": {"kubevirt.io/schedulable": "true"}},
        "spec": {"taints": taints},
    }))
    .unwrap()
}

fn heartbeats(heard: &[&str], silent: &[&str]) -> Event {
    let set = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    Event::Heartbeats(Heartbeats { heard: set(heard), silent: set(silent) })
}

/// A VM that runs on n1, beside which there is n2.
fn running() -> World {
    let mut world = world();
    put(&mut world, vm("web", "u1", "Always", None));
    started(&mut world, "web");
    committed(&mut world);
    world.apply(Event::Node(Seen::Now(Box::new(node("n2", None)))));
    world.apply(heartbeats(&["n1", "n2"], &[]));
    world
}

fn is_bereft_now(world: &World) -> bool {
    is_bereft(world, world.instances.get(&key("web")).unwrap())
}

#[test]
fn a_guest_is_given_up_only_when_its_node_is_out_of_service_or_deleted_and_silent() {
    let mut world = running();
    assert!(!is_bereft_now(&world));
    world.apply(heartbeats(&["n2"], &["n1"]));
    assert!(!is_bereft_now(&world), "a node that is cut off runs on");
    world.apply(Event::Node(Seen::Now(Box::new(node("n1", Some(UNREACHABLE))))));
    assert!(!is_bereft_now(&world), "Kubernetes says only that it hears nothing");
    world.apply(Event::Node(Seen::Now(Box::new(node("n1", Some(OUT_OF_SERVICE))))));
    assert!(is_bereft_now(&world));

    let mut world = running();
    world.apply(Event::Node(Seen::gone(&node("n1", None))));
    assert!(!is_bereft_now(&world), "its agent lives");
    world.apply(heartbeats(&["n2"], &["n1"]));
    assert!(is_bereft_now(&world));
    world.heartbeats = None;
    assert!(!is_bereft_now(&world), "nobody has looked whether it lives");
}

#[test]
fn what_is_seen_of_a_node_has_its_guests_looked_at() {
    let mut world = running();
    world.take_dirty();
    world.apply(Event::Node(Seen::Now(Box::new(node("n1", Some(OUT_OF_SERVICE))))));
    assert!(world.take_dirty().0.contains(&key("web")));
    let mut world = running();
    world.take_dirty();
    world.apply(Event::Node(Seen::gone(&node("n1", None))));
    assert!(!world.take_dirty().0.contains(&key("web")), "its agent lives");
    world.apply(heartbeats(&["n2"], &["n1"]));
    assert!(world.take_dirty().0.contains(&key("web")));
}

#[test]
fn a_guest_that_is_given_up_has_failed_and_its_vm_starts_elsewhere_in_its_place() {
    let mut world = running();
    world.apply(Event::Node(Seen::Now(Box::new(node("n1", Some(OUT_OF_SERVICE))))));
    let before = decided(&mut world, "web");
    assert!(before.bereft && before.release.is_empty(), "{before:?}");
    let instance = world.instances.get(&key("web")).unwrap().as_ref().clone();
    let mut ended = ended(&instance, now());
    assert_eq!(ended.phase(), InstancePhase::Failed);
    assert!(ended.finalizers().is_empty());
    ended.metadata.resource_version = Some("3".to_owned());
    world.put_instance(ended);
    let after = decided(&mut world, "web");
    assert!(!after.bereft && after.delete.is_some(), "{after:?}");
    assert_eq!(after.ports, before.ports);
    gone(&mut world, "web");
    let anew = decided(&mut world, "web");
    assert_eq!(anew.create.as_ref().map(|start| start.booking.node.as_str()), Some("n2"));
    let place = |decision: &crate::decide::Decision| {
        let ports = decision.ports.iter();
        ports.map(|port| (port.mac, port.addresses.clone())).collect::<Vec<_>>()
    };
    assert_eq!(place(&anew), place(&before));
}

#[test]
fn an_instance_that_already_said_how_it_ended_keeps_its_word() {
    let world = running();
    let mut instance = world.instances.get(&key("web")).unwrap().as_ref().clone();
    instance.status.as_mut().unwrap().phase = Some(InstancePhase::Succeeded);
    let over = ended(&instance, now());
    assert_eq!((over.phase(), over.status), (InstancePhase::Succeeded, instance.status));
    assert!(over.metadata.finalizers.unwrap_or_default().is_empty());
}

#[test]
fn nothing_is_placed_where_nobody_is_heard() {
    let mut world = running();
    world.apply(heartbeats(&["n1"], &["n2"]));
    for name in ["b", "c"] {
        put(&mut world, vm(name, name, "Always", None));
        let start = started(&mut world, name).create;
        assert_eq!(start.map(|start| start.booking.node).as_deref(), Some("n1"));
    }
    world.apply(Event::Node(Seen::Now(Box::new(node("n1", Some(UNREACHABLE))))));
    put(&mut world, vm("d", "d", "Always", None));
    let said = decided(&mut world, "d").trouble.unwrap().message;
    assert!(said.contains("n1: it has the taint") && said.contains("n2: its lease"), "{said}");
}
