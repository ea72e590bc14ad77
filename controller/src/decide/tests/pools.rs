//! IPPools and families, as VMs meet them.

use crds::kubeovn::{IpPool, IpPoolSpec};

use super::*;

fn put_pool(world: &mut World, version: u32, name: &str, ips: &[&str], namespaces: &[&str]) {
    let owned = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect();
    let spec = IpPoolSpec {
        subnet: "s".to_owned(),
        ips: owned(ips),
        namespaces: owned(namespaces),
        enable_address_set: false,
    };
    let mut pool = IpPool::new(name, spec);
    pool.metadata.resource_version = Some(version.to_string());
    world.apply(Event::Pool(Seen::Now(Box::new(pool))));
}

/// Puts in the VM with these annotations, of `ovn.kubernetes.io`.
fn put_vm(world: &mut World, name: &str, version: u32, notes: &[(&str, &str)]) {
    let mut vm = vm(name, name, "Always", None);
    vm.metadata.resource_version = Some(version.to_string());
    let notes =
        notes.iter().map(|(field, text)| (annotations::key("ovn", field), (*text).to_owned()));
    vm.spec.template.metadata.as_mut().unwrap().annotations = Some(notes.collect());
    put(world, vm);
}

fn started_with(
    world: &mut World,
    name: &str,
    version: u32,
    notes: &[(&str, &str)],
) -> Vec<String> {
    put_vm(world, name, version, notes);
    let given = addresses(&started(world, name));
    committed(world);
    // Once the instance is there, what it does not have goes.
    for (claimant, subnet, address) in decided(world, name).spare {
        world.ledger.release_one(&subnet, &claimant, address, 0);
    }
    committed(world);
    given
}

#[test]
fn a_pool_gives_to_those_who_name_it_and_says_when_it_is_exhausted() {
    let mut world = world();
    put_pool(&mut world, 1, "web", &["10.0.0.2..10.0.0.3", "fd00::2"], &[]);
    let web = [("ip_pool", "web")];
    assert_eq!(started_with(&mut world, "plain", 1, &[]), ["10.0.0.4", "fd00::3"]);
    assert_eq!(started_with(&mut world, "a", 1, &web), ["10.0.0.2", "fd00::2"]);
    put_vm(&mut world, "b", 1, &web);
    let message = decided(&mut world, "b").trouble.unwrap().message;
    assert!(message.contains("IPPool \"web\" has no free address in fd00::/64"), "{message}");
    put_pool(&mut world, 2, "web", &["10.0.0.2..10.0.0.3"], &[]);
    assert_eq!(addresses(&started(&mut world, "b")), ["10.0.0.3", "fd00::4"]);
}

#[test]
fn an_address_moves_when_the_template_names_another_pool_and_only_then() {
    let mut world = world();
    assert_eq!(started_with(&mut world, "a", 1, &[]), ["10.0.0.2", "fd00::2"]);
    gone(&mut world, "a");
    // A pool takes nothing from who has it, and gives nothing to who has something.
    put_pool(&mut world, 1, "blue", &["10.0.0.2"], &[]);
    put_pool(&mut world, 1, "red", &["10.0.0.4"], &["default"]);
    assert_eq!(addresses(&started(&mut world, "a")), ["10.0.0.2", "fd00::2"]);
    gone(&mut world, "a");
    for (version, pool, v4) in [(3, "blue", "10.0.0.2"), (4, "red", "10.0.0.4")] {
        let given = started_with(&mut world, "a", version, &[("ip_pool", pool)]);
        assert_eq!(given, [v4, "fd00::2"], "{pool}");
        gone(&mut world, "a");
    }
    // Nor does it go with its pool.
    world.apply(Event::Pool(Seen::all(vec![])));
    assert_eq!(started_with(&mut world, "a", 5, &[]), ["10.0.0.4", "fd00::2"]);
}

#[test]
fn a_pool_of_the_namespace_serves_new_vms() {
    let mut world = world();
    put_pool(&mut world, 1, "all", &["10.0.0.5"], &["default"]);
    assert_eq!(started_with(&mut world, "a", 1, &[]), ["10.0.0.5", "fd00::2"]);
    let static_one = [("ip_address", "10.0.0.2")];
    assert_eq!(started_with(&mut world, "b", 1, &static_one), ["10.0.0.2", "fd00::3"]);
}

#[test]
fn one_family_is_all_that_a_vm_has_that_asks_for_one() {
    let mut world = world();
    for (name, family, address, cidr, gateway) in [
        ("four", "ipv4", "10.0.0.2", "10.0.0.0/29", "10.0.0.1"),
        ("six", "ipv6", "fd00::2", "fd00::/64", "fd00::1"),
    ] {
        put_vm(&mut world, name, 1, &[("ip_family", family)]);
        let decision = started(&mut world, name);
        assert_eq!(addresses(&decision), [address]);
        let instance = decision.create.as_ref().unwrap().instance();
        let notes = instance.annotations();
        for (field, text) in [("ip_address", address), ("cidr", cidr), ("gateway", gateway)] {
            assert_eq!(notes[&annotations::key("ovn", field)], text);
        }
        committed(&mut world);
        // It lacks nothing.
        let again = decided(&mut world, name);
        assert!(again.trouble.is_none() && again.release.is_empty());
        assert_eq!(addresses(&again), [address]);
    }
}

#[test]
fn a_family_that_the_template_drops_goes_at_the_next_start_and_the_other_stays() {
    let mut world = world();
    assert_eq!(started_with(&mut world, "a", 1, &[]), ["10.0.0.2", "fd00::2"]);
    // Under a running guest nothing changes.
    put_vm(&mut world, "a", 3, &[("ip_family", "ipv6")]);
    assert_eq!(addresses(&decided(&mut world, "a")), ["10.0.0.2", "fd00::2"]);
    gone(&mut world, "a");
    let given = started_with(&mut world, "a", 4, &[("ip_family", "ipv6")]);
    assert_eq!(given, ["fd00::2"]);
    assert_eq!(addresses(&decided(&mut world, "a")), ["fd00::2"]);
    assert_eq!(world.ledger.held_in("s").count(), 1);
    gone(&mut world, "a");
    assert_eq!(started_with(&mut world, "a", 5, &[]).len(), 2);
}
