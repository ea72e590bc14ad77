//! Rules, routes and policies: rows without a name, known by what they say.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::cells::{self, Cell, Cells};
use super::children::Parent;
use super::{Plan, ROUTER, SWITCH, is_ours, rows};
use crate::nb::{self, Acl, AclWant, Policy, PolicyWant, StaticRoute, StaticRouteWant, Table};
use crate::ovsdb::{Row, Value};

impl Plan<'_> {
    pub(super) fn static_routes(&mut self, router: &Parent, want: &BTreeSet<StaticRouteWant>) {
        let want: Vec<_> = want.iter().map(canonical_route).collect();
        let kind = Kind {
            table: StaticRoute::TABLE,
            anchor: "ip_prefix",
            parents: ROUTER,
            column: "static_routes",
            read: |uuid, row| canonical_route(&StaticRoute::from_row(uuid, row).route),
            write: &rows::static_route,
        };
        self.contents(router, &kind, want);
    }

    pub(super) fn policies(&mut self, router: &Parent, want: &BTreeSet<PolicyWant>) {
        let kind = Kind {
            table: Policy::TABLE,
            anchor: "match",
            parents: ROUTER,
            column: "policies",
            read: |uuid, row| Policy::from_row(uuid, row).policy,
            write: &rows::policy,
        };
        self.contents(router, &kind, want.iter().cloned());
    }

    pub(super) fn acls(&mut self, switch: &Parent, name: &str, want: &BTreeSet<AclWant>) {
        // A tier that the server cannot store does not tell rules apart.
        let tiers = self.replica.has_column(Acl::TABLE, "tier");
        let stored = |rule: &AclWant| {
            let mut rule = rule.clone();
            rule.tier = if tiers { rule.tier } else { 0 };
            rule
        };
        let want: BTreeSet<_> = want.iter().map(stored).collect();
        let kind = Kind {
            table: Acl::TABLE,
            anchor: "match",
            parents: SWITCH,
            column: "acls",
            read: |uuid, row| Acl::from_row(uuid, row).rule,
            write: &|rule| rows::acl(name, rule),
        };
        self.contents(switch, &kind, want);
    }

    /// Inserts what no row says, adopts what one says, and takes away what only
    /// rows of ours say. What a row is known by is as it must be; who it is of and whose
    /// it is may have been changed.
    fn contents<T: Ord>(
        &mut self,
        parent: &Parent,
        kind: &Kind<'_, T>,
        want: impl IntoIterator<Item = T>,
    ) {
        let Kind { table, anchor, parents, column, read: _, write } = kind;
        let mut have = self.observed(parent, kind);
        for content in want {
            match have.get_mut(&content).and_then(Vec::pop) {
                Some(uuid) => self.adopt(table, uuid, anchor, write(&content)),
                None => {
                    let named = cells::insert(&mut self.txn, self.replica, table, write(&content));
                    self.children.add(parents, parent.clone(), column, named);
                }
            }
        }
        let Parent::Exists(parent) = *parent else { return };
        for uuid in have.into_values().flatten() {
            if self.replica.row(table, uuid).is_some_and(is_ours) {
                self.children.remove(parents, parent, column, uuid);
            }
        }
    }

    /// The rows under a parent by what they say, those of ours last.
    fn observed<T: Ord>(&self, parent: &Parent, kind: &Kind<'_, T>) -> BTreeMap<T, Vec<Uuid>> {
        let mut found = BTreeMap::<T, Vec<Uuid>>::new();
        let Parent::Exists(parent) = *parent else { return found };
        let Some(parent) = self.replica.row(kind.parents, parent) else { return found };
        for uuid in parent.uuids(kind.column) {
            let Some(row) = self.replica.row(kind.table, uuid) else { continue };
            if nb::port_of(row).is_some() {
                // It is its port's, not its router's.
                continue;
            }
            let rows = found.entry((kind.read)(uuid, row)).or_default();
            let at = if is_ours(row) { rows.len() } else { 0 };
            rows.insert(at, uuid);
        }
        found
    }

    fn adopt(&mut self, table: &'static str, uuid: Uuid, anchor: &'static str, want: Cells) {
        let Some(row) = self.replica.row(table, uuid) else { return };
        let same = (anchor, Cell::Whole(Value::from(row.str(anchor))));
        let ids = want.into_iter().filter(|(column, _)| *column == "external_ids");
        let cells = std::iter::once(same).chain(ids).collect();
        cells::edit(&mut self.txn, table, (uuid, row), cells);
    }
}

/// One table of rows that are known by their content.
struct Kind<'a, T> {
    table: &'static str,
    /// A text column that says to a guard which row is meant.
    anchor: &'static str,
    parents: &'static str,
    /// The parents' column that holds them.
    column: &'static str,
    read: fn(Uuid, &Row) -> T,
    write: &'a dyn Fn(&T) -> Cells,
}

/// By destination is what no policy means, too.
fn canonical_route(route: &StaticRouteWant) -> StaticRouteWant {
    let mut route = route.clone();
    route.policy = route.policy.filter(|policy| policy != "dst-ip");
    route
}
