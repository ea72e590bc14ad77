//! Annotation `ip_pool`: an IPPool, or addresses of which a VM gets the first that is
//! free.
//!
//! As upstream (`pkg/controller/pod.go`, `acquireAddress`): semicolons stand between
//! entries, each an address or one of each family with a comma between; without any
//! semicolon commas stand between addresses, but two of different families are one
//! entry. Besides, an entry may be a range, `10.0.0.5..10.0.0.9`. What could be no
//! address is the name of an IPPool.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crds::annotations;
use net::AddrRange;

use super::{Named, Reader, RequestError};
use crate::ledger::FromPool;
use crate::network::Network;

/// The most addresses that an annotation may name: each may be tried.
const MOST: usize = 1024;

/// The most pools that a message names.
const NAMED: usize = 3;

/// Where the addresses of a network come from that names none.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// Of these it gets the first that is free.
    pub(super) entries: Vec<Vec<IpAddr>>,
    /// Or what this gives.
    pub(super) from: Option<FromPool>,
}

impl<'a> Reader<'a> {
    /// What the annotation says, else the pool of the subnet that lists the namespace.
    pub(super) fn source(
        &self,
        named: &Named<'_>,
        subnet: &Network,
    ) -> Result<Source, RequestError> {
        let key = named.key(annotations::IP_POOL);
        let Some(text) = self.annotations.get(&key) else {
            return Ok(Source { from: self.bound_pool(named, subnet), ..Source::default() });
        };
        let Some(name) = pool_name(text) else {
            return Ok(Source { entries: entries(&key, text, subnet)?, ..Source::default() });
        };
        if !subnet.pools.contains_key(name) {
            return Err(self.no_pool(key, name, subnet));
        }
        let from = FromPool { name: name.to_owned(), asked: true };
        Ok(Source { from: Some(from), ..Source::default() })
    }

    /// The subnet of the IPPool that the annotation names, if it names one.
    pub(super) fn subnet_of_pool(
        &self,
        named: &Named<'_>,
    ) -> Result<Option<&'a Network>, RequestError> {
        let key = named.key(annotations::IP_POOL);
        let name = self.annotations.get(&key).and_then(|text| pool_name(text));
        let Some(name) = name else { return Ok(None) };
        let Some(pool) = self.offer.pools.get(&name.to_owned()) else {
            return Err(self.unknown_pool(key, name));
        };
        let place = format!("annotation {key}: IPPool {name:?}");
        self.offer.named_for(named.of_subnet, place, &pool.spec.subnet).map(Some)
    }

    /// The first pool of the subnet, by name, that is for this namespace and has
    /// addresses of the family wanted.
    fn bound_pool(&self, named: &Named<'_>, subnet: &Network) -> Option<FromPool> {
        let family = self.annotations.get(&named.key(annotations::IP_FAMILY));
        let family = family.and_then(|text| text.trim().parse().ok());
        let mut bound = subnet
            .pools
            .iter()
            .filter(|(_, pool)| pool.namespaces.contains(&self.namespace) && pool.serves(family));
        bound.next().map(|(name, _)| FromPool { name: name.clone(), asked: false })
    }

    /// Why this subnet has no such pool.
    fn no_pool(&self, key: String, name: &str, subnet: &Network) -> RequestError {
        let pool = name.to_owned();
        match (self.offer.pools.get(&pool), self.offer.refused_pools.get(name)) {
            (_, Some(why)) => RequestError::RefusedPool { key, pool, why: why.to_string() },
            (None, None) => self.unknown_pool(key, name),
            (Some(there), None) if there.spec.subnet != subnet.name => RequestError::PoolOfOther {
                key,
                pool,
                theirs: there.spec.subnet.clone(),
                subnet: subnet.name.clone(),
            },
            (Some(_), None) => {
                let why = "it is being deleted: name another".to_owned();
                RequestError::RefusedPool { key, pool, why }
            }
        }
    }

    fn unknown_pool(&self, key: String, name: &str) -> RequestError {
        let pool = name.to_owned();
        if let Some(why) = self.offer.refused_pools.get(name) {
            return RequestError::RefusedPool { key, pool, why: why.to_string() };
        }
        let pools = self.offer.in_force.values().flat_map(|network| network.pools.keys());
        let known: Vec<String> = pools.take(NAMED).map(|one| format!("{one:?}")).collect();
        let known = match known.as_slice() {
            [] => String::new(),
            _ => format!("name another, such as {}, or ", known.join(", ")),
        };
        RequestError::UnknownPool { key, pool, known }
    }
}

/// The name in the annotation, if it is one: anything that could be an object's name
/// and is no address.
fn pool_name(text: &str) -> Option<&str> {
    let name = text.trim();
    let allowed =
        |char: u8| char.is_ascii_lowercase() || char.is_ascii_digit() || b"-.".contains(&char);
    let is_name = !name.is_empty() && !name.contains("..") && name.bytes().all(allowed);
    (is_name && name.parse::<IpAddr>().is_err()).then_some(name)
}

/// The entries of the annotation `key`, each with at most one address of a family.
pub(super) fn entries(
    key: &str,
    text: &str,
    subnet: &Network,
) -> Result<Vec<Vec<IpAddr>>, RequestError> {
    let unreadable = || RequestError::Pool { key: key.to_owned(), text: text.to_owned() };
    let mut entries = Vec::new();
    for entry in split(text) {
        let ranges: Vec<AddrRange> = entry
            .split(',')
            .map(|part| part.trim().parse())
            .collect::<Result<_, _>>()
            .map_err(|_| unreadable())?;
        match ranges.as_slice() {
            [range] => entries.extend(each(*range).take(MOST + 1).map(|one| vec![one])),
            [one, other] if one.first().is_ipv4() != other.first().is_ipv4() => {
                if one.first() != one.last() || other.first() != other.last() {
                    return Err(unreadable());
                }
                entries.push(vec![one.first(), other.first()]);
            }
            _ => return Err(unreadable()),
        }
        if entries.len() > MOST {
            return Err(RequestError::LargePool { key: key.to_owned(), text: text.to_owned() });
        }
    }
    if let Some(address) = entries.iter().flatten().find(|one| subnet.vips.contains(*one)) {
        let (key, address, subnet) = (key.to_owned(), *address, subnet.name.clone());
        return Err(RequestError::OfTheSubnet { key, address, subnet });
    }
    let outside = entries.iter().flatten().find(|address| !subnet.cidrs.contains(**address));
    match outside {
        Some(address) => Err(RequestError::OutsideSubnet {
            key: key.to_owned(),
            address: *address,
            cidr: subnet.cidrs.to_string(),
            subnet: subnet.name.clone(),
        }),
        None => Ok(entries),
    }
}

fn split(text: &str) -> Vec<&str> {
    if text.contains(';') {
        return text.split(';').map(str::trim).filter(|entry| !entry.is_empty()).collect();
    }
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    match parts.as_slice() {
        // One of each family.
        [one, other] if one.contains(':') != other.contains(':') => vec![text],
        _ => parts,
    }
}

/// The addresses of a range, lowest first.
fn each(range: AddrRange) -> Box<dyn Iterator<Item = IpAddr>> {
    match (range.first(), range.last()) {
        (IpAddr::V4(first), IpAddr::V4(last)) => Box::new(
            (u32::from(first)..=u32::from(last)).map(|one| IpAddr::V4(Ipv4Addr::from(one))),
        ),
        (IpAddr::V6(first), IpAddr::V6(last)) => Box::new(
            (u128::from(first)..=u128::from(last)).map(|one| IpAddr::V6(Ipv6Addr::from(one))),
        ),
        _ => Box::new(std::iter::empty()),
    }
}
