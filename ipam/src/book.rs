//! Who holds what, in terms of offsets: the whole logic of a pool.

use crate::offset::Offset;
use crate::records::{Asking, Record, Records};
use crate::releases::Releases;
use crate::slab::Slot;
use crate::spans::{Fresh, Spans};
use crate::{AllocateError, Owner, Seconds};

/// How many released addresses of a pool are remembered as used once they have
/// rested. See [`Pool`](crate::Pool).
pub(crate) const REMEMBERED: usize = 65_536;

/// How many rested addresses one release may forget: more than the one that it
/// adds, so that the number comes down again after a burst.
const FORGOTTEN_PER_RELEASE: usize = 2;

/// Why a claim was refused; [`ClaimError`](crate::ClaimError) without network.
#[derive(Debug)]
pub(crate) enum Refusal<A> {
    Forbidden,
    HeldBy(Owner),
    OwnerHolds(A),
    Resting { until: Seconds },
}

/// Every address of a network is in exactly one of these places:
///
/// - `supply.fresh`: may be allocated, never used;
/// - a record that is held;
/// - a record in `supply.released`: may be allocated again;
/// - a record in `set_aside`: released, but only to be had by claim;
/// - nowhere: only to be had by claim, or forbidden, and not in use.
#[derive(Clone, Debug)]
pub(crate) struct Book<A> {
    rest: Seconds,
    remembered: usize,
    forbidden: Spans<A>,
    /// Never chosen by `allocate`; includes the forbidden ones.
    static_only: Spans<A>,
    supply: Supply<A>,
    set_aside: Releases,
    records: Records<A>,
    held: u64,
}

/// What `allocate` chooses from. A named sub-pool will be another one of these.
#[derive(Clone, Debug)]
struct Supply<A> {
    fresh: Fresh<A>,
    released: Releases,
}

impl<A: Offset> Book<A> {
    /// Addresses from zero to `last`, all free.
    pub(crate) fn new(
        last: A,
        forbidden: Vec<(A, A)>,
        excluded: Vec<(A, A)>,
        rest: Seconds,
        remembered: usize,
    ) -> Self {
        let static_only = Spans::new([forbidden.as_slice(), excluded.as_slice()].concat());
        let fresh = Fresh::up_to(last, &static_only);
        Self {
            rest,
            remembered,
            forbidden: Spans::new(forbidden),
            static_only,
            supply: Supply { fresh, released: Releases::new() },
            set_aside: Releases::new(),
            records: Records::new(),
            held: 0,
        }
    }

    pub(crate) fn allocate(&mut self, owner: &Owner, now: Seconds) -> Result<A, AllocateError> {
        let owner = self.records.look_up(owner);
        if let Some(slot) = owner.known {
            let addr = self.records[slot].addr;
            match self.released_at(slot) {
                None => return Ok(addr),
                Some(at) if self.is_dynamic(addr) && self.rests(at, now) => {
                    return Ok(self.give_again(slot, owner));
                }
                Some(_) => {}
            }
        }
        if let Some(addr) = self.supply.fresh.pop_lowest() {
            self.give_first(addr, owner);
            return Ok(addr);
        }
        let (at, slot) = self.supply.released.oldest().ok_or(AllocateError::Exhausted)?;
        if self.rests(at, now) {
            return Err(AllocateError::Resting { until: self.until(at) });
        }
        Ok(self.give_again(slot, owner))
    }

    pub(crate) fn claim(&mut self, owner: &Owner, addr: A, now: Seconds) -> Result<(), Refusal<A>> {
        let known = self.records.at(addr);
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

    pub(crate) fn release(&mut self, owner: &Owner, now: Seconds) -> Option<A> {
        let slot = self.records.look_up(owner).known?;
        let Record { addr, released: None, .. } = self.records[slot] else { return None };
        self.held -= 1;
        self.enqueue(slot, now);
        self.forget_rested(now);
        Some(addr)
    }

    pub(crate) fn restore_held(&mut self, owner: &Owner, addr: A) -> Result<(), Refusal<A>> {
        let known = self.records.at(addr);
        if !self.is_held_by(known, owner)? {
            let owner = self.with_empty_hands(owner)?;
            self.give(known, addr, owner);
        }
        Ok(())
    }

    pub(crate) fn restore_resting(&mut self, addr: A, released_at: Seconds) {
        if let Some(slot) = self.records.at(addr) {
            if self.released_at(slot).is_none_or(|at| at == released_at) {
                return;
            }
            self.forget(slot);
        } else {
            self.supply.fresh.remove(addr);
        }
        let slot = self.records.add(addr);
        self.enqueue(slot, released_at);
    }

    pub(crate) fn holder(&self, addr: A) -> Option<&Owner> {
        self.records[self.records.at(addr)?].holder()
    }

    pub(crate) fn remembers(&self, addr: A) -> bool {
        self.records.at(addr).is_some()
    }

    pub(crate) fn address_of(&self, owner: &Owner) -> Option<A> {
        self.held_address(self.records.look_up(owner))
    }

    pub(crate) const fn held(&self) -> u64 {
        self.held
    }

    pub(crate) fn available(&self) -> u128 {
        self.supply.fresh.len() + self.supply.released.len() as u128
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (A, &Owner)> {
        self.records.held()
    }

    /// Whether the address with this record is held by `owner`; an error if by others.
    fn is_held_by(&self, record: Option<Slot>, owner: &Owner) -> Result<bool, Refusal<A>> {
        match record.and_then(|slot| self.records[slot].holder()) {
            Some(holder) if holder != owner => Err(Refusal::HeldBy(holder.clone())),
            holder => Ok(holder.is_some()),
        }
    }

    /// `owner`, who holds nothing; an error if it does.
    fn with_empty_hands<'a>(&self, owner: &'a Owner) -> Result<Asking<'a>, Refusal<A>> {
        let owner = self.records.look_up(owner);
        self.held_address(owner).map_or(Ok(owner), |addr| Err(Refusal::OwnerHolds(addr)))
    }

    fn held_address(&self, owner: Asking<'_>) -> Option<A> {
        let record = &self.records[owner.known?];
        record.released.is_none().then_some(record.addr)
    }

    /// Gives an address that nobody holds, whatever is known of it.
    fn give(&mut self, known: Option<Slot>, addr: A, owner: Asking<'_>) {
        if let Some(slot) = known {
            self.give_again(slot, owner);
        } else {
            self.supply.fresh.remove(addr);
            self.give_first(addr, owner);
        }
    }

    /// Gives an address without a record.
    fn give_first(&mut self, addr: A, owner: Asking<'_>) {
        let slot = self.records.add(addr);
        self.records.assign(slot, owner);
        self.held += 1;
    }

    /// Gives a released address.
    fn give_again(&mut self, slot: Slot, owner: Asking<'_>) -> A {
        self.dequeue(slot);
        self.records.assign(slot, owner);
        self.held += 1;
        self.records[slot].addr
    }

    /// Forgets rested addresses beyond those that are worth their memory.
    fn forget_rested(&mut self, now: Seconds) {
        for _ in 0..FORGOTTEN_PER_RELEASE {
            if let Some((at, slot)) = self.set_aside.oldest()
                && !self.rests(at, now)
            {
                self.forget(slot);
            }
            if self.supply.released.len() > self.remembered
                && let Some((at, slot)) = self.supply.released.oldest()
                && !self.rests(at, now)
            {
                let addr = self.records[slot].addr;
                self.forget(slot);
                self.supply.fresh.insert(addr);
            }
        }
    }

    /// Removes every trace of a released address.
    fn forget(&mut self, slot: Slot) {
        self.dequeue(slot);
        self.records.remove(slot);
    }

    fn released_at(&self, slot: Slot) -> Option<Seconds> {
        let Record { addr, released, .. } = self.records[slot];
        let node = released?;
        let queue = if self.is_dynamic(addr) { &self.supply.released } else { &self.set_aside };
        Some(queue.time(node))
    }

    fn enqueue(&mut self, slot: Slot, at: Seconds) {
        let node = self.queue_of(slot).push(slot, at);
        self.records[slot].released = Some(node);
    }

    fn dequeue(&mut self, slot: Slot) {
        if let Some(node) = self.records[slot].released.take() {
            self.queue_of(slot).remove(node);
        }
    }

    /// Where the address goes when it is released.
    fn queue_of(&mut self, slot: Slot) -> &mut Releases {
        if self.is_dynamic(self.records[slot].addr) {
            &mut self.supply.released
        } else {
            &mut self.set_aside
        }
    }

    fn is_dynamic(&self, addr: A) -> bool {
        !self.static_only.contains(addr)
    }

    const fn until(&self, released_at: Seconds) -> Seconds {
        released_at.saturating_add(self.rest)
    }

    const fn rests(&self, released_at: Seconds, now: Seconds) -> bool {
        now < self.until(released_at)
    }
}

#[cfg(test)]
impl<A: Offset> Book<A> {
    /// What must be true between any two calls.
    pub(crate) fn assert_consistent(&self) {
        assert_eq!(self.records.assert_consistent(), self.held);
        let queued = self.supply.released.len() + self.set_aside.len();
        assert_eq!(self.records.len() as u64, self.held + queued as u64, "held or queued");
    }
}
