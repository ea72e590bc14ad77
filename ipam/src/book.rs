//! Who holds what, in terms of offsets: the whole logic of a pool.

use crate::fresh::Fresh;
use crate::records::{Asking, Records};
use crate::releases::Releases;
use crate::slab::Slot;
use crate::spans::{Members, Span, Spans};
use crate::{AllocateError, Owner, Seconds};

/// How many released addresses of a pool are remembered as used once they have
/// rested. See [`Pool`](crate::Pool).
pub(crate) const REMEMBERED: usize = 65_536;

/// How many rested addresses one release may forget: more than the one that it
/// adds, so that the number comes down again after a burst.
const FORGOTTEN_PER_RELEASE: usize = 2;

/// Why a claim was refused; [`ClaimError`](crate::ClaimError) without network.
#[derive(Debug)]
pub(crate) enum Refusal {
    Forbidden,
    HeldBy(Owner),
    OwnerHolds(u128),
    Resting { until: Seconds },
}

/// Every address of a network is in exactly one of these places:
///
/// - the `fresh` of its supply: may be allocated, never used;
/// - a record that is held;
/// - a record in the `released` of its supply: may be allocated again;
/// - a record in `set_aside`: released, but only to be had by claim;
/// - nowhere: only to be had by claim, or forbidden, and not in use.
///
/// Which supply is its own follows from the address alone, never from what
/// happened to it.
#[derive(Clone, Debug)]
pub(crate) struct Book {
    rest: Seconds,
    remembered: usize,
    forbidden: Spans,
    /// Never chosen by `allocate`; includes the forbidden ones.
    static_only: Spans,
    /// For those who name no sub-pool.
    supply: Supply,
    /// Of the sub-pools, in the order of their numbers.
    named: Vec<Supply>,
    members: Members,
    set_aside: Releases,
    records: Records,
    held: u64,
}

/// What `allocate` chooses from: the default one, or that of a sub-pool.
#[derive(Clone, Debug)]
struct Supply {
    fresh: Fresh,
    released: Releases,
}

/// Where an address goes when nobody holds it.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Place {
    /// Never chosen by `allocate`.
    Aside,
    /// The default supply.
    Default,
    /// The supply of the sub-pool with this number.
    Named(usize),
}

impl Book {
    /// Addresses from zero to `last`, all free; `named` are the spans of each
    /// sub-pool.
    pub(crate) fn new(
        last: u128,
        forbidden: Vec<Span>,
        excluded: Vec<Span>,
        named: &[Vec<Span>],
        rest: Seconds,
        remembered: usize,
    ) -> Self {
        let static_only = Spans::new([forbidden.as_slice(), excluded.as_slice()].concat());
        let members = Members::new(named);
        let supply_of = |all| Supply { fresh: Fresh::new(all), released: Releases::new() };
        let named = (0..named.len())
            .map(|number| supply_of(static_only.outside(members.spans_of(number))))
            .collect();
        let taken = static_only.and(members.spans());
        let supply = supply_of(taken.outside(std::iter::once((0, last))));
        Self {
            rest,
            remembered,
            forbidden: Spans::new(forbidden),
            static_only,
            supply,
            named,
            members,
            set_aside: Releases::new(),
            records: Records::new(),
            held: 0,
        }
    }

    pub(crate) fn allocate(&mut self, owner: Owner, now: Seconds) -> Result<u128, AllocateError> {
        self.allocate_at(Place::Default, owner, now)
    }

    pub(crate) fn allocate_from(
        &mut self,
        number: usize,
        owner: Owner,
        now: Seconds,
    ) -> Result<u128, AllocateError> {
        self.allocate_at(Place::Named(number), owner, now)
    }

    #[inline]
    fn allocate_at(
        &mut self,
        place: Place,
        owner: Owner,
        now: Seconds,
    ) -> Result<u128, AllocateError> {
        let owner = self.records.look_up(owner);
        if let Some(slot) = owner.known {
            let addr = self.records[slot].addr();
            match self.released_at(slot) {
                None => return Ok(addr),
                Some(at) if self.place_of(addr) == place && self.rests(at, now) => {
                    return Ok(self.give_again(slot, owner));
                }
                Some(_) => {}
            }
        }
        let supply = match place {
            Place::Named(number) => &mut self.named[number],
            Place::Default | Place::Aside => &mut self.supply,
        };
        let records = &mut self.records;
        if let Some(addr) = supply.fresh.pop_lowest(|addr| records.take_far(addr)) {
            let slot = records.add(addr);
            supply.fresh.keep_record(addr, Some(slot));
            records.assign(slot, owner);
            self.held += 1;
            return Ok(addr);
        }
        let until = |at: Seconds| at.saturating_add(self.rest);
        let oldest = supply.released.pop_if(|at| until(at) <= now);
        let (slot, bits) = match oldest.ok_or(AllocateError::Exhausted)? {
            Ok(first) => first,
            Err(at) => return Err(AllocateError::Resting { until: until(at) }),
        };
        records.pass_on(slot, bits, owner);
        records[slot].released = None;
        self.held += 1;
        Ok(records[slot].addr())
    }

    pub(crate) fn claim(&mut self, owner: Owner, addr: u128, now: Seconds) -> Result<(), Refusal> {
        let known = self.at(addr);
        if self.is_held_by(known, owner)? {
            return Ok(());
        }
        if self.forbidden.contains(addr) {
            return Err(Refusal::Forbidden);
        }
        let owner = self.with_empty_hands(owner)?;
        if let Some(slot) = known
            && let Some(at) = self.released_at(slot)
            && self.rests(at, now)
            && self.records[slot].owner() != Some(owner.owner)
        {
            return Err(Refusal::Resting { until: self.until(at) });
        }
        self.give(known, addr, owner);
        Ok(())
    }

    pub(crate) fn release(&mut self, owner: Owner, now: Seconds) -> Option<u128> {
        let slot = self.records.look_up(owner).known?;
        let record = self.records[slot];
        if record.released.is_some() {
            return None;
        }
        let addr = record.addr();
        self.held -= 1;
        self.enqueue(slot, now);
        self.forget_rested(addr, now);
        Some(addr)
    }

    pub(crate) fn restore_held(&mut self, owner: Owner, addr: u128) -> Result<(), Refusal> {
        let known = self.at(addr);
        if !self.is_held_by(known, owner)? {
            let owner = self.with_empty_hands(owner)?;
            self.give(known, addr, owner);
        }
        Ok(())
    }

    pub(crate) fn restore_resting(&mut self, addr: u128, released_at: Seconds) {
        if let Some(slot) = self.at(addr) {
            if self.released_at(slot).is_none_or(|at| at == released_at) {
                return;
            }
            self.dequeue(slot);
            self.records.disown(slot);
            self.enqueue(slot, released_at);
        } else {
            let slot = self.add(addr);
            self.enqueue(slot, released_at);
        }
    }

    pub(crate) fn holder(&self, addr: u128) -> Option<Owner> {
        self.records[self.at(addr)?].holder()
    }

    pub(crate) fn remembers(&self, addr: u128) -> bool {
        self.at(addr).is_some()
    }

    pub(crate) fn address_of(&self, owner: Owner) -> Option<u128> {
        self.held_address(self.records.look_up(owner))
    }

    pub(crate) const fn held(&self) -> u64 {
        self.held
    }

    pub(crate) fn available(&self) -> u128 {
        self.supply.fresh.len() + self.supply.released.len() as u128
    }

    pub(crate) fn available_in(&self, number: usize) -> u128 {
        let supply = &self.named[number];
        supply.fresh.len() + supply.released.len() as u128
    }

    /// The number of the sub-pool that `addr` belongs to, excluded or not.
    pub(crate) fn sub_pool_of(&self, addr: u128) -> Option<usize> {
        self.members.of(addr)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u128, Owner)> {
        self.records.held()
    }

    /// Whether the address with this record is held by `owner`; an error if by others.
    fn is_held_by(&self, record: Option<Slot>, owner: Owner) -> Result<bool, Refusal> {
        match record.and_then(|slot| self.records[slot].holder()) {
            Some(holder) if holder != owner => Err(Refusal::HeldBy(holder)),
            holder => Ok(holder.is_some()),
        }
    }

    /// `owner`, who holds nothing; an error if it does.
    fn with_empty_hands(&self, owner: Owner) -> Result<Asking, Refusal> {
        let owner = self.records.look_up(owner);
        self.held_address(owner).map_or(Ok(owner), |addr| Err(Refusal::OwnerHolds(addr)))
    }

    fn held_address(&self, owner: Asking) -> Option<u128> {
        let record = &self.records[owner.known?];
        record.released.is_none().then_some(record.addr())
    }

    /// Gives an address that nobody holds, whatever is known of it.
    fn give(&mut self, known: Option<Slot>, addr: u128, owner: Asking) {
        if let Some(slot) = known {
            self.give_again(slot, owner);
        } else {
            let slot = self.add(addr);
            self.records.assign(slot, owner);
            self.held += 1;
        }
    }

    /// Gives a released address.
    fn give_again(&mut self, slot: Slot, owner: Asking) -> u128 {
        self.dequeue(slot);
        self.records.assign(slot, owner);
        self.held += 1;
        self.records[slot].addr()
    }

    /// Forgets rested addresses beyond those that are worth their memory, after
    /// one more was released.
    fn forget_rested(&mut self, released: u128, now: Seconds) {
        for _ in 0..FORGOTTEN_PER_RELEASE {
            if let Some((at, slot)) = self.set_aside.oldest()
                && !self.rests(at, now)
            {
                self.forget(slot);
            }
            self.forget_oldest_of(Place::Default, now);
            if let Some(number) = self.members.of(released) {
                self.forget_oldest_of(Place::Named(number), now);
            }
        }
    }

    #[inline]
    fn forget_oldest_of(&mut self, place: Place, now: Seconds) {
        let supply = match place {
            Place::Named(number) => &self.named[number],
            Place::Default | Place::Aside => &self.supply,
        };
        if supply.released.len() > self.remembered
            && let Some((at, slot)) = supply.released.oldest()
            && !self.rests(at, now)
        {
            let addr = self.records[slot].addr();
            self.forget(slot);
            match place {
                Place::Named(number) => self.named[number].fresh.insert(addr),
                Place::Default | Place::Aside => self.supply.fresh.insert(addr),
            }
        }
    }

    /// Removes every trace of a released address.
    fn forget(&mut self, slot: Slot) {
        self.dequeue(slot);
        let addr = self.records[slot].addr();
        if !self.supply_of(addr).is_some_and(|supply| supply.fresh.keep_record(addr, None)) {
            self.records.take_far(addr);
        }
        self.records.remove(slot);
    }

    /// The record of `addr`.
    #[inline]
    fn at(&self, addr: u128) -> Option<Slot> {
        let supply = match self.place_of(addr) {
            Place::Aside => return self.records.far(addr),
            Place::Default => &self.supply,
            Place::Named(number) => &self.named[number],
        };
        if supply.fresh.is_behind(addr) {
            supply.fresh.record(addr)
        } else {
            self.records.far(addr)
        }
    }

    /// Makes a record for `addr`, which has none, that belongs to nobody yet.
    #[inline]
    fn add(&mut self, addr: u128) -> Slot {
        let slot = self.records.add(addr);
        let is_kept = self.supply_of(addr).is_some_and(|supply| {
            supply.fresh.remove(addr);
            supply.fresh.keep_record(addr, Some(slot))
        });
        if !is_kept {
            self.records.put_far(slot);
        }
        slot
    }

    /// The supply that `addr` belongs to, unless it is only to be had by claim.
    #[inline]
    fn supply_of(&mut self, addr: u128) -> Option<&mut Supply> {
        match self.place_of(addr) {
            Place::Aside => None,
            Place::Default => Some(&mut self.supply),
            Place::Named(number) => Some(&mut self.named[number]),
        }
    }

    fn released_at(&self, slot: Slot) -> Option<Seconds> {
        let record = &self.records[slot];
        let node = record.released?;
        let queue = match self.place_of(record.addr()) {
            Place::Aside => &self.set_aside,
            Place::Default => &self.supply.released,
            Place::Named(number) => &self.named[number].released,
        };
        Some(queue.time(node))
    }

    fn enqueue(&mut self, slot: Slot, at: Seconds) {
        let bits = self.records[slot].bits();
        let node = self.queue_of(slot).push(slot, bits, at);
        self.records[slot].released = Some(node);
    }

    fn dequeue(&mut self, slot: Slot) {
        if let Some(node) = self.records[slot].released.take() {
            self.queue_of(slot).remove(node);
        }
    }

    /// Where the address goes when it is released.
    fn queue_of(&mut self, slot: Slot) -> &mut Releases {
        match self.place_of(self.records[slot].addr()) {
            Place::Aside => &mut self.set_aside,
            Place::Default => &mut self.supply.released,
            Place::Named(number) => &mut self.named[number].released,
        }
    }

    fn place_of(&self, addr: u128) -> Place {
        if self.static_only.contains(addr) {
            return Place::Aside;
        }
        self.members.of(addr).map_or(Place::Default, Place::Named)
    }

    const fn until(&self, released_at: Seconds) -> Seconds {
        released_at.saturating_add(self.rest)
    }

    const fn rests(&self, released_at: Seconds, now: Seconds) -> bool {
        now < self.until(released_at)
    }
}

#[cfg(test)]
impl Book {
    /// What must be true between any two calls.
    pub(crate) fn assert_consistent(&self) {
        self.records.assert_consistent();
        let supplies = || std::iter::once(&self.supply).chain(&self.named);
        supplies().for_each(|supply| supply.fresh.assert_consistent());
        let near = supplies().flat_map(|supply| supply.fresh.records());
        let all: Vec<Slot> = near.chain(self.records.all_far()).collect();
        for slot in &all {
            let record = &self.records[*slot];
            assert_eq!(self.at(record.addr()), Some(*slot), "found by its address");
            if let Some(holder) = record.holder() {
                let known = self.records.look_up(holder).known;
                assert_eq!(known, Some(*slot), "found by its holder");
            }
        }
        let held = all.iter().filter(|slot| self.records[**slot].released.is_none()).count();
        assert_eq!(held, self.iter().count(), "an address that is not released has a holder");
        assert_eq!(held as u64, self.held);
        let queued: usize = supplies().map(|supply| supply.released.len()).sum();
        assert_eq!(all.len(), held + queued + self.set_aside.len(), "held or queued");
    }
}
