//! Which rows are to be under which parent: one mutation per parent.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::ovsdb::{Atom, Condition, Mutation, Named, Replica, Transaction, Value};

/// A router or switch, as far as this plan knows it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Parent {
    /// It exists.
    Exists(Uuid),
    /// This plan makes it.
    Made(Named),
    /// Neither: another plan must make it earlier in the same transaction.
    Elsewhere(String),
}

/// The changes to the sets of children, by table, parent and column.
#[derive(Debug, Default)]
pub(super) struct Children(BTreeMap<(&'static str, Parent, &'static str), Change>);

#[derive(Debug, Default)]
struct Change {
    add: Vec<Atom>,
    remove: Vec<Atom>,
}

impl Children {
    /// Puts a child under a parent.
    pub(super) fn add(
        &mut self,
        table: &'static str,
        parent: Parent,
        column: &'static str,
        child: impl Into<Atom>,
    ) {
        self.0.entry((table, parent, column)).or_default().add.push(child.into());
    }

    /// Takes a child from a parent; one that nobody else has is gone.
    pub(super) fn remove(
        &mut self,
        table: &'static str,
        parent: Uuid,
        column: &'static str,
        child: Uuid,
    ) {
        let change = self.0.entry((table, Parent::Exists(parent), column)).or_default();
        change.remove.push(child.into());
    }

    /// Writes the mutations. A parent that gets a child must still be there, or
    /// the child would vanish without a word.
    pub(super) fn finish(self, txn: &mut Transaction, replica: &Replica) {
        let mut guarded = None;
        for ((table, parent, column), Change { add, remove }) in self.0 {
            let row = match &parent {
                Parent::Made(named) => Condition::row(*named),
                Parent::Exists(uuid) => Condition::row(*uuid),
                Parent::Elsewhere(name) => vec![Condition::equals("name", name)],
            };
            if !add.is_empty() && guarded.as_ref() != Some(&(table, parent.clone())) {
                guard(txn, replica, table, &parent);
                guarded = Some((table, parent));
            }
            let mut mutations = Vec::new();
            if !remove.is_empty() {
                mutations.push(Mutation::delete(column, Value::set(remove)));
            }
            if !add.is_empty() {
                mutations.push(Mutation::insert(column, Value::set(add)));
            }
            txn.mutate(table, row, mutations);
        }
    }
}

fn guard(txn: &mut Transaction, replica: &Replica, table: &'static str, parent: &Parent) {
    match parent {
        Parent::Made(_) => {}
        Parent::Exists(uuid) => {
            let name = replica.row(table, *uuid).map(|row| Value::from(row.str("name")));
            txn.guard_row(
                table,
                *uuid,
                name.map(|name| ("name", name)).into_iter().collect(),
                vec![],
            );
        }
        Parent::Elsewhere(name) => {
            let rows = vec![Condition::equals("name", name)];
            txn.wait(table, rows, vec!["name"], vec![vec![("name", Value::from(name))]]);
        }
    }
}
