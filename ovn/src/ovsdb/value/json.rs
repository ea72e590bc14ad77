//! Values as JSON: `<atom>`, `["set", …]`, `["map", …]`, `["uuid", …]`.

use serde::ser::{Serialize, SerializeTuple, Serializer};
use serde_json::Value as Json;
use uuid::Uuid;

use super::{Atom, Map, Named, Real, Set, Value};

/// The server sent what is not a value in the notation of RFC 7047.
#[derive(Debug, Clone, Eq, PartialEq, thiserror::Error)]
#[error("{0} is not an OVSDB value")]
pub struct ValueError(String);

impl ValueError {
    /// A value, but not one that can be where it is.
    pub(crate) fn misplaced(value: &Value) -> Self {
        Self(format!("{value:?}"))
    }
}

impl Value {
    /// Reads a value as the server writes it.
    pub(crate) fn from_json(json: Json) -> Result<Self, ValueError> {
        let Json::Array(mut items) = json else {
            return Ok(Self::from(Atom::from_json(json)?));
        };
        let tag = items.first().and_then(Json::as_str).unwrap_or_default();
        match (tag, items.len()) {
            ("set", 2) => match items.pop() {
                Some(Json::Array(atoms)) => atoms
                    .into_iter()
                    .map(Atom::from_json)
                    .collect::<Result<Set, _>>()
                    .map(Self::Set),
                other => Err(ValueError(format!("[\"set\", {other:?}]"))),
            },
            ("map", 2) => match items.pop() {
                Some(Json::Array(pairs)) => {
                    pairs.into_iter().map(pair).collect::<Result<Map, _>>().map(Self::Map)
                }
                other => Err(ValueError(format!("[\"map\", {other:?}]"))),
            },
            _ => Ok(Self::from(Atom::from_json(Json::Array(items))?)),
        }
    }
}

fn pair(json: Json) -> Result<(Atom, Atom), ValueError> {
    match json {
        Json::Array(items) => match <[Json; 2]>::try_from(items) {
            Ok([key, value]) => Ok((Atom::from_json(key)?, Atom::from_json(value)?)),
            Err(items) => Err(ValueError(Json::Array(items).to_string())),
        },
        other => Err(ValueError(other.to_string())),
    }
}

impl Atom {
    fn from_json(json: Json) -> Result<Self, ValueError> {
        match json {
            Json::String(text) => Ok(Self::String(text.into_boxed_str())),
            Json::Bool(value) => Ok(Self::Boolean(value)),
            Json::Number(number) => match number.as_i64() {
                Some(integer) => Ok(Self::Integer(integer)),
                None => number
                    .as_f64()
                    .map(|real| Self::Real(Real(real)))
                    .ok_or_else(|| ValueError(number.to_string())),
            },
            Json::Array(items) => match items.as_slice() {
                [Json::String(tag), Json::String(text)] if tag == "uuid" => Uuid::parse_str(text)
                    .map(Self::Uuid)
                    .map_err(|_| ValueError(format!("[\"uuid\", {text:?}]"))),
                _ => Err(ValueError(Json::Array(items).to_string())),
            },
            Json::Null | Json::Object(_) => Err(ValueError(json.to_string())),
        }
    }
}

impl Named {
    /// The name under which the row is inserted: an `<id>` of RFC 7047.
    pub(crate) fn id(self) -> String {
        format!("row{}", self.0)
    }
}

impl Serialize for Atom {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Integer(value) => serializer.serialize_i64(*value),
            Self::Real(Real(value)) => serializer.serialize_f64(*value),
            Self::Boolean(value) => serializer.serialize_bool(*value),
            Self::String(value) => serializer.serialize_str(value),
            Self::Uuid(value) => {
                let mut text = Uuid::encode_buffer();
                ("uuid", &*value.hyphenated().encode_lower(&mut text)).serialize(serializer)
            }
            Self::Named(value) => ("named-uuid", value.id()).serialize(serializer),
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Set(Set(atoms)) => match atoms.as_slice() {
                [atom] => atom.serialize(serializer),
                atoms => tagged(serializer, "set", atoms),
            },
            Self::Map(Map(pairs)) => tagged(serializer, "map", pairs),
        }
    }
}

fn tagged<S: Serializer, T: Serialize + ?Sized>(
    serializer: S,
    tag: &str,
    content: &T,
) -> Result<S::Ok, S::Error> {
    let mut tuple = serializer.serialize_tuple(2)?;
    tuple.serialize_element(tag)?;
    tuple.serialize_element(content)?;
    tuple.end()
}
