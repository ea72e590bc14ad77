//! What one transaction does: operations in order, and guards before them.

use uuid::Uuid;

use super::value::{Atom, Named, Value};

mod json;

pub use json::TransactError;
pub(super) use json::{Params, rejected};

/// Columns of a row with their values.
pub type Columns = Vec<(&'static str, Value)>;

/// Operations that happen all or none.
///
/// **Guards** are checked before the first operation; one that does not hold
/// ends the transaction as [`Conflict`] and nothing has happened. They give no
/// result: the results of `transact` are those of the operations, in their order.
///
/// [`Conflict`]: super::TransactError::Conflict
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transaction {
    guards: Vec<Operation>,
    operations: Vec<Operation>,
    names: u32,
    durable: bool,
    comment: Option<String>,
}

/// Which rows an operation is about: those for which every condition holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition(&'static str, Function, Value);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Function {
    Equal,
    Includes,
    Excludes,
}

/// A change to a set, map or number that leaves the rest of it alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Mutation(&'static str, Mutator, Value);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mutator {
    Insert,
    Delete,
    Add,
}

#[derive(Clone, Debug, PartialEq)]
enum Operation {
    Insert {
        table: &'static str,
        name: Named,
        row: Columns,
    },
    Update {
        table: &'static str,
        rows: Vec<Condition>,
        row: Columns,
    },
    Mutate {
        table: &'static str,
        rows: Vec<Condition>,
        mutations: Vec<Mutation>,
    },
    Delete {
        table: &'static str,
        rows: Vec<Condition>,
    },
    Select {
        table: &'static str,
        rows: Vec<Condition>,
        columns: Vec<&'static str>,
    },
    Wait {
        table: &'static str,
        rows: Vec<Condition>,
        columns: Vec<&'static str>,
        expected: Vec<Columns>,
    },
}

/// What one operation did.
#[derive(Clone, Debug, PartialEq)]
pub enum OpResult {
    /// The identity of the row that was inserted.
    Inserted(Uuid),
    /// How many rows were updated, mutated or deleted.
    Count(u64),
    /// The rows that were selected, as the server wrote them.
    Rows(Vec<serde_json::Value>),
    /// The operation held: a wait.
    Held,
}

impl Condition {
    /// The row with this identity, or the one inserted under this name.
    pub fn row(row: impl Into<Atom>) -> Vec<Self> {
        vec![Self("_uuid", Function::Equal, Value::from(row.into()))]
    }

    /// The column is exactly so.
    pub fn equals(column: &'static str, value: impl Into<Value>) -> Self {
        Self(column, Function::Equal, value.into())
    }

    /// The set or map has all of these.
    pub fn includes(column: &'static str, value: impl Into<Value>) -> Self {
        Self(column, Function::Includes, value.into())
    }

    /// The set or map has none of these.
    pub fn excludes(column: &'static str, value: impl Into<Value>) -> Self {
        Self(column, Function::Excludes, value.into())
    }
}

impl Mutation {
    /// Adds atoms to a set, or pairs to a map where their keys are not there.
    pub fn insert(column: &'static str, value: impl Into<Value>) -> Self {
        Self(column, Mutator::Insert, value.into())
    }

    /// Removes atoms from a set; from a map the pairs that are exactly so, or,
    /// given a set, the pairs with these keys.
    pub fn delete(column: &'static str, value: impl Into<Value>) -> Self {
        Self(column, Mutator::Delete, value.into())
    }

    /// Adds to a number.
    pub fn add(column: &'static str, amount: i64) -> Self {
        Self(column, Mutator::Add, Value::from(amount))
    }
}

impl Transaction {
    /// A transaction that does nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is nothing to do. Guards alone are nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// How many operations there are, guards not counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Inserts a row; the answer refers to it within this transaction.
    pub fn insert(&mut self, table: &'static str, row: Columns) -> Named {
        let name = Named::new(self.names);
        self.names += 1;
        self.operations.push(Operation::Insert { table, name, row });
        name
    }

    /// Replaces the columns given in every row that matches.
    pub fn update(&mut self, table: &'static str, rows: Vec<Condition>, row: Columns) {
        self.operations.push(Operation::Update { table, rows, row });
    }

    /// Changes sets, maps and numbers in every row that matches, in the order given.
    pub fn mutate(&mut self, table: &'static str, rows: Vec<Condition>, mutations: Vec<Mutation>) {
        self.operations.push(Operation::Mutate { table, rows, mutations });
    }

    /// Deletes every row that matches.
    pub fn delete(&mut self, table: &'static str, rows: Vec<Condition>) {
        self.operations.push(Operation::Delete { table, rows });
    }

    /// Reads from the server rather than from the replica: also for tables that
    /// are not mirrored.
    pub fn select(
        &mut self,
        table: &'static str,
        rows: Vec<Condition>,
        columns: Vec<&'static str>,
    ) {
        self.operations.push(Operation::Select { table, rows, columns });
    }

    /// Goes on only if the rows that match are, in these columns, the expected
    /// ones, as the operations so far have left them.
    pub fn wait(
        &mut self,
        table: &'static str,
        rows: Vec<Condition>,
        columns: Vec<&'static str>,
        expected: Vec<Columns>,
    ) {
        self.operations.push(Operation::Wait { table, rows, columns, expected });
    }

    /// The same as [`wait`](Self::wait), but before any operation.
    pub fn guard(
        &mut self,
        table: &'static str,
        rows: Vec<Condition>,
        columns: Vec<&'static str>,
        expected: Vec<Columns>,
    ) {
        self.guards.push(Operation::Wait { table, rows, columns, expected });
    }

    /// Guards that the row is there, that these columns of it are still so, and
    /// that the further conditions hold for it. At least one column must be given.
    pub fn guard_row(
        &mut self,
        table: &'static str,
        row: Uuid,
        as_seen: Columns,
        also: Vec<Condition>,
    ) {
        debug_assert!(!as_seen.is_empty(), "without a column the server compares nothing");
        let columns = as_seen.iter().map(|(column, _)| *column).collect();
        let mut rows = Condition::row(row);
        rows.extend(also);
        self.guard(table, rows, columns, vec![as_seen]);
    }

    /// Answers only when the disk has it. Without this a server may lose what it
    /// acknowledged if its machine dies.
    #[must_use]
    pub const fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    /// Says in the server's log what this is for.
    #[must_use]
    pub fn comment(mut self, text: impl Into<String>) -> Self {
        self.comment = Some(text.into());
        self
    }

    /// A text in it that no server takes: ovsdb-server has no NUL in a string, and ends
    /// the session over one rather than refuse the transaction.
    pub(super) fn unspeakable(&self) -> Option<&str> {
        let operations = self.guards.iter().chain(&self.operations);
        let texts = operations.flat_map(Operation::values).flat_map(Value::texts);
        texts.chain(self.comment.as_deref()).find(|text| text.contains('\0'))
    }

    /// Does what `other` does after what this does, all or none. The guards of
    /// both come first. References given out by `other` are no longer valid.
    pub fn append(&mut self, mut other: Self) {
        let shifted = other.guards.iter_mut().chain(&mut other.operations);
        shifted.for_each(|operation| operation.shift_named(self.names));
        self.names += other.names;
        self.guards.append(&mut other.guards);
        self.operations.append(&mut other.operations);
        self.durable |= other.durable;
        self.comment = match (self.comment.take(), other.comment) {
            (Some(one), Some(two)) => Some(format!("{one}; {two}")),
            (one, two) => one.or(two),
        };
    }
}

impl Operation {
    /// All that it says, of rows and of which they are.
    fn values(&self) -> Vec<&Value> {
        fn of(rows: &[Condition]) -> impl Iterator<Item = &Value> {
            rows.iter().map(|condition| &condition.2)
        }
        fn in_row(row: &Columns) -> impl Iterator<Item = &Value> {
            row.iter().map(|(_, value)| value)
        }
        match self {
            Self::Insert { table: _, name: _, row } => in_row(row).collect(),
            Self::Update { table: _, rows, row } => of(rows).chain(in_row(row)).collect(),
            Self::Mutate { table: _, rows, mutations } => {
                of(rows).chain(mutations.iter().map(|mutation| &mutation.2)).collect()
            }
            Self::Delete { table: _, rows } | Self::Select { table: _, rows, columns: _ } => {
                of(rows).collect()
            }
            Self::Wait { table: _, rows, columns: _, expected } => {
                of(rows).chain(expected.iter().flat_map(in_row)).collect()
            }
        }
    }

    fn shift_named(&mut self, by: u32) {
        let columns =
            |row: &mut Columns| row.iter_mut().for_each(|(_, value)| value.shift_named(by));
        let conditions =
            |rows: &mut Vec<Condition>| rows.iter_mut().for_each(|rows| rows.2.shift_named(by));
        match self {
            Self::Insert { table: _, name, row } => {
                *name = name.shifted(by);
                columns(row);
            }
            Self::Update { table: _, rows, row } => {
                conditions(rows);
                columns(row);
            }
            Self::Mutate { table: _, rows, mutations } => {
                conditions(rows);
                mutations.iter_mut().for_each(|mutation| mutation.2.shift_named(by));
            }
            Self::Delete { table: _, rows } | Self::Select { table: _, rows, columns: _ } => {
                conditions(rows);
            }
            Self::Wait { table: _, rows, columns: _, expected } => {
                conditions(rows);
                expected.iter_mut().for_each(columns);
            }
        }
    }
}

#[cfg(test)]
mod tests;
