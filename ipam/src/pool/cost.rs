//! What a call does not do, whatever else there is: look at each hole of its pool, or
//! wait for another pool.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::Pool;
use crate::{Owner, Seconds, midst};

/// Half of the addresses of a /13.
const HOLES: usize = (1 << 18) - 1;
const REST: Seconds = 60;

fn pool(network: &str) -> Pool {
    Pool::new(network.parse().unwrap(), &[], &[], REST).unwrap()
}

fn owner(number: usize) -> Owner {
    Owner::from(format!("vm-{number}").as_str())
}

/// The numbers of every second owner, in an order in which none is near the last one.
fn every_second() -> impl Iterator<Item = usize> {
    /// Has no divisor in common with the number of holes.
    const LEAP: usize = 76_543;
    (0..HOLES).map(|number| number * LEAP % HOLES * 2)
}

/// Were each hole looked at, that would be some 10¹¹ looks, for which nobody waits.
#[test]
fn a_quarter_of_a_million_holes_are_made_and_filled_without_a_look_at_each() {
    let mut pool = pool("10.0.0.0/13");
    let held: Vec<IpAddr> =
        (0..2 * HOLES).map(|number| pool.allocate(owner(number), 0).unwrap()).collect();
    assert_eq!(pool.available(), 0);
    // Each in a second of its own: most count as never used again, the last are remembered.
    for (second, number) in (1..).zip(every_second()) {
        assert_eq!(pool.release(owner(number), second), Some(held[number]));
    }
    assert_eq!(pool.available(), HOLES as u128);
    let later = HOLES as Seconds + REST;
    let filled: BTreeSet<IpAddr> =
        every_second().map(|number| pool.allocate(owner(number), later).unwrap()).collect();
    assert!(filled.iter().eq(held.iter().step_by(2)), "each hole is filled once");

    // The same again, each by its name.
    for number in every_second() {
        pool.release(owner(number), later).unwrap();
    }
    for number in every_second() {
        pool.claim(owner(number), held[number], later + REST).unwrap();
    }
    assert!((0..2 * HOLES).all(|number| pool.address_of(owner(number)) == Some(held[number])));
}

/// All that one can ask of a pool.
fn work(pool: &mut Pool) {
    for number in 0..100 {
        pool.allocate(owner(number), 0).unwrap();
    }
    for number in 0..50 {
        let address = pool.release(owner(number), 1).unwrap();
        pool.claim(owner(number), address, 1).unwrap();
        pool.release(owner(number), 1).unwrap();
        pool.restore_resting(address, 2);
        pool.restore_held(owner(number), address).unwrap();
        assert_eq!(pool.holder(address), pool.address_of(owner(number)).map(|_| owner(number)));
    }
    assert_eq!((pool.held(), pool.iter().count()), (100, 100));
}

#[test]
fn a_thread_in_the_midst_of_an_allocation_keeps_fifteen_with_other_pools_from_nothing() {
    /// Long after each of them is through.
    const LIMIT: Duration = Duration::from_secs(60);
    let (enters, entered) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel::<()>();
    let (ends, ended) = mpsc::channel();
    let slow = thread::spawn(move || {
        let mut pool = pool("10.0.0.0/16");
        midst::next(move || {
            enters.send(()).unwrap();
            let _ = goes_on.recv();
        });
        pool.allocate(owner(0), 0).unwrap()
    });
    entered.recv_timeout(LIMIT).expect("it is in the midst of it");
    for number in 1..16 {
        let ends = ends.clone();
        thread::spawn(move || {
            work(&mut pool(&format!("10.{number}.0.0/16")));
            ends.send(()).unwrap();
        });
    }
    let through = (1..16).take_while(|_| ended.recv_timeout(LIMIT).is_ok()).count();
    let waited_for = !slow.is_finished();
    drop(go_on);
    assert_eq!(slow.join().unwrap().to_string(), "10.0.0.1");
    assert_eq!((through, waited_for), (15, true));
}
