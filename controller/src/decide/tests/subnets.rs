//! Subnets that are edited into something that cannot be, and the VMs on them.

use super::*;

/// The subnet `s` as its status says it after a status was written.
fn with_status(world: &World, name: &str) -> Subnet {
    let (_, status) = crate::status::subnets(world, |_| None, now())
        .into_iter()
        .find(|(one, _)| one == name)
        .unwrap();
    let mut subnet = world.subnets.get(&name.to_owned()).unwrap().as_ref().clone();
    subnet.status = Some(status);
    subnet
}

/// The same cluster, seen by a controller that has just started.
fn restarted(world: &World, subnets: Vec<Subnet>) -> World {
    let mut anew = listed(subnets);
    anew.apply(Event::Block(Seen::all(world.ledger.seen_blocks())));
    for (_, vm) in world.machines.iter() {
        put(&mut anew, vm.as_ref().clone());
    }
    for (_, instance) in world.instances.iter() {
        anew.put_instance(instance.as_ref().clone());
    }
    anew
}

#[test]
fn a_subnet_with_a_bad_edit_goes_on_as_it_was_also_after_a_restart() {
    let mut world = world();
    put(&mut world, vm("web", "u1", "Always", Some("10.0.0.5")));
    let before = started(&mut world, "web");
    committed(&mut world);
    let good = with_status(&world, "s");
    for cidr in ["10.0.0.0/30", "nonsense"] {
        let mut edited = good.clone();
        edited.spec.cidr_block = cidr.to_owned();
        edited.metadata.resource_version = Some("9".to_owned());
        // It takes the place that the edit would leave.
        let mut squatter = good.clone();
        squatter.metadata.name = Some("a-squatter".to_owned());
        squatter.status = None;
        squatter.spec.cidr_block = "10.0.0.4/30".to_owned();
        let mut anew = restarted(&world, vec![squatter, edited]);
        let after = decided(&mut anew, "web");
        assert_eq!(after.ports, before.ports, "{cidr}");
        assert!(anew.refused["s"].to_string().contains("spec.cidrBlock"), "{:?}", anew.refused);
        assert!(anew.refused["a-squatter"].to_string().contains("overlaps"), "{:?}", anew.refused);
        let said = with_status(&anew, "s").status.unwrap();
        assert_eq!(said.in_force.unwrap().cidr_block, good.spec.cidr_block, "{cidr}");
    }
}

#[test]
fn a_subnet_of_which_nobody_knows_what_it_was_leaves_no_held_address_to_another() {
    let mut world = world();
    put(&mut world, vm("web", "u1", "Always", Some("10.0.0.5")));
    started(&mut world, "web");
    committed(&mut world);
    let mut edited = with_status(&world, "s");
    edited.status = None;
    edited.spec.cidr_block = "10.0.0.0/30".to_owned();
    edited.metadata.resource_version = Some("9".to_owned());
    let mut squatter = edited.clone();
    squatter.metadata.name = Some("a-squatter".to_owned());
    squatter.spec.cidr_block = "10.0.0.4/30".to_owned();
    let mut anew = restarted(&world, vec![squatter, edited]);
    decided(&mut anew, "web");
    let why = anew.refused["a-squatter"].to_string();
    assert!(why.contains("10.0.0.5 is still held in subnet"), "{why}");
}

#[test]
fn an_address_that_a_vm_has_is_not_listed_to_be_shared_and_one_that_is_stays_so() {
    let mut world = world();
    put(&mut world, vm("web", "u1", "Always", Some("10.0.0.5")));
    started(&mut world, "web");
    committed(&mut world);
    let mut edited = with_status(&world, "s");
    edited.spec.vips = vec!["10.0.0.6".to_owned(), "10.0.0.5".to_owned()];
    edited.metadata.resource_version = Some("9".to_owned());
    world.put_subnet(edited.clone());
    decided(&mut world, "web");
    let why = world.refused["s"].to_string();
    assert!(why.contains("spec.vips: 10.0.0.5 of VirtualMachine default/web is held"), "{why}");
    assert!(world.ledger.networks()["s"].vips.is_empty(), "it goes on as it was");
    // A controller that let it pass has shared it already.
    let status = edited.status.as_mut().unwrap();
    status.in_force = Some(Box::new(edited.spec.clone()));
    let mut anew = restarted(&world, vec![edited]);
    decided(&mut anew, "web");
    assert!(anew.refused.is_empty(), "{:?}", anew.refused);
}

#[test]
fn an_edit_takes_the_place_of_no_other_subnet_however_old_it_is() {
    for restart in [false, true] {
        let mut world = world();
        let mut young = world.subnets.get(&"s".to_owned()).unwrap().as_ref().clone();
        young.metadata.name = Some("young".to_owned());
        young.spec.cidr_block = "10.1.0.0/29".to_owned();
        young.metadata.creation_timestamp = Some(Time(now()));
        world.apply(Event::Subnet(Seen::Now(Box::new(young))));
        world.take_dirty();
        let [mut old, young] = ["s", "young"].map(|name| with_status(&world, name));
        old.spec.cidr_block = "10.1.0.0/28".to_owned();
        old.metadata.resource_version = Some("9".to_owned());
        let mut world = if restart {
            restarted(&world, vec![old, young])
        } else {
            world.apply(Event::Subnet(Seen::Now(Box::new(old))));
            world
        };
        world.take_dirty();
        assert!(world.refused["s"].to_string().contains("overlaps"), "{:?}", world.refused);
        assert_eq!(world.ledger.networks()["young"].cidrs.to_string(), "10.1.0.0/29");
    }
}

#[test]
fn an_edit_that_waits_for_another_comes_into_force_with_it() {
    let mut world = world();
    let mut next = world.subnets.get(&"s".to_owned()).unwrap().as_ref().clone();
    next.metadata.name = Some("next".to_owned());
    next.spec.cidr_block = "10.0.0.8/29".to_owned();
    next.spec.namespaces = Vec::new();
    world.apply(Event::Subnet(Seen::Now(Box::new(next.clone()))));
    put(&mut world, vm("web", "u1", "Always", None));
    started(&mut world, "web");
    committed(&mut world);
    world.take_dirty();
    // `s` grows to where `next` was, which goes elsewhere and comes later by its name.
    let mut grown = world.subnets.get(&"s".to_owned()).unwrap().as_ref().clone();
    grown.spec.cidr_block = "10.0.0.0/28,fd00::/64".to_owned();
    grown.metadata.name = Some("s".to_owned());
    next.spec.cidr_block = "10.9.0.0/29".to_owned();
    for subnet in [&mut grown, &mut next] {
        subnet.metadata.resource_version = Some("9".to_owned());
    }
    world.apply(Event::Subnet(Seen::Now(Box::new(grown))));
    world.apply(Event::Subnet(Seen::Now(Box::new(next))));
    world.take_dirty();
    assert!(world.refused.is_empty(), "{:?}", world.refused);
    assert_eq!(world.ledger.networks()["s"].cidrs.to_string(), "10.0.0.0/28,fd00::/64");
}

#[test]
fn what_was_a_gateway_is_nobodys_while_a_guest_may_still_send_to_it() {
    let mut world = world();
    let mut moved = Subnet::clone(world.subnets.get(&"s".to_owned()).unwrap());
    moved.spec.gateway = "10.0.0.6".to_owned();
    moved.metadata.resource_version = Some("9".to_owned());
    world.put_subnet(moved);
    put(&mut world, vm("web", "u1", "Always", Some("10.0.0.1")));
    let (dirty, _) = world.take_dirty();
    let policy = Policy { keep_vm_ip: true };
    let decisions = decide_all(&mut world, &dirty, policy, now());
    let web = decisions.iter().find(|one| one.vm == key("web")).unwrap();
    let told = web.trouble.as_ref().expect("it has none").message.clone();
    assert!(told.contains("may still have a lease of it"), "{told}");
    // The rest is in the ledger, so that it outlives this process.
    committed(&mut world);
    let rests = |world: &World| {
        let blocks = world.ledger.seen_blocks();
        blocks.iter().any(|one| one.spec.resting.contains_key(&"10.0.0.1".parse().unwrap()))
    };
    assert!(rests(&world));
    let lease = i64::from(world.unended.lease);
    let later = now() + jiff::SignedDuration::from_secs(lease + 1);
    assert_eq!(addresses(&decide(&mut world, &key("web"), policy, later))[0], "10.0.0.1");
}
