//! What does it cost to give an address and to take it back?
//!
//! An operation is one call of `allocate`, `claim` or `release`, the making of the owner
//! from its name included, as a reconcile does it, and the clock moves on. The
//! peer's figures are those of Kube-OVN's unmodified `pkg/ipam`, run with the same
//! sequences on a machine of the same kind; they are recorded here, not run again.
//! The first case is charged with the pages that the system has yet to hand out.

use ipam::{Owner, Pool, Seconds};

use crate::{Effort, Figure, Numbers, Tell, ns_per_op, scattered_places};

const PEER: &str = "kube-ovn";

/// Operations per second of the pool's clock.
const PACE: usize = 64;

/// How large everything is.
struct Run {
    effort: Effort,
    network: &'static str,
    v6: &'static str,
    /// The usable addresses of the network with a gateway, as the peer's harness has it.
    full: usize,
    /// Addresses that are statically given at random places of a /8.
    scattered: usize,
    /// Those of which a ledger says that they are held.
    held: usize,
    /// What each of the threads allocates.
    each: usize,
    names: Vec<String>,
}

impl Run {
    fn of(effort: Effort) -> Self {
        let (network, v6, full, scattered, held, each) = match effort {
            Effort::Whole => ("10.0.0.0/16", "fd00::/112", 65_533, 50_000, 100_000, 65_000),
            Effort::Short => ("10.0.0.0/23", "fd00::/119", 509, 500, 1_000, 500),
        };
        let names = (0..2 * full).map(name).collect();
        Self { effort, network, v6, full, scattered, held, each, names }
    }

    /// The names of those who fill the network.
    fn fillers(&self) -> &[String] {
        &self.names[..self.full]
    }

    fn full(&self, network: &str) -> Pool {
        let mut pool = empty(network);
        allocate(&mut pool, self.fillers());
        pool
    }

    /// The same names in random order.
    fn shuffled(&self, seed: u64) -> Vec<String> {
        let mut order = self.fillers().to_vec();
        Numbers::seeded(seed).shuffle(&mut order);
        order
    }

    fn ns_per_op<W>(
        &self,
        rounds: usize,
        prepare: impl FnMut() -> W,
        work: impl FnMut(&mut W) -> u32,
    ) -> f64 {
        ns_per_op(self.effort.rounds(rounds), prepare, work)
    }
}

/// Carries out every case, and tells its figures.
///
/// # Panics
/// When a pool does not do what it should.
pub fn measure(effort: Effort, tell: Tell<'_>) {
    let run = Run::of(effort);
    dense(&run, tell);
    let peer = Some((1_269_000.0, 151_000.0));
    fragmented(&run, "pool_op_fragmented", run.network, peer, tell);
    v6(&run, tell);
    fragmented(&run, "pool_op_v6_fragmented", run.v6, None, tell);
    scattered(&run, tell);
    dual(&run, tell);
    free_random(&run, tell);
    subnets(&run, tell);
    restart(&run, tell);
    threads(&run, tell);
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
fn dense(run: &Run, tell: Tell<'_>) {
    let (given, taken) = fill_and_empty(run, run.network);
    // kube-ovn.md §3.1: fill a /16, 5.5 µs; free in order, 4.6 µs.
    tell(Figure::new("pool_alloc_dense", given, "ns").against(PEER, 5_500.0));
    tell(Figure::new("pool_release_dense", taken, "ns").against(PEER, 4_600.0));
    tell(Figure::new("pool_op_dense", mean(given, taken), "ns").against(PEER, 5_050.0));
}

fn v6(run: &Run, tell: Tell<'_>) {
    let (given, taken) = fill_and_empty(run, "fd00::/64");
    // kube-ovn.md §3.1: SerialIPv6AllocAddr in a /104; their free case does not run.
    tell(Figure::new("pool_alloc_v6", given, "ns").against(PEER, 5_408.0));
    tell(Figure::new("pool_op_v6", mean(given, taken), "ns").against(PEER, 5_408.0));
}

fn fill_and_empty(run: &Run, network: &str) -> (f64, f64) {
    let names = run.fillers();
    let given = run.ns_per_op(15, || empty(network), |pool| allocate(pool, names));
    let taken = run.ns_per_op(15, || run.full(network), |pool| release(pool, names));
    (given, taken)
}

/// A full network of which a random half is released, then given to others, again and
/// again: every address comes from a hole.
fn fragmented(run: &Run, figure: &str, network: &str, peer: Option<(f64, f64)>, tell: Tell<'_>) {
    let shuffled = run.shuffled(1);
    let leaving = &shuffled[..run.full / 2];
    let newcomers = &run.names[run.full..][..leaving.len()];
    let taken = run.ns_per_op(15, || run.full(network), |pool| release(pool, leaving));
    let holed = || {
        let mut pool = run.full(network);
        release(&mut pool, leaving);
        pool
    };
    // Later than every release, so that none is at rest.
    let given = run.ns_per_op(15, holed, |pool| allocate(pool, newcomers));
    let figure = Figure::new(figure, mean(given, taken), "ns");
    // kube-ovn.md §3.1: allocate again from the 32k holes; free a random half.
    if let Some((allocation, freeing)) = peer {
        tell(Figure::new("pool_alloc_fragmented", given, "ns").against(PEER, allocation));
        tell(Figure::new("pool_release_fragmented", taken, "ns").against(PEER, freeing));
        tell(figure.against(PEER, mean(allocation, freeing)));
    } else {
        tell(figure);
    }
}

/// Static addresses all over a /8, and dynamic ones between them.
fn scattered(run: &Run, tell: Tell<'_>) {
    let places: Vec<_> = scattered_places().take(run.scattered).collect();
    let statics = &run.names[..run.scattered];
    let claim = |pool: &mut Pool| {
        for (name, place) in statics.iter().zip(&places) {
            pool.claim(owner(name), *place, 1_000).expect("places are distinct");
        }
        count(statics)
    };
    // kube-ovn.md §3.1: v4 static alloc at random places in a /8; v4 dynamic alloc
    // in a pool with that many scattered static addresses.
    let claimed = run.ns_per_op(15, || empty("10.0.0.0/8"), claim);
    tell(Figure::new("pool_alloc_static_scattered", claimed, "ns").against(PEER, 232_000.0));
    let prepared = || {
        let mut pool = empty("10.0.0.0/8");
        claim(&mut pool);
        pool
    };
    let newcomers = &run.names[run.scattered..][..run.full];
    let given = run.ns_per_op(15, prepared, |pool| allocate(pool, newcomers));
    tell(Figure::new("pool_alloc_scattered", given, "ns").against(PEER, 4_078_000.0));
}

/// An address of each family for each owner, as a port has them; the figure is for both.
fn dual(run: &Run, tell: Tell<'_>) {
    let empty = || [empty(run.network), empty("fd00::/64")];
    let given = run.ns_per_op(15, empty, |[v4, v6]| {
        for (operation, name) in run.fillers().iter().enumerate() {
            let owner = owner(name);
            v4.allocate(owner, clock(operation)).expect("there is an address");
            v6.allocate(owner, clock(operation)).expect("there is an address");
        }
        count(run.fillers())
    });
    tell(Figure::new("pool_alloc_dual", given, "ns"));
}

/// All of a full network given back in random order.
fn free_random(run: &Run, tell: Tell<'_>) {
    let leaving = run.shuffled(2);
    let full = || run.full(run.network);
    let taken = run.ns_per_op(15, full, |pool| release(pool, &leaving));
    tell(Figure::new("pool_free_random", taken, "ns"));
}

/// A subnet comes and goes: whatever its size, and nothing is held in it.
fn subnets(run: &Run, tell: Tell<'_>) {
    for (name, network) in [
        ("pool_subnet_v4_24", "10.0.0.0/24"),
        ("pool_subnet_v4_8", "10.0.0.0/8"),
        ("pool_subnet_v6_64", "fd00::/64"),
    ] {
        let made = run.ns_per_op(
            15,
            || (),
            |()| {
                for _ in 0..1_000 {
                    std::hint::black_box(empty(network));
                }
                1_000
            },
        );
        tell(Figure::new(name, made, "ns"));
    }
}

/// What the ledger says of 100,000 addresses is read in, in the ledger's order.
fn restart(run: &Run, tell: Tell<'_>) {
    let names: Vec<String> = (0..run.held).map(name).collect();
    let places: Vec<_> = scattered_places().take(run.held).collect();
    let read = run.ns_per_op(
        5,
        || empty("10.0.0.0/8"),
        |pool| {
            for (name, place) in names.iter().zip(&places) {
                pool.restore_held(owner(name), *place).expect("places are distinct");
            }
            1
        },
    );
    tell(Figure::new("pool_restart_100000", read / 1e6, "ms"));
}

/// 16 threads, each with a subnet of its own: what one operation takes of the wall's
/// time, all threads together.
fn threads(run: &Run, tell: Tell<'_>) {
    const THREADS: usize = 16;
    let prepared = || -> Vec<(Pool, Vec<String>)> {
        let each = |thread: usize| {
            let names = (thread * run.each..(thread + 1) * run.each).map(name).collect();
            (empty(run.network), names)
        };
        (0..THREADS).map(each).collect()
    };
    let given = run.ns_per_op(3, prepared, |subnets| {
        std::thread::scope(|scope| {
            for (pool, names) in subnets.iter_mut() {
                scope.spawn(move || allocate(pool, names));
            }
        });
        u32::try_from(THREADS * run.each).expect("few")
    });
    tell(Figure::new("pool_alloc_16_threads", given, "ns"));
}

fn mean(one: f64, other: f64) -> f64 {
    f64::midpoint(one, other)
}
