//! A set that mostly has one or two members: in order, in one piece of memory, and no
//! larger than it is. A `BTreeSet` has room for eleven; with one such set for each VM
//! and each port that room was most of an index.

/// The members, in order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Few<T>(Vec<T>);

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Ord> Few<T> {
    /// Up to so many there is no room to spare; beyond, it doubles as any list does.
    const EXACT: usize = 8;

    /// Puts in a member; nothing changes if it is there.
    pub fn insert(&mut self, member: T) {
        if let Err(at) = self.0.binary_search(&member) {
            if self.0.len() < Self::EXACT {
                self.0.reserve_exact(1);
            }
            self.0.insert(at, member);
        }
    }

    /// Takes out a member, if it is there.
    pub fn remove(&mut self, member: &T) {
        if let Ok(at) = self.0.binary_search(member) {
            self.0.remove(at);
        }
    }

    /// The members in order.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a, T: Ord> IntoIterator for &'a Few<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_member_is_there_once_and_in_order_and_takes_no_more_room_than_it_needs() {
        let mut few = Few::default();
        [3, 1, 2, 1].into_iter().for_each(|one| few.insert(one));
        assert_eq!((few.iter().copied().collect::<Vec<_>>(), few.0.capacity()), (vec![1, 2, 3], 3));
        few.remove(&2);
        few.remove(&7);
        assert_eq!(few.iter().copied().collect::<Vec<_>>(), [1, 3]);
        few.remove(&1);
        few.remove(&3);
        assert!(few.is_empty());
    }
}
