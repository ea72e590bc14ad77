//! Router ports: the gateway of each subnet.

use std::collections::{BTreeMap, BTreeSet};

use net::MacAddr;
use uuid::Uuid;

use super::Table;
use crate::ovsdb::Row;

/// A row of `Logical_Router_Port`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogicalRouterPort {
    /// Identity.
    pub uuid: Uuid,
    /// `<vpc>-<subnet>`; unique.
    pub name: String,
    /// The MAC that VMs know their gateway by; `None` where the text is no MAC.
    pub mac: Option<MacAddr>,
    /// `address/prefix length` of the gateway in each family.
    pub networks: BTreeSet<String>,
    /// The port of another router it is wired to.
    pub peer: Option<String>,
    /// Settings, such as `route_table`.
    pub options: BTreeMap<String, String>,
    /// What OVN's own router advertisements say.
    pub ipv6_ra_configs: BTreeMap<String, String>,
    /// Kube-OVN writes the prefix length here.
    pub ipv6_prefix: BTreeSet<String>,
    /// Marker, `lr`.
    pub external_ids: BTreeMap<String, String>,
}

/// What a router port is to be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RouterPortWant {
    /// The router it is on.
    pub router: String,
    /// Used only when the row is made: an existing row keeps the MAC that the VMs
    /// have in their neighbour tables. What it is then is
    /// [`LogicalRouterPort::mac`].
    pub mac: MacAddr,
    /// `address/prefix length` of the gateway in each family; at least one.
    pub networks: BTreeSet<String>,
    /// The port of another router it is wired to.
    pub peer: Option<String>,
    /// Settings; of the others only those in [`LogicalRouterPort::OPTIONS`] are removed.
    pub options: BTreeMap<String, String>,
    /// What OVN's own router advertisements say, whole; empty for none.
    pub ipv6_ra_configs: BTreeMap<String, String>,
    /// As observed.
    pub ipv6_prefix: BTreeSet<String>,
    /// Beside the marker, which is added.
    pub external_ids: BTreeMap<String, String>,
}

impl RouterPortWant {
    /// The gateway of a subnet: `external_ids:lr` as Kube-OVN has it.
    pub fn gateway<S: Into<String>>(
        router: &str,
        mac: MacAddr,
        networks: impl IntoIterator<Item = S>,
    ) -> Self {
        Self {
            router: router.to_owned(),
            mac,
            networks: networks.into_iter().map(Into::into).collect(),
            peer: None,
            options: BTreeMap::new(),
            ipv6_ra_configs: BTreeMap::new(),
            ipv6_prefix: BTreeSet::new(),
            external_ids: super::pairs([("lr", router)]),
        }
    }
}

impl LogicalRouterPort {
    /// The keys of `options` that we own.
    pub const OPTIONS: &'static [&'static str] = &["route_table"];
}

impl Table for LogicalRouterPort {
    const TABLE: &'static str = "Logical_Router_Port";
    const COLUMNS: &'static [&'static str] = &[
        "name",
        "mac",
        "networks",
        "peer",
        "options",
        "ipv6_ra_configs",
        "ipv6_prefix",
        "external_ids",
    ];

    fn from_row(uuid: Uuid, row: &Row) -> Self {
        Self {
            uuid,
            name: row.str("name").to_owned(),
            mac: row.str("mac").parse().ok(),
            networks: row.strings("networks"),
            peer: row.optional_str("peer").map(str::to_owned),
            options: row.map("options"),
            ipv6_ra_configs: row.map("ipv6_ra_configs"),
            ipv6_prefix: row.strings("ipv6_prefix"),
            external_ids: row.map("external_ids"),
        }
    }
}
