//! Switch ports: of VMs, towards routers, towards the physical network.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use net::MacAddr;
use uuid::Uuid;

use super::{Table, pairs};
use crate::ovsdb::Row;

/// A row of `Logical_Switch_Port`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogicalSwitchPort {
    /// Identity.
    pub uuid: Uuid,
    /// The port's name everywhere; unique.
    pub name: String,
    /// Empty for a VM, `router`, `localnet`, `virtual` …
    pub kind: String,
    /// `<mac> <v4> <v6>`, `router`, `unknown`.
    pub addresses: BTreeSet<String>,
    /// What the port may send from, in the notation of `addresses`; empty for anything.
    pub port_security: BTreeSet<String>,
    /// `requested-chassis`, `activation-strategy`, `router-port` …
    pub options: BTreeMap<String, String>,
    /// Whether a chassis has it; written by northd.
    pub up: bool,
    /// Whether it is administratively on.
    pub enabled: bool,
    /// VLAN, of a `localnet` port.
    pub tag: Option<i64>,
    /// OVN's own DHCPv4 answers.
    pub dhcpv4_options: Option<Uuid>,
    /// OVN's own DHCPv6 answers.
    pub dhcpv6_options: Option<Uuid>,
    /// Marker, `ls`, `pod` …
    pub external_ids: BTreeMap<String, String>,
}

/// What a switch port is to be.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PortWant {
    /// The switch it is on. A port found on another switch is moved.
    pub switch: String,
    /// Empty for a VM, `router`, `localnet`, `virtual` …
    pub kind: String,
    /// `<mac> <v4> <v6>`, `router`, `unknown`.
    pub addresses: BTreeSet<String>,
    /// What the port may send from; empty for anything.
    pub port_security: BTreeSet<String>,
    /// Settings; of the others only those in [`LogicalSwitchPort::OPTIONS`] are removed.
    pub options: BTreeMap<String, String>,
    /// VLAN, of a `localnet` port.
    pub tag: Option<i64>,
    /// Let OVN answer DHCPv4 with the switch's options.
    pub dhcp_v4: bool,
    /// Let OVN answer DHCPv6 with the switch's options.
    pub dhcp_v6: bool,
    /// Beside the marker, which is added; of the others only those in
    /// [`LogicalSwitchPort::EXTERNAL_IDS`] are removed.
    pub external_ids: BTreeMap<String, String>,
    /// All routes to what is behind it; they go with it.
    pub routes: BTreeSet<PortRoute>,
}

/// A route to what is behind a port. Its row says which port that is, by
/// [`PortRoute::PORT`] in its `external_ids`.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct PortRoute {
    /// The router that has it.
    pub router: String,
    /// The network that is led there.
    pub ip_prefix: String,
    /// The address of whoever has the port.
    pub nexthop: String,
}

impl PortRoute {
    /// The key of the port's name.
    pub const PORT: &'static str = "lsp";
}

impl PortWant {
    /// A VM's port, bound to its addresses: other source addresses are dropped.
    #[must_use]
    pub fn vm(switch: &str, namespace: &str, vm: &str, mac: MacAddr, addresses: &[IpAddr]) -> Self {
        let addresses = BTreeSet::from([address_line(mac, addresses)]);
        Self {
            switch: switch.to_owned(),
            port_security: addresses.clone(),
            addresses,
            external_ids: pairs([("ls", switch), ("pod", &format!("{namespace}/{vm}"))]),
            ..Self::default()
        }
    }

    /// The switch's side of the link to a router.
    #[must_use]
    pub fn router(switch: &str, router_port: &str) -> Self {
        Self {
            switch: switch.to_owned(),
            kind: "router".to_owned(),
            addresses: BTreeSet::from(["router".to_owned()]),
            options: pairs([("router-port", router_port)]),
            external_ids: pairs([("ls", switch)]),
            ..Self::default()
        }
    }

    /// The link to a physical network.
    #[must_use]
    pub fn localnet(switch: &str, provider: &str, vlan: Option<i64>) -> Self {
        Self {
            switch: switch.to_owned(),
            kind: "localnet".to_owned(),
            addresses: BTreeSet::from(["unknown".to_owned()]),
            options: pairs([("network_name", provider)]),
            tag: vlan,
            external_ids: pairs([("ls", switch)]),
            ..Self::default()
        }
    }

    /// Binds it to these chassis, the main one first; to any if there is none.
    #[must_use]
    pub fn on_chassis<S: AsRef<str>>(mut self, chassis: &[S]) -> Self {
        self.options.remove(LogicalSwitchPort::REQUESTED_CHASSIS);
        if !chassis.is_empty() {
            let names: Vec<_> = chassis.iter().map(AsRef::as_ref).collect();
            self.options.insert(LogicalSwitchPort::REQUESTED_CHASSIS.to_owned(), names.join(","));
        }
        self
    }

    /// Keeps it closed on further chassis until the guest is seen there.
    #[must_use]
    pub fn activated_by(mut self, strategy: &str) -> Self {
        self.options.insert(LogicalSwitchPort::ACTIVATION_STRATEGY.to_owned(), strategy.to_owned());
        self
    }

    /// Lets it send from these addresses or networks, too.
    #[must_use]
    pub fn allowing<S: AsRef<str>>(mut self, further: impl IntoIterator<Item = S>) -> Self {
        let text = further.into_iter().fold(String::new(), |text, one| text + " " + one.as_ref());
        let lines = self.port_security.iter();
        self.port_security = lines.map(|line| format!("{line}{text}")).collect();
        self
    }

    /// Has it hear what is meant for addresses that nobody is known to have.
    #[must_use]
    pub fn hearing_unknown(mut self) -> Self {
        self.addresses.insert("unknown".to_owned());
        self
    }

    /// An address that moves between these ports: whoever of them announces it has
    /// it.
    #[must_use]
    pub fn virtual_ip<S: AsRef<str>>(switch: &str, address: IpAddr, parents: &[S]) -> Self {
        let mut options = pairs([("virtual-ip", address.to_string().as_str())]);
        if !parents.is_empty() {
            let names: Vec<_> = parents.iter().map(AsRef::as_ref).collect();
            options.insert("virtual-parents".to_owned(), names.join(","));
        }
        Self {
            switch: switch.to_owned(),
            kind: "virtual".to_owned(),
            options,
            external_ids: pairs([("ls", switch)]),
            ..Self::default()
        }
    }

    /// Lets it send from any address.
    #[must_use]
    pub fn without_port_security(mut self) -> Self {
        self.port_security.clear();
        self
    }
}

/// An entry of `addresses`: `<mac> <address>…`, IPv4 first.
#[must_use]
pub fn address_line(mac: MacAddr, addresses: &[IpAddr]) -> String {
    let mut sorted = addresses.to_vec();
    sorted.sort_by_key(IpAddr::is_ipv6);
    sorted.iter().fold(mac.to_string(), |line, address| format!("{line} {address}"))
}

impl LogicalSwitchPort {
    /// The chassis that may have the port, `main,additional`, by name or hostname.
    pub const REQUESTED_CHASSIS: &'static str = "requested-chassis";
    /// What opens the port on an additional chassis: `rarp`; from OVN 25.09 also `garp`, `na`.
    pub const ACTIVATION_STRATEGY: &'static str = "activation-strategy";

    /// The keys of `options` that we own.
    pub const OPTIONS: &'static [&'static str] = &[
        Self::ACTIVATION_STRATEGY,
        "arp_proxy",
        "network_name",
        Self::REQUESTED_CHASSIS,
        "router-port",
        "virtual-ip",
        "virtual-parents",
    ];

    /// The keys of `external_ids` that we own, beside the marker.
    pub const EXTERNAL_IDS: &'static [&'static str] =
        &["attach-vips", "ls", "pod", "security_groups", "vips"];
}

impl Table for LogicalSwitchPort {
    const TABLE: &'static str = "Logical_Switch_Port";
    const COLUMNS: &'static [&'static str] = &[
        "name",
        "type",
        "addresses",
        "port_security",
        "options",
        "up",
        "enabled",
        "tag",
        "dhcpv4_options",
        "dhcpv6_options",
        "external_ids",
    ];

    fn from_row(uuid: Uuid, row: &Row) -> Self {
        Self {
            uuid,
            name: row.str("name").to_owned(),
            kind: row.str("type").to_owned(),
            addresses: row.strings("addresses"),
            port_security: row.strings("port_security"),
            options: row.map("options"),
            up: row.boolean("up").unwrap_or_default(),
            enabled: row.boolean("enabled").unwrap_or(true),
            tag: row.integer("tag"),
            dhcpv4_options: row.uuid("dhcpv4_options"),
            dhcpv6_options: row.uuid("dhcpv6_options"),
            external_ids: row.map("external_ids"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web() -> PortWant {
        let mac = "02:00:00:00:00:01".parse().unwrap();
        PortWant::vm("s", "default", "web", mac, &["10.0.0.5".parse().unwrap()])
    }

    #[test]
    fn what_a_port_may_send_from_is_one_line_and_what_it_is_sent_another() {
        let want = web().allowing(["10.0.0.9", "10.1.0.0/24"]).hearing_unknown();
        let line = "02:00:00:00:00:01 10.0.0.5".to_owned();
        assert_eq!(want.port_security, [format!("{line} 10.0.0.9 10.1.0.0/24")].into());
        assert_eq!(want.addresses, [line, "unknown".to_owned()].into());
        let want = web().without_port_security().allowing(["10.0.0.9"]);
        assert!(want.port_security.is_empty(), "empty is anything");
    }

    #[test]
    fn a_virtual_port_names_its_address_and_its_parents() {
        let address = "10.0.0.9".parse().unwrap();
        let want = PortWant::virtual_ip("s", address, &["a.default", "b.default"]);
        let options =
            pairs([("virtual-ip", "10.0.0.9"), ("virtual-parents", "a.default,b.default")]);
        assert_eq!((want.kind.as_str(), want.options), ("virtual", options));
        let none: [&str; 0] = [];
        assert!(!PortWant::virtual_ip("s", address, &none).options.contains_key("virtual-parents"));
    }
}
