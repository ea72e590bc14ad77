//! Who an address belongs to.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::num::NonZero;
use std::sync::LazyLock;

/// Whoever holds an address, such as the port of a VM's NIC: made from a name, and
/// equal to what is made from an equal name.
///
/// A caller for whom a VM made anew under an old name is somebody else puts what tells
/// the two apart (a uid) into the name.
///
/// # Guarantees
/// Sixteen bytes, however long the name is, cheap to copy and to compare. It is the
/// name's hash under a key that this process has drawn: 128 bits of SipHash, which is
/// made for names that an adversary chooses. Two of ten million names are
/// taken for one another with a probability below 10⁻²⁴, which nobody can improve
/// without the key; that two VMs have the same uid is likelier. Hash tables take their
/// places from it as it is.
///
/// # Caveats
/// It cannot be turned back into the name, which has its home where the holding is
/// recorded. It means nothing to another process and must not be stored.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Owner {
    /// Never zero, so that an `Option` of it is no larger.
    head: NonZero<u64>,
    tail: u64,
}

impl Owner {
    /// Uniform bits for a hash table.
    #[expect(clippy::cast_possible_truncation, reason = "half of them is enough")]
    pub(crate) const fn bits(self) -> Bits {
        Bits(self.tail as u32)
    }
}

/// A part of an owner that is small enough to be kept in more than one place.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bits(u32);

impl Bits {
    /// A table takes the place from the lowest bits and the tag from the highest.
    pub(crate) const fn hash(self) -> u64 {
        (self.0 as u64) << 32 | self.0 as u64
    }
}

impl From<&str> for Owner {
    fn from(name: &str) -> Self {
        static SECRET: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let mut hasher = SECRET.build_hasher();
        hasher.write(name.as_bytes());
        let head = NonZero::new(hasher.finish()).unwrap_or(NonZero::<u64>::MAX);
        // The same function of a longer text: nothing follows from one for the other.
        hasher.write_u8(0);
        Self { head, tail: hasher.finish() }
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Owner({:016x}{:016x})", self.head, self.tail)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn equal_names_make_equal_owners_and_no_others_do() {
        let name = |number: u32| format!("vm-{number}.default");
        let owners: HashSet<Owner> = (0..50_000).map(|n| name(n).as_str().into()).collect();
        assert_eq!(owners.len(), 50_000);
        assert!((0..50_000).all(|n| owners.contains(&name(n).as_str().into())));
        for (one, other) in [("", "\0"), ("a", "a\0"), ("web.default", "web.defaul")] {
            assert_ne!(Owner::from(one), Owner::from(other));
        }
    }

    #[test]
    fn both_halves_of_an_owner_depend_on_all_of_its_name() {
        let long = "vm-00001.default.ovn/3f9c2a17-b04d-4c5e-8f00-000000000001";
        let whole = Owner::from(long);
        for at in 0..long.len() {
            let mut changed = long.as_bytes().to_vec();
            changed[at] ^= 1;
            let other = Owner::from(std::str::from_utf8(&changed).unwrap());
            assert!(other.head != whole.head && other.tail != whole.tail, "byte {at}");
        }
    }

    #[test]
    fn an_owner_takes_sixteen_bytes_also_where_there_may_be_none() {
        assert_eq!(size_of::<Option<Owner>>(), 16);
    }
}
