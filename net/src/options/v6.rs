//! DHCPv6 options: what a text says, and what of it cannot be.

use std::net::{IpAddr, Ipv6Addr};

use super::dnr::{self, Resolver};
use super::numbered::Numbered;
use super::table::V6_TABLE;
use super::text::{self, Pair};
use super::v4::LEASE;
use super::value::{self, Value};
use super::{Coded, Fault};
use crate::MacAddr;

/// What options say; whatever is left out follows from the subnet.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct V6 {
    /// What the server's DUID is made of; derived from the network if nothing is said.
    pub server: Option<MacAddr>,
    /// The valid lifetime, seconds.
    pub lease: Option<u32>,
    /// The preferred lifetime, seconds.
    pub preferred: Option<u32>,
    /// When to ask again for options without an address, seconds.
    pub refresh: Option<u32>,
    /// No addresses are given.
    pub stateless: bool,
    /// Name servers, best first.
    pub dns: Vec<Ipv6Addr>,
    /// The domain search list.
    pub search: Vec<String>,
    /// The guest's full name.
    pub fqdn: Option<String>,
    /// The encrypted resolver, as advertisements have it; it is among the others, too.
    pub encrypted_dns: Option<Resolver>,
    /// All others, those for fewer clients first.
    pub options: Vec<Coded>,
}

/// The option of the boot file's URL (RFC 5970 §3.1).
const BOOT_FILE: u16 = 59;

impl V6 {
    /// What `text` says, and which of its pairs cannot be in force; the others are.
    #[must_use]
    pub fn parse(text: &str) -> (Self, Vec<Fault>) {
        let (pairs, mut faults) = text::pairs(text);
        let (mut options, mut numbered) = (Self::default(), Numbered::default());
        for pair in &pairs {
            if let Err(advice) = options.take(&mut numbered, pair) {
                faults.push(pair.fault(advice));
            }
        }
        options.options = numbered.finish(BOOT_FILE);
        let lease = options.lease.unwrap_or(LEASE);
        let named = pairs.iter().find(|pair| pair.key == "preferred_lifetime");
        if let (Some(pair), Some(preferred)) = (named, options.preferred)
            && preferred > lease
        {
            options.preferred = None;
            let advice = format!("write no more than lease_time, which is {lease}");
            faults.push(pair.fault(advice));
        }
        (options, faults)
    }

    fn take(&mut self, numbered: &mut Numbered, pair: &Pair) -> Result<(), String> {
        let Some((name, value)) = numbered.read(pair, V6_TABLE, code)? else { return Ok(()) };
        match (name.name, value) {
            ("server_id", Value::Text(mac)) => self.server = Some(value::mac_of_one(&mac)?),
            ("lease_time", Value::U32(seconds)) => self.lease = Some(seconds),
            ("preferred_lifetime", Value::U32(seconds)) => self.preferred = Some(seconds),
            ("information_refresh_time", Value::U32(seconds)) => self.refresh = Some(seconds),
            ("dhcpv6_stateless", Value::Flag(stateless)) => self.stateless = stateless,
            ("dns_server", Value::Addresses(list)) => self.dns = v6_only(&list),
            ("domain_search", Value::Names(names)) => self.search = names,
            ("fqdn", Value::Text(name)) => self.fqdn = Some(name),
            ("encrypted_dns", value) => {
                // What is written as octets is for DHCPv6 alone.
                self.encrypted_dns = dnr::advertised(&pair.value).ok();
                return numbered.take(name, value);
            }
            (_, value) => return numbered.take(name, value),
        }
        Ok(())
    }
}

/// Whether a DHCPv6 option is said by the server itself, of itself, the addresses or the
/// client, so that nobody can choose its value by its number.
#[must_use]
pub const fn is_servers_own_v6(code: u16) -> bool {
    matches!(code, 0..=16 | 18..=20 | 25 | 26 | 32 | 39 | 82 | 83)
}

fn code(text: &str) -> Result<u16, String> {
    let code: u16 = text.parse().or(Err("write option_ and a number from 17 to 65535"))?;
    match code {
        2 => Err("write server_id instead".to_owned()),
        32 => Err("write information_refresh_time instead".to_owned()),
        39 => Err("write fqdn instead".to_owned()),
        _ if is_servers_own_v6(code) => {
            Err("the server says this option of itself: leave it out".to_owned())
        }
        _ => Ok(code),
    }
}

pub(super) fn v6_only(list: &[IpAddr]) -> Vec<Ipv6Addr> {
    let v6 = list.iter().filter_map(|address| match address {
        IpAddr::V6(address) => Some(*address),
        IpAddr::V4(_) => None,
    });
    v6.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_table_takes_its_own_example() {
        for one in V6_TABLE {
            let (_, faults) = V6::parse(&format!("{}={}", one.name, one.example));
            assert!(faults.is_empty(), "{faults:?}");
        }
        let mut names: Vec<&str> = V6_TABLE.iter().map(|one| one.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), V6_TABLE.len());
        assert!(V6_TABLE.iter().filter_map(|one| one.code).is_sorted());
    }

    #[test]
    fn what_is_typed_goes_to_its_field_and_the_rest_by_number() {
        let (options, faults) = V6::parse(
            "dns_server=fd00::53;fd00::54,domain_search=example.com,lease_time=600,\
             preferred_lifetime=300,dhcpv6_stateless=true,server_id=02:00:00:00:00:01,\
             information_refresh_time=700,ntp_server=ntp.example,option_65001=hex:01,\
             fqdn=web.example.com,option_17=hex:0000013700,\
             encrypted_dns=1 dns.example fd00::53 alpn=dot",
        );
        assert!(faults.is_empty(), "{faults:?}");
        assert_eq!((options.dns.len(), options.search.len(), options.stateless), (2, 1, true));
        assert_eq!((options.lease, options.preferred), (Some(600), Some(300)));
        assert_eq!((options.refresh, options.server.is_some()), (Some(700), true));
        let list: Vec<String> =
            options.options.iter().map(|one| format!("{} {}", one.code, one.value)).collect();
        assert_eq!(list[..3], ["56 names:ntp.example", "65001 hex:01", "17 hex:0000013700"]);
        assert!(list[3].starts_with("144 hex:0001000d"), "{list:?}");
        let resolver = options.encrypted_dns.unwrap().to_string();
        assert_eq!(resolver, "1 dns.example fd00::53 alpn=dot");
        assert_eq!(options.fqdn.as_deref(), Some("web.example.com"));
    }

    #[test]
    fn what_cannot_be_is_named_with_what_to_write_and_the_rest_counts() {
        for (pair, advice) in [
            ("dns_server=10.0.0.53", "write IPv6 addresses with ;"),
            ("server_id=fd00::1", "write a MAC address"),
            ("dns_servers=fd00::53", "write dns_server, or option_<number>"),
            ("bootfile_name=x.efi", "write a URI"),
            ("option_3=x", "leave it out"),
            ("option_2=x", "write server_id instead"),
            ("option_70000=x", "from 17 to 65535"),
            ("option_39=x", "write fqdn instead"),
            ("option_23=text:x", "write IPv6 addresses with ;"),
            ("preferred_lifetime=9000", "no more than lease_time, which is 3600"),
            ("information_refresh_time=60", "from 600 to"),
        ] {
            let (options, faults) = V6::parse(&format!("{pair},sntp_server=fd00::2"));
            assert_eq!((faults.len(), options.options.len()), (1, 1), "{faults:?}");
            let told = faults[0].to_string();
            assert!(told.starts_with(&format!("{pair:?}: ")) && told.contains(advice), "{told}");
        }
    }
}
