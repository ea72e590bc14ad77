//! Addresses as distances from the start of their network.

use std::fmt::Debug;
use std::hash::Hash;

/// How far an address lies from the first one of its network.
///
/// The structures of this crate are written once over this trait: 64 bits
/// carry every IPv4 network and the IPv6 networks up to /64, in half the memory
/// that the few larger ones need.
pub(crate) trait Offset: Copy + Ord + Hash + Debug {
    /// The first address of the network.
    const ZERO: Self;

    /// Narrows `wide`, which the caller knows to fit.
    fn narrow(wide: u128) -> Self;

    /// The same distance in full width.
    fn wide(self) -> u128;

    /// The address after this one, if the type can express it.
    fn next(self) -> Option<Self>;

    /// The address before this one, if there is one.
    fn previous(self) -> Option<Self>;
}

impl Offset for u64 {
    const ZERO: Self = 0;

    fn narrow(wide: u128) -> Self {
        Self::try_from(wide).expect("a narrow network spans at most 64 bits")
    }

    fn wide(self) -> u128 {
        self.into()
    }

    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }

    fn previous(self) -> Option<Self> {
        self.checked_sub(1)
    }
}

impl Offset for u128 {
    const ZERO: Self = 0;

    fn narrow(wide: u128) -> Self {
        wide
    }

    fn wide(self) -> u128 {
        self
    }

    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }

    fn previous(self) -> Option<Self> {
        self.checked_sub(1)
    }
}
