//! Access control on a switch.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::Table;
use crate::ovsdb::Row;

/// A row of `ACL`, a child of a switch or port group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Acl {
    /// Identity.
    pub uuid: Uuid,
    /// What it does.
    pub rule: AclWant,
    /// Marker and the like.
    pub external_ids: BTreeMap<String, String>,
}

/// One rule. It is known by its content: a rule that differs is another rule,
/// inserted in the same transaction that deletes the old one.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AclWant {
    /// `from-lport` (what a port sends) or `to-lport` (what it receives).
    pub direction: String,
    /// 0 to 32767, higher first.
    pub priority: i64,
    /// The expression of ovn-sb(5).
    pub matches: String,
    /// `allow`, `allow-related`, `allow-stateless`, `drop`, `reject`; `pass` from OVN 23.06.
    pub action: String,
    /// At most 63 bytes; shown in logs.
    pub name: Option<String>,
    /// Whether packets that match are logged.
    pub log: bool,
    /// `alert` … `debug`; of the log.
    pub severity: Option<String>,
    /// 0 to 3, evaluated in order; ignored by schemas before OVN 23.06.
    pub tier: i64,
    /// `apply-after-lb`, `log-related` …
    pub options: BTreeMap<String, String>,
}

impl AclWant {
    /// A rule that is not logged.
    #[must_use]
    pub fn new(direction: &str, priority: i64, matches: &str, action: &str) -> Self {
        Self {
            direction: direction.to_owned(),
            priority,
            matches: matches.to_owned(),
            action: action.to_owned(),
            ..Self::default()
        }
    }
}

impl Table for Acl {
    const TABLE: &'static str = "ACL";
    const COLUMNS: &'static [&'static str] = &[
        "name",
        "priority",
        "direction",
        "match",
        "action",
        "log",
        "severity",
        "tier?",
        "options",
        "external_ids",
    ];

    fn from_row(uuid: Uuid, row: &Row) -> Self {
        Self {
            uuid,
            rule: AclWant {
                direction: row.str("direction").to_owned(),
                priority: row.integer("priority").unwrap_or_default(),
                matches: row.str("match").to_owned(),
                action: row.str("action").to_owned(),
                name: row.optional_str("name").map(str::to_owned),
                log: row.boolean("log").unwrap_or_default(),
                severity: row.optional_str("severity").map(str::to_owned),
                tier: row.integer("tier").unwrap_or_default(),
                options: row.map("options"),
            },
            external_ids: row.map("external_ids"),
        }
    }
}
