//! Why a Subnet cannot be in force, in the words that its author is told.

use std::net::IpAddr;

use crds::kubeovn::FINALIZER;
use ipnetwork::{IpNetwork, Ipv6Network};
use net::{Cidrs, DelegationError, ParseCidrsError, ParseRangeError};

use super::own::LONGEST_NAME;
use crate::flaw::Flaw;

/// Why a Subnet cannot be in force: what its author must change.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NetworkError {
    /// No network at all.
    #[error("spec.cidrBlock is empty: write a network such as 10.0.0.0/24, or one of each family")]
    NoCidr,
    /// The networks could not be read.
    #[error("spec.cidrBlock: {0}")]
    Cidr(#[from] ParseCidrsError),
    /// The gateway could not be read.
    #[error(
        "spec.gateway: {0:?} is not an address: write one of each family, with a comma between"
    )]
    Gateway(String),
    /// Several gateways of one family.
    #[error("spec.gateway: {0:?} has two addresses of one family: write one of each")]
    Gateways(String),
    /// The gateway lies elsewhere.
    #[error("spec.gateway: {0} is not in spec.cidrBlock {1}: choose an address of the subnet")]
    GatewayOutside(IpAddr, Cidrs),
    /// The gateway is the network's or the broadcast address.
    #[error("spec.gateway: {0} is the network or broadcast address: choose another")]
    GatewayNotAHost(IpAddr),
    /// A name that no label may have, and so no IP object of the subnet could be written.
    #[error(
        "the name {0:?} is {len} characters long: create the Subnet under one of at most {LONGEST_NAME}",
        len = .0.len()
    )]
    LongName(String),
    /// A network of which no host may have an address.
    #[error(
        "spec.cidrBlock: {mine} has addresses of {kind} ({theirs}), which no guest may have: choose a network such as 10.0.0.0/24 or fd00::/64"
    )]
    NotOfHosts {
        /// This subnet's network.
        mine: IpNetwork,
        /// What it overlaps.
        theirs: IpNetwork,
        /// What that is for.
        kind: &'static str,
    },
    /// A port of it would have the name of another's.
    #[error("its port {port:?} would have the name of {by}: rename one of the two")]
    NameTaken {
        /// The port.
        port: String,
        /// Whose it is.
        by: String,
    },
    /// No prefixes can be delegated.
    #[error("spec.dhcpV6PrefixDelegation: {0}")]
    Delegation(#[from] DelegationError),
    /// A prefix goes with an IPv6 address, and there are none.
    #[error(
        "spec.dhcpV6PrefixDelegation: a prefix goes with an IPv6 address, and spec.cidrBlock {0} has none: add an IPv6 network to it, or leave the delegation out"
    )]
    NoIpv6(Cidrs),
    /// What is behind guests cannot be beside them, too.
    #[error(
        "spec.dhcpV6PrefixDelegation.cidrBlock {pool} overlaps spec.cidrBlock {own}: choose a network that nothing else uses"
    )]
    BehindItself {
        /// What is delegated from.
        pool: Ipv6Network,
        /// The subnet's own.
        own: Ipv6Network,
    },
    /// An exclusion could not be read.
    #[error("spec.excludeIps[{0}]: {1}")]
    Exclude(usize, ParseRangeError),
    /// An entry of a list cannot be.
    #[error("{0}")]
    Entry(#[from] Flaw),
    /// The written protocol contradicts the networks.
    #[error("spec.protocol is {0:?} but spec.cidrBlock is {1}: leave protocol out, it follows")]
    Protocol(String, Cidrs),
    /// IPv6 needs at least 1280 bytes (RFC 8200, section 5).
    #[error("spec.mtu {0} is too small: use at least 1280 with IPv6, 576 without, or leave it out")]
    Mtu(i32),
    /// Names of switch and router would collide.
    #[error("the subnet and its vpc are both named {0:?}: rename one of them")]
    NamedAsVpc(String),
    /// The VPC is not there.
    #[error("spec.vpc: Vpc {0:?} does not exist: create it, or leave vpc out for the default one")]
    NoVpc(String),
    /// The object does not fit its type.
    #[error("the Subnet does not fit its type: correct it, the controller's log says where")]
    Unreadable,
    /// The VPC is on its way out.
    #[error(
        "spec.vpc: Vpc {0:?} is being deleted: choose another, or create it anew once it is gone"
    )]
    VpcLeaving(String),
    /// The object could be deleted at any time, whoever uses it.
    #[error("finalizer {FINALIZER} is not on the Subnet or its Vpc yet; it is tried again")]
    NotHeld,
    /// Addresses in use would no longer belong to the subnet.
    #[error(
        "spec.cidrBlock: {0} would fall out: keep what is held inside, or delete its holders first"
    )]
    HeldOutside(String),
    /// The gateway's address is in use.
    #[error("spec.gateway: {0} is held: choose another, or delete its holder first")]
    GatewayHeld(String),
    /// An address that ports are to share is somebody's own.
    #[error(
        "spec.vips: {0} is held, and cannot be shared as well: list another, or delete its holder first"
    )]
    VipHeld(String),
    /// An address of this network is held in a subnet that is gone or unreadable.
    #[error(
        "spec.cidrBlock: {address} is still held in subnet {subnet:?}, which is gone or invalid: repair that one, or delete its VMs first"
    )]
    HeldByLost {
        /// The address.
        address: IpAddr,
        /// The subnet that holds it.
        subnet: String,
    },
    /// A network that no pool can serve.
    #[error("spec.cidrBlock: {0}")]
    Size(#[from] ipam::PoolError),
    /// Has addresses that something else in the cluster has.
    #[error("{field} {mine} overlaps {theirs}, {by}: choose a network that nothing else uses")]
    Reserved {
        /// The field that says so.
        field: &'static str,
        /// This subnet's networks.
        mine: Cidrs,
        /// What else is there.
        theirs: String,
        /// Who has it, and who says so.
        by: String,
    },
    /// Shares addresses with another subnet of its VPC.
    #[error(
        "{field} {mine} overlaps {theirs} of subnet {other:?} in the same vpc: choose a network that no subnet of it has, or another vpc"
    )]
    Overlap {
        /// The field that says so.
        field: &'static str,
        /// This subnet's networks.
        mine: Cidrs,
        /// The other's networks.
        theirs: Cidrs,
        /// The other.
        other: String,
    },
}
