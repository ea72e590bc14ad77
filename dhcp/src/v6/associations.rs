//! Who of a message's identity associations gets the port's one address, and its prefix if it
//! has one.

use std::net::Ipv6Addr;

use ipnetwork::Ipv6Network;

use super::{Association, Delegation, Family, Lease, Opt, Request, Status, Type};
use crate::answer::Ignored;
use crate::binding::{Binding, INFINITE, V6};

/// What a message was given.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Given {
    pub(super) address: bool,
    pub(super) prefix: bool,
}

/// The answer to each association, and what they got: those that got something are the
/// first, since the last ones fall off a long message.
pub(super) fn answer(binding: &Binding, v6: &V6, request: &Request) -> (Vec<Opt>, Given) {
    let chosen = [chosen(v6, request), chosen_prefix(v6, request)];
    let mut given = Given::default();
    let mut order: Vec<usize> = (0..request.associations.len()).collect();
    order.sort_by_key(|index| !chosen.contains(&Some(*index)));
    let answers = order.into_iter().map(|index| {
        let association = &request.associations[index];
        if association.family == Family::Prefix {
            let prefix = v6.delegated.filter(|_| chosen[1] == Some(index));
            given.prefix |= prefix.is_some();
            return delegated(v6, prefix, request.kind, association);
        }
        // Only a Request is judged so: whoever solicits gets another address, and
        // whoever renews learns that the old one is over (RFC 9915 §18.3.2).
        if request.kind == Type::Request && is_off_link(binding, v6, association) {
            return refused(association, Status::NotOnLink);
        }
        if chosen[0] == Some(index) {
            given.address = true;
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
    let names = |association: &Association| association.addresses.contains(&v6.address);
    first(request, Family::Address, names).filter(|_| !v6.stateless)
}

/// The same of the prefix.
fn chosen_prefix(v6: &V6, request: &Request) -> Option<usize> {
    let prefix = v6.delegated.map(bare)?;
    first(request, Family::Prefix, |association| association.prefixes.contains(&prefix))
}

/// The first association of a family that names what it is about, else the first.
fn first(request: &Request, family: Family, names: impl Fn(&Association) -> bool) -> Option<usize> {
    let candidates = || {
        let all = request.associations.iter().enumerate();
        all.filter(|(_, association)| association.family == family)
    };
    let naming = candidates().find(|(_, association)| names(association));
    naming.or_else(|| candidates().next()).map(|(index, _)| index)
}

/// A prefix without its host bits, which mean nothing (RFC 9915 §21.22).
pub(crate) fn bare(prefix: Ipv6Network) -> Ipv6Network {
    Ipv6Network::new(prefix.network(), prefix.prefix()).unwrap_or(prefix)
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

const MOST_FOREIGN: usize = 16;

/// The association's foreign addresses, to be dropped at once: as many as leave room for
/// the one that is its own. What is not mentioned ends with its lifetime.
fn over(v6: &V6, association: &Association) -> impl Iterator<Item = Lease> {
    let foreign = association.addresses.iter().filter(|address| **address != v6.address);
    foreign.take(MOST_FOREIGN).map(|address| Lease { address: *address, preferred: 0, valid: 0 })
}

/// What an IA_PD gets: the prefix if that is for it, and for what it had before the end of it.
fn delegated(v6: &V6, prefix: Option<Ipv6Network>, kind: Type, association: &Association) -> Opt {
    let (preferred, valid) = lifetimes(v6);
    let own = prefix.map(|prefix| Delegation { prefix: bare(prefix), preferred, valid });
    let (t1, t2) = own.map_or((0, 0), |_| times(preferred));
    let renews = matches!(kind, Type::Renew | Type::Rebind);
    let mut delegations: Vec<_> = own.into_iter().collect();
    if renews {
        delegations.extend(over_prefixes(v6, association));
    }
    let status = match (own, renews) {
        (Some(_), _) => None,
        (None, true) => Some(Status::NoBinding),
        (None, false) => Some(Status::NoPrefixAvail),
    };
    Opt::Prefix { id: association.id, t1, t2, delegations, status }
}

/// The association's foreign prefixes, as with addresses. One without bits is a wish for its
/// length (RFC 9915 §18.2.4).
fn over_prefixes(v6: &V6, association: &Association) -> impl Iterator<Item = Delegation> {
    let own = v6.delegated.map(bare);
    let had = association.prefixes.iter().copied();
    had.filter(move |prefix| Some(*prefix) != own && !prefix.ip().is_unspecified())
        .take(MOST_FOREIGN)
        .map(|prefix| Delegation { prefix, preferred: 0, valid: 0 })
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
    let own = v6.delegated.map(bare);
    let is_foreign = |ia: &&Association| match ia.family {
        Family::Address => !ia.addresses.contains(&v6.address),
        Family::Prefix => own.is_none_or(|own| !ia.prefixes.contains(&own)),
    };
    let answer = |ia: &Association| match ia.family {
        Family::Address => refused(ia, Status::NoBinding),
        Family::Prefix => Opt::Prefix {
            id: ia.id,
            t1: 0,
            t2: 0,
            delegations: Vec::new(),
            status: Some(Status::NoBinding),
        },
    };
    request.associations.iter().filter(is_foreign).map(answer).collect()
}
