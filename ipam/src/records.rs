//! The records of a pool, found by address and by owner.

use std::hash::BuildHasher;
use std::ops::{Index as At, IndexMut as AtMut};

use foldhash::fast::RandomState;

use crate::Owner;
use crate::index::Index;
use crate::offset::Offset;
use crate::releases::Node;
use crate::slab::{Slab, Slot};

/// An address that was given at least once.
#[derive(Clone, Debug)]
pub(crate) struct Record<A> {
    pub(crate) addr: A,
    /// Its holder, or after the release its last one, unknown when the release
    /// was learnt from the ledger.
    owner: Option<Owner>,
    /// Of the owner. Growing a table and changing hands need not read a name that
    /// lies elsewhere in memory.
    hash: Hash,
    /// Its place among the released ones; none while it is held.
    pub(crate) released: Option<Node>,
}

/// Half of a hash: enough to tell a few million owners apart in nearly every case, and a
/// record has room for no more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Hash(u32);

impl Hash {
    /// A table takes the place from the lowest bits and the tag from the highest.
    fn spread(self) -> u64 {
        u64::from(self.0) << 32 | u64::from(self.0)
    }
}

impl<A: Offset> Record<A> {
    pub(crate) const fn owner(&self) -> Option<&Owner> {
        self.owner.as_ref()
    }

    /// Who holds the address.
    pub(crate) fn holder(&self) -> Option<&Owner> {
        self.owner.as_ref().filter(|_| self.released.is_none())
    }
}

/// An owner, looked up once per call.
#[derive(Clone, Copy)]
pub(crate) struct Asking<'a> {
    pub(crate) owner: &'a Owner,
    hash: Hash,
    /// The record that is found by this owner.
    pub(crate) known: Option<Slot>,
}

/// Every record is found by its address. By an owner is found the record that it
/// holds, or else the one that it held last, until that one changes hands.
#[derive(Clone, Debug)]
pub(crate) struct Records<A> {
    slab: Slab<Record<A>>,
    by_addr: Index,
    by_owner: Index,
    /// Seeded, so that nobody can choose names that collide.
    hasher: RandomState,
}

impl<A: Offset> Records<A> {
    pub(crate) fn new() -> Self {
        Self {
            slab: Slab::new(),
            by_addr: Index::new(),
            by_owner: Index::new(),
            hasher: RandomState::default(),
        }
    }

    /// `owner`, and what is found by it.
    pub(crate) fn look_up<'a>(&self, owner: &'a Owner) -> Asking<'a> {
        let [_, _, _, _, a, b, c, d] = self.hasher.hash_one(owner).to_be_bytes();
        let hash = Hash(u32::from_be_bytes([a, b, c, d]));
        let known = self.by_owner.find(hash.spread(), |slot| {
            let record = &self.slab[slot];
            record.hash == hash && record.owner.as_ref() == Some(owner)
        });
        Asking { owner, hash, known }
    }

    /// The record of `addr`.
    pub(crate) fn at(&self, addr: A) -> Option<Slot> {
        self.by_addr.find(self.hasher.hash_one(addr), |slot| self.slab[slot].addr == addr)
    }

    /// Every record of an address that is held.
    pub(crate) fn held(&self) -> impl Iterator<Item = (A, &Owner)> {
        self.slab.iter().filter_map(|record| record.holder().map(|owner| (record.addr, owner)))
    }

    /// Makes a record for `addr`, which has none, that belongs to nobody yet.
    pub(crate) fn add(&mut self, addr: A) -> Slot {
        let Self { slab, by_addr, hasher, .. } = self;
        let record = Record { addr, owner: None, hash: Hash(0), released: None };
        let slot = slab.insert_with(|_| record);
        by_addr.add(hasher.hash_one(addr), slot, |other| hasher.hash_one(slab[other].addr));
        slot
    }

    /// Makes the record at `slot` the one of `to`.
    pub(crate) fn assign(&mut self, slot: Slot, to: Asking<'_>) {
        if to.known == Some(slot) {
            return;
        }
        let Asking { owner, hash, known } = to;
        if self.slab[slot].owner.as_ref() != Some(owner) {
            self.disown(slot);
            let record = &mut self.slab[slot];
            record.owner = Some(owner.clone());
            record.hash = hash;
        }
        let Self { slab, by_owner, .. } = self;
        match known {
            Some(other) => by_owner.replace(hash.spread(), other, slot),
            None => by_owner.add(hash.spread(), slot, |other| slab[other].hash.spread()),
        }
    }

    /// Removes the record at `slot`. What it said can be read until the next `add`.
    pub(crate) fn remove(&mut self, slot: Slot) {
        self.disown(slot);
        self.by_addr.remove(self.hasher.hash_one(self.slab[slot].addr), slot);
        self.slab.vacate(slot);
    }

    fn disown(&mut self, slot: Slot) {
        if self.slab[slot].owner.take().is_some() {
            self.by_owner.remove(self.slab[slot].hash.spread(), slot);
        }
    }
}

impl<A> At<Slot> for Records<A> {
    type Output = Record<A>;

    fn index(&self, slot: Slot) -> &Record<A> {
        &self.slab[slot]
    }
}

impl<A> AtMut<Slot> for Records<A> {
    fn index_mut(&mut self, slot: Slot) -> &mut Record<A> {
        &mut self.slab[slot]
    }
}

#[cfg(test)]
impl<A: Offset> Records<A> {
    /// What must be true between any two calls; says how many are held.
    pub(crate) fn assert_consistent(&self) -> u64 {
        for slot in self.by_addr.slots() {
            let record = &self.slab[slot];
            assert_eq!(self.at(record.addr), Some(slot), "found by its address");
            if let Some(holder) = record.holder() {
                assert_eq!(self.look_up(holder).known, Some(slot), "found by its holder");
            }
        }
        for slot in self.by_owner.slots() {
            let owner = self.slab[slot].owner.as_ref().expect("found by its owner");
            assert_eq!(self.look_up(owner).known, Some(slot), "one entry per owner");
        }
        let released = |slot: &Slot| self.slab[*slot].released.is_some();
        let held = self.by_addr.slots().filter(|slot| !released(slot)).count();
        assert_eq!(held, self.held().count(), "an address that is not released has a holder");
        held as u64
    }

    /// How many addresses have a record.
    pub(crate) fn len(&self) -> usize {
        self.by_addr.slots().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_takes_forty_bytes_unless_its_network_is_larger_than_a_64() {
        assert_eq!(size_of::<Record<u64>>(), 40);
        assert_eq!(size_of::<Record<u128>>(), 48);
    }
}
