use crds::kubeovn::{FINALIZER, Subnet, SubnetSpec, Vip, VipSpec};
use crds::kubevirt::VirtualMachine;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::super::tests::{
    addresses, committed, decided, gone, key, now, put, remove, started, vm, world,
};
use super::super::{Policy, decide};
use super::*;
use crate::decide::Decision;
use crate::objects;
use crate::shelf::Seen;
use crate::world::Event;

fn vip(version: u32, change: impl FnOnce(&mut VipSpec)) -> Vip {
    let mut spec = VipSpec { subnet: "s".to_owned(), ..VipSpec::default() };
    change(&mut spec);
    let mut vip = Vip::new("v", spec);
    vip.metadata.uid = Some("uid-of-v".to_owned());
    vip.metadata.resource_version = Some(version.to_string());
    vip.finalizers_mut().push(FINALIZER.to_owned());
    vip
}

fn show(world: &mut World, vip: Vip) {
    world.apply(Event::Vip(Seen::Now(Box::new(vip))));
}

fn deleted(mut vip: Vip) -> Vip {
    vip.metadata.deletion_timestamp = Some(Time(now()));
    vip.metadata.resource_version = Some("90".to_owned());
    vip
}

/// Decides for the Vip, and carries out what it gives back.
fn settled(world: &mut World) -> Decision {
    world.take_dirty();
    let decision = decide(world, &VmKey::of_vip("v"), Policy { keep_vm_ip: true }, now());
    carried_out(world, &decision);
    if decision.spare.is_empty() { decision } else { settled(world) }
}

fn carried_out(world: &mut World, decision: &Decision) {
    for (claimant, subnet) in &decision.release {
        world.ledger.release(subnet, claimant, 0);
    }
    for (claimant, subnet, address) in &decision.spare {
        world.ledger.release_one(subnet, claimant, *address, 0);
    }
    committed(world);
}

/// A world with a Vip that has 10.0.0.2 and fd00::2.
fn with_vip(change: impl FnOnce(&mut VipSpec)) -> World {
    let mut world = world();
    show(&mut world, vip(1, change));
    settled(&mut world);
    world
}

fn annotated(name: &str, version: u32, notes: &[(&str, &str)]) -> VirtualMachine {
    let mut vm = vm(name, name, "Always", None);
    vm.metadata.resource_version = Some(version.to_string());
    let notes =
        notes.iter().map(|(key, text)| (format!("ovn.kubernetes.io/{key}"), (*text).into()));
    vm.spec.template.metadata.as_mut().unwrap().annotations = Some(notes.collect());
    vm
}

fn borrowing(name: &str) -> VirtualMachine {
    annotated(name, 1, &[("vip", "v")])
}

/// Starts it, and has the ledger and its IP objects written.
fn runs(world: &mut World, vm: VirtualMachine) -> Decision {
    let name = vm.name_any();
    put(world, vm);
    let decision = started(world, &name);
    for port in &decision.ports {
        let mut ip = objects::ip(port);
        let version = world.machines.get(&key(&name)).unwrap().metadata.resource_version.clone();
        ip.metadata.resource_version = version;
        world.put_ip(ip);
    }
    committed(world);
    decision
}

fn refusal(world: &mut World, name: &str) -> String {
    decided(world, name).trouble.expect("it is refused").message
}

#[test]
fn a_vm_has_the_address_and_mac_of_the_vip_that_it_names_until_it_is_gone() {
    let mut world = with_vip(|spec| spec.mac_address = "02:00:00:00:00:99".to_owned());
    let web = runs(&mut world, borrowing("web"));
    assert_eq!(addresses(&web), ["10.0.0.2", "fd00::2"]);
    assert_eq!(web.ports[0].mac.to_string(), "02:00:00:00:00:99");

    gone(&mut world, "web");
    let again = decided(&mut world, "web");
    assert_eq!(addresses(&again), addresses(&web), "over a stop");
    assert_eq!(again.ports[0].mac, web.ports[0].mac);

    remove(&mut world, borrowing("web"));
    let last = decided(&mut world, "web");
    carried_out(&mut world, &last);
    world.remove_ip("web.default");
    assert!(world.ledger.held_for(&key("web")).is_empty());
    assert_eq!(world.ledger.held_for(&VmKey::of_vip("v")).len(), 1, "it outlives the VM");
    // Nobody else is given it, and the next one that names it need not wait.
    assert_eq!(addresses(&runs(&mut world, vm("db", "db", "Always", None)))[0], "10.0.0.3");
    assert_eq!(addresses(&runs(&mut world, borrowing("next"))), addresses(&web));
}

#[test]
fn the_mac_of_a_vip_is_no_ports_but_that_of_who_borrows_it() {
    const MAC: &str = "02:00:00:00:00:99";
    let mut world = with_vip(|spec| spec.mac_address = MAC.to_owned());
    put(&mut world, annotated("db", 1, &[("mac_address", MAC)]));
    let message = refusal(&mut world, "db");
    assert!(message.contains("02:00:00:00:00:99 is used by Vip v in the same vpc"), "{message}");
    put(&mut world, annotated("web", 1, &[("mac_address", MAC), ("vip", "v")]));
    let web = decided(&mut world, "web");
    assert!(web.trouble.is_none(), "{:?}", web.trouble);
    assert_eq!(web.ports[0].mac.to_string(), MAC);
    // Whoever asks for a MAC that it cannot have keeps nobody from it.
    let mut world = self::world();
    put(&mut world, annotated("db", 1, &[("mac_address", MAC)]));
    let db = started(&mut world, "db");
    world.put_ip(objects::ip(&db.ports[0]));
    show(&mut world, vip(1, |spec| spec.mac_address = MAC.to_owned()));
    assert!(settled(&mut world).trouble.unwrap().message.contains("is used by db.default"));
    gone(&mut world, "db");
    assert_eq!(decided(&mut world, "db").ports[0].mac.to_string(), MAC);
}

#[test]
fn it_serves_one_at_a_time_and_the_other_is_told_who_has_it() {
    let mut world = with_vip(|_| ());
    runs(&mut world, borrowing("web"));
    put(&mut world, borrowing("db"));
    let message = refusal(&mut world, "db");
    assert!(message.contains("Vip \"v\" serves one port at a time, and web.default"), "{message}");
    assert!(world.ledger.held_for(&key("db")).is_empty());
}

#[test]
fn a_template_that_no_longer_names_it_lets_go_of_it_after_the_next_start() {
    let mut world = with_vip(|_| ());
    let before = runs(&mut world, borrowing("web"));
    put(&mut world, annotated("web", 5, &[]));
    assert!(!objects::is_made_of(
        world.instances.get(&key("web")).unwrap(),
        world.machines.get(&key("web")).unwrap()
    ));
    gone(&mut world, "web");
    let after = runs(&mut world, annotated("web", 6, &[]));
    assert_eq!(addresses(&after), ["10.0.0.3", "fd00::3"]);
    assert_ne!(after.ports[0].mac, before.ports[0].mac, "the MAC is the Vip's, too");
    let settled = decided(&mut world, "web");
    assert!(!settled.spare.is_empty(), "{settled:?}");
    carried_out(&mut world, &settled);
    assert_eq!(addresses(&runs(&mut world, borrowing("db"))), addresses(&before));
}

#[test]
fn a_vm_that_had_an_address_of_its_own_gives_it_back_once_it_runs_with_the_vips() {
    let mut world = with_vip(|_| ());
    assert_eq!(addresses(&runs(&mut world, annotated("web", 1, &[])))[0], "10.0.0.3");
    gone(&mut world, "web");
    let mut named = borrowing("web");
    named.metadata.resource_version = Some("7".to_owned());
    assert_eq!(addresses(&runs(&mut world, named))[0], "10.0.0.2");
    let settled = decided(&mut world, "web");
    carried_out(&mut world, &settled);
    let held = world.ledger.held_for(&key("web"));
    let held = world.ledger.addresses(&held[0].1, &held[0].0);
    assert_eq!(held.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.2", "fd00::2"]);
}

#[test]
fn a_vip_that_is_deleted_waits_for_the_vm_that_has_it_and_says_so() {
    let mut world = with_vip(|_| ());
    let web = runs(&mut world, borrowing("web"));
    show(&mut world, deleted(vip(1, |_| ())));
    assert!(settled(&mut world).release.is_empty());
    let there = world.vips.get(&"v".to_owned()).unwrap().clone();
    assert!(vips::waits(&world, &there).unwrap().contains("delete VirtualMachine default/web"));
    put(&mut world, borrowing("db"));
    assert!(refusal(&mut world, "db").contains("is being deleted"));
    // Who has it goes on to have it.
    gone(&mut world, "web");
    assert_eq!(addresses(&decided(&mut world, "web")), addresses(&web));
    remove(&mut world, borrowing("web"));
    let last = decided(&mut world, "web");
    carried_out(&mut world, &last);
    assert_eq!(settled(&mut world).release.len(), 1);
    assert!(world.ledger.held_in("s").next().is_none());
}

#[test]
fn a_vip_that_is_just_gone_takes_nothing_from_who_runs_with_its_address() {
    let mut world = with_vip(|_| ());
    let web = runs(&mut world, borrowing("web"));
    world.apply(Event::Vip(Seen::gone(&vip(1, |_| ()))));
    settled(&mut world);
    assert_eq!(addresses(&decided(&mut world, "web")), addresses(&web));
    remove(&mut world, borrowing("web"));
    gone(&mut world, "web");
    let last = decided(&mut world, "web");
    carried_out(&mut world, &last);
    settled(&mut world);
    assert!(world.ledger.held_in("s").next().is_none());
}

#[test]
fn what_was_lent_is_lent_again_when_blocks_are_lost() {
    let mut world = with_vip(|_| ());
    let mut with_status = vip(3, |_| ());
    with_status.status = Some(vips::shown(&world, world.vips.get(&"v".to_owned()).unwrap()));
    show(&mut world, with_status);
    let web = runs(&mut world, borrowing("web"));
    let blocks: Vec<_> = world.ledger.clone().blocks_for_tests();
    for kept in 0..=blocks.len() {
        let left = blocks.iter().enumerate().filter(|(at, _)| *at == kept);
        let left = left.map(|(_, block)| block.clone()).collect();
        world.apply(Event::Block(Seen::all(left)));
        assert_eq!(addresses(&decided(&mut world, "web")), addresses(&web), "{kept}");
        committed(&mut world);
        let there = world.vips.get(&"v".to_owned()).unwrap();
        assert_eq!(vips::borrower(&world, there).unwrap().port, "web.default");
    }
}

#[test]
fn a_vip_that_cannot_be_had_says_what_to_change() {
    type Case = (fn(&mut VipSpec), &'static [(&'static str, &'static str)], &'static str);
    let cases: [Case; 5] = [
        (|_| (), &[("vip", "other")], "Vip \"other\" does not exist"),
        (|spec| spec.namespace = "theirs".into(), &[("vip", "v")], "VMs of namespace \"theirs\""),
        (|spec| spec.r#type = "switch_lb_vip".into(), &[("vip", "v")], "is of type"),
        (|spec| spec.selector = vec!["app:web".into()], &[("vip", "v")], "spec.selector"),
        (|spec| spec.v4_ip = "10.9.0.1".into(), &[("vip", "v")], "is not in force: spec.v4ip"),
    ];
    for (change, notes, said) in cases {
        let mut world = with_vip(change);
        put(&mut world, annotated("web", 1, notes));
        let message = refusal(&mut world, "web");
        assert!(
            message.contains("annotation ovn.kubernetes.io/vip") && message.contains(said),
            "{message}"
        );
    }
    let mut world = with_vip(|_| ());
    let other = SubnetSpec {
        cidr_block: "10.8.0.0/29".to_owned(),
        vpc: "v".to_owned(),
        ..SubnetSpec::default()
    };
    world.apply(Event::Subnet(Seen::Now(Box::new(Subnet::new("other", other)))));
    world.take_dirty();
    put(&mut world, annotated("web", 1, &[("vip", "v"), ("logical_switch", "other")]));
    assert!(
        refusal(&mut world, "web").contains("is of subnet \"s\", this network is on \"other\"")
    );
    let mut world = with_vip(|_| ());
    put(&mut world, annotated("web", 1, &[("vip", "v"), ("mac_address", "02:00:00:00:00:01")]));
    assert!(refusal(&mut world, "web").contains("leave that out"));
}

#[test]
fn what_ports_share_is_no_ports_own_and_the_other_way_round() {
    let mut world = with_vip(|_| ());
    let shares = runs(&mut world, annotated("one", 1, &[("aaps", "v")]));
    world.carriers.note(&shares.vm, &shares.ports);
    put(&mut world, borrowing("web"));
    assert!(refusal(&mut world, "web").contains("one.default among them"));

    let mut world = with_vip(|_| ());
    runs(&mut world, borrowing("web"));
    put(&mut world, annotated("one", 1, &[("aaps", "v")]));
    assert!(refusal(&mut world, "one").contains("is web.default's own"));
}

#[test]
fn a_vip_that_goes_lets_go_of_the_address_that_says_whom_it_lends_to_before_the_others() {
    let mut world = with_vip(|_| ());
    // Another controller has lent it, which this one has not seen.
    let mut other = world.ledger.clone();
    let claimant = super::super::claimant("web.default", &key("web"), "web");
    other.borrow("s", &claimant, &Claimant::of_vip("v", "uid-of-v"), 0).unwrap();
    show(&mut world, deleted(vip(1, |_| ())));
    let decision = decide(&mut world, &VmKey::of_vip("v"), Policy { keep_vm_ip: true }, now());
    assert!(decision.release.is_empty(), "{decision:?}");
    let addresses: Vec<_> = decision.spare.iter().map(|(.., one)| one.to_string()).collect();
    assert_eq!(addresses, ["10.0.0.2"]);
    for block in other.as_if_committed() {
        world.apply(Event::Block(Seen::Now(Box::new(block))));
    }
    let decision = settled(&mut world);
    assert!(decision.release.is_empty() && decision.spare.is_empty(), "{decision:?}");
}
