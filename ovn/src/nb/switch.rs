//! Switches: one per subnet.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::{AclWant, DhcpOptionsWant, Table};
use crate::ovsdb::Row;

/// A row of `Logical_Switch`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogicalSwitch {
    /// Identity.
    pub uuid: Uuid,
    /// The subnet's name. The schema does not make it unique.
    pub name: String,
    /// Its ports.
    pub ports: Vec<Uuid>,
    /// Its rules.
    pub acls: Vec<Uuid>,
    /// Settings, such as multicast snooping.
    pub other_config: BTreeMap<String, String>,
    /// Marker and the like.
    pub external_ids: BTreeMap<String, String>,
}

/// What a switch is to be. Its ports are wanted one by one, see
/// [`Desired::ports`](super::Desired::ports).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SwitchWant {
    /// Settings; of the others only those in [`LogicalSwitch::OTHER_CONFIG`] are removed.
    pub other_config: BTreeMap<String, String>,
    /// Beside the marker, which is added.
    pub external_ids: BTreeMap<String, String>,
    /// All rules of ours on this switch; those of others are left alone.
    pub acls: BTreeSet<AclWant>,
    /// OVN's own DHCPv4 answers; `None` removes ours.
    pub dhcp_v4: Option<DhcpOptionsWant>,
    /// OVN's own DHCPv6 answers; `None` removes ours.
    pub dhcp_v6: Option<DhcpOptionsWant>,
}

impl LogicalSwitch {
    /// The keys of `other_config` that we own.
    pub const OTHER_CONFIG: &'static [&'static str] =
        &["mcast_eth_src", "mcast_ip4_src", "mcast_ip6_src", "mcast_querier", "mcast_snoop"];
}

impl Table for LogicalSwitch {
    const TABLE: &'static str = "Logical_Switch";
    const COLUMNS: &'static [&'static str] =
        &["name", "ports", "acls", "other_config", "external_ids"];

    fn from_row(uuid: Uuid, row: &Row) -> Self {
        Self {
            uuid,
            name: row.str("name").to_owned(),
            ports: row.uuids("ports").collect(),
            acls: row.uuids("acls").collect(),
            other_config: row.map("other_config"),
            external_ids: row.map("external_ids"),
        }
    }
}
