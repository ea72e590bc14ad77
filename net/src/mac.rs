//! Ethernet addresses.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::shown;

/// A 48-bit Ethernet address, printed in lower case with colons.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr([u8; 6]);

/// The text is not six hexadecimal octets separated by `:` or `-`.
#[derive(Debug, Clone, Eq, PartialEq, thiserror::Error)]
#[error("{0:?} is not a MAC address: write six hexadecimal octets, such as 02:00:5e:10:00:01")]
pub struct ParseMacError(String);

impl MacAddr {
    /// `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// The address with these octets, in the order in which they are sent.
    #[must_use]
    pub const fn new(octets: [u8; 6]) -> Self {
        Self(octets)
    }

    /// The octets, in the order in which they are sent.
    #[must_use]
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }

    /// A locally administered unicast address derived from `parts`.
    ///
    /// The same parts give the same address for ever: a router port or a VM
    /// whose row was lost comes back with the MAC its neighbours know. Callers
    /// that need uniqueness among a set add an attempt number to the parts.
    #[must_use]
    pub fn derived_from(parts: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        let digest = hash.finalize();
        let [a, b, c, d, e, f] = std::array::from_fn(|index| digest[index]);
        Self([(a & 0xfc) | 0x02, b, c, d, e, f])
    }

    /// Whether the group bit is set: never so for the address of a station.
    #[must_use]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// The link-local address that this interface forms by modified EUI-64
    /// (RFC 4291, appendix A). OVN router ports use it.
    #[must_use]
    pub fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0.map(u16::from);
        Ipv6Addr::new(
            0xfe80,
            0,
            0,
            0,
            ((a ^ 2) << 8) | b,
            (c << 8) | 0xff,
            0xfe00 | d,
            (e << 8) | f,
        )
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

impl FromStr for MacAddr {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        let invalid = || ParseMacError(shown(text));
        let mut octets = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(invalid)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| invalid())?;
        }
        if parts.next().is_some() { Err(invalid()) } else { Ok(Self(octets)) }
    }
}

impl TryFrom<String> for MacAddr {
    type Error = ParseMacError;

    fn try_from(text: String) -> Result<Self, ParseMacError> {
        text.parse()
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> Self {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_it_parsed_in_lower_case() {
        let mac: MacAddr = "02:AB:cd:00-0F:f0".parse().unwrap();
        assert_eq!(mac.to_string(), "02:ab:cd:00:0f:f0");
    }

    #[test]
    fn anything_but_six_octets_is_refused() {
        for text in
            ["", "02:00:00:00:00", "02:00:00:00:00:00:00", "2:0:0:0:0:0", "zz:00:00:00:00:00"]
        {
            assert_eq!(text.parse::<MacAddr>(), Err(ParseMacError(shown(text))));
        }
    }

    #[test]
    fn a_derived_address_is_stable_local_and_unicast() {
        let mac = MacAddr::derived_from(&["vpc", "web.default"]);
        assert_eq!(mac, MacAddr::derived_from(&["vpc", "web.default"]));
        assert_ne!(mac, MacAddr::derived_from(&["vpcw", "eb.default"]));
        assert_eq!(mac.octets()[0] & 3, 2);
    }

    #[test]
    fn the_link_local_address_is_the_modified_eui_64() {
        let mac: MacAddr = "00:1b:63:84:45:e6".parse().unwrap();
        assert_eq!(mac.link_local(), "fe80::21b:63ff:fe84:45e6".parse::<Ipv6Addr>().unwrap());
    }
}
