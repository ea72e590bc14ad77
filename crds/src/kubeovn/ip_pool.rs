//! IPPool: some addresses of a subnet under a name.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Count;
use crate::condition::Condition;
use crate::kubevirt::Opaque;

/// Addresses of a subnet that are given only to those who name the pool, or whose
/// namespace it lists. Upstream `pkg/apis/kubeovn/v1/ippool.go`.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "kubeovn.io",
    version = "v1",
    kind = "IPPool",
    root = "IpPool",
    plural = "ippools",
    singular = "ippool",
    shortname = "ippool",
    status = "IpPoolStatus",
    doc = "Addresses of a subnet that only those get who name the pool, or whose namespace it lists.",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Subnet","type":"string","jsonPath":".spec.subnet"}"#,
    printcolumn = r#"{"name":"enableAddressSet","type":"boolean","jsonPath":".spec.enableAddressSet"}"#,
    printcolumn = r#"{"name":"IPs","type":"string","jsonPath":".spec.ips"}"#,
    printcolumn = r#"{"name":"V4Used","type":"number","jsonPath":".status.v4UsingIPs"}"#,
    printcolumn = r#"{"name":"V4Available","type":"number","jsonPath":".status.v4AvailableIPs"}"#,
    printcolumn = r#"{"name":"V6Used","type":"number","jsonPath":".status.v6UsingIPs"}"#,
    printcolumn = r#"{"name":"V6Available","type":"number","jsonPath":".status.v6AvailableIPs"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct IpPoolSpec {
    /// The subnet whose addresses these are.
    #[serde(default)]
    pub subnet: String,
    /// Addresses `a`, ranges `a..b`, networks `a/prefix`.
    #[serde(default)]
    pub ips: Vec<String>,
    /// Namespaces whose VMs on this subnet get their addresses from here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// Make the addresses a set that ACLs can name.
    #[serde(default)]
    pub enable_address_set: bool,
}

/// What became of an IPPool. The casing differs from the Subnet's, as upstream.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IpPoolStatus {
    /// `Ready`, `Validated`, `Error`, `FieldsWithoutEffect`, `DeletionBlocked`.
    pub conditions: Vec<Condition>,
    /// Free IPv4 addresses.
    #[serde(rename = "v4AvailableIPs")]
    pub v4_available: Count,
    /// Which are free: `a-b,c`, at most 32 ranges, then `…`.
    #[serde(rename = "v4AvailableIPRange")]
    pub v4_available_range: String,
    /// Held IPv4 addresses.
    #[serde(rename = "v4UsingIPs")]
    pub v4_using: Count,
    /// Which are held: `a-b,c`, at most 32 ranges, then `…`.
    #[serde(rename = "v4UsingIPRange")]
    pub v4_using_range: String,
    /// Free IPv6 addresses.
    #[serde(rename = "v6AvailableIPs")]
    pub v6_available: Count,
    /// Which are free: `a-b,c`, at most 32 ranges, then `…`.
    #[serde(rename = "v6AvailableIPRange")]
    pub v6_available_range: String,
    /// Held IPv6 addresses.
    #[serde(rename = "v6UsingIPs")]
    pub v6_using: Count,
    /// Which are held: `a-b,c`, at most 32 ranges, then `…`.
    #[serde(rename = "v6UsingIPRange")]
    pub v6_using_range: String,
    /// The spec that is in force, also while another one is written that cannot be. Not
    /// an upstream field.
    #[serde(deserialize_with = "super::if_it_fits", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Opaque>")]
    pub in_force: Option<Box<IpPoolSpec>>,
}
