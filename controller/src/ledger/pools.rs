//! What is asked of a subnet's pools, and why they refuse.

use std::net::IpAddr;

use ipam::{AllocateError, ClaimError, Owner, Pool, Seconds};
use net::names;
use tracing::info;

use crate::network::Network;

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
    /// A released address rests. Worth asking again.
    #[error(
        "subnet {subnet:?}: the address was released a short while ago and rests; it is asked for again"
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
    Claim(IpAddr, ClaimError),
}

impl TakeError {
    pub(super) fn explain(
        self,
        subnet: &str,
        network: ipnetwork::IpNetwork,
        now: Seconds,
    ) -> AddressError {
        let subnet = subnet.to_owned();
        match self {
            Self::Allocate(AllocateError::Exhausted | AllocateError::NoSubPool(_)) => {
                AddressError::Exhausted { subnet, network: network.to_string() }
            }
            Self::Allocate(AllocateError::Resting { until })
            | Self::Claim(_, ClaimError::Resting { until }) => {
                AddressError::Resting { subnet, seconds: until.saturating_sub(now) }
            }
            Self::Claim(address, ClaimError::HeldBy(owner)) => {
                let holder = owner.as_str().rsplit_once('/').map_or("", |(port, _)| port);
                let vip = names::vip_of_holder(holder).map(|vip| format!("Vip {vip}"));
                let holder = vip.unwrap_or_else(|| holder.to_owned());
                AddressError::Held { address, subnet, holder }
            }
            Self::Claim(
                address,
                ClaimError::OutOfRange(_) | ClaimError::Forbidden(_) | ClaimError::OwnerHolds(_),
            ) => AddressError::Forbidden { address, subnet },
        }
    }
}

/// The address of `owner`: the one wanted, else the one held, else a free one.
pub(super) fn take(
    pool: &mut Pool,
    owner: &Owner,
    wanted: Option<IpAddr>,
    now: Seconds,
) -> Result<IpAddr, TakeError> {
    let Some(wanted) = wanted else {
        return pool.allocate(owner, now).map_err(TakeError::Allocate);
    };
    if let Some(held) = pool.address_of(owner).filter(|held| *held != wanted) {
        if let Some(other) = pool.holder(wanted) {
            return Err(TakeError::Claim(wanted, ClaimError::HeldBy(other.clone())));
        }
        pool.release(owner, now);
        info!(%owner, %held, %wanted, "The address changes as the template asks");
    }
    pool.claim(owner, wanted, now).map_err(|error| TakeError::Claim(wanted, error))?;
    Ok(wanted)
}
