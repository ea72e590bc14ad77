//! What must change for the observed rows to become the desired ones: least
//! operations, pure, the same for a change, a restart and a repair.
//!
//! # Guarantees
//!
//! - Where nothing differs the plan is empty; applied, a plan leads to an empty one.
//! - A row that exists under a wanted name is adopted and edited, never deleted and
//!   made again; a port found on another switch or router is moved. Adopting keeps
//!   the MAC of a router port.
//! - Rules, routes and DHCP options are known by what they say; what changes in them
//!   changes in one transaction, so nothing is open or unreachable in between.
//! - In maps (`options`, `external_ids` …) only keys of ours are touched, one by one.
//! - Only rows that carry our marker are deleted.
//! - What a change replaces is guarded to be still as observed, and so is a map that
//!   gets a new key, and the presence of the parent of a new child; a name that must
//!   be new is guarded too.
//!   If any of it does not hold, the whole transaction is a
//!   [`Conflict`](crate::ovsdb::TransactError::Conflict).
//!
//! # Caveats
//!
//! Plans of several owners may be joined with
//! [`Transaction::append`](crate::ovsdb::Transaction::append) if no two of them
//! want or delete the same row. A port whose switch (or router) exists neither in the
//! replica nor in the same plan counts on a plan appended *before* it to make it:
//! if none does, the transaction is a conflict, again and again. To want a port on a
//! switch that the same scope deletes is a contradiction; the port is not made.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use uuid::Uuid;

use crate::nb::{
    AddressSet, Desired, DhcpOptions, DhcpOptionsWant, LogicalRouter, LogicalRouterPort,
    LogicalSwitch, LogicalSwitchPort, PortWant, RouterWant, SwitchWant, Table, VENDOR, VENDOR_KEY,
};
use crate::ovsdb::{Atom, Condition, Named, Replica, Row, Transaction};

mod cells;
mod children;
mod contents;
mod port_routes;
mod rows;
mod scope;

use cells::Cells;
use children::{Children, Parent};
pub use scope::Scope;

const ROUTER: &str = LogicalRouter::TABLE;
const ROUTER_PORT: &str = LogicalRouterPort::TABLE;
const SWITCH: &str = LogicalSwitch::TABLE;
const PORT: &str = LogicalSwitchPort::TABLE;
const DHCP: &str = DhcpOptions::TABLE;
const ADDRESS_SET: &str = AddressSet::TABLE;

/// The least operations after which the rows of `scope`, and those wanted, are as
/// `desired` has them.
#[must_use]
pub fn between(replica: &Replica, scope: &Scope, desired: &Desired) -> Transaction {
    let mut plan = Plan::new(replica);
    for (name, want) in &desired.address_sets {
        plan.root(ADDRESS_SET, name, rows::address_set(name, want));
    }
    for (name, want) in &desired.routers {
        plan.router(name, want);
    }
    for (name, want) in &desired.switches {
        plan.switch(name, want);
    }
    for (name, want) in &desired.router_ports {
        let parent = plan.parent(ROUTER, &want.router);
        plan.child(ROUTER, parent, (ROUTER_PORT, name), rows::router_port(name, want));
    }
    for (name, want) in &desired.ports {
        plan.port(name, want);
    }
    plan.sweep(scope, desired);
    plan.finish()
}

struct Plan<'a> {
    replica: &'a Replica,
    txn: Transaction,
    children: Children,
    /// Routers, switches and address sets that this plan makes.
    made: HashMap<(&'static str, &'a str), Named>,
    /// The routes to what is behind ports, by the port, as far as none has looked at them.
    port_routes: BTreeMap<String, Vec<Uuid>>,
    /// The DHCP options of each switch and protocol, observed or made here.
    dhcp: BTreeMap<(String, String), Atom>,
}

impl<'a> Plan<'a> {
    fn new(replica: &'a Replica) -> Self {
        Self {
            replica,
            txn: Transaction::new(),
            children: Children::default(),
            made: HashMap::new(),
            port_routes: port_routes::observed(replica),
            dhcp: observed_dhcp(replica),
        }
    }

    fn finish(mut self) -> Transaction {
        self.children.finish(&mut self.txn, self.replica);
        self.txn
    }

    fn router(&mut self, name: &'a str, want: &RouterWant) {
        if want.as_is && self.replica.by_name(ROUTER, name).is_some() {
            return;
        }
        let parent = self.root(ROUTER, name, rows::router(name, want));
        self.static_routes(&parent, &want.static_routes);
        self.policies(&parent, &want.policies);
    }

    fn switch(&mut self, name: &'a str, want: &SwitchWant) {
        let parent = self.root(SWITCH, name, rows::switch(name, want));
        self.acls(&parent, name, &want.acls);
        self.dhcp_options(name, DhcpOptions::V4, want.dhcp_v4.as_ref());
        self.dhcp_options(name, DhcpOptions::V6, want.dhcp_v6.as_ref());
    }

    /// A row that stands for itself. Its table allows the same name twice, so a
    /// new one is guarded to be the only one.
    fn root(&mut self, table: &'static str, name: &'a str, cells: Cells) -> Parent {
        if let Some((uuid, row)) = self.replica.by_name(table, name) {
            cells::edit(&mut self.txn, table, (uuid, row), cells);
            return Parent::Exists(uuid);
        }
        self.txn.guard(table, vec![Condition::equals("name", name)], vec!["name"], vec![]);
        let named = cells::insert(&mut self.txn, self.replica, table, cells);
        self.made.insert((table, name), named);
        Parent::Made(named)
    }

    fn port(&mut self, name: &str, want: &PortWant) {
        let dhcp = |wanted: bool, protocol: &str| {
            let key = (want.switch.clone(), protocol.to_owned());
            wanted.then(|| self.dhcp.get(&key).cloned()).flatten()
        };
        let dhcp = [dhcp(want.dhcp_v4, DhcpOptions::V4), dhcp(want.dhcp_v6, DhcpOptions::V6)];
        let parent = self.parent(SWITCH, &want.switch);
        self.child(SWITCH, parent, (PORT, name), rows::port(name, want, dhcp));
        self.port_routes(name, &want.routes, &BTreeSet::new());
    }

    /// A port of a switch or router: made, edited, or moved from elsewhere. Its
    /// name is unique by the schema, which guards a new one.
    fn child(
        &mut self,
        table: &'static str,
        parent: Parent,
        (child_table, name): (&'static str, &str),
        cells: Cells,
    ) {
        let Some((uuid, row)) = self.replica.by_name(child_table, name) else {
            let named = cells::insert(&mut self.txn, self.replica, child_table, cells);
            self.children.add(table, parent, "ports", named);
            return;
        };
        cells::edit(&mut self.txn, child_table, (uuid, row), cells);
        let mut there = false;
        for holder in self.replica.holders(table, uuid) {
            if parent == Parent::Exists(holder) {
                there = true;
            } else {
                self.children.remove(table, holder, "ports", uuid);
            }
        }
        if !there {
            self.children.add(table, parent, "ports", uuid);
        }
    }

    fn parent(&self, table: &'static str, name: &str) -> Parent {
        if let Some(named) = self.made.get(&(table, name)) {
            return Parent::Made(*named);
        }
        match self.replica.by_name(table, name) {
            Some((uuid, _)) => Parent::Exists(uuid),
            None => Parent::Elsewhere(name.to_owned()),
        }
    }

    fn dhcp_options(&mut self, switch: &str, protocol: &str, want: Option<&DhcpOptionsWant>) {
        let key = (switch.to_owned(), protocol.to_owned());
        let have = self.dhcp.get(&key).and_then(Atom::as_uuid);
        let row = have.and_then(|uuid| Some((uuid, self.replica.row(DHCP, uuid)?)));
        match (row, want) {
            (None, None) => {}
            (Some(row), Some(want)) => {
                cells::edit(&mut self.txn, DHCP, row, rows::dhcp_options(switch, protocol, want));
            }
            (None, Some(want)) => {
                let cells = rows::dhcp_options(switch, protocol, want);
                let named = cells::insert(&mut self.txn, self.replica, DHCP, cells);
                self.dhcp.insert(key, Atom::from(named));
            }
            (Some((uuid, row)), None) => {
                if is_ours(row) {
                    self.txn.delete(DHCP, Condition::row(uuid));
                }
                self.dhcp.remove(&key);
            }
        }
    }

    /// Deletes what is in scope, ours, and not wanted.
    fn sweep(&mut self, scope: &Scope, desired: &Desired) {
        let Scope { routers, switches, router_ports, ports, address_sets } =
            scope.unwanted(self.replica, desired);
        let mut deleted = BTreeSet::new();
        for name in &switches {
            deleted.extend(self.delete_root(SWITCH, name));
            self.delete_dhcp_of(name);
        }
        for name in &routers {
            deleted.extend(self.delete_root(ROUTER, name));
        }
        for name in &address_sets {
            self.delete_root(ADDRESS_SET, name);
        }
        for name in &ports {
            self.delete_child(SWITCH, (PORT, name), &deleted);
            self.port_routes(name, &BTreeSet::new(), &deleted);
        }
        for name in &router_ports {
            self.delete_child(ROUTER, (ROUTER_PORT, name), &deleted);
        }
    }

    fn delete_root(&mut self, table: &'static str, name: &str) -> Option<Uuid> {
        let uuid = self.ours(table, name)?;
        self.txn.delete(table, Condition::row(uuid));
        Some(uuid)
    }

    /// Takes a port from whoever has it; deleted parents take theirs along.
    fn delete_child(
        &mut self,
        table: &'static str,
        (child_table, name): (&str, &str),
        deleted: &BTreeSet<Uuid>,
    ) {
        let Some(uuid) = self.ours(child_table, name) else { return };
        for holder in self.replica.holders(table, uuid).filter(|holder| !deleted.contains(holder)) {
            self.children.remove(table, holder, "ports", uuid);
        }
    }

    fn ours(&self, table: &str, name: &str) -> Option<Uuid> {
        self.replica.by_name(table, name).filter(|(_, row)| is_ours(row)).map(|(uuid, _)| uuid)
    }

    /// Nothing in the schema deletes these with their switch.
    fn delete_dhcp_of(&mut self, switch: &str) {
        let rows = self.replica.rows(DHCP);
        let of_switch =
            rows.filter(|(_, row)| row.key("external_ids", "ls") == Some(switch) && is_ours(row));
        for (uuid, _) in of_switch {
            self.txn.delete(DHCP, Condition::row(uuid));
        }
    }
}

fn is_ours(row: &Row) -> bool {
    row.key("external_ids", VENDOR_KEY) == Some(VENDOR)
}

/// One row for each switch and protocol: of several the one with the lowest uuid,
/// so that it is always the same.
fn observed_dhcp(replica: &Replica) -> BTreeMap<(String, String), Atom> {
    let mut found = BTreeMap::new();
    for (uuid, row) in replica.rows(DHCP) {
        let id = |key| row.key("external_ids", key);
        if let (Some(switch), Some(protocol), None) = (id("ls"), id("protocol"), id("port")) {
            let lowest = found
                .entry((switch.to_owned(), protocol.to_owned()))
                .or_insert_with(|| Atom::from(uuid));
            *lowest = lowest.clone().min(Atom::from(uuid));
        }
    }
    found
}

#[cfg(test)]
mod tests;
