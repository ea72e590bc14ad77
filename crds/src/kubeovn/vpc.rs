//! Vpc: a router of its own, and the subnets behind it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::Condition;

/// A virtual private cloud: one logical router. Upstream
/// `pkg/apis/kubeovn/v1/vpc.go`.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "kubeovn.io",
    version = "v1",
    kind = "Vpc",
    plural = "vpcs",
    singular = "vpc",
    shortname = "vpc",
    status = "VpcStatus",
    doc = "A virtual private cloud: one logical router, and the subnets behind it.",
    derive = "PartialEq",
    printcolumn = r#"{"name":"EnableExternal","type":"boolean","jsonPath":".status.enableExternal"}"#,
    printcolumn = r#"{"name":"EnableBfd","type":"boolean","jsonPath":".status.enableBfd"}"#,
    printcolumn = r#"{"name":"Standby","type":"boolean","jsonPath":".status.standby"}"#,
    printcolumn = r#"{"name":"Subnets","type":"string","jsonPath":".status.subnets"}"#,
    printcolumn = r#"{"name":"ExtraExternalSubnets","type":"string","jsonPath":".status.extraExternalSubnets"}"#,
    printcolumn = r#"{"name":"Namespaces","type":"string","jsonPath":".spec.namespaces"}"#,
    printcolumn = r#"{"name":"DefaultSubnet","type":"string","jsonPath":".status.defaultLogicalSwitch"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#
)]
#[serde(rename_all = "camelCase", default)]
pub struct VpcSpec {
    /// The subnet for namespaces bound to this VPC that name none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub default_subnet: String,
    /// Namespaces bound to this VPC.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// Static routes of the router. Several next hops for one network share its
    /// traffic.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub static_routes: Vec<StaticRoute>,
    /// Policy routes of the router.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policy_routes: Vec<PolicyRoute>,
    /// Links to other VPCs' routers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vpc_peerings: Vec<VpcPeering>,
    /// Join the external subnet.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub enable_external: bool,
    /// Further external subnets to join.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extra_external_subnets: Vec<String>,
    /// BFD on ECMP routes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub enable_bfd: bool,
    /// The router port that BFD sessions use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bfd_port: Option<BfdPort>,
}

/// One static route.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StaticRoute {
    /// `policySrc` or `policyDst` (the default).
    pub policy: String,
    /// The network to match, or an address.
    pub cidr: String,
    /// Where to send what matches.
    #[serde(rename = "nextHopIP")]
    pub next_hop_ip: String,
    /// Empty or `ecmp_symmetric_reply`.
    pub ecmp_mode: String,
    /// The BFD session that guards the route.
    pub bfd_id: String,
    /// The route table; empty is the main one.
    pub route_table: String,
}

/// One policy route.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyRoute {
    /// 0 to 32767; higher wins.
    pub priority: i32,
    /// An OVN match expression.
    pub r#match: String,
    /// `allow`, `drop` or `reroute`.
    pub action: String,
    /// Next hops of `reroute`, all of one family, comma between.
    #[serde(rename = "nextHopIP")]
    pub next_hop_ip: String,
}

/// A link to another VPC.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VpcPeering {
    /// The other VPC.
    pub remote_vpc: String,
    /// This side's address with its prefix length; the other side has another one of
    /// the same network.
    #[serde(rename = "localConnectIP")]
    pub local_connect_ip: String,
}

/// The router port that BFD sessions use.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BfdPort {
    /// Whether it is made.
    pub enabled: bool,
    /// Its address.
    pub ip: String,
    /// The nodes that it may be on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
}

/// The router port that BFD sessions use, once it is there.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default)]
pub struct BfdPortStatus {
    /// Its name.
    pub name: String,
    /// Its address.
    pub ip: String,
    /// The nodes that it may be on.
    pub nodes: Vec<String>,
}

/// What became of a Vpc.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VpcStatus {
    /// `Ready`, `Validated`, `Error`, `FieldsWithoutEffect`, `DeletionBlocked`.
    pub conditions: Vec<Condition>,
    /// The router is there (upstream's word for ready).
    pub standby: bool,
    /// This is the default VPC.
    pub default: bool,
    /// The subnet for namespaces that name none.
    pub default_logical_switch: String,
    /// The logical router.
    pub router: String,
    /// The subnets behind the router.
    pub subnets: Vec<String>,
    /// The peers linked.
    pub vpc_peerings: Vec<String>,
    /// As in the spec, once in force.
    pub enable_external: bool,
    /// As in the spec, once in force.
    pub extra_external_subnets: Vec<String>,
    /// As in the spec, once in force.
    pub enable_bfd: bool,
    /// The load balancers of the router: upstream's, there are none here.
    pub tcp_load_balancer: String,
    /// The same of UDP.
    pub udp_load_balancer: String,
    /// The same of SCTP.
    pub sctp_load_balancer: String,
    /// The same that keep a client with its server.
    pub tcp_session_load_balancer: String,
    /// The same of UDP.
    pub udp_session_load_balancer: String,
    /// The same of SCTP.
    pub sctp_session_load_balancer: String,
    /// The router port of BFD sessions: upstream's, there is none here.
    pub bfd_port: Option<BfdPortStatus>,
}
