//! Annotation `ip_family`: one family of a subnet that has both.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnetwork::IpNetwork;

/// A family of addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Family {
    /// `ipv4`.
    V4,
    /// `ipv6`.
    V6,
}

impl Family {
    /// That of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The one family of all these addresses; none if there are both.
    #[must_use]
    pub fn of_all(addresses: &[IpAddr]) -> Option<Self> {
        let first = Self::of(*addresses.first()?);
        addresses.iter().all(|one| Self::of(*one) == first).then_some(first)
    }
}

/// Whether who asks for `family`, or for every one, asks for that of this address.
#[must_use]
pub fn covers(family: Option<Family>, address: IpAddr) -> bool {
    family.is_none_or(|family| family == Family::of(address))
}

/// The same of a network.
#[must_use]
pub fn covers_network(family: Option<Family>, network: IpNetwork) -> bool {
    covers(family, network.network())
}

impl FromStr for Family {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "ipv4" => Ok(Self::V4),
            "ipv6" => Ok(Self::V6),
            _ => Err(()),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        })
    }
}
