//! What is decided for VMs, one story a test; more by topic in `tests/`.

use crds::kubeovn::{Subnet, SubnetSpec, Vpc, VpcSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::json;

use super::*;
use crate::shelf::Seen;
use crate::storage::News;
use crate::world::{Event, node_of};

mod moves;
mod namespaces;
mod placing;
mod pools;
mod reservations;
mod standalone;
mod subnets;
mod template;
mod unreadable;

pub(crate) fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

pub(crate) fn key(name: &str) -> VmKey {
    VmKey { namespace: "default".to_owned(), name: name.to_owned() }
}

pub(crate) fn vm(name: &str, uid: &str, strategy: &str, address: Option<&str>) -> VirtualMachine {
    let annotations = address.map(|ip| json!({ "ovn.kubernetes.io/ip_address": ip }));
    serde_json::from_value(json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": { "name": name, "namespace": "default", "uid": uid, "resourceVersion": "1" },
        "spec": { "runStrategy": strategy, "template": {
            "metadata": { "annotations": annotations },
            "spec": { "domain": { "devices": {} } },
        } },
    }))
    .unwrap()
}

/// Decides for all of these as a round does.
pub(crate) fn decide_all(
    world: &mut World,
    keys: &[VmKey],
    policy: Policy,
    now: Timestamp,
) -> Vec<Decision> {
    secure(world, keys, policy, now);
    keys.iter().map(|key| decide(world, key, policy, now)).collect()
}

/// A world in which every kind has been listed: one subnet, one node.
pub(crate) fn world() -> World {
    let spec = SubnetSpec {
        cidr_block: "10.0.0.0/29,fd00::/64".to_owned(),
        namespaces: vec!["default".to_owned()],
        vpc: "v".to_owned(),
        ..SubnetSpec::default()
    };
    let mut world = listed(vec![Subnet::new("s", spec)]);
    world.take_dirty();
    world
}

/// A world in which every kind has been listed and nothing has been looked at.
pub(crate) fn listed(subnets: Vec<Subnet>) -> World {
    let mut world = World::new(60);
    world.apply(Event::Subnet(Seen::all(subnets)));
    let node =
        json!({ "metadata": { "name": "n1", "labels": { "kubevirt.io/schedulable": "true" } } });
    world.apply(Event::Node(Seen::all(vec![serde_json::from_value(node).unwrap()])));
    world.apply(Event::Vpc(Seen::all(vec![Vpc::new("v", VpcSpec::default())])));
    world.apply(Event::Ip(Seen::all(vec![])));
    world.apply(Event::Pool(Seen::all(vec![])));
    world.apply(Event::Vip(Seen::all(vec![])));
    world.apply(Event::Claim(Seen::all(vec![])));
    world.apply(Event::Namespace(Seen::all(vec![])));
    world.apply(Event::Machine(Seen::all(vec![])));
    world.apply(Event::Instance(Seen::all(vec![])));
    world.apply(Event::Migration(Seen::all(vec![])));
    world.apply(Event::NoPolicies);
    world.apply(Event::Storage(News::Claim(Seen::all(vec![]))));
    world.apply(Event::Storage(News::Volume(Seen::all(vec![]))));
    world.apply(Event::Storage(News::NoDataVolumes));
    world.apply(Event::Storage(News::NoImporter));
    world.apply(Event::Storage(News::Class(Seen::all(vec![]))));
    world.apply(Event::NoPods);
    world.apply(Event::Block(Seen::all(vec![])));
    assert!(world.is_complete());
    world
}

#[test]
fn nothing_may_be_decided_before_every_kind_has_been_listed() {
    let kinds: [fn() -> Event; 19] = [
        || Event::NoPods,
        || Event::Storage(News::Claim(Seen::all(vec![]))),
        || Event::Storage(News::Volume(Seen::all(vec![]))),
        || Event::Storage(News::NoDataVolumes),
        || Event::Storage(News::NoImporter),
        || Event::Storage(News::Class(Seen::all(vec![]))),
        || Event::Subnet(Seen::all(vec![])),
        || Event::Vpc(Seen::all(vec![])),
        || Event::Ip(Seen::all(vec![])),
        || Event::Pool(Seen::all(vec![])),
        || Event::Vip(Seen::all(vec![])),
        || Event::NoClaims,
        || Event::Namespace(Seen::all(vec![])),
        || Event::Node(Seen::all(vec![])),
        || Event::Machine(Seen::all(vec![])),
        || Event::Instance(Seen::all(vec![])),
        || Event::Migration(Seen::all(vec![])),
        || Event::NoPolicies,
        || Event::Block(Seen::all(vec![])),
    ];
    for missing in 0..kinds.len() {
        let mut world = World::new(60);
        let listed = kinds.iter().enumerate().filter(|(at, _)| *at != missing);
        listed.for_each(|(_, kind)| world.apply(kind()));
        assert!(!world.is_complete(), "without the kind at {missing}");
        world.apply(kinds[missing]());
        assert!(world.is_complete());
    }
}

pub(crate) fn put(world: &mut World, vm: VirtualMachine) {
    world.apply(Event::Machine(Seen::Now(Box::new(vm))));
}

pub(crate) fn remove(world: &mut World, vm: VirtualMachine) {
    world.apply(Event::Machine(Seen::gone(&vm)));
}

pub(crate) fn decided(world: &mut World, name: &str) -> Decision {
    world.take_dirty();
    decide(world, &key(name), Policy { keep_vm_ip: true }, now())
}

/// Decides, and puts the instance in as if it had been written.
pub(crate) fn started(world: &mut World, name: &str) -> Decision {
    let decision = decided(world, name);
    let start = decision.create.as_ref();
    let mut instance = start.unwrap_or_else(|| panic!("the VM starts: {decision:?}")).instance();
    instance.metadata.uid = Some(format!("vmi-of-{name}"));
    instance.metadata.resource_version = Some("2".to_owned());
    world.put_instance(instance);
    decision
}

pub(crate) fn gone(world: &mut World, name: &str) {
    let instance = world.instances.get(&key(name)).unwrap().as_ref().clone();
    world.apply(Event::Instance(Seen::gone(&instance)));
}

/// What was claimed or released, as if the ledger had been written.
pub(crate) fn committed(world: &mut World) {
    for block in world.ledger.as_if_committed() {
        world.apply(Event::Block(Seen::Now(Box::new(block))));
    }
}

pub(crate) fn addresses(decision: &Decision) -> Vec<String> {
    decision.ports.iter().flat_map(|port| &port.addresses).map(ToString::to_string).collect()
}

#[test]
fn an_instance_that_went_by_a_write_of_ours_is_not_there_whenever_the_answer_comes() {
    for told_before in [false, true] {
        let mut world = world();
        put(&mut world, vm("web", "u1", "Always", None));
        let first = started(&mut world, "web");
        let mut last = world.instances.get(&key("web")).unwrap().as_ref().clone();
        last.metadata.resource_version = Some("9".to_owned());
        last.metadata.deletion_timestamp = Some(Time(now()));
        last.metadata.finalizers = None;
        if told_before {
            world.apply(Event::Instance(Seen::gone(&last)));
        }
        world.put_instance(last.clone());
        assert!(world.instances.get(&key("web")).is_none(), "told before: {told_before}");
        world.apply(Event::Instance(Seen::gone(&last)));
        let anew = decided(&mut world, "web");
        assert!(anew.create.is_some() && addresses(&anew) == addresses(&first), "{anew:?}");
    }
}

#[test]
fn a_vm_that_runs_gets_addresses_a_node_and_an_instance() {
    let mut world = world();
    put(&mut world, vm("web", "u1", "Always", Some("10.0.0.5")));
    let decision = decided(&mut world, "web");
    assert_eq!(addresses(&decision), ["10.0.0.5", "fd00::2"]);
    let instance = decision.create.unwrap().instance();
    assert_eq!(node_of(&instance), Some("n1"));
    assert_eq!(instance.annotations()["ovn.kubernetes.io/ip_address"], "10.0.0.5,fd00::2");
    assert_eq!(instance.annotations()["ovn.kubernetes.io/gateway"], "10.0.0.1,fd00::1");
    assert_eq!(instance.spec.domain.firmware.as_ref().unwrap().uuid.as_deref(), Some("u1"));
}

#[test]
fn stop_and_start_keep_address_and_mac() {
    let mut world = world();
    put(&mut world, vm("web", "u1", "Always", None));
    let first = started(&mut world, "web");
    let mut halted = vm("web", "u1", "Halted", None);
    halted.metadata.resource_version = Some("3".to_owned());
    put(&mut world, halted);
    assert_eq!(decided(&mut world, "web").delete.as_deref(), Some("vmi-of-web"));
    gone(&mut world, "web");
    let stopped = decided(&mut world, "web");
    assert!(stopped.release.is_empty());
    let mut again = vm("web", "u1", "Always", None);
    again.metadata.resource_version = Some("4".to_owned());
    put(&mut world, again);
    let second = decided(&mut world, "web");
    assert_eq!(addresses(&second), addresses(&first));
    assert_eq!(second.ports[0].mac, first.ports[0].mac);
}

#[test]
fn without_keep_vm_ip_a_stopped_vm_gives_its_addresses_back() {
    let mut world = world();
    put(&mut world, vm("web", "u1", "Always", None));
    started(&mut world, "web");
    gone(&mut world, "web");
    let mut halted = vm("web", "u1", "Halted", None);
    halted.metadata.resource_version = Some("3".to_owned());
    put(&mut world, halted);
    world.take_dirty();
    let decision = decide(&mut world, &key("web"), Policy { keep_vm_ip: false }, now());
    assert_eq!(decision.release.len(), 1);
    assert!(decision.surplus.contains("web.default"));
}

#[test]
fn a_deleted_vm_keeps_its_addresses_until_its_instance_is_gone() {
    let mut world = world();
    put(&mut world, vm("web", "u1", "Always", None));
    started(&mut world, "web");
    remove(&mut world, vm("web", "u1", "Always", None));
    let going = decided(&mut world, "web");
    assert_eq!(going.delete.as_deref(), Some("vmi-of-web"));
    assert!(going.release.is_empty());
    assert_eq!(going.ports.len(), 1);
    gone(&mut world, "web");
    let over = decided(&mut world, "web");
    assert_eq!(over.release.len(), 1);
    assert!(over.surplus.contains("web.default"));
}

#[test]
fn a_vm_made_anew_under_an_old_name_inherits_nothing() {
    let mut world = world();
    put(&mut world, vm("web", "u1", "Always", None));
    let first = started(&mut world, "web");
    remove(&mut world, vm("web", "u1", "Always", None));
    put(&mut world, vm("web", "u2", "Always", None));
    let waiting = decided(&mut world, "web");
    assert!(waiting.create.is_none(), "the old instance is in the way");
    assert_eq!(waiting.delete.as_deref(), Some("vmi-of-web"));
    gone(&mut world, "web");
    let second = decided(&mut world, "web");
    assert_ne!(addresses(&second), addresses(&first));
    assert_eq!(second.release[0].0.uid, "u1");
    assert!(second.surplus.is_empty(), "the port of the same name is the new VM's");
}

#[test]
fn an_address_that_is_held_is_refused_with_its_holder_and_harms_nobody_else() {
    let mut world = world();
    put(&mut world, vm("web", "u1", "Always", Some("10.0.0.5")));
    started(&mut world, "web");
    put(&mut world, vm("thief", "u2", "Always", Some("10.0.0.5")));
    let refused = decided(&mut world, "thief");
    let trouble = refused.trouble.unwrap();
    assert_eq!(trouble.reason, machine::ADDRESS_NOT_AVAILABLE);
    assert!(trouble.message.contains("held by web.default"), "{}", trouble.message);
    assert!(refused.create.is_none());
    put(&mut world, vm("other", "u3", "Always", None));
    assert!(decided(&mut world, "other").create.is_some());
}

#[test]
fn a_full_subnet_says_so() {
    let mut world = world();
    for index in 0..5 {
        let name = format!("vm{index}");
        put(&mut world, vm(&name, &name, "Always", None));
        started(&mut world, &name);
    }
    put(&mut world, vm("late", "late", "Always", None));
    let decision = decided(&mut world, "late");
    assert!(decision.trouble.unwrap().message.contains("no free address in 10.0.0.0/29"));
    assert!(world.ledger.held_for(&key("late")).is_empty());
}

#[test]
fn a_named_address_is_held_from_the_vms_creation_and_others_from_the_first_start() {
    let mut world = world();
    put(&mut world, vm("named", "u1", "Halted", Some("10.0.0.6")));
    put(&mut world, vm("any", "u2", "Halted", None));
    assert_eq!(addresses(&decided(&mut world, "named"))[0], "10.0.0.6");
    assert!(decided(&mut world, "any").ports.is_empty());
}

#[test]
fn a_template_that_changes_counts_at_the_next_start() {
    let mut world = world();
    put(&mut world, vm("web", "u1", "Always", Some("10.0.0.5")));
    started(&mut world, "web");
    let mut changed = vm("web", "u1", "Always", Some("10.0.0.6"));
    changed.metadata.resource_version = Some("3".to_owned());
    put(&mut world, changed);
    assert_eq!(addresses(&decided(&mut world, "web"))[0], "10.0.0.5");
    gone(&mut world, "web");
    assert_eq!(addresses(&decided(&mut world, "web"))[0], "10.0.0.6");
}

#[test]
fn without_a_node_the_vm_says_why() {
    let mut world = world();
    world.apply(Event::Node(Seen::all(vec![])));
    put(&mut world, vm("web", "u1", "Always", None));
    let decision = decided(&mut world, "web");
    assert_eq!(decision.trouble.unwrap().reason, machine::UNSCHEDULABLE);
    assert!(decision.create.is_none());
}

#[test]
fn a_mac_in_use_in_the_vpc_is_refused_with_its_holder() {
    let mut world = world();
    put(&mut world, vm("web", "u1", "Always", None));
    let decision = started(&mut world, "web");
    world.put_ip(crate::objects::ip(&decision.ports[0]));
    let mut thief = vm("thief", "u2", "Always", None);
    let mac = decision.ports[0].mac.to_string();
    thief.spec.template.metadata.as_mut().unwrap().annotations =
        Some([("ovn.kubernetes.io/mac_address".to_owned(), mac)].into());
    put(&mut world, thief);
    let trouble = decided(&mut world, "thief").trouble.unwrap();
    assert!(trouble.message.contains("used by web.default"), "{}", trouble.message);
}

#[test]
fn several_vms_of_one_round_spread_over_the_nodes() {
    let mut world = world();
    let node = |name: &str| {
        let node = json!({ "metadata": { "name": name, "labels": { "kubevirt.io/schedulable": "true" } } });
        serde_json::from_value(node).unwrap()
    };
    world.apply(Event::Node(Seen::all(vec![node("n1"), node("n2")])));
    put(&mut world, vm("a", "u1", "Always", None));
    put(&mut world, vm("b", "u2", "Always", None));
    let (dirty, _) = world.take_dirty();
    let policy = Policy { keep_vm_ip: true };
    let nodes: Vec<_> = dirty
        .iter()
        .filter_map(|key| decide(&mut world, key, policy, now()).create)
        .map(|start| start.booking.node)
        .collect();
    assert_eq!(nodes, ["n1", "n2"]);
}

#[test]
fn addresses_that_the_ledger_lost_are_claimed_again_as_the_instance_has_them() {
    let mut world = world();
    put(&mut world, vm("first", "u0", "Always", None));
    put(&mut world, vm("web", "u1", "Always", None));
    started(&mut world, "first");
    let before = started(&mut world, "web");
    let instances = std::mem::take(&mut world.instances);
    let mut anew = self::world();
    put(&mut anew, vm("web", "u1", "Always", None));
    for (_, instance) in instances.iter() {
        anew.put_instance(instance.as_ref().clone());
    }
    assert_eq!(addresses(&decided(&mut anew, "web")), addresses(&before));
}

#[test]
fn a_subnet_edited_into_nonsense_stays_in_force_for_the_vms_that_are_there() {
    let mut world = world();
    put(&mut world, vm("web", "u1", "Always", None));
    let before = started(&mut world, "web");
    committed(&mut world);
    let mut broken = world.subnets.get(&"s".to_owned()).unwrap().as_ref().clone();
    broken.spec.cidr_block = "nonsense".to_owned();
    broken.metadata.resource_version = Some("9".to_owned());
    world.apply(Event::Subnet(Seen::Now(Box::new(broken))));
    assert_eq!(addresses(&decided(&mut world, "web")), addresses(&before));
    assert!(world.refused.contains_key("s"));
}

#[test]
fn a_subnet_cannot_be_moved_away_from_the_addresses_that_are_held() {
    let mut world = world();
    put(&mut world, vm("web", "u1", "Always", Some("10.0.0.5")));
    started(&mut world, "web");
    committed(&mut world);
    let mut moved = world.subnets.get(&"s".to_owned()).unwrap().as_ref().clone();
    moved.spec.cidr_block = "10.1.0.0/24".to_owned();
    moved.metadata.resource_version = Some("9".to_owned());
    world.apply(Event::Subnet(Seen::Now(Box::new(moved))));
    decided(&mut world, "web");
    assert!(world.refused["s"].to_string().contains("would fall out"));
    assert_eq!(world.ledger.networks()["s"].cidrs.to_string(), "10.0.0.0/29,fd00::/64");
}

#[test]
fn a_subnet_whose_finalizer_was_stripped_leaves_no_address_to_another_subnet() {
    let mut world = world();
    put(&mut world, vm("web", "u1", "Always", Some("10.0.0.5")));
    let before = started(&mut world, "web");
    committed(&mut world);
    let old = world.subnets.get(&"s".to_owned()).unwrap().as_ref().clone();
    let mut twin = old.clone();
    twin.metadata.name = Some("twin".to_owned());
    world.apply(Event::Subnet(Seen::gone(&old)));
    world.apply(Event::Subnet(Seen::Now(Box::new(twin))));
    assert!(decided(&mut world, "web").release.is_empty());
    assert!(world.refused["twin"].to_string().contains("still held in subnet"));
    assert_eq!(world.ledger.held_ports().collect::<Vec<_>>(), [&before.ports[0].name]);
}

/// Has the subnet deleted as the API does it: it stays, marked.
fn mark_deleted(world: &mut World, name: &str) {
    let mut subnet = world.subnets.get(&name.to_owned()).unwrap().as_ref().clone();
    subnet.metadata.deletion_timestamp = Some(Time(now()));
    subnet.metadata.resource_version = Some("9".to_owned());
    world.apply(Event::Subnet(Seen::Now(Box::new(subnet))));
}

#[test]
fn a_subnet_that_is_being_deleted_serves_the_vms_on_it_and_no_others() {
    let mut world = world();
    put(&mut world, vm("web", "u1", "Always", Some("10.0.0.5")));
    let before = started(&mut world, "web");
    committed(&mut world);
    mark_deleted(&mut world, "s");
    assert_eq!(addresses(&decided(&mut world, "web")), addresses(&before));
    gone(&mut world, "web");
    let again = started(&mut world, "web");
    assert_eq!(addresses(&again), addresses(&before), "it starts again with what it holds");

    put(&mut world, vm("late", "u2", "Always", None));
    assert!(decided(&mut world, "late").trouble.unwrap().message.contains("has no subnet"));
    let mut naming = vm("naming", "u3", "Always", None);
    naming.spec.template.metadata.as_mut().unwrap().annotations =
        Some([("ovn.kubernetes.io/logical_switch".to_owned(), "s".to_owned())].into());
    put(&mut world, naming);
    let trouble = decided(&mut world, "naming").trouble.unwrap();
    assert!(trouble.message.contains("is being deleted"), "{}", trouble.message);
    assert!(world.ledger.held_for(&key("naming")).is_empty());
}

#[test]
fn a_running_vm_whose_block_was_lost_claims_it_again_from_a_subnet_that_is_being_deleted() {
    let mut world = world();
    let mut larger = world.subnets.get(&"s".to_owned()).unwrap().as_ref().clone();
    larger.spec.cidr_block = "10.0.0.0/22".to_owned();
    larger.metadata.resource_version = Some("8".to_owned());
    world.apply(Event::Subnet(Seen::Now(Box::new(larger))));
    put(&mut world, vm("web", "u1", "Always", Some("10.0.0.5")));
    put(&mut world, vm("other", "u2", "Always", Some("10.0.1.5")));
    let before = started(&mut world, "web");
    started(&mut world, "other");
    let mut blocks = world.ledger.as_if_committed();
    world.apply(Event::Block(Seen::all(blocks.clone())));
    mark_deleted(&mut world, "s");
    decided(&mut world, "web");
    blocks.retain(|block| block.spec.first.to_string() == "10.0.1.0");
    world.apply(Event::Block(Seen::all(blocks)));
    assert!(world.ledger.held_for(&key("web")).is_empty());
    assert_eq!(addresses(&decided(&mut world, "web")), addresses(&before));
}

#[test]
fn two_vms_of_one_round_cannot_have_one_mac() {
    let mut world = world();
    for (name, uid) in [("a", "u1"), ("b", "u2")] {
        let mut twin = vm(name, uid, "Always", None);
        twin.spec.template.metadata.as_mut().unwrap().annotations = Some(
            [("ovn.kubernetes.io/mac_address".to_owned(), "02:00:00:00:00:01".to_owned())].into(),
        );
        put(&mut world, twin);
    }
    let (dirty, _) = world.take_dirty();
    let policy = Policy { keep_vm_ip: true };
    let made = dirty.iter().filter(|key| decide(&mut world, key, policy, now()).create.is_some());
    assert_eq!(made.count(), 1);
}

/// The metadata of a newer version of `object`.
fn meta_of<K: kube::Resource>(object: &K, version: &str) -> Box<ObjectMeta> {
    let mut meta = object.meta().clone();
    meta.resource_version = Some(version.to_owned());
    Box::new(meta)
}

#[test]
fn a_vm_with_two_networks_of_which_one_cannot_be_had_writes_nothing() {
    let mut world = world();
    let spec = SubnetSpec {
        cidr_block: "10.9.0.0/24".to_owned(),
        provider: "net2.default.ovn".to_owned(),
        vpc: "v".to_owned(),
        ..SubnetSpec::default()
    };
    world.apply(Event::Subnet(Seen::Now(Box::new(Subnet::new("second", spec)))));
    let mut two = vm("two", "u1", "Always", None);
    two.spec.template.spec.networks = serde_json::from_value(json!([
        { "name": "default", "pod": {} }, { "name": "other", "multus": { "networkName": "net2" } },
    ]))
    .unwrap();
    two.spec.template.metadata.as_mut().unwrap().annotations = Some(
        [("net2.default.ovn.kubernetes.io/ip_address".to_owned(), "10.9.0.1".to_owned())].into(),
    );
    put(&mut world, two);
    let decision = decided(&mut world, "two");
    assert!(decision.trouble.unwrap().message.contains("gateway's"));
    assert!(decision.ports.is_empty() && decision.release.is_empty());
    assert!(world.ledger.as_if_committed().is_empty(), "nothing to write");
}

#[test]
fn an_orphaned_instance_keeps_its_place_until_it_ends_and_a_new_vm_of_its_name_waits() {
    let mut world = world();
    put(&mut world, vm("web", "u1", "Always", None));
    let before = started(&mut world, "web");
    let mut orphan = world.instances.get(&key("web")).unwrap().as_ref().clone();
    orphan.metadata.owner_references = None;
    orphan.metadata.resource_version = Some("5".to_owned());
    world.put_instance(orphan);
    remove(&mut world, vm("web", "u1", "Always", None));
    let alone = decided(&mut world, "web");
    assert!(alone.delete.is_none() && alone.release.is_empty(), "{alone:?}");
    assert_eq!(addresses(&alone), addresses(&before));

    put(&mut world, vm("web", "u2", "Always", None));
    let waits = decided(&mut world, "web");
    assert_eq!(waits.trouble.as_ref().unwrap().reason, "InstanceInTheWay");
    assert!(waits.delete.is_none() && waits.release.is_empty(), "{waits:?}");
    gone(&mut world, "web");
    let anew = decided(&mut world, "web");
    assert_eq!(anew.release[0].0.uid, "u1");
    assert_ne!(addresses(&anew), addresses(&before));
}

#[test]
fn a_vpc_that_lists_the_namespace_decides_for_vms_that_no_subnet_lists() {
    let mut world = world();
    let bind = |world: &mut World, version: &str, namespaces: &[&str]| {
        let spec = VpcSpec {
            default_subnet: "of-vpc".to_owned(),
            namespaces: namespaces.iter().map(|one| (*one).to_owned()).collect(),
            ..VpcSpec::default()
        };
        let mut vpc = Vpc::new("v", spec);
        vpc.metadata.resource_version = Some(version.to_owned());
        world.apply(Event::Vpc(Seen::Now(Box::new(vpc))));
    };
    let subnet = |name: &str, cidr: &str, version: &str| {
        let spec = SubnetSpec {
            cidr_block: cidr.to_owned(),
            vpc: "v".to_owned(),
            ..SubnetSpec::default()
        };
        let mut subnet = Subnet::new(name, spec);
        subnet.metadata.resource_version = Some(version.to_owned());
        Event::Subnet(Seen::Now(Box::new(subnet)))
    };
    world.apply(subnet("s", "10.0.0.0/29", "2"));
    world.apply(subnet("of-vpc", "10.7.0.0/24", "2"));
    put(&mut world, vm("web", "u1", "Always", None));
    bind(&mut world, "2", &["elsewhere"]);
    assert!(decided(&mut world, "web").trouble.unwrap().message.contains("has no subnet"));
    bind(&mut world, "3", &["elsewhere", "default"]);
    assert_eq!(decided(&mut world, "web").ports[0].subnet, "of-vpc");
}

#[test]
fn what_a_port_is_let_do_is_as_its_vm_was_started() {
    let mut world = world();
    let with = |further: Option<&str>, version: &str| {
        let mut vm = vm("web", "u1", "Always", None);
        vm.metadata.resource_version = Some(version.to_owned());
        let key = annotations::key("ovn", annotations::PORT_VIPS);
        vm.spec.template.metadata.as_mut().unwrap().annotations =
            further.map(|text| [(key, text.to_owned())].into());
        vm
    };
    let line = |decision: &Decision| {
        let port = &crate::rows::port(&decision.ports[0]).ports["web.default"];
        port.port_security.iter().next().unwrap().split_once(' ').unwrap().1.to_owned()
    };
    put(&mut world, with(Some("10.0.0.6"), "1"));
    let first = started(&mut world, "web");
    assert_eq!(line(&first), "10.0.0.2 fd00::2 10.0.0.6");
    for (further, version) in [(None, "3"), (Some("10.0.0.5"), "4")] {
        let vm = with(further, version);
        put(&mut world, vm.clone());
        assert_eq!(line(&decided(&mut world, "web")), "10.0.0.2 fd00::2 10.0.0.6");
        let instance = world.instances.get(&key("web")).unwrap();
        assert!(!crate::objects::is_made_of(instance, &vm), "it says RestartRequired");
    }
    gone(&mut world, "web");
    assert_eq!(line(&started(&mut world, "web")), "10.0.0.2 fd00::2 10.0.0.5");
}
