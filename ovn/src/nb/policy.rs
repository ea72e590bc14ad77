//! Policies of a router: what goes elsewhere than its routes say.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::Table;
use crate::ovsdb::Row;

/// A row of `Logical_Router_Policy`, a child of a router.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Policy {
    /// Identity.
    pub uuid: Uuid,
    /// What it does.
    pub policy: PolicyWant,
    /// Marker, `subnet`.
    pub external_ids: BTreeMap<String, String>,
}

/// One policy. It is known by its content: a policy that differs is another one.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PolicyWant {
    /// 0 to 32767, higher first.
    pub priority: i64,
    /// The expression of ovn-sb(5).
    pub matches: String,
    /// `allow` (go by the routes), `drop` or `reroute`.
    pub action: String,
    /// Where `reroute` sends what matches; several share the traffic.
    pub nexthops: BTreeSet<String>,
}

impl Table for Policy {
    const TABLE: &'static str = "Logical_Router_Policy";
    const COLUMNS: &'static [&'static str] =
        &["priority", "match", "action", "nexthops", "external_ids"];

    fn from_row(uuid: Uuid, row: &Row) -> Self {
        Self {
            uuid,
            policy: PolicyWant {
                priority: row.integer("priority").unwrap_or_default(),
                matches: row.str("match").to_owned(),
                action: row.str("action").to_owned(),
                nexthops: row.strings("nexthops"),
            },
            external_ids: row.map("external_ids"),
        }
    }
}
