//! Each promise and each error in a sentence.

use std::net::IpAddr;

use net::AddrRange;

use super::{Pool, SubPool};
use crate::{AllocateError, ClaimError, Owner, PoolError};

const REST: u64 = 60;

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn owner(name: &str) -> Owner {
    name.into()
}

fn pool(network: &str) -> Pool {
    pool_with(network, &[], &[])
}

fn pool_with(network: &str, forbidden: &[&str], excluded: &[&str]) -> Pool {
    let ranges = |texts: &[&str]| -> Vec<AddrRange> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    };
    Pool::new(network.parse().unwrap(), &ranges(forbidden), &ranges(excluded), REST).unwrap()
}

/// Allocates to `names` at `now` and says what they got.
fn allocate(pool: &mut Pool, names: &[&str], now: u64) -> Vec<String> {
    names.iter().map(|name| pool.allocate(owner(name), now).unwrap().to_string()).collect()
}

#[test]
fn an_owner_that_asks_twice_keeps_its_address() {
    let mut pool = pool("10.0.0.0/24");
    assert_eq!(allocate(&mut pool, &["a", "b", "a"], 0), ["10.0.0.1", "10.0.0.2", "10.0.0.1"]);
    assert_eq!(pool.claim(owner("a"), addr("10.0.0.1"), 0), Ok(()));
    assert_eq!(pool.held(), 2);
}

#[test]
fn network_and_broadcast_addresses_are_never_given() {
    let mut pool = pool("10.0.0.8/30");
    assert_eq!(pool.available(), 2);
    assert_eq!(allocate(&mut pool, &["a", "b"], 0), ["10.0.0.9", "10.0.0.10"]);
    for reserved in ["10.0.0.8", "10.0.0.11"].map(addr) {
        let refused = pool.claim(owner("c"), reserved, 0);
        assert_eq!(refused, Err(ClaimError::Forbidden(reserved)));
    }
}

#[test]
fn of_an_ipv6_network_only_the_subnet_router_anycast_address_is_never_given() {
    let mut pool = pool("fd00::/126");
    assert_eq!(pool.available(), 3);
    assert_eq!(allocate(&mut pool, &["a", "b", "c"], 0), ["fd00::1", "fd00::2", "fd00::3"]);
    assert_eq!(
        pool.claim(owner("d"), addr("fd00::"), 0),
        Err(ClaimError::Forbidden(addr("fd00::")))
    );
}

#[test]
fn a_forbidden_address_is_neither_allocated_nor_claimed() {
    let mut pool = pool_with("10.0.0.0/24", &["10.0.0.1", "fd00::1"], &[]);
    assert_eq!(allocate(&mut pool, &["a"], 0), ["10.0.0.2"]);
    let gateway = addr("10.0.0.1");
    assert_eq!(pool.claim(owner("b"), gateway, 0), Err(ClaimError::Forbidden(gateway)));
}

#[test]
fn an_excluded_address_is_had_by_claim_alone() {
    let mut pool = pool_with("10.0.0.0/29", &[], &["9.0.0.0..10.0.0.4"]);
    assert_eq!(pool.available(), 2);
    assert_eq!(pool.claim(owner("static"), addr("10.0.0.3"), 0), Ok(()));
    assert_eq!(allocate(&mut pool, &["a", "b"], 0), ["10.0.0.5", "10.0.0.6"]);
    assert_eq!(pool.allocate(owner("c"), 0), Err(AllocateError::Exhausted));
    assert_eq!(pool.release(owner("static"), 0), Some(addr("10.0.0.3")));
    assert_eq!(pool.allocate(owner("static"), 1), Err(AllocateError::Exhausted));
    assert_eq!(pool.allocate(owner("c"), REST), Err(AllocateError::Exhausted));
    assert_eq!(pool.claim(owner("c"), addr("10.0.0.3"), REST), Ok(()));
}

#[test]
fn a_sub_pool_gives_to_those_who_name_it_and_to_nobody_else() {
    let ranges = vec!["10.0.0.2..10.0.0.3".parse().unwrap(), "fd00::/64".parse().unwrap()];
    let web = SubPool { name: "web".to_owned(), ranges };
    let network = "10.0.0.0/29".parse().unwrap();
    let excluded = ["10.0.0.3".parse().unwrap()];
    let mut pool = Pool::divided(network, &[], &excluded, &[web], REST).unwrap();
    assert_eq!((pool.available(), pool.available_in("web")), (4, 1));
    assert_eq!(allocate(&mut pool, &["a", "b"], 0), ["10.0.0.1", "10.0.0.4"]);
    assert_eq!(pool.allocate_from("web", owner("w"), 0), Ok(addr("10.0.0.2")));
    assert_eq!(pool.allocate_from("web", owner("x"), 0), Err(AllocateError::Exhausted));
    // What it holds it keeps, whichever way it asks; what is excluded is had by claim.
    assert_eq!(pool.allocate_from("web", owner("a"), 0), Ok(addr("10.0.0.1")));
    assert_eq!(pool.claim(owner("x"), addr("10.0.0.3"), 0), Ok(()));
    pool.release(owner("w"), 10);
    let until = 10 + REST;
    let refused = pool.allocate_from("web", owner("y"), 11);
    assert_eq!(refused, Err(AllocateError::Resting { until }));
    assert_eq!(pool.allocate_from("web", owner("w"), 11), Ok(addr("10.0.0.2")));
    let unknown = pool.allocate_from("db", owner("z"), 11);
    assert_eq!(unknown, Err(AllocateError::NoSubPool("db".to_owned())));
}

#[test]
fn never_used_addresses_come_before_released_ones_and_those_by_age_of_release() {
    let mut pool = pool("10.0.0.0/29");
    allocate(&mut pool, &["a", "b", "c"], 0);
    for (name, now) in [("b", 10), ("c", 11), ("a", 12)] {
        pool.release(owner(name), now);
    }
    let given = allocate(&mut pool, &["d", "e", "f", "g", "h", "i"], 1000);
    assert_eq!(given, ["10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.2", "10.0.0.3", "10.0.0.1"]);
    assert_eq!(pool.allocate(owner("j"), 1000), Err(AllocateError::Exhausted));
}

#[test]
fn a_released_address_is_not_given_to_another_before_it_has_rested() {
    let mut pool = pool("10.0.0.0/30");
    allocate(&mut pool, &["a", "b"], 0);
    pool.release(owner("a"), 100);
    let until = 100 + REST;
    let other = owner("c");
    assert_eq!(pool.allocate(other, until - 1), Err(AllocateError::Resting { until }));
    let refused = pool.claim(other, addr("10.0.0.1"), until - 1);
    assert_eq!(refused, Err(ClaimError::Resting { until }));
    assert_eq!(pool.available(), 1);
    assert_eq!(pool.allocate(other, until), Ok(addr("10.0.0.1")));
}

#[test]
fn the_last_owner_gets_a_resting_address_back_at_once() {
    let mut pool = pool("10.0.0.0/24");
    allocate(&mut pool, &["a", "b"], 0);
    pool.release(owner("a"), 100);
    assert_eq!(allocate(&mut pool, &["a"], 101), ["10.0.0.1"]);
    pool.release(owner("b"), 102);
    assert_eq!(pool.claim(owner("b"), addr("10.0.0.2"), 103), Ok(()));
}

#[test]
fn the_last_owner_stands_in_line_once_its_address_has_rested() {
    let mut pool = pool("10.0.0.0/24");
    allocate(&mut pool, &["a"], 0);
    pool.release(owner("a"), 100);
    assert_eq!(allocate(&mut pool, &["a"], 100 + REST), ["10.0.0.2"]);
}

#[test]
fn a_claimed_address_is_refused_to_anyone_else() {
    let mut pool = pool("10.0.0.0/24");
    assert_eq!(pool.claim(owner("a"), addr("10.0.0.77"), 0), Ok(()));
    let refused = pool.claim(owner("b"), addr("10.0.0.77"), 0);
    assert_eq!(refused, Err(ClaimError::HeldBy(owner("a"))));
    assert_eq!(pool.holder(addr("10.0.0.77")), Some(owner("a")));
}

#[test]
fn an_owner_must_let_go_before_it_claims_another_address() {
    let mut pool = pool("10.0.0.0/24");
    allocate(&mut pool, &["a"], 0);
    let refused = pool.claim(owner("a"), addr("10.0.0.9"), 0);
    assert_eq!(refused, Err(ClaimError::OwnerHolds(addr("10.0.0.1"))));
    pool.release(owner("a"), 0);
    assert_eq!(pool.claim(owner("a"), addr("10.0.0.9"), 0), Ok(()));
    assert_eq!(pool.address_of(owner("a")), Some(addr("10.0.0.9")));
}

#[test]
fn an_address_of_another_network_or_family_is_out_of_range() {
    let mut pool = pool("10.0.0.0/24");
    for outside in ["10.0.1.0", "9.255.255.255", "fd00::1"].map(addr) {
        let refused = Err(ClaimError::OutOfRange(outside));
        assert_eq!(pool.claim(owner("a"), outside, 0), refused);
        assert_eq!(pool.restore_held(owner("a"), outside), refused);
        pool.restore_resting(outside, 0);
        assert_eq!(pool.holder(outside), None);
    }
    assert_eq!((pool.held(), pool.available()), (0, 254));
}

#[test]
fn releasing_twice_or_nothing_is_harmless() {
    let mut pool = pool("10.0.0.0/24");
    assert_eq!(pool.release(owner("a"), 0), None);
    allocate(&mut pool, &["a"], 0);
    assert_eq!(pool.release(owner("a"), 5), Some(addr("10.0.0.1")));
    assert_eq!(pool.release(owner("a"), 50), None);
    let refused = pool.claim(owner("b"), addr("10.0.0.1"), 6);
    assert_eq!(refused, Err(ClaimError::Resting { until: 5 + REST }));
}

#[test]
fn what_the_ledger_says_is_believed_after_a_restart() {
    let mut pool = pool_with("10.0.0.0/29", &["10.0.0.1"], &[]);
    assert_eq!(pool.restore_held(owner("a"), addr("10.0.0.2")), Ok(()));
    assert_eq!(pool.restore_held(owner("a"), addr("10.0.0.2")), Ok(()));
    assert_eq!(pool.restore_held(owner("gateway"), addr("10.0.0.1")), Ok(()));
    pool.restore_resting(addr("10.0.0.3"), 100);
    pool.restore_resting(addr("10.0.0.2"), 100);
    assert_eq!(pool.allocate(owner("a"), 0), Ok(addr("10.0.0.2")));
    let refused = pool.claim(owner("b"), addr("10.0.0.3"), 101);
    assert_eq!(refused, Err(ClaimError::Resting { until: 100 + REST }));
    let given = allocate(&mut pool, &["c", "d", "e", "f"], 1000);
    assert_eq!(given, ["10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.3"]);
    let held: Vec<_> = pool.iter().collect();
    assert_eq!(held.len(), 6);
}

#[test]
fn a_ledger_that_contradicts_itself_is_reported() {
    let mut pool = pool("10.0.0.0/24");
    assert_eq!(pool.restore_held(owner("a"), addr("10.0.0.2")), Ok(()));
    let twice = pool.restore_held(owner("b"), addr("10.0.0.2"));
    assert_eq!(twice, Err(ClaimError::HeldBy(owner("a"))));
    let second = pool.restore_held(owner("a"), addr("10.0.0.3"));
    assert_eq!(second, Err(ClaimError::OwnerHolds(addr("10.0.0.2"))));
}

#[test]
fn after_a_restart_a_resting_address_rests_for_its_last_owner_too() {
    let mut pool = pool("10.0.0.0/24");
    pool.restore_resting(addr("10.0.0.1"), 100);
    let refused = pool.claim(owner("a"), addr("10.0.0.1"), 101);
    assert_eq!(refused, Err(ClaimError::Resting { until: 100 + REST }));
}

#[test]
fn hearing_of_its_own_release_from_the_ledger_the_pool_still_knows_the_last_owner() {
    let mut pool = pool("10.0.0.0/24");
    allocate(&mut pool, &["a"], 0);
    pool.release(owner("a"), 100);
    pool.restore_resting(addr("10.0.0.1"), 100);
    assert_eq!(allocate(&mut pool, &["a"], 101), ["10.0.0.1"]);
}

#[test]
fn a_commit_that_was_lost_to_another_controller_is_undone() {
    let mut pool = pool("10.0.0.0/24");
    let (mine, theirs) = (owner("mine"), owner("theirs"));
    let lost = pool.allocate(mine, 100).unwrap();
    pool.release(mine, 100);
    assert_eq!(pool.restore_held(theirs, lost), Ok(()));
    assert_eq!(pool.allocate(mine, 100), Ok(addr("10.0.0.2")));
}

/// So many values a pool holds in memory, by what it prints of itself.
fn values(pool: &Pool) -> usize {
    format!("{pool:?}").matches(", ").count()
}

#[test]
fn a_large_network_costs_as_little_as_a_small_one() {
    let networks = [
        ("10.0.0.0/22", 1022),
        ("10.0.0.0/8", (1 << 24) - 2),
        ("fd00::/118", (1 << 10) - 1),
        ("fd00:0:0:1::/64", (1 << 64) - 1),
        ("fd00::/48", (1 << 80) - 1),
    ];
    let mut costs: Vec<Vec<usize>> = Vec::new();
    for (network, all) in networks {
        let mut pool = pool(network);
        assert_eq!(pool.available(), all);
        // Of IPv4 two addresses are the network's own, of IPv6 one.
        let empty = values(&pool);
        assert!(empty < 50, "{network}: {empty}");
        let mut cost = Vec::new();
        let top = pool.address(all);
        assert_eq!(pool.claim(owner("top"), top, 0), Ok(()));
        assert_eq!(pool.available(), all - 1);
        assert_eq!(pool.iter().collect::<Vec<_>>(), [(top, owner("top"))]);
        cost.push(values(&pool) - empty);
        // Every second one comes back, so that it is full of holes.
        let names: Vec<_> = (0..200).map(|number| number.to_string()).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        allocate(&mut pool, &names, 0);
        cost.push(values(&pool) - empty);
        for name in names.iter().step_by(2) {
            pool.release(owner(name), 1);
        }
        cost.push(values(&pool) - empty);
        costs.push(cost);
    }
    // Neither the size nor the family makes a difference, and an address costs some values.
    assert!(costs.iter().all(|cost| *cost == costs[0]), "{costs:?}");
    assert!(costs[0][1] > 200 && costs[0][2] < 200 * 10, "{:?}", costs[0]);
}

#[test]
fn long_rested_addresses_count_as_never_used_again_beyond_a_number() {
    let network = "fd00::/64".parse().unwrap();
    let mut pool = Pool::remembering(2, network, &[], &[], &[], REST).unwrap();
    let names = ["a", "b", "c", "d"];
    allocate(&mut pool, &names, 0);
    for name in names {
        pool.release(owner(name), 0);
    }
    allocate(&mut pool, &["e"], 1000);
    pool.release(owner("e"), 1000);
    let given = allocate(&mut pool, &["f", "g", "h", "i"], 1000);
    assert_eq!(given, ["fd00::1", "fd00::2", "fd00::6", "fd00::7"]);
}

#[test]
fn a_network_that_is_too_large_or_too_small_cannot_be_a_pool() {
    for text in ["0.0.0.0/7", "10.0.0.0/31", "fc00::/47", "fd00::/127"] {
        let network = text.parse().unwrap();
        let refused = Pool::new(network, &[], &[], REST).unwrap_err();
        assert_eq!(refused, PoolError::UnsupportedSize(network));
    }
}
