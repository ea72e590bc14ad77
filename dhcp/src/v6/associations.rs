//! Who of a message's identity associations gets the port's one address.

use std::net::Ipv6Addr;

use super::{Association, Family, Lease, Opt, Request, Status, Type};
use crate::answer::Ignored;
use crate::binding::{Binding, INFINITE, V6};

/// The answer to each association, and whether one of them got the address: that one is the
/// first, since the last ones fall off a long message.
pub(super) fn answer(binding: &Binding, v6: &V6, request: &Request) -> (Vec<Opt>, bool) {
    let chosen = chosen(v6, request);
    let mut given = false;
    let mut order: Vec<usize> = (0..request.associations.len()).collect();
    order.sort_by_key(|index| chosen != Some(*index));
    let answers = order.into_iter().map(|index| {
        let association = &request.associations[index];
        if association.family == Family::Prefix {
            return no_prefix(request.kind, association);
        }
        // Only a Request is judged so: whoever solicits gets another address, and
        // whoever renews learns that the old one is over (RFC 9915 §18.3.2).
        if request.kind == Type::Request && is_off_link(binding, v6, association) {
            return refused(association, Status::NotOnLink);
        }
        if chosen == Some(index) {
            given = true;
            return leased(v6, request.kind, association);
        }
        match request.kind {
            Type::Renew | Type::Rebind => ended(v6, association, Some(Status::NoBinding)),
            _ => refused(association, Status::NoAddrsAvail),
        }
    });
    let answers = answers.collect();
    (answers, given)
}

/// The association that names the address already, else the first; none where addresses
/// are not given.
fn chosen(v6: &V6, request: &Request) -> Option<usize> {
    if v6.stateless {
        return None;
    }
    let candidates = || {
        let all = request.associations.iter().enumerate();
        all.filter(|(_, association)| association.family == Family::Address)
    };
    let naming = candidates().find(|(_, association)| association.addresses.contains(&v6.address));
    naming.or_else(|| candidates().next()).map(|(index, _)| index)
}

fn leased(v6: &V6, kind: Type, association: &Association) -> Opt {
    let (preferred, valid) = lifetimes(v6);
    let mut leases = vec![Lease { address: v6.address, preferred, valid }];
    if matches!(kind, Type::Renew | Type::Rebind) {
        leases.extend(over(v6, association));
    }
    let (t1, t2) = times(preferred);
    Opt::Address { id: association.id, t1, t2, leases, status: None }
}

/// The preferred and the valid lifetime.
fn lifetimes(v6: &V6) -> (u32, u32) {
    let valid = v6.lease;
    if let Some(preferred) = v6.preferred {
        return (preferred.min(valid), valid);
    }
    if valid == INFINITE {
        (INFINITE, INFINITE)
    } else {
        (valid / 8 * 5 + valid % 8 * 5 / 8, valid)
    }
}

/// T1 and T2: 0.5 and 0.8 of the preferred lifetime (RFC 9915 §21.4).
fn times(preferred: u32) -> (u32, u32) {
    if preferred == INFINITE {
        return (INFINITE, INFINITE);
    }
    (preferred / 2, preferred / 5 * 4 + preferred % 5 * 4 / 5)
}

fn refused(association: &Association, status: Status) -> Opt {
    Opt::Address { id: association.id, t1: 0, t2: 0, leases: Vec::new(), status: Some(status) }
}

/// An association whose addresses are no longer, or never were, the port's.
fn ended(v6: &V6, association: &Association, status: Option<Status>) -> Opt {
    let leases: Vec<Lease> = over(v6, association).collect();
    Opt::Address { id: association.id, t1: 0, t2: 0, leases, status }
}

/// The association's foreign addresses, to be dropped at once: as many as leave room for
/// the one that is its own. What is not mentioned ends with its lifetime.
fn over(v6: &V6, association: &Association) -> impl Iterator<Item = Lease> {
    const MOST: usize = 16;
    let foreign = association.addresses.iter().filter(|address| **address != v6.address);
    foreign.take(MOST).map(|address| Lease { address: *address, preferred: 0, valid: 0 })
}

fn no_prefix(kind: Type, association: &Association) -> Opt {
    let status = match kind {
        Type::Renew | Type::Rebind => Status::NoBinding,
        _ => Status::NoPrefixAvail,
    };
    Opt::Prefix { id: association.id, status }
}

/// Whether the association names an address outside the link's known networks.
fn is_off_link(binding: &Binding, v6: &V6, association: &Association) -> bool {
    let prefixes = binding.ra.iter().flat_map(|ra| &ra.prefixes).map(|prefix| prefix.network);
    let known: Vec<_> = prefixes.chain(v6.network).collect();
    let on_link = |address: &Ipv6Addr| known.iter().any(|network| network.contains(*address));
    !known.is_empty() && !association.addresses.iter().all(on_link)
}

/// Success if the port's address is the only one confirmed, else NotOnLink: the port
/// is the link, and nothing but its address works there.
pub(super) fn confirm(v6: &V6, request: &Request) -> Result<Status, Ignored> {
    let mut named = request.associations.iter().flat_map(|ia| &ia.addresses).peekable();
    if named.peek().is_none() {
        return Err(Ignored::NothingToConfirm);
    }
    let all_ours = named.all(|address| *address == v6.address);
    Ok(if all_ours { Status::Success } else { Status::NotOnLink })
}

/// Whether the message names the port's address.
pub(super) fn name_own(v6: &V6, request: &Request) -> bool {
    request.associations.iter().any(|association| association.addresses.contains(&v6.address))
}

/// Of a Release or Decline, the associations that were never given anything (RFC 9915 §18.3.7, §18.3.8).
pub(super) fn foreign(v6: &V6, request: &Request) -> Vec<Opt> {
    let foreign = request.associations.iter().filter(|ia| !ia.addresses.contains(&v6.address));
    let answer = |ia: &Association| match ia.family {
        Family::Address => refused(ia, Status::NoBinding),
        Family::Prefix => Opt::Prefix { id: ia.id, status: Status::NoBinding },
    };
    foreign.map(answer).collect()
}
