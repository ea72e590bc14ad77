//! A template that changes: it counts at the next start, NIC by NIC, and what is no
//! longer wanted is freed, and no more than that.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;

const MAC: &str = "ovn.kubernetes.io/mac_address";
const ADDRESS: &str = "ovn.kubernetes.io/ip_address";
const SWITCH: &str = "ovn.kubernetes.io/logical_switch";
const FIRST: &str = "web.default";
const SECOND: &str = "web.default.net2.default.ovn";
const THIRD: &str = "web.default.net3.default.ovn";

/// The world of the other tests with a second subnet for the first NIC, and one each
/// for attachments `net2` and `net3`.
fn world() -> World {
    let mut world = super::world();
    let more = [
        ("other", "10.5.0.0/24", "ovn"),
        ("second", "10.9.0.0/24", "net2.default.ovn"),
        ("third", "10.10.0.0/24", "net3.default.ovn"),
    ];
    for (name, cidr, provider) in more {
        let spec = SubnetSpec {
            cidr_block: cidr.to_owned(),
            provider: provider.to_owned(),
            vpc: "v".to_owned(),
            ..SubnetSpec::default()
        };
        world.apply(Event::Subnet(Seen::Now(Box::new(Subnet::new(name, spec)))));
    }
    world
}

/// A version of the VM with these attachments and annotations.
fn with(version: u32, attachments: &[&str], notes: &[(&str, &str)]) -> VirtualMachine {
    let mut vm = vm("web", "u1", "Always", None);
    vm.metadata.resource_version = Some(version.to_string());
    let mut networks = vec![json!({ "name": "default", "pod": {} })];
    networks.extend(
        attachments.iter().map(|nad| json!({ "name": nad, "multus": { "networkName": nad } })),
    );
    vm.spec.template.spec.networks = serde_json::from_value(Value::Array(networks)).unwrap();
    let notes = notes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    vm.spec.template.metadata.as_mut().unwrap().annotations = Some(notes.collect());
    vm
}

/// Subnet, addresses and MAC by port.
fn places(decision: &Decision) -> BTreeMap<String, (String, String, String)> {
    let text = |port: &Port| {
        let addresses: Vec<_> = port.addresses.iter().map(ToString::to_string).collect();
        (port.subnet.clone(), addresses.join(","), port.mac.to_string())
    };
    decision.ports.iter().map(|port| (port.name.clone(), text(port))).collect()
}

struct Row {
    what: &'static str,
    attachments: &'static [&'static str],
    notes: &'static [(&'static str, &'static str)],
    /// Ports with another place than before, with the subnet that they are on.
    changed: &'static [(&'static str, &'static str)],
    /// Ports of which the hold on a whole subnet is given back.
    freed: &'static [(&'static str, &'static str)],
}

const ROWS: [Row; 8] = [
    Row {
        what: "nothing",
        attachments: &["net2"],
        notes: &[(ADDRESS, "10.0.0.5")],
        changed: &[],
        freed: &[],
    },
    Row {
        what: "the address is not named any more: it stays",
        attachments: &["net2"],
        notes: &[],
        changed: &[],
        freed: &[],
    },
    Row {
        what: "another subnet",
        attachments: &["net2"],
        notes: &[(SWITCH, "other")],
        changed: &[(FIRST, "other")],
        freed: &[(FIRST, "s")],
    },
    Row {
        what: "another address",
        attachments: &["net2"],
        notes: &[(ADDRESS, "10.0.0.6")],
        changed: &[(FIRST, "s")],
        freed: &[],
    },
    Row {
        what: "another MAC",
        attachments: &["net2"],
        notes: &[(ADDRESS, "10.0.0.5"), (MAC, "02:00:00:00:00:42")],
        changed: &[(FIRST, "s")],
        freed: &[],
    },
    Row {
        what: "a NIC more",
        attachments: &["net2", "net3"],
        notes: &[(ADDRESS, "10.0.0.5")],
        changed: &[(THIRD, "third")],
        freed: &[],
    },
    Row {
        what: "a NIC less",
        attachments: &[],
        notes: &[(ADDRESS, "10.0.0.5")],
        changed: &[],
        freed: &[(SECOND, "second")],
    },
    Row {
        what: "one NIC for another, and another subnet for the first",
        attachments: &["net3"],
        notes: &[(SWITCH, "other")],
        changed: &[(FIRST, "other"), (THIRD, "third")],
        freed: &[(FIRST, "s"), (SECOND, "second")],
    },
];

#[test]
fn each_nic_changes_at_the_next_start_and_only_what_is_unwanted_is_freed() {
    for Row { what, attachments, notes, changed, freed } in ROWS {
        let mut world = world();
        put(&mut world, with(1, &["net2"], &[(ADDRESS, "10.0.0.5")]));
        let first = started(&mut world, "web");
        first.ports.iter().for_each(|port| world.put_ip(crate::objects::ip(port)));
        let before = places(&first);
        assert_eq!(before.len(), 2, "{what}");

        put(&mut world, with(3, attachments, notes));
        let running = decided(&mut world, "web");
        assert_eq!(places(&running), before, "{what}: while it runs");
        assert!(running.release.is_empty() && running.surplus.is_empty(), "{what}: {running:?}");

        gone(&mut world, "web");
        let next = decided(&mut world, "web");
        assert!(next.create.is_some(), "{what}: {:?}", next.trouble);
        let after = places(&next);
        for (port, place) in &after {
            let moved = changed.iter().find(|(name, _)| name == port);
            assert_eq!(
                before.get(port) != Some(place),
                moved.is_some(),
                "{what}: {port} {place:?}"
            );
            assert!(moved.is_none_or(|(_, subnet)| *subnet == place.0), "{what}: {place:?}");
        }
        let mut released: Vec<_> = next
            .release
            .iter()
            .map(|(claimant, subnet)| (claimant.port.as_str(), subnet.as_str()))
            .collect();
        released.sort_unstable();
        assert_eq!(released, freed, "{what}");
        let surplus: Vec<_> =
            freed.iter().filter(|(port, _)| !after.contains_key(*port)).map(|one| one.0).collect();
        assert_eq!(next.surplus.iter().collect::<Vec<_>>(), surplus, "{what}");
    }
}

/// The same with the pod network and these networks of attachment `net2`.
fn twice(version: u32, networks: &[&str]) -> VirtualMachine {
    let mut vm = with(version, &[], &[]);
    let more = networks
        .iter()
        .map(|name| json!({ "name": name, "multus": { "networkName": "net2" } }))
        .map(|one| serde_json::from_value(one).unwrap());
    vm.spec.template.spec.networks.extend(more);
    vm
}

/// Starts it with these networks, and puts in its IP objects as if they were written.
fn started_with(world: &mut World, version: u32, networks: &[&str]) -> Decision {
    if world.instances.get(&key("web")).is_some() {
        gone(world, "web");
    }
    put(world, twice(version, networks));
    let decision = started(world, "web");
    for port in &decision.ports {
        let mut ip = crate::objects::ip(port);
        ip.metadata.resource_version = Some(version.to_string());
        world.put_ip(ip);
    }
    for name in &decision.surplus {
        world.remove_ip(name);
    }
    for (claimant, subnet) in &decision.release {
        world.ledger.release(subnet, claimant, 0);
    }
    committed(world);
    decision
}

#[test]
fn a_further_nic_of_an_attachment_moves_none_wherever_it_is_written_and_goes_alone() {
    const LONG: &str = "web.default.net2.default.ovn.b";
    let mut world = world();
    let one = places(&started_with(&mut world, 1, &["a"]));
    let two = places(&started_with(&mut world, 3, &["b", "a"]));
    assert_eq!(two[SECOND], one[SECOND], "a keeps its place");
    assert_ne!(two[LONG], two[SECOND], "b has its own");
    assert_eq!(places(&decided(&mut world, "web")), two, "while it runs");
    let notes = world.instances.get(&key("web")).unwrap().annotations().clone();
    assert_eq!(notes["net2.default.ovn.b.kubernetes.io/ip_address"], two[LONG].1);
    assert_eq!(notes["net2.default.ovn.kubernetes.io/ip_address"], two[SECOND].1);
    assert_eq!(places(&started_with(&mut world, 5, &["a", "b"])), two, "over a restart");

    // A running guest keeps what its template lists no more.
    put(&mut world, twice(6, &["b"]));
    let running = decided(&mut world, "web");
    assert_eq!(places(&running), two);
    assert!(running.release.is_empty(), "{running:?}");

    let next = started_with(&mut world, 7, &["b"]);
    let left = places(&next);
    assert_eq!(left[LONG], two[LONG], "b stays where it is");
    assert_eq!(left.len(), 2, "{left:?}");
    let released: Vec<_> = next.release.iter().map(|(one, _)| one.port.as_str()).collect();
    assert_eq!(released, [SECOND], "a's place and no other");
    let again = places(&started_with(&mut world, 9, &["b", "c"]));
    assert_eq!(again[LONG], two[LONG]);
    assert_ne!(again[SECOND].1, two[SECOND].1, "what a had rests");
}

#[test]
fn an_annotation_of_no_network_of_the_vm_frees_nothing_under_a_guest() {
    let mut world = world();
    let stray = ("net9.default.ovn.kubernetes.io/ip_address", "10.77.0.7");
    put(&mut world, with(1, &["net2"], &[stray]));
    let before = places(&started(&mut world, "web"));
    put(&mut world, with(3, &[], &[stray]));
    let running = decided(&mut world, "web");
    assert_eq!(places(&running), before);
    assert!(running.release.is_empty(), "{running:?}");
}

#[test]
fn an_address_that_was_changed_is_free_for_others_once_an_instance_has_the_other() {
    let mut world = world();
    put(&mut world, with(1, &[], &[(ADDRESS, "10.0.0.5")]));
    started(&mut world, "web");
    put(&mut world, with(3, &[], &[(ADDRESS, "10.0.0.6")]));
    gone(&mut world, "web");
    let next = decided(&mut world, "web");
    assert_eq!(addresses(&next)[0], "10.0.0.6");
    assert!(next.spare.is_empty(), "somebody else may be starting it as it was: {:?}", next.spare);

    let mut instance = next.create.unwrap().instance();
    instance.metadata.resource_version = Some("4".to_owned());
    world.put_instance(instance);
    committed(&mut world);
    let running = decided(&mut world, "web");
    assert_eq!(addresses(&running)[0], "10.0.0.6");
    let (claimant, old) = (world.ledger.held_for(&key("web"))[0].0.clone(), "10.0.0.5");
    assert_eq!(running.spare, [(claimant, "s".to_owned(), old.parse().unwrap())]);
}

#[test]
fn of_two_addresses_of_one_port_the_one_that_its_instance_has_stays() {
    let mut world = world();
    put(&mut world, with(1, &[], &[(ADDRESS, "10.0.0.6")]));
    let first = started(&mut world, "web");
    committed(&mut world);
    let (claimant, subnet) = world.ledger.held_for(&key("web"))[0].clone();
    // As if somebody had given it one who did not see that it has one.
    let other = "10.0.0.3".parse().unwrap();
    world.ledger.claim(&subnet, &claimant, &[other], 0).unwrap();
    let running = decided(&mut world, "web");
    assert_eq!(addresses(&running), addresses(&first));
    assert_eq!(running.spare, [(claimant.clone(), subnet.clone(), other)]);

    gone(&mut world, "web");
    let mut template = with(4, &[], &[]);
    template.metadata.resource_version = Some("9".to_owned());
    put(&mut world, template);
    world.put_ip(crate::objects::ip(&first.ports[0]));
    let again = decided(&mut world, "web");
    assert_eq!(addresses(&again), addresses(&first), "its IP object says which it had");
    assert!(again.spare.is_empty());
}

#[test]
fn without_keep_vm_ip_the_next_start_has_another_place() {
    let mut world = world();
    let policy = Policy { keep_vm_ip: false };
    put(&mut world, with(1, &["net2"], &[]));
    started(&mut world, "web");
    gone(&mut world, "web");
    let mut halted = with(3, &["net2"], &[]);
    halted.spec.run_strategy = Some(crds::kubevirt::RunStrategy::Halted);
    put(&mut world, halted);
    world.take_dirty();
    let stopped = decide(&mut world, &key("web"), policy, now());
    assert_eq!(stopped.release.len(), 2, "both NICs");
    for (claimant, subnet) in &stopped.release {
        world.ledger.release(subnet, claimant, 0);
    }
    assert!(world.ledger.held_for(&key("web")).is_empty());
    put(&mut world, with(4, &["net2"], &[]));
    world.take_dirty();
    let again = decide(&mut world, &key("web"), policy, now());
    assert!(again.create.is_some() && again.ports.len() == 2, "{again:?}");
}
