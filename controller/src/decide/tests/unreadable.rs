//! What cannot be read is left as it is, and whoever leans on it waits.

use super::*;

#[test]
fn a_vm_whose_run_strategy_cannot_be_read_says_so_and_goes_on() {
    let mut world = world();
    put(&mut world, vm("web", "u1", "Always", None));
    let before = started(&mut world, "web");
    let mut twice = vm("web", "u1", "Always", None);
    twice.spec.running = Some(false);
    twice.metadata.resource_version = Some("3".to_owned());
    put(&mut world, twice);
    let decision = decided(&mut world, "web");
    assert_eq!(decision.trouble.as_ref().unwrap().reason, machine::INVALID_RUN_STRATEGY);
    assert_eq!(decision.delete, None);
    assert_eq!(addresses(&decision), addresses(&before));
}

#[test]
fn nothing_of_a_vm_that_cannot_be_read_is_touched_until_it_is_repaired_or_gone() {
    let mut world = world();
    put(&mut world, vm("web", "u1", "Always", None));
    let before = started(&mut world, "web");
    committed(&mut world);
    // Seen alone or in a list of all: it is there either way.
    let meta = meta_of(&vm("web", "u1", "Always", None), "3");
    world.apply(Event::Machine(Seen::Unreadable(meta.clone())));
    world.apply(Event::Machine(Seen::All { objects: vec![], unreadable: vec![*meta.clone()] }));
    gone(&mut world, "web");
    let untouched = decided(&mut world, "web");
    assert!(untouched.release.is_empty() && untouched.surplus.is_empty(), "{untouched:?}");
    assert!(untouched.delete.is_none() && untouched.create.is_none(), "{untouched:?}");
    assert_eq!(world.ledger.held_for(&key("web")).len(), 1);

    let mut repaired = vm("web", "u1", "Always", None);
    repaired.metadata.resource_version = Some("4".to_owned());
    put(&mut world, repaired.clone());
    assert_eq!(addresses(&started(&mut world, "web")), addresses(&before));
    gone(&mut world, "web");
    world.apply(Event::Machine(Seen::Unreadable(meta_of(&repaired, "6"))));
    world.apply(Event::Machine(Seen::gone(&repaired)));
    assert_eq!(decided(&mut world, "web").release.len(), 1, "a deletion needs only metadata");
}

#[test]
fn a_vm_whose_instance_cannot_be_read_gets_no_second_one() {
    let mut world = world();
    put(&mut world, vm("web", "u1", "Always", None));
    started(&mut world, "web");
    let instance = world.instances.get(&key("web")).unwrap().as_ref().clone();
    world.apply(Event::Instance(Seen::Unreadable(meta_of(&instance, "9"))));
    let untouched = decided(&mut world, "web");
    assert!(untouched.create.is_none() && untouched.release.is_empty(), "{untouched:?}");
}

#[test]
fn a_subnet_with_a_block_that_cannot_be_read_gives_no_new_address_until_it_can() {
    let mut world = world();
    put(&mut world, vm("web", "u1", "Always", None));
    let before = started(&mut world, "web");
    let blocks = world.ledger.as_if_committed();
    world.apply(Event::Block(Seen::all(blocks.clone())));
    let metas = blocks.iter().map(|block| *meta_of(block, "5")).collect();
    // As after a restart: what the block said before is not known.
    world.apply(Event::Block(Seen::all(vec![])));
    world.apply(Event::Block(Seen::All { objects: vec![], unreadable: metas }));
    put(&mut world, vm("late", "u2", "Always", None));
    let refused = decided(&mut world, "late").trouble.unwrap();
    assert!(
        refused.message.contains("AddressBlock s.v4.0a0000 does not fit"),
        "{}",
        refused.message
    );
    let running = decided(&mut world, "web");
    assert!(running.delete.is_none() && running.release.is_empty(), "{running:?}");

    let mut repaired = blocks;
    for block in &mut repaired {
        block.metadata.resource_version = Some("6".to_owned());
    }
    world.apply(Event::Block(Seen::all(repaired)));
    let (dirty, _) = world.take_dirty();
    assert!(dirty.contains(&key("late")), "who waited is looked at again");
    assert_eq!(addresses(&decided(&mut world, "web")), addresses(&before));
    assert_ne!(addresses(&decided(&mut world, "late")), addresses(&before));
}
