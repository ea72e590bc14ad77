//! Networks and ranges as users write them in a Subnet.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

use crate::shown;

/// The networks of a subnet: one IPv4, one IPv6, or one of each.
///
/// Written as in Kube-OVN's `spec.cidrBlock`: `10.0.0.0/24`, `fd00::/64` or
/// both with a comma between. Host bits are cleared on parsing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cidrs {
    /// The IPv4 network, if the subnet has one.
    pub v4: Option<Ipv4Network>,
    /// The IPv6 network, if the subnet has one.
    pub v6: Option<Ipv6Network>,
}

/// Why a `cidrBlock` could not be read.
#[derive(Debug, Clone, Eq, PartialEq, thiserror::Error)]
pub enum ParseCidrsError {
    /// One of the parts is not `address/prefix length`.
    #[error("{0:?} is not a network: write address/prefix, such as 10.0.0.0/24")]
    NotANetwork(String),
    /// Two networks of the same family.
    #[error("{0:?} names two networks of one family: write at most one IPv4 and one IPv6 network")]
    SameFamilyTwice(String),
}

impl Cidrs {
    /// The networks there are, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = IpNetwork> {
        self.v4.map(IpNetwork::V4).into_iter().chain(self.v6.map(IpNetwork::V6))
    }

    /// Whether `addr` lies in the network of its family.
    #[must_use]
    pub fn contains(&self, addr: IpAddr) -> bool {
        self.iter().any(|network| network.contains(addr))
    }

    /// Whether any address lies in both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.iter().any(|mine| {
            other
                .iter()
                .any(|theirs| mine.contains(theirs.network()) || theirs.contains(mine.network()))
        })
    }
}

impl FromStr for Cidrs {
    type Err = ParseCidrsError;

    fn from_str(text: &str) -> Result<Self, ParseCidrsError> {
        let mut cidrs = Self { v4: None, v6: None };
        for part in text.split(',').map(str::trim) {
            let network: IpNetwork = Some(part)
                .filter(|part| part.contains('/'))
                .and_then(|part| part.parse().ok())
                .ok_or_else(|| ParseCidrsError::NotANetwork(shown(part)))?;
            let taken = match network {
                IpNetwork::V4(v4) => {
                    let v4 = Ipv4Network::new(v4.network(), v4.prefix())
                        .expect("a parsed prefix is valid");
                    cidrs.v4.replace(v4).is_some()
                }
                IpNetwork::V6(v6) => {
                    let v6 = Ipv6Network::new(v6.network(), v6.prefix())
                        .expect("a parsed prefix is valid");
                    cidrs.v6.replace(v6).is_some()
                }
            };
            if taken {
                return Err(ParseCidrsError::SameFamilyTwice(shown(text)));
            }
        }
        Ok(cidrs)
    }
}

impl fmt::Display for Cidrs {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<_> = self.iter().map(|network| network.to_string()).collect();
        out.write_str(&parts.join(","))
    }
}

/// An inclusive range of addresses of one family.
///
/// Written as in Kube-OVN's `spec.excludeIps`: `a` or `a..b`; a network
/// `a/prefix` is taken as all of its addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AddrRange {
    first: IpAddr,
    last: IpAddr,
}

/// Why a range could not be read.
#[derive(Debug, Clone, Eq, PartialEq, thiserror::Error)]
pub enum ParseRangeError {
    /// Neither an address nor a range nor a network.
    #[error("{0:?} is not an address range: write 10.0.0.5, 10.0.0.5..10.0.0.9 or 10.0.0.0/29")]
    NotARange(String),
    /// The two ends are of different families, or in the wrong order.
    #[error("{0:?} runs backwards or between families: write the lower address first")]
    Backwards(String),
}

impl AddrRange {
    /// The lowest address.
    #[must_use]
    pub const fn first(&self) -> IpAddr {
        self.first
    }

    /// The highest address, itself part of the range.
    #[must_use]
    pub const fn last(&self) -> IpAddr {
        self.last
    }

    /// Whether `addr` is of this family and within the range.
    #[must_use]
    pub fn contains(&self, addr: IpAddr) -> bool {
        addr.is_ipv4() == self.first.is_ipv4() && self.first <= addr && addr <= self.last
    }
}

impl From<IpAddr> for AddrRange {
    fn from(addr: IpAddr) -> Self {
        Self { first: addr, last: addr }
    }
}

impl From<IpNetwork> for AddrRange {
    fn from(network: IpNetwork) -> Self {
        let last = match network {
            IpNetwork::V4(v4) => IpAddr::V4(v4.broadcast()),
            IpNetwork::V6(v6) => IpAddr::V6(v6.broadcast()),
        };
        Self { first: network.network(), last }
    }
}

impl FromStr for AddrRange {
    type Err = ParseRangeError;

    fn from_str(text: &str) -> Result<Self, ParseRangeError> {
        let not_a_range = || ParseRangeError::NotARange(shown(text));
        let addr = |part: &str| part.trim().parse::<IpAddr>().map_err(|_| not_a_range());
        if text.contains('/') {
            return text.trim().parse::<IpNetwork>().map(Self::from).map_err(|_| not_a_range());
        }
        let Some((first, last)) = text.split_once("..") else {
            return addr(text).map(Self::from);
        };
        let range = Self { first: addr(first)?, last: addr(last)? };
        if range.first.is_ipv4() == range.last.is_ipv4() && range.first <= range.last {
            Ok(range)
        } else {
            Err(ParseRangeError::Backwards(shown(text)))
        }
    }
}

impl fmt::Display for AddrRange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(out, "{}", self.first)
        } else {
            write!(out, "{}..{}", self.first, self.last)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dual_stack_block_is_read_in_either_order_and_normalised() {
        let cidrs: Cidrs = "fd00::5/64, 10.1.2.3/24".parse().unwrap();
        assert_eq!(cidrs.to_string(), "10.1.2.0/24,fd00::/64");
    }

    #[test]
    fn a_block_without_prefix_or_with_two_of_a_family_is_refused() {
        assert_eq!(
            "10.0.0.0".parse::<Cidrs>(),
            Err(ParseCidrsError::NotANetwork("10.0.0.0".to_owned()))
        );
        assert!(matches!(
            "10.0.0.0/24,10.0.1.0/24".parse::<Cidrs>(),
            Err(ParseCidrsError::SameFamilyTwice(_))
        ));
    }

    #[test]
    fn networks_that_share_an_address_overlap() {
        let cidrs = |text: &str| text.parse::<Cidrs>().unwrap();
        assert!(cidrs("10.0.0.0/16").overlaps(&cidrs("10.0.7.0/24,fd00::/64")));
        assert!(!cidrs("10.0.0.0/24").overlaps(&cidrs("10.0.1.0/24,fd00::/64")));
    }

    #[test]
    fn ranges_are_written_as_address_span_or_network() {
        let range = |text: &str| text.parse::<AddrRange>();
        assert_eq!(range("10.0.0.1..10.0.0.9").unwrap().to_string(), "10.0.0.1..10.0.0.9");
        assert_eq!(range("10.0.0.0/30").unwrap().to_string(), "10.0.0.0..10.0.0.3");
        assert!(range("10.0.0.7").unwrap().contains("10.0.0.7".parse().unwrap()));
        assert!(!range("10.0.0.7").unwrap().contains("fd00::1".parse().unwrap()));
        assert!(matches!(range("10.0.0.9..10.0.0.1"), Err(ParseRangeError::Backwards(_))));
        assert!(matches!(range("10.0.0.9..fd00::1"), Err(ParseRangeError::Backwards(_))));
        assert!(matches!(range("ten"), Err(ParseRangeError::NotARange(_))));
    }
}
