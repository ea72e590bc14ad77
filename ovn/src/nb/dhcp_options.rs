//! Answers of OVN's own DHCP server, for ports without a host-side tap.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::Table;
use crate::ovsdb::Row;

/// A row of `DHCP_Options`. It belongs to nobody in the schema; we know it by
/// `external_ids:ls` and `external_ids:protocol`, as Kube-OVN does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DhcpOptions {
    /// Identity.
    pub uuid: Uuid,
    /// The network whose addresses it serves.
    pub cidr: String,
    /// What is answered.
    pub options: BTreeMap<String, String>,
    /// Marker, `ls`, `protocol`; `port` where it is one port's own.
    pub external_ids: BTreeMap<String, String>,
}

/// The answers for one family of a subnet.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DhcpOptionsWant {
    /// The subnet's network of this family.
    pub cidr: String,
    /// What is answered, whole: other options are removed, but for those in `initial`.
    pub options: BTreeMap<String, String>,
    /// What a new row starts with and an existing one keeps: `server_mac`, `server_id`.
    pub initial: BTreeMap<String, String>,
}

impl DhcpOptions {
    /// `external_ids:protocol` of a row for IPv4.
    pub const V4: &'static str = "IPv4";
    /// `external_ids:protocol` of a row for IPv6.
    pub const V6: &'static str = "IPv6";
}

impl Table for DhcpOptions {
    const TABLE: &'static str = "DHCP_Options";
    const COLUMNS: &'static [&'static str] = &["cidr", "options", "external_ids"];

    fn from_row(uuid: Uuid, row: &Row) -> Self {
        Self {
            uuid,
            cidr: row.str("cidr").to_owned(),
            options: row.map("options"),
            external_ids: row.map("external_ids"),
        }
    }
}
