//! Sets of addresses as spans: cost follows the number of gaps, never the
//! number of addresses.

use std::collections::BTreeMap;

use crate::offset::Offset;

/// A set of addresses that never changes, such as a subnet's exclusions.
#[derive(Clone, Debug)]
pub(crate) struct Spans<A>(Box<[(A, A)]>);

impl<A: Offset> Spans<A> {
    /// The union of `spans`, each given by its first and last address.
    pub(crate) fn new(mut spans: Vec<(A, A)>) -> Self {
        spans.sort_unstable();
        let mut merged: Vec<(A, A)> = Vec::with_capacity(spans.len());
        for (first, last) in spans {
            match merged.last_mut() {
                Some((_, end)) if end.next().is_none_or(|next| first <= next) => {
                    *end = last.max(*end);
                }
                _ => merged.push((first, last)),
            }
        }
        Self(merged.into())
    }

    pub(crate) fn contains(&self, addr: A) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= addr);
        after > 0 && addr <= self.0[after - 1].1
    }
}

impl<A: Offset> Spans<A> {
    /// What is in this set or in `others`.
    pub(crate) fn and(&self, others: impl Iterator<Item = (A, A)>) -> Self {
        Self::new(self.0.iter().copied().chain(others).collect())
    }
}

/// Which sub-pool an address belongs to: spans that share nothing, each with the
/// number of its sub-pool.
#[derive(Clone, Debug)]
pub(crate) struct Members<A>(Box<[(A, A, usize)]>);

impl<A: Offset> Members<A> {
    /// The spans of each sub-pool. An address that several name belongs to the span
    /// that begins first, of those to the one of the lower number.
    pub(crate) fn new(sub_pools: &[Vec<(A, A)>]) -> Self {
        let numbered = sub_pools.iter().enumerate();
        let mut spans: Vec<(A, usize, A)> = numbered
            .flat_map(|(number, spans)| spans.iter().map(move |one| (one.0, number, one.1)))
            .collect();
        spans.sort_unstable();
        let mut members: Vec<(A, A, usize)> = Vec::with_capacity(spans.len());
        for (first, number, last) in spans {
            let free = match members.last() {
                Some((_, end, _)) => end.next().map(|next| first.max(next)),
                None => Some(first),
            };
            if let Some(first) = free.filter(|first| *first <= last) {
                members.push((first, last, number));
            }
        }
        Self(members.into())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of the sub-pool that `addr` belongs to.
    #[inline]
    pub(crate) fn of(&self, addr: A) -> Option<usize> {
        if self.0.is_empty() {
            return None;
        }
        let after = self.0.partition_point(|(first, ..)| *first <= addr);
        let (_, last, number) = *self.0.get(after.checked_sub(1)?)?;
        (addr <= last).then_some(number)
    }

    /// The spans of all, in order.
    pub(crate) fn spans(&self) -> impl Iterator<Item = (A, A)> {
        self.0.iter().map(|(first, last, _)| (*first, *last))
    }

    /// The spans of one sub-pool, in order.
    pub(crate) fn spans_of(&self, number: usize) -> impl Iterator<Item = (A, A)> {
        let mine = self.0.iter().filter(move |(_, _, one)| *one == number);
        mine.map(|(first, last, _)| (*first, *last))
    }
}

/// The addresses that nobody has used yet.
///
/// An ordered map from the last address of each span to its first: taking the
/// lowest address, by far the most frequent change, then leaves the keys alone.
#[derive(Clone, Debug)]
pub(crate) struct Fresh<A> {
    by_last: BTreeMap<A, A>,
    len: u128,
}

impl<A: Offset> Fresh<A> {
    /// Every address up to `last` that is not in `except`.
    pub(crate) fn up_to(last: A, except: &Spans<A>) -> Self {
        let mut fresh = Self { by_last: BTreeMap::new(), len: 0 };
        let mut start = Some(A::ZERO);
        for (first, end) in &except.0 {
            if let (Some(start), Some(before)) = (start, first.previous())
                && start <= before
            {
                fresh.add(start, before);
            }
            start = end.next();
        }
        if let Some(start) = start.filter(|start| *start <= last) {
            fresh.add(start, last);
        }
        fresh
    }

    /// Every address of these spans, which are in order and share nothing, that is
    /// not in `except`.
    pub(crate) fn within(spans: impl Iterator<Item = (A, A)>, except: &Spans<A>) -> Self {
        let mut fresh = Self { by_last: BTreeMap::new(), len: 0 };
        for (first, last) in spans {
            let mut start = Some(first);
            let from = except.0.partition_point(|(_, end)| *end < first);
            for (hole, end) in except.0[from..].iter().take_while(|(hole, _)| *hole <= last) {
                if let (Some(start), Some(before)) = (start, hole.previous())
                    && start <= before
                {
                    fresh.join(start, before);
                }
                start = end.next();
            }
            if let Some(start) = start.filter(|start| *start <= last) {
                fresh.join(start, last);
            }
        }
        fresh
    }

    pub(crate) fn len(&self) -> u128 {
        self.len
    }

    /// Takes out the lowest address.
    pub(crate) fn pop_lowest(&mut self) -> Option<A> {
        let mut lowest = self.by_last.first_entry()?;
        let addr = *lowest.get();
        if addr == *lowest.key() {
            lowest.remove();
        } else {
            *lowest.get_mut() = addr.next().expect("a span's last address lies above");
        }
        self.len -= 1;
        Some(addr)
    }

    /// Takes out `addr`, if it is in the set.
    pub(crate) fn remove(&mut self, addr: A) {
        let Some((&last, first)) = self.by_last.range_mut(addr..).next() else { return };
        if addr < *first {
            return;
        }
        self.len -= 1;
        let below = addr.previous().filter(|previous| *first <= *previous);
        let below = below.map(|previous| (previous, *first));
        if addr == last {
            self.by_last.remove(&last);
        } else {
            *first = addr.next().expect("the span's last address lies above");
        }
        self.by_last.extend(below);
    }

    /// Puts back `addr`, which must not be in the set.
    pub(crate) fn insert(&mut self, addr: A) {
        self.len += 1;
        let below = addr.previous().and_then(|previous| self.by_last.remove(&previous));
        let first = below.unwrap_or(addr);
        if let Some(next) = addr.next()
            && let Some((_, above)) = self.by_last.range_mut(next..).next()
            && *above == next
        {
            *above = first;
        } else {
            self.by_last.insert(addr, first);
        }
    }

    /// Adds a span that lies above all others, as one with the last if they touch:
    /// taking and putting back relies on no two spans touching.
    fn join(&mut self, first: A, last: A) {
        let touching = first.previous().and_then(|before| self.by_last.remove(&before));
        self.by_last.insert(last, touching.unwrap_or(first));
        self.len += last.wide() - first.wide() + 1;
    }

    fn add(&mut self, first: A, last: A) {
        self.by_last.insert(last, first);
        self.len += last.wide() - first.wide() + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans_of(fresh: &Fresh<u64>) -> Vec<(u64, u64)> {
        fresh.by_last.iter().map(|(last, first)| (*first, *last)).collect()
    }

    #[test]
    fn overlapping_and_touching_spans_become_one() {
        let spans = Spans::new(vec![(10, 12), (1, 3), (4, 6), (2, 5), (u64::MAX, u64::MAX)]);
        assert_eq!(*spans.0, [(1, 6), (10, 12), (u64::MAX, u64::MAX)]);
        let within: Vec<u64> = (0..14).filter(|addr| spans.contains(*addr)).collect();
        assert_eq!(within, [1, 2, 3, 4, 5, 6, 10, 11, 12]);
    }

    #[test]
    fn what_is_left_after_exceptions_is_counted_without_being_listed() {
        let except = Spans::new(vec![(0, 0), (5, 5), (7, 7)]);
        let fresh = Fresh::up_to(u64::MAX, &except);
        assert_eq!(spans_of(&fresh), [(1, 4), (6, 6), (8, u64::MAX)]);
        assert_eq!(fresh.len(), (1 << 64) - 3);
    }

    #[test]
    fn exceptions_may_cover_everything() {
        let fresh = Fresh::up_to(7, &Spans::new(vec![(0, 3), (4, 7)]));
        assert_eq!((fresh.len(), spans_of(&fresh)), (0, vec![]));
    }

    #[test]
    fn an_address_taken_from_the_middle_splits_a_span_and_heals_it_when_put_back() {
        let mut fresh = Fresh::up_to(9, &Spans::new(vec![]));
        for (addr, expected) in [
            (5, vec![(0, 4), (6, 9)]),
            (0, vec![(1, 4), (6, 9)]),
            (9, vec![(1, 4), (6, 8)]),
            (9, vec![(1, 4), (6, 8)]),
        ] {
            fresh.remove(addr);
            assert_eq!(spans_of(&fresh), expected);
        }
        for (addr, expected) in [(5, vec![(1, 8)]), (9, vec![(1, 9)]), (0, vec![(0, 9)])] {
            fresh.insert(addr);
            assert_eq!(spans_of(&fresh), expected);
        }
        assert_eq!(fresh.len(), 10);
    }

    #[test]
    fn the_highest_address_a_type_can_express_is_an_address_like_any_other() {
        let mut fresh = Fresh::up_to(u64::MAX, &Spans::new(vec![(0, u64::MAX - 1)]));
        assert_eq!(fresh.pop_lowest(), Some(u64::MAX));
        assert_eq!(fresh.pop_lowest(), None);
        fresh.insert(u64::MAX);
        fresh.remove(u64::MAX);
        assert_eq!(fresh.len(), 0);
    }
}
