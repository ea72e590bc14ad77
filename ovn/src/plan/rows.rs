//! What is wanted, column by column. Each function takes its want apart field by
//! field, so that a new field asks for a decision here.

use std::collections::BTreeMap;

use super::cells::{Cell, Cells, Owned};
use crate::nb::{
    AclWant, AddressSetWant, DhcpOptionsWant, LogicalRouter, LogicalRouterPort, LogicalSwitch,
    LogicalSwitchPort, PolicyWant, PortRoute, PortWant, RouterPortWant, RouterWant,
    StaticRouteWant, SwitchWant, VENDOR, VENDOR_KEY, pairs,
};
use crate::ovsdb::{Atom, Value};

fn text(value: &str) -> Cell {
    Cell::Whole(Value::from(value))
}

fn optional(value: Option<&str>) -> Cell {
    Cell::Whole(Value::from(value))
}

fn texts<'a>(values: impl IntoIterator<Item = &'a String>) -> Cell {
    Cell::Whole(Value::set(values))
}

fn is_mac(value: &Value) -> bool {
    let text = value.single().and_then(Atom::as_str);
    text.is_some_and(|text| text.parse::<net::MacAddr>().is_ok())
}

/// `external_ids` with our marker.
fn marked(ids: &BTreeMap<String, String>, owned: &'static [&'static str]) -> Cell {
    let mut want = ids.clone();
    want.insert(VENDOR_KEY.to_owned(), VENDOR.to_owned());
    Cell::pairs(&want, Owned::Listed(owned))
}

/// The marker and nothing else: what adopting a row changes.
pub(super) fn marker() -> Cell {
    marked(&BTreeMap::new(), &[])
}

pub(super) fn router(name: &str, want: &RouterWant) -> Cells {
    let RouterWant { options, external_ids, static_routes: _, policies: _, as_is: _ } = want;
    vec![
        ("name", text(name)),
        ("options", Cell::pairs(options, Owned::Listed(LogicalRouter::OPTIONS))),
        ("external_ids", marked(external_ids, &[])),
    ]
}

pub(super) fn switch(name: &str, want: &SwitchWant) -> Cells {
    let SwitchWant { other_config, external_ids, acls: _, dhcp_v4: _, dhcp_v6: _ } = want;
    vec![
        ("name", text(name)),
        ("other_config", Cell::pairs(other_config, Owned::Listed(LogicalSwitch::OTHER_CONFIG))),
        ("external_ids", marked(external_ids, &[])),
    ]
}

pub(super) fn router_port(name: &str, want: &RouterPortWant) -> Cells {
    let RouterPortWant {
        router: _,
        mac,
        networks,
        peer,
        options,
        ipv6_ra_configs,
        ipv6_prefix,
        external_ids,
    } = want;
    vec![
        ("name", text(name)),
        ("mac", Cell::Initially(Value::from(mac.to_string()), is_mac)),
        ("networks", texts(networks)),
        ("peer", optional(peer.as_deref())),
        ("options", Cell::pairs(options, Owned::Listed(LogicalRouterPort::OPTIONS))),
        ("ipv6_ra_configs", Cell::pairs(ipv6_ra_configs, Owned::All)),
        ("ipv6_prefix", texts(ipv6_prefix)),
        ("external_ids", marked(external_ids, &["lr"])),
    ]
}

/// `dhcp` are the rows of `DHCP_Options` for IPv4 and IPv6.
pub(super) fn port(name: &str, want: &PortWant, dhcp: [Option<Atom>; 2]) -> Cells {
    let PortWant {
        switch: _,
        kind,
        addresses,
        port_security,
        options,
        tag,
        dhcp_v4: _,
        dhcp_v6: _,
        external_ids,
        routes: _,
    } = want;
    let [dhcp_v4, dhcp_v6] = dhcp;
    vec![
        ("name", text(name)),
        ("type", text(kind)),
        ("addresses", texts(addresses)),
        ("port_security", texts(port_security)),
        ("options", Cell::pairs(options, Owned::Listed(LogicalSwitchPort::OPTIONS))),
        ("tag", Cell::Whole(Value::from(*tag))),
        ("dhcpv4_options", Cell::Whole(Value::from(dhcp_v4))),
        ("dhcpv6_options", Cell::Whole(Value::from(dhcp_v6))),
        ("external_ids", marked(external_ids, LogicalSwitchPort::EXTERNAL_IDS)),
    ]
}

pub(super) fn acl(switch: &str, want: &AclWant) -> Cells {
    let AclWant { direction, priority, matches, action, name, log, severity, tier, options } = want;
    vec![
        ("direction", text(direction)),
        ("priority", Cell::Whole(Value::from(*priority))),
        ("match", text(matches)),
        ("action", text(action)),
        ("name", optional(name.as_deref())),
        ("log", Cell::Whole(Value::from(*log))),
        ("severity", optional(severity.as_deref())),
        ("tier", Cell::Whole(Value::from(*tier))),
        ("options", Cell::pairs(options, Owned::All)),
        ("external_ids", marked(&pairs([("parent", switch)]), &[])),
    ]
}

pub(super) fn address_set(name: &str, want: &AddressSetWant) -> Cells {
    let AddressSetWant { addresses } = want;
    vec![("name", text(name)), ("addresses", texts(addresses)), ("external_ids", marker())]
}

pub(super) fn static_route(want: &StaticRouteWant) -> Cells {
    let StaticRouteWant { policy, ip_prefix, nexthop, output_port, route_table, options } = want;
    vec![
        ("ip_prefix", text(ip_prefix)),
        ("policy", optional(policy.as_deref())),
        ("nexthop", text(nexthop)),
        ("output_port", optional(output_port.as_deref())),
        ("route_table", text(route_table)),
        ("options", Cell::pairs(options, Owned::All)),
        ("external_ids", marker()),
    ]
}

/// A route to what is behind the port of this name.
pub(super) fn port_route(port: &str, want: &PortRoute) -> Cells {
    let PortRoute { router: _, ip_prefix, nexthop } = want;
    vec![
        ("ip_prefix", text(ip_prefix)),
        ("nexthop", text(nexthop)),
        ("external_ids", marked(&pairs([(PortRoute::PORT, port)]), &[])),
    ]
}

pub(super) fn policy(want: &PolicyWant) -> Cells {
    let PolicyWant { priority, matches, action, nexthops } = want;
    vec![
        ("priority", Cell::Whole(Value::from(*priority))),
        ("match", text(matches)),
        ("action", text(action)),
        ("nexthops", texts(nexthops)),
        ("external_ids", marker()),
    ]
}

pub(super) fn dhcp_options(switch: &str, protocol: &str, want: &DhcpOptionsWant) -> Cells {
    let DhcpOptionsWant { cidr, options, initial } = want;
    let options =
        Cell::Pairs { want: options.clone(), initial: initial.clone(), owned: Owned::All };
    let ids = pairs([("ls", switch), ("protocol", protocol)]);
    vec![("cidr", text(cidr)), ("options", options), ("external_ids", marked(&ids, &[]))]
}
