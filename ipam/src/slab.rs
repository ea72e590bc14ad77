//! Records that keep their place while everything around them moves.

use std::num::NonZero;
use std::ops::{Index, IndexMut};

/// Records per chunk. The store grows by chunks, so that growing neither copies
/// what is there nor leaves half of the memory unused.
const CHUNK: usize = 512;

/// The place of a record. Never zero, so that an `Option` of it is no larger.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Slot(NonZero<u32>);

/// A growing store of records with stable, reusable places.
#[derive(Clone, Debug)]
pub(crate) struct Slab<T> {
    chunks: Vec<Vec<T>>,
    vacant: Vec<Slot>,
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self { chunks: Vec::new(), vacant: Vec::new() }
    }

    /// Stores a record, which may know its own place, and says where.
    pub(crate) fn insert_with(&mut self, record: impl FnOnce(Slot) -> T) -> Slot {
        if let Some(slot) = self.vacant.pop() {
            self[slot] = record(slot);
            return slot;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            let first = self.chunks.is_empty();
            self.chunks.push(if first { Vec::new() } else { Vec::with_capacity(CHUNK) });
        }
        let before = (self.chunks.len() - 1) * CHUNK;
        let chunk = self.chunks.last_mut().expect("a chunk was just made sure of");
        let number = u32::try_from(before + chunk.len() + 1).expect("fewer than four billion");
        let slot = Slot(NonZero::new(number).expect("counted from one"));
        chunk.push(record(slot));
        slot
    }

    /// Gives up a place. The record stays readable until the place is reused.
    pub(crate) fn vacate(&mut self, slot: Slot) {
        self.vacant.push(slot);
    }

    /// Every record, those in vacated places included.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }
}

impl Slot {
    const fn index(self) -> (usize, usize) {
        let index = self.0.get() as usize - 1;
        (index / CHUNK, index % CHUNK)
    }
}

impl<T> Index<Slot> for Slab<T> {
    type Output = T;

    fn index(&self, slot: Slot) -> &T {
        let (chunk, place) = slot.index();
        &self.chunks[chunk][place]
    }
}

impl<T> IndexMut<Slot> for Slab<T> {
    fn index_mut(&mut self, slot: Slot) -> &mut T {
        let (chunk, place) = slot.index();
        &mut self.chunks[chunk][place]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_stay_valid_across_chunks_and_are_used_again() {
        let mut slab = Slab::new();
        let slots: Vec<Slot> = (0..3 * CHUNK).map(|number| slab.insert_with(|_| number)).collect();
        assert!(slots.iter().enumerate().all(|(number, slot)| slab[*slot] == number));
        slab.vacate(slots[CHUNK]);
        assert_eq!(slab.insert_with(|_| 7), slots[CHUNK]);
        assert_eq!(slab[slots[CHUNK]], 7);
        assert_eq!(slab.iter().count(), 3 * CHUNK);
    }
}
