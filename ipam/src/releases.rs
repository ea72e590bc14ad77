//! Released addresses in the order of their release.
//!
//! One ring of nodes per second, and the seconds in an ordered map: adding and taking
//! out, at either end or in the middle, costs the logarithm of the number of distinct
//! seconds.
//!
//! ```text
//! 1000 s -> A <-> D <-> B <-> (A)      head A: released first in that second
//! 1004 s -> C <-> (C)
//! ```

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::Seconds;
use crate::owner::Bits;
use crate::slab::{Slab, Slot};

/// The place of a release in its [`Releases`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Node(Slot);

/// Released records, the one released longest ago first; those of the same second in
/// the order in which they came.
#[derive(Clone, Debug)]
pub(crate) struct Releases {
    heads: BTreeMap<Seconds, Node>,
    /// The ring that was pushed to last, as most often it is so again.
    recent: Option<(Seconds, Node)>,
    nodes: Slab<Release>,
    len: usize,
}

/// One release, between its neighbours in the ring; a ring of one points to itself.
#[derive(Clone, Copy, Debug)]
struct Release {
    at: Seconds,
    record: Slot,
    /// Of the record's owner.
    bits: Bits,
    before: Node,
    after: Node,
}

impl Releases {
    pub(crate) const fn new() -> Self {
        Self { heads: BTreeMap::new(), recent: None, nodes: Slab::new(), len: 0 }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// When the first one was released, and which record it is.
    pub(crate) fn oldest(&self) -> Option<(Seconds, Slot)> {
        let (at, head) = self.heads.first_key_value()?;
        Some((*at, self.nodes[head.0].record))
    }

    /// Takes out the first one if `is_over` says so of the time when it was released;
    /// if not, says when that was.
    #[inline]
    pub(crate) fn pop_if(
        &mut self,
        is_over: impl Fn(Seconds) -> bool,
    ) -> Option<Result<(Slot, Bits), Seconds>> {
        let mut first = self.heads.first_entry()?;
        if !is_over(*first.key()) {
            return Some(Err(*first.key()));
        }
        let node = *first.get();
        let Release { record, bits, before, after, .. } = self.nodes[node.0];
        if after == node {
            first.remove();
        } else {
            *first.get_mut() = after;
            self.join(before, after);
        }
        self.recent.take_if(|(_, head)| *head == node);
        self.nodes.vacate(node.0);
        self.len -= 1;
        Some(Ok((record, bits)))
    }

    /// When this one was released.
    pub(crate) fn time(&self, node: Node) -> Seconds {
        self.nodes[node.0].at
    }

    /// Adds `record` as released at `at`.
    pub(crate) fn push(&mut self, record: Slot, bits: Bits, at: Seconds) -> Node {
        self.len += 1;
        let node = Node(self.nodes.insert_with(|place| {
            let alone = Node(place);
            Release { at, record, bits, before: alone, after: alone }
        }));
        let head = match self.recent {
            Some((second, head)) if second == at => head,
            _ => *self.heads.entry(at).or_insert(node),
        };
        self.recent = Some((at, head));
        if head != node {
            let tail = self.nodes[head.0].before;
            self.join(tail, node);
            self.join(node, head);
        }
        node
    }

    /// Takes out a release.
    pub(crate) fn remove(&mut self, node: Node) {
        self.len -= 1;
        self.nodes.vacate(node.0);
        let Release { at, before, after, .. } = self.nodes[node.0];
        self.recent.take_if(|(_, head)| *head == node);
        if after != node {
            self.join(before, after);
        }
        // Most often it is the oldest of all.
        let head = match self.heads.first_entry() {
            Some(first) if *first.key() == at => first,
            _ => match self.heads.entry(at) {
                Entry::Occupied(head) => head,
                Entry::Vacant(_) => unreachable!("every ring has a head"),
            },
        };
        if after == node {
            head.remove();
        } else if *head.get() == node {
            *head.into_mut() = after;
        }
    }

    fn join(&mut self, before: Node, after: Node) {
        self.nodes[before.0].after = after;
        self.nodes[after.0].before = before;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Places of records that are as good as any.
    fn places(count: usize) -> Vec<Slot> {
        let mut records = Slab::new();
        (0..count).map(|number| records.insert_with(|_| number)).collect()
    }

    fn drain(releases: &mut Releases, nodes: &[(Slot, Node)]) -> Vec<(Seconds, usize)> {
        std::iter::from_fn(|| {
            let (at, record) = releases.oldest()?;
            let index = nodes.iter().position(|(slot, _)| *slot == record).unwrap();
            assert_eq!(releases.time(nodes[index].1), at);
            releases.remove(nodes[index].1);
            Some((at, index))
        })
        .collect()
    }

    #[test]
    fn come_out_by_time_and_within_a_second_as_they_came() {
        let mut releases = Releases::new();
        let times = [20, 10, 20, 10, 15, 20];
        let nodes: Vec<_> = (places(6).into_iter().zip(times))
            .map(|(record, at)| (record, releases.push(record, Bits::default(), at)))
            .collect();
        assert_eq!(releases.len(), 6);
        let expected = [(10, 1), (10, 3), (15, 4), (20, 0), (20, 2), (20, 5)];
        assert_eq!(drain(&mut releases, &nodes), expected);
        assert_eq!(releases.len(), 0);
    }

    #[test]
    fn the_first_is_taken_out_once_its_time_is_over() {
        let mut releases = Releases::new();
        let records = places(4);
        let times = [10, 10, 20, 20];
        for (record, at) in records.iter().zip(times) {
            releases.push(*record, Bits::default(), at);
        }
        let pop = |releases: &mut Releases, upto| {
            releases.pop_if(|at| at < upto).map(|first| first.map(|(record, _)| record))
        };
        assert_eq!(pop(&mut releases, 10), Some(Err(10)));
        for record in &records[..2] {
            assert_eq!(pop(&mut releases, 20), Some(Ok(*record)));
        }
        assert_eq!(pop(&mut releases, 20), Some(Err(20)));
        releases.push(records[0], Bits::default(), 20);
        for record in [records[2], records[3], records[0]] {
            assert_eq!(pop(&mut releases, 99), Some(Ok(record)));
        }
        assert_eq!((pop(&mut releases, 99), releases.len()), (None, 0));
    }

    #[test]
    fn one_taken_from_the_head_the_middle_or_the_tail_leaves_the_others_in_order() {
        for taken in 0..4 {
            let mut releases = Releases::new();
            let push = |record| (record, releases.push(record, Bits::default(), 1));
            let mut nodes: Vec<_> = places(4).into_iter().map(push).collect();
            releases.remove(nodes[taken].1);
            nodes.push((nodes[taken].0, releases.push(nodes[taken].0, Bits::default(), 1)));
            nodes[taken] = nodes[4];
            let left = (0..4).filter(|index| *index != taken).chain([taken]);
            let expected: Vec<_> = left.map(|index| (1, index)).collect();
            assert_eq!(drain(&mut releases, &nodes[..4]), expected);
        }
    }
}
