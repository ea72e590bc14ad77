//! One row: how it is inserted, and how an existing one is brought to what is wanted.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::ovsdb::{Columns, Condition, Mutation, Named, Replica, Row, Transaction, Value};

/// What is wanted of one column.
#[derive(Debug)]
pub(super) enum Cell {
    /// Exactly this.
    Whole(Value),
    /// This when the row is made; later whatever it has become, if that will do.
    Initially(Value, fn(&Value) -> bool),
    /// These pairs, of a column that others write to as well.
    Pairs {
        /// What must be there.
        want: BTreeMap<String, String>,
        /// What must be there with some value; this one if there is none.
        initial: BTreeMap<String, String>,
        /// Which other keys must not be there.
        owned: Owned,
    },
}

/// The keys of a map column that are ours to remove.
#[derive(Clone, Copy, Debug)]
pub(super) enum Owned {
    /// These.
    Listed(&'static [&'static str]),
    /// All of them.
    All,
}

/// What is wanted of a row. The first column is one that identifies it or never
/// changes: every guard compares it, so as to compare something.
pub(super) type Cells = Vec<(&'static str, Cell)>;

impl Cell {
    /// Pairs among others' pairs.
    pub(super) fn pairs(want: &BTreeMap<String, String>, owned: Owned) -> Self {
        Self::Pairs { want: want.clone(), initial: BTreeMap::new(), owned }
    }
}

impl Owned {
    fn has(self, key: &str) -> bool {
        match self {
            Self::Listed(keys) => keys.contains(&key),
            Self::All => true,
        }
    }
}

/// Inserts a row. Columns that the server lacks, and those that would be empty
/// anyway, are left out.
pub(super) fn insert(
    txn: &mut Transaction,
    replica: &Replica,
    table: &'static str,
    cells: Cells,
) -> Named {
    let columns = cells.into_iter().map(|(column, cell)| match cell {
        Cell::Whole(value) | Cell::Initially(value, _) => (column, value),
        Cell::Pairs { want, mut initial, owned: _ } => {
            initial.extend(want);
            (column, Value::map(initial))
        }
    });
    let row = columns.filter(|(column, value)| {
        replica.has_column(table, column) && (value.single().is_some() || !is_empty(value))
    });
    let row = row.collect();
    txn.insert(table, row)
}

fn is_empty(value: &Value) -> bool {
    value.atoms().len() == 0 && value.pairs().len() == 0
}

/// Brings an existing row to what is wanted: nothing where nothing differs.
///
/// Columns of ours are replaced; in maps only the keys that differ are touched.
/// What a change replaces is guarded to be still what we saw.
pub(super) fn edit(
    txn: &mut Transaction,
    table: &'static str,
    (uuid, row): (Uuid, &Row),
    cells: Cells,
) {
    let mut edit = Edit::default();
    let mut anchor = None;
    for (column, cell) in cells {
        // A column that is not in the row is not in the server's schema.
        let Some(have) = row.get(column) else { continue };
        anchor.get_or_insert_with(|| (column, have.clone()));
        match cell {
            Cell::Whole(want) => edit.whole(column, have, want),
            Cell::Initially(_, will_do) if will_do(have) => {}
            Cell::Initially(want, _) => edit.whole(column, have, want),
            Cell::Pairs { want, initial, owned } => edit.pairs(column, have, want, initial, owned),
        }
    }
    edit.finish(txn, table, uuid, anchor);
}

#[derive(Debug, Default)]
struct Edit {
    replaced: Columns,
    mutations: Vec<Mutation>,
    seen: Columns,
    seen_pairs: Vec<Condition>,
}

impl Edit {
    fn whole(&mut self, column: &'static str, have: &Value, want: Value) {
        if *have != want {
            self.seen.push((column, have.clone()));
            self.replaced.push((column, want));
        }
    }

    fn pairs(
        &mut self,
        column: &'static str,
        have: &Value,
        mut want: BTreeMap<String, String>,
        initial: BTreeMap<String, String>,
        owned: Owned,
    ) {
        let mut stale = Vec::new();
        for (key, value) in have.pairs() {
            let (Some(key), Some(value)) = (key.as_str(), value.as_str()) else { continue };
            match want.get(key) {
                Some(wanted) if wanted == value => drop(want.remove(key)),
                None if initial.contains_key(key) || !owned.has(key) => {}
                _ => stale.push((key, value)),
            }
        }
        let has = |key: &str| have.pairs().any(|(have, _)| have.as_str() == Some(key));
        want.extend(initial.into_iter().filter(|(key, _)| !has(key)));
        if !stale.is_empty() {
            let keys = Value::set(stale.iter().map(|(key, _)| *key));
            self.mutations.push(Mutation::delete(column, keys));
            self.seen_pairs.push(Condition::includes(column, Value::map(stale)));
        }
        if want.keys().any(|key| !has(key)) {
            // OVSDB inserts no pair whose key is there by then, and says nothing; and it
            // has no condition for the absence of a key but to compare the whole map.
            self.seen.push((column, have.clone()));
        }
        if !want.is_empty() {
            self.mutations.push(Mutation::insert(column, Value::map(want)));
        }
    }

    fn finish(
        mut self,
        txn: &mut Transaction,
        table: &'static str,
        uuid: Uuid,
        anchor: Option<(&'static str, Value)>,
    ) {
        if self.replaced.is_empty() && self.mutations.is_empty() {
            return;
        }
        let anchor = anchor.filter(|(column, _)| self.seen.iter().all(|(seen, _)| seen != column));
        self.seen.extend(anchor);
        txn.guard_row(table, uuid, self.seen, self.seen_pairs);
        if !self.replaced.is_empty() {
            txn.update(table, Condition::row(uuid), self.replaced);
        }
        if !self.mutations.is_empty() {
            txn.mutate(table, Condition::row(uuid), self.mutations);
        }
    }
}
