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
use super::limits::{LONGEST_MATCH, LONGEST_TABLE, Limit, limits};

/// Longest `cidrBlock` and `gateway`, in bytes: two networks of the longest kind.
const LONGEST_PAIR: i64 = 100;
/// Longest text of one address.
const LONGEST_ADDRESS: i64 = 45;
/// Longest name of an object.
const LONGEST_NAME: i64 = 253;
/// Longest text of one range of addresses.
const LONGEST_RANGE: i64 = 2 * LONGEST_ADDRESS + 4;
/// Longest text of one network.
const LONGEST_NETWORK: i64 = LONGEST_ADDRESS + 4;
/// Longest list of networks that is one text.
const LONGEST_LIST: i64 = 1024;
/// Longest list of next hops that is one text. What a rule may cost is reckoned from it.
const LONGEST_HOPS: i64 = 512;

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
        if kind == "Vip" {
            given(&mut root);
        }
    });
}

fn vpc(spec: &mut At<'_>) {
    let mut route = spec.field("staticRoutes").each();
    route.field("policy").one_of(&["", "policySrc", "policyDst"]);
    route.field("ecmpMode").one_of(&["", "ecmp_symmetric_reply"]);
    route.wants("cidr", "write a network such as 10.0.0.0/24, or an address");
    route.wants("nextHopIP", "write one address");
    table(&mut route);
    let mut cidr = route.field("cidr");
    cidr.no_longer_than(LONGEST_NETWORK);
    cidr.rule_with(
        "self == '' || isCIDR(self) || isIP(self)",
        &said("cidr", "write a network such as 10.0.0.0/24, or an address"),
    );
    let mut hop = route.field("nextHopIP");
    hop.no_longer_than(LONGEST_ADDRESS);
    hop.rule_with("self == '' || isIP(self)", &said("nextHopIP", "write one address"));

    let mut policy = spec.field("policyRoutes").each();
    policy.field("priority").between(0, 32_767);
    policy.field("action").one_of(&["allow", "drop", "reroute"]);
    policy.wants("action", "write allow, drop or reroute");
    expression(&mut policy);
    policy.add(ValidationRule {
        rule: "!has(self.action) || self.action != 'reroute' || (has(self.nextHopIP) && self.nextHopIP != '')".to_owned(),
        message: Some("nextHopIP is empty: with action reroute write one address, or several of one family with a comma between".to_owned()),
        field_path: Some(".nextHopIP".to_owned()),
        ..ValidationRule::default()
    });
    policy.field("nextHopIP").no_longer_than(LONGEST_HOPS);
    policy.add(ValidationRule {
        rule: "!has(self.action) || self.action != 'reroute' || !has(self.nextHopIP) || self.nextHopIP == '' || self.nextHopIP.split(',').all(one, isIP(one.trim()))".to_owned(),
        message_expression: Some(
            "'nextHopIP is \"' + self.nextHopIP + '\": write one address, or several of one family with a comma between'".to_owned(),
        ),
        field_path: Some(".nextHopIP".to_owned()),
        ..ValidationRule::default()
    });

    let mut peering = spec.field("vpcPeerings").each();
    peering.wants("remoteVpc", "write the name of another Vpc");
    peering.wants("localConnectIP", LINK_ADDRESS);
    let mut remote = peering.field("remoteVpc");
    remote.no_longer_than(LONGEST_NAME);
    remote.rule_with(
        "self == '' || self.matches('^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$')",
        &said("remoteVpc", "no Vpc has such a name: write that of another Vpc"),
    );
    let mut local = peering.field("localConnectIP");
    local.no_longer_than(LONGEST_PAIR);
    local.rule_with(
        // Without a loop over many parts, of which there are two at most.
        "self == '' || isCIDR(self) || (self.split(',').size() == 2 && isCIDR(self.split(',')[0].trim()) && isCIDR(self.split(',')[1].trim()))",
        &said("localConnectIP", LINK_ADDRESS),
    );
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
    spec.field("excludeIps").each().rule_with(RANGE, &said("excludeIps", RANGE_ADVICE));
    let mut acl = spec.field("acls").each();
    acl.field("direction").one_of(&["from-lport", "to-lport"]);
    acl.field("priority").between(0, 32_767);
    acl.field("action").one_of(&["allow-related", "allow-stateless", "allow", "drop", "reject"]);
    acl.wants("direction", "write from-lport or to-lport");
    acl.wants("action", "write allow-related, allow-stateless, allow, drop or reject");
    expression(&mut acl);
    table(spec);
    let mut delegation = spec.field("dhcpV6PrefixDelegation");
    delegation.wants("cidrBlock", "write an IPv6 network such as fd10::/48");
    delegation.field("cidrBlock").rule_with(
        "self == '' || isCIDR(self)",
        &said("cidrBlock", "write an IPv6 network such as fd10::/48"),
    );
    delegation.field("prefixLength").between(8, 126);
    let mut exception = spec.field("natOutgoingPolicyRules").each();
    exception.field("action").one_of(&["", "nat", "forward"]);
    for field in ["srcIPs", "dstIPs"] {
        let mut matches = exception.field("match");
        matches.field(field).no_longer_than(LONGEST_LIST);
        let advice = "write addresses and networks of one family with commas between, such as 10.0.0.0/24,10.0.1.5";
        matches.field(field).rule_with(NETWORKS, &said(field, advice));
    }
    spec.field("vips").each().rule_with("isIP(self.trim())", &said("vips", "write an address"));
    spec.field("allowSubnets").each().rule_with(
        "isCIDR(self) || isIP(self)",
        &said("allowSubnets", "write a network such as 10.0.0.0/24"),
    );
    for field in ["externalEgressGateway", "u2oInterconnectionIP"] {
        let mut addresses = spec.field(field);
        addresses.no_longer_than(LONGEST_PAIR);
        addresses.rule_with(
            "self == '' || self.split(',').all(one, isIP(one.trim()))",
            &said(field, "write an address of each family, with a comma between"),
        );
    }

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
    spec.rule_with(
        "!has(self.gateway) || !has(self.cidrBlock) || !self.cidrBlock.split(',').all(net, isCIDR(net.trim())) || self.gateway.split(',').all(one, !isIP(one.trim()) || self.cidrBlock.split(',').exists(net, cidr(net.trim()).containsIP(one.trim())))",
        "'spec.gateway: ' + self.gateway + ' is not in spec.cidrBlock ' + self.cidrBlock + ': choose an address of the subnet'",
    );
}

fn ip_pool(spec: &mut At<'_>) {
    spec.wants("subnet", "write the name of a Subnet");
    spec.field("subnet").no_longer_than(LONGEST_NAME);
    stays(spec, "IPPool");
    let advice = format!("spec.ips is empty: {RANGE_ADVICE}");
    spec.rule("has(self.ips) && self.ips.size() > 0", &advice);
    let mut each = spec.field("ips").each();
    each.no_longer_than(LONGEST_RANGE);
    each.rule_with(RANGE, &said("ips", RANGE_ADVICE));
}

fn vip(spec: &mut At<'_>) {
    spec.field("type").one_of(&["", "switch_lb_vip", "kube_host_vm_vip"]);
    stays(spec, "Vip");
    for name in ["namespace", "subnet"] {
        spec.field(name).no_longer_than(LONGEST_NAME);
    }
    mac(spec, "write a MAC address of one station, such as 02:00:00:00:00:01, or leave it out");
    address(spec, "v4ip", 4);
    address(spec, "v6ip", 6);
}

fn ip(spec: &mut At<'_>) {
    stays(spec, "IP");
    for name in ["podName", "namespace", "subnet", "nodeName", "containerID", "podType"] {
        spec.field(name).no_longer_than(LONGEST_NAME);
    }
    spec.field("ipAddress").no_longer_than(LONGEST_PAIR);
    mac(spec, "write a MAC address of one station, such as 02:00:00:00:00:01");
    address(spec, "v4IpAddress", 4);
    address(spec, "v6IpAddress", 6);
}

/// What says something once says that for ever.
fn stays(spec: &mut At<'_>, kind: &str) {
    for fixed in fixed_fields(kind) {
        spec.field(fixed.name).rule("oldSelf == '' || self == oldSelf", &fixed.rule_message());
    }
}

/// What a Vip was given stays, whatever else is written; its subnet does so anyway.
fn given(vip: &mut At<'_>) {
    let same_address = "isIP(self.spec.{f}) && isIP(oldSelf.status.{g}) && ip(self.spec.{f}) == ip(oldSelf.status.{g})";
    let same_mac = "self.spec.{f}.trim().lowerAscii().replace('-', ':') == oldSelf.status.{g}";
    for (field, shown, same) in [
        ("v4ip", "v4ip", same_address),
        ("v6ip", "v6ip", same_address),
        ("macAddress", "mac", same_mac),
    ] {
        for (name, longest) in [("v4ip", LONGEST_ADDRESS), ("v6ip", LONGEST_ADDRESS), ("mac", 17)] {
            vip.field("status").field(name).no_longer_than(longest);
        }
        let same = same.replace("{f}", field).replace("{g}", shown);
        let was = format!("(has(oldSelf.status.{shown}) ? oldSelf.status.{shown} : '')");
        vip.add(ValidationRule {
            rule: format!(
                "!has(oldSelf.status) || !has(oldSelf.status.mac) || oldSelf.status.mac == '' || !has(self.spec.{field}) || self.spec.{field} == '' || (has(oldSelf.spec.{field}) && self.spec.{field} == oldSelf.spec.{field}) || (has(oldSelf.status.{shown}) && {same})"
            ),
            message_expression: Some(format!(
                "'spec.{field} is \"' + self.spec.{field} + '\": it stays \"' + {was} + '\", since what a Vip was given does not change: write that again, or make another Vip'"
            )),
            field_path: Some(format!(".spec.{field}")),
            ..ValidationRule::default()
        });
    }
}

/// The address of one station.
fn mac(spec: &mut At<'_>, advice: &str) {
    let mut mac = spec.field("macAddress");
    mac.no_longer_than(LONGEST_ADDRESS);
    mac.rule_with(
        "self.trim() == '' || self.trim().matches('^[0-9A-Fa-f][02468ACEace]([:-][0-9A-Fa-f]{2}){5}$')",
        &said("macAddress", advice),
    );
}

/// The message of a rule about a text: field, value, and what to write instead.
fn said(field: &str, advice: &str) -> String {
    format!("'{field} is \"' + self + '\": {advice}'")
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

/// An expression that OVN reads as it stands: without control characters, but for those
/// between words. The rest of its syntax is the controller's to look at.
fn expression(of: &mut At<'_>) {
    of.wants("match", "write an expression such as ip4.src == 10.0.0.0/24");
    let mut field = of.field("match");
    field.no_longer_than(i64::try_from(LONGEST_MATCH).unwrap_or(i64::MAX));
    field.rule_with(
        "!self.matches('[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f]')",
        "'match has a control character: write an expression such as ip4.src == 10.0.0.0/24'",
    );
}

/// The name of a route table.
fn table(of: &mut At<'_>) {
    let mut field = of.field("routeTable");
    field.no_longer_than(i64::try_from(LONGEST_TABLE).unwrap_or(i64::MAX));
    field.rule_with(
        "!self.matches('[\\x00-\\x1f\\x7f]')",
        "'routeTable has a control character: write a name of printable characters'",
    );
}

/// What to write for one side of a link.
const LINK_ADDRESS: &str = "write an address with its prefix length, such as 169.254.0.1/30";

/// `a`, `a..b` or `a/prefix`, as far as letters go.
const RANGE: &str = "self.matches('^ *[0-9A-Fa-f:.]+(/[0-9]{1,3})? *$')";
const RANGE_ADVICE: &str =
    "write an address, a range such as 10.0.0.5..10.0.0.9, or a network such as 10.0.0.0/29";

/// The same with commas between.
const NETWORKS: &str = "self.matches('^[0-9A-Fa-f:./, ]*$')";

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

    fn no_longer_than(&mut self, bytes: i64) {
        self.0.max_length = Some(bytes);
    }

    fn at_most(&mut self, entries: i64) {
        self.0.max_items = Some(entries);
    }

    /// That a text must not be absent or empty, which a list of required fields would say
    /// without what to write there. Its default goes: a word that is one of several is
    /// not to be refused for being the empty one.
    fn wants(&mut self, field: &str, advice: &str) {
        self.field(field).0.default = None;
        self.add(ValidationRule {
            rule: format!("has(self.{field}) && self.{field} != ''"),
            message: Some(format!("it is empty: {advice}")),
            field_path: Some(format!(".{field}")),
            reason: Some(crate::REQUIRED.to_owned()),
            ..ValidationRule::default()
        });
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
