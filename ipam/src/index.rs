//! Hash tables of places: four bytes and a tag for each record.

use std::fmt::Debug;

use hashbrown::HashTable;

use crate::slab::Slot;

/// Finds records by one of their properties. What that is, and its hash, are the
/// caller's business; a record must be in the index under the hash it has now.
#[derive(Clone, Debug)]
pub(crate) struct Index(HashTable<Slot>);

impl Index {
    pub(crate) const fn new() -> Self {
        Self(HashTable::new())
    }

    pub(crate) fn find(&self, hash: u64, is_it: impl Fn(Slot) -> bool) -> Option<Slot> {
        self.0.find(hash, |slot| is_it(*slot)).copied()
    }

    /// Adds `slot`, which is not in yet. `hash_of` is asked for the others when the
    /// table must grow.
    pub(crate) fn add(&mut self, hash: u64, slot: Slot, hash_of: impl Fn(Slot) -> u64) {
        self.0.insert_unique(hash, slot, |other| hash_of(*other));
    }

    /// Puts `new` in the place of `old`.
    pub(crate) fn replace(&mut self, hash: u64, old: Slot, new: Slot) {
        if let Some(slot) = self.0.find_mut(hash, |slot| *slot == old) {
            *slot = new;
        }
    }

    /// Takes out `slot`, if it is in.
    pub(crate) fn remove(&mut self, hash: u64, slot: Slot) {
        if let Ok(entry) = self.0.find_entry(hash, |other| *other == slot) {
            entry.remove();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn slots(&self) -> impl ExactSizeIterator<Item = Slot> {
        self.0.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::Slab;

    #[test]
    fn entries_are_found_replaced_and_removed_however_often_the_table_grows() {
        let (mut index, mut records) = (Index::new(), Slab::new());
        // Few hashes, so that entries collide.
        let slots: Vec<Slot> = (0..500).map(|number| records.insert_with(|_| number)).collect();
        let hash = |slot| records[slot] % 7;
        for slot in &slots {
            index.add(hash(*slot), *slot, hash);
        }
        for (number, slot) in (0..).zip(&slots) {
            let found = index.find(number % 7, |other| records[other] == number);
            assert_eq!(found, Some(*slot));
        }
        let (old, new) = (slots[3], records.insert_with(|_| 3));
        index.replace(3, old, new);
        assert_eq!(index.find(3, |other| records[other] == 3), Some(new));
        for slot in &slots {
            index.remove(records[*slot] % 7, *slot);
        }
        assert_eq!(index.slots().collect::<Vec<_>>(), [new]);
    }
}
