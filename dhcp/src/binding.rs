//! What one port's guest is told: its address, its name, its router.
//!
//! A binding is plain data, complete in itself: whoever holds it can answer
//! the guest while everything else is down. It is kept on disk as JSON, which a later and
//! an earlier version may have to read: new fields come with a default, and those that are
//! not known are passed over, since less is better than nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{Ipv4Network, Ipv6Network};
use net::MacAddr;
use net::options::ra::{PREFERRED_LIFETIME, Preference, RouteInfo, VALID_LIFETIME};
use net::options::{Coded, Resolver};
use serde::{Deserialize, Serialize};

/// A lease or lifetime that never ends, in seconds (RFC 2131 §3.3, RFC 9915 §7.7).
pub const INFINITE: u32 = u32::MAX;

/// Everything the guest behind one port is told.
///
/// The port is the identity: whatever arrives on it is answered from its
/// binding, or not at all. Client identifiers and DUIDs are echoed and never
/// looked up, because guests cloned from one image share them.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Binding {
    /// The MAC address of the guest's interface. Frames from any other are ignored.
    pub mac: MacAddr,
    /// The name the guest should take: DHCPv4 option 12 (RFC 2132 §3.14).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// What DHCPv4 answers; `None` leaves DHCPv4 unanswered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v4: Option<V4>,
    /// What DHCPv6 answers; `None` leaves DHCPv6 unanswered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v6: Option<V6>,
    /// What router advertisements say; `None` sends none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ra: Option<Ra>,
}

/// The DHCPv4 side of a binding (RFC 2131, RFC 2132).
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct V4 {
    /// The guest's address.
    pub address: Ipv4Addr,
    /// The prefix length of its subnet, 0–32: the subnet mask, option 1.
    pub prefix: u8,
    /// The default router, option 3, and the default route of option 121. Outside
    /// the prefix it is made reachable by a route of its own in option 121.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Ipv4Addr>,
    /// The server identifier, option 54, and the source address of answers: the
    /// router's address, or 169.254.0.254. The same on every node.
    pub server: Ipv4Addr,
    /// The MAC address that answers come from, if not [`Binding::server_mac`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_mac: Option<MacAddr>,
    /// Name servers, best first: option 6.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<Ipv4Addr>,
    /// The guest's domain: option 15.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The domain search list: option 119 (RFC 3397).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// The interface MTU in bytes: option 26.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// Routes besides the default one: option 121 (RFC 3442).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route4>,
    /// The lease in seconds, option 51, or [`INFINITE`]. A finite lease is how changed
    /// options reach a guest.
    pub lease: u32,
    /// When the guest renews (T1), option 58, seconds; half of the lease if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub t1: Option<u32>,
    /// When the guest rebinds (T2), option 59, seconds; seven eighths of the lease if
    /// nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub t2: Option<u32>,
    /// Where the boot file is: `siaddr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_server: Option<Ipv4Addr>,
    /// Whether a guest without an address is answered by broadcast, whatever its
    /// broadcast flag says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub broadcast: bool,
    /// Options that are sent to a guest that does not ask for them, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub always: Vec<u8>,
    /// Any other option, and in place of what the fields above say under its number. Of
    /// several with one number the first that is for the client counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<Coded>,
}

impl V4 {
    /// An address and its lease, and nothing else to say.
    #[must_use]
    pub const fn new(address: Ipv4Addr, prefix: u8, server: Ipv4Addr, lease: u32) -> Self {
        Self {
            address,
            prefix,
            gateway: None,
            server,
            server_mac: None,
            dns: Vec::new(),
            domain: None,
            search: Vec::new(),
            mtu: None,
            routes: Vec::new(),
            lease,
            t1: None,
            t2: None,
            next_server: None,
            broadcast: false,
            always: Vec::new(),
            options: Vec::new(),
        }
    }
}

/// One classless static route (RFC 3442).
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Route4 {
    /// The destination. Host bits are ignored.
    pub to: Ipv4Network,
    /// The next hop; 0.0.0.0 where the destination is on the link.
    pub via: Ipv4Addr,
}

/// The DHCPv6 side of a binding (RFC 9915).
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct V6 {
    /// The guest's address, a /128 as DHCPv6 gives it.
    pub address: Ipv6Addr,
    /// The network that it is in: an address outside is not on the link. Where nothing is
    /// said the prefixes of advertisements tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Ipv6Network>,
    /// The prefix for the networks behind the guest (IA_PD, RFC 9915 §6.3), for as long as
    /// the address. Whoever sets it routes it to the guest. None is delegated without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegated: Option<Ipv6Network>,
    /// Name servers, best first: option 23 (RFC 3646).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<Ipv6Addr>,
    /// The domain search list: option 24 (RFC 3646).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// The valid lifetime in seconds, or [`INFINITE`]. T1 and T2 are 0.5 and 0.8 of the
    /// preferred one (RFC 9915 §21.4).
    pub lease: u32,
    /// The preferred lifetime in seconds; five eighths of the valid one if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred: Option<u32>,
    /// When to ask again for options without an address, option 32, seconds; the lease
    /// if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh: Option<u32>,
    /// Whether options are all that is given, and no address.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stateless: bool,
    /// What the server's DUID is made of; derived from the network if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<MacAddr>,
    /// The guest's full name, option 39 (RFC 4704); of hostname and domain if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fqdn: Option<String>,
    /// Any other option, and in place of what the fields above say under its number. Of
    /// several with one number the first that is for the client counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<Coded>,
}

impl V6 {
    /// An address and its lease, and nothing else to say.
    #[must_use]
    pub const fn new(address: Ipv6Addr, lease: u32) -> Self {
        Self {
            address,
            network: None,
            delegated: None,
            dns: Vec::new(),
            search: Vec::new(),
            lease,
            preferred: None,
            refresh: None,
            stateless: false,
            server: None,
            fqdn: None,
            options: Vec::new(),
        }
    }

    /// What the server's DUID is made of. It does not follow from the router: whether that
    /// advertises itself changes, and a guest that renews from a server by another name is
    /// not answered (RFC 9915 §16.6).
    #[must_use]
    pub fn server_identity(&self) -> MacAddr {
        self.server.unwrap_or_else(|| server_of(self.network_identity().into()))
    }

    /// The /64 that the address is in, the same for all who share it.
    fn network_identity(&self) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.address.to_bits() & !u128::from(u64::MAX))
    }
}

/// The MAC address of a server that has no other, the same on every node.
fn server_of(identity: IpAddr) -> MacAddr {
    MacAddr::derived_from(&["dhcp-server", &identity.to_string()])
}

/// What router advertisements say (RFC 4861, RFC 8106).
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Ra {
    /// The router port's MAC address: ethernet source, source link-layer address
    /// option, and by its link-local address the guest's default router.
    pub router_mac: MacAddr,
    /// Prefix information options.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<Prefix>,
    /// M: addresses come from DHCPv6.
    pub managed: bool,
    /// O: other configuration comes from DHCPv6.
    pub other: bool,
    /// The MTU option in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Recursive DNS servers (RFC 8106 §5.1).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rdnss: Vec<Ipv6Addr>,
    /// The DNS search list (RFC 8106 §5.2).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dnssl: Vec<String>,
    /// How much this router is preferred to others (RFC 4191 §2.2).
    #[serde(default, skip_serializing_if = "Preference::is_medium")]
    pub preference: Preference,
    /// Routes through this router (RFC 4191 §2.3).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<RouteInfo>,
    /// NAT64 prefixes of /32, /40, /48, /56, /64 or /96 (RFC 8781).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pref64: Vec<Ipv6Network>,
    /// Encrypted resolvers (RFC 9463 §6.1), each as a text such as
    /// `1 dns.example.com fd00::53 alpn=dot`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub encrypted_dns: Vec<Resolver>,
    /// The captive portal's API, a URI (RFC 8910 §2.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub captive_portal: Option<String>,
    /// How long addresses of the prefixes are valid, seconds.
    #[serde(default = "valid", skip_serializing_if = "is_valid")]
    pub valid: u32,
    /// How long they are preferred, seconds.
    #[serde(default = "preferred", skip_serializing_if = "is_preferred")]
    pub preferred: u32,
    /// The router lifetime in seconds; 0 says that this router is no default router.
    pub lifetime: u16,
    /// The least time between periodic advertisements, seconds (RFC 4861: at least 3).
    pub min_interval: u16,
    /// The most time between periodic advertisements, seconds; 0 sends solicited ones, and
    /// others only so that the guest does not forget the router.
    pub max_interval: u16,
}

impl Ra {
    /// A router that has guests ask DHCPv6, at the times of RFC 4861 §6.2.1, and says
    /// nothing else.
    #[must_use]
    pub const fn new(router_mac: MacAddr) -> Self {
        Self {
            router_mac,
            prefixes: Vec::new(),
            managed: true,
            other: true,
            mtu: None,
            rdnss: Vec::new(),
            dnssl: Vec::new(),
            preference: Preference::Medium,
            routes: Vec::new(),
            pref64: Vec::new(),
            encrypted_dns: Vec::new(),
            captive_portal: None,
            valid: VALID_LIFETIME,
            preferred: PREFERRED_LIFETIME,
            lifetime: 1800,
            min_interval: 200,
            max_interval: 600,
        }
    }
}

const fn valid() -> u32 {
    VALID_LIFETIME
}

const fn is_valid(seconds: &u32) -> bool {
    *seconds == VALID_LIFETIME
}

const fn preferred() -> u32 {
    PREFERRED_LIFETIME
}

const fn is_preferred(seconds: &u32) -> bool {
    *seconds == PREFERRED_LIFETIME
}

/// One prefix information option (RFC 4861 §4.6.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Prefix {
    /// The prefix. Host bits are ignored.
    pub network: Ipv6Network,
    /// L: the prefix is on the link.
    pub on_link: bool,
    /// A: the guest may form addresses in it (SLAAC); the prefix should then be a /64.
    pub autonomous: bool,
}

impl Binding {
    /// The MAC address that answers come from: the router's, or one derived from
    /// the server's identity, the same on every node.
    #[must_use]
    pub fn server_mac(&self) -> MacAddr {
        if let Some(ra) = &self.ra {
            return ra.router_mac;
        }
        server_of(match (&self.v4, &self.v6) {
            (Some(v4), _) => v4.server.into(),
            (None, Some(v6)) => v6.network_identity().into(),
            (None, None) => Ipv4Addr::UNSPECIFIED.into(),
        })
    }
}
