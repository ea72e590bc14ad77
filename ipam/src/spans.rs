//! Sets of addresses as spans: cost follows the number of gaps, never the
//! number of addresses.

/// The first and the last address, as distances from the start of the network: at most
/// 80 bits, so that there is always a next one.
pub(crate) type Span = (u128, u128);

/// A set of addresses that never changes, such as a subnet's exclusions.
#[derive(Clone, Debug)]
pub(crate) struct Spans(Box<[Span]>);

impl Spans {
    /// The union of `spans`, each given by its first and last address.
    pub(crate) fn new(mut spans: Vec<Span>) -> Self {
        spans.sort_unstable();
        let mut merged: Vec<Span> = Vec::with_capacity(spans.len());
        for (first, last) in spans {
            match merged.last_mut() {
                Some((_, end)) if first <= *end + 1 => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        Self(merged.into())
    }

    pub(crate) fn contains(&self, addr: u128) -> bool {
        self.number_of(addr).is_some()
    }

    /// The number of the span that `addr` lies in.
    #[inline]
    pub(crate) fn number_of(&self, addr: u128) -> Option<usize> {
        let after = self.0.partition_point(|(first, _)| *first <= addr);
        let number = after.checked_sub(1)?;
        (addr <= self.0.get(number)?.1).then_some(number)
    }

    /// What is in this set or in `others`.
    pub(crate) fn and(&self, others: impl Iterator<Item = Span>) -> Self {
        Self::new(self.0.iter().copied().chain(others).collect())
    }

    /// What is in `spans`, which are in order and share nothing, and not in this set.
    pub(crate) fn outside(&self, spans: impl Iterator<Item = Span>) -> Self {
        let mut left = Vec::new();
        for (first, last) in spans {
            let mut start = first;
            let from = self.0.partition_point(|(_, end)| *end < first);
            for (hole, end) in self.0[from..].iter().take_while(|(hole, _)| *hole <= last) {
                if start < *hole {
                    left.push((start, hole - 1));
                }
                start = end + 1;
            }
            if start <= last {
                left.push((start, last));
            }
        }
        Self::new(left)
    }

    /// How many addresses are in the set.
    pub(crate) fn len(&self) -> u128 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// The span with this number, in order.
    pub(crate) fn get(&self, number: usize) -> Option<Span> {
        self.0.get(number).copied()
    }
}

/// Which sub-pool an address belongs to: spans that share nothing, each with the
/// number of its sub-pool.
#[derive(Clone, Debug)]
pub(crate) struct Members(Box<[(u128, u128, usize)]>);

impl Members {
    /// The spans of each sub-pool. An address that several name belongs to the span
    /// that begins first, of those to the one of the lower number.
    pub(crate) fn new(sub_pools: &[Vec<Span>]) -> Self {
        let numbered = sub_pools.iter().enumerate();
        let mut spans: Vec<(u128, usize, u128)> = numbered
            .flat_map(|(number, spans)| spans.iter().map(move |one| (one.0, number, one.1)))
            .collect();
        spans.sort_unstable();
        let mut members: Vec<(u128, u128, usize)> = Vec::with_capacity(spans.len());
        for (first, number, last) in spans {
            let first = members.last().map_or(first, |(_, end, _)| first.max(end + 1));
            if first <= last {
                members.push((first, last, number));
            }
        }
        Self(members.into())
    }

    /// The number of the sub-pool that `addr` belongs to.
    #[inline]
    pub(crate) fn of(&self, addr: u128) -> Option<usize> {
        if self.0.is_empty() {
            return None;
        }
        let after = self.0.partition_point(|(first, ..)| *first <= addr);
        let (_, last, number) = *self.0.get(after.checked_sub(1)?)?;
        (addr <= last).then_some(number)
    }

    /// The spans of all, in order.
    pub(crate) fn spans(&self) -> impl Iterator<Item = Span> {
        self.0.iter().map(|(first, last, _)| (*first, *last))
    }

    /// The spans of one sub-pool, in order.
    pub(crate) fn spans_of(&self, number: usize) -> impl Iterator<Item = Span> {
        let mine = self.0.iter().filter(move |(_, _, one)| *one == number);
        mine.map(|(first, last, _)| (*first, *last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: u128 = (1 << 80) - 1;

    #[test]
    fn overlapping_and_touching_spans_become_one() {
        let spans = Spans::new(vec![(10, 12), (1, 3), (4, 6), (2, 5), (LAST, LAST)]);
        assert_eq!(*spans.0, [(1, 6), (10, 12), (LAST, LAST)]);
        let within: Vec<u128> = (0..14).filter(|addr| spans.contains(*addr)).collect();
        assert_eq!(within, [1, 2, 3, 4, 5, 6, 10, 11, 12]);
    }

    #[test]
    fn what_is_left_after_exceptions_is_counted_without_being_listed() {
        let except = Spans::new(vec![(0, 0), (5, 5), (7, 7)]);
        let left = except.outside([(0, LAST)].into_iter());
        assert_eq!(*left.0, [(1, 4), (6, 6), (8, LAST)]);
        assert_eq!(left.len(), (1 << 80) - 3);
        let left = except.outside([(1, 2), (4, 4), (5, 7), (9, 9)].into_iter());
        assert_eq!(*left.0, [(1, 2), (4, 4), (6, 6), (9, 9)]);
    }

    #[test]
    fn exceptions_may_cover_everything() {
        let left = Spans::new(vec![(0, 3), (4, 7)]).outside([(0, 7)].into_iter());
        assert_eq!((left.len(), left.get(0)), (0, None));
    }

    #[test]
    fn an_address_that_two_sub_pools_name_belongs_to_the_span_that_begins_first() {
        let members = Members::new(&[vec![(5, 9), (20, 20)], vec![(2, 6), (20, 21)]]);
        let of: Vec<_> = (1..=10).map(|addr| members.of(addr)).collect();
        let (none, first, second) = (None, Some(0), Some(1));
        assert_eq!(of, [none, second, second, second, second, second, first, first, first, none]);
        assert_eq!((members.of(20), members.of(21)), (first, second));
        assert_eq!(members.spans_of(0).collect::<Vec<_>>(), [(7, 9), (20, 20)]);
    }
}
