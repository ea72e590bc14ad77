//! The tables we mirror, as the server last told them.
//!
//! Rows are complete: what the server leaves out because it is the default is
//! filled in, and a column that the server's schema lacks is in no row. Two
//! indexes are kept beside the rows: by `name`, where the table has that column,
//! and from a row to the rows that hold it alive.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value as Json;
use uuid::Uuid;

use super::row::Row;
use super::schema::{Schema, TableSchema};
use super::value::{Value, ValueError};

/// A copy of the mirrored tables, changed only by the session that follows the server.
#[derive(Debug, Default)]
pub struct Replica {
    tables: BTreeMap<Arc<str>, Table>,
    holders: HashMap<Uuid, Vec<Holder>>,
}

#[derive(Debug, Default)]
struct Table {
    schema: TableSchema,
    rows: HashMap<Uuid, Row>,
    by_name: HashMap<Box<str>, Vec<Uuid>>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Holder {
    table: Arc<str>,
    uuid: Uuid,
}

/// An update that does not fit what we hold: the replica must be loaded anew.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpdateError {
    /// Not the shape of `<table-updates2>`.
    #[error("an update is not as ovsdb-server(7) has it, at {0}")]
    Malformed(String),
    /// A value that is none.
    #[error("an update holds a bad value")]
    Value(#[from] ValueError),
    /// A change to a row we never heard of, or a second beginning of one we know.
    #[error("an update to row {1} of {0} does not follow from what we hold")]
    OutOfStep(String, Uuid),
}

impl Replica {
    pub(crate) fn new(schema: &Schema) -> Self {
        let tables = schema
            .tables
            .iter()
            .map(|(name, schema)| {
                (Arc::clone(name), Table { schema: schema.clone(), ..Table::default() })
            })
            .collect();
        Self { tables, holders: HashMap::new() }
    }

    /// As loaded from a server with this schema that holds these rows.
    #[cfg(test)]
    pub(crate) fn observed(schema: &Json, wanted: &[(String, Vec<String>)], rows: Json) -> Self {
        let (schema, _) = Schema::select(schema, wanted).expect("the schema is one");
        let mut replica = Self::new(&schema);
        replica.apply(rows).expect("the rows fit the schema");
        replica
    }

    /// Whether the server has this column, and it was asked for.
    #[must_use]
    pub fn has_column(&self, table: &str, column: &str) -> bool {
        self.tables.get(table).is_some_and(|table| table.schema.columns.contains_key(column))
    }

    /// The row with this identity.
    #[must_use]
    pub fn row(&self, table: &str, uuid: Uuid) -> Option<&Row> {
        self.tables.get(table)?.rows.get(&uuid)
    }

    /// The row with this name, in constant time. Where a table allows a name
    /// twice, it is always the same one of them: that with the lowest uuid.
    #[must_use]
    pub fn by_name(&self, table: &str, name: &str) -> Option<(Uuid, &Row)> {
        let table = self.tables.get(table)?;
        let uuid = table.by_name.get(name)?.iter().min()?;
        Some((*uuid, table.rows.get(uuid)?))
    }

    /// All rows of a table, in no order.
    pub fn rows(&self, table: &str) -> impl Iterator<Item = (Uuid, &Row)> {
        let rows = self.tables.get(table).into_iter().flat_map(|table| &table.rows);
        rows.map(|(uuid, row)| (*uuid, row))
    }

    /// How many rows a table has.
    #[must_use]
    pub fn count(&self, table: &str) -> usize {
        self.tables.get(table).map_or(0, |table| table.rows.len())
    }

    /// The rows of `table` that hold the row `uuid` alive by a strong reference:
    /// the switch of a port, the router of a route.
    pub fn holders(&self, table: &str, uuid: Uuid) -> impl Iterator<Item = Uuid> {
        let holders = self.holders.get(&uuid).into_iter().flatten();
        holders.filter(move |holder| *holder.table == *table).map(|holder| holder.uuid)
    }

    /// Applies a `<table-updates2>`; says whether there was anything in it.
    pub(crate) fn apply(&mut self, updates: Json) -> Result<bool, UpdateError> {
        let mut changed = false;
        for (table, rows) in object(updates, "the tables")? {
            for (uuid, update) in object(rows, &table)? {
                let uuid = Uuid::parse_str(&uuid).map_err(|_| malformed(&table))?;
                self.apply_row(&table, uuid, update)?;
                changed = true;
            }
        }
        Ok(changed)
    }

    fn apply_row(&mut self, name: &str, uuid: Uuid, update: Json) -> Result<(), UpdateError> {
        let (key, table) = self.tables.get_key_value(name).ok_or_else(|| malformed(name))?;
        let out_of_step = || UpdateError::OutOfStep(name.to_owned(), uuid);
        let (kind, columns) =
            object(update, name)?.into_iter().next().ok_or_else(|| malformed(name))?;
        let holder = Holder { table: Arc::clone(key), uuid };
        match kind.as_str() {
            "initial" | "insert" if table.rows.contains_key(&uuid) => Err(out_of_step()),
            "initial" | "insert" => {
                let row = table.schema.complete(object(columns, name)?)?;
                self.hold(&holder, row_references(&table.schema, &row));
                self.table(name).insert(uuid, row);
                Ok(())
            }
            "modify" => {
                let row = self.table(name).take(uuid).ok_or_else(out_of_step)?;
                self.modify(&holder, row, object(columns, name)?)
            }
            "delete" => {
                let row = self.table(name).take(uuid).ok_or_else(out_of_step)?;
                let held = row_references(&self.tables[name].schema, &row);
                self.release(&holder, held);
                Ok(())
            }
            _ => Err(malformed(name)),
        }
    }

    fn modify(
        &mut self,
        holder: &Holder,
        mut row: Row,
        columns: Columns,
    ) -> Result<(), UpdateError> {
        for (column, json) in columns {
            let name = &*holder.table;
            let schema = &self.tables[name].schema;
            let (key, kind) =
                schema.columns.get_key_value(column.as_str()).ok_or_else(|| malformed(name))?;
            let (key, holds, composite) = (Arc::clone(key), kind.holds, kind.composite);
            let value = kind.read(json)?;
            let slot = row.slot(key);
            let before = if composite { Value::EMPTY } else { slot.clone() };
            let touched: Vec<_> = if holds {
                value.references().chain(before.references()).collect()
            } else {
                vec![]
            };
            if composite {
                slot.toggle(value);
            } else {
                *slot = value;
            }
            let now: Vec<_> = if holds { touched_now(slot, &touched) } else { vec![] };
            self.release(holder, touched);
            self.hold(holder, now);
        }
        let (table, uuid) = (Arc::clone(&holder.table), holder.uuid);
        self.table(&table).insert(uuid, row);
        Ok(())
    }

    fn table(&mut self, name: &str) -> &mut Table {
        self.tables.get_mut(name).expect("looked up before the change was read")
    }

    fn hold(&mut self, holder: &Holder, held: Vec<Uuid>) {
        for uuid in held {
            self.holders.entry(uuid).or_default().push(holder.clone());
        }
    }

    fn release(&mut self, holder: &Holder, held: Vec<Uuid>) {
        for uuid in held {
            let Some(holders) = self.holders.get_mut(&uuid) else { continue };
            holders.retain(|have| have != holder);
            if holders.is_empty() {
                self.holders.remove(&uuid);
            }
        }
    }
}

impl Table {
    fn insert(&mut self, uuid: Uuid, row: Row) {
        if self.schema.columns.contains_key("name") {
            self.by_name.entry(row.str("name").into()).or_default().push(uuid);
        }
        self.rows.insert(uuid, row);
    }

    fn take(&mut self, uuid: Uuid) -> Option<Row> {
        let row = self.rows.remove(&uuid)?;
        if let Some(uuids) = self.by_name.get_mut(row.str("name")) {
            uuids.retain(|have| *have != uuid);
            if uuids.is_empty() {
                self.by_name.remove(row.str("name"));
            }
        }
        Some(row)
    }
}

impl TableSchema {
    /// A row as inserted: what is not said has its default.
    fn complete(&self, said: Columns) -> Result<Row, UpdateError> {
        let mut row: Row = self
            .columns
            .iter()
            .map(|(column, kind)| (Arc::clone(column), kind.default.clone()))
            .collect();
        for (column, json) in said {
            if let Some((key, kind)) = self.columns.get_key_value(column.as_str()) {
                *row.slot(Arc::clone(key)) = kind.read(json)?;
            }
        }
        Ok(row)
    }
}

fn row_references(schema: &TableSchema, row: &Row) -> Vec<Uuid> {
    let holding = schema.columns.iter().filter(|(_, kind)| kind.holds);
    holding.filter_map(|(column, _)| row.get(column)).flat_map(Value::references).collect()
}

/// Which of the touched references the column has after the change.
fn touched_now(value: &Value, touched: &[Uuid]) -> Vec<Uuid> {
    match value {
        Value::Set(set) => {
            touched.iter().copied().filter(|uuid| set.contains(&(*uuid).into())).collect()
        }
        Value::Map(_) => value.references().filter(|uuid| touched.contains(uuid)).collect(),
    }
}

type Columns = serde_json::Map<String, Json>;

fn object(json: Json, place: &str) -> Result<Columns, UpdateError> {
    match json {
        Json::Object(fields) => Ok(fields),
        _ => Err(malformed(place)),
    }
}

fn malformed(place: &str) -> UpdateError {
    UpdateError::Malformed(place.to_owned())
}

#[cfg(test)]
mod tests;
