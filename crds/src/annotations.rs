//! Annotation, label and finalizer names, each written once.
//!
//! The `*.kubernetes.io` ones are Kube-OVN's and KubeVirt's. On a VM template
//! users set [`LOGICAL_SWITCH`], [`IP_ADDRESS`], [`IP_POOL`], [`IP_FAMILY`], [`VIP`] and [`MAC_ADDRESS`]; on a VMI the
//! controller writes what it allocated, in the same vocabulary that Kube-OVN uses
//! on a launcher pod.

use std::collections::BTreeMap;

/// Of an instance: the volumes that it was given for itself and that its VM's template does
/// not have, comma between. KubeVirt's.
pub const EPHEMERAL_VOLUMES: &str = "kubevirt.io/ephemeral-hotplug-volumes";
/// Subnet of a network.
pub const LOGICAL_SWITCH: &str = "logical_switch";
/// Address or addresses, one per family, comma between.
pub const IP_ADDRESS: &str = "ip_address";
/// Ethernet address.
pub const MAC_ADDRESS: &str = "mac_address";
/// An IPPool; or addresses of which the first free one is given: a list with commas, or
/// pairs of each family with semicolons between.
pub const IP_POOL: &str = "ip_pool";
/// `"false"` lets a port send from any address.
pub const PORT_SECURITY: &str = "port_security";
/// Further addresses and networks that a port may send from, comma between.
pub const PORT_VIPS: &str = "port_vips";
/// `"true"` has a port hear what is meant for addresses that nobody is known to have.
pub const LAYER2_FORWARD: &str = "layer2_forward";
/// Vips whose addresses a port may send from, comma between.
pub const AAPS: &str = "aaps";
/// The Vip whose addresses and MAC a port has as its own.
pub const VIP: &str = "vip";
/// Multus's list of a pod's attachments. A VM lists its networks in its spec; what counts
/// here is the addresses, the MAC and the IPAMClaim that an element asks for.
pub const MULTUS_NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
/// Multus's other network for a pod's first interface. No effect here.
pub const MULTUS_DEFAULT_NETWORK: &str = "v1.multus-cni.io/default-network";
/// `ipv4` or `ipv6`: one family of a subnet that has both.
pub const IP_FAMILY: &str = "ip_family";
/// DHCPv4 options of one port, in place of its subnet's `dhcpV4Options`.
pub const DHCP_V4_OPTIONS: &str = "dhcp-v4-options";
/// DHCPv6 options of one port, in place of its subnet's `dhcpV6Options`.
pub const DHCP_V6_OPTIONS: &str = "dhcp-v6-options";
/// On an instance: when its guest's file systems go on, whoever has had them stand still
/// (RFC 3339, or [`UNFREEZE_NEVER`]). The controller writes it before, the agent of the guest's
/// node removes it afterwards; without it no guest is frozen.
pub const UNFREEZE_AT: &str = "berth.io/unfreeze-at";
/// When somebody says so and no sooner.
pub const UNFREEZE_NEVER: &str = "never";
/// Mbit/s that a port may hear. No effect yet.
pub const INGRESS_RATE: &str = "ingress_rate";
/// Mbit/s that a port may send. No effect yet.
pub const EGRESS_RATE: &str = "egress_rate";
/// Mbit that a port may hear at once beyond its rate. No effect yet.
pub const INGRESS_BURST: &str = "ingress_burst";
/// Mbit that a port may send at once beyond its rate. No effect yet.
pub const EGRESS_BURST: &str = "egress_burst";
/// Networks of the subnet, comma between.
pub const CIDR: &str = "cidr";
/// Gateways of the subnet, comma between.
pub const GATEWAY: &str = "gateway";
/// `"true"` once address and port are committed.
pub const ALLOCATED: &str = "allocated";
/// The logical switch port, on a Node.
pub const PORT_NAME: &str = "port_name";

/// The full annotation key of `field` for a network of `provider`:
/// `ovn.kubernetes.io/ip_address`, `net2.default.ovn.kubernetes.io/ip_address`.
#[must_use]
pub fn key(provider: &str, field: &str) -> String {
    format!("{provider}.kubernetes.io/{field}")
}

/// Whether `key` is that of `field` for a network of any provider.
#[must_use]
pub fn is_field(key: &str, field: &str) -> bool {
    key.strip_suffix(field).is_some_and(|rest| rest.ends_with(".kubernetes.io/"))
}

/// Whether these annotations of an instance give its network of `provider` a place.
#[must_use]
pub fn is_allocated(notes: &BTreeMap<String, String>, provider: &str) -> bool {
    notes.get(&key(provider, ALLOCATED)).is_some_and(|text| text == "true")
}

/// Annotation on the IP object of an attachment: the network of its VM that has it.
pub const NETWORK: &str = "berth.io/network";

/// Field of an instance's network: the IPAMClaim whose addresses it was given.
pub const IPAM_CLAIM: &str = "ipam_claim";
/// Annotation on an IPAMClaim: the subnet that its addresses are of.
pub const CLAIM_SUBNET: &str = "berth.io/subnet";

/// Label on an IP object: its subnet.
pub const SUBNET_LABEL: &str = "ovn.kubernetes.io/subnet";
/// Label on an IP object: the node its VM was last placed on.
pub const NODE_NAME_LABEL: &str = "ovn.kubernetes.io/node-name";
/// Annotation on an IP object and on an instance: the uid of the VM that owns the
/// addresses.
pub const OWNER_UID: &str = "berth.io/owner-uid";

/// Annotation on an IP object that was written for a VM: the MAC that its port has. The
/// field `spec.macAddress` says the same, unless somebody edited it.
pub const OWNER_MAC: &str = "berth.io/mac-address";

/// Annotation on an IP object that was deleted while in use: what its deletion waits
/// for. The kind has no status to say it in.
pub const DELETION_BLOCKED: &str = "berth.io/deletion-blocked";

/// Annotation on an IP object that a person made: why it reserves nothing. The kind has
/// no status to say it in.
pub const NOT_RESERVED: &str = "berth.io/not-reserved";

/// Annotation on the Subnet of the nodes: the networks of the default VPC, comma
/// between. Nodes send them to its router.
pub const ROUTED: &str = "berth.io/routed-networks";
/// Annotation beside it: those of them whose VMs go out with their node's address.
pub const TRANSLATED: &str = "berth.io/translated-networks";

/// Label on a VMI: the VM it belongs to.
pub const VMI_VM_LABEL: &str = "vm.kubevirt.io/name";

/// Of an instance: the generation of its VM's spec that it was made of.
pub const VM_GENERATION: &str = "kubevirt.io/vm-generation";

/// KubeVirt's, on every object that it has looked after: the version of its API.
pub const OBSERVED_BY_KUBEVIRT: &str = "kubevirt.io/latest-observed-api-version";
