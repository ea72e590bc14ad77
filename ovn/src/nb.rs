//! The northbound database: rows as observed, rows as desired.
//!
//! Each table has one type for what the replica holds, read by one function, and,
//! where we write it, one `…Want` for what a caller wants of it. Names and columns
//! are Kube-OVN's, so that a cluster can change over: router = VPC, switch =
//! subnet, port = VM network.
//!
//! # Releases of OVN
//!
//! Served are the schemas of OVN 23.03 to 25.03; those of 25.09 (7.12.0) and 26.03
//! (7.18.0) differ from the last one in nothing that we use. What a release added:
//!
//! | OVN | schema | of what we use | on older servers |
//! |---|---|---|---|
//! | 23.03 | 7.0.0 | all but the below | not served |
//! | 23.06 | 7.0.4 | `ACL.tier` | left out: every rule is of tier 0 |
//! | | | `pass` among `ACL.action` | refused as a constraint violation |
//! | 23.09 | 7.1.0 | – | |
//! | 24.03 | 7.3.0 | – | |
//! | 24.09 | 7.6.0 | – | |
//! | 25.03 | 7.11.0 | `Logical_Router_Port.networks` may be empty | others' rows without one have `""` |
//!
//! Tables and columns that we do not use are neither read nor touched. A column that
//! may be missing ends in `?` in [`Table::COLUMNS`]; a server that lacks any other is
//! not followed, and [`Client::trouble`](crate::ovsdb::Client::trouble) names the
//! version of its schema and all that it lacks. A database that is converted while it
//! is served is read anew, and what it has gained is used from then on.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::ovsdb::{Replica, Row};

mod acl;
mod address_set;
mod dhcp_options;
mod global;
mod policy;
mod port;
mod router;
mod router_port;
mod static_route;
mod switch;
mod want;

pub use acl::{Acl, AclWant};
pub use address_set::{AddressSet, AddressSetWant};
pub use dhcp_options::{DhcpOptions, DhcpOptionsWant};
pub use global::Global;
pub use policy::{Policy, PolicyWant};
pub use port::{LogicalSwitchPort, PortRoute, PortWant, address_line};
pub use router::{LogicalRouter, RouterWant};
pub use router_port::{LogicalRouterPort, RouterPortWant};
pub use static_route::{StaticRoute, StaticRouteWant};
pub use switch::{LogicalSwitch, SwitchWant};
pub(crate) use want::port_of;
pub use want::{Clash, Desired, Ours, ours};

/// The database's name.
pub const DATABASE: &str = "OVN_Northbound";

/// `external_ids:vendor` of every row we own. Rows without it are never deleted.
pub const VENDOR: &str = "berth";

/// The key of the marker.
pub const VENDOR_KEY: &str = "vendor";

/// A table of the northbound schema as one of our types.
pub trait Table: Sized {
    /// The table's name in the schema.
    const TABLE: &'static str;
    /// The columns we use; those that only newer schemas have end in `?`.
    const COLUMNS: &'static [&'static str];

    /// The row as a value: every column named, every default filled in.
    fn from_row(uuid: Uuid, row: &Row) -> Self;

    /// The row with this name, in constant time.
    #[must_use]
    fn by_name(replica: &Replica, name: &str) -> Option<Self> {
        replica.by_name(Self::TABLE, name).map(|(uuid, row)| Self::from_row(uuid, row))
    }

    /// The row with this identity.
    #[must_use]
    fn by_uuid(replica: &Replica, uuid: Uuid) -> Option<Self> {
        replica.row(Self::TABLE, uuid).map(|row| Self::from_row(uuid, row))
    }

    /// Every row of the table, in no order.
    fn all(replica: &Replica) -> impl Iterator<Item = Self> {
        replica.rows(Self::TABLE).map(|(uuid, row)| Self::from_row(uuid, row))
    }
}

/// The tables and columns that everything in this module needs, for
/// [`Config::tables`](crate::ovsdb::Config::tables).
#[must_use]
pub fn tables() -> Vec<(String, Vec<String>)> {
    fn of<T: Table>() -> (String, Vec<String>) {
        (T::TABLE.to_owned(), T::COLUMNS.iter().map(|&column| column.to_owned()).collect())
    }
    vec![
        of::<Acl>(),
        of::<AddressSet>(),
        of::<DhcpOptions>(),
        of::<Global>(),
        of::<LogicalRouter>(),
        of::<LogicalRouterPort>(),
        of::<LogicalSwitch>(),
        of::<LogicalSwitchPort>(),
        of::<Policy>(),
        of::<StaticRoute>(),
    ]
}

/// Whether these `external_ids` carry our marker.
#[must_use]
pub fn is_ours(external_ids: &BTreeMap<String, String>) -> bool {
    external_ids.get(VENDOR_KEY).is_some_and(|vendor| vendor == VENDOR)
}

/// Text pairs as a map, for the `…Want` types.
#[must_use]
pub fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}
