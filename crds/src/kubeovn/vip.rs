//! Vip: an address that is nobody's own.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{CustomResource, CustomResourceExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::Condition;

/// A reserved address: shared by the ports that are allowed to carry it, or given to
/// the one VM that names it. Upstream `pkg/apis/kubeovn/v1/vip.go`.
///
/// The kind has no status subresource, as upstream.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "kubeovn.io",
    version = "v1",
    kind = "Vip",
    plural = "vips",
    singular = "vip",
    shortname = "vip",
    status = "VipStatus",
    doc = "A reserved address that several ports may carry, or that a virtual machine takes by name.",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Namespace","type":"string","jsonPath":".spec.namespace"}"#,
    printcolumn = r#"{"name":"V4IP","type":"string","jsonPath":".status.v4ip"}"#,
    printcolumn = r#"{"name":"V6IP","type":"string","jsonPath":".status.v6ip"}"#,
    printcolumn = r#"{"name":"Mac","type":"string","jsonPath":".status.mac"}"#,
    printcolumn = r#"{"name":"Subnet","type":"string","jsonPath":".spec.subnet"}"#,
    printcolumn = r#"{"name":"Type","type":"string","jsonPath":".status.type"}"#
)]
#[serde(rename_all = "camelCase", default)]
pub struct VipSpec {
    /// The namespace whose VMs the selector looks at, and may use the address.
    pub namespace: String,
    /// The subnet.
    pub subnet: String,
    /// Empty for an allowed-address-pair; `switch_lb_vip`; `kube_host_vm_vip`.
    pub r#type: String,
    /// The IPv4 address; by default a free one.
    #[serde(rename = "v4ip")]
    pub v4_ip: String,
    /// The IPv6 address; by default a free one.
    #[serde(rename = "v6ip")]
    pub v6_ip: String,
    /// The Ethernet address; by default a derived one.
    pub mac_address: String,
    /// Labels `key:value` of the VMs that may carry the address.
    pub selector: Vec<String>,
    /// Further subnets; no meaning here.
    pub attach_subnets: Vec<String>,
}

/// What became of a Vip.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VipStatus {
    /// `Ready`, `Validated`, `Error`, `FieldsWithoutEffect`, `DeletionBlocked`.
    pub conditions: Vec<Condition>,
    /// The type in force.
    pub r#type: String,
    /// The IPv4 address in force.
    #[serde(rename = "v4ip")]
    pub v4_ip: String,
    /// The IPv6 address in force.
    #[serde(rename = "v6ip")]
    pub v6_ip: String,
    /// The Ethernet address in force.
    pub mac: String,
    /// The selector in force.
    pub selector: Vec<String>,
}

/// The definition of [`Vip`]: its status is written with the object.
pub(crate) fn definition() -> CustomResourceDefinition {
    let mut definition = Vip::crd();
    for version in &mut definition.spec.versions {
        version.subresources = None;
    }
    definition
}
