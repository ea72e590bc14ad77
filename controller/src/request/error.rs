//! Why a VM's networks cannot be served, in the words that its author is told.

use std::net::IpAddr;

use net::{MacAddr, ParseMacError, names};

use super::bounds::MOST_NETWORKS;
use crate::leave::LeaveError;
use crate::network::NetworkError;

/// Why a VM's networks cannot be served: what its author must change.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RequestError {
    /// No subnet for the network.
    #[error(
        "network {network:?} has no subnet: set annotation {key} on the VM template, or list namespace {namespace:?} in a subnet's spec.namespaces"
    )]
    NoSubnet {
        /// The network's name in the VM.
        network: String,
        /// The annotation that would name one.
        key: String,
        /// The VM's namespace.
        namespace: String,
    },
    /// The subnet named is not there.
    #[error("{place}: subnet {subnet:?} does not exist: create it or name another")]
    UnknownSubnet {
        /// Annotation or field.
        place: String,
        /// What it says.
        subnet: String,
    },
    /// The subnet named is there but not in force.
    #[error("{place}: subnet {subnet:?} is not in force: {why}")]
    RefusedSubnet {
        /// Annotation or field.
        place: String,
        /// What it says.
        subnet: String,
        /// What the subnet's author must change.
        why: Box<NetworkError>,
    },
    /// The subnet named is on its way out and the VM has nothing in it.
    #[error("{place}: subnet {subnet:?} is being deleted and takes no more VMs: choose another")]
    LeavingSubnet {
        /// Annotation or field.
        place: String,
        /// What it says.
        subnet: String,
    },
    /// The subnet named serves other networks.
    #[error(
        "{place}: subnet {subnet:?} has provider {theirs:?}, this network is of {provider:?}: name a subnet of that provider, or write it in spec.provider of another subnet"
    )]
    OtherProvider {
        /// Annotation or field.
        place: String,
        /// What it says.
        subnet: String,
        /// The subnet's provider.
        theirs: String,
        /// The network's provider.
        provider: String,
    },
    /// A Vpc names a subnet for its namespaces that is not its own.
    #[error("{place}: subnet {subnet:?} is not one of this vpc for a first network: name another")]
    OfAnotherVpc {
        /// The field.
        place: String,
        /// What it says.
        subnet: String,
    },
    /// An address could not be read.
    #[error(
        "annotation {key}: {:?} is not an address: write 10.0.0.5, or one of each family with a comma between",
        net::shown(text)
    )]
    Address {
        /// The annotation.
        key: String,
        /// What it says.
        text: String,
    },
    /// Two addresses of a family.
    #[error(
        "annotation {key}: {:?} names two addresses of one family: name one of each at most",
        net::shown(text)
    )]
    SameFamilyTwice {
        /// The annotation.
        key: String,
        /// What it says.
        text: String,
    },
    /// A pool could not be read.
    #[error(
        "annotation {key}: {:?} is neither a list of addresses nor an IPPool's name: write 10.0.0.5,10.0.0.6, or 10.0.0.5,fd00::5;10.0.0.6,fd00::6, or 10.0.0.5..10.0.0.9, or the name of one IPPool",
        net::shown(text)
    )]
    Pool {
        /// The annotation.
        key: String,
        /// What it says.
        text: String,
    },
    /// A pool names more addresses than are ever tried.
    #[error(
        "annotation {key}: {:?} names more than 1024 addresses: name fewer, or choose a subnet",
        net::shown(text)
    )]
    LargePool {
        /// The annotation.
        key: String,
        /// What it says.
        text: String,
    },
    /// The IPPool named is not there.
    #[error(
        "annotation {key}: IPPool {pool:?} does not exist: create it, or {known}write a list such as 10.0.0.5,10.0.0.6"
    )]
    UnknownPool {
        /// The annotation.
        key: String,
        /// What it says.
        pool: String,
        /// Those that there are.
        known: String,
    },
    /// The IPPool named is there but not in force.
    #[error("annotation {key}: IPPool {pool:?} is not in force: {why}")]
    RefusedPool {
        /// The annotation.
        key: String,
        /// What it says.
        pool: String,
        /// What the pool's author must change.
        why: String,
    },
    /// The IPPool named is of another subnet.
    #[error(
        "annotation {key}: IPPool {pool:?} is of subnet {theirs:?}, this network is on {subnet:?}: name a pool of that one, or the other subnet"
    )]
    PoolOfOther {
        /// The annotation.
        key: String,
        /// What it says.
        pool: String,
        /// The pool's subnet.
        theirs: String,
        /// The network's subnet.
        subnet: String,
    },
    /// The Vip named is not there.
    #[error(
        "annotation {key}: Vip {vip:?} does not exist or cannot be read: create it, or name another"
    )]
    UnknownVip {
        /// The annotation.
        key: String,
        /// What it says.
        vip: String,
    },
    /// A Vip is named, and another address, too.
    #[error(
        "annotation {key} takes the addresses of a Vip, and annotation {other} asks for others: leave one of the two out"
    )]
    BesideVip {
        /// The annotation.
        key: String,
        /// The other one.
        other: String,
    },
    /// An IPAMClaim is referred to, and another source of addresses, too.
    #[error(
        "annotation {place} takes the addresses of an IPAMClaim, and annotation {other} says otherwise where they come from: leave one of the two out"
    )]
    BesideClaim {
        /// Where.
        place: String,
        /// The other annotation.
        other: String,
    },
    /// No family.
    #[error(
        "annotation {key}: {:?} is not a family: write ipv4 or ipv6, or leave it out for all that the subnet has",
        net::shown(text)
    )]
    Family {
        /// The annotation.
        key: String,
        /// What it says.
        text: String,
    },
    /// A family that the subnet lacks.
    #[error(
        "annotation {key}: {family:?}, but subnet {subnet:?} has {cidr} only: write the other, or name another subnet"
    )]
    NoSuchFamily {
        /// The annotation.
        key: String,
        /// What it says.
        family: String,
        /// The subnet.
        subnet: String,
        /// The subnet's networks.
        cidr: String,
    },
    /// One annotation asks for one family, another one for an address of the other.
    #[error(
        "annotation {key}: {family:?}, but annotation {other} asks for {what}: change one of the two"
    )]
    FamilyContradicted {
        /// The annotation.
        key: String,
        /// What it says.
        family: String,
        /// The other annotation.
        other: String,
        /// What that asks for.
        what: String,
    },
    /// An address of another network.
    #[error(
        "annotation {key}: {address} is not in {cidr} of subnet {subnet:?}: choose a free address of it, or another subnet"
    )]
    OutsideSubnet {
        /// The annotation.
        key: String,
        /// The address.
        address: IpAddr,
        /// The subnet's networks.
        cidr: String,
        /// The subnet.
        subnet: String,
    },
    /// An address that is no one VM's.
    #[error(
        "annotation {key}: {address} is one of spec.vips of subnet {subnet:?}: choose another, or list it in port_vips to share it"
    )]
    OfTheSubnet {
        /// The annotation.
        key: String,
        /// The address.
        address: IpAddr,
        /// The subnet.
        subnet: String,
    },
    /// A MAC could not be read.
    #[error("{place}: {source}")]
    Mac {
        /// Annotation or field.
        place: String,
        /// What is wrong with it.
        source: ParseMacError,
    },
    /// A MAC that no station may have.
    #[error(
        "{place}: {mac} is zero or a multicast address: write another, the lowest bit of its first octet clear"
    )]
    MulticastMac {
        /// Annotation or field.
        place: String,
        /// The address.
        mac: MacAddr,
    },
    /// What a port may send from could not be read.
    #[error(transparent)]
    Leave(#[from] LeaveError),
    /// An annotation longer than anything that it may say.
    #[error("annotation {key} is {length} bytes long: write at most {most}")]
    Long {
        /// The annotation.
        key: String,
        /// Its length.
        length: usize,
        /// The longest that it may be.
        most: usize,
    },
    /// A name longer than what bears it may be.
    #[error(
        "the name {:?} is {length} bytes long: create it under one of at most {most}",
        net::shown(name)
    )]
    LongName {
        /// The VM's or the instance's name.
        name: String,
        /// Its length.
        length: usize,
        /// The longest that it may be.
        most: usize,
    },
    /// A port whose name no IP object may have.
    #[error(
        "network {network:?}: the name of its port, {:?}, is {} bytes long: create VM or attachment under shorter names, so that it has at most {}",
        net::shown(port),
        port.len(),
        names::LONGEST_NAME
    )]
    LongPort {
        /// The network's name in the VM.
        network: String,
        /// The port.
        port: String,
    },
    /// More networks or interfaces than a machine has places for.
    #[error("{count} {what} are more than a VM has places for: write at most {MOST_NETWORKS}")]
    ManyNetworks {
        /// `networks` or `interfaces`.
        what: &'static str,
        /// How many.
        count: usize,
    },
    /// Two places ask for different things.
    #[error(
        "{place}: {text:?}, but {other} asks for {theirs:?}: leave one of the two out, or have both say the same"
    )]
    Contradicted {
        /// Annotation or field.
        place: String,
        /// What it says.
        text: String,
        /// The other one.
        other: String,
        /// What that says.
        theirs: String,
    },
    /// Two networks of the VM name one address.
    #[error("{place}: {what} is named for network {network:?} already: name another")]
    NamedTwice {
        /// Annotation or field.
        place: String,
        /// The address, or the MAC.
        what: String,
        /// The other network.
        network: String,
    },
    /// A rate or a burst that is no whole number.
    #[error(
        "annotation {key}: {text:?} is no whole number: write one of Mbit/s, such as 100, or leave it out"
    )]
    Rate {
        /// The annotation.
        key: String,
        /// What it says.
        text: String,
    },
    /// Multus's list could not be read.
    #[error(
        "annotation k8s.v1.cni.cncf.io/networks cannot be read: {why}: write a list such as [{{\"name\": \"net2\", \"ips\": [\"10.0.0.5\"]}}]"
    )]
    Multus {
        /// What is wrong with it.
        why: String,
    },
    /// An element of Multus's list is for no network of the VM.
    #[error(
        "annotation {place}: {attachment:?} is no network of this VM: list it in spec.networks, or take it out here"
    )]
    NoSuchNetwork {
        /// Where.
        place: String,
        /// The attachment.
        attachment: String,
    },
    /// An element of Multus's list may be for several networks of the VM.
    #[error(
        "annotation {place} does not say for which network the element is: write the name of network {networks}"
    )]
    WhichNetwork {
        /// Where.
        place: String,
        /// Which these are.
        networks: String,
    },
    /// Two elements of Multus's list are for one network.
    #[error(
        "annotation {place}: element {other} is for network {network:?} already: leave one of the two out"
    )]
    ElementTwice {
        /// Where.
        place: String,
        /// The other element.
        other: String,
        /// The network.
        network: String,
    },
    /// Two pod networks, or two networks of one name.
    #[error(
        "networks {first:?} and {second:?} would both be port {port:?}: have one pod network, and give each network a name of its own"
    )]
    SamePort {
        /// The first network.
        first: String,
        /// The second network.
        second: String,
        /// The port that both would have.
        port: String,
    },
    /// An attachment of a name that no object has.
    #[error(
        "network {network:?}: networkName {:?} names no attachment: write <name>, or <namespace>/<name>",
        net::shown(attachment)
    )]
    NoAttachment {
        /// The network's name in the VM.
        network: String,
        /// What it says.
        attachment: String,
    },
    /// A further network of an attachment whose name can be no part of a port's.
    #[error(
        "network {network:?} is a further one of {provider}, so its name is part of a port's: write lower-case letters, digits and hyphens"
    )]
    NoLabel {
        /// The network's name in the VM.
        network: String,
        /// The provider that serves it.
        provider: String,
    },
}

impl RequestError {
    /// Whether it is for another object to be there, or in force, or to name another.
    #[must_use]
    pub const fn waits_for_another(&self) -> bool {
        matches!(
            self,
            Self::NoSubnet { .. }
                | Self::UnknownSubnet { .. }
                | Self::RefusedSubnet { .. }
                | Self::LeavingSubnet { .. }
                | Self::OfAnotherVpc { .. }
                | Self::UnknownPool { .. }
                | Self::RefusedPool { .. }
                | Self::UnknownVip { .. }
        )
    }
}
