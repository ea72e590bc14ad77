//! What changed in a set or map, as `update3` tells it: the symmetric difference.

use super::{Atom, Map, Set, Value};

/// Up to this many changes are made in place, one search and one move each;
/// more are merged in one pass over the old contents.
const IN_PLACE: usize = 8;

impl Set {
    /// Adds the atoms of `delta` that are missing and removes those that are there.
    pub(crate) fn toggle(&mut self, delta: Self) {
        if delta.len() <= IN_PLACE {
            for atom in delta.0 {
                match self.0.binary_search(&atom) {
                    Ok(at) => drop(self.0.remove(at)),
                    Err(at) => self.0.insert(at, atom),
                }
            }
            return;
        }
        let mut merged = Vec::with_capacity(self.0.len() + delta.0.len());
        let mut old = std::mem::take(&mut self.0).into_iter().peekable();
        for atom in delta.0 {
            while let Some(before) = old.next_if(|have| *have < atom) {
                merged.push(before);
            }
            if old.next_if_eq(&atom).is_none() {
                merged.push(atom);
            }
        }
        merged.extend(old);
        self.0 = merged;
    }
}

impl Map {
    /// Removes the pairs of `delta` that are there exactly so; every other pair
    /// of it is added or replaces the one with its key.
    pub(crate) fn toggle(&mut self, delta: Self) {
        for (key, value) in delta.0 {
            match self.0.binary_search_by(|(have, _)| have.cmp(&key)) {
                Ok(at) if self.0[at].1 == value => drop(self.0.remove(at)),
                Ok(at) => self.0[at].1 = value,
                Err(at) => self.0.insert(at, (key, value)),
            }
        }
    }
}

impl Value {
    /// Applies a difference to a set or map column.
    ///
    /// The server writes a difference of one atom as that atom, which is what a
    /// set of one is here anyway. A difference of the other shape replaces an
    /// empty value: an empty map and an empty set are the same absence.
    pub(crate) fn toggle(&mut self, delta: Self) {
        match (self, delta) {
            (Self::Set(old), Self::Set(delta)) => old.toggle(delta),
            (Self::Map(old), Self::Map(delta)) => old.toggle(delta),
            (old, delta) => *old = delta,
        }
    }

    /// The uuids within: what the row refers to.
    pub(crate) fn references(&self) -> impl Iterator<Item = uuid::Uuid> {
        let keys = self.atoms().filter_map(Atom::as_uuid);
        keys.chain(self.pairs().filter_map(|(_, value)| value.as_uuid()))
    }
}
