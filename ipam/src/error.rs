//! Why the pool said no.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::{Owner, Seconds};

/// Why a network cannot have a pool.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PoolError {
    /// The network is larger or smaller than what is served: the subnet must
    /// be written differently.
    #[error(
        "{0} cannot be a pool: IPv4 networks from /8 to /30 and IPv6 networks from /48 to /126 can"
    )]
    UnsupportedSize(IpNetwork),
}

/// Why no address could be chosen.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AllocateError {
    /// Every address that may be given is held: the subnet must grow, or
    /// somebody must let go. Asking again is of no use before that.
    #[error("every address is held")]
    Exhausted,
    /// The pool has no such sub-pool, or it has no addresses of this family: the
    /// request must change.
    #[error("there is no sub-pool {0:?}")]
    NoSubPool(String),
    /// Every address that is not held was released a short while ago: ask
    /// again at `until`.
    #[error("every free address is at rest until {until}")]
    Resting {
        /// When the first of them becomes free, in unix time.
        until: Seconds,
    },
}

/// Why an address could not be given to the owner who asked for it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ClaimError {
    /// The address is not of this network: the request must change.
    #[error("{0} is not an address of this network")]
    OutOfRange(IpAddr),
    /// The address is never given to anyone: the request must change.
    #[error("{0} is reserved for the network itself")]
    Forbidden(IpAddr),
    /// Somebody else holds the address: one of the two must yield.
    #[error("the address is held by another owner")]
    HeldBy(Owner),
    /// The owner holds another address of this pool and must release it first.
    #[error("the owner holds {0} already")]
    OwnerHolds(IpAddr),
    /// Somebody else released the address a short while ago: ask again at
    /// `until`.
    #[error("the address is at rest until {until}")]
    Resting {
        /// When the address becomes free, in unix time.
        until: Seconds,
    },
}
