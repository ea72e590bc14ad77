//! IP: the addresses of one network port.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The addresses of one port of one VM, named after the port.
///
/// For people, and for reserving an address before its VM exists. Written after
/// the ledger and repaired from it; upstream `pkg/apis/kubeovn/v1/ip.go`.
#[derive(
    Clone, CustomResource, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize,
)]
#[kube(
    group = "kubeovn.io",
    version = "v1",
    kind = "IP",
    root = "Ip",
    plural = "ips",
    singular = "ip",
    shortname = "ip",
    doc = "The addresses of one port of one virtual machine; made by hand, it reserves them.",
    derive = "PartialEq",
    printcolumn = r#"{"name":"V4IP","type":"string","jsonPath":".spec.v4IpAddress"}"#,
    printcolumn = r#"{"name":"V6IP","type":"string","jsonPath":".spec.v6IpAddress"}"#,
    printcolumn = r#"{"name":"Mac","type":"string","jsonPath":".spec.macAddress"}"#,
    printcolumn = r#"{"name":"Node","type":"string","jsonPath":".spec.nodeName"}"#,
    printcolumn = r#"{"name":"Subnet","type":"string","jsonPath":".spec.subnet"}"#
)]
#[serde(rename_all = "camelCase", default)]
pub struct IpSpec {
    /// The VM (upstream: the pod or VM).
    pub pod_name: String,
    /// The VM's namespace.
    pub namespace: String,
    /// The subnet of the first address.
    pub subnet: String,
    /// Further subnets; always empty here, as upstream.
    pub attach_subnets: Vec<String>,
    /// The node that the VM was last placed on.
    pub node_name: String,
    /// `v4`, `v6` or `v4,v6`.
    pub ip_address: String,
    /// The IPv4 address, or empty.
    pub v4_ip_address: String,
    /// The IPv6 address, or empty.
    pub v6_ip_address: String,
    /// Further addresses; always empty here, as upstream.
    pub attach_ips: Vec<String>,
    /// The Ethernet address.
    pub mac_address: String,
    /// Further Ethernet addresses; always empty here, as upstream.
    pub attach_macs: Vec<String>,
    /// Upstream: the container. No meaning for a VM.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// `VirtualMachine` for an address that lives as long as its VM.
    pub pod_type: String,
}
