//! A pool of addresses as its callers see it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use net::AddrRange;

use crate::book::{Book, REMEMBERED, Refusal};
use crate::spans::Span;
use crate::{AllocateError, ClaimError, Owner, PoolError, Seconds};

#[cfg(test)]
mod cost;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

/// Addresses of a network that are given only to those who name them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SubPool {
    /// Its name, unique in its pool.
    pub name: String,
    /// Its addresses. What lies outside the network or belongs to the other family
    /// has no effect.
    pub ranges: Vec<AddrRange>,
}

/// The addresses of one network and who holds each of them.
///
/// # Guarantees
/// - An address has at most one holder, and an owner at most one address.
/// - Asking again changes nothing: an owner that holds an address gets the same
///   one from `allocate`, and `Ok` from claiming it.
/// - `allocate` chooses, in this order: the lowest address never used; the one
///   released longest ago, once it has rested. Of those released in the same
///   second the first one comes first.
/// - A released address rests, that is, it is refused to everybody but its
///   last owner, from its release until `rest` seconds later.
/// - Its last owner gets it back at once while it rests, by claim or, if it is
///   what that owner released last, by `allocate`. After a restart nobody knows
///   who that was, and it rests for everyone.
/// - Excluded addresses are had by claim alone; forbidden ones not at all.
/// - The addresses of a [`SubPool`] are had by `allocate_from` and by claim, never by
///   `allocate`; order and rest are the same there. Which addresses are whose follows
///   from the ranges alone: a pool made anew with others gives what is free by those.
/// - Every call takes logarithmic time at worst, whatever the size and fragmentation
///   of the network, apart from lists and tables growing now and then, and from `allocate`
///   passing over addresses that were claimed ahead of it, each once. Memory follows the
///   number of addresses in use, whatever their owners are called.
///
/// # Caveats
/// An address counts as never used again when it has rested and 65,536 others
/// were released after it. Else an IPv6 network, which never runs out, would
/// remember every address that it ever gave.
///
/// The pool is one process's memory: the caller commits what it answers to the
/// ledger before telling anyone. A commit that fails is undone by `release`,
/// followed by `restore_held` with what the ledger says instead.
#[derive(Clone, Debug)]
pub struct Pool {
    network: IpNetwork,
    /// The first address of the network, from which offsets count.
    base: u128,
    /// The numbers of the sub-pools that have addresses here.
    numbers: BTreeMap<String, usize>,
    book: Book,
}

impl Pool {
    /// A pool of every address of `network`, all of them free.
    ///
    /// `forbidden` addresses are never given, nor are the network and broadcast
    /// address of an IPv4 network and the subnet-router anycast address
    /// (RFC 4291 section 2.6.1) of an IPv6 network. `excluded` ones are given by
    /// claim only. Parts of the ranges that lie outside the network or belong to
    /// the other family have no effect. `rest` is in seconds.
    ///
    /// # Errors
    /// [`PoolError::UnsupportedSize`] unless the network is an IPv4 network
    /// from /8 to /30 or an IPv6 network from /48 to /126.
    pub fn new(
        network: IpNetwork,
        forbidden: &[AddrRange],
        excluded: &[AddrRange],
        rest: Seconds,
    ) -> Result<Self, PoolError> {
        Self::divided(network, forbidden, excluded, &[], rest)
    }

    /// A pool like that of [`Pool::new`], some of whose addresses belong to
    /// sub-pools. An address that several of them name belongs to one of them.
    ///
    /// # Errors
    /// As [`Pool::new`].
    pub fn divided(
        network: IpNetwork,
        forbidden: &[AddrRange],
        excluded: &[AddrRange],
        sub_pools: &[SubPool],
        rest: Seconds,
    ) -> Result<Self, PoolError> {
        Self::remembering(REMEMBERED, network, forbidden, excluded, sub_pools, rest)
    }

    /// A pool that remembers another number of rested addresses than usual.
    pub(crate) fn remembering(
        remembered: usize,
        network: IpNetwork,
        forbidden: &[AddrRange],
        excluded: &[AddrRange],
        sub_pools: &[SubPool],
        rest: Seconds,
    ) -> Result<Self, PoolError> {
        let (bits, served) = if network.is_ipv4() { (32, 8..=30) } else { (128, 48..=126) };
        if !served.contains(&network.prefix()) {
            return Err(PoolError::UnsupportedSize(network));
        }
        let width = bits - u32::from(network.prefix());
        let last = (1_u128 << width) - 1;
        let mut forbidden = offsets(network, last, forbidden);
        forbidden.push((0, 0));
        if network.is_ipv4() {
            forbidden.push((last, last));
        }
        let excluded = offsets(network, last, excluded);
        let mut numbers = BTreeMap::new();
        let mut named: Vec<Vec<Span>> = Vec::new();
        for sub_pool in sub_pools {
            let spans = offsets(network, last, &sub_pool.ranges);
            if !spans.is_empty() {
                let number = *numbers.entry(sub_pool.name.clone()).or_insert(named.len());
                named.resize_with(named.len().max(number + 1), Vec::new);
                named[number].extend(spans);
            }
        }
        let book = Book::new(last, forbidden, excluded, &named, rest, remembered);
        Ok(Self { network, base: number(network.network()), numbers, book })
    }

    /// Gives `owner` an address: the one that it holds already, or else as the
    /// order says.
    ///
    /// # Errors
    /// When there is none to give, for now or for good: see [`AllocateError`].
    pub fn allocate(&mut self, owner: Owner, now: Seconds) -> Result<IpAddr, AllocateError> {
        let offset = self.book.allocate(owner, now)?;
        Ok(self.address(offset))
    }

    /// Gives `owner` an address of a sub-pool, in the same order; the one that it
    /// holds already, of whatever sub-pool that is.
    ///
    /// # Errors
    /// When there is none to give: see [`AllocateError`].
    pub fn allocate_from(
        &mut self,
        sub_pool: &str,
        owner: Owner,
        now: Seconds,
    ) -> Result<IpAddr, AllocateError> {
        let Some(&number) = self.numbers.get(sub_pool) else {
            return Err(AllocateError::NoSubPool(sub_pool.to_owned()));
        };
        let offset = self.book.allocate_from(number, owner, now)?;
        Ok(self.address(offset))
    }

    /// Whether the sub-pool has addresses in this pool.
    #[must_use]
    pub fn has(&self, sub_pool: &str) -> bool {
        self.numbers.contains_key(sub_pool)
    }

    /// Whether `addr` is one of the sub-pool's, excluded or not.
    #[must_use]
    pub fn is_member(&self, sub_pool: &str, addr: IpAddr) -> bool {
        let (Some(&number), Some(offset)) = (self.numbers.get(sub_pool), self.offset(addr)) else {
            return false;
        };
        self.book.sub_pool_of(offset) == Some(number)
    }

    /// How many addresses `allocate_from` can still give, those at rest included.
    #[must_use]
    pub fn available_in(&self, sub_pool: &str) -> u128 {
        self.numbers.get(sub_pool).map_or(0, |number| self.book.available_in(*number))
    }

    /// Gives `owner` the address that it asks for, excluded or not.
    ///
    /// # Errors
    /// When it may not have it: see [`ClaimError`]. Nothing has changed then.
    pub fn claim(&mut self, owner: Owner, addr: IpAddr, now: Seconds) -> Result<(), ClaimError> {
        let offset = self.offset(addr).ok_or(ClaimError::OutOfRange(addr))?;
        self.book.claim(owner, offset, now).map_err(|refusal| self.explain(addr, refusal))
    }

    /// Takes back what `owner` holds, and says what that was. The address rests
    /// from `now` on.
    pub fn release(&mut self, owner: Owner, now: Seconds) -> Option<IpAddr> {
        let offset = self.book.release(owner, now)?;
        Some(self.address(offset))
    }

    /// Records what the ledger says `owner` holds.
    ///
    /// The ledger is believed even where a claim would be refused: when the
    /// address is at rest, or was forbidden after it had been given.
    ///
    /// # Errors
    /// [`ClaimError::OutOfRange`], [`ClaimError::HeldBy`] or
    /// [`ClaimError::OwnerHolds`]: the ledger contradicts itself, or the network
    /// has changed. Nothing has changed then.
    pub fn restore_held(&mut self, owner: Owner, addr: IpAddr) -> Result<(), ClaimError> {
        let offset = self.offset(addr).ok_or(ClaimError::OutOfRange(addr))?;
        self.book.restore_held(owner, offset).map_err(|refusal| self.explain(addr, refusal))
    }

    /// Records when the ledger says `addr` was released. By whom is unknown,
    /// unless the pool has seen this very release.
    ///
    /// Does nothing for an address that is held or outside the network.
    pub fn restore_resting(&mut self, addr: IpAddr, released_at: Seconds) {
        let Some(offset) = self.offset(addr) else { return };
        self.book.restore_resting(offset, released_at);
    }

    /// Who holds `addr`.
    #[must_use]
    pub fn holder(&self, addr: IpAddr) -> Option<Owner> {
        let offset = self.offset(addr)?;
        self.book.holder(offset)
    }

    /// Whether `addr` is held or known to have been released: what has rested for
    /// long is forgotten, and counts as never used.
    #[must_use]
    pub fn remembers(&self, addr: IpAddr) -> bool {
        self.offset(addr).is_some_and(|offset| self.book.remembers(offset))
    }

    /// What `owner` holds.
    #[must_use]
    pub fn address_of(&self, owner: Owner) -> Option<IpAddr> {
        let offset = self.book.address_of(owner)?;
        Some(self.address(offset))
    }

    /// How many addresses are held.
    #[must_use]
    pub const fn held(&self) -> u64 {
        self.book.held()
    }

    /// How many addresses `allocate` can still give, those at rest included.
    #[must_use]
    pub fn available(&self) -> u128 {
        self.book.available()
    }

    /// Every held address with its owner, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, Owner)> {
        self.book.iter().map(|(offset, owner)| (self.address(offset), owner))
    }

    fn offset(&self, addr: IpAddr) -> Option<u128> {
        self.network.contains(addr).then(|| number(addr) - self.base)
    }

    fn address(&self, offset: u128) -> IpAddr {
        let number = self.base + offset;
        if self.network.is_ipv4() {
            let number = u32::try_from(number).expect("an offset lies within its network");
            Ipv4Addr::from_bits(number).into()
        } else {
            Ipv6Addr::from_bits(number).into()
        }
    }

    fn explain(&self, addr: IpAddr, refusal: Refusal) -> ClaimError {
        match refusal {
            Refusal::Forbidden => ClaimError::Forbidden(addr),
            Refusal::HeldBy(owner) => ClaimError::HeldBy(owner),
            Refusal::OwnerHolds(other) => ClaimError::OwnerHolds(self.address(other)),
            Refusal::Resting { until } => ClaimError::Resting { until },
        }
    }
}

/// The parts of `ranges` that lie within the network, as offsets.
fn offsets(network: IpNetwork, last: u128, ranges: &[AddrRange]) -> Vec<Span> {
    let base = number(network.network());
    let same_family = |range: &&AddrRange| range.first().is_ipv4() == network.is_ipv4();
    let clip = |range: &AddrRange| {
        let end = number(range.last()).checked_sub(base)?.min(last);
        let start = number(range.first()).saturating_sub(base);
        (start <= end).then_some((start, end))
    };
    ranges.iter().filter(same_family).filter_map(clip).collect()
}

fn number(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}
