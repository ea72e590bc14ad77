//! The part of a server's schema that decides how updates are read.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

use super::value::{Atom, Map, Real, Value, ValueError};

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

/// Why a server's schema will not do.
#[derive(Debug, Clone, Eq, PartialEq, thiserror::Error)]
pub(crate) enum SchemaError {
    /// The answer to `get_schema` is not a schema.
    #[error("the schema's {0} is not as RFC 7047 has it")]
    Malformed(String),
    /// It does not have what there is no doing without.
    #[error("the server's {schema} lacks {}, which is needed: upgrade the server", .missing.join(" "))]
    Lacks {
        /// Its name and version.
        schema: String,
        /// What it lacks.
        missing: Missing,
    },
}

/// What was asked for and the server does not have: `table` or `table.column`.
pub(crate) type Missing = Vec<String>;

/// A name ends so that may be missing.
const OPTIONAL: char = '?';

impl Schema {
    /// Takes the wanted tables and columns from a `get_schema` answer; what may be
    /// missing and is, is left out and named.
    pub(crate) fn select(
        json: &Json,
        wanted: &[(String, Vec<String>)],
    ) -> Result<(Self, Missing), SchemaError> {
        let mut schema = Self::default();
        let (mut left_out, mut lacking) = (Missing::new(), Missing::new());
        let mut miss =
            |optional, name| if optional { &mut left_out } else { &mut lacking }.push(name);
        for (table, columns) in wanted {
            let (table, optional) = parse_name(table);
            let Some(declared) = json["tables"].get(table) else {
                miss(optional, table.to_owned());
                continue;
            };
            let mut selected = TableSchema::default();
            for column in columns {
                let (column, optional) = parse_name(column);
                let Some(json) = declared["columns"].get(column) else {
                    miss(optional, format!("{table}.{column}"));
                    continue;
                };
                let kind = ColumnType::parse(&json["type"])
                    .ok_or_else(|| SchemaError::Malformed(format!("{table}.{column}")))?;
                selected.columns.insert(column.into(), kind);
            }
            schema.tables.insert(table.into(), selected);
        }
        if lacking.is_empty() {
            return Ok((schema, left_out));
        }
        let text = |field: &str| json[field].as_str().unwrap_or("?").to_owned();
        let schema = format!("{} {}", text("name"), text("version"));
        Err(SchemaError::Lacks { schema, missing: lacking })
    }
}

/// The name, and whether it may be missing.
fn parse_name(wanted: &str) -> (&str, bool) {
    wanted.strip_suffix(OPTIONAL).map_or((wanted, false), |name| (name, true))
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
            (Some(_), 0) => Value::Map(Map::default()),
            (Some(value), _) => Value::map([(default_atom(key)?, default_atom(value)?)]),
            (None, 0) => Value::EMPTY,
            (None, _) => Value::from(default_atom(key)?),
        };
        let holds = [Some(key), value].into_iter().flatten().any(is_strong_reference);
        Some(Self { default, composite, holds })
    }

    /// Reads a value of this column. Nothing may be written as the empty set also
    /// where it is the empty map.
    pub(crate) fn read(&self, json: Json) -> Result<Value, ValueError> {
        match (&self.default, Value::from_json(json)?) {
            (Value::Map(_), value) if value == Value::EMPTY => Ok(Value::Map(Map::default())),
            (Value::Map(_), value @ Value::Map(_)) | (Value::Set(_), value @ Value::Set(_)) => {
                Ok(value)
            }
            (_, other) => Err(ValueError::misplaced(&other)),
        }
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
    fn what_may_be_missing_and_is_is_left_out_and_named() {
        let (schema, missing) = select(&[("T", &["a", "b?"]), ("U?", &["c"])]).unwrap();
        assert_eq!(missing, ["T.b", "U"]);
        assert_eq!(schema.tables["T"].columns.len(), 1);
        let (schema, missing) = select(&[("T?", &["a?"])]).unwrap();
        assert!(missing.is_empty() && schema.tables["T"].columns.contains_key("a"));
    }

    #[test]
    fn what_must_not_be_missing_and_is_is_an_error_that_names_all_of_it_and_the_version() {
        let error = select(&[("T", &["a", "b", "c?", "d"]), ("U", &["c"])]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("D 1.2.3 lacks T.b T.d U,"), "{text}");
    }

    fn select(wanted: &[(&str, &[&str])]) -> Result<(Schema, Missing), SchemaError> {
        let json = json!({"name": "D", "version": "1.2.3",
            "tables": {"T": {"columns": {"a": {"type": "string"}}}}});
        let wanted: Vec<_> = wanted
            .iter()
            .map(|(table, columns)| {
                ((*table).into(), columns.iter().map(|column| (*column).into()).collect())
            })
            .collect();
        Schema::select(&json, &wanted)
    }

    #[test]
    fn a_value_of_another_shape_than_the_columns_is_refused() {
        let map = kind(json!({"key": "string", "value": "string", "min": 0, "max": "unlimited"}));
        assert_eq!(map.read(json!(["set", []])), Ok(Value::Map(Map::default())));
        map.read(json!("a")).unwrap_err();
        let set = kind(json!({"key": "string", "min": 0, "max": "unlimited"}));
        assert_eq!(set.read(json!("a")), Ok(Value::from("a")));
        set.read(json!(["map", [["a", "b"]]])).unwrap_err();
    }

    #[test]
    fn a_column_that_must_have_an_element_has_one_by_default() {
        let set = kind(json!({"key": "string", "min": 1, "max": "unlimited"}));
        assert_eq!((set.default, set.composite), (Value::from(""), true));
        let map = kind(json!({"key": "string", "value": "integer", "min": 1, "max": 2}));
        assert_eq!(map.default, Value::map([("", 0)]));
    }
}
