//! A VM's network ports, as its object and its subnets describe them; pure.
//!
//! The controller writes what it allocated into the VMI's annotations, in
//! Kube-OVN's vocabulary; the Subnet says how guests are served. Together they
//! give everything this node must know about a port: tap, MAC, MTU and the
//! complete DHCP [`Binding`].
//!
//! | network in the VMI | provider | annotations |
//! |---|---|---|
//! | `pod: {}` | `ovn` | `ovn.kubernetes.io/…` |
//! | `multus: {networkName: [ns/]net}` | `net.ns.ovn` | `net.ns.ovn.kubernetes.io/…` |
//! | another of the same attachment | `net.ns.ovn.<network>` | `net.ns.ovn.<network>.kubernetes.io/…` |

mod options;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crds::annotations;
use crds::kubeovn::Subnet;
use crds::kubevirt::{Network, VirtualMachineInstance};
use dhcp::{Binding, Prefix, Ra, Route4, V4, V6};
use kube::ResourceExt as _;
use net::options::{LEASE, V4 as V4Options};
use net::{Cidrs, MacAddr};

use self::options::Options;

/// All subnets, by name.
pub type Subnets = BTreeMap<String, Subnet>;

/// The MTU of a subnet that names none: what fits Geneve over 1500.
pub(crate) const OVERLAY_MTU: u16 = 1400;

/// The server identifier where the subnet has no IPv4 gateway; Kube-OVN's.
const SERVER_WITHOUT_GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 254);

/// How long a guest may use its router without hearing from it, in seconds.
const ROUTER_LIFETIME: u16 = 1800;

/// One network port of a VM.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// The network's name within the VMI, which its interface bears too.
    pub network: String,
    /// The port's name everywhere: [`net::names::port`].
    pub name: String,
    /// The tap device on this node: [`net::names::tap`].
    pub tap: String,
    /// The guest's MAC address.
    pub mac: MacAddr,
    /// MTU of tap and guest, in bytes.
    pub mtu: u16,
    /// The guest's addresses, in the order of the annotation.
    pub addresses: Vec<IpAddr>,
    /// What the guest is told.
    pub binding: Binding,
}

/// Why a VM's ports cannot be known. All but `UnknownNetwork` pass when the
/// controller has done its part.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LeaseError {
    /// An interface names a network that the VMI does not have.
    #[error("interface {0:?} names no entry of spec.networks: add one of that name")]
    UnknownNetwork(String),
    /// The network is neither `pod` nor `multus`.
    #[error("network {0:?} is neither pod nor multus: give it one of the two")]
    UnsupportedNetwork(String),
    /// The controller has not allocated the port's addresses.
    #[error("network {0:?} has no addresses yet: see the VM's conditions for why")]
    NotAllocated(String),
    /// An annotation does not parse.
    #[error("annotation {key} = {value:?} cannot be read: {why}")]
    BadAnnotation { key: String, value: String, why: String },
    /// The subnet is not there, or not seen yet.
    #[error("network {network:?} is on subnet {subnet:?}, which does not exist: create it")]
    NoSubnet { network: String, subnet: String },
}

impl LeaseError {
    /// Whether only another VMI would do.
    #[must_use]
    pub const fn is_hopeless(&self) -> bool {
        matches!(self, Self::UnknownNetwork(_) | Self::UnsupportedNetwork(_))
    }
}

/// The ports of a VM, in the order of its interfaces.
///
/// # Errors
/// The first port that cannot be known; a VM's ports are known all or none.
pub fn ports(vmi: &VirtualMachineInstance, subnets: &Subnets) -> Result<Vec<Port>, LeaseError> {
    let interfaces = &vmi.spec.domain.devices.interfaces;
    let attached = interfaces.iter().filter(|one| one.state.as_deref() != Some("absent"));
    attached.map(|interface| port(vmi, &interface.name, subnets)).collect()
}

fn port(
    vmi: &VirtualMachineInstance,
    network: &str,
    subnets: &Subnets,
) -> Result<Port, LeaseError> {
    let namespace = vmi.namespace().unwrap_or_default();
    let spec = vmi.spec.networks.iter().find(|one| one.name == network);
    let spec = spec.ok_or_else(|| LeaseError::UnknownNetwork(network.to_owned()))?;
    let provider = provider(vmi, spec)?;
    let allocated = Allocated { vmi, provider: &provider };

    let not_allocated = || LeaseError::NotAllocated(network.to_owned());
    let mac = allocated.get(annotations::MAC_ADDRESS).ok_or_else(not_allocated)?;
    let mac: MacAddr = parse(&allocated, annotations::MAC_ADDRESS, mac)?;
    let addresses = allocated.get(annotations::IP_ADDRESS).ok_or_else(not_allocated)?;
    let addresses = list::<IpAddr>(&allocated, annotations::IP_ADDRESS, addresses)?;
    let subnet_name = allocated.get(annotations::LOGICAL_SWITCH).ok_or_else(not_allocated)?;
    let subnet = subnets.get(subnet_name).ok_or_else(|| LeaseError::NoSubnet {
        network: network.to_owned(),
        subnet: subnet_name.to_owned(),
    })?;
    let cidr = allocated.get(annotations::CIDR).unwrap_or(&subnet.spec.cidr_block);
    let cidrs: Cidrs = parse(&allocated, annotations::CIDR, cidr)?;
    let gateway = allocated.get(annotations::GATEWAY).unwrap_or(&subnet.spec.gateway);
    let gateways = list::<IpAddr>(&allocated, annotations::GATEWAY, gateway)?;

    let mtu = subnet.spec.mtu.and_then(|mtu| u16::try_from(mtu).ok()).filter(|mtu| *mtu > 0);
    let mtu = mtu.unwrap_or(OVERLAY_MTU);
    let name = net::names::port(&vmi.name_any(), &namespace, &provider);
    let facts = Facts { subnet, allocated: &allocated, mac, cidrs, gateways: &gateways, mtu };
    Ok(Port {
        network: network.to_owned(),
        tap: net::names::tap(&name),
        name,
        mac,
        mtu,
        binding: facts.binding(&addresses, crate::domain::hostname(vmi)),
        addresses,
    })
}

/// The provider part of port name and annotations. Of two networks of one attachment
/// the instance's annotations say which is the further one.
fn provider(vmi: &VirtualMachineInstance, network: &Network) -> Result<String, LeaseError> {
    let attachment = network.multus.as_ref().map(|multus| multus.network_name.as_str());
    if attachment.is_none() && network.pod.is_none() {
        return Err(LeaseError::UnsupportedNetwork(network.name.clone()));
    }
    let provider = net::names::provider(attachment, &vmi.namespace().unwrap_or_default());
    let is_given = |provider: &str| annotations::is_allocated(vmi.annotations(), provider);
    Ok(net::names::given(provider, &network.name, is_given))
}

/// The annotations of one network.
struct Allocated<'a> {
    vmi: &'a VirtualMachineInstance,
    provider: &'a str,
}

impl<'a> Allocated<'a> {
    fn get(&self, field: &str) -> Option<&'a str> {
        let value = self.vmi.annotations().get(&annotations::key(self.provider, field))?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }
}

fn parse<T>(allocated: &Allocated<'_>, field: &str, text: &str) -> Result<T, LeaseError>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.trim().parse().map_err(|why: T::Err| LeaseError::BadAnnotation {
        key: annotations::key(allocated.provider, field),
        value: text.to_owned(),
        why: why.to_string(),
    })
}

fn list<T>(allocated: &Allocated<'_>, field: &str, text: &str) -> Result<Vec<T>, LeaseError>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    let parts = text.split(',').filter(|part| !part.trim().is_empty());
    parts.map(|part| parse(allocated, field, part)).collect()
}

/// What a binding is made from.
struct Facts<'a> {
    subnet: &'a Subnet,
    allocated: &'a Allocated<'a>,
    mac: MacAddr,
    cidrs: Cidrs,
    gateways: &'a [IpAddr],
    mtu: u16,
}

impl Facts<'_> {
    fn binding(&self, addresses: &[IpAddr], hostname: String) -> Binding {
        let served = self.subnet.spec.enable_dhcp != Some(false);
        let v4 = addresses.iter().find_map(|one| match one {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        });
        let v6 = addresses.iter().find_map(|one| match one {
            IpAddr::V6(address) => Some(*address),
            IpAddr::V4(_) => None,
        });
        let options_v4 = self.v4_options();
        let hostname = options_v4.hostname.clone().unwrap_or(hostname);
        let options_v6 = self.options(DHCP_V6_OPTIONS, &self.subnet.spec.dhcp_v6_options);
        Binding {
            mac: self.mac,
            hostname: Some(hostname),
            v4: v4.filter(|_| served).map(|address| self.v4(address, options_v4)),
            v6: v6.filter(|_| served).map(|address| V6 {
                address,
                dns: options_v6.list("dns_server"),
                search: options_v6.list("domain_search"),
                lease: LEASE,
            }),
            ra: v6.and_then(|_| self.ra(&options_v6)),
        }
    }

    fn v4(&self, address: Ipv4Addr, options: V4Options) -> V4 {
        let gateway = self.gateways.iter().find_map(|one| match one {
            IpAddr::V4(gateway) => Some(*gateway),
            IpAddr::V6(_) => None,
        });
        let gateway = options.router.or(gateway);
        let prefix = self.cidrs.v4.map_or(32, |network| network.prefix());
        let server = options.server.or(gateway).unwrap_or(SERVER_WITHOUT_GATEWAY);
        let routes = options.routes.into_iter().map(|(to, via)| Route4 { to, via });
        V4 {
            gateway,
            dns: options.dns,
            domain: options.domain,
            search: options.search,
            mtu: Some(options.mtu.unwrap_or(self.mtu)),
            routes: routes.collect(),
            t1: options.t1,
            t2: options.t2,
            next_server: options.next_server,
            broadcast: options.broadcast,
            always: options.always,
            options: options.options,
            ..V4::new(address, prefix, server, options.lease.unwrap_or(LEASE))
        }
    }

    /// What options say of DHCPv4. What of them cannot be is told on the Subnet or the VM:
    /// the port is served with the rest.
    fn v4_options(&self) -> V4Options {
        let of_subnet = &self.subnet.spec.dhcp_v4_options;
        V4Options::parse(self.allocated.get(DHCP_V4_OPTIONS).unwrap_or(of_subnet)).0
    }

    /// Absent until the router port's MAC is known: the guest's router is who sends it.
    fn ra(&self, dhcp: &Options) -> Option<Ra> {
        if self.subnet.spec.enable_ipv6_ra == Some(false) {
            return None;
        }
        let status = self.subnet.status.as_ref()?;
        let router_mac = status.gateway_mac.parse().ok()?;
        let options = Options::parse(&self.subnet.spec.ipv6_ra_configs);
        let mode: String = options.one("address_mode").unwrap_or_default();
        let rdnss: Vec<Ipv6Addr> = options.list("rdnss");
        let slaac = mode == "slaac" || mode == "dhcpv6_stateless";
        let periodic = options.one("send_periodic") != Some(false);
        let prefix = |network| Prefix { network, on_link: true, autonomous: slaac };
        Some(Ra {
            router_mac,
            prefixes: self.cidrs.v6.map(prefix).into_iter().collect(),
            managed: !slaac,
            other: mode != "slaac",
            mtu: Some(options.one("mtu").unwrap_or_else(|| u32::from(self.mtu))),
            rdnss: if rdnss.is_empty() { dhcp.list("dns_server") } else { rdnss },
            dnssl: options.list("dnssl"),
            lifetime: ROUTER_LIFETIME,
            min_interval: options.one("min_interval").unwrap_or(5),
            max_interval: if periodic { options.one("max_interval").unwrap_or(30) } else { 0 },
        })
    }

    /// The port's own options where it has an annotation, else the subnet's.
    fn options(&self, annotation: &str, of_subnet: &str) -> Options {
        Options::parse(self.allocated.get(annotation).unwrap_or(of_subnet))
    }
}

/// Annotation with DHCPv4 options of one port, in place of the subnet's.
const DHCP_V4_OPTIONS: &str = "dhcp-v4-options";
/// The same for DHCPv6.
const DHCP_V6_OPTIONS: &str = "dhcp-v6-options";
