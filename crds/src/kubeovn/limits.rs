//! The most entries of lists, and the longest texts: far more than anybody needs, and few enough that whoever
//! looks at one object never keeps others waiting.
//!
//! The definitions say them, and the controller says them of an object that came past
//! its definition.

/// A list, and the most entries that it may have.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// The kind.
    kind: &'static str,
    /// The field below `spec`.
    pub field: &'static str,
    /// Entries.
    pub most: usize,
}

/// Longest `match` of a rule or policy, in bytes.
pub const LONGEST_MATCH: usize = 4096;
/// Longest name of a route table, in bytes.
pub const LONGEST_TABLE: usize = 253;

/// Of what becomes a row each, or a part of one.
const ROWS: usize = 1024;
/// Of addresses and ranges of them. One range counts as one, however long.
const RANGES: usize = 4096;
/// Of what is compared with every VM or namespace.
const SELECTORS: usize = 64;
/// Of namespaces.
const NAMESPACES: usize = 4096;

const fn limit(kind: &'static str, field: &'static str, most: usize) -> Limit {
    Limit { kind, field, most }
}

const ALL: [Limit; 18] = [
    limit("Vpc", "namespaces", NAMESPACES),
    limit("Vpc", "staticRoutes", ROWS),
    limit("Vpc", "policyRoutes", ROWS),
    limit("Vpc", "vpcPeerings", ROWS),
    limit("Subnet", "excludeIps", RANGES),
    limit("Subnet", "namespaces", NAMESPACES),
    limit("Subnet", "namespaceSelectors", SELECTORS),
    limit("Subnet", "gatewayNodeSelectors", SELECTORS),
    limit("Subnet", "natOutgoingPolicyRules", ROWS),
    limit("Subnet", "allowSubnets", ROWS),
    limit("Subnet", "acls", ROWS),
    limit("Subnet", "vips", ROWS),
    limit("IPPool", "ips", RANGES),
    limit("IPPool", "namespaces", NAMESPACES),
    limit("Vip", "selector", SELECTORS),
    limit("IP", "attachSubnets", SELECTORS),
    limit("IP", "attachIps", SELECTORS),
    limit("IP", "attachMacs", SELECTORS),
];

/// The limits of a kind's lists.
pub fn limits(kind: &str) -> impl Iterator<Item = &'static Limit> {
    ALL.iter().filter(move |one| one.kind == kind)
}

/// The most entries of this list; of one without a limit there are never too many.
#[must_use]
pub fn most(kind: &str, field: &str) -> usize {
    limits(kind).find(|one| one.field == field).map_or(usize::MAX, |one| one.most)
}
