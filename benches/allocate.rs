//! What does it cost to give an address and to take it back?
//!
//! An operation is one call of `allocate`, `claim` or `release`, the making of the owner
//! from its name included, as a reconcile does it, and the clock moves on. The
//! peer's figures are those of Kube-OVN's unmodified `pkg/ipam`, run with the same
//! sequences on a machine of the same kind; they are recorded here, not run again.
//! The first case is charged with the pages that the system has yet to hand out.

use benches::{Figure, Numbers, ns_per_op, scattered_places};
use ipam::{Owner, Pool, Seconds};

const PEER: &str = "kube-ovn";

/// The usable addresses of a /16 with a gateway, as the peer's harness has it.
const FULL: usize = 65_533;

/// Addresses that are statically given at random places of a /8.
const SCATTERED: usize = 50_000;

/// Operations per second of the pool's clock.
const PACE: usize = 64;

fn main() {
    let names: Vec<String> = (0..2 * FULL).map(name).collect();
    dense(&names);
    fragmented(&names, "pool_op_fragmented", "10.0.0.0/16", Some((1_269_000.0, 151_000.0)));
    v6(&names);
    fragmented(&names, "pool_op_v6_fragmented", "fd00::/112", None);
    scattered(&names);
    dual(&names);
    free_random(&names);
    subnets();
    restart();
    threads();
}

/// A name as the controller makes it, of a port and the uid of its VM.
fn name(number: usize) -> String {
    format!("vm-{number:05}.default.ovn-net/3f9c2a17-b04d-4c5e-8f00-{number:012x}")
}

fn owner(name: &str) -> Owner {
    name.into()
}

fn empty(network: &str) -> Pool {
    let network = network.parse().expect("a network");
    Pool::new(network, &[], &[], 0).expect("a size that is served")
}

fn full(names: &[String], network: &str) -> Pool {
    let mut pool = empty(network);
    allocate(&mut pool, &names[..FULL]);
    pool
}

fn clock(operation: usize) -> Seconds {
    1_000 + (operation / PACE) as Seconds
}

fn allocate(pool: &mut Pool, names: &[String]) -> u32 {
    for (operation, name) in names.iter().enumerate() {
        pool.allocate(owner(name), clock(operation)).expect("there is an address");
    }
    count(names)
}

fn release(pool: &mut Pool, names: &[String]) -> u32 {
    for (operation, name) in names.iter().enumerate() {
        pool.release(owner(name), clock(operation)).expect("the owner holds an address");
    }
    count(names)
}

fn count(names: &[String]) -> u32 {
    u32::try_from(names.len()).expect("few")
}

/// From empty to full and back, tables growing on the way.
fn dense(names: &[String]) {
    let (given, taken) = fill_and_empty(names, "10.0.0.0/16");
    // kube-ovn.md §3.1: fill a /16, 5.5 µs; free in order, 4.6 µs.
    Figure::new("pool_alloc_dense", given, "ns").against(PEER, 5_500.0).print();
    Figure::new("pool_release_dense", taken, "ns").against(PEER, 4_600.0).print();
    Figure::new("pool_op_dense", mean(given, taken), "ns").against(PEER, 5_050.0).print();
}

fn v6(names: &[String]) {
    let (given, taken) = fill_and_empty(names, "fd00::/64");
    // kube-ovn.md §3.1: SerialIPv6AllocAddr in a /104; their free case does not run.
    Figure::new("pool_alloc_v6", given, "ns").against(PEER, 5_408.0).print();
    Figure::new("pool_op_v6", mean(given, taken), "ns").against(PEER, 5_408.0).print();
}

fn fill_and_empty(names: &[String], network: &str) -> (f64, f64) {
    let given = ns_per_op(15, || empty(network), |pool| allocate(pool, &names[..FULL]));
    let taken = ns_per_op(15, || full(names, network), |pool| release(pool, &names[..FULL]));
    (given, taken)
}

/// A full /16 of which a random half is released, then given to others, again and
/// again: every address comes from a hole.
fn fragmented(names: &[String], figure: &str, network: &str, peer: Option<(f64, f64)>) {
    let shuffled = shuffled(names, 1);
    let leaving = &shuffled[..FULL / 2];
    let newcomers = &names[FULL..][..leaving.len()];
    let taken = ns_per_op(15, || full(names, network), |pool| release(pool, leaving));
    let holed = || {
        let mut pool = full(names, network);
        release(&mut pool, leaving);
        pool
    };
    // Later than every release, so that none is at rest.
    let given = ns_per_op(15, holed, |pool| allocate(pool, newcomers));
    let figure = Figure::new(figure, mean(given, taken), "ns");
    // kube-ovn.md §3.1: allocate again from the 32k holes; free a random half.
    if let Some((allocation, freeing)) = peer {
        Figure::new("pool_alloc_fragmented", given, "ns").against(PEER, allocation).print();
        Figure::new("pool_release_fragmented", taken, "ns").against(PEER, freeing).print();
        figure.against(PEER, mean(allocation, freeing)).print();
    } else {
        figure.print();
    }
}

/// Static addresses all over a /8, and dynamic ones between them.
fn scattered(names: &[String]) {
    let places: Vec<_> = scattered_places().take(SCATTERED).collect();
    let statics = &names[..SCATTERED];
    let claim = |pool: &mut Pool| {
        for (name, place) in statics.iter().zip(&places) {
            pool.claim(owner(name), *place, 1_000).expect("places are distinct");
        }
        count(statics)
    };
    // kube-ovn.md §3.1: v4 static alloc at random places in a /8; v4 dynamic alloc
    // in a pool with that many scattered static addresses.
    let claimed = ns_per_op(15, || empty("10.0.0.0/8"), claim);
    Figure::new("pool_alloc_static_scattered", claimed, "ns").against(PEER, 232_000.0).print();
    let prepared = || {
        let mut pool = empty("10.0.0.0/8");
        claim(&mut pool);
        pool
    };
    let newcomers = &names[SCATTERED..][..FULL];
    let given = ns_per_op(15, prepared, |pool| allocate(pool, newcomers));
    Figure::new("pool_alloc_scattered", given, "ns").against(PEER, 4_078_000.0).print();
}

/// An address of each family for each owner, as a port has them; the figure is for both.
fn dual(names: &[String]) {
    let empty = || [empty("10.0.0.0/16"), empty("fd00::/64")];
    let given = ns_per_op(15, empty, |[v4, v6]| {
        for (operation, name) in names[..FULL].iter().enumerate() {
            let owner = owner(name);
            v4.allocate(owner, clock(operation)).expect("there is an address");
            v6.allocate(owner, clock(operation)).expect("there is an address");
        }
        count(&names[..FULL])
    });
    Figure::new("pool_alloc_dual", given, "ns").print();
}

/// All of a full /16 given back in random order.
fn free_random(names: &[String]) {
    let leaving = shuffled(names, 2);
    let full = || full(names, "10.0.0.0/16");
    let taken = ns_per_op(15, full, |pool| release(pool, &leaving));
    Figure::new("pool_free_random", taken, "ns").print();
}

/// The names of those who fill a /16, in random order.
fn shuffled(names: &[String], seed: u64) -> Vec<String> {
    let mut order = names[..FULL].to_vec();
    Numbers::seeded(seed).shuffle(&mut order);
    order
}

/// A subnet comes and goes: whatever its size, and nothing is held in it.
fn subnets() {
    for (name, network) in [
        ("pool_subnet_v4_24", "10.0.0.0/24"),
        ("pool_subnet_v4_8", "10.0.0.0/8"),
        ("pool_subnet_v6_64", "fd00::/64"),
    ] {
        let made = ns_per_op(
            15,
            || (),
            |()| {
                for _ in 0..1_000 {
                    std::hint::black_box(empty(network));
                }
                1_000
            },
        );
        Figure::new(name, made, "ns").print();
    }
}

/// What the ledger says of 100,000 addresses is read in, in the ledger's order.
fn restart() {
    const HELD: usize = 100_000;
    let names: Vec<String> = (0..HELD).map(name).collect();
    let places: Vec<_> = scattered_places().take(HELD).collect();
    let read = ns_per_op(
        5,
        || empty("10.0.0.0/8"),
        |pool| {
            for (name, place) in names.iter().zip(&places) {
                pool.restore_held(owner(name), *place).expect("places are distinct");
            }
            1
        },
    );
    Figure::new("pool_restart_100000", read / 1e6, "ms").print();
}

/// 16 threads, each with a subnet of its own: what one operation takes of the wall's
/// time, all threads together.
fn threads() {
    const THREADS: usize = 16;
    const EACH: usize = 65_000;
    let prepared = || -> Vec<(Pool, Vec<String>)> {
        let each = |thread: usize| {
            let names = (thread * EACH..(thread + 1) * EACH).map(name).collect();
            (empty("10.0.0.0/16"), names)
        };
        (0..THREADS).map(each).collect()
    };
    let given = ns_per_op(3, prepared, |subnets| {
        std::thread::scope(|scope| {
            for (pool, names) in subnets.iter_mut() {
                scope.spawn(move || allocate(pool, names));
            }
        });
        u32::try_from(THREADS * EACH).expect("few")
    });
    Figure::new("pool_alloc_16_threads", given, "ns").print();
}

fn mean(one: f64, other: f64) -> f64 {
    f64::midpoint(one, other)
}
