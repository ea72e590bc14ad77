//! The addresses that nobody has used yet.
//!
//! ```text
//!          next: the lowest that may be fresh of those never reached
//!            v
//!  given  ,  again  |  all but those that have a record
//! ```
//!
//! What lies above `next` is neither listed nor cut into pieces: who has a record there
//! got it by claim, and is passed over when `next` comes by. So a claim costs nothing
//! here, however scattered the claims are, and every claim is passed over once.

use std::collections::BTreeMap;

use crate::spans::Spans;

/// The addresses of one supply that are not in use, were not released, or have been
/// forgotten since.
#[derive(Clone, Debug)]
pub(crate) struct Fresh {
    /// Those of the supply.
    all: Spans,
    /// The number of the span that `next` lies in.
    span: usize,
    /// Every address of the supply below it was used or passed over.
    next: u128,
    /// Those below `next` that count as never used again.
    again: Again,
    len: u128,
}

impl Fresh {
    /// All of a supply.
    pub(crate) fn new(all: Spans) -> Self {
        let next = all.get(0).map_or(0, |(first, _)| first);
        Self { span: 0, next, again: Again::default(), len: all.len(), all }
    }

    pub(crate) const fn len(&self) -> u128 {
        self.len
    }

    /// Takes out the lowest address. Of those never reached it asks whether they are
    /// `used`.
    #[inline]
    pub(crate) fn pop_lowest(&mut self, used: impl Fn(u128) -> bool) -> Option<u128> {
        let addr = self.again.pop_lowest().or_else(|| self.reach(used))?;
        self.len -= 1;
        Some(addr)
    }

    /// The lowest of those never reached that is not used.
    #[inline]
    fn reach(&mut self, used: impl Fn(u128) -> bool) -> Option<u128> {
        loop {
            self.span_of_next()?;
            let addr = self.next;
            self.pass();
            if !used(addr) {
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
                self.pass();
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

    fn is_behind(&self, addr: u128) -> bool {
        addr < self.next || self.span_of_next().is_none()
    }

    #[inline]
    fn pass(&mut self) {
        let Some((_, last)) = self.span_of_next() else { return };
        self.next += 1;
        if self.next > last {
            self.span += 1;
            self.next = self.span_of_next().map_or(self.next, |(first, _)| first);
        }
    }

    #[inline]
    fn span_of_next(&self) -> Option<(u128, u128)> {
        self.all.get(self.span)
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
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn fresh(spans: &[(u128, u128)]) -> Fresh {
        Fresh::new(Spans::new(spans.to_vec()))
    }

    fn drain(fresh: &mut Fresh, used: &[u128]) -> Vec<u128> {
        std::iter::from_fn(|| fresh.pop_lowest(|addr| used.contains(&addr))).collect()
    }

    #[test]
    fn come_lowest_first_without_those_that_were_claimed_ahead() {
        let mut fresh = fresh(&[(2, 4), (7, 8), (1 << 79, 1 << 79)]);
        let claimed = [2, 4, 7];
        claimed.iter().for_each(|addr| fresh.remove(*addr));
        assert_eq!(fresh.len(), 3);
        assert_eq!(drain(&mut fresh, &claimed), [3, 8, 1 << 79]);
        assert_eq!(fresh.len(), 0);
    }

    #[test]
    fn what_is_put_back_comes_first_if_it_lies_below_and_in_its_turn_if_not() {
        let mut fresh = fresh(&[(1, 9)]);
        fresh.remove(7);
        assert_eq!(fresh.pop_lowest(|addr| addr == 7), Some(1));
        assert_eq!(fresh.pop_lowest(|addr| addr == 7), Some(2));
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
        let asked = std::cell::Cell::new(0);
        let count = |_| asked.replace(asked.get() + 1) > 100;
        assert_eq!(fresh.pop_lowest(count), Some(7));
        assert_eq!(asked.get(), 1);
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
