//! What a server refuses by the schema alone: words, ranges, formats, and rules between
//! the fields of one object.
//!
//! The types stay lenient: an object that came past its schema is read all the same, and
//! the controller says the same of it in a condition. Absent and empty mean the same
//! everywhere, since Kube-OVN's users write both. Rules in CEL need the libraries of
//! Kubernetes 1.31 (`isIP`, `cidr`); a server that runs none lets such an object in.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, ValidationRule,
};

use super::fixed::fixed_fields;
use super::limits::{Limit, limits};

/// Longest `cidrBlock` and `gateway`, in bytes: two networks of the longest kind.
const LONGEST_PAIR: i64 = 100;
/// Longest text of one address.
const LONGEST_ADDRESS: i64 = 45;
/// Longest name of an object.
const LONGEST_NAME: i64 = 253;
/// Longest text of one range of addresses.
const LONGEST_RANGE: i64 = 2 * LONGEST_ADDRESS + 4;

/// Puts the rules of `kubeovn.io` on the definition, if it is one of that group.
pub(crate) fn constrain(definition: &mut CustomResourceDefinition) {
    let rules = match definition.spec.names.kind.as_str() {
        _ if definition.spec.group != "kubeovn.io" => return,
        "Vpc" => vpc,
        "Subnet" => subnet,
        "IPPool" => ip_pool,
        "Vip" => vip,
        "IP" => ip,
        _ => return,
    };
    let schemas = definition.spec.versions.iter_mut().filter_map(|one| one.schema.as_mut());
    let roots = schemas.filter_map(|schema| schema.open_api_v3_schema.as_mut());
    let kind = definition.spec.names.kind.clone();
    roots.for_each(|root| {
        let mut root = At(root);
        let mut spec = root.field("spec");
        rules(&mut spec);
        for Limit { field, most, .. } in limits(&kind) {
            spec.field(field).at_most(i64::try_from(*most).unwrap_or(i64::MAX));
        }
    });
}

fn vpc(spec: &mut At<'_>) {
    let mut route = spec.field("staticRoutes").each();
    route.field("policy").one_of(&["", "policySrc", "policyDst"]);
    route.field("ecmpMode").one_of(&["", "ecmp_symmetric_reply"]);
    route.requires(&["cidr", "nextHopIP"]);

    let mut policy = spec.field("policyRoutes").each();
    policy.field("priority").between(0, 32_767);
    policy.field("action").one_of(&["allow", "drop", "reroute"]);
    policy.requires(&["match", "action"]);
    policy.rule(
        "self.action != 'reroute' || (has(self.nextHopIP) && self.nextHopIP != '')",
        "nextHopIP is empty: with action reroute write one address, or several of one family with a comma between",
    );

    spec.field("vpcPeerings").each().requires(&["remoteVpc", "localConnectIP"]);
}

fn subnet(spec: &mut At<'_>) {
    spec.field("cidrBlock").no_longer_than(LONGEST_PAIR);
    spec.field("gateway").no_longer_than(LONGEST_PAIR);
    spec.field("protocol").one_of(&["", "IPv4", "IPv6", "Dual", "Mac"]);
    spec.field("gatewayType").one_of(&["", "distributed", "centralized"]);
    spec.field("mtu").between(0, 65_535);
    for (list, longest) in
        [("excludeIps", LONGEST_RANGE), ("vips", LONGEST_ADDRESS), ("allowSubnets", LONGEST_RANGE)]
    {
        spec.field(list).each().no_longer_than(longest);
    }
    spec.field("excludeIps").each().matching(RANGE);
    let mut acl = spec.field("acls").each();
    acl.field("direction").one_of(&["from-lport", "to-lport"]);
    acl.field("priority").between(0, 32_767);
    acl.field("action").one_of(&["allow-related", "allow-stateless", "allow", "drop", "reject"]);
    acl.requires(&["direction", "match", "action"]);
    spec.field("natOutgoingPolicyRules").each().field("action").one_of(&["", "nat", "forward"]);

    for fixed in fixed_fields("Subnet") {
        spec.field(fixed.name).no_longer_than(253);
        spec.rule(&same_or(fixed.name, fixed.default), &fixed.rule_message());
    }
    spec.rule(
        &not_both("logicalGateway", "u2oInterconnection"),
        "spec.logicalGateway and spec.u2oInterconnection exclude each other: set one of them",
    );
    spec.rule(
        "!(has(self.natOutgoing) && self.natOutgoing && has(self.externalEgressGateway) && self.externalEgressGateway != '')",
        "spec.natOutgoing and spec.externalEgressGateway exclude each other: set one of them",
    );
    spec.rule_with(
        "!has(self.cidrBlock) || self.cidrBlock == '' || self.cidrBlock.split(',').all(one, isCIDR(one.trim()))",
        "'spec.cidrBlock is \"' + self.cidrBlock + '\": write a network such as 10.0.0.0/24, or one of each family with a comma between'",
    );
    spec.rule_with(
        "!has(self.gateway) || self.gateway == '' || self.gateway.split(',').all(one, isIP(one.trim()))",
        "'spec.gateway is \"' + self.gateway + '\": write an address of each family, with a comma between'",
    );
}

fn ip_pool(spec: &mut At<'_>) {
    spec.field("subnet").no_shorter_than(1);
    stays(spec, "IPPool");
    let ips = spec.field("ips");
    ips.0.min_items = Some(1);
    let mut each = ips.each();
    each.matching(RANGE);
    each.no_longer_than(LONGEST_RANGE);
}

fn vip(spec: &mut At<'_>) {
    spec.field("type").one_of(&["", "switch_lb_vip", "kube_host_vm_vip"]);
    stays(spec, "Vip");
    for name in ["namespace", "subnet"] {
        spec.field(name).no_longer_than(LONGEST_NAME);
    }
    spec.field("macAddress").no_longer_than(LONGEST_ADDRESS);
    address(spec, "v4ip", 4);
    address(spec, "v6ip", 6);
}

fn ip(spec: &mut At<'_>) {
    stays(spec, "IP");
    for name in ["podName", "namespace", "subnet", "nodeName", "containerID", "podType"] {
        spec.field(name).no_longer_than(LONGEST_NAME);
    }
    spec.field("ipAddress").no_longer_than(LONGEST_PAIR);
    spec.field("macAddress").no_longer_than(LONGEST_ADDRESS);
    address(spec, "v4IpAddress", 4);
    address(spec, "v6IpAddress", 6);
}

/// What says something once says that for ever.
fn stays(spec: &mut At<'_>, kind: &str) {
    for fixed in fixed_fields(kind) {
        spec.field(fixed.name).rule("oldSelf == '' || self == oldSelf", &fixed.rule_message());
    }
}

/// An address of one family.
fn address(spec: &mut At<'_>, field: &str, family: u8) {
    let example = if family == 4 { "10.0.0.5" } else { "fd00::5" };
    let mut address = spec.field(field);
    address.no_longer_than(LONGEST_ADDRESS);
    address.rule_with(
        &format!("self == '' || (isIP(self) && ip(self).family() == {family})"),
        &format!(
            "'spec.{field} is \"' + self + '\": write one IPv{family} address, such as {example}'"
        ),
    );
}

/// `a`, `a..b` or `a/prefix`, as far as letters go.
const RANGE: &str = "^ *[0-9A-Fa-f:.]+(/[0-9]{1,3})? *$";

/// What a field says stays; empty says `default`.
fn same_or(field: &str, default: &str) -> String {
    let said = |whose: &str| {
        format!("(has({whose}.{field}) && {whose}.{field} != '' ? {whose}.{field} : '{default}')")
    };
    format!("{} == {}", said("self"), said("oldSelf"))
}

fn not_both(one: &str, other: &str) -> String {
    format!("!(has(self.{one}) && self.{one} && has(self.{other}) && self.{other})")
}

/// A place in a schema.
struct At<'a>(&'a mut JSONSchemaProps);

impl<'a> At<'a> {
    fn field(&mut self, name: &str) -> At<'_> {
        let field = self.0.properties.as_mut().and_then(|fields| fields.get_mut(name));
        At(field.unwrap_or_else(|| panic!("a rule is for field {name:?}, which no type has")))
    }

    fn each(self) -> At<'a> {
        match &mut self.0.items {
            Some(JSONSchemaPropsOrArray::Schema(item)) => At(item),
            _ => panic!("a rule is for the entries of what is no list"),
        }
    }

    fn one_of(&mut self, words: &[&str]) {
        self.0.enum_ = Some(words.iter().map(|word| JSON((*word).into())).collect());
    }

    fn between(&mut self, least: i32, most: i32) {
        self.0.minimum = Some(least.into());
        self.0.maximum = Some(most.into());
    }

    fn matching(&mut self, pattern: &str) {
        self.0.pattern = Some(pattern.to_owned());
    }

    fn no_longer_than(&mut self, bytes: i64) {
        self.0.max_length = Some(bytes);
    }

    fn no_shorter_than(&mut self, bytes: i64) {
        self.0.min_length = Some(bytes);
    }

    fn at_most(&mut self, entries: i64) {
        self.0.max_items = Some(entries);
    }

    /// A field with a default is never absent, so the default goes.
    fn requires(&mut self, fields: &[&str]) {
        fields.iter().for_each(|name| self.field(name).0.default = None);
        let required = self.0.required.get_or_insert_default();
        required.extend(fields.iter().map(|field| (*field).to_owned()));
    }

    fn rule(&mut self, rule: &str, message: &str) {
        let message = Some(message.to_owned());
        self.add(ValidationRule { rule: rule.to_owned(), message, ..ValidationRule::default() });
    }

    /// A rule whose message is an expression, to name the value.
    fn rule_with(&mut self, rule: &str, message: &str) {
        let message_expression = Some(message.to_owned());
        self.add(ValidationRule {
            rule: rule.to_owned(),
            message_expression,
            ..ValidationRule::default()
        });
    }

    fn add(&mut self, rule: ValidationRule) {
        self.0.x_kubernetes_validations.get_or_insert_default().push(rule);
    }
}
