//! What a VM asks of the network: its template, understood.
//!
//! A network of the template becomes a [`Request`]: which port, which subnet,
//! which addresses and MAC if any are named. Annotations are Kube-OVN's and are
//! read from the VM template itself, so that what is wrong with them is found
//! when the VM is made. Those that have no effect yet are named by
//! [`without_effect`], so that nobody relies on them.

mod bounds;
mod error;
mod family;
mod fixed;
mod lender;
mod multus;
mod pool;
mod ports;
mod rates;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crds::annotations;
use crds::cni::IpamClaim;
use crds::kubeovn::{IpPool, Vip, Vpc};
use crds::kubevirt::{
    Interface, Network as VmNetwork, VirtualMachine, VirtualMachineInstance,
    VirtualMachineInstanceSpec,
};
use net::{MacAddr, names};

use crate::binding;
use crate::dhcp;
use crate::family::Family;
use crate::flaw::Flaw;
use crate::leave::{self, Leave};
use crate::ledger::{FromPool, VmKey};
use crate::network::{Network, NetworkError};
use crate::shelf::Shelf;

pub use error::RequestError;
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

/// What a VM may ask for.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// The subnets in force.
    pub in_force: &'a BTreeMap<String, Network>,
    /// Those that are not, or not as written, and why.
    pub refused: &'a BTreeMap<String, NetworkError>,
    /// Vpcs as written.
    pub vpcs: &'a Shelf<String, Vpc>,
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
        rates::check(asker.annotations, &providers.provider)?;
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
        rates::check(self.annotations, named.provider)?;
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
        let is_open = |subnet: &&Network| {
            attachment || (subnet.default && binding::scope(self.offer.vpcs, subnet).is_none())
        };
        serving().find(is_open).ok_or_else(|| RequestError::NoSubnet {
            network: named.network.name.clone(),
            key,
            namespace: self.namespace.clone(),
        })
    }
}

#[cfg(test)]
mod bad_values;
#[cfg(test)]
mod pools;
#[cfg(test)]
mod tests;
