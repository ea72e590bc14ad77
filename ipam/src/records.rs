//! The records of a pool, found by address and by owner.

use std::hash::BuildHasher;
use std::ops::{Index as At, IndexMut as AtMut};

use foldhash::fast::RandomState;

use crate::Owner;
use crate::index::Index;
use crate::owner::Bits;
use crate::releases::Node;
use crate::slab::{Slab, Slot};

/// An address that was given at least once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    /// Its holder, or after the release its last one, unknown when the release
    /// was learnt from the ledger.
    owner: Option<Owner>,
    /// The offset of the address, in two parts: a `u128` would make the record
    /// half as large again, and no network has more than 80 bits.
    low: u64,
    high: u32,
    /// Its place among the released ones; none while it is held.
    pub(crate) released: Option<Node>,
}

impl Record {
    #[expect(clippy::cast_possible_truncation, reason = "this is how the parts are made")]
    const fn new(addr: u128) -> Self {
        Self { owner: None, low: addr as u64, high: (addr >> u64::BITS) as u32, released: None }
    }

    /// The offset of the address.
    pub(crate) const fn addr(&self) -> u128 {
        (self.high as u128) << u64::BITS | self.low as u128
    }

    pub(crate) const fn owner(&self) -> Option<Owner> {
        self.owner
    }

    /// Those of the owner, whatever they are without one.
    pub(crate) fn bits(&self) -> Bits {
        self.owner.map(Owner::bits).unwrap_or_default()
    }

    /// Who holds the address.
    pub(crate) fn holder(&self) -> Option<Owner> {
        self.owner.filter(|_| self.released.is_none())
    }
}

/// An owner, looked up once per call.
#[derive(Clone, Copy)]
pub(crate) struct Asking {
    pub(crate) owner: Owner,
    /// The record that is found by this owner.
    pub(crate) known: Option<Slot>,
}

/// By an owner is found the record that it holds, or else the one that it held last,
/// until that one changes hands. By its address is found here a far record, that is, one
/// which is kept in no [`Fresh`](crate::fresh::Fresh).
#[derive(Clone, Debug)]
pub(crate) struct Records {
    slab: Slab<Record>,
    far: Index,
    by_owner: Index,
    /// Of addresses, which users may choose: seeded, so that nobody knows which ones
    /// collide.
    hasher: RandomState,
}

impl Records {
    pub(crate) fn new() -> Self {
        Self {
            slab: Slab::new(),
            far: Index::new(),
            by_owner: Index::new(),
            hasher: RandomState::default(),
        }
    }

    /// `owner`, and what is found by it.
    pub(crate) fn look_up(&self, owner: Owner) -> Asking {
        let is_it = |slot| self.slab[slot].owner == Some(owner);
        Asking { owner, known: self.by_owner.find(owner.bits().hash(), is_it) }
    }

    /// The far record of `addr`.
    #[inline]
    pub(crate) fn far(&self, addr: u128) -> Option<Slot> {
        if self.far.is_empty() {
            return None;
        }
        self.far.find(self.hasher.hash_one(addr), |slot| self.slab[slot].addr() == addr)
    }

    /// The far record of `addr`, which is none any more.
    #[inline]
    pub(crate) fn take_far(&mut self, addr: u128) -> Option<Slot> {
        let slot = self.far(addr)?;
        self.far.remove(self.hasher.hash_one(addr), slot);
        Some(slot)
    }

    /// Makes the record at `slot` a far one.
    pub(crate) fn put_far(&mut self, slot: Slot) {
        let Self { slab, far, hasher, .. } = self;
        let hash = |slot| hasher.hash_one(slab[slot].addr());
        far.add(hash(slot), slot, hash);
    }

    /// Every record of an address that is held.
    pub(crate) fn held(&self) -> impl Iterator<Item = (u128, Owner)> {
        self.slab.iter().filter_map(|record| record.holder().map(|owner| (record.addr(), owner)))
    }

    /// Makes a record for `addr`, which has none, that belongs to nobody yet.
    pub(crate) fn add(&mut self, addr: u128) -> Slot {
        self.slab.insert_with(|_| Record::new(addr))
    }

    /// Makes the record at `slot` the one of `to`.
    pub(crate) fn assign(&mut self, slot: Slot, to: Asking) {
        #[cfg(test)]
        crate::midst::here();
        if to.known == Some(slot) {
            return;
        }
        let owner = to.owner;
        if self.slab[slot].owner != Some(owner) {
            self.disown(slot);
            self.slab[slot].owner = Some(owner);
        }
        self.lead_to(slot, to);
    }

    /// Makes the record at `slot`, whose last owner has these bits, the one of `to`.
    /// Knowing them, the table and the record are read at once and not one after
    /// the other.
    pub(crate) fn pass_on(&mut self, slot: Slot, bits: Bits, to: Asking) {
        if to.known != Some(slot) {
            self.by_owner.remove(bits.hash(), slot);
            self.slab[slot].owner = Some(to.owner);
            self.lead_to(slot, to);
        }
    }

    /// Has the record at `slot` be found by `to`.
    #[inline]
    fn lead_to(&mut self, slot: Slot, Asking { owner, known }: Asking) {
        let Self { slab, by_owner, .. } = self;
        let hash = owner.bits().hash();
        match known {
            Some(other) => by_owner.replace(hash, other, slot),
            None => by_owner.add(hash, slot, |other| slab[other].bits().hash()),
        }
    }

    /// Removes the record at `slot`. What it said can be read until the next `add`.
    pub(crate) fn remove(&mut self, slot: Slot) {
        self.disown(slot);
        self.slab.vacate(slot);
    }

    /// Makes the record at `slot` nobody's.
    pub(crate) fn disown(&mut self, slot: Slot) {
        if let Some(owner) = self.slab[slot].owner.take() {
            self.by_owner.remove(owner.bits().hash(), slot);
        }
    }
}

impl At<Slot> for Records {
    type Output = Record;

    fn index(&self, slot: Slot) -> &Record {
        &self.slab[slot]
    }
}

impl AtMut<Slot> for Records {
    fn index_mut(&mut self, slot: Slot) -> &mut Record {
        &mut self.slab[slot]
    }
}

#[cfg(test)]
impl Records {
    /// What must be true between any two calls.
    pub(crate) fn assert_consistent(&self) {
        for slot in self.far.slots() {
            assert_eq!(self.far(self.slab[slot].addr()), Some(slot), "found by its address");
        }
        for slot in self.by_owner.slots() {
            let owner = self.slab[slot].owner.expect("found by its owner");
            assert_eq!(self.look_up(owner).known, Some(slot), "one entry per owner");
        }
    }

    /// The far records.
    pub(crate) fn all_far(&self) -> impl Iterator<Item = Slot> {
        self.far.slots()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_takes_thirty_two_bytes_and_has_room_for_every_address_of_a_48() {
        assert_eq!(size_of::<Record>(), 32);
        let last = (1 << 80) - 1;
        assert_eq!(Record::new(last).addr(), last);
    }
}
