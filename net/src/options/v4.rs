//! DHCPv4 options: what a text says, and what of it cannot be.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::Ipv4Network;

use super::numbered::{Numbered, unknown};
use super::table::V4_TABLE;
use super::text::{self, Pair};
use super::value::{self, Value};
use super::{Coded, Fault};
use crate::MacAddr;

/// What options say; whatever is left out follows from the subnet.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct V4 {
    /// The server identifier.
    pub server: Option<Ipv4Addr>,
    /// The MAC address that answers come from; the router's if nothing is said.
    pub server_mac: Option<MacAddr>,
    /// The default router.
    pub router: Option<Ipv4Addr>,
    /// Where the boot file is.
    pub next_server: Option<Ipv4Addr>,
    /// The lease, seconds.
    pub lease: Option<u32>,
    /// When to renew, seconds.
    pub t1: Option<u32>,
    /// When to rebind, seconds.
    pub t2: Option<u32>,
    /// The guest's name.
    pub hostname: Option<String>,
    /// Its domain.
    pub domain: Option<String>,
    /// Name servers, best first.
    pub dns: Vec<Ipv4Addr>,
    /// The domain search list.
    pub search: Vec<String>,
    /// The interface's MTU, bytes.
    pub mtu: Option<u16>,
    /// Classless routes.
    pub routes: Vec<(Ipv4Network, Ipv4Addr)>,
    /// Answers to a guest without an address are always broadcast.
    pub broadcast: bool,
    /// Options that are sent to those who do not ask for them, too.
    pub always: Vec<u8>,
    /// All others, those for fewer clients first.
    pub options: Vec<Coded>,
}

/// The boot file's option.
pub(super) const BOOT_FILE: u16 = 67;
/// The option of the boot server's name.
pub(super) const BOOT_SERVER: u16 = 66;
/// The lease where nobody names one, in seconds; Kube-OVN's.
pub const LEASE: u32 = 3600;

/// Whether a DHCPv4 option is said by the server itself, of itself, the lease or the
/// client, so that nobody can choose its value by its number.
#[must_use]
pub const fn is_servers_own(code: u8) -> bool {
    matches!(code, 0 | 50..=55 | 57..=59 | 61 | 80..=82 | 255)
}

impl V4 {
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
        faults.extend(options.check_times(&pairs));
        options.options = numbered.finish(BOOT_FILE);
        // A boot server by its address is where the boot file is, if nothing else is said:
        // boot ROMs know no names.
        let named = options.options.iter().find(|option| option.code == BOOT_SERVER);
        if let (None, Some(Coded { value: Value::Text(text), .. })) = (options.next_server, named) {
            options.next_server = text.parse().ok();
        }
        (options, faults)
    }

    fn take(&mut self, numbered: &mut Numbered, pair: &Pair) -> Result<(), String> {
        let read = numbered.read(pair, V4_TABLE, |number| code(number).map(u16::from))?;
        let Some((name, value)) = read else { return Ok(()) };
        match (name.name, value) {
            ("server_id", value) => self.server = address(&of_hosts(value)?),
            ("server_mac", Value::Text(mac)) => self.server_mac = Some(value::mac_of_one(&mac)?),
            ("router", value) => self.router = address(&of_hosts(value)?),
            ("next_server", value) => self.next_server = address(&of_hosts(value)?),
            ("netmask", value) if !is_mask(&value) => {
                return Err("write a mask such as 255.255.255.0".to_owned());
            }
            ("lease_time", Value::U32(seconds)) => self.lease = Some(seconds),
            ("T1", Value::U32(seconds)) => self.t1 = Some(seconds),
            ("T2", Value::U32(seconds)) => self.t2 = Some(seconds),
            ("hostname", Value::Text(name)) => self.hostname = Some(name),
            ("domain_name", Value::Text(name)) => self.domain = Some(name),
            ("dns_server", value) => {
                if let Value::Addresses(list) = of_hosts(value)? {
                    self.dns = v4_only(&list);
                }
            }
            ("domain_search_list", Value::Names(names)) => self.search = names,
            ("mtu", Value::U16(bytes)) => self.mtu = Some(bytes),
            ("classless_static_route", Value::Routes(routes)) => self.routes = routes,
            ("always_broadcast", Value::Flag(always)) => self.broadcast = always,
            ("always_send", Value::Text(list)) => self.always = codes(&list)?,
            (_, value) => return numbered.take(name, value),
        }
        Ok(())
    }

    /// T1 < T2 < lease (RFC 2131 §4.4.5); where they are not, both follow from the lease.
    fn check_times(&mut self, pairs: &[Pair]) -> Option<Fault> {
        let pair = pairs.iter().find(|pair| ["T1", "T2"].contains(&pair.key.as_str()))?;
        let lease = self.lease.unwrap_or(LEASE);
        let renew = self.t1.unwrap_or(lease / 2);
        let rebind = self.t2.unwrap_or(lease - lease / 8);
        if renew < rebind && rebind < lease {
            return None;
        }
        (self.t1, self.t2) = (None, None);
        let advice = format!(
            "T1 {renew} must be less than T2 {rebind}, and T2 less than lease_time {lease}: \
             leave both out for a half and seven eighths of it"
        );
        Some(pair.fault(advice))
    }
}

/// The number of an option that may be chosen.
fn code(text: &str) -> Result<u8, String> {
    let code: u8 = text.parse().or(Err("write option_ and a number from 1 to 254"))?;
    match code {
        51 => Err("write lease_time instead".to_owned()),
        54 => Err("write server_id instead".to_owned()),
        58 => Err("write T1 instead".to_owned()),
        59 => Err("write T2 instead".to_owned()),
        _ if is_servers_own(code) => {
            Err("the server says this option of itself: leave it out".to_owned())
        }
        _ => Ok(code),
    }
}

/// Names or numbers of options.
fn codes(list: &str) -> Result<Vec<u8>, String> {
    let one = |part: &str| {
        let named = V4_TABLE.iter().find(|one| one.name == part).and_then(|one| one.code);
        match named {
            Some(named) => u8::try_from(named).map_err(|_| unknown(part, V4_TABLE)),
            None if part.bytes().all(|octet| octet.is_ascii_digit()) => code(part),
            None => Err(unknown(part, V4_TABLE)),
        }
    };
    value::parts(list).map(one).collect()
}

/// This value, if each of its addresses can be a host's.
fn of_hosts(value: Value) -> Result<Value, String> {
    match &value {
        Value::Addresses(list) if !list.iter().all(value::is_of_host) => {
            Err("write the address of a host".to_owned())
        }
        _ => Ok(value),
    }
}

/// Whether this is a mask: ones, and then zeroes.
fn is_mask(value: &Value) -> bool {
    let bits = address(value).map(Ipv4Addr::to_bits);
    bits.is_some_and(|bits| bits.leading_ones() + bits.trailing_zeros().min(32) >= 32)
}

fn address(value: &Value) -> Option<Ipv4Addr> {
    match value {
        Value::Addresses(list) => v4_only(list).first().copied(),
        _ => None,
    }
}

fn v4_only(list: &[IpAddr]) -> Vec<Ipv4Addr> {
    let v4 = list.iter().filter_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    });
    v4.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(text: &str) -> V4 {
        let (options, faults) = V4::parse(text);
        assert!(faults.is_empty(), "{faults:?}");
        options
    }

    fn told(text: &str) -> Vec<String> {
        V4::parse(text).1.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_name_of_the_table_takes_its_own_example() {
        for one in V4_TABLE {
            // T1 and T2 are judged beside the lease.
            good(&format!("{}={}", one.name, one.example));
        }
        let mut names: Vec<&str> = V4_TABLE.iter().map(|one| one.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), V4_TABLE.len());
        let codes: Vec<u16> = V4_TABLE.iter().filter_map(|one| one.code).collect();
        assert!(codes.is_sorted());
    }

    #[test]
    fn what_no_host_can_have_is_pointed_out() {
        for (text, advice) in [
            ("netmask=255.0.255.0", "write a mask"),
            ("server_id=0.0.0.0", "address of a host"),
            ("router=255.255.255.255", "address of a host"),
            ("next_server=224.0.0.1", "address of a host"),
            ("dns_server=10.0.0.53;255.255.255.255", "address of a host"),
            ("server_mac=01:00:5e:00:00:01", "of one interface"),
            ("server_mac=00:00:00:00:00:00", "of one interface"),
        ] {
            let told = told(text);
            assert!(told.len() == 1 && told[0].contains(advice), "{text}: {told:?}");
        }
        good("netmask=255.255.255.255");
        good("netmask=255.255.240.0");
    }

    #[test]
    fn kube_ovns_own_options_mean_what_they_mean_there() {
        let options = good(
            "lease_time=3600,router=10.0.0.1,server_id=169.254.0.254,mtu=1400,\
             dns_server=8.8.8.8;1.1.1.1,domain_name=\"example.org\",hostname=web",
        );
        assert_eq!((options.lease, options.mtu), (Some(3600), Some(1400)));
        assert_eq!(options.dns, [Ipv4Addr::new(8, 8, 8, 8), Ipv4Addr::new(1, 1, 1, 1)]);
        assert_eq!(options.domain.as_deref(), Some("example.org"));
        assert_eq!(options.hostname.as_deref(), Some("web"));
        assert!(options.options.is_empty());
    }

    #[test]
    fn what_is_not_typed_goes_by_its_number() {
        let options = good(
            "ntp_server={10.0.0.2,10.0.0.3},option_43=hex:0104,option_224=a=b,\
             option_200=ip:10.0.0.9",
        );
        let list: Vec<String> =
            options.options.iter().map(|one| format!("{} {}", one.code, one.value)).collect();
        assert_eq!(
            list,
            ["42 ip:10.0.0.2;10.0.0.3", "43 hex:0104", "224 text:a=b", "200 ip:10.0.0.9"]
        );
    }

    #[test]
    fn what_cannot_be_is_named_with_what_to_write_and_the_rest_counts() {
        for (pair, advice) in [
            ("mtu=big", "write a number from 68 to 65535"),
            ("mtu=60", "write a number from 68 to 65535"),
            ("lease_time=1", "write a number from 10 to"),
            ("dns_server=10.0.0.256", "write IPv4 addresses with ; between"),
            ("dns_server=fd00::53", "write IPv4 addresses with ; between"),
            ("router=10.0.0.1;10.0.0.2", "write one IPv4 address"),
            ("dns=10.0.0.53", "write dns_server, encrypted_dns, or option_<number>"),
            ("ntp-servers=10.0.0.2", "write ntp_server, or option_<number>"),
            ("colour=blue", "write option_<number>"),
            ("option_53=5", "leave it out"),
            ("option_51=60", "write lease_time instead"),
            ("option_58=u32:60", "write T1 instead"),
            ("option_59=u32:60", "write T2 instead"),
            ("option_6=text:x", "write IPv4 addresses with ; between"),
            ("option_26=u16:60", "write a number from 68 to 65535"),
            ("server_mac=10.0.0.1", "write a MAC address"),
            ("option_256=x", "from 1 to 254"),
            ("option_43=hex:0", "octets in hexadecimal"),
            ("option_200=base64:AA==", "write text:, hex:"),
            ("v6only_preferred=20", "write 0, or at least 300 seconds"),
            ("captive_portal=portal", "write a URI"),
            ("domain_search_list=a..b", "write domain names"),
            ("classless_static_route={10.0.0.0/8}", "write pairs of network and next hop"),
            ("static_route=10.0.0.1", "write pairs of IPv4 addresses"),
            ("always_send=nothing", "there is no option \"nothing\""),
            ("T1=3600", "T1 3600 must be less than T2 3150"),
            ("T2=3600", "T2 less than lease_time 3600"),
            ("ip_forward_enable=maybe", "write true or false"),
        ] {
            let told = told(&format!("{pair},tcp_ttl=64"));
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(told[0].starts_with(&format!("{pair:?}: ")), "{told:?}");
            assert!(told[0].contains(advice), "{told:?}");
            let options = V4::parse(&format!("{pair},tcp_ttl=64")).0;
            assert_eq!(options.options.len(), 1, "{pair}");
        }
    }

    #[test]
    fn one_option_under_two_names_is_written_once() {
        for text in [
            "ntp_server=10.0.0.2,option_42=ip:10.0.0.3",
            "dns_server=10.0.0.2,option_6=hex:0a000003",
            "option_121=routes:10.9.0.0/16;10.0.0.2,classless_static_route={10.8.0.0/16,10.0.0.3}",
        ] {
            let told = told(text);
            assert!(told.len() == 1 && told[0].contains(": this option is there"), "{told:?}");
        }
    }

    #[test]
    fn a_number_that_has_a_name_means_the_name_and_octets_go_as_they_are() {
        let named = good(
            "option_3=10.0.0.1,option_6=ip:10.0.0.53,option_26=u16:1400,option_12=web,\
             option_121=routes:10.9.0.0/16;10.0.0.2,option_67=http://boot.example/x",
        );
        let same = good(
            "router=10.0.0.1,dns_server=10.0.0.53,mtu=1400,hostname=web,\
             classless_static_route={10.9.0.0/16,10.0.0.2},bootfile_name=http://boot.example/x",
        );
        assert_eq!(named, same);
        let octets = good("option_6=hex:0a000035");
        assert!(octets.dns.is_empty() && octets.options[0].value.to_string() == "hex:0a000035");
    }

    #[test]
    fn kube_ovns_example_of_a_server_is_taken_as_it_stands() {
        let options = good(
            "lease_time=3600,router=10.0.0.1,server_id=169.254.0.254,server_mac=00:00:00:2E:2F:B8",
        );
        assert_eq!(options.server_mac, "00:00:00:2e:2f:b8".parse().ok());
    }

    #[test]
    fn ipxe_gets_the_boot_file_and_the_others_what_makes_them_ipxe() {
        let files = |text: &str| {
            let list = good(text).options.into_iter();
            list.map(|one| (one.value.to_string(), one.only.arch, one.only.ipxe))
                .collect::<Vec<_>>()
        };
        let one = |text: &str, arch: &[u16], ipxe| (format!("text:{text}"), arch.to_vec(), ipxe);
        assert_eq!(files("bootfile_name=menu"), [one("menu", &[], None)]);
        assert_eq!(files("bootfile_name_alt=rom"), [one("rom", &[], None)]);
        assert_eq!(
            files("bootfile_name_alt=rom,bootfile_name=menu,bootfile_name_efi64=efi"),
            [
                one("efi", &[7, 9], Some(false)),
                one("menu", &[], Some(true)),
                one("rom", &[], Some(false))
            ]
        );
    }

    #[test]
    fn a_boot_server_by_its_address_is_the_next_server() {
        let next = |text: &str| good(text).next_server;
        assert_eq!(next("tftp_server=10.0.0.2"), Some(Ipv4Addr::new(10, 0, 0, 2)));
        assert_eq!(next("tftp_server=boot.example"), None);
        assert_eq!(
            next("tftp_server=10.0.0.2,next_server=10.0.0.3"),
            Some(Ipv4Addr::new(10, 0, 0, 3))
        );
    }
}
