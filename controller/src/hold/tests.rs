use crds::kubeovn::{SubnetSpec, VpcSpec};
use crds::ledger::AddressBlock;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;

use super::*;
use crate::shelf::Seen;
use crate::world::Event;

fn time() -> Time {
    Time("2026-01-01T00:00:00Z".parse().unwrap())
}

fn vpc(version: &str) -> Vpc {
    let mut vpc = Vpc::new("v", VpcSpec::default());
    vpc.metadata.resource_version = Some(version.to_owned());
    vpc
}

fn subnet(version: &str, cidr: &str) -> Subnet {
    let spec =
        SubnetSpec { cidr_block: cidr.to_owned(), vpc: "v".to_owned(), ..SubnetSpec::default() };
    let mut subnet = Subnet::new("s", spec);
    subnet.metadata.resource_version = Some(version.to_owned());
    subnet
}

fn held<K: Resource>(mut object: K) -> K {
    object.finalizers_mut().push(FINALIZER.to_owned());
    object
}

fn leaving<K: Resource>(mut object: K) -> K {
    object.meta_mut().deletion_timestamp = Some(time());
    object
}

/// A block of subnet `s` that says who holds an address, if anybody does.
fn block(version: &str, holders: &[&str]) -> AddressBlock {
    let entries = holders.iter().enumerate().map(|(n, name)| {
        let holder = json!({ "port": format!("{name}.default"), "vm": format!("default/{name}"), "uid": "u" });
        (format!("10.0.0.{}", n + 2), holder)
    });
    serde_json::from_value(json!({
        "apiVersion": "berth.io/v1alpha1", "kind": "AddressBlock",
        "metadata": { "name": "s.v4.0a0000", "resourceVersion": version },
        "spec": { "subnet": "s", "first": "10.0.0.0",
            "held": entries.collect::<serde_json::Map<_, _>>(), "resting": { "10.0.0.6": 1 } },
    }))
    .unwrap()
}

fn world(vpc: Vpc, subnet: Subnet, holders: &[&str]) -> World {
    let mut world = World::new(60);
    world.apply(Event::Vpc(Seen::all(vec![vpc])));
    world.apply(Event::Subnet(Seen::all(vec![subnet])));
    world.apply(Event::Block(Seen::all(vec![block("1", holders)])));
    world.take_dirty();
    world
}

fn names(patches: &[(String, Value)]) -> Vec<&str> {
    patches.iter().map(|(name, _)| name.as_str()).collect()
}

#[test]
fn what_is_in_force_is_held_before_it_is_used() {
    let mut world = world(vpc("1"), subnet("1", "10.0.0.0/24"), &[]);
    assert_eq!(names(&vpcs_to_take(&world)), ["v"]);
    let patches = subnets_to_take(&world);
    assert_eq!(names(&patches), ["s"]);
    assert_eq!(patches[0].1["metadata"]["resourceVersion"], "1");
    assert_eq!(patches[0].1["metadata"]["finalizers"], json!([FINALIZER]));
    assert_eq!(unheld(&world), ["s"]);
    world.put_subnet(held(subnet("2", "10.0.0.0/24")));
    assert_eq!(unheld(&world), ["s"], "its vpc could still vanish");
    world.put_vpc(held(vpc("2")));
    assert!(unheld(&world).is_empty());
    assert!(vpcs_to_take(&world).is_empty() && subnets_to_take(&world).is_empty());
    assert!(!world.is_dirty(), "our own finalizer is no news");
    let other = self::world(held(vpc("1")), subnet("1", "10.0.0.0/24"), &[]);
    assert_eq!(unheld(&other), ["s"], "it could still vanish itself");
}

#[test]
fn what_is_refused_and_unused_is_not_held() {
    let world = world(held(vpc("1")), subnet("1", "nonsense"), &[]);
    assert!(subnets_to_take(&world).is_empty());
}

#[test]
fn a_finalizer_of_somebody_else_stays() {
    let mut ours = leaving(held(subnet("1", "10.0.0.0/24")));
    ours.finalizers_mut().push("a/b".to_owned());
    let world = world(held(vpc("1")), ours, &[]);
    assert_eq!(subnets_to_let_go(&world)[0].1["metadata"]["finalizers"], json!(["a/b"]));
}

#[test]
fn a_subnet_waits_for_its_last_address_and_says_whose_it_is() {
    let deleted = || leaving(held(subnet("1", "10.0.0.0/24")));
    let mut world = world(leaving(held(vpc("1"))), deleted(), &["a", "b", "c", "d", "e"]);
    assert!(subnets_to_let_go(&world).is_empty() && vpcs_to_let_go(&world).is_empty());
    assert!(world.ledger.networks()["s"].leaving);
    let says = subnet_waits(&world, &deleted()).unwrap();
    let named = "delete VirtualMachine default/a, VirtualMachine default/b, VirtualMachine default/c and 2 more";
    assert!(says.contains(named), "{says}");
    assert!(vpc_waits(&world, &leaving(vpc("1"))).unwrap().contains("delete Subnet s"));
    assert_eq!(vpc_waits(&world, &vpc("1")), None);

    // The last address is given back; another one rests.
    world.apply(Event::Block(Seen::Now(Box::new(block("2", &[])))));
    assert!(subnets_to_let_go(&world).is_empty(), "its rows are still there");
    let (_, topology) = world.take_dirty();
    assert!(topology, "everything is compared, so that its rows go");
    assert_eq!(names(&subnets_to_let_go(&world)), ["s"]);
    assert_eq!(names(&vpcs_to_let_go(&world)), ["v"]);
    assert_eq!(subnet_waits(&world, &deleted()), None);
    assert_eq!(vpc_waits(&world, &leaving(vpc("1"))), None);
    world.put_subnet(leaving(subnet("2", "10.0.0.0/24")));
    assert!(!world.take_dirty().1, "let go, it is nobody's any more");
}

#[test]
fn a_subnet_edited_into_nonsense_and_deleted_waits_too_also_over_a_restart() {
    let world = world(held(vpc("1")), leaving(held(subnet("1", "nonsense"))), &["a"]);
    assert!(subnets_to_let_go(&world).is_empty());
    assert!(subnet_waits(&world, &leaving(subnet("1", ""))).unwrap().contains("default/a"));
    assert_eq!(subnets_of(&world, "v"), BTreeSet::from(["s".to_owned()]));
}

#[test]
fn a_vpc_that_is_being_deleted_takes_no_new_subnet_and_keeps_those_it_has() {
    let fresh = world(leaving(held(vpc("1"))), subnet("1", "10.0.0.0/24"), &[]);
    assert!(fresh.refused["s"].to_string().contains("is being deleted"));
    assert_eq!(names(&vpcs_to_let_go(&fresh)), ["v"]);
    let in_force = world(leaving(held(vpc("1"))), held(subnet("1", "10.0.0.0/24")), &[]);
    assert!(in_force.refused.is_empty());
    assert!(vpcs_to_let_go(&in_force).is_empty());
}

#[test]
fn a_subnet_that_cannot_be_read_stays_in_force_and_can_be_deleted() {
    let mut world = world(held(vpc("1")), held(subnet("1", "10.0.0.0/24")), &["a"]);
    let as_it_was = world.ledger.networks()["s"].clone();
    let meta = held(subnet("2", "")).metadata;
    world.apply(Event::Subnet(Seen::Unreadable(Box::new(meta))));
    world.take_dirty();
    assert_eq!(world.ledger.networks()["s"], as_it_was);
    assert!(world.refused["s"].to_string().contains("does not fit its type"));

    let meta = leaving(held(subnet("3", ""))).metadata;
    world.apply(Event::Subnet(Seen::Unreadable(Box::new(meta))));
    world.take_dirty();
    assert!(subnets_to_let_go(&world).is_empty());
    world.apply(Event::Block(Seen::Now(Box::new(block("2", &[])))));
    world.take_dirty();
    assert_eq!(names(&subnets_to_let_go(&world)), ["s"]);
}

#[test]
fn a_subnet_waits_for_a_block_that_cannot_be_read() {
    let mut world = world(held(vpc("1")), leaving(held(subnet("1", "10.0.0.0/24"))), &["a"]);
    let meta = block("2", &[]).metadata;
    world.apply(Event::Block(Seen::All { objects: vec![], unreadable: vec![meta] }));
    world.take_dirty();
    assert!(subnets_to_let_go(&world).is_empty());
    let says = subnet_waits(&world, &leaving(subnet("1", ""))).unwrap();
    assert!(says.contains("AddressBlock s.v4.0a0000"), "{says}");
}

#[test]
fn an_edit_that_would_drop_held_addresses_is_refused_and_names_their_holders() {
    let mut world = world(vpc("1"), subnet("1", "10.0.0.0/24"), &["web", "db"]);
    let mut edit = |version: &str, change: fn(&mut SubnetSpec)| {
        let mut subnet = subnet(version, "10.0.0.0/24");
        change(&mut subnet.spec);
        world.apply(Event::Subnet(Seen::Now(Box::new(subnet))));
        world.take_dirty();
        let refused = world.refused.get("s").map(ToString::to_string);
        (refused, world.ledger.networks()["s"].cidrs.to_string())
    };
    let (refused, cidrs) = edit("2", |spec| spec.cidr_block = "10.0.0.128/25".to_owned());
    let refused = refused.unwrap();
    assert!(
        refused.contains(
            "10.0.0.2 of VirtualMachine default/web, 10.0.0.3 of VirtualMachine default/db"
        ),
        "{refused}"
    );
    assert_eq!(cidrs, "10.0.0.0/24", "it stays in force as it was");
    let (refused, _) = edit("3", |spec| spec.gateway = "10.0.0.3".to_owned());
    let refused = refused.unwrap();
    assert!(refused.contains("10.0.0.3 of VirtualMachine default/db is held"), "{refused}");

    // Nothing falls out of these.
    let fine = |answer: (Option<String>, String), cidrs: &str| {
        assert_eq!(answer, (None, cidrs.to_owned()));
    };
    fine(edit("4", |spec| spec.cidr_block = "10.0.0.0/28".to_owned()), "10.0.0.0/28");
    fine(edit("5", |spec| spec.cidr_block = "10.0.0.0/16".to_owned()), "10.0.0.0/16");
    let excluding =
        |spec: &mut SubnetSpec| spec.exclude_ips = vec!["10.0.0.2..10.0.0.9".to_owned()];
    fine(edit("6", excluding), "10.0.0.0/24");
}
