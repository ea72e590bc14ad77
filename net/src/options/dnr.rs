//! Encrypted resolvers as DHCP and advertisements announce them (RFC 9463): text in, octets out.
//!
//! ```text
//! priority name [address …] [alpn=… …] [port=…] [dohpath=…]
//! 1 dns.example.com 10.0.0.53 alpn=dot port=853
//! ```
//!
//! A resolver has addresses and at least one `alpn`, or its name alone.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::value::{Advice, is_name};

/// Service parameters by their keys (RFC 9460 §14.3.2).
const ALPN: u16 = 1;
const PORT: u16 = 3;
const DOHPATH: u16 = 7;

/// What no option of an advertisement is longer than (RFC 4861 §4.6), octets.
const LONGEST_ADVERTISED: usize = 255 * 8;

/// One resolver as written.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Resolver {
    priority: u16,
    name: String,
    addresses: Vec<IpAddr>,
    alpn: Vec<String>,
    port: Option<u16>,
    dohpath: Option<String>,
}

/// The value of DHCPv4's option 162 (RFC 9463 §5.1): one resolver or several, `;` between.
pub(super) fn v4(text: &str) -> Result<Vec<u8>, Advice> {
    let one = |part: &str| {
        let resolver = Resolver::read(part, IpAddr::is_ipv4)?;
        let octet = |length: usize| u8::try_from(length).map(|length| vec![length]);
        let body = resolver.octets(|length| octet(length).map_err(|_| advice()))?;
        let length = u16::try_from(body.len()).map_err(|_| advice())?;
        Ok([&length.to_be_bytes()[..], &body].concat())
    };
    let parts = text.split(';').map(str::trim).filter(|part| !part.is_empty());
    let all: Vec<Vec<u8>> = parts.map(one).collect::<Result<_, Advice>>()?;
    if all.is_empty() { Err(advice()) } else { Ok(all.concat()) }
}

/// The value of DHCPv6's option 144 (RFC 9463 §4.1): one resolver.
pub(super) fn v6(text: &str) -> Result<Vec<u8>, Advice> {
    let resolver = Resolver::read(text.trim(), IpAddr::is_ipv6)?;
    let octets = |length: usize| u16::try_from(length).map(|length| length.to_be_bytes().to_vec());
    resolver.octets(|length| octets(length).map_err(|_| advice()))
}

/// One of IPv6, as an advertisement has it.
pub(super) fn advertised(text: &str) -> Result<Resolver, Advice> {
    // An address of four octets of text is 16 there, which 16 bits still count.
    if text.len() > LONGEST_ADVERTISED {
        return Err(advice());
    }
    Resolver::read(text.trim(), IpAddr::is_ipv6)
}

impl TryFrom<String> for Resolver {
    type Error = Advice;

    fn try_from(text: String) -> Result<Self, Advice> {
        advertised(&text)
    }
}

impl From<Resolver> for String {
    fn from(resolver: Resolver) -> Self {
        resolver.to_string()
    }
}

impl fmt::Display for Resolver {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.priority, self.name)?;
        self.addresses.iter().try_for_each(|address| write!(out, " {address}"))?;
        self.alpn.iter().try_for_each(|id| write!(out, " alpn={id}"))?;
        self.port.iter().try_for_each(|port| write!(out, " port={port}"))?;
        self.dohpath.iter().try_for_each(|path| write!(out, " dohpath={path}"))
    }
}

fn advice() -> Advice {
    Advice::new(
        "write priority, name, and addresses with alpn, such as \
         1 dns.example.com 10.0.0.53 alpn=dot port=853, or priority and name alone",
    )
}

impl Resolver {
    fn read(text: &str, is_family: impl Fn(&IpAddr) -> bool) -> Result<Self, Advice> {
        let mut words = text.split_whitespace();
        let priority = words.next().and_then(|word| word.parse().ok()).filter(|number| *number > 0);
        let name = words.next().filter(|name| is_name(name));
        let (Some(priority), Some(name)) = (priority, name) else { return Err(advice()) };
        let mut resolver = Self { priority, name: name.to_owned(), ..Self::default() };
        for word in words {
            match word.split_once('=') {
                None => {
                    let address = word.parse().ok().filter(&is_family).ok_or_else(advice)?;
                    resolver.addresses.push(address);
                }
                Some(("alpn", id)) if (1..=255).contains(&id.len()) => {
                    resolver.alpn.push(id.to_owned());
                }
                Some(("port", port)) => {
                    resolver.port = Some(port.parse().map_err(|_| advice())?);
                }
                Some(("dohpath", path)) if path.starts_with('/') => {
                    resolver.dohpath = Some(path.to_owned());
                }
                Some(_) => return Err(advice()),
            }
        }
        let is_bare = resolver.port.is_none() && resolver.dohpath.is_none();
        match (resolver.addresses.is_empty(), resolver.alpn.is_empty()) {
            (false, false) => Ok(resolver),
            (true, true) if is_bare => Ok(resolver),
            _ => Err(advice()),
        }
    }

    /// Priority, name, addresses, parameters; `length` writes the length of what follows.
    fn octets(&self, length: impl Fn(usize) -> Result<Vec<u8>, Advice>) -> Result<Vec<u8>, Advice> {
        let name = labels(&self.name);
        let mut octets = self.priority.to_be_bytes().to_vec();
        octets.extend(length(name.len())?);
        octets.extend(name);
        if self.addresses.is_empty() {
            return Ok(octets);
        }
        let addresses: Vec<u8> = self.addresses.iter().flat_map(address).collect();
        octets.extend(length(addresses.len())?);
        octets.extend(addresses);
        octets.extend(self.parameters());
        Ok(octets)
    }

    /// The body of the option of an advertisement (RFC 9463 §6.1), for so many seconds.
    #[must_use]
    pub fn advertised(&self, lifetime: u32) -> Vec<u8> {
        let mut body = self.priority.to_be_bytes().to_vec();
        body.extend(lifetime.to_be_bytes());
        let mut add = |part: &[u8]| {
            let length = u16::try_from(part.len()).expect("read from a text of 2040 octets");
            body.extend(length.to_be_bytes());
            body.extend_from_slice(part);
        };
        add(&labels(&self.name));
        if !self.addresses.is_empty() {
            add(&self.addresses.iter().flat_map(address).collect::<Vec<u8>>());
            add(&self.parameters());
        }
        body
    }

    /// In the order of their keys, each with its length (RFC 9460 §2.2).
    fn parameters(&self) -> Vec<u8> {
        let mut octets = Vec::new();
        let mut add = |key: u16, value: &[u8]| {
            let length = u16::try_from(value.len()).expect("a text of at most 16 KiB");
            octets.extend([key.to_be_bytes(), length.to_be_bytes()].concat());
            octets.extend_from_slice(value);
        };
        let id = |id: &String| {
            let length = u8::try_from(id.len()).expect("read with at most 255 octets");
            [&[length], id.as_bytes()].concat()
        };
        add(ALPN, &self.alpn.iter().flat_map(id).collect::<Vec<u8>>());
        if let Some(port) = self.port {
            add(PORT, &port.to_be_bytes());
        }
        if let Some(path) = &self.dohpath {
            add(DOHPATH, path.as_bytes());
        }
        octets
    }
}

fn address(address: &IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// A name that [`is_name`] holds for, as labels (RFC 1035 §3.1).
fn labels(name: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    for label in name.strip_suffix('.').unwrap_or(name).split('.') {
        octets.push(u8::try_from(label.len()).expect("labels have at most 63 octets"));
        octets.extend_from_slice(label.as_bytes());
    }
    octets.push(0);
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9463_5_1_a_resolver_has_name_addresses_and_parameters_in_the_order_of_their_keys() {
        let name = b"\x03dns\x07example\0";
        let wanted = [
            &[0, 41, 0, 1, 13][..],
            name,
            &[4, 10, 0, 0, 53],
            &[0, 1, 0, 7, 3, b'd', b'o', b't', 2, b'h', b'2'],
            &[0, 3, 0, 2, 3, 0x55],
        ]
        .concat();
        let wanted = {
            let mut wanted = wanted;
            let length = u8::try_from(wanted.len() - 2).unwrap();
            wanted[1] = length;
            wanted
        };
        assert_eq!(v4("1 dns.example 10.0.0.53 port=853 alpn=dot alpn=h2").unwrap(), wanted);
        let alone = [&[0, 16, 0, 2, 13][..], name].concat();
        assert_eq!(v4("2 dns.example").unwrap(), alone);
        let both = v4("1 dns.example 10.0.0.53 port=853 alpn=dot alpn=h2; 2 dns.example").unwrap();
        assert_eq!(both, [wanted, alone].concat());
    }

    #[test]
    fn rfc9463_4_1_lengths_of_dhcpv6_are_of_two_octets() {
        let octets = v6("1 dns.example fd00::53 alpn=h3 dohpath=/q{?dns}").unwrap();
        assert_eq!(octets[..4], [0, 1, 0, 13]);
        assert_eq!(octets[17..21], [0, 16, 0xfd, 0]);
        assert!(octets.ends_with(&[&[0, 7, 0, 8][..], b"/q{?dns}"].concat()));
    }

    #[test]
    fn rfc9463_6_1_an_advertised_resolver_has_a_lifetime_and_parameters_of_known_length() {
        let text = "1 dns.example fd00::53 fd00::54 alpn=dot port=853";
        let resolver = advertised(text).unwrap();
        assert_eq!(resolver.to_string(), text);
        let wanted = [
            &[0, 1, 0, 0, 7, 8, 0, 13][..],
            b"\x03dns\x07example\0",
            &[0, 32, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x53],
            &[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x54],
            &[0, 14, 0, 1, 0, 4, 3, b'd', b'o', b't', 0, 3, 0, 2, 3, 0x55],
        ]
        .concat();
        assert_eq!(resolver.advertised(1800), wanted);
        let alone = advertised("2 dns.example").unwrap().advertised(0);
        assert_eq!(alone, [&[0, 2, 0, 0, 0, 0, 0, 13][..], b"\x03dns\x07example\0"].concat());
    }

    #[test]
    fn an_advertised_resolver_is_kept_as_its_text_and_read_with_the_same_suspicion() {
        let text = "\"1 dns.example fd00::53 alpn=h3 dohpath=/q{?dns}\"";
        let resolver: Resolver = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&resolver).unwrap(), text);
        let long = format!("1 dns.example {}alpn=dot", "::1 ".repeat(600));
        for text in ["1 dns.example 10.0.0.53 alpn=dot", "dns.example", &long] {
            assert!(serde_json::from_value::<Resolver>(text.into()).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_resolver_says_what_to_write() {
        for text in [
            "",
            "dns.example",
            "0 dns.example",
            "1 dns..example",
            "1 dns.example fd00::53 alpn=dot",
            "1 dns.example 10.0.0.53",
            "1 dns.example alpn=dot",
            "1 dns.example port=853",
            "1 dns.example 10.0.0.53 alpn=dot port=x",
            "1 dns.example 10.0.0.53 alpn=dot ech=1",
        ] {
            assert!(v4(text).unwrap_err().to_string().contains("write priority"), "{text:?}");
        }
    }
}
