//! Names that several systems must agree on, each derived in one function.
//!
//! | name | example | known to |
//! |---|---|---|
//! | port | `web.default`, `web.default.net2.default.ovn` | IP object, logical switch port, `iface-id` |
//! | node port | `node-n1` | the same, of a node on the subnet of the nodes |
//! | tap | `tap3f9c2a17b04` | the node's kernel, OVS |
//! | domain | `default_web` | libvirt |
//! | patch ports | `sub1-vpc1` on the switch, `vpc1-sub1` on the router | OVN |

use sha2::{Digest, Sha256};

/// The provider of a subnet that serves a VM's first network.
pub const DEFAULT_PROVIDER: &str = "ovn";

/// The name by which a VM's network port is known everywhere: the IP object,
/// the logical switch port, the `iface-id` of the tap.
///
/// `<vm>.<namespace>` for the default provider, else
/// `<vm>.<namespace>.<provider>`, as Kube-OVN's `PodNameToPortName`.
#[must_use]
pub fn port(vm: &str, namespace: &str, provider: &str) -> String {
    if provider.is_empty() || provider == DEFAULT_PROVIDER {
        format!("{vm}.{namespace}")
    } else {
        format!("{vm}.{namespace}.{provider}")
    }
}

/// The port of a node on the subnet of the nodes, as Kube-OVN's `NodeLspName`.
#[must_use]
pub fn node_port(node: &str) -> String {
    format!("node-{node}")
}

/// The host-side tap device of a port.
///
/// Linux limits interface names to 15 bytes, so it is `tap` and the first
/// eleven hexadecimal digits of the port name's SHA-256.
#[must_use]
pub fn tap(port: &str) -> String {
    let digest = Sha256::digest(port.as_bytes());
    let hex: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("tap{}", &hex[..11])
}

/// The libvirt domain of a VM: `<namespace>_<name>`, unambiguous because
/// Kubernetes names hold no underscore.
#[must_use]
pub fn domain(namespace: &str, vm: &str) -> String {
    format!("{namespace}_{vm}")
}

/// The logical switch port that joins a subnet's switch to its VPC's router.
#[must_use]
pub fn switch_side(subnet: &str, vpc: &str) -> String {
    format!("{subnet}-{vpc}")
}

/// The logical router port that joins a VPC's router to a subnet's switch.
#[must_use]
pub fn router_side(vpc: &str, subnet: &str) -> String {
    format!("{vpc}-{subnet}")
}

/// In whose name the ledger holds the addresses of a Vip. No VM's port has a colon.
#[must_use]
pub fn vip_holder(vip: &str) -> String {
    format!("{VIP_PREFIX}{vip}")
}

/// The Vip that holds in this name, if it is one's.
#[must_use]
pub fn vip_of_holder(holder: &str) -> Option<&str> {
    holder.strip_prefix(VIP_PREFIX)
}

const VIP_PREFIX: &str = "vip:";

/// In whose name the ledger holds the addresses of a node.
#[must_use]
pub fn node_holder(node: &str) -> String {
    format!("{NODE_PREFIX}{node}")
}

/// The node that holds in this name, if it is one's.
#[must_use]
pub fn node_of_holder(holder: &str) -> Option<&str> {
    holder.strip_prefix(NODE_PREFIX)
}

const NODE_PREFIX: &str = "node:";

/// The logical switch port of a Vip's address: the first is named as the Vip, the
/// one of its other family `<vip>:v6`.
#[must_use]
pub fn vip_port(vip: &str, at: usize) -> String {
    if at == 0 { vip.to_owned() } else { format!("{vip}{VIP_V6}") }
}

/// The Vip that this port would be of.
#[must_use]
pub fn vip_of_port(port: &str) -> &str {
    port.strip_suffix(VIP_V6).unwrap_or(port)
}

const VIP_V6: &str = ":v6";

/// The logical switch port of an address that a subnet lists in `spec.vips`.
#[must_use]
pub fn subnet_vip(subnet: &str, address: &str) -> String {
    format!("{subnet}-vip-{address}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_provider_is_not_part_of_a_port_name() {
        assert_eq!(port("web", "default", "ovn"), "web.default");
        assert_eq!(port("web", "default", "net2.default.ovn"), "web.default.net2.default.ovn");
    }

    #[test]
    fn a_vip_shares_no_name_with_a_vms_port_or_another_vip() {
        assert_ne!(vip_holder("web"), port("vip", "web", "ovn"));
        assert_eq!(vip_of_holder(&vip_holder("web")), Some("web"));
        assert_eq!(vip_of_holder("vip.web"), None);
        assert_eq!([vip_port("web", 0), vip_port("web", 1)], ["web", "web:v6"]);
        assert_eq!(vip_of_port("web:v6"), "web");
    }

    #[test]
    fn a_tap_name_fits_the_kernel_and_differs_by_port() {
        assert_eq!(tap("web.default").len(), 14);
        assert_ne!(tap("web.default"), tap("db.default"));
    }
}
