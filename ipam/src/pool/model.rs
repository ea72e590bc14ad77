//! The pool against a naive one: lists searched from end to end.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use net::AddrRange;
use proptest::prelude::*;

use super::{Pool, SubPool};
use crate::{AllocateError, ClaimError, Owner, Seconds};

const REST: Seconds = 10;

/// The promises of [`Pool`], each written down in the plainest way.
struct Naive {
    network: IpNetwork,
    forbidden: Vec<AddrRange>,
    excluded: Vec<AddrRange>,
    sub_pools: Vec<SubPool>,
    remembered: usize,
    held: BTreeMap<IpAddr, Owner>,
    /// By time of release, then in the order in which they came.
    released: Vec<Released>,
    /// What each owner released last, while nobody else got it.
    last_of: BTreeMap<Owner, IpAddr>,
}

#[derive(Clone)]
struct Released {
    addr: IpAddr,
    at: Seconds,
    by: Option<Owner>,
}

impl Released {
    fn rests(&self, now: Seconds) -> bool {
        now < self.at + REST
    }
}

impl Naive {
    fn new(
        remembered: usize,
        network: IpNetwork,
        forbidden: &[AddrRange],
        excluded: &[AddrRange],
        sub_pools: &[SubPool],
    ) -> Self {
        let whole = AddrRange::from(network);
        let mut forbidden = forbidden.to_vec();
        forbidden.push(whole.first().into());
        if network.is_ipv4() {
            forbidden.push(whole.last().into());
        }
        Self {
            network,
            forbidden,
            excluded: excluded.to_vec(),
            sub_pools: sub_pools.to_vec(),
            remembered,
            held: BTreeMap::new(),
            released: Vec::new(),
            last_of: BTreeMap::new(),
        }
    }

    /// Of the sub-pool with this name, or of none.
    fn allocate(
        &mut self,
        from: Option<&str>,
        owner: &Owner,
        now: Seconds,
    ) -> Result<IpAddr, AllocateError> {
        if let Some(name) = from
            && !self.all_named().any(|(one, _)| one == name)
        {
            return Err(AllocateError::NoSubPool(name.to_owned()));
        }
        if let Some(addr) = self.address_of(owner) {
            return Ok(addr);
        }
        let resting = |addr: IpAddr| self.released(addr).is_some_and(|it| it.rests(now));
        let mine = self.last_of.get(owner).copied();
        let mine = mine.filter(|addr| self.is_given_by(from, *addr) && resting(*addr));
        let addr = match mine.or_else(|| self.lowest_never_used(from)) {
            Some(addr) => addr,
            None => {
                let oldest = self.released.iter().find(|it| self.is_given_by(from, it.addr));
                let oldest = oldest.ok_or(AllocateError::Exhausted)?;
                if oldest.rests(now) {
                    return Err(AllocateError::Resting { until: oldest.at + REST });
                }
                oldest.addr
            }
        };
        self.hold(owner, addr);
        Ok(addr)
    }

    fn claim(&mut self, owner: &Owner, addr: IpAddr, now: Seconds) -> Result<(), ClaimError> {
        if within(&self.forbidden, addr) && !self.held.contains_key(&addr) {
            return Err(ClaimError::Forbidden(addr));
        }
        if let Some(released) = self.released(addr)
            && self.address_of(owner).is_none()
            && released.rests(now)
            && released.by.as_ref() != Some(owner)
        {
            return Err(ClaimError::Resting { until: released.at + REST });
        }
        self.restore_held(owner, addr)
    }

    fn release(&mut self, owner: &Owner, now: Seconds) -> Option<IpAddr> {
        let addr = self.address_of(owner)?;
        self.held.remove(&addr);
        self.queue(Released { addr, at: now, by: Some(*owner) });
        self.last_of.insert(*owner, addr);
        for _ in 0..2 {
            let aside = |naive: &Self, addr| !naive.is_dynamic(addr);
            self.forget_one(now, aside, 0);
            let default = |naive: &Self, addr| naive.is_given_by(None, addr);
            self.forget_one(now, default, self.remembered);
            if let Some(name) = self.sub_pool_of(addr) {
                let of_it = |naive: &Self, addr| naive.is_given_by(Some(&name), addr);
                self.forget_one(now, of_it, self.remembered);
            }
        }
        Some(addr)
    }

    fn restore_held(&mut self, owner: &Owner, addr: IpAddr) -> Result<(), ClaimError> {
        match (self.held.get(&addr), self.address_of(owner)) {
            (Some(holder), _) if holder != owner => Err(ClaimError::HeldBy(*holder)),
            (None, Some(other)) => Err(ClaimError::OwnerHolds(other)),
            (Some(_), _) => Ok(()),
            (None, None) => {
                self.hold(owner, addr);
                Ok(())
            }
        }
    }

    fn restore_resting(&mut self, addr: IpAddr, at: Seconds) {
        let known = self.released(addr).is_some_and(|released| released.at == at);
        if !known && !self.held.contains_key(&addr) {
            self.forget(addr);
            self.queue(Released { addr, at, by: None });
        }
    }

    fn available(&self, from: Option<&str>, all: &[IpAddr]) -> usize {
        let free = |addr: &&IpAddr| self.is_given_by(from, **addr) && !self.held.contains_key(addr);
        all.iter().filter(free).count()
    }

    /// The name of each sub-pool's ranges that have an address in the network.
    fn all_named(&self) -> impl Iterator<Item = (&str, AddrRange)> {
        let whole = AddrRange::from(self.network);
        let pairs = self.sub_pools.iter().flat_map(|sub_pool| {
            sub_pool.ranges.iter().map(move |range| (sub_pool.name.as_str(), *range))
        });
        pairs.filter(move |(_, range)| {
            range.first() <= whole.last() && whole.first() <= range.last()
        })
    }

    /// Of those that name it the one whose range begins first.
    fn sub_pool_of(&self, addr: IpAddr) -> Option<String> {
        let naming = self.all_named().filter(|(_, range)| range.contains(addr));
        naming.min_by_key(|(_, range)| range.first()).map(|(name, _)| name.to_owned())
    }

    fn is_given_by(&self, from: Option<&str>, addr: IpAddr) -> bool {
        self.is_dynamic(addr) && self.sub_pool_of(addr).as_deref() == from
    }

    fn address_of(&self, owner: &Owner) -> Option<IpAddr> {
        self.held.iter().find(|(_, holder)| *holder == owner).map(|(addr, _)| *addr)
    }

    fn released(&self, addr: IpAddr) -> Option<&Released> {
        self.released.iter().find(|released| released.addr == addr)
    }

    fn is_dynamic(&self, addr: IpAddr) -> bool {
        !within(&self.forbidden, addr) && !within(&self.excluded, addr)
    }

    fn lowest_never_used(&self, from: Option<&str>) -> Option<IpAddr> {
        let unused =
            |addr: &IpAddr| !self.held.contains_key(addr) && self.released(*addr).is_none();
        let mut dynamic = self.network.iter().take(match from {
            // Those of sub-pools have names.
            Some(_) => NAMED,
            None => usize::MAX,
        });
        dynamic.find(|addr| unused(addr) && self.is_given_by(from, *addr))
    }

    fn hold(&mut self, owner: &Owner, addr: IpAddr) {
        self.forget(addr);
        self.last_of.remove(owner);
        self.held.insert(addr, *owner);
    }

    fn forget(&mut self, addr: IpAddr) {
        self.released.retain(|released| released.addr != addr);
        self.last_of.retain(|_, last| *last != addr);
    }

    fn forget_one(&mut self, now: Seconds, which: impl Fn(&Self, IpAddr) -> bool, keep: usize) {
        let of_kind = |it: &&Released| which(self, it.addr);
        let oldest = self.released.iter().find(of_kind).filter(|it| !it.rests(now));
        if let Some(addr) = oldest.map(|it| it.addr)
            && self.released.iter().filter(of_kind).count() > keep
        {
            self.forget(addr);
        }
    }

    fn queue(&mut self, released: Released) {
        let place = self.released.partition_point(|other| other.at <= released.at);
        self.released.insert(place, released);
    }
}

fn within(ranges: &[AddrRange], addr: IpAddr) -> bool {
    ranges.iter().any(|range| range.contains(addr))
}

/// What may happen to a pool. Owners and addresses are named by number.
#[derive(Clone, Debug)]
enum Step {
    Allocate(usize),
    /// From a sub-pool; one of the names has never any address.
    AllocateFrom(usize, usize),
    Claim(usize, usize),
    Release(usize),
    RestoreHeld(usize, usize),
    RestoreResting(usize, Seconds),
    /// The clock moves, now and then backwards.
    Time(i64),
    /// A new pool is filled from the ledger, in the order of addresses.
    Restart,
    /// The same with other sub-pools.
    Divide(Vec<(usize, usize)>),
}

const OWNERS: usize = 10;
/// Names of sub-pools. Ranges go to the first two, in turn.
const SUB_POOLS: [&str; 3] = ["blue", "red", "none"];
/// Addresses that are named by number: all of the small networks, the lowest of
/// the large ones.
const NAMED: usize = 16;

fn step() -> impl Strategy<Value = Step> {
    let (owner, addr) = (0..OWNERS, 0..NAMED);
    prop_oneof![
        6 => owner.clone().prop_map(Step::Allocate),
        4 => (0..SUB_POOLS.len(), owner.clone())
            .prop_map(|(name, owner)| Step::AllocateFrom(name, owner)),
        3 => (owner.clone(), addr.clone()).prop_map(|(owner, addr)| Step::Claim(owner, addr)),
        6 => owner.clone().prop_map(Step::Release),
        1 => (owner, addr.clone()).prop_map(|(owner, addr)| Step::RestoreHeld(owner, addr)),
        1 => (addr, 0..200_u64).prop_map(|(addr, at)| Step::RestoreResting(addr, at)),
        4 => (-3..9_i64).prop_map(Step::Time),
        1 => Just(Step::Restart),
        1 => ranges(4).prop_map(Step::Divide),
    ]
}

fn network() -> impl Strategy<Value = IpNetwork> {
    let texts =
        ["10.0.0.0/28", "10.9.0.0/29", "10.0.0.0/8", "fd00::/124", "fd00::/64", "fd00::/48"];
    prop::sample::select(texts.map(|text| text.parse().unwrap()).to_vec())
}

/// Ranges among the named addresses.
fn ranges(upto: usize) -> impl Strategy<Value = Vec<(usize, usize)>> {
    prop::collection::vec((0..NAMED, 0..3_usize), 0..=upto)
}

fn named(network: IpNetwork) -> Vec<IpAddr> {
    network.iter().take(NAMED).collect()
}

fn addr_ranges(all: &[IpAddr], ranges: &[(usize, usize)]) -> Vec<AddrRange> {
    let clamp = |number: usize| all[number.min(all.len() - 1)];
    let range = |(from, more): &(usize, usize)| {
        format!("{}..{}", clamp(*from), clamp(from + more)).parse().unwrap()
    };
    ranges.iter().map(range).collect()
}

fn sub_pools(all: &[IpAddr], ranges: &[(usize, usize)]) -> Vec<SubPool> {
    let ranges = addr_ranges(all, ranges);
    let every_other = |from: usize| ranges.iter().skip(from).step_by(2).copied().collect();
    let named = |(from, name): (usize, &&str)| SubPool {
        name: (*name).to_owned(),
        ranges: every_other(from),
    };
    SUB_POOLS.iter().take(2).enumerate().map(named).collect()
}

struct Pair {
    network: IpNetwork,
    forbidden: Vec<AddrRange>,
    excluded: Vec<AddrRange>,
    sub_pools: Vec<SubPool>,
    remembered: usize,
    all: Vec<IpAddr>,
    owners: Vec<Owner>,
    now: Seconds,
    /// How many addresses `allocate` could give when nothing was held.
    capacity: u128,
    pool: Pool,
    naive: Naive,
}

impl Pair {
    fn new(
        network: IpNetwork,
        forbidden: &[(usize, usize)],
        excluded: &[(usize, usize)],
        divided: &[(usize, usize)],
        remembered: usize,
    ) -> Self {
        let all = named(network);
        let forbidden = addr_ranges(&all, forbidden);
        let excluded = addr_ranges(&all, excluded);
        let sub_pools = sub_pools(&all, divided);
        let owners = (0..OWNERS).map(|number| format!("vm{number}.default").as_str().into());
        let pool = Pool::remembering(remembered, network, &forbidden, &excluded, &sub_pools, REST);
        let pool = pool.unwrap();
        Self {
            capacity: pool.available(),
            pool,
            naive: Naive::new(remembered, network, &forbidden, &excluded, &sub_pools),
            owners: owners.collect(),
            now: 100,
            network,
            forbidden,
            excluded,
            sub_pools,
            remembered,
            all,
        }
    }

    fn take(&mut self, step: &Step) {
        let Self { pool, naive, owners, now, all, .. } = self;
        let addr = |number: usize| all[number % all.len()];
        match *step {
            Step::Allocate(owner) => {
                let owner = &owners[owner];
                assert_eq!(pool.allocate(*owner, *now), naive.allocate(None, owner, *now));
            }
            Step::AllocateFrom(name, owner) => {
                let (name, owner) = (SUB_POOLS[name], &owners[owner]);
                let given = pool.allocate_from(name, *owner, *now);
                assert_eq!(given, naive.allocate(Some(name), owner, *now));
            }
            Step::Claim(owner, number) => {
                let (owner, addr) = (&owners[owner], addr(number));
                assert_eq!(pool.claim(*owner, addr, *now), naive.claim(owner, addr, *now));
            }
            Step::Release(owner) => {
                let owner = &owners[owner];
                assert_eq!(pool.release(*owner, *now), naive.release(owner, *now));
            }
            Step::RestoreHeld(owner, number) => {
                let (owner, addr) = (&owners[owner], addr(number));
                assert_eq!(pool.restore_held(*owner, addr), naive.restore_held(owner, addr));
            }
            Step::RestoreResting(number, at) => {
                pool.restore_resting(addr(number), at);
                naive.restore_resting(addr(number), at);
            }
            Step::Time(seconds) => *now = now.saturating_add_signed(seconds),
            Step::Restart => self.restart(),
            Step::Divide(ref ranges) => {
                self.sub_pools = sub_pools(all, ranges);
                self.restart();
            }
        }
    }

    /// The ledger knows who holds what and when the rest was released, no more.
    fn restart(&mut self) {
        let Self { network, forbidden, excluded, sub_pools, remembered, .. } = self;
        let mut ledger: Vec<(IpAddr, Result<Owner, Seconds>)> =
            self.pool.iter().map(|(addr, owner)| (addr, Ok(owner))).collect();
        ledger.extend(self.naive.released.iter().map(|it| (it.addr, Err(it.at))));
        ledger.sort_unstable_by_key(|(addr, _)| *addr);
        self.pool =
            Pool::remembering(*remembered, *network, forbidden, excluded, sub_pools, REST).unwrap();
        self.naive = Naive::new(*remembered, *network, forbidden, excluded, sub_pools);
        self.capacity = self.pool.available();
        for (addr, entry) in ledger {
            match entry {
                Ok(owner) => {
                    self.pool.restore_held(owner, addr).unwrap();
                    self.naive.restore_held(&owner, addr).unwrap();
                }
                Err(at) => {
                    self.pool.restore_resting(addr, at);
                    self.naive.restore_resting(addr, at);
                }
            }
        }
    }

    fn compare(&self) {
        let Self { pool, naive, .. } = self;
        pool.book.assert_consistent();
        for addr in &self.all {
            assert_eq!(pool.holder(*addr), naive.held.get(addr).copied());
        }
        for owner in &self.owners {
            assert_eq!(pool.address_of(*owner), naive.address_of(owner));
        }
        let held: BTreeMap<IpAddr, Owner> = pool.iter().collect();
        assert_eq!(held, naive.held);
        assert_eq!(pool.held(), naive.held.len() as u64);
        let held = naive.held.keys().filter(|addr| naive.is_given_by(None, **addr)).count();
        assert_eq!(pool.available(), self.capacity - held as u128);
        if self.network.iter().nth(NAMED).is_none() {
            assert_eq!(pool.available(), naive.available(None, &self.all) as u128);
        }
        for name in SUB_POOLS {
            assert_eq!(pool.available_in(name), naive.available(Some(name), &self.all) as u128);
            assert_eq!(pool.has(name), naive.all_named().any(|(one, _)| one == name));
            for addr in &self.all {
                assert_eq!(
                    pool.is_member(name, *addr),
                    naive.sub_pool_of(*addr).as_deref() == Some(name)
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_pool_answers_as_the_naive_one_does_also_after_restarts(
        network in network(),
        forbidden in ranges(1),
        excluded in ranges(2),
        divided in prop_oneof![Just(Vec::new()), ranges(4)],
        remembered in prop_oneof![Just(usize::MAX), 0..6_usize],
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut pair = Pair::new(network, &forbidden, &excluded, &divided, remembered);
        for step in &steps {
            pair.take(step);
            pair.compare();
        }
    }
}
