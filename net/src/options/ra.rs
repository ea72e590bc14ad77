//! Router advertisements: what a text says, and what of it cannot be.
//!
//! Kube-OVN's `ipv6RAConfigs`, which are OVN's `ipv6_ra_configs`, and a few more.

use std::net::Ipv6Addr;

use ipnetwork::Ipv6Network;
use serde::{Deserialize, Serialize};

use super::dnr::{self, Resolver};
use super::text::{self, Pair};
use super::v6::v6_only;
use super::value::{self, Value};
use super::{Fault, Kind};

/// What advertisements say; whatever is left out follows from the subnet.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Ra {
    /// How guests come by their addresses.
    pub mode: Mode,
    /// How much this router is preferred to others.
    pub preference: Preference,
    /// Routes through this router (RFC 4191).
    pub routes: Vec<RouteInfo>,
    /// NAT64 prefixes (RFC 8781).
    pub pref64: Vec<Ipv6Network>,
    /// Name servers; those of DHCPv6 if nothing is said.
    pub rdnss: Vec<Ipv6Addr>,
    /// The search list.
    pub dnssl: Vec<String>,
    /// Encrypted resolvers (RFC 9463).
    pub encrypted_dns: Vec<Resolver>,
    /// The captive portal's API (RFC 8910).
    pub captive_portal: Option<String>,
    /// The MTU, bytes.
    pub mtu: Option<u32>,
    /// The router's lifetime, seconds; 0 for no default router.
    pub lifetime: Option<u16>,
    /// How long addresses of the prefixes are valid, seconds.
    pub valid: Option<u32>,
    /// How long they are preferred, seconds.
    pub preferred: Option<u32>,
    /// The least time between periodic advertisements, seconds.
    pub min_interval: Option<u16>,
    /// The most, seconds.
    pub max_interval: Option<u16>,
    /// Only solicitations are answered.
    pub solicited_only: bool,
}

/// How guests come by their addresses: OVN's `address_mode`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Mode {
    /// From DHCPv6, and what else there is, too.
    #[default]
    Stateful,
    /// They make them up of prefix and MAC address; what else there is comes from DHCPv6.
    Stateless,
    /// They make them up, and ask nobody.
    Slaac,
}

/// How much a router or a route is preferred (RFC 4191 §2.1).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preference {
    /// Before others.
    High,
    /// As others.
    #[default]
    Medium,
    /// After others.
    Low,
}

impl Preference {
    /// Whether it is the one that is meant where nothing is said.
    #[must_use]
    pub const fn is_medium(&self) -> bool {
        matches!(self, Self::Medium)
    }
}

/// One route through the router (RFC 4191 §2.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct RouteInfo {
    /// The destination.
    pub to: Ipv6Network,
    /// How much it is preferred.
    #[serde(default, skip_serializing_if = "Preference::is_medium")]
    pub preference: Preference,
}

/// Name, what its value is, example.
const TABLE: [(&str, &str, &str); 15] = [
    ("address_mode", "dhcpv6_stateful, dhcpv6_stateless or slaac", "dhcpv6_stateful"),
    ("router_preference", "HIGH, MEDIUM or LOW", "MEDIUM"),
    ("route_info", "preference and network", "{HIGH-fd01::/48,LOW-fd02::/48}"),
    ("mtu", "number", "1400"),
    ("send_periodic", "true or false", "true"),
    ("max_interval", "seconds, 4 to 1800", "30"),
    ("min_interval", "seconds, 3 to three quarters of max_interval", "5"),
    ("rdnss", "addresses", "fd00::53;fd00::54"),
    ("dnssl", "names", "example.com;eng.example.com"),
    ("encrypted_dns", "resolvers", "1 dns.example.com fd00::53 alpn=dot"),
    ("router_lifetime", "seconds, 0 to 65535", "1800"),
    ("prefix_valid_lifetime", "seconds", "2592000"),
    ("prefix_preferred_lifetime", "seconds", "604800"),
    ("pref64", "networks of /32, /40, /48, /56, /64 or /96", "64:ff9b::/96"),
    ("captive_portal", "URI", "https://portal.example/api"),
];

impl Ra {
    /// What `text` says, and which of its pairs cannot be in force; the others are.
    #[must_use]
    pub fn parse(text: &str) -> (Self, Vec<Fault>) {
        let (pairs, mut faults) = text::pairs(text);
        let mut ra = Self::default();
        for pair in &pairs {
            let before = ra.clone();
            let taken = ra.take(pair).and_then(|()| ra.check_size());
            if let Err(advice) = taken {
                ra = before;
                faults.push(pair.fault(advice));
            }
        }
        faults.extend(ra.check_times(&pairs));
        (ra, faults)
    }

    fn take(&mut self, pair: &Pair) -> Result<(), String> {
        let text = pair.value.as_str();
        let told = |error: value::Advice| error.to_string();
        match pair.key.as_str() {
            "address_mode" => self.mode = mode(text)?,
            "router_preference" => self.preference = preference(text)?,
            "route_info" => self.routes = routes(text)?,
            "mtu" => self.mtu = Some(within(text, 1280, u16::MAX)?.into()),
            "send_periodic" => self.solicited_only = !value::flag(text).map_err(told)?,
            "max_interval" => self.max_interval = Some(within(text, 4, 1800)?),
            "min_interval" => self.min_interval = Some(within(text, 3, 1350)?),
            "rdnss" => {
                let servers = addresses(text)?;
                if !servers.iter().all(|one| value::is_of_host(&(*one).into())) {
                    return Err("write the addresses of hosts".to_owned());
                }
                self.rdnss = servers;
            }
            "dnssl" => self.dnssl = value::names(text).map_err(told)?,
            "encrypted_dns" => self.encrypted_dns = resolvers(text)?,
            "router_lifetime" => self.lifetime = Some(within(text, 0, u16::MAX)?),
            "prefix_valid_lifetime" => self.valid = Some(value::number(text, 0).map_err(told)?),
            "prefix_preferred_lifetime" => {
                self.preferred = Some(value::number(text, 0).map_err(told)?);
            }
            "pref64" => self.pref64 = pref64(text)?,
            "captive_portal" => match Kind::Uri.read(text).map_err(told)? {
                Value::Text(uri) => self.captive_portal = Some(uri),
                _ => unreachable!("a URI is text"),
            },
            name => {
                let names = TABLE.map(|(name, ..)| name);
                return Err(format!("there is no {name:?}: write one of {}", names.join(", ")));
            }
        }
        Ok(())
    }

    /// One advertisement says it all, and is in one packet that every link carries.
    fn check_size(&self) -> Result<(), String> {
        let names = |list: &[String]| list.iter().map(|name| name.len() + 2).sum::<usize>();
        let option = |body: usize| if body == 0 { 0 } else { (2 + body).next_multiple_of(8) };
        let listed = |head: usize, body: usize| if body == 0 { 0 } else { option(head + body) };
        let size = self.routes.iter().map(|_| option(22)).sum::<usize>()
            + self.pref64.len() * option(14)
            + self.encrypted_dns.iter().map(|one| option(one.advertised(0).len())).sum::<usize>()
            + listed(6, self.rdnss.len() * 16)
            + listed(6, names(&self.dnssl))
            + option(self.captive_portal.as_ref().map_or(0, String::len));
        if size <= ROOM {
            return Ok(());
        }
        Err(format!("leave some out: it takes {size} bytes with the rest, and {ROOM} fit a packet"))
    }

    /// What must fit beside each other (RFC 4861 §6.2.1); what does not, follows from the rest.
    fn check_times(&mut self, pairs: &[Pair]) -> Vec<Fault> {
        let named = |key: &str| pairs.iter().find(|pair| pair.key == key);
        let mut faults = Vec::new();
        let most = self.max_interval.unwrap_or(MAX_INTERVAL);
        let least = u32::from(most) * 3 / 4;
        if let (Some(pair), Some(min)) = (named("min_interval"), self.min_interval)
            && u32::from(min) > least.max(LEAST_INTERVAL.into())
        {
            self.min_interval = None;
            let advice = format!("write at most {least}, three quarters of max_interval {most}");
            faults.push(pair.fault(advice));
        }
        if let (Some(pair), Some(lifetime)) = (named("router_lifetime"), self.lifetime)
            && lifetime != 0
            && lifetime < most
        {
            self.lifetime = None;
            faults.push(pair.fault(format!("write 0, or at least max_interval, which is {most}")));
        }
        let valid = self.valid.unwrap_or(VALID_LIFETIME);
        if let (Some(pair), Some(preferred)) = (named("prefix_preferred_lifetime"), self.preferred)
            && preferred > valid
        {
            self.preferred = None;
            let advice = format!("write at most prefix_valid_lifetime, which is {valid}");
            faults.push(pair.fault(advice));
        }
        faults
    }

    /// How long guests may use the router without hearing from it, seconds: as long as
    /// there is where nothing is said by itself (RFC 8319 §4), as OVN has it.
    #[must_use]
    pub fn router_lifetime(&self) -> u16 {
        let (_, most) = self.intervals();
        let lifetime = if most == 0 { u16::MAX } else { ROUTER_LIFETIME.max(most) };
        self.lifetime.unwrap_or(lifetime)
    }

    /// How long addresses of the prefixes are valid and preferred, seconds. Preferred for
    /// longer than they are valid a guest would take none (RFC 4862 §5.5.3).
    #[must_use]
    pub fn prefix_lifetimes(&self) -> (u32, u32) {
        let valid = self.valid.unwrap_or(VALID_LIFETIME);
        (valid, self.preferred.unwrap_or(PREFERRED_LIFETIME).min(valid))
    }

    /// The times between periodic advertisements, seconds: least and most. Kube-OVN's, if
    /// nothing is said; most is 0 where there are none.
    #[must_use]
    pub fn intervals(&self) -> (u16, u16) {
        let most = self.max_interval.unwrap_or(MAX_INTERVAL);
        let least =
            self.min_interval.unwrap_or(MIN_INTERVAL).min((most / 4 * 3).max(LEAST_INTERVAL));
        (least, if self.solicited_only { 0 } else { most })
    }
}

/// What is left for the rest of an advertisement, bytes: IPv6's least MTU (RFC 8200 §5) less
/// its header, the message's own, link-layer address, MTU and a prefix.
const ROOM: usize = 1280 - 40 - 16 - 8 - 8 - 32;
/// Kube-OVN's times between advertisements, seconds.
const MIN_INTERVAL: u16 = 5;
const MAX_INTERVAL: u16 = 30;
/// The least that RFC 4861 §6.2.1 lets `MinRtrAdvInterval` be, seconds.
const LEAST_INTERVAL: u16 = 3;
/// How long a guest may use a router without hearing from it, seconds: AdvDefaultLifetime
/// at the MaxRtrAdvInterval of RFC 4861 §6.2.1.
const ROUTER_LIFETIME: u16 = 1800;
/// AdvValidLifetime where nothing is said, seconds (RFC 4861 §6.2.1).
pub const VALID_LIFETIME: u32 = 2_592_000;
/// AdvPreferredLifetime where nothing is said, seconds (RFC 4861 §6.2.1).
pub const PREFERRED_LIFETIME: u32 = 604_800;

fn mode(text: &str) -> Result<Mode, String> {
    match text {
        "dhcpv6_stateful" => Ok(Mode::Stateful),
        "dhcpv6_stateless" => Ok(Mode::Stateless),
        "slaac" => Ok(Mode::Slaac),
        _ => Err("write dhcpv6_stateful, dhcpv6_stateless or slaac".to_owned()),
    }
}

fn preference(text: &str) -> Result<Preference, String> {
    match text.to_ascii_uppercase().as_str() {
        "HIGH" => Ok(Preference::High),
        "MEDIUM" => Ok(Preference::Medium),
        "LOW" => Ok(Preference::Low),
        _ => Err("write HIGH, MEDIUM or LOW".to_owned()),
    }
}

/// `HIGH-fd01::/48`, as OVN has it; a network alone is of medium preference.
fn routes(text: &str) -> Result<Vec<RouteInfo>, String> {
    let advice = "write preference and network in braces, such as {HIGH-fd01::/48,LOW-fd02::/48}";
    let route = |part: &str| {
        let (word, network) = part.split_once('-').unwrap_or(("MEDIUM", part));
        let to = network.parse().ok()?;
        Some(RouteInfo { to, preference: preference(word).ok()? })
    };
    let routes: Option<Vec<RouteInfo>> = value::parts(text).map(route).collect();
    routes.filter(|routes| !routes.is_empty()).ok_or_else(|| advice.to_owned())
}

fn addresses(text: &str) -> Result<Vec<Ipv6Addr>, String> {
    match Kind::Ipv6List.read(text).map_err(|error| error.to_string())? {
        Value::Addresses(list) => Ok(v6_only(&list)),
        _ => unreachable!("a list of addresses is addresses"),
    }
}

/// One or several, `;` between.
fn resolvers(text: &str) -> Result<Vec<Resolver>, String> {
    let parts = text.split(';').map(str::trim).filter(|part| !part.is_empty());
    let all: Result<Vec<Resolver>, _> = parts.map(dnr::advertised).collect();
    let all = all.map_err(|error| error.to_string())?;
    if all.is_empty() { Err("write a resolver, or leave it out".to_owned()) } else { Ok(all) }
}

/// NAT64 prefixes have one of six lengths (RFC 8781 §4).
fn pref64(text: &str) -> Result<Vec<Ipv6Network>, String> {
    let advice = "write a network of /32, /40, /48, /56, /64 or /96, such as 64:ff9b::/96";
    let network = |part: &str| {
        let network: Ipv6Network = part.parse().ok()?;
        matches!(network.prefix(), 32 | 40 | 48 | 56 | 64 | 96).then_some(network)
    };
    let networks: Option<Vec<Ipv6Network>> = value::parts(text).map(network).collect();
    networks.filter(|networks| !networks.is_empty()).ok_or_else(|| advice.to_owned())
}

fn within(text: &str, least: u16, most: u16) -> Result<u16, String> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("write seconds from {least} to {most}"))
}

/// The table as the guide shows it.
#[cfg(test)]
pub(super) fn shown() -> String {
    let rows =
        TABLE.iter().map(|(name, kind, example)| format!("| `{name}` | {kind} | `{example}` |\n"));
    let head = "| name | value | example |\n|---|---|---|\n";
    std::iter::once(head.to_owned()).chain(rows).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_table_takes_its_own_example() {
        for (name, _, example) in TABLE {
            let (ra, faults) = Ra::parse(&format!("{name}={example}"));
            assert!(faults.is_empty(), "{faults:?}");
            let says_what_holds_anyway =
                ["address_mode", "router_preference", "send_periodic"].contains(&name);
            assert_eq!(ra == Ra::default(), says_what_holds_anyway, "{name}");
        }
    }

    #[test]
    fn kube_ovns_own_configs_mean_what_they_mean_there() {
        let (ra, faults) = Ra::parse(
            "address_mode=dhcpv6_stateful,max_interval=30,min_interval=5,send_periodic=true",
        );
        assert!(faults.is_empty(), "{faults:?}");
        assert_eq!((ra.mode, ra.intervals()), (Mode::Stateful, (5, 30)));
        assert_eq!(Ra::parse("").0.intervals(), (5, 30));
        assert_eq!(Ra::parse("send_periodic=false").0.intervals(), (5, 0));
        assert_eq!(Ra::parse("max_interval=4").0.intervals(), (3, 4));
    }

    #[test]
    fn rfc4862_5_5_3_no_address_is_preferred_for_longer_than_it_is_valid() {
        let lifetimes = |text: &str| Ra::parse(text).0.prefix_lifetimes();
        assert_eq!(lifetimes(""), (2_592_000, 604_800));
        assert_eq!(lifetimes("prefix_valid_lifetime=86400"), (86_400, 86_400));
        assert_eq!(
            lifetimes("prefix_valid_lifetime=86400,prefix_preferred_lifetime=3600"),
            (86_400, 3600)
        );
    }

    #[test]
    fn a_router_that_says_nothing_by_itself_is_one_for_as_long_as_can_be_said() {
        let lifetime = |text: &str| Ra::parse(text).0.router_lifetime();
        assert_eq!(lifetime(""), 1800);
        assert_eq!(lifetime("send_periodic=false"), 65_535);
        assert_eq!(lifetime("send_periodic=false,router_lifetime=600"), 600);
    }

    #[test]
    fn rfc8910_2_the_urn_that_says_there_is_no_portal_is_a_uri() {
        let (ra, faults) = Ra::parse("captive_portal=urn:ietf:params:capport:unrestricted");
        assert!(ra.captive_portal.is_some() && faults.is_empty(), "{faults:?}");
    }

    #[test]
    fn more_than_one_packet_holds_is_refused_and_the_rest_counts() {
        let routes = |count: usize| {
            let list: Vec<String> = (0..count).map(|at| format!("fd01:{at:x}::/48")).collect();
            format!("rdnss=fd00::53,route_info={{{}}},dnssl=example.com", list.join(","))
        };
        let (ra, faults) = Ra::parse(&routes(40));
        assert_eq!((ra.routes.len(), faults.len()), (40, 0), "{faults:?}");
        let (ra, faults) = Ra::parse(&routes(90));
        assert_eq!((ra.routes.len(), ra.rdnss.len(), ra.dnssl.len()), (0, 1, 1));
        assert!(faults[0].to_string().contains("leave some out"), "{faults:?}");
    }

    #[test]
    fn routes_have_a_preference_or_none() {
        let (ra, _) = Ra::parse("route_info={HIGH-fd01::/48,LOW-fd02::/48,fd03::/64}");
        let preferences: Vec<_> = ra.routes.iter().map(|route| route.preference).collect();
        assert_eq!(preferences, [Preference::High, Preference::Low, Preference::Medium]);
    }

    #[test]
    fn what_cannot_be_is_named_with_what_to_write_and_the_rest_counts() {
        for (pair, advice) in [
            ("address_mode=auto", "write dhcpv6_stateful, dhcpv6_stateless or slaac"),
            ("router_preference=best", "write HIGH, MEDIUM or LOW"),
            ("route_info=HIGH-fd01", "write preference and network"),
            ("mtu=1000", "from 1280 to"),
            ("max_interval=3", "from 4 to 1800"),
            ("min_interval=29", "write at most 22, three quarters of max_interval 30"),
            ("router_lifetime=20", "write 0, or at least max_interval, which is 30"),
            ("prefix_preferred_lifetime=3000000", "at most prefix_valid_lifetime"),
            ("pref64=64:ff9b::/95", "write a network of /32"),
            ("rdnss=10.0.0.53", "write IPv6 addresses"),
            ("encrypted_dns=1 dns.example 10.0.0.53 alpn=dot", "write priority, name"),
            ("encrypted_dns=;", "write a resolver"),
            ("captive_portal=x", "write a URI"),
            ("captive_portal=portal.example:8080/api", "write a URI"),
            ("captive_portal=urn:", "write a URI"),
            ("dns_server=fd00::53", "write one of address_mode, "),
        ] {
            let (ra, faults) = Ra::parse(&format!("{pair},dnssl=example.com"));
            assert_eq!((faults.len(), ra.dnssl.len()), (1, 1), "{faults:?}");
            let told = faults[0].to_string();
            assert!(told.starts_with(&format!("{pair:?}: ")) && told.contains(advice), "{told}");
        }
    }
}
