//! Annotation `ip_pool`: addresses of which a VM gets the first that is free.
//!
//! As upstream (`pkg/controller/pod.go`, `acquireAddress`): semicolons stand between
//! entries, each an address or one of each family with a comma between; without any
//! semicolon commas stand between addresses, but two of different families are one
//! entry. Besides, an entry may be a range, `10.0.0.5..10.0.0.9`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use net::AddrRange;

use super::RequestError;
use crate::network::Network;

/// The most addresses that an annotation may name: each may be tried.
const MOST: usize = 1024;

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
