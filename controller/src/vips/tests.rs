use crds::kubeovn::{FINALIZER, VipSpec};
use crds::kubevirt::VirtualMachine;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;
use crate::decide::Policy;
use crate::decide::tests::{
    addresses, committed, decide_all, decided, gone, now, put, remove, started, vm, world,
};
use crate::rows;
use crate::shelf::Seen;
use crate::world::Event;

fn vip(name: &str, version: u32, change: impl FnOnce(&mut VipSpec)) -> Vip {
    let mut spec = VipSpec { subnet: "s".to_owned(), ..VipSpec::default() };
    change(&mut spec);
    let mut vip = Vip::new(name, spec);
    vip.metadata.uid = Some(format!("uid-of-{name}"));
    vip.metadata.resource_version = Some(version.to_string());
    vip.finalizers_mut().push(FINALIZER.to_owned());
    vip
}

fn show(world: &mut World, vip: Vip) {
    world.apply(Event::Vip(Seen::Now(Box::new(vip))));
}

#[test]
fn what_a_guest_uses_and_what_an_ip_object_names_is_no_vips_when_blocks_are_lost() {
    let mut world = world();
    put(&mut world, vm("web", "u1", "Always", None));
    let web = started(&mut world, "web");
    assert_eq!(addresses(&web), ["10.0.0.2", "fd00::2"]);
    committed(&mut world);
    let spec = crds::kubeovn::IpSpec {
        pod_name: "late".to_owned(),
        namespace: "default".to_owned(),
        subnet: "s".to_owned(),
        ip_address: "10.0.0.3,fd00::3".to_owned(),
        ..Default::default()
    };
    world.put_ip(crds::kubeovn::Ip::new("late.default", spec));
    show(&mut world, vip("shared", 1, |_| ()));
    world.apply(Event::Block(Seen::all(vec![])));
    let (dirty, _) = world.take_dirty();
    let decisions = decide_all(&mut world, &dirty, Policy { keep_vm_ip: true }, now());
    let of_web = decisions.iter().find(|one| one.vm == web.vm).unwrap();
    assert_eq!(addresses(of_web), addresses(&web));
    let (_, held) = held(&world, world.vips.get(&"shared".to_owned()).unwrap()).unwrap();
    assert_eq!(held.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.4", "fd00::4"]);
}

#[test]
fn a_vip_has_no_mac_that_a_guest_a_router_or_another_vip_has() {
    let mut world = world();
    put(&mut world, vm("web", "u1", "Always", None));
    let web = started(&mut world, "web");
    world.put_ip(crate::objects::ip(&web.ports[0]));
    let router = world.ledger.networks()["s"].router_mac();
    let mut other = vip("other", 2, |_| ());
    let status = VipStatus { mac: "02:00:00:00:00:77".to_owned(), ..VipStatus::default() };
    other.status = Some(status);
    show(&mut world, other);
    for (mac, holder) in [
        (web.ports[0].mac.to_string(), "web.default"),
        (router.to_string(), "the gateway of subnet s"),
        ("02:00:00:00:00:77".to_owned(), "Vip other"),
    ] {
        show(&mut world, vip("shared", 1, |spec| spec.mac_address.clone_from(&mac)));
        let message = settled(&mut world, "shared").trouble.unwrap().message;
        let wanted = format!("MAC address {mac} is used by {holder}");
        assert!(message.contains("spec.macAddress") && message.contains(&wanted), "{message}");
        world.apply(Event::Vip(Seen::gone(&vip("shared", 3, |_| ()))));
    }
    show(
        &mut world,
        vip("shared", 4, |spec| "02:00:00:00:00:78".clone_into(&mut spec.mac_address)),
    );
    assert!(settled(&mut world, "shared").trouble.is_none());
}

/// Decides for it, and carries out what it gives back.
fn settled(world: &mut World, name: &str) -> Decision {
    world.take_dirty();
    let decision = decide(world, name, now());
    for (claimant, subnet) in &decision.release {
        world.ledger.release(subnet, claimant, 0);
    }
    for (claimant, subnet, address) in &decision.spare {
        world.ledger.release_one(subnet, claimant, *address, 0);
    }
    committed(world);
    // It lets go of one address after the other.
    if decision.spare.is_empty() { decision } else { settled(world, name) }
}

fn of(world: &World, name: &str) -> Vec<String> {
    let vip = world.vips.get(&name.to_owned()).unwrap();
    let addresses = held(world, vip).map(|(_, addresses)| addresses).unwrap_or_default();
    addresses.iter().map(ToString::to_string).collect()
}

fn deleted(mut vip: Vip) -> Vip {
    vip.metadata.deletion_timestamp = Some(Time(now()));
    vip.metadata.resource_version = Some("90".to_owned());
    vip
}

/// A VM whose template names these Vips and has the label `app: web`.
fn carrying(name: &str, names: Option<&str>) -> VirtualMachine {
    let mut vm = vm(name, name, "Always", None);
    let meta = vm.spec.template.metadata.as_mut().unwrap();
    meta.annotations =
        names.map(|names| [("ovn.kubernetes.io/aaps".to_owned(), names.to_owned())].into());
    meta.labels = Some([("app".to_owned(), "web".to_owned())].into());
    vm
}

/// Starts it and takes note of what it carries, as a round does.
fn runs(world: &mut World, vm: VirtualMachine) -> Decision {
    let name = vm.name_any();
    put(world, vm);
    let decision = started(world, &name);
    world.carriers.note(&decision.vm, &decision.ports);
    decision
}

fn port(world: &World, name: &str) -> Option<PortWant> {
    rows(world, None).into_iter().find_map(|(_, mut rows)| rows.ports.remove(name))
}

fn parents(world: &World, row: &str) -> Option<String> {
    port(world, row)?.options.get("virtual-parents").cloned()
}

#[test]
fn a_vip_holds_what_it_names_or_what_is_free_and_no_vm_gets_it() {
    let mut world = world();
    show(&mut world, vip("named", 1, |spec| spec.v6_ip = "fd00::7".to_owned()));
    settled(&mut world, "named");
    assert_eq!(of(&world, "named"), ["10.0.0.2", "fd00::7"]);
    put(&mut world, vm("web", "u1", "Always", Some("10.0.0.2")));
    let trouble = decided(&mut world, "web").trouble.unwrap().message;
    assert!(trouble.contains("is held by Vip named"), "{trouble}");
    put(&mut world, vm("db", "u2", "Always", None));
    let given = started(&mut world, "db").ports[0].addresses.clone();
    assert_eq!(given[0].to_string(), "10.0.0.3");
}

#[test]
fn one_that_could_vanish_gets_no_address_yet() {
    let mut world = world();
    let mut bare = vip("v", 1, |_| ());
    bare.metadata.finalizers = None;
    show(&mut world, bare);
    settled(&mut world, "v");
    assert!(of(&world, "v").is_empty());
    assert_eq!(hold::vips_to_take(&world)[0].0, "v");
}

#[test]
fn a_vip_that_cannot_be_says_what_to_change() {
    type Case = (&'static str, fn(&mut VipSpec), &'static str);
    let cases: [Case; 9] = [
        ("v", |spec| spec.subnet = "t".to_owned(), "spec.subnet is \"t\": there is none"),
        ("v", |spec| spec.subnet = String::new(), "spec.subnet is \"\": there is none"),
        ("v", |spec| spec.v4_ip = "ten".to_owned(), "spec.v4ip is \"ten\": write an IPv4"),
        ("v", |spec| spec.v4_ip = "10.9.0.1".to_owned(), "write an IPv4 address in 10.0.0.0/29"),
        (
            "v",
            |spec| spec.v6_ip = "10.0.0.3".to_owned(),
            "spec.v6ip is \"10.0.0.3\": write an IPv6",
        ),
        ("v", |spec| spec.v4_ip = "10.0.0.1".to_owned(), "choose another"),
        ("v", |spec| spec.r#type = "lb".to_owned(), "write switch_lb_vip or kube_host_vm_vip"),
        ("v", |spec| spec.mac_address = "01:00:00:00:00:01".to_owned(), "spec.macAddress is"),
        ("web.default", |_| (), "has a dot"),
    ];
    for (name, change, advice) in cases {
        let mut world = world();
        show(&mut world, vip(name, 1, change));
        let trouble = settled(&mut world, name).trouble.expect(advice).message;
        assert!(trouble.contains(advice), "{trouble}");
        assert_eq!(world.refused_vips[name], trouble);
        assert!(of(&world, name).is_empty());
    }
    let mut world = world();
    show(&mut world, vip("s-v", 1, |_| ()));
    let trouble = settled(&mut world, "s-v").trouble.unwrap().message;
    assert!(trouble.contains("a port between Subnet \"s\" and its Vpc"), "{trouble}");
}

#[test]
fn what_a_vip_was_given_does_not_change_and_it_says_so() {
    let mut world = world();
    show(&mut world, vip("v", 1, |_| ()));
    settled(&mut world, "v");
    show(
        &mut world,
        vip("v", 2, |spec| {
            (spec.v4_ip, spec.subnet) = ("10.0.0.5".to_owned(), "t".to_owned());
        }),
    );
    settled(&mut world, "v");
    assert_eq!(of(&world, "v"), ["10.0.0.2", "fd00::2"]);
    let told: Vec<_> = flaws(&world, world.vips.get(&"v".into()).unwrap())
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(told[0].contains("spec.subnet is \"t\": it stays \"s\""), "{told:?}");
    assert!(told[1].contains("spec.v4ip is \"10.0.0.5\": it stays \"10.0.0.2\""), "{told:?}");
}

#[test]
fn the_ports_that_name_it_or_that_it_selects_are_its_parents() {
    let mut world = world();
    show(&mut world, vip("v", 1, |_| ()));
    settled(&mut world, "v");
    assert_eq!(parents(&world, "v"), None);
    let web = runs(&mut world, carrying("web", Some("v")));
    let line = rows::port(&web.ports[0]).ports["web.default"].port_security.clone();
    assert!(line.iter().all(|line| line.ends_with(" 10.0.0.2 fd00::2")), "{line:?}");
    let plain = runs(&mut world, carrying("db", None));
    assert!(plain.ports[0].leave.further.is_empty());
    assert_eq!(parents(&world, "v").as_deref(), Some("web.default"));
    assert_eq!(parents(&world, "v:v6").as_deref(), Some("web.default"));

    // A selector counts at once.
    show(
        &mut world,
        vip("v", 2, |spec| {
            spec.namespace = "default".to_owned();
            spec.selector = vec!["app: web".to_owned()];
        }),
    );
    let db = decided(&mut world, "db");
    world.carriers.note(&db.vm, &db.ports);
    assert_eq!(parents(&world, "v").as_deref(), Some("db.default,web.default"));
    show(
        &mut world,
        vip("v", 3, |spec| {
            spec.namespace = "default".to_owned();
            spec.selector = vec!["app: web".to_owned(), "tier: one".to_owned()];
        }),
    );
    let db = decided(&mut world, "db");
    assert_eq!(world.carriers.note(&db.vm, &db.ports).len(), 2, "all labels must be there");
}

#[test]
fn what_a_template_cannot_carry_is_its_vms_trouble() {
    let mut world = world();
    for (name, change) in [
        ("theirs", (|spec| spec.namespace = "other".to_owned()) as fn(&mut VipSpec)),
        ("lb", |spec| spec.r#type = "switch_lb_vip".to_owned()),
        ("lost", |spec| spec.v4_ip = "ten".to_owned()),
    ] {
        show(&mut world, vip(name, 1, change));
        settled(&mut world, name);
    }
    for (named, advice) in [
        ("none", "Vip \"none\" does not exist"),
        ("theirs", "is for VMs of namespace \"other\""),
        ("lb", "is of type \"switch_lb_vip\""),
        ("lost", "is not in force: spec.v4ip"),
        ("lb,", "write their names with commas between"),
    ] {
        put(&mut world, carrying("web", Some(named)));
        let trouble = decided(&mut world, "web").trouble.expect(named).message;
        assert!(trouble.contains(advice), "{trouble}");
        assert!(trouble.contains("annotation ovn.kubernetes.io/aaps"), "{trouble}");
        remove(&mut world, carrying("web", Some(named)));
    }
}

#[test]
fn one_that_is_deleted_waits_for_who_may_send_from_it() {
    let mut world = world();
    show(&mut world, vip("v", 1, |_| ()));
    settled(&mut world, "v");
    runs(&mut world, carrying("web", Some("v")));
    show(&mut world, deleted(vip("v", 1, |_| ())));
    assert!(settled(&mut world, "v").release.is_empty());
    let waiting = waits(&world, world.vips.get(&"v".into()).unwrap()).unwrap();
    assert!(waiting.contains("stop VirtualMachine default/web"), "{waiting}");
    assert!(hold::vips_to_let_go(&world).is_empty());

    gone(&mut world, "web");
    assert!(world.take_dirty().1, "it is looked at again");
    assert_eq!(settled(&mut world, "v").release.len(), 1);
    assert_eq!(hold::vips_to_let_go(&world)[0].0, "v");
    assert_eq!(port(&world, "v"), None);
}

#[test]
fn a_vip_that_is_gone_or_was_made_anew_leaves_its_addresses() {
    let mut world = world();
    show(&mut world, vip("v", 1, |_| ()));
    settled(&mut world, "v");
    let mut anew = vip("v", 5, |_| ());
    anew.metadata.uid = Some("another".to_owned());
    show(&mut world, anew.clone());
    assert_eq!(settled(&mut world, "v").release[0].0.uid, "uid-of-v");
    assert_eq!(of(&world, "v"), ["10.0.0.3", "fd00::3"], "what was released rests");
    world.apply(Event::Vip(Seen::gone(&anew)));
    settled(&mut world, "v");
    assert!(world.ledger.held_for(&VmKey::of_vip("v")).is_empty());
}

#[test]
fn one_that_cannot_be_read_keeps_what_it_holds() {
    let mut world = world();
    show(&mut world, vip("v", 1, |_| ()));
    settled(&mut world, "v");
    let meta = vip("v", 2, |_| ()).metadata;
    world.apply(Event::Vip(Seen::Unreadable(Box::new(meta))));
    assert!(settled(&mut world, "v").release.is_empty());
    assert!(is_unclear(&world, "v") && is_unclear(&world, "v:v6"));
    assert!(!is_unclear(&world, "w"));
}

#[test]
fn what_a_subnet_lists_is_a_virtual_port_of_who_lists_it_and_nobodys_own() {
    let mut world = world();
    let mut subnet = world.subnets.get(&"s".into()).unwrap().as_ref().clone();
    let listed = ["10.0.0.2", "10.9.0.2", "10.0.0.1"];
    subnet.spec.vips = listed.map(str::to_owned).into();
    subnet.metadata.resource_version = Some("9".to_owned());
    let told = crate::network::flaws(&subnet.spec);
    assert!(told[0].to_string().contains("spec.vips[1] is \"10.9.0.2\": write an address in"));
    assert!(told[1].to_string().contains("spec.vips[2] is \"10.0.0.1\": it is the gateway"));
    world.put_subnet(subnet);
    let mut web = vm("web", "u1", "Always", None);
    web.spec.template.metadata.as_mut().unwrap().annotations =
        Some([("ovn.kubernetes.io/port_vips".to_owned(), "10.0.0.2".to_owned())].into());
    let web = runs(&mut world, web);
    assert_eq!(web.ports[0].addresses[0].to_string(), "10.0.0.3");
    assert_eq!(parents(&world, "s-vip-10.0.0.2").as_deref(), Some("web.default"));
    put(&mut world, vm("db", "u2", "Always", Some("10.0.0.2")));
    let trouble = decided(&mut world, "db").trouble.unwrap().message;
    assert!(trouble.contains("is one of spec.vips of subnet \"s\""), "{trouble}");
    show(&mut world, vip("v", 1, |spec| spec.v4_ip = "10.0.0.2".to_owned()));
    let trouble = settled(&mut world, "v").trouble.unwrap().message;
    assert!(trouble.contains("the subnet itself lists it"), "{trouble}");
}

#[test]
fn lost_blocks_give_a_vip_the_addresses_that_its_status_still_says() {
    let mut world = world();
    let mut told = vip("v", 1, |_| ());
    let addresses = ("10.0.0.5".to_owned(), "fd00::5".to_owned());
    told.status =
        Some(VipStatus { v4_ip: addresses.0, v6_ip: addresses.1, ..VipStatus::default() });
    show(&mut world, told);
    settled(&mut world, "v");
    assert_eq!(of(&world, "v"), ["10.0.0.5", "fd00::5"]);
}
