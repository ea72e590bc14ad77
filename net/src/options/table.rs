//! The options that have a name, each with its number, its kind and an example.
//!
//! `docs/dhcp.md` shows this table; a test keeps the two equal.

use std::net::IpAddr;

use super::value::{self, Advice};
use super::{Clients, Value, dnr};
use crate::MacAddr;

/// One name.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// The name, OVN's where OVN has one.
    pub name: &'static str,
    /// The option that it becomes, if it is one.
    pub code: Option<u16>,
    /// What its value is.
    pub kind: Kind,
    /// A value.
    pub example: &'static str,
    /// The architectures of the boot ROMs that it is for; all, if it names none.
    pub arch: &'static [u16],
}

/// What a value is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// One IPv4 address.
    Ipv4,
    /// IPv4 addresses, `;` between.
    Ipv4List,
    /// Pairs of IPv4 addresses.
    Ipv4Pairs,
    /// IPv4 addresses, or names.
    Ipv4ListOrNames,
    /// IPv6 addresses, `;` between.
    Ipv6List,
    /// IPv6 addresses, or names.
    Ipv6ListOrNames,
    /// A MAC address.
    Mac,
    /// Pairs of network and next hop.
    Routes,
    /// Text.
    Text,
    /// A URI (RFC 3986) with its scheme.
    Uri,
    /// One domain name.
    Name,
    /// Domain names, `;` between.
    Names,
    /// `true` or `false`.
    Flag,
    /// 0 to 255.
    U8,
    /// 0 to 65,535, and not below this.
    U16(u16),
    /// 0 to 4,294,967,295, and not below this.
    U32(u32),
    /// 0, or seconds that are not below this.
    ZeroOr(u32),
    /// Seconds, negative ones too.
    I32,
    /// Octets in hexadecimal.
    Hex,
    /// Names or numbers of options, `;` between.
    Options,
    /// Enterprise number and octets in hexadecimal, of DHCPv4 (RFC 3925) with a length between.
    Vendors4,
    /// The same of DHCPv6 (RFC 9915 §21.17): one.
    Vendor6,
    /// Encrypted resolvers (RFC 9463).
    Resolvers4,
    /// The same of DHCPv6: one.
    Resolver6,
    /// Texts with their lengths (RFC 5970 §3.2), `;` between.
    Parameters,
}

impl Kind {
    /// What a table calls it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ipv4 => "address",
            Self::Ipv4Pairs => "pairs of addresses",
            Self::Ipv4List | Self::Ipv6List => "addresses",
            Self::Ipv4ListOrNames | Self::Ipv6ListOrNames => "addresses or names",
            Self::Mac => "MAC address",
            Self::Routes => "pairs of network and next hop",
            Self::Text => "text",
            Self::Uri => "URI",
            Self::Name => "name",
            Self::Names => "names",
            Self::Flag => "true or false",
            Self::U8 | Self::U16(_) => "number",
            Self::U32(_) | Self::ZeroOr(_) | Self::I32 => "seconds",
            Self::Hex => "octets in hexadecimal",
            Self::Options => "options",
            Self::Vendors4 | Self::Vendor6 => "enterprise:octets",
            Self::Resolvers4 => "resolvers",
            Self::Resolver6 => "resolver",
            Self::Parameters => "texts",
        }
    }

    /// The value of an option of this kind that is written by its number: as by its name,
    /// or with a kind before it. Octets go as they are.
    pub(super) fn read_tagged(self, text: &str) -> Result<Value, Advice> {
        match value::tagged(text) {
            Some((octets, true)) => value::octets(octets).map(Value::Bytes),
            Some((rest, false)) => self.read(rest),
            None => self.read(text),
        }
    }

    /// The value that a text of this kind stands for.
    pub(super) fn read(self, text: &str) -> Result<Value, Advice> {
        match self {
            Self::Ipv4 => {
                let advice = || Advice::new("write one IPv4 address such as 10.0.0.1");
                let address: IpAddr = text.parse().map_err(|_| advice())?;
                if address.is_ipv6() { Err(advice()) } else { Ok(Value::Addresses(vec![address])) }
            }
            Self::Ipv4List => ipv4_list(text).map(Value::Addresses),
            Self::Ipv4Pairs => {
                let advice = "write pairs of IPv4 addresses in braces, such as {10.9.0.5,10.0.0.2}";
                let list = ipv4_list(text).map_err(|_| Advice::new(advice))?;
                if list.len().is_multiple_of(2) {
                    Ok(Value::Addresses(list))
                } else {
                    Err(Advice::new(advice))
                }
            }
            Self::Ipv4ListOrNames => ipv4_list(text)
                .map(Value::Addresses)
                .or_else(|_| value::names(text).map(Value::Names))
                .map_err(|_| Advice::new("write IPv4 addresses, or domain names, with ; between")),
            Self::Ipv6List => ipv6_list(text).map(Value::Addresses),
            Self::Ipv6ListOrNames => ipv6_list(text)
                .map(Value::Addresses)
                .or_else(|_| value::names(text).map(Value::Names))
                .map_err(|_| Advice::new("write IPv6 addresses, or domain names, with ; between")),
            Self::Mac => {
                let mac = text.parse::<MacAddr>().map(|mac| Value::Text(mac.to_string()));
                mac.map_err(|_| Advice::new("write a MAC address such as 02:00:00:00:00:01"))
            }
            Self::Routes => value::routes(text).map(Value::Routes),
            Self::Text => value::texts(text).map(Value::Text),
            Self::Uri => {
                let advice = "write a URI such as https://portal.example/api";
                let uri = Some(text).filter(|text| is_uri(text));
                uri.map(|uri| Value::Text(uri.to_owned())).ok_or_else(|| Advice::new(advice))
            }
            Self::Name => {
                let name = Some(text).filter(|text| value::is_name(text));
                let advice = "write one domain name such as example.com";
                name.map(|name| Value::Text(name.to_owned())).ok_or_else(|| Advice::new(advice))
            }
            Self::Names => value::names(text).map(Value::Names),
            Self::Flag => value::flag(text).map(Value::Flag),
            Self::U8 => value::number(text, 0).map(Value::U8),
            Self::U16(least) => value::number(text, least).map(Value::U16),
            Self::U32(least) => value::number(text, least).map(Value::U32),
            Self::ZeroOr(least) => {
                let seconds = value::number(text, 0).ok().filter(|one| *one == 0 || *one >= least);
                let advice = || Advice::new(format!("write 0, or at least {least} seconds"));
                seconds.map(Value::U32).ok_or_else(advice)
            }
            Self::I32 => value::signed(text).map(Value::I32),
            Self::Hex => value::octets(text).map(Value::Bytes),
            Self::Options => value::texts(text).map(Value::Text),
            Self::Vendors4 => {
                let all: Result<Vec<_>, _> = value::parts(text).map(vendor_v4).collect();
                let all = all?.concat();
                if all.is_empty() { Err(vendor_advice()) } else { Ok(Value::Bytes(all)) }
            }
            Self::Vendor6 => vendor(text).map(|(number, octets)| {
                Value::Bytes([&number.to_be_bytes()[..], &octets].concat())
            }),
            Self::Resolvers4 => dnr::v4(text).map(Value::Bytes),
            Self::Resolver6 => dnr::v6(text).map(Value::Bytes),
            Self::Parameters => parameters(text).map(Value::Bytes),
        }
    }
}

/// `3561:0104c0a80001`.
fn vendor(text: &str) -> Result<(u32, Vec<u8>), Advice> {
    let (number, octets) = text.split_once(':').ok_or_else(vendor_advice)?;
    let number = number.trim().parse().map_err(|_| vendor_advice())?;
    Ok((number, value::octets(octets).map_err(|_| vendor_advice())?))
}

fn vendor_advice() -> Advice {
    Advice::new("write an enterprise number and octets, such as 3561:0104c0a80001")
}

/// Number, length, octets (RFC 3925 §3, §4).
fn vendor_v4(text: &str) -> Result<Vec<u8>, Advice> {
    let (number, octets) = vendor(text)?;
    let length = u8::try_from(octets.len());
    let length = length.map_err(|_| Advice::new("write at most 255 octets for an enterprise"))?;
    Ok([&number.to_be_bytes()[..], &[length], &octets].concat())
}

/// Each with its length in two octets (RFC 5970 §3.2).
fn parameters(text: &str) -> Result<Vec<u8>, Advice> {
    let mut octets = Vec::new();
    for one in text.split(';').map(str::trim).filter(|one| !one.is_empty()) {
        let one = value::texts(one)?;
        let length = u16::try_from(one.len()).map_err(|_| Advice::new("write shorter texts"))?;
        octets.extend(length.to_be_bytes());
        octets.extend_from_slice(one.as_bytes());
    }
    if octets.is_empty() { Err(Advice::new("write texts with ; between")) } else { Ok(octets) }
}

/// A URI that names a host, or a name of RFC 8141 such as RFC 8910's
/// `urn:ietf:params:capport:unrestricted`. Of other schemes without `//` none is meant here,
/// and `portal.example:8080/api` would be one.
fn is_uri(text: &str) -> bool {
    let scheme = |scheme: &str| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"+-.".contains(&octet))
    };
    let rest = match text.split_once("://") {
        Some((first, rest)) if scheme(first) => Some(rest),
        _ => text.strip_prefix("urn:"),
    };
    rest.is_some_and(|rest| !rest.is_empty()) && text.bytes().all(|octet| octet.is_ascii_graphic())
}

fn ipv4_list(text: &str) -> Result<Vec<IpAddr>, Advice> {
    let advice = "write IPv4 addresses with ; between, such as 10.0.0.53;10.0.0.54";
    match value::addresses(text) {
        Ok(list) if list.iter().all(IpAddr::is_ipv4) => Ok(list),
        _ => Err(Advice::new(advice)),
    }
}

fn ipv6_list(text: &str) -> Result<Vec<IpAddr>, Advice> {
    let advice = "write IPv6 addresses with ; between, such as fd00::53;fd00::54";
    match value::addresses(text) {
        Ok(list) if list.iter().all(IpAddr::is_ipv6) => Ok(list),
        _ => Err(Advice::new(advice)),
    }
}

impl Definition {
    pub(super) fn clients(&self) -> Clients {
        Clients { arch: self.arch.to_vec(), ipxe: None }
    }
}

const fn option(name: &'static str, code: u16, kind: Kind, example: &'static str) -> Definition {
    Definition { name, code: Some(code), kind, example, arch: &[] }
}

const fn boot6(name: &'static str, arch: &'static [u16], example: &'static str) -> Definition {
    Definition { name, code: Some(59), kind: Kind::Uri, example, arch }
}

const fn boot(name: &'static str, arch: &'static [u16], example: &'static str) -> Definition {
    Definition { name, code: Some(67), kind: Kind::Text, example, arch }
}

const fn setting(name: &'static str, kind: Kind, example: &'static str) -> Definition {
    Definition { name, code: None, kind, example, arch: &[] }
}

/// The least lease, T1 and T2: guests must not renew all the time.
const LEAST_LEASE: u32 = 10;

/// DHCPv4, by number (RFC 2132 where nothing else is said).
pub const V4_TABLE: &[Definition] = &[
    option("netmask", 1, Kind::Ipv4, "255.255.255.0"),
    option("time_offset", 2, Kind::I32, "-18000"),
    option("router", 3, Kind::Ipv4, "10.0.0.1"),
    option("time_server", 4, Kind::Ipv4List, "10.0.0.2"),
    option("dns_server", 6, Kind::Ipv4List, "10.0.0.53;10.0.0.54"),
    option("log_server", 7, Kind::Ipv4List, "10.0.0.2"),
    option("lpr_server", 9, Kind::Ipv4List, "10.0.0.2"),
    option("hostname", 12, Kind::Name, "web"),
    option("domain_name", 15, Kind::Name, "example.com"),
    option("swap_server", 16, Kind::Ipv4, "10.0.0.2"),
    option("root_path", 17, Kind::Text, "10.0.0.2:/srv/root"),
    option("ip_forward_enable", 19, Kind::Flag, "false"),
    option("policy_filter", 21, Kind::Ipv4Pairs, "{10.9.0.0,255.255.0.0}"),
    option("default_ttl", 23, Kind::U8, "64"),
    option("mtu", 26, Kind::U16(68), "1400"),
    option("broadcast_address", 28, Kind::Ipv4, "10.0.0.255"),
    option("router_discovery", 31, Kind::Flag, "false"),
    option("router_solicitation", 32, Kind::Ipv4, "10.0.0.1"),
    option("static_route", 33, Kind::Ipv4Pairs, "{10.9.0.5,10.0.0.2}"),
    option("arp_cache_timeout", 35, Kind::U32(0), "60"),
    option("ethernet_encap", 36, Kind::Flag, "false"),
    option("tcp_ttl", 37, Kind::U8, "64"),
    option("tcp_keepalive_interval", 38, Kind::U32(0), "75"),
    option("nis_domain", 40, Kind::Text, "example"),
    option("nis_server", 41, Kind::Ipv4List, "10.0.0.2"),
    option("ntp_server", 42, Kind::Ipv4List, "10.0.0.2;10.0.0.3"),
    option("vendor_options", 43, Kind::Hex, "0104c0a80001"),
    option("netbios_name_server", 44, Kind::Ipv4List, "10.0.0.2"),
    option("netbios_node_type", 46, Kind::U8, "8"),
    option("lease_time", 51, Kind::U32(LEAST_LEASE), "3600"),
    option("server_id", 54, Kind::Ipv4, "169.254.0.254"),
    option("T1", 58, Kind::U32(LEAST_LEASE / 2), "1800"),
    option("T2", 59, Kind::U32(LEAST_LEASE / 2), "3150"),
    option("vendor_class", 60, Kind::Text, "PXEClient"),
    option("tftp_server", 66, Kind::Text, "boot.example.com"),
    option("bootfile_name", 67, Kind::Text, "http://boot.example.com/menu.ipxe"),
    option("bootfile_name_alt", 67, Kind::Text, "undionly.kpxe"),
    boot("bootfile_name_bios", &[0], "undionly.kpxe"),
    boot("bootfile_name_efi32", &[6], "i386-efi/ipxe.efi"),
    boot("bootfile_name_efi64", &[7, 9], "x86_64-efi/ipxe.efi"),
    boot("bootfile_name_efi_arm64", &[11], "arm64-efi/ipxe.efi"),
    boot("bootfile_name_http_efi64", &[16], "http://boot.example.com/x64.efi"),
    boot("bootfile_name_http_arm64", &[19], "http://boot.example.com/arm64.efi"),
    option("posix_timezone", 100, Kind::Text, "\"CET-1CEST,M3.5.0,M10.5.0/3\""),
    option("tzdb_timezone", 101, Kind::Text, "Europe/Berlin"),
    option("v6only_preferred", 108, Kind::ZeroOr(300), "1800"),
    option("captive_portal", 114, Kind::Uri, "https://portal.example/api"),
    option("domain_search_list", 119, Kind::Names, "example.com;eng.example.com"),
    option("sip_server", 120, Kind::Ipv4ListOrNames, "sip.example.com"),
    option("classless_static_route", 121, Kind::Routes, "{10.9.0.0/16,10.0.0.2}"),
    option("vendor_identifying_class", 124, Kind::Vendors4, "3561:03616263"),
    option("vendor_identifying_options", 125, Kind::Vendors4, "3561:0104c0a80001"),
    option("tftp_server_address", 150, Kind::Ipv4List, "10.0.0.2"),
    option("encrypted_dns", 162, Kind::Resolvers4, "1 dns.example.com 10.0.0.53 alpn=dot"),
    option("config_file", 209, Kind::Text, "pxelinux.cfg/default"),
    option("path_prefix", 210, Kind::Text, "/boot/"),
    option("ms_classless_static_route", 249, Kind::Routes, "{10.9.0.0/16,10.0.0.2}"),
    option("wpad", 252, Kind::Uri, "http://wpad.example.com/wpad.dat"),
    setting("next_server", Kind::Ipv4, "10.0.0.2"),
    setting("server_mac", Kind::Mac, "00:00:00:2e:2f:b8"),
    setting("always_send", Kind::Options, "ntp_server;66"),
    setting("always_broadcast", Kind::Flag, "true"),
];

/// DHCPv6, by number.
pub const V6_TABLE: &[Definition] = &[
    option("server_id", 2, Kind::Mac, "02:00:00:00:00:01"),
    option("vendor_options", 17, Kind::Vendor6, "3561:00010004c0a80001"),
    option("sip_name", 21, Kind::Names, "sip.example.com"),
    option("sip_server", 22, Kind::Ipv6List, "fd00::2"),
    option("dns_server", 23, Kind::Ipv6List, "fd00::53;fd00::54"),
    option("domain_search", 24, Kind::Names, "example.com;eng.example.com"),
    option("sntp_server", 31, Kind::Ipv6List, "fd00::2"),
    option("information_refresh_time", 32, Kind::U32(600), "3600"),
    option("fqdn", 39, Kind::Name, "web.example.com"),
    option("posix_timezone", 41, Kind::Text, "\"CET-1CEST,M3.5.0,M10.5.0/3\""),
    option("tzdb_timezone", 42, Kind::Text, "Europe/Berlin"),
    option("ntp_server", 56, Kind::Ipv6ListOrNames, "fd00::2;fd00::3"),
    option("bootfile_name", 59, Kind::Uri, "http://boot.example.com/menu.ipxe"),
    option("bootfile_name_alt", 59, Kind::Uri, "tftp://boot.example.com/ipxe.efi"),
    boot6("bootfile_name_efi32", &[6], "tftp://boot.example.com/ia32.efi"),
    boot6("bootfile_name_efi64", &[7, 9], "tftp://boot.example.com/x64.efi"),
    boot6("bootfile_name_efi_arm64", &[11], "tftp://boot.example.com/arm64.efi"),
    boot6("bootfile_name_http_efi64", &[16], "http://boot.example.com/x64.efi"),
    boot6("bootfile_name_http_arm64", &[19], "http://boot.example.com/arm64.efi"),
    option("bootfile_param", 60, Kind::Parameters, "console=ttyS0;quiet"),
    option("captive_portal", 103, Kind::Uri, "https://portal.example/api"),
    option("encrypted_dns", 144, Kind::Resolver6, "1 dns.example.com fd00::53 alpn=dot"),
    setting("lease_time", Kind::U32(LEAST_LEASE), "3600"),
    setting("preferred_lifetime", Kind::U32(LEAST_LEASE), "2250"),
    setting("dhcpv6_stateless", Kind::Flag, "true"),
];

/// A table as the guide shows it.
#[cfg(test)]
pub(super) fn shown(table: &[Definition]) -> String {
    let rows = table.iter().map(|one| {
        let code = one.code.map_or_else(|| "–".to_owned(), |code| code.to_string());
        format!("| `{}` | {code} | {} | `{}` |\n", one.name, one.kind.label(), one.example)
    });
    let head = "| name | option | value | example |\n|---|---|---|---|\n";
    std::iter::once(head.to_owned()).chain(rows).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_with_a_form_of_their_own_have_it() {
        for (kind, text, octets) in [
            (Kind::Vendors4, "9:0a0b;1:ff", &[0, 0, 0, 9, 2, 10, 11, 0, 0, 0, 1, 1, 255][..]),
            (Kind::Vendor6, "9:0a0b", &[0, 0, 0, 9, 10, 11]),
            (Kind::Parameters, "ab;c", &[0, 2, b'a', b'b', 0, 1, b'c']),
        ] {
            assert_eq!(kind.read(text), Ok(Value::Bytes(octets.to_vec())));
        }
        for text in ["", ",", "0a0b", "x:0a", "9:0"] {
            for kind in [Kind::Vendors4, Kind::Vendor6] {
                let error = kind.read(text).unwrap_err().to_string();
                assert!(error.contains("enterprise number"), "{text:?}: {error}");
            }
        }
        Kind::Vendors4.read(&format!("9:{}", "00".repeat(256))).unwrap_err();
    }

    #[test]
    fn the_guide_shows_the_tables_as_they_are() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/dhcp.md");
        let guide = std::fs::read_to_string(path).unwrap();
        for shown in [shown(V4_TABLE), shown(V6_TABLE), super::super::ra::shown()] {
            assert!(guide.contains(&shown), "docs/dhcp.md should have this table:\n{shown}");
        }
    }
}
