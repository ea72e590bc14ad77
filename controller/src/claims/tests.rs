use crds::cni::IpamClaimSpec;
use crds::kubeovn::{FINALIZER, Subnet, SubnetSpec};
use crds::kubevirt::VirtualMachine;

use super::*;
use crate::decide::tests::{
    addresses, committed, decided, gone, now, put, remove, started, vm, world,
};
use crate::shelf::Seen;
use crate::world::Event;

/// The world of the other tests, with two subnets for attachment `net2` and one for `net3`.
fn with_attachments() -> World {
    let mut world = world();
    for (name, cidr, provider) in [
        ("second", "10.9.0.0/28,fd09::/64", "net2.default.ovn"),
        ("other", "10.10.0.0/28,fd0a::/64", "net2.default.ovn"),
        ("third", "10.11.0.0/28", "net3.default.ovn"),
    ] {
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

fn key(name: &str) -> VmKey {
    crate::decide::tests::key(name)
}

fn claim(name: &str, network: &str) -> IpamClaim {
    let spec = IpamClaimSpec { network: network.to_owned(), interface: String::new() };
    let mut claim = IpamClaim::new(name, spec);
    claim.metadata.namespace = Some("default".to_owned());
    claim.metadata.uid = Some(format!("uid-of-{name}"));
    claim.metadata.resource_version = Some("100".to_owned());
    claim
}

fn show(world: &mut World, claim: IpamClaim) {
    world.apply(Event::Claim(Seen::Now(Box::new(claim))));
}

/// A VM with one network, `more`, of attachment `net2`, whose element says this besides.
fn referring(name: &str, version: u32, element: &str, notes: &[(&str, &str)]) -> VirtualMachine {
    let mut vm = vm(name, name, "Always", None);
    vm.metadata.resource_version = Some(version.to_string());
    let network = json!([{ "name": "more", "multus": { "networkName": "net2" } }]);
    vm.spec.template.spec.networks = serde_json::from_value(network).unwrap();
    let mut all: BTreeMap<String, String> =
        notes.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
    if !element.is_empty() {
        let list = format!("[{{\"name\": \"net2\", {element}}}]");
        all.insert(annotations::MULTUS_NETWORKS.to_owned(), list);
    }
    let on_second = ("net2.default.ovn.kubernetes.io/logical_switch", "second");
    all.entry(on_second.0.to_owned()).or_insert_with(|| on_second.1.to_owned());
    vm.spec.template.metadata.as_mut().unwrap().annotations = Some(all);
    vm
}

fn of_claim(name: &str) -> VirtualMachine {
    referring(name, 1, "\"ipam-claim-reference\": \"c\"", &[])
}

/// What rounds do for claims, until there is nothing to do: as if all was written.
fn rounds(world: &mut World) -> Vec<Decision> {
    let mut decisions = Vec::new();
    for _ in 0..4 {
        for (key, patch) in to_take(world) {
            let mut claim = IpamClaim::clone(world.claims.objects.get(&key).unwrap());
            claim.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
            let subnet = patch["metadata"]["annotations"][annotations::CLAIM_SUBNET].clone();
            let subnet = subnet.as_str().unwrap().to_owned();
            claim.annotations_mut().insert(annotations::CLAIM_SUBNET.to_owned(), subnet);
            show(world, newer(claim));
        }
        for key in world.claims.objects.metas().map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            world.take_dirty();
            let decision = decide(world, &key, now());
            for (claimant, subnet) in &decision.release {
                world.ledger.release(subnet, claimant, 0);
            }
            for (claimant, subnet, address) in &decision.spare {
                world.ledger.release_one(subnet, claimant, *address, 0);
            }
            committed(world);
            if let Some(status) = new_status(world, &key, now()) {
                let mut claim = IpamClaim::clone(world.claims.objects.get(&key).unwrap());
                claim.status = Some(status);
                show(world, newer(claim));
            }
            decisions.push(decision);
        }
    }
    decisions
}

fn newer(mut claim: IpamClaim) -> IpamClaim {
    let version: u32 = claim.metadata.resource_version.as_ref().unwrap().parse().unwrap();
    claim.metadata.resource_version = Some((version + 1).to_string());
    claim
}

/// Starts it, with its claim's first addresses.
fn runs(world: &mut World, vm: VirtualMachine) -> Decision {
    let name = vm.name_any();
    put(world, vm);
    let waits = decided(world, &name);
    assert!(waits.trouble.is_none(), "{:?}", waits.trouble);
    if waits.create.is_none() {
        committed(world);
        rounds(world);
    }
    let decision = started(world, &name);
    for port in &decision.ports {
        world.put_ip(crate::objects::ip(port));
    }
    committed(world);
    rounds(world);
    decision
}

/// It is deleted, and what it held is given back.
fn ends(world: &mut World, vm: VirtualMachine) {
    let name = vm.name_any();
    gone(world, &name);
    remove(world, vm);
    let last = decided(world, &name);
    for (claimant, subnet) in &last.release {
        world.ledger.release(subnet, claimant, 0);
    }
    last.surplus.iter().for_each(|name| world.remove_ip(name));
    committed(world);
    rounds(world);
}

fn status(world: &World, name: &str) -> IpamClaimStatus {
    world.claims.objects.get(&key(name)).unwrap().status.clone().unwrap_or_default()
}

fn refusal(world: &mut World, vm: VirtualMachine) -> String {
    let name = vm.name_any();
    put(world, vm);
    if decided(world, &name).trouble.is_none() {
        rounds(world);
    }
    let decision = decided(world, &name);
    decision.trouble.unwrap_or_else(|| panic!("{name} is refused")).message
}

#[test]
fn a_claims_addresses_outlive_the_vm_and_are_those_of_the_next_that_refers_to_it() {
    let mut world = with_attachments();
    show(&mut world, claim("c", "net2"));
    let web = runs(&mut world, of_claim("web"));
    assert_eq!(addresses(&web), ["10.9.0.2", "fd09::2"]);
    let said = status(&world, "c");
    assert_eq!(said.ips, ["10.9.0.2/28", "fd09::2/64"]);
    assert_eq!(said.owner_pod.unwrap().name, "web");
    assert_eq!(said.conditions[0].status, "True");
    let instance = world.instances.get(&key("web")).unwrap();
    assert_eq!(instance.annotations()["net2.default.ovn.kubernetes.io/ipam_claim"], "c");

    ends(&mut world, of_claim("web"));
    let said = status(&world, "c");
    assert_eq!((said.ips.len(), said.owner_pod), (2, None));
    let own = runs(&mut world, referring("own", 1, "\"ips\": []", &[]));
    assert_eq!(addresses(&own), ["10.9.0.3", "fd09::3"], "nobody else is given it");
    assert_eq!(addresses(&runs(&mut world, of_claim("next"))), addresses(&web));
}

#[test]
fn it_serves_one_at_a_time_and_the_other_is_told_who_has_it() {
    let mut world = with_attachments();
    show(&mut world, claim("c", "default/net2"));
    let web = runs(&mut world, of_claim("web"));
    let message = refusal(&mut world, of_claim("db"));
    assert!(message.contains("one port at a time, and web.default.net2.default.ovn"), "{message}");
    // Over a stop it is still the first one's.
    gone(&mut world, "web");
    assert_eq!(addresses(&started(&mut world, "web")), addresses(&web));
}

#[test]
fn a_reference_that_cannot_be_served_says_why() {
    let mut world = with_attachments();
    for (name, network) in [("c", "net2"), ("nowhere", ""), ("elsewhere", "net3")] {
        show(&mut world, claim(name, network));
    }
    runs(&mut world, of_claim("web"));
    ends(&mut world, of_claim("web"));
    let to = |claim: &str| format!("\"ipam-claim-reference\": \"{claim}\"");
    let on_other = [("net2.default.ovn.kubernetes.io/logical_switch", "other")];
    let of_pool = [("net2.default.ovn.kubernetes.io/ip_pool", "10.9.0.9")];
    let of_vip = [("net2.default.ovn.kubernetes.io/vip", "v")];
    let gateway = format!("{}, \"ips\": [\"10.9.0.1\"]", to("fresh"));
    show(&mut world, claim("fresh", "second"));
    for (element, notes, why) in [
        (to("none"), &[][..], "network \"more\": IPAMClaim \"none\" does not exist: create it"),
        (to("nowhere"), &[], "names no network: write \"net2\" in its spec.network"),
        (to("elsewhere"), &[], "is of network \"net3\", this one is \"net2\""),
        (to("c"), &on_other, "has addresses of subnet \"second\", this network is on \"other\""),
        (to("c"), &of_pool, "ip_pool says otherwise where they come from"),
        (to("c"), &of_vip, "leave one of the two out"),
        (format!("{}, \"ips\": [\"10.9.0.9\"]", to("c")), &[], "has 10.9.0.2,fd09::2, but"),
        (gateway, &[], "IPAMClaim \"fresh\" gets no addresses: "),
    ] {
        let message = refusal(&mut world, referring("late", 1, &element, notes));
        assert!(message.contains(why), "{element}: {message}");
        remove(&mut world, referring("late", 1, &element, notes));
    }
    let named = format!("{}, \"ips\": [\"10.9.0.9\"]", to("fresh"));
    let late = runs(&mut world, referring("late", 1, &named, &[]));
    assert_eq!(addresses(&late)[0], "10.9.0.9", "the claim's first addresses may be named");
}

#[test]
fn a_claim_of_no_network_says_so_until_it_is_of_one() {
    let mut world = with_attachments();
    show(&mut world, claim("c", " "));
    rounds(&mut world);
    let said = status(&world, "c");
    let [one] = &said.conditions[..] else { panic!("{said:?}") };
    assert_eq!((one.type_.as_str(), one.status.as_str()), ("IPsAllocated", "False"));
    let begins = r#"spec.network is " ": no VM can use it"#;
    assert!(one.message.starts_with(begins), "{}", one.message);
    // To which nobody refers, and which is another network's, nothing is written on.
    let mut mended = newer(IpamClaim::clone(world.claims.objects.get(&key("c")).unwrap()));
    mended.spec.network = "elsewhere".to_owned();
    show(&mut world, mended);
    rounds(&mut world);
    assert!(status(&world, "c").conditions.is_empty());
    show(&mut world, claim("d", "elsewhere"));
    rounds(&mut world);
    assert_eq!(world.claims.objects.get(&key("d")).unwrap().status, None);
}

#[test]
fn where_the_api_serves_no_claims_the_vm_that_refers_to_one_says_so_and_others_start() {
    let mut world = with_attachments();
    world.claims = Claims::default();
    assert!(!world.is_complete());
    world.apply(Event::NoClaims);
    assert!(world.is_complete());
    let message = refusal(&mut world, of_claim("web"));
    assert!(message.contains("this API serves no IPAMClaims"), "{message}");
    assert!(runs(&mut world, referring("own", 1, "", &[])).create.is_some());
}

#[test]
fn what_is_not_known_of_claims_frees_nothing() {
    let mut world = with_attachments();
    show(&mut world, claim("c", "net2"));
    runs(&mut world, of_claim("web"));
    ends(&mut world, of_claim("web"));
    world.claims = Claims::default();
    world.apply(Event::NoClaims);
    let decision = decide(&mut world, &key("c"), now());
    assert!(decision.release.is_empty() && decision.spare.is_empty(), "{decision:?}");
}

#[test]
fn one_that_is_deleted_waits_for_its_vm_and_then_frees_its_addresses() {
    let mut world = with_attachments();
    show(&mut world, claim("c", "net2"));
    runs(&mut world, of_claim("web"));
    let mut leaving = newer(IpamClaim::clone(world.claims.objects.get(&key("c")).unwrap()));
    leaving.metadata.deletion_timestamp = Some(Time(now()));
    show(&mut world, leaving);
    rounds(&mut world);
    let said = status(&world, "c");
    let waits = said.conditions.iter().find(|one| one.type_ == DELETION_BLOCKED).unwrap();
    assert!(waits.message.contains("delete VirtualMachine default/web"), "{}", waits.message);
    assert!(to_let_go(&world, &key("c")).is_none());
    ends(&mut world, of_claim("web"));
    assert!(to_let_go(&world, &key("c")).is_some());
    assert!(world.ledger.held_for(&VmKey::of_claim(&key("c"))).is_empty());
}

#[test]
fn a_vm_deleted_in_the_foreground_lets_go_of_its_claim_once_its_instance_is_gone() {
    // Also one that names its address, which else is claimed for it while it is stopped.
    for element in [
        "\"ipam-claim-reference\": \"c\"",
        "\"ipam-claim-reference\": \"c\", \"ips\": [\"10.9.0.9\"]",
    ] {
        let mut world = with_attachments();
        show(&mut world, claim("c", "net2"));
        runs(&mut world, referring("web", 1, element, &[]));
        // The claim is the VM's: the one waits for the other.
        let mut vm = referring("web", 2, element, &[]);
        vm.metadata.deletion_timestamp = Some(Time(now()));
        vm.metadata.finalizers = Some(vec!["foregroundDeletion".to_owned()]);
        put(&mut world, vm);
        let mut leaving = newer(IpamClaim::clone(world.claims.objects.get(&key("c")).unwrap()));
        leaving.metadata.deletion_timestamp = Some(Time(now()));
        show(&mut world, leaving);
        let runs_on = decided(&mut world, "web");
        assert!(runs_on.release.is_empty() && !runs_on.ports.is_empty(), "{runs_on:?}");
        gone(&mut world, "web");
        for _ in 0..2 {
            let last = decided(&mut world, "web");
            assert!(last.ports.is_empty(), "{last:?}");
            for (claimant, subnet) in &last.release {
                world.ledger.release(subnet, claimant, 0);
            }
            committed(&mut world);
            rounds(&mut world);
        }
        assert!(world.ledger.held_for(&key("web")).is_empty());
        assert!(to_let_go(&world, &key("c")).is_some());
    }
}

#[test]
fn an_edit_that_cannot_be_costs_a_claim_nothing_of_what_it_has() {
    let mut world = with_attachments();
    show(&mut world, claim("c", "net2"));
    let web = runs(&mut world, of_claim("web"));
    ends(&mut world, of_claim("web"));
    let own = runs(&mut world, referring("own", 1, "\"ips\": []", &[]));
    let taken = format!("{}/28", addresses(&own)[0]);
    let claimant = Claimant::of_claim(&key("c"), "uid-of-c");
    let edits: [&dyn Fn(&mut IpamClaim); 3] = [
        &|claim| claim.status.as_mut().unwrap().ips = vec![taken.clone()],
        &|claim| {
            let other = (annotations::CLAIM_SUBNET.to_owned(), "other".to_owned());
            claim.annotations_mut().extend([other]);
        },
        &|claim| {
            let none = (annotations::CLAIM_SUBNET.to_owned(), "none".to_owned());
            claim.annotations_mut().extend([none]);
        },
    ];
    for edit in edits {
        let before = IpamClaim::clone(world.claims.objects.get(&key("c")).unwrap());
        let mut edited = newer(before.clone());
        edit(&mut edited);
        show(&mut world, edited);
        let decisions = rounds(&mut world);
        assert!(decisions.iter().all(|one| one.spare.is_empty() && one.release.is_empty()));
        let held = world.ledger.addresses("second", &claimant);
        let held: Vec<_> = held.iter().map(ToString::to_string).collect();
        assert_eq!(held, addresses(&web));
        assert_eq!(status(&world, "c").ips, ["10.9.0.2/28", "fd09::2/64"]);
        let mut mended = newer(IpamClaim::clone(world.claims.objects.get(&key("c")).unwrap()));
        mended.metadata.annotations = before.metadata.annotations.clone();
        show(&mut world, mended);
        rounds(&mut world);
    }
    assert_eq!(addresses(&runs(&mut world, of_claim("next"))), addresses(&web));
}

#[test]
fn an_edit_that_can_be_is_followed_and_only_then_frees_what_was_there() {
    let mut world = with_attachments();
    show(&mut world, claim("c", "net2"));
    runs(&mut world, of_claim("web"));
    ends(&mut world, of_claim("web"));
    let mut edited = newer(IpamClaim::clone(world.claims.objects.get(&key("c")).unwrap()));
    let ips = ["10.9.0.7/28", "fd09::7/64"].map(ToOwned::to_owned).to_vec();
    edited.status.as_mut().unwrap().ips = ips;
    show(&mut world, edited);
    rounds(&mut world);
    assert_eq!(addresses(&runs(&mut world, of_claim("next"))), ["10.9.0.7", "fd09::7"]);
}

#[test]
fn a_vm_says_what_the_api_says_against_a_write_on_its_claim() {
    let mut world = with_attachments();
    show(&mut world, claim("c", "net2"));
    put(&mut world, of_claim("web"));
    assert!(decided(&mut world, "web").trouble.is_none());
    let forbidden = Some("it cannot be written on: forbidden".to_owned());
    let told = world.claims.answered(&key("c"), forbidden.clone());
    assert_eq!(told, BTreeSet::from([key("web")]));
    assert!(world.claims.answered(&key("c"), forbidden).is_empty(), "it is told once");
    let message = decided(&mut world, "web").trouble.unwrap().message;
    let all = "IPAMClaim \"c\" gets no addresses: it cannot be written on: forbidden";
    assert!(message.contains(all), "{message}");
    assert_eq!(world.claims.answered(&key("c"), None), BTreeSet::from([key("web")]));
    assert!(runs(&mut world, of_claim("web")).create.is_some());
}

#[test]
fn a_claim_of_the_vms_name_that_is_of_another_network_is_none_of_its_business() {
    for network in ["net3", "", "mynet", "other"] {
        let mut world = with_attachments();
        show(&mut world, claim("web.more", network));
        let web = runs(&mut world, referring("web", 1, "", &[]));
        assert_eq!(addresses(&web)[0], "10.9.0.2", "{network:?}");
        let claim = world.claims.objects.get(&key("web.more")).unwrap();
        assert!(claim.finalizers().is_empty(), "{network:?}");
        // One of no network is nobody else's either, and is told so.
        let ips = claim.status.as_ref().map(|status| status.ips.len());
        assert_eq!(ips, network.is_empty().then_some(0), "{network:?}");
    }
}

#[test]
fn a_port_that_has_a_claim_by_its_name_keeps_it_when_that_names_another_network() {
    let mut world = with_attachments();
    show(&mut world, claim("web.more", "net2"));
    let web = runs(&mut world, referring("web", 1, "", &[]));
    let mut edited = newer(IpamClaim::clone(world.claims.objects.get(&key("web.more")).unwrap()));
    edited.spec.network = "net3".to_owned();
    show(&mut world, edited);
    gone(&mut world, "web");
    assert_eq!(addresses(&started(&mut world, "web")), addresses(&web));
    let said = status(&world, "web.more");
    assert_eq!(said.owner_pod.unwrap().name, "web");
}

#[test]
fn the_next_start_is_without_a_claim_by_its_name_that_is_being_deleted() {
    let mut world = with_attachments();
    show(&mut world, claim("web.more", "net2"));
    let web = runs(&mut world, referring("web", 1, "", &[]));
    let mut leaving = newer(IpamClaim::clone(world.claims.objects.get(&key("web.more")).unwrap()));
    leaving.metadata.deletion_timestamp = Some(Time(now()));
    show(&mut world, leaving);
    rounds(&mut world);
    assert_eq!(addresses(&decided(&mut world, "web")), addresses(&web), "a guest keeps it");
    gone(&mut world, "web");
    let anew = started(&mut world, "web");
    assert_eq!(addresses(&anew), ["10.9.0.3", "fd09::3"]);
    committed(&mut world);
    let settled = decided(&mut world, "web");
    for (claimant, subnet, address) in &settled.spare {
        world.ledger.release_one(subnet, claimant, *address, 0);
    }
    committed(&mut world);
    rounds(&mut world);
    assert!(to_let_go(&world, &key("web.more")).is_some());
}

#[test]
fn what_another_controller_has_claimed_beside_what_it_says_is_let_go_of() {
    let mut world = with_attachments();
    show(&mut world, claim("c", "net2"));
    runs(&mut world, of_claim("web"));
    ends(&mut world, of_claim("web"));
    let claimant = Claimant::of_claim(&key("c"), "uid-of-c");
    world.ledger.claim("second", &claimant, &["10.9.0.8".parse().unwrap()], 0).unwrap();
    committed(&mut world);
    let twice = world.ledger.addresses("second", &claimant);
    assert_eq!(twice.len(), 3, "{twice:?}");
    rounds(&mut world);
    let once: Vec<_> = world.ledger.addresses("second", &claimant);
    assert_eq!(once.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.9.0.2", "fd09::2"]);
    assert_eq!(status(&world, "c").ips, ["10.9.0.2/28", "fd09::2/64"]);
}

#[test]
fn what_the_ledger_has_lost_is_claimed_again_before_others_get_it() {
    let mut world = with_attachments();
    show(&mut world, claim("c", "net2"));
    let web = runs(&mut world, of_claim("web"));
    ends(&mut world, of_claim("web"));
    world.apply(Event::Block(Seen::all(vec![])));
    rounds(&mut world);
    assert_eq!(addresses(&runs(&mut world, referring("own", 1, "", &[])))[0], "10.9.0.3");
    assert_eq!(addresses(&runs(&mut world, of_claim("next"))), addresses(&web));
}

#[test]
fn a_claim_named_after_the_network_is_the_vms_unless_that_has_an_address_of_its_own() {
    let mut world = with_attachments();
    let own = runs(&mut world, referring("late", 1, "", &[]));
    show(&mut world, claim("late.more", "net2"));
    show(&mut world, claim("web.more", "net2"));
    let web = runs(&mut world, referring("web", 1, "", &[]));
    assert_eq!(status(&world, "web.more").ips.len(), 2);
    gone(&mut world, "late");
    assert_eq!(addresses(&started(&mut world, "late")), addresses(&own), "it keeps its own");
    assert!(status(&world, "late.more").ips.is_empty());
    ends(&mut world, referring("web", 1, "", &[]));
    let mut anew = referring("web", 9, "", &[]);
    anew.metadata.uid = Some("another".to_owned());
    assert_eq!(addresses(&runs(&mut world, anew)), addresses(&web));
}
