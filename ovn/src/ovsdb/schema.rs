//! The part of a server's schema that decides how updates are read.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

use super::value::{Atom, Map, Real, Value};

/// The tables and columns that are mirrored, as the server declares them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Schema {
    pub(crate) tables: BTreeMap<Arc<str>, TableSchema>,
}

/// The mirrored columns of one table.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct TableSchema {
    pub(crate) columns: BTreeMap<Arc<str>, ColumnType>,
}

/// How the updates of a column are read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ColumnType {
    /// What the server leaves out of an update because it goes without saying.
    pub(crate) default: Value,
    /// More than one element is possible: changes come as differences.
    pub(crate) composite: bool,
    /// The rows referred to live by this reference.
    pub(crate) holds: bool,
}

/// The server's answer to `get_schema` is not a schema.
#[derive(Debug, Clone, Eq, PartialEq, thiserror::Error)]
#[error("the schema's {0} is not as RFC 7047 has it")]
pub(crate) struct SchemaError(String);

/// What was asked for and the server does not have: `table` or `table.column`.
pub(crate) type Missing = Vec<String>;

impl Schema {
    /// Takes the wanted tables and columns from a `get_schema` answer; what the
    /// server does not have is left out and named.
    pub(crate) fn select(
        json: &Json,
        wanted: &[(String, Vec<String>)],
    ) -> Result<(Self, Missing), SchemaError> {
        let mut schema = Self::default();
        let mut missing = Missing::new();
        for (table, columns) in wanted {
            let Some(declared) = json["tables"].get(table) else {
                missing.push(table.clone());
                continue;
            };
            let mut selected = TableSchema::default();
            for column in columns {
                match declared["columns"].get(column) {
                    Some(json) => {
                        let kind = ColumnType::parse(&json["type"])
                            .ok_or_else(|| SchemaError(format!("{table}.{column}")))?;
                        selected.columns.insert(column.as_str().into(), kind);
                    }
                    None => missing.push(format!("{table}.{column}")),
                }
            }
            schema.tables.insert(table.as_str().into(), selected);
        }
        Ok((schema, missing))
    }
}

impl ColumnType {
    fn parse(json: &Json) -> Option<Self> {
        // A bare name is a scalar of that type.
        let (key, value, min, composite) = match json {
            Json::String(_) => (json, None, 1, false),
            Json::Object(fields) => {
                let min = fields.get("min").map_or(Some(1), Json::as_u64)?;
                let composite = match fields.get("max") {
                    None => false,
                    Some(Json::String(unlimited)) => unlimited == "unlimited",
                    Some(max) => max.as_u64()? > 1,
                };
                (fields.get("key")?, fields.get("value"), min, composite)
            }
            _ => return None,
        };
        let default = match (value, min) {
            (Some(_), _) => Value::Map(Map::default()),
            (None, 0) => Value::EMPTY,
            (None, _) => Value::from(default_atom(key)?),
        };
        let holds = [Some(key), value].into_iter().flatten().any(is_strong_reference);
        Some(Self { default, composite, holds })
    }
}

fn default_atom(base: &Json) -> Option<Atom> {
    Some(match base.as_str().or_else(|| base["type"].as_str())? {
        "integer" => Atom::Integer(0),
        "real" => Atom::Real(Real(0.0)),
        "boolean" => Atom::Boolean(false),
        "string" => Atom::from(""),
        "uuid" => Atom::Uuid(uuid::Uuid::nil()),
        _ => return None,
    })
}

fn is_strong_reference(base: &Json) -> bool {
    base.get("refTable").is_some() && base["refType"].as_str() != Some("weak")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kind(json: Json) -> ColumnType {
        ColumnType::parse(&json).unwrap()
    }

    #[test]
    fn a_scalar_has_a_default_and_is_replaced_whole() {
        let name = kind(json!("string"));
        assert_eq!(name.default, Value::from(""));
        assert!(!name.composite);
        assert_eq!(kind(json!({"key": {"type": "integer"}})).default, Value::from(0));
    }

    #[test]
    fn an_optional_value_is_empty_by_default_and_replaced_whole() {
        let up = kind(json!({"key": "boolean", "min": 0, "max": 1}));
        assert_eq!(up.default, Value::EMPTY);
        assert!(!up.composite);
    }

    #[test]
    fn sets_and_maps_change_by_difference_and_strong_references_hold() {
        let ports =
            kind(json!({"key": {"type": "uuid", "refTable": "P"}, "min": 0, "max": "unlimited"}));
        assert!(ports.composite && ports.holds);
        let weak = kind(
            json!({"key": {"type": "uuid", "refTable": "P", "refType": "weak"}, "min": 0, "max": 4}),
        );
        assert!(weak.composite && !weak.holds);
        let map = kind(json!({"key": "string", "value": "string", "min": 0, "max": "unlimited"}));
        assert_eq!(map.default, Value::Map(Map::default()));
    }

    #[test]
    fn what_the_server_lacks_is_left_out_and_named() {
        let json = json!({"tables": {"T": {"columns": {"a": {"type": "string"}}}}});
        let wanted = [("T", vec!["a", "b"]), ("U", vec!["c"])].map(|(table, columns)| {
            (table.into(), columns.into_iter().map(String::from).collect())
        });
        let (schema, missing) = Schema::select(&json, &wanted).unwrap();
        assert_eq!(missing, ["T.b", "U"]);
        assert_eq!(schema.tables["T"].columns.len(), 1);
    }
}
