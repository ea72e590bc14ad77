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

mod said;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crds::annotations;
use crds::kubeovn::Subnet;
use crds::kubevirt::{Interface, Network, VirtualMachineInstance};
use dhcp::{Binding, Prefix, Ra, Route4, V4, V6};
use ipnetwork::Ipv6Network;
use kube::ResourceExt as _;
use net::options::ra::Mode;
use net::options::{self, LEASE};
use net::{Cidrs, Delegation, MacAddr};

use self::said::Said;

/// All subnets, by name.
pub type Subnets = BTreeMap<String, Subnet>;

/// The MTU of a subnet that names none: what fits Geneve over 1500.
pub(crate) const OVERLAY_MTU: u16 = 1400;

/// What holds where neither Subnet nor VM says otherwise, and is the same on every node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Defaults {
    /// The lease of an address, seconds.
    pub lease: u32,
    /// The domain of what the cluster's own DNS serves; empty where there is none.
    pub domain: String,
}

impl Default for Defaults {
    fn default() -> Self {
        Self { lease: LEASE, domain: CLUSTER_DOMAIN.to_owned() }
    }
}

/// Kubernetes' own cluster domain.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// The server identifier where the subnet has no IPv4 gateway; Kube-OVN's.
const SERVER_WITHOUT_GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 254);

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
    /// What it was to be told as well, by its own annotations and fields, and cannot be;
    /// and by what it finds itself with another address than the port's.
    pub faults: Vec<String>,
    /// Whether the guest finds an address of it in use by somebody else.
    pub conflict: bool,
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
pub fn ports(
    vmi: &VirtualMachineInstance,
    subnets: &Subnets,
    defaults: &Defaults,
) -> Result<Vec<Port>, LeaseError> {
    let interfaces = &vmi.spec.domain.devices.interfaces;
    let attached = interfaces.iter().filter(|one| one.state.as_deref() != Some("absent"));
    attached.map(|interface| port(vmi, interface, subnets, defaults)).collect()
}

fn port(
    vmi: &VirtualMachineInstance,
    interface: &Interface,
    subnets: &Subnets,
    defaults: &Defaults,
) -> Result<Port, LeaseError> {
    let network = interface.name.as_str();
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
    let gateways = gateways.as_slice();
    let allocated = &allocated;
    let facts = Facts { subnet, allocated, interface, mac, cidrs, gateways, mtu, defaults };
    let said = Said::of(&facts);
    let mut faults = said.faults.clone();
    let binding = facts.binding(&addresses, crate::domain::hostname(vmi), said);
    faults.extend(own_address(&binding));
    faults.extend(facts.beyond(&binding));
    Ok(Port {
        network: network.to_owned(),
        tap: net::names::tap(&name),
        name,
        mac,
        mtu,
        binding,
        addresses,
        faults,
        conflict: false,
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
    interface: &'a Interface,
    mac: MacAddr,
    cidrs: Cidrs,
    gateways: &'a [IpAddr],
    mtu: u16,
    defaults: &'a Defaults,
}

impl Facts<'_> {
    fn binding(&self, addresses: &[IpAddr], hostname: String, said: Said) -> Binding {
        let served = self.subnet.spec.enable_dhcp != Some(false);
        let v4 = addresses.iter().find_map(|one| match one {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        });
        let v6 = addresses.iter().find_map(|one| match one {
            IpAddr::V6(address) => Some(*address),
            IpAddr::V4(_) => None,
        });
        let Said { v4: options, v6: mut options_v6, ra: configs, faults: _ } = said;
        let hostname = options.hostname.clone().unwrap_or(hostname);
        // Who is told to make up an address is given none.
        let advertised = self.subnet.spec.enable_ipv6_ra != Some(false);
        options_v6.stateless |= advertised && configs.mode == Mode::Stateless;
        let ask = Asked::of(configs.mode, served.then_some(&options_v6));
        Binding {
            mac: self.mac,
            hostname: Some(hostname),
            v4: v4.filter(|_| served).map(|address| self.v4(address, options)),
            v6: v6.filter(|_| served).map(|address| self.v6(address, options_v6)),
            ra: v6.filter(|_| advertised).and_then(|_| self.ra(configs, ask)),
        }
    }

    fn v4(&self, address: Ipv4Addr, options: options::V4) -> V4 {
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
            server_mac: options.server_mac,
            t1: options.t1,
            t2: options.t2,
            next_server: options.next_server,
            broadcast: options.broadcast,
            always: options.always,
            options: options.options,
            ..V4::new(address, prefix, server, options.lease.unwrap_or(self.defaults.lease))
        }
    }

    fn v6(&self, address: Ipv6Addr, options: options::V6) -> V6 {
        V6 {
            network: self.cidrs.v6,
            dns: options.dns,
            search: options.search,
            preferred: options.preferred,
            refresh: options.refresh,
            stateless: options.stateless,
            server: options.server,
            fqdn: options.fqdn,
            options: options.options,
            delegated: self
                .delegation()
                .and_then(|(delegation, network)| delegation.of(network, address)),
            ..V6::new(address, options.lease.unwrap_or(self.defaults.lease))
        }
    }

    /// The prefixes that guests of the port's network are delegated, and that network.
    fn delegation(&self) -> Option<(Delegation, Ipv6Network)> {
        let written = self.subnet.spec.dhcp_v6_prefix_delegation.as_ref()?;
        let delegation = Delegation::new(&written.cidr_block, written.prefix_length).ok()?;
        Some((delegation, self.cidrs.v6?))
    }

    /// Why a guest is delegated no prefix while others are.
    fn beyond(&self, binding: &Binding) -> Option<String> {
        let (delegation, network) = self.delegation()?;
        let v6 = binding.v6.as_ref().filter(|v6| v6.delegated.is_none())?;
        let (address, last) = (v6.address, delegation.last_of(network));
        let advice = "ask for such an address by annotation ip_address, or have the subnet's \
                      dhcpV6PrefixDelegation name a larger cidrBlock";
        Some(format!(
            "no prefix goes with {address}: there is {delegation} for addresses up to {last}: {advice}"
        ))
    }

    /// Absent until the router port's MAC is known: the guest's router is who sends it.
    fn ra(&self, options: options::Ra, ask: Asked) -> Option<Ra> {
        let status = self.subnet.status.as_ref()?;
        let router_mac = status.gateway_mac.parse().ok()?;
        let prefix = |network| Prefix { network, on_link: true, autonomous: ask.nobody };
        let (min_interval, max_interval) = options.intervals();
        let lifetime = options.router_lifetime();
        let (valid, preferred) = options.prefix_lifetimes();
        Some(Ra {
            prefixes: self.cidrs.v6.map(prefix).into_iter().collect(),
            managed: ask.address,
            other: ask.rest,
            mtu: Some(options.mtu.unwrap_or_else(|| u32::from(self.mtu))),
            preference: options.preference,
            routes: options.routes,
            pref64: options.pref64,
            encrypted_dns: options.encrypted_dns,
            captive_portal: options.captive_portal,
            valid,
            preferred,
            rdnss: options.rdnss,
            dnssl: options.dnssl,
            lifetime,
            min_interval,
            max_interval,
            ..Ra::new(router_mac)
        })
    }
}

/// What guests are to ask DHCPv6 for: no more than it answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Asked {
    /// M: their address.
    address: bool,
    /// O: what else there is.
    rest: bool,
    /// A: nobody gives them an address, they make one up.
    nobody: bool,
}

impl Asked {
    /// `served` is what DHCPv6 says, where it does. A subnet that has it say nothing and no
    /// mode either leaves addresses to whoever set it up.
    fn of(mode: Mode, served: Option<&options::V6>) -> Self {
        let stateless = served.is_some_and(|v6| v6.stateless);
        Self {
            address: mode == Mode::Stateful && served.is_some() && !stateless,
            rest: mode != Mode::Slaac && served.is_some(),
            nobody: mode != Mode::Stateful || stateless,
        }
    }
}

/// Why a guest that makes up its address does not have the port's: nobody hears it then.
fn own_address(binding: &Binding) -> Option<String> {
    let allocated = binding.v6.as_ref()?.address;
    let prefix = binding.ra.as_ref()?.prefixes.iter().find(|prefix| prefix.autonomous)?;
    let interface = binding.mac.link_local().to_bits() & u128::from(u64::MAX);
    let own = Ipv6Addr::from_bits(prefix.network.network().to_bits() | interface);
    let advice = "ask for that address by annotation ip_address, or have the subnet's \
                  ipv6RAConfigs say address_mode=dhcpv6_stateful";
    (own != allocated).then(|| {
        format!("the guest makes up its address {own}, and the port has {allocated}: {advice}")
    })
}
