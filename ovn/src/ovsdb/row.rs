//! One row of the replica, and how typed rows read it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use super::value::{Atom, Map, Value};

/// The columns of one row, by name.
///
/// The readers below answer with the default of their type where the column is
/// not there, which happens only when the server's schema does not have it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Row(Vec<(Arc<str>, Value)>);

impl FromIterator<(Arc<str>, Value)> for Row {
    /// The columns must come in ascending order, each once.
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Value)>>(columns: I) -> Self {
        let columns: Vec<_> = columns.into_iter().collect();
        debug_assert!(columns.is_sorted_by(|one, next| one.0 < next.0));
        Self(columns)
    }
}

impl Row {
    /// The value of a column, if the server has that column.
    #[must_use]
    pub fn get(&self, column: &str) -> Option<&Value> {
        let at = self.0.binary_search_by(|(have, _)| (**have).cmp(column)).ok()?;
        Some(&self.0[at].1)
    }

    /// The place of a column; made if it is new.
    pub(super) fn slot(&mut self, column: Arc<str>) -> &mut Value {
        let at = match self.0.binary_search_by(|(have, _)| have.cmp(&column)) {
            Ok(at) => at,
            Err(at) => {
                self.0.insert(at, (column, Value::EMPTY));
                at
            }
        };
        &mut self.0[at].1
    }

    /// The columns in ascending order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(column, value)| (&**column, value))
    }

    /// The text of a column; empty when absent.
    #[must_use]
    pub fn str(&self, column: &str) -> &str {
        self.optional_str(column).unwrap_or_default()
    }

    /// The text of a column that may be absent.
    #[must_use]
    pub fn optional_str(&self, column: &str) -> Option<&str> {
        self.get(column)?.single()?.as_str()
    }

    /// The number in a column that may be absent.
    #[must_use]
    pub fn integer(&self, column: &str) -> Option<i64> {
        match self.get(column)?.single()? {
            Atom::Integer(value) => Some(*value),
            _ => None,
        }
    }

    /// The truth in a column that may be absent.
    #[must_use]
    pub fn boolean(&self, column: &str) -> Option<bool> {
        match self.get(column)?.single()? {
            Atom::Boolean(value) => Some(*value),
            _ => None,
        }
    }

    /// The one reference in a column that may be absent.
    #[must_use]
    pub fn uuid(&self, column: &str) -> Option<Uuid> {
        self.get(column)?.single()?.as_uuid()
    }

    /// The references in a column, in ascending order.
    pub fn uuids(&self, column: &str) -> impl Iterator<Item = Uuid> {
        self.get(column).into_iter().flat_map(Value::atoms).filter_map(Atom::as_uuid)
    }

    /// The texts in a column.
    #[must_use]
    pub fn strings(&self, column: &str) -> BTreeSet<String> {
        let atoms = self.get(column).into_iter().flat_map(Value::atoms);
        atoms.filter_map(Atom::as_str).map(str::to_owned).collect()
    }

    /// The text under a key of a map column, without copying the map.
    #[must_use]
    pub fn key(&self, column: &str, key: &str) -> Option<&str> {
        match self.get(column)? {
            Value::Map(map) => map.get(key),
            Value::Set(_) => None,
        }
    }

    /// A map column from text to text.
    #[must_use]
    pub fn map(&self, column: &str) -> BTreeMap<String, String> {
        match self.get(column) {
            Some(Value::Map(map)) => texts(map),
            _ => BTreeMap::new(),
        }
    }
}

fn texts(map: &Map) -> BTreeMap<String, String> {
    map.iter()
        .filter_map(|(key, value)| Some((key.as_str()?.to_owned(), value.as_str()?.to_owned())))
        .collect()
}
