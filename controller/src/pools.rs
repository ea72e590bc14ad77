//! IPPools: some addresses of a subnet, for those who name the pool or whose
//! namespace it lists. Pure.
//!
//! A pool takes its free addresses out of those that its subnet gives to everyone, and
//! nothing from anybody: who holds one of them keeps it, and so it is when the pool
//! goes. That is why an IPPool needs no finalizer: when it is deleted, its free
//! addresses are the subnet's again. One that an IPPool brings along from Kube-OVN is
//! taken off.
//!
//! What the subnet excludes stays excluded, in a pool too. Where a pool has no
//! addresses of a family, the subnet gives those.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crds::condition::{READY, holds};
use crds::kubeovn::{IpPool, IpPoolStatus};
use kube::ResourceExt as _;
use net::AddrRange;

use crate::family::{Family, covers};
use crate::flaw::Flaw;
use crate::hold;
use crate::network::Network;
use crate::shelf::Shelf;

/// A pool that is in force.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NamedPool {
    /// Its addresses, as written.
    pub ranges: Vec<AddrRange>,
    /// Namespaces whose VMs get their addresses from it unless they say otherwise.
    pub namespaces: BTreeSet<String>,
    /// The ranges in order, those that overlap as one.
    spans: Vec<(IpAddr, IpAddr)>,
}

/// The ranges in order, those that overlap as one.
fn spans(ranges: &[AddrRange]) -> Vec<(IpAddr, IpAddr)> {
    let mut all: Vec<_> = ranges.iter().map(|range| (range.first(), range.last())).collect();
    all.sort_unstable();
    let mut spans: Vec<(IpAddr, IpAddr)> = Vec::with_capacity(all.len());
    for (first, last) in all {
        match spans.last_mut() {
            Some((_, end)) if first <= *end => *end = last.max(*end),
            _ => spans.push((first, last)),
        }
    }
    spans
}

/// Whether one of these spans has all of the range.
fn has_all(spans: &[(IpAddr, IpAddr)], range: AddrRange) -> bool {
    let after = spans.partition_point(|(first, _)| *first <= range.first());
    after > 0 && range.last() <= spans[after - 1].1
}

impl NamedPool {
    fn new(ranges: Vec<AddrRange>, namespaces: BTreeSet<String>) -> Self {
        let spans = spans(&ranges);
        Self { ranges, namespaces, spans }
    }

    /// Whether this address is one of its own.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        has_all(&self.spans, address.into())
    }

    /// Those of these addresses, which are in order, that are its own.
    #[must_use]
    pub fn among(&self, sorted: &[IpAddr]) -> Vec<IpAddr> {
        let own = self.spans.iter().flat_map(|(first, last)| {
            let from = sorted.partition_point(|one| one < first);
            let to = sorted.partition_point(|one| one <= last);
            &sorted[from..to]
        });
        own.copied().collect()
    }

    /// Whether it has any address of this family, or of any.
    #[must_use]
    pub fn serves(&self, family: Option<Family>) -> bool {
        self.ranges.iter().any(|range| covers(family, range.first()))
    }
}

/// Ranges by their last address, none of which overlap, each with its first address and
/// whose it is.
type Taken = BTreeMap<IpAddr, (IpAddr, String)>;

/// Gives each network its pools, and says which IPPools are not in force as written,
/// and why. Of two that overlap the one that was in force `before` stays so, also over a
/// restart; else the older one.
pub fn divide(
    networks: &mut BTreeMap<String, Network>,
    pools: &Shelf<String, IpPool>,
    before: &BTreeMap<String, Network>,
) -> BTreeMap<String, Flaw> {
    networks.values_mut().for_each(|network| network.pools.clear());
    let old = |name: &str| {
        let mut subnets = before.iter();
        subnets.find_map(|(subnet, one)| Some((subnet.clone(), one.pools.get(name)?.clone())))
    };
    let staying = pools.iter().filter(|(_, pool)| !hold::is_leaving(&pool.metadata));
    let mut ordered: Vec<&Arc<IpPool>> = staying.map(|(_, pool)| pool).collect();
    let were: BTreeSet<&String> = before.values().flat_map(|one| one.pools.keys()).collect();
    ordered.sort_by_cached_key(|pool| {
        let name = pool.name_any();
        (!were.contains(&name), !was_in_force(pool), pool.creation_timestamp(), name)
    });
    let mut taken: BTreeMap<String, Taken> = BTreeMap::new();
    let mut refused = BTreeMap::new();
    // What cannot be read goes on as it was.
    for (name, meta) in pools.unreadable().filter(|(_, meta)| !hold::is_leaving(meta)) {
        if were.contains(name) {
            keep(networks, &mut taken, name, old(name));
        }
        let (field, advice) = ("ips".to_owned(), "the IPPool does not fit its type: correct it");
        refused.insert(meta.name.clone().unwrap_or_default(), Flaw::new(field, "", advice));
    }
    for pool in ordered {
        let name = pool.name_any();
        let subnet = &pool.spec.subnet;
        let of_subnet = taken.entry(subnet.clone()).or_default();
        match understand(pool, networks.get(subnet), of_subnet) {
            Ok(named) => put(networks, of_subnet, subnet, &name, named),
            Err(flaw) => {
                // An edit that cannot be gives its addresses to nobody else.
                if were.contains(&name) {
                    keep(networks, &mut taken, &name, old(&name));
                } else if let Some(before) = as_it_was(pool) {
                    let subnet = &before.spec.subnet;
                    let of_subnet = taken.entry(subnet.clone()).or_default();
                    if let Ok(named) = understand(&before, networks.get(subnet), of_subnet) {
                        put(networks, of_subnet, subnet, &name, named);
                    }
                }
                refused.insert(name, flaw);
            }
        }
    }
    refused
}

/// Leaves a pool as it was, where it still can be.
fn keep(
    networks: &mut BTreeMap<String, Network>,
    taken: &mut BTreeMap<String, Taken>,
    name: &str,
    was: Option<(String, NamedPool)>,
) {
    let Some((subnet, named)) = was else { return };
    let of_subnet = taken.entry(subnet.clone()).or_default();
    let fits = |network: &Network| {
        let excluded = spans(&network.excluded);
        let refusal = |range: &AddrRange| refusal(*range, network, &excluded, of_subnet);
        named.ranges.iter().all(|range| refusal(range).is_none())
    };
    if networks.get(&subnet).is_some_and(fits) {
        put(networks, of_subnet, &subnet, name, named);
    }
}

fn put(
    networks: &mut BTreeMap<String, Network>,
    taken: &mut Taken,
    subnet: &str,
    name: &str,
    named: NamedPool,
) {
    for (first, last) in &named.spans {
        taken.insert(*last, (*first, name.to_owned()));
    }
    if let Some(network) = networks.get_mut(subnet) {
        network.pools.insert(name.to_owned(), named);
    }
}

/// Whether `pool` can be beside what is there: what it waits for, or else nothing.
///
/// # Errors
/// The first entry that cannot be.
pub fn review(pool: &IpPool, networks: &BTreeMap<String, Network>) -> Result<Option<Flaw>, Flaw> {
    let network = networks.get(&pool.spec.subnet);
    if network.is_none() {
        ranges(pool)?;
    }
    let own = pool.name_any();
    let others = network.into_iter().flat_map(|network| &network.pools);
    let others = others.filter(|(name, _)| **name != own);
    let taken = others.flat_map(|(name, one)| {
        one.spans.iter().map(move |(first, last)| (*last, (*first, name.clone())))
    });
    match understand(pool, network, &taken.collect()) {
        Ok(_) => Ok(None),
        Err(flaw) if network.is_none() => Ok(Some(flaw)),
        Err(flaw) => Err(flaw),
    }
}

/// The entries of `pool`.
fn ranges(pool: &IpPool) -> Result<Vec<AddrRange>, Flaw> {
    let empty = |field: &str, advice: &str| Err(Flaw::new(field.to_owned(), "", advice));
    if pool.spec.subnet.is_empty() {
        return empty("subnet", "write the name of a Subnet");
    }
    if pool.spec.ips.is_empty() {
        let advice = "write an address, a range such as 10.0.0.5..10.0.0.9, or a network such as 10.0.0.0/29";
        return empty("ips", advice);
    }
    if let Some(flaw) = Flaw::of_too_many("IPPool", "ips", pool.spec.ips.len()) {
        return Err(flaw);
    }
    let entry = |(at, text): (usize, &String)| {
        text.trim().parse().map_err(|_| {
            let advice = "write an address, a range such as 10.0.0.5..10.0.0.9, or a network such as 10.0.0.0/29, the lower address first";
            Flaw::new(format!("ips[{at}]"), text, advice)
        })
    };
    pool.spec.ips.iter().enumerate().map(entry).collect()
}

/// What `pool` says, if it can be in force beside those that have `taken` theirs.
fn understand(pool: &IpPool, network: Option<&Network>, taken: &Taken) -> Result<NamedPool, Flaw> {
    let spec = &pool.spec;
    let Some(network) = network else {
        ranges(pool)?;
        let advice = "no Subnet of that name is in force: create it, correct it, or name another";
        return Err(Flaw::new("subnet".to_owned(), &spec.subnet, advice));
    };
    if let Some(flaw) = Flaw::of_too_many("IPPool", "namespaces", spec.namespaces.len()) {
        return Err(flaw);
    }
    let ranges = ranges(pool)?;
    let excluded = spans(&network.excluded);
    for (at, (range, text)) in ranges.iter().zip(&spec.ips).enumerate() {
        if let Some(advice) = refusal(*range, network, &excluded, taken) {
            return Err(Flaw::new(format!("ips[{at}]"), text, advice));
        }
    }
    let namespaces = spec.namespaces.iter().cloned().collect();
    Ok(NamedPool::new(ranges, namespaces))
}

/// Why this entry cannot be in force, and what to do.
fn refusal(
    range: AddrRange,
    network: &Network,
    excluded: &[(IpAddr, IpAddr)],
    taken: &Taken,
) -> Option<String> {
    let Network { name, cidrs, .. } = network;
    let within =
        |cidr: ipnetwork::IpNetwork| cidr.contains(range.first()) && cidr.contains(range.last());
    if !cidrs.iter().any(within) {
        return Some(format!(
            "not all of it is in {cidrs} of subnet {name:?}: write addresses of it, or name another subnet"
        ));
    }
    if let Some(gateway) = network.gateways().find(|gateway| range.contains(*gateway)) {
        return Some(format!("{gateway} is the gateway of subnet {name:?}: leave it out"));
    }
    if has_all(excluded, range) {
        return Some(format!(
            "subnet {name:?} gives none of it, by its spec.excludeIps: take it out there, or write others"
        ));
    }
    let shared: Vec<AddrRange> = network.vips.iter().copied().map(AddrRange::from).collect();
    if has_all(&spans(&shared), range) {
        return Some(format!(
            "subnet {name:?} gives all of it to nobody, by its spec.vips: take it out there, or write others"
        ));
    }
    let (_, (first, other)) = taken.range(range.first()..).next()?;
    (*first <= range.last()).then(|| {
        format!(
            "IPPool {other:?} of subnet {name:?} has some of it: leave those out in one of the two"
        )
    })
}

/// Whether the status says that the pool was in force, as written or otherwise.
fn was_in_force(pool: &IpPool) -> bool {
    let is_ready = |status: &IpPoolStatus| holds(&status.conditions, READY);
    as_it_was(pool).is_some() || pool.status.as_ref().is_some_and(is_ready)
}

/// The pool with the spec that was in force last.
fn as_it_was(pool: &IpPool) -> Option<IpPool> {
    let spec = pool.status.as_ref()?.in_force.as_deref()?;
    Some(IpPool { spec: spec.clone(), ..pool.clone() })
}

/// The fields that are written in `pool` but have no effect yet.
#[must_use]
pub fn without_effect(pool: &IpPool) -> Vec<&'static str> {
    pool.spec.enable_address_set.then_some("enableAddressSet").into_iter().collect()
}

#[cfg(test)]
mod tests;
