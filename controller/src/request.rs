//! What a VM asks of the network: its template, understood.
//!
//! A network of the template becomes a [`Request`]: which port, which subnet,
//! which addresses and MAC if any are named. Annotations are Kube-OVN's and are
//! read from the VM template itself, so that what is wrong with them is found
//! when the VM is made. Those that have no effect yet are named by
//! [`without_effect`], so that nobody relies on them.

mod bounds;
mod family;
mod fixed;
mod lender;
mod multus;
mod pool;
mod ports;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crds::annotations;
use crds::cni::IpamClaim;
use crds::kubeovn::{IpPool, Vip};
use crds::kubevirt::{
    Interface, Network as VmNetwork, VirtualMachine, VirtualMachineInstance,
    VirtualMachineInstanceSpec,
};
use net::{MacAddr, ParseMacError, names};

use crate::dhcp;
use crate::family::Family;
use crate::flaw::Flaw;
use crate::leave::{self, Leave, LeaveError};
use crate::ledger::{FromPool, VmKey};
use crate::network::{Network, NetworkError};
use crate::shelf::Shelf;

use bounds::MOST_NETWORKS;
pub use lender::Lender;
pub use ports::{Known, given};
use ports::{Named, providers};

/// One network of a VM, as asked for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Request {
    /// The port, and the owner of the addresses.
    pub port: String,
    /// The network's name in the VM.
    pub network: String,
    /// `ovn`, `<nad>.<namespace>.ovn` or `<nad>.<namespace>.ovn.<network>`: the prefix
    /// of its annotations.
    pub provider: String,
    /// The subnet that serves it.
    pub subnet: String,
    /// Addresses named in the template, at most one of each family.
    pub addresses: Vec<IpAddr>,
    /// Of these it gets the first that is free; empty unless the template has a pool
    /// and names no address.
    pub pool: Vec<Vec<IpAddr>>,
    /// The IPPool that its addresses come from, where none are named.
    pub from: Option<FromPool>,
    /// The one family that it wants of a subnet that has both.
    pub family: Option<Family>,
    /// What lends it its addresses, where it has none of its own.
    pub lender: Option<Lender>,
    /// MAC named in the template.
    pub mac: Option<MacAddr>,
    /// What it is let do beyond its own addresses.
    pub leave: Leave,
    /// Where in the template its addresses and its MAC are named.
    pub places: Places,
}

/// Where addresses and MAC of a network are named: annotations, or fields. Empty where
/// they are not.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Places {
    /// The addresses.
    pub addresses: String,
    /// The MAC.
    pub mac: String,
}

/// Why a VM's networks cannot be served: what its author must change.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RequestError {
    /// No subnet for the network.
    #[error(
        "network {network:?} has no subnet: set annotation {key} on the VM template, or list namespace {namespace:?} in a subnet's spec.namespaces"
    )]
    NoSubnet {
        /// The network's name in the VM.
        network: String,
        /// The annotation that would name one.
        key: String,
        /// The VM's namespace.
        namespace: String,
    },
    /// The subnet named is not there.
    #[error("{place}: subnet {subnet:?} does not exist: create it or name another")]
    UnknownSubnet {
        /// Annotation or field.
        place: String,
        /// What it says.
        subnet: String,
    },
    /// The subnet named is there but not in force.
    #[error("{place}: subnet {subnet:?} is not in force: {why}")]
    RefusedSubnet {
        /// Annotation or field.
        place: String,
        /// What it says.
        subnet: String,
        /// What the subnet's author must change.
        why: Box<NetworkError>,
    },
    /// The subnet named is on its way out and the VM has nothing in it.
    #[error("{place}: subnet {subnet:?} is being deleted and takes no more VMs: choose another")]
    LeavingSubnet {
        /// Annotation or field.
        place: String,
        /// What it says.
        subnet: String,
    },
    /// The subnet named serves other networks.
    #[error(
        "{place}: subnet {subnet:?} has provider {theirs:?}, this network is of {provider:?}: name a subnet of that provider, or write it in spec.provider of another subnet"
    )]
    OtherProvider {
        /// Annotation or field.
        place: String,
        /// What it says.
        subnet: String,
        /// The subnet's provider.
        theirs: String,
        /// The network's provider.
        provider: String,
    },
    /// A Vpc names a subnet for its namespaces that is not its own.
    #[error("{place}: subnet {subnet:?} is not one of this vpc for a first network: name another")]
    OfAnotherVpc {
        /// The field.
        place: String,
        /// What it says.
        subnet: String,
    },
    /// An address could not be read.
    #[error(
        "annotation {key}: {:?} is not an address: write 10.0.0.5, or one of each family with a comma between",
        net::shown(text)
    )]
    Address {
        /// The annotation.
        key: String,
        /// What it says.
        text: String,
    },
    /// Two addresses of a family.
    #[error(
        "annotation {key}: {:?} names two addresses of one family: name one of each at most",
        net::shown(text)
    )]
    SameFamilyTwice {
        /// The annotation.
        key: String,
        /// What it says.
        text: String,
    },
    /// A pool could not be read.
    #[error(
        "annotation {key}: {:?} is neither a list of addresses nor an IPPool's name: write 10.0.0.5,10.0.0.6, or 10.0.0.5,fd00::5;10.0.0.6,fd00::6, or 10.0.0.5..10.0.0.9, or the name of one IPPool",
        net::shown(text)
    )]
    Pool {
        /// The annotation.
        key: String,
        /// What it says.
        text: String,
    },
    /// A pool names more addresses than are ever tried.
    #[error(
        "annotation {key}: {:?} names more than 1024 addresses: name fewer, or choose a subnet",
        net::shown(text)
    )]
    LargePool {
        /// The annotation.
        key: String,
        /// What it says.
        text: String,
    },
    /// The IPPool named is not there.
    #[error(
        "annotation {key}: IPPool {pool:?} does not exist: create it, or {known}write a list such as 10.0.0.5,10.0.0.6"
    )]
    UnknownPool {
        /// The annotation.
        key: String,
        /// What it says.
        pool: String,
        /// Those that there are.
        known: String,
    },
    /// The IPPool named is there but not in force.
    #[error("annotation {key}: IPPool {pool:?} is not in force: {why}")]
    RefusedPool {
        /// The annotation.
        key: String,
        /// What it says.
        pool: String,
        /// What the pool's author must change.
        why: String,
    },
    /// The IPPool named is of another subnet.
    #[error(
        "annotation {key}: IPPool {pool:?} is of subnet {theirs:?}, this network is on {subnet:?}: name a pool of that one, or the other subnet"
    )]
    PoolOfOther {
        /// The annotation.
        key: String,
        /// What it says.
        pool: String,
        /// The pool's subnet.
        theirs: String,
        /// The network's subnet.
        subnet: String,
    },
    /// The Vip named is not there.
    #[error(
        "annotation {key}: Vip {vip:?} does not exist or cannot be read: create it, or name another"
    )]
    UnknownVip {
        /// The annotation.
        key: String,
        /// What it says.
        vip: String,
    },
    /// A Vip is named, and another address, too.
    #[error(
        "annotation {key} takes the addresses of a Vip, and annotation {other} asks for others: leave one of the two out"
    )]
    BesideVip {
        /// The annotation.
        key: String,
        /// The other one.
        other: String,
    },
    /// An IPAMClaim is referred to, and another source of addresses, too.
    #[error(
        "annotation {place} takes the addresses of an IPAMClaim, and annotation {other} says otherwise where they come from: leave one of the two out"
    )]
    BesideClaim {
        /// Where.
        place: String,
        /// The other annotation.
        other: String,
    },
    /// No family.
    #[error(
        "annotation {key}: {:?} is not a family: write ipv4 or ipv6, or leave it out for all that the subnet has",
        net::shown(text)
    )]
    Family {
        /// The annotation.
        key: String,
        /// What it says.
        text: String,
    },
    /// A family that the subnet lacks.
    #[error(
        "annotation {key}: {family:?}, but subnet {subnet:?} has {cidr} only: write the other, or name another subnet"
    )]
    NoSuchFamily {
        /// The annotation.
        key: String,
        /// What it says.
        family: String,
        /// The subnet.
        subnet: String,
        /// The subnet's networks.
        cidr: String,
    },
    /// One annotation asks for one family, another one for an address of the other.
    #[error(
        "annotation {key}: {family:?}, but annotation {other} asks for {what}: change one of the two"
    )]
    FamilyContradicted {
        /// The annotation.
        key: String,
        /// What it says.
        family: String,
        /// The other annotation.
        other: String,
        /// What that asks for.
        what: String,
    },
    /// An address of another network.
    #[error(
        "annotation {key}: {address} is not in {cidr} of subnet {subnet:?}: choose a free address of it, or another subnet"
    )]
    OutsideSubnet {
        /// The annotation.
        key: String,
        /// The address.
        address: IpAddr,
        /// The subnet's networks.
        cidr: String,
        /// The subnet.
        subnet: String,
    },
    /// An address that is no one VM's.
    #[error(
        "annotation {key}: {address} is one of spec.vips of subnet {subnet:?}: choose another, or list it in port_vips to share it"
    )]
    OfTheSubnet {
        /// The annotation.
        key: String,
        /// The address.
        address: IpAddr,
        /// The subnet.
        subnet: String,
    },
    /// A MAC could not be read.
    #[error("{place}: {source}")]
    Mac {
        /// Annotation or field.
        place: String,
        /// What is wrong with it.
        source: ParseMacError,
    },
    /// A MAC that no station may have.
    #[error(
        "{place}: {mac} is zero or a multicast address: write another, the lowest bit of its first octet clear"
    )]
    MulticastMac {
        /// Annotation or field.
        place: String,
        /// The address.
        mac: MacAddr,
    },
    /// What a port may send from could not be read.
    #[error(transparent)]
    Leave(#[from] LeaveError),
    /// An annotation longer than anything that it may say.
    #[error("annotation {key} is {length} bytes long: write at most {most}")]
    Long {
        /// The annotation.
        key: String,
        /// Its length.
        length: usize,
        /// The longest that it may be.
        most: usize,
    },
    /// A name longer than what bears it may be.
    #[error(
        "the name {:?} is {length} bytes long: create it under one of at most {most}",
        net::shown(name)
    )]
    LongName {
        /// The VM's or the instance's name.
        name: String,
        /// Its length.
        length: usize,
        /// The longest that it may be.
        most: usize,
    },
    /// A port whose name no IP object may have.
    #[error(
        "network {network:?}: the name of its port, {:?}, is {} bytes long: create VM or attachment under shorter names, so that it has at most {}",
        net::shown(port),
        port.len(),
        names::LONGEST_NAME
    )]
    LongPort {
        /// The network's name in the VM.
        network: String,
        /// The port.
        port: String,
    },
    /// More networks or interfaces than a machine has places for.
    #[error("{count} {what} are more than a VM has places for: write at most {MOST_NETWORKS}")]
    ManyNetworks {
        /// `networks` or `interfaces`.
        what: &'static str,
        /// How many.
        count: usize,
    },
    /// Two places ask for different things.
    #[error(
        "{place}: {text:?}, but {other} asks for {theirs:?}: leave one of the two out, or have both say the same"
    )]
    Contradicted {
        /// Annotation or field.
        place: String,
        /// What it says.
        text: String,
        /// The other one.
        other: String,
        /// What that says.
        theirs: String,
    },
    /// Two networks of the VM name one address.
    #[error("{place}: {what} is named for network {network:?} already: name another")]
    NamedTwice {
        /// Annotation or field.
        place: String,
        /// The address, or the MAC.
        what: String,
        /// The other network.
        network: String,
    },
    /// Multus's list could not be read.
    #[error(
        "annotation k8s.v1.cni.cncf.io/networks cannot be read: {why}: write a list such as [{{\"name\": \"net2\", \"ips\": [\"10.0.0.5\"]}}]"
    )]
    Multus {
        /// What is wrong with it.
        why: String,
    },
    /// An element of Multus's list is for no network of the VM.
    #[error(
        "annotation {place}: {attachment:?} is no network of this VM: list it in spec.networks, or take it out here"
    )]
    NoSuchNetwork {
        /// Where.
        place: String,
        /// The attachment.
        attachment: String,
    },
    /// An element of Multus's list may be for several networks of the VM.
    #[error(
        "annotation {place} does not say for which network the element is: write the name of network {networks}"
    )]
    WhichNetwork {
        /// Where.
        place: String,
        /// Which these are.
        networks: String,
    },
    /// Two elements of Multus's list are for one network.
    #[error(
        "annotation {place}: element {other} is for network {network:?} already: leave one of the two out"
    )]
    ElementTwice {
        /// Where.
        place: String,
        /// The other element.
        other: String,
        /// The network.
        network: String,
    },
    /// Two pod networks, or two networks of one name.
    #[error(
        "networks {first:?} and {second:?} would both be port {port:?}: have one pod network, and give each network a name of its own"
    )]
    SamePort {
        /// The first network.
        first: String,
        /// The second network.
        second: String,
        /// The port that both would have.
        port: String,
    },
    /// An attachment of a name that no object has.
    #[error(
        "network {network:?}: networkName {:?} names no attachment: write <name>, or <namespace>/<name>",
        net::shown(attachment)
    )]
    NoAttachment {
        /// The network's name in the VM.
        network: String,
        /// What it says.
        attachment: String,
    },
    /// A further network of an attachment whose name can be no part of a port's.
    #[error(
        "network {network:?} is a further one of {provider}, so its name is part of a port's: write lower-case letters, digits and hyphens"
    )]
    NoLabel {
        /// The network's name in the VM.
        network: String,
        /// The provider that serves it.
        provider: String,
    },
}

impl RequestError {
    /// Whether it is for another object to be there, or in force, or to name another.
    #[must_use]
    pub const fn waits_for_another(&self) -> bool {
        matches!(
            self,
            Self::NoSubnet { .. }
                | Self::UnknownSubnet { .. }
                | Self::RefusedSubnet { .. }
                | Self::LeavingSubnet { .. }
                | Self::OfAnotherVpc { .. }
                | Self::UnknownPool { .. }
                | Self::RefusedPool { .. }
                | Self::UnknownVip { .. }
        )
    }
}

/// What a VM may ask for.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// The subnets in force.
    pub in_force: &'a BTreeMap<String, Network>,
    /// Those that are not, or not as written, and why.
    pub refused: &'a BTreeMap<String, NetworkError>,
    /// IPPools as written.
    pub pools: &'a Shelf<String, IpPool>,
    /// Vips as written.
    pub vips: &'a Shelf<String, Vip>,
    /// IPAMClaims by namespace and name.
    pub claims: &'a Shelf<VmKey, IpamClaim>,
    /// Those that are not in force as written, and why.
    pub refused_pools: &'a BTreeMap<String, Flaw>,
    /// Those subnets that the VM has addresses of: they stay open to it while they are
    /// being deleted.
    pub used: &'a BTreeSet<String>,
    /// The ports that it has.
    pub known: &'a Known,
    /// The Vpc that lists its namespace, and the subnet that this Vpc names for it.
    pub bound: Option<(&'a str, &'a str)>,
}

impl<'a> Offer<'a> {
    fn is_open(&self, subnet: &Network) -> bool {
        !subnet.leaving || self.used.contains(&subnet.name)
    }

    /// The subnet that `place` names.
    fn named(&self, place: &str, name: &str) -> Result<&'a Network, RequestError> {
        let (place, subnet) = (place.to_owned(), name.to_owned());
        match (self.in_force.get(name), self.refused.get(name)) {
            (Some(network), _) if self.is_open(network) => Ok(network),
            (Some(_), _) => Err(RequestError::LeavingSubnet { place, subnet }),
            (None, Some(why)) => {
                Err(RequestError::RefusedSubnet { place, subnet, why: Box::new(why.clone()) })
            }
            (None, None) => Err(RequestError::UnknownSubnet { place, subnet }),
        }
    }

    /// The same, of this provider.
    fn named_for(
        &self,
        provider: &str,
        place: String,
        name: &str,
    ) -> Result<&'a Network, RequestError> {
        let subnet = self.named(&place, name)?;
        if subnet.provider == provider {
            return Ok(subnet);
        }
        let (theirs, provider) = (subnet.provider.clone(), provider.to_owned());
        Err(RequestError::OtherProvider { place, subnet: name.to_owned(), theirs, provider })
    }
}

/// Who asks: a VM by its template, or an instance without a VM.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// The template's annotations, or the instance's.
    pub annotations: &'a BTreeMap<String, String>,
    /// What is to run.
    pub spec: &'a VirtualMachineInstanceSpec,
}

impl<'a> From<&'a VirtualMachine> for Asker<'a> {
    fn from(vm: &'a VirtualMachine) -> Self {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        let template = &vm.spec.template;
        let metadata = template.metadata.as_ref();
        Self {
            name: vm.metadata.name.as_deref().unwrap_or_default(),
            namespace: vm.metadata.namespace.as_deref().unwrap_or_default(),
            annotations: metadata.and_then(|meta| meta.annotations.as_ref()).unwrap_or(&NONE),
            spec: &template.spec,
        }
    }
}

/// The networks that are asked for, in the order in which they are written.
///
/// # Errors
/// The first thing that its author must change.
pub fn requests(asker: Asker<'_>, offer: Offer<'_>) -> Result<Vec<Request>, RequestError> {
    bounds::check(asker)?;
    let reader = Reader::new(asker, offer);
    let networks = networks_of(asker.spec);
    let providers = providers(asker, &networks, offer.known)?;
    let elements = multus::read(asker.annotations, asker.namespace, &networks)?;
    let mut requests = Vec::with_capacity(networks.len());
    for ((network, providers), element) in networks.iter().zip(&providers).zip(&elements) {
        let request = reader.read(&Named::of(network, providers, element.as_ref()))?;
        fixed::differs(&request, &requests, offer.in_force)?;
        requests.push(request);
    }
    Ok(requests)
}

/// What can be said of the networks that are asked for whatever subnets there are.
///
/// # Errors
/// The first thing that its author must change.
pub fn alone(asker: Asker<'_>, offer: Offer<'_>) -> Result<(), RequestError> {
    let reader = Reader::new(asker, offer);
    let networks = networks_of(asker.spec);
    let providers = providers(asker, &networks, offer.known)?;
    let elements = multus::read(asker.annotations, asker.namespace, &networks)?;
    for ((network, providers), element) in networks.iter().zip(&providers).zip(&elements) {
        reader.mac(&Named::of(network, providers, element.as_ref()))?;
        Leave::read(asker.annotations, &providers.provider)?;
    }
    Ok(())
}

/// The networks of a template; without any, the one that KubeVirt adds.
#[must_use]
pub fn networks_of(spec: &VirtualMachineInstanceSpec) -> Vec<VmNetwork> {
    let devices = &spec.domain.devices;
    let declined = devices.autoattach_pod_interface == Some(false);
    if spec.networks.is_empty() && devices.interfaces.is_empty() && !declined {
        return vec![VmNetwork {
            name: "default".to_owned(),
            pod: Some(crds::kubevirt::Opaque::default()),
            ..VmNetwork::default()
        }];
    }
    spec.networks.clone()
}

/// The annotations of Kube-OVN's that have no effect yet: fields
/// that are not served, and those of networks that the VM does not have. Of several
/// networks of one attachment the instance says which has which name; without one either
/// may.
#[must_use]
pub fn without_effect(asker: Asker<'_>, instance: Option<&VirtualMachineInstance>) -> Vec<String> {
    use annotations::{IP_ADDRESS, IP_FAMILY, IP_POOL, LOGICAL_SWITCH, MAC_ADDRESS, VIP};
    let mut served = BTreeSet::new();
    for network in networks_of(asker.spec) {
        for providers in ports::possible(&network, asker.namespace, instance) {
            let named = Named::of(&network, &providers, None);
            let fields = [LOGICAL_SWITCH, IP_ADDRESS, MAC_ADDRESS, IP_POOL, IP_FAMILY, VIP];
            let fields = fields.iter().chain(&leave::FIELDS).chain(&dhcp::FIELDS);
            served.extend(fields.map(|field| named.key(field)));
            served.extend([IP_ADDRESS, MAC_ADDRESS].iter().flat_map(|one| named.keys(one)));
        }
    }
    let unserved = |(key, text): (&String, &String)| match key.as_str() {
        annotations::MULTUS_NETWORKS => multus::without_effect(text),
        annotations::MULTUS_DEFAULT_NETWORK => vec![key.clone()],
        _ if is_kube_ovns(key) && !served.contains(key) => vec![key.clone()],
        _ => Vec::new(),
    };
    asker.annotations.iter().flat_map(unserved).collect()
}

/// Whether the annotation is of the family `ovn.kubernetes.io/…`,
/// `<nad>.<namespace>.ovn.kubernetes.io/…`, the same with `.ovn.<interface>`, or
/// `<nad>.<namespace>.kubernetes.io/<field>.<interface>`.
fn is_kube_ovns(key: &str) -> bool {
    let prefix = key.split_once('/').and_then(|(domain, field)| {
        domain.strip_suffix(".kubernetes.io").map(|prefix| (prefix, field))
    });
    prefix.is_some_and(|(prefix, field)| {
        let of_attachment = field.starts_with(annotations::IP_ADDRESS)
            || field.starts_with(annotations::MAC_ADDRESS);
        let ends = prefix.ends_with(".ovn") || prefix.contains(".ovn.");
        prefix == names::DEFAULT_PROVIDER || ends || of_attachment
    })
}

struct Reader<'a> {
    vm: String,
    namespace: String,
    annotations: &'a BTreeMap<String, String>,
    interfaces: &'a [Interface],
    offer: Offer<'a>,
}

impl<'a> Reader<'a> {
    fn new(asker: Asker<'a>, offer: Offer<'a>) -> Self {
        Self {
            vm: asker.name.to_owned(),
            namespace: asker.namespace.to_owned(),
            annotations: asker.annotations,
            interfaces: &asker.spec.domain.devices.interfaces,
            offer,
        }
    }
}

impl Reader<'_> {
    fn read(&self, named: &Named<'_>) -> Result<Request, RequestError> {
        let lender = self.lender(named)?;
        let subnet = self.subnet(named)?;
        let lender = lender.or_else(|| self.claim_named_after(named, subnet));
        let (place, addresses) = self.addresses(named, subnet)?;
        let pool::Source { entries, from } = match addresses.as_slice() {
            [] if lender.is_none() => self.source(named, subnet)?,
            _ => pool::Source::default(),
        };
        let family = self.family(named, subnet, &addresses)?;
        let mac = self.mac(named)?;
        Ok(Request {
            port: names::port(&self.vm, &self.namespace, named.provider),
            network: named.network.name.clone(),
            subnet: subnet.name.clone(),
            pool: entries,
            from,
            family,
            lender,
            addresses,
            mac: mac.as_ref().map(|(_, mac)| *mac),
            places: Places {
                addresses: place,
                mac: mac.map(|(place, _)| place).unwrap_or_default(),
            },
            leave: Leave::read(self.annotations, named.provider)?,
            provider: named.provider.to_owned(),
        })
    }

    /// The subnet that the annotation names, else that of the IPPool or Vip named, else one that
    /// lists the namespace, else the one that its Vpc names, else the default one.
    fn subnet(&self, named: &Named<'_>) -> Result<&Network, RequestError> {
        let provider = named.of_subnet;
        let key = named.key(annotations::LOGICAL_SWITCH);
        if let Some(name) = self.annotations.get(&key) {
            return self.offer.named_for(provider, format!("annotation {key}"), name.trim());
        }
        if let Some(subnet) = self.subnet_of_pool(named)? {
            return Ok(subnet);
        }
        if let Some(subnet) = self.subnet_of_vip(named)? {
            return Ok(subnet);
        }
        let serves = |subnet: &&Network| subnet.provider == provider && self.offer.is_open(subnet);
        let serving = || self.offer.in_force.values().filter(serves);
        let attachment = provider != names::DEFAULT_PROVIDER;
        if let Some(subnet) = serving().find(|subnet| subnet.namespaces.contains(&self.namespace)) {
            return Ok(subnet);
        }
        // Named and not there is no reason to be put into another network.
        if let Some((vpc, name)) = self.offer.bound.filter(|_| !attachment) {
            let place = format!("spec.defaultSubnet of Vpc {vpc:?}");
            let subnet = self.offer.named(&place, name)?;
            return if subnet.vpc == vpc && subnet.provider == provider {
                Ok(subnet)
            } else {
                Err(RequestError::OfAnotherVpc { place, subnet: name.to_owned() })
            };
        }
        serving().find(|subnet| subnet.default || attachment).ok_or_else(|| {
            RequestError::NoSubnet {
                network: named.network.name.clone(),
                key,
                namespace: self.namespace.clone(),
            }
        })
    }
}

#[cfg(test)]
mod bad_values;
#[cfg(test)]
mod pools;
#[cfg(test)]
mod tests;
