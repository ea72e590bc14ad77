//! Routes of a router.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::Table;
use crate::ovsdb::Row;

/// A row of `Logical_Router_Static_Route`, a child of a router.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StaticRoute {
    /// Identity.
    pub uuid: Uuid,
    /// What it does.
    pub route: StaticRouteWant,
    /// Marker and the like.
    pub external_ids: BTreeMap<String, String>,
}

/// One route. It is known by its content: a route that differs is another route.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct StaticRouteWant {
    /// `dst-ip`, which is what `None` means too, or `src-ip`.
    pub policy: Option<String>,
    /// The network matched by the policy, `0.0.0.0/0` for all of IPv4.
    pub ip_prefix: String,
    /// The next hop's address, or `discard`.
    pub nexthop: String,
    /// The router port to leave by, when the next hop does not decide it.
    pub output_port: Option<String>,
    /// The table it belongs to; empty for the main one.
    pub route_table: String,
    /// `ecmp_symmetric_reply` …
    pub options: BTreeMap<String, String>,
}

impl StaticRouteWant {
    /// A route by destination in the main table.
    #[must_use]
    pub fn new(ip_prefix: &str, nexthop: &str) -> Self {
        Self { ip_prefix: ip_prefix.to_owned(), nexthop: nexthop.to_owned(), ..Self::default() }
    }
}

impl Table for StaticRoute {
    const TABLE: &'static str = "Logical_Router_Static_Route";
    const COLUMNS: &'static [&'static str] = &[
        "policy",
        "ip_prefix",
        "nexthop",
        "output_port",
        "route_table",
        "options",
        "external_ids",
    ];

    fn from_row(uuid: Uuid, row: &Row) -> Self {
        Self {
            uuid,
            route: StaticRouteWant {
                policy: row.optional_str("policy").map(str::to_owned),
                ip_prefix: row.str("ip_prefix").to_owned(),
                nexthop: row.str("nexthop").to_owned(),
                output_port: row.optional_str("output_port").map(str::to_owned),
                route_table: row.str("route_table").to_owned(),
                options: row.map("options"),
            },
            external_ids: row.map("external_ids"),
        }
    }
}
