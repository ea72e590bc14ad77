//! Names that several systems must agree on, each derived in one function.
//!
//! | name | example | known to |
//! |---|---|---|
//! | provider | `ovn`, `net2.default.ovn`, `net2.default.ovn.second` | the subnets of a network, prefix of its annotations, end of its port's name |
//! | port | `web.default`, `web.default.net2.default.ovn` | IP object, logical switch port, `iface-id` |
//! | node port | `node-n1` | the same, of a node on the subnet of the nodes |
//! | tap | `tap3f9c2a17b04` | the node's kernel, OVS |
//! | domain | `default_web` | libvirt |
//! | patch ports | `sub1-vpc1` on the switch, `vpc1-sub1` on the router | OVN |

use sha2::{Digest, Sha256};

/// The provider of a subnet that serves a VM's first network.
pub const DEFAULT_PROVIDER: &str = "ovn";

/// Whether an object of Kubernetes may be named so (RFC 1123): labels of lower-case
/// letters, digits and hyphens, with dots between, of 253 bytes at most.
#[must_use]
pub fn is_object_name(text: &str) -> bool {
    let is_alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_label = |label: &[u8]| {
        label.iter().all(|byte| is_alphanumeric(byte) || *byte == b'-')
            && [label.first(), label.last()].iter().all(|end| end.is_some_and(is_alphanumeric))
    };
    text.len() <= LONGEST_NAME && text.as_bytes().split(|byte| *byte == b'.').all(is_label)
}

/// Longest name of an object, in bytes.
pub const LONGEST_NAME: usize = 253;

/// The provider whose subnets serve a network of a VM in `namespace`: `ovn` for the pod
/// network, `<nad>.<namespace>.ovn` for an attachment, which is named as KubeVirt has
/// it: `<nad>` or `<namespace>/<nad>`.
#[must_use]
pub fn provider(attachment: Option<&str>, namespace: &str) -> String {
    let Some(name) = attachment else { return DEFAULT_PROVIDER.to_owned() };
    let (namespace, nad) = name.split_once('/').unwrap_or((namespace, name));
    format!("{nad}.{namespace}.{DEFAULT_PROVIDER}")
}

/// What takes the place of the provider in names and annotations for a further interface
/// of one attachment, as upstream: `<nad>.<namespace>.ovn.<interface>`. Here the
/// interface is the name of the network in the VM.
#[must_use]
pub fn further(provider: &str, network: &str) -> String {
    format!("{provider}.{network}")
}

/// The same as Kube-OVN has named it, which knows the interface in the pod: a network that
/// came from there keeps it.
#[must_use]
pub fn further_in_pod(provider: &str, network: &str) -> String {
    further(provider, &pod_interface(network))
}

/// As which of these a network of an instance was given its port: `is_given` says of
/// which there is a place.
#[must_use]
pub fn given(provider: String, network: &str, is_given: impl Fn(&str) -> bool) -> String {
    let longer = [further(&provider, network), further_in_pod(&provider, network)];
    longer.into_iter().find(|one| is_given(one)).unwrap_or(provider)
}

/// What KubeVirt calls the interface of a network in its pod, and Kube-OVN after it:
/// `pod` and the first eleven hexadecimal digits of the SHA-256 of the network's name.
#[must_use]
pub fn pod_interface(network: &str) -> String {
    format!("pod{}", eleven_digits(network))
}

/// The provider that this port of a VM is named by, or what takes its place.
#[must_use]
pub fn provider_of_port<'a>(port: &'a str, vm: &str, namespace: &str) -> &'a str {
    let rest = port.strip_prefix(vm).and_then(|rest| rest.strip_prefix('.'));
    let rest = rest.and_then(|rest| rest.strip_prefix(namespace)?.strip_prefix('.'));
    rest.unwrap_or(DEFAULT_PROVIDER)
}

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
    format!("tap{}", eleven_digits(port))
}

/// The migration by which a guest leaves `node`, after the one with the uid `last` or,
/// where that is empty, as the first: the same for whoever decides that it is to leave.
#[must_use]
pub fn evacuation(instance_uid: &str, node: &str, last: &str) -> String {
    format!("kubevirt-evacuation-{}", eleven_digits(&format!("{instance_uid}/{node}/{last}")))
}

/// The first eleven hexadecimal digits of a text's SHA-256.
fn eleven_digits(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let hex: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    hex[..11].to_owned()
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

/// In whose name the ledger holds the addresses of an IPAMClaim.
#[must_use]
pub fn claim_holder(namespace: &str, name: &str) -> String {
    format!("{CLAIM_PREFIX}{namespace}/{name}")
}

/// Namespace and name of the IPAMClaim that holds in this name, if it is one's.
#[must_use]
pub fn claim_of_holder(holder: &str) -> Option<(&str, &str)> {
    holder.strip_prefix(CLAIM_PREFIX)?.split_once('/')
}

const CLAIM_PREFIX: &str = "claim:";

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

/// As what the replica set of this namespace and name is looked at: it holds no address, but is
/// decided for beside those who do.
#[must_use]
pub fn set_holder(namespace: &str, name: &str) -> String {
    format!("{SET_PREFIX}{namespace}/{name}")
}

/// Namespace and name of the replica set that this is, if it is one.
#[must_use]
pub fn set_of_holder(holder: &str) -> Option<(&str, &str)> {
    holder.strip_prefix(SET_PREFIX)?.split_once('/')
}

const SET_PREFIX: &str = "set:";

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
    fn an_object_has_a_name_of_labels() {
        let longest = ["a"; 127].join(".");
        for name in ["a", "net2.default.ovn", "0-9", longest.as_str()] {
            assert!(is_object_name(name), "{name}");
        }
        for name in ["", "A", "a..b", "-a", "a-", "a b", "a\0", &format!("{longest}.a")] {
            assert!(!is_object_name(name), "{name:?}");
        }
    }

    #[test]
    fn a_ports_name_tells_the_provider_that_it_was_made_of() {
        for provider in ["ovn", "net2.default.ovn", "net2.default.ovn.second"] {
            let port = port("web.x", "default", provider);
            assert_eq!(provider_of_port(&port, "web.x", "default"), provider);
        }
        assert_eq!(provider(Some("net2"), "default"), "net2.default.ovn");
        assert_eq!(provider(Some("other/net2"), "default"), "net2.other.ovn");
        assert_eq!(provider(None, "default"), "ovn");
    }

    #[test]
    fn a_network_has_the_name_of_which_there_is_a_place() {
        let base = || "net2.default.ovn".to_owned();
        let longer = ["net2.default.ovn.blue", "net2.default.ovn.pod16477688c0e"];
        assert_eq!(given(base(), "blue", |_| false), base());
        for one in longer {
            assert_eq!(given(base(), "blue", |given| given == one), one);
        }
    }

    #[test]
    fn kubevirts_name_of_an_interface_is_fourteen_characters_of_a_hash() {
        assert_eq!(pod_interface("blue"), "pod16477688c0e");
    }

    #[test]
    fn a_vip_shares_no_name_with_a_vms_port_or_another_vip() {
        assert_ne!(vip_holder("web"), port("vip", "web", "ovn"));
        assert_eq!(vip_of_holder(&vip_holder("web")), Some("web"));
        assert_eq!(vip_of_holder("vip.web"), None);
        assert_eq!(claim_of_holder(&claim_holder("a", "b.c")), Some(("a", "b.c")));
        assert_eq!(claim_of_holder(&vip_holder("web")), None);
        assert_eq!([vip_port("web", 0), vip_port("web", 1)], ["web", "web:v6"]);
        assert_eq!(vip_of_port("web:v6"), "web");
    }

    #[test]
    fn a_tap_name_fits_the_kernel_and_differs_by_port() {
        assert_eq!(tap("web.default").len(), 14);
        assert_ne!(tap("web.default"), tap("db.default"));
    }
}
