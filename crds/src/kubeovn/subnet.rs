//! Subnet: the networks of a switch and how its ports are served.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Count;
use crate::condition::{Condition, READY, holds};
use crate::kubevirt::Opaque;

/// A logical switch with its networks. Upstream `pkg/apis/kubeovn/v1/subnet.go`.
///
/// Booleans are kept as written, since absent and `false` differ for
/// `enableDHCP`, `enableIPv6RA` and `enableLb`: a VM is served unless the subnet
/// says no.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "kubeovn.io",
    version = "v1",
    kind = "Subnet",
    plural = "subnets",
    singular = "subnet",
    shortname = "subnet",
    status = "SubnetStatus",
    doc = "A logical switch: its networks, its gateway, and how its ports are served.",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Provider","type":"string","jsonPath":".spec.provider"}"#,
    printcolumn = r#"{"name":"Vpc","type":"string","jsonPath":".spec.vpc"}"#,
    printcolumn = r#"{"name":"Vlan","type":"string","jsonPath":".spec.vlan"}"#,
    printcolumn = r#"{"name":"Protocol","type":"string","jsonPath":".spec.protocol"}"#,
    printcolumn = r#"{"name":"CIDR","type":"string","jsonPath":".spec.cidrBlock"}"#,
    printcolumn = r#"{"name":"Private","type":"boolean","jsonPath":".spec.private"}"#,
    printcolumn = r#"{"name":"NAT","type":"boolean","jsonPath":".spec.natOutgoing"}"#,
    printcolumn = r#"{"name":"Default","type":"boolean","jsonPath":".spec.default"}"#,
    printcolumn = r#"{"name":"GatewayType","type":"string","jsonPath":".spec.gatewayType"}"#,
    printcolumn = r#"{"name":"V4Used","type":"number","jsonPath":".status.v4usingIPs"}"#,
    printcolumn = r#"{"name":"V4Available","type":"number","jsonPath":".status.v4availableIPs"}"#,
    printcolumn = r#"{"name":"V6Used","type":"number","jsonPath":".status.v6usingIPs"}"#,
    printcolumn = r#"{"name":"V6Available","type":"number","jsonPath":".status.v6availableIPs"}"#,
    printcolumn = r#"{"name":"ExcludeIPs","type":"string","jsonPath":".spec.excludeIps"}"#,
    printcolumn = r#"{"name":"U2OInterconnectionIP","type":"string","jsonPath":".status.u2oInterconnectionIP"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#
)]
#[serde(rename_all = "camelCase", default)]
#[expect(clippy::struct_excessive_bools, reason = "the upstream type has them")]
pub struct SubnetSpec {
    /// `v4`, `v6` or `v4,v6` networks.
    #[schemars(length(max = 128))]
    pub cidr_block: String,
    /// The gateway of each family; by default the first address of the network.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    /// Addresses never given out unasked: `a` or `a..b`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude_ips: Vec<String>,
    /// The VPC; by default `ovn-cluster`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub vpc: String,
    /// `IPv4`, `IPv6` or `Dual`; follows from `cidrBlock`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub protocol: String,
    /// `ovn` (the default), or `<nad>.<namespace>.ovn`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub provider: String,
    /// Namespaces whose VMs use this subnet unless they name another.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// The same by namespace labels.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespace_selectors: Vec<LabelSelector>,
    /// The default subnet.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub default: bool,
    /// MTU of the ports in bytes; 0 means the overlay's, 1400.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<i32>,

    /// Answer DHCP; absent means yes.
    #[serde(rename = "enableDHCP", skip_serializing_if = "Option::is_none")]
    pub enable_dhcp: Option<bool>,
    /// `key=value` pairs with commas between; `;` between several values.
    #[serde(rename = "dhcpV4Options", skip_serializing_if = "String::is_empty")]
    pub dhcp_v4_options: String,
    /// The same for DHCPv6.
    #[serde(rename = "dhcpV6Options", skip_serializing_if = "String::is_empty")]
    pub dhcp_v6_options: String,
    /// A prefix for the networks behind each guest. Not an upstream field.
    #[serde(rename = "dhcpV6PrefixDelegation", skip_serializing_if = "Option::is_none")]
    pub dhcp_v6_prefix_delegation: Option<PrefixDelegation>,
    /// Send router advertisements; absent means yes.
    #[serde(rename = "enableIPv6RA", skip_serializing_if = "Option::is_none")]
    pub enable_ipv6_ra: Option<bool>,
    /// `key=value` pairs with commas between.
    #[serde(rename = "ipv6RAConfigs", skip_serializing_if = "String::is_empty")]
    pub ipv6_ra_configs: String,

    /// `distributed` or `centralized`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gateway_type: String,
    /// Nodes of a centralised gateway.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gateway_node: String,
    /// The same by labels.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gateway_node_selectors: Vec<LabelSelector>,
    /// Source NAT towards the outside.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub nat_outgoing: bool,
    /// Exceptions from it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nat_outgoing_policy_rules: Vec<SubnetNatRule>,
    /// Egress through a gateway outside.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub external_egress_gateway: String,
    /// Priority of the policy route for egress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_routing_priority: Option<i32>,
    /// Table of the policy route for egress.
    #[serde(rename = "policyRoutingTableID", skip_serializing_if = "Option::is_none")]
    pub policy_routing_table_id: Option<i32>,
    /// ECMP over several gateway nodes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub enable_ecmp: bool,

    /// Only this subnet and `allowSubnets` may reach its ports.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub private: bool,
    /// Networks that may reach a private subnet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_subnets: Vec<String>,
    /// ACLs of the switch.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub acls: Vec<SubnetAcl>,
    /// Traffic within the subnet passes whatever the ACLs say.
    #[serde(rename = "allowEWTraffic", skip_serializing_if = "std::ops::Not::not")]
    pub allow_ew_traffic: bool,

    /// The VLAN of an underlay subnet.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub vlan: String,
    /// An underlay subnet whose gateway is the logical router.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub logical_gateway: bool,
    /// Do not wait for the gateway to answer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disable_gateway_check: bool,
    /// Keep the subnet's routes from other clusters.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disable_inter_connection: bool,
    /// Join an underlay subnet to the overlay.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub u2o_interconnection: bool,
    /// The address of that joint.
    #[serde(rename = "u2oInterconnectionIP", skip_serializing_if = "String::is_empty")]
    pub u2o_interconnection_ip: String,
    /// Details of that joint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub u2o_features: Option<U2oFeatures>,
    /// Addresses of virtual ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vips: Vec<String>,
    /// Load balancers on the switch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_lb: Option<bool>,
    /// Multicast snooping on the switch.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub enable_multicast_snoop: bool,
    /// Addresses of load balancers from outside.
    #[serde(rename = "enableExternalLBAddress", skip_serializing_if = "std::ops::Not::not")]
    pub enable_external_lb_address: bool,
    /// The route table of the router port.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub route_table: String,
    /// The node network that an attachment uses.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node_network: String,
}

/// The prefixes that DHCPv6 delegates to the guests of a subnet, one to each (RFC 9915,
/// section 6.3).
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PrefixDelegation {
    /// The IPv6 network that they are in, such as `fd10::/48`.
    #[schemars(length(max = 64))]
    pub cidr_block: String,
    /// The length of each, in bits; 64 where it is not written.
    pub prefix_length: i64,
}

impl Default for PrefixDelegation {
    fn default() -> Self {
        Self { cidr_block: String::new(), prefix_length: 64 }
    }
}

/// One ACL of a subnet's switch.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SubnetAcl {
    /// `from-lport` or `to-lport`.
    pub direction: String,
    /// 0 to 32767; higher wins.
    pub priority: i32,
    /// An OVN match expression.
    pub r#match: String,
    /// `allow-related`, `allow-stateless`, `allow`, `drop` or `reject`.
    pub action: String,
}

/// One exception from outgoing NAT.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SubnetNatRule {
    /// Which packets.
    pub r#match: SubnetNatRuleMatch,
    /// `nat` or `forward`.
    pub action: String,
}

/// One exception from outgoing NAT that is in force.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SubnetNatRuleStatus {
    /// Its name among the others.
    #[serde(rename = "ruleID")]
    pub rule_id: String,
    /// Which packets.
    pub r#match: SubnetNatRuleMatch,
    /// `nat` or `forward`.
    pub action: String,
}

/// Which packets an exception from outgoing NAT is for.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default)]
pub struct SubnetNatRuleMatch {
    /// Sources, comma between.
    #[serde(rename = "srcIPs")]
    pub src_ips: String,
    /// Destinations, comma between.
    #[serde(rename = "dstIPs")]
    pub dst_ips: String,
}

/// Details of the joint between an underlay subnet and the overlay.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct U2oFeatures {
    /// Route overlay traffic only.
    pub overlay_only_routing: bool,
}

impl Subnet {
    /// As it is in force: with the spec that its status has, where what is written now
    /// cannot be.
    #[must_use]
    pub fn as_in_force(mut self) -> Self {
        let Some(status) = &self.status else { return self };
        if let Some(spec) = &status.in_force
            && !holds(&status.conditions, READY)
        {
            self.spec = SubnetSpec::clone(spec);
        }
        self
    }
}

/// What became of a Subnet.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SubnetStatus {
    /// `Ready`, `Validated`, `Error`, `FieldsWithoutEffect`, `DeletionBlocked`.
    pub conditions: Vec<Condition>,
    /// Free IPv4 addresses.
    #[serde(rename = "v4availableIPs")]
    pub v4_available: Count,
    /// Which are free: `a-b,c`, at most 32 ranges, then `…`.
    #[serde(rename = "v4availableIPrange")]
    pub v4_available_range: String,
    /// Held IPv4 addresses.
    #[serde(rename = "v4usingIPs")]
    pub v4_using: Count,
    /// Which are held: `a-b,c`, at most 32 ranges, then `…`.
    #[serde(rename = "v4usingIPrange")]
    pub v4_using_range: String,
    /// Free IPv6 addresses.
    #[serde(rename = "v6availableIPs")]
    pub v6_available: Count,
    /// Which are free: `a-b,c`, at most 32 ranges, then `…`.
    #[serde(rename = "v6availableIPrange")]
    pub v6_available_range: String,
    /// Held IPv6 addresses.
    #[serde(rename = "v6usingIPs")]
    pub v6_using: Count,
    /// Which are held: `a-b,c`, at most 32 ranges, then `…`.
    #[serde(rename = "v6usingIPrange")]
    pub v6_using_range: String,
    /// The node of a centralised gateway.
    pub activate_gateway: String,
    /// The row of the DHCP options: upstream's, here the agent answers.
    #[serde(rename = "dhcpV4OptionsUUID")]
    pub dhcp_v4_options_uuid: String,
    /// The same for DHCPv6.
    #[serde(rename = "dhcpV6OptionsUUID")]
    pub dhcp_v6_options_uuid: String,
    /// The exceptions from outgoing NAT in force: upstream's, there are none here.
    pub nat_outgoing_policy_rules: Vec<SubnetNatRuleStatus>,
    /// The address of the joint between underlay and overlay.
    #[serde(rename = "u2oInterconnectionIP")]
    pub u2o_interconnection_ip: String,
    /// The Ethernet address of the same: upstream's, there is no such joint here.
    #[serde(rename = "u2oInterconnectionMAC")]
    pub u2o_interconnection_mac: String,
    /// The VPC of the same.
    #[serde(rename = "u2oInterconnectionVPC")]
    pub u2o_interconnection_vpc: String,
    /// Where the questions of the switch's multicast querier come from.
    #[serde(rename = "mcastQuerierIP")]
    pub mcast_querier_ip: String,
    /// The Ethernet address of the same.
    #[serde(rename = "mcastQuerierMAC")]
    pub mcast_querier_mac: String,
    /// The Ethernet address of the router port on this subnet: the source of
    /// router advertisements. Not an upstream field.
    #[serde(rename = "gatewayMAC")]
    pub gateway_mac: String,
    /// The spec that is in force, also while another one is written that cannot be. Not
    /// an upstream field.
    #[serde(deserialize_with = "super::if_it_fits", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Opaque>")]
    pub in_force: Option<Box<SubnetSpec>>,
}
