//! The value of an option, and the text that stands for it.
//!
//! A value says of what kind it is, so that one grammar serves options by number,
//! `option_43=hex:0104`, and bindings on disk, `{"code": 42, "value": "ip:10.0.0.5"}`.

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use ipnetwork::Ipv4Network;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::MacAddr;

/// The value of an option before it becomes bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Value {
    /// Addresses, one after the other.
    Addresses(Vec<IpAddr>),
    /// Domain names, as labels (RFC 1035 §3.1).
    Names(Vec<String>),
    /// Destinations and next hops (RFC 3442); 0.0.0.0 where a destination is on the link.
    Routes(Vec<(Ipv4Network, Ipv4Addr)>),
    /// Text without a terminating zero.
    Text(String),
    /// One octet: 1 for yes, 0 for no.
    Flag(bool),
    /// One octet.
    U8(u8),
    /// Two octets, the higher first.
    U16(u16),
    /// Four octets, the highest first.
    U32(u32),
    /// Four octets of a two's complement, the highest first.
    I32(i32),
    /// Octets as they are sent.
    Bytes(Vec<u8>),
}

/// Why a text is no value: what to write instead.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct Advice(pub(super) String);

impl Advice {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// What stands before the colon, for whoever wrote something else there.
const KINDS: &str = "text:, hex:, ip:, names:, routes:, bool:, u8:, u16:, u32: or i32:";

/// What follows the kind that a text names, and whether that is octets; `None` where it
/// names none.
pub(super) fn tagged(text: &str) -> Option<(&str, bool)> {
    let (kind, rest) = text.split_once(':')?;
    let mut known = KINDS.split(", ").flat_map(|one| one.split(" or "));
    known.any(|one| one.strip_suffix(':') == Some(kind)).then_some((rest, kind == "hex"))
}

/// Whether a text says octets as they are sent.
pub(super) fn is_octets(text: &str) -> bool {
    matches!(tagged(text), Some((_, true)))
}

impl FromStr for Value {
    type Err = Advice;

    /// `kind:value`; a text without a kind is text.
    fn from_str(text: &str) -> Result<Self, Advice> {
        let Some((kind, rest)) = text.split_once(':') else { return texts(text).map(Self::Text) };
        match kind {
            "text" => texts(rest).map(Self::Text),
            "hex" => octets(rest).map(Self::Bytes),
            "ip" => addresses(rest).map(Self::Addresses),
            "names" => names(rest).map(Self::Names),
            "routes" => routes(rest).map(Self::Routes),
            "bool" => flag(rest).map(Self::Flag),
            "u8" => number(rest, 0).map(Self::U8),
            "u16" => number(rest, 0).map(Self::U16),
            "u32" => number(rest, 0).map(Self::U32),
            "i32" => signed(rest).map(Self::I32),
            _ => Err(Advice::new(format!("write {KINDS} before the value"))),
        }
    }
}

impl Display for Value {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addresses(list) => write!(formatter, "ip:{}", joined(list)),
            Self::Names(list) => write!(formatter, "names:{}", joined(list)),
            Self::Routes(list) => {
                let list: Vec<String> =
                    list.iter().map(|(to, via)| format!("{to},{via}")).collect();
                write!(formatter, "routes:{}", list.join(";"))
            }
            Self::Text(text) => write!(formatter, "text:{text}"),
            Self::Flag(flag) => write!(formatter, "bool:{flag}"),
            Self::U8(number) => write!(formatter, "u8:{number}"),
            Self::U16(number) => write!(formatter, "u16:{number}"),
            Self::U32(number) => write!(formatter, "u32:{number}"),
            Self::I32(number) => write!(formatter, "i32:{number}"),
            Self::Bytes(octets) => {
                write!(formatter, "hex:")?;
                octets.iter().try_for_each(|octet| write!(formatter, "{octet:02x}"))
            }
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

fn joined<T: ToString>(list: &[T]) -> String {
    list.iter().map(T::to_string).collect::<Vec<_>>().join(";")
}

/// The parts of a list, between `;` or `,`.
pub(super) fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split([';', ',']).map(str::trim).filter(|part| !part.is_empty())
}

fn list<T: FromStr>(text: &str, advice: &str) -> Result<Vec<T>, Advice> {
    let list: Result<Vec<T>, _> =
        parts(text).map(|part| part.parse().or(Err(Advice::new(advice)))).collect();
    list.and_then(|list| if list.is_empty() { Err(Advice::new(advice)) } else { Ok(list) })
}

/// Whether a host can have this address.
pub(super) fn is_of_host(address: &IpAddr) -> bool {
    let is_broadcast = *address == IpAddr::V4(Ipv4Addr::BROADCAST);
    !address.is_unspecified() && !address.is_multicast() && !is_broadcast
}

/// A MAC address that one interface can have.
pub(super) fn mac_of_one(text: &str) -> Result<MacAddr, String> {
    let mac: Option<MacAddr> = text.parse().ok();
    let is_one = |mac: &MacAddr| mac.octets()[0] & 1 == 0 && mac.octets() != [0; 6];
    mac.filter(is_one).ok_or_else(|| "write the MAC address of one interface".to_owned())
}

pub(super) fn addresses(text: &str) -> Result<Vec<IpAddr>, Advice> {
    list(text, "write addresses with ; between")
}

pub(super) fn routes(text: &str) -> Result<Vec<(Ipv4Network, Ipv4Addr)>, Advice> {
    let advice = || {
        Advice::new(
            "write pairs of network and next hop in braces, such as \
             {10.9.0.0/16,10.0.0.2, 0.0.0.0/0,10.0.0.1}",
        )
    };
    let parts: Vec<&str> = parts(text).collect();
    if parts.is_empty() || !parts.len().is_multiple_of(2) {
        return Err(advice());
    }
    let route = |pair: &[&str]| Some((pair[0].parse().ok()?, pair[1].parse().ok()?));
    parts.chunks_exact(2).map(|pair| route(pair).ok_or_else(advice)).collect()
}

/// Domain names that labels can hold (RFC 1035 §2.3.4).
pub(super) fn names(text: &str) -> Result<Vec<String>, Advice> {
    let advice = "write domain names such as example.com with ; between: \
                  labels of 1 to 63 characters, 253 in all";
    let names: Vec<String> = list(text, advice)?;
    if names.iter().all(|one| is_name(one)) { Ok(names) } else { Err(Advice::new(advice)) }
}

/// Whether labels can hold this domain name (RFC 1035 §2.3.4); a dot may end it.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|octet| octet.is_ascii_graphic() && octet != b'"')
    };
    name.len() <= 253 && name.split('.').all(label)
}

pub(super) fn texts(text: &str) -> Result<String, Advice> {
    if text.is_empty() {
        return Err(Advice::new("write a text, or leave the option out"));
    }
    if text.chars().any(char::is_control) {
        return Err(Advice::new("write a text without control characters, or hex: and octets"));
    }
    Ok(text.to_owned())
}

pub(super) fn flag(text: &str) -> Result<bool, Advice> {
    match text.trim() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(Advice::new("write true or false")),
    }
}

/// A number of at least `least`.
pub(super) fn number<T>(text: &str, least: T) -> Result<T, Advice>
where
    T: FromStr + PartialOrd + Bounds,
{
    let number = text.trim().parse().ok().filter(|number| *number >= least);
    number.ok_or_else(|| Advice::new(format!("write a number from {least} to {}", T::MOST)))
}

pub(super) fn signed(text: &str) -> Result<i32, Advice> {
    let number = text.trim().parse();
    number.map_err(|_| Advice::new("write a number of seconds, such as 3600 or -18000"))
}

/// The most that a type can hold.
pub(super) trait Bounds: Display + Sized {
    const MOST: Self;
}

impl Bounds for u8 {
    const MOST: Self = Self::MAX;
}

impl Bounds for u16 {
    const MOST: Self = Self::MAX;
}

impl Bounds for u32 {
    const MOST: Self = Self::MAX;
}

/// Octets in hexadecimal, with or without `:`, `-` or spaces between.
pub(super) fn octets(text: &str) -> Result<Vec<u8>, Advice> {
    let advice = || Advice::new("write octets in hexadecimal, such as 0104c0a80001");
    let text = text.strip_prefix("0x").unwrap_or(text);
    let digits: Vec<u8> =
        text.bytes().filter(|octet| !matches!(octet, b':' | b'-' | b' ')).collect();
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return Err(advice());
    }
    let digit =
        |octet: u8| char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let octet = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(pair[1])?);
    digits.chunks_exact(2).map(|pair| octet(pair).ok_or_else(advice)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_back_from_its_text() {
        for text in [
            "ip:10.0.0.5;fd00::5",
            "names:example.com;eng.example.com",
            "routes:10.9.0.0/16,10.0.0.2;0.0.0.0/0,10.0.0.1",
            "text:http://boot.example/a,b=c;d",
            "bool:true",
            "u8:64",
            "u16:1400",
            "u32:4294967295",
            "i32:-18000",
            "hex:0104c0a80001",
        ] {
            let value: Value = text.parse().unwrap();
            assert_eq!(value.to_string(), text);
            let json = format!("{text:?}");
            assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), value);
            assert_eq!(serde_json::to_string(&value).unwrap(), json);
        }
    }

    #[test]
    fn what_is_no_value_says_what_to_write() {
        for (text, advice) in [
            ("", "write a text"),
            ("text:a\nb", "control characters"),
            ("u8:256", "from 0 to 255"),
            ("u16:-1", "from 0 to 65535"),
            ("i32:noon", "number of seconds"),
            ("hex:abc", "hexadecimal"),
            ("hex:", "hexadecimal"),
            ("hex:zz", "hexadecimal"),
            ("ip:10.0.0", "addresses with ;"),
            ("ip:", "addresses with ;"),
            ("names:a..b", "domain names"),
            ("routes:10.0.0.0/8", "pairs of network"),
            ("bool:yes", "true or false"),
            ("ipv4:10.0.0.1", "write text:, hex:"),
        ] {
            let error = text.parse::<Value>().unwrap_err().to_string();
            assert!(error.contains(advice), "{text:?}: {error}");
        }
    }
}
