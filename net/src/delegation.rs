//! A prefix for the networks behind each guest (RFC 9915, section 6.3), known by the
//! guest's address: the fifth address of a network goes with the fifth prefix. So a
//! prefix is nobody else's for as long as the address is, and is written down nowhere.

use std::fmt;
use std::net::Ipv6Addr;

use ipnetwork::Ipv6Network;

/// The prefixes that the guests of one network are delegated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Delegation {
    pool: Ipv6Network,
    length: u8,
}

/// Why there can be no such prefixes.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DelegationError {
    /// The pool could not be read.
    #[error("{} is not an IPv6 network: write one such as fd10::/48", crate::shown(.0))]
    Pool(String),
    /// The pool has bits beyond its length.
    #[error("{0} has host bits: write {network}/{prefix}", network = .0.network(), prefix = .0.prefix())]
    HostBits(Ipv6Network),
    /// The pool has addresses that no guest may have.
    #[error("{0} is neither in 2000::/3 nor in fc00::/7: write a network such as fd10::/48")]
    NotUnicast(Ipv6Network),
    /// Prefixes of that length do not divide the pool.
    #[error(
        "prefixes of length {length} do not divide {pool}: write a length from {least} to {LONGEST}",
        least = .pool.prefix() + 1
    )]
    Length {
        /// The pool.
        pool: Ipv6Network,
        /// The length of each prefix.
        length: i64,
    },
}

/// The longest prefix that a guest can have networks of its own in.
const LONGEST: u8 = 126;

impl Delegation {
    /// Prefixes of `length` bits, one after the other in `pool`.
    ///
    /// # Errors
    /// When there are none such.
    pub fn new(pool: &str, length: i64) -> Result<Self, DelegationError> {
        let wrong = || DelegationError::Pool(pool.to_owned());
        let pool: Ipv6Network = Some(pool)
            .filter(|text| text.contains('/'))
            .and_then(|text| text.trim().parse().ok())
            .ok_or_else(wrong)?;
        if pool.ip() != pool.network() {
            return Err(DelegationError::HostBits(pool));
        }
        // Global and unique local unicast (RFC 4291, section 2.4; RFC 4193).
        let first = pool.ip().octets()[0];
        let is_unicast = pool.prefix() >= 7 && (first >> 5 == 0b001 || first >> 1 == 0xfc >> 1);
        if !is_unicast {
            return Err(DelegationError::NotUnicast(pool));
        }
        let fits = u8::try_from(length).ok().filter(|one| *one > pool.prefix() && *one <= LONGEST);
        let length = fits.ok_or(DelegationError::Length { pool, length })?;
        Ok(Self { pool, length })
    }

    /// What all of them are in.
    #[must_use]
    pub const fn pool(&self) -> Ipv6Network {
        self.pool
    }

    /// The prefix that goes with `address` of `network`; none where the pool ends before.
    #[must_use]
    pub fn of(&self, network: Ipv6Network, address: Ipv6Addr) -> Option<Ipv6Network> {
        let index = address.to_bits().checked_sub(network.network().to_bits())?;
        if !network.contains(address) || index >> (self.length - self.pool.prefix()) != 0 {
            return None;
        }
        let bits = self.pool.network().to_bits() | (index << (128 - self.length));
        Ipv6Network::new(Ipv6Addr::from_bits(bits), self.length).ok()
    }

    /// The last address of `network` that a prefix goes with.
    #[must_use]
    pub fn last_of(&self, network: Ipv6Network) -> Ipv6Addr {
        let most = (1_u128 << (self.length - self.pool.prefix())) - 1;
        let size = u128::MAX.checked_shr(network.prefix().into()).unwrap_or(0);
        Ipv6Addr::from_bits(network.network().to_bits() | most.min(size))
    }
}

impl fmt::Display for Delegation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "a /{} of {}", self.length, self.pool)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pool: &str, length: i64, network: &str, address: &str) -> Option<String> {
        let delegation = Delegation::new(pool, length).unwrap();
        let prefix = delegation.of(network.parse().unwrap(), address.parse().unwrap());
        prefix.map(|prefix| prefix.to_string())
    }

    #[test]
    fn the_nth_address_goes_with_the_nth_prefix() {
        for (address, prefix) in [
            ("fd00::", Some("fd10::/64")),
            ("fd00::5", Some("fd10:0:0:5::/64")),
            ("fd00::ffff", Some("fd10:0:0:ffff::/64")),
            ("fd00::1:0", None),
            ("fd00:0:0:0:ffff:ffff:ffff:ffff", None),
            ("fd01::5", None),
        ] {
            let prefix = prefix.map(str::to_owned);
            assert_eq!(of("fd10::/48", 64, "fd00::/64", address), prefix, "{address}");
        }
        assert_eq!(
            of("fd10::/48", 56, "fd00::/120", "fd00::5").as_deref(),
            Some("fd10:0:0:500::/56")
        );
    }

    #[test]
    fn no_two_addresses_of_a_network_have_prefixes_that_overlap() {
        let delegation = Delegation::new("fd10::/56", 64).unwrap();
        let network: Ipv6Network = "fd00::40/123".parse().unwrap();
        let prefixes: Vec<_> =
            network.iter().map(|one| delegation.of(network, one).unwrap()).collect();
        assert_eq!(prefixes.len(), 32);
        for (at, one) in prefixes.iter().enumerate() {
            assert!(delegation.pool().is_supernet_of(*one));
            assert!(prefixes[at + 1..].iter().all(|other| !one.overlaps(*other)));
        }
    }

    #[test]
    fn the_last_address_that_has_one_is_that_of_pool_or_network() {
        let last = |pool, length, network: &str| {
            Delegation::new(pool, length).unwrap().last_of(network.parse().unwrap()).to_string()
        };
        assert_eq!(last("fd10::/56", 64, "fd00::/64"), "fd00::ff");
        assert_eq!(last("fd10::/48", 64, "fd00::/120"), "fd00::ff");
        assert_eq!(last("fd10::/48", 64, "fd00::/128"), "fd00::");
    }

    #[test]
    fn what_is_no_pool_of_prefixes_is_refused_with_what_to_write() {
        for (pool, length, told) in [
            ("", 64, "write one such as"),
            ("fd10::", 64, "write one such as"),
            ("10.0.0.0/8", 24, "write one such as"),
            ("fd10::1/48", 64, "write fd10::/48"),
            ("fe80::/64", 80, "in 2000::/3"),
            ("ff02::/16", 64, "in 2000::/3"),
            ("::/0", 64, "in 2000::/3"),
            ("fd10::/48", 48, "a length from 49 to 126"),
            ("fd10::/48", 127, "a length from 49 to 126"),
            ("fd10::/48", -1, "a length from 49 to 126"),
        ] {
            let error = Delegation::new(pool, length).unwrap_err().to_string();
            assert!(error.contains(told), "{pool} {length}: {error}");
        }
    }
}
