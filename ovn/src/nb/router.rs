//! Routers: one per VPC.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::{PolicyWant, StaticRouteWant, Table};
use crate::ovsdb::Row;

/// A row of `Logical_Router`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogicalRouter {
    /// Identity.
    pub uuid: Uuid,
    /// The VPC's name. The schema does not make it unique.
    pub name: String,
    /// Its ports.
    pub ports: Vec<Uuid>,
    /// Its routes.
    pub static_routes: Vec<Uuid>,
    /// Its policies.
    pub policies: Vec<Uuid>,
    /// Settings.
    pub options: BTreeMap<String, String>,
    /// Marker and the like.
    pub external_ids: BTreeMap<String, String>,
}

/// What a router is to be. Its ports belong to the subnets they lead to, see
/// [`Desired::router_ports`](super::Desired::router_ports).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RouterWant {
    /// Settings; of the others only those in [`LogicalRouter::OPTIONS`] are removed.
    pub options: BTreeMap<String, String>,
    /// Beside the marker, which is added.
    pub external_ids: BTreeMap<String, String>,
    /// All routes of ours on this router; those of others are left alone.
    pub static_routes: BTreeSet<StaticRouteWant>,
    /// All policies of ours on this router; those of others are left alone.
    pub policies: BTreeSet<PolicyWant>,
    /// Nobody knows what it is to be: it is made where it is not, and else left as
    /// it is, whatever the other fields say.
    pub as_is: bool,
}

impl LogicalRouter {
    /// The keys of `options` that we own.
    pub const OPTIONS: &'static [&'static str] =
        &["always_learn_from_arp_request", "dynamic_neigh_routers", "mac_binding_age_threshold"];
}

impl Table for LogicalRouter {
    const TABLE: &'static str = "Logical_Router";
    const COLUMNS: &'static [&'static str] =
        &["name", "ports", "static_routes", "policies", "options", "external_ids"];

    fn from_row(uuid: Uuid, row: &Row) -> Self {
        Self {
            uuid,
            name: row.str("name").to_owned(),
            ports: row.uuids("ports").collect(),
            static_routes: row.uuids("static_routes").collect(),
            policies: row.uuids("policies").collect(),
            options: row.map("options"),
            external_ids: row.map("external_ids"),
        }
    }
}
