//! The addresses that nobody has used yet, and the records of those behind them.
//!
//! ```text
//!   near: a list, one entry each         next   never listed
//!   record, record, again, record, ... | never used, but for the far records
//! ```
//!
//! Behind `next` nearly every address has a record, so a list is the smallest way to
//! find it and the fastest. Ahead of it has a record what was claimed there, and is found
//! by a hash table; the claim costs nothing here, however scattered the claims are. When
//! `next` comes by, it is passed over and listed, each once.

use std::collections::BTreeMap;

use crate::slab::Slot;
use crate::spans::Spans;

/// The list grows by one part in so many.
const GROWTH: usize = 8;

/// The addresses of one supply that are not in use, were not released, or have been
/// forgotten since.
#[derive(Clone, Debug)]
pub(crate) struct Fresh {
    /// Those of the supply.
    all: Spans,
    /// Every address of the supply below it was given, claimed or passed over.
    next: u128,
    /// The records of those, in order.
    near: Vec<Option<Slot>>,
    /// Where in `near` each span begins, up to the one that `next` lies in.
    starts: Vec<usize>,
    /// Those below `next` that count as never used again.
    again: Again,
    len: u128,
}

impl Fresh {
    /// All of a supply.
    pub(crate) fn new(all: Spans) -> Self {
        let next = all.get(0).map_or(0, |(first, _)| first);
        Self {
            next,
            near: Vec::new(),
            starts: vec![0],
            again: Again::default(),
            len: all.len(),
            all,
        }
    }

    pub(crate) const fn len(&self) -> u128 {
        self.len
    }

    /// Takes out the lowest address. Of one never reached it asks what its record is, and
    /// keeps that from then on.
    #[inline]
    pub(crate) fn pop_lowest(&mut self, take: impl FnMut(u128) -> Option<Slot>) -> Option<u128> {
        let addr = self.again.pop_lowest().or_else(|| self.reach(take))?;
        self.len -= 1;
        Some(addr)
    }

    /// The lowest of those never reached that has no record.
    #[inline]
    fn reach(&mut self, mut take: impl FnMut(u128) -> Option<Slot>) -> Option<u128> {
        loop {
            self.span_of_next()?;
            let addr = self.next;
            let record = take(addr);
            self.pass(record);
            if record.is_none() {
                return Some(addr);
            }
        }
    }

    /// Takes out `addr`, an address of the supply without a record.
    pub(crate) fn remove(&mut self, addr: u128) {
        if self.is_behind(addr) {
            self.len -= u128::from(self.again.remove(addr));
        } else {
            self.len -= 1;
            // A ledger is read in order, and then nothing is left to pass over.
            if addr == self.next {
                self.pass(None);
            }
        }
    }

    /// Puts back `addr`, an address of the supply that has just lost its record.
    pub(crate) fn insert(&mut self, addr: u128) {
        self.len += 1;
        if self.is_behind(addr) {
            self.again.insert(addr);
        }
    }

    /// Whether the record of `addr`, if it has one, is kept here.
    #[inline]
    pub(crate) fn is_behind(&self, addr: u128) -> bool {
        addr < self.next
    }

    /// The record of `addr`, an address of the supply that is behind.
    #[inline]
    pub(crate) fn record(&self, addr: u128) -> Option<Slot> {
        *self.near.get(self.place(addr)?)?
    }

    /// Keeps the record of `addr`, an address of the supply, from now on, or none; does
    /// not if it is not behind. Says whether it did.
    #[inline]
    pub(crate) fn keep_record(&mut self, addr: u128, record: Option<Slot>) -> bool {
        let place = if self.is_behind(addr) { self.place(addr) } else { None };
        let entry = place.and_then(|place| self.near.get_mut(place));
        entry.map(|entry| *entry = record).is_some()
    }

    #[inline]
    fn place(&self, addr: u128) -> Option<usize> {
        let span = self.all.number_of(addr)?;
        let (first, _) = self.all.get(span)?;
        Some(self.starts.get(span)? + usize::try_from(addr - first).ok()?)
    }

    #[inline]
    fn pass(&mut self, record: Option<Slot>) {
        let Some((_, last)) = self.span_of_next() else { return };
        if self.near.len() == self.near.capacity() {
            // Doubling would leave up to half of it unused.
            self.near.reserve_exact((self.near.len() / GROWTH).max(GROWTH));
        }
        self.near.push(record);
        self.next += 1;
        if self.next > last
            && let Some((first, _)) = self.all.get(self.starts.len())
        {
            self.starts.push(self.near.len());
            self.next = first;
        }
    }

    /// None once every address was reached.
    #[inline]
    fn span_of_next(&self) -> Option<(u128, u128)> {
        self.all.get(self.starts.len() - 1).filter(|(_, last)| self.next <= *last)
    }
}

/// Single addresses, as spans: an ordered map from the last address of each to its
/// first. Taking the lowest, by far the most frequent change, then leaves the keys
/// alone.
#[derive(Clone, Debug, Default)]
struct Again(BTreeMap<u128, u128>);

impl Again {
    #[inline]
    fn pop_lowest(&mut self) -> Option<u128> {
        if self.0.is_empty() {
            return None;
        }
        let mut lowest = self.0.first_entry()?;
        let addr = *lowest.get();
        if addr == *lowest.key() {
            lowest.remove();
        } else {
            *lowest.get_mut() = addr + 1;
        }
        Some(addr)
    }

    /// Takes out `addr`; says whether it was in.
    fn remove(&mut self, addr: u128) -> bool {
        let Some((&last, first)) = self.0.range_mut(addr..).next() else { return false };
        let from = *first;
        if addr < from {
            return false;
        }
        if addr == last {
            self.0.remove(&last);
        } else {
            *first = addr + 1;
        }
        if from < addr {
            self.0.insert(addr - 1, from);
        }
        true
    }

    /// Puts in `addr`, which is not in.
    fn insert(&mut self, addr: u128) {
        let below = addr.checked_sub(1).and_then(|below| self.0.remove(&below));
        let first = below.unwrap_or(addr);
        match self.0.range_mut(addr + 1..).next() {
            Some((_, above)) if *above == addr + 1 => *above = first,
            _ => drop(self.0.insert(addr, first)),
        }
    }
}

#[cfg(test)]
impl Fresh {
    /// What must be true between any two calls.
    pub(crate) fn assert_consistent(&self) {
        let again = self.again.0.iter().map(|(last, first)| last - first + 1).sum::<u128>();
        let without = self.near.iter().filter(|record| record.is_none()).count();
        assert_eq!(without as u128, again, "has a record or is put back");
    }

    /// The records that are kept here.
    pub(crate) fn records(&self) -> impl Iterator<Item = Slot> {
        self.near.iter().copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::slab::Slab;

    fn fresh(spans: &[(u128, u128)]) -> Fresh {
        Fresh::new(Spans::new(spans.to_vec()))
    }

    /// A place that is as good as any.
    fn slot() -> Slot {
        Slab::new().insert_with(|_| ())
    }

    fn drain(fresh: &mut Fresh, used: &[u128]) -> Vec<u128> {
        let record = |addr| used.contains(&addr).then(slot);
        std::iter::from_fn(|| fresh.pop_lowest(record)).collect()
    }

    #[test]
    fn come_lowest_first_without_those_that_were_claimed_ahead() {
        let mut fresh = fresh(&[(2, 4), (7, 8), (1 << 79, 1 << 79)]);
        let claimed = [2, 4, 7];
        claimed.iter().for_each(|addr| fresh.remove(*addr));
        assert_eq!(fresh.len(), 3);
        assert_eq!(drain(&mut fresh, &claimed), [3, 8, 1 << 79]);
        assert_eq!(fresh.len(), 0);
        // The first was claimed as the lowest of all; its record came later.
        let known = [3, 4, 7, 8].map(|addr| fresh.record(addr).is_some());
        assert_eq!(known, [false, true, true, false]);
        assert!(fresh.keep_record(1 << 79, Some(slot())));
        assert_eq!(fresh.record(1 << 79), Some(slot()));
    }

    #[test]
    fn what_is_put_back_comes_first_if_it_lies_below_and_in_its_turn_if_not() {
        let mut fresh = fresh(&[(1, 9)]);
        fresh.remove(7);
        assert_eq!(fresh.pop_lowest(|addr| (addr == 7).then(slot)), Some(1));
        assert_eq!(fresh.pop_lowest(|addr| (addr == 7).then(slot)), Some(2));
        for addr in [2, 7, 1] {
            fresh.insert(addr);
        }
        assert_eq!(fresh.len(), 9);
        assert_eq!(drain(&mut fresh, &[]), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        fresh.insert(9);
        assert_eq!(drain(&mut fresh, &[]), [9]);
    }

    #[test]
    fn what_was_passed_over_and_is_put_back_is_there_again() {
        let mut fresh = fresh(&[(1, 3)]);
        fresh.remove(2);
        assert_eq!(drain(&mut fresh, &[2]), [1, 3]);
        fresh.insert(2);
        fresh.remove(2);
        assert_eq!(fresh.len(), 0);
        fresh.insert(2);
        assert_eq!(drain(&mut fresh, &[]), [2]);
    }

    #[test]
    fn claims_in_order_leave_nothing_to_pass_over() {
        let mut fresh = fresh(&[(1, 2), (5, 9)]);
        [1, 2, 5, 6].iter().for_each(|addr| fresh.remove(*addr));
        let mut asked = Vec::new();
        let given = fresh.pop_lowest(|addr| {
            asked.push(addr);
            None
        });
        assert_eq!((given, asked), (Some(7), vec![7]));
    }

    #[test]
    fn spans_of_single_addresses_split_and_heal() {
        let (mut again, mut plain) = (Again::default(), BTreeSet::new());
        // Every address of a few comes and goes in an order that repeats late.
        for step in 0..2_000_u128 {
            let addr = step * step * 7 % 23;
            if plain.insert(addr) {
                again.insert(addr);
            } else {
                plain.remove(&addr);
                assert!(again.remove(addr));
            }
            assert!(!again.remove(addr + 23));
            let listed = again.0.iter().flat_map(|(last, first)| *first..=*last);
            assert!(listed.eq(plain.iter().copied()), "step {step}");
            let touching = again.0.iter().zip(again.0.iter().skip(1));
            assert!(touching.into_iter().all(|((end, _), (_, first))| end + 1 < *first));
        }
        while let Some(lowest) = again.pop_lowest() {
            assert_eq!(plain.pop_first(), Some(lowest));
        }
        assert_eq!(plain.len(), 0);
    }
}
