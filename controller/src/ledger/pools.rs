//! The pools of each subnet, what is asked of them, and why they refuse.

use std::collections::HashMap;
use std::net::IpAddr;

use ipam::{AllocateError, ClaimError, Owner, Pool, Seconds};
use net::{AddrRange, names};
use tracing::info;

use super::{Claimant, asked};
use crate::family::Family;
use crate::network::Network;

/// The pools of each subnet, IPv4 first. They are had by its name and in no other way, so
/// that nobody looks through all of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Pools(HashMap<String, Vec<Pool>>);

impl Pools {
    /// Those of a subnet; none if it is not in force.
    pub(super) fn of(&self, subnet: &str) -> &[Pool] {
        asked::note(subnet);
        self.0.get(subnet).map_or(&[], Vec::as_slice)
    }

    pub(super) fn of_mut(&mut self, subnet: &str) -> &mut [Pool] {
        asked::note(subnet);
        self.0.get_mut(subnet).map_or(&mut [], Vec::as_mut_slice)
    }

    pub(super) fn put(&mut self, subnet: &str, pools: Vec<Pool>) {
        asked::note(subnet);
        self.0.insert(subnet.to_owned(), pools);
    }

    pub(super) fn remove(&mut self, subnet: &str) {
        self.0.remove(subnet);
    }
}

/// What a port asks of its subnet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask<'a> {
    /// These addresses, at most one of each family.
    pub named: &'a [IpAddr],
    /// What is not named is to come from a pool, where that has the family.
    pub from: Option<&'a FromPool>,
    /// One family, and nothing of the other.
    pub family: Option<Family>,
}

/// The IPPool that addresses are to come from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FromPool {
    /// Its name.
    pub name: String,
    /// The template names it: an address that is not of it is given up. Without this
    /// what is held is kept, wherever it is from.
    pub asked: bool,
}

/// Why a port has no address: what its author must change, or what to wait for.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AddressError {
    /// The address named is held.
    #[error(
        "{address} of subnet {subnet:?} is held by {holder}: choose another address, or delete what holds it"
    )]
    Held {
        /// The address.
        address: IpAddr,
        /// The subnet.
        subnet: String,
        /// The holder's port.
        holder: String,
    },
    /// A lender has nothing, or not of each family.
    #[error("has no address of each family of subnet {0:?}: make another")]
    NothingToLend(String),
    /// What the lender holds another port has.
    #[error("{address} of subnet {subnet:?} is lent to {borrower}")]
    Lent {
        /// The address.
        address: IpAddr,
        /// The subnet.
        subnet: String,
        /// The port that has it.
        borrower: String,
    },
    /// The address named can never be had.
    #[error("{address} of subnet {subnet:?} is the gateway's or the network's own: choose another")]
    Forbidden {
        /// The address.
        address: IpAddr,
        /// The subnet.
        subnet: String,
    },
    /// No address is left.
    #[error(
        "subnet {subnet:?} has no free address in {network}: delete VMs or use a larger subnet"
    )]
    Exhausted {
        /// The subnet.
        subnet: String,
        /// The network.
        network: String,
    },
    /// No address of a pool is left.
    #[error(
        "IPPool {pool:?} has no free address in {network} of subnet {subnet:?}: delete VMs that have one, add addresses to its spec.ips, or name another pool"
    )]
    PoolExhausted {
        /// The pool.
        pool: String,
        /// The subnet.
        subnet: String,
        /// The network.
        network: String,
    },
    /// A released address rests. Worth asking again.
    #[error(
        "subnet {subnet:?}: the address was released a short while ago and rests, or a guest may still have a lease of it; it is asked for again"
    )]
    Resting {
        /// The subnet.
        subnet: String,
        /// For how long.
        seconds: u64,
    },
    /// Which addresses are free cannot be known.
    #[error(
        "subnet {subnet:?} gives no new addresses: AddressBlock {block} does not fit its type, so nobody knows what is free; correct it"
    )]
    Unreadable {
        /// The subnet.
        subnet: String,
        /// The block.
        block: String,
    },
    /// The subnet is not known. Worth asking again.
    #[error("subnet {0:?} does not exist or is not ready")]
    NoSubnet(String),
}

/// Why nobody but `holder` can have this address of `network`, whoever else holds what;
/// of one that rests it does not know.
#[must_use]
pub fn refusal(
    network: &Network,
    address: IpAddr,
    holder: Option<&Claimant>,
) -> Option<AddressError> {
    let cidr = network.cidrs.iter().find(|cidr| cidr.contains(address))?;
    // Without what is excluded and the IPPools: who names an address may have those too.
    let gateways: Vec<AddrRange> = network.gateways().map(AddrRange::from).collect();
    let mut pool = Pool::new(cidr, &gateways, &[], 0).ok()?;
    if let Some(holder) = holder {
        // Of what nobody can have the claim says so.
        let _ = pool.restore_held(holder.owner(), address);
    }
    let taken = pool.claim(Owner::from(""), address, 0);
    let refusal = TakeError::Claim(address, taken.err()?);
    let port_at = |_| holder.map(|holder| holder.port.clone()).unwrap_or_default();
    Some(refusal.explain(&network.name, cidr, 0, port_at))
}

/// The pool of `address`'s family: pools stand in the order of the networks.
pub(super) fn of_family<'a>(
    network: &Network,
    pools: &'a mut [Pool],
    address: IpAddr,
) -> Option<&'a mut Pool> {
    let index = network.cidrs.iter().position(|cidr| cidr.is_ipv4() == address.is_ipv4())?;
    pools.get_mut(index)
}

pub(super) enum TakeError {
    Allocate(AllocateError),
    From(String, AllocateError),
    Claim(IpAddr, ClaimError),
}

impl TakeError {
    pub(super) fn explain(
        self,
        subnet: &str,
        network: ipnetwork::IpNetwork,
        now: Seconds,
        port_at: impl FnOnce(IpAddr) -> String,
    ) -> AddressError {
        let subnet = subnet.to_owned();
        match self {
            Self::Allocate(AllocateError::Exhausted | AllocateError::NoSubPool(_)) => {
                AddressError::Exhausted { subnet, network: network.to_string() }
            }
            Self::From(pool, AllocateError::Exhausted | AllocateError::NoSubPool(_)) => {
                AddressError::PoolExhausted { pool, subnet, network: network.to_string() }
            }
            Self::Allocate(AllocateError::Resting { until })
            | Self::From(_, AllocateError::Resting { until })
            | Self::Claim(_, ClaimError::Resting { until }) => {
                AddressError::Resting { subnet, seconds: until.saturating_sub(now) }
            }
            Self::Claim(address, ClaimError::HeldBy(_)) => {
                let holder = port_at(address);
                let vip = names::vip_of_holder(&holder).map(|vip| format!("Vip {vip}"));
                let claim = names::claim_of_holder(&holder);
                let claim = claim.map(|(of, name)| format!("IPAMClaim {of}/{name}"));
                let holder = vip.or(claim).unwrap_or(holder);
                AddressError::Held { address, subnet, holder }
            }
            Self::Claim(
                address,
                ClaimError::OutOfRange(_) | ClaimError::Forbidden(_) | ClaimError::OwnerHolds(_),
            ) => AddressError::Forbidden { address, subnet },
        }
    }
}

/// The address of `claimant`, whom the pool knows as `owner`: the one wanted, else the
/// one held, else a free one. What it holds may be none of the pool that it is to come
/// from.
pub(super) fn take(
    pool: &mut Pool,
    claimant: &Claimant,
    owner: Owner,
    wanted: Option<IpAddr>,
    from: Option<&FromPool>,
    now: Seconds,
) -> Result<IpAddr, TakeError> {
    let Some(wanted) = wanted else {
        return match from.filter(|from| pool.has(&from.name)) {
            None => pool.allocate(owner, now).map_err(TakeError::Allocate),
            Some(from) => take_from(pool, claimant, owner, from, now)
                .map_err(|error| TakeError::From(from.name.clone(), error)),
        };
    };
    if let Some(held) = pool.address_of(owner).filter(|held| *held != wanted) {
        if let Some(other) = pool.holder(wanted) {
            return Err(TakeError::Claim(wanted, ClaimError::HeldBy(other)));
        }
        pool.release(owner, now);
        info!(port = claimant.port, %held, %wanted, "The address changes as the template asks");
    }
    pool.claim(owner, wanted, now).map_err(|error| TakeError::Claim(wanted, error))?;
    Ok(wanted)
}

fn take_from(
    pool: &mut Pool,
    claimant: &Claimant,
    owner: Owner,
    from: &FromPool,
    now: Seconds,
) -> Result<IpAddr, AllocateError> {
    let strange = |held: &IpAddr| from.asked && !pool.is_member(&from.name, *held);
    if let Some(held) = pool.address_of(owner).filter(strange) {
        if pool.available_in(&from.name) == 0 {
            return Err(AllocateError::Exhausted);
        }
        pool.release(owner, now);
        info!(port = claimant.port, %held, pool = from.name, "The address changes as the template asks");
    }
    pool.allocate_from(&from.name, owner, now)
}
